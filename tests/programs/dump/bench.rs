//! Directories to look into, and mq-dump as a process.

use crate::common::opening;
use mq::storage::{DataDirectory, Log, NewMessage};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

pub use crate::common::GUARD;
pub use crate::random::Random;

const SEGMENT_SIZE: u64 = 64 * 1024;
/// The first segment of a queue.
pub const FIRST: &str = "00000000000000000000.seg";
/// Where the first record of a segment starts, and a message in its record.
pub const RECORDS: usize = 2560;
pub const BODY: usize = 48;
/// Bytes of the record of a message of 9 to 16 bytes.
pub const RECORD: usize = 64;
/// 2026-11-23T12:30:01.042Z.
pub const PUSHED_MS: u64 = 1_795_437_001_042;

/// Opens a directory as a daemon does.
pub fn open(path: &Path) -> DataDirectory {
    opening::open(|| DataDirectory::open(path, SEGMENT_SIZE, true)).unwrap()
}

pub fn push(log: &mut Log, body: &[u8], flags: u32) {
    log.push(&NewMessage { body, flags, expires_ms: 0 }, PUSHED_MS).unwrap();
}

pub fn remove(log: &mut Log, body: &[u8]) {
    let place = log.find(body).unwrap().expect("it is in the queue").0;
    log.remove(place).unwrap();
}

pub fn sync(log: &mut Log) {
    if let Some((work, point)) = log.begin_sync() {
        let outcome = work();
        log.end_sync(point, &outcome);
    }
}

/// A queue of `count` messages `message 0`, `message 1`, ..., all durable.
pub fn fill(directory: &DataDirectory, name: &[u8], count: usize) -> Log {
    let mut log = directory.create_log(name).unwrap();
    for number in 0..count {
        push(&mut log, format!("message {number}").as_bytes(), 0);
    }
    sync(&mut log);
    log
}

/// A directory with these queues, closed as by a clean stop.
pub fn directory_of(queues: &[(&[u8], usize)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    for (name, count) in queues {
        fill(&data, name, *count).rest();
    }
    directory
}

/// Files of a directory by their paths in it, and their bytes.
pub fn files(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = paths(path).into_iter().filter(|path| path.is_file());
    let inside =
        |file: PathBuf| (file.strip_prefix(path).unwrap().into(), fs::read(&file).unwrap());
    files.map(inside).collect()
}

/// Files of a directory with all that a directory may have: sealed segments, some with footers,
/// removals, copies, messages of many sizes, an empty queue and a long name.
pub fn rich_files() -> BTreeMap<PathBuf, Vec<u8>> {
    let directory = TempDir::new().unwrap();
    let data = DataDirectory::open(directory.path(), 16 * 1024, true).unwrap();
    let mut log = fill(&data, b"jobs", 800);
    for number in (1..800).filter(|number| number % 50 != 0) {
        remove(&mut log, format!("message {number}").as_bytes());
    }
    while log.copy_forward().unwrap() {}
    for size in 0..80_usize {
        push(&mut log, &vec![b'x'; size * size / 8], size as u32);
    }
    sync(&mut log);
    while let Some(work) = log.write_footer() {
        work().unwrap();
    }
    fill(&data, b"mail", 100).rest();
    remove(&mut fill(&data, b"empty", 1), b"message 0");
    fill(&data, &[0xff; 452], 3).rest();
    drop((log, data));
    files(directory.path())
}

/// A directory with these files.
pub fn directory_with(files: &BTreeMap<PathBuf, Vec<u8>>) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (path, bytes) in files {
        let path = directory.path().join("data").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    directory
}

/// Damages a segment file as a bad disk, a crash or somebody's hand may.
pub fn damage(files: &mut BTreeMap<PathBuf, Vec<u8>>, random: &mut Random) {
    let segments: Vec<PathBuf> =
        files.keys().filter(|path| path.extension().is_some()).cloned().collect();
    let path = &segments[random.below(segments.len() as u64) as usize];
    let bytes = files.get_mut(path).unwrap();
    let start = random.below(bytes.len() as u64) as usize;
    let end = bytes.len().min(start + 1 + random.below(2000) as usize);
    match random.below(8) {
        0 => drop(files.remove(path)),
        1 => bytes.truncate(start),
        2 => bytes[start..end].fill(0),
        3 => bytes[start..end].fill_with(|| random.below(256) as u8),
        4 => bytes.extend((start..end).map(|_| 7)),
        _ => bytes[start] ^= 1 << random.below(8),
    }
}

/// Changes the bytes of a file.
pub fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

pub fn command(path: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mq-dump"));
    command.stdin(Stdio::null()).arg("--dir").arg(path).args(arguments);
    command
}

/// Waits until nobody holds the directory's lock: a child that another test is about to start has,
/// for a moment, a copy of every open file, with its lock.
pub fn wait_until_free(path: &Path) {
    let Ok(lock) = fs::metadata(path.join("LOCK")) else { return };
    let (start, mark) = (Instant::now(), format!(":{} ", lock.ino()));
    while fs::read_to_string("/proc/locks").unwrap().contains(&mark) {
        assert!(start.elapsed() < GUARD, "the lock is never free");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs mq-dump without a daemon beside it, see [`dump_beside`].
pub fn dump(path: &Path, arguments: &[&str]) -> Output {
    wait_until_free(path);
    dump_beside(path, arguments)
}

/// Runs mq-dump and holds that not a byte, name or time in the directory has changed.
pub fn dump_beside(path: &Path, arguments: &[&str]) -> Output {
    let before = image(path);
    set_modes(path, 0o555, 0o444);
    let output = command(path, arguments).output().unwrap();
    set_modes(path, 0o755, 0o644);
    assert_eq!(image(path), before, "mq-dump has changed something");
    output
}

/// Runs mq-dump where it may write, with this on its standard input.
pub fn write_with(path: &Path, arguments: &[&str], input: &[u8]) -> Output {
    wait_until_free(path);
    let mut command = command(path, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that ends before it has read everything closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

pub fn paths(path: &Path) -> Vec<PathBuf> {
    let mut paths = vec![path.to_path_buf()];
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        paths.extend(entries.flat_map(|path| self::paths(&path)));
    }
    paths
}

/// Every path in a directory, when it was changed, and a file's bytes.
pub fn image(path: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
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
pub fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// What is printed where all is well.
pub fn healthy(path: &Path, arguments: &[&str]) -> String {
    let output = dump(path, arguments);
    let (printed, said) = texts(&output);
    assert_eq!(said, "");
    assert_eq!(output.status.code(), Some(0), "{printed}");
    printed
}

/// What is printed and what is said where something is damaged.
pub fn damaged(path: &Path, arguments: &[&str]) -> (String, String) {
    let output = dump(path, arguments);
    let (printed, said) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}{said}");
    (printed, said)
}

/// The last column of every line after the header.
pub fn last_column(printed: &str) -> Vec<&str> {
    printed.lines().skip(1).map(|line| line.split("  ").last().unwrap()).collect()
}

/// The values of the queue's messages.
pub fn values(path: &Path, queue: &str) -> Vec<String> {
    let output = dump(path, &["messages", queue]);
    last_column(&texts(&output).0).into_iter().map(String::from).collect()
}

/// The words of a line.
pub fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The line of a table that ends with this, as words.
pub fn row<'a>(printed: &'a str, end: &str) -> Vec<&'a str> {
    words(printed.lines().find(|line| line.ends_with(end)).expect("a line that ends so"))
}

pub fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut files = paths(folder).split_off(1);
    files.sort();
    files
}
