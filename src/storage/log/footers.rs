//! Writing footers behind sealed segments (rule 14), a slice at a time and off the request path.
//!
//! A segment that is dead, or damaged, or whose footer finds no room, goes without: what a footer
//! is for can always be read from the records.

use super::super::footer::Footer;
use super::super::index::BodyHash;
use super::super::segment::FooterState;
use super::super::walk::Step;
use super::Log;
use super::sync::SyncWork;
use std::fs::OpenOptions;

/// Records that one slice looks at.
const SLICE: usize = 4096;

/// A footer in the making, and the base of its segment.
#[derive(Debug)]
pub(super) struct Draft {
    base: u64,
    footer: Footer,
}

impl Log {
    /// Whether a sealed segment waits for its footer.
    pub fn wants_footer(&self) -> bool {
        self.next_without_footer().is_some()
    }

    fn next_without_footer(&self) -> Option<usize> {
        (0..self.tail).find(|index| {
            let segment = &self.segments[*index];
            segment.footer == FooterState::Absent && segment.live_count > 0
        })
    }

    /// Drafts a slice of the oldest missing footer. When that is whole: the work that writes it, to
    /// be run without the log's lock.
    pub fn draft_footer(&mut self) -> Option<SyncWork> {
        let index = self.next_without_footer()?;
        let (base, start) = (self.segments[index].base, self.segments[index].records_start());
        let mut draft = match self.draft.take() {
            Some(draft) if draft.base == base => draft,
            _ => Draft { base, footer: Footer::new(start) },
        };
        let mut is_damaged = false;
        match self.walk(draft.footer.records_end) {
            Err(_) => is_damaged = true,
            Ok(walk) => {
                for step in walk.take(SLICE) {
                    match step {
                        Step::Whole(_, record) => {
                            let hash = BodyHash::new(&self.hash_key, record.body);
                            draft.footer.add(&record, hash);
                        }
                        Step::Damage { .. } => is_damaged = true,
                    }
                }
            }
        }
        let segment = &mut self.segments[index];
        if is_damaged {
            segment.footer = FooterState::GivenUp;
        } else if draft.footer.records_end < segment.records_end {
            self.draft = Some(draft);
        } else {
            // Opened here: by the time of writing the path may lead to another queue's file.
            let file = OpenOptions::new().write(true).open(&segment.path);
            let size = segment.size;
            segment.footer = FooterState::Written;
            return Some(Box::new(move || draft.footer.write(&file?, base, size)));
        }
        None
    }
}
