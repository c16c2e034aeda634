//! Power cuts: whatever part of what was not synced reaches the device, nothing that was answered
//! is lost.
//!
//! A log is worked on, and now and then the power fails. The image that is left holds all that the
//! last sync covered and, of what was written after it, any subset of the sectors. Recovery opens
//! the image; then what `--fsync always` promises is checked (rules 4, 5, 8, 10, 11 and 12):
//!
//! 1. what was answered is there, in order, once,
//! 2. what was answered as gone is not,
//! 3. no image looks damaged: torn is not rotten.
//!
//! The work goes on with what was recovered, and the power fails again. `MQ_TEST_SEED` repeats a
//! run.

// A test that cannot go on says so by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/random.rs"]
mod random;

use mq::storage::{DataDirectory, Log, NewMessage};
use random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const SECTOR: usize = 512;
const SEGMENT_SIZE: u64 = 16 * 1024;
const IMAGES: usize = 10_000;
const QUEUE: &[u8] = b"q";

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A queue's files with their contents, by name.
fn read_files(folder: &Path) -> Files {
    let entries = fs::read_dir(folder).map(|entries| entries.map(Result::unwrap));
    let file = |entry: fs::DirEntry| {
        let name = PathBuf::from(entry.file_name());
        (name, fs::read(entry.path()).unwrap())
    };
    entries.into_iter().flatten().map(file).collect()
}

/// A log at work, what is on the device for certain, and what clients have been told.
struct Bench {
    directory: DataDirectory,
    folder: PathBuf,
    /// There is always one, but for the moment between a drop and the next.
    log: Option<Log>,
    /// What the device holds for certain.
    durable: Files,
    /// Contents some time after the last sync.
    earlier: Files,
    /// Files of a queue that was dropped: they may be there after a power cut, as a tombstone.
    dropped: Files,
    next_id: u64,
    /// In the queue, by id.
    present: BTreeSet<u64>,
    /// In the queue as of the last answer; the replies after it have not left.
    answered: BTreeSet<u64>,
    /// The next id as of the last answer.
    answered_next_id: u64,
}

fn body(id: u64) -> Vec<u8> {
    let mut body = id.to_le_bytes().to_vec();
    body.resize(8 + (id.wrapping_mul(0x9e37_79b9) % 500) as usize, id as u8);
    body
}

fn id_of(body: &[u8]) -> u64 {
    u64::from_le_bytes(*body.first_chunk().unwrap())
}

fn contents(log: &mut Log) -> Vec<u64> {
    let (mut ids, mut from) = (Vec::new(), 0);
    while let Some((place, message)) = log.next(from).unwrap() {
        let id = id_of(message.body);
        assert_eq!(message.body, body(id), "a message was changed");
        ids.push(id);
        from = place.sequence + 1;
    }
    ids
}

impl Bench {
    /// Opens what a power cut has left: a queue's files and those of a queue that was dropped.
    fn over(root: &Path, files: &Files, dropped: &Files) -> (Bench, Vec<u64>) {
        let folder = root.join("q-q");
        let tombstone = root.join("dropped-1");
        fs::create_dir_all(&tombstone).unwrap();
        for (name, bytes) in dropped {
            fs::write(tombstone.join(name), bytes).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in files {
            fs::write(folder.join(name), bytes).unwrap();
        }
        // Not strictly, so that footers are read.
        let directory = DataDirectory::open(root, SEGMENT_SIZE, false).unwrap();
        let mut logs = directory.open_logs().unwrap();
        let mut log = logs.pop().unwrap_or_else(|| directory.create_log(QUEUE).unwrap());
        let found = contents(&mut log);
        let counters: BTreeMap<_, _> = directory.counters().list().into_iter().collect();
        assert_eq!(counters["damaged_records"], 0, "an image looks damaged");
        assert_eq!(log.len(), found.len() as u64, "counted wrong");
        let durable = read_files(&folder);
        let earlier = durable.clone();
        let present: BTreeSet<u64> = found.iter().copied().collect();
        let answered = present.clone();
        let bench = Bench {
            directory,
            folder,
            log: Some(log),
            dropped: Files::new(),
            durable,
            earlier,
            next_id: 0,
            present,
            answered,
            answered_next_id: 0,
        };
        (bench, found)
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(800) {
            0 => return self.drop_queue(),
            choice => self.work(choice % 21, random),
        }
        self.note_rotations();
    }

    fn work(&mut self, choice: u64, random: &mut Random) {
        match choice {
            0..=7 => self.push(),
            8..=9 => self.pop(),
            10..=15 => self.remove(random),
            16 => drop(self.log().copy_forward().unwrap()),
            17 => self.earlier = read_files(&self.folder),
            18 => self.write_footer(),
            _ => self.sync(),
        }
    }

    /// Drops the queue and makes a new one of that name; both are durable when they are answered.
    fn drop_queue(&mut self) {
        self.dropped = read_files(&self.folder);
        let log = self.log.take().unwrap();
        self.directory.drop_log(&log).unwrap();
        self.log = Some(self.directory.create_log(QUEUE).unwrap());
        self.present.clear();
        self.sync();
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn push(&mut self) {
        let body = body(self.next_id);
        self.log().push(&NewMessage { body: &body, flags: 0, expires_ms: 0 }, 1).unwrap();
        self.present.insert(self.next_id);
        self.next_id += 1;
    }

    fn pop(&mut self) {
        let first =
            self.log().next(0).unwrap().map(|(place, message)| (place, id_of(message.body)));
        assert_eq!(first.map(|(_, id)| id), self.present.pop_first());
        if let Some((place, _)) = first {
            self.log().remove(place).unwrap();
        }
    }

    fn remove(&mut self, random: &mut Random) {
        let count = self.present.len() as u64;
        if count == 0 {
            return;
        }
        let id = *self.present.iter().nth(random.below(count) as usize).unwrap();
        let place = self.log().find(&body(id)).unwrap().unwrap().0;
        self.log().remove(place).unwrap();
        self.present.remove(&id);
    }

    fn write_footer(&mut self) {
        if let Some(work) = self.log().draft_footer() {
            work().unwrap();
        }
    }

    fn sync(&mut self) {
        if let Some((work, point)) = self.log().begin_sync() {
            let outcome = work();
            self.log().end_sync(point, &outcome);
        }
        self.durable = read_files(&self.folder);
        self.earlier = self.durable.clone();
        self.answered = self.present.clone();
        self.answered_next_id = self.next_id;
    }

    /// A new segment is durable with its header; one that has a successor with anything in it was
    /// synced before, and has not changed since.
    fn note_rotations(&mut self) {
        let current = read_files(&self.folder);
        let names: Vec<&PathBuf> = current.keys().collect();
        for (index, name) in names.iter().enumerate() {
            let bytes = &current[*name];
            if !self.durable.contains_key(*name) {
                let mut created = vec![0; bytes.len()];
                created[..SECTOR].copy_from_slice(&bytes[..SECTOR]);
                self.durable.insert((*name).clone(), created);
            }
            // A footer may come in pieces: whatever is not its bytes is zero.
            for files in [&mut self.durable, &mut self.earlier] {
                if let Some(known) = files.get_mut(*name) {
                    known.resize(bytes.len(), 0);
                }
            }
            let used = |name: &PathBuf| current[name][SECTOR..].iter().any(|byte| *byte != 0);
            if names[index + 1..].iter().any(|name| used(name)) {
                self.durable.insert((*name).clone(), bytes.clone());
                self.earlier.insert((*name).clone(), bytes.clone());
            }
        }
        self.durable.retain(|name, _| current.contains_key(name));
    }

    /// What a power cut may leave: each sector as it was synced, as it was in between, or as it is.
    fn image(&self, random: &mut Random) -> Files {
        let current = read_files(&self.folder);
        let likely = random.below(4);
        let mut image = self.durable.clone();
        for (name, bytes) in &mut image {
            for start in (0..bytes.len()).step_by(SECTOR) {
                let sector = start..bytes.len().min(start + SECTOR);
                let source = match random.below(4) {
                    choice if choice > likely => continue,
                    0 => self.earlier.get(name).unwrap_or(&current[name]),
                    _ => &current[name],
                };
                bytes[sector.clone()].copy_from_slice(&source[sector]);
            }
        }
        image
    }

    fn check(&self, found: &[u64]) {
        assert!(found.is_sorted_by(|one, next| one < next), "out of order or twice: {found:?}");
        let found: BTreeSet<u64> = found.iter().copied().collect();
        let required: BTreeSet<u64> = self.answered.intersection(&self.present).copied().collect();
        let allowed: BTreeSet<u64> = self.answered.union(&self.present).copied().collect();
        let lost: Vec<_> = required.difference(&found).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        // What was pushed since the last answer may be there even if it was removed since.
        let back: Vec<_> =
            found.difference(&allowed).filter(|id| **id < self.answered_next_id).collect();
        assert!(back.is_empty(), "back from the dead: {back:?}");
    }
}

fn shared_memory() -> tempfile::TempDir {
    let fast = Path::new("/dev/shm");
    let parent = if fast.is_dir() { fast.to_path_buf() } else { std::env::temp_dir() };
    tempfile::tempdir_in(parent).unwrap()
}

#[test]
fn no_power_cut_loses_what_was_answered() {
    let mut random = Random::seeded();
    let root = shared_memory();
    let (mut bench, _) = Bench::over(root.path(), &Files::new(), &Files::new());
    let mut _root = root;
    let mut seen =
        BTreeMap::from([("copies", 0), ("torn tails", 0), ("rotations", 0), ("drops", 0)]);
    for image in 0..IMAGES {
        for _ in 0..1 + random.below(30) {
            bench.step(&mut random);
        }
        let counters: BTreeMap<_, _> = bench.directory.counters().list().into_iter().collect();
        *seen.entry("copies").or_default() += counters["copied_messages"];
        *seen.entry("torn tails").or_default() += counters["torn_tails"];
        *seen.entry("rotations").or_default() += u64::from(bench.durable.len() > 1);
        *seen.entry("drops").or_default() += u64::from(!bench.dropped.is_empty());
        let files = bench.image(&mut random);
        let next_root = shared_memory();
        let (mut next, found) = Bench::over(next_root.path(), &files, &bench.dropped);
        bench.check(&found);
        (next.next_id, next.answered_next_id) = (bench.next_id, bench.next_id);
        // The directory that is not needed any more goes; most images are the start of the next
        // run.
        if random.below(10) > 0 || image == 0 {
            drop(bench);
            bench = next;
            _root = next_root;
        }
    }
    println!("{seen:?}");
    assert!(seen.values().all(|count| *count > 100), "the run has left something out");
}
