//! The log of one queue: messages by number, in segment files.
//!
//! Every number below `head` is gone; a gone number from `head` on is in `removed`. What is left is
//! live. A live message lies where `relocated` says, or else where it was pushed, near a waypoint
//! of its segment. See the design's storage rules, which the parts of this folder name where they
//! keep them:
//!
//! - `write` appends and goes from segment to segment, and `room` makes room for that,
//! - `step` binds what one command does together,
//! - `read` finds messages by number, and `membership` by content,
//! - `sync` makes durable and lets dead segments go,
//! - `states` says what has failed about messages,
//! - `copy` moves live messages out of segments that are mostly dead,
//! - `footers` writes summaries behind sealed segments.

mod copy;
mod footers;
mod leftovers;
mod mappings;
mod membership;
mod read;
mod reclaim;
mod room;
mod states;
mod step;
mod sync;
mod write;

use super::cursor::Turns;
use super::directory::second_folder;
use super::error::StorageError;
use super::home::Home;
use super::index::{BodyHash, HashKey, identity};
use super::layout::FIRST_SEQUENCE;
use super::message::Place;
use super::relocated::Relocated;
use super::runs::Runs;
use super::segment::Segment;
use super::settings::LogSettings;
use super::waypoints::Waypoint;
use leftovers::Leftovers;
use membership::Membership;
use room::SpareRoom;
use states::States;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use step::OpenStep;
pub use step::StepSize;
pub use sync::{SyncPoint, SyncWork};

/// The size of a queue's first segment in bytes; each is four times the one before, up to the
/// limit.
pub const FIRST_SEGMENT_SIZE: u64 = 8 * 1024;

/// The most bytes that the segments of a queue without messages keep.
const OVERSIZE: u64 = 1 << 20;

/// What a file system allocates in, in bytes.
pub(super) const BLOCK: u64 = 4096;

/// Readers whose places a log remembers.
const READERS: usize = 4;

/// The log of one queue.
#[derive(Debug)]
pub struct Log {
    pub(super) home: Arc<Home>,
    pub(super) settings: LogSettings,
    pub(super) name: Box<[u8]>,
    pub(super) hash_key: HashKey,
    /// There are settings beside the segments, which outlive the messages.
    pub(super) has_settings: bool,
    /// Oldest first; after `tail` come spare ones without records.
    pub(super) segments: VecDeque<Segment>,
    /// No new segment has a lower base: others may be there.
    pub(super) least_base: u64,
    /// The index of the segment that records go to.
    pub(super) tail: usize,
    /// All numbers below are gone.
    pub(super) head: u64,
    /// The number of the next push.
    pub(super) next_sequence: u64,
    /// Numbers that are gone, from `head` and from the oldest segment's first number on.
    pub(super) removed: Runs,
    pub(super) relocated: Relocated,
    pub(super) states: States,
    pub(super) live_count: u64,
    /// Bytes of the records of live messages.
    pub(super) live_bytes: u64,
    /// Live messages that were there at the opening and have a time of expiry, with that.
    pub(super) expiring: Vec<(Place, u64)>,
    /// Bytes of all records.
    pub(super) record_bytes: u64,
    /// Room for removal records in the spare segments.
    spare_room: SpareRoom,
    /// Live messages, by number, whose removal is promised.
    promised: HashMap<u64, Promise>,
    /// Live messages, by number, that looks by content pass over.
    withheld: HashSet<u64>,
    /// The number of the oldest live message, where it is known.
    lowest: Option<u64>,
    /// Where the last look for the oldest message ended: the next one starts there.
    head_look: Waypoint,
    /// Where the last looks of a few readers for other messages ended, the latest first: each goes
    /// on where it was.
    page_looks: [Waypoint; READERS],
    /// Records that looks have passed on their way.
    passed: u64,
    membership: Option<Membership>,
    /// Records of the oldest segment before this position have been copied forward.
    copied_to: u64,
    /// The end of the log after the last message that was copied forward.
    copies_end: u64,
    /// What is done is part of it.
    step: Option<OpenStep>,
    /// The end of the log after the last step that removed messages by records.
    step_end: u64,
    /// Copying forward failed: only housekeeping's own round tries again.
    copying_blocked: bool,
    /// Positions of damaged records that have been reported.
    pub(super) reported: HashSet<u64>,
    pub(super) turns: Turns,
    /// Of the cursor written last.
    pub(super) generation: u64,
    /// The cursor that was found at the opening may not be on the device yet.
    pub(super) is_slot_unsynced: bool,
    /// Known to be durable up to this position.
    pub(super) durable: u64,
    /// The sync that began last covers everything up to this position.
    begun: u64,
    /// What the cursor written last says of that.
    pub(super) said_durable: u64,
    /// Something was written that no sync has begun to cover.
    pub(super) dirty: bool,
    /// Why it is closed for writing until restart.
    closed: Option<Arc<str>>,
    /// A sync is under way: it looks for the newest segment at its end.
    is_syncing: bool,
    /// A sync that unlinks dead segments is under way.
    is_unlinking: bool,
    /// Files that do not count and could not be unlinked: only a cursor in the newest segment says
    /// so, and that stays.
    leftovers: Leftovers,
}

/// What the removal of a live message counts with.
#[derive(Clone, Copy, Debug)]
struct Promise {
    /// Bytes of its record.
    size: u64,
    /// Of its body, where there is an index.
    hash: Option<BodyHash>,
}

impl Log {
    /// A log over `segments`, of which there is at least one, with nothing counted yet.
    pub(super) fn over(
        home: Arc<Home>,
        settings: &LogSettings,
        name: &[u8],
        hash_key: HashKey,
        segments: VecDeque<Segment>,
    ) -> Log {
        Log {
            home,
            settings: settings.clone(),
            name: name.into(),
            hash_key,
            has_settings: false,
            segments,
            least_base: 0,
            tail: 0,
            head: FIRST_SEQUENCE,
            next_sequence: FIRST_SEQUENCE,
            removed: Runs::default(),
            relocated: Relocated::default(),
            states: States::default(),
            live_count: 0,
            live_bytes: 0,
            expiring: Vec::new(),
            record_bytes: 0,
            spare_room: SpareRoom::default(),
            promised: HashMap::new(),
            withheld: HashSet::new(),
            lowest: None,
            head_look: Waypoint::default(),
            page_looks: Default::default(),
            passed: 0,
            membership: None,
            copied_to: 0,
            copies_end: 0,
            step: None,
            step_end: 0,
            copying_blocked: false,
            reported: HashSet::new(),
            turns: Turns::default(),
            generation: 0,
            is_slot_unsynced: false,
            durable: 0,
            begun: 0,
            said_durable: 0,
            dirty: false,
            closed: None,
            is_syncing: false,
            is_unlinking: false,
            leftovers: Leftovers::default(),
        }
    }

    /// Live messages.
    pub fn len(&self) -> u64 {
        self.live_count
    }

    /// Takes the list of the messages that were there at the opening and expire, with their times.
    /// A footer may have said a wrong one: what counts is the time in the message.
    pub fn take_expiring(&mut self) -> Vec<(Place, u64)> {
        std::mem::take(&mut self.expiring)
    }

    /// True without messages.
    pub fn is_empty(&self) -> bool {
        self.live_count == 0
    }

    /// One below the number of the first message that was ever pushed.
    pub fn numbers_above(&self) -> u64 {
        // A queue of version 1 began at number 1.
        if self.next_sequence < FIRST_SEQUENCE { 0 } else { FIRST_SEQUENCE - 1 }
    }

    /// Bytes of the records of live messages.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Bytes of all records of dead messages, and of removals.
    pub fn dead_bytes(&self) -> u64 {
        self.record_bytes.saturating_sub(self.live_bytes)
    }

    /// True when it is empty and takes much more room than a new one.
    pub fn is_oversized(&self) -> bool {
        let size: u64 = self.segments.iter().map(|segment| segment.size).sum();
        self.live_count == 0 && size > OVERSIZE
    }

    /// Whether the queue has settings of its own, which count for its next messages too.
    pub fn has_settings(&self) -> bool {
        self.has_settings
    }

    /// What no other queue has had or will have.
    pub fn identity(&self) -> u64 {
        identity(&self.hash_key)
    }

    /// The number that the next message gets.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// How many messages are gone between those that are left.
    pub fn gaps(&self) -> u64 {
        let first = self.head.max(self.segments[0].first_sequence);
        self.next_sequence.saturating_sub(first).saturating_sub(self.live_count)
    }

    /// The queue's name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The queue's directory.
    pub fn directory(&self) -> &Path {
        self.home.path()
    }

    /// The error of a queue that has this folder and another one.
    pub(super) fn second_folder(&self) -> StorageError {
        StorageError::Refused(Box::new(second_folder(self.directory(), &self.name)))
    }

    /// The name of that in the data directory.
    pub(super) fn folder(&self) -> &OsStr {
        self.home.name()
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter()
    }

    /// The position of the next record.
    pub(super) fn end(&self) -> u64 {
        self.segments[self.tail].records_end
    }

    /// The index of the segment that `position` lies in; the oldest one for a position before it.
    pub(super) fn segment_index(&self, position: u64) -> usize {
        // Nearly all questions are about the newest or the oldest segment.
        if position >= self.segments[self.tail].base {
            return self.tail;
        }
        self.segments.partition_point(|segment| segment.base <= position).saturating_sub(1)
    }

    /// An error after a failed sync of this log or of the data directory (rule 9).
    pub fn check_writable(&self) -> Result<(), StorageError> {
        if let Some(why) = &self.closed {
            let (path, why) = (self.directory().into(), Arc::clone(why));
            return Err(StorageError::Closed { path, why });
        }
        self.settings.check_writable()
    }
}
