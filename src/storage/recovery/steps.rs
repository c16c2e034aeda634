//! Steps while a log is put together: their records count together, or are cut together (rule 20).

use super::super::error::StorageError;
use super::super::finding::Label;
use super::records::{Recovery, Seen};

impl Recovery {
    /// Takes a record that was read: it counts once its step is finished.
    pub(super) fn take(&mut self, index: usize, seen: Seen) -> Result<(), StorageError> {
        if seen.has_more {
            self.claim(seen.durable);
            self.unfinished.push(seen);
            return Ok(());
        }
        self.settle_step(index)?;
        self.account(index, &seen)
    }

    /// What is there of a step counts.
    pub(super) fn settle_step(&mut self, index: usize) -> Result<(), StorageError> {
        if self.unfinished.is_empty() {
            return Ok(());
        }
        std::mem::take(&mut self.unfinished).iter().try_for_each(|seen| self.account(index, seen))
    }

    /// The records of a segment have come to an end. Returns false if they end with an unfinished
    /// step, which is cut.
    pub(super) fn finish_step(&mut self, index: usize) -> Result<bool, StorageError> {
        let Some(first) = self.unfinished.first() else { return Ok(true) };
        let position = first.position;
        if self.is_rotten(index, position, None)? {
            // It was finished, and its last record is what is missing.
            self.settle_step(index)?;
            return Ok(true);
        }
        let offset = position - self.log.segments[index].base;
        let found = format!("its first {} only", self.unfinished.len());
        self.unfinished.clear();
        self.find(index, offset, Label::TornTail, "all records of a step", found)?;
        Ok(false)
    }
}
