//! How many messages damage has taken.
//!
//! Numbers tell: of those between the last message before damage and the first one behind it, all
//! are lost that were not removed and have no copy. Where the messages before it are not there any
//! more, because their segments are dead or missing, nothing says the number of the last one. Then
//! the damage counts: each record whose head can be believed, and of other bytes as many messages
//! as find room in them, each as large as the first one behind.

use super::super::layout::{FIRST_SEQUENCE, MESSAGE_HEAD};
use std::collections::BTreeMap;
use std::ops::Range;

/// What is damaged or not there, behind the last message that was read.
#[derive(Default)]
pub(super) struct Gap {
    /// Messages whose heads can be believed.
    pub(super) messages: u64,
    /// Bytes that say nothing of themselves.
    pub(super) bytes: u64,
}

/// What damage has taken as far as the log has been read.
#[derive(Default)]
pub(super) struct Losses {
    pub(super) gap: Option<Gap>,
    /// One more than the highest number of a pushed message so far; 0 before the first one.
    pub(super) numbered_to: u64,
    /// Whether messages were pushed before the first position that counts.
    has_forgotten: bool,
    /// Numbers of messages that damage has taken, but for those that were removed or copied.
    pub(super) missing: Vec<Range<u64>>,
    /// Of copies that damage has taken, the number and where it was copied from.
    pub(super) copies: BTreeMap<u64, u64>,
}

impl Losses {
    /// Those of a log whose positions count from `oldest` on.
    pub(super) fn from(oldest: u64) -> Losses {
        Losses { has_forgotten: oldest > 0, ..Losses::default() }
    }

    /// Notes that `bytes` bytes of the log are damaged or missing.
    pub(super) fn note_bytes(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let gap = self.gap.get_or_insert_default();
        gap.bytes = gap.bytes.saturating_add(bytes);
    }

    /// A message that was pushed has the number `next` and a record of `size` bytes: those before
    /// it were between damage. `span` is how many bytes all records may have.
    pub(super) fn note_missing(&mut self, next: u64, size: u64, head: u64, span: u64) {
        let Some(gap) = self.gap.take() else { return };
        let first = if next >= FIRST_SEQUENCE { FIRST_SEQUENCE } else { 1 };
        let most = match self.numbered_to == 0 && self.has_forgotten {
            true => gap.messages.saturating_add(gap.bytes.div_ceil(size)),
            // In version 1 a body may pass for a record behind damage, with any number.
            false => span / MESSAGE_HEAD as u64,
        };
        let from = self.numbered_to.max(head).max(first).max(next.saturating_sub(most));
        if from < next {
            self.missing.push(from..next);
        }
    }

    pub(super) fn is_missing(&self, number: u64) -> bool {
        self.missing.iter().any(|numbers| numbers.contains(&number))
    }
}
