//! Protocol: pure functions between byte strings and values.
//!
//! Parsing is called with a byte string and answers a value; it owns no socket and reads nothing by
//! itself. What has already been looked at is an explicit value of the caller's, so a large request
//! that arrives in many pieces is never scanned again and again. This module knows no queue and no
//! store.

pub mod memcached;
pub mod number;
pub mod resp;

/// What a parser found at the start of a byte string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole request; it takes `consumed` bytes.
    Complete {
        /// Bytes of the request, at most the length of the input.
        consumed: usize,
    },
    /// The request is not whole yet: call again when there are at least `need` bytes.
    Partial {
        /// Total bytes wanted, more than the length of the input.
        need: usize,
    },
}

/// Whether a line with these first and last words is HTTP. A web page can make a browser send
/// requests to any port, and some of their lines would run as commands; no client of ours starts a
/// line like this.
pub fn is_http(first: &[u8], last: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] =
        [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE"];
    first.eq_ignore_ascii_case(b"POST")
        || first.eq_ignore_ascii_case(b"Host:")
        || (METHODS.contains(&first) && last.starts_with(b"HTTP/"))
}
