//! Long commands take several turns, and are one step for everybody else. Turns are counted, and
//! nothing is timed.

use super::{Conversation, Daemon, request};
use crate::queue::{NewMessage, Ticket};
use crate::session::memcached::MemcachedSession;
use crate::session::{ClientHandle, NewClient, OUTPUT_PIECE, Session, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A request on its way, turn by turn.
pub struct Turns {
    pub client: Conversation,
    request: Vec<u8>,
    replies: Vec<u8>,
    count: usize,
    half_done: usize,
}

impl Turns {
    pub fn new(daemon: &Daemon, request: Vec<u8>) -> Turns {
        Turns { client: daemon.client(), request, replies: Vec::new(), count: 0, half_done: 0 }
    }

    /// One turn. Returns false once everything has been answered.
    pub fn turn(&mut self) -> bool {
        let mut output = Vec::new();
        let advance = self.client.session.advance(&self.request, &mut output);
        self.request.drain(..advance.consumed);
        self.count += 1;
        self.half_done = advance.half_done;
        assert!(output.len() < 2 * OUTPUT_PIECE, "{} bytes in one turn", output.len());
        self.replies.append(&mut output);
        advance.again || advance.need == 0
    }

    /// What has been answered.
    pub fn replies(&self) -> &[u8] {
        &self.replies
    }

    pub fn finish(mut self) -> (Vec<u8>, usize) {
        while self.turn() {
            assert!(self.count < 100_000, "it never ends: {} bytes left", self.request.len());
        }
        (self.replies, self.count)
    }
}

pub fn words(first: &[&str], rest: impl Iterator<Item = String>) -> Vec<u8> {
    let words: Vec<String> = first.iter().map(|word| word.to_string()).chain(rest).collect();
    request(&words.iter().map(String::as_bytes).collect::<Vec<_>>())
}

/// `count` messages in queue q, all different or all the same.
pub fn filled(count: u64, is_same: bool) -> Daemon {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let Store::Queues(queues) = &daemon.shared.store else { unreachable!("it was made so") };
    for number in 0..count {
        let body = format!("m{}", if is_same { 0 } else { number });
        let message = NewMessage { body: body.as_bytes(), flags: 0, expires_ms: 0 };
        queues.create(b"q", &mut Ticket::default(), |queue| queue.push(&message)).unwrap();
    }
    daemon
}

/// Whether the session says that others come first, and has done nothing.
pub fn waits(client: &mut Conversation, line: &str) -> bool {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let mut output = Vec::new();
    let advance = client.session.advance(&request(&words), &mut output);
    advance.again && advance.consumed == 0 && output.is_empty()
}

fn bulks(count: u64) -> Vec<u8> {
    let bulk = |number: u64| {
        let body = format!("m{number}");
        format!("${}\r\n{body}\r\n", body.len())
    };
    (0..count).map(bulk).collect::<String>().into_bytes()
}

const MANY: u64 = 20_000;

#[test]
fn a_long_command_takes_several_turns_and_its_reply_is_whole() {
    let bodies = || (0..MANY).map(|number| format!("m{number}"));
    let list = [format!("*{MANY}\r\n").into_bytes(), bulks(MANY)].concat();
    let ones = [format!("*{MANY}\r\n"), ":1\r\n".repeat(MANY as usize)].concat().into_bytes();
    let number = format!(":{MANY}\r\n").into_bytes();
    let empty = Daemon::with_queues(1 << 30, u64::MAX);
    let cases = [
        (&empty, words(&["SADD", "q"], bodies()), &number, 0, MANY),
        (&filled(MANY, false), words(&["SMEMBERS", "q"], [].into_iter()), &list, MANY, MANY),
        (
            &filled(MANY, false),
            words(&["SRANDMEMBER", "q", "99999"], [].into_iter()),
            &list,
            MANY,
            MANY,
        ),
        (&filled(MANY, false), words(&["SMISMEMBER", "q"], bodies()), &ones, MANY, MANY),
        (&filled(MANY, false), words(&["SPOP", "q", "99999"], [].into_iter()), &list, MANY, 0),
        (&filled(MANY, false), words(&["SREM", "q"], bodies()), &number, MANY, 0),
        (&filled(MANY, true), words(&["SREM", "q", "x", "m0"], [].into_iter()), &number, MANY, 0),
    ];
    for (daemon, request, expected, before, after) in cases {
        let name = String::from_utf8_lossy(&request[..25]).into_owned();
        let mut other = daemon.client();
        other.check(&[("SCARD q", &format!(":{before}|"))]);
        let mut turns = Turns::new(daemon, request);
        assert!(turns.turn(), "{name}");
        // Nobody sees it half done, and nobody else waits.
        for line in ["SCARD q", "SADD q new", "SPOP q", "DEL q", "SMOVE q r m0"] {
            assert!(waits(&mut daemon.client(), line), "{name}: {line}");
        }
        other.check(&[("PING", "+PONG|"), ("SADD r 1", ":1|"), ("DEL r", ":1|")]);
        let (replies, count) = turns.finish();
        assert!(replies == *expected, "{name}: {}", replies.escape_ascii());
        assert!(count as u64 > MANY / 2100, "{name}: {count} turns");
        assert_eq!(other.ask("SCARD q"), format!(":{after}|"), "{name}");
    }
}

/// Only what has changed something is: a reader who has gone needs no reply.
#[test]
fn a_long_command_says_once_it_is_half_done() {
    let bodies = || (0..MANY).map(|number| format!("m{number}"));
    let names = || (0..MANY).map(|number| format!("q{number}"));
    let one = |line: &[&str]| words(line, [].into_iter());
    let empty = Daemon::with_queues(1 << 30, u64::MAX);
    let cases = [
        (&empty, words(&["SADD", "q"], bodies()), true),
        (&filled(MANY, false), words(&["SADD", "q"], bodies()), false),
        (&filled(MANY, false), words(&["SREM", "q"], bodies()), true),
        (&filled(MANY, false), one(&["SPOP", "q", "99999"]), true),
        (&filled(MANY, false), one(&["SMEMBERS", "q"]), false),
        (&filled(MANY, false), words(&["SMISMEMBER", "q"], bodies()), false),
        (&filled(MANY, false), words(&["EXISTS", "q"], names()), false),
    ];
    for (daemon, request, changes) in cases {
        let name = String::from_utf8_lossy(&request[..25]).into_owned();
        let length = request.len();
        let mut turns = Turns::new(daemon, [request, one(&["PING"])].concat());
        let mut half_done = Vec::new();
        while turns.turn() {
            half_done.push(turns.half_done);
        }
        half_done.retain(|bytes| *bytes > 0);
        assert_eq!(!half_done.is_empty(), changes, "{name}");
        assert!(half_done.iter().all(|bytes| *bytes == length), "{name}: {half_done:?}");
    }
}

#[test]
fn a_queue_is_free_again_when_the_session_of_a_long_command_is_lost() {
    let daemon = filled(MANY, false);
    let mut turns = Turns::new(&daemon, words(&["SPOP", "q", "99999"], [].into_iter()));
    assert!(turns.turn());
    let mut other = daemon.client();
    assert!(waits(&mut other, "SCARD q"));
    drop(turns);
    let left: u64 = other.ask("SCARD q")[1..].trim_end_matches('|').parse().unwrap();
    assert!(left > 0 && left < MANY, "what was popped is gone: {left}");
}

#[test]
fn a_pipeline_of_short_commands_gives_others_their_turn() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    for line in [&["PING"][..], &["SADD", "q", "m"], &["SCARD", "other"]] {
        let line = words(line, [].into_iter());
        let (replies, count) = Turns::new(&daemon, line.repeat(10_000)).finish();
        assert_eq!(replies.iter().filter(|byte| **byte == b'\n').count(), 10_000);
        assert!(count >= 5, "{count} turns");
    }
}

/// Each new queue waits for the disk.
#[test]
fn a_pipeline_that_makes_queues_gives_others_their_turn() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let push = |number: u64| words(&["SADD"], [format!("q{number}"), "m".into()].into_iter());
    let turns = || {
        let (replies, count) = Turns::new(&daemon, (0..20).flat_map(push).collect()).finish();
        (replies.len() / b":1\r\n".len(), count)
    };
    assert_eq!(turns(), (20, 10));
    assert_eq!(turns(), (20, 1), "they are all there");
}

#[test]
fn exec_waits_for_a_long_command_on_one_of_its_queues_and_for_no_other() {
    let daemon = filled(MANY, false);
    let mut turns = Turns::new(&daemon, words(&["SMEMBERS", "q"], [].into_iter()));
    assert!(turns.turn());
    let mut other = daemon.client();
    for (name, must_wait) in [("r", false), ("q", true)] {
        other.check(&[("MULTI", "+OK|"), (&format!("SCARD {name}"), "+QUEUED|")]);
        assert_eq!(waits(&mut other, "EXEC"), must_wait, "{name}");
    }
    let (_, count) = turns.finish();
    assert!(count > 5);
    assert_eq!(other.ask("EXEC"), format!("*1|:{MANY}|"));
}

/// Long commands that followed each other kept it waiting for ever.
#[test]
fn who_waits_for_a_long_command_comes_before_the_next_one() {
    for (line, reply) in [("EXEC", "*1|:20000|"), ("DEL q r", ":1|"), ("FLUSHALL", "+OK|")] {
        let daemon = filled(MANY, false);
        let mut turns = Turns::new(&daemon, words(&["SMEMBERS", "q"], [].into_iter()));
        assert!(turns.turn());
        let mut waiting = daemon.client();
        if line == "EXEC" {
            waiting.check(&[("MULTI", "+OK|"), ("SCARD q", "+QUEUED|")]);
        }
        assert!(waits(&mut waiting, line));
        turns.finish();
        let mut next = daemon.client();
        assert!(waits(&mut next, "SRANDMEMBER q 2"), "{line}");
        daemon.client().check(&[
            ("SISMEMBER q none", ":0|"),
            ("SADD r 1 2", ":2|"),
            ("DEL r", ":1|"),
        ]);
        assert_eq!(waiting.ask(line), reply);
        assert!(!waits(&mut next, "SRANDMEMBER q 2"), "{line}");
    }
}

/// Nobody waits for a client that has gone, nor two that wait for each other.
#[test]
fn who_waits_keeps_no_queue_when_it_has_gone_and_no_transaction_from_it() {
    let daemon = filled(MANY, false);
    let mut turns = Turns::new(&daemon, words(&["SMEMBERS", "q"], [].into_iter()));
    assert!(turns.turn());
    let mut waiting = [(); 2].map(|()| daemon.client());
    for client in &mut waiting {
        client.check(&[("MULTI", "+OK|"), ("SRANDMEMBER q 2", "+QUEUED|")]);
        assert!(waits(client, "EXEC"));
    }
    turns.finish();
    let [mut first, second] = waiting;
    assert_eq!(first.ask("EXEC"), "*1|*2|$2|m0|$2|m1|");
    let mut other = daemon.client();
    assert!(waits(&mut other, "SRANDMEMBER q 2"));
    drop(second);
    other.check(&[("SRANDMEMBER q 1", "*1|$2|m0|")]);
}

/// One that found no memory for its reply was refused, and nobody began a long command on the queue
/// that it had waited for.
#[test]
fn who_is_refused_while_it_waits_keeps_no_queue() {
    let daemon = filled(MANY, false);
    let mut turns = Turns::new(&daemon, words(&["SMEMBERS", "q"], [].into_iter()));
    assert!(turns.turn());
    let mut waiting = daemon.client();
    assert!(waits(&mut waiting, "DEL q r"));
    turns.finish();
    let mut other = daemon.client();
    assert!(waits(&mut other, "SRANDMEMBER q 1"));
    waiting.session.client.forget_request();
    assert!(!waits(&mut other, "SRANDMEMBER q 1"));
}

#[test]
fn a_transaction_is_not_waited_for_long() {
    const TOO_MANY: u64 = 120_000;
    let daemon = filled(TOO_MANY, false);
    let mut client = daemon.client();
    let refusal = "-ERR the transaction takes too long; use a smaller one|";
    client.ask("MULTI");
    for line in ["SPOP q 119999", "SMEMBERS q", "SADD r 1", "SCARD q", "SSCAN q 0 COUNT 100000"] {
        client.ask(line);
    }
    let reply = client.ask("EXEC");
    let head = format!("*5|{refusal}{refusal}:1|:{TOO_MANY}|*2|");
    assert!(reply.starts_with(&head), "{reply:.500}");
    // Equal messages are counted before any is removed.
    let daemon = filled(TOO_MANY, true);
    daemon.client().check(&[
        ("MULTI", "+OK|"),
        ("SREM q m0", "+QUEUED|"),
        ("SCARD q", "+QUEUED|"),
        ("EXEC", &format!("*2|{refusal}:{TOO_MANY}|")),
        ("SREM q m0", &format!(":{TOO_MANY}|")),
    ]);
}

fn with_queues(count: usize) -> Daemon {
    let daemon = Daemon::with_limits(1 << 30, u64::MAX, count);
    let Store::Queues(queues) = &daemon.shared.store else { unreachable!("it was made so") };
    for number in 0..count {
        let name = format!("q{number}");
        let message = NewMessage { body: b"m", flags: 0, expires_ms: 0 };
        let push = |queue: &mut crate::queue::Queue| queue.push(&message);
        queues.create(name.as_bytes(), &mut Ticket::default(), push).unwrap();
    }
    daemon
}

#[test]
fn queues_are_dropped_in_one_step_and_let_go_of_in_several_turns() {
    for is_all in [true, false] {
        let daemon = with_queues(1000);
        let names = || (0..1000).map(|number| format!("q{number}"));
        let request = match is_all {
            true => words(&["FLUSHALL"], [].into_iter()),
            false => words(&["DEL", "none", "q0"], names()),
        };
        let mut turns = Turns::new(&daemon, request);
        assert!(turns.turn());
        let mut other = daemon.client();
        other.check(&[("DBSIZE", ":0|"), ("KEYS *", "*0|"), ("EXISTS q999", ":0|")]);
        other.check(&[("SADD q998 new", ":1|"), ("DBSIZE", ":1|"), ("SPOP q997", "$-1|")]);
        let (replies, count) = turns.finish();
        assert_eq!(replies, if is_all { &b"+OK\r\n"[..] } else { b":1000\r\n" });
        assert!(count > 3, "{count} turns");
        other.check(&[("KEYS *", "*1|$4|q998|"), ("SMEMBERS q998", "*1|$3|new|")]);
    }
}

#[test]
fn all_queues_are_added_up_in_several_turns() {
    let daemon = with_queues(20_000);
    let (replies, count) = Turns::new(&daemon, words(&["INFO", "stats"], [].into_iter())).finish();
    let text = String::from_utf8(replies).unwrap();
    assert!(text.contains("\r\nqueues:20000\r\nmessages:20000\r\n"), "{text}");
    assert_eq!(count, 2);
    let sections = ["INFO", "server", "clients", "memory", "replication", "commandstats"];
    let mut turns = Turns::new(&daemon, words(&sections, [].into_iter()));
    assert!(!turns.turn(), "nothing of them is in these sections");
    let mut turns = Turns::new(&daemon, words(&["DBSIZE"], [].into_iter()));
    assert!(!turns.turn(), "without a message that dies their number is known");
    let client = NewClient::detached(9);
    let mut session = MemcachedSession::new(Arc::clone(&daemon.shared), client);
    let mut output = Vec::new();
    let advance = session.advance(b"stats slabs\r\n", &mut output);
    assert!(advance.again && advance.consumed == 0 && output.is_empty(), "{advance:?}");
    let advance = session.advance(b"stats slabs\r\n", &mut output);
    assert_eq!((advance.consumed, output.ends_with(b"malloced 20000\r\nEND\r\n")), (13, true));
}

/// Counts the ends of connections.
#[derive(Default)]
struct Ends(AtomicUsize);

impl ClientHandle for Ends {
    fn wake(&self) {}

    fn close(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn many_clients_are_listed_and_ended_in_several_turns() {
    let (daemon, ends) = (Daemon::with_queues(1 << 30, u64::MAX), Arc::new(Ends::default()));
    let enter = |id| {
        let handle = Arc::clone(&ends) as Arc<dyn ClientHandle>;
        let client = NewClient { handle, ..NewClient::detached(id) };
        daemon.shared.clients.enter(client, 2, Duration::ZERO)
    };
    let _members: Vec<_> = (100..2100).map(enter).collect();
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut turns = Turns::new(&daemon, words(&["CLIENT", "LIST"], [].into_iter()));
        turns.client.ask(hello);
        let (replies, count) = turns.finish();
        let text = String::from_utf8(replies).unwrap();
        let (head, rest) = text.split_once("\r\n").unwrap();
        let list = rest.strip_suffix("\r\n").unwrap();
        assert_eq!(head.get(1..), Some(&*list.len().to_string()), "{head}");
        assert_eq!((list.matches("id=").count(), list.ends_with('\n')), (2001, true));
        assert!(count > 3, "{count} turns");
    }
    let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"];
    let mut turns = Turns::new(&daemon, words(&kill, [].into_iter()));
    assert!(turns.turn() && ends.0.load(Ordering::Relaxed) < 2000);
    // Who comes meanwhile is not among them.
    let _late = enter(3000);
    while turns.turn() {}
    assert_eq!((&turns.replies[..], ends.0.load(Ordering::Relaxed)), (&b":2001\r\n"[..], 2000));
    // A transaction has no other turn.
    let mut client = daemon.client();
    client.ask("MULTI");
    client.check(&[("CLIENT KILL TYPE normal", "+QUEUED|"), ("EXEC", "*1|:2001|")]);
}

#[test]
fn a_drop_whose_client_has_gone_is_finished_by_housekeeping() {
    let daemon = with_queues(1000);
    let Store::Queues(queues) = &daemon.shared.store else { unreachable!("it was made so") };
    let mut turns = Turns::new(&daemon, words(&["FLUSHALL"], [].into_iter()));
    assert!(turns.turn());
    let used = || {
        queues.statistics(&queues.sums()).iter().find(|it| it.0 == "memory_used_bytes").unwrap().1
    };
    assert!(used() > 0, "it was done in one turn");
    drop(turns);
    daemon.client().check(&[("DBSIZE", ":0|"), ("EXISTS q1", ":0|")]);
    queues.tidy();
    assert_eq!(used(), 0);
}

#[test]
fn a_refusal_of_another_queue_looks_at_each_empty_one_once() {
    let daemon = with_queues(1000);
    let refused = "-ERR too many queues, the limit is 1000 (--max-queues)|";
    let mut client = daemon.client();
    // Each was empty when it was made.
    assert_eq!(client.ask("SADD new m"), refused);
    for _ in 0..2 {
        let mut turns = Turns::new(&daemon, words(&["SADD", "new", "m"], [].into_iter()));
        assert!(!turns.turn(), "nothing is left to look at");
        client.check(&[("SADD q7 other", ":1|"), ("SPOP q7 2", "*2|$1|m|$5|other|")]);
        client.check(&[("SADD q7 m", ":1|")]);
    }
    client.check(&[("SPOP q500", "$1|m|"), ("SADD new m", ":1|"), ("SADD q500 m", refused)]);
}

/// Also where a refusal has looked at them before, and found messages in them.
#[test]
fn queues_that_are_dropped_make_place_at_once() {
    for drop in ["DEL q7", "UNLINK q7", "FLUSHALL", "MULTI;DEL q7;EXEC"] {
        let daemon = with_queues(10);
        let mut client = daemon.client();
        let refused = "-ERR too many queues, the limit is 10 (--max-queues)|";
        assert_eq!(client.ask("SADD new m"), refused);
        drop.split(';').for_each(|command| drop_reply(client.ask(command)));
        assert_eq!(client.ask("SADD new m"), ":1|", "after {drop}");
    }
}

fn drop_reply(reply: String) {
    assert!(!reply.starts_with('-'), "{reply}");
}

#[test]
fn keys_are_matched_in_several_turns() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let mut client = daemon.client();
    for number in 0..50 {
        client.ask(&format!("SADD {}{number} m", "a".repeat(440)));
    }
    let pattern = format!("*{}b", "a".repeat(220));
    let (replies, count) = Turns::new(&daemon, words(&["KEYS", &pattern], [].into_iter())).finish();
    assert_eq!(replies, b"*0\r\n");
    assert!(count > 5, "{count} turns");
    let (replies, _) = Turns::new(&daemon, words(&["KEYS", "a*"], [].into_iter())).finish();
    assert!(replies.starts_with(b"*50\r\n$441\r\n"), "{}", replies.escape_ascii());
}

/// Redis's guarantee: a scan ends, and shows all that was there from its beginning to its end.
#[test]
fn a_scan_ends_while_there_is_always_more() {
    let queues = Daemon::with_limits(1 << 30, u64::MAX, 1 << 20);
    let kv = Daemon::with_kv(1 << 30);
    let cases = [
        (&queues, "SSCAN q", ["SADD q", "SREM q"]),
        (&queues, "SCAN", ["SADD", "DEL"]),
        (&kv, "SCAN", ["SET", "DEL"]),
    ];
    for (daemon, scan, [come, go]) in cases {
        let mut client = daemon.client();
        let value = if come == "SADD q" { "" } else { " v" };
        let push = |from: usize, to: usize, client: &mut Conversation| {
            (from..to).for_each(|it| drop(client.ask(&format!("{come} k{it}{value}"))));
        };
        push(0, 200, &mut client);
        let (mut cursor, mut calls, mut seen, mut made) = ("0".to_owned(), 0, String::new(), 200);
        loop {
            let page = client.ask(&format!("{scan} {cursor} COUNT 10"));
            cursor = page.split('|').nth(2).unwrap().to_owned();
            seen += &page;
            calls += 1;
            if cursor == "0" {
                break;
            }
            assert!(calls < 100, "{scan} never ends");
            push(made, made + 20, &mut client);
            // The first hundred stay.
            (made - 100..made - 80).for_each(|it| drop(client.ask(&format!("{go} k{it}"))));
            made += 20;
        }
        assert!((0..100).all(|it| seen.contains(&format!("|k{it}|"))), "{scan}: {seen}");
        client.ask("FLUSHALL");
    }
}

#[test]
fn a_long_command_that_is_not_to_be_answered_is_not() {
    let daemon = filled(MANY, false);
    let mut client = daemon.client();
    let lines = ["CLIENT REPLY SKIP", "SPOP q 19999", "SCARD q", "CLIENT REPLY OFF", "SPOP q"];
    assert_eq!(super::pipeline(&mut client, &lines), ":1|");
    daemon.client().check(&[("SCARD q", ":0|")]);
}
