//! `get q/t=ms`: clients that wait for a message.

use super::{Client, play, queues, shared};
use crate::clock::set_by_hand;
use crate::queue::{Limits, MemoryBacking, Policy, Queues};
use crate::session::Store;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const A: &[u8] = b"VALUE q 3 1\r\na\r\nEND\r\n";

/// Sends a request that has to wait.
fn wait(client: &mut Client, request: &[u8]) {
    assert_eq!((client.ask(request), client.waits), (Vec::new(), true));
    assert_eq!(client.wake(), (Vec::new(), true), "it waits on");
}

#[test]
fn a_message_is_popped_opened_or_shown_by_the_one_that_has_waited() {
    let shared = queues();
    let (mut one, mut other) = (Client::new(&shared), Client::new(&shared));
    wait(&mut one, b"get q/t=500\r\n");
    assert_eq!(other.ask(b"set q 3 0 1\r\na\r\nget q\r\n"), b"STORED\r\nEND\r\n");
    assert_eq!(one.wake(), (A.to_vec(), false));
    assert_eq!(one.ask(b"get q\r\n"), b"END\r\n");

    wait(&mut one, b"get q/open/t=500\r\n");
    other.ask(b"set q 3 0 1\r\na\r\n");
    assert_eq!(one.wake(), (A.to_vec(), false));
    assert_eq!(one.ask(b"get q/t=5\r\n"), b"CLIENT_ERROR close current item first\r\n");
    assert_eq!(one.ask(b"get q/abort/t=5\r\nget q/t=5\r\n"), [b"END\r\n", A].concat());

    wait(&mut one, b"get q/t=500/peek\r\n");
    other.ask(b"set q 3 0 1\r\na\r\n");
    assert_eq!(one.wake(), (A.to_vec(), false));
    assert_eq!(other.ask(b"get q\r\n"), A);
}

#[test]
fn who_closes_and_waits_has_closed_when_the_wait_begins() {
    let shared = queues();
    let (mut one, mut other) = (Client::new(&shared), Client::new(&shared));
    one.ask(b"set q 3 0 1\r\na\r\n");
    assert_eq!(one.ask(b"get q/open\r\n"), A);
    wait(&mut one, b"get q/close/open/t=500\r\n");
    assert_eq!(other.ask(b"delete q\r\n"), b"NOT_FOUND\r\n");
    other.ask(b"set q 3 0 1\r\na\r\n");
    assert_eq!(one.wake(), (A.to_vec(), false));
    assert_eq!(one.ask(b"get q/close/t=500\r\nget q/close/t=500\r\n"), b"END\r\nEND\r\n");
    assert_eq!(other.ask(b"delete q\r\n"), b"NOT_FOUND\r\n");
}

#[test]
fn a_wait_is_over_in_time_and_0_is_none() {
    let (clock, time_ms) = set_by_hand();
    let limits = Limits { max_queues: 3, max_queue_len: 1000 };
    let backing = Box::new(MemoryBacking::new(1 << 20));
    let queues = Queues::open(backing, limits, Policy::Never).unwrap().with_clock(clock);
    let shared = shared(Store::Queues(Arc::new(queues)));
    let (mut one, mut other) = (Client::new(&shared), Client::new(&shared));
    wait(&mut one, b"get q/t=20 r/t=30 q/t=0\r\nget r\r\n");
    time_ms.fetch_add(19, Relaxed);
    assert_eq!(one.wake(), (Vec::new(), true));
    time_ms.fetch_add(1, Relaxed);
    assert_eq!(one.wake(), (Vec::new(), true), "it waits for the next queue");
    time_ms.fetch_add(30, Relaxed);
    assert_eq!(one.wake(), (b"END\r\nEND\r\n".to_vec(), false));
    assert_eq!(other.ask(b"set q 3 0 1\r\na\r\nget q\r\n"), [b"STORED\r\n", A].concat());
    let figures = other.ask(b"stats\r\n");
    let misses = b"STAT get_misses 4\r\n";
    assert!(figures.windows(misses.len()).any(|line| line == misses), "a wait counts once");
}

#[test]
fn what_was_handed_to_a_client_that_has_gone_is_the_next_ones() {
    let shared = queues();
    let mut clients = [0; 3].map(|_| Client::new(&shared));
    clients.iter_mut().take(2).for_each(|client| wait(client, b"get q/open/t=500\r\n"));
    let [first, mut second, mut other] = clients;
    other.ask(b"set q 3 0 1\r\na\r\n");
    drop(first);
    assert_eq!(second.wake(), (A.to_vec(), false));
}

/// Housekeeping served it, up to a second later.
#[test]
fn what_was_open_when_its_connection_ended_is_the_next_ones_at_once() {
    let shared = queues();
    let (mut one, mut other) = (Client::new(&shared), Client::new(&shared));
    one.ask(b"set q 3 0 1\r\na\r\nget q/open\r\n");
    wait(&mut other, b"get q/t=500\r\n");
    drop(one);
    assert_eq!(other.wake(), (A.to_vec(), false));
}

#[test]
fn what_is_no_time_is_part_of_the_name() {
    play(
        queues,
        &[
            ("set q/t=x 3 0 1\r\na\r\n", "STORED\r\n"),
            ("get q/t=x/t=9\r\n", "VALUE q/t=x 3 1\r\na\r\nEND\r\n"),
            ("get q/t=0\r\n", "END\r\n"),
        ],
    );
}
