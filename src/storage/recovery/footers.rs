//! Footers against records, for whoever reads every record anyway.

use super::super::error::StorageError;
use super::super::finding::Label;
use super::super::footer::{Footer, Sealed};
use super::super::index::BodyHash;
use super::super::walk::{Step, Walk};
use super::records::Recovery;

impl Recovery {
    /// Says it when the footer of segment `index` says something else than the records. Where one
    /// of these is damaged or not there, that has been said, and the footer may be right.
    pub(super) fn compare_footer(&self, index: usize) -> Result<(), StorageError> {
        let segment = &self.log.segments[index];
        let read = Footer::read(segment);
        let read = read.map_err(|error| StorageError::io("read", &segment.path, error))?;
        let Sealed::With(footer) = read else { return Ok(()) };
        let start = segment.records_start();
        let mut drafted = Footer::new(start);
        for step in Walk::new(segment.bytes_from(start)?, start) {
            let Step::Whole(_, record) = step else { return Ok(()) };
            drafted.add(&record, BodyHash::new(&self.log.hash_key, record.body));
        }
        if footer == drafted || footer.records_end > drafted.records_end {
            return Ok(());
        }
        let same = footer.summaries(start).zip(drafted.summaries(start));
        let same_count = same.take_while(|(said, is)| said == is).count();
        let found = format!("one that is right about the first {same_count}");
        self.find(index, segment.size, Label::FalseFooter, "a footer of its records", found)
    }
}
