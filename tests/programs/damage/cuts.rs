//! Every length that a file may be cut to.

use super::drill::{Case, run, tries_all};
use super::image::{RECORDS, SECTOR, SLOT_SIZE, Segment};
use super::large::{large_queue, some_of};
use super::moves::without;
use super::oracle::{Expected, Left, recover};
use super::world::{Queue, whole_queues};
use crate::random::Random;
use mq::storage::Label;
use std::collections::BTreeSet;

/// A file of a queue that is cut to this length.
struct Cut {
    queue: usize,
    segment: usize,
    length: usize,
}

/// What has to come of it. `bytes`: of the whole file.
fn expected(segments: &[Segment], cut: &Cut, bytes: &[u8]) -> Expected {
    let segment = &segments[cut.segment];
    let (file, length) = (segment.file.as_str(), cut.length);
    if length == 0 {
        let mut expected = without(segments, cut.segment);
        expected.say(Label::UnbornSegment, file);
        return expected;
    }
    let mut left: Vec<Left> = segments.iter().map(Left::of).collect();
    let here = &mut left[cut.segment];
    here.lose_footer();
    here.slots.retain(|slot| slot.offset + SLOT_SIZE <= length);
    here.records.retain(|record| record.offset + record.size <= length);
    let next = segment.records.get(here.records.len());
    // Part of a record is left, unless that part is zero.
    let part = next.map(|next| (next.offset, bytes.get(next.offset..length).unwrap_or_default()));
    let bad = part.filter(|(_, part)| part.iter().any(|byte| *byte != 0));
    here.bad.extend(bad.map(|(offset, _)| offset));
    let mut expected = recover(left);
    match length {
        _ if length < SECTOR => expected.say(Label::RottenHeader, file),
        _ if length < segment.size => expected.say(Label::ShortSegment, file),
        _ if length > segment.size => expected.say(Label::BadFooter, file),
        // A segment without a footer is a usual one.
        _ => {}
    }
    if length < segment.size {
        // What else is known of what was there: how far it went, and that there was a cursor.
        expected.may = [Label::LostEnd, Label::LostCursor, Label::NoCursor].into();
    }
    expected
}

/// Lengths around everything that begins or ends somewhere.
fn boundaries(segment: &Segment) -> BTreeSet<usize> {
    let sectors = (0..=RECORDS).step_by(SECTOR);
    let slots = (SECTOR..RECORDS).step_by(SECTOR).map(|slot| slot + SLOT_SIZE);
    let records = segment
        .records
        .iter()
        .flat_map(|record| [0, 4, 8, 40, 48, 56].map(|inside| record.offset + inside));
    let ends = [segment.end(), segment.end() + 32, segment.size, segment.size + 64, segment.length];
    let all = sectors.chain(slots).chain(records).chain(ends);
    all.flat_map(|length| [length.saturating_sub(1), length, length + 1]).collect()
}

fn cuts(queues: &[(Queue, Vec<Segment>)]) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for (queue, (_, segments)) in queues.iter().enumerate() {
        for (segment, whole) in segments.iter().enumerate() {
            let boundaries = boundaries(whole);
            let is_tried = |length: &usize| {
                tries_all() || length.is_multiple_of(256) || boundaries.contains(length)
            };
            let lengths = (0..whole.length).filter(is_tried);
            cuts.extend(lengths.map(|length| Cut { queue, segment, length }));
        }
    }
    cuts
}

#[test]
fn a_cut_file_costs_what_was_behind_the_cut() {
    let queues = whole_queues();
    try_cuts(&queues, &cuts(&queues));
}

#[test]
fn a_cut_file_of_a_large_queue_costs_what_was_behind_the_cut() {
    let mut random = Random::seeded();
    let queues = [large_queue(&mut random)];
    try_cuts(&queues, &some_of(cuts(&queues), 20, 1000, &mut random));
}

fn try_cuts(queues: &[(Queue, Vec<Segment>)], cuts: &[Cut]) {
    run(cuts, |cut| {
        let (queue, segments) = &queues[cut.queue];
        let file = &segments[cut.segment].file;
        let expected = expected(segments, cut, &queue.files[file]);
        let mut files = queue.files.clone();
        files.get_mut(file).unwrap().truncate(cut.length);
        Case::of(format!("{}/{file} cut to {}", queue.folder, cut.length), queue, files, expected)
    });
}
