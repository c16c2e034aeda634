//! The parts of mqd in bytes a second: `cargo bench --bench micro [-- FILTER]`.
//!
//! Beside them stand the two things that no part can do without, over the same bytes: `memcpy`, and
//! `crc32fast` for what is checksummed. Bytes are those that come in: of requests for the parsers,
//! of message bodies for the log and its index, of segment files for recovery. Files are in the
//! temporary directory and in the page cache; nothing is synced.
//!
//! The harness is divan: it counts bytes by itself, as criterion does, and brings a dozen crates in
//! place of three dozen.

#![allow(clippy::unwrap_used)]

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use memmap2::Mmap;
use mq::protocol::{Parsed, memcached, resp};
use mq::storage::format::Kind;
use mq::storage::{DataDirectory, Log, NewMessage};
use std::cell::RefCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Messages that one measurement is about; but for recovery.
const MESSAGES: u64 = 1000;

/// Bytes of a message.
const BODY: usize = 100;

/// Messages in the log that is indexed, and in the one that is recovered: there they fill the last
/// one of the segments in use nearly to its end.
const BACKLOG: u64 = 500_000;
const RECOVERED: u64 = 660_000;

const SEGMENT_SIZE: u64 = 64 << 20;

fn main() {
    divan::main();
}

fn body(number: u64) -> [u8; BODY] {
    let mut body = [b'x'; BODY];
    body[BODY - 20..].copy_from_slice(format!("{number:020}").as_bytes());
    body
}

/// Message `number` for each of these numbers, one behind the other.
fn bodies(numbers: impl Iterator<Item = u64>) -> Vec<u8> {
    numbers.flat_map(body).collect()
}

/// A log with messages, and its directory.
struct Fixture {
    log: Log,
    /// Locks the directory, which is removed with the value.
    _directory: (DataDirectory, TempDir),
}

fn open(path: &Path) -> DataDirectory {
    DataDirectory::open(path, SEGMENT_SIZE, false).unwrap()
}

fn fixture(messages: u64) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let directory = open(folder.path());
    let mut log = directory.create_log(b"bench").unwrap();
    (0..messages).for_each(|number| push(&mut log, &body(number)));
    Fixture { log, _directory: (directory, folder) }
}

fn push(log: &mut Log, body: &[u8]) {
    log.push(&NewMessage { body, flags: 0, expires_ms: 0 }, 1).unwrap();
}

fn pop(log: &mut Log) {
    let place = log.next(0).unwrap().map(|(place, _)| place).unwrap();
    log.remove(place).unwrap();
}

/// A thousand messages copied to their place, one by one.
#[divan::bench]
fn memcpy(bencher: Bencher<'_, '_>) {
    let bodies = bodies(0..MESSAGES);
    let mut copy = vec![0; bodies.len()];
    bencher.counter(BytesCount::new(bodies.len())).bench_local(|| {
        for (to, from) in copy.chunks_mut(BODY).zip(bodies.chunks(BODY)) {
            black_box(to).copy_from_slice(black_box(from));
        }
    });
}

/// A thousand messages, each with its checksum.
#[divan::bench]
fn crc32(bencher: Bencher<'_, '_>) {
    let bodies = bodies(0..MESSAGES);
    bencher.counter(BytesCount::new(bodies.len())).bench_local(|| {
        for body in bodies.chunks(BODY) {
            black_box(crc32fast::hash(black_box(body)));
        }
    });
}

/// A thousand SADD.
#[divan::bench]
fn parse_resp(bencher: Bencher<'_, '_>) {
    let head = b"*3\r\n$4\r\nSADD\r\n$1\r\nq\r\n$100\r\n";
    let request = |number| [&head[..], &body(number), b"\r\n"].concat();
    let input: Vec<u8> = (0..MESSAGES).flat_map(request).collect();
    let limits = resp::Limits {
        max_arguments: 1 << 20,
        max_bulk: 16 << 20,
        max_inline: 64 << 10,
        max_request: 64 << 20,
    };
    let mut arguments = resp::Arguments::default();
    bencher.counter(BytesCount::new(input.len())).bench_local(|| {
        let mut rest = &input[..];
        while !rest.is_empty() {
            match resp::parse(rest, &mut arguments, &limits) {
                Ok(Parsed::Complete { consumed }) => {
                    assert_eq!(black_box(arguments.get(rest, 2)).len(), BODY);
                    rest = &rest[consumed..];
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

/// A thousand `set`.
#[divan::bench]
fn parse_memcached(bencher: Bencher<'_, '_>) {
    let request = |number| [b"set q 0 0 100\r\n", &body(number)[..], b"\r\n"].concat();
    let input: Vec<u8> = (0..MESSAGES).flat_map(request).collect();
    let max_data = 16 << 20;
    let mut progress = memcached::Progress::default();
    bencher.counter(BytesCount::new(input.len())).bench_local(|| {
        let mut rest = &input[..];
        while !rest.is_empty() {
            match memcached::parse(rest, &mut progress, max_data) {
                Ok(memcached::Found::Complete { request, consumed }) => {
                    black_box(request);
                    rest = &rest[consumed..];
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

/// A thousand messages appended to a log.
#[divan::bench(sample_count = 200, sample_size = 1)]
fn append(bencher: Bencher<'_, '_>) {
    let bodies = bodies(0..MESSAGES);
    let mut fixture = fixture(0);
    bencher.counter(BytesCount::new(bodies.len())).bench_local(|| {
        bodies.chunks(BODY).for_each(|body| push(&mut fixture.log, body));
    });
}

/// The oldest thousand messages popped from a log.
#[divan::bench(sample_count = 200, sample_size = 1)]
fn pop_oldest(bencher: Bencher<'_, '_>) {
    let bodies = bodies(0..MESSAGES);
    let fixture = RefCell::new(fixture(MESSAGES));
    let push_all = || {
        let log = &mut fixture.borrow_mut().log;
        bodies.chunks(BODY).for_each(|body| push(log, body));
    };
    bencher.counter(BytesCount::new(bodies.len())).with_inputs(push_all).bench_local_values(|()| {
        let log = &mut fixture.borrow_mut().log;
        (0..MESSAGES).for_each(|_| pop(log));
    });
}

/// The same with an index: a thousand times a message more in it and one less.
#[divan::bench(sample_count = 200, sample_size = 1)]
fn append_and_pop_indexed(bencher: Bencher<'_, '_>) {
    let bodies = bodies(0..MESSAGES);
    let mut fixture = indexed(MESSAGES);
    bencher.counter(BytesCount::new(bodies.len())).bench_local(|| {
        for body in bodies.chunks(BODY) {
            push(&mut fixture.log, body);
            pop(&mut fixture.log);
        }
    });
}

fn indexed(messages: u64) -> Fixture {
    let mut fixture = fixture(messages);
    while !fixture.log.prepare_find().unwrap() {}
    fixture
}

/// Half a million messages put into the index.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn build_index(bencher: Bencher<'_, '_>) {
    bencher
        .counter(BytesCount::new(BACKLOG as usize * BODY))
        .with_inputs(|| fixture(BACKLOG))
        .bench_local_refs(|fixture| while !fixture.log.prepare_find().unwrap() {});
}

/// A thousand messages, spread over half a million, found by their bodies.
#[divan::bench(sample_count = 200, sample_size = 1)]
fn look_up(bencher: Bencher<'_, '_>) {
    let bodies = bodies((0..MESSAGES).map(|number| number * 7919 % BACKLOG));
    let mut fixture = indexed(BACKLOG);
    bencher.counter(BytesCount::new(bodies.len())).bench_local(|| {
        for body in bodies.chunks(BODY) {
            assert!(fixture.log.find(body).unwrap().is_some());
        }
    });
}

/// The segment files of the messages to be recovered, without footers.
struct Files {
    folder: TempDir,
    /// Oldest first.
    paths: Vec<PathBuf>,
    /// All of them up to the last record, one behind the other.
    bytes: Vec<u8>,
}

fn files() -> Files {
    let Fixture { log, _directory: (directory, folder) } = fixture(RECOVERED);
    let mut paths: Vec<_> =
        fs::read_dir(log.directory()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    // The last one is not full.
    let mut bytes: Vec<u8> = paths.iter().flat_map(|path| fs::read(path).unwrap()).collect();
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    drop((log, directory));
    Files { folder, paths, bytes }
}

/// A log recovered: every record checked.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn recover(bencher: Bencher<'_, '_>) {
    let files = files();
    bencher.counter(BytesCount::new(files.bytes.len())).bench_local(|| {
        let directory = open(files.folder.path());
        let logs = directory.open_logs().unwrap();
        assert_eq!(logs.iter().map(Log::len).sum::<u64>(), RECOVERED);
        // What it takes to let go of them is not measured.
        (directory, logs)
    });
}

/// The same bytes, checksummed and nothing else.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn recover_crc32(bencher: Bencher<'_, '_>) {
    let files = files();
    bencher
        .counter(BytesCount::new(files.bytes.len()))
        .bench_local(|| black_box(crc32fast::hash(black_box(&files.bytes))));
}

/// The same bytes, checksummed in pieces as long as a record: what checking every record comes to
/// at the least.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn recover_crc32_by_record(bencher: Bencher<'_, '_>) {
    let files = files();
    let size = Kind::Message.record_size(BODY);
    bencher.counter(BytesCount::new(files.bytes.len())).bench_local(|| {
        for record in black_box(&files.bytes).chunks(size) {
            black_box(crc32fast::hash(record));
        }
    });
}

/// The same in the files, mapped anew: what one thread that maps them and checks every record
/// comes to at the least, page faults included.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn recover_crc32_by_mapped_record(bencher: Bencher<'_, '_>) {
    let files = files();
    let size = Kind::Message.record_size(BODY);
    bencher.counter(BytesCount::new(files.bytes.len())).bench_local(|| {
        let mut rest = files.bytes.len();
        for path in &files.paths {
            // SAFETY: nobody writes to the file or cuts it.
            let map = unsafe { Mmap::map(&File::open(path).unwrap()) }.unwrap();
            for record in map[..map.len().min(rest)].chunks(size) {
                black_box(crc32fast::hash(record));
            }
            rest = rest.saturating_sub(map.len());
        }
    });
}
