//! Rules 7 and 14: what queues and messages cost in disk, memory and open files.

use super::bench::Bench;
use crate::common::{Daemon, command};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

fn bytes_on_disk(folder: &Path) -> u64 {
    let mut bytes = std::fs::metadata(folder).unwrap().blocks() * 512;
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let metadata = entry.metadata().unwrap();
        bytes += match metadata.is_dir() {
            true => bytes_on_disk(&entry.path()),
            false => metadata.blocks() * 512,
        };
    }
    bytes
}

#[test]
fn rule_07_ten_thousand_one_message_queues_are_small() {
    const QUEUES: usize = 10_000;
    let daemon = Daemon::start("--fsync never");
    let mut client = daemon.redis();
    let pushes: String = (0..QUEUES).map(|number| format!("SADD q{number} m\r\n")).collect();
    client.ask(pushes, ":1\r\n".repeat(QUEUES));
    let check = |daemon: &Daemon| {
        let (memory, disk) = (daemon.memory("RssAnon"), bytes_on_disk(daemon.directory()));
        println!("{} MiB of memory, {} MiB of disk", memory / MIB, disk / MIB);
        assert!(memory < 200 * MIB, "{memory} bytes of memory");
        assert!(disk < 200 * MIB, "{disk} bytes of disk");
    };
    check(&daemon);
    let daemon = daemon.restart();
    daemon.redis().ask("DBSIZE\r\n", format!(":{QUEUES}\r\n"));
    check(&daemon);
    let pops: String = (0..QUEUES).map(|number| format!("SPOP q{number}\r\n")).collect();
    daemon.redis().ask(pops, "$1\r\nm\r\n".repeat(QUEUES));
}

/// A daemon that may open at most `limit` files, also after raising its soft limit.
fn limited(limit: u32, directory: &TempDir) -> Child {
    let daemon = command();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")])
        .arg(daemon.get_program())
        .args(["--redis", "127.0.0.1:0", "--memcached", "off", "--fsync", "never"])
        .args(["--max-clients", "256", "--dir"])
        .arg(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    shell.spawn().unwrap()
}

#[test]
fn rule_07_more_queues_than_files_may_be_open_are_served() {
    let directory = TempDir::new().unwrap();
    let mut daemon = limited(330, &directory);
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("redis listening on ").expect("a start-up line");
    let mut stream = TcpStream::connect(address).unwrap();
    let count = 1000;
    for (command, answer) in [("SADD q{} m\r\n", ":1\r\n"), ("SPOP q{}\r\n", "$1\r\nm\r\n")] {
        let commands = (0..count).map(|number| command.replace("{}", &number.to_string()));
        stream.write_all(commands.collect::<String>().as_bytes()).unwrap();
        let mut answers = vec![0; answer.len() * count];
        stream.read_exact(&mut answers).unwrap();
        assert_eq!(String::from_utf8(answers).unwrap(), answer.repeat(count));
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn rule_07_a_limit_of_files_that_is_too_low_is_refused_with_a_clear_error() {
    let directory = TempDir::new().unwrap();
    let output = limited(300, &directory).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("320 open files and the limit is 300"), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
}

#[test]
fn rule_14_memory_is_for_membership_only_and_at_most_24_bytes_a_message() {
    const MESSAGES: u64 = 300_000;
    let daemon = Daemon::start("--fsync never --segment-size 1m");
    let mut client = daemon.memcached();
    // What the first bytes cost is no message's.
    client.ask("set q 0 0 1\r\nx\r\n", "STORED\r\n");
    let start = daemon.memory("RssAnon");
    for batch in 0..MESSAGES / 10_000 {
        let numbers = batch * 10_000..(batch + 1) * 10_000;
        let pushes = numbers.map(|number| format!("set q 0 0 10\r\n{number:010}\r\n"));
        client.ask(pushes.collect::<String>(), "STORED\r\n".repeat(10_000));
    }
    client.ask("get q\r\n", "VALUE q 0 1\r\nx\r\nEND\r\n");
    let pushed = daemon.memory("RssAnon").saturating_sub(start);
    assert!(pushed < 4 * MIB, "{pushed} bytes before any question of membership");
    client.ask("sismember q 0 0 10\r\n0000000007\r\n", "1\r\n");
    client.ask("sismember q 0 0 10\r\nnot there!\r\n", "0\r\n");
    let indexed = daemon.memory("RssAnon").saturating_sub(start);
    println!("{pushed} bytes after the pushes, {indexed} with the index");
    assert!(indexed > pushed + MESSAGES, "is the index elsewhere?");
    assert!(indexed < 24 * MESSAGES + 2 * MIB, "{indexed} bytes for {MESSAGES} messages");
}

/// Who waits for an opening is shown how far it is by this.
#[test]
fn an_opening_counts_the_bytes_of_all_records() {
    const MESSAGES: u64 = 1000;
    let mut bench = Bench::new(16 * 1024);
    (0..MESSAGES).for_each(|number| bench.push(format!("{number:0100}")));
    let places = bench.places();
    let record = places[1].1 - places[0].1;
    let segments = bench.log.segments().count();
    bench.sync();
    let mut footers = 0;
    while let Some(work) = bench.log.write_footer() {
        work().unwrap();
        footers += 1;
    }
    assert!(0 < footers && footers < segments, "{footers} footers in {segments} segments");
    let bench = bench.reopen();
    let read = bench.directory.counters().read_bytes.load(Ordering::Relaxed);
    assert_eq!(read, MESSAGES * record);
}
