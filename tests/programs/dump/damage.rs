//! Damaged directories: what is damaged is named, and everything else is shown.

use super::bench::*;
use std::fs;
use tempfile::TempDir;

#[test]
fn a_flipped_bit_is_named_and_the_other_messages_are_printed() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = fill(&data, b"jobs", 3);
    push(&mut log, b"after the sync", 0);
    fill(&data, b"other", 1);
    drop((log, data));
    let file = directory.path().join("q-jobs/00000000000000000000.seg");
    let mut bytes = fs::read(&file).unwrap();
    bytes[RECORDS + RECORD + BODY] ^= 1;
    fs::write(&file, bytes).unwrap();
    let (printed, said) = damaged(directory.path(), &["messages", "jobs"]);
    assert_eq!(last_column(&printed), ["message 0", "message 2", "after the sync"]);
    let offset = RECORDS + RECORD;
    let place = format!("00000000000000000000.seg: at offset {offset}: expected a record");
    assert!(said.contains(&place) && said.contains("[rotten-record]"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let (printed, _) = damaged(directory.path(), &["list"]);
    assert_eq!(last_column(&printed), ["jobs", "other"]);
    assert_eq!((row(&printed, "jobs")[0], row(&printed, "other")[0]), ("3", "1"), "{printed}");
    healthy(directory.path(), &["messages", "other"]);
}

#[test]
fn a_truncated_file_is_named_and_what_is_left_is_printed() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    drop(fill(&data, b"jobs", 300));
    drop(data);
    let files = segments(&directory.path().join("q-jobs"));
    let last = files.last().unwrap();
    let length = (RECORDS + RECORD * 10 + 8) as u64;
    fs::OpenOptions::new().write(true).open(last).unwrap().set_len(length).unwrap();
    let (printed, said) = damaged(directory.path(), &["messages", "jobs"]);
    let name = last.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(name) && said.contains("[short-segment]"), "{said}");
    let in_first = (8192 - RECORDS) / RECORD;
    assert_eq!(last_column(&printed).len(), in_first + 10, "{said}");
}

#[test]
fn every_truncation_is_survived() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    drop(fill(&data, b"jobs", 5));
    drop(fill(&data, b"other", 1));
    drop(data);
    let file = directory.path().join("q-jobs/00000000000000000000.seg");
    let whole = fs::read(&file).unwrap();
    for length in [0, 1, 511, 512, 600, 2559, 2560, 2600, 2624, 2700, 8191] {
        fs::write(&file, &whole[..length]).unwrap();
        let output = dump(directory.path(), &["list"]);
        let (printed, said) = texts(&output);
        // A file without a byte was never finished.
        assert_eq!(output.status.code(), Some(i32::from(length > 0)), "{length}: {said}");
        assert!(printed.ends_with("  other\n"), "{length}: {printed}");
        assert!(!said.contains("panic"), "{said}");
    }
}

#[test]
fn a_torn_tail_is_named_and_is_no_damage() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    drop(fill(&data, b"jobs", 2));
    drop(data);
    let file = directory.path().join("q-jobs/00000000000000000000.seg");
    let mut bytes = fs::read(&file).unwrap();
    bytes[RECORDS + 2 * 72 + 4] = 9;
    bytes[RECORDS + 2 * 72 + 8] = 1;
    fs::write(&file, bytes).unwrap();
    let output = dump(directory.path(), &["messages", "jobs"]);
    let (printed, said) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(last_column(&printed), ["message 0", "message 1"]);
    assert!(said.contains("[torn-tail]") && said.lines().count() == 1, "{said}");
}

/// Whatever is damaged: every command ends, none panics, and none lets a control character out.
#[test]
fn every_command_answers_whatever_is_damaged() {
    let mut random = Random::seeded();
    let sound = rich_files();
    for round in 0..8 {
        let mut damaged = sound.clone();
        for _ in 0..1 + random.below(5) {
            damage(&mut damaged, &mut random);
        }
        let root = directory_with(&damaged);
        let path = root.path().join("data");
        let file = segments(&path.join("q-jobs"))[0].clone();
        for arguments in [
            &["list"][..],
            &["show", "jobs"],
            &["messages", "jobs"],
            &["messages", "jobs", "--json"],
            &["segment", file.to_str().unwrap()],
            &["verify"],
            &["export"],
            &["repair"],
        ] {
            let output = dump(&path, arguments);
            let (printed, said) = texts(&output);
            let place = format!("round {round}, {arguments:?}: {said}");
            assert!(matches!(output.status.code(), Some(0 | 1)), "{place}");
            assert!(!said.contains("panicked"), "{place}");
            let is_plain = |letter: char| letter == '\n' || !letter.is_control();
            assert!(printed.chars().chain(said.chars()).all(is_plain), "{place}");
        }
    }
}
