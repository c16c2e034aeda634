//! Commands about the connection, the daemon and the commands themselves; bad requests.

use super::{Daemon, kv_client, queue_client, request};
use crate::clock::set_by_hand;
use crate::protocol::Foreign;
use crate::session::Close;
use std::sync::atomic::Ordering::Relaxed;

const SYNTAX: &str = "-ERR syntax error|";

#[test]
fn small_talk() {
    let mut client = queue_client();
    client.check(&[
        ("PING", "+PONG|"),
        ("ping a", "$1|a|"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command|"),
        ("ECHO hello", "$5|hello|"),
        ("ECHO", "-ERR wrong number of arguments for 'echo' command|"),
        ("SELECT 0", "+OK|"),
        ("SELECT 1", "-ERR DB index is out of range|"),
        ("SELECT -1", "-ERR DB index is out of range|"),
        ("SELECT x", "-ERR value is not an integer or out of range|"),
    ]);
    let time = client.ask("TIME");
    let parts: Vec<&str> = time.split('|').collect();
    assert_eq!((parts[0], parts.len()), ("*2", 6), "{time}");
    assert!(parts[2].parse::<u64>().unwrap() > 1_700_000_000, "{time}");
    assert!(parts[4].parse::<u64>().unwrap() < 1_000_000, "{time}");
}

#[test]
fn there_is_no_password() {
    let none = "-ERR AUTH <password> called without any password configured for the default user. \
                Are you sure your configuration is correct?|";
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.|";
    queue_client().check(&[
        ("AUTH x", none),
        ("AUTH default x", "+OK|"),
        ("AUTH other x", wrong),
        ("AUTH a b c", SYNTAX),
        ("HELLO 3 AUTH other x", wrong),
        ("SPOP q", "$-1|"),
    ]);
}

#[test]
fn hello_chooses_the_version_unless_something_in_it_is_wrong() {
    let mut client = queue_client();
    client.check(&[
        ("HELLO 4", "-NOPROTO unsupported protocol version|"),
        ("HELLO 1", "-NOPROTO unsupported protocol version|"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range|"),
        ("HELLO 3 foo", "-ERR Syntax error in HELLO option 'foo'|"),
        ("HELLO 3 AUTH default", "-ERR Syntax error in HELLO option 'AUTH'|"),
        ("HELLO 3 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'|"),
        ("SPOP q", "$-1|"),
    ]);
    let tail = "|$2|id|:7|$7|modules|*0|";
    let resp2 = client.ask("HELLO");
    assert!(resp2.starts_with("*16|$6|server|$5|redis|$7|version|"), "{resp2}");
    assert!(resp2.ends_with(&format!("$5|proto|:2{tail}")), "{resp2}");
    let resp3 = client.ask("hello 3 auth default secret setname me");
    assert!(resp3.starts_with("%8|$6|server|"), "{resp3}");
    assert!(resp3.ends_with(&format!("$5|proto|:3{tail}")), "{resp3}");
    client.check(&[("SPOP q", "_|"), ("CLIENT GETNAME", "$2|me|")]);
    assert_eq!(client.ask("HELLO"), resp3, "without a version nothing changes");
    assert_eq!(client.ask("HELLO 2"), resp2);
    client.check(&[("SPOP q", "$-1|")]);
}

#[test]
fn reset_puts_the_connection_back_to_its_start() {
    let mut client = queue_client();
    client.ask("HELLO 3 SETNAME me");
    client.check(&[
        ("MULTI", "+OK|"),
        ("SADD q a", "+QUEUED|"),
        ("RESET", "+RESET|"),
        ("EXEC", "-ERR EXEC without MULTI|"),
        ("CLIENT GETNAME", "$-1|"),
        ("SPOP q", "$-1|"),
    ]);
}

#[test]
fn quit_ends_the_connection_and_what_follows_is_not_executed() {
    let mut client = queue_client();
    assert_eq!(client.raw(b"PING\r\nQUIT\r\nPING\r\n"), b"+PONG\r\n+OK\r\n");
    assert_eq!(client.last.close, Some(Close::Quit));
}

#[test]
fn client_shows_and_changes_the_connection() {
    let rule = "cannot contain spaces, newlines or special characters.|";
    let mut client = queue_client();
    client.check(&[
        ("CLIENT ID", ":7|"),
        ("CLIENT GETNAME", "$-1|"),
        ("client setname me", "+OK|"),
        ("CLIENT GETNAME", "$2|me|"),
        ("CLIENT SETINFO LIB-NAME redis-py", "+OK|"),
        ("CLIENT SETINFO lib-ver 5.0", "+OK|"),
        ("CLIENT SETINFO foo x", "-ERR Unrecognized option 'foo'|"),
        ("CLIENT SETINFO lib-ver a\tb", &format!("-ERR lib-ver {rule}")),
        ("CLIENT SETNAME a\nb", &format!("-ERR Client names {rule}")),
        ("CLIENT NO-EVICT on", "+OK|"),
        ("CLIENT NO-TOUCH off", "+OK|"),
        ("CLIENT NO-EVICT maybe", SYNTAX),
        ("CLIENT GETREDIR", ":-1|"),
        ("CLIENT TRACKING off", "+OK|"),
        ("CLIENT TRACKING on", "-ERR there is no client side caching here|"),
        ("CLIENT TRACKING maybe", SYNTAX),
        ("CLIENT TRACKING off BCAST", SYNTAX),
        ("CLIENT TRACKINGINFO", "*6|$5|flags|*1|$3|off|$8|redirect|:-1|$8|prefixes|*0|"),
        ("CLIENT", "-ERR wrong number of arguments for 'client' command|"),
        ("CLIENT ID x", "-ERR wrong number of arguments for 'client|id' command|"),
        ("CLIENT foo\r\nx", "-ERR unknown subcommand 'foo  x'. Try CLIENT HELP.|"),
    ]);
    let info = client.ask("CLIENT INFO");
    assert!(info.contains("id=7 addr=127.0.0.1:9 laddr=127.0.0.1:4000 name=me "), "{info}");
    assert!(info.ends_with(" resp=2 lib-name=redis-py lib-ver=5.0\n|"), "{info}");
    client.check(&[("CLIENT SETNAME \"\"", "+OK|"), ("CLIENT GETNAME", "$-1|")]);
    let long = "x".repeat(1025);
    let refusal = "-ERR Client names cannot be longer than 1024 bytes.|";
    client.check(&[(&format!("CLIENT SETNAME {long}"), refusal)]);
}

#[test]
fn command_describes_the_table() {
    let mut client = queue_client();
    let sadd = "*10|$4|sadd|:-3|*2|+write|+fast|:1|:1|:1|*0|*0|*0|*0|";
    let summary = "$7|summary|$42|Push each message that is not in the queue|";
    client.check(&[
        ("COMMAND INFO sadd nosuch", &format!("*2|{sadd}$-1|")),
        (
            "COMMAND DOCS nosuch SADD",
            &format!("*2|$4|sadd|*6|{summary}$5|since|$5|0.1.0|$5|group|$3|set|"),
        ),
        ("COMMAND GETKEYS mset a 1 b 2", "*2|$1|a|$1|b|"),
        ("COMMAND GETKEYS smove a b c", "*2|$1|a|$1|b|"),
        ("COMMAND GETKEYS ping", "-ERR The command has no key arguments|"),
        ("COMMAND GETKEYS get", "-ERR Invalid number of arguments specified for command|"),
        ("COMMAND GETKEYS nosuch", "-ERR Invalid command specified|"),
        ("COMMAND LIST FILTERBY x y", SYNTAX),
        ("COMMAND COUNT x", "-ERR wrong number of arguments for 'command|count' command|"),
        ("COMMAND foo", "-ERR unknown subcommand 'foo'. Try COMMAND HELP.|"),
    ]);
    let count = client.ask("COMMAND COUNT").replace(':', "");
    let count = count.trim_end_matches('|');
    for all in ["COMMAND", "COMMAND INFO", "COMMAND LIST"] {
        assert!(client.ask(all).starts_with(&format!("*{count}|")), "{all}");
    }
    client.ask("HELLO 3");
    assert!(client.ask("COMMAND DOCS").starts_with(&format!("%{count}|$6|ackjob|%3|")));
}

#[test]
fn config_shows_the_settings() {
    let mut client = queue_client();
    client.check(&[
        ("CONFIG GET save", "*2|$4|save|$0||"),
        ("CONFIG GET APPENDONLY save", "*4|$10|appendonly|$2|no|$4|save|$0||"),
        ("CONFIG GET maxc*", "*2|$10|maxclients|$3|256|"),
        (
            "CONFIG GET max* maxclients timeou?",
            "*14|$10|max-output|$8|33554432|$13|max-queue-len|$1|0|$10|max-queues|$3|100|\
          $10|maxclients|$3|256|$9|maxmemory|$10|1073741824|\
          $16|maxmemory-policy|$10|noeviction|$7|timeout|$3|300|",
        ),
        ("CONFIG GET nosuch", "*0|"),
        ("CONFIG GET", "-ERR wrong number of arguments for 'config|get' command|"),
        (
            "CONFIG SET nosuch x",
            "-ERR Unknown option or number of arguments for CONFIG SET - \
          'nosuch'|",
        ),
        (
            "CONFIG SET port 1",
            "-ERR CONFIG SET failed (possibly related to argument \
          'port') - can't set immutable config|",
        ),
        ("CONFIG RESETSTAT", "+OK|"),
        ("CONFIG REWRITE", "-ERR The server is running without a config file|"),
        ("CONFIG foo", "-ERR unknown subcommand 'foo'. Try CONFIG HELP.|"),
    ]);
    client.ask("HELLO 3");
    client.check(&[("CONFIG GET databases", "%1|$9|databases|$1|1|")]);
}

#[test]
fn info_has_sections_that_clients_read() {
    let mut client = queue_client();
    client.ask("SADD q a");
    let all = client.ask("INFO");
    for line in ["|# Server|", "|redis_version:", "|loading:0|", "|role:master|", "|db0:keys=1,"] {
        assert!(all.contains(line), "{line} in {all}");
    }
    assert_eq!(client.ask("INFO default").matches("|# ").count(), 8);
    assert_eq!(client.ask("INFO everything").matches("|# ").count(), 9);
    client.check(&[
        ("INFO nosuch", "$0||"),
        ("info keyspace", "$44|# Keyspace|db0:keys=1,expires=0,avg_ttl=0||"),
        ("INFO replication", "$48|# Replication|role:master|connected_slaves:0||"),
        ("INFO cluster", "$30|# Cluster|cluster_enabled:0||"),
    ]);
    client.ask("HELLO 3");
    let clients = "=71|txt:# Clients|connected_clients:0|maxclients:256|blocked_clients:0||";
    client.check(&[("INFO clients", clients)]);
    assert!(kv_client().ask("INFO memory").contains("|used_memory:0|"));
}

#[test]
fn an_unknown_command_is_shown_with_the_beginning_of_its_arguments() {
    let (name, word) = ("n".repeat(200), "w".repeat(100));
    let (cut_name, cut_word) = ("n".repeat(128), "w".repeat(25));
    queue_client().check(&[
        ("foo", "-ERR unknown command 'foo', with args beginning with: |"),
        ("foo a b", "-ERR unknown command 'foo', with args beginning with: 'a' 'b' |"),
        (
            &format!("{name} {word} {word} {word}"),
            &format!(
                "-ERR unknown command '{cut_name}', with args beginning with: '{word}' \
                 '{cut_word}' |"
            ),
        ),
        ("fo\r\no \r\n+OK", "-ERR unknown command 'fo  o', with args beginning with: '  +OK' |"),
        ("a\0b c\0d", "-ERR unknown command 'a', with args beginning with: 'c' |"),
        ("\"\"", "-ERR unknown command '', with args beginning with: |"),
    ]);
}

#[test]
fn a_framing_error_is_told_and_ends_the_connection() {
    let cases: [(&[u8], &str, Close); 5] = [
        (b"*1\r\n+PING\r\n", "expected '$', got '+'", Close::Framing),
        (b"*x\r\n", "invalid multibulk length", Close::Framing),
        (b"*2\r\n$4\r\nECHO\r\n$-2\r\n", "invalid bulk length", Close::Framing),
        (
            b"*2\r\n$4\r\nECHO\r\n$1048577\r\n",
            "invalid bulk length",
            Close::TooLarge { limit: 1 << 20 },
        ),
        (b"ECHO \"a\r\n", "unbalanced quotes in request", Close::Framing),
    ];
    for (request, text, close) in cases {
        let mut client = queue_client();
        let reply = client.raw(&[b"PING\r\n", request, b"PING\r\n"].concat());
        let reply = String::from_utf8(reply).unwrap();
        assert_eq!(reply, format!("+PONG\r\n-ERR Protocol error: {text}\r\n"));
        assert_eq!(client.last.close, Some(close), "{text}");
    }
}

#[test]
fn http_is_not_answered_and_nothing_of_it_is_executed() {
    let lines = [
        "GET / HTTP/1.1",
        "POST /x HTTP/1.1",
        "Host: localhost:4000",
        "post sadd",
        "PATCH / HTTP/2",
        "PROPFIND / HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "CONNECT a:443 HTTP/1.1",
        "HTTP/1.1 200 OK",
    ];
    for line in lines {
        let mut client = kv_client();
        let request = format!("{line}\r\nSET k v\r\n");
        assert_eq!(client.raw(request.as_bytes()), b"", "{line}");
        assert_eq!(client.last.close, Some(Close::Foreign(Foreign::Http)), "{line}");
        assert_eq!(client.ask("GET k"), "$-1|", "{line}");
    }
    let mut client = kv_client();
    assert_eq!(client.raw(b"GET HTTP/1\r\n"), b"$-1\r\n", "an inline GET is no HTTP");
    assert_eq!(client.raw(b"UNLINK a HTTP/1\r\n"), b":0\r\n", "a command is no method");
}

#[test]
fn empty_requests_are_skipped_and_inline_ones_are_executed() {
    let mut client = queue_client();
    assert_eq!(client.raw(b"\r\n*0\r\n  \r\nsadd q \"a b\" c\r\nSPOP q\n"), b":2\r\n$3\r\na b\r\n");
}

/// By clocks of their own, INFO said another uptime in a conversation that took longer: found by
/// fuzzing.
#[test]
fn uptime_and_age_are_of_the_clock_that_the_store_has() {
    let (clock, time_ms) = set_by_hand();
    let daemon = Daemon::with_kv_at(clock);
    let mut first = daemon.client();
    time_ms.fetch_add(5999, Relaxed);
    let mut second = daemon.client();
    time_ms.fetch_add(1001, Relaxed);
    assert!(first.ask("INFO server").contains("|uptime_in_seconds:7|"));
    assert!(first.ask("CLIENT INFO").contains(" age=7 "));
    assert!(second.ask("CLIENT INFO").contains(" age=1 "));
    time_ms.store(0, Relaxed);
    assert!(first.ask("CLIENT INFO").contains(" age=0 "));
}

/// A new queue is half of a turn's work, so a turn ends in front of it.
#[test]
fn another_protocol_is_known_at_the_end_of_a_turn_too() {
    for queues in 1..=4 {
        let mut client = queue_client();
        let pushes: String = (0..queues).map(|queue| format!("sadd q{queue} m\r\n")).collect();
        let replies = client.raw(&[pushes.as_bytes(), b"\x80\x01\r\n"].concat());
        assert_eq!(replies, ":1\r\n".repeat(queues).as_bytes());
        assert_eq!(client.last.close, Some(Close::Foreign(Foreign::MemcachedBinary)));
    }
}

#[test]
fn another_protocol_is_not_answered_and_nothing_of_it_is_executed() {
    let cases: [(&[u8], Foreign); 14] = [
        (b"\x15\x03\x01\0\x02\x01\0\r\nFLUSHALL\r\n", Foreign::Tls),
        (b"\x81\x01\0\0\0\0\0\0\r\nFLUSHALL\r\n", Foreign::MemcachedBinary),
        (b"EHLO a\r\nDATA\r\nFLUSHALL\r\n", Foreign::Smtp),
        (b"\x16\x03\x01\x02\0\x01\0\r\nFLUSHALL\r\n", Foreign::Tls),
        (b"\x80\x01\0\x01\x08\0\0\0\r\nFLUSHALL\r\n", Foreign::MemcachedBinary),
        (b"\x80", Foreign::MemcachedBinary),
        (b"set k 0 0 8\r\nFLUSHALL\r\n", Foreign::MemcachedText),
        (b"add k 0 0 8 noreply\r\nFLUSHALL\r\n", Foreign::MemcachedText),
        (b"cas k 0 0 8 5\r\nFLUSHALL\r\n", Foreign::MemcachedText),
        (b"sismember q 0 0 8\r\nFLUSHALL\r\n", Foreign::MemcachedText),
        (b"ms k 8\r\nFLUSHALL\r\n", Foreign::MemcachedText),
        (b"SET k 0 0 8\r\nFLUSHALL\r\n", Foreign::MemcachedText),
        (b"set\tk\t0\t0\t8\r\nFLUSHALL\r\n", Foreign::MemcachedText),
        (b"Ms\tk 8\r\nFLUSHALL\r\n", Foreign::MemcachedText),
    ];
    for mut client in [kv_client(), queue_client()] {
        client.ask("SET k v");
        client.ask("SADD k v");
        for (input, foreign) in cases {
            assert_eq!(client.raw(input), b"", "{}", input.escape_ascii());
            assert_eq!(client.last.close, Some(Close::Foreign(foreign)));
            let pipelined = [&request(&[b"EXISTS", b"k"]), input].concat();
            assert_eq!(client.raw(&pipelined), b":1\r\n", "{}", input.escape_ascii());
            assert_eq!(client.last.close, Some(Close::Foreign(foreign)));
        }
    }
    let mut client = queue_client();
    client.raw(b"SADD q 1 2 3\r\nsmismember q 1 2 3\r\n");
    assert_eq!(client.last.close, None, "words of Redis's own");
    // It has been looked at behind another request, and is no request of this protocol either.
    assert_eq!(client.raw(b"SISMEMBER q 1\r\n\x80 \"\r\n"), b":1\r\n");
    assert_eq!(client.last.close, Some(Close::Foreign(Foreign::MemcachedBinary)));
}
