//! Reading by number, and past what is damaged.
//!
//! Delivery is in the order of numbers (rule 1): messages that lie where they were pushed are found
//! in the order of the log, copied ones in `relocated`, and the lower number of the two comes
//! first.

use super::super::counters::add;
use super::super::error::StorageError;
use super::super::finding::{Finding, Label};
use super::super::message::{Message, Place};
use super::super::record::{Fault, Kind, Record, Verdict};
use super::super::segment::FooterState;
use super::super::walk::{Step, Walk};
use super::super::waypoints::{SPACING, Waypoint};
use super::{Log, READERS};
use crate::memory::NoMemory;
use std::io;

impl Log {
    /// The oldest live message whose number is `from` or more.
    pub fn next(&mut self, from: u64) -> Result<Option<(Place, Message<'_>)>, StorageError> {
        let Some(place) = self.find_next(from)? else {
            return Ok(None);
        };
        Ok(Some((place, self.reread(place.position)?.message())))
    }

    /// The number of the oldest live message.
    pub(super) fn lowest(&mut self) -> Result<Option<u64>, StorageError> {
        if self.lowest.is_none() {
            self.find_next(0)?;
        }
        Ok(self.lowest)
    }

    /// The number of a message says whether it is live, and a waypoint is near where it lies: a
    /// look passes little of the log, however many messages are gone. Only what damage has taken is
    /// looked for, once.
    fn find_next(&mut self, from: u64) -> Result<Option<Place>, StorageError> {
        self.bound_mappings();
        let (is_head, mut from) = (from <= self.head, from.max(self.head));
        let found = loop {
            let copied = self.next_copied(from)?;
            let number = self.removed.skip(from.max(self.segments[0].first_sequence));
            if copied.is_some_and(|copied| copied.sequence <= number) {
                break copied;
            }
            let pushed = self.scan(number, is_head)?;
            match (pushed, copied) {
                (Some(pushed), _) if pushed.sequence == number => break Some(pushed),
                // Damage has taken the messages before it, or they went with older segments.
                (Some(pushed), None) => from = pushed.sequence,
                (Some(pushed), Some(copied)) => from = pushed.sequence.min(copied.sequence),
                (None, copied) => break copied,
            }
        };
        if is_head {
            self.lowest = found.map(|place| place.sequence);
        }
        Ok(found)
    }

    /// Looks among the messages that were copied.
    fn next_copied(&mut self, from: u64) -> Result<Option<Place>, StorageError> {
        while let Some((sequence, position)) = self.relocated.next(from) {
            // A damaged copy that nobody asked for may have gone with its segment.
            if position >= self.segments[0].base {
                match self.decode(position)? {
                    Verdict::Whole(record)
                        if record.sequence == sequence && record.kind.holds_message() =>
                    {
                        return Ok(Some(Place { sequence, position }));
                    }
                    // A footer has said something else: a caller that asks on would come back for
                    // ever.
                    Verdict::Whole(other) => {
                        self.report_damage(position, Fault::Sequence(other.sequence))?;
                    }
                    Verdict::Blank => self.report_damage(position, Fault::Hole)?,
                    Verdict::Bad(fault) => self.report_damage(position, fault)?,
                }
            }
            self.relocated.remove(sequence);
            // What it was copied from is not counted any more, and goes with the next sync.
            self.note_removed(sequence);
        }
        Ok(None)
    }

    /// The first message that was pushed with the number `number` or a higher one, live or not.
    fn scan(&mut self, number: u64, is_head: bool) -> Result<Option<Place>, StorageError> {
        if number >= self.next_sequence {
            return Ok(None);
        }
        let index = self.segments.partition_point(|segment| segment.first_sequence <= number);
        let index = index.saturating_sub(1).min(self.tail);
        let segment = &self.segments[index];
        let start = segment.waypoints.before(number).unwrap_or(segment.records_start());
        let looks = [self.head_look].into_iter().chain(self.page_looks);
        let begun = looks.filter(|look| look.from <= number).map(|look| look.position).max();
        let mut position = start.max(begun.unwrap_or_default());
        let found = loop {
            match self.scan_segment(position, number)? {
                Scanned::Found(place) => break Some(place),
                Scanned::Damage(at, fault, resumes) => {
                    self.report_damage(at, fault)?;
                    let segment = &self.segments[self.segment_index(at)];
                    position = resumes.unwrap_or(segment.records_end);
                }
                Scanned::End => {
                    let next = self.segment_index(position) + 1;
                    if next > self.tail {
                        break None;
                    }
                    position = self.segments[next].records_start();
                    self.bound_mappings();
                }
            }
        };
        let position = found.map_or(self.end(), |place| place.position);
        let look = Waypoint { from: number, position };
        if is_head {
            self.head_look = look;
        } else {
            self.note_page_look(look);
        }
        if found.is_none_or(|place| place.sequence > number) {
            // What damage has taken is not looked for again.
            self.segments[index].note_place(number, position);
        }
        Ok(found)
    }

    /// Keeps where a look ended. It belongs to the reader whose last look ended nearest before it.
    /// If none did that saves it a part of the log, it takes the place of the reader that has not
    /// looked for longest.
    fn note_page_look(&mut self, look: Waypoint) {
        let saves = |it: &Waypoint| it.position.saturating_add(SPACING) > look.position;
        let before = self.page_looks.iter().enumerate().filter(|(_, it)| it.from <= look.from);
        let nearest = before.max_by_key(|(_, it)| it.position).filter(|(_, it)| saves(it));
        let index = nearest.map_or(READERS - 1, |(index, _)| index);
        self.page_looks[..=index].rotate_right(1);
        self.page_looks[0] = look;
    }

    /// The message at `place`, whose record has `size` bytes, is gone from the head. If the last
    /// look there ended at it, the next one begins behind it, and does not read it again.
    pub(super) fn pass_head(&mut self, place: Place, size: u64) {
        let Place { sequence, position } = place;
        // A copy may lie where a look has found nothing: it says nothing about higher numbers.
        if self.head_look.position == position
            && self.head_look.from <= sequence
            && self.segments[self.segment_index(position)].has_places()
        {
            self.head_look = Waypoint { from: sequence + 1, position: position + size };
        }
    }

    fn scan_segment(&mut self, start: u64, from: u64) -> Result<Scanned, StorageError> {
        let (mut passed, mut scanned) = (0, Scanned::End);
        for step in self.walk(start)? {
            match step {
                Step::Whole(position, Record { kind: Kind::Message, sequence, .. })
                    if sequence >= from =>
                {
                    scanned = Scanned::Found(Place { sequence, position });
                    break;
                }
                Step::Whole(..) => passed += 1,
                Step::Damage { position, fault, resumes } => {
                    scanned = Scanned::Damage(position, fault, resumes);
                    break;
                }
            }
        }
        // A reader that goes on may pass its last message, which was counted when it was found.
        self.passed += u64::saturating_sub(passed, 1);
        Ok(scanned)
    }

    /// How many records looks by number have passed on their way since the last call.
    pub fn take_passed(&mut self) -> u64 {
        std::mem::take(&mut self.passed)
    }

    /// A walk from `position` to the last record of its segment.
    pub(in super::super) fn walk(&self, position: u64) -> Result<Walk<'_>, StorageError> {
        Walk::through(&self.segments[self.segment_index(position)], position)
    }

    /// Whether the record at `position` is a live message and the one to deliver.
    pub(in super::super) fn is_live(&self, position: u64, kind: Kind, sequence: u64) -> bool {
        match kind {
            Kind::Removal | Kind::State | Kind::Other(_) => false,
            Kind::Copy => self.relocated.get(sequence) == Some(position),
            Kind::Message => {
                sequence >= self.head
                    && !self.removed.contains(sequence)
                    && self.relocated.get(sequence).is_none()
            }
        }
    }

    /// Whether a message that was found at `place` lives there still.
    pub(in super::super) fn lives_at(&self, place: Place) -> bool {
        let kind =
            if self.relocated.get(place.sequence).is_some() { Kind::Copy } else { Kind::Message };
        self.is_live(place.position, kind, place.sequence)
    }

    /// What stands at `position`, checksums looked at.
    pub(super) fn decode(&self, position: u64) -> Result<Verdict<'_>, StorageError> {
        self.segments[self.segment_index(position)].decode(position)
    }

    /// The record at `position`, whose checksum has been found right.
    pub(in super::super) fn reread(&self, position: u64) -> Result<Record<'_>, StorageError> {
        let segment = &self.segments[self.segment_index(position)];
        match segment.codec.reread(segment.bytes_from(position)?) {
            Verdict::Whole(record) => Ok(record),
            _ => {
                let source = io::Error::other(format!("no record at {position}"));
                Err(StorageError::io("read", &segment.path, source))
            }
        }
    }

    /// Says once that a record which had been written is damaged, sets a copy of its segment aside,
    /// and counts again what lives there (rule 5). All other damage in the segment is reported with
    /// it, so that a later reader finds it known. This blocks for the sync of the copy, and for a
    /// walk through the segment.
    pub(super) fn report_damage(
        &mut self,
        position: u64,
        fault: Fault,
    ) -> Result<(), StorageError> {
        self.check_read_at(position)?;
        if self.reported.contains(&position) {
            return Ok(());
        }
        self.report_segment(self.segment_index(position), vec![(position, fault)])
    }

    /// The same of all damage in segment `index` that has not been reported, `damage` with it.
    pub(in super::super) fn report_segment(
        &mut self,
        index: usize,
        mut damage: Vec<(u64, Fault)>,
    ) -> Result<(), StorageError> {
        for step in self.walk(self.segments[index].records_start())? {
            if let Step::Damage { position, fault, .. } = step {
                damage.try_reserve(1).map_err(NoMemory::from)?;
                damage.push((position, fault));
            }
        }
        // What could not be read there is no damage.
        let segment = &self.segments[index];
        self.check_read_at(segment.base)?;
        damage.retain(|(position, _)| self.reported.insert(*position));
        let finding = |(position, fault): (u64, Fault)| Finding {
            file: segment.path.clone(),
            offset: position - segment.base,
            label: Label::RottenRecord,
            expected: fault.expected(),
            found: fault.found(),
        };
        if !damage.is_empty() {
            self.settings.note_all(&segment.path, damage.into_iter().map(finding));
        }
        let lost_count = self.recount(index)?;
        add(&self.settings.counters.lost_messages, lost_count);
        if lost_count > 0 {
            // What is not counted any more is not to be found, though its own record may be whole.
            self.segments[index].footer = FooterState::GivenUp;
            self.membership = None;
        }
        Ok(())
    }

    /// Counts again what lives in a segment whose records are damaged; answers how much less it is
    /// than was known.
    pub(in super::super) fn recount(&mut self, index: usize) -> Result<u64, StorageError> {
        let (mut live_count, mut live_bytes) = (0, 0);
        for step in self.walk(self.segments[index].records_start())? {
            if let Step::Whole(position, record) = step
                && self.is_live(position, record.kind, record.sequence)
            {
                live_count += 1;
                live_bytes += record.size() as u64;
            }
        }
        Ok(self.lower_live(index, live_count, live_bytes))
    }

    /// No more than this lives in segment `index`; answers how many messages fewer that is than was
    /// known.
    pub(in super::super) fn lower_live(
        &mut self,
        index: usize,
        live_count: u64,
        live_bytes: u64,
    ) -> u64 {
        let segment = &mut self.segments[index];
        let lost_count = segment.live_count.saturating_sub(live_count);
        let lost_bytes = segment.live_bytes.saturating_sub(live_bytes);
        segment.live_count -= lost_count;
        segment.live_bytes -= lost_bytes;
        self.live_count -= lost_count;
        self.live_bytes -= lost_bytes;
        lost_count
    }

    /// Where a live message lies now that lay at `place`: it may have been copied forward since.
    pub fn current(&self, place: Place) -> Place {
        let position = self.relocated.get(place.sequence).unwrap_or(place.position);
        Place { position, ..place }
    }

    /// The live message that lay at `place`, with where it lies now; `None` if it is gone, or its
    /// record cannot be read.
    pub fn at(&self, place: Place) -> Result<Option<(Place, Message<'_>)>, StorageError> {
        let place = self.current(place);
        // The segment may be gone, with all that was in it.
        if self.segments.front().is_none_or(|segment| place.position < segment.base) {
            return Ok(None);
        }
        Ok(match self.decode(place.position)? {
            Verdict::Whole(record)
                if record.sequence == place.sequence
                    && self.is_live(place.position, record.kind, record.sequence) =>
            {
                Some((place, record.message()))
            }
            _ => None,
        })
    }

    /// An error if bytes of the segment at `position` could not be read. Who only looks goes on,
    /// and takes them for damage.
    pub(super) fn check_read_at(&self, position: u64) -> Result<(), StorageError> {
        match self.settings.is_read_only() {
            true => Ok(()),
            false => self.segments[self.segment_index(position)].check_read(),
        }
    }

    pub(super) fn reset_scans(&mut self) {
        (self.head_look, self.page_looks) = Default::default();
        self.lowest = None;
        self.copied_to = 0;
    }
}

/// What a look through one segment came to.
enum Scanned {
    Found(Place),
    Damage(u64, Fault, Option<u64>),
    End,
}

#[cfg(test)]
mod tests;
