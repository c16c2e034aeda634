//! Why a request cannot be read.

use crate::memory::NoMemory;

/// A framing error; the connection is closed after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramingError {
    /// The text after `-ERR Protocol error: `, one line.
    pub text: String,
    /// Why the request is not read.
    pub cause: Cause,
}

/// Why a request is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is not the protocol.
    Framing,
    /// It is the protocol, and over a limit of bytes.
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// There is no memory for the list of its arguments.
    NoMemory(NoMemory),
}

impl FramingError {
    pub(super) fn too_large(text: &str, limit: usize) -> FramingError {
        FramingError { text: text.into(), cause: Cause::TooLarge { limit } }
    }
}

impl From<&str> for FramingError {
    fn from(text: &str) -> FramingError {
        FramingError { text: text.into(), cause: Cause::Framing }
    }
}

impl From<NoMemory> for FramingError {
    fn from(error: NoMemory) -> FramingError {
        FramingError { text: error.to_string(), cause: Cause::NoMemory(error) }
    }
}
