//! How many segments of a log are mapped: each look at one makes a mapping, and a process may have
//! 65,530.

use super::super::bus_error::watched_count;
use super::super::mapping::queue_share;
use super::Log;
use std::sync::atomic::Ordering;

/// The most segments of a queue that are mapped at a time, with a few more in between.
const MAPPINGS_MAX: usize = 32;

/// The most where all queues together have more than [`MANY_MAPPINGS`].
const MAPPINGS_LEAST: usize = 2;

/// Mappings of all queues that are half of what a process may have.
const MANY_MAPPINGS: usize = 32_768;

impl Log {
    /// Lets go of mappings when there are too many.
    pub(in super::super) fn bound_mappings(&mut self) {
        if self.has_mappings_above(MAPPINGS_MAX) {
            self.let_go_of_mappings();
        }
    }

    /// True when more than `most` segments are mapped, besides those that are kept, or fewer where
    /// all queues together have many.
    pub(in super::super) fn has_mappings_above(&self, most: usize) -> bool {
        let few = watched_count() < MANY_MAPPINGS;
        let limit = if few { most } else { MAPPINGS_LEAST };
        self.home.mappings().load(Ordering::Relaxed) > self.kept_count() + limit
    }

    /// Lets go of all mappings but the newest segment's and those that are kept.
    pub(in super::super) fn let_go_of_mappings(&mut self) {
        let kept = self.kept_count();
        for (index, segment) in self.segments.iter_mut().enumerate().skip(kept) {
            if index != self.tail {
                segment.unmap();
            }
        }
    }

    /// A log that is only read keeps its oldest segments mapped: a daemon unlinks these first.
    fn kept_count(&self) -> usize {
        if self.settings.is_read_only() { queue_share() } else { 0 }
    }
}
