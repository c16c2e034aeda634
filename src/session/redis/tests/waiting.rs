//! Clients that wait for messages: which client gets which message, and where a message goes if its
//! client has gone.

use super::{Conversation, Daemon, pipeline};
use crate::clock::set_by_hand;
use crate::session::NewClient;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const NOTHING: &str = "*-1|";

/// Lets a client ask for jobs of `queues`, which have none.
fn wait(client: &mut Conversation, queues: &str) {
    client.check(&[(&format!("GETJOB FROM {queues}"), "")]);
    assert_eq!(client.wake(), "", "it waits on");
}

/// The queues and the bodies in the reply to a client that has been woken.
fn jobs(client: &mut Conversation) -> Vec<(String, String)> {
    let reply = client.wake();
    let words: Vec<&str> = reply.split('|').collect();
    let jobs = words[1..].chunks_exact(7);
    jobs.map(|job| (job[2].to_owned(), job[6].to_owned())).collect()
}

fn job(queue: &str, body: &str) -> Vec<(String, String)> {
    vec![(queue.to_owned(), body.to_owned())]
}

#[test]
fn a_message_is_handed_to_the_client_that_came_first() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let (mut first, mut second, mut other) = (daemon.client(), daemon.client(), daemon.client());
    wait(&mut first, "q");
    wait(&mut second, "q");
    other.check(&[("SADD q a", ":1|")]);
    // It is leased to the first one, which has not fetched it yet.
    other.check(&[("SPOP q", "$-1|"), ("GETJOB NOHANG FROM q", NOTHING), ("EXISTS q", ":1|")]);
    assert_eq!(second.wake(), "");
    assert_eq!(jobs(&mut first), job("q", "a"));
    other.check(&[("SADD q b c", ":2|"), ("SPOP q", "$1|c|")]);
    assert_eq!(jobs(&mut second), job("q", "b"));
    other.check(&[("GETJOB NOHANG FROM q", NOTHING), ("SPOP q", "$-1|")]);
}

#[test]
fn a_client_waits_for_several_queues_and_the_leftmost_that_has_a_message_wins() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let (mut client, mut other) = (daemon.client(), daemon.client());
    other.check(&[("SADD c 1", ":1|"), ("SADD b 2", ":1|")]);
    let reply = client.ask("GETJOB TIMEOUT 10 COUNT 5 FROM a b c");
    assert!(reply.starts_with("*2|*3|$1|b|") && reply.contains("|*3|$1|c|"), "{reply}");
    wait(&mut client, "a b c a");
    other.check(&[("SADD b 3", ":1|"), ("SADD a 4", ":1|"), ("SCARD a", ":1|")]);
    assert_eq!(jobs(&mut client), job("b", "3"), "one push woke it, and it left the other lines");
    other.check(&[("SPOP a", "$1|4|")]);
}

#[test]
fn a_client_that_was_woken_gets_up_to_count_messages() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let (mut client, mut other) = (daemon.client(), daemon.client());
    client.check(&[("GETJOB COUNT 3 FROM q", "")]);
    other.check(&[("SADD q a b c d", ":4|"), ("SCARD q", ":3|")]);
    let bodies: Vec<String> = jobs(&mut client).into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, ["a", "b", "c"]);
    other.check(&[("SPOP q", "$1|d|")]);
}

#[test]
fn what_was_handed_to_a_client_that_has_gone_is_the_next_ones() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let (mut first, mut second, mut other) = (daemon.client(), daemon.client(), daemon.client());
    wait(&mut first, "q");
    wait(&mut second, "q");
    other.check(&[("SADD q a", ":1|")]);
    drop(first);
    assert_eq!(jobs(&mut second), job("q", "a"));
    // Nobody else waits: it is back at its place.
    let mut third = daemon.client();
    wait(&mut third, "q r");
    other.check(&[("SADD q b c", ":2|"), ("SADD r d", ":1|")]);
    drop(third);
    other.check(&[("SMEMBERS q", "*2|$1|b|$1|c|"), ("INFO nothing", "$0||")]);
    let clients = other.ask("INFO clients");
    assert!(clients.contains("|blocked_clients:0|"), "{clients}");
}

#[test]
fn nobody_overtakes_when_a_message_comes_back() {
    let (clock, time_ms) = set_by_hand();
    let daemon = Daemon::with_queues_at(clock);
    let (mut worker, mut waiter, mut other) = (daemon.client(), daemon.client(), daemon.client());
    other.check(&[("CONFIG SET lease 30", "+OK|"), ("SADD q a", ":1|")]);
    let reply = worker.ask("GETJOB FROM q");
    let id = reply.split('|').nth(5).unwrap().to_owned();
    wait(&mut waiter, "q");
    other.check(&[(&format!("NACK {id}"), ":1|"), ("SPOP q", "$-1|")]);
    assert_eq!(jobs(&mut waiter), job("q", "a"));
    // The lease is over, and the next command on the queue hands the message to the waiting client.
    let mut late = daemon.client();
    wait(&mut late, "q");
    time_ms.fetch_add(30_000, Ordering::Relaxed);
    other.check(&[("SPOP q", "$-1|")]);
    assert_eq!(jobs(&mut late), job("q", "a"));
}

#[test]
fn a_wait_is_over_in_time_and_no_earlier() {
    let (clock, time_ms) = set_by_hand();
    let daemon = Daemon::with_queues_at(clock);
    let (mut client, mut other) = (daemon.client(), daemon.client());
    client.check(&[("GETJOB TIMEOUT 500 FROM q", "")]);
    assert!(client.last.wait.unwrap().until.is_some());
    time_ms.fetch_add(499, Ordering::Relaxed);
    assert_eq!(client.wake(), "");
    time_ms.fetch_add(1, Ordering::Relaxed);
    assert_eq!(client.wake(), NOTHING);
    other.check(&[("SADD q a", ":1|"), ("SPOP q", "$1|a|")]);
    // Without a timeout, and with 0, it never is.
    for line in ["GETJOB FROM q", "GETJOB TIMEOUT 0 FROM q"] {
        let mut client = daemon.client();
        client.check(&[(line, "")]);
        assert!(client.last.wait.unwrap().until.is_none());
    }
    // What came in time is the client's, also where the time is up when it comes for it.
    client.check(&[("GETJOB TIMEOUT 500 FROM q", "")]);
    other.check(&[("SADD q b", ":1|")]);
    time_ms.fetch_add(500, Ordering::Relaxed);
    assert_eq!(jobs(&mut client), job("q", "b"));
    client.check(&[
        ("GETJOB TIMEOUT -1 FROM q", "-ERR timeout is negative|"),
        ("GETJOB TIMEOUT x FROM q", "-ERR value is not an integer or out of range|"),
        ("GETJOB NOHANG TIMEOUT 500 FROM q", NOTHING),
    ]);
}

#[test]
fn replies_before_a_wait_leave_and_requests_behind_it_stay() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let (mut client, mut other) = (daemon.client(), daemon.client());
    assert_eq!(pipeline(&mut client, &["PING", "GETJOB FROM q", "ECHO behind"]), "+PONG|");
    assert!(!client.last.again && !client.last.unfinished);
    other.check(&[("SADD q a", ":1|")]);
    let reply = client.wake();
    assert!(reply.starts_with("*1|*3|$1|q|$40|") && reply.ends_with("|$1|a|$6|behind|"), "{reply}");
}

#[test]
fn a_push_in_a_transaction_serves_after_it() {
    for daemon in [Daemon::with_queues(1 << 30, u64::MAX), Daemon::with_lasting_queues()] {
        let (mut client, mut other) = (daemon.client(), daemon.client());
        wait(&mut client, "q");
        other.check(&[
            ("MULTI", "+OK|"),
            ("SADD q a b", "+QUEUED|"),
            ("SPOP q", "+QUEUED|"),
            ("EXEC", "*2|:2|$1|a|"),
            ("SPOP q", "$-1|"),
        ]);
        assert_eq!(jobs(&mut client), job("q", "b"));
        wait(&mut client, "q");
        let exec = ["MULTI", "SADD q c", "SPOP q", "EXEC"];
        assert_eq!(pipeline(&mut other, &exec), "+OK|+QUEUED|+QUEUED|*2|:1|$1|c|");
        assert_eq!(client.wake(), "");
    }
}

#[test]
fn what_has_gone_before_its_client_came_for_it_is_waited_for_on() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let (mut first, mut second, mut other) = (daemon.client(), daemon.client(), daemon.client());
    wait(&mut first, "q");
    wait(&mut second, "q");
    other.check(&[("SADD q a", ":1|"), ("DEL q", ":1|")]);
    assert_eq!(first.wake(), "");
    other.check(&[("SADD q b", ":1|")]);
    assert_eq!(second.wake(), "", "the first one has kept its place");
    assert_eq!(jobs(&mut first), job("q", "b"));
}

/// A push that finds the client with a message hands nothing over, and the client that finds its
/// message gone must look for that push itself.
#[test]
fn what_came_while_the_first_message_was_on_its_way_is_not_overlooked() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let (mut client, mut other) = (daemon.client(), daemon.client());
    wait(&mut client, "q r");
    other.check(&[("SADD q a", ":1|"), ("SADD r b", ":1|"), ("DEL q", ":1|")]);
    assert_eq!(jobs(&mut client), job("r", "b"));
    wait(&mut client, "q");
    other.check(&[("SADD q c", ":1|"), ("DEL q", ":1|"), ("SADD q d", ":1|")]);
    assert_eq!(jobs(&mut client), job("q", "d"));
    other.check(&[("SPOP q", "$-1|"), ("SPOP r", "$-1|")]);
}

#[test]
fn another_client_ends_a_wait() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let mut client = daemon.client_of(NewClient::detached(12));
    let mut other = daemon.client_of(NewClient::detached(13));
    wait(&mut client, "q");
    let list = other.ask("CLIENT LIST ID 12");
    assert!(list.contains(" flags=b ") && list.contains(" cmd=getjob "), "{list}");
    let clients = other.ask("INFO clients");
    assert!(clients.contains("|blocked_clients:1|"), "{clients}");
    other.check(&[("CLIENT UNBLOCK 12", ":1|"), ("CLIENT UNBLOCK 12 error", ":0|")]);
    assert_eq!(client.wake(), NOTHING);
    let reason = "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR|";
    other.check(&[
        ("CLIENT UNBLOCK 12", ":0|"),
        ("CLIENT UNBLOCK 99", ":0|"),
        ("CLIENT UNBLOCK 12 x", reason),
        ("CLIENT UNBLOCK x", "-ERR value is not an integer or out of range|"),
        ("CLIENT UNBLOCK 12 error x", "-ERR syntax error|"),
    ]);
    wait(&mut client, "q");
    other.check(&[("CLIENT UNBLOCK 12 ERROR", ":1|")]);
    assert_eq!(client.wake(), "-UNBLOCKED client unblocked via CLIENT UNBLOCK|");
    other.check(&[("SADD q a", ":1|"), ("SPOP q", "$1|a|")]);
}

/// Notes which clients are woken.
struct Bell {
    id: u64,
    rung: Arc<Mutex<Vec<u64>>>,
}

impl crate::session::ClientHandle for Bell {
    fn wake(&self) {
        self.rung.lock().unwrap().push(self.id);
    }

    fn close(&self) {}
}

#[test]
fn one_message_wakes_one_client() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let (rung, next) = (Arc::new(Mutex::new(Vec::new())), AtomicU64::new(1));
    let mut waiting: Vec<Conversation> = (0..50)
        .map(|_| {
            let id = next.fetch_add(1, Ordering::Relaxed);
            let handle = Arc::new(Bell { id, rung: Arc::clone(&rung) });
            daemon.client_of(NewClient { handle, ..NewClient::detached(id) })
        })
        .collect();
    waiting.iter_mut().for_each(|client| wait(client, "q"));
    daemon.client().check(&[("SADD q a b c", ":3|")]);
    assert_eq!(*rung.lock().unwrap(), [1, 2, 3]);
    let served = waiting.iter_mut().filter_map(|client| jobs(client).pop());
    assert_eq!(served.map(|(_, body)| body).collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn bspop_pops_the_oldest_message_of_the_first_queue_that_has_one() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let (mut client, mut other) = (daemon.client(), daemon.client());
    other.check(&[("SADD q a b c d e", ":5|"), ("SADD r x", ":1|")]);
    client.check(&[
        ("BSPOP none q r 0", "*2|$1|q|$1|a|"),
        ("BSPOP q r 0.5 COUNT 3", "*2|$1|q|*3|$1|b|$1|c|$1|d|"),
        ("BSPOP q 0 count 3", "*2|$1|q|*1|$1|e|"),
        ("BSPOP q r 1", "*2|$1|r|$1|x|"),
    ]);
    client.check(&[("BSPOP q r 0", "")]);
    other.check(&[("SADD r y z", ":2|"), ("SCARD r", ":1|")]);
    assert_eq!(client.wake(), "*2|$1|r|$1|y|");
    client.check(&[("BSPOP s r q 0 COUNT 9", "*2|$1|r|*1|$1|z|"), ("BSPOP r q 0 COUNT 2", "")]);
    other.check(&[("SADD q 1 2 3", ":3|")]);
    assert_eq!(client.wake(), "*2|$1|q|*2|$1|1|$1|2|");
    other.check(&[
        ("SMEMBERS q", "*1|$1|3|"),
        ("COMMAND GETKEYS BSPOP q r 0 COUNT 2", "*2|$1|q|$1|r|"),
        ("MULTI", "+OK|"),
        ("BSPOP none q 0", "+QUEUED|"),
        ("BSPOP none q 0 COUNT 4", "+QUEUED|"),
        ("EXEC", "*2|*2|$1|q|$1|3|*-1|"),
    ]);
}

#[test]
fn bspop_waits_for_fractions_of_a_second() {
    let (clock, time_ms) = set_by_hand();
    let daemon = Daemon::with_queues_at(clock);
    let mut client = daemon.client();
    for (timeout, milliseconds) in [("0.25", 250), ("2", 2000), ("1e-2", 10), ("0.0000001", 1)] {
        client.check(&[(&format!("BSPOP q {timeout}"), "")]);
        time_ms.fetch_add(milliseconds - 1, Ordering::Relaxed);
        assert_eq!(client.wake(), "", "{timeout}");
        time_ms.fetch_add(1, Ordering::Relaxed);
        assert_eq!(client.wake(), NOTHING, "{timeout}");
    }
    client.check(&[
        ("BSPOP q -1", "-ERR timeout is negative|"),
        ("BSPOP q x", "-ERR timeout is not a float or out of range|"),
        ("BSPOP q nan", "-ERR timeout is not a float or out of range|"),
        ("BSPOP q inf", "-ERR timeout is not a float or out of range|"),
        ("BSPOP q 1e300", "-ERR timeout is out of range|"),
        ("BSPOP q 0 COUNT 0", "-ERR count should be greater than 0|"),
        ("BSPOP q 0 COUNT x", "-ERR count should be greater than 0|"),
        ("BSPOP q x COUNT 2", "-ERR timeout is not a float or out of range|"),
    ]);
}
