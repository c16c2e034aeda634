//! Rule 20: a command is one step. Rule 21: nobody forges a record.

use super::bench::*;
use crate::common::{Daemon, request};
use mq::storage::format::{
    Codec, Fault, Footer, MESSAGE_HEAD, RECORD_LENGTH, Record, SegmentHeader, Verdict, Version,
};
use mq::storage::{Label, StepSize, StorageError};
use std::path::Path;

const SEGMENT_SIZE: u64 = 16 * 1024;

fn pushing(bodies: &[&str]) -> StepSize {
    let pushed_bytes = bodies.iter().map(|body| body.len() as u64).sum();
    StepSize { pushes: bodies.len() as u64, pushed_bytes, ..StepSize::default() }
}

/// Pushes these messages as one step.
fn push_all(bench: &mut Bench, bodies: &[&str]) {
    bench.log.begin_step(&pushing(bodies)).unwrap();
    bodies.iter().for_each(|body| bench.push(body));
    bench.log.end_step().unwrap();
}

/// Removes these messages as one step.
fn remove_all(bench: &mut Bench, bodies: &[&str]) {
    let removals = bodies.len() as u64;
    bench.log.begin_step(&StepSize { removals, ..StepSize::default() }).unwrap();
    bodies.iter().for_each(|body| assert!(bench.remove(body)));
    bench.log.end_step().unwrap();
}

/// The only file of a queue.
fn only(files: &mut Files) -> &mut Vec<u8> {
    assert_eq!(files.len(), 1);
    files.values_mut().next().unwrap()
}

fn end(bench: &Bench) -> usize {
    bench.log.segments().next().unwrap().records_end as usize
}

/// What is written of a step, cut at every byte: all of it or nothing is there.
fn cut_everywhere(mut bench: Bench, step: impl FnOnce(&mut Bench), before: &[&str]) {
    bench.sync();
    let start = end(&bench);
    step(&mut bench);
    let (whole, stop) = (bench.files(), end(&bench));
    let after = bench.bodies();
    assert!(stop > start, "the step has written nothing");
    for length in start..=stop {
        let mut files = whole.clone();
        only(&mut files)[length..].fill(0);
        // Bytes at the end may be zero anyway.
        let is_whole = files == whole;
        let mut found = Bench::of(&files, SEGMENT_SIZE);
        let expected: Vec<Vec<u8>> = match is_whole {
            true => after.clone(),
            false => before.iter().map(|body| body.as_bytes().to_vec()).collect(),
        };
        assert_eq!(found.bodies(), expected, "cut at {length}");
        assert_eq!(found.count("damaged_records"), 0, "torn is not rotten");
        found.push("later");
        found = found.reopen();
        assert_eq!(found.bodies().len(), expected.len() + 1);
    }
}

#[test]
fn rule_20_messages_that_are_pushed_together_are_there_together() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    bench.push("first");
    cut_everywhere(bench, |bench| push_all(bench, &["one", "two", "three"]), &["first"]);
}

#[test]
fn rule_20_messages_that_are_removed_together_are_gone_together() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    ["a", "b", "c", "d"].iter().for_each(|body| bench.push(body));
    // The head is one of them: no cursor shows it alone.
    let remove = |bench: &mut Bench| {
        remove_all(bench, &["c", "a"]);
        // Nor does the cursor of a pop that comes behind.
        bench.pop();
    };
    bench.sync();
    let start = end(&bench);
    remove(&mut bench);
    let mut files = bench.files();
    only(&mut files)[start..].fill(0);
    assert_eq!(Bench::of(&files, SEGMENT_SIZE).bodies(), [b"a", b"b", b"c", b"d"]);
    let mut found = bench.reopen();
    assert_eq!(found.bodies(), [b"d"]);
    found.sync();
    assert_eq!(found.pop().as_deref(), Some(&b"d"[..]));
    assert_eq!(found.reopen().bodies(), [] as [&[u8]; 0]);
}

#[test]
fn rule_20_messages_that_are_popped_together_are_one_cursor() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    (0..9).for_each(|number| bench.push(format!("{number}")));
    bench.sync();
    let (before, records_end) = (bench.files(), end(&bench));
    bench.log.begin_step(&StepSize { pops: 5, ..StepSize::default() }).unwrap();
    (0..5).for_each(|_| drop(bench.pop()));
    assert_eq!(bench.files(), before, "half a step is on the disk");
    bench.log.end_step().unwrap();
    assert_eq!(end(&bench), records_end, "a pop appends nothing");
    let after = bench.files();
    let sectors = before.values().next().unwrap().chunks(SECTOR);
    let changed = sectors.zip(after.values().next().unwrap().chunks(SECTOR));
    assert_eq!(changed.filter(|(one, other)| one != other).count(), 1);
    assert_eq!(bench.reopen().bodies().len(), 4);
}

/// The process is killed in the middle, and a sync has covered the first half.
#[test]
fn rule_20_half_a_step_is_not_durable() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    bench.push("first");
    bench.log.begin_step(&pushing(&["one", "two", "three"])).unwrap();
    bench.push("one");
    bench.push("two");
    bench.sync();
    let root = with_files(&bench.files());
    let found = verified(root.path());
    assert_eq!(found.iter().map(|it| it.label).collect::<Vec<_>>(), [Label::TornTail]);
    assert!(found[0].to_string().contains("found its first 2 only"), "{}", found[0]);
    let mut found = Bench::of(&bench.files(), SEGMENT_SIZE);
    assert_eq!(found.bodies(), [b"first"]);
    bench.push("three");
    bench.log.end_step().unwrap();
    bench.sync();
    assert_eq!(bench.reopen().bodies().len(), 4);
}

/// A record that rots in a step that was durable costs itself alone, also where it is the last.
#[test]
fn rule_20_a_rotten_record_of_a_step_costs_no_other() {
    let bodies = ["one", "two", "three"];
    for rotten in 0..3 {
        let mut bench = Bench::new(SEGMENT_SIZE);
        push_all(&mut bench, &bodies);
        bench.sync();
        bench.log.rest();
        let (_, position, _) = bench.places()[rotten];
        let mut files = bench.files();
        only(&mut files)[position as usize + MESSAGE_HEAD] ^= 1;
        let expected: Vec<&[u8]> =
            (0..3).filter(|index| *index != rotten).map(|index| bodies[index].as_bytes()).collect();
        let mut found = Bench::of(&files, SEGMENT_SIZE);
        assert_eq!(found.bodies(), expected);
        assert_eq!(found.count("damaged_records"), 1);
    }
}

/// The end of a step is lost, and the cursors that say that it was durable: the segment behind it
/// shows that too. All of it and what came behind was cut.
#[test]
fn rule_20_a_step_in_a_segment_that_was_left_is_no_torn_one() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    push_all(&mut bench, &["one", "two", "three"]);
    let (_, last, _) = bench.places()[2];
    bench.push([7; SEGMENT_SIZE as usize]);
    bench.sync();
    bench.log.rest();
    let mut files = bench.files();
    files.values_mut().for_each(|file| file[SECTOR..RECORDS].fill(0));
    files.values_mut().next().unwrap()[last as usize..].fill(0);
    let bodies = Bench::of(&files, SEGMENT_SIZE).bodies();
    assert_eq!(bodies.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, SEGMENT_SIZE as usize]);
}

/// A long command is done in slices, with other clients' turns in between. Whenever the process is
/// killed, the command is done or not, and its client has been told of nothing else.
#[test]
fn rule_20_a_command_that_is_killed_in_the_middle_is_done_or_not() {
    const COUNT: usize = 60_000;
    let bodies: Vec<Vec<u8>> = (0..COUNT).map(|number| format!("{number:05}").into()).collect();
    let words = |verb: &str| {
        let words = [verb.as_bytes(), b"q"].into_iter();
        request(&words.chain(bodies.iter().map(Vec::as_slice)).collect::<Vec<_>>())
    };
    let is_begun = |folder: &Path, before: u64| {
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |it| it.len());
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        files.map(|file| length(&file.path())).sum::<u64>() > before
    };
    let mut seen = [0, 0];
    for round in 0..8_usize {
        let mut daemon = Daemon::start("--fsync never");
        let folder = daemon.directory().join("q-q");
        let (mut client, mut other) = (daemon.redis(), daemon.redis());
        let is_push = round.is_multiple_of(2);
        if !is_push {
            client.ask(words("SADD"), format!(":{COUNT}\r\n"));
        }
        client.send(words(if is_push { "SADD" } else { "SREM" }));
        while is_push && !is_begun(&folder, 8192) {
            other.ask("PING\r\n", "+PONG\r\n");
        }
        (0..round).for_each(|_| other.ask("PING\r\n", "+PONG\r\n"));
        daemon.kill();
        let mut found = daemon.restart();
        let mut client = found.redis();
        client.send("SCARD q\r\n");
        let count: usize = client.read_line().trim_start_matches(':').trim().parse().unwrap();
        assert!(count == 0 || count == COUNT, "{count} of {COUNT}");
        seen[usize::from((count == COUNT) == is_push)] += 1;
        found.kill();
    }
    assert_eq!(seen.iter().sum::<i32>(), 8, "not done and done: {seen:?}");
}

/// More than the device has room for: nothing of it is done, and what is smaller is.
#[test]
fn rule_20_a_step_that_finds_no_room_does_nothing() {
    let shared_memory = Path::new("/dev/shm");
    if !shared_memory.is_dir() {
        return;
    }
    let root = tempfile::tempdir_in(shared_memory).unwrap();
    let directory = open_directory(root.path(), SEGMENT_SIZE, false).unwrap();
    let log = directory.create_log(b"q").unwrap();
    let mut bench = Bench { log, directory, root, segment_size: SEGMENT_SIZE };
    push_all(&mut bench, &["a", "b"]);
    bench.sync();
    let (before, bodies) = (bench.files(), bench.bodies());
    let pushed_bytes = fs2::total_space(shared_memory).unwrap() + 1;
    let size = StepSize { pushes: 3, pushed_bytes, ..StepSize::default() };
    let refused = bench.log.begin_step(&size);
    assert!(matches!(refused, Err(StorageError::Full { .. })), "{refused:?}");
    assert_eq!((bench.files(), bench.bodies()), (before, bodies));
    push_all(&mut bench, &["c", "d"]);
    remove_all(&mut bench, &["a", "d"]);
    assert_eq!(bench.reopen().bodies(), [b"b", b"c"]);
}

/// Room for the removal of each message is there since it was pushed: to remove them together takes
/// no more, though the device may be full by now.
#[test]
fn rule_20_messages_that_are_removed_together_need_no_room_of_their_own() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    let mut bodies = Vec::new();
    while bench.log.segments().count() == 1 {
        bodies.push(format!("{:04}", bodies.len()));
        bench.push(bodies.last().unwrap());
    }
    // One less, and there is one segment still.
    bodies.pop();
    let mut bench = Bench::new(SEGMENT_SIZE);
    bodies.iter().for_each(|body| bench.push(body));
    remove_all(&mut bench, &bodies.iter().rev().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((bench.log.segments().count(), bench.bodies().len()), (1, 0));
}

/// A client sends what would be records where they come to lie, with the highest number, with
/// removals, and with a claim that all before was durable. The record around it is damaged, or a
/// power cut takes a sector before it.
#[test]
fn rule_21_a_body_that_imitates_records_is_never_taken_for_them() {
    for version in [Version::One, Version::Two] {
        let mut bench = Bench::new(SEGMENT_SIZE);
        bench.push("first");
        bench.sync();
        let start = end(&bench);
        let stranger = Codec::new(version, [7; 16]);
        let mut forged = vec![0; 256];
        let mut offset = 0;
        for sequence in [BEFORE_FIRST + 3, (1 << 62) - 1] {
            let position = (start + MESSAGE_HEAD + offset) as u64;
            let durable = position;
            let record =
                Record { version, sequence, durable, body: b"forged", ..Record::default() };
            offset += stranger.encode(&record, position, &mut forged[offset..]);
        }
        bench.push(&forged);
        bench.push("third");
        // Not durable: a sector is lost, and nothing behind it says otherwise.
        let mut torn = bench.files();
        only(&mut torn)[start..start + 16].fill(0);
        let mut found = Bench::of(&torn, SEGMENT_SIZE);
        assert_eq!(found.bodies(), [b"first"]);
        assert_eq!(found.count("damaged_records"), 0);
        found.push("later");
        // Durable: whichever bit of its head is damaged.
        bench.sync();
        bench.log.rest();
        for bit in 0..MESSAGE_HEAD * 8 {
            let mut files = bench.files();
            only(&mut files)[start + bit / 8] ^= 1 << (bit % 8);
            let mut found = Bench::of(&files, SEGMENT_SIZE);
            assert_eq!(found.bodies(), [&b"first"[..], b"third"], "bit {bit}");
            found.push("later");
            assert_eq!(found.bodies().len(), 3);
        }
    }
}

/// Whoever sees one checksum, or the key, could make up records.
#[test]
fn rule_21_no_finding_tells_a_checksum_or_the_key() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    (0..3).for_each(|number| bench.push(format!("{number}")));
    bench.sync();
    bench.log.rest();
    let whole = bench.files();
    let codec = {
        let bytes = whole.values().next().unwrap();
        Codec::new(Version::Two, SegmentHeader::decode(0, bytes).unwrap().0.hash_key)
    };
    let at = end(&bench) - 2 * (MESSAGE_HEAD + 8);
    for offset in [20, 41, SECTOR + 9, 2 * SECTOR + 9, at + RECORD_LENGTH, at + MESSAGE_HEAD] {
        let mut files = whole.clone();
        only(&mut files)[offset] ^= 1;
        let root = with_files(&files);
        let (_, lines) = captured(|| open(root.path(), SEGMENT_SIZE, false).map(drop));
        let findings = verified(root.path());
        let said = findings.iter().map(ToString::to_string).chain(lines);
        let said = said.collect::<Vec<_>>().join("\n");
        assert!(!said.is_empty(), "offset {offset}");
        let bytes = only(&mut files);
        let mut secrets = vec![crc32fast::hash(&bytes[..SECTOR])];
        secrets.extend((0..SECTOR / 4).map(|word| word_at(bytes, 4 * word)));
        secrets.extend((0..32).map(|word| word_at(bytes, at + 4 * word)));
        if let Verdict::Bad(Fault::Checksum { expected, found }) =
            codec.decode(&bytes[at..], at as u64)
        {
            secrets.extend([expected, found]);
        }
        // Small words are lengths and the like.
        for secret in secrets.into_iter().filter(|word| *word > 0xff_ffff) {
            assert!(!said.contains(&format!("{secret:08x}")), "{secret:08x} in {said}");
        }
    }
}

fn word_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

/// A footer is no record: it is believed by its place alone.
#[test]
fn rule_21_a_body_that_imitates_a_footer_is_none() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    let footer = Footer::new(RECORDS as u64).encode(0).unwrap();
    (0..40).for_each(|_| bench.push([&[0; 300][..], &footer].concat()));
    bench.sync();
    assert_eq!(bench.reopen().bodies().len(), 40);
}
