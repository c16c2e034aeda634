//! CONFIG SET: what changes while the daemon runs.

use super::{Daemon, queue_client, request};

#[test]
fn what_config_set_changes_holds_at_once_and_one_wrong_value_changes_nothing() {
    let mut client = Daemon::with_queues(1 << 30, u64::MAX).client();
    client.check(&[
        ("CONFIG GET max-queue-len", "*2|$13|max-queue-len|$1|0|"),
        ("CONFIG SET max-queue-len 1 MAX-QUEUES 1", "+OK|"),
        ("SADD q a", ":1|"),
        ("SADD q b", "-ERR the queue is full, the limit is 1 messages (--max-queue-len)|"),
        ("SADD r a", "-ERR too many queues, the limit is 1 (--max-queues)|"),
        ("CONFIG SET max-queue-len 0", "+OK|"),
        ("SADD q b", ":1|"),
        ("CONFIG SET proto-max-bulk-len 2kb", "+OK|"),
        ("CONFIG GET proto-max-bulk-len", "*2|$18|proto-max-bulk-len|$4|2048|"),
        (
            "CONFIG SET max-queues 9 proto-max-bulk-len 1",
            "-ERR CONFIG SET failed (possibly related to argument 'proto-max-bulk-len') - \
             argument must be between 1024 and 536870912 inclusive, bytes or as 16m|",
        ),
        ("SADD r a", "-ERR too many queues, the limit is 1 (--max-queues)|"),
        ("CONFIG SET maxclients 200 timeout 60", "+OK|"),
        ("CONFIG GET timeout maxclients", "*4|$10|maxclients|$3|200|$7|timeout|$2|60|"),
        (
            "CONFIG SET maxclients 1000",
            "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - \
             argument must be between 1 and 999 inclusive|",
        ),
        ("CONFIG SET maxmemory 1m", "+OK|"),
        ("CONFIG GET maxmemory", "*2|$9|maxmemory|$7|1048576|"),
        (
            "CONFIG SET loglevel loud",
            "-ERR CONFIG SET failed (possibly related to argument 'loglevel') - \
             argument(s) must be one of the following: error, warn, info, debug|",
        ),
        (
            "CONFIG SET port 1",
            "-ERR CONFIG SET failed (possibly related to argument 'port') - \
             can't set immutable config|",
        ),
        ("CONFIG SET max-queues 1 max-queues", "-ERR syntax error|"),
        (
            "CONFIG SET timeout 1 TIMEOUT x nosuch 1",
            "-ERR CONFIG SET failed (possibly related to argument 'TIMEOUT') - duplicate \
             parameter|",
        ),
        (
            "CONFIG SET timeout x nosuch 1",
            "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'|",
        ),
        (
            "CONFIG SET timeout 1 maxclients x",
            "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - argument \
             couldn't be parsed into an integer|",
        ),
    ]);
    let large = vec![b'x'; 2049];
    let refused = client.raw(&request(&[b"SADD", b"q", large.as_slice()]));
    assert_eq!(refused, b"-ERR Protocol error: invalid bulk length\r\n");
}

/// The queued requests are parsed again, under the limits of then.
#[test]
fn a_limit_lowered_in_a_transaction_cuts_no_reply_of_exec() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    let (mut client, mut operator) = (daemon.client(), daemon.client());
    client.ask("MULTI");
    let large = vec![b'x'; 5000];
    client.raw(&request(&[b"SADD", b"q", large.as_slice()]));
    client.ask("SCARD q");
    operator.ask("CONFIG SET proto-max-bulk-len 1k");
    assert_eq!(client.ask("EXEC"), "*2|:1|:1|");
}

/// Each pattern had as many steps as any text, for each of the settings.
#[test]
fn the_patterns_of_a_config_get_have_one_budget() {
    let long = format!("*[{}]", "!".repeat(10_000));
    let too_long = "-ERR the pattern takes too long to match|";
    let mut client = queue_client();
    client.check(&[
        (&format!("CONFIG GET {}", [long.as_str(); 5].join(" ")), too_long),
        (&format!("CONFIG GET {}", ["[a-z]*x"; 500].join(" ")), "*0|"),
    ]);
}
