//! Where a log goes on: its end is checked, cut and made durable before anything is appended.

use super::super::counters::add;
use super::super::cursor::{Cursor, Turns, slot_offset};
use super::super::error::StorageError;
use super::super::finding::{Finding, Label};
use super::super::folder::OpenFile;
use super::super::footer::{Sealed, Summary};
use super::super::layout::{
    ALIGNMENT, FIRST_SEQUENCE, MESSAGE_HEAD, RECORDS, SECTOR, SLOT_COUNT, SLOTS,
};
use super::super::log::{BLOCK, Log};
use super::super::names::file_name;
use super::super::record::Verdict;
use super::super::segment::{FooterState, Segment};
use super::super::walk::is_zero;
use super::records::{Recovery, sealed};

impl Recovery {
    /// Whether the records reach as far as something says they did, and the cursor is there.
    pub(super) fn check_ends(
        &mut self,
        has_cursor: bool,
        declared_ends: &[u64],
    ) -> Result<(), StorageError> {
        for (index, declared_end) in declared_ends.iter().enumerate() {
            self.bound_mappings()?;
            let segment = &self.log.segments[index];
            let (claim, end) = (self.claims[index], segment.records_end);
            // Beyond the file of any but the last segment, a missing one has been reported.
            let is_elsewhere = claim > segment.end() && index + 1 < self.claims.len();
            // A segment that gets a successor says that everything is durable up to its records.
            let says_more = claim >= segment.end() + RECORDS as u64;
            if says_more && segment.end() == *declared_end && !is_elsewhere {
                self.say_missing(segment.end())?;
            } else if claim > end && !is_elsewhere && !self.has_gone_on(index, end)? {
                let base = segment.base;
                let expected = format!("records up to offset {}", claim - base);
                self.find(index, end - base, Label::LostEnd, expected, "none")?;
                self.losses.note_bytes(claim - end);
            }
        }
        self.check_cursor(has_cursor)
    }

    /// The segment at `base`, behind all others, was in use and is not there.
    fn say_missing(&self, base: u64) -> Result<(), StorageError> {
        let file = self.log.directory().join(file_name(base));
        if file.exists() && !self.doomed.contains(&base) {
            // This log is only read: a daemon at work has made it since the first look.
            return Ok(());
        }
        self.log.settings.decide(Finding {
            file,
            offset: 0,
            label: Label::MissingSegment,
            expected: "a segment".into(),
            found: "none".into(),
        })
    }

    /// Whether the newest segment in use has the cursor that its first sync made durable, and what
    /// is wrong with others.
    fn check_cursor(&mut self, has_cursor: bool) -> Result<(), StorageError> {
        let newest = self.with_records.unwrap_or(0);
        if !self.has_cursor_in(newest)?
            && let Some(label) = self.without_cursor(newest, has_cursor)?
        {
            let found = if has_cursor { "an older one" } else { "none" };
            self.find(newest, SLOTS as u64, label, "a cursor", found)?;
            // That says it of all its slots.
            self.bad_slots[newest].clear();
        }
        for finding in std::mem::take(&mut self.bad_slots).into_iter().flatten() {
            self.log.settings.decide(finding)?;
        }
        Ok(())
    }

    fn has_cursor_in(&self, newest: usize) -> Result<bool, StorageError> {
        let segment = &self.log.segments[newest];
        let is_there = self.with_cursor.is_some_and(|with_cursor| with_cursor >= newest);
        // A daemon at work may have written it since the first look.
        Ok(is_there
            || Cursor::newest(segment.base, segment.codec.version(), segment.bytes()?).is_some())
    }

    /// What there is to say when the newest segment in use has no cursor.
    fn without_cursor(
        &self,
        newest: usize,
        has_cursor: bool,
    ) -> Result<Option<Label>, StorageError> {
        let start = self.log.segments[newest].records_start();
        let is_synced = self.durable > start || (!has_cursor && self.durable > 0);
        if is_synced || self.written_slots(newest)? > 1 {
            return Ok(Some(Label::LostCursor));
        }
        Ok((!has_cursor).then_some(Label::NoCursor))
    }

    /// Slots of a segment with anything in them. A crash leaves at most one that is not valid.
    fn written_slots(&self, index: usize) -> Result<usize, StorageError> {
        let bytes = self.log.segments[index].bytes()?;
        let slot = |slot| bytes.get(slot_offset(slot)..)?.get(..SECTOR);
        Ok((0..SLOT_COUNT).filter_map(slot).filter(|slot| !is_zero(slot)).count())
    }

    /// Whether a daemon has appended behind the end of a segment since it was read.
    fn has_gone_on(&self, index: usize, end: u64) -> Result<bool, StorageError> {
        Ok(matches!(self.log.segments[index].decode(end)?, Verdict::Whole(_)))
    }

    /// Says where the log goes on, and makes it ready to be written to unless it is only read.
    pub(super) fn finish(
        mut self,
        cursor: Option<(usize, Cursor)>,
        declared_ends: &[u64],
    ) -> Result<Log, StorageError> {
        // The first one that is not known to be full: the log has gone on behind those before it.
        let is_full = |segment: &Segment| segment.end() < self.durable;
        let full_count = self.log.segments.iter().take_while(|segment| is_full(segment)).count();
        let open = full_count.min(self.log.segments.len() - 1);
        let tail = self.with_cursor.max(self.with_records).unwrap_or(0).max(open);
        self.log.tail = tail;
        for spare in self.log.segments.range_mut(tail + 1..) {
            // Its first number is known when it becomes the tail.
            spare.first_sequence = u64::MAX;
        }
        if self.log.next_sequence == 1 {
            // Nothing says that there ever was a message.
            self.log.next_sequence = FIRST_SEQUENCE;
        }
        if self.log.live_count == 0 {
            self.log.head = self.log.head.max(self.log.next_sequence);
        }
        self.recount()?;
        let mut expiring = std::mem::take(&mut self.log.expiring);
        expiring.retain(|(place, _)| self.log.lives_at(*place));
        self.log.expiring = expiring;
        let (head, removed) = (self.log.head, &self.log.removed);
        self.log.states.retain(|number| number >= head && !removed.contains(number));
        self.note_missing(self.log.next_sequence, MESSAGE_HEAD as u64);
        let lost_count = self.lost_count()?;
        add(&self.log.settings.counters.lost_messages, lost_count);
        self.check_read()?;
        self.log.durable = self.durable;
        if self.log.settings.is_read_only() {
            return Ok(self.log);
        }
        if let Err(error) = self.prepare_writing(cursor, declared_ends) {
            if self.log.settings.is_strict() {
                return Err(error);
            }
            self.log.close(&error);
        }
        self.log.record_bytes = self.log.segments.iter().map(Segment::record_bytes).sum();
        self.log.count_spare();
        self.log.bound_mappings();
        Ok(self.log)
    }

    /// Makes the log ready to be written to. Where that fails it can be read all the same.
    fn prepare_writing(
        &mut self,
        cursor: Option<(usize, Cursor)>,
        declared_ends: &[u64],
    ) -> Result<(), StorageError> {
        let tail = self.log.tail;
        self.remove_short_spares(declared_ends)?;
        self.unseal()?;
        self.give_up_short(declared_ends);
        self.cut()?;
        self.own_blocks()?;
        // One in an older segment is not enough: records that are synced here need one here.
        let cursor = cursor.filter(|_| self.with_cursor == Some(tail));
        if let Some((slot, _)) = cursor {
            self.log.turns = Turns::after(slot);
        }
        let tail_segment = &self.log.segments[tail];
        let last_end = declared_ends.iter().copied().max().unwrap_or(0);
        let ends = is_short(tail_segment, declared_ends[tail]) || self.durable > last_end;
        let is_slot_alone = cursor.is_some_and(|(_, cursor)| cursor.durable == self.log.end());
        if !ends && is_slot_alone && self.doomed.is_empty() {
            self.log.is_slot_unsynced = true;
        } else if tail_segment.size > RECORDS as u64 {
            self.sync_tail()?;
        }
        // Only now: what makes a segment dead, a cursor or copies, may not have been durable.
        let doomed = std::mem::take(&mut self.doomed);
        self.remove(doomed)?;
        self.log.step_over_leftovers(last_end);
        if ends {
            self.go_on_behind(last_end.max(self.durable).max(self.log.least_base))?;
        }
        let to_be_written = self.log.segments.range_mut(self.log.tail..);
        to_be_written.for_each(Segment::forget_free_pages);
        self.log.durable = self.log.end();
        self.log.said_durable = cursor.map_or(0, |(_, cursor)| cursor.durable);
        Ok(())
    }

    /// Gives the segments that will be written to their blocks. Without room for that they stay as
    /// they are: who writes to them is refused until there is some.
    fn own_blocks(&mut self) -> Result<(), StorageError> {
        let tail = self.log.tail;
        self.log.segments.range_mut(tail..).try_for_each(|segment| match segment.own_blocks() {
            Err(error @ StorageError::Full { .. }) => {
                log::warn!("{}: {error}", segment.path.display());
                Ok(())
            }
            owned => owned,
        })
    }

    /// Goes on with a new segment at `position` or behind it; without room for one, at the push
    /// that finds some. Popping needs none.
    fn go_on_behind(&mut self, position: u64) -> Result<(), StorageError> {
        self.log.least_base = position.next_multiple_of(BLOCK);
        let has_slots = self.log.segments[self.log.tail].size > RECORDS as u64;
        match self.log.begin_behind(position) {
            Err(error @ StorageError::Full { .. }) if has_slots => {
                log::warn!("{}: pushes wait for room: {error}", self.log.directory().display());
                Ok(())
            }
            begun => begun,
        }
    }

    /// Removes segments without records from the first on whose file is short: the log goes on with
    /// whole ones.
    fn remove_short_spares(&mut self, declared_ends: &[u64]) -> Result<(), StorageError> {
        let segments = &mut self.log.segments;
        let is_short = |index: &usize| is_short(&segments[*index], declared_ends[*index]);
        let Some(first) = (self.log.tail + 1..segments.len()).find(is_short) else {
            return Ok(());
        };
        let bases: Vec<u64> = segments.drain(first..).map(|spare| spare.base).collect();
        self.remove(bases)
    }

    /// Unlinks segments that count no more, durably.
    fn remove(&self, bases: Vec<u64>) -> Result<(), StorageError> {
        if bases.is_empty() { Ok(()) } else { self.log.unlink(bases) }
    }

    /// Takes away the footers of the segments that the log goes on in: they were sealed once, and
    /// what is behind them has not lasted. Without the key of their hashes, all of them.
    fn unseal(&mut self) -> Result<(), StorageError> {
        let first = if self.has_key { self.log.tail } else { 0 };
        for segment in self.log.segments.range_mut(first..) {
            if segment.footer == FooterState::Written {
                segment.footer = FooterState::Absent;
            }
            let cut = || {
                let OpenFile { file, length, .. } = segment.open(true)?;
                if length > segment.size {
                    file.set_len(segment.size)?;
                    file.sync_all()?;
                }
                Ok(())
            };
            cut().map_err(|error| StorageError::io("cut", &segment.path, error))?;
        }
        Ok(())
    }

    /// A footer lies behind all of a segment's bytes. Where some are missing it would be taken for
    /// some of them.
    fn give_up_short(&mut self, declared_ends: &[u64]) {
        for (segment, declared_end) in self.log.segments.iter_mut().zip(declared_ends) {
            if segment.end() < *declared_end {
                segment.footer = FooterState::GivenUp;
            }
        }
    }

    /// Counts again what lives in segments where that is in doubt. What was read of records and is
    /// not there has been removed or copied. What a footer named may be neither, and have rotted.
    fn recount(&mut self) -> Result<(), StorageError> {
        for index in std::mem::take(&mut self.doubtful) {
            self.bound_mappings()?;
            if self.log.segments[index].footer != FooterState::Written {
                let _not_lost = self.log.recount(index)?;
            } else if let Sealed::With(footer) = sealed(&self.log.segments[index])? {
                let named = footer.summaries(self.log.segments[index].records_start());
                let is_live = |it: &Summary| self.log.is_live(it.position, it.kind, it.sequence);
                let (count, bytes) = named
                    .filter(is_live)
                    .fold((0, 0), |(count, bytes), it| (count + 1, bytes + it.size));
                let _not_lost = self.log.lower_live(index, count, bytes);
                self.log.report_segment(index, Vec::new())?;
            }
        }
        Ok(())
    }

    /// Zeros everything behind the end of the log, durably, before the first append (rule 4).
    fn cut(&mut self) -> Result<(), StorageError> {
        let tail = self.log.tail;
        for index in tail..self.log.segments.len() {
            self.bound_mappings()?;
            let segment = &mut self.log.segments[index];
            let keep =
                if index == tail { segment.records_end - segment.base } else { SECTOR as u64 };
            let keep = keep.min(segment.size) as usize;
            let zeros_from = match self.zeros_from[index] {
                Some(position) => (position - segment.base).min(segment.size),
                None => segment.data_end(),
            };
            if is_zero(&segment.bytes()?[keep..keep.max(zeros_from as usize)]) {
                continue;
            }
            log::debug!("{}: cut at offset {keep}", segment.path.display());
            segment.cut(keep)?;
        }
        Ok(())
    }

    /// Makes durable what an earlier process has written and perhaps never synced.
    fn sync_tail(&mut self) -> Result<(), StorageError> {
        let end = self.log.end();
        let segment = &mut self.log.segments[self.log.tail];
        let offset = |position: u64| position.saturating_sub(segment.base) as usize;
        let (start, end) = (offset(self.durable), offset(end));
        segment.touch(0, RECORDS)?;
        segment.touch(start, end)?;
        self.log.sync_now()
    }
}

/// Whether a segment cannot be written to its end: it should have that at `declared_end`, and the
/// next one may begin there.
fn is_short(segment: &Segment, declared_end: u64) -> bool {
    segment.size <= RECORDS as u64
        || !segment.size.is_multiple_of(ALIGNMENT as u64)
        || segment.end() < declared_end
}
