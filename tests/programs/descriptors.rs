//! A daemon whose limit of open files falls to what is open: what needs a file is refused, and goes
//! well again when there are descriptors. `tests/faults/descriptors.py` does the same under load.

use crate::common::{Client, Daemon, GUARD};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Sets the daemon's limit of open files.
fn limit(daemon: &Daemon, current: Option<u64>) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let pid = Pid::from_raw(daemon.id() as i32);
    prlimit(pid, Resource::Nofile, Rlimit { current: current.or(maximum), maximum })
        .expect("a limit that may be set");
}

fn entries(path: impl AsRef<Path>) -> usize {
    fs::read_dir(path).map_or(0, Iterator::count)
}

/// Not a descriptor more than are open now. To be called when nothing is on its way.
fn take_the_rest(daemon: &Daemon) {
    let open = entries(format!("/proc/{}/fd", daemon.id()));
    limit(daemon, Some(open as u64));
}

fn give_back(daemon: &Daemon) {
    limit(daemon, None);
}

fn expect_no_files(client: &mut Client) {
    let error = client.read_line();
    assert!(error.starts_with("-ERR ") && error.contains("Too many open files"), "{error}");
}

/// The folder of a queue that could not be made stayed behind, because it takes a descriptor to
/// list what is in a folder; every later try found it and failed with "File exists" until the
/// restart.
#[test]
fn a_queue_that_found_no_descriptor_is_made_when_there_is_one() {
    let daemon = Daemon::start("");
    let mut client = daemon.redis();
    client.ask("SADD old m\r\n", ":1\r\n");
    take_the_rest(&daemon);
    for _ in 0..3 {
        client.send("SADD new m\r\n");
        expect_no_files(&mut client);
    }
    assert!(!daemon.directory().join("q-new").exists());
    client.ask("SADD old n\r\n", ":1\r\n");
    give_back(&daemon);
    client.ask("SADD new m\r\n", ":1\r\n");
    client.ask("SMEMBERS new\r\n", "*1\r\n$1\r\nm\r\n");
}

/// A commit ends with the sync of the data directory where a queue was dropped. When that could not
/// be opened the commit had failed, and all clients that waited for it were cut off.
#[test]
fn a_queue_is_dropped_without_a_descriptor_and_nobody_is_cut_off() {
    let daemon = Daemon::start("--max-queues 2");
    let mut client = daemon.redis();
    client.ask("SADD one m\r\nSADD two m\r\n", ":1\r\n:1\r\n");
    take_the_rest(&daemon);
    client.ask("DEL one\r\n", ":1\r\n");
    // The second one makes room for another, which cannot be made.
    client.send("SPOP two\r\nSADD three m\r\nSADD four m\r\n");
    assert_eq!((client.read_line(), client.read_line()), ("$1".into(), "m".into()));
    expect_no_files(&mut client);
    expect_no_files(&mut client);
    give_back(&daemon);
    client.ask("SADD three m\r\nDBSIZE\r\n", ":1\r\n:1\r\n");
}

/// A sync also unlinks dead segments, and makes that durable in their folder. When the folder could
/// not be opened the sync had failed, although everything was on the disk: the clients were cut off
/// and the queue was closed until the restart.
#[test]
fn dead_segments_wait_for_a_descriptor_and_close_nothing() {
    let daemon = Daemon::start("--segment-size 64k");
    let folder = daemon.directory().join("q-q");
    let bulk = |number: usize| format!("$30000\r\n{number:030000}\r\n");
    let mut client = daemon.redis();
    for number in 0..20 {
        client.ask(format!("SADD q {number:030000}\r\n"), ":1\r\n");
    }
    // Every segment has been looked at, so popping needs no descriptor.
    client.ask("SMEMBERS q\r\n", format!("*20\r\n{}", (0..20).map(bulk).collect::<String>()));
    let segments = entries(&folder);
    assert!(segments > 5, "{segments}");
    take_the_rest(&daemon);
    for number in 0..10 {
        client.ask("SPOP q\r\n", bulk(number));
    }
    assert_eq!(entries(&folder), segments);
    client.ask("SADD q more\r\n", ":1\r\n");
    give_back(&daemon);
    let start = Instant::now();
    while entries(&folder) == segments {
        assert!(start.elapsed() < GUARD, "dead segments stay");
        thread::sleep(Duration::from_millis(20));
    }
    client.ask("SCARD q\r\n", ":11\r\n");
    let daemon = daemon.restart();
    daemon.redis().ask("SCARD q\r\n", ":11\r\n");
}

/// What can fail comes before the first change: a message that could not be removed is there, and
/// is counted, as if nobody had tried.
#[test]
fn what_cannot_be_removed_without_a_descriptor_has_not_changed() {
    let daemon = Daemon::start("--segment-size 64k");
    let message = |number: usize| format!("{number:030000}");
    let mut client = daemon.redis();
    for number in 0..20 {
        client.ask(format!("SADD q {}\r\n", message(number)), ":1\r\n");
    }
    // After a start that finds all footers no segment is open, and nobody works on files.
    let folder = daemon.directory().join("q-q");
    let has_footer = |path: &Path| fs::metadata(path).is_ok_and(|file| file.len() % 4096 != 0);
    let sealed = || {
        let mut files: Vec<_> = fs::read_dir(&folder).expect("a folder").flatten().collect();
        files.sort_by_key(fs::DirEntry::file_name);
        files.iter().filter(|file| has_footer(&file.path())).count()
    };
    let start = Instant::now();
    while sealed() < 8 {
        assert!(start.elapsed() < GUARD, "{} segments have a footer", sealed());
        thread::sleep(Duration::from_millis(20));
    }
    let daemon = daemon.restart();
    let mut client = daemon.redis();
    client.ask("SCARD q\r\n", ":20\r\n");
    // The oldest is looked into, and what the removal is written to is not.
    client.send("SSCAN q 0 COUNT 1\r\n");
    (0..6).for_each(|_| drop(client.read_line()));
    take_the_rest(&daemon);
    for _ in 0..3 {
        client.send("SPOP q\r\n");
        expect_no_files(&mut client);
        client.send(format!("SREM q {}\r\n", message(7)));
        expect_no_files(&mut client);
        client.ask("SCARD q\r\n", ":20\r\n");
    }
    give_back(&daemon);
    client.ask(format!("SREM q {}\r\n", message(7)), ":1\r\n");
    client.ask("SPOP q\r\n", format!("$30000\r\n{}\r\n", message(0)));
    client.ask("SCARD q\r\n", ":18\r\n");
}
