//! Making durable, and what may happen only then.
//!
//! 1. One sync of the newest segment covers everything: the others were synced before they got a
//!    successor, and the cursor lies in the newest. It wants a sync while it fills, so that little
//!    is left to do then.
//! 2. A dead segment is unlinked only after a sync that covers what made it dead, and after a
//!    cursor that says it does not count: if its name survives a crash, its messages stay gone
//!    (rule 10). That cursor is written only when copies of its messages are durable, since a power
//!    cut in a sync may leave the one without the others.
//! 3. After a sync and before anybody relies on it, the file must still be where a start would look
//!    for it. What was written to a file that has been moved, replaced or removed counts as lost
//!    (rule 18).
//! 4. A failed sync poisons the log: it is never tried again, every later write is an error (rule
//!    9).

use super::super::counters::add;
use super::super::error::StorageError;
use super::super::folder::Folder;
use super::super::names::{SETTINGS, file_name};
use super::super::reaper::remove_file;
use super::Log;
use super::leftovers::Leftovers;
use std::sync::Arc;
use std::{fmt, io};

/// The least bytes of records that are worth a sync which nobody waits for yet.
const EARLY_SYNC: u64 = 256 * 1024;

/// The work of a sync; runs without the log's lock.
pub type SyncWork = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// Where a log stood when a sync began.
#[derive(Clone, Copy, Debug)]
pub struct SyncPoint {
    /// The base of the segment that is being synced.
    base: u64,
    /// The end of the log.
    end: u64,
}

/// Segments that are out of the log, on their way out of its folder.
pub(super) struct Doomed {
    /// Open from before they were taken out: that there is no descriptor is no failed sync.
    pub(super) folder: Arc<Folder>,
    /// Bases of the segments.
    bases: Vec<u64>,
    /// Those of the log that could not be unlinked.
    leftovers: Leftovers,
}

impl Doomed {
    /// Unlinks the files, and makes that durable. One that cannot be unlinked takes room and does
    /// no other harm: what says that it does not count is durable, and stays.
    fn unlink(&self) -> Result<(), StorageError> {
        for base in &self.bases {
            if !remove_file(&self.folder, &file_name(*base)) {
                self.leftovers.add(*base);
            }
        }
        self.folder.sync()
    }
}

impl Log {
    /// True when something was written that no sync has begun to cover.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// True when a sync should begin before one is asked for: as much waits for it as the newest
    /// segment has room for, and the push that fills it must wait until all of it is durable (rule
    /// 8). So each is of half of what was free at the one before, and the last one is short.
    pub fn wants_sync(&self) -> bool {
        let tail = &self.segments[self.tail];
        let covered = self.durable.max(self.begun).max(tail.base);
        let waiting = tail.records_end.saturating_sub(covered);
        let room = tail.end().saturating_sub(tail.records_end);
        self.closed.is_none() && waiting >= room.max(EARLY_SYNC)
    }

    /// The work that makes everything up to now durable; None when there is nothing to do. The next
    /// sync begins only after [`end_sync`](Log::end_sync).
    pub fn begin_sync(&mut self) -> Option<(SyncWork, SyncPoint)> {
        let tail = &self.segments[self.tail];
        let point = SyncPoint { base: tail.base, end: self.settled_end() };
        if let Err(error) = self.check_writable() {
            return Some((Box::new(move || Err(io::Error::other(error.to_string()))), point));
        }
        let doomed = self.doom().unwrap_or_else(|error| {
            log::debug!("dead segments wait for another sync: {error}");
            None
        });
        if !self.dirty && doomed.is_none() {
            return None;
        }
        let unsynced = self.end().saturating_sub(self.durable);
        // Under the log's lock: zeros that are written ahead must not meet an append.
        let prepared = self
            .write_cursor_for(&doomed)
            .and_then(|()| self.segments[self.tail].begin_sync(unsynced));
        let sync = match prepared {
            Ok(sync) => sync,
            Err(error) => {
                return Some((Box::new(move || Err(io::Error::other(error.to_string()))), point));
            }
        };
        let place = self.segments[self.tail].place();
        self.dirty = false;
        self.begun = point.end;
        self.is_syncing = true;
        self.is_unlinking = doomed.is_some();
        self.turns.begin_sync();
        let work = move || {
            sync()?;
            place.check()?;
            doomed.map_or(Ok(()), |doomed| doomed.unlink().map_err(io::Error::other))
        };
        Some((Box::new(work), point))
    }

    fn write_cursor_for(&mut self, doomed: &Option<Doomed>) -> Result<(), StorageError> {
        if doomed.is_some() { self.write_cursor() } else { Ok(()) }
    }

    /// Takes the outcome of the sync that began at `point`.
    pub fn end_sync(&mut self, point: SyncPoint, outcome: &io::Result<()>) {
        (self.is_syncing, self.is_unlinking) = (false, false);
        if let Err(error) = outcome {
            self.poison(&format_args!("a sync failed: {error}"));
        }
        if self.closed.is_some() {
            return;
        }
        self.durable = self.durable.max(point.end);
        self.forget_gone();
        if self.segments[self.tail].base == point.base {
            self.turns.end_sync();
        }
    }

    /// Makes everything up to now durable before it answers; also while a sync is under way.
    pub fn sync_now(&mut self) -> Result<(), StorageError> {
        self.check_writable()?;
        if self.segments[self.tail].is_unlinked {
            return Ok(());
        }
        let length = (self.end() - self.segments[self.tail].base) as usize;
        let place = self.segments[self.tail].place();
        let synced = self.segments[self.tail].mapping()?.sync(length).and_then(|()| place.check());
        synced.map_err(|error| {
            let error = StorageError::sync(&self.segments[self.tail].path, error);
            self.poison(&error);
            error
        })
    }

    /// Closes the log for writing after a sync that failed (rule 9).
    pub(super) fn poison(&mut self, why: &dyn fmt::Display) {
        if self.closed.is_none() {
            add(&self.settings.counters.failed_syncs, 1);
        }
        self.close(why);
    }

    /// Closes the log for writing, which something else than a sync has made impossible.
    pub(in super::super) fn close(&mut self, why: &dyn fmt::Display) {
        if self.closed.is_none() {
            self.closed = Some(why.to_string().into());
            add(&self.settings.counters.closed_queues, 1);
            let path = self.directory().display();
            log::error!("{path} is closed for writing until restart: {why}");
        }
    }

    /// Looks whether what waits for a sync is in a file that a start would find. Where nobody syncs
    /// for a time, that would be noticed late.
    pub fn watch(&mut self) {
        if !self.dirty || self.closed.is_some() {
            return;
        }
        if let Err(error) = self.segments[self.tail].place().check() {
            self.poison(&error);
        }
    }

    /// Takes the dead segments at the old end out of the log (rule 10: they die oldest first).
    /// Returns `None` if there are none.
    pub(super) fn doom(&mut self) -> Result<Option<Doomed>, StorageError> {
        // A sync may leave the cursor that says that they are dead, and not what made them so.
        let bound_end = self.copies_end.max(self.step_end);
        if !self.has_dead_segments() || bound_end > self.durable || self.step.is_some() {
            return Ok(None);
        }
        self.settings.check_writable()?;
        // What says that they are dead is written there: it must find its place.
        self.segments[self.tail].prepare_writing()?;
        let mut doomed = self.doomed(Vec::new())?;
        doomed.bases = self.take_dead_segments();
        Ok(Some(doomed))
    }

    pub(super) fn doomed(&self, bases: Vec<u64>) -> Result<Doomed, StorageError> {
        let (folder, leftovers) = (self.open_folder()?, self.leftovers.clone());
        Ok(Doomed { folder, bases, leftovers })
    }

    /// Unlinks files that are not in the log, durably.
    pub(in super::super) fn unlink(&self, bases: Vec<u64>) -> Result<(), StorageError> {
        self.doomed(bases)?.unlink()
    }

    pub(super) fn unlink_doomed(&mut self, doomed: &Doomed) -> Result<(), StorageError> {
        doomed.unlink().inspect_err(|error| self.poison(error))
    }

    /// Unlinks all segments of a log without messages, the newest first: where one cannot be
    /// unlinked, those before it stay with it. All stay where an older file does. When the log is
    /// in none any more, its last one is marked as unlinked.
    pub(super) fn unlink_all(&mut self, mut doomed: Doomed) -> Result<(), StorageError> {
        while self.leftovers.is_empty() && !self.segments[self.tail].is_unlinked {
            let newest = self.segments.len() - 1;
            doomed.bases = vec![self.segments[newest].base];
            self.unlink_doomed(&doomed)?;
            if !self.leftovers.is_empty() {
                break;
            }
            if newest > self.tail {
                self.segments.pop_back();
                self.count_spare();
            } else {
                // Until there is a new one nothing fits into it.
                let tail = &mut self.segments[self.tail];
                (tail.is_unlinked, tail.records_end) = (true, tail.end());
                self.dirty = false;
            }
        }
        Ok(())
    }

    /// The folder of the segments, for the sync of what changes in it.
    pub(in super::super) fn open_folder(&self) -> Result<Arc<Folder>, StorageError> {
        self.home.open().map_err(|error| StorageError::io("open", self.directory(), error))
    }

    /// Removes all messages and all files, durably. Returns false if some files stay, and an empty
    /// queue in them. A cursor says that the messages are gone before the first file goes, and its
    /// own file only when the older ones are durably gone: a crash leaves all of them or none. The
    /// log is not to be used afterwards.
    ///
    /// # Errors
    /// Among others, that a sync under way is about to unlink files of the folder by their names.
    pub(in super::super) fn clear(&mut self) -> Result<bool, StorageError> {
        self.check_writable()?;
        if self.is_unlinking {
            let source = io::ErrorKind::ResourceBusy.into();
            return Err(StorageError::io("clear", self.directory(), source));
        }
        if !self.segments[self.tail].is_unlinked {
            self.segments[self.tail].prepare_writing()?;
        }
        let mut doomed = self.doomed(Vec::new())?;
        self.head = self.next_sequence;
        self.removed.clear();
        self.relocated.clear();
        self.live_count = 0;
        self.live_bytes = 0;
        for segment in &mut self.segments {
            (segment.live_count, segment.live_bytes) = (0, 0);
        }
        doomed.bases = self.take_dead_segments();
        self.write_cursor()?;
        self.sync_now()?;
        remove_file(&doomed.folder, SETTINGS);
        self.unlink_doomed(&doomed)?;
        self.unlink_all(doomed)?;
        Ok(self.segments[self.tail].is_unlinked)
    }

    fn take_dead_segments(&mut self) -> Vec<u64> {
        let mut doomed = Vec::new();
        while self.tail > 0 && self.segments[0].live_count == 0 {
            if let Some(segment) = self.segments.pop_front() {
                self.tail -= 1;
                self.record_bytes -= segment.record_bytes();
                // Not 0 if a footer said more bytes than its messages have.
                self.live_bytes -= segment.live_bytes;
                doomed.push(segment.base);
            }
        }
        let (first, base) = (self.segments[0].first_sequence, self.segments[0].base);
        self.removed.remove_below(first);
        self.reported.retain(|position| *position >= base);
        doomed
    }

    /// True when a dead segment waits for a sync.
    pub fn has_dead_segments(&self) -> bool {
        self.tail > 0 && self.segments[0].live_count == 0
    }

    /// Lets go of the mappings that no promise needs. A log that is durable to its end says so in
    /// its cursor: the next start need not sync it, and what is bad there by then is rotten and not
    /// torn.
    pub fn rest(&mut self) {
        let is_writable = self.check_writable().is_ok();
        let is_settled = !self.dirty && self.step.is_none() && self.durable == self.end();
        let is_durable = is_writable && is_settled;
        if is_durable && self.said_durable < self.durable {
            if let Err(error) = self.write_cursor() {
                log::warn!("{}: {error}", self.directory().display());
            }
            // A cursor that only says this is not worth a sync.
            self.dirty = false;
        }
        for (index, segment) in self.segments.iter_mut().enumerate() {
            if index != self.tail || self.promised.is_empty() {
                segment.unmap();
            }
        }
    }
}
