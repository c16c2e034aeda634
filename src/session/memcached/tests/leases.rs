//! Kestrel's options behind the name of a queue.

use super::{Client, play, queues, shared};
use crate::clock::set_by_hand;
use crate::queue::{Limits, MemoryBacking, Policy, Queue, Queues, Ticket};
use crate::session::redis::RedisSession;
use crate::session::{NewClient, Session, Store};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const CLOSE_FIRST: &str = "CLIENT_ERROR close current item first\r\n";
const BY_ITSELF: &str = "CLIENT_ERROR abort must be by itself\r\n";
const OPEN_AND_PEEK: &str = "CLIENT_ERROR cannot open and peek\r\n";

#[test]
fn an_open_item_is_closed_or_given_back_to_its_place() {
    play(
        queues,
        &[
            ("get q/open\r\n", "END\r\n"),
            ("set q 5 0 1\r\na\r\n", "STORED\r\n"),
            ("set q 0 0 1\r\nb\r\n", "STORED\r\n"),
            ("set q 0 0 1\r\nc\r\n", "STORED\r\n"),
            ("get q/open\r\n", "VALUE q 5 1\r\na\r\nEND\r\n"),
            ("scard q\r\n", "2\r\n"),
            ("gets q/peek\r\n", "VALUE q 0 1 2\r\nb\r\nEND\r\n"),
            ("get q/abort\r\n", "END\r\n"),
            ("scard q\r\n", "3\r\n"),
            ("get q/open\r\n", "VALUE q 5 1\r\na\r\nEND\r\n"),
            ("get q/close/open\r\n", "VALUE q 0 1\r\nb\r\nEND\r\n"),
            ("gets q/open/close\r\n", "VALUE q 0 1 3\r\nc\r\nEND\r\n"),
            ("get q/close\r\n", "END\r\n"),
            ("get q/close/open\r\n", "END\r\n"),
            ("get q/close\r\n", "END\r\n"),
            ("get q/abort\r\n", "END\r\n"),
            ("scard q\r\n", "0\r\n"),
        ],
    );
}

#[test]
fn what_cannot_be_combined_is_refused_and_the_connection_stays() {
    play(
        queues,
        &[
            ("set q 0 0 1\r\na\r\n", "STORED\r\n"),
            ("set q 0 0 1\r\nb\r\n", "STORED\r\n"),
            ("get q/abort/open\r\n", BY_ITSELF),
            ("get q/peek/abort\r\n", BY_ITSELF),
            ("get q/close/abort\r\n", BY_ITSELF),
            ("get q/open/peek\r\n", OPEN_AND_PEEK),
            ("get q/peek/close\r\n", OPEN_AND_PEEK),
            ("get q/open\r\n", "VALUE q 0 1\r\na\r\nEND\r\n"),
            ("get q/open\r\n", CLOSE_FIRST),
            ("get q\r\n", CLOSE_FIRST),
            ("get q/close/open\r\n", "VALUE q 0 1\r\nb\r\nEND\r\n"),
        ],
    );
}

#[test]
fn one_item_of_each_queue_is_open() {
    play(
        queues,
        &[
            ("set a/b 0 0 1\r\n1\r\n", "STORED\r\n"),
            ("set c 0 0 1\r\n2\r\n", "STORED\r\n"),
            ("get a/b/open c/open\r\n", "VALUE a/b 0 1\r\n1\r\nVALUE c 0 1\r\n2\r\nEND\r\n"),
            ("get c/abort a/b/close\r\n", "END\r\n"),
            ("get a/b c\r\n", "VALUE c 0 1\r\n2\r\nEND\r\n"),
        ],
    );
}

#[test]
fn what_is_open_comes_back_when_the_connection_ends() {
    let shared = queues();
    let (mut one, mut other) = (Client::new(&shared), Client::new(&shared));
    one.ask(b"set q 0 0 1\r\na\r\nset q 0 0 1\r\nb\r\n");
    assert!(!one.session.is_at_work() && one.session.memory() == 0);
    assert_eq!(one.ask(b"get q/open\r\n"), b"VALUE q 0 1\r\na\r\nEND\r\n");
    assert!(one.session.is_at_work() && one.session.memory() > 0);
    assert_eq!(other.ask(b"get q/peek\r\n"), b"VALUE q 0 1\r\nb\r\nEND\r\n");
    drop(one);
    assert_eq!(
        other.ask(b"get q\r\nget q\r\n"),
        b"VALUE q 0 1\r\na\r\nEND\r\nVALUE q 0 1\r\nb\r\nEND\r\n"
    );
}

#[test]
fn an_item_that_was_not_closed_counts_unless_the_client_quits() {
    let shared = queues();
    let Store::Queues(queues) = &shared.store else { panic!("no queues") };
    let failed = || {
        let first = |queue: &mut Queue| queue.failures(1).map(|it| (it.nacks, it.expiries));
        queues.find(b"q", &mut Ticket::default(), first).unwrap().unwrap()
    };
    let ends: [(&[u8], (u32, u32)); 4] =
        [(b"quit\r\n", (0, 0)), (b"", (1, 0)), (b"get q/abort\r\n", (2, 0)), (b"quit\r\n", (2, 0))];
    Client::new(&shared).ask(b"set q 0 0 1\r\na\r\n");
    for (last, expected) in ends {
        let mut client = Client::new(&shared);
        assert_eq!(client.ask(b"get q/open\r\n"), b"VALUE q 0 1\r\na\r\nEND\r\n");
        client.ask(last);
        drop(client);
        assert_eq!(failed(), expected, "after {}", last.escape_ascii());
    }
}

#[test]
fn the_time_of_the_lease_holds_besides() {
    let (clock, time_ms) = set_by_hand();
    let limits = Limits { max_queues: 3, max_queue_len: 1000 };
    let backing = Box::new(MemoryBacking::new(1 << 20));
    let queues = Queues::open(backing, limits, Policy::Never).unwrap().with_clock(clock);
    let shared = shared(Store::Queues(Arc::new(queues)));
    shared.limits.lease_s.store(30, Relaxed);
    let (mut one, mut other) = (Client::new(&shared), Client::new(&shared));
    one.ask(b"set q 0 0 1\r\na\r\n");
    let item = b"VALUE q 0 1\r\na\r\nEND\r\n";
    assert_eq!(one.ask(b"get q/open\r\n"), item);
    time_ms.fetch_add(29_999, Relaxed);
    assert_eq!(other.ask(b"get q/open\r\n"), b"END\r\n");
    time_ms.fetch_add(1, Relaxed);
    assert_eq!(other.ask(b"get q/open\r\n"), item);
    // The first one gives back what it has not got any more, and nothing happens.
    assert_eq!(one.ask(b"get q/abort\r\nscard q\r\n"), b"END\r\n0\r\n");
    time_ms.fetch_add(30_000, Relaxed);
    assert_eq!(one.ask(b"get q/open\r\n"), item);
    // The work was done, although another client has the message now.
    assert_eq!(other.ask(b"get q/close\r\n"), b"END\r\n");
    assert_eq!(one.ask(b"get q/close\r\nget q/open\r\n"), b"END\r\nEND\r\n");
}

/// It came back when its lease was over, 300 seconds later.
#[test]
fn what_is_open_comes_back_although_a_long_command_has_the_queue_to_itself() {
    let limits = Limits { max_queues: 3, max_queue_len: u64::MAX };
    let backing = Box::new(MemoryBacking::new(1 << 30));
    let queues = Queues::open(backing, limits, Policy::Never).unwrap();
    let shared = shared(Store::Queues(Arc::new(queues)));
    let mut one = Client::new(&shared);
    one.ask(b"set q 0 0 1\r\na\r\n");
    assert_eq!(one.ask(b"get q/open\r\n"), b"VALUE q 0 1\r\na\r\nEND\r\n");
    let mut long = RedisSession::new(Arc::clone(&shared), NewClient::detached(8));
    let members: String = (0..20_000).map(|number| format!("$5\r\n{number:05}\r\n")).collect();
    let request = format!("*20002\r\n$4\r\nSADD\r\n$1\r\nq\r\n{members}");
    let (mut output, mut turns) = (Vec::new(), 0);
    while output.is_empty() {
        let advance = long.advance(request.as_bytes(), &mut output);
        turns += 1;
        if turns == 1 {
            assert!(advance.again, "it takes several turns");
            drop(std::mem::replace(&mut one, Client::new(&shared)));
        }
    }
    assert_eq!(output, b":20000\r\n");
    assert_eq!(one.ask(b"get q\r\n"), b"VALUE q 0 1\r\na\r\nEND\r\n");
}
