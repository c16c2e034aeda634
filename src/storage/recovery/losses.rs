//! How many messages damage has taken.
//!
//! Numbers tell: of those between the last message before damage and the first one behind it, all
//! are lost that were not removed and have no copy. Where the messages before it are not there any
//! more, because their segments are dead or missing, nothing tells the number of the last one. Then
//! the damage counts: each record whose head can be believed, and of other bytes as many messages
//! as find room in them, each as large as the first one behind.

use super::super::error::StorageError;
use super::super::layout::{FIRST_SEQUENCE, MESSAGE_HEAD};
use super::super::record::{Kind, Verdict};
use super::records::Recovery;
use std::collections::BTreeMap;
use std::ops::Range;

/// What is damaged or not there, behind the last message that was read.
#[derive(Default)]
struct Gap {
    /// Messages whose heads can be believed.
    messages: u64,
    /// Bytes that say nothing of themselves.
    bytes: u64,
}

/// What damage has taken as far as the log has been read.
#[derive(Default)]
pub(super) struct Losses {
    gap: Option<Gap>,
    /// One more than the highest number of a pushed message so far; 0 before the first one.
    pub(super) numbered_to: u64,
    /// Whether messages were pushed before the first position that counts.
    has_forgotten: bool,
    /// Numbers of messages that damage has taken, but for those that were removed or copied.
    missing: Vec<Range<u64>>,
    /// Of copies that damage has taken, the number and where it was copied from.
    copies: BTreeMap<u64, u64>,
}

impl Losses {
    /// Those of a log whose positions count from `oldest` on, and whose first segment begins at
    /// `first`.
    pub(super) fn from(oldest: u64, first: u64) -> Losses {
        let mut losses = Losses { has_forgotten: oldest > 0, ..Losses::default() };
        if oldest < first {
            losses.note_bytes(first - oldest);
        }
        losses
    }

    /// Notes that so many bytes of the log are damaged or not there.
    pub(super) fn note_bytes(&mut self, bytes: u64) {
        let gap = self.gap.get_or_insert_default();
        gap.bytes = gap.bytes.saturating_add(bytes);
    }

    /// A message that was pushed has the number `next` and a record of `size` bytes: those before
    /// it were between damage. `span` is how many bytes all records may have.
    fn note_missing(&mut self, next: u64, size: u64, head: u64, span: u64) {
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

    fn is_missing(&self, number: u64) -> bool {
        self.missing.iter().any(|numbers| numbers.contains(&number))
    }
}

impl Recovery {
    /// Notes the damage from `start` to `end` in segment `index`, where no record is whole.
    pub(super) fn note_damage(
        &mut self,
        index: usize,
        start: u64,
        end: u64,
    ) -> Result<(), StorageError> {
        let segment = &self.log.segments[index];
        let mut position = start;
        let gap = self.losses.gap.get_or_insert_default();
        while position < end
            && let bytes = segment.bytes_from(position)?
            && let Some(record) = segment.codec.believed(bytes, position, end)
        {
            match record.kind {
                Kind::Message => gap.messages += 1,
                Kind::Copy => {
                    self.losses.copies.insert(record.sequence, record.origin);
                }
                Kind::Removal | Kind::Other(_) => {}
            }
            position += record.size() as u64;
        }
        gap.bytes = gap.bytes.saturating_add(end.saturating_sub(position));
        Ok(())
    }

    /// The next message has the number `next` and a record of `size` bytes.
    pub(super) fn note_missing(&mut self, next: u64, size: u64) {
        let segments = &self.log.segments;
        let span = segments[segments.len() - 1].end().saturating_sub(segments[0].base);
        self.losses.note_missing(next, size, self.log.head, span);
    }

    /// Messages that damage has taken: those missing that nobody removed and that have no copy, and
    /// those whose only record was a copy.
    pub(super) fn lost_count(&mut self) -> Result<u64, StorageError> {
        let (log, losses) = (&self.log, &self.losses);
        let lengths = losses.missing.iter().map(|numbers| numbers.end - numbers.start);
        let all = lengths.fold(0, u64::saturating_add);
        let removed: u64 = losses.missing.iter().map(|it| log.removed.count_within(it)).sum();
        let copied = losses.missing.iter().map(|numbers| {
            let mut copies = 0;
            let mut from = numbers.start;
            while let Some((number, _)) = log.relocated.next(from)
                && number < numbers.end
            {
                (copies, from) = (copies + 1, number + 1);
            }
            copies
        });
        let pushed = all.saturating_sub(removed).saturating_sub(copied.sum());
        Ok(pushed.saturating_add(self.lost_copies()?))
    }

    /// Copies that were damaged and are the only records of their messages.
    fn lost_copies(&mut self) -> Result<u64, StorageError> {
        let mut lost = 0;
        for (number, origin) in std::mem::take(&mut self.losses.copies) {
            self.bound_mappings()?;
            let is_gone = number < self.log.head || self.log.removed.contains(number);
            let is_known = self.log.relocated.get(number).is_some();
            let is_counted = is_known || self.losses.is_missing(number);
            if !is_gone && !is_counted && !self.is_at(number, origin)? {
                lost += 1;
            }
        }
        Ok(lost)
    }

    /// Whether a whole record of message `number` stands at `position`.
    fn is_at(&self, number: u64, position: u64) -> Result<bool, StorageError> {
        let segments = &self.log.segments;
        let index = segments.partition_point(|segment| segment.base <= position);
        let Some(index) = index.checked_sub(1) else { return Ok(false) };
        Ok(match segments[index].decode(position)? {
            Verdict::Whole(record) => record.sequence == number,
            _ => false,
        })
    }
}
