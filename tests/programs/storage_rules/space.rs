//! Rules 6, 10 and 15: blocks, dead segments and dropped queues.

use super::bench::*;
use crate::random::Random;
use mq::storage::StorageError;
use mq::storage::format::Kind;
use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tempfile::TempDir;

fn segment_names(folder: &Path) -> BTreeSet<String> {
    read_files(folder).into_keys().collect()
}

fn bytes_on_disk(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| entry.metadata().unwrap().blocks() * 512).sum()
}

#[test]
fn rule_06_every_byte_of_a_segment_has_a_block() {
    let mut bench = Bench::new(64 * 1024);
    for number in 0..2000_u32 {
        bench.push(vec![1; number as usize % 300]);
    }
    // A record larger than a segment gets a segment of its own.
    bench.push(vec![2; 200 * 1024]);
    let mut count = 0;
    for entry in fs::read_dir(bench.folder()).unwrap() {
        let metadata = entry.unwrap().metadata().unwrap();
        assert!(metadata.blocks() * 512 >= metadata.len(), "a sparse file");
        count += 1;
    }
    assert!(count > 5);
}

/// A push reserves the room for the record that will remove it: no removal, in any order,
/// allocates. `tests/faults` does the same where there is nothing left to allocate.
#[test]
fn rule_06_removing_needs_no_new_space() {
    let mut random = Random::seeded();
    for restart in [false, true] {
        let mut bench = Bench::new(16 * 1024);
        let mut bodies: Vec<String> = (0..3000).map(|number| format!("{number}")).collect();
        bodies.iter().for_each(|body| bench.push(body));
        if restart {
            bench = bench.reopen();
        }
        let before = segment_names(&bench.folder());
        while !bodies.is_empty() {
            let body = bodies.swap_remove(random.below(bodies.len() as u64) as usize);
            assert!(bench.remove(&body), "{body}");
        }
        assert_eq!(bench.log.len(), 0);
        assert_eq!(segment_names(&bench.folder()), before, "removing has allocated");
    }
}

/// What a move has hidden is removed when its copy is durable. By then there may be no descriptor:
/// here the folder is away, so nothing can be opened.
#[test]
fn rule_06_a_promised_removal_needs_nothing_from_the_system() {
    let mut bench = Bench::new(16 * 1024);
    let bodies: Vec<String> = (0..600).map(|number| format!("{number:0100}")).collect();
    bodies.iter().for_each(|body| bench.push(body));
    let mut promised = Vec::new();
    for body in bodies.iter().step_by(60).skip(1) {
        let (place, _) = bench.log.find(body.as_bytes()).unwrap().unwrap();
        bench.log.promise_removal(place).unwrap();
        promised.push((place, body));
    }
    let (withdrawn, _) = promised.pop().unwrap();
    bench.log.withdraw_promise(withdrawn);
    // What lies in front is copied forward, and the tail is filled.
    for body in bodies.iter().skip(1).filter(|body| promised.iter().all(|(_, it)| it != body)) {
        assert!(bench.remove(body));
    }
    while bench.log.copy_forward().unwrap() {
        bench.sync();
    }
    assert!(bench.count("copied_messages") > 0);
    // A record that takes all the room there is may not take what is promised.
    let head = Kind::Message.record_size(0);
    let tail = bench.log.segments().filter(|it| it.record_bytes() > 0).last().unwrap();
    let filler = vec![7; tail.room() as usize - head];
    bench.push(&filler);
    bench.sync();
    bench.log.rest();
    let elsewhere = bench.root.path().join("elsewhere");
    fs::rename(bench.folder(), &elsewhere).unwrap();
    for (place, _) in promised {
        let place = bench.log.current(place);
        bench.log.remove(place).unwrap();
    }
    fs::rename(elsewhere, bench.folder()).unwrap();
    let mut expected: Vec<Vec<u8>> = vec![bodies[0].clone().into()];
    expected.push(filler);
    assert_eq!(bench.bodies(), expected);
    assert_eq!(bench.reopen().bodies(), expected);
}

/// The most reported fault of the field's best-known peer: one old message pinned the log for ever.
#[test]
fn rule_10_one_old_message_pins_nothing_and_segments_die_oldest_first() {
    const SEGMENT_SIZE: u64 = 64 * 1024;
    let mut random = Random::seeded();
    let mut bench = Bench::new(SEGMENT_SIZE);
    bench.push("old");
    let body = |number: u64| format!("{number:0100}");
    let mut live: Vec<u64> = (0..2000).collect();
    live.iter().for_each(|number| bench.push(body(*number)));
    let mut names = segment_names(&bench.folder());
    for step in 0..60_000_u64 {
        let index = random.below(live.len() as u64) as usize;
        assert!(bench.remove(body(live[index])));
        live[index] = 2000 + step;
        bench.push(body(live[index]));
        if step % 100 > 0 {
            continue;
        }
        while bench.log.copy_forward().unwrap() {}
        bench.sync();
        let now = segment_names(&bench.folder());
        if let Some(oldest) = now.first() {
            let gone = names.difference(&now);
            assert!(gone.into_iter().all(|name| name < oldest), "one died before an older one");
        }
        names = now;
        let used = bytes_on_disk(&bench.folder());
        let bound = 4 * bench.log.live_bytes() + 2 * SEGMENT_SIZE;
        assert!(used < bound, "{used} bytes on disk after {step} steps, the bound is {bound}");
    }
    assert!(bench.count("copied_messages") > 2000);
    let mut bench = bench.reopen();
    assert_eq!(bench.pop().as_deref(), Some(&b"old"[..]));
    assert_eq!(bench.log.len(), 2000);
}

/// An error that stays was met again at every change of the queue, and told in the log each time.
#[test]
fn rule_10_copying_forward_that_failed_waits_for_housekeeping() {
    let mostly_dead = |last_count: usize| {
        let mut bench = Bench::new(64 * 1024);
        (0..3000).for_each(|number| bench.push(format!("{number:0100}")));
        for number in (1..3000).filter(|number| number % 3 > 0) {
            assert!(bench.remove(format!("{number:0100}")));
        }
        (0..last_count).for_each(|_| bench.push("last"));
        bench
    };
    // As many messages as fit without another segment: a copy needs one.
    let mut bench = mostly_dead(0);
    let (files, mut last_count) = (bench.files().len(), 0);
    while bench.files().len() == files {
        bench.push("last");
        last_count += 1;
    }
    bench = mostly_dead(last_count - 1);
    bench.sync();
    assert!(bench.log.wants_copying());
    let elsewhere = bench.root.path().join("elsewhere");
    fs::rename(bench.folder(), &elsewhere).unwrap();
    let failed = (0..10_000).find_map(|_| bench.log.copy_forward().err());
    assert!(matches!(failed, Some(StorageError::Io { .. })), "{failed:?}");
    assert!(!bench.log.wants_copying(), "the next change tries again");
    fs::rename(elsewhere, bench.folder()).unwrap();
    for _ in 0..10_000 {
        bench.log.copy_forward().unwrap();
        bench.sync();
    }
    let (dead, live) = (bench.log.dead_bytes(), bench.log.live_bytes());
    assert!(dead <= live || dead <= bench.segment_size, "{dead} dead bytes, {live} live ones");
    assert_eq!(bench.reopen().bodies().len(), 1000 + last_count - 1);
}

#[test]
fn rule_10_what_is_popped_gives_its_segments_back() {
    let mut bench = Bench::new(64 * 1024);
    let mut names = VecDeque::new();
    for round in 0..20 {
        for _ in 0..1000 {
            bench.push([7; 100]);
        }
        while bench.pop().is_some() {}
        bench.sync();
        let left = segment_names(&bench.folder());
        assert!(left.len() <= 3, "round {round}: {left:?}");
        names.extend(left);
    }
    assert!(names.back() > names.front());
}

#[test]
fn rule_15_a_dropped_queue_is_gone_with_the_rename_and_unlinked_later() {
    let root = TempDir::new().unwrap();
    let directory = open_directory(root.path(), 1 << 20, false).unwrap();
    let mut log = directory.create_log(b"q").unwrap();
    log.push(&new_message(b"dead"), 1).unwrap();
    log.sync_now().unwrap();
    let files = read_files(&root.path().join("q-q"));
    directory.drop_log(&mut log).unwrap();
    assert!(!root.path().join("q-q").exists());
    // The name is free at once.
    let mut log = directory.create_log(b"q").unwrap();
    log.push(&new_message(b"alive"), 1).unwrap();
    drop((log, directory));
    // A daemon that died before it had unlinked the dropped one.
    let tombstone = root.path().join("dropped-7");
    fs::create_dir_all(&tombstone).unwrap();
    for (name, bytes) in files {
        fs::write(tombstone.join(name), bytes).unwrap();
    }
    let (_directory, log) = open(root.path(), 1 << 20, true).unwrap();
    let mut log = log.unwrap();
    assert_eq!(log.next(0).unwrap().unwrap().1.body, b"alive");
    assert_eq!(log.len(), 1);
    let start = std::time::Instant::now();
    while tombstone.exists() {
        assert!(start.elapsed() < crate::common::GUARD, "it is never unlinked");
        std::thread::yield_now();
    }
}

/// Housekeeping writes footers without the queue's lock, and meanwhile the queue may be dropped and
/// another one of its name made: the footer would say what the other's records are.
#[test]
fn rule_15_what_was_begun_for_a_dropped_queue_never_reaches_the_next_of_its_name() {
    let mut bench = Bench::new(64 * 1024);
    (0..100).for_each(|_| bench.push([7; 100]));
    bench.sync();
    let work = bench.log.write_footer().expect("a sealed segment without a footer");
    let Bench { mut log, directory, root, segment_size } = bench;
    directory.drop_log(&mut log).unwrap();
    let log = directory.create_log(b"q").unwrap();
    let mut bench = Bench { log, directory, root, segment_size };
    let bodies: Vec<Vec<u8>> = (0..100).map(|number| vec![number; 99]).collect();
    bodies.iter().for_each(|body| bench.push(body));
    // It may fail, as its file is gone.
    let _outcome = work();
    let mut bench = bench.reopen();
    assert_eq!(bench.bodies(), bodies);
    (0..100).for_each(|_| drop(bench.pop()));
    assert_eq!(bench.log.len(), 0);
}

#[test]
fn rule_15_a_name_of_any_bytes_stays_in_the_directory_and_comes_back() {
    let parent = TempDir::new().unwrap();
    let root = parent.path().join("data");
    let directory = open_directory(&root, 1 << 20, false).unwrap();
    let Err(StorageError::NameTooLong { limit }) = directory.create_log(&[b'x'; 1000]) else {
        panic!("a name of any length is taken");
    };
    let long = |last: u8| [vec![0xff; limit - 1], vec![last]].concat();
    let mut names: Vec<Vec<u8>> =
        ["", ".", "..", "../x", "a/b", "/", "%", "~1", "q-q", "LOCK", "\0"].map(Into::into).into();
    // These differ only behind where their folders' names are cut.
    names.extend([long(1), long(2), long(3)]);
    for name in &names {
        directory.create_log(name).unwrap().push(&new_message(name), 1).unwrap();
    }
    drop(directory);
    let entries = fs::read_dir(&root).unwrap().count();
    assert_eq!(entries, names.len() + 2, "a folder for each, the marker and the lock");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "something left the directory");
    let directory = open_directory(&root, 1 << 20, true).unwrap();
    let mut found = Vec::new();
    for mut log in directory.open_logs().unwrap() {
        let name = log.name().to_vec();
        assert_eq!(log.next(0).unwrap().unwrap().1.body, name);
        found.push(name);
    }
    found.sort_unstable();
    names.sort_unstable();
    assert_eq!(found, names);
}
