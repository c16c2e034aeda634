//! `messages`: what is in a queue, in four forms.

use super::bench::*;
use mq::storage::NewMessage;
use tempfile::TempDir;

fn four_messages() -> TempDir {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = data.create_log(b"jobs").unwrap();
    push(&mut log, b"one", 7);
    push(&mut log, b"", u32::MAX);
    push(&mut log, b"it's\r\n\\ \"\xff\0\"", 0);
    let late = NewMessage { body: b"late", flags: 0, expires_ms: PUSHED_MS + 1 };
    log.push(&late, 0).unwrap();
    let early = NewMessage { body: b"early \x1b[2J\xc2\x9b", flags: 0, expires_ms: u64::MAX };
    log.push(&early, PUSHED_MS).unwrap();
    directory
}

#[test]
fn messages_are_printed_oldest_first_with_number_time_flags_size_and_state() {
    let directory = four_messages();
    let expected = [
        "             number pushed                        flags      bytes state    value",
        "2305843009213693952 2026-11-23T12:30:01.042Z          7          3 ready    one",
        "2305843009213693953 2026-11-23T12:30:01.042Z 4294967295          0 ready    ",
        concat!(
            "2305843009213693954 2026-11-23T12:30:01.042Z          0         12 ready    ",
            r#"it's\r\n\\ "\xff\x00""#
        ),
        "2305843009213693955 1970-01-01T00:00:00.000Z          0          4 expired  late",
        concat!(
            "2305843009213693956 2026-11-23T12:30:01.042Z          0         12 ready    ",
            r"early \x1b[2J\xc2\x9b"
        ),
    ];
    let printed = healthy(directory.path(), &["messages", "jobs"]);
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_hexdump_shows_every_byte() {
    let directory = four_messages();
    let chosen = ["messages", "jobs", "--hex", "--from", "2305843009213693953", "--count", "2"];
    let printed = healthy(directory.path(), &chosen);
    let expected = [
        "             number pushed                        flags      bytes state    value",
        "2305843009213693953 2026-11-23T12:30:01.042Z 4294967295          0 ready  ",
        "2305843009213693954 2026-11-23T12:30:01.042Z          0         12 ready  ",
        "00000000  69 74 27 73 0d 0a 5c 20  22 ff 00 22              |it's..\\ \"..\"|",
    ];
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn raw_bytes_are_as_they_are_with_a_line_feed_between_two() {
    let directory = four_messages();
    let output = dump(directory.path(), &["messages", "jobs", "--raw", "--count", "4"]);
    assert_eq!(output.stdout, b"one\n\nit's\r\n\\ \"\xff\0\"\nlate");
    let output = dump(
        directory.path(),
        &["messages", "jobs", "--raw", "--from", "2305843009213693954", "--count", "1"],
    );
    assert_eq!(output.stdout, b"it's\r\n\\ \"\xff\0\"", "one message is exactly itself");
}

#[test]
fn json_has_a_line_for_each_message_and_no_control_character() {
    let directory = four_messages();
    let printed = healthy(directory.path(), &["messages", "jobs", "--json"]);
    let lines: Vec<&str> = printed.lines().collect();
    let expected = "{\"queue\":\"jobs\",\"number\":2305843009213693952,\
                    \"pushed_ms\":1795437001042,\"expires_ms\":0,\
                    \"flags\":7,\"bytes\":3,\"state\":\"ready\",\"value\":\"one\"}";
    assert_eq!(lines[0], expected);
    assert!(lines[2].ends_with("\"value_base64\":\"aXQncw0KXCAi/wAi\"}"), "{printed}");
    assert!(lines[3].contains("\"state\":\"expired\""), "{printed}");
    assert!(lines[4].ends_with(r#""value":"early \u001b[2J\u009b"}"#), "{printed}");
    assert!(!printed.contains(|letter: char| letter.is_control() && letter != '\n'));
    assert_eq!(lines.len(), 5);
}

#[test]
fn what_was_popped_or_removed_is_not_printed() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = fill(&data, b"jobs", 6);
    remove(&mut log, b"message 0");
    remove(&mut log, b"message 3");
    remove(&mut log, b"message 5");
    push(&mut log, b"new", 0);
    drop((log, data));
    let printed = healthy(directory.path(), &["messages", "jobs"]);
    assert_eq!(last_column(&printed), ["message 1", "message 2", "message 4", "new"]);
    assert_eq!(row(&healthy(directory.path(), &["list"]), "jobs")[0], "4");
}

#[test]
fn from_and_count_choose_messages() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = fill(&data, b"jobs", 2000);
    remove(&mut log, b"message 1001");
    drop((log, data));
    let chosen = |from: &str, count: &str| {
        let arguments = ["messages", "jobs", "--from", from, "--count", count];
        let printed = healthy(directory.path(), &arguments);
        last_column(&printed).join(",")
    };
    assert_eq!(chosen("2305843009213694952", "2"), "message 1000,message 1002");
    assert_eq!(chosen("2305843009213695951", "9"), "message 1999");
    assert_eq!(chosen("1", "0"), "");
    assert_eq!(chosen("18446744073709551615", "9"), "");
}

#[test]
fn messages_are_found_where_they_were_copied_to() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = fill(&data, b"jobs", 5000);
    for number in (1..5000).filter(|number| number % 100 != 0) {
        remove(&mut log, format!("message {number}").as_bytes());
    }
    while log.copy_forward().unwrap() {}
    sync(&mut log);
    let expected: Vec<String> = (0..50).map(|n| format!("message {}", n * 100)).collect();
    drop((log, data));
    assert_eq!(last_column(&healthy(directory.path(), &["messages", "jobs"])), expected);
}

#[test]
fn a_queue_is_named_by_its_bytes_or_with_escapes() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let long = [b'n'; 300];
    for name in [&b"a\r\n\\\"b\0"[..], b"raw\\x41", b"", b"a\xff", &long] {
        fill(&data, name, 1);
    }
    drop(data);
    let long = "n".repeat(300);
    for name in [r#"a\r\n\\"b\x00"#, r"raw\x41", r"raw\\x41", "", r"a\xff", &long] {
        let printed = healthy(directory.path(), &["messages", name]);
        assert_eq!(last_column(&printed), ["message 0"], "{name}");
    }
    let output = dump(directory.path(), &["messages", &"n".repeat(299)]);
    assert_eq!(output.status.code(), Some(1), "another queue's folder begins like this one's");
}
