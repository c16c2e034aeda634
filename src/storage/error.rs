//! What storage answers when it cannot do what it was asked. Each error says which file and why.

use super::finding::Finding;
use crate::memory::NoMemory;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

/// There is no room in a file (`RLIMIT_FSIZE`).
const FILE_TOO_LARGE: &str = "the limit of file sizes leaves no room";

/// An error of the storage.
#[derive(Debug)]
pub enum StorageError {
    /// The device has no room, or a quota or a limit of file sizes leaves none.
    Full {
        /// What there is no room in.
        what: &'static str,
        /// What was to be made there.
        path: PathBuf,
        /// Bytes wanted.
        bytes: u64,
    },
    /// An operation on a file failed.
    Io {
        /// What was tried: "open", "map".
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A sync failed: what it was to make durable may be lost (rule 9).
    Sync {
        /// Of which file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Something has failed after which nothing more may be promised of this log, or of the data
    /// directory, until restart.
    Closed {
        /// The queue's directory, or the data directory.
        path: PathBuf,
        /// What has failed.
        why: Arc<str>,
    },
    /// The name of a queue is longer than a segment's header holds.
    NameTooLong {
        /// Bytes allowed.
        limit: usize,
    },
    /// The system has no memory for it.
    NoMemory(NoMemory),
    /// Another daemon uses the directory.
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The directory holds somebody else's files, and nothing that a daemon has made.
    NoDataDirectory {
        /// The directory.
        path: PathBuf,
        /// The name of something in it.
        found: String,
    },
    /// All numbers are taken. It would take ages to get there: a file says so that was made up.
    OutOfNumbers {
        /// The queue's directory.
        path: PathBuf,
    },
    /// The log is not opened with what was found: nothing can be, or nothing may be (`--strict`).
    Refused(Box<Finding>),
}

/// Why a segment was not created.
#[derive(Debug)]
pub struct NotCreated {
    /// What has failed.
    pub error: StorageError,
    /// What was made of the file could not be unlinked.
    pub stays: bool,
}

impl From<NotCreated> for StorageError {
    fn from(failed: NotCreated) -> StorageError {
        failed.error
    }
}

impl From<NoMemory> for StorageError {
    fn from(error: NoMemory) -> StorageError {
        StorageError::NoMemory(error)
    }
}

impl StorageError {
    /// Makes an error from what the operating system said; running out of space is
    /// [`Full`](Self::Full).
    pub fn io(doing: &'static str, path: &Path, source: io::Error) -> StorageError {
        let what = match source.kind() {
            io::ErrorKind::StorageFull => "no space left on device",
            io::ErrorKind::QuotaExceeded => "the quota of disk space is used up",
            io::ErrorKind::FileTooLarge => FILE_TOO_LARGE,
            _ => return StorageError::Io { doing, path: path.into(), source },
        };
        StorageError::Full { what, path: path.into(), bytes: 0 }
    }

    /// Whether there may be room for a smaller file. A limit of file sizes is no want of room that
    /// comes and goes: what is larger is refused, and no queue of many small files made of it.
    pub fn leaves_less_room(&self) -> bool {
        matches!(self, StorageError::Full { what, .. } if *what != FILE_TOO_LARGE)
    }

    /// True when a file is not there, or not any more.
    pub fn is_not_found(&self) -> bool {
        matches!(self, StorageError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Makes an error from what the operating system said of a sync.
    pub fn sync(path: &Path, source: io::Error) -> StorageError {
        StorageError::Sync { path: path.into(), source }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorageError::Full { what, path, bytes } => {
                write!(f, "{what} for {} ({bytes} bytes)", path.display())
            }
            StorageError::Io { doing, path, source } => {
                write!(f, "{doing} {}: {source}", path.display())
            }
            StorageError::Sync { path, source } => {
                write!(f, "sync {}: {source}", path.display())
            }
            StorageError::Closed { path, why } => {
                write!(f, "{} is closed for writing until restart: {why}", path.display())
            }
            StorageError::NameTooLong { limit } => {
                write!(f, "a queue's name has {limit} bytes at most")
            }
            StorageError::NoMemory(error) => error.fmt(f),
            StorageError::Locked { path } => {
                write!(f, "another daemon uses this directory: {} is locked", path.display())
            }
            StorageError::NoDataDirectory { path, found } => {
                let (path, found) = (path.display(), found.escape_debug());
                write!(f, "{path} is no data directory of mqd: \"{found}\" is in it")
            }
            StorageError::OutOfNumbers { path } => {
                write!(f, "{}: all numbers of messages are taken", path.display())
            }
            // Damage is refused where it is asked for only.
            StorageError::Refused(finding) if finding.is_damage() => {
                write!(f, "{finding} (--strict)")
            }
            StorageError::Refused(finding) => write!(f, "{finding}"),
        }
    }
}

impl std::error::Error for StorageError {}
