//! Transcripts against the key/value store.

use super::{Client, kv, play, shared};
use crate::clock::set_by_hand;
use crate::kv::Kv;
use crate::session::{ClientLimits, OUTPUT_PIECE, Session, Settings, Shared, Store};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn values_are_stored_under_the_conditions_of_each_verb() {
    play(
        kv,
        &[
            ("replace k 0 0 1\r\na\r\n", "NOT_STORED\r\n"),
            ("append k 0 0 1\r\na\r\n", "NOT_STORED\r\n"),
            ("prepend k 0 0 1\r\na\r\n", "NOT_STORED\r\n"),
            ("add k 7 0 1\r\nb\r\n", "STORED\r\n"),
            ("add k 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
            ("append k 9 0 2\r\n\r\n\r\n", "STORED\r\n"),
            ("prepend k 0 0 1\r\na\r\n", "STORED\r\n"),
            ("get k\r\n", "VALUE k 7 4\r\nab\r\n\r\nEND\r\n"),
            ("replace k 1 0 0\r\n\r\n", "STORED\r\n"),
            ("get k none k\r\n", "VALUE k 1 0\r\n\r\nVALUE k 1 0\r\n\r\nEND\r\n"),
            ("set k 4294967295 0 1 noreply\r\nz\r\n", ""),
            ("get k\r\n", "VALUE k 4294967295 1\r\nz\r\nEND\r\n"),
            ("delete k\r\n", "DELETED\r\n"),
            ("delete k\r\n", "NOT_FOUND\r\n"),
            ("delete k 0\r\n", "NOT_FOUND\r\n"),
            ("delete k 0 noreply\r\n", ""),
            ("get k\r\n", "END\r\n"),
        ],
    );
}

#[test]
fn cas_stores_only_over_the_value_that_was_read() {
    play(
        kv,
        &[
            ("cas k 0 0 1 1\r\na\r\n", "NOT_FOUND\r\n"),
            ("set k 0 0 1\r\na\r\n", "STORED\r\n"),
            ("gets k\r\n", "VALUE k 0 1 1\r\na\r\nEND\r\n"),
            ("cas k 3 0 1 1\r\nb\r\n", "STORED\r\n"),
            ("cas k 0 0 1 1\r\nc\r\n", "EXISTS\r\n"),
            ("cas k 0 0 1 1 noreply\r\nc\r\n", ""),
            ("gets k\r\n", "VALUE k 3 1 2\r\nb\r\nEND\r\n"),
        ],
    );
}

#[test]
fn numbers_wrap_around_upwards_and_stop_at_zero() {
    play(
        kv,
        &[
            ("incr n 1\r\n", "NOT_FOUND\r\n"),
            ("set n 5 0 2\r\n10\r\n", "STORED\r\n"),
            ("incr n 1\r\n", "11\r\n"),
            ("decr n 2\r\n", "9\r\n"),
            ("incr n 1 noreply\r\n", ""),
            ("get n\r\n", "VALUE n 5 2\r\n10\r\nEND\r\n"),
            ("decr n 11\r\n", "0\r\n"),
            ("incr n 18446744073709551615\r\n", "18446744073709551615\r\n"),
            ("incr n 2\r\n", "1\r\n"),
            ("set n 0 0 1\r\nx\r\n", "STORED\r\n"),
            ("incr n 1\r\n", "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
            ("decr n 1\r\n", "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
        ],
    );
}

#[test]
fn times_of_expiry_are_never_relative_absolute_or_past() {
    play(
        kv,
        &[
            ("set a 0 -1 1\r\nx\r\n", "STORED\r\n"),
            ("set b 0 2592001 1\r\nx\r\n", "STORED\r\n"),
            ("set c 0 2592000 1\r\nx\r\n", "STORED\r\n"),
            ("set d 0 4102444800 1\r\nx\r\n", "STORED\r\n"),
            ("get a b c d\r\n", "VALUE c 0 1\r\nx\r\nVALUE d 0 1\r\nx\r\nEND\r\n"),
            ("touch a 0\r\n", "NOT_FOUND\r\n"),
            ("touch c 0\r\n", "TOUCHED\r\n"),
            ("touch c 0 noreply\r\n", ""),
            ("gat 100 c none d\r\n", "VALUE c 0 1\r\nx\r\nVALUE d 0 1\r\nx\r\nEND\r\n"),
            ("gats 0 c\r\n", "VALUE c 0 1 1\r\nx\r\nEND\r\n"),
            ("touch c -1\r\n", "TOUCHED\r\n"),
            ("gat -1 d\r\n", "VALUE d 0 1\r\nx\r\nEND\r\n"),
            ("get c d\r\n", "END\r\n"),
        ],
    );
}

#[test]
fn flush_all_empties_the_store_now() {
    play(
        kv,
        &[
            ("set a 0 0 1\r\nx\r\n", "STORED\r\n"),
            ("flush_all\r\n", "OK\r\n"),
            ("get a\r\n", "END\r\n"),
            ("set a 0 0 1\r\nx\r\n", "STORED\r\n"),
            ("flush_all 0 noreply\r\n", ""),
            ("get a\r\n", "END\r\n"),
            ("set a 0 0 1\r\nx\r\n", "STORED\r\n"),
            ("flush_all -1\r\n", "OK\r\n"),
            ("get a\r\n", "END\r\n"),
        ],
    );
}

#[test]
fn flush_all_with_a_delay_takes_what_was_stored_until_then() {
    let (clock, time_ms) = set_by_hand();
    let mut client = Client::new(&shared(Store::Kv(Arc::new(Kv::new(1 << 20).with_clock(clock)))));
    assert_eq!(client.ask(b"set a 0 0 1\r\nx\r\nflush_all 1\r\n"), b"STORED\r\nOK\r\n");
    assert_eq!(
        client.ask(b"set b 0 0 1\r\nx\r\nget a\r\n"),
        b"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n"
    );
    time_ms.fetch_add(1000, Relaxed);
    assert_eq!(client.ask(b"set c 0 0 1\r\nx\r\n"), b"STORED\r\n");
    assert_eq!(client.ask(b"get a b c\r\n"), b"VALUE c 0 1\r\nx\r\nEND\r\n");
}

#[test]
fn the_ancestors_queue_commands_say_what_they_need() {
    play(
        kv,
        &[
            ("scard q\r\n", "SERVER_ERROR scard needs a queue store (--store disk|memory)\r\n"),
            (
                "sismember q 0 0 9\r\nflush_all\r\n",
                "SERVER_ERROR sismember needs a queue store (--store disk|memory)\r\n",
            ),
        ],
    );
}

#[test]
fn a_value_may_not_grow_over_the_limit() {
    let half = format!("set k 0 0 60\r\n{}\r\n", "x".repeat(60));
    let grow = format!("append k 0 0 60\r\n{}\r\n", "x".repeat(60));
    play(
        kv,
        &[
            (&half, "STORED\r\n"),
            (&grow, "SERVER_ERROR object too large for cache\r\n"),
            (&grow.replace("append", "prepend"), "SERVER_ERROR object too large for cache\r\n"),
        ],
    );
}

#[test]
fn a_full_store_refuses_and_keeps_what_it_has() {
    let full = || shared(Store::Kv(Arc::new(Kv::new(300))));
    play(
        full,
        &[
            ("set a 0 0 1\r\nx\r\n", "STORED\r\n"),
            (
                "set b 0 0 1\r\nx\r\n",
                "SERVER_ERROR out of memory: the limit is 300 bytes (--max-memory)\r\n",
            ),
            ("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n"),
        ],
    );
}

/// Each piece is bounded (`Client::ask` holds that), and nothing of the reply is lost or doubled.
#[test]
fn a_get_of_very_many_keys_is_answered_in_pieces() {
    let mut client = Client::new(&kv());
    client.ask(format!("set k 0 0 90\r\n{}\r\n", "x".repeat(90)).as_bytes());
    let value = format!("VALUE k 0 90\r\n{}\r\n", "x".repeat(90));
    let count = 5000;
    let line = format!("get {}\r\nget none\r\n", "k ".repeat(count));
    let answer = client.ask(line.as_bytes());
    assert!(answer.len() > 3 * OUTPUT_PIECE);
    let expected = format!("{}END\r\nEND\r\n", value.repeat(count));
    assert!(answer == expected.as_bytes());
}

/// memcached itself leaves such values behind, where `decr` makes a number shorter.
#[test]
fn a_number_may_have_spaces_around_it() {
    for padded in ["9 ", " 9", "9   ", " 9 "] {
        let set = format!("set n 0 0 {}\r\n{padded}\r\n", padded.len());
        play(kv, &[(&set, "STORED\r\n"), ("incr n 1\r\n", "10\r\n"), ("decr n 3\r\n", "7\r\n")]);
    }
    let refusal = "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
    play(kv, &[("set n 0 0 3\r\n1 2\r\n", "STORED\r\n"), ("incr n 1\r\n", refusal)]);
}

/// A reader would take the old value for the new one.
#[test]
fn a_set_that_is_refused_for_its_size_leaves_no_old_value() {
    let large = "x".repeat(101);
    for (noreply, answer) in [("", "SERVER_ERROR object too large for cache\r\n"), (" noreply", "")]
    {
        let refused = |verb: &str| format!("{verb} k 0 0 101{noreply}\r\n{large}\r\n");
        let (set, add, replace) = (refused("set"), refused("add"), refused("replace"));
        let kept = "VALUE k 0 3\r\nold\r\nEND\r\n";
        play(
            kv,
            &[
                ("set k 0 0 3\r\nold\r\n", "STORED\r\n"),
                (&add, answer),
                (&replace, answer),
                ("get k\r\n", kept),
                (&set, answer),
                ("get k\r\n", "END\r\n"),
            ],
        );
    }
    let small = || shared(Store::Kv(Arc::new(Kv::new(250))));
    let stored = "SERVER_ERROR out of memory: the limit is 250 bytes (--max-memory)\r\n";
    let too_much = format!("set k 0 0 90\r\n{}\r\n", "x".repeat(90));
    play(
        small,
        &[("set k 0 0 3\r\nold\r\n", "STORED\r\n"), (&too_much, stored), ("get k\r\n", "END\r\n")],
    );
}

/// A thousand of them to a value of 16 MiB were one turn of ten seconds.
#[test]
fn a_value_that_is_copied_counts_for_the_turn() {
    for verb in ["append", "prepend"] {
        let store = Store::Kv(Arc::new(Kv::new(1 << 30)));
        let mut client = Client::new(&Arc::new(Shared::new(
            store,
            Settings::default(),
            Arc::new(ClientLimits::default()),
        )));
        client.ask(format!("set k 0 0 1000000\r\n{}\r\n", "x".repeat(1_000_000)).as_bytes());
        let (mut input, mut turns) = (format!("{verb} k 0 0 1\r\ny\r\n").repeat(20), 0);
        while !input.is_empty() {
            let advance = client.session.advance(input.as_bytes(), &mut Vec::new());
            input.drain(..advance.consumed);
            turns += 1;
        }
        assert!(turns > 5, "{verb}: {turns} turns");
    }
}
