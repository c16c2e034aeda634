//! Rule 16: every label of the recovery table has a test that makes what it names and sees the
//! label.

use super::bench::*;
use mq::storage::{Label, StorageError};
use std::fs;
use std::path::Path;

const SEGMENT_SIZE: u64 = 16 * 1024;
const FIRST: &str = "00000000000000000000.seg";

/// A log of three segments, synced to the end, and its files.
fn three_segments() -> Files {
    let mut bench = Bench::new(SEGMENT_SIZE);
    while bench.log.segments().filter(|segment| segment.record_bytes() > 0).count() < 3 {
        let number = bench.log.len();
        bench.push(format!("{number:0100}"));
    }
    bench.sync();
    bench.log.rest();
    bench.files()
}

/// Opens a queue of `files`, not strictly; answers its bodies and the log lines.
fn recovered(files: &Files) -> (Vec<Vec<u8>>, String) {
    let (mut bench, lines) = captured(|| Bench::of(files, SEGMENT_SIZE));
    // What was recovered is worked on, and recovered again without anything to say.
    bench.push("later");
    bench.sync();
    bench = bench.reopen();
    let mut bodies = bench.bodies();
    assert_eq!(bodies.pop().as_deref(), Some(&b"later"[..]));
    (bodies, lines.join("\n"))
}

/// What a strict start answers, which leaves everything as it was.
fn refused(files: &Files) -> StorageError {
    let root = with_files(files);
    let refused = open(root.path(), SEGMENT_SIZE, true).err().unwrap();
    assert_eq!(&read_files(&root.path().join("q-q")), files, "something was touched");
    refused
}

/// The label alone is said, and with `--strict` it is a refusal when it is damage.
fn expect(files: &Files, label: &str, is_damage: bool) -> Vec<Vec<u8>> {
    assert_eq!(found(with_files(files).path()), [label]);
    let (bodies, lines) = recovered(files);
    assert_eq!(lines.matches(&format!("[{label}]")).count(), 1, "{label} once in: {lines}");
    let labels = lines.matches('[').count();
    assert_eq!(labels, 1, "{label} alone in: {lines}");
    if is_damage {
        let refusal = refused(files).to_string();
        assert!(refusal.contains(&format!("[{label}]")), "{refusal}");
    } else {
        let root = with_files(files);
        assert!(open(root.path(), SEGMENT_SIZE, true).is_ok(), "{label} is no damage");
    }
    bodies
}

/// The labels that verifying finds.
fn found(root: &Path) -> Vec<&'static str> {
    verified(root).iter().map(|finding| finding.label.name()).collect()
}

fn first(files: &mut Files) -> &mut Vec<u8> {
    files.get_mut(FIRST).unwrap()
}

fn last(files: &mut Files) -> &mut Vec<u8> {
    files.values_mut().next_back().unwrap()
}

/// Where the last byte that is not zero lies.
fn written(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).unwrap()
}

/// Makes the checksum of a header right again.
fn sign(segment: &mut [u8]) {
    segment[HEADER_CRC..HEADER_CRC + 4].fill(0);
    let crc = crc32fast::hash(&segment[..SECTOR]).to_le_bytes();
    segment[HEADER_CRC..HEADER_CRC + 4].copy_from_slice(&crc);
}

fn count(files: &Files) -> usize {
    Bench::of(files, SEGMENT_SIZE).bodies().len()
}

#[test]
fn rule_16_unborn_queue() {
    let root = with_files(&Files::new());
    assert_eq!(found(root.path()), ["unborn-queue"]);
    let (opened, lines) = captured(|| open(root.path(), SEGMENT_SIZE, true).unwrap());
    assert!(opened.1.is_none());
    assert!(lines[0].contains("[unborn-queue]"), "{lines:?}");
    assert!(!root.path().join("q-q").exists());
}

#[test]
fn rule_16_unborn_segment() {
    let whole = three_segments();
    let end = 8192 + 2 * SEGMENT_SIZE;
    for bytes in [vec![], vec![0; 100], vec![0; SEGMENT_SIZE as usize]] {
        let mut files = whole.clone();
        files.insert(format!("{end:020}.seg"), bytes);
        assert_eq!(expect(&files, "unborn-segment", false).len(), count(&whole));
    }
}

#[test]
fn rule_16_dead_segment() {
    let mut files = three_segments();
    let dead = first(&mut files).clone();
    let mut bench = Bench::of(&files, SEGMENT_SIZE);
    while bench.files().contains_key(FIRST) {
        bench.pop().unwrap();
        bench.sync();
    }
    let left = bench.bodies();
    // Its unlink did not reach the disk.
    let mut files = bench.files();
    files.insert(FIRST.into(), dead);
    assert_eq!(expect(&files, "dead-segment", false), left);
}

#[test]
fn rule_16_foreign_segment() {
    let files = three_segments();
    let root = with_files(&files);
    fs::rename(root.path().join("q-q"), root.path().join("q-other")).unwrap();
    assert!(found(root.path()).contains(&"foreign-segment"));
    for strict in [false, true] {
        let refusal = open(root.path(), SEGMENT_SIZE, strict).err().unwrap().to_string();
        assert!(refusal.contains("[foreign-segment]"), "{refusal}");
        assert_eq!(read_files(&root.path().join("q-other")), files);
    }
    // One that was given another position's name: what is in it would not pass for records.
    let mut files = files;
    let moved = files.remove(FIRST).unwrap();
    files.insert(format!("{:020}.seg", 1 << 20), moved);
    let root = with_files(&files);
    assert!(found(root.path()).contains(&"foreign-segment"));
    for strict in [false, true] {
        let refusal = open(root.path(), SEGMENT_SIZE, strict).err().unwrap().to_string();
        assert!(refusal.contains("base 1048576, found 0 [foreign-segment]"), "{refusal}");
        assert_eq!(read_files(&root.path().join("q-q")), files);
    }
}

#[test]
fn rule_16_overlapping_segment() {
    let mut files = three_segments();
    let mut copied = first(&mut files).clone();
    copied[HEADER_BASE..HEADER_BASE + 8].copy_from_slice(&4096_u64.to_le_bytes());
    sign(&mut copied);
    files.insert("00000000000000004096.seg".into(), copied);
    let root = with_files(&files);
    assert!(found(root.path()).contains(&"overlapping-segment"));
    for strict in [false, true] {
        let refusal = open(root.path(), SEGMENT_SIZE, strict).err().unwrap().to_string();
        assert!(refusal.contains("[overlapping-segment]"), "{refusal}");
        assert_eq!(read_files(&root.path().join("q-q")), files);
    }
}

#[test]
fn rule_16_newer_format() {
    let mut files = three_segments();
    last(&mut files)[HEADER_VERSION] = 3;
    sign(last(&mut files));
    let root = with_files(&files);
    assert!(found(root.path()).contains(&"newer-format"));
    for strict in [false, true] {
        let refusal = open(root.path(), SEGMENT_SIZE, strict).err().unwrap();
        let refusal = refusal.to_string();
        assert!(
            refusal.contains("that version 2 reads, found one for version 3 [newer-format]"),
            "{refusal}"
        );
        assert_eq!(read_files(&root.path().join("q-q")), files);
    }
}

#[test]
fn rule_16_rotten_header() {
    let whole = three_segments();
    for index in 0..3 {
        let mut files = whole.clone();
        files.values_mut().nth(index).unwrap()[30] ^= 1;
        assert_eq!(expect(&files, "rotten-header", true).len(), count(&whole));
    }
}

/// Without the key nobody can tell a record from anything else, so nothing is cut.
#[test]
fn rule_16_lost_key() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    bench.push("one");
    bench.sync();
    let mut files = bench.files();
    // The first page of the only segment: its header and its cursors.
    first(&mut files)[..RECORDS].fill(0xaa);
    let root = with_files(&files);
    assert_eq!(found(root.path()), ["lost-key"]);
    for strict in [false, true] {
        let refusal = open(root.path(), SEGMENT_SIZE, strict).err().unwrap().to_string();
        assert!(refusal.contains("[lost-key]"), "{refusal}");
        assert_eq!(read_files(&root.path().join("q-q")), files);
    }
    // One cursor is enough, and so is the header of another segment.
    let mut files = bench.files();
    first(&mut files)[..SECTOR].fill(0xaa);
    assert_eq!(expect(&files, "rotten-header", true), [b"one"]);
    let mut files = three_segments();
    let whole = count(&files);
    first(&mut files)[..RECORDS].fill(0xaa);
    assert_eq!(Bench::of(&files, SEGMENT_SIZE).bodies().len(), whole);
}

#[test]
fn rule_16_short_segment() {
    let whole = three_segments();
    let mut files = whole.clone();
    // Only bytes without a record are missing.
    let length = written(last(&mut files)) / 512 * 512 + 512;
    last(&mut files).truncate(length);
    assert_eq!(expect(&files, "short-segment", true).len(), count(&whole));
}

#[test]
fn rule_16_missing_segment() {
    let whole = three_segments();
    // The last one, too: the one before it says that it was in use.
    for index in 0..3 {
        let mut files = whole.clone();
        let name = files.keys().nth(index).unwrap().clone();
        files.remove(&name);
        let left = expect(&files, "missing-segment", true);
        assert!((1..count(&whole)).contains(&left.len()));
    }
}

#[test]
fn rule_16_no_cursor() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    bench.push("one");
    bench.push("two");
    let mut files = bench.files();
    first(&mut files)[SECTOR..RECORDS].fill(0);
    assert_eq!(expect(&files, "no-cursor", false), [b"one", b"two"]);
}

#[test]
fn rule_16_lost_cursor() {
    let mut files = three_segments();
    let whole = count(&files);
    for bytes in files.values_mut() {
        bytes[SECTOR..RECORDS].fill(0);
    }
    assert_eq!(expect(&files, "lost-cursor", true).len(), whole);
}

#[test]
fn rule_16_torn_tail() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    bench.push("one");
    bench.sync();
    bench.push("two");
    let mut files = bench.files();
    let at = written(first(&mut files));
    first(&mut files)[at] ^= 1;
    assert_eq!(expect(&files, "torn-tail", false), [b"one"]);
}

#[test]
fn rule_16_rotten_record() {
    let whole = three_segments();
    for index in 0..3 {
        let mut files = whole.clone();
        files.values_mut().nth(index).unwrap()[RECORDS + 70] ^= 1;
        assert_eq!(expect(&files, "rotten-record", true).len(), count(&whole) - 1);
    }
}

#[test]
fn rule_16_lost_end() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    (0..10).for_each(|number| bench.push(format!("{number}")));
    bench.sync();
    // The cursor says how far it was durable, and the last record is not there.
    bench.log.rest();
    let last = bench.places()[9].1;
    let (name, offset) = bench.file_of(last);
    let mut files = bench.files();
    files.get_mut(&name).unwrap()[offset..].fill(0);
    assert_eq!(expect(&files, "lost-end", true).len(), 9);
}

#[test]
fn rule_16_clean_end() {
    let files = three_segments();
    let root = with_files(&files);
    assert!(found(root.path()).is_empty());
    let (opened, lines) = captured(|| open(root.path(), SEGMENT_SIZE, true).unwrap());
    assert_eq!(opened.1.unwrap().len() as usize, count(&files));
    let said: Vec<_> = lines.iter().filter(|line| !line.contains("[clean-end]")).collect();
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn rule_16_every_label_of_the_table_has_its_test() {
    let tests = [include_str!("table.rs"), include_str!("silent.rs")].concat();
    for label in Label::all() {
        let test = format!("fn rule_16_{}()", label.name().replace('-', "_"));
        assert!(tests.contains(&test), "no {test}");
    }
}
