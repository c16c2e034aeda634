//! `show`: a queue's segments, its cursor, and how far it is durable.

use super::bench::*;
use mq::storage::format::{SEGMENT_CRC, SLOTS};
use std::fs;
use tempfile::TempDir;

/// The rest of the line that starts with this.
fn field<'a>(printed: &'a str, name: &str) -> &'a str {
    let line = printed.lines().find(|line| words(line).first() == Some(&name));
    line.expect("such a line").trim_start().strip_prefix(name).unwrap().trim()
}

/// The rows of the table of segments.
fn table(printed: &str) -> Vec<Vec<&str>> {
    let rows = printed.lines().skip_while(|line| !line.trim_start().starts_with("base "));
    rows.skip(1).take_while(|line| !line.is_empty()).map(words).collect()
}

#[test]
fn show_has_counts_ages_segments_and_cursor_slots() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = fill(&data, b"jobs", 300);
    remove(&mut log, b"message 0");
    remove(&mut log, b"message 1");
    remove(&mut log, b"message 200");
    sync(&mut log);
    log.rest();
    drop((log, data));
    let printed = healthy(directory.path(), &["show", "jobs"]);
    assert_eq!(field(&printed, "queue"), "jobs");
    assert_eq!(field(&printed, "folder"), directory.path().join("q-jobs").to_str().unwrap());
    assert_eq!(field(&printed, "ready"), "297 (19008 bytes), removed 3, total 300");
    assert_eq!(field(&printed, "head"), "2305843009213693954: all lower numbers are gone");
    assert!(printed.contains("\nnext number  2305843009213694252\n"), "{printed}");
    let end = 8192 + RECORDS + 212 * RECORD + 48;
    let durable = format!("up to position {end} at the least, of {end}");
    assert_eq!(field(&printed, "durable"), durable);
    let oldest = "number 2305843009213693954, pushed 2026-11-23T12:30:01.042Z, ";
    assert!(field(&printed, "oldest").starts_with(oldest), "{printed}");
    let newest = "number 2305843009213694251, pushed ";
    assert!(field(&printed, "newest").starts_with(newest), "{printed}");
    let rows = table(&printed);
    assert_eq!(rows.len(), 2, "{printed}");
    let (live, dead) = (86 * RECORD, 2 * RECORD);
    let (live, dead) = (live.to_string(), dead.to_string());
    assert_eq!(rows[0][..8], ["0", "sealed", "ok", "none", "8192", "86", &live, &dead]);
    let dead = (RECORD + 48).to_string();
    assert_eq!((rows[1][0], rows[1][1], rows[1][5]), ("8192", "tail", "211"));
    assert_eq!(rows[1][7], dead);
    assert!(printed.contains("\ncursor, in 00000000000000008192.seg\n"), "{printed}");
    let slots: Vec<&str> = printed.lines().filter(|line| line.starts_with("slot ")).collect();
    assert_eq!(slots.len(), 4);
    assert!(slots.iter().any(|slot| slot.contains("ok, the newest: ")), "{printed}");
    assert!(slots.iter().any(|slot| slot.contains(&format!("durable {end}, "))), "{printed}");
}

#[test]
fn a_spare_segment_a_footer_and_a_dead_segment_are_called_so() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = fill(&data, b"jobs", 0);
    // Each wants room for its removal, and only a spare segment has so much.
    for _ in 0..200 {
        push(&mut log, &[b'x'; 300], 0);
    }
    while let Some(work) = log.write_footer() {
        work().unwrap();
    }
    sync(&mut log);
    let oldest = segments(&directory.path().join("q-jobs"))[0].clone();
    let bytes = fs::read(&oldest).unwrap();
    let popped: Vec<u8> = vec![b'x'; 300];
    for _ in 0..50 {
        remove(&mut log, &popped);
    }
    sync(&mut log);
    drop((log, data));
    assert!(!oldest.exists(), "the oldest segment is not dead");
    fs::write(&oldest, bytes).unwrap();
    let printed = healthy(directory.path(), &["show", "jobs"]);
    let rows = table(&printed);
    let states: Vec<(&str, &str)> = rows.iter().map(|row| (row[1], row[3])).collect();
    assert_eq!(states[0].0, "dead", "{printed}");
    assert!(states.contains(&("sealed", "ok")), "{printed}");
    assert!(states.iter().any(|(state, _)| *state == "tail"), "{printed}");
}

#[test]
fn a_damaged_header_a_bad_footer_and_a_bad_slot_are_called_so() {
    let directory = directory_of(&[(b"jobs", 300)]);
    let files = segments(&directory.path().join("q-jobs"));
    change(&files[0], |bytes| bytes.extend([1; 80]));
    change(&files[1], |bytes| {
        bytes[SEGMENT_CRC] ^= 1;
        bytes[SLOTS] ^= 1;
    });
    let (printed, said) = damaged(directory.path(), &["show", "jobs"]);
    assert!(said.contains("[rotten-header]"), "{said}");
    let rows = table(&printed);
    assert_eq!((rows[0][2], rows[0][3]), ("ok", "BAD"), "{printed}");
    assert_eq!((rows[1][1], rows[1][2], rows[1][8]), ("tail", "BAD", "?"), "{printed}");
    assert!(printed.contains("\nslot 0  BAD: expected a cursor with its checksum"), "{printed}");
    assert!(field(&printed, "ready").starts_with("300 "), "{printed}");
}

#[test]
fn a_queue_that_no_start_opens_is_shown_by_its_files() {
    let directory = directory_of(&[(b"a", 3), (b"b", 1)]);
    let file = |queue: &str| directory.path().join(queue).join(FIRST);
    fs::copy(file("q-a"), file("q-b")).unwrap();
    let (printed, said) = damaged(directory.path(), &["show", "b"]);
    assert!(said.contains("[foreign-segment]") && said.lines().count() == 1, "{said}");
    assert!(field(&printed, "folder").ends_with("/q-b"), "{printed}");
    assert_eq!(table(&printed)[0][..7], ["0", "?", "ok", "none", "8192", "?", "?"]);
    assert!(printed.contains("slot 0  ok"), "{printed}");
}
