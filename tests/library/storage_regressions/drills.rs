//! What the damage drills have found.

use super::bench::*;
use mq::storage::format::{RECORDS, SECTOR, SEGMENT_CREATED_MS, file_name};
use mq::storage::{DataDirectory, Inspection, Label, NewMessage};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The contents of the queue's files, by path.
fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(root).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Bytes that look like the heads of records without end, to somebody without the key.
fn like_records() -> Vec<u8> {
    let mut crafted = vec![0; 3000];
    for word in (0..crafted.len() / 8).map(|word| word * 8) {
        let length = (crafted.len() - word).saturating_sub(100) as u32;
        crafted[word..word + 4].copy_from_slice(&length.to_le_bytes());
        crafted[word + 4..word + 6].copy_from_slice(&[1, 6]);
    }
    crafted
}

/// A log in which message 1 was copied forward, and the position of the copy.
fn with_a_copy() -> (Bench, u64) {
    let mut bench = Bench::numbered(SMALL, 600);
    (2..500).for_each(|number| bench.remove(number));
    bench.copy_forward();
    assert!(bench.counter("copied_messages") > 0);
    let position = bench.place(1).position;
    assert!(position > SMALL, "message 1 was not copied");
    (bench, position)
}

#[test]
fn a_rotten_copy_that_has_gone_with_its_segment_is_not_looked_for() {
    // A copy rotted, and its segment died: what was left of it was copied forward. The table of
    // copies still had its position, which is before all segments: the next look at the queue's
    // head subtracted the first segment's base from it, and panicked.
    let (mut bench, position) = with_a_copy();
    let segment = bench.log.segments().filter(|segment| segment.base <= position).last().unwrap();
    let (path, offset) = (segment.path.clone(), position - segment.base);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xff; 8], offset + ROT as u64).unwrap();
    (601..=1500_u64).for_each(|number| bench.push(number.to_le_bytes()));
    (500..1490).for_each(|number| bench.remove(number));
    bench.copy_forward();
    bench.sync();
    assert!(!path.exists(), "the copy's segment is still there");
    let numbers = bench.numbers();
    assert_eq!(bench.log.len(), numbers.len() as u64);
    assert_eq!(bench.pop_all(), numbers);
}

#[test]
fn a_message_whose_copy_was_lost_and_that_was_removed_is_not_counted() {
    // A message was copied forward and then removed, and what it was copied from was still there.
    // The file with the copy was lost. The removal did not find the copy that it names, and the
    // first record stayed in the count: the queue was never empty.
    let mut bench = Bench::new(SMALL);
    (1..=62).for_each(|_| bench.push([7; 300]));
    (3..55).for_each(|number| bench.remove(number));
    // No sync comes after it, so nothing is unlinked.
    while bench.log.copy_forward().unwrap() {}
    let copy = bench.place(2).position;
    (0..20).for_each(|_| bench.push([7; 300]));
    bench.remove(2);
    let mut bench = bench.spoil(|files| {
        let base_of = |file: &PathBuf| u64::from_str(&file.file_stem()?.to_string_lossy()).ok();
        let lost = files.iter().rfind(|file| base_of(file).is_some_and(|base| base <= copy));
        fs::remove_file(lost.unwrap()).unwrap();
    });
    assert_eq!(bench.log.len(), bench.numbers().len() as u64);
    bench.pop_all();
    assert_eq!(bench.log.len(), 0);
}

#[test]
fn bytes_that_are_no_footer_give_way_to_one() {
    // Behind a sealed segment were more bytes than a footer has. The footer was written to their
    // beginning, so it did not end with the file, and no start ever believed it.
    let mut bench = Bench::numbered(SMALL, 300);
    bench.log.rest();
    let mut bench = bench.spoil(|files| {
        change(&files[0], |bytes| bytes.extend(vec![7; SMALL as usize]));
    });
    let verified = |bench: &Bench| Inspection::new(bench.root.path()).verify("q-q").unwrap();
    assert_eq!(verified(&bench)[0].label, Label::BadFooter);
    bench.write_footers();
    assert_eq!(verified(&bench), []);
}

#[test]
fn a_segment_that_was_cut_gets_no_footer_where_its_bytes_are_missing() {
    // The footer was written where the file ended, which was no end of the segment: from the next
    // start on it was a damaged record, and what was missing was not missed any more.
    for index in [0, 2] {
        // Records of 80 bytes leave 32 bytes at the end.
        let mut bench = Bench::new(SMALL);
        (0..200).for_each(|_| bench.push([7; 24]));
        bench.sync();
        let mut bench = bench.spoil(|files| {
            let length = fs::metadata(&files[index]).unwrap().len() as usize;
            change(&files[index], |bytes| bytes.truncate(length - 8));
        });
        bench.push("one more");
        let numbers = bench.numbers();
        for _ in 0..2 {
            bench.write_footers();
            let found = Inspection::new(bench.root.path()).verify("q-q").unwrap();
            let labels: Vec<Label> = found.iter().map(|finding| finding.label).collect();
            assert_eq!(labels, [Label::ShortSegment]);
            bench = bench.spoil(|_| ());
            assert_eq!(bench.numbers(), numbers);
        }
    }
}

#[test]
fn a_refused_start_has_removed_nothing() {
    // A file that was never finished was removed, and then a file of another queue was found: the
    // start was refused, and had changed the folder all the same.
    let bench = Bench::numbered(SMALL, 300);
    let Bench { log, directory, root, .. } = bench;
    drop((log, directory));
    let paths = files(root.path());
    fs::write(paths[0].with_file_name(file_name(1 << 20)), []).unwrap();
    fs::copy(&paths[0], paths[0].with_file_name(file_name(1 << 30))).unwrap();
    let before = contents(root.path());
    for is_strict in [false, true] {
        let directory = DataDirectory::open(root.path(), SMALL, is_strict).unwrap();
        let refusal = directory.open_logs().err().unwrap().to_string();
        assert!(refusal.contains("[foreign-segment]"), "{refusal}");
        assert_eq!(contents(root.path()), before);
    }
}

#[test]
fn a_segment_of_another_queue_is_refused_also_where_the_folder_does_not_tell_the_name() {
    // Two queues with long names, whose folders do not tell them, had their first files swapped.
    // Each file has a name inside, and nobody compared it: each queue had the other's name.
    let root = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(root.path(), SMALL, false).unwrap();
    let folders = [b'a', b'b'].map(|letter| {
        let mut log = directory.create_log(&[letter; 300]).unwrap();
        let body = [letter; 9];
        for _ in 0..200 {
            log.push(&NewMessage { body: &body, flags: 0, expires_ms: 0 }, 1).unwrap();
        }
        log.sync_now().unwrap();
        log.directory().to_path_buf()
    });
    drop(directory);
    let [one, other] = folders.map(|folder| folder.join(file_name(0)));
    let aside = root.path().join("aside");
    fs::rename(&one, &aside).unwrap();
    fs::rename(&other, &one).unwrap();
    fs::rename(&aside, &other).unwrap();
    let directory = DataDirectory::open(root.path(), SMALL, false).unwrap();
    let refusal = directory.open_logs().err().unwrap().to_string();
    assert!(refusal.contains("[foreign-segment]"), "{refusal}");
}

#[test]
fn a_file_without_header_that_was_cut_at_an_odd_length_is_not_written_to() {
    // The newest file lost its header and its end, at a length that is no multiple of 8. The log
    // went on in it and then in a file behind it, at positions that the index rounds: messages
    // were not found by their content.
    let mut bench = Bench::numbered(LARGE, 20);
    bench.log.rest();
    let end = RECORDS + 20 * RECORD;
    let mut bench = bench.spoil(|files| {
        change(&files[0], |bytes| {
            bytes.truncate(end + SECTOR + 3);
            bytes[SEGMENT_CREATED_MS] ^= 1;
        });
    });
    (21..=200_u64).for_each(|number| bench.push(number.to_le_bytes()));
    assert_eq!(bench.numbers(), numbers_to(200));
    for number in 1..=200_u64 {
        let found = bench.log.find(&number.to_le_bytes()).unwrap();
        assert_eq!(found.map(|(place, _)| place.sequence), Some(BEFORE_FIRST + number));
    }
}

#[test]
fn the_newest_file_is_missed_when_it_is_lost() {
    // The newest file was gone, and nothing on the disk said that there had been one: its messages
    // were lost without a word. It was the same when it was empty.
    for is_removed in [true, false] {
        let mut bench = Bench::numbered(SMALL, 200);
        let in_use = bench.log.segments().filter(|segment| segment.record_bytes() > 0);
        let newest = in_use.last().unwrap();
        let (path, start) = (newest.path.clone(), newest.base);
        let kept = bench.numbers_before(start);
        bench.log.rest();
        let mut bench = bench.spoil(|files| {
            let spare = files.iter().filter(|file| **file > path);
            spare.for_each(|file| fs::remove_file(file).unwrap());
            if is_removed { fs::remove_file(&path) } else { fs::write(&path, []) }.unwrap();
        });
        assert_eq!(bench.counter("damaged_records"), 1);
        assert_eq!(bench.numbers(), kept);
        bench.push(b"after");
        bench.sync();
        let mut bench = bench.spoil(|_| ());
        assert_eq!(bench.bodies()[kept.len()..], [b"after"]);
    }
}

#[test]
fn nothing_behind_a_body_that_looks_like_records_is_lost() {
    // A message's bytes looked like records without end, and it rotted as the first one of its
    // segment: the search for the next record was given up, and nothing behind it was delivered.
    let mut bench = Bench::new(SMALL);
    bench.push(like_records());
    (2..=200_u64).for_each(|number| bench.push(number.to_le_bytes()));
    bench.remove(5);
    bench.sync();
    let kept: Vec<u64> = (2..=200).filter(|number| *number != 5).collect();
    bench.log.rest();
    let mut bench = bench.spoil(|files| flip(&files[0], RECORDS + ROT));
    assert_eq!(bench.numbers(), kept);
    assert_eq!(bench.log.len(), kept.len() as u64);
    assert_eq!(bench.pop_all(), kept);
}

#[test]
fn nothing_behind_it_is_lost_under_a_daemon_at_work() {
    // The same, where the index knew the messages behind the place.
    let mut bench = Bench::new(SMALL);
    bench.push(like_records());
    (2..=200_u64).for_each(|number| bench.push(number.to_le_bytes()));
    bench.sync();
    assert!(bench.log.find(b"none").unwrap().is_none());
    let oldest = OpenOptions::new().write(true).open(&files(bench.root.path())[0]).unwrap();
    oldest.write_all_at(&[0xff; 8], (RECORDS + ROT) as u64).unwrap();
    assert_eq!(bench.numbers(), numbers_to(200)[1..]);
    assert!(bench.log.find(&5_u64.to_le_bytes()).unwrap().is_some());
    assert_eq!(bench.pop_all(), numbers_to(200)[1..]);
    assert_eq!(bench.log.len(), 0);
}
