//! Commands on values that read and change in one step, on parts of them, and on several at once.

use super::{Daemon, kv_client, queue_client};
use crate::clock::set_by_hand;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn a_value_is_read_and_changed_in_one_step() {
    kv_client().check(&[
        ("GETSET k a", "$-1|"),
        ("GETSET k b", "$1|a|"),
        ("GETDEL k", "$1|b|"),
        ("GETDEL k", "$-1|"),
        ("GETEX k", "$-1|"),
        ("GET k", "$-1|"),
    ]);
}

#[test]
fn setex_and_getex_set_times_of_expiry() {
    let (clock, time_ms) = set_by_hand();
    let mut client = Daemon::with_kv_at(clock).client();
    client.check(&[
        ("SETEX k 10 v", "+OK|"),
        ("TTL k", ":10|"),
        ("EXPIRETIME k", ":1700000010|"),
        ("PEXPIRETIME k", ":1700000010123|"),
        ("PSETEX k 1500 v", "+OK|"),
        ("PTTL k", ":1500|"),
        ("GETEX k EX 20", "$1|v|"),
        ("PTTL k", ":20000|"),
        ("GETEX k PXAT 1700000001123", "$1|v|"),
        ("PTTL k", ":1000|"),
        ("GETEX k PERSIST", "$1|v|"),
        ("TTL k", ":-1|"),
        ("EXPIRETIME k", ":-1|"),
        ("EXPIREAT k 1700000009 NX", ":1|"),
        ("PTTL k", ":8877|"),
        ("PEXPIREAT k 1700000000623 GT", ":0|"),
        ("PEXPIREAT k 1700000000623 LT", ":1|"),
        ("PTTL k", ":500|"),
        ("GETSET k w", "$1|v|"),
        ("TTL k", ":-1|"),
        ("EXPIREAT k 1", ":1|"),
        ("EXISTS k", ":0|"),
        ("TTL k", ":-2|"),
        ("PEXPIRETIME k", ":-2|"),
    ]);
    client.check(&[("SETEX k 1 v", "+OK|"), ("APPEND k w", ":2|")]);
    time_ms.fetch_add(1000, Relaxed);
    client.check(&[
        ("GET k", "$-1|"),
        ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command|"),
        ("PSETEX k -1 v", "-ERR invalid expire time in 'psetex' command|"),
        ("SETEX k x v", "-ERR value is not an integer or out of range|"),
        ("SETEX k 9223372036854775807 v", "-ERR invalid expire time in 'setex' command|"),
        ("SET k v", "+OK|"),
        ("GETEX k EX 0", "-ERR invalid expire time in 'getex' command|"),
        ("GETEX k EX 1 EX x", "-ERR value is not an integer or out of range|"),
        ("TTL k", ":-1|"),
        ("GETEX k EX x EX 7", "$1|v|"),
        ("TTL k", ":7|"),
        ("GETEX k EX", "-ERR syntax error|"),
        ("GETEX k XX 1", "-ERR syntax error|"),
        ("GETEX k PERSIST EX 1", "-ERR syntax error|"),
        ("GETEX k EX 1 PX 1", "-ERR syntax error|"),
        ("GETEX none EX 0", "$-1|"),
        ("GETEX none PXAT x", "$-1|"),
        ("GETEX none EX", "-ERR syntax error|"),
        ("EXPIREAT k 9223372036854775807", "-ERR invalid expire time in 'expireat' command|"),
    ]);
}

#[test]
fn parts_of_a_value_are_read_and_written() {
    kv_client().check(&[
        ("SETRANGE k 3 b", ":4|"),
        ("GET k", "$4|\0\0\0b|"),
        ("SETRANGE k 0 Hello", ":5|"),
        ("SETRANGE k 1 a", ":5|"),
        ("GETRANGE k 0 -1", "$5|Hallo|"),
        ("GETRANGE k -3 -2", "$2|ll|"),
        ("GETRANGE k 1 1", "$1|a|"),
        ("GETRANGE k -100 100", "$5|Hallo|"),
        ("GETRANGE k 3 1", "$0||"),
        ("GETRANGE k 5 9", "$0||"),
        ("GETRANGE k -9223372036854775808 -9223372036854775808", "$1|H|"),
        ("GETRANGE none 0 -1", "$0||"),
        ("SETRANGE none 5 \"\"", ":0|"),
        ("EXISTS none", ":0|"),
        ("SETRANGE k -1 x", "-ERR offset is out of range|"),
        ("SETRANGE k 1048576 x", "-ERR string exceeds maximum allowed size (--max-message)|"),
        (
            "SETRANGE k 9223372036854775807 x",
            "-ERR string exceeds maximum allowed size (--max-message)|",
        ),
        ("STRLEN k", ":5|"),
    ]);
}

#[test]
fn incrbyfloat_adds_exactly() {
    kv_client().check(&[
        ("INCRBYFLOAT k 0.1", "$3|0.1|"),
        ("INCRBYFLOAT k 0.2", "$3|0.3|"),
        ("INCRBYFLOAT k -0.3", "$1|0|"),
        ("SET k 5.0e3", "+OK|"),
        ("INCRBYFLOAT k 2.0e2", "$4|5200|"),
        ("SETEX k 100 1", "+OK|"),
        ("INCRBYFLOAT k 1", "$1|2|"),
        ("TTL k", ":100|"),
        ("INCRBYFLOAT k x", "-ERR value is not a valid float|"),
        ("SET k x", "+OK|"),
        ("INCRBYFLOAT k 1", "-ERR value is not a valid float|"),
        ("SET k 1.5e21", "+OK|"),
        ("INCRBYFLOAT k 1.5e21", "$22|3000000000000000000000|"),
        ("INCRBYFLOAT k -inf", "-ERR increment would produce NaN or Infinity|"),
        ("INCRBYFLOAT k 1e4932", "-ERR value is not a valid float|"),
        ("SET k 9e4931", "+OK|"),
        ("INCRBYFLOAT k 9e4931", "-ERR increment would produce NaN or Infinity|"),
        ("GET k", "$6|9e4931|"),
    ]);
}

#[test]
fn msetnx_sets_all_or_none() {
    kv_client().check(&[
        ("MSETNX a 1 b 2", ":1|"),
        ("MSETNX b 3 c 4", ":0|"),
        ("MGET a b c", "*3|$1|1|$1|2|$-1|"),
        ("MSETNX a", "-ERR wrong number of arguments for 'msetnx' command|"),
        ("MSETNX c 1 d", "-ERR wrong number of arguments for 'msetnx' command|"),
        ("MSET c 1 c 2", "+OK|"),
        ("GET c", "$1|2|"),
        ("FLUSHALL", "+OK|"),
        ("MSET e 1 c 1 g 1 a 1 d 1 b 1 f 1", "+OK|"),
        ("KEYS *", "*7|$1|e|$1|c|$1|g|$1|a|$1|d|$1|b|$1|f|"),
    ]);
}

/// What does not fit is not half done.
#[test]
fn mset_of_more_than_there_is_room_for_sets_nothing() {
    let mut client = Daemon::with_kv(450).client();
    client.check(&[
        ("SET a 1", "+OK|"),
        ("MSET a 2 b 2 c 2", "-OOM out of memory: the limit is 450 bytes (--max-memory)|"),
        ("MGET a b c", "*3|$1|1|$-1|$-1|"),
        ("MSET a 2 b 2", "+OK|"),
    ]);
}

#[test]
fn a_queue_never_expires() {
    queue_client().check(&[
        ("TTL q", ":-2|"),
        ("SADD q a", ":1|"),
        ("TTL q", ":-1|"),
        ("PTTL q", ":-1|"),
        ("EXPIRETIME q", ":-1|"),
        ("PEXPIRETIME q", ":-1|"),
        ("EXPIREAT q 1", "-ERR EXPIREAT needs the key/value store (--store kv)|"),
        ("GETDEL q", "-WRONGTYPE Operation against a key holding the wrong kind of value|"),
    ]);
}
