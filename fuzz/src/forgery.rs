//! Forgery: whatever a body holds, no damage and no power cut makes the reader take it for records
//! (rule 21).
//!
//! An input says what is in a body: bytes as they come, or records that somebody without the key
//! has made for the very positions that they come to lie at. Then it says what happens to the
//! record that holds them.
//!
//! 1. What is delivered was pushed, under that number.
//! 2. Damage of one record that was durable loses that message and no other.
//! 3. A power cut in the middle of records that were not is a torn tail and no damage: pushing goes
//!    on, and nothing that was durable is lost.

use super::choices::Choices;
use super::recovery::shared_memory;
use mq::storage::format::*;
use mq::storage::{DataDirectory, Log, NewMessage};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const SEGMENT_SIZE: u64 = 64 * 1024;
/// The most bytes of a crafted body.
const BODY_MAX: usize = 4000;

/// Messages by number.
type Messages = BTreeMap<u64, Vec<u8>>;

/// Holds for every input, or panics.
pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let root = shared_memory();
    let (directory, mut log) = open(root.path());
    push(&mut log, b"first");
    let is_durable = choices.below(2) == 0;
    sync(&mut log);
    let last = log.next(0).expect("readable").expect("a message").0;
    let crafted = last.position + Kind::Message.record_size(b"first".len()) as u64;
    let body = crafted_body(&mut choices, crafted + MESSAGE_HEAD as u64, last.sequence);
    [&body[..], b"third", b"fourth"].iter().for_each(|body| push(&mut log, body));
    let pushed = contents(&mut log);
    if is_durable {
        sync(&mut log);
        log.rest();
    }
    let path = log.segments().find(|it| it.end() > crafted).expect("its segment").path.clone();
    let start = (crafted - log.segments().next().expect("a segment").base) as usize;
    drop((log, directory));
    let size = Kind::Message.record_size(body.len());
    spoil(&path, start..start + size, &mut choices);

    let (directory, mut log) = open(root.path());
    let found = contents(&mut log);
    for (number, body) in &found {
        assert_eq!(pushed.get(number), Some(body), "number {number} was never pushed");
    }
    if is_durable {
        assert!(found.len() + 1 >= pushed.len(), "{} of {}", found.len(), pushed.len());
    } else {
        let counters = directory.counters().list();
        let damaged = counters.iter().find(|(name, _)| *name == "damaged_records");
        assert_eq!(damaged.map(|(_, count)| *count), Some(0), "torn is not rotten");
        assert!(found.contains_key(&last.sequence), "what was durable is lost");
    }
    push(&mut log, b"later");
    assert_eq!(log.len(), found.len() as u64 + 1);
}

/// A body that comes to lie at `position` behind message `last`.
fn crafted_body(choices: &mut Choices<'_>, position: u64, last: u64) -> Vec<u8> {
    let mut body = Vec::new();
    while !choices.is_empty() && body.len() < BODY_MAX && choices.below(8) > 0 {
        let version = if choices.below(2) == 0 { Version::One } else { Version::Two };
        // Nobody but the daemon knows the key.
        let stranger = Codec::new(version, [choices.byte(); 16]);
        let number = match choices.byte() {
            255 => SEQUENCE_END - 1,
            byte => last + u64::from(byte),
        };
        let kind = match [Kind::Message, Kind::Removal, Kind::Copy][choices.below(3)] {
            Kind::Copy if number % 4 == 3 && version == Version::Two => Kind::State,
            kind => kind,
        };
        let inner = vec![choices.byte(); if kind.is_bare() { 0 } else { choices.below(64) }];
        let durable = if choices.below(2) == 0 { 0 } else { position + body.len() as u64 };
        let record =
            Record { version, kind, sequence: number, durable, body: &inner, ..Record::default() };
        let offset = body.len();
        body.resize(offset + record.size(), 0);
        stranger.encode(&record, position + offset as u64, &mut body[offset..]);
        if choices.below(4) == 0 {
            body.extend((0..8).map(|_| choices.byte()));
        }
    }
    body
}

/// Changes something in these bytes of a file: some of them, or sectors that did not last.
fn spoil(path: &Path, range: std::ops::Range<usize>, choices: &mut Choices<'_>) {
    let mut bytes = fs::read(path).expect("a file");
    let count = range.len().min(256);
    match choices.below(3) {
        0 => bytes[range.start + choices.below(count.min(64))] ^= 1 << choices.below(8),
        1 => bytes[range.start + choices.below(count)] ^= 1 + choices.byte() % 255,
        _ => {
            let length = (8 + 8 * choices.below(256)).min(range.len());
            bytes[range.start..range.start + length].fill(0);
        }
    }
    fs::write(path, bytes).expect("a file");
}

fn open(root: &Path) -> (DataDirectory, Log) {
    let directory = DataDirectory::open(root, SEGMENT_SIZE, false).expect("a directory");
    let log = directory.open_logs().expect("no refusal").pop();
    let log = log.unwrap_or_else(|| directory.create_log(b"q").expect("room"));
    (directory, log)
}

fn push(log: &mut Log, body: &[u8]) {
    log.push(&NewMessage { body, flags: 0, expires_ms: 0 }, 1).expect("room");
}

fn sync(log: &mut Log) {
    if let Some((work, point)) = log.begin_sync() {
        let outcome = work();
        log.end_sync(point, &outcome);
    }
}

fn contents(log: &mut Log) -> Messages {
    let (mut messages, mut from) = (Messages::new(), 0);
    while let Some((place, message)) = log.next(from).expect("readable") {
        messages.insert(place.sequence, message.body.to_vec());
        from = place.sequence + 1;
    }
    messages
}
