//! A log at work in a directory of its own, whose files a test may spoil.

use mq::storage::format::{FIRST_SEQUENCE, MESSAGE_HEAD, RECORDS, SLOTS};
use mq::storage::{DataDirectory, Log, Message, NewMessage, Place};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub const SMALL: u64 = 8 * 1024;
pub const LARGE: u64 = 1024 * 1024;

/// Where a segment's cursors are.
pub const CURSORS: Range<usize> = SLOTS..RECORDS;

/// Where in its body a record is made rotten, in bytes from its start: within its number.
pub const ROT: usize = 28;

/// The bytes of a small message's record in these tests: a body of eight bytes.
pub const RECORD: usize = MESSAGE_HEAD + 8;

/// One below the number of a queue's first message: numbers in these tests count from 1.
pub const BEFORE_FIRST: u64 = FIRST_SEQUENCE - 1;

/// More slices of work than any log here has.
pub const MANY_SLICES: usize = 10_000;

/// One queue's log, its directory and where that is.
pub struct Bench {
    pub log: Log,
    pub directory: DataDirectory,
    pub root: TempDir,
    pub segment_size: u64,
}

impl Bench {
    pub fn new(segment_size: u64) -> Bench {
        let root = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(root.path(), segment_size, false).unwrap();
        let log = directory.create_log(b"q").unwrap();
        Bench { log, directory, root, segment_size }
    }

    /// A log with messages 1 to `count`, whose bodies are their numbers; durable.
    pub fn numbered(segment_size: u64, count: u64) -> Bench {
        let mut bench = Bench::new(segment_size);
        (1..=count).for_each(|number| bench.push(number.to_le_bytes()));
        bench.sync();
        bench
    }

    /// Ends as a kill does, lets `work` change the files, and starts again.
    pub fn spoil(self, work: impl FnOnce(&[PathBuf])) -> Bench {
        let Bench { log, directory, root, segment_size } = self;
        drop((log, directory));
        work(&files(root.path()));
        let directory = DataDirectory::open(root.path(), segment_size, false).unwrap();
        let log = directory.open_logs().unwrap().pop().unwrap();
        Bench { log, directory, root, segment_size }
    }

    pub fn push(&mut self, body: impl AsRef<[u8]>) {
        let message = NewMessage { body: body.as_ref(), flags: 0, expires_ms: 0 };
        self.log.push(&message, 1).unwrap();
    }

    pub fn sync(&mut self) {
        if let Some((work, point)) = self.log.begin_sync() {
            self.log.end_sync(point, &work());
        }
    }

    pub fn write_footers(&mut self) {
        while let Some(work) = self.log.write_footer() {
            work().unwrap();
        }
    }

    pub fn place(&mut self, number: u64) -> Place {
        let place = self.log.next(BEFORE_FIRST + number).unwrap().unwrap().0;
        assert_eq!(place.sequence, BEFORE_FIRST + number);
        place
    }

    pub fn remove(&mut self, number: u64) {
        let place = self.place(number);
        self.log.remove(place).unwrap();
    }

    /// Copies forward until nothing is to be done; it has to end.
    pub fn copy_forward(&mut self) {
        let mut slices = 0..MANY_SLICES;
        while self.log.copy_forward().unwrap() {
            self.sync();
            slices.next().expect("copying forward comes to an end");
        }
        self.sync();
    }

    /// What `field` says of every message, in order.
    pub fn scan<T>(&mut self, field: impl Fn(Message<'_>) -> T) -> Vec<T> {
        let (mut found, mut from) = (Vec::new(), 0);
        while let Some((place, message)) = self.log.next(from).unwrap() {
            found.push(field(message));
            from = place.sequence + 1;
        }
        found
    }

    pub fn numbers(&mut self) -> Vec<u64> {
        self.scan(|message| message.sequence - BEFORE_FIRST)
    }

    pub fn bodies(&mut self) -> Vec<Vec<u8>> {
        self.scan(|message| message.body.to_vec())
    }

    /// The first messages in order of number that lie before `position`.
    pub fn numbers_before(&mut self, position: u64) -> Vec<u64> {
        let numbers = self.numbers().into_iter();
        numbers.take_while(|number| self.place(*number).position < position).collect()
    }

    /// Pops everything; answers the numbers.
    pub fn pop_all(&mut self) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some((place, _)) = self.log.next(0).unwrap() {
            numbers.push(place.sequence - BEFORE_FIRST);
            self.log.remove(place).unwrap();
        }
        numbers
    }

    pub fn counter(&self, wanted: &str) -> u64 {
        let counters = self.directory.counters().list();
        counters.into_iter().find(|(name, _)| *name == wanted).unwrap().1
    }
}

/// The queue's files, oldest first.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join("q-q")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Which file is the newest with a cursor; behind it are files made ahead of their use.
pub fn newest_in_use(files: &[PathBuf]) -> usize {
    let has_cursor =
        |path: &PathBuf| fs::read(path).unwrap()[CURSORS].iter().any(|byte| *byte != 0);
    files.iter().rposition(has_cursor).unwrap()
}

pub fn change(path: &Path, work: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    work(&mut bytes);
    fs::write(path, bytes).unwrap();
}

pub fn flip(path: &Path, offset: usize) {
    change(path, |bytes| bytes[offset] ^= 1);
}

pub fn fill(path: &Path, range: Range<usize>, byte: u8) {
    change(path, |bytes| bytes[range].fill(byte));
}

pub fn numbers_to(last: u64) -> Vec<u64> {
    (1..=last).collect()
}
