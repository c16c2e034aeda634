//! Where a log goes on: its end is checked, cut and made durable before anything is appended.

use super::super::cursor::{Cursor, Turns, slot_offset};
use super::super::error::StorageError;
use super::super::finding::Label;
use super::super::layout::{RECORDS, SECTOR, SLOT_COUNT, SLOTS};
use super::super::log::Log;
use super::super::record::{Verdict, decode};
use super::super::segment::{FooterState, Segment, sync_directory};
use super::super::walk::is_zero;
use super::records::Recovery;
use std::fs::{self, OpenOptions};

impl Recovery {
    /// Whether the records reach as far as something says they did, and the cursor is there.
    pub(super) fn check_ends(&mut self, has_cursor: bool) -> Result<(), StorageError> {
        for index in 0..self.claims.len() {
            let segment = &self.log.segments[index];
            let (claim, end) = (self.claims[index], segment.records_end);
            // Beyond the file of any but the last segment, a missing one has been reported.
            let is_elsewhere = claim > segment.end() && index + 1 < self.claims.len();
            if claim > end && !is_elsewhere && !self.has_gone_on(index, end)? {
                let base = segment.base;
                let expected = format!("records up to offset {}", claim - base);
                self.find(index, end - base, Label::LostEnd, expected, "none")?;
            }
        }
        self.check_cursor(has_cursor)
    }

    /// Whether the newest segment in use has the cursor that its first sync made durable, and what
    /// is wrong with others.
    fn check_cursor(&mut self, has_cursor: bool) -> Result<(), StorageError> {
        let newest = self.with_records.unwrap_or(0);
        if !self.has_cursor_in(newest)? {
            // One finding says it of all its slots.
            self.bad_slots[newest].clear();
            self.say_no_cursor(newest, has_cursor)?;
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
        Ok(is_there || Cursor::newest(segment.base, segment.bytes()?).is_some())
    }

    fn say_no_cursor(&self, newest: usize, has_cursor: bool) -> Result<(), StorageError> {
        let start = self.log.segments[newest].records_start();
        let is_synced = self.durable > start || (!has_cursor && self.durable > 0);
        let found = if has_cursor { "an older one" } else { "none" };
        if is_synced || self.written_slots(newest)? > 1 {
            return self.find(newest, SLOTS as u64, Label::LostCursor, "a cursor", found);
        }
        if has_cursor {
            return Ok(());
        }
        self.find(newest, SLOTS as u64, Label::NoCursor, "a cursor", found)
    }

    /// Slots of a segment with anything in them. A crash leaves one that is not valid at the most.
    fn written_slots(&self, index: usize) -> Result<usize, StorageError> {
        let bytes = self.log.segments[index].bytes()?;
        let slot = |slot| bytes.get(slot_offset(slot)..)?.get(..SECTOR);
        Ok((0..SLOT_COUNT).filter_map(slot).filter(|slot| !is_zero(slot)).count())
    }

    /// Whether a daemon has appended behind the end of a segment since it was read.
    fn has_gone_on(&self, index: usize, end: u64) -> Result<bool, StorageError> {
        let bytes = self.log.segments[index].bytes_from(end)?;
        Ok(matches!(decode(bytes, end), Verdict::Whole(_)))
    }

    /// Says where the log goes on, and makes it ready to be written to unless it is only read.
    pub(super) fn finish(
        mut self,
        cursor: Option<(usize, Cursor)>,
        declared_ends: &[u64],
    ) -> Result<Log, StorageError> {
        let tail = self.with_cursor.max(self.with_records).unwrap_or(0);
        self.log.tail = tail;
        for spare in self.log.segments.range_mut(tail + 1..) {
            // Its first number is known when it becomes the tail.
            spare.first_sequence = u64::MAX;
        }
        if self.log.live_count == 0 {
            self.log.head = self.log.head.max(self.log.next_sequence);
        }
        if self.log.settings.is_read_only() {
            return Ok(self.log);
        }
        self.remove_doomed()?;
        self.remove_short_spares(declared_ends)?;
        self.unseal()?;
        self.cut()?;
        self.recount()?;
        if let Some((slot, _)) = cursor.filter(|_| self.with_cursor == Some(tail)) {
            self.log.turns = Turns::after(slot);
        }
        let size = self.log.segments[tail].size;
        let is_usable = size > RECORDS as u64;
        let is_short = !is_usable || self.log.segments[tail].end() < declared_ends[tail];
        let last_end = declared_ends.iter().copied().max().unwrap_or(0);
        if is_short || self.durable > last_end {
            if is_usable {
                self.sync_tail()?;
            }
            self.log.begin_behind(last_end.max(self.durable))?;
        } else if cursor.is_none_or(|(_, cursor)| cursor.durable != self.log.end()) {
            self.sync_tail()?;
        } else {
            self.log.is_slot_unsynced = true;
        }
        self.log.durable = self.log.end();
        self.log.said_durable = cursor.map_or(0, |(_, cursor)| cursor.durable);
        self.log.record_bytes = self.log.segments.iter().map(Segment::record_bytes).sum();
        self.log.count_spare();
        Ok(self.log)
    }

    /// Removes files that were never finished or are dead.
    fn remove_doomed(&self) -> Result<(), StorageError> {
        for path in &self.doomed {
            fs::remove_file(path).map_err(|error| StorageError::io("remove", path, error))?;
        }
        if self.doomed.is_empty() { Ok(()) } else { sync_directory(&self.log.directory) }
    }

    /// Removes segments without records from the first on whose file is short: the log goes on with
    /// whole ones.
    fn remove_short_spares(&mut self, declared_ends: &[u64]) -> Result<(), StorageError> {
        let segments = &mut self.log.segments;
        let is_short = |index: &usize| {
            let spare = &segments[*index];
            spare.size <= RECORDS as u64 || spare.end() < declared_ends[*index]
        };
        let Some(first) = (self.log.tail + 1..segments.len()).find(is_short) else {
            return Ok(());
        };
        for spare in segments.drain(first..) {
            let removed = fs::remove_file(&spare.path);
            removed.map_err(|error| StorageError::io("remove", &spare.path, error))?;
        }
        sync_directory(&self.log.directory)
    }

    /// Takes away the footer of the segment that the log goes on in: the segment was sealed once,
    /// and what is behind it has not lasted.
    fn unseal(&mut self) -> Result<(), StorageError> {
        let segment = &mut self.log.segments[self.log.tail];
        segment.footer = FooterState::Absent;
        let cut = || {
            let file = OpenOptions::new().write(true).open(&segment.path)?;
            if file.metadata()?.len() > segment.size {
                file.set_len(segment.size)?;
                file.sync_all()?;
            }
            Ok(())
        };
        cut().map_err(|error| StorageError::io("cut", &segment.path, error))
    }

    /// Counts again what lives in segments whose footers have proved wrong about it. Nothing is
    /// lost with that: what is not there has been removed or copied.
    fn recount(&mut self) -> Result<(), StorageError> {
        for index in std::mem::take(&mut self.doubtful) {
            let _not_lost = self.log.recount(index)?;
        }
        Ok(())
    }

    /// Zeros everything behind the end of the log, durably, before the first append (rule 4).
    fn cut(&mut self) -> Result<(), StorageError> {
        let tail = self.log.tail;
        for index in tail..self.log.segments.len() {
            let segment = &mut self.log.segments[index];
            let keep =
                if index == tail { segment.records_end - segment.base } else { SECTOR as u64 };
            let keep = keep.min(segment.size) as usize;
            if is_zero(&segment.bytes()?[keep..]) {
                continue;
            }
            log::debug!("{}: cut at offset {keep}", segment.path.display());
            zero(segment, keep)?;
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

fn zero(segment: &mut Segment, keep: usize) -> Result<(), StorageError> {
    segment.bytes_mut()?[keep..].fill(0);
    let synced = segment.mapping()?.sync(usize::MAX);
    synced.map_err(|error| StorageError::io("sync", &segment.path, error))
}
