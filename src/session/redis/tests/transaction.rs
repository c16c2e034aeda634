//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.

use super::{Daemon, kv_client, queue_client};

const ABORT: &str = "-EXECABORT Transaction discarded because of previous errors.|";

#[test]
fn queued_commands_run_at_exec() {
    queue_client().check(&[
        ("MULTI", "+OK|"),
        ("SADD q a b", "+QUEUED|"),
        ("SPOP q", "+QUEUED|"),
        ("SELECT 9", "+QUEUED|"),
        ("SPOP q x", "+QUEUED|"),
        ("SMEMBERS q", "+QUEUED|"),
        (
            "EXEC",
            "*5|:2|$1|a|-ERR DB index is out of range|-ERR value is out of range, must be \
          positive|*1|$1|b|",
        ),
        ("MULTI", "+OK|"),
        ("EXEC", "*0|"),
    ]);
}

#[test]
fn inline_commands_are_queued_as_well() {
    let mut client = queue_client();
    let reply = client.raw(b"MULTI\r\nsadd q \"a b\"\r\nSPOP q\r\nEXEC\r\n");
    assert_eq!(reply, b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n$3\r\na b\r\n");
}

#[test]
fn a_transaction_with_a_refused_command_is_not_executed() {
    let refused = [
        ("nosuch", "-ERR unknown command 'nosuch', with args beginning with: |"),
        ("SADD q", "-ERR wrong number of arguments for 'sadd' command|"),
        ("EXEC x", "-ERR wrong number of arguments for 'exec' command|"),
    ];
    for step in refused {
        queue_client().check(&[
            ("MULTI", "+OK|"),
            ("SADD q a", "+QUEUED|"),
            step,
            ("SADD q b", "+QUEUED|"),
            ("EXEC", ABORT),
            ("SCARD q", ":0|"),
            ("EXEC", "-ERR EXEC without MULTI|"),
        ]);
    }
}

#[test]
fn a_command_of_the_other_store_is_refused_when_it_runs() {
    queue_client().check(&[
        ("MULTI", "+OK|"),
        ("SADD q a", "+QUEUED|"),
        ("GET q", "+QUEUED|"),
        ("GET k", "+QUEUED|"),
        (
            "EXEC",
            "*3|:1|-WRONGTYPE Operation against a key holding the wrong kind of value|\
          -ERR GET needs the key/value store (--store kv)|",
        ),
    ]);
}

#[test]
fn misplaced_commands_are_refused_and_spoil_nothing() {
    queue_client().check(&[
        ("EXEC", "-ERR EXEC without MULTI|"),
        ("DISCARD", "-ERR DISCARD without MULTI|"),
        ("MULTI", "+OK|"),
        ("MULTI", "-ERR MULTI calls can not be nested|"),
        ("WATCH q", "-ERR WATCH inside MULTI is not allowed|"),
        ("UNWATCH", "+QUEUED|"),
        ("SADD q a", "+QUEUED|"),
        ("EXEC", "*2|+OK|:1|"),
        ("MULTI", "+OK|"),
        ("SADD q b", "+QUEUED|"),
        ("DISCARD", "+OK|"),
        ("SCARD q", ":1|"),
    ]);
}

#[test]
fn exec_answers_null_when_a_watched_queue_has_changed() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let (mut client, mut other) = (daemon.client(), daemon.client());
    for (change, reply) in [("SADD q a", ":1|"), ("SPOP q", "$1|a|"), ("SADD q b", ":1|")] {
        client.check(&[("WATCH p q", "+OK|"), ("MULTI", "+OK|"), ("SADD p x", "+QUEUED|")]);
        other.check(&[(change, reply)]);
        client.check(&[("EXEC", "*-1|"), ("SCARD p", ":0|")]);
    }
    client.check(&[
        ("WATCH q q", "+OK|"),
        ("MULTI", "+OK|"),
        ("SCARD q", "+QUEUED|"),
        ("EXEC", "*1|:1|"),
        ("WATCH q", "+OK|"),
        ("SPOP q", "$1|b|"),
        ("UNWATCH", "+OK|"),
        ("MULTI", "+OK|"),
        ("EXEC", "*0|"),
        ("WATCH q", "+OK|"),
        ("SADD q b", ":1|"),
        ("MULTI", "+OK|"),
        ("DISCARD", "+OK|"),
        ("MULTI", "+OK|"),
        ("EXEC", "*0|"),
    ]);
    client.ask("HELLO 3");
    client.check(&[("WATCH q", "+OK|"), ("SPOP q", "$1|b|"), ("MULTI", "+OK|"), ("EXEC", "_|")]);
}

#[test]
fn exec_answers_null_when_a_watched_value_has_changed() {
    let steps = [
        ("SET k w", "+OK|"),
        ("SET k w", "+OK|"),
        ("EXPIRE k 100", ":1|"),
        ("PERSIST k", ":1|"),
        ("DEL k", ":1|"),
        ("SET k v", "+OK|"),
        ("PEXPIRE k 0", ":1|"),
    ];
    let mut client = kv_client();
    client.check(&[("SET k v", "+OK|")]);
    for step in steps {
        client.check(&[("WATCH k", "+OK|"), step, ("MULTI", "+OK|"), ("EXEC", "*-1|")]);
    }
    client.check(&[
        ("SET k v", "+OK|"),
        ("WATCH k", "+OK|"),
        ("GET k", "$1|v|"),
        ("MULTI", "+OK|"),
        ("MSET k w l x", "+QUEUED|"),
        ("MGET k l", "+QUEUED|"),
        ("EXEC", "*2|+OK|*2|$1|w|$1|x|"),
    ]);
}

#[test]
fn hello_in_a_transaction_changes_the_replies_after_it() {
    let mut client = queue_client();
    for line in ["MULTI", "SPOP q", "HELLO 3", "SPOP q"] {
        client.ask(line);
    }
    let reply = client.ask("EXEC");
    assert!(reply.starts_with("*3|$-1|%8|") && reply.ends_with("*0|_|"), "{reply}");
}
