//! Other protocols, told by their first bytes.
//!
//! A connection that speaks one ends at once. Its client cannot read what it would be answered and
//! would wait for its timeout; and what it sends on could be run as commands: a value, or the body
//! of a web page's request, may hold any line. Each test below holds for the start of a request
//! only, and for no request of ours.

use std::fmt;

/// A protocol that is not the one of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// A browser, or something that a web page made to speak here.
    Http,
    /// The start of an encrypted connection.
    Tls,
    /// memcached's old binary protocol.
    MemcachedBinary,
    /// memcached's text protocol, on the port of Redis.
    MemcachedText,
    /// Redis's protocol, on the port of memcached.
    Redis,
}

impl Foreign {
    /// Judges by the first byte of a request: neither protocol has requests that begin so.
    pub fn of_first_byte(byte: u8) -> Option<Foreign> {
        match byte {
            // The record type of a TLS handshake.
            0x16 => Some(Foreign::Tls),
            // The magic of a binary request.
            0x80 => Some(Foreign::MemcachedBinary),
            _ => None,
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Foreign::Http => "HTTP",
            Foreign::Tls => "TLS",
            Foreign::MemcachedBinary => "the binary protocol of memcached",
            Foreign::MemcachedText => "the protocol of memcached",
            Foreign::Redis => "the protocol of Redis",
        })
    }
}

/// Whether a line with these first and last words is HTTP.
pub fn is_http(first: &[u8], last: &[u8]) -> bool {
    const METHODS: [&[u8]; 10] = [
        b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE",
        // The preface of HTTP/2.
        b"PRI",
    ];
    first.eq_ignore_ascii_case(b"POST")
        || first.eq_ignore_ascii_case(b"Host:")
        || (METHODS.contains(&first) && last.starts_with(b"HTTP/"))
}
