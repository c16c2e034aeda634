//! Commands about keys, over queues and over values.

use super::{kv_client, queue_client};
use crate::random::Random;

#[test]
fn queues_are_keys_of_type_set_while_they_have_messages() {
    queue_client().check(&[
        ("SADD a 1", ":1|"),
        ("SADD b 1 2", ":2|"),
        ("TYPE a", "+set|"),
        ("TYPE none", "+none|"),
        ("EXISTS a b a none", ":3|"),
        ("DBSIZE", ":2|"),
        ("SPOP a", "$1|1|"),
        ("TYPE a", "+none|"),
        ("EXISTS a", ":0|"),
        ("DBSIZE", ":1|"),
        ("DEL a b none", ":1|"),
        ("SCARD b", ":0|"),
        ("SADD b 3", ":1|"),
        ("UNLINK b b", ":1|"),
        ("DBSIZE", ":0|"),
    ]);
}

#[test]
fn values_are_keys_of_type_string() {
    kv_client().check(&[
        ("MSET a 1 b 2", "+OK|"),
        ("TYPE a", "+string|"),
        ("TYPE none", "+none|"),
        ("EXISTS a b a none", ":3|"),
        ("DBSIZE", ":2|"),
        ("DEL a none", ":1|"),
        ("UNLINK b", ":1|"),
        ("DBSIZE", ":0|"),
    ]);
}

#[test]
fn keys_are_listed_whole_or_page_by_page() {
    for mut client in [queue_client(), kv_client()] {
        let is_kv = client.ask("SADD k1 1") != ":1|";
        let push = if is_kv { "SET" } else { "SADD" };
        let (own, other) = if is_kv { ("string", "set") } else { ("set", "string") };
        for key in ["k1", "k2", "x3"] {
            client.ask(&format!("{push} {key} 1"));
        }
        client.check(&[
            ("KEYS *", "*3|$2|k1|$2|k2|$2|x3|"),
            ("KEYS k?", "*2|$2|k1|$2|k2|"),
            ("KEYS none", "*0|"),
            ("SCAN 0", "*2|$1|0|*3|$2|k1|$2|k2|$2|x3|"),
            ("SCAN 0 MATCH x* COUNT 100", "*2|$1|0|*1|$2|x3|"),
            (&format!("SCAN 0 TYPE {own}"), "*2|$1|0|*3|$2|k1|$2|k2|$2|x3|"),
            (&format!("SCAN 0 TYPE {other}"), "*2|$1|0|*0|"),
            ("SCAN 18446744073709551615", "*2|$1|0|*0|"),
            ("SCAN x", "-ERR invalid cursor|"),
            ("SCAN 0 COUNT 0", "-ERR syntax error|"),
            ("SCAN 0 COUNT", "-ERR syntax error|"),
            ("SCAN 0 FOO 1", "-ERR syntax error|"),
        ]);
        let first = client.ask("SCAN 0 COUNT 2");
        let cursor = first.split('|').nth(2).unwrap();
        assert!(first.ends_with("|*2|$2|k1|$2|k2|") && cursor != "0", "{first}");
        let rest = client.ask(&format!("SCAN {cursor} COUNT 9223372036854775807"));
        assert_eq!(rest, "*2|$1|0|*1|$2|x3|");
    }
}

#[test]
fn a_flush_removes_everything() {
    for flush in ["FLUSHALL", "flushdb", "FLUSHALL ASYNC", "FLUSHDB sync"] {
        let mut client = queue_client();
        client.check(&[("SADD a 1", ":1|"), (flush, "+OK|"), ("DBSIZE", ":0|")]);
        let mut client = kv_client();
        client.check(&[("SET a 1", "+OK|"), (flush, "+OK|"), ("DBSIZE", ":0|")]);
        client.check(&[("GET a", "$-1|"), ("SET a 2", "+OK|"), ("GET a", "$1|2|")]);
    }
    queue_client().check(&[
        ("FLUSHALL foo", "-ERR syntax error|"),
        ("FLUSHALL ASYNC SYNC", "-ERR syntax error|"),
        ("DBSIZE x", "-ERR wrong number of arguments for 'dbsize' command|"),
        ("DEL", "-ERR wrong number of arguments for 'del' command|"),
        ("KEYS", "-ERR wrong number of arguments for 'keys' command|"),
    ]);
}

/// They are counted as they come and go, and not when somebody asks.
#[test]
fn dbsize_is_the_number_of_keys_whatever_happens_to_queues() {
    let (mut client, mut random) = (queue_client(), Random::seeded());
    for _ in 0..20_000 {
        let (name, other) = (random.below(9), random.below(9));
        match random.below(40) {
            0 => client.ask("FLUSHALL"),
            1 => client.ask(&format!("DEL q{name} q{other}")),
            2 => client.ask(&format!("DEL q{name}")),
            3..12 => client.ask(&format!("SMOVE q{name} q{other} m")),
            12..24 => client.ask(&format!("SPOP q{name} {}", random.below(3))),
            24..27 => client.ask(&format!("SREM q{name} m")),
            _ => client.ask(&format!("SADD q{name} m")),
        };
        let keys = client.ask("KEYS *");
        let count = keys[1..].split('|').next().unwrap();
        assert_eq!(client.ask("DBSIZE"), format!(":{count}|"));
    }
}
