//! Rule 16: what only a later version writes closes its queue, wherever it stands, and nothing of
//! it is touched. Only settings that ask for no newer reader are passed over.

use super::bench::*;
use mq::queue::{DiskBacking, Limits, Policy, Queue, Queues, Ticket};
use mq::storage::format::{
    Codec, FIRST_SEQUENCE, Kind, Record, SETTINGS, SETTINGS_CRC, SETTINGS_MAGIC_BYTES,
    SETTINGS_PAUSED, SETTINGS_READER, SegmentHeader, Version,
};
use std::fs;

const SEGMENT_SIZE: u64 = 8 * 1024;
const FIRST: &str = "00000000000000000000.seg";

/// A queue of three messages, and where its records end.
fn queue(is_synced: bool) -> (Files, usize) {
    let mut bench = Bench::new(SEGMENT_SIZE);
    (0..3).for_each(|number| bench.push(format!("message {number}")));
    if is_synced {
        bench.sync();
        bench.log.rest();
    }
    let end = bench.log.segments().next().unwrap().records_end;
    (bench.files(), end as usize)
}

/// Puts a whole record at `offset` of the first segment.
fn put(files: &mut Files, offset: usize, record: &Record<'_>) {
    let bytes = files.get_mut(FIRST).unwrap();
    let key = SegmentHeader::decode(0, bytes).unwrap().0.hash_key;
    Codec::new(Version::Two, key).encode(record, offset as u64, &mut bytes[offset..]);
}

fn message(number: u64) -> Record<'static> {
    let sequence = FIRST_SEQUENCE + number;
    Record { sequence, pushed_ms: 1, body: b"forged", ..Record::default() }
}

/// A record of a kind that this version does not know and must.
fn newer() -> Record<'static> {
    let kind = Kind::Other(5);
    Record { kind, sequence: FIRST_SEQUENCE, more: &[0; 24], ..Record::default() }
}

/// Every start is refused, and changes nothing.
fn refuse(files: &Files, said: &str) {
    let root = with_files(files);
    let labels: Vec<_> = verified(root.path()).iter().map(|it| it.label.name()).collect();
    assert_eq!(labels.last(), Some(&"newer-format"), "{said}: {labels:?}");
    for strict in [false, true] {
        let refusal =
            open(root.path(), SEGMENT_SIZE, strict).map(drop).expect_err(said).to_string();
        assert!(strict || refusal.contains(said), "{refusal}");
        assert_eq!(read_files(&root.path().join("q-q")), *files, "something was touched");
    }
}

#[test]
fn rule_16_a_record_of_a_newer_kind_closes_its_queue() {
    for is_synced in [false, true] {
        let (mut files, end) = queue(is_synced);
        put(&mut files, end, &newer());
        refuse(&files, "found a whole one of kind 5 [newer-format]");
    }
}

/// The search behind a bad record passed over it: the queue was opened, and a torn tail cut with
/// what the newer version had written.
#[test]
fn rule_16_a_newer_kind_behind_a_bad_record_closes_its_queue() {
    for is_synced in [false, true] {
        for has_more in [false, true] {
            let (mut files, end) = queue(is_synced);
            put(&mut files, end, &newer());
            if has_more {
                put(&mut files, end + 64, &message(9));
            }
            files.get_mut(FIRST).unwrap()[end - 1] ^= 1;
            refuse(&files, "found a whole one of kind 5 [newer-format]");
        }
    }
}

/// Two messages of a number were both delivered, and one below the others after them.
#[test]
fn rule_16_a_message_that_was_not_pushed_at_the_tail_closes_its_queue() {
    for number in [0, 2] {
        let (mut files, end) = queue(true);
        put(&mut files, end, &message(number));
        let said =
            format!("a number from {} on, found {}", FIRST_SEQUENCE + 3, FIRST_SEQUENCE + number);
        refuse(&files, &said);
    }
    let (mut files, end) = queue(true);
    put(&mut files, end, &message(3));
    assert_eq!(Bench::of(&files, SEGMENT_SIZE).bodies().len(), 4);
}

/// No log is so long, so nobody knew that. Bytes behind a torn record said it, and it was damage.
#[test]
fn rule_05_a_position_that_no_log_reaches_is_never_durable() {
    for is_reached in [false, true] {
        let (mut files, end) = queue(false);
        let durable = if is_reached { end as u64 } else { u64::MAX };
        put(&mut files, end, &Record { durable, ..message(3) });
        files.get_mut(FIRST).unwrap()[end - 1] ^= 1;
        let mut bench = Bench::of(&files, SEGMENT_SIZE);
        assert_eq!(bench.count("damaged_records"), u64::from(is_reached));
        assert_eq!(bench.bodies().len(), 2 + usize::from(is_reached));
    }
}

/// Settings of a queue that is paused, for this reader.
fn settings(reader: u8) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR];
    bytes[..SETTINGS_READER].copy_from_slice(&SETTINGS_MAGIC_BYTES);
    bytes[SETTINGS_READER] = reader;
    bytes[SETTINGS_PAUSED] = 2;
    let crc = crc32fast::hash(&bytes).to_le_bytes();
    bytes[SETTINGS_CRC..SETTINGS_CRC + 4].copy_from_slice(&crc);
    bytes
}

#[test]
fn rule_16_settings_that_ask_for_a_newer_reader_close_their_queue() {
    let (mut files, _) = queue(true);
    files.insert(SETTINGS.into(), settings(3));
    refuse(&files, "queue.settings: at offset 8: expected a format that version 2 reads");
}

#[test]
fn rule_16_other_settings_are_passed_over_and_stay_as_they_are() {
    let mut damaged = settings(3);
    damaged[SETTINGS_PAUSED] ^= 1;
    let longer = [settings(3), vec![0]].concat();
    for bytes in [settings(2), damaged, longer, settings(3)[..100].to_vec(), Vec::new()] {
        let (mut files, _) = queue(true);
        files.insert(SETTINGS.into(), bytes.clone());
        assert_eq!(verified(with_files(&files).path()), []);
        let mut bench = Bench::of(&files, SEGMENT_SIZE);
        // Over several segments, which come and go.
        (0..100).for_each(|_| bench.push([7; 300]));
        bench.sync();
        (0..100).for_each(|_| drop(bench.pop()));
        bench.sync();
        let bench = bench.reopen();
        assert_eq!(bench.log.len(), 3);
        assert_eq!(bench.files()[SETTINGS], bytes);
    }
}

/// They went when the last message was popped, or when a full disk took the last segment, and a
/// limit of the queue with them.
#[test]
fn rule_15_settings_stay_where_a_queue_is_empty_and_go_when_it_is_dropped() {
    let (mut files, _) = queue(true);
    files.insert(SETTINGS.into(), settings(2));
    let root = with_files(&files);
    let folder = root.path().join("q-q");
    let limits = Limits { max_queues: 10, max_queue_len: u64::MAX };
    let open_queues = || {
        let directory = open_directory(root.path(), 4 << 20, false).unwrap();
        let backing = Box::new(DiskBacking::new(directory));
        Queues::open(backing, limits, Policy::Never).unwrap()
    };
    for round in 0..3 {
        let queues = open_queues();
        let pop = |queue: &mut Queue| queue.pop(|_| ());
        while queues.find(b"q", &mut Ticket::default(), pop).unwrap().is_some() {}
        for _ in 0..5 {
            queues.tidy();
            queues.rest_idle();
        }
        assert!(queues.is_empty(), "for clients it does not exist");
        drop(queues);
        assert_eq!(read_files(&folder)[SETTINGS], settings(2), "round {round}");
    }
    let queues = open_queues();
    let message = new_message(b"later");
    queues.create(b"q", &mut Ticket::default(), |queue| queue.push(&message)).unwrap();
    assert!(queues.drop_queue(b"q", &mut Ticket::default()).unwrap());
    assert!(!folder.exists());
}

#[test]
fn rule_15_settings_go_with_their_queue() {
    let bench = Bench::new(SEGMENT_SIZE);
    fs::write(bench.folder().join(SETTINGS), settings(2)).unwrap();
    let Bench { mut log, directory, root, .. } = bench;
    directory.drop_log(&mut log).unwrap();
    let log = directory.create_log(b"q").unwrap();
    assert!(!log.directory().join(SETTINGS).exists());
    let start = std::time::Instant::now();
    let is_left = || {
        fs::read_dir(root.path())
            .unwrap()
            .map(Result::unwrap)
            .any(|entry| entry.file_name().to_string_lossy().starts_with("dropped-"))
    };
    while is_left() {
        assert!(start.elapsed() < crate::common::GUARD, "the folder stays");
        std::thread::yield_now();
    }
}

/// A crash, or somebody, has taken the segments away.
#[test]
fn rule_15_settings_without_a_segment_are_of_no_queue() {
    let files = Files::from([(SETTINGS.to_string(), settings(3))]);
    let root = with_files(&files);
    assert!(open(root.path(), SEGMENT_SIZE, true).unwrap().1.is_none());
    assert!(!root.path().join("q-q").exists());
    // Where the folder is there when a queue of its name is made, they are not the new queue's.
    let directory = open_directory(root.path(), SEGMENT_SIZE, false).unwrap();
    fs::create_dir(root.path().join("q-q")).unwrap();
    fs::write(root.path().join("q-q").join(SETTINGS), settings(3)).unwrap();
    directory.create_log(b"q").unwrap();
    assert_eq!(read_files(&root.path().join("q-q")).into_keys().collect::<Vec<_>>(), [FIRST]);
}
