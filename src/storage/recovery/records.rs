//! The records of a queue: what lives, and where the log goes on.

use super::super::counters::add;
use super::super::cursor::Cursor;
use super::super::error::StorageError;
use super::super::finding::{Finding, Label};
use super::super::footer::{Footer, Sealed, Summary};
use super::super::home::Home;
use super::super::layout::{ALIGNMENT, POSITION_MAX, RECORDS};
use super::super::log::Log;
use super::super::mapping::queue_share;
use super::super::message::Place;
use super::super::record::{Fault, Kind, Record, Verdict};
use super::super::segment::{FooterState, Segment};
use super::super::settings::LogSettings;
use super::super::version::Version;
use super::super::walk::{Step, Walk};
use super::files::Files;
use super::losses::Losses;
use crate::memory;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Bytes of records after which the reading reports its progress.
const REPORTED: u64 = 1 << 20;

/// What counts of a record while the log is put together.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) position: u64,
    kind: Kind,
    sequence: u64,
    pub(super) durable: u64,
    origin: u64,
    size: u64,
    expires_ms: u64,
    /// More records of its step follow.
    pub(super) has_more: bool,
}

impl Seen {
    fn of(position: u64, record: &Record<'_>) -> Seen {
        let Record { kind, sequence, durable, origin, expires_ms, .. } = *record;
        let (size, has_more) = (record.size() as u64, record.has_more());
        Seen { position, kind, sequence, durable, origin, size, expires_ms, has_more }
    }
}

/// Bytes that are no record.
pub(super) struct Damage {
    pub(super) position: u64,
    fault: Fault,
    /// Where whole records go on.
    pub(super) resumes: Option<u64>,
}

/// A log that is being put together.
pub(super) struct Recovery {
    pub(super) log: Log,
    /// The key of the hashes in footers is known.
    pub(super) has_key: bool,
    /// The newest segment with a valid cursor: those before it were synced.
    pub(super) with_cursor: Option<usize>,
    /// What was durable at the least.
    pub(super) durable: u64,
    /// For each segment, how far into it something says that the log was durable.
    pub(super) claims: Vec<u64>,
    /// For each segment, from where on the search for records was given up.
    given_up: Vec<u64>,
    /// For each segment whose records have been read to its end, from where on there are only
    /// zeros; `None` if it was cut, or its footer was read, or nothing of it.
    pub(super) zeros_from: Vec<Option<u64>>,
    /// The newest segment with a whole record.
    pub(super) with_records: Option<usize>,
    /// Segments whose predecessors have been read to their ends: those before this one.
    entered: usize,
    /// For each segment, bytes of the log before it that are missing.
    lost_before: Vec<u64>,
    /// What damage has taken.
    pub(super) losses: Losses,
    /// One more than the highest number of a pushed message in a segment of version 2 so far.
    rising_to: u64,
    /// Records of a step whose last one has not come yet.
    pub(super) unfinished: Vec<Seen>,
    /// Segments that do not hold a message that they were said to hold.
    pub(super) doubtful: BTreeSet<usize>,
    /// Bases of files to be removed.
    pub(super) doomed: Vec<u64>,
    /// For each segment, what is wrong with its slots.
    pub(super) bad_slots: Vec<Vec<Finding>>,
}

/// Puts the log together from its segments, of which there is at least one.
pub fn recover(
    home: &Arc<Home>,
    name: Option<&[u8]>,
    settings: &LogSettings,
    files: Files,
) -> Result<Log, StorageError> {
    let Files { found, doomed, key, has_key, has_settings } = files;
    let newest_header = found.iter().rev().find_map(|found| found.header.clone().ok());
    let header_name = newest_header.as_ref().map(|header| &*header.name);
    let name = name.or(header_name).unwrap_or(home.name().as_bytes());
    let with_cursor = found.iter().rposition(|found| found.cursor.is_some());
    let cursor = found.iter().filter_map(|found| found.cursor).max_by_key(|(_, c)| c.generation);
    let declared_ends: Vec<u64> = found.iter().map(|found| found.declared_end).collect();
    let mut lost_before: Vec<u64> = found.iter().map(|found| found.lost_before).collect();
    let (segments, bad_slots) =
        found.into_iter().map(|found| (found.segment, found.bad_slots)).unzip();
    let mut log = Log::over(Arc::clone(home), settings, name, key, segments);
    log.has_settings = has_settings;
    let (count, first) = (log.segments.len(), log.segments[0].base);
    let mut losses = Losses::from(cursor.map_or(first, |(_, cursor)| cursor.oldest));
    losses.note_bytes(std::mem::take(&mut lost_before[0]));
    let mut recovery = Recovery {
        log,
        has_key,
        with_cursor,
        durable: 0,
        claims: vec![0; count],
        given_up: vec![u64::MAX; count],
        zeros_from: vec![None; count],
        with_records: None,
        entered: 0,
        lost_before,
        losses,
        rising_to: 0,
        unfinished: Vec::new(),
        doubtful: BTreeSet::new(),
        doomed,
        bad_slots,
    };
    recovery.take_cursor(cursor);
    recovery.read_segments()?;
    recovery.check_ends(cursor.is_some(), &declared_ends)?;
    recovery.finish(cursor, &declared_ends)
}

/// What is behind a segment: without an intact header, nothing that counts. Where that cannot be
/// read, its records can perhaps.
pub(super) fn sealed(segment: &Segment) -> Result<Sealed, StorageError> {
    if segment.footer == FooterState::GivenUp {
        return Ok(Sealed::Not);
    }
    match Footer::read(segment) {
        Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
            Ok(Sealed::Badly { length: 0 })
        }
        read => read.map_err(|error| StorageError::io("read", &segment.path, error)),
    }
}

impl Recovery {
    fn take_cursor(&mut self, cursor: Option<(usize, Cursor)>) {
        let cursor = cursor.map(|(_, cursor)| cursor).unwrap_or_default();
        self.log.head = cursor.head.max(1);
        // A number below the head would be given to a message that nobody ever sees.
        self.log.next_sequence = cursor.next_sequence.max(self.log.head);
        self.log.generation = cursor.generation;
        self.claim(cursor.durable);
    }

    /// Something says that the log was durable up to `position`.
    pub(super) fn claim(&mut self, position: u64) {
        // What is further than any file can be was not written by this program.
        if position > self.durable && position <= POSITION_MAX {
            self.durable = position;
            let segments = &self.log.segments;
            let index = segments.partition_point(|segment| segment.base < position);
            if let Some(claim) = index.checked_sub(1).and_then(|index| self.claims.get_mut(index)) {
                *claim = position;
            }
        }
    }

    /// Lets go of mappings when there are too many: what they know of unreadable bytes goes, too.
    pub(super) fn bound_mappings(&mut self) -> Result<(), StorageError> {
        if self.log.has_mappings_above(queue_share()) {
            self.check_read()?;
            self.log.let_go_of_mappings();
        }
        Ok(())
    }

    /// An error if something could not be read: what has been made of it is not written down.
    pub(super) fn check_read(&self) -> Result<(), StorageError> {
        match self.log.settings.is_read_only() {
            true => Ok(()),
            false => self.log.segments.iter().try_for_each(Segment::check_read),
        }
    }

    fn read_segments(&mut self) -> Result<(), StorageError> {
        for index in 0..self.log.segments.len() {
            if !self.read_segment(index)? {
                break;
            }
            self.bound_mappings()?;
        }
        Ok(())
    }

    /// Segment `index` has records, none of which counts yet. So the one before it is full, and a
    /// daemon at work may have filled it since it was read: what came is read first.
    fn enter(&mut self, index: usize) -> Result<(), StorageError> {
        for lost in &mut self.lost_before[self.entered..=index] {
            self.losses.note_bytes(std::mem::take(lost));
        }
        if let Some(before) = index.checked_sub(1) {
            let end = self.log.segments[before].records_end;
            if self.is_whole(before, end)? {
                // There is a successor with records, so nothing is cut.
                let _never_cut = self.read_records(before, end)?;
            }
        }
        self.entered = index + 1;
        self.log.segments[index].first_sequence = self.losses.numbered_to;
        Ok(())
    }

    /// Reads the records of a segment. Returns false if the log was cut in it.
    fn read_segment(&mut self, index: usize) -> Result<bool, StorageError> {
        self.log.segments[index].first_sequence = self.losses.numbered_to;
        if self.read_footer(index)? {
            return Ok(true);
        }
        if !self.read_records(index, self.log.segments[index].records_start())? {
            return Ok(false);
        }
        if self.log.settings.reads_every_record() {
            self.compare_footer(index)?;
        }
        Ok(true)
    }

    /// Reads the records of a segment from `start` on. Returns false if the log was cut in
    /// it.
    fn read_records(&mut self, index: usize, start: u64) -> Result<bool, StorageError> {
        // The log changes while they are read.
        let segment = self.log.segments[index].apart()?;
        let data_end = segment.base.saturating_add(segment.data_end());
        let walk_from = |position| -> Result<Walk<'_>, StorageError> {
            let bytes = segment.bytes_from(position)?;
            Ok(Walk::new(&segment.codec, bytes, position).with_zeros_from(data_end))
        };
        let (mut walk, mut reported) = (walk_from(start)?, start);
        let is_to_end = loop {
            if walk.position() - reported >= REPORTED {
                add(&self.log.settings.counters.read_bytes, walk.position() - reported);
                reported = walk.position();
            }
            match walk.next() {
                None => break self.finish_step(index)?,
                Some(Step::Whole(position, record)) => {
                    if index >= self.entered {
                        self.enter(index)?;
                    }
                    self.take(index, Seen::of(position, &record))?;
                }
                Some(Step::Damage { position, fault, resumes }) => {
                    let damage = Damage { position, fault, resumes };
                    let unreadable = segment.unreadable().is_some();
                    if unreadable && !self.log.settings.is_read_only() {
                        segment.check_read()?;
                    }
                    let is_rotten = self.is_rotten(index, position, resumes)? || unreadable;
                    if self.is_whole(index, position)? {
                        // This log is only read: a daemon at work has written the record meanwhile.
                        walk = walk_from(position)?;
                        continue;
                    }
                    self.report(index, &damage, is_rotten)?;
                    if !is_rotten {
                        // What a torn step had before the torn record goes with it.
                        self.unfinished.clear();
                        break false;
                    }
                }
            }
        };
        add(&self.log.settings.counters.read_bytes, walk.position() - reported);
        if !self.log.settings.is_read_only() {
            // The log may have let go of this mapping meanwhile.
            segment.check_read()?;
        }
        self.zeros_from[index] = is_to_end.then(|| walk.position());
        Ok(is_to_end)
    }

    /// Reads a segment's footer in place of its records. Returns false if there is none.
    fn read_footer(&mut self, index: usize) -> Result<bool, StorageError> {
        let segment = &mut self.log.segments[index];
        let footer = match sealed(segment)? {
            Sealed::With(footer) => footer,
            Sealed::Not => return Ok(false),
            Sealed::Badly { length } => {
                let (offset, found) = (segment.size, format!("{length} other bytes"));
                self.find(index, offset, Label::BadFooter, "nothing or a footer", found)?;
                return Ok(false);
            }
        };
        // A reader that wants to know all damage reads everything.
        if self.log.settings.reads_every_record() || !self.has_key {
            return Ok(false);
        }
        self.enter(index)?;
        let segment = &mut self.log.segments[index];
        segment.footer = FooterState::Written;
        let start = segment.records_start();
        self.claim(footer.durable.0);
        self.claim(footer.durable.1);
        for summary in footer.summaries(start) {
            let Summary { position, kind, sequence, origin, size, .. } = summary;
            let expires_ms = match summary.expires_ms {
                Some(expires_ms) => expires_ms,
                None => self.expiry_at(index, position)?,
            };
            // A segment is sealed when its steps are finished.
            let (durable, has_more) = (0, false);
            let seen =
                Seen { position, kind, sequence, durable, origin, size, expires_ms, has_more };
            self.account(index, &seen)?;
        }
        add(&self.log.settings.counters.read_bytes, self.log.segments[index].record_bytes());
        Ok(true)
    }

    /// The time of expiry in the record at `position`, where a footer says nothing of times.
    fn expiry_at(&self, index: usize, position: u64) -> Result<u64, StorageError> {
        Ok(match self.log.segments[index].decode(position)? {
            Verdict::Whole(record) => record.expires_ms,
            _ => 0,
        })
    }

    /// Says which record is rotten or torn.
    fn report(
        &mut self,
        index: usize,
        damage: &Damage,
        is_rotten: bool,
    ) -> Result<(), StorageError> {
        let Damage { position, fault, resumes } = *damage;
        let offset = position - self.log.segments[index].base;
        let label = match fault {
            Fault::Newer(_) => Label::NewerFormat,
            _ if is_rotten => Label::RottenRecord,
            _ => Label::TornTail,
        };
        let found = match self.log.segments[index].unreadable() {
            Some(offset) => format!("bytes that cannot be read, at offset {offset}"),
            None => fault.found(),
        };
        self.find(index, offset, label, fault.expected(), found)?;
        if !is_rotten {
            return Ok(());
        }
        // What came before it was durable, and no step is durable in part.
        self.settle_step(index)?;
        self.log.reported.insert(position);
        if resumes.is_none() {
            self.given_up[index] = position;
            self.log.segments[index].records_end = self.last_written(index)?;
        }
        self.note_damage(index, position, resumes.unwrap_or(self.log.segments[index].records_end))
    }

    pub(super) fn account(&mut self, index: usize, seen: &Seen) -> Result<(), StorageError> {
        let Seen { position, kind, sequence, durable, origin, size, expires_ms, .. } = *seen;
        self.log.segments[index].records_end = position + size;
        self.with_records = Some(index);
        self.claim(durable);
        let is_gone = sequence < self.log.head;
        let next = sequence.saturating_add(1);
        if !matches!(kind, Kind::Other(_)) {
            // Also that of a message whose own record is gone.
            self.log.next_sequence = self.log.next_sequence.max(next);
        }
        match kind {
            Kind::Message => {
                self.check_rising(index, seen)?;
                self.note_missing(sequence, size);
                self.losses.numbered_to = self.losses.numbered_to.max(next);
                self.log.segments[index].note_place(sequence, position);
                if is_gone || self.log.removed.contains(sequence) {
                    return Ok(());
                }
            }
            Kind::Copy => {
                self.take_from(sequence, origin)?;
                if is_gone {
                    return Ok(());
                }
                self.log.relocated.set(sequence, position);
                self.log.states.forget(sequence);
            }
            Kind::Removal => {
                self.take_from(sequence, origin)?;
                self.log.relocated.remove(sequence);
                self.log.states.forget(sequence);
                self.log.note_removed(sequence);
                return Ok(());
            }
            // What it says of a message that is gone is forgotten at the end.
            Kind::State => return Ok(self.log.states.insert(sequence, position)?),
            Kind::Other(_) => return Ok(()),
        }
        self.log.count_live_in(index, size);
        if expires_ms != 0 && !self.log.settings.is_read_only() {
            memory::reserve(&mut self.log.expiring, 1)?;
            self.log.expiring.push((Place { sequence, position }, expires_ms));
        }
        Ok(())
    }

    /// Numbers of messages rise with their positions; what pushes at the head is of a newer format.
    /// (A body of version 1 may pass for a record behind damage, with any number.)
    fn check_rising(&mut self, index: usize, seen: &Seen) -> Result<(), StorageError> {
        let segment = &self.log.segments[index];
        if segment.codec.version() == Version::One {
            return Ok(());
        }
        let least = std::mem::replace(&mut self.rising_to, seen.sequence.saturating_add(1));
        if seen.sequence >= least {
            return Ok(());
        }
        let (offset, number) = (seen.position - segment.base, seen.sequence.to_string());
        self.find(index, offset, Label::NewerFormat, format!("a number from {least} on"), number)
    }

    /// Message `sequence` does not live any more where it was: at `origin`, or where a copy is.
    fn take_from(&mut self, sequence: u64, origin: u64) -> Result<(), StorageError> {
        self.bound_mappings()?;
        let position = self.log.relocated.get(sequence).unwrap_or(origin);
        let segments = &self.log.segments;
        let index = segments.partition_point(|segment| segment.base <= position);
        let Some(index) = index.checked_sub(1) else {
            // Its segment is dead.
            return Ok(());
        };
        match segments[index].decode(position)? {
            Verdict::Whole(record)
                if record.sequence == sequence && position < self.given_up[index] =>
            {
                let (size, segment) = (record.size() as u64, &self.log.segments[index]);
                if !self.log.is_live(position, record.kind, sequence) {
                    return Ok(());
                }
                if segment.live_count == 0 || segment.live_bytes < size {
                    // It has not been counted: it lies where nobody has come by.
                    self.doubt(index, sequence);
                    return Ok(());
                }
                self.log.count_dead_in(index, size);
            }
            _ => self.doubt(index, sequence),
        }
        Ok(())
    }

    /// The record of message `sequence` that should be in segment `index` is damaged, or not there.
    fn doubt(&mut self, index: usize, sequence: u64) {
        // A footer may have named it.
        self.doubtful.insert(index);
        // If it was a copy, what it was copied from has been counted, in the segment that the
        // message was pushed into.
        let pushed = self.log.segments.partition_point(|older| older.first_sequence <= sequence);
        self.doubtful.extend(pushed.checked_sub(1));
    }

    fn is_whole(&self, index: usize, position: u64) -> Result<bool, StorageError> {
        Ok(matches!(self.log.segments[index].decode(position)?, Verdict::Whole(_)))
    }

    /// Something was found at `offset` of a segment.
    pub(super) fn find(
        &self,
        index: usize,
        offset: u64,
        label: Label,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Result<(), StorageError> {
        let file = self.log.segments[index].path.clone();
        let (expected, found) = (expected.into(), found.into());
        self.log.settings.decide(Finding { file, offset, label, expected, found })
    }

    /// The position after the last byte of a segment that is not zero.
    fn last_written(&self, index: usize) -> Result<u64, StorageError> {
        let segment = &self.log.segments[index];
        let written =
            segment.bytes()?.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let length = written.next_multiple_of(ALIGNMENT).max(RECORDS) as u64;
        Ok(segment.base + length.min(segment.size))
    }
}
