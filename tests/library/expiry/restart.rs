//! What a start knows of times of expiry: all of them, from footers and from records without one.
//! A wrong time in a footer loses no message that lives, and delivers none that is dead.

use super::{LIMITS, Run, START_MS, disk};
use crate::random::Random;
use mq::queue::{DiskBacking, Limits, Queue, QueueError, Ticket};
use mq::storage::format::*;
use mq::storage::{DataDirectory, Place};
use std::fs;
use std::path::Path;

#[test]
fn a_message_that_died_while_the_daemon_was_down_is_counted_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { max_queue_len: 3, ..LIMITS };
    let run = Run::new(disk(directory.path()), limits);
    for (body, expires_ms) in [("a", 0), ("b", START_MS + 5), ("c", 0)] {
        run.push(b"q", body.as_bytes(), expires_ms).unwrap();
    }
    run.push(b"r", b"a", START_MS + 5).unwrap();
    assert!(run.queues.close());
    drop(run);
    let run = Run::at(disk(directory.path()), limits, START_MS + 4);
    let sums = || {
        let sums = run.queues.sums();
        (sums.queues, sums.messages)
    };
    assert_eq!((sums(), run.queues.count_at_once()), ((2, 4), None));
    run.pass(5);
    assert_eq!((sums(), run.queues.count_at_once()), ((1, 2), Some(1)));
    assert_eq!((run.len(b"r"), run.len(b"q")), (None, Some(2)));
    run.push(b"q", b"d", 0).unwrap();
    assert_eq!(run.bodies(b"q"), [b"a", b"c", b"d"]);
}

/// The body of message `number`.
fn body(number: u32) -> Vec<u8> {
    [&number.to_le_bytes()[..], &[7; 60]].concat()
}

/// Works on queue `q`: of 5,000 messages some die soon, some later and some never. Most of them go
/// from both ends and from the middle, others are copied, and full segments get their footers.
/// Answers the bodies and times of those that are left, in their order.
fn fill(path: &Path) -> Vec<(Vec<u8>, u64)> {
    let (run, mut random) = (Run::new(disk(path), LIMITS), Random::seeded());
    let mut left = Vec::new();
    let work = |work: &mut dyn FnMut(&mut Queue) -> Result<bool, QueueError>| {
        while !run.queues.prepare_membership(b"q").unwrap() {}
        run.queues.find(b"q", &mut Ticket::default(), work).unwrap();
    };
    for number in 0..5000 {
        let expires_ms = [0, START_MS + 1, START_MS + 2 + random.below(9)][number as usize % 3];
        run.push(b"q", &body(number), expires_ms).unwrap();
        left.push((body(number), expires_ms));
        if random.below(3) > 0 {
            let index = [0, random.below(left.len() as u64) as usize][random.below(2) as usize];
            let (body, _) = left.remove(index);
            work(&mut |queue| queue.remove_one(&body));
        }
        if number % 500 == 0 {
            run.tidy();
        }
    }
    run.tidy();
    assert!(run.queues.close());
    left
}

/// The bodies of those that are alive at a time.
fn living(messages: &[(Vec<u8>, u64)], now_ms: u64) -> Vec<Vec<u8>> {
    let living = messages.iter().filter(|(_, at_ms)| *at_ms == 0 || *at_ms > now_ms);
    living.map(|(body, _)| body.clone()).collect()
}

/// Rewrites each footer of queue `q`: `change` gets its bytes and the offset in them at which it
/// says how many times there are. Answers how many footers there are.
fn change_footers(path: &Path, mut change: impl FnMut(&mut Vec<u8>, usize)) -> usize {
    let mut count = 0;
    for file in fs::read_dir(path.join("q-q")).unwrap().map(|entry| entry.unwrap().path()) {
        let mut bytes = fs::read(&file).unwrap();
        let mut footer = bytes.split_off(get_u64(&bytes, SEGMENT_SIZE) as usize);
        if footer.is_empty() {
            continue;
        }
        let entries = 8 * get_u64(&footer, FOOTER_ENTRY_COUNT);
        let pairs = get_u64(&footer, FOOTER_RUN_COUNT) + get_u64(&footer, FOOTER_ORIGIN_COUNT);
        footer.truncate(footer.len() - 8);
        change(&mut footer, FOOTER_ENTRIES + (entries + 16 * pairs) as usize);
        let crc = u64::from(crc32fast::hash(&footer)).to_le_bytes();
        if !footer.is_empty() {
            bytes.extend([&footer[..], &crc].concat());
        }
        fs::write(file, bytes).unwrap();
        count += 1;
    }
    count
}

/// The directory, opened by one who believes footers: a strict start reads every record.
fn open(path: &Path) -> DataDirectory {
    DataDirectory::open(path, 64 << 10, false).unwrap()
}

/// What the log of queue `q` says at the start, with the body that lies there.
fn expiring(path: &Path) -> Vec<(Vec<u8>, u64)> {
    let directory = open(path);
    let mut log = directory.open_logs().unwrap().pop().unwrap();
    let expiring = log.take_expiring().into_iter();
    let body = |place: Place| log.at(place).unwrap().unwrap().1.body.to_vec();
    let mut found: Vec<_> = expiring.map(|(place, at_ms)| (body(place), at_ms)).collect();
    found.sort();
    found
}

/// Footers of before times were written end behind the origins.
#[test]
fn a_start_knows_the_same_times_from_footers_old_footers_and_records() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = fill(directory.path());
    expected.retain(|(_, expires_ms)| *expires_ms > 0);
    expected.sort();
    assert!(expiring(directory.path()) == expected);
    let count = change_footers(directory.path(), |footer, times| footer.truncate(times));
    assert!(count > 1, "{count} footers");
    assert!(expiring(directory.path()) == expected);
    change_footers(directory.path(), |footer, _| footer.clear());
    assert!(expiring(directory.path()) == expected);
}

/// Each count is that of the living at once, before housekeeping has come.
#[test]
fn after_a_start_the_dead_count_nowhere_wherever_they_stand() {
    let directory = tempfile::tempdir().unwrap();
    let left = fill(directory.path());
    let run = Run::new(Box::new(DiskBacking::new(open(directory.path()))), LIMITS);
    for now_ms in START_MS..START_MS + 12 {
        let living = living(&left, now_ms);
        assert_eq!(run.queues.sums().messages, living.len() as u64, "{}", now_ms - START_MS);
        assert_eq!(run.len(b"q"), Some(living.len() as u64));
        assert!(run.bodies(b"q") == living);
        run.pass(1);
    }
}

/// The checksum of a footer finds rot, and nobody's malice: here each time is another one.
#[test]
fn a_wrong_time_in_a_footer_loses_nothing_and_delivers_nothing_that_is_dead() {
    for wrong_ms in [1, START_MS + 3, u64::MAX] {
        let directory = tempfile::tempdir().unwrap();
        let left = fill(directory.path());
        let count = change_footers(directory.path(), |footer, times| {
            let pairs = footer[times + 8..].chunks_exact_mut(16);
            pairs.for_each(|pair| pair[8..].copy_from_slice(&wrong_ms.to_le_bytes()));
        });
        assert!(count > 1, "{count} footers");
        let strict = DataDirectory::open(directory.path(), 64 << 10, true).unwrap().open_logs();
        assert!(strict.err().unwrap().to_string().contains("[false-footer]"));
        let backing = Box::new(DiskBacking::new(open(directory.path())));
        let run = Run::at(backing, LIMITS, START_MS + 3);
        for now_ms in START_MS + 3..START_MS + 12 {
            run.tidy();
            let living = living(&left, now_ms);
            assert!(run.bodies(b"q") == living, "{wrong_ms}, {}", now_ms - START_MS);
            run.tidy();
            assert_eq!(run.len(b"q"), Some(living.len() as u64));
            run.pass(1);
        }
    }
}
