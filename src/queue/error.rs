//! What a queue answers when it cannot do what it was asked.

use crate::logging;
use crate::memory::NoMemory;
use std::fmt;

/// One line that names the limit, the file or the reason, without a protocol's prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// There are as many queues as `--max-queues` allows.
    TooManyQueues {
        /// Queues allowed.
        limit: usize,
    },
    /// The queue has as many messages as `--max-queue-len` allows.
    QueueFull {
        /// Messages allowed.
        limit: u64,
    },
    /// The messages in memory take what `--max-memory` allows.
    OutOfMemory {
        /// Bytes allowed.
        limit: u64,
    },
    /// The system has no memory for it.
    NoMemory(NoMemory),
    /// The name does not fit into a segment's header.
    NameTooLong {
        /// Bytes allowed.
        limit: usize,
    },
    /// The index that a membership command needs is not whole: nothing has been done.
    /// [`Queues::prepare_membership`](super::Queues::prepare_membership) builds it.
    NotIndexed,
    /// Another client's command on the queue is not over, or many dead messages are in the way:
    /// nothing has been done that anybody sees. It is to be tried again when others have had their
    /// turn.
    Busy,
    /// No room on the device; the text says for what.
    DiskFull(String),
    /// Anything else that the log says.
    Storage(String),
}

impl From<NoMemory> for QueueError {
    fn from(error: NoMemory) -> QueueError {
        QueueError::NoMemory(error)
    }
}

impl QueueError {
    /// Whether a smaller command could go on.
    pub(super) fn is_want_of_room(&self) -> bool {
        use QueueError::{DiskFull, OutOfMemory, QueueFull};
        matches!(self, QueueFull { .. } | OutOfMemory { .. } | DiskFull(_))
    }
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueueError::TooManyQueues { limit } => {
                write!(f, "too many queues, the limit is {limit} (--max-queues)")
            }
            QueueError::QueueFull { limit } => {
                write!(f, "the queue is full, the limit is {limit} messages (--max-queue-len)")
            }
            QueueError::OutOfMemory { limit } => {
                write!(f, "out of memory, the limit is {limit} bytes (--max-memory)")
            }
            QueueError::NoMemory(error) => error.fmt(f),
            QueueError::NameTooLong { limit } => {
                write!(f, "the queue's name is too long, the limit is {limit} bytes")
            }
            QueueError::NotIndexed => write!(f, "the queue's index is not whole yet"),
            QueueError::Busy => write!(f, "another command on the queue is not over"),
            QueueError::DiskFull(what) => write!(f, "the disk is full: {what}"),
            QueueError::Storage(what) => write!(f, "{what}"),
        }
    }
}

impl std::error::Error for QueueError {}

impl QueueError {
    /// Says in the log that requests are refused for a condition that may last; `name` is the
    /// queue's. Returns the error.
    pub(super) fn logged(self, name: &[u8]) -> QueueError {
        match &self {
            QueueError::TooManyQueues { limit } => {
                let limit = format_args!("the limit is {limit} (--max-queues)");
                logging::refused("too many queues", limit);
            }
            QueueError::QueueFull { limit } => {
                let limit = format_args!("the limit is {limit} messages (--max-queue-len)");
                logging::refused(&format!("queue {} is full", name.escape_ascii()), limit);
            }
            QueueError::OutOfMemory { limit } => {
                let limit = format_args!("the limit is {limit} bytes (--max-memory)");
                logging::refused("out of memory", limit);
            }
            QueueError::DiskFull(what) => logging::refused("the disk is full", what),
            QueueError::NoMemory(_)
            | QueueError::NameTooLong { .. }
            | QueueError::NotIndexed
            | QueueError::Busy
            | QueueError::Storage(_) => {}
        }
        self
    }
}
