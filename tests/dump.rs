//! mq-dump as a process, over directories that the storage has made: what it prints, what it says
//! about damage, and that it changes nothing.

// A failed expectation is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use fs2::FileExt;
use mq::storage::{DataDirectory, Log, NewMessage};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::SystemTime;
use tempfile::TempDir;

const SEGMENT_SIZE: u64 = 64 * 1024;
/// Where the first record of a segment starts, and a message in its record.
const RECORDS: usize = 2560;
const BODY: usize = 56;
/// 2026-11-23T12:30:01.042Z.
const PUSHED_MS: u64 = 1_795_437_001_042;

fn open(path: &Path) -> DataDirectory {
    DataDirectory::open(path, SEGMENT_SIZE, true).unwrap()
}

fn push(log: &mut Log, body: &[u8], flags: u32) {
    log.push(&NewMessage { body, flags, expires_ms: 0 }, PUSHED_MS).unwrap();
}

fn remove(log: &mut Log, body: &[u8]) {
    let place = log.find(body).unwrap().expect("it is in the queue").0;
    log.remove(place).unwrap();
}

fn sync(log: &mut Log) {
    if let Some((work, point)) = log.begin_sync() {
        let outcome = work();
        log.end_sync(point, &outcome);
    }
}

/// A queue of `count` messages `message 0`, `message 1`, ..., all durable.
fn fill(directory: &DataDirectory, name: &[u8], count: usize) -> Log {
    let mut log = directory.create_log(name).unwrap();
    for number in 0..count {
        push(&mut log, format!("message {number}").as_bytes(), 0);
    }
    sync(&mut log);
    log
}

fn command(path: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mq-dump"));
    command.stdin(Stdio::null()).arg("--dir").arg(path).args(arguments);
    command
}

/// Waits until nobody uses the directory: a child that another test is about to start has, for a
/// moment, a copy of every open file, with its lock.
fn wait_until_free(path: &Path) {
    let lock = fs::File::open(path.join("LOCK")).unwrap();
    FileExt::lock_shared(&lock).unwrap();
}

/// Runs mq-dump without a daemon beside it, see [`dump_beside`].
fn dump(path: &Path, arguments: &[&str]) -> Output {
    wait_until_free(path);
    dump_beside(path, arguments)
}

/// Runs mq-dump and holds that not a byte, name or time in the directory has changed.
fn dump_beside(path: &Path, arguments: &[&str]) -> Output {
    let before = image(path);
    set_modes(path, 0o555, 0o444);
    let output = command(path, arguments).output().unwrap();
    set_modes(path, 0o755, 0o644);
    assert_eq!(image(path), before, "mq-dump has changed something");
    output
}

fn paths(path: &Path) -> Vec<PathBuf> {
    let mut paths = vec![path.to_path_buf()];
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        paths.extend(entries.flat_map(|path| self::paths(&path)));
    }
    paths
}

/// Every path in a directory, when it was changed, and a file's bytes.
fn image(path: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let read = |path: PathBuf| {
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        let bytes = if path.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        (path, (changed, bytes))
    };
    paths(path).into_iter().map(read).collect()
}

fn set_modes(path: &Path, directory: u32, file: u32) {
    for path in paths(path) {
        let mode = if path.is_dir() { directory } else { file };
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
}

/// Standard output and standard error.
fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// What is printed where all is well.
fn healthy(path: &Path, arguments: &[&str]) -> String {
    let output = dump(path, arguments);
    let (printed, said) = texts(&output);
    assert_eq!(said, "");
    assert_eq!(output.status.code(), Some(0), "{printed}");
    printed
}

/// What is printed and what is said where something is damaged.
fn damaged(path: &Path, arguments: &[&str]) -> (String, String) {
    let output = dump(path, arguments);
    let (printed, said) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}{said}");
    (printed, said)
}

/// The last column of every line after the header.
fn last_column(printed: &str) -> Vec<&str> {
    printed.lines().skip(1).map(|line| line.split("  ").last().unwrap()).collect()
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut files = paths(folder).split_off(1);
    files.sort();
    files
}

#[test]
fn list_has_a_line_for_each_queue() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    fill(&data, b"jobs", 3);
    fill(&data, b"a\r\n\\\"b\0", 2);
    fill(&data, &[b'n'; 452], 1);
    let mut log = fill(&data, b"large", 0);
    push(&mut log, &[b'x'; 40_000], 0);
    drop((log, data));
    let printed = healthy(directory.path(), &["list"]);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], "  messages     live bytes segments     disk bytes  queue");
    assert_eq!(lines[1], r#"         2            144        1           8192  a\r\n\\"b\x00"#);
    assert_eq!(lines[2], "         3            216        1           8192  jobs");
    assert!(lines[3].starts_with("         1          40056        2 "), "{printed}");
    assert!(lines[4].ends_with(&format!("  {}", "n".repeat(452))), "{printed}");
    assert_eq!(lines.len(), 5, "{printed}");
}

#[test]
fn messages_are_printed_oldest_first_with_number_time_flags_and_size() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = data.create_log(b"jobs").unwrap();
    push(&mut log, b"one", 7);
    push(&mut log, b"", u32::MAX);
    push(&mut log, b"it's\r\n\\ \"\xff\0\"", 0);
    drop((log, data));
    let expected = [
        "    number pushed                        flags      bytes  value",
        "         1 2026-11-23T12:30:01.042Z          7          3  one",
        "         2 2026-11-23T12:30:01.042Z 4294967295          0  ",
        r#"         3 2026-11-23T12:30:01.042Z          0         12  it's\r\n\\ "\xff\x00""#,
    ];
    let printed = healthy(directory.path(), &["messages", "jobs"]);
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn what_was_popped_or_removed_is_not_printed() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = fill(&data, b"jobs", 6);
    remove(&mut log, b"message 0");
    remove(&mut log, b"message 3");
    remove(&mut log, b"message 5");
    push(&mut log, b"new", 0);
    drop((log, data));
    let printed = healthy(directory.path(), &["messages", "jobs"]);
    assert_eq!(last_column(&printed), ["message 1", "message 2", "message 4", "new"]);
    assert!(healthy(directory.path(), &["list"]).contains("\n         4 "));
}

#[test]
fn from_and_count_choose_messages() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = fill(&data, b"jobs", 2000);
    remove(&mut log, b"message 1001");
    drop((log, data));
    let chosen = |from: &str, count: &str| {
        let arguments = ["messages", "jobs", "--from", from, "--count", count];
        let printed = healthy(directory.path(), &arguments);
        last_column(&printed).join(",")
    };
    assert_eq!(chosen("1001", "2"), "message 1000,message 1002");
    assert_eq!(chosen("2000", "9"), "message 1999");
    assert_eq!(chosen("1", "0"), "");
    assert_eq!(chosen("18446744073709551615", "9"), "");
}

#[test]
fn messages_are_found_where_they_were_copied_to() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = fill(&data, b"jobs", 5000);
    for number in (1..5000).filter(|number| number % 100 != 0) {
        remove(&mut log, format!("message {number}").as_bytes());
    }
    while log.copy_forward().unwrap() {}
    sync(&mut log);
    let expected: Vec<String> = (0..50).map(|n| format!("message {}", n * 100)).collect();
    drop((log, data));
    assert_eq!(last_column(&healthy(directory.path(), &["messages", "jobs"])), expected);
}

#[test]
fn a_queue_is_named_by_its_bytes_or_with_escapes() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let long = [b'n'; 300];
    for name in [&b"a\r\n\\\"b\0"[..], b"raw\\x41", b"", b"a\xff", &long] {
        fill(&data, name, 1);
    }
    drop(data);
    let long = "n".repeat(300);
    for name in [r#"a\r\n\\"b\x00"#, r"raw\x41", r"raw\\x41", "", r"a\xff", &long] {
        let printed = healthy(directory.path(), &["messages", name]);
        assert_eq!(last_column(&printed), ["message 0"], "{name}");
    }
    let output = dump(directory.path(), &["messages", &"n".repeat(299)]);
    assert_eq!(output.status.code(), Some(1), "another queue's folder begins like this one's");
}

#[test]
fn beside_a_daemon_it_says_that_it_reads_a_moving_target() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = fill(&data, b"jobs", 1);
    for arguments in [&["list"][..], &["messages", "jobs"]] {
        let output = dump_beside(directory.path(), arguments);
        let (printed, said) = texts(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(printed.lines().count(), 2);
        assert!(said.contains("a daemon uses this directory") && said.lines().count() == 1);
        push(&mut log, b"the daemon goes on", 0);
        remove(&mut log, b"the daemon goes on");
    }
    drop((log, data));
    healthy(directory.path(), &["list"]);
}

/// A daemon that pushes, pops and lets segments go must not look damaged.
#[test]
fn a_queue_that_changes_all_the_time_looks_sound() {
    let directory = TempDir::new().unwrap();
    // The larger a segment, the longer the search for something behind the log's end.
    let data = DataDirectory::open(directory.path(), 8 << 20, true).unwrap();
    let mut log = fill(&data, b"jobs", 0);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0_u64.. {
                push(&mut log, &[b'x'; 5000], 0);
                if number % 600 >= 300 {
                    for _ in 0..2 {
                        let place = log.next(0).unwrap().expect("a message").0;
                        log.remove(place).unwrap();
                    }
                }
                if number % 50 == 0 {
                    sync(&mut log);
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let outputs: Vec<Output> = (0..60)
            .map(|_| command(directory.path(), &["messages", "jobs"]).output().unwrap())
            .collect();
        stop.store(true, Ordering::Relaxed);
        for output in outputs {
            let (printed, said) = texts(&output);
            assert_eq!(output.status.code(), Some(0), "{said}");
            assert!(!said.contains("rotten") && !said.contains("ERROR"), "{said}");
            let number = |line: &str| line.split_whitespace().next()?.parse::<u64>().ok();
            let numbers: Vec<u64> = printed.lines().skip(1).filter_map(number).collect();
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
        }
    });
}

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
    bytes[RECORDS + 72 + BODY] ^= 1;
    fs::write(&file, bytes).unwrap();
    let (printed, said) = damaged(directory.path(), &["messages", "jobs"]);
    assert_eq!(last_column(&printed), ["message 0", "message 2", "after the sync"]);
    let place = format!("00000000000000000000.seg: at offset {}: expected checksum", RECORDS + 72);
    assert!(said.contains(&place) && said.contains("[rotten-record]"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let (printed, _) = damaged(directory.path(), &["list"]);
    assert_eq!(last_column(&printed), ["jobs", "other"]);
    assert!(printed.contains("\n         3 ") && printed.contains("\n         1 "), "{printed}");
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
    let length = RECORDS as u64 + 72 * 10 + 8;
    fs::OpenOptions::new().write(true).open(last).unwrap().set_len(length).unwrap();
    let (printed, said) = damaged(directory.path(), &["messages", "jobs"]);
    let name = last.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(name) && said.contains("[short-segment]"), "{said}");
    let in_first = (8192 - RECORDS) / 72;
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
    for length in [0, 1, 511, 512, 600, 2559, 2560, 2600, 2632, 2700, 8191] {
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
fn a_refused_queue_is_named_and_the_others_are_listed() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    for name in [&b"a"[..], b"b", b"c"] {
        fill(&data, name, 1);
    }
    drop(data);
    let file = |queue| directory.path().join(queue).join("00000000000000000000.seg");
    fs::copy(file("q-a"), file("q-b")).unwrap();
    let (printed, said) = damaged(directory.path(), &["list"]);
    assert_eq!(last_column(&printed), ["a", "c"]);
    assert!(said.contains("q-b/") && said.contains("[foreign-segment]"), "{said}");
    damaged(directory.path(), &["messages", "b"]);
    healthy(directory.path(), &["messages", "a"]);
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

#[test]
fn what_is_not_there_is_one_line_and_exit_code_1() {
    let directory = TempDir::new().unwrap();
    drop(fill(&open(directory.path()), b"jobs", 1));
    wait_until_free(directory.path());
    let nowhere = directory.path().join("nowhere");
    for (path, arguments) in [
        (directory.path(), &["messages", "job"][..]),
        (&nowhere, &["list"]),
        (&nowhere, &["messages", "jobs"]),
    ] {
        let output = command(path, arguments).output().unwrap();
        let (_, said) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert!(!nowhere.exists());
}

#[test]
fn a_mistake_is_one_line_on_standard_error_and_exit_code_2() {
    let directory = TempDir::new().unwrap();
    for arguments in [
        &[][..],
        &["show"],
        &["list", "jobs"],
        &["list", "--count", "1"],
        &["messages"],
        &["messages", "a", "b"],
        &["messages", "a", "--from", "x"],
        &["messages", "a", "--count", "-1"],
        &["list", "--bogus"],
    ] {
        let output = command(directory.path(), arguments).output().unwrap();
        let (printed, said) = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said.starts_with("mq-dump: ") && said.lines().count() == 1, "{said}");
        assert_eq!(printed, "", "{arguments:?}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let directory = TempDir::new().unwrap();
    let print = |option| texts(&command(directory.path(), &[option]).output().unwrap());
    for (option, start) in
        [("-h", "mq-dump: "), ("--help", "mq-dump: "), ("-V", "mq-dump 0."), ("--version", "mq-")]
    {
        let (printed, said) = print(option);
        assert!(printed.starts_with(start) && said.is_empty(), "{option}: {printed}{said}");
    }
    let (usage, _) = print("-h");
    assert!(usage.lines().count() < 24, "more than a screen");
    let daemon = Command::new(env!("CARGO_BIN_EXE_mqd")).arg("-h").output().unwrap();
    assert!(usage.contains("(./mq-data)") && texts(&daemon).0.contains("(./mq-data)"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    drop(fill(&data, b"jobs", 5000));
    drop(data);
    wait_until_free(directory.path());
    let mut child = command(directory.path(), &["messages", "jobs"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::with_capacity(64, child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert!(line.contains("number"), "{line}");
    drop(output);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}
