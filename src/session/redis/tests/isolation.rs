//! Several clients at once: transactions are alone, and a panic stops nobody.

use super::{Daemon, pipeline};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn between_the_commands_of_a_transaction_no_other_client_runs() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    daemon.client().check(&[("SADD left x", ":1|")]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut mover = daemon.client();
            for _ in 0..500 {
                let moves = ["MULTI", "SPOP left", "SADD right x", "SPOP right", "SADD left x"];
                moves.iter().for_each(|line| drop(mover.ask(line)));
                assert_eq!(mover.ask("EXEC"), "*4|$1|x|:1|$1|x|:1|");
            }
            stop.store(true, Ordering::Relaxed);
        });
        let mut reader = daemon.client();
        while !stop.load(Ordering::Relaxed) {
            reader.check(&[("EXISTS right", ":0|"), ("SCARD left", ":1|")]);
        }
    });
}

/// Counts a queue many times in one transaction, until the others stop.
fn count_alone(daemon: &Daemon, stop: &AtomicBool) {
    let mut reader = daemon.client();
    while !stop.load(Ordering::Relaxed) {
        reader.ask("MULTI");
        (0..50).for_each(|_| drop(reader.ask("SCARD q")));
        let reply = reader.ask("EXEC");
        let (_, counts) = reply.split_once('|').unwrap();
        assert_eq!(counts, counts[..3].repeat(50), "between two commands");
    }
}

#[test]
fn a_transaction_is_alone_beside_commands_that_run_in_a_row() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = daemon.client();
            let lines = ["SADD q a", "SADD q b", "SPOP q", "SPOP q"].repeat(200);
            for _ in 0..100 {
                assert_eq!(pipeline(&mut writer, &lines), ":1|:1|$1|a|$1|b|".repeat(200));
            }
            stop.store(true, Ordering::Relaxed);
        });
        count_alone(&daemon, &stop);
    });
}

/// What it was handed came back between two commands.
#[test]
fn a_transaction_is_alone_beside_clients_that_go_while_they_wait() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut pusher = daemon.client();
            for _ in 0..2000 {
                let mut waiter = daemon.client();
                assert_eq!(waiter.ask("BSPOP q 0"), "");
                pusher.check(&[("SADD q a", ":1|"), ("SCARD q", ":0|")]);
                drop(waiter);
                pusher.check(&[("SPOP q", "$1|a|")]);
            }
            stop.store(true, Ordering::Relaxed);
        });
        count_alone(&daemon, &stop);
    });
}

#[test]
fn mset_is_never_seen_half_done() {
    let daemon = Daemon::with_kv(1 << 30);
    daemon.client().check(&[("MSET a 0 b 0", "+OK|")]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = daemon.client();
            for turn in 0..1000 {
                writer.ask(&format!("MSET a {turn} b {turn}"));
            }
            stop.store(true, Ordering::Relaxed);
        });
        let mut reader = daemon.client();
        while !stop.load(Ordering::Relaxed) {
            let reply = reader.ask("MGET a b");
            let parts: Vec<&str> = reply.split('|').collect();
            assert_eq!(parts[2], parts[4], "{reply}");
        }
    });
}

#[test]
fn a_panic_under_the_gate_does_not_stop_other_clients() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let shared = Arc::clone(&daemon.shared);
    let panicked = std::thread::spawn(move || {
        let _gate = shared.gate.write();
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    daemon.client().check(&[
        ("SADD q a", ":1|"),
        ("MULTI", "+OK|"),
        ("SPOP q", "+QUEUED|"),
        ("EXEC", "*1|$1|a|"),
    ]);
}
