//! Beside a running daemon: nothing is disturbed, and a moving target is called one.

use super::bench::*;
use crate::common::{Client, Daemon, request};
use mq::storage::DataDirectory;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;
use tempfile::TempDir;

/// A daemon whose queue `jobs` has these messages.
fn daemon_with(messages: &[&[u8]]) -> Daemon {
    let daemon = Daemon::start("");
    let mut client = daemon.redis();
    for message in messages {
        client.ask(request(&[b"SADD", b"jobs", message]), ":1\r\n");
    }
    daemon
}

#[test]
fn beside_a_daemon_verify_says_that_it_reads_a_moving_target() {
    let daemon = daemon_with(&[b"one", b"two"]);
    let mut client = daemon.redis();
    let file = daemon.directory().join("q-jobs").join(FIRST);
    for (arguments, shown) in [
        (&["list"][..], "  jobs\n"),
        (&["show", "jobs"], "ready        2 (112 bytes), "),
        (&["messages", "jobs"], "  two\n"),
        (&["export"], "\"value\":\"two\"}\n"),
        (&["segment", file.to_str().unwrap()], "  two\n"),
        (&["verify"], "1 queue, 8.0 KiB: no damage\n"),
        (&["repair"], "nothing to repair\n"),
    ] {
        let output = dump_beside(daemon.directory(), arguments);
        let (printed, said) = texts(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(printed.contains(shown), "{arguments:?}: {printed}");
        let told = said.matches("a daemon uses this directory: this is a moving target").count();
        let expected = usize::from(arguments == ["verify"]);
        assert_eq!((told, said.lines().count()), (expected, expected), "{arguments:?}: {said}");
        client.ask(request(&[b"SADD", b"jobs", b"the daemon goes on"]), ":1\r\n");
        client.ask(request(&[b"SREM", b"jobs", b"the daemon goes on"]), ":1\r\n");
        client.ask(request(&[b"SCARD", b"jobs"]), ":2\r\n");
    }
}

/// Trying a lock would keep out a daemon that starts at that moment.
#[test]
fn the_lock_is_not_even_opened() {
    let directory = directory_of(&[(b"jobs", 1)]);
    let lock = directory.path().join("LOCK");
    std::fs::remove_file(&lock).unwrap();
    // Whoever opens it to read waits for a writer.
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &lock, kind, mode, 0).unwrap();
    for command_line in [&["list"][..], &["messages", "jobs"], &["verify"]] {
        let mut command = command(directory.path(), command_line);
        let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if start.elapsed() > GUARD {
                child.kill().unwrap();
                panic!("{command_line:?} waits for the lock file");
            }
            thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn nothing_is_written_behind_the_back_of_a_daemon() {
    let daemon = daemon_with(&[b"one"]);
    let line = b"{\"queue\":\"jobs\",\"value\":\"two\"}\n";
    for (arguments, advice) in [
        (
            &["import"][..],
            "; stop it first, or let redis-cli --pipe load what mq-dump export --redis writes\n",
        ),
        (&["repair", "--yes"], "; stop it first\n"),
    ] {
        let before = image(daemon.directory());
        let mut command = command(daemon.directory(), arguments);
        let file = TempDir::new().unwrap();
        std::fs::write(file.path().join("lines"), line).unwrap();
        command.stdin(std::fs::File::open(file.path().join("lines")).unwrap());
        let (printed, said) = texts(&command.output().unwrap());
        assert_eq!(printed, "");
        assert!(said.contains("another daemon uses this directory"), "{said}");
        assert!(said.ends_with(advice) && said.lines().count() == 1, "{said}");
        assert_eq!(image(daemon.directory()), before);
    }
}

/// What `redis-cli --pipe` does: the exported bytes go in as they are.
#[test]
fn a_daemon_loads_what_was_exported_as_protocol() {
    let from = directory_of(&[(b"jobs", 100), (b"a\r\n\xff", 3)]);
    let output = dump(from.path(), &["export", "--redis"]);
    let daemon = Daemon::start("");
    let mut client = daemon.redis();
    client.send(&output.stdout);
    for _ in 0..103 {
        client.expect(":1\r\n");
    }
    client.ask(request(&[b"SCARD", b"a\r\n\xff"]), ":3\r\n");
    for number in 0..100 {
        pop(&mut client, &format!("message {number}"));
    }
}

fn pop(client: &mut Client, value: &str) {
    client.ask(request(&[b"SPOP", b"jobs"]), format!("${}\r\n{value}\r\n", value.len()));
}

#[test]
fn a_daemon_delivers_what_was_imported() {
    let from = directory_of(&[(b"jobs", 300)]);
    let lines = healthy(from.path(), &["export"]);
    let mut daemon = Daemon::start("");
    daemon.terminate();
    let (printed, said) = texts(&write_with(daemon.directory(), &["import"], lines.as_bytes()));
    assert_eq!((printed.as_str(), said.as_str()), ("imported 300 messages, durably\n", ""));
    let daemon = daemon.restart_with(vec!["--strict".into()]);
    let mut client = daemon.redis();
    for number in 0..300 {
        pop(&mut client, &format!("message {number}"));
    }
}

/// Verifying reads for long, and a daemon that works meanwhile must not look damaged.
#[test]
fn verifying_beside_a_busy_daemon_finds_nothing() {
    let daemon = Daemon::start("--segment-size 64k");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = daemon.redis();
            let mut number = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let body = format!("message {number}");
                client.ask(request(&[b"SADD", b"jobs", body.as_bytes()]), ":1\r\n");
                if number >= 500 {
                    pop(&mut client, &format!("message {}", number - 500));
                }
                number += 1;
            }
        });
        for _ in 0..20 {
            let output = command(daemon.directory(), &["verify"]).output().unwrap();
            let (printed, said) = texts(&output);
            assert_eq!(output.status.code(), Some(0), "{printed}{said}");
        }
        stop.store(true, Ordering::Relaxed);
    });
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
