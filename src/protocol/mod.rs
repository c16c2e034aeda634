//! Protocol: pure functions between byte strings and values.
//!
//! Parsing is called with a byte string and answers a value; it owns no socket and reads nothing by
//! itself. What has already been looked at is an explicit value of the caller's, so a large request
//! that arrives in many pieces is never scanned again and again. This module knows no queue and no
//! store.

mod foreign;
pub mod job_id;
pub mod memcached;
pub mod number;
pub mod resp;

pub use foreign::Foreign;

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
