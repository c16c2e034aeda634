//! The command line: mistakes, help, and what is not there.

use super::bench::*;
use std::process::Command;
use tempfile::TempDir;

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
        (&nowhere, &["show", "jobs"]),
        (&nowhere, &["export"]),
        (&nowhere, &["verify"]),
        (&nowhere, &["repair"]),
        (directory.path(), &["show", "job"]),
        (directory.path(), &["export", "job"]),
    ] {
        let output = command(path, arguments).output().unwrap();
        let (_, said) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
        let is_nowhere = said.contains("no data directory ") && said.contains("(give --dir)");
        assert_eq!(is_nowhere, path == &*nowhere, "{arguments:?}: {said}");
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
        &["verify", "jobs"],
        &["segment"],
        &["import", "one", "two"],
        &["repair", "now"],
        &["export", "--json"],
        &["messages", "a", "--yes"],
        &["messages", "a", "--hex", "--raw"],
        &["list", "--\n\x1b[2J"],
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
        assert!(!said.contains("\\'"), "{said}");
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
