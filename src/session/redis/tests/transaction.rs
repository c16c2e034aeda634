//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.

use super::slices::{Turns, filled, words};
use super::{Daemon, kv_client, queue_client, request};
use crate::clock::Clock;
use crate::queue::{NewMessage, Ticket};
use crate::session::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const ABORT: &str = "-EXECABORT Transaction discarded because of previous errors.|";

#[test]
fn queued_commands_run_at_exec() {
    queue_client().check(&[
        ("MULTI", "+OK|"),
        ("SADD q a b", "+QUEUED|"),
        ("SPOP q", "+QUEUED|"),
        ("SELECT 9", "+QUEUED|"),
        ("SPOP q x", "+QUEUED|"),
        ("SMEMBERS q", "+QUEUED|"),
        (
            "EXEC",
            "*5|:2|$1|a|-ERR DB index is out of range|-ERR value is out of range, must be \
          positive|*1|$1|b|",
        ),
        ("MULTI", "+OK|"),
        ("EXEC", "*0|"),
    ]);
}

#[test]
fn inline_commands_are_queued_as_well() {
    let mut client = queue_client();
    let reply = client.raw(b"MULTI\r\nsadd q \"a b\"\r\nSPOP q\r\nEXEC\r\n");
    assert_eq!(reply, b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n$3\r\na b\r\n");
}

#[test]
fn a_transaction_with_a_refused_command_is_not_executed() {
    let refused = [
        ("nosuch", "-ERR unknown command 'nosuch', with args beginning with: |"),
        ("SADD q", "-ERR wrong number of arguments for 'sadd' command|"),
        ("DISCARD x", "-ERR wrong number of arguments for 'discard' command|"),
    ];
    for step in refused {
        queue_client().check(&[
            ("MULTI", "+OK|"),
            ("SADD q a", "+QUEUED|"),
            step,
            ("SADD q b", "+QUEUED|"),
            ("EXEC", ABORT),
            ("SCARD q", ":0|"),
            ("EXEC", "-ERR EXEC without MULTI|"),
        ]);
    }
}

/// As in Redis, also without MULTI; what the client watches is forgotten.
#[test]
fn an_exec_with_a_word_too_many_ends_the_transaction() {
    let arity = "wrong number of arguments for 'exec' command|";
    let abort = format!("-EXECABORT Transaction discarded because of: {arity}");
    queue_client().check(&[
        ("EXEC x", &abort),
        ("WATCH q", "+OK|"),
        ("SADD q a", ":1|"),
        ("MULTI", "+OK|"),
        ("SADD q b", "+QUEUED|"),
        ("EXEC x", &abort),
        ("SCARD q", ":1|"),
        ("EXEC", "-ERR EXEC without MULTI|"),
        ("MULTI", "+OK|"),
        ("SCARD q", "+QUEUED|"),
        ("EXEC", "*1|:1|"),
    ]);
}

/// What was popped beside it would be lost: client libraries raise the first error of an EXEC and
/// drop its other replies.
#[test]
fn a_command_that_can_never_run_is_not_queued() {
    let no_value = "-ERR GET needs the key/value store (--store kv)|";
    let no_reply = "-ERR CLIENT REPLY is not allowed in a transaction|";
    for (request, error) in
        [("GET q", no_value), ("GET k", no_value), ("CLIENT REPLY SKIP", no_reply)]
    {
        queue_client().check(&[
            ("SADD q a", ":1|"),
            ("MULTI", "+OK|"),
            ("SPOP q", "+QUEUED|"),
            (request, error),
            ("EXEC", ABORT),
            ("SCARD q", ":1|"),
        ]);
    }
}

#[test]
fn misplaced_commands_are_refused_and_spoil_nothing() {
    queue_client().check(&[
        ("EXEC", "-ERR EXEC without MULTI|"),
        ("DISCARD", "-ERR DISCARD without MULTI|"),
        ("MULTI", "+OK|"),
        ("MULTI", "-ERR MULTI calls can not be nested|"),
        ("WATCH q", "-ERR WATCH inside MULTI is not allowed|"),
        ("UNWATCH", "+QUEUED|"),
        ("SADD q a", "+QUEUED|"),
        ("EXEC", "*2|+OK|:1|"),
        ("MULTI", "+OK|"),
        ("SADD q b", "+QUEUED|"),
        ("DISCARD", "+OK|"),
        ("SCARD q", ":1|"),
    ]);
}

#[test]
fn exec_answers_null_when_a_watched_queue_has_changed() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let (mut client, mut other) = (daemon.client(), daemon.client());
    for (change, reply) in [("SADD q a", ":1|"), ("SPOP q", "$1|a|"), ("SADD q b", ":1|")] {
        client.check(&[("WATCH p q", "+OK|"), ("MULTI", "+OK|"), ("SADD p x", "+QUEUED|")]);
        other.check(&[(change, reply)]);
        client.check(&[("EXEC", "*-1|"), ("SCARD p", ":0|")]);
    }
    client.check(&[
        ("WATCH q q", "+OK|"),
        ("MULTI", "+OK|"),
        ("SCARD q", "+QUEUED|"),
        ("EXEC", "*1|:1|"),
        ("WATCH q", "+OK|"),
        ("SPOP q", "$1|b|"),
        ("UNWATCH", "+OK|"),
        ("MULTI", "+OK|"),
        ("EXEC", "*0|"),
        ("WATCH q", "+OK|"),
        ("SADD q b", ":1|"),
        ("MULTI", "+OK|"),
        ("DISCARD", "+OK|"),
        ("MULTI", "+OK|"),
        ("EXEC", "*0|"),
    ]);
    client.ask("HELLO 3");
    client.check(&[("WATCH q", "+OK|"), ("SPOP q", "$1|b|"), ("MULTI", "+OK|"), ("EXEC", "_|")]);
}

#[test]
fn exec_answers_null_when_a_watched_value_has_changed() {
    let steps = [
        ("SET k w", "+OK|"),
        ("SET k w", "+OK|"),
        ("EXPIRE k 100", ":1|"),
        ("PERSIST k", ":1|"),
        ("DEL k", ":1|"),
        ("SET k v", "+OK|"),
        ("PEXPIRE k 0", ":1|"),
    ];
    let mut client = kv_client();
    client.check(&[("SET k v", "+OK|")]);
    for step in steps {
        client.check(&[("WATCH k", "+OK|"), step, ("MULTI", "+OK|"), ("EXEC", "*-1|")]);
    }
    client.check(&[
        ("SET k v", "+OK|"),
        ("WATCH k", "+OK|"),
        ("GET k", "$1|v|"),
        ("MULTI", "+OK|"),
        ("MSET k w l x", "+QUEUED|"),
        ("MGET k l", "+QUEUED|"),
        ("EXEC", "*2|+OK|*2|$1|w|$1|x|"),
    ]);
}

#[test]
fn hello_in_a_transaction_changes_the_replies_after_it() {
    let mut client = queue_client();
    for line in ["MULTI", "SPOP q", "HELLO 3", "SPOP q"] {
        client.ask(line);
    }
    let reply = client.ask("EXEC");
    assert!(reply.starts_with("*3|$-1|%8|") && reply.ends_with("*0|_|"), "{reply}");
}

/// An absent key had the same stamp before it was made and after it was gone.
#[test]
fn exec_answers_null_when_a_watched_key_was_made_and_is_gone() {
    let (queues, kv) = (Daemon::with_queues(1 << 30, u64::MAX), Daemon::with_kv(1 << 30));
    let queue_changes: [&[&str]; 4] = [
        &["SADD q a", "SPOP q", "rest", "rest"],
        &["SADD q a", "SPOP q"],
        &["SADD q a", "DEL q"],
        &["SADD q a", "SADD other a", "FLUSHALL"],
    ];
    let value_changes: [&[&str]; 3] =
        [&["SET q a", "DEL q"], &["SET q a", "FLUSHALL"], &["SET q a", "PEXPIRE q 0"]];
    for (daemon, changes) in [(&queues, &queue_changes[..]), (&kv, &value_changes[..])] {
        let (mut client, mut other) = (daemon.client(), daemon.client());
        for lines in changes {
            client.check(&[("WATCH q", "+OK|")]);
            for line in *lines {
                match (&daemon.shared.store, *line) {
                    (Store::Queues(queues), "rest") => queues.rest_idle(),
                    _ => drop(other.ask(line)),
                }
            }
            client.check(&[("MULTI", "+OK|"), ("PING", "+QUEUED|"), ("EXEC", "*-1|")]);
            client.check(&[("WATCH q", "+OK|"), ("MULTI", "+OK|"), ("EXEC", "*0|")]);
        }
    }
}

/// To make them waits for the disk, and they are made before EXEC stops all others. Nobody sees
/// them before they have messages, so that is no change.
#[test]
fn queues_that_their_client_watches_are_made_in_several_turns() {
    let requests = |lines: &[String]| -> Vec<u8> {
        let words =
            |line: &String| request(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        lines.iter().flat_map(words).collect()
    };
    let watch = (0..20).map(|number| format!("WATCH w{number}"));
    let push = (0..20).map(|number| format!("SADD w{number} m"));
    let ends = |line: &str| [line.to_owned()].into_iter();
    let lines: Vec<String> = watch.chain(ends("MULTI")).chain(push).chain(ends("EXEC")).collect();
    let before = format!("{}{}", "+OK\r\n".repeat(21), "+QUEUED\r\n".repeat(20));
    // Also where another client has pushed to one that is made by then, or not yet; one that is
    // gone again is missing as before.
    let (made, late, gone) = (["SPOP", "w0"], ["SPOP", "w19"], ["DEL", "w19"]);
    for changed in [None, Some(made), Some(late), Some(gone)] {
        let daemon = Daemon::with_lasting_queues();
        let made = || daemon.shared.store.queues_made();
        let mut turns = Turns::new(&daemon, requests(&lines));
        while made() < 4 {
            let had = made();
            assert!(turns.turn() && made() <= had + 2, "{} in one turn", made() - had);
        }
        daemon.client().check(&[("DBSIZE", ":0|")]);
        if let Some([takes, name]) = changed {
            let reply = if takes == "DEL" { ":1|" } else { "$5|other|" };
            daemon.client().check(&[(&format!("SADD {name} other"), ":1|")]);
            daemon.client().check(&[(&format!("{takes} {name}"), reply)]);
        }
        let (replies, count) = turns.finish();
        let end = if changed.is_some() { "*-1\r\n".into() } else { "*20".to_owned() + "\r\n" };
        let ones = if changed.is_some() { "".into() } else { ":1\r\n".repeat(20) };
        assert_eq!(String::from_utf8_lossy(&replies), before.clone() + &end + &ones);
        assert!(count >= 10, "{count} turns");
    }
}

/// That a message dies is a change for who watches its queue; that it leaves the store is none.
#[test]
fn exec_runs_when_only_dead_messages_of_a_watched_queue_have_left() {
    let time_ms = Arc::new(AtomicU64::new(1000));
    let read = Arc::clone(&time_ms);
    let clock = Clock::new(move || Duration::from_millis(read.load(Ordering::Relaxed)));
    let daemon = Daemon::with_queues_at(clock);
    let Store::Queues(queues) = &daemon.shared.store else { unreachable!("it was made so") };
    for (body, expires_ms) in [(b"a", 0), (b"b", 1500), (b"c", 1600)] {
        let message = NewMessage { body, flags: 0, expires_ms };
        queues.create(b"q", &mut Ticket::default(), |queue| queue.push(&message)).unwrap();
    }
    let mut client = daemon.client();
    let watch = [("WATCH q", "+OK|"), ("MULTI", "+OK|")];
    client.check(&watch);
    time_ms.store(1500, Ordering::Relaxed);
    client.check(&[("EXEC", "*-1|")]);
    client.check(&watch);
    while queues.tidy() {}
    client.check(&[("EXEC", "*0|"), ("SCARD q", ":2|")]);
    client.check(&watch);
    // Here the dead one has left before EXEC asks.
    time_ms.store(1600, Ordering::Relaxed);
    while queues.tidy() {}
    client.check(&[("EXEC", "*-1|"), ("SMEMBERS q", "*1|$1|a|")]);
}

/// It was still in the store, with the stamp that it had.
#[test]
fn exec_answers_null_when_a_watched_key_has_expired() {
    let time_ms = Arc::new(AtomicU64::new(1000));
    let clock = || {
        let time_ms = Arc::clone(&time_ms);
        Clock::new(move || Duration::from_millis(time_ms.load(Ordering::Relaxed)))
    };
    let (queues, kv) = (Daemon::with_queues_at(clock()), Daemon::with_kv_at(clock()));
    let Store::Queues(store) = &queues.shared.store else { unreachable!("it was made so") };
    let message = NewMessage { body: b"m", flags: 0, expires_ms: 1500 };
    store.create(b"q", &mut Ticket::default(), |queue| queue.push(&message)).unwrap();
    kv.client().check(&[("SET q m PX 500", "+OK|")]);
    let mut clients = [queues.client(), kv.client()];
    for (now_ms, reply) in [(1400, "*0|"), (1600, "*-1|")] {
        clients.iter_mut().for_each(|client| client.check(&[("WATCH q", "+OK|")]));
        time_ms.store(now_ms, Ordering::Relaxed);
        for client in &mut clients {
            client.check(&[("MULTI", "+OK|"), ("EXEC", reply)]);
        }
    }
}

#[test]
fn a_long_request_is_queued_in_several_turns_and_runs_as_it_was_sent() {
    let body = |letter: char| String::from(letter).repeat(1 << 20);
    let word = |word: &str| words(&[word], [].into_iter());
    let (long, last) = (words(&["SADD", "q"], ('a'..='h').map(body)), body('h'));
    let is_there = request(&[b"SISMEMBER", b"q", last.as_bytes()]);
    let input = [word("MULTI"), long, word("EXEC"), is_there].concat();
    let (replies, count) = Turns::new(&filled(0, false), input).finish();
    assert_eq!(replies, b"+OK\r\n+QUEUED\r\n*1\r\n:8\r\n:1\r\n");
    assert!(count > 8, "{count} turns");
}
