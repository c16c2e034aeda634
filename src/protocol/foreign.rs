//! Other protocols, recognized by their first bytes.
//!
//! A connection that speaks one ends at once. Its client cannot read what it would be answered and
//! would wait for its timeout; and what it sends on could be run as commands: a value, or the body
//! of a web page's request or of a mail, may hold any line. Each test below holds for the start of
//! a request only, and for no request of ours.

use std::fmt;

/// A protocol that is not the one of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// A browser, or something that a web page made to speak here.
    Http,
    /// A mail server or client.
    Smtp,
    /// An encrypted connection.
    Tls,
    /// memcached's old binary protocol.
    MemcachedBinary,
    /// memcached's text protocol, on the port of Redis.
    MemcachedText,
    /// Redis's protocol, on the port of memcached.
    Redis,
    /// Bytes that are no text, on the port of memcached.
    Binary,
}

impl Foreign {
    /// Judges by the first byte of a request: neither protocol has requests that begin so.
    pub fn of_first_byte(byte: u8) -> Option<Foreign> {
        match byte {
            // The types of TLS records: change of cipher, alert, handshake, data.
            0x14..=0x17 => Some(Foreign::Tls),
            // The magic of a binary request, and of a response.
            0x80 | 0x81 => Some(Foreign::MemcachedBinary),
            _ => None,
        }
    }

    /// Judges by the first and the last word of a line. The caller knows its own commands: where a
    /// line is one of these, it is not HTTP for its last word.
    pub fn of_line(
        first: &[u8],
        last: &[u8],
        is_command: impl FnOnce() -> bool,
    ) -> Option<Foreign> {
        let is = |word: &str| first.eq_ignore_ascii_case(word.as_bytes());
        // The method of a request may be any word in capitals: WebDAV alone has dozens.
        let is_method = first.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-');
        let is_request = last.starts_with(b"HTTP/") && is_method && !is_command();
        let is_response = first.starts_with(b"HTTP/");
        if is_request || is_response || is("POST") || is("Host:") {
            return Some(Foreign::Http);
        }
        (is("EHLO") || is("HELO") || is("LHLO")).then_some(Foreign::Smtp)
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Foreign::Http => "HTTP",
            Foreign::Smtp => "SMTP",
            Foreign::Tls => "TLS",
            Foreign::MemcachedBinary => "the binary protocol of memcached",
            Foreign::MemcachedText => "the protocol of memcached",
            Foreign::Redis => "the protocol of Redis",
            Foreign::Binary => "a binary protocol",
        })
    }
}

/// Whether no line of text begins with `byte`.
pub(super) fn is_binary(byte: u8) -> bool {
    !byte.is_ascii() || (byte.is_ascii_control() && !byte.is_ascii_whitespace())
}
