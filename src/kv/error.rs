//! What the store answers when it does not set a value.

use crate::logging;
use crate::memory::NoMemory;
use std::fmt;

/// The longest key in bytes.
pub const KEY_MAX: usize = 64 * 1024;

/// Why a value is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvError {
    /// The store is full.
    OutOfMemory {
        /// Bytes allowed.
        limit: u64,
    },
    /// The system has no memory for it.
    NoMemory(NoMemory),
    /// The key has more than [`KEY_MAX`] bytes.
    KeyTooLong,
}

impl From<NoMemory> for KvError {
    fn from(error: NoMemory) -> KvError {
        KvError::NoMemory(error)
    }
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvError::OutOfMemory { limit } => {
                write!(f, "out of memory: the limit is {limit} bytes (--max-memory)")
            }
            KvError::NoMemory(error) => error.fmt(f),
            KvError::KeyTooLong => write!(f, "the key is too long, the limit is {KEY_MAX} bytes"),
        }
    }
}

impl std::error::Error for KvError {}

impl KvError {
    /// Says in the log that values are refused for a condition that may last.
    pub(super) fn log(&self) {
        if let KvError::OutOfMemory { limit } = self {
            let limit = format_args!("the limit is {limit} bytes (--max-memory)");
            logging::refused("out of memory", limit);
        }
    }
}
