//! Rule 5: how many messages damage has taken, where older segments are gone.

use super::bench::*;

const SEGMENT_SIZE: u64 = 8 * 1024;

/// A body of 104 bytes: all messages here have records of one size.
const RECORD: usize = 48 + 104;

/// Messages of which the oldest is a copy, in segments of which the oldest begins with a message:
/// the segment that the first messages were pushed into is long dead.
fn behind_dead_segments() -> Bench {
    let mut bench = Bench::new(SEGMENT_SIZE);
    for number in 0..2000 {
        bench.push(format!("{number:0104}"));
        if bench.log.len() > 40 {
            let (place, _) = bench.log.next(BEFORE_FIRST + 2).unwrap().unwrap();
            bench.log.remove(place).unwrap();
        }
        while bench.log.copy_forward().unwrap() {}
        bench.sync();
        let start = bench.log.segments().next().unwrap().records_start();
        let places = bench.places();
        let is_copied = places[0].0 == 1 && places[0].1 > start;
        if is_copied && places[1].1 == start {
            return bench;
        }
    }
    panic!("no segment begins with a message");
}

fn flip_bit(files: &Files, (name, offset): &(String, usize), bit: usize) -> Files {
    let mut files = files.clone();
    files.get_mut(name).unwrap()[offset + bit / 8] ^= 1 << (bit % 8);
    files
}

/// All numbers from the oldest message's on were counted, though their messages had been removed.
#[test]
fn rule_05_a_rotten_first_record_behind_dead_segments_is_one_lost_message() {
    let mut bench = behind_dead_segments();
    let (len, places, files) = (bench.log.len(), bench.places(), bench.files());
    let first = bench.file_of(places[1].1);
    assert!(places[1].0 - places[0].0 > 100, "{} and {}", places[0].0, places[1].0);
    for bit in (0..RECORD * 8).step_by(11) {
        let bench = Bench::of(&flip_bit(&files, &first, bit), SEGMENT_SIZE);
        assert_eq!((bench.log.len(), bench.count("damaged_records")), (len - 1, 1), "bit {bit}");
        assert_eq!(bench.count("lost_messages"), 1, "bit {bit}");
    }
}

/// Nothing was counted: the copy has a number that is not missing between others.
#[test]
fn rule_05_a_rotten_copy_is_a_lost_message() {
    let mut bench = behind_dead_segments();
    let (len, places, files) = (bench.log.len(), bench.places(), bench.files());
    let copy = bench.file_of(places[0].1);
    let bench = Bench::of(&flip_bit(&files, &copy, 60 * 8), SEGMENT_SIZE);
    assert_eq!((bench.log.len(), bench.count("lost_messages")), (len - 1, 1));
}

/// Nothing was counted where the missing segment was the oldest.
#[test]
fn rule_05_messages_of_a_missing_oldest_segment_are_counted() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    (0..300).for_each(|number| bench.push(format!("{number:0104}")));
    while bench.log.segments().next().unwrap().base == 0 {
        bench.pop().unwrap();
        bench.sync();
    }
    let (len, mut files) = (bench.log.len(), bench.files());
    files.remove(&bench.file_of(bench.log.segments().next().unwrap().base).0).unwrap();
    let bench = Bench::of(&files, SEGMENT_SIZE);
    assert!(bench.log.len() < len);
    assert_eq!(bench.log.len() + bench.count("lost_messages"), len);
    // Behind a copy, nobody knows how many of that segment's messages had been removed.
    let bench = behind_dead_segments();
    let (mut files, oldest) = (bench.files(), bench.log.segments().next().unwrap());
    let (base, size) = (oldest.base, oldest.size);
    files.remove(&bench.file_of(base).0).unwrap();
    let bench = Bench::of(&files, SEGMENT_SIZE);
    let lost_count = bench.count("lost_messages");
    assert!((1..=size.div_ceil(RECORD as u64)).contains(&lost_count), "{lost_count}");
}
