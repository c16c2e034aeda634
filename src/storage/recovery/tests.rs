//! Many segments, with few mappings allowed.

use crate::storage::mapping::set_process_max;
use crate::storage::{DataDirectory, Inspection, NewMessage};
use std::fs;
use std::path::Path;

const SEGMENT_SIZE: u64 = 8 * 1024;
const SEGMENTS: usize = 80;
const ALLOWED: usize = 60;

/// Makes a queue of many segments, of each of which a message was removed by a record in the last
/// ones. Returns how many messages it has.
fn make_queue(root: &Path, has_footers: bool) -> u64 {
    let directory = DataDirectory::open(root, SEGMENT_SIZE, true).unwrap();
    let mut log = directory.create_log(b"q").unwrap();
    let (mut places, mut body) = (Vec::new(), [0; 1000]);
    while log.segments().count() < SEGMENTS {
        body[..8].copy_from_slice(&(places.len() as u64).to_le_bytes());
        places.push(log.push(&NewMessage { body: &body, flags: 0, expires_ms: 0 }, 1).unwrap());
    }
    for place in places.into_iter().skip(1).step_by(4) {
        log.remove(place).unwrap();
    }
    let (work, point) = log.begin_sync().unwrap();
    log.end_sync(point, &work());
    while let Some(work) = log.write_footer().filter(|_| has_footers) {
        work().unwrap();
    }
    log.rest();
    log.len()
}

/// Flips a bit in the header of each segment.
fn spoil_headers(root: &Path) {
    for entry in fs::read_dir(root.join("q-q")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        bytes[100] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
}

/// Reads the queue as a daemon does, and as a reader that only looks. Both meet this many messages.
fn read(root: &Path, is_strict: bool) -> [u64; 2] {
    let inspection = Inspection::new(root);
    inspection.verify("q-q").unwrap();
    let mut queue = inspection.open("q-q").unwrap().unwrap();
    let (mut looked_at, mut from) = (0, 0);
    while let Some(message) = queue.next(from).unwrap() {
        (looked_at, from) = (looked_at + 1, message.sequence + 1);
    }
    let directory = DataDirectory::open(root, SEGMENT_SIZE, is_strict).unwrap();
    let mut log = directory.open_logs().unwrap().pop().unwrap();
    let (mut own, mut from) = (0, 0);
    while let Some((place, _)) = log.next(from).unwrap() {
        (own, from) = (own + 1, place.sequence + 1);
    }
    [looked_at, own]
}

/// A mapping for each segment was more than a process may have.
#[test]
fn a_queue_of_more_segments_than_mappings_is_read() {
    for has_footers in [false, true] {
        let root = tempfile::tempdir().unwrap();
        set_process_max(usize::MAX);
        let count = make_queue(root.path(), has_footers);
        set_process_max(ALLOWED);
        for is_strict in [true, false] {
            assert_eq!(read(root.path(), is_strict), [count; 2], "footers: {has_footers}");
        }
        spoil_headers(root.path());
        assert_eq!(read(root.path(), false), [count; 2], "rotten headers");
    }
}
