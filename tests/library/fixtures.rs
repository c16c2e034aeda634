//! Data directories of every format version that there has been, which open for ever.
//!
//! `tests/fixtures/vN/data` is one of version N, and `expected.txt` beside it says what is wrong
//! with its queues and which messages they deliver, in order. A new version gets a folder of its
//! own, and none that is there is ever written again: `make_the_fixtures_of_this_version` refuses
//! to.

use mq::storage::format::{FIRST_SEQUENCE, RECORDS, SLOTS, VERSION};
use mq::storage::{DataDirectory, Inspection, Log, NewMessage, StepSize};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const SEGMENT_SIZE: u64 = 8 * 1024;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// What is wrong with the queues in `root`, and which messages they deliver.
fn described(root: &Path) -> String {
    let mut text = String::new();
    let inspection = Inspection::new(root);
    for folder in inspection.folders(None).unwrap() {
        for finding in inspection.verify(&folder).unwrap() {
            let file = finding.file.strip_prefix(root).unwrap().display();
            let (label, offset) = (finding.label.name(), finding.offset);
            writeln!(text, "finding {label} in {file} at {offset}").unwrap();
        }
    }
    let directory = DataDirectory::open(root, SEGMENT_SIZE, false).unwrap();
    for mut log in directory.open_logs().unwrap() {
        let name = log.name().escape_ascii().to_string();
        writeln!(text, "queue {name} of {}", log.len()).unwrap();
        let mut from = 0;
        while let Some((place, message)) = log.next(from).unwrap() {
            from = place.sequence + 1;
            let (flags, expires_ms, body) =
                (message.flags, message.expires_ms, message.body.escape_ascii());
            let number = place.sequence;
            writeln!(text, "{number} flags {flags} expires {expires_ms} {body}").unwrap();
        }
    }
    text
}

fn copy(from: &Path, to: &Path) {
    for folder in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(folder.file_name());
        if folder.path().is_file() {
            fs::create_dir_all(to).unwrap();
            fs::copy(folder.path(), target).unwrap();
            continue;
        }
        fs::create_dir_all(&target).unwrap();
        for file in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), target.join(file.file_name())).unwrap();
        }
    }
}

#[test]
fn every_version_opens_and_delivers_what_it_did() {
    let mut count = 0;
    for version in fs::read_dir(fixtures()).unwrap().map(Result::unwrap) {
        let expected = fs::read_to_string(version.path().join("expected.txt")).unwrap();
        let root = tempfile::tempdir().unwrap();
        copy(&version.path().join("data"), root.path());
        let found = described(root.path());
        assert_eq!(found, expected, "{}", version.path().display());
        // What was opened is worked on, and opened again.
        let directory = DataDirectory::open(root.path(), SEGMENT_SIZE, false).unwrap();
        for mut log in directory.open_logs().unwrap() {
            let before = log.len();
            push(&mut log, b"later", 0, 0);
            log.sync_now().unwrap();
            assert_eq!(log.len(), before + 1);
        }
        drop(directory);
        let again = described(root.path());
        assert_eq!(again.matches(" later\n").count(), again.matches("queue ").count());
        let old = |text: &str| {
            let old = |line: &&str| line.contains(" flags ") && !line.ends_with(" later");
            text.lines().filter(old).map(str::to_string).collect::<Vec<_>>()
        };
        assert_eq!(old(&again), old(&expected));
        count += 1;
    }
    assert_eq!(count, VERSION as usize, "a version without its fixtures");
}

fn push(log: &mut Log, body: &[u8], flags: u32, expires_ms: u64) {
    log.push(&NewMessage { body, flags, expires_ms }, 1_700_000_000_000).unwrap();
}

fn push_many(log: &mut Log, count: usize, length: usize) {
    for number in 0..count {
        let mut body = format!("message {number} ").into_bytes();
        body.resize(length, b'a' + number as u8 % 26);
        push(log, &body, number as u32, 0);
    }
}

fn remove(log: &mut Log, number: u64) {
    let number = FIRST_SEQUENCE - 1 + number;
    let place = log.next(number).unwrap().unwrap().0;
    assert_eq!(place.sequence, number);
    log.remove(place).unwrap();
}

fn sync(log: &mut Log) {
    let (work, point) = log.begin_sync().unwrap();
    log.end_sync(point, &work());
}

fn write_footers(log: &mut Log) {
    while let Some(work) = log.write_footer() {
        work().unwrap();
    }
}

/// Every kind of record and field, several segments with footers, a clean stop.
fn clean(log: &mut Log) {
    push(log, b"", 0, 0);
    push(log, b"with flags\r\n\0\xff", 0xdead_beef, 0);
    push(log, b"expires in 2100", 1, 4_102_444_800_000);
    push(log, b"has expired", 0, 1_700_000_000_001);
    push_many(log, 40, 250);
    [1, 2].into_iter().for_each(|number| remove(log, number));
    sync(log);
    [6, 20, 33].into_iter().for_each(|number| remove(log, number));
    write_footers(log);
    sync(log);
    log.rest();
}

/// Killed: messages and their copies are both there, with footers.
fn copied(log: &mut Log) {
    push_many(log, 62, 300);
    (3..55).for_each(|number| remove(log, number));
    sync(log);
    while log.copy_forward().unwrap() {}
    push_many(log, 20, 300);
    remove(log, 2);
    write_footers(log);
}

/// Killed: the last records are behind what is durable.
fn killed(log: &mut Log) {
    push_many(log, 5, 20);
    sync(log);
    remove(log, 1);
    push_many(log, 3, 20);
    remove(log, 4);
}

/// Killed in the middle of a step, behind others that were finished.
fn stepped(log: &mut Log) {
    let pushes = StepSize { pushes: 6, pushed_bytes: 600, ..StepSize::default() };
    log.begin_step(&pushes).unwrap();
    push_many(log, 6, 20);
    log.end_step().unwrap();
    log.begin_step(&StepSize { removals: 2, ..StepSize::default() }).unwrap();
    [1, 4].into_iter().for_each(|number| remove(log, number));
    log.end_step().unwrap();
    sync(log);
    log.begin_step(&StepSize { pops: 2, ..StepSize::default() }).unwrap();
    [2, 3].into_iter().for_each(|number| remove(log, number));
    log.end_step().unwrap();
    log.begin_step(&pushes).unwrap();
    push_many(log, 4, 20);
}

/// Everything is gone.
fn popped(log: &mut Log) {
    push_many(log, 3, 20);
    (1..=3).for_each(|number| remove(log, number));
    sync(log);
    log.rest();
}

/// Changes a byte of a queue's file.
fn spoil(root: &Path, queue: &str, base: u64, offset: usize) {
    let file = root.join(queue).join(format!("{base:020}.seg"));
    let mut bytes = fs::read(&file).unwrap();
    bytes[offset] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// What is done with a new queue.
type Work = fn(&mut Log);

#[test]
#[ignore = "writes the fixtures of a new format version, once"]
fn make_the_fixtures_of_this_version() {
    let version = fixtures().join(format!("v{VERSION}"));
    assert!(!version.exists(), "fixtures are never written again");
    let root = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(root.path(), SEGMENT_SIZE, false).unwrap();
    let long = [b'n'; 300];
    let queues: [(&[u8], Work); 10] = [
        (b"clean", clean),
        (b"copied", copied),
        (b"killed", killed),
        (b"popped", popped),
        (b"empty", |_| ()),
        (&long, clean),
        (b"torn \x00tail", killed),
        (b"rotten", clean),
        (b"silent", clean),
        (b"steps", stepped),
    ];
    for (name, work) in queues {
        work(&mut directory.create_log(name).unwrap());
    }
    drop(directory);
    // The sixth record, which is not durable; message 3, and a header; a slot and a footer.
    spoil(root.path(), "q-torn%20%00tail", 0, RECORDS + 5 * 72 + 62);
    spoil(root.path(), "q-rotten", 0, RECORDS + 48 + 64 + 60);
    spoil(root.path(), "q-rotten", 8192, 61);
    spoil(root.path(), "q-silent", 0, SLOTS + 9);
    spoil(root.path(), "q-silent", 0, SEGMENT_SIZE as usize + 70);
    fs::remove_file(root.path().join("LOCK")).unwrap();
    copy(root.path(), &version.join("data"));
    fs::write(version.join("expected.txt"), described(root.path())).unwrap();
}
