//! What `mq-dump verify` says of a directory: the program, as people run it.

use mq::storage::StorageError;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Only a guard against hanging.
pub const GUARD: Duration = Duration::from_secs(120);

/// Its lines, and its exit code.
pub fn verify(root: &Path) -> (Vec<String>, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mq-dump"));
    let output = command.arg("--dir").arg(root).arg("verify").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    // Another child that is about to become a program has the directory's lock for a moment.
    let said = said.lines().find(|line| !line.contains(" a daemon uses this directory: "));
    assert_eq!(said, None, "what it finds is what it is asked for");
    let printed = String::from_utf8(output.stdout).unwrap();
    (printed.lines().map(String::from).collect(), output.status.code())
}

/// Opens a directory in a process that starts programs: a child that is about to become one has,
/// for a moment, a copy of every open file, with its lock.
pub fn open<T>(open: impl Fn() -> Result<T, StorageError>) -> Result<T, StorageError> {
    let start = Instant::now();
    loop {
        match open() {
            Err(StorageError::Locked { .. }) if start.elapsed() < GUARD => thread::yield_now(),
            opened => return opened,
        }
    }
}
