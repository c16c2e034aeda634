//! Steps: what a command does to a queue happens as a whole or not at all (rule 20).
//!
//! 1. The records of a step lie in one segment, one behind the other. All but the last say that
//!    more follow: a log that ends with one of those is cut where its step begins. Room for all of
//!    them is made before the first, so a step that has begun does not fail for want of it.
//! 2. Nothing says *durable* of a position inside a step.
//! 3. A step that only pops appends nothing: it writes the cursor once, at its end.
//! 4. Until a step that removes messages by records is durable, the cursor shows no part of it:
//!    no head passes such a message, and no segment is dead for want of it. A power cut could leave
//!    that cursor, and not the step.

use super::super::error::StorageError;
use super::super::layout::{ALIGNMENT, MESSAGE_DELIVER_MS, REMOVAL_HEAD};
use super::super::version::Version;
use super::Log;

/// The most that a step does.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepSize {
    /// Messages that it pushes.
    pub pushes: u64,
    /// Bytes of their bodies.
    pub pushed_bytes: u64,
    /// Messages that it removes by their places.
    pub removals: u64,
    /// Messages that it pops: each is the oldest.
    pub pops: u64,
    /// Messages whose removal it promises.
    pub moves: u64,
}

/// A step that has begun and not ended.
#[derive(Debug)]
pub(super) struct OpenStep {
    /// The end of the log when it began.
    pub(super) start: u64,
    /// It pops, and appends nothing.
    pub(super) only_pops: bool,
    /// Records that it has appended.
    pub(super) record_count: u64,
    /// The position of the last of them.
    pub(super) last: u64,
    /// A record of it removes a message.
    pub(super) has_removed: bool,
    /// The head has moved, and no cursor says so yet.
    pub(super) has_popped: bool,
}

impl Log {
    /// Begins a step; what is done until [`end_step`](Log::end_step) is one. After an error nothing
    /// has begun.
    pub fn begin_step(&mut self, size: &StepSize) -> Result<(), StorageError> {
        self.check_writable()?;
        self.check_number(self.next_sequence.saturating_add(size.pushes))?;
        self.check_number(self.generation)?;
        let only_pops = size.pushes == 0 && size.removals == 0 && size.moves == 0;
        let mut must_log = !only_pops || self.has_unsettled_step();
        if must_log {
            let removals = size.removals.saturating_add(size.pops);
            let bytes = removals.saturating_add(size.moves).saturating_mul(REMOVAL_HEAD as u64);
            let bytes = bytes.saturating_add(size.pushed_bytes);
            // Each with an expiry, and padded.
            let overhead = (MESSAGE_DELIVER_MS + ALIGNMENT) as u64;
            let bytes = bytes.saturating_add(size.pushes.saturating_mul(overhead));
            // What is removed needs no second removal.
            let left = (self.live_count + size.pushes).saturating_sub(removals);
            match self.make_room_or_reclaim(bytes, left, Version::Two) {
                Err(StorageError::Full { .. }) if only_pops => {
                    self.settle_steps()?;
                    must_log = false;
                }
                made => made?,
            }
        }
        // Nothing may fail between the first change in memory and the last one in the log.
        self.segments[self.tail].prepare_writing()?;
        self.sync_slot()?;
        let start = self.end();
        self.step = Some(OpenStep {
            start,
            only_pops: !must_log,
            record_count: 0,
            last: start,
            has_removed: false,
            has_popped: false,
        });
        Ok(())
    }

    /// Ends the step: it counts from now on.
    pub fn end_step(&mut self) -> Result<(), StorageError> {
        let Some(step) = self.step.take() else { return Ok(()) };
        // What a log has that is closed for writing is cut at the next start.
        self.check_writable()?;
        if step.record_count > 0 {
            let segment = &mut self.segments[self.tail];
            let (offset, codec) = ((step.last - segment.base) as usize, segment.codec.clone());
            codec.end_step(step.last, &mut segment.bytes_mut()?[offset..]);
            self.dirty = true;
        }
        if step.has_removed && step.record_count > 1 {
            self.step_end = self.end();
        }
        if step.has_popped {
            self.forget_gone();
            self.write_cursor()?;
        }
        Ok(())
    }

    /// Whether a step that removes messages by records is open or not durable.
    pub(super) fn has_unsettled_step(&self) -> bool {
        let logs = |step: &OpenStep| !step.only_pops;
        self.step_end > self.durable || self.step.as_ref().is_some_and(logs)
    }

    /// On a full disk: makes the steps so far durable, so that the cursor may show what is
    /// popped behind them. This blocks for a sync.
    fn settle_steps(&mut self) -> Result<(), StorageError> {
        self.sync_now()?;
        self.durable = self.end();
        Ok(())
    }

    /// Makes room for a removal record, and returns true; or false where the disk is full and the
    /// cursor can say it now.
    pub(super) fn make_room_to_remove(&mut self, is_oldest: bool) -> Result<bool, StorageError> {
        let size = REMOVAL_HEAD as u64;
        let is_alone = self.step.is_none();
        // Where the log goes on in another segment, what is left here is lost to the others.
        let others = if is_alone { self.live_count.saturating_sub(1) } else { 0 };
        // Also one of version 1 will do: on a full disk the room was reserved there.
        match self.make_room(size, others, Version::One) {
            Err(StorageError::Full { .. }) if is_alone && is_oldest => {
                self.settle_steps().map(|()| false)
            }
            Err(full @ StorageError::Full { .. }) if is_alone => {
                // Its own room lies beside that of what is promised, which finds some behind it.
                while self.free_in(self.tail) < size {
                    if self.tail + 1 == self.segments.len() {
                        return Err(full);
                    }
                    self.advance_tail()?;
                }
                Ok(true)
            }
            made => made.map(|()| true),
        }
    }

    /// Whether a step has begun and not ended.
    pub fn is_in_step(&self) -> bool {
        self.step.is_some()
    }

    /// Where a sync that begins now may say that the log is durable up to.
    pub(super) fn settled_end(&self) -> u64 {
        self.step.as_ref().map_or(self.end(), |step| step.start)
    }

    /// Forgets which messages of an empty queue are gone, where the cursor may say that all are.
    pub(super) fn forget_gone(&mut self) {
        if self.live_count == 0 && self.step.is_none() && !self.has_unsettled_step() {
            self.removed.clear();
            self.relocated.clear();
            self.states.clear();
            self.head = self.next_sequence;
        }
    }
}
