//! `verify`: reads everything, names each fault, and says what recovery would decide.

use super::bench::*;
use std::fs;

#[test]
fn a_sound_directory_is_a_summary_and_exit_code_0() {
    let directory = directory_of(&[(b"jobs", 300), (b"other", 1)]);
    let printed = healthy(directory.path(), &["verify"]);
    assert_eq!(printed, "2 queues, 48.0 KiB: no damage\n");
}

/// It was "no damage", whatever the directory was.
#[test]
fn a_directory_of_others_is_not_verified() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("passwd"), "root").unwrap();
    for command in ["verify", "list", "export"] {
        let (printed, said) = damaged(directory.path(), &[command]);
        assert!(said.contains("is no data directory of mqd"), "{command}: {said}");
        assert!(!printed.contains("no damage"), "{command}: {printed}");
    }
}

#[test]
fn each_fault_has_its_place_what_was_expected_and_what_is_decided() {
    let directory = directory_of(&[(b"jobs", 300), (b"mail", 3), (b"other", 1)]);
    let file = directory.path().join("q-jobs").join(FIRST);
    change(&file, |bytes| {
        bytes[RECORDS + RECORD + BODY] ^= 1;
        bytes[RECORDS + 5 * RECORD + 8] = 77;
    });
    let mail = directory.path().join("q-mail").join(FIRST);
    change(&mail, |bytes| bytes[0] ^= 1);
    let (printed, said) = damaged(directory.path(), &["verify"]);
    assert_eq!(said, "", "faults are what is asked for");
    let lines: Vec<&str> = printed.lines().collect();
    let file = file.display();
    let first =
        format!("{file}: at offset {}: expected a record with its checksum, ", RECORDS + RECORD);
    assert!(lines[0].starts_with(&first) && lines[0].ends_with(" [rotten-record]"), "{printed}");
    assert_eq!(lines[1], "    damage: it is passed over");
    let second = format!(
        "{file}: at offset {}: expected a record with its checksum, found another checksum \
         [rotten-record]",
        RECORDS + 5 * RECORD
    );
    assert_eq!(lines[2], second);
    let third = format!("{}: at offset 0: expected a segment header, ", mail.display());
    assert!(lines[4].starts_with(&third) && lines[4].ends_with("[rotten-header]"), "{printed}");
    assert_eq!(lines[5], "    damage: it is read by the file's name");
    assert_eq!(lines[6], "3 queues, 56.0 KiB: 3 damaged places");
    assert_eq!(lines.len(), 7, "{printed}");
}

#[test]
fn damage_behind_a_footer_is_found() {
    let directory = directory_of(&[(b"jobs", 0)]);
    let mut log = open(directory.path()).open_logs().unwrap().remove(0);
    for number in 0..300 {
        push(&mut log, format!("message {number}").as_bytes(), 0);
    }
    sync(&mut log);
    while let Some(work) = log.write_footer() {
        work().unwrap();
    }
    drop(log);
    let file = directory.path().join("q-jobs").join(FIRST);
    change(&file, |bytes| bytes[RECORDS + BODY] ^= 1);
    healthy(directory.path(), &["list"]);
    let (printed, _) = damaged(directory.path(), &["verify"]);
    assert!(printed.contains(" [rotten-record]\n"), "{printed}");
}

#[test]
fn what_a_crash_leaves_is_a_note_and_no_damage() {
    let directory = directory_of(&[(b"jobs", 2)]);
    fs::create_dir(directory.path().join("q-unborn")).unwrap();
    fs::write(directory.path().join("notes\x1b[2J.txt"), "mine").unwrap();
    let file = directory.path().join("q-jobs").join(FIRST);
    change(&file, |bytes| {
        bytes[RECORDS + 2 * RECORD + 4] = 9;
        bytes[RECORDS + 2 * RECORD + 8] = 1;
    });
    let printed = healthy(directory.path(), &["verify"]);
    for label in ["torn-tail", "unborn-queue", "unknown-file"] {
        assert!(printed.contains(&format!(" [{label}]\n    note: ")), "{label}: {printed}");
    }
    assert!(printed.contains(r"/notes\x1b[2J.txt: at offset 0: "), "{printed}");
    assert!(printed.ends_with("2 queues, 8.0 KiB: no damage, 3 notes\n"), "{printed}");
}

#[test]
fn what_no_start_opens_is_a_refusal() {
    let directory = directory_of(&[(b"a", 1), (b"b", 1)]);
    let file = |queue: &str| directory.path().join(queue).join(FIRST);
    fs::copy(file("q-a"), file("q-b")).unwrap();
    let (printed, _) = damaged(directory.path(), &["verify"]);
    assert!(
        printed.contains(" [foreign-segment]\n    refusal: the queue is closed\n"),
        "{printed}"
    );
    assert!(printed.ends_with("2 queues, 16.0 KiB: 0 damaged places, 1 refusal\n"), "{printed}");
}
