//! Rule 20 for whole commands: a power cut in the middle of one leaves all of it in a queue, or
//! nothing. The commands are a session's, and what they write is cut everywhere.

use super::bench::*;
use mq::queue::{DiskBacking, Durability, Limits, NewMessage, Policy, Queues, Ticket};
use mq::session::redis::RedisSession;
use mq::session::{NewClient, Session, Settings, Shared, Store};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const SEGMENT_SIZE: u64 = 64 * 1024;

/// The bodies in a queue, oldest first.
type Bodies = Vec<String>;

/// Queues on disk, and a client of theirs.
struct Bench {
    root: TempDir,
    queues: Arc<Queues>,
    session: RedisSession,
}

impl Bench {
    fn new(max_queue_len: u64) -> Bench {
        let root = TempDir::new().unwrap();
        let queues = Arc::new(open(root.path(), max_queue_len));
        let shared =
            Shared::new(Store::Queues(Arc::clone(&queues)), Settings::default(), Arc::default());
        let session = RedisSession::new(Arc::new(shared), NewClient::detached(1));
        Bench { root, queues, session }
    }

    /// Pushes messages, of which some may be equal.
    fn push(&self, name: &str, bodies: &[&str]) {
        for body in bodies {
            let message = NewMessage { body: body.as_bytes(), flags: 0, expires_ms: 0 };
            let push = |queue: &mut mq::queue::Queue| queue.push(&message);
            self.queues.create(name.as_bytes(), &mut Ticket::default(), push).unwrap();
        }
    }

    /// The replies to these lines, with `|` for each line end.
    fn ask(&mut self, lines: &[&str]) -> String {
        let request = lines.iter().map(|line| format!("{line}\r\n")).collect::<String>();
        let (mut output, mut rest) = (Vec::new(), request.as_bytes());
        while !rest.is_empty() {
            let advance = self.session.advance(rest, &mut output);
            assert!(advance.close.is_none(), "it is closed");
            rest = &rest[advance.consumed..];
        }
        String::from_utf8_lossy(&output).replace("\r\n", "|")
    }

    fn files(&self, name: &str) -> Files {
        read_files(&self.root.path().join(format!("q-{name}")))
    }

    /// Lets `act` work, and checks of each queue in `names` that a power cut at any write leaves
    /// all of it there, or nothing.
    fn cut_everywhere(&mut self, names: &[&str], act: impl FnOnce(&mut Bench)) {
        self.queues.commit();
        let before: Vec<Files> = names.iter().map(|name| self.files(name)).collect();
        act(self);
        for (name, before) in names.iter().zip(before) {
            let after = self.files(name);
            let (old, new) = (bodies(name, &before), bodies(name, &after));
            assert_ne!(old, new, "nothing has happened to {name}");
            let mut seen = BTreeSet::new();
            for image in images(&before, &after) {
                let found = bodies(name, &image);
                assert!(found == old || found == new, "{name}: {found:?} of {old:?} and {new:?}");
                seen.insert(found);
            }
            assert_eq!(seen.len(), 2, "{name} was not cut");
        }
    }
}

fn open(root: &Path, max_queue_len: u64) -> Queues {
    let directory = open_directory(root, SEGMENT_SIZE, false).unwrap();
    let limits = Limits { max_queues: 10, max_queue_len };
    Queues::open(Box::new(DiskBacking::new(directory)), limits, Policy::Always).unwrap()
}

/// What a start finds in the queue `name` of these files.
fn bodies(name: &str, files: &Files) -> Bodies {
    let root = TempDir::new().unwrap();
    let folder = root.path().join(format!("q-{name}"));
    fs::create_dir(&folder).unwrap();
    files.iter().for_each(|(file, bytes)| fs::write(folder.join(file), bytes).unwrap());
    let (_directory, log) = super::bench::open(root.path(), SEGMENT_SIZE, false).unwrap();
    let (mut log, mut from, mut bodies) = (log.expect("a queue"), 0, Bodies::new());
    while let Some((place, message)) = log.next(from).unwrap() {
        from = place.sequence + 1;
        bodies.push(String::from_utf8_lossy(message.body).into_owned());
    }
    bodies
}

/// What a power cut may leave between two states of a queue of one file: any of the sectors with
/// cursors that have changed, and what has been appended up to any place.
fn images(before: &Files, after: &Files) -> Vec<Files> {
    let (old, new) = (&before[&only_name(before)], &after[&only_name(after)]);
    assert_eq!(old.len(), new.len());
    let sector = |number: usize| number * SECTOR..(number + 1) * SECTOR;
    let slots: Vec<_> =
        (1..RECORDS / SECTOR).filter(|it| old[sector(*it)] != new[sector(*it)]).collect();
    let end = |file: &[u8]| file.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    let mut images = Vec::new();
    for lost in 0..1 << slots.len() {
        let mut bytes = new.clone();
        for (_, slot) in slots.iter().enumerate().filter(|(index, _)| lost >> index & 1 == 1) {
            bytes[sector(*slot)].copy_from_slice(&old[sector(*slot)]);
        }
        for cut in (end(old).max(RECORDS)..=end(new).max(RECORDS)).rev() {
            bytes[cut..].fill(0);
            images.push(Files::from([(only_name(after), bytes.clone())]));
        }
    }
    images
}

fn only_name(files: &Files) -> String {
    assert_eq!(files.len(), 1);
    files.keys().next().unwrap().clone()
}

/// A value that stands several times: each was a step of its own.
#[test]
fn rule_20_equal_messages_are_removed_together() {
    let mut bench = Bench::new(u64::MAX);
    bench.push("q", &["a", "m", "b", "m", "m", "c", "m"]);
    bench.cut_everywhere(&["q"], |bench| assert_eq!(bench.ask(&["SREM q m"]), ":4|"));
    bench.push("q", &["x", "x"]);
    bench.cut_everywhere(&["q"], |bench| assert_eq!(bench.ask(&["SREM q x none a x"]), ":3|"));
}
