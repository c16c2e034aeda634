//! A log at work in a directory of its own, and its files as byte vectors.
//!
//! The few offsets that tests need are written here as `storage-format.md` gives them.

pub use crate::common::capture::captured;
use crate::common::{opening, program};
use mq::storage::{DataDirectory, Finding, Inspection, Log, NewMessage, StorageError, Weight};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What a device writes whole or not at all; a segment's header and each cursor slot have one.
pub const SECTOR: usize = 512;
/// The first record of a segment.
pub const RECORDS: usize = 2560;
/// A removal record.
pub const REMOVAL_SIZE: u64 = 48;
/// One below the number of a queue's first message: numbers in these tests count from 1.
pub const BEFORE_FIRST: u64 = (1 << 61) - 1;
/// Where a segment's header has its version, its checksum and its base.
pub const HEADER_VERSION: usize = 8;
pub const HEADER_CRC: usize = 12;
pub const HEADER_BASE: usize = 16;

/// A queue's files with their contents, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A log in a directory of its own.
pub struct Bench {
    pub log: Log,
    pub directory: DataDirectory,
    pub root: TempDir,
    pub segment_size: u64,
}

/// A new message without flags and expiry.
pub fn new_message(body: &[u8]) -> NewMessage<'_> {
    NewMessage { body, flags: 0, expires_ms: 0 }
}

impl Bench {
    /// A new queue `q`.
    pub fn new(segment_size: u64) -> Bench {
        let root = TempDir::new().unwrap();
        let directory = open_directory(root.path(), segment_size, false).unwrap();
        let log = directory.create_log(b"q").unwrap();
        Bench { log, directory, root, segment_size }
    }

    /// The queue `q` that these files are.
    pub fn of(files: &Files, segment_size: u64) -> Bench {
        let root = with_files(files);
        let (directory, log) = open(root.path(), segment_size, false).unwrap();
        Bench { log: log.expect("a queue"), directory, root, segment_size }
    }

    /// Ends without a clean stop, as a killed process does, and opens again.
    pub fn reopen(self) -> Bench {
        let Bench { log, directory, root, segment_size } = self;
        drop((log, directory));
        let (directory, log) = open(root.path(), segment_size, false).unwrap();
        Bench { log: log.expect("a queue"), directory, root, segment_size }
    }

    pub fn push(&mut self, body: impl AsRef<[u8]>) {
        self.log.push(&new_message(body.as_ref()), 1).unwrap();
    }

    pub fn pop(&mut self) -> Option<Vec<u8>> {
        let (place, body) =
            self.log.next(0).unwrap().map(|(place, message)| (place, message.body.to_vec()))?;
        self.log.remove(place).unwrap();
        Some(body)
    }

    /// False: there is none.
    pub fn remove(&mut self, body: impl AsRef<[u8]>) -> bool {
        let place = self.log.find(body.as_ref()).unwrap().map(|(place, _)| place);
        place.is_some_and(|place| self.log.remove(place).is_ok())
    }

    pub fn sync(&mut self) {
        if let Some((work, point)) = self.log.begin_sync() {
            let outcome = work();
            self.log.end_sync(point, &outcome);
            outcome.unwrap();
        }
    }

    /// Bodies, oldest first.
    pub fn bodies(&mut self) -> Vec<Vec<u8>> {
        self.places().into_iter().map(|(_, _, body)| body).collect()
    }

    /// Number, position and body of each message, oldest first.
    pub fn places(&mut self) -> Vec<(u64, u64, Vec<u8>)> {
        let (mut places, mut from) = (Vec::new(), 0);
        while let Some((place, message)) = self.log.next(from).unwrap() {
            from = place.sequence + 1;
            places.push((place.sequence - BEFORE_FIRST, place.position, message.body.to_vec()));
        }
        places
    }

    pub fn folder(&self) -> PathBuf {
        self.root.path().join("q-q")
    }

    pub fn files(&self) -> Files {
        read_files(&self.folder())
    }

    /// The value of a counter.
    pub fn count(&self, name: &str) -> u64 {
        let counters = self.directory.counters().list();
        counters.into_iter().find(|(other, _)| *other == name).expect("a counter").1
    }

    /// The file that `position` lies in, and the offset there.
    pub fn file_of(&self, position: u64) -> (String, usize) {
        let segments = self.log.segments().filter(|segment| segment.base <= position);
        let segment = segments.last().expect("a segment");
        let name = segment.path.file_name().unwrap().to_string_lossy().into_owned();
        (name, (position - segment.base) as usize)
    }
}

pub fn read_files(folder: &Path) -> Files {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let file = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

/// A data directory with one queue `q` of these files.
pub fn with_files(files: &Files) -> TempDir {
    let root = TempDir::new().unwrap();
    let folder = root.path().join("q-q");
    fs::create_dir(&folder).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
    root
}

/// What is found in a data directory; `mq-dump verify` says the same.
pub fn verified(root: &Path) -> Vec<Finding> {
    let inspection = Inspection::new(root);
    let mut found = inspection.verify_directory().unwrap();
    for folder in inspection.folders(None).unwrap() {
        found.extend(inspection.verify(&folder).unwrap());
    }
    let (lines, code) = program::verify(root);
    let (summary, said) = lines.split_last().unwrap();
    let wanted = |finding: &Finding| {
        let label = finding.label;
        let weight = match label.weight() {
            Weight::Note => "note",
            Weight::Damage => "damage",
            Weight::Refusal => "refusal",
        };
        [finding.to_string(), format!("    {weight}: {}", label.done())]
    };
    assert_eq!(said, found.iter().flat_map(wanted).collect::<Vec<_>>());
    let is_sound = found.iter().all(|finding| finding.label.weight() == Weight::Note);
    assert_eq!(code, Some(if is_sound { 0 } else { 1 }), "{lines:?}");
    assert_eq!(summary.contains(": no damage"), is_sound, "{summary}");
    found
}

/// Opens a data directory, which nobody else has open.
pub fn open_directory(
    root: impl AsRef<Path>,
    segment_size: u64,
    strict: bool,
) -> Result<DataDirectory, StorageError> {
    opening::open(|| DataDirectory::open(root.as_ref(), segment_size, strict))
}

/// Opens a data directory with at most one queue.
pub fn open(
    root: &Path,
    segment_size: u64,
    strict: bool,
) -> Result<(DataDirectory, Option<Log>), StorageError> {
    let directory = open_directory(root, segment_size, strict)?;
    let mut logs = directory.open_logs()?;
    assert!(logs.len() < 2);
    Ok((directory, logs.pop()))
}
