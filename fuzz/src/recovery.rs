//! Recovery: whatever the files of a queue say, they are opened or refused, and nothing is made up.
//!
//! 1. Looking changes nothing.
//! 2. What is delivered stands in the files.
//! 3. What is refused is refused again, and nothing has been touched.
//!
//! Where the files are what this program may have written, with any damage to it:
//!
//! 4. Looking finds what the daemon finds.
//! 5. Recovery is idempotent: the next opening finds the same messages.
//! 6. The log that was opened can be worked on, and what was done is there after the next opening.
//! 7. The opening knows when what is delivered expires.

use super::choices::Choices;
use super::recipe::{CODECS, Files, base_in, queue_files, read_files, write_files};
use mq::storage::format::{ALIGNMENT, Verdict};
use mq::storage::{Cause, DataDirectory, Inspection, Log, NewMessage, StorageError};
use std::path::Path;
use tempfile::TempDir;

const SEGMENT_SIZE: u64 = 16 * 1024;

/// Number, client flags and body.
type Messages = Vec<(u64, u32, Vec<u8>)>;

/// Holds for every input, or panics.
pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let (files, is_possible) = queue_files(&mut choices);
    let root = shared_memory();
    let folder = root.path().join("q-q");
    write_files(&folder, &files);
    let seen = inspect(root.path());
    assert_eq!(read_files(&folder), files, "looking has changed a file");
    match open(root.path(), false, all) {
        Ok(found) => {
            for message in &found {
                assert!(is_written(&files, message), "made up: {message:?}");
            }
            if is_possible {
                assert_eq!(seen, Some(found.clone()), "what is shown is not what is delivered");
                open(root.path(), false, check_times).expect("it was opened once");
                check_work(root.path(), &found, &mut choices);
            } else {
                let _may_fail = open(root.path(), false, |log| push_and_remove(log, &found));
                let _may_fail = open(root.path(), true, all);
            }
        }
        Err(error @ StorageError::Refused(_)) => {
            assert!(!is_possible || seen.is_none(), "what is refused was shown: {error}");
            let is_touched = read_files(&folder) != files;
            assert!(!is_touched, "what is refused was touched: {error}");
            let again = open(root.path(), false, all);
            assert!(again.is_err(), "refused once, and then not: {error}");
        }
        Err(error) => assert!(!is_possible, "neither opened nor refused: {error}"),
    }
}

fn check_work(root: &Path, found: &Messages, choices: &mut Choices<'_>) {
    let again = open(root, false, all).expect("it was opened once");
    assert_eq!(again, *found, "recovery is not idempotent");
    if let Ok(strictly) = open(root, true, all) {
        assert_eq!(strictly, *found, "--strict finds something else");
    }
    let left = open(root, false, |log| work(log, found, choices)).expect("it was opened twice");
    let last = open(root, false, all).expect("it was worked on");
    assert_eq!(last, left, "what was done is not there");
}

/// An empty folder, in memory where there is one that is a disk.
pub fn shared_memory() -> TempDir {
    let fast = Path::new("/dev/shm");
    let parent = if fast.is_dir() { fast.to_path_buf() } else { std::env::temp_dir() };
    tempfile::tempdir_in(parent).expect("a temporary folder")
}

/// Opens the queue, does something with it, and makes that durable. A queue that is not there is
/// made.
fn open<R>(
    root: &Path,
    strict: bool,
    work: impl FnOnce(&mut Log) -> Result<R, StorageError>,
) -> Result<R, StorageError> {
    let directory = DataDirectory::open(root, SEGMENT_SIZE, strict)?;
    let mut logs = directory.open_logs()?;
    assert!(logs.len() <= 1, "one folder is one queue");
    let mut log = match logs.pop() {
        Some(log) => log,
        None => directory.create_log(b"q")?,
    };
    let result = work(&mut log)?;
    if let Some((work, point)) = log.begin_sync() {
        let outcome = work();
        log.end_sync(point, &outcome);
        outcome.map_err(|error| StorageError::io("sync", root, error))?;
    }
    Ok(result)
}

/// Returns the messages that a reader sees who only looks, or `None` after an error.
fn inspect(root: &Path) -> Option<Messages> {
    let inspection = Inspection::new(root);
    let mut messages = Messages::new();
    let Some(mut queue) = inspection.open("q-q").ok()? else { return Some(messages) };
    let mut from = 0;
    while let Some(message) = queue.next(from).ok()? {
        assert!(message.sequence >= from, "what is shown comes again: {from}");
        messages.push((message.sequence, message.flags, message.body.to_vec()));
        from = message.sequence + 1;
    }
    Some(messages)
}

fn all(log: &mut Log) -> Result<Messages, StorageError> {
    let (mut messages, mut from) = (Messages::new(), 0);
    while let Some((place, message)) = log.next(from)? {
        assert!(place.sequence == message.sequence && message.sequence >= from, "out of order");
        messages.push((message.sequence, message.flags, message.body.to_vec()));
        from = message.sequence + 1;
    }
    Ok(messages)
}

fn check_times(log: &mut Log) -> Result<(), StorageError> {
    let (known, mut from) = (log.take_expiring(), 0);
    while let Some((place, message)) = log.next(from)? {
        let is_known = message.expires_ms == 0 || known.contains(&(place, message.expires_ms));
        assert!(is_known, "nobody knows when it expires: {place:?}");
        from = message.sequence + 1;
    }
    Ok(())
}

/// Does some of everything, and expects nothing.
fn push_and_remove(log: &mut Log, found: &Messages) -> Result<(), StorageError> {
    for (sequence, _, body) in found.iter().step_by(2) {
        log.find(body)?;
        if let Some((place, _)) = log.next(*sequence)? {
            log.remove(place)?;
        }
        log.push(&NewMessage { body, flags: 7, expires_ms: 0 }, 0)?;
        log.copy_forward()?;
    }
    Ok(())
}

/// Whether some segment holds this message as a whole record.
fn is_written(files: &Files, (sequence, flags, body): &(u64, u32, Vec<u8>)) -> bool {
    files.iter().any(|(name, bytes)| {
        let base = base_in(name);
        let codecs = CODECS.each_ref();
        (0..bytes.len()).step_by(ALIGNMENT).any(|offset| {
            codecs.iter().any(|codec| {
                let verdict = codec.decode(&bytes[offset..], base + offset as u64);
                let Verdict::Whole(record) = verdict else { return false };
                let is_same = record.sequence == *sequence && record.flags == *flags;
                record.kind.holds_message() && is_same && record.body == *body
            })
        })
    })
}

/// Removes and pushes; answers what is left.
fn work(
    log: &mut Log,
    found: &Messages,
    choices: &mut Choices<'_>,
) -> Result<Messages, StorageError> {
    let mut left = found.clone();
    for _ in 0..choices.below(8).min(left.len()) {
        let (sequence, _, body) = left.remove(choices.below(left.len().min(256)));
        let (place, message) = log.next(sequence)?.expect("it was there");
        assert!(message.sequence == sequence && message.body == body);
        let mut failures = log.failures(place)?;
        failures.add(Cause::Expiry, 1, b"late").expect("memory");
        log.note_failures(place, &failures)?;
        assert!(log.failures(place)? == failures, "what has just been noted");
        log.remove(place)?;
    }
    for message in &left {
        let found = log.find(&message.2)?;
        let is_same = found.is_some_and(|(_, found)| found.body == message.2);
        assert!(is_same, "it is not in the index: {message:?} of {left:?}");
    }
    let copied = log.copy_forward()?;
    assert!(!copied || log.wants_copying(), "there is more to do, and it is not wanted");
    let body = b"pushed";
    log.push(&NewMessage { body, flags: 7, expires_ms: 0 }, 0)?;
    assert!(log.find(body)?.is_some(), "the push is not in the index");
    let after = all(log)?;
    let (last, before) = after.split_last().expect("one was pushed");
    assert_eq!(before, left, "after a push");
    assert_eq!((last.1, &*last.2), (7, &body[..]), "the push");
    Ok(after)
}
