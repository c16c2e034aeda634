//! The commands of queues, with their errors, in both versions of the protocol.

use super::{Daemon, kv_client, queue_client, request};

#[test]
fn what_is_pushed_is_popped_in_order_and_only_once() {
    queue_client().check(&[
        ("SADD q a b a", ":2|"),
        ("sadd q b c", ":1|"),
        ("SCARD q", ":3|"),
        ("SPOP q", "$1|a|"),
        ("SADD q a", ":1|"),
        ("SPOP q 2", "*2|$1|b|$1|c|"),
        ("SPOP q 0", "*0|"),
        ("SPOP q 9223372036854775807", "*1|$1|a|"),
        ("SPOP q", "$-1|"),
        ("SPOP q 2", "*0|"),
        ("SCARD q", ":0|"),
        ("SADD q \"\"", ":1|"),
        ("SPOP q", "$0||"),
    ]);
}

#[test]
fn a_message_is_any_bytes() {
    let mut client = queue_client();
    let body: Vec<u8> = (0..=255).chain(*b"\r\n$3\r\n").collect();
    assert_eq!(client.raw(&request(&[b"SADD", b"\0\r\n", &body])), b":1\r\n");
    let expected = [b"$262\r\n".as_slice(), &body, b"\r\n"].concat();
    assert_eq!(client.raw(&request(&[b"SPOP", b"\0\r\n"])), expected);
}

#[test]
fn spop_refuses_a_count_that_is_none() {
    let out_of_range = "-ERR value is out of range, must be positive|";
    queue_client().check(&[
        ("SPOP q -1", out_of_range),
        ("SPOP q x", out_of_range),
        ("SPOP q 9223372036854775808", out_of_range),
        ("SPOP q 1 2", "-ERR syntax error|"),
        ("SPOP", "-ERR wrong number of arguments for 'spop' command|"),
    ]);
}

#[test]
fn members_are_asked_for_and_removed_by_value() {
    queue_client().check(&[
        ("SADD q a b c d", ":4|"),
        ("SISMEMBER q b", ":1|"),
        ("SISMEMBER q z", ":0|"),
        ("SISMEMBER none b", ":0|"),
        ("SMISMEMBER q a z d", "*3|:1|:0|:1|"),
        ("SMISMEMBER none a b", "*2|:0|:0|"),
        ("SREM q b z d", ":2|"),
        ("SREM none b", ":0|"),
        ("SMEMBERS q", "*2|$1|a|$1|c|"),
        ("SMEMBERS none", "*0|"),
        ("SISMEMBER q b", ":0|"),
        ("SREM q a c", ":2|"),
        ("EXISTS q", ":0|"),
    ]);
}

#[test]
fn srandmember_is_a_peek_at_the_oldest() {
    let range = "-ERR value is out of range, value must between -9223372036854775807 and \
                 9223372036854775807|";
    queue_client().check(&[
        ("SADD q a b c", ":3|"),
        ("SRANDMEMBER q", "$1|a|"),
        ("SRANDMEMBER q 2", "*2|$1|a|$1|b|"),
        ("SRANDMEMBER q -2", "*2|$1|a|$1|b|"),
        ("SRANDMEMBER q 99", "*3|$1|a|$1|b|$1|c|"),
        ("SRANDMEMBER q 0", "*0|"),
        ("SRANDMEMBER none", "$-1|"),
        ("SRANDMEMBER none 2", "*0|"),
        ("SRANDMEMBER q x", "-ERR value is not an integer or out of range|"),
        ("SRANDMEMBER q -9223372036854775808", range),
        ("SRANDMEMBER q 1 2", "-ERR syntax error|"),
        ("SCARD q", ":3|"),
    ]);
}

#[test]
fn smove_takes_one_message_from_queue_to_queue() {
    queue_client().check(&[
        ("SADD from a b", ":2|"),
        ("SMOVE from to b", ":1|"),
        ("SMOVE from to b", ":0|"),
        ("SMOVE none to b", ":0|"),
        ("SMOVE from from a", ":1|"),
        ("SMEMBERS from", "*1|$1|a|"),
        ("SMEMBERS to", "*1|$1|b|"),
        ("SMOVE from to a", ":1|"),
        ("EXISTS from to", ":1|"),
        ("SMEMBERS to", "*2|$1|b|$1|a|"),
    ]);
}

#[test]
fn sscan_pages_through_a_queue_by_the_numbers_of_its_messages() {
    let mut client = queue_client();
    client.check(&[
        ("SADD q a1 b2 a3 b4 a5", ":5|"),
        ("SSCAN q 0 COUNT 2", "*2|$13|3298534883331|*2|$2|a1|$2|b2|"),
        ("SREM q a1 a3", ":2|"),
        ("SSCAN q 3298534883331 COUNT 2", "*2|$1|0|*2|$2|b4|$2|a5|"),
        ("SSCAN q 3", "*2|$1|0|*2|$2|b4|$2|a5|"),
        ("SSCAN q 0 match a* count 100", "*2|$1|0|*1|$2|a5|"),
        ("SSCAN q 0 MATCH [^a]2", "*2|$1|0|*1|$2|b2|"),
        ("SSCAN q 18446744073709551615", "*2|$1|0|*0|"),
        ("SSCAN none 0", "*2|$1|0|*0|"),
        ("SSCAN q x", "-ERR invalid cursor|"),
        ("SSCAN q 18446744073709551616", "-ERR invalid cursor|"),
        ("SSCAN q 0 COUNT 0", "-ERR syntax error|"),
        ("SSCAN q 0 COUNT -1", "-ERR syntax error|"),
        ("SSCAN q 0 COUNT x", "-ERR value is not an integer or out of range|"),
        ("SSCAN q 0 MATCH", "-ERR syntax error|"),
        ("SSCAN q 0 TYPE set", "-ERR syntax error|"),
        ("SSCAN q", "-ERR wrong number of arguments for 'sscan' command|"),
        ("DEL q", ":1|"),
        ("SADD q 1 2 3 4 5 6 7 8 9 10 11", ":11|"),
    ]);
    let page = client.ask("SSCAN q 0");
    assert!(page.starts_with("*2|$13|1099511627787|*10|"), "{page}");
}

#[test]
fn in_resp3_messages_are_an_array_in_their_order_and_equal_ones_are_no_set() {
    let mut client = queue_client();
    client.ask("HELLO 3");
    client.check(&[
        ("SADD q a b c", ":3|"),
        ("SMEMBERS q", "*3|$1|a|$1|b|$1|c|"),
        ("SRANDMEMBER q 1", "*1|$1|a|"),
        ("SPOP q 2", "*2|$1|a|$1|b|"),
        ("SPOP q", "$1|c|"),
        ("SPOP q", "_|"),
        ("SRANDMEMBER q", "_|"),
        ("SMEMBERS q", "*0|"),
        ("SPOP q 2", "*0|"),
    ]);
}

#[test]
fn a_full_queue_or_full_memory_refuses_a_push_and_still_pops() {
    let mut client = Daemon::with_queues(1 << 30, 2).client();
    let full = "-ERR the queue is full, the limit is 2 messages (--max-queue-len)|";
    client.check(&[
        ("SADD q a b c", full),
        ("EXISTS q", ":0|"),
        ("SADD q a b a b", ":2|"),
        ("SADD q b a", ":0|"),
        ("SADD q b c", full),
        ("SADD q c", full),
        ("SPOP q", "$1|a|"),
        ("SADD q c", ":1|"),
    ]);
    let mut client = Daemon::with_queues(300, u64::MAX).client();
    client.check(&[
        ("SADD q a b c", "-OOM out of memory, the limit is 300 bytes (--max-memory)|"),
        ("EXISTS q", ":0|"),
        ("SADD q a b b", ":2|"),
        ("SADD q c", "-OOM out of memory, the limit is 300 bytes (--max-memory)|"),
        ("SADD new c", "-OOM out of memory, the limit is 300 bytes (--max-memory)|"),
        ("EXISTS new", ":0|"),
        ("SPOP q", "$1|a|"),
        ("SADD q c", ":1|"),
    ]);
}

#[test]
fn a_command_of_the_other_store_says_which_store_it_needs() {
    queue_client().check(&[
        ("GET k", "-ERR GET needs the key/value store (--store kv)|"),
        ("mset a b", "-ERR MSET needs the key/value store (--store kv)|"),
        ("SADD q a", ":1|"),
        ("GET q", "-WRONGTYPE Operation against a key holding the wrong kind of value|"),
        ("GET", "-ERR wrong number of arguments for 'get' command|"),
    ]);
    kv_client().check(&[
        ("SADD q a", "-ERR SADD needs a queue store (--store disk or memory)|"),
        ("SET q a", "+OK|"),
        ("SADD q a", "-WRONGTYPE Operation against a key holding the wrong kind of value|"),
        ("SPOP q", "-WRONGTYPE Operation against a key holding the wrong kind of value|"),
    ]);
}
