//! Rules 1 to 4: numbers, positions, checksums, and nothing behind the end.

use super::bench::*;
use crate::random::Random;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;

/// A log whose oldest message has been copied forward, with the others popped or removed around it.
fn with_a_moved_message() -> Bench {
    let mut bench = Bench::new(16 * 1024);
    bench.push("old");
    for number in 0..1000 {
        bench.push(format!("{number:0100}"));
    }
    for number in 0..950 {
        assert!(bench.remove(format!("{number:0100}")));
    }
    bench.log.copy_forward().unwrap();
    bench.sync();
    bench
}

#[test]
fn rule_01_delivery_is_in_the_order_of_numbers_wherever_the_records_lie() {
    let mut bench = with_a_moved_message();
    for _ in 0..2 {
        let places = bench.places();
        assert_eq!((places.len(), &places[0].2[..]), (51, &b"old"[..]));
        assert_eq!(places[0].0, 1, "its number moved with it");
        assert!(places[0].1 > places[50].1, "it lies behind messages that come after it");
        assert!(places.is_sorted_by(|one, next| one.0 < next.0));
        bench = bench.reopen();
    }
    assert_eq!(bench.pop().as_deref(), Some(&b"old"[..]));
}

#[test]
fn rule_01_a_number_is_never_given_twice() {
    let mut bench = Bench::new(16 * 1024);
    let mut last = 0;
    for round in 0..50 {
        for number in 0..20 {
            bench.push(format!("{round} {number:0200}"));
        }
        for (sequence, _, _) in bench.places() {
            assert!(sequence > last, "{sequence} after {last}");
            last = sequence;
        }
        while bench.pop().is_some() {}
        if round % 3 == 0 {
            bench.sync();
        }
        bench = bench.reopen();
    }
}

#[test]
fn rule_02_a_file_is_named_by_its_position_and_keeps_its_name() {
    let mut random = Random::seeded();
    let mut bench = Bench::new(16 * 1024);
    let mut seen: BTreeMap<String, bool> = BTreeMap::new();
    for step in 0..4000_u64 {
        match random.below(3) {
            0 => drop(bench.pop()),
            _ => bench.push(vec![b'x'; random.below(700) as usize]),
        }
        if step % 50 > 0 {
            continue;
        }
        bench.sync();
        let files = bench.files();
        let mut end = None;
        for (name, bytes) in &files {
            let base = u64::from_le_bytes(*bytes[HEADER_BASE..].first_chunk().unwrap());
            assert_eq!(*name, format!("{base:020}.seg"), "the header says where it is");
            assert!(end.is_none_or(|end| end == base), "a gap before {base}");
            let is_new = !seen.contains_key(name);
            assert!(!is_new || seen.keys().all(|older| older < name), "{name} comes too late");
            assert!(is_new || seen[name], "{name} is back");
            let segment = bench.log.segments().find(|segment| segment.base == base).unwrap();
            end = Some(base + segment.size);
        }
        seen = seen.into_keys().chain(files.keys().cloned()).map(|name| (name, false)).collect();
        seen.extend(files.into_keys().map(|name| (name, true)));
    }
    assert!(seen.values().filter(|is_there| !**is_there).count() > 10, "no file went");
}

#[test]
fn rule_03_a_stale_record_at_another_position_is_refused() {
    let mut bench = Bench::new(16 * 1024);
    for body in ["one", "two", "six"] {
        bench.push(body);
    }
    let places = bench.places();
    let size = (places[1].1 - places[0].1) as usize;
    let (name, first) = bench.file_of(places[0].1);
    let end = first + 3 * size;
    let mut files = bench.files();
    let bytes = files.get_mut(&name).unwrap();
    // What a page that was written late, or a block of an older file, could put there.
    bytes.copy_within(first..first + size, end);
    let mut bench = Bench::of(&files, 16 * 1024);
    assert_eq!(bench.bodies(), [b"one", b"two", b"six"]);
    assert_eq!((bench.count("torn_tails"), bench.count("damaged_records")), (1, 0));
}

/// Pages of a mapping reach the disk in any order: the second record did not, the third did.
#[test]
fn rule_04_a_record_behind_a_hole_does_not_come_back_from_the_dead() {
    let mut bench = Bench::new(16 * 1024);
    for body in ["one", "two", "six"] {
        bench.push(body);
    }
    let places = bench.places();
    let (name, second) = bench.file_of(places[1].1);
    let size = (places[2].1 - places[1].1) as usize;
    let mut files = bench.files();
    files.get_mut(&name).unwrap()[second..second + size].fill(0);
    let mut bench = Bench::of(&files, 16 * 1024);
    assert_eq!(bench.bodies(), [b"one"]);
    let files = bench.files();
    assert!(files[&name][second..].iter().all(|byte| *byte == 0), "the tail is not zero");
    // The new record has the dead one's length: behind it the log would go on.
    bench.push("new");
    let mut bench = bench.reopen();
    assert_eq!(bench.bodies(), [b"one", b"new"]);
}

/// Most of a new segment has never been written, and is not read: what has been written there is.
#[test]
fn rule_04_bytes_far_behind_the_end_are_zeroed() {
    let size = 4 << 20;
    for offsets in [&[size / 2][..], &[size - 1], &[size / 2, size - 1]] {
        let mut bench = Bench::new(size as u64);
        while bench.log.segments().last().unwrap().size < size as u64 {
            bench.push(vec![b'x'; 100_000]);
        }
        let newest = bench.log.segments().last().unwrap();
        let end = (newest.records_end - newest.base) as usize;
        assert!(end < size / 4, "the segment has just begun");
        let path = newest.path.clone();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        for offset in offsets {
            file.write_all_at(b"x", *offset as u64).unwrap();
        }
        let _bench = bench.reopen();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), size);
        assert!(bytes[end..].iter().all(|byte| *byte == 0), "{offsets:?} of {size}");
    }
}

/// A segment that waits for its first record: what a crash has left in its slots, too.
#[test]
fn rule_04_bytes_in_a_segment_without_records_are_zeroed() {
    for offset in [SECTOR + 9, RECORDS - 1, RECORDS + 9] {
        let mut bench = Bench::new(16 * 1024);
        bench.push("first");
        while bench.log.segments().last().unwrap().record_bytes() > 0 {
            bench.push("message");
        }
        let (count, path) =
            (bench.bodies().len(), bench.log.segments().last().unwrap().path.clone());
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"x", offset as u64).unwrap();
        let mut bench = bench.reopen();
        let bytes = fs::read(&path).unwrap();
        assert!(bytes[SECTOR..].iter().all(|byte| *byte == 0), "{offset}");
        assert_eq!(bench.bodies().len(), count);
    }
}
