//! Room on a full disk: dead segments go at once, and of an empty queue all of them.

use super::super::error::StorageError;
use super::sync::Doomed;
use super::{FIRST_SEGMENT_SIZE, Log};
use std::collections::VecDeque;

impl Log {
    /// On a full disk: lets dead segments go at once, also the newest when the queue is empty. This
    /// blocks for a sync. True when that gave something back.
    pub(super) fn reclaim(&mut self) -> Result<bool, StorageError> {
        if self.step.is_some() {
            // Nothing is durable of half a step.
            return Ok(false);
        }
        if self.has_dead_segments() && self.copies_end.max(self.step_end) > self.durable {
            self.sync_now()?;
            self.durable = self.end();
        }
        let doomed = self.doom()?;
        let was_dead = doomed.is_some();
        if let Some(doomed) = doomed {
            self.write_cursor()?;
            self.sync_now()?;
            self.unlink(&doomed)?;
        }
        // While older ones are still on their way out, the newest has what says that they are dead.
        let is_last = !self.is_unlinking;
        let has_room = self.segments.len() > 1 || self.segments[0].record_bytes() > 0;
        if self.live_count == 0 && is_last && has_room && !self.segments[0].is_unlinked {
            self.start_over()?;
            return Ok(true);
        }
        Ok(was_dead)
    }

    fn unlink(&mut self, doomed: &Doomed) -> Result<(), StorageError> {
        doomed.unlink().inspect_err(|error| self.poison(error))
    }

    /// Removes the only segment in use of an empty queue, and begins with a small one behind it. A
    /// crash in between leaves a queue without segments, which is an empty queue too.
    fn start_over(&mut self) -> Result<(), StorageError> {
        let base = self.segments[self.segments.len() - 1].end().max(self.least_base);
        let bases = self.segments.iter().map(|segment| segment.base).collect();
        self.unlink(&Doomed { folder: self.open_folder()?, bases })?;
        // Until there is a new one nothing fits into what is unlinked now.
        self.segments.truncate(1);
        self.segments[0].records_end = self.segments[0].end();
        self.segments[0].is_unlinked = true;
        self.dirty = false;
        self.count_spare();
        self.begin_anew(base)
    }

    /// Begins with a small segment at `base`, in place of one that is unlinked: where there was no
    /// room for it when that went, the next push tries again.
    pub(super) fn begin_anew(&mut self, base: u64) -> Result<(), StorageError> {
        let segment = self.create_segment(base, FIRST_SEGMENT_SIZE)?;
        self.segments = VecDeque::from([segment]);
        self.segments[0].first_sequence = self.next_sequence;
        self.record_bytes = 0;
        self.live_bytes = 0;
        self.turns = Default::default();
        self.reset_scans();
        self.write_cursor()
    }
}
