//! What fuzzing has found in the storage: each test makes the files that it took, and says what
//! went wrong with them.
//!
//! The inputs themselves are seeds in `fuzz/seeds/recovery`. Some files here are damaged in more
//! places than one, and some could only be made on purpose, with checksums that are right: nothing
//! in a file may cause a panic, an endless loop or the loss of what is intact.

use mq::storage::format::*;
use mq::storage::{DataDirectory, Log, NewMessage, StorageError};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SIZE: usize = 4096;
const KEY: [u8; 16] = [7; 16];

fn codec() -> Codec {
    Codec::new(Version::Two, KEY)
}

fn header() -> SegmentHeader {
    let (version, name) = (Version::Two, b"q"[..].into());
    SegmentHeader { version, created_ms: 0, hash_key: KEY, name }
}

/// A segment's file in the making.
struct File {
    base: u64,
    bytes: Vec<u8>,
    end: usize,
    footer: Footer,
}

impl File {
    fn new(base: u64) -> File {
        let mut bytes = vec![0; SIZE];
        header().encode(base, SIZE as u64, &mut bytes);
        File { base, bytes, end: RECORDS, footer: Footer::new(base + RECORDS as u64) }
    }

    fn record(mut self, kind: Kind, sequence: u64, origin: u64, body: &[u8]) -> File {
        let record = Record { kind, sequence, origin, body, ..Record::default() };
        codec().encode(&record, self.base + self.end as u64, &mut self.bytes[self.end..]);
        self.footer.add(&record, BodyHash::new(&KEY, body)).expect("memory");
        self.end += record.size();
        self
    }

    fn message(self, sequence: u64) -> File {
        self.record(Kind::Message, sequence, 0, &body(sequence))
    }

    fn cursor(mut self, head: u64, next_sequence: u64, oldest: u64) -> File {
        let (generation, durable) = (self.base + 1, 0);
        let cursor = Cursor { generation, head, next_sequence, durable, oldest };
        cursor.encode(self.base, &codec(), &mut self.bytes[slot_offset(0)..]);
        self
    }

    /// Makes the record that begins at `offset` rotten, its length as well.
    fn rot(mut self, offset: usize) -> File {
        self.bytes[offset..offset + RECORD_COMMON].fill(0xee);
        self
    }

    fn rot_header(mut self) -> File {
        self.bytes[SEGMENT_CREATED_MS] ^= 1;
        self
    }

    fn sealed(mut self) -> File {
        self.bytes.extend(self.footer.encode(self.base).expect("memory"));
        self
    }
}

fn body(sequence: u64) -> [u8; 8] {
    sequence.to_le_bytes()
}

fn folder(root: &TempDir) -> PathBuf {
    root.path().join("q-q")
}

fn write(files: &[File]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(folder(&root)).unwrap();
    for file in files {
        fs::write(folder(&root).join(file_name(file.base)), &file.bytes).unwrap();
    }
    root
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    names.sort();
    names
}

fn try_open(root: &TempDir) -> Result<(DataDirectory, Log), StorageError> {
    let directory = DataDirectory::open(root.path(), 64 * 1024, false)?;
    let log = directory.open_logs()?.pop().unwrap();
    Ok((directory, log))
}

/// Numbers of what is delivered.
fn numbers(log: &mut Log) -> Vec<u64> {
    let (mut numbers, mut from) = (Vec::new(), 0);
    while let Some((place, message)) = log.next(from).unwrap() {
        assert_eq!(place.sequence, message.sequence);
        numbers.push(message.sequence);
        from = message.sequence + 1;
        assert!(numbers.len() < 100, "it comes to an end");
    }
    numbers
}

fn push(log: &mut Log, body: &[u8]) -> Result<(), StorageError> {
    log.push(&NewMessage { body, flags: 0, expires_ms: 0 }, 1).map(drop)
}

/// A message with the highest number of all could not be popped, since no number is higher, and the
/// push after it overflowed.
#[test]
fn a_number_after_which_there_is_none_is_no_number() {
    let root = write(&[File::new(0).message(1).message(u64::MAX)]);
    let (_directory, mut log) = try_open(&root).unwrap();
    push(&mut log, b"pushed").unwrap();
    assert_eq!(numbers(&mut log), [1, 2]);

    let root = write(&[File::new(0).message(SEQUENCE_END - 1)]);
    let (_directory, mut log) = try_open(&root).unwrap();
    assert!(matches!(push(&mut log, b"pushed"), Err(StorageError::OutOfNumbers { .. })));
    let (place, _) = log.next(0).unwrap().unwrap();
    log.remove(place).unwrap();
    assert_eq!(numbers(&mut log), []);
}

/// The next number was taken from the cursor even if its head was higher, and so the next messages
/// were acknowledged and never seen.
#[test]
fn a_push_after_a_cursor_that_contradicts_itself_is_delivered() {
    let root = write(&[File::new(0).message(1).cursor(9, 4, 0)]);
    let (_directory, mut log) = try_open(&root).unwrap();
    push(&mut log, b"pushed").unwrap();
    assert_eq!(numbers(&mut log), [9]);
}

/// Dead and unborn segments were removed as they were found, before a later one was looked at for
/// which the queue was refused with nothing touched.
#[test]
fn a_queue_that_is_refused_keeps_its_dead_files() {
    let base = SIZE as u64;
    let mut overlapping = File::new(base + 512).message(3);
    let unborn = File { bytes: vec![0; SIZE], ..File::new(3 * base) };
    let dead = || File::new(0).message(1).sealed();
    let newest = || File::new(base).message(2).cursor(2, 3, base);
    let root = write(&[dead(), newest(), overlapping, unborn]);
    assert!(matches!(try_open(&root), Err(StorageError::Refused(_))));
    assert_eq!(names(&folder(&root)).len(), 4);

    overlapping = File::new(2 * base);
    put_u16(&mut overlapping.bytes, SEGMENT_READER, VERSION + 1);
    put_u32(&mut overlapping.bytes, SEGMENT_CRC, 0);
    let crc = crc32fast::hash(&overlapping.bytes[..SECTOR]);
    put_u32(&mut overlapping.bytes, SEGMENT_CRC, crc);
    let root = write(&[dead(), newest(), overlapping]);
    assert!(matches!(try_open(&root), Err(StorageError::Refused(_))));
    assert_eq!(names(&folder(&root)).len(), 3);
}

/// A file without a header ends where its bytes do, and the next segment began there, at an odd
/// position, which the index does not hold: what was pushed was not a member.
#[test]
fn the_segment_after_one_that_was_cut_anywhere_begins_at_a_whole_position() {
    let mut file = File::new(0).message(1).cursor(1, 1, 0).rot_header();
    file.bytes.truncate(file.end + 13);
    let root = write(&[file]);
    let (_directory, mut log) = try_open(&root).unwrap();
    for number in 2..100_u64 {
        push(&mut log, &body(number)).unwrap();
    }
    for number in 1..100_u64 {
        assert!(log.find(&body(number)).unwrap().is_some(), "{number}");
    }
    let bases = names(&folder(&root)).into_iter();
    let bases = bases.filter_map(|path| base_of(path.file_name()?.to_str()?));
    assert_eq!(bases.filter(|base| !base.is_multiple_of(ALIGNMENT as u64)).count(), 0);
}

/// Only the first record of the segments behind a bad one was asked whether it was torn or rotten.
/// Where that was rotten too, everything was cut from the first on: messages that had been
/// acknowledged. Their footer stayed, and the next start believed it: what they had removed was
/// gone as well.
#[test]
fn rotten_first_records_in_two_segments_are_no_torn_tail() {
    let base = SIZE as u64;
    let first = || File::new(0).message(1).cursor(1, 1, 0).sealed();
    let second = || File::new(base).message(2).message(3).rot(RECORDS);
    let third = || File::new(2 * base).message(4).message(5);
    let removing = third().record(Kind::Removal, 1, RECORDS as u64, &[]).rot(RECORDS);
    for (third, expected) in [(third().rot(RECORDS), vec![1, 3, 5]), (removing, vec![3, 5])] {
        let root = write(&[first(), second(), third.sealed(), File::new(3 * base)]);
        for _ in 0..2 {
            let (_directory, mut log) = try_open(&root).unwrap();
            assert_eq!(numbers(&mut log), expected);
        }
    }
}

/// A footer whose copy was another message's made whoever listed the queue begin anew at every
/// message: for ever.
#[test]
fn a_footer_that_contradicts_its_records_is_no_endless_loop() {
    let base = SIZE as u64;
    let mut file = File::new(base).record(Kind::Copy, 2, RECORDS as u64, &body(2));
    let lie = File::new(base).record(Kind::Copy, 9, RECORDS as u64, &body(9));
    file.footer = lie.footer;
    let root =
        write(&[File::new(0).message(1).sealed(), file.sealed(), File::new(2 * base).message(10)]);
    let (_directory, mut log) = try_open(&root).unwrap();
    assert_eq!(numbers(&mut log), [1, 10]);
}

/// A footer that called a removal a copy, of the very message that it removes, made that message
/// come back, without its bytes.
#[test]
fn a_removal_that_a_footer_calls_a_copy_is_no_message() {
    let base = SIZE as u64;
    let mut file = File::new(base).record(Kind::Removal, 1, RECORDS as u64, &[]);
    let lie = File::new(base).record(Kind::Copy, 1, RECORDS as u64, &[]);
    file.footer = lie.footer;
    let root = write(&[File::new(0).message(1).message(2).sealed(), file.sealed()]);
    let (_directory, mut log) = try_open(&root).unwrap();
    assert_eq!(numbers(&mut log), [2]);
    push(&mut log, b"pushed").unwrap();
    assert_eq!(numbers(&mut log), [2, 3]);
}

/// A footer that told of other numbers than its records have made the log count fewer bytes than
/// it delivered: when these were removed, the count went below zero. Here each byte of a footer is
/// wrong, and its checksum right.
#[test]
fn a_footer_that_tells_of_less_than_there_is_counts_nothing_below_zero() {
    let whole = || {
        (1..4).fold(File::new(0), |file, number| {
            file.record(Kind::Message, number, 0, &vec![7; 400 / number as usize])
        })
    };
    let length = whole().footer.encode(0).expect("memory").len();
    for (at, change) in (0..length - 8).flat_map(|at| [1, 3, 0x80, 0xff].map(|byte| (at, byte))) {
        let mut file = whole();
        let mut footer = file.footer.encode(0).expect("memory");
        footer[at] ^= change;
        let (rest, sum) = footer.split_last_chunk_mut::<8>().unwrap();
        *sum = u64::from(crc32fast::hash(rest)).to_le_bytes();
        file.bytes.extend(footer);
        let root = write(&[file, File::new(SIZE as u64)]);
        let Ok((_directory, mut log)) = try_open(&root) else { continue };
        for number in numbers(&mut log) {
            if let Some((place, _)) = log.next(number).unwrap() {
                log.remove(place).unwrap();
            }
            let _may_be_out_of_numbers = push(&mut log, b"pushed");
        }
        assert!(log.len() < 100 && log.live_bytes() < 10_000, "byte {at}, {change:#x}");
    }
}

/// The key of a queue's hashes was in the headers alone. With all of them rotten a new one was
/// taken, but footers with hashes by the old one went on to be believed: what they told of was not
/// a member. Cursor slots have the key too.
#[test]
fn what_footers_tell_of_is_found_where_no_header_knows_their_key() {
    let base = SIZE as u64;
    let files = [
        File::new(0).message(1).message(2).sealed().rot_header(),
        File::new(base).message(3).cursor(1, 1, 0).rot_header(),
    ];
    let root = write(&files);
    for _ in 0..2 {
        let (_directory, mut log) = try_open(&root).unwrap();
        for number in 1..=3 {
            assert!(log.find(&body(number)).unwrap().is_some(), "{number}");
        }
        // The next segment's header knows the new key.
        for number in 0..100_u64 {
            push(&mut log, &number.to_le_bytes()).unwrap();
        }
    }
}

/// The header of a segment of no bytes was believed, and the segment that was to follow it would
/// have had its name.
#[test]
fn a_segment_that_is_smaller_than_its_header_is_read_by_its_name() {
    let mut file = File::new(0).message(1);
    file.bytes[..SECTOR].fill(0);
    header().encode(0, 0, &mut file.bytes);
    let root = write(&[file.cursor(1, 1, 0)]);
    let (_directory, mut log) = try_open(&root).unwrap();
    assert_eq!(numbers(&mut log), [1]);
    push(&mut log, b"pushed").unwrap();
}

/// A removal whose message lies behind it took it from a count that it was not in yet: the count of
/// the segment's messages went below zero.
#[test]
fn a_removal_of_a_message_behind_it_counts_nothing_below_zero() {
    let behind = (RECORDS + REMOVAL_HEAD) as u64;
    let root = write(&[File::new(0).record(Kind::Removal, 5, behind, &[]).message(5).message(6)]);
    let (_directory, mut log) = try_open(&root).unwrap();
    assert_eq!((numbers(&mut log), log.len()), (vec![6], 1));
}

/// The sync that made copies durable also wrote the cursor that says that the segment they came
/// from is dead. A power cut in the middle of it could leave that cursor and not the copies: then
/// messages were gone that had been acknowledged long before. Found by the model, once a power cut
/// could come between the beginning of a sync and its end.
#[test]
fn a_segment_does_not_count_as_dead_before_its_copies_are_durable() {
    let root = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(root.path(), 64 * 1024, false).unwrap();
    let mut log = directory.create_log(b"q").unwrap();
    push(&mut log, b"first").unwrap();
    for number in 2..150 {
        push(&mut log, &[0; 1000]).unwrap();
        let (place, _) = log.next(FIRST_SEQUENCE - 1 + number).unwrap().unwrap();
        log.remove(place).unwrap();
    }
    let (work, point) = log.begin_sync().unwrap();
    log.end_sync(point, &work());
    let before: Vec<_> = names(&folder(&root)).iter().map(|path| fs::read(path).unwrap()).collect();
    log.copy_forward().unwrap();
    assert!(log.has_dead_segments());
    // The power fails when the device has all cursors, and none of the copies.
    let _under_way = log.begin_sync();
    let names = names(&folder(&root));
    assert_eq!(names.len(), before.len(), "no segment was begun");
    let image: Vec<_> = names.iter().map(|path| fs::read(path).unwrap()).zip(before).collect();
    drop((log, directory));
    for (path, (mut bytes, before)) in names.iter().zip(image) {
        bytes[RECORDS..].copy_from_slice(&before[RECORDS..]);
        fs::write(path, bytes).unwrap();
    }
    let (_directory, mut log) = try_open(&root).unwrap();
    assert_eq!(numbers(&mut log), [FIRST_SEQUENCE]);
}
