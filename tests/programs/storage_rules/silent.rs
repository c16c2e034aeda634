//! Rule 16, the rest of it: labels of what changes nothing at a start, and what verifying says that
//! no start does.

use super::bench::*;
use mq::storage::{Finding, Inspection, Label};
use std::fs;
use std::path::Path;

const SEGMENT_SIZE: u64 = 8 * 1024;
const FIRST: &str = "00000000000000000000.seg";

/// A queue with a footer, a cursor in several slots, and all of it synced.
fn sealed() -> Files {
    let mut bench = Bench::new(SEGMENT_SIZE);
    (0..40).for_each(|number| bench.push(format!("{number:0200}")));
    for _ in 0..3 {
        bench.pop();
        bench.sync();
    }
    while let Some(work) = bench.log.write_footer() {
        work().unwrap();
    }
    bench.log.rest();
    bench.files()
}

/// Verifying says this one thing of the files; a start says it or nothing, and delivers everything.
fn expect(files: &Files, label: Label, is_said: bool) -> Finding {
    let root = with_files(files);
    let mut found = verified(root.path());
    assert_eq!(found.len(), 1, "{found:?}");
    let found = found.remove(0);
    assert_eq!(found.label, label);
    assert_eq!(read_files(&root.path().join("q-q")), *files, "verifying has written");
    let (mut bench, lines) = captured(|| Bench::of(files, SEGMENT_SIZE));
    let said = if is_said { vec![format!("[{}]", label.name())] } else { Vec::new() };
    let labels = lines.iter().filter_map(|line| Some(line[line.find('[')?..].to_string()));
    assert_eq!(labels.collect::<Vec<_>>(), said);
    assert_eq!(bench.bodies().len(), 37);
    found
}

#[test]
fn rule_16_nothing_is_said_of_what_is_whole() {
    let root = with_files(&sealed());
    assert_eq!(verified(root.path()), []);
}

#[test]
fn rule_16_bad_slot() {
    let whole = sealed();
    let newest = whole.len() - 2;
    for offset in [SECTOR, SECTOR + 80, 2 * SECTOR - 1, 4 * SECTOR + 10] {
        let mut files = whole.clone();
        let (name, bytes) = files.iter_mut().nth(newest).unwrap();
        let name = name.clone();
        bytes[offset] ^= 0x80;
        let found = expect(&files, Label::BadSlot, true);
        assert!(found.file.ends_with(name), "{found}");
        assert_eq!(found.offset as usize, offset / SECTOR * SECTOR);
    }
}

#[test]
fn rule_16_bad_footer() {
    let whole = sealed();
    let end = SEGMENT_SIZE as usize;
    for length in [end + 1, end + 64, whole[FIRST].len() - 1] {
        let mut files = whole.clone();
        files.get_mut(FIRST).unwrap().truncate(length);
        let found = expect(&files, Label::BadFooter, true);
        assert!(found.file.ends_with(FIRST) && found.offset == SEGMENT_SIZE, "{found}");
    }
}

/// Entries or numbers that nothing names were passed over, and the rest was taken for others.
#[test]
fn rule_16_a_footer_with_more_in_it_than_it_tells_of_is_a_bad_one() {
    let whole = sealed();
    let (footer, entry_count) = (SEGMENT_SIZE as usize, SEGMENT_SIZE as usize + 40);
    let count = whole[FIRST][entry_count];
    let behind_entries = footer + 64 + 8 * usize::from(count);
    let behind_all = whole[FIRST].len() - 8;
    for (offset, count) in [(behind_entries, count + 1), (behind_all, count)] {
        let mut files = whole.clone();
        let bytes = files.get_mut(FIRST).unwrap();
        bytes.splice(offset..offset, [0; 8]);
        bytes[entry_count] = count;
        seal_footer(bytes);
        expect(&files, Label::BadFooter, true);
    }
}

/// Makes the checksum of a footer good again.
fn seal_footer(bytes: &mut [u8]) {
    let (start, end) = (SEGMENT_SIZE as usize, bytes.len());
    let crc = crc32fast::hash(&bytes[start..end - 8]).to_le_bytes();
    bytes[end - 8..end - 4].copy_from_slice(&crc);
}

/// Changes the hash of the record `index` in the footer.
fn spoil_hash(bytes: &mut [u8], index: usize) {
    bytes[SEGMENT_SIZE as usize + 64 + 8 * index + 7] ^= 1;
    seal_footer(bytes);
}

/// A removal has no body, so nothing counts in its hash.
#[test]
fn rule_16_the_hash_of_a_removal_in_a_footer_is_not_compared() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    bench.push("one");
    bench.push("two");
    bench.remove("two");
    (0..40).for_each(|number| bench.push(format!("{number:0200}")));
    bench.sync();
    while let Some(work) = bench.log.write_footer() {
        work().unwrap();
    }
    bench.log.rest();
    for (index, count) in [(2, 0), (1, 1)] {
        let mut files = bench.files();
        spoil_hash(files.get_mut(FIRST).unwrap(), index);
        assert_eq!(verified(with_files(&files).path()).len(), count, "record {index}");
    }
}

/// Nothing but the header says for certain where a footer begins.
#[test]
fn rule_16_a_footer_counts_only_where_the_header_is_intact() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    ["one", "two", "three"].iter().for_each(|body| bench.push(body));
    bench.remove("two");
    (0..40).for_each(|number| bench.push(format!("{number:0200}")));
    bench.sync();
    while let Some(work) = bench.log.write_footer() {
        work().unwrap();
    }
    bench.log.rest();
    let (places, whole) = (bench.places(), bench.files());
    let removal = bench.file_of(places[2].1).1 - REMOVAL_SIZE as usize;
    for is_intact in [true, false] {
        let mut files = whole.clone();
        let bytes = files.get_mut(FIRST).unwrap();
        bytes[removal + 25] ^= 1;
        bytes[100] ^= u8::from(!is_intact);
        let root = with_files(&files);
        let count = places.len() + usize::from(!is_intact);
        let (mut looked_at, mut from) = (Vec::new(), 0);
        let mut queue = Inspection::new(root.path()).open("q-q").unwrap().unwrap();
        while let Some(message) = queue.next(from).unwrap() {
            from = message.sequence + 1;
            looked_at.push(message.body.to_vec());
        }
        let mut bench = Bench::of(&files, SEGMENT_SIZE);
        let bodies = bench.bodies();
        assert_eq!(bodies.len(), count, "intact: {is_intact}");
        assert_eq!(bodies.contains(&b"two".to_vec()), !is_intact);
        assert_eq!(looked_at, bodies);
        // None is written there again: it would not count either.
        while let Some(work) = bench.log.write_footer() {
            work().unwrap();
        }
        let length = bench.files()[FIRST].len();
        assert_eq!(length, whole[FIRST].len());
    }
}

#[test]
fn rule_16_false_footer() {
    let mut files = sealed();
    let bytes = files.get_mut(FIRST).unwrap();
    spoil_hash(bytes, 1);
    let found = expect(&files, Label::FalseFooter, false);
    assert!(found.found.ends_with("the first 1"), "{found}");
    let root = with_files(&files);
    let refusal = open(root.path(), SEGMENT_SIZE, true).err().unwrap().to_string();
    assert!(refusal.ends_with("[false-footer] (--strict)"), "{refusal}");
}

/// Only a folder whose name does not tell the queue's can be a second one.
#[test]
fn rule_16_foreign_segment_in_a_second_folder() {
    let root = tempfile::tempdir().unwrap();
    let directory = open_directory(root.path(), SEGMENT_SIZE, false).unwrap();
    let mut log = directory.create_log(&[b'n'; 300]).unwrap();
    log.push(&new_message(b"one"), 1).unwrap();
    log.rest();
    drop(directory);
    let (stem, _) = log.directory().to_str().unwrap().split_once('~').unwrap();
    let second = format!("{stem}~7");
    fs::create_dir(&second).unwrap();
    fs::copy(log.directory().join(FIRST), Path::new(&second).join(FIRST)).unwrap();
    let found = verified(root.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].label, found[0].file.to_str()), (Label::ForeignSegment, Some(&*second)));
    let directory = open_directory(root.path(), SEGMENT_SIZE, false).unwrap();
    let refusal = directory.open_logs().err().unwrap().to_string();
    assert!(refusal.ends_with("found another [foreign-segment]"), "{refusal}");
}

#[test]
fn rule_16_dropped_queue() {
    let root = with_files(&sealed());
    fs::create_dir(root.path().join("dropped-3")).unwrap();
    let found = verified(root.path());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].label, Label::DroppedQueue);
    let (opened, lines) = captured(|| open(root.path(), SEGMENT_SIZE, false).unwrap());
    assert_eq!(opened.1.unwrap().len(), 37);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].ends_with("expected nothing, found a folder [dropped-queue]"), "{lines:?}");
}

#[test]
fn rule_16_set_aside() {
    let mut files = sealed();
    files.get_mut(FIRST).unwrap()[30] ^= 1;
    let Bench { root, .. } = Bench::of(&files, SEGMENT_SIZE);
    let found = verified(root.path());
    let copies: Vec<_> = found.iter().filter(|found| found.label == Label::SetAside).collect();
    assert_eq!(copies.len(), 1, "{found:?}");
    assert!(copies[0].file.ends_with(format!("damaged/q-q.{FIRST}")));
}

#[test]
fn rule_16_unknown_file() {
    let root = with_files(&sealed());
    for name in ["notes.txt", "q-q/1.seg", "q-q/copy of 00000000000000000000.seg", "q-%zz"] {
        fs::write(root.path().join(name), "x").unwrap();
    }
    fs::create_dir(root.path().join("q-q/folder")).unwrap();
    let found = verified(root.path());
    assert!(found.iter().all(|found| found.label == Label::UnknownFile), "{found:?}");
    assert_eq!(found.len(), 5, "{found:?}");
    let (mut bench, lines) = captured(|| open(root.path(), SEGMENT_SIZE, true).unwrap());
    assert_eq!(lines, [] as [&str; 0]);
    assert_eq!(bench.1.as_mut().unwrap().len(), 37);
}

/// The footer names more records than there are. Verifying passed over that, and a strict start
/// wrote the footer anew over fewer records.
#[test]
fn rule_16_zeros_under_a_footer_are_a_lost_end() {
    let whole = sealed();
    // The first message, some of them, the last one.
    let record = 48 + 200;
    let end = SEGMENT_SIZE as usize;
    let last = (2560..end - record).step_by(record).next_back().unwrap();
    for from in [2560, 2560 + 5 * record, last] {
        let mut files = whole.clone();
        files.get_mut(FIRST).unwrap()[from..end].fill(0);
        let found = verified(with_files(&files).path());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].label, found[0].offset as usize), (Label::LostEnd, from));
        assert!(found[0].file.ends_with(FIRST), "{}", found[0]);
    }
}

/// What is said of a damaged record is not said again of the end.
#[test]
fn rule_16_a_rotten_last_record_under_a_footer_is_no_lost_end() {
    let whole = sealed();
    let record = 48 + 200;
    let last = (2560..SEGMENT_SIZE as usize - record).step_by(record).next_back().unwrap();
    for offset in 0..record {
        let mut files = whole.clone();
        files.get_mut(FIRST).unwrap()[last + offset] ^= 0x10;
        let found = verified(with_files(&files).path());
        let labels: Vec<_> = found.iter().map(|it| it.label).collect();
        assert_eq!(labels, [Label::RottenRecord], "byte {offset}");
    }
}
