//! The queues that are damaged: small, and each with something that another has not.

use super::image::{self, Segment};
use mq::storage::{DataDirectory, Log, NewMessage};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The smallest that there is: every segment has it.
pub const SEGMENT_SIZE: u64 = 8 * 1024;

/// One below the number of a queue's first message: those that the queues here are made with count
/// from 1.
const BEFORE_FIRST: u64 = (1 << 61) - 1;

/// A queue's files with their contents, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A queue as it lies on the disk, and what its clients know.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Its folder.
    pub folder: String,
    pub files: Files,
    /// Bodies of all messages that were ever pushed, by number.
    pub pushed: BTreeMap<u64, Vec<u8>>,
    /// Numbers of those that are in the queue.
    pub live: Vec<u64>,
}

/// A directory that is fast and goes away.
pub fn fast_directory() -> TempDir {
    let fast = Path::new("/dev/shm");
    let parent = if fast.is_dir() { PathBuf::from(fast) } else { std::env::temp_dir() };
    tempfile::tempdir_in(parent).unwrap()
}

pub fn read_files(folder: &Path) -> Files {
    let entries = fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    let file = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

/// A log at work.
pub struct Bench {
    pub log: Log,
    pushed: BTreeMap<u64, Vec<u8>>,
    pub live: Vec<u64>,
}

impl Bench {
    pub fn new(directory: &DataDirectory, name: &[u8]) -> Bench {
        Bench { log: directory.create_log(name).unwrap(), pushed: BTreeMap::new(), live: vec![] }
    }

    /// Pushes messages of `length` bytes, each different from every other.
    pub fn push(&mut self, count: usize, length: usize) {
        for _ in 0..count {
            let number = self.pushed.len() as u64 + 1;
            let mut body = format!("{number:04} ").into_bytes();
            body.resize(length, b'a' + number as u8 % 26);
            self.log.push(&NewMessage { body: &body, flags: 7, expires_ms: 0 }, 1).unwrap();
            self.pushed.insert(BEFORE_FIRST + number, body);
            self.live.push(BEFORE_FIRST + number);
        }
    }

    fn remove(&mut self, number: u64) {
        self.take(BEFORE_FIRST + number);
    }

    /// Pops or removes the message with this number.
    pub fn take(&mut self, number: u64) {
        let place = self.log.next(number).unwrap().unwrap().0;
        assert_eq!(place.sequence, number);
        self.log.remove(place).unwrap();
        self.live.retain(|live| *live != number);
    }

    pub fn pop(&mut self, count: usize) {
        (0..count).for_each(|_| self.take(self.live[0]));
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

    pub fn segments(&self) -> usize {
        self.log.segments().filter(|segment| segment.record_bytes() > 0).count()
    }

    /// As it lies on the disk when the process is killed.
    pub fn killed(self) -> Queue {
        let folder = self.log.directory();
        Queue {
            folder: folder.file_name().unwrap().to_string_lossy().into_owned(),
            files: read_files(folder),
            pushed: self.pushed,
            live: self.live,
        }
    }

    /// As it lies there after a clean stop.
    fn stopped(mut self) -> Queue {
        self.sync();
        self.log.rest();
        self.killed()
    }
}

/// Pops, removals, footers, a cursor in several slots; a clean stop.
fn worked(mut bench: Bench) -> Queue {
    bench.push(14, 308);
    bench.sync();
    bench.pop(1);
    bench.sync();
    bench.push(16, 298);
    [5, 9, 20].into_iter().for_each(|number| bench.remove(number));
    bench.sync();
    bench.push(4, 48);
    bench.write_footers();
    bench.pop(2);
    bench.sync();
    bench.remove(30);
    bench.pop(1);
    assert!(bench.segments() == 3, "{} segments", bench.segments());
    bench.stopped()
}

/// The process was killed: two groups are durable, and behind them are records that nobody had an
/// answer to. No footers.
fn killed(mut bench: Bench) -> Queue {
    bench.push(22, 208);
    bench.sync();
    bench.pop(2);
    bench.remove(7);
    bench.sync();
    bench.push(3, 108);
    bench.remove(22);
    assert_eq!(bench.segments(), 2);
    bench.killed()
}

/// Old messages were copied forward, some of them twice, and the process was killed before what
/// they were copied from was unlinked: messages and their copies are both there.
fn copied(mut bench: Bench) -> Queue {
    bench.push(2, 48);
    bench.push(60, 308);
    (3..55).for_each(|number| bench.remove(number));
    bench.push(1, 68);
    bench.sync();
    while bench.log.copy_forward().unwrap() {}
    bench.push(20, 308);
    bench.remove(2);
    bench.write_footers();
    bench.killed()
}

/// Everything was popped.
fn popped(mut bench: Bench) -> Queue {
    bench.push(5, 38);
    bench.sync();
    bench.pop(5);
    bench.stopped()
}

/// Removals fill the tail: there are spare segments behind it.
fn spare(mut bench: Bench) -> Queue {
    bench.push(80, 13);
    bench.sync();
    bench.remove(50);
    bench.stopped()
}

/// All of them, sorted by folder, and what is in their files.
pub fn whole_queues() -> Vec<(Queue, Vec<Segment>)> {
    let whole = |queue: Queue| {
        let segments = image::read(&queue.files);
        (queue, segments)
    };
    queues().into_iter().map(whole).collect()
}

fn queues() -> Vec<Queue> {
    let root = fast_directory();
    let directory = DataDirectory::open(root.path(), SEGMENT_SIZE, false).unwrap();
    let make = |name: &[u8], work: fn(Bench) -> Queue| work(Bench::new(&directory, name));
    let mut queues = vec![
        make(b"worked", worked),
        make(b"killed", killed),
        make(b"copied", copied),
        make(b"popped", popped),
        make(b"spare", spare),
        make(b"empty", Bench::stopped),
        make(&[b'n'; 300], popped),
    ];
    queues.sort_by(|one, other| one.folder.cmp(&other.folder));
    queues
}
