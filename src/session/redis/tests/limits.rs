//! Replies, transactions and watched keys stay within their bounds.

use super::slices::{Turns, filled, waits, words};
use super::{Conversation, Daemon, kv_client, queue_client, request};
use crate::session::{OUTPUT_PIECE, Session};

fn with_reply_limit(mut client: Conversation, bytes: usize) -> Conversation {
    client.session.reply_limit = bytes;
    client
}

fn too_large(advice: &str) -> String {
    format!("-ERR the reply would be larger than 32 MiB; {advice}|")
}

#[test]
fn a_reply_that_would_be_too_large_is_refused_before_anything_is_removed() {
    let mut client = with_reply_limit(queue_client(), 100);
    client.check(&[
        ("SADD q aaaaaaaaaa bbbbbbbbbb cccccccccc dddddddddd", ":4|"),
        ("SMEMBERS q", &too_large("use SSCAN")),
        ("SPOP q 4", &too_large("use a smaller count")),
        ("SRANDMEMBER q 4", &too_large("use a smaller count")),
        ("SRANDMEMBER q -4", &too_large("use a smaller count")),
        ("SCARD q", ":4|"),
        ("SRANDMEMBER q 3", "*3|$10|aaaaaaaaaa|$10|bbbbbbbbbb|$10|cccccccccc|"),
        ("SPOP q 3", "*3|$10|aaaaaaaaaa|$10|bbbbbbbbbb|$10|cccccccccc|"),
        ("SMEMBERS q", "*1|$10|dddddddddd|"),
    ]);
}

#[test]
fn a_page_of_sscan_ends_where_the_reply_would_be_too_large() {
    let mut client = with_reply_limit(queue_client(), 40);
    client.check(&[
        ("SADD q aaaaaaaaaa bbbbbbbbbb cccccccccc", ":3|"),
        ("SSCAN q 0 COUNT 100", "*2|$13|1099511627779|*2|$10|aaaaaaaaaa|$10|bbbbbbbbbb|"),
        ("SSCAN q 1099511627779 COUNT 100", "*2|$1|0|*1|$10|cccccccccc|"),
    ]);
    let mut client = with_reply_limit(queue_client(), 1);
    client.check(&[
        ("SADD q aaaaaaaaaa bbbbbbbbbb", ":2|"),
        ("SSCAN q 0", "*2|$13|1099511627778|*1|$10|aaaaaaaaaa|"),
    ]);
}

#[test]
fn lists_of_keys_and_values_are_bounded() {
    let mut client = with_reply_limit(kv_client(), 25);
    client.check(&[
        ("MSET aaaaaaaaaa 1 bbbbbbbbbb 2", "+OK|"),
        ("KEYS *", &too_large("use SCAN")),
        ("SCAN 0", &too_large("use a smaller COUNT")),
        ("KEYS a*", "*1|$10|aaaaaaaaaa|"),
        ("SET a xxxxxxxxxxxxxxxxxxxx", "+OK|"),
        ("MGET a a a", &too_large("ask for fewer keys at once")),
        ("MGET a", "*1|$20|xxxxxxxxxxxxxxxxxxxx|"),
    ]);
}

#[test]
fn the_replies_of_a_transaction_are_bounded_in_sum() {
    // What three refusals may take is kept for them.
    let mut client = with_reply_limit(queue_client(), 3 * 96 + 10);
    let message = |letter: &str| letter.repeat(300);
    for letter in ["a", "b", "c", "d"] {
        client.ask(&format!("SADD q {}", message(letter)));
    }
    client.check(&[("MULTI", "+OK|")]);
    (0..4).for_each(|_| drop(client.ask("SPOP q")));
    let refusals = too_large("use a smaller transaction").repeat(3);
    client.check(&[
        ("EXEC", &format!("*4|$300|{}|{refusals}", message("a"))),
        ("SPOP q", &format!("$300|{}|", message("b"))),
    ]);
}

const TOO_LONG: &str = "-ERR the transaction takes too long; use a smaller one\r\n";

/// Queues what `request` makes until it is refused, and returns how many times it was not.
fn queue_up(client: &mut Conversation, request: impl Fn(usize) -> Vec<u8>) -> usize {
    assert_eq!(client.ask("MULTI"), "+OK|");
    let mut count = 0;
    loop {
        match &*client.raw(&request(count)) {
            b"+QUEUED\r\n" if count < 50_000 => count += 1,
            reply => {
                assert_eq!(String::from_utf8_lossy(reply), TOO_LONG);
                return count;
            }
        }
    }
}

/// What each command cost did not count, so 131,072 of them held all others up for 0.4 s.
#[test]
fn a_transaction_of_too_many_commands_is_given_up_before_it_runs() {
    let push = |number: usize| request(&[b"SADD", b"q", number.to_string().as_bytes()]);
    for daemon in [Daemon::with_queues(1 << 30, u64::MAX), Daemon::with_lasting_queues()] {
        let mut client = daemon.client();
        assert_eq!(queue_up(&mut client, push), 5_000);
        client.check(&[
            ("SADD q a", "+QUEUED|"),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors.|"),
            ("SCARD q", ":0|"),
            ("MULTI", "+OK|"),
        ]);
        // As many as there may be are all done, also where others have to be found or removed.
        (0..5_000).for_each(|number| drop(client.raw(&push(number))));
        assert_eq!(client.ask("EXEC"), format!("*5000|{}", ":1|".repeat(5_000)));
        client.ask("MULTI");
        for number in 0..5_000 {
            client.raw(&request(&[b"SREM", b"q", number.to_string().as_bytes()]));
        }
        assert_eq!(client.ask("EXEC"), format!("*5000|{}", ":1|".repeat(5_000)));
    }
}

#[test]
fn a_transaction_that_grows_too_large_is_given_up() {
    let mut client = queue_client();
    let push = request(&[b"SADD", b"q", &vec![b'x'; 1 << 20]]);
    assert_eq!(queue_up(&mut client, |_| push.clone()), 19);
    client.check(&[
        ("SADD q a", "+QUEUED|"),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors.|"),
        ("SCARD q", ":0|"),
    ]);
}

/// The first page of each is written anew.
#[test]
fn a_transaction_that_changes_too_many_queues_does_nothing() {
    let daemon = Daemon::with_lasting_queues();
    let mut client = daemon.client();
    let ends = [(600, ":1|"), (900, "")];
    for (count, reply) in ends {
        client.ask("MULTI");
        for number in 0..count {
            client.ask(&format!("SADD {count}-{number} m"));
        }
        let replies = client.ask("EXEC");
        let expected = match reply {
            "" => "-EXECABORT Transaction discarded because of: the transaction takes too long; \
                   use a smaller one|"
                .into(),
            reply => format!("*{count}|{}", reply.repeat(count)),
        };
        assert_eq!(replies, expected);
    }
    client.check(&[("DBSIZE", ":600|")]);
}

#[test]
fn watched_keys_are_bounded() {
    let mut client = queue_client();
    let mut key = vec![b'x'; 1 << 20];
    for turn in 0..3 {
        key[0] = turn;
        assert_eq!(client.raw(&request(&[b"WATCH", &key])), b"+OK\r\n");
        assert_eq!(client.raw(&request(&[b"WATCH", &key])), b"+OK\r\n", "counted once");
    }
    key[0] = 3;
    assert_eq!(client.raw(&request(&[b"WATCH", &key])), b"-ERR too many watched keys\r\n");
    client.check(&[("UNWATCH", "+OK|"), ("WATCH a", "+OK|")]);
    let names: Vec<String> = (1..4096).map(|number| number.to_string()).collect();
    for name in names.chunks(1000) {
        let words = [&["WATCH".to_owned()], name].concat();
        let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        assert_eq!(client.raw(&request(&words)), b"+OK\r\n");
    }
    client.check(&[("WATCH a 1", "+OK|"), ("WATCH b", "-ERR too many watched keys|")]);
}

/// So it waits until no queue at all is claimed.
#[test]
fn a_transaction_of_many_names_keeps_none_of_them() {
    let names = || (0..7_000).map(|number| format!("k{number}")).chain(["q".into()]);
    let one = words(&["EXISTS"], names());
    let many: Vec<u8> =
        names().flat_map(|name| words(&["EXISTS", &name], [].into_iter())).collect();
    for requests in [one, many] {
        let daemon = filled(20_000, false);
        let mut popping = Turns::new(&daemon, words(&["SPOP", "q", "19999"], [].into_iter()));
        assert!(popping.turn());
        let mut client = daemon.client();
        client.ask("MULTI");
        client.raw(&requests);
        let (kept, size) = (client.session.client.memory(), requests.len());
        assert!(kept <= 2 * size, "{kept} bytes for requests of {size}");
        for _ in 0..50 {
            assert!(waits(&mut client, "EXEC"));
        }
        popping.finish();
        let reply = client.ask("EXEC");
        assert!(reply.ends_with(":1|"), "{reply:.200}");
    }
}

/// EXEC would refuse it, and would have run what stands before it.
#[test]
fn a_request_that_could_not_run_in_a_transaction_is_not_queued() {
    let push = words(&["SADD", "q"], (0..10_000).map(|number| number.to_string()));
    let mut client = queue_client();
    assert_eq!(queue_up(&mut client, |_| push.clone()), 1);
    client.check(&[
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors.|"),
        ("SCARD q", ":0|"),
    ]);
}

/// They are set at one moment, while all others wait.
#[test]
fn values_that_are_set_at_once_are_bounded_in_number() {
    for (name, done) in [("MSET", &b"+OK\r\n"[..]), ("MSETNX", b":1\r\n")] {
        let set = |count: usize| words(&[name], (0..2 * count).map(|word| word.to_string()));
        let mut client = kv_client();
        let refused =
            format!("-ERR '{}' takes at most 20001 words at once\r\n", name.to_lowercase());
        assert_eq!(client.raw(&set(10_001)), refused.as_bytes());
        client.check(&[("DBSIZE", ":0|")]);
        assert_eq!(client.raw(&set(10_000)), done);
        client.check(&[("DBSIZE", ":10000|")]);
    }
}

#[test]
fn replies_are_handed_over_in_pieces() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let mut client = daemon.client();
    client.raw(&request(&[b"SADD", b"q", &[b'x'; 50_000]]));
    let pipeline = request(&[b"SMEMBERS", b"q"]).repeat(100);
    let (mut done, mut replies, mut calls) = (0, 0, 0);
    loop {
        let mut output = Vec::new();
        let advance = client.session.advance(&pipeline[done..], &mut output);
        assert!(output.len() < OUTPUT_PIECE + 51_000, "two replies at most");
        done += advance.consumed;
        replies += output.len();
        calls += 1;
        if advance.need > 0 {
            break;
        }
    }
    assert_eq!((done, replies, calls), (pipeline.len(), 100 * 50_014, 51));
}

#[test]
fn a_pattern_cannot_take_unbounded_time() {
    let mut client = queue_client();
    client.raw(&request(&[b"SADD", b"q", &[b'a'; 100_000]]));
    let pattern = [b"*".as_slice(), &[b'a'; 50_000], b"b"].concat();
    let reply = client.raw(&request(&[b"SSCAN", b"q", b"0", b"MATCH", &pattern]));
    assert_eq!(reply, b"-ERR the pattern takes too long to match\r\n");
}

/// As Redis 7 does it: the bytes of a request are the limit, not its words.
#[test]
fn a_request_may_have_more_than_a_million_words() {
    let words = 1_100_000;
    let mut request = format!("*{words}\r\n$6\r\nEXISTS\r\n").into_bytes();
    request.extend(b"$1\r\nk\r\n".repeat(words - 1));
    assert_eq!(kv_client().raw(&request), b":0\r\n");
}

/// What is unfinished is finished although its client takes no replies. A client that sent one long
/// command behind the other was never asked to take any, and its replies took all memory.
#[test]
fn a_long_command_ends_before_the_next_one_begins() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let mut client = daemon.client();
    let members: Vec<String> = (0..5000).map(|number| format!("{number:0500}")).collect();
    client.check(&[(&format!("SADD q {}", members.join(" ")), ":5000|")]);
    let mut input = b"SMEMBERS q\r\n".repeat(4);
    let (mut between, mut unfinished) = (0, 0);
    while !input.is_empty() {
        let advance = client.session.advance(&input, &mut Vec::new());
        input.drain(..advance.consumed);
        if advance.unfinished { unfinished += 1 } else { between += 1 }
    }
    assert!(between >= 3 && unfinished > between, "{between} of {unfinished}");
}
