//! The generator's tests: replies cut anywhere, wrong replies, servers that stand still or lie.

// A failed expectation is how a test fails.
#![allow(clippy::unwrap_used)]

use super::generator::step::{MEMBER_SIZE, Reply, Said, Step};
use super::generator::{self, Plan, Report, Workload};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

fn member(number: u64) -> Vec<u8> {
    let digits = format!("{number:012}");
    [vec![b'x'; MEMBER_SIZE - digits.len()], digits.into()].concat()
}

fn around(head: &str, number: u64, tail: &str) -> Vec<u8> {
    [head.as_bytes(), &member(number), tail.as_bytes()].concat()
}

#[test]
fn a_right_reply_is_known_at_its_last_byte_and_no_earlier() {
    let message = |job| Said::Message { number: 42, job };
    let cases = [
        (Step::Sadd, 0, b":1\r\n".to_vec(), Said::Done),
        (Step::Sadd, 0, b":0\r\n".to_vec(), Said::Miss),
        (Step::Spop, 0, b"$-1\r\n".to_vec(), Said::Miss),
        (Step::Spop, 0, around("$100\r\n", 42, "\r\n"), message(0)),
        (Step::Set, 42, b"STORED\r\n".to_vec(), Said::Done),
        (Step::Get, 42, around("VALUE k000000000042 0 100\r\n", 42, "\r\nEND\r\n"), message(0)),
        (Step::Put, 42, b"INSERTED 7\r\n".to_vec(), Said::Done),
        (Step::Reserve, 0, around("RESERVED 7 100\r\n", 42, "\r\n"), message(7)),
        (Step::Delete, 7, b"DELETED\r\n".to_vec(), Said::Done),
    ];
    for (step, number, reply, said) in cases {
        for length in 0..reply.len() {
            assert_eq!(step.reply(number, &reply[..length]), Reply::Partial, "{step:?}");
        }
        let followed = [&reply[..], b"more"].concat();
        assert_eq!(step.reply(number, &followed), Reply::Right(reply.len(), said), "{step:?}");
    }
}

#[test]
fn any_other_reply_is_wrong() {
    let cases = [
        (Step::Sadd, b"-ERR no\r\n".to_vec()),
        (Step::Sadd, b":2\r\n".to_vec()),
        (Step::Spop, around("$100\r\n", 42, "\n\n")),
        (Step::Spop, b"-ERR no\r\n".to_vec()),
        (Step::Spop, [b"$100\r\n", &[b'x'; 100][..], b"\r\n"].concat()),
        (Step::Set, b"NOT_STORED\r\n".to_vec()),
        (Step::Get, b"END\r\n".to_vec()),
        (Step::Get, around("VALUE k000000000042 0 100\r\n", 43, "\r\nEND\r\n")),
        (Step::Put, b"BURIED 7\r\n".to_vec()),
        (Step::Reserve, around("RESERVED 7 101\r\n", 42, "\r\n")),
        (Step::Delete, b"NOT_FOUND\r\n".to_vec()),
    ];
    for (step, reply) in cases {
        assert_eq!(step.reply(42, &reply), Reply::Wrong, "{step:?} {}", reply.escape_ascii());
    }
}

#[test]
fn a_command_is_as_long_as_it_says() {
    let mut out = Vec::new();
    Step::Sadd.encode(42, &mut out);
    let head = "*3\r\n$4\r\nSADD\r\n$1\r\nq\r\n$100\r\n";
    assert_eq!(out, around(head, 42, "\r\n"));
}

/// A server that reads requests of `Sadd` and answers each with `reply`, the first one after
/// `pause`.
fn serve(pause: Duration, reply: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = move |mut client: TcpStream| {
        let mut request = Vec::new();
        Step::Sadd.encode(0, &mut request);
        thread::sleep(pause);
        // Until the client goes.
        while client.read_exact(&mut request).is_ok() && client.write_all(reply).is_ok() {}
    };
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            client.set_nodelay(true).unwrap();
            thread::spawn(move || answer(client));
        }
    });
    address
}

fn load(address: SocketAddr, requests: u64, rate: Option<f64>) -> Report {
    let plan = Plan {
        address,
        workload: Workload::Sadd,
        connections: 2,
        pipeline: 4,
        threads: 2,
        requests,
        duration: Duration::from_secs(60),
        rate,
        random_below: None,
        first: 0,
    };
    generator::run(&plan).unwrap()
}

#[test]
fn every_request_of_the_budget_is_sent_and_counted_once() {
    let report = load(serve(Duration::ZERO, b":1\r\n"), 1001, None);
    assert_eq!((report.requests, report.errors, report.pushed.count), (1001, 0, 1001));
}

#[test]
fn a_wrong_reply_is_an_error_and_ends_its_connection() {
    let report = load(serve(Duration::ZERO, b"-ERR no\r\n"), 1001, None);
    assert_eq!((report.requests, report.errors), (0, 2));
    assert!(report.first_error.unwrap().contains("-ERR no"));
}

#[test]
fn a_server_that_goes_away_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    let report = load(address, 10, None);
    assert_eq!((report.requests, report.errors), (0, 2));
}

#[test]
fn a_message_that_was_queued_already_is_wrong_where_all_are_distinct() {
    let report = load(serve(Duration::ZERO, b":0\r\n"), 10, None);
    assert_eq!((report.requests, report.errors), (0, 2));
}

/// The server stands still for 300 ms while a request is due in each millisecond. They cannot all
/// be sent, because only eight may be in flight; yet each must count from when it was due.
#[test]
fn an_open_loop_counts_the_time_in_which_it_could_not_send() {
    let report = load(serve(Duration::from_millis(300), b":1\r\n"), 300, Some(1000.0));
    assert_eq!((report.requests, report.errors), (300, 0));
    assert!(report.latency_us(0.5) > 100_000.0, "{} us", report.latency_us(0.5));
}
