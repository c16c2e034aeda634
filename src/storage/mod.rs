//! Storage: a log in segment files for each queue.
//!
//! This module knows bytes, sequence numbers and files; it knows no command, no protocol and no
//! socket. `storage-format.md` describes what it writes.
//!
//! - `layout`, `version`, `header`, `record`, `codec`, `cursor`: bytes and what they say;
//!   `version_one` where that was different once,
//! - `blocks`, `segment`, `walk`, `footer`: the blocks of one file, the file, the way through its
//!   records, and their summary,
//! - `failures`: what heads say of deliveries that failed,
//! - `log`: one queue; `index`, `relocated` and `waypoints` say where its messages are, and
//!   `runs` which of them are gone,
//! - `recovery`: from files to a log; `finding` is what it comes across, `settings` what becomes of
//!   that, and `quarantine` sets copies of damaged files aside,
//! - `bus_error` makes an error of what a mapping cannot read,
//! - `folder` and `home` reach files through descriptors; `claim` says whose a directory is, and
//!   `names` which name means what in it; `reaper` unlinks what was dropped,
//! - `directory`: all queues; `inspect` looks at them and writes nothing.

mod blocks;
mod bus_error;
mod claim;
mod codec;
mod counters;
mod cursor;
mod directory;
mod error;
mod failures;
mod finding;
mod folder;
mod footer;
mod header;
mod home;
mod index;
mod inspect;
mod layout;
mod log;
mod mapping;
mod message;
mod names;
mod quarantine;
mod reaper;
mod record;
mod recovery;
mod relocated;
mod runs;
mod segment;
mod settings;
mod version;
mod version_one;
mod walk;
mod waypoints;

pub use self::log::{Log, StepSize, SyncPoint, SyncWork};
#[cfg(test)]
pub use blocks::set_disk_full;
pub use counters::Counters;
pub use directory::{DataDirectory, OpenedQueue};
pub use error::StorageError;
pub use failures::{Cause, Failure, Failures, REASON_MAX};
pub use finding::{Finding, Label, Weight};
pub use index::{BodyHash, HashKey, Index, identity, random, random_hash_key};
pub use inspect::{
    BaseSource, CursorSlot, InspectedQueue, Inspection, Piece, Role, SegmentFile, SegmentView,
};
pub use message::{Message, NewMessage, Place};
pub use runs::Runs;
pub use settings::{Access, LogSettings};

/// The bytes themselves, for tools and tests that read files without a log.
pub mod format {
    pub use super::codec::Codec;
    pub use super::cursor::{Cursor, SlotFault, slot_offset, slot_size};
    pub use super::footer::{Footer, Sealed};
    pub use super::header::{HeaderFault, SegmentHeader, settings_version};
    pub use super::index::BodyHash;
    pub use super::layout::*;
    pub use super::names::{SETTINGS, base_of, decode_folder, encode_name, file_name};
    pub use super::record::{Fault, Kind, Record, Verdict};
    pub use super::version::Version;
}
