//! Commands of one pipeline on one queue run in a row, and answer what they answer one by one.

use super::{Daemon, pipeline};
use crate::clock::Clock;
use crate::queue::{NewMessage, Ticket};
use crate::random::Random;
use crate::session::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[test]
fn a_pipeline_answers_what_its_commands_answer_one_by_one() {
    #[rustfmt::skip]
    const LINES: [&str; 24] = [
        "SADD q a", "SADD q a", "SADD q b c d", "SADD q e", "SADD r a", "SADD r b c", "SPOP q",
        "SPOP q 2", "SPOP r", "SREM q a b", "SISMEMBER q a", "SMISMEMBER q a b z", "SCARD q",
        "SCARD r", "SMEMBERS q", "SRANDMEMBER q", "SSCAN q 0", "SMOVE q r a", "SMOVE r q b",
        "DEL q", "SADD q", "nosuch q", "MULTI", "EXEC",
    ];
    let mut random = Random::seeded();
    for _ in 0..50 {
        let lines: Vec<&str> =
            (0..200).map(|_| LINES[random.below(LINES.len() as u64) as usize]).collect();
        let mut single = Daemon::with_queues(1 << 30, 5).client();
        let expected: String = lines.iter().map(|line| single.ask(line)).collect();
        let mut together = Daemon::with_queues(1 << 30, 5).client();
        assert_eq!(pipeline(&mut together, &lines), expected, "{lines:?}");
    }
}

#[test]
fn pipelines_that_move_in_opposite_directions_never_wait_for_each_other() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    std::thread::scope(|scope| {
        for (from, to) in [("q", "r"), ("r", "q")] {
            let mut client = daemon.client();
            scope.spawn(move || {
                let (push, back) = (format!("SADD {from} {from}"), format!("SREM {from} {from}"));
                let (go, come) =
                    (format!("SMOVE {from} {to} {from}"), format!("SMOVE {to} {from} {from}"));
                let lines = [push.as_str(), &go, &come, &back].repeat(50);
                for _ in 0..50 {
                    assert_eq!(pipeline(&mut client, &lines), ":1|".repeat(lines.len()));
                }
            });
        }
    });
}

/// A session remembers the queue of its last command.
#[test]
fn a_queue_that_was_taken_out_and_made_anew_is_found_by_its_name() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let (mut one, mut other) = (daemon.client(), daemon.client());
    let Store::Queues(queues) = &daemon.shared.store else { unreachable!("it was made so") };
    one.check(&[("SADD q a", ":1|"), ("SADD r x", ":1|"), ("SADD q b", ":1|")]);
    other.check(&[("SCARD q", ":2|"), ("SPOP q 2", "*2|$1|a|$1|b|"), ("SCARD r", ":1|")]);
    // In the first round it has been used.
    (0..2).for_each(|_| queues.rest_idle());
    one.check(&[("SCARD q", ":0|"), ("SADD q c", ":1|"), ("SISMEMBER q c", ":1|")]);
    other.check(&[("SPOP q", "$1|c|"), ("DEL r", ":1|"), ("SADD r y", ":1|")]);
    one.check(&[("SPOP q", "$-1|"), ("SPOP r", "$1|y|"), ("SADD r z", ":1|")]);
    other.check(&[("DEL r", ":1|"), ("PING", "+PONG|")]);
    one.check(&[("SCARD r", ":0|"), ("SADD r new", ":1|")]);
    other.check(&[("SPOP r", "$3|new|"), ("FLUSHALL", "+OK|")]);
    one.check(&[("SPOP r", "$-1|"), ("SADD r last", ":1|")]);
    other.check(&[("SMEMBERS r", "*1|$4|last|")]);
}

/// A daemon whose clock goes on by a millisecond whenever somebody looks at it, and what it shows.
fn with_a_clock_that_counts() -> (Daemon, Arc<AtomicU64>) {
    let time_ms = Arc::new(AtomicU64::new(1));
    let looks = Arc::clone(&time_ms);
    let look = move || Duration::from_millis(looks.fetch_add(1, Ordering::Relaxed));
    (Daemon::with_queues_at(Clock::new(look)), time_ms)
}

#[test]
fn a_message_that_expires_meanwhile_is_there_for_all_of_a_row() {
    let (daemon, time_ms) = with_a_clock_that_counts();
    let Store::Queues(queues) = &daemon.shared.store else { unreachable!("it was made so") };
    let expires_ms = time_ms.load(Ordering::Relaxed) + 20;
    let message = NewMessage { body: b"m", flags: 0, expires_ms };
    queues.create(b"q", &mut Ticket::default(), |queue| queue.push(&message)).unwrap();
    let mut client = daemon.client();
    assert_eq!(pipeline(&mut client, &["SISMEMBER q m"; 50]), ":1|".repeat(50));
    let alone: String = (0..50).map(|_| client.ask("SISMEMBER q m")).collect();
    assert!(alone.starts_with(":1|") && alone.ends_with(":0|"), "{alone}");
}

/// The clock is read once for each time that the queue is locked.
#[test]
fn a_row_gives_the_queue_back_after_so_many_words_and_where_a_command_may_take_long() {
    let (daemon, time_ms) = with_a_clock_that_counts();
    let mut client = daemon.client();
    client.check(&[("SADD q m", ":1|"), ("SISMEMBER q m", ":1|")]);
    let mut rows = |lines: &[&str]| {
        let before = time_ms.load(Ordering::Relaxed);
        pipeline(&mut client, lines);
        // For the time of its commands the session looks at both ends, and between different ones.
        let verb = |line: &str| line.split(' ').next().map(str::to_owned);
        let changes = lines.windows(2).filter(|pair| verb(pair[0]) != verb(pair[1])).count();
        time_ms.load(Ordering::Relaxed) - before - 2 - changes as u64
    };
    let (short, long) = ("SISMEMBER q m", "SMEMBERS q");
    assert_eq!(rows(&[short; 86]), 1, "the last one goes beyond 256 words");
    assert_eq!(rows(&[short; 87]), 2);
    assert_eq!(rows(&[short, long, short]), 3);
    assert_eq!(rows(&[short, "SISMEMBER r m", short, short]), 2, "there is no queue r");
}
