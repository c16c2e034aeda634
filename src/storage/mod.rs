//! Storage: a log in segment files for each queue.
//!
//! This module knows bytes, sequence numbers and files; it knows no command, no protocol and no
//! socket. `storage-format.md` describes what it writes.
//!
//! - `layout`, `record`, `cursor`: bytes and what they say,
//! - `segment`, `walk`, `footer`: one file, the way through its records, and their summary,
//! - `log`: one queue; `index` and `relocated` say where its messages are,
//! - `recovery`: from files to a log; `quarantine` sets copies of damaged ones aside,
//! - `directory`: all queues; `inspect` looks at them and writes nothing.

mod counters;
mod cursor;
mod directory;
mod error;
mod footer;
mod index;
mod inspect;
mod layout;
mod log;
mod message;
mod quarantine;
mod record;
mod recovery;
mod relocated;
mod segment;
mod walk;

pub use self::log::{Log, LogSettings, SyncPoint, SyncWork};
pub use counters::Counters;
pub use directory::DataDirectory;
pub use error::StorageError;
pub use inspect::{InspectedQueue, Inspection};
pub use message::{Message, NewMessage, Place};

/// The bytes themselves, for tools and tests that read files without a log.
pub mod format {
    pub use super::cursor::{Cursor, slot_offset};
    pub use super::directory::{decode_folder, encode_name};
    pub use super::footer::Footer;
    pub use super::index::BodyHash;
    pub use super::layout::*;
    pub use super::record::{Fault, Kind, Record, Verdict, decode};
    pub use super::segment::{HeaderFault, SegmentHeader, base_of, file_name};
}
