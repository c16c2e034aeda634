//! What a look for a message passes on its way.

use crate::random::Random;
use crate::storage::codec::Codec;
use crate::storage::layout::REMOVAL_HEAD;
use crate::storage::log::Log;
use crate::storage::version::Version;
use crate::storage::waypoints::SPACING;
use crate::storage::{DataDirectory, NewMessage, Place};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

fn open(path: &Path) -> DataDirectory {
    DataDirectory::open(path, 64 << 20, true).unwrap()
}

fn push(log: &mut Log, count: u64) -> Vec<Place> {
    let message = NewMessage { body: &[7; 100], flags: 0, expires_ms: 0 };
    (0..count).map(|_| log.push(&message, 1).unwrap()).collect()
}

/// What the next look for `from` finds, and how many records it passes.
fn look(log: &mut Log, from: u64) -> (Option<u64>, u64) {
    log.take_passed();
    let found = log.next(from).unwrap().map(|(place, _)| place.sequence);
    (found, log.take_passed())
}

/// More records than these do not lie between two waypoints, where none is shorter than `length`.
fn most_passed(length: u64) -> u64 {
    SPACING / length
}

/// A page of a scan began at the start of its segment, unless one of the last few had ended there.
#[test]
fn a_look_passes_a_bounded_part_of_the_log() {
    const COUNT: u64 = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let directory = open(folder.path());
    let mut log = directory.create_log(b"q").unwrap();
    let places = push(&mut log, COUNT);
    let length = places[1].position - places[0].position;
    let mut random = Random::seeded();
    let mut expect_near = |log: &mut Log| {
        for _ in 0..1000 {
            let number = places[random.below(COUNT) as usize].sequence;
            let (found, passed) = look(log, number);
            assert!(found == Some(number) && passed <= most_passed(length), "{passed} passed");
        }
        for place in &places[..1000] {
            assert_eq!(look(log, place.sequence), (Some(place.sequence), 0), "who reads on");
        }
    };
    expect_near(&mut log);
    // A start knows the places by the footers.
    while let Some(work) = log.write_footer() {
        work().unwrap();
    }
    drop((log, directory));
    let mut logs = open(folder.path()).open_logs().unwrap();
    expect_near(&mut logs[0]);
}

/// They took the one place from each other: each page began anew at the waypoint before it.
#[test]
fn two_scans_of_one_queue_cost_twice_what_one_costs() {
    const PAGE: usize = 10;
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path()).create_log(b"q").unwrap();
    let places = push(&mut log, 20_000);
    let mut read = |readers: &[usize], page: usize| {
        let mut all_passed = 0;
        for reader in readers {
            for place in &places[reader + page * PAGE..][..PAGE] {
                let (found, passed) = look(&mut log, place.sequence);
                assert_eq!(found, Some(place.sequence));
                all_passed += passed;
            }
        }
        all_passed
    };
    for readers in [&[5050][..], &[50, 10_050], &[15_050, 50, 5050, 10_050]] {
        let begin = read(readers, 0);
        assert!(begin > 0, "each begins somewhere between two waypoints");
        let passed: u64 = (1..50).map(|page| read(readers, page)).sum();
        assert_eq!(passed, 0, "{readers:?} read on, page by page in turns");
    }
}

/// The pop that came to them went through the numbers of all that had been removed behind it.
#[test]
fn messages_that_are_removed_in_a_row_are_passed_in_one_step() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path()).create_log(b"q").unwrap();
    let places = push(&mut log, 10_000);
    let (first, last) = (places[0], places[9999]);
    for is_odd in [true, false] {
        let is_wanted = |place: &&Place| (place.sequence % 2 == 1) == is_odd;
        for place in places[1..9999].iter().filter(is_wanted) {
            log.remove(*place).unwrap();
        }
        assert_eq!(log.removed.len(), if is_odd { 4999 } else { 1 });
    }
    log.remove(first).unwrap();
    assert_eq!((log.head, log.removed.len()), (last.sequence, 0));
    let (found, passed) = look(&mut log, 0);
    assert!(found == Some(last.sequence) && passed <= most_passed(REMOVAL_HEAD as u64), "{passed}");
}

/// Each page of a scan that began among them would have read the damage again.
#[test]
fn what_damage_has_taken_is_looked_for_once() {
    const COUNT: u64 = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path()).create_log(b"q").unwrap();
    let places = push(&mut log, COUNT);
    let segment = &log.segments[log.tail];
    let (base, path) = (segment.base, segment.path.clone());
    let inside = places.iter().position(|place| place.position > base).unwrap();
    let (first, next) = (places[inside + 500], places[inside + 1500]);
    let damage = vec![0xff; (next.position - first.position) as usize];
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&damage, first.position - base).unwrap();
    for number in first.sequence..=next.sequence {
        assert_eq!(look(&mut log, number).0, Some(next.sequence));
    }
    for number in first.sequence..=next.sequence {
        let start = log.segments[log.tail].waypoints.before(number).unwrap();
        assert!(start + SPACING > next.position, "{number} is looked for from {start} on");
    }
    let before = places[inside + 499];
    assert_eq!(look(&mut log, before.sequence).0, Some(before.sequence));
}

/// Each pop read the record of the one before again, checksum and all.
#[test]
fn the_look_after_a_pop_begins_behind_its_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path()).create_log(b"q").unwrap();
    let places = push(&mut log, 3);
    for pair in places.windows(2) {
        let [popped, next] = pair else { unreachable!() };
        assert_eq!(look(&mut log, 0).0, Some(popped.sequence));
        log.remove(*popped).unwrap();
        assert_eq!(log.head_look.position, next.position);
    }
    assert_eq!(look(&mut log, 0), (Some(places[2].sequence), 0));
    // A copy of the first message, where a look for the last one has ended.
    let (before, copy) = (log.head_look, Place { sequence: places[0].sequence, ..places[2] });
    log.head_look.from = places[2].sequence;
    log.pass_head(copy, 8);
    assert_eq!(log.head_look.position, before.position);
}

/// Where the next record of version 1 is damaged, the number of the one before says where it ends.
#[test]
fn in_version_1_the_look_after_a_pop_comes_by_its_record() {
    for version in [Version::One, Version::Two] {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path()).create_log(b"q").unwrap();
        let first = push(&mut log, 2)[0];
        assert_eq!(look(&mut log, 0).0, Some(first.sequence));
        let tail = log.tail;
        log.segments[tail].codec = Codec::new(version, [5; 16]);
        log.pass_head(first, 200);
        let expected = if version == Version::One { 0 } else { 200 };
        assert_eq!(log.head_look.position, first.position + expected, "{version:?}");
    }
}
