//! What damage has taken, against what the log knows: what was removed or copied is not lost.

use super::super::error::StorageError;
use super::super::record::{Kind, Verdict};
use super::records::Recovery;

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
                Kind::Removal | Kind::State | Kind::Other(_) => {}
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
