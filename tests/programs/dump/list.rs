//! `list`: a line for each queue.

use super::bench::*;
use mq::storage::{Log, NewMessage};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

fn push_ago(log: &mut Log, body: &[u8], ago_ms: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    log.push(&NewMessage { body, flags: 0, expires_ms: 0 }, now - ago_ms).unwrap();
}

#[test]
fn list_has_a_line_for_each_queue() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    fill(&data, b"jobs", 3);
    fill(&data, b"a\r\n\\\"b\0", 2);
    fill(&data, &[b'n'; 452], 1);
    let mut log = fill(&data, b"large", 0);
    push(&mut log, &[b'x'; 40_000], 0);
    drop((log, data));
    let printed = healthy(directory.path(), &["list"]);
    let lines: Vec<&str> = printed.lines().collect();
    let heads =
        "     ready    removed      total   live bytes   disk bytes segments   oldest   newest";
    assert_eq!(lines[0], format!("{heads}  queue"));
    assert!(lines[1].ends_with(r#"  a\r\n\\"b\x00"#), "{printed}");
    let start = "         2          0          2          128         8192        1 ";
    assert!(lines[1].starts_with(start), "{printed}");
    let start = "         3          0          3          192         8192        1 ";
    assert!(lines[2].starts_with(start) && lines[2].ends_with("  jobs"), "{printed}");
    let large = words(lines[3]);
    assert_eq!((large[0], large[3], large[5]), ("1", "40048", "2"), "{printed}");
    assert!(lines[4].ends_with(&format!("  {}", "n".repeat(452))), "{printed}");
    assert_eq!(lines.len(), 5, "{printed}");
}

#[test]
fn popped_and_removed_messages_are_counted_as_removed() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = fill(&data, b"jobs", 6);
    remove(&mut log, b"message 0");
    remove(&mut log, b"message 1");
    remove(&mut log, b"message 4");
    push(&mut log, b"new", 0);
    drop((log, data));
    assert_eq!(row(&healthy(directory.path(), &["list"]), "jobs")[..3], ["4", "3", "7"]);
}

#[test]
fn the_oldest_and_the_newest_message_have_their_ages() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = data.create_log(b"jobs").unwrap();
    push_ago(&mut log, b"popped", 9 * DAY_MS);
    push_ago(&mut log, b"oldest", 3 * DAY_MS + 270 * MINUTE_MS);
    for number in 0..1000 {
        push_ago(&mut log, format!("message {number}").as_bytes(), 2 * DAY_MS);
    }
    push_ago(&mut log, b"newest", 90 * MINUTE_MS + 30_000);
    push_ago(&mut log, b"removed", 0);
    remove(&mut log, b"popped");
    remove(&mut log, b"removed");
    let mut log = data.create_log(b"empty").unwrap();
    push_ago(&mut log, b"popped", DAY_MS);
    remove(&mut log, b"popped");
    drop((log, data));
    let printed = healthy(directory.path(), &["list"]);
    assert_eq!(row(&printed, "jobs")[6..], ["3d", "4h", "1h", "30m", "jobs"]);
    assert_eq!(row(&printed, "empty"), ["0", "1", "1", "0", "8192", "1", "-", "-", "empty"]);
}

/// The newest message lies in an old segment when all later ones are gone, and its number says so
/// when only copies of others are behind it.
#[test]
fn the_newest_message_is_found_wherever_it_lies() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = data.create_log(b"jobs").unwrap();
    for number in 0..5000 {
        let ago_ms = if number == 4000 { DAY_MS } else { 5 * DAY_MS };
        push_ago(&mut log, format!("message {number}").as_bytes(), ago_ms);
    }
    for number in (1..5000).filter(|number| *number != 4000) {
        remove(&mut log, format!("message {number}").as_bytes());
    }
    drop(log);
    drop(data);
    assert_eq!(
        row(&healthy(directory.path(), &["list"]), "jobs")[7..],
        ["5d", "0h", "1d", "0h", "jobs"][1..]
    );
    let mut log = open(directory.path()).open_logs().unwrap().remove(0);
    while log.copy_forward().unwrap() {}
    // What was copied is durable, and then what it was copied from goes.
    sync(&mut log);
    sync(&mut log);
    let oldest = log.segments().next().unwrap().base;
    assert!(oldest > 0, "nothing was copied");
    drop(log);
    let printed = healthy(directory.path(), &["list"]);
    assert_eq!(row(&printed, "jobs")[6..], ["5d", "0h", "1d", "0h", "jobs"]);
}

#[test]
fn a_queue_that_cannot_be_opened_has_a_line_too() {
    let directory = directory_of(&[(b"a", 1), (b"b", 1), (b"c", 1)]);
    let file = |queue: &str| directory.path().join(queue).join(FIRST);
    fs::copy(file("q-a"), file("q-b")).unwrap();
    let (printed, said) = damaged(directory.path(), &["list"]);
    assert_eq!(last_column(&printed), ["a", "b", "c"]);
    assert_eq!(row(&printed, "  b"), ["?", "?", "?", "?", "8192", "1", "?", "?", "b"]);
    assert!(said.contains("q-b/") && said.contains("[foreign-segment]"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
