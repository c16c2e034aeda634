//! The commands of the key/value store.

use super::slices::Turns;
use super::{Daemon, kv_client, request};
use crate::clock::set_by_hand;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::Duration;

const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range|";
const INVALID_TIME: &str = "-ERR invalid expire time in 'set' command|";

#[test]
fn values_are_set_and_answered() {
    kv_client().check(&[
        ("GET k", "$-1|"),
        ("SET k v", "+OK|"),
        ("GET k", "$1|v|"),
        ("SET k \"\"", "+OK|"),
        ("GET k", "$0||"),
        ("SETNX k w", ":0|"),
        ("SETNX n w", ":1|"),
        ("MSET a 1 b 2 a 3", "+OK|"),
        ("MGET a none b", "*3|$1|3|$-1|$1|2|"),
        ("MSET a", "-ERR wrong number of arguments for 'mset' command|"),
        ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command|"),
        ("APPEND p ab", ":2|"),
        ("APPEND p c", ":3|"),
        ("GET p", "$3|abc|"),
        ("STRLEN p", ":3|"),
        ("STRLEN none", ":0|"),
    ]);
}

#[test]
fn set_obeys_its_conditions() {
    kv_client().check(&[
        ("SET k v XX", "$-1|"),
        ("SET k v nx", "+OK|"),
        ("SET k w NX", "$-1|"),
        ("SET k w NX GET", "$1|v|"),
        ("GET k", "$1|v|"),
        ("SET k w XX GET", "$1|v|"),
        ("GET k", "$1|w|"),
        ("SET n v NX GET", "$-1|"),
        ("GET n", "$1|v|"),
        ("SET none v XX GET", "$-1|"),
        ("EXISTS none", ":0|"),
        ("SET k v NX XX", "-ERR syntax error|"),
        ("SET k v FOO", "-ERR syntax error|"),
        ("SET k v FOO 1", "-ERR syntax error|"),
    ]);
}

#[test]
fn set_sets_or_keeps_the_time_of_expiry() {
    kv_client().check(&[
        ("SET k v EX 100", "+OK|"),
        ("TTL k", ":100|"),
        ("SET k w KEEPTTL", "+OK|"),
        ("TTL k", ":100|"),
        ("SET k w", "+OK|"),
        ("TTL k", ":-1|"),
        ("SET k v PX 5000", "+OK|"),
        ("TTL k", ":5|"),
        ("SET k v EXAT 99999999999", "+OK|"),
        ("PERSIST k", ":1|"),
        ("SET k v PXAT 1", "+OK|"),
        ("GET k", "$-1|"),
        ("SET k v EX", "-ERR syntax error|"),
        ("SET k v EX 10 PX 10", "-ERR syntax error|"),
        ("SET k v KEEPTTL EX 10", "-ERR syntax error|"),
        ("SET k v EX 10 KEEPTTL", "-ERR syntax error|"),
        ("SET k v EX x", NOT_AN_INTEGER),
        ("SET k v EX 0", INVALID_TIME),
        ("SET k v PX -1", INVALID_TIME),
        ("SET k v EX 9223372036854775807", INVALID_TIME),
        ("SET k v PX 9223372036854775807", INVALID_TIME),
    ]);
}

/// By a clock that went on while a conversation was cut into many reads, a value was there in the
/// whole one and gone in the other: found by fuzzing.
#[test]
fn a_value_expires_when_the_clock_says_so_and_however_it_is_cut() {
    let set_and_get = b"SET k v\r\nPEXPIRE k 1\r\nGET k\r\nPTTL k\r\n";
    let (clock, time_ms) = set_by_hand();
    let mut whole = Daemon::with_kv_at(clock.clone()).client();
    let mut cut = Daemon::with_kv_at(clock).client();
    let replies = whole.raw(set_and_get);
    assert_eq!(replies, b"+OK\r\n:1\r\n$1\r\nv\r\n:1\r\n");
    let mut pieces = Vec::new();
    for line in set_and_get.split_inclusive(|byte| *byte == b'\n') {
        sleep(Duration::from_millis(2));
        pieces.extend(cut.raw(line));
    }
    assert_eq!(pieces, replies, "the clock has not moved");
    time_ms.fetch_add(1, Relaxed);
    for client in [&mut whole, &mut cut] {
        client.check(&[("GET k", "$-1|"), ("PTTL k", ":-2|"), ("EXISTS k", ":0|")]);
    }
}

#[test]
fn time_and_all_times_of_expiry_are_of_one_clock() {
    let (clock, time_ms) = set_by_hand();
    let mut client = Daemon::with_kv_at(clock).client();
    client.check(&[
        ("TIME", "*2|$10|1700000000|$6|123000|"),
        ("SET k v PX 1", "+OK|"),
        ("SET l v EX 1", "+OK|"),
        ("SET m v PXAT 1700000001124", "+OK|"),
        ("SET n v EXAT 1700000002", "+OK|"),
        ("EXISTS k l m n", ":4|"),
        ("TTL l", ":1|"),
        ("PTTL n", ":1877|"),
    ]);
    let steps = [(1, ":3|"), (998, ":3|"), (1, ":2|"), (1, ":1|"), (875, ":1|"), (1, ":0|")];
    for (step_ms, left) in steps {
        time_ms.fetch_add(step_ms, Relaxed);
        client.check(&[("EXISTS k l m n", left)]);
    }
    client.check(&[("TIME", "*2|$10|1700000002|$1|0|")]);
}

#[test]
fn expiry_is_shown_changed_and_taken_away() {
    kv_client().check(&[
        ("TTL k", ":-2|"),
        ("PTTL k", ":-2|"),
        ("EXPIRE k 10", ":0|"),
        ("SET k v", "+OK|"),
        ("TTL k", ":-1|"),
        ("PTTL k", ":-1|"),
        ("EXPIRE k 10", ":1|"),
        ("TTL k", ":10|"),
        ("EXPIRE k 20 NX", ":0|"),
        ("EXPIRE k 5 GT", ":0|"),
        ("EXPIRE k 20 GT", ":1|"),
        ("EXPIRE k 30 LT", ":0|"),
        ("EXPIRE k 5 xx lt", ":1|"),
        ("PERSIST k", ":1|"),
        ("PERSIST k", ":0|"),
        ("EXPIRE k 10 XX", ":0|"),
        ("EXPIRE k 10 GT", ":0|"),
        ("PEXPIRE k 1500 LT", ":1|"),
        ("EXPIRE k -1", ":1|"),
        ("EXISTS k", ":0|"),
    ]);
    let incompatible = "options at the same time are not compatible|";
    kv_client().check(&[
        ("EXPIRE k x", NOT_AN_INTEGER),
        ("EXPIRE k 5 foo", "-ERR Unsupported option foo|"),
        ("EXPIRE k 5 NX XX", &format!("-ERR NX and XX, GT or LT {incompatible}")),
        ("EXPIRE k 5 GT LT", &format!("-ERR GT and LT {incompatible}")),
        ("EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command|"),
        ("EXPIRE k -9223372036854775808", "-ERR invalid expire time in 'expire' command|"),
        ("PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command|"),
    ]);
}

#[test]
fn counters_count_within_64_bits() {
    kv_client().check(&[
        ("INCR n", ":1|"),
        ("INCRBY n 10", ":11|"),
        ("DECR n", ":10|"),
        ("DECRBY n 15", ":-5|"),
        ("GET n", "$2|-5|"),
        ("EXPIRE n 100", ":1|"),
        ("INCR n", ":-4|"),
        ("TTL n", ":100|"),
        ("INCRBY n 1.5", NOT_AN_INTEGER),
        ("DECRBY n -9223372036854775808", "-ERR decrement would overflow|"),
        ("SET n 9223372036854775807", "+OK|"),
        ("INCR n", "-ERR increment or decrement would overflow|"),
        ("GET n", "$19|9223372036854775807|"),
        ("SET n 01", "+OK|"),
        ("INCR n", NOT_AN_INTEGER),
        ("INCRBY n", "-ERR wrong number of arguments for 'incrby' command|"),
    ]);
}

#[test]
fn full_memory_refuses_a_set_and_shows_no_half_reply() {
    let mut client = Daemon::with_kv(250).client();
    let full = "-OOM out of memory: the limit is 250 bytes (--max-memory)|";
    let large = "x".repeat(100);
    client.check(&[
        ("SET k v", "+OK|"),
        (&format!("SET k {large} GET"), full),
        (&format!("APPEND k {large}"), full),
        ("SET other v", full),
        ("GET k", "$1|v|"),
        ("DEL k", ":1|"),
        ("SET other v", "+OK|"),
    ]);
}

#[test]
fn a_value_does_not_grow_beyond_the_largest_message() {
    let mut client = kv_client();
    let large = vec![b'x'; 1 << 20];
    assert_eq!(client.raw(&request(&[b"APPEND", b"k", &large])), b":1048576\r\n");
    let refusal = "-ERR string exceeds maximum allowed size (--max-message)|";
    client.check(&[("APPEND k x", refusal), ("STRLEN k", ":1048576|")]);
}

/// A pipeline of a thousand changes of a value of 16 MiB was one turn of ten seconds.
#[test]
fn a_value_that_is_copied_counts_for_the_turn() {
    let value = "x".repeat(500_000);
    for line in ["APPEND k x", "SETRANGE k 7 x"] {
        let daemon = Daemon::with_kv(1 << 30);
        let command = |line: &str| -> Vec<u8> {
            request(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
        };
        let set = command(&format!("SET k {value}"));
        let (_, alone) = Turns::new(&daemon, set.repeat(50)).finish();
        let both = [set, command(line)].concat();
        let (_, count) = Turns::new(&daemon, both.repeat(50)).finish();
        assert!(count > alone + 5, "{line}: {count} turns, {alone} for what is set");
    }
}
