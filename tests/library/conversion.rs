//! A directory of version 1 goes on as one of version 2: it is used, killed, damaged and repaired.
//!
//! `tests/fixtures/v1` is what a daemon of version 1 wrote. Its segments stay as they are, but for
//! cursors and removals of single messages in the newest one; whatever else is written begins one
//! of version 2 behind them.

use mq::storage::format::{RECORDS, SEGMENT_CREATED_MS, SegmentHeader, Version, base_of};
use mq::storage::{DataDirectory, Inspection, Log, NewMessage, StepSize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SEGMENT_SIZE: u64 = 8 * 1024;

/// Numbers and bodies by queue.
type Contents = BTreeMap<Vec<u8>, Vec<(u64, Vec<u8>)>>;

/// A copy of the directory of version 1, but for the queues that are damaged already.
fn old_directory() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1/data");
    for folder in fs::read_dir(data).unwrap().map(Result::unwrap) {
        let name = folder.file_name().into_string().unwrap();
        if name == "q-rotten" || name == "q-silent" || name.starts_with("q-torn") {
            continue;
        }
        fs::create_dir(root.path().join(&name)).unwrap();
        for file in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), root.path().join(&name).join(file.file_name())).unwrap();
        }
    }
    root
}

fn open(root: &Path) -> (DataDirectory, Vec<Log>) {
    let directory = DataDirectory::open(root, SEGMENT_SIZE, false).unwrap();
    let logs = directory.open_logs().unwrap();
    (directory, logs)
}

fn contents(logs: &mut [Log]) -> Contents {
    let mut contents = Contents::new();
    for log in logs {
        let (mut messages, mut from) = (Vec::new(), 0);
        while let Some((place, message)) = log.next(from).unwrap() {
            messages.push((place.sequence, message.body.to_vec()));
            from = place.sequence + 1;
        }
        contents.insert(log.name().to_vec(), messages);
    }
    contents
}

/// Versions of the segments in a queue's folder, oldest first.
fn versions(folder: &Path) -> Vec<Version> {
    files(folder).iter().map(|path| version_of(path)).collect()
}

fn version_of(path: &Path) -> Version {
    let base = base_of(path.file_name().unwrap().to_str().unwrap()).unwrap();
    SegmentHeader::decode(base, &fs::read(path).unwrap()).unwrap().0.version
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    files
}

fn push(log: &mut Log, body: &[u8]) {
    log.push(&NewMessage { body, flags: 0, expires_ms: 0 }, 1).unwrap();
}

fn remove(log: &mut Log, number: u64) {
    let place = log.next(number).unwrap().unwrap().0;
    assert_eq!(place.sequence, number);
    log.remove(place).unwrap();
}

fn sync(log: &mut Log) {
    if let Some((work, point)) = log.begin_sync() {
        log.end_sync(point, &work());
    }
}

/// Pops and removals of single messages need no new segment, so they go on also on a full disk.
#[test]
fn single_removals_stay_in_the_old_segment() {
    let root = old_directory();
    let (directory, mut logs) = open(root.path());
    let mut expected = contents(&mut logs);
    for log in &mut logs {
        let messages = expected.get_mut(log.name()).unwrap();
        if messages.len() > 4 {
            remove(log, messages.remove(2).0);
            remove(log, messages.remove(0).0);
            sync(log);
            let versions = versions(log.directory());
            assert!(versions.iter().all(|version| *version == Version::One), "{versions:?}");
        }
    }
    drop((logs, directory));
    assert_eq!(contents(&mut open(root.path()).1), expected);
}

/// The directory after work of every kind by this version, killed behind it.
fn worked() -> (TempDir, Contents) {
    let root = old_directory();
    let (_directory, mut logs) = open(root.path());
    let mut expected = contents(&mut logs);
    for log in &mut logs {
        let messages = expected.get_mut(log.name()).unwrap();
        let first = messages.first().map_or(0, |(number, _)| *number);
        push(log, b"alone");
        log.begin_step(&StepSize { pushes: 2, pushed_bytes: 9, ..StepSize::default() }).unwrap();
        push(log, b"two");
        push(log, b"at once");
        log.end_step().unwrap();
        assert_eq!(versions(log.directory()).last(), Some(&Version::Two));
        // Messages of old segments are popped, removed, and removed as a step.
        let old = messages.len();
        if old > 6 {
            let removals: Vec<u64> = [5, 3].map(|index| messages.remove(index).0).into();
            log.begin_step(&StepSize { removals: 2, ..StepSize::default() }).unwrap();
            removals.into_iter().for_each(|number| remove(log, number));
            log.end_step().unwrap();
            sync(log);
            remove(log, messages.remove(1).0);
            remove(log, messages.remove(0).0);
        }
        while log.copy_forward().unwrap() {}
        sync(log);
        while let Some(work) = log.write_footer() {
            work().unwrap();
        }
        let found = contents(std::slice::from_mut(log));
        let new = &found[log.name()][messages.len()..];
        let bodies: Vec<&[u8]> = new.iter().map(|(_, body)| body.as_slice()).collect();
        assert_eq!(bodies, [&b"alone"[..], b"two", b"at once"]);
        assert!(new[0].0 > first, "numbers go on");
        messages.extend(new.iter().cloned());
        // Else nothing says that the last records are durable.
        log.rest();
    }
    (root, expected)
}

#[test]
fn an_old_directory_is_used_killed_and_opened_again() {
    let (root, expected) = worked();
    let inspection = Inspection::new(root.path());
    for folder in inspection.folders(None).unwrap() {
        let damage = inspection.verify(&folder).unwrap();
        assert!(damage.iter().all(|finding| !finding.is_damage()), "{damage:?}");
    }
    for _ in 0..2 {
        assert_eq!(contents(&mut open(root.path()).1), expected);
    }
    // A strict start reads every record, and compares footers of both versions with them.
    let strict = DataDirectory::open(root.path(), SEGMENT_SIZE, true).unwrap();
    assert_eq!(contents(&mut strict.open_logs().unwrap()), expected);
}

/// One bit of each file: in its header, in its first record, in the middle.
#[test]
fn damage_in_either_version_costs_at_most_one_message() {
    let (root, expected) = worked();
    let folders: Vec<PathBuf> = files(root.path()).into_iter().filter(|it| it.is_dir()).collect();
    let all: Vec<PathBuf> = folders.iter().flat_map(|folder| files(folder)).collect();
    for path in all.iter().filter(|path| path.extension().is_some_and(|it| it == "seg")) {
        let whole = fs::read(path).unwrap();
        for offset in [SEGMENT_CREATED_MS, RECORDS + 30, RECORDS + 66, whole.len() / 2] {
            let image = copy_of(root.path());
            let mut bytes = whole.clone();
            bytes[offset] ^= 1;
            fs::write(image.path().join(path.strip_prefix(root.path()).unwrap()), bytes).unwrap();
            let found = contents(&mut open(image.path()).1);
            for (queue, messages) in &found {
                let known = &expected[queue];
                assert!(messages.iter().all(|message| known.contains(message)), "made up");
                assert!(messages.len() + 1 >= known.len(), "{} at {offset}", path.display());
            }
            assert_eq!(found.len(), expected.len());
        }
    }
}

fn copy_of(root: &Path) -> TempDir {
    let image = tempfile::tempdir().unwrap();
    for folder in files(root).iter().filter(|it| it.is_dir()) {
        let target = image.path().join(folder.file_name().unwrap());
        fs::create_dir(&target).unwrap();
        for file in files(folder) {
            fs::copy(&file, target.join(file.file_name().unwrap())).unwrap();
        }
    }
    image
}

/// What `mq-dump repair` does after recovery leaves one version.
#[test]
fn a_renewed_log_has_nothing_of_the_old_version_left() {
    let (root, expected) = worked();
    let (directory, mut logs) = open(root.path());
    for log in &mut logs {
        log.renew().unwrap();
        let versions = versions(log.directory());
        assert!(versions.iter().all(|version| *version == Version::Two), "{versions:?}");
    }
    drop((logs, directory));
    assert_eq!(contents(&mut open(root.path()).1), expected);
}
