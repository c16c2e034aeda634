//! `export`: every message, as lines of JSON or as the commands that load them into Redis.

use super::bench::*;
use mq::storage::NewMessage;
use tempfile::TempDir;

/// Two bytes of UTF-8, and no control character.
const UMLAUT: &str = "\u{fc}";

fn two_queues() -> TempDir {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = data.create_log(b"jobs").unwrap();
    push(&mut log, b"popped", 0);
    push(&mut log, format!("{UMLAUT}ber\r\n").as_bytes(), 7);
    push(&mut log, b"\xff", 0);
    let late = NewMessage { body: b"late", flags: 0, expires_ms: PUSHED_MS / 2 };
    log.push(&late, PUSHED_MS).unwrap();
    remove(&mut log, b"popped");
    let mut log = data.create_log(b"\xfe").unwrap();
    push(&mut log, b"", 0);
    directory
}

#[test]
fn export_writes_all_live_messages_as_json() {
    let directory = two_queues();
    let printed = healthy(directory.path(), &["export"]);
    let first = "230584300921369395";
    let middle = r#""pushed_ms":1795437001042,"expires_ms":"#;
    let expected = [
        format!(r#"{{"queue_base64":"/g==","number":{first}2,{middle}0,"flags":0,"value":""}}"#),
        format!(
            r#"{{"queue":"jobs","number":{first}3,{middle}0,"flags":7,"value":"{UMLAUT}ber\r\n"}}"#
        ),
        format!(
            r#"{{"queue":"jobs","number":{first}4,{middle}0,"flags":0,"value_base64":"/w=="}}"#
        ),
        format!(
            r#"{{"queue":"jobs","number":{first}5,{middle}897718500521,"flags":0,"value":"late"}}"#
        ),
    ];
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
    let named = healthy(directory.path(), &["export", r"\xfe"]);
    assert_eq!(named.lines().collect::<Vec<_>>(), expected[..1]);
    let named = healthy(directory.path(), &["export", "jobs", r"\xfe"]);
    assert_eq!(named.lines().collect::<Vec<_>>(), [&expected[1..], &expected[..1]].concat());
}

#[test]
fn the_protocol_leaves_out_what_has_expired_and_says_what_it_cannot_carry() {
    let directory = two_queues();
    let output = dump(directory.path(), &["export", "--redis"]);
    let expected = b"*3\r\n$4\r\nSADD\r\n$1\r\n\xfe\r\n$0\r\n\r\n\
                     *3\r\n$4\r\nSADD\r\n$4\r\njobs\r\n$7\r\n\xc3\xbcber\r\n\r\n\
                     *3\r\n$4\r\nSADD\r\n$4\r\njobs\r\n$1\r\n\xff\r\n";
    assert_eq!(output.stdout.escape_ascii().to_string(), expected.escape_ascii().to_string());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("1 message: expired, and left out\n"), "{said}");
    assert!(said.contains("1 message: written without the flags or the time of expiry"), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_protocol_says_how_many_messages_become_one() {
    let directory = directory_of(&[(b"other", 2)]);
    let data = open(directory.path());
    let mut log = data.create_log(b"jobs").unwrap();
    for body in [b"a", b"b", b"a", b"a"] {
        push(&mut log, body, 0);
    }
    drop((log, data));
    let output = dump(directory.path(), &["export", "--redis"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("2 messages: equal to one before, of which SADD pushes only"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn what_is_damaged_is_named_and_the_rest_is_exported() {
    let directory = directory_of(&[(b"jobs", 3), (b"other", 1)]);
    let file = directory.path().join("q-jobs").join(FIRST);
    change(&file, |bytes| bytes[RECORDS + RECORD + BODY] ^= 1);
    let (printed, said) = damaged(directory.path(), &["export"]);
    assert_eq!(printed.lines().count(), 3, "{printed}");
    assert!(said.contains("[rotten-record]"), "{said}");
    let (printed, said) = damaged(directory.path(), &["export", "nothing", "other"]);
    assert_eq!(printed.lines().count(), 1, "{printed}");
    assert!(said.contains("no queue \"nothing\""), "{said}");
    let (_, said) = damaged(directory.path(), &["export", "a\"b"]);
    assert!(said.contains("no queue \"a\"b\""), "{said}");
}
