//! What the daemon says on standard error, and that it waits for nobody who reads it.

use crate::common::{Client, Daemon, GUARD, command, request};
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Instant;

/// The lines of the log that contain `text`.
fn lines_with(daemon: &Daemon, text: &str) -> Vec<String> {
    daemon.log().lines().filter(|line| line.contains(text)).map(String::from).collect()
}

#[test]
fn rule_22_the_start_says_what_is_served_and_the_stop_says_why() {
    let mut daemon = Daemon::start("--fsync everysec --workers 2");
    daemon.redis().ask("SADD q a b\r\n", ":2\r\n");
    daemon.redis().ask("SADD r c\r\n", ":1\r\n");
    let directory = daemon.directory().display().to_string();
    daemon.wait_for_log(", 0 queues with 0 messages, ready after ");
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.wait_for_log("stopped after ");
    let log = daemon.log();
    assert!(log.contains(" INFO  stopping: SIGTERM\n"), "{log}");
    assert!(log.ends_with(" ms, and everything is synced\n"), "{log}");

    let daemon = daemon.restart();
    let what = format!(
        " INFO  mqd {}: disk store in {directory}, fsync everysec, workers 2, \
         2 queues with 3 messages, ready after ",
        env!("CARGO_PKG_VERSION")
    );
    daemon.wait_for_log(&what);
}

/// Lines are written by a thread of their own: a queue that was closed at the start was not named
/// yet when somebody looked.
#[test]
fn what_the_start_has_to_say_is_written_before_the_addresses() {
    let root = tempfile::TempDir::new().expect("a temporary directory");
    let log = root.path().join("log");
    for _ in 0..10 {
        let mut child = command()
            .arg("--dir")
            .arg(root.path().join("data"))
            .args(["--redis", "127.0.0.1:0", "--memcached", "off"])
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).expect("a file"))
            .spawn()
            .expect("the daemon starts");
        let line = BufReader::new(child.stdout.take().expect("a pipe")).lines().next();
        let said = std::fs::read_to_string(&log).expect("a log");
        child.kill().expect("the daemon runs");
        child.wait().expect("the daemon ends");
        assert!(line.is_some_and(|line| line.is_ok_and(|line| line.starts_with("redis"))));
        assert!(said.contains(", ready after "), "{said:?}");
    }
}

#[test]
fn a_store_in_memory_says_its_limit_and_an_interrupt_is_named() {
    let mut daemon = Daemon::start("--store memory --max-memory 2m");
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait().code(), Some(0));
    daemon.wait_for_log("stopped after ");
    let log = daemon.log();
    assert!(log.contains(": memory store of at most 2097152 bytes, workers "), "{log}");
    assert!(log.contains(" INFO  stopping: SIGINT\n"), "{log}");
}

#[test]
fn the_directory_is_said_as_an_absolute_path() {
    let parent = tempfile::TempDir::new().expect("a temporary directory");
    let mut child = command()
        .args(["--dir", "here", "--redis", "127.0.0.1:0", "--memcached", "off"])
        .current_dir(parent.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the daemon starts");
    let line = BufReader::new(child.stdout.take().expect("a pipe")).lines().next();
    let line = line.expect("a line").expect("text");
    let address = line.strip_prefix("redis listening on ").expect("the start-up line");
    let path = parent.path().canonicalize().expect("a path").join("here").display().to_string();
    let reply = format!("*2\r\n$3\r\ndir\r\n${}\r\n{path}\r\n", path.len());
    Client::connect(address.parse().expect("an address")).ask("CONFIG GET dir\r\n", reply);
    child.kill().expect("the daemon runs");
    let log = child.wait_with_output().expect("the daemon ends").stderr;
    let log = String::from_utf8(log).expect("text");
    assert!(log.contains(&format!("disk store in {path}, ")), "{log}");
}

/// Each line waited for the reader of standard error, and with it whoever logged: clients could
/// stop the daemon by sending what is no request.
#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    let mut child = command()
        .args(["--store", "kv", "--redis", "127.0.0.1:0", "--memcached", "off", "--log", "debug"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the daemon starts");
    let line = BufReader::new(child.stdout.take().expect("a pipe")).lines().next();
    let line = line.expect("a line").expect("text");
    let address = line.strip_prefix("redis listening on ").expect("the start-up line");
    let address: SocketAddr = address.parse().expect("an address");
    // More than a pipe and the queue hold: each client is two lines of some 70 bytes.
    for _ in 0..4000 {
        Client::connect(address).ask("QUIT\r\n", "+OK\r\n");
    }
    Client::connect(address).ask("PING\r\n", "+PONG\r\n");
    let mut errors = child.stderr.take().expect("a pipe");
    // What was lost is said once somebody reads.
    let (mut log, start) = (Vec::new(), Instant::now());
    while !String::from_utf8_lossy(&log).contains(" lines are missing here: ") {
        let mut bytes = [0; 4096];
        let count = errors.read(&mut bytes).expect("a pipe");
        log.extend_from_slice(&bytes[..count]);
        assert!(count > 0 && start.elapsed() < GUARD, "{}", String::from_utf8_lossy(&log));
    }
    for line in String::from_utf8_lossy(&log).lines().rev().skip(1) {
        assert!(line.starts_with("20") && line.contains("Z "), "not a whole line: {line}");
    }
    // And nobody reads again: it ends all the same.
    for _ in 0..4000 {
        Client::connect(address).ask("QUIT\r\n", "+OK\r\n");
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).expect("the daemon runs");
    assert_eq!(child.wait().expect("the daemon ends").code(), Some(0));
    drop(errors);
}

#[test]
fn clients_that_do_not_speak_the_protocol_do_not_fill_the_log() {
    let daemon = Daemon::start("--store kv");
    let start = Instant::now();
    for _ in 0..200 {
        let mut client = daemon.redis();
        client.send("*bad\r\n");
        client.read_to_end();
    }
    daemon.wait_for_log(" more: not the protocol");
    let seconds = start.elapsed().as_secs() as usize + 1;
    let lines = lines_with(&daemon, "closed, not the protocol").len();
    assert!((5..=5 * seconds).contains(&lines), "{lines} lines in {seconds} s");
    let skipped = |line: &String| {
        let count = line.split_once("... and ")?.1.split_once(" more: ")?.0;
        count.parse::<usize>().ok()
    };
    let start = Instant::now();
    let all = || lines_with(&daemon, " more: not").iter().filter_map(skipped).sum::<usize>();
    while lines + all() < 200 {
        assert!(start.elapsed() < GUARD, "{} lines are not counted", 200 - lines - all());
        std::thread::yield_now();
    }
}

#[test]
fn a_message_that_is_too_large_is_called_so() {
    let daemon = Daemon::start("--store kv --max-message 1k");
    let mut client = daemon.redis();
    client.send(request(&[b"SET", b"k", &[b'x'; 1025]]));
    client.expect("-ERR Protocol error: invalid bulk length\r\n");
    daemon.wait_for_log("is larger than --max-message allows, the limit is 1024 bytes");
    assert_eq!(lines_with(&daemon, "not the protocol"), [] as [&str; 0]);
}

/// Each is one line when it begins and one when it ends, however many requests are refused.
#[test]
fn rule_22_conditions_are_said_when_they_begin_and_when_they_end() {
    let limits = "--max-queues 1 --max-queue-len 2 --max-memory 1m --max-clients 1";
    let daemon = Daemon::start(&format!("--store memory {limits}"));
    let mut client = daemon.redis();
    client.ask("SADD q a b\r\n", ":2\r\n");
    for _ in 0..10 {
        let full = "-ERR the queue is full, the limit is 2 messages (--max-queue-len)\r\n";
        client.ask("SADD q c\r\n", full);
        client.ask("SADD r c\r\n", "-ERR too many queues, the limit is 1 (--max-queues)\r\n");
        daemon.redis().expect("-ERR max number of clients reached\r\n");
    }
    client.ask("SPOP q\r\n", "$1\r\na\r\n");
    let large = request(&[b"SADD", b"q", &[b'x'; 1 << 20]]);
    client.ask(large, "-OOM out of memory, the limit is 1048576 bytes (--max-memory)\r\n");
    let conditions = [
        ("queue q is full", "the limit is 2 messages (--max-queue-len)", "10 times"),
        ("too many queues", "the limit is 1 (--max-queues)", "10 times"),
        ("too many clients", "the limit is 1 (--max-clients)", "10 times"),
        ("out of memory", "the limit is 1048576 bytes (--max-memory)", "once"),
    ];
    for (name, detail, times) in conditions {
        daemon.wait_for_log(&format!(" WARN  {name}: over, met {times} in "));
        let lines = lines_with(&daemon, name);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].ends_with(&format!(" WARN  {name}: {detail}")), "{lines:?}");
    }
}

#[test]
fn full_memory_of_the_kv_store_is_said() {
    let daemon = Daemon::start("--store kv --max-memory 1m");
    let mut client = daemon.memcached();
    client.send(format!("set k 0 0 {}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20)));
    client.read_line();
    daemon.wait_for_log(" WARN  out of memory: the limit is 1048576 bytes (--max-memory)\n");
}
