//! What has to come of a damage: written from `storage-format.md`, and as simply as it can be.
//!
//! A case says what it has destroyed. What is left is live by the table of the section "What is
//! live": a message is delivered if it was pushed, its number is not below the head, no removal
//! names it, and one whole record of it is left.

use super::image::{MESSAGE, RECORDS, REMOVAL, Record, Segment, Slot};
use mq::storage::Label;
use std::collections::BTreeSet;

/// A segment, as far as it is left.
#[derive(Clone, Debug)]
pub struct Left {
    pub whole: Segment,
    /// Slots that are valid.
    pub slots: Vec<Slot>,
    /// Records that are whole.
    pub records: Vec<Record>,
    /// Records that a footer names though they are not whole.
    pub told: Vec<Record>,
    /// Offsets at which bytes stand that are neither a whole record nor the zeros of the end.
    pub bad: Vec<usize>,
}

impl Left {
    /// All of it.
    pub fn of(segment: &Segment) -> Left {
        Left {
            whole: segment.clone(),
            slots: segment.slots.clone(),
            records: segment.records.clone(),
            told: Vec::new(),
            bad: Vec::new(),
        }
    }

    /// Record `index` is damaged.
    pub fn lose_record(&mut self, index: usize) {
        let record = self.whole.records[index];
        self.records.retain(|left| left.offset != record.offset);
        self.bad.push(record.offset);
        if self.whole.has_footer() {
            self.told.push(record);
        }
    }

    /// Its footer is damaged, or is not looked at.
    pub fn lose_footer(&mut self) {
        self.told.clear();
        self.whole.length = self.whole.size;
    }

    fn position(&self, offset: usize) -> u64 {
        self.whole.base + offset as u64
    }
}

/// What is to be expected.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Numbers of the messages that are delivered.
    pub delivered: Vec<u64>,
    /// What verifying says: labels and files.
    pub said: BTreeSet<(Label, String)>,
    /// Labels that may be said as well.
    pub may: BTreeSet<Label>,
}

impl Expected {
    pub fn say(&mut self, label: Label, file: &str) {
        self.said.insert((label, file.into()));
    }
}

/// The name of the segment at `base`.
pub fn file_at(base: u64) -> String {
    format!("{base:020}.seg")
}

/// The newest valid slot of all segments.
fn cursor(segments: &[Left]) -> Option<Slot> {
    segments.iter().flat_map(|left| &left.slots).max_by_key(|slot| slot.generation).copied()
}

/// What is said of segment `index` when it has no valid slot left, though it is the newest in use:
/// that a sync had made one durable, or that there is no cursor at all.
pub fn lost_cursor(segments: &[Left], index: usize) -> Option<Label> {
    let is_used = |left: &Left| !left.records.is_empty() || !left.slots.is_empty();
    let is_newest = !segments[index + 1..].iter().any(is_used);
    if !is_newest || !segments[index].slots.is_empty() {
        return None;
    }
    let has_cursor = cursor(segments).is_some();
    let start = segments[index].position(RECORDS);
    let records = segments.iter().flat_map(|left| left.records.iter().chain(&left.told));
    let durable = records.map(|record| record.durable).max().unwrap_or(0);
    let is_lost = durable > start || (!has_cursor && durable > 0);
    if is_lost { Some(Label::LostCursor) } else { (!has_cursor).then_some(Label::NoCursor) }
}

/// Whether bad bytes were durable: the section "Bad bytes".
fn is_rotten(segments: &[Left], index: usize, offset: usize) -> bool {
    let position = segments[index].position(offset);
    let durable = cursor(segments).map_or(0, |slot| slot.durable);
    let said_before = segments[..=index].iter().flat_map(|left| {
        let records = left.records.iter().chain(&left.told);
        records.filter(|record| left.position(record.offset) < position)
    });
    let said_behind = segments[index].records.iter().filter(|record| record.offset > offset);
    durable > position
        || said_before.chain(said_behind).any(|record| record.durable > position)
        || segments[index + 1..].iter().any(|newer| {
            let starts_whole = newer.records.first().is_some_and(|first| {
                newer.whole.records.first().is_some_and(|whole| whole.offset == first.offset)
            });
            !newer.slots.is_empty() || starts_whole
        })
}

/// What recovery makes of what is left of a queue's segments. What a case has to say of files as a
/// whole, of slots and footers, it adds itself.
pub fn recover(mut segments: Vec<Left>) -> Expected {
    let mut expected = Expected::default();
    let cursor = cursor(&segments);
    let (head, oldest) = cursor.map_or((1, 0), |slot| (slot.head, slot.oldest));
    segments.retain(|left| left.whole.base >= oldest);
    // An older cursor may count, and what was the oldest segment then may have gone since.
    if segments.first().is_some_and(|left| cursor.is_some() && left.whole.base > oldest) {
        expected.say(Label::MissingSegment, &file_at(oldest));
    }
    'all: for index in 0..segments.len() {
        for offset in segments[index].bad.clone() {
            let file = segments[index].whole.file.clone();
            if is_rotten(&segments, index, offset) {
                expected.say(Label::RottenRecord, &file);
                continue;
            }
            expected.say(Label::TornTail, &file);
            segments.truncate(index + 1);
            segments[index].records.retain(|record| record.offset < offset);
            break 'all;
        }
    }
    let records = || segments.iter().flat_map(|left| &left.records);
    let told = segments.iter().flat_map(|left| &left.told);
    // A footer is believed about removals, and about which record of a message is the last one.
    let hidden: BTreeSet<u64> = records()
        .filter(|record| record.kind == REMOVAL)
        .chain(told.filter(|record| record.kind != MESSAGE))
        .map(|record| record.number)
        .collect();
    let pushed: BTreeSet<u64> = records()
        .filter(|record| record.kind != REMOVAL && record.number >= head)
        .map(|record| record.number)
        .collect();
    expected.delivered = pushed.difference(&hidden).copied().collect();
    expected
}
