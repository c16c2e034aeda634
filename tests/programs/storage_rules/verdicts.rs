//! Rules 13 and 17: whether a reply may leave is judged for each queue that it speaks of.
//!
//! Syncs fail here because files have been moved away under the queues, which a sync notices.

use super::bench::{new_message, open_directory};
use crate::common::Daemon;
use mq::queue::{DiskBacking, Durability, Limits, Policy, Queue, Queues, ReplyVerdict, Ticket};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A data directory, a place outside of it, and queues in it.
struct Bench {
    root: TempDir,
    queues: Queues,
}

impl Bench {
    fn new(policy: Policy) -> Bench {
        let root = TempDir::new().unwrap();
        let queues = open(root.path(), policy);
        Bench { root, queues }
    }

    /// Moves a queue's folder away, so that its next sync fails.
    fn take_away(&self, folder: &str) {
        fs::rename(self.root.path().join("data").join(folder), self.root.path().join("away"))
            .unwrap();
    }

    fn push(&self, name: &str, body: &str) -> Ticket {
        let mut ticket = Ticket::default();
        self.push_too(name, body, &mut ticket);
        ticket
    }

    fn push_too(&self, name: &str, body: &str, ticket: &mut Ticket) {
        let message = new_message(body.as_bytes());
        self.queues.create(name.as_bytes(), ticket, |queue| queue.push(&message)).unwrap();
    }

    fn move_message(&self, from: &str, to: &str, body: &str) -> Ticket {
        let mut ticket = Ticket::default();
        let (from, to) = (from.as_bytes(), to.as_bytes());
        let moved = self.queues.move_message(from, to, body.as_bytes(), &mut ticket, &mut 0);
        assert_eq!(moved, Ok(true));
        ticket
    }

    fn len(&self, name: &str) -> (Option<u64>, Ticket) {
        let mut ticket = Ticket::default();
        let len = self.queues.find(name.as_bytes(), &mut ticket, |queue| Ok(queue.len()));
        (len.unwrap(), ticket)
    }

    fn verdicts<const N: usize>(&self, tickets: [&Ticket; N]) -> [ReplyVerdict; N] {
        tickets.map(|ticket| self.queues.verdict(ticket))
    }
}

fn open(root: &Path, policy: Policy) -> Queues {
    let directory = open_directory(root.join("data"), 64 * 1024, false).unwrap();
    let limits = Limits { max_queues: 10, max_queue_len: u64::MAX };
    Queues::open(Box::new(DiskBacking::new(directory)), limits, policy).unwrap()
}

use ReplyVerdict::{Leave, Never, Wait};

#[test]
fn rule_13_a_reply_waits_for_the_commit_after_its_change() {
    let bench = Bench::new(Policy::Always);
    let first = bench.push("q", "a");
    let (_, reader) = bench.len("q");
    assert_eq!(bench.verdicts([&first, &reader, &Ticket::default()]), [Wait, Wait, Leave]);
    bench.queues.commit();
    let second = bench.push("q", "b");
    assert_eq!(bench.verdicts([&first, &reader, &second]), [Leave, Leave, Wait]);
    for policy in [Policy::EverySecond, Policy::Never] {
        let bench = Bench::new(policy);
        assert_eq!(bench.verdicts([&bench.push("q", "a")]), [Leave], "{policy:?}");
    }
}

#[test]
fn rule_17_a_failed_sync_costs_no_other_queue_a_reply() {
    let bench = Bench::new(Policy::Always);
    for name in ["good", "bad", "other"] {
        bench.push(name, "before");
    }
    bench.queues.commit();
    bench.take_away("q-bad");
    let mut both = bench.push("good", "both");
    bench.push_too("bad", "both", &mut both);
    let (good, bad, other) =
        (bench.push("good", "m"), bench.push("bad", "m"), bench.push("other", "m"));
    let (_, reader) = bench.len("bad");
    bench.queues.commit();
    let verdicts = bench.verdicts([&good, &other, &bad, &reader, &both]);
    assert_eq!(verdicts, [Leave, Leave, Never, Never, Never]);
    // The queue is closed for writing, and says so; the others go on.
    let message = new_message(b"later");
    let mut ticket = Ticket::default();
    assert!(bench.queues.create(b"bad", &mut ticket, |queue| queue.push(&message)).is_err());
    let good = bench.push("good", "later");
    bench.queues.commit();
    assert_eq!(bench.verdicts([&good, &ticket, &bad]), [Leave, Leave, Never]);
    assert!(!bench.queues.close(), "a sync has failed");
}

#[test]
fn rule_13_moves_share_two_commits_and_nobody_sees_a_message_twice() {
    let bench = Bench::new(Policy::Always);
    for number in 0..50 {
        bench.push("from", &number.to_string());
    }
    bench.queues.commit();
    let moves: Vec<Ticket> =
        (0..50).map(|number| bench.move_message("from", "to", &number.to_string())).collect();
    assert_eq!((bench.len("from").0, bench.len("to").0), (None, Some(50)));
    let all = |wanted| moves.iter().all(|ticket| bench.queues.verdict(ticket) == wanted);
    assert!(all(Wait));
    bench.queues.commit();
    assert!(all(Wait), "that they are gone from the source is not durable");
    assert_eq!(bench.verdicts([&bench.len("to").1, &bench.len("from").1]), [Leave, Wait]);
    bench.queues.commit();
    assert!(all(Leave));
    drop(bench.queues);
    let queues = open(bench.root.path(), Policy::Always);
    let len = |name: &[u8]| queues.find(name, &mut Ticket::default(), |queue| Ok(queue.len()));
    assert_eq!((len(b"from"), len(b"to")), (Ok(None), Ok(Some(50))));
}

#[test]
fn rule_08_a_move_is_written_in_both_queues_before_it_is_answered_whatever_the_policy() {
    for policy in [Policy::Always, Policy::EverySecond, Policy::Never] {
        let bench = Bench::new(policy);
        bench.push("from", "m");
        let moved = bench.move_message("from", "to", "m");
        assert_eq!(bench.verdicts([&moved]), [Wait], "{policy:?}");
        while bench.queues.verdict(&moved) == Wait {
            bench.queues.commit();
        }
        // As kill -9 leaves it.
        drop(bench.queues);
        let queues = open(bench.root.path(), policy);
        let len = |name: &[u8]| queues.find(name, &mut Ticket::default(), |queue| Ok(queue.len()));
        assert_eq!((len(b"from"), len(b"to")), (Ok(None), Ok(Some(1))), "{policy:?}");
    }
}

#[test]
fn rule_13_a_crash_between_the_commits_of_a_move_leaves_the_message_in_one_queue_at_least() {
    for commits in 0..2 {
        let bench = Bench::new(Policy::Always);
        bench.push("from", "m");
        bench.queues.commit();
        bench.move_message("from", "to", "m");
        (0..commits).for_each(|_| bench.queues.commit());
        drop(bench.queues);
        let queues = open(bench.root.path(), Policy::Always);
        assert!(!queues.is_empty(), "after {commits} commits");
    }
}

#[test]
fn rule_17_a_message_whose_target_fails_is_back_at_its_place() {
    let bench = Bench::new(Policy::Always);
    for body in ["a", "b", "c"] {
        bench.push("from", body);
    }
    bench.push("to", "x");
    bench.queues.commit();
    bench.take_away("q-to");
    let moved = bench.move_message("from", "to", "b");
    assert_eq!(bench.len("from").0, Some(2));
    bench.queues.commit();
    bench.queues.commit();
    assert_eq!(bench.verdicts([&moved]), [Never]);
    let pop = |queue: &mut Queue| queue.pop(|message| message.body.to_vec());
    let mut next = || bench.queues.find(b"from", &mut Ticket::default(), pop).unwrap().flatten();
    let left: Vec<Vec<u8>> = std::iter::from_fn(&mut next).collect();
    assert_eq!(left, [b"a", b"b", b"c"]);
}

#[test]
fn rule_15_a_drop_is_answered_when_the_directory_knows_it() {
    let bench = Bench::new(Policy::Always);
    bench.push("q", "m");
    bench.push("good", "m");
    bench.queues.commit();
    let mut dropped = Ticket::default();
    assert_eq!(bench.queues.drop_queue(b"q", &mut dropped), Ok(true));
    let (len, reader) = bench.len("q");
    assert_eq!(len, None);
    assert_eq!(bench.verdicts([&dropped, &reader]), [Wait, Wait], "it is not gone yet");
    bench.queues.commit();
    assert_eq!(bench.verdicts([&dropped, &reader]), [Leave, Leave]);
    // A new queue of the name has nothing to do with the old one.
    let again = bench.push("q", "n");
    bench.queues.commit();
    assert_eq!((bench.len("q").0, bench.verdicts([&again])), (Some(1), [Leave]));
}

/// One whose sync had failed looked like any other, and had no line when it was empty.
#[test]
fn rule_17_info_names_the_queues_that_are_closed_for_writing() {
    let daemon = Daemon::start("--fsync never");
    let mut client = daemon.redis();
    client.ask("SADD fine m\r\nSADD jobs m\r\nSADD gone m\r\n", ":1\r\n:1\r\n:1\r\n");
    client.ask("SPOP gone\r\n", "$1\r\nm\r\n");
    for name in ["q-jobs", "q-gone"] {
        fs::remove_dir_all(daemon.directory().join(name)).unwrap();
    }
    let mut closed_lines = || {
        client.send("INFO queues\r\n");
        let length: usize = client.read_line()[1..].parse().unwrap();
        let text = String::from_utf8(client.read(length + 2)).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("queue_")).map(String::from);
        let lines: Vec<_> = lines.collect();
        let is_closed = |line: &&String| line.ends_with("closed=1");
        (lines.iter().take_while(is_closed).count(), lines)
    };
    // Housekeeping finds that out.
    let lines = loop {
        match closed_lines() {
            (2, lines) => break lines,
            (count, lines) => assert!(count < 2, "{lines:?}"),
        }
    };
    let begins = |line: usize, text: &str| lines[line].starts_with(text);
    assert!(begins(0, "queue_jobs:") && begins(1, "queue_gone:length=0,"), "{lines:?}");
    assert!(begins(2, "queue_fine:length=1,") && lines.len() == 3, "{lines:?}");
    let mut client = daemon.memcached();
    client.send("stats queues jobs fine\r\n");
    let mut said = Vec::new();
    while said.last().is_none_or(|line| line != "END") {
        said.push(client.read_line());
    }
    assert!(said.contains(&"STAT queue_jobs_closed 1".to_string()), "{said:?}");
    assert!(!said.iter().any(|line| line.contains("queue_fine_closed")), "{said:?}");
}
