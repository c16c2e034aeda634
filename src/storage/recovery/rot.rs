//! Bad bytes in a log that is put together: torn, or rotten.

use super::super::error::StorageError;
use super::super::footer::Sealed;
use super::super::layout::POSITION_MAX;
use super::super::record::Fault;
use super::super::walk::{Step, Walk};
use super::records::{Recovery, sealed};

impl Recovery {
    /// Torn is not rotten (rule 5): what was durable was whole once. At `position` there is
    /// something bad, or a step begins whose end is not there; whole records go on at `resumes`, if
    /// they do in this segment. Where a record of a newer format follows, nothing is cut: the log
    /// is read on to it, and then refused.
    pub(super) fn is_rotten(
        &mut self,
        index: usize,
        position: u64,
        resumes: Option<u64>,
    ) -> Result<bool, StorageError> {
        if position < self.durable || self.with_cursor.is_some_and(|newest| newest > index) {
            return Ok(true);
        }
        if let Some(resumes) = resumes {
            let segment = &self.log.segments[index];
            let rest = Walk::new(&segment.codec, segment.bytes_from(resumes)?, resumes);
            let says_so = |step| match step {
                Step::Whole(_, record) => (position + 1..=POSITION_MAX).contains(&record.durable),
                damage => is_newer(&damage),
            };
            if rest.into_iter().any(says_so) {
                return Ok(true);
            }
        }
        // A segment is synced before its successor gets a record.
        for index in index + 1..self.log.segments.len() {
            if self.has_records(index)? {
                return Ok(true);
            }
            self.bound_mappings()?;
        }
        Ok(false)
    }

    /// Whether anything is left of what a segment held.
    fn has_records(&self, index: usize) -> Result<bool, StorageError> {
        let segment = &self.log.segments[index];
        let start = segment.records_start();
        let mut walk = Walk::new(&segment.codec, segment.bytes_from(start)?, start);
        let is_whole = walk.any(|step| matches!(step, Step::Whole(..)) || is_newer(&step));
        Ok(is_whole || matches!(sealed(segment)?, Sealed::With(_)))
    }
}

fn is_newer(step: &Step<'_>) -> bool {
    matches!(step, Step::Damage { fault: Fault::Newer(_), .. })
}
