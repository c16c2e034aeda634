//! What `mq-dump verify` says of a directory: the program, as people run it.

use std::path::Path;
use std::process::Command;

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
