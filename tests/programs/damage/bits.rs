//! Every flipped bit.

use super::drill::{Case, run, tries_all};
use super::image::{self, RECORDS, SECTOR, SLOT_SIZE, Segment};
use super::large::{large_queue, some_of};
use super::oracle::{Expected, Left, lost_cursor, recover};
use super::world::{Queue, whole_queues};
use crate::random::Random;
use mq::storage::Label;

/// One byte in this many is tried: of those that mean something, and of those that mean nothing.
const MEANING: u64 = 12;
const NOTHING: u64 = 64;

/// What a byte of a segment file is.
enum Part {
    Header,
    /// A slot, by its offset; true: the slot itself, false: what is behind it in its sector.
    Slot(usize, bool),
    /// A record, by its index.
    Record(usize),
    /// Zeros behind the records.
    End,
    Footer,
}

fn part(segment: &Segment, offset: usize) -> Part {
    let holds = |record: &image::Record| offset < record.offset + record.size;
    match offset {
        _ if offset < SECTOR => Part::Header,
        _ if offset < RECORDS => {
            let slot = offset / SECTOR * SECTOR;
            Part::Slot(slot, offset - slot < SLOT_SIZE)
        }
        _ if offset >= segment.size => Part::Footer,
        _ => segment.records.iter().position(holds).map_or(Part::End, Part::Record),
    }
}

/// One bit of one file of a queue.
struct Flip {
    queue: usize,
    segment: usize,
    offset: usize,
    bit: u8,
}

/// What has to come of it.
fn expected(segments: &[Segment], flip: &Flip) -> Expected {
    let segment = &segments[flip.segment];
    let file = segment.file.as_str();
    let mut left: Vec<Left> = segments.iter().map(Left::of).collect();
    let here = &mut left[flip.segment];
    let label = match part(segment, flip.offset) {
        Part::Header => Some(Label::RottenHeader),
        Part::Slot(offset, is_slot) => {
            if is_slot {
                here.slots.retain(|slot| slot.offset != offset);
            }
            Some(lost_cursor(&left, flip.segment).unwrap_or(Label::BadSlot))
        }
        Part::Record(index) => {
            here.lose_record(index);
            None
        }
        Part::End => {
            here.bad.push(segment.end());
            None
        }
        Part::Footer => {
            here.lose_footer();
            Some(Label::BadFooter)
        }
    };
    let mut expected = recover(left);
    if let Some(label) = label {
        expected.say(label, file);
    }
    expected
}

fn flips(queues: &[(Queue, Vec<Segment>)], random: &mut Random) -> Vec<Flip> {
    let mut flips = Vec::new();
    for (queue, (_, segments)) in queues.iter().enumerate() {
        for (segment, Segment { length, .. }) in segments.iter().enumerate() {
            for offset in 0..*length {
                let means = match part(&segments[segment], offset) {
                    Part::Header => offset < 60 + 8,
                    Part::Slot(_, is_slot) => is_slot,
                    Part::Record(index) => offset < segments[segment].records[index].offset + 64,
                    Part::Footer => true,
                    Part::End => false,
                };
                let is_zeros = match part(&segments[segment], offset) {
                    Part::Record(_) => false,
                    _ => !means,
                };
                let one = random.below(8) as u8;
                let bits = match random.below(if means { MEANING } else { NOTHING }) {
                    // One of them says what the others would.
                    _ if tries_all() && is_zeros => one..one + 1,
                    _ if tries_all() => 0..8,
                    0 => one..one + 1,
                    _ => 0..0,
                };
                flips.extend(bits.map(|bit| Flip { queue, segment, offset, bit }));
            }
        }
    }
    flips
}

#[test]
fn a_flipped_bit_costs_at_most_what_it_is_in() {
    let queues = whole_queues();
    try_flips(&queues, &flips(&queues, &mut Random::seeded()));
}

#[test]
fn a_flipped_bit_of_a_large_queue_costs_at_most_what_it_is_in() {
    let mut random = Random::seeded();
    let queues = [large_queue(&mut random)];
    let flips = flips(&queues, &mut random);
    try_flips(&queues, &some_of(flips, 50, 2000, &mut random));
}

fn try_flips(queues: &[(Queue, Vec<Segment>)], flips: &[Flip]) {
    run(flips, |flip| {
        let (queue, segments) = &queues[flip.queue];
        let mut files = queue.files.clone();
        let file = &segments[flip.segment].file;
        files.get_mut(file).unwrap()[flip.offset] ^= 1 << flip.bit;
        let name = format!("{}/{file} byte {} bit {}", queue.folder, flip.offset, flip.bit);
        Case::of(name, queue, files, expected(segments, flip))
    });
}
