//! Footers against records, for a reader that reads every record anyway.

use super::super::error::StorageError;
use super::super::finding::Label;
use super::super::footer::{Footer, Sealed};
use super::records::{Recovery, sealed};

impl Recovery {
    /// Says it when the footer of segment `index` says something else than the records. Where one
    /// of these is damaged, that has been said, and the footer may be right. Records that end in
    /// zeros before the footer's are lost: the footer claims them.
    pub(super) fn compare_footer(&mut self, index: usize) -> Result<(), StorageError> {
        let segment = &self.log.segments[index];
        let Sealed::With(footer) = sealed(segment)? else { return Ok(()) };
        let Some(drafted) = Footer::of(segment, &self.log.hash_key)? else { return Ok(()) };
        let start = segment.records_start();
        let same = footer.summaries(start).zip(drafted.summaries(start));
        let same_count = same.take_while(|(said, is)| said.agrees(is)).count();
        let is_same =
            (footer.counts()[0], footer.durable) == (drafted.counts()[0], drafted.durable);
        let is_right = is_same && same_count == drafted.counts()[0];
        if footer.records_end > drafted.records_end {
            if self.zeros_from[index].is_some_and(|zeros| zeros < footer.records_end) {
                self.claims[index] = self.claims[index].max(footer.records_end);
            }
            return Ok(());
        }
        if is_right {
            return Ok(());
        }
        let found = format!("one that is right about the first {same_count}");
        self.find(index, segment.size, Label::FalseFooter, "a footer of its records", found)
    }
}
