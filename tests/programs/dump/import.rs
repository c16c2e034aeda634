//! `import`: what was exported comes back, durably, and nothing half done.

use super::bench::*;
use mq::storage::NewMessage;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// What `export` writes, without the numbers that an import gives anew.
fn exported(path: &Path) -> String {
    let printed = healthy(path, &["export"]);
    let line = |line: &str| {
        let (start, rest) = line.split_once("\"number\":").unwrap();
        format!("{start}{}\n", rest.split_once(',').unwrap().1)
    };
    printed.lines().map(line).collect()
}

/// An import that succeeds; answers what it prints.
fn imported(path: &Path, arguments: &[&str], input: &[u8]) -> String {
    let output = write_with(path, arguments, input);
    let (printed, said) = texts(&output);
    assert_eq!((said.as_str(), output.status.code()), ("", Some(0)), "{printed}");
    printed
}

/// What an import says that fails.
fn refused(path: &Path, input: &[u8]) -> String {
    let output = write_with(path, &["import"], input);
    let (printed, said) = texts(&output);
    assert_eq!((printed.as_str(), output.status.code()), ("", Some(1)), "{said}");
    said
}

#[test]
fn what_is_exported_comes_back_with_flags_expiry_and_time() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let names: [&[u8]; 4] = [b"jobs", b"", b"\xff\0", &[b'n'; 452]];
    for name in names {
        let mut log = data.create_log(name).unwrap();
        for number in 0..200_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(number);
            let body: Vec<u8> = (0..random >> 58).map(|at| (random >> (at % 57)) as u8).collect();
            let (flags, expires_ms) = ((random >> 20) as u32, (random >> 22) & !7);
            log.push(&NewMessage { body: &body, flags, expires_ms }, number).unwrap();
            // Equal messages stay two.
            log.push(&NewMessage { body: &body, flags, expires_ms }, number).unwrap();
        }
    }
    drop(data);
    let lines = healthy(directory.path(), &["export"]);
    let target = TempDir::new().unwrap();
    let path = target.path().join("made/by/import");
    let said =
        format!("imported 1600 messages, durably, into the new directory {}\n", path.display());
    assert_eq!(imported(&path, &["import"], lines.as_bytes()), said);
    assert_eq!(exported(&path), exported(directory.path()));
    let file = target.path().join("lines");
    fs::write(&file, &lines).unwrap();
    let path = target.path().join("from-a-file");
    imported(&path, &["import", file.to_str().unwrap()], b"");
    assert_eq!(exported(&path), exported(directory.path()));
    healthy(&path, &["verify"]);
    let shown = healthy(&path, &["show", "jobs"]);
    let durable = shown.lines().find(|line| line.starts_with("durable ")).unwrap();
    let positions: Vec<&str> =
        words(durable).into_iter().filter(|word| word.starts_with(char::is_numeric)).collect();
    assert_eq!(positions[0], positions[1].trim_end_matches('.'), "{durable}");
}

#[test]
fn messages_are_pushed_behind_those_that_are_there() {
    let directory = directory_of(&[(b"jobs", 2), (b"other", 1)]);
    let lines =
        "{\"queue\":\"jobs\",\"value\":\"new\"}\n\n{\"value_base64\":\"bmV3\",\"queue\":\"new\"}";
    let printed = imported(directory.path(), &["import"], lines.as_bytes());
    assert_eq!(printed, "imported 2 messages, durably\n");
    assert_eq!(values(directory.path(), "jobs"), ["message 0", "message 1", "new"]);
    assert_eq!(values(directory.path(), "new"), ["new"]);
    assert_eq!(imported(directory.path(), &["import"], b""), "imported 0 messages, durably\n");
    assert!(healthy(directory.path(), &["messages", "jobs"]).contains("\n2305843009213693954 20"));
}

/// The lines of `messages --json` are the same, with two fields more.
#[test]
fn messages_as_json_can_be_imported_too() {
    let directory = directory_of(&[(b"jobs", 3)]);
    let lines =
        healthy(directory.path(), &["messages", "jobs", "--json", "--from", "2305843009213693953"]);
    let target = TempDir::new().unwrap();
    imported(target.path(), &["import"], lines.as_bytes());
    assert_eq!(values(target.path(), "jobs"), ["message 1", "message 2"]);
}

#[test]
fn a_line_that_cannot_be_imported_is_named_and_ends_it() {
    let long = format!("{{\"queue\":\"{}\",\"value\":\"\"}}", "n".repeat(453));
    for (line, reason) in [
        ("not json", "line 3: expected an object"),
        ("{\"queue\":\"jobs\"}", "line 3: neither value nor value_base64"),
        ("{\"queue\":\"jobs\",\"value\":\"x\",\"lag\":1}", "line 3: unknown field `lag`"),
        (&long, "line 3: a queue's name has 452 bytes at most"),
    ] {
        let directory = directory_of(&[(b"jobs", 1)]);
        let good = "{\"queue\":\"jobs\",\"value\":\"good\"}";
        let lines = format!("{good}\n{good}\n{line}\n{good}\n");
        let said = refused(directory.path(), lines.as_bytes());
        assert!(said.contains(reason), "{said}");
        let done = "; 2 messages before it imported, durably, and nothing of it or behind it";
        assert!(said.contains(done) && said.lines().count() == 1, "{said}");
        assert_eq!(values(directory.path(), "jobs"), ["message 0", "good", "good"]);
        healthy(directory.path(), &["verify"]);
    }
}

#[test]
fn a_damaged_directory_is_not_imported_into() {
    let directory = directory_of(&[(b"jobs", 3)]);
    let file = directory.path().join("q-jobs").join(FIRST);
    change(&file, |bytes| bytes[RECORDS + BODY] ^= 1);
    let before = fs::read(&file).unwrap();
    let said = refused(directory.path(), b"{\"queue\":\"jobs\",\"value\":\"x\"}");
    assert!(said.contains("[rotten-record]"), "{said}");
    assert!(said.contains("nothing was imported: see mq-dump verify, mq-dump repair"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn a_file_that_is_not_there_makes_no_directory() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("data");
    let output = write_with(&path, &["import", "/nowhere/lines"], b"");
    let (_, said) = texts(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("open /nowhere/lines: ") && said.lines().count() == 1, "{said}");
    assert!(!path.exists());
}

/// A file of another queue beside them makes a start refuse the queue, and so does export.
#[test]
fn the_messages_of_a_queue_that_is_refused_come_out_file_by_file() {
    let directory = directory_of(&[(b"jobs", 3), (b"other", 1)]);
    let expected = exported(directory.path());
    let expected = &expected[..expected.find("{\"queue\":\"other\"").unwrap()];
    let (jobs, other) = (directory.path().join("q-jobs"), directory.path().join("q-other"));
    fs::copy(other.join(FIRST), jobs.join("00000000000000008192.seg")).unwrap();
    let output = dump(directory.path(), &["export", "jobs"]);
    assert_eq!((&*output.stdout, output.status.code()), (&b""[..], Some(1)));
    let file = jobs.join(FIRST);
    let lines = dump_beside(directory.path(), &["segment", file.to_str().unwrap(), "--json"]);
    assert_eq!(lines.status.code(), Some(0));
    let saved = TempDir::new().unwrap();
    imported(saved.path(), &["import"], &lines.stdout);
    assert_eq!(exported(saved.path()), expected);
}
