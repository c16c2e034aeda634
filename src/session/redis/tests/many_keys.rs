//! Requests of many keys take several turns, those of a few are one moment. Turns are counted, and
//! nothing is timed.

use super::slices::{Turns, filled, words};
use super::{Conversation, Daemon};
use crate::session::Session;

const MANY: usize = 20_000;

/// Keys that a client may watch, about.
const WATCHED: usize = 4000;

fn keys() -> impl Iterator<Item = String> {
    (0..MANY).map(|number| format!("k{number}"))
}

/// A key/value store with every other one of the keys.
fn half_filled() -> Daemon {
    let daemon = Daemon::with_kv(1 << 30);
    let set = |number: usize| [format!("k{number}"), format!("v{number}")];
    let pairs = (0..MANY).step_by(2).flat_map(set);
    assert_eq!(daemon.client().raw(&words(&["MSET"], pairs)), b"+OK\r\n");
    daemon
}

fn values() -> Vec<u8> {
    let value = |number: usize| match number % 2 {
        0 => format!("${}\r\nv{number}\r\n", number.to_string().len() + 1),
        _ => "$-1\r\n".into(),
    };
    let all: String = (0..MANY).map(value).collect();
    format!("*{MANY}\r\n{all}").into_bytes()
}

#[test]
fn requests_of_many_keys_take_several_turns_with_others_in_between() {
    let daemon = half_filled();
    let half = format!(":{}\r\n", MANY / 2).into_bytes();
    let cases = [
        ("EXISTS", MANY, half.clone()),
        ("MGET", MANY, values()),
        ("WATCH", WATCHED, b"+OK\r\n".to_vec()),
        ("DEL", MANY, half),
        ("UNLINK", MANY, b":0\r\n".to_vec()),
    ];
    for (name, keys_count, expected) in cases {
        let mut turns = Turns::new(&daemon, words(&[name], keys().take(keys_count)));
        assert!(turns.turn(), "{name}");
        daemon.client().check(&[("SET other 1", "+OK|"), ("EXISTS other", ":1|")]);
        let (replies, count) = turns.finish();
        assert!(replies == expected, "{name}: {}", replies.escape_ascii());
        assert!(count > keys_count / 2100, "{name}: {count} turns");
    }
    daemon.client().check(&[("DBSIZE", ":1|")]);
}

/// They were copied and set in one go, and a PING waited for 60 ms beside 120 values of a MiB.
#[test]
fn values_that_are_set_at_once_are_copied_in_several_turns_and_set_in_one_moment() {
    let long = |number: usize| [format!("k{number}"), "x".repeat(1 << 20)];
    let short = |number: usize| [format!("k{number}"), format!("new {number}")];
    let many = (0..10_000).flat_map(short).collect::<Vec<_>>();
    let large = (0..12).flat_map(long).collect::<Vec<_>>();
    for (name, pairs, least) in
        [("MSET", many, 8), ("MSET", large.clone(), 6), ("MSETNX", large, 6)]
    {
        let daemon = Daemon::with_kv(1 << 30);
        let kept = if name == "MSET" { "k0" } else { "other" };
        let mut other = daemon.client();
        other.check(&[(&format!("SET {kept} old"), "+OK|")]);
        let request = words(&[name], pairs.iter().cloned());
        let mut turns = Turns::new(&daemon, request.clone());
        let (mut count, mut memory) = (1, 0);
        while turns.turn() && turns.replies().is_empty() {
            other.check(&[("DBSIZE", ":1|"), (&format!("GET {kept}"), "$3|old|")]);
            memory = memory.max(turns.client.session.memory());
            count += 1;
        }
        assert!(count >= least, "{name} of {} words: {count} turns", pairs.len());
        let bytes: usize = pairs.iter().map(String::len).sum();
        assert!(memory > bytes / 2, "the copies count for the client: {memory} of {bytes}");
        let answer = if name == "MSET" { "+OK\r\n" } else { ":1\r\n" };
        assert_eq!(turns.finish().0, answer.as_bytes());
        let keys = pairs.len() / 2 + usize::from(name == "MSETNX");
        other.check(&[("DBSIZE", &format!(":{keys}|"))]);
        let last = &pairs[pairs.len() - 1];
        let (key, value) = (&pairs[pairs.len() - 2], format!("${}|{last}|", last.len()));
        other.check(&[(&format!("GET {key}"), &value)]);
        // A client that goes meanwhile leaves nothing.
        let mut turns = Turns::new(&daemon, request);
        assert!(turns.turn());
        drop(turns);
        other.check(&[("DBSIZE", &format!(":{keys}|"))]);
    }
}

/// To give 600 values of a MiB back in one go held a PING up for 45 ms.
#[test]
fn values_that_are_replaced_at_once_are_given_back_in_several_turns() {
    let daemon = Daemon::with_kv(1 << 30);
    let pair = |number: usize| [format!("k{number}"), "x".repeat(1 << 20)];
    let request = words(&["MSET"], (0..60).flat_map(pair));
    assert_eq!(Turns::new(&daemon, request.clone()).finish().0, b"+OK\r\n");
    let mut turns = Turns::new(&daemon, request);
    while turns.replies().is_empty() {
        assert!(turns.turn());
    }
    let memory = turns.client.session.memory();
    assert!(memory > 50 << 20, "{memory} bytes are still to be given back");
    let mut count = 1;
    while turns.turn() {
        count += 1;
    }
    assert!(count >= 4, "{count} turns");
    assert!(turns.client.session.memory() < 1 << 20);
    assert_eq!(turns.finish().0, b"+OK\r\n");
}

#[test]
fn a_request_on_many_queues_takes_several_turns() {
    let daemon = filled(1, false);
    let names = || keys().chain(["q".into(), "q".into()]);
    let (replies, count) = Turns::new(&daemon, words(&["EXISTS"], names())).finish();
    assert_eq!(replies, b":2\r\n");
    assert!(count > MANY / 2100, "{count} turns");
    let (replies, _) = Turns::new(&daemon, words(&["SMISMEMBER", "none"], keys())).finish();
    let expected = [format!("*{MANY}\r\n").as_bytes(), &b":0\r\n".repeat(MANY)].concat();
    assert!(replies == expected);
}

/// It does not begin again each time that it meets the queue.
#[test]
fn a_request_of_many_keys_waits_where_it_is_for_a_queue_that_is_claimed() {
    let daemon = filled(MANY as u64, false);
    let mut popping = Turns::new(&daemon, words(&["SPOP", "q", "19999"], [].into_iter()));
    assert!(popping.turn());
    let mut looking = Turns::new(&daemon, words(&["EXISTS"], keys().chain(["q".into()])));
    let mut last = 0;
    for _ in 0..30 {
        assert!(looking.turn());
        let progress = looking.client.session.client.progress.as_ref();
        let next = progress.map_or(0, |progress| progress.next);
        assert!(next >= last, "from word {last} to word {next}");
        last = next;
    }
    assert_eq!(last as usize, MANY + 1);
    popping.finish();
    assert_eq!(looking.finish().0, b":1\r\n");
}

/// Others would see two keys at two moments, and so would their transactions.
#[test]
fn a_few_keys_are_seen_at_one_moment_whatever_is_left_of_the_turn() {
    let daemon = half_filled();
    let few = |name: &str| words(&[name], keys().take(999));
    for before in (0..4000).step_by(37) {
        for name in ["EXISTS", "MGET", "DEL"] {
            let pipeline = [words(&["PING"], [].into_iter()).repeat(before), few(name)].concat();
            let mut turns = Turns::new(&daemon, pipeline);
            while turns.turn() {
                let client = &turns.client.session.client;
                assert!(client.progress.is_none(), "{name} behind {before} requests");
            }
        }
    }
}

#[test]
fn what_changes_after_a_long_watch_is_seen() {
    let daemon = half_filled();
    let exec = |client: &mut Conversation| {
        client.check(&[("MULTI", "+OK|"), ("PING", "+QUEUED|")]);
        client.ask("EXEC")
    };
    let mut client = daemon.client();
    let watch = words(&["WATCH"], keys().take(WATCHED));
    client.raw(&watch);
    assert_eq!(exec(&mut client), "*1|+PONG|");
    for key in ["k0", "k1", "k3999"] {
        client.raw(&watch);
        daemon.client().ask(&format!("SET {key} new"));
        assert_eq!(exec(&mut client), "*-1|", "{key}");
    }
}

#[test]
fn a_request_without_a_list_has_a_limit_of_words() {
    let mut client = Daemon::with_queues(1 << 30, u64::MAX).client();
    let descriptions =
        ["command info", "command docs", "config get", "client list id", "info queues"];
    let options = ["scan 0", "sscan q 0", "spop q 1", "hello 3", "auth", "ping", "flushall"];
    for command in descriptions.into_iter().chain(options) {
        let words = |count: usize| command.to_owned() + &" 1".repeat(count);
        let few = 1024 - command.split(' ').count();
        assert!(!client.ask(&words(few)).contains("at once"), "{command}");
        let name = command.split(' ').next().unwrap();
        let refused = format!("-ERR '{name}' takes at most 1024 words at once|");
        assert_eq!(client.ask(&words(few + 1)), refused);
    }
}

/// Each word was counted anew, so that the time grew with the square of them.
#[test]
fn equal_messages_that_a_request_names_again_and_again_are_counted_once() {
    const COUNT: u64 = 5000;
    let daemon = filled(COUNT, true);
    let names = (0..COUNT).map(|_| "m0".to_string());
    let (replies, turns) = Turns::new(&daemon, words(&["SREM", "q"], names)).finish();
    assert_eq!(String::from_utf8_lossy(&replies), format!(":{COUNT}\r\n"));
    assert!(turns < 50, "{turns} turns");
}
