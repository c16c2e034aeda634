//! What a look for a message passes on its way.

use super::PAGE_SCANS;
use crate::storage::log::Log;
use crate::storage::{DataDirectory, NewMessage, Place};
use std::path::Path;

fn open(path: &Path) -> DataDirectory {
    DataDirectory::open(path, 64 << 20, true).unwrap()
}

fn push(log: &mut Log, count: u64) -> Vec<Place> {
    let message = NewMessage { body: &[7; 100], flags: 0, expires_ms: 0 };
    (0..count).map(|_| log.push(&message, 1).unwrap()).collect()
}

/// Two readers took their place from each other, and each page began at the segment's start.
#[test]
fn readers_at_different_places_each_go_on_where_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path()).create_log(b"q").unwrap();
    let first = push(&mut log, 20_000)[0].sequence;
    let mut places: Vec<u64> = (1..PAGE_SCANS as u64).map(|it| first + it * 1000).collect();
    for round in 0..50 {
        for place in &mut places {
            let before: Vec<_> = log.page_scans.iter().map(|scan| scan.from).collect();
            assert!(round == 0 || before.contains(place), "{place} is not known: {before:?}");
            *place = log.next(*place).unwrap().unwrap().0.sequence;
            *place = log.next(*place + 1).unwrap().unwrap().0.sequence;
        }
    }
}

/// The pop that came to them went through the numbers of all that had been removed behind it.
#[test]
fn messages_that_are_removed_in_a_row_are_passed_in_one_step() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path()).create_log(b"q").unwrap();
    let places = push(&mut log, 10_000);
    let (first, last) = (places[0], places[9999]);
    for is_odd in [true, false] {
        let is_wanted = |place: &&Place| (place.sequence % 2 == 1) == is_odd;
        for place in places[1..9999].iter().filter(is_wanted) {
            log.remove(*place).unwrap();
        }
        assert_eq!(log.removed.len(), if is_odd { 4999 } else { 1 });
    }
    log.remove(first).unwrap();
    assert_eq!((log.head, log.removed.len()), (last.sequence, 0));
    assert_eq!(log.next(0).unwrap().map(|(place, _)| place), Some(last));
}
