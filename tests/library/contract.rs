//! One contract for every store: random operations on queues, each answer compared with a naive
//! model.
//!
//! The model is a deque of bodies for each queue. The seed of a failing run is printed; give it
//! back as `MQ_TEST_SEED` to see the same run again.

use crate::random::Random;
use mq::queue::{
    Backing, DiskBacking, Durability, Limits, MemoryBacking, Message, NewMessage, Policy, Queue,
    QueueError, Queues, ReplyVerdict, Ticket,
};
use mq::storage::DataDirectory;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

const LIMITS: Limits = Limits { max_queues: 100, max_queue_len: 3000 };
const NAMES: [&[u8]; 4] = [b"jobs", b"", b"a/b\0\r\n", &[0xfe; 200]];

fn body(random: &mut Random) -> Vec<u8> {
    let which = random.below(60);
    let length = if which % 20 == 19 { 9000 } else { which as usize * 3 };
    let mut body = vec![which as u8; length];
    body.extend(which.to_le_bytes());
    body
}

type Model = BTreeMap<Vec<u8>, VecDeque<(Vec<u8>, u32)>>;

struct Run {
    queues: Queues,
    model: Model,
    random: Random,
    ticket: Ticket,
}

fn owned(message: Message<'_>) -> (Vec<u8>, u32) {
    (message.body.to_vec(), message.flags)
}

impl Run {
    fn new(backing: Box<dyn Backing>, random: Random) -> Run {
        let queues = Queues::open(backing, LIMITS, Policy::Always).unwrap();
        Run { queues, model: Model::new(), random, ticket: Ticket::default() }
    }

    fn create<R>(
        &mut self,
        name: &[u8],
        work: impl FnOnce(&mut Queue) -> Result<R, QueueError>,
    ) -> Result<R, QueueError> {
        self.queues.create(name, &mut self.ticket, work)
    }

    fn find<R>(
        &mut self,
        name: &[u8],
        work: impl FnOnce(&mut Queue) -> Result<R, QueueError>,
    ) -> Option<R> {
        self.queues.find(name, &mut self.ticket, work).unwrap()
    }

    fn step(&mut self) {
        let name = NAMES[self.random.below(NAMES.len() as u64) as usize];
        let body = body(&mut self.random);
        match self.random.below(100) {
            0..=24 => self.push(name, &body),
            25..=49 => self.push_unique(name, &body),
            50..=69 => self.pop(name),
            70..=84 => self.remove(name, &body),
            85..=89 => self.contains(name, &body),
            90..=92 => self.visit(name),
            93..=94 => self.move_message(name, &body),
            95 if self.random.below(20) == 0 => self.drop_queue(name),
            96 => {
                // A move takes one commit for its target and one for its source.
                self.queues.commit();
                self.queues.commit();
                assert_eq!(self.queues.verdict(&self.ticket), ReplyVerdict::Leave);
                self.ticket = Ticket::default();
            }
            97 => self.queues.rest_idle(),
            _ => drop(self.queues.tidy()),
        }
        let len = self.find(name, |queue| Ok(queue.len())).unwrap_or(0);
        assert_eq!(len, self.model.get(name).map_or(0, |queue| queue.len() as u64));
    }

    fn push(&mut self, name: &[u8], body: &[u8]) {
        let flags = self.random.below(1 << 32) as u32;
        let message = NewMessage { body, flags, expires_ms: 0 };
        let expected = self.model.entry(name.into()).or_default();
        if expected.len() as u64 == LIMITS.max_queue_len {
            let full = QueueError::QueueFull { limit: LIMITS.max_queue_len };
            assert_eq!(self.create(name, |queue| queue.push(&message)), Err(full));
        } else {
            expected.push_back((body.into(), flags));
            self.create(name, |queue| queue.push(&message)).unwrap();
        }
    }

    /// Membership is not answered before.
    fn build_index(&self, name: &[u8]) {
        while !self.queues.prepare_membership(name).unwrap() {}
    }

    fn push_unique(&mut self, name: &[u8], body: &[u8]) {
        self.build_index(name);
        let message = NewMessage { body, flags: 5, expires_ms: 0 };
        let expected = self.model.entry(name.into()).or_default();
        let is_new = expected.iter().all(|(other, _)| other != body);
        if is_new && expected.len() as u64 == LIMITS.max_queue_len {
            return;
        }
        if is_new {
            expected.push_back((body.into(), 5));
        }
        assert_eq!(self.create(name, |queue| queue.push_unique(&message)), Ok(is_new));
    }

    fn pop(&mut self, name: &[u8]) {
        let expected = self.model.get_mut(name).and_then(VecDeque::pop_front);
        assert_eq!(self.find(name, |queue| queue.pop(owned)).flatten(), expected);
    }

    fn remove(&mut self, name: &[u8], body: &[u8]) {
        self.build_index(name);
        let queue = self.model.entry(name.into()).or_default();
        let before = queue.len();
        queue.retain(|(other, _)| other != body);
        let expected = (before - queue.len()) as u64;
        assert_eq!(self.find(name, |queue| queue.remove(body)).unwrap_or(0), expected);
    }

    fn contains(&mut self, name: &[u8], body: &[u8]) {
        self.build_index(name);
        let queue = self.model.get(name);
        let expected = queue.is_some_and(|queue| queue.iter().any(|(other, _)| other == body));
        assert_eq!(self.find(name, |queue| queue.contains(body)).unwrap_or(false), expected);
    }

    fn visit(&mut self, name: &[u8]) {
        let mut seen = Vec::new();
        let mut last = 0;
        self.find(name, |queue| {
            queue.visit(0, u64::MAX, |message| {
                assert!(message.sequence > last, "numbers grow");
                last = message.sequence;
                seen.push(owned(message));
                true
            })
        });
        let expected: Vec<_> = self.model.get(name).into_iter().flatten().cloned().collect();
        assert!(seen == expected, "{} messages, expected {}", seen.len(), expected.len());
    }

    fn move_message(&mut self, from: &[u8], body: &[u8]) {
        let to = NAMES[self.random.below(NAMES.len() as u64) as usize];
        let model = self.model.clone();
        let there = |name: &[u8]| {
            let queue = model.get(name);
            queue.and_then(|queue| queue.iter().position(|(other, _)| other == body))
        };
        // Which of several equal messages moves is open: at most one is looked at.
        let count = model.get(from).map_or(0, |q| q.iter().filter(|(b, _)| b == body).count());
        if count > 1 {
            return;
        }
        self.build_index(from);
        self.build_index(to);
        let moved = self.queues.move_message(from, to, body, &mut self.ticket, &mut 0).unwrap();
        assert_eq!(moved, count == 1);
        if moved && from != to {
            let index = there(from).unwrap();
            let message = self.model.get_mut(from).unwrap().remove(index).unwrap();
            if there(to).is_none() {
                self.model.entry(to.into()).or_default().push_back(message);
            }
        }
    }

    fn drop_queue(&mut self, name: &[u8]) {
        let expected = self.model.remove(name).is_some_and(|queue| !queue.is_empty());
        assert_eq!(self.queues.drop_queue(name, &mut self.ticket), Ok(expected));
        assert!(self.find(name, |_| Ok(())).is_none());
    }

    /// What was written well is never taken for damaged.
    fn check_counters(&self) {
        for (name, value) in self.queues.statistics(&self.queues.sums()) {
            assert!(value == 0 || !["damaged_records", "lost_messages"].contains(&name), "{name}");
        }
    }

    fn drain(mut self) {
        self.check_counters();
        for name in NAMES {
            self.visit(name);
            while self.model.get(name).is_some_and(|queue| !queue.is_empty()) {
                self.pop(name);
            }
            self.pop(name);
        }
        assert_eq!(self.queues.len(), 0);
    }
}

fn disk(path: &Path) -> Box<dyn Backing> {
    Box::new(DiskBacking::new(DataDirectory::open(path, 32 * 1024, false).unwrap()))
}

#[test]
fn queues_in_memory_answer_as_the_model_does() {
    let mut run = Run::new(Box::new(MemoryBacking::new(1 << 30)), Random::seeded());
    for _ in 0..30_000 {
        run.step();
    }
    run.drain();
}

#[test]
fn queues_on_disk_answer_as_the_model_does() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(disk(directory.path()), Random::seeded());
    for _ in 0..15_000 {
        run.step();
    }
    run.drain();
}

#[test]
fn queues_on_disk_answer_as_the_model_does_over_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(disk(directory.path()), Random::seeded());
    for round in 0..30 {
        for _ in 0..400 {
            run.step();
        }
        let Run { queues, model, random, .. } = run;
        // Every other time without a clean stop: what a killed process leaves in its files is
        // there.
        if round % 2 == 0 {
            queues.close();
        } else {
            // What was answered is there after a crash too, and a move is answered by a commit.
            queues.commit();
        }
        drop(queues);
        run = Run::new(disk(directory.path()), random);
        run.model = model;
        run.check_counters();
        for name in NAMES {
            run.visit(name);
        }
    }
    run.drain();
}

#[test]
fn the_limit_of_queues_is_named_and_an_empty_queue_makes_room() {
    let limits = Limits { max_queues: 2, ..LIMITS };
    let backing = Box::new(MemoryBacking::new(1 << 20));
    let queues = Queues::open(backing, limits, Policy::Always).unwrap();
    let mut ticket = Ticket::default();
    let message = NewMessage { body: b"m", flags: 0, expires_ms: 0 };
    let mut push = |name: &[u8]| queues.create(name, &mut ticket, |queue| queue.push(&message));
    push(b"one").unwrap();
    push(b"two").unwrap();
    assert_eq!(push(b"three"), Err(QueueError::TooManyQueues { limit: 2 }));
    push(b"two").unwrap();
    let mut ticket = Ticket::default();
    queues.find(b"one", &mut ticket, |queue| queue.pop(|_| ())).unwrap();
    queues.create(b"three", &mut ticket, |queue| queue.push(&message)).unwrap();
    assert_eq!(queues.len(), 2);
}

#[test]
fn the_limit_of_memory_is_named_and_popping_makes_room() {
    let backing = Box::new(MemoryBacking::new(10_000));
    let queues = Queues::open(backing, LIMITS, Policy::Always).unwrap();
    let mut ticket = Ticket::default();
    let message = NewMessage { body: &[7; 1000], flags: 0, expires_ms: 0 };
    let mut pushed = 0;
    let error = loop {
        match queues.create(b"q", &mut ticket, |queue| queue.push(&message)) {
            Ok(()) => pushed += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, QueueError::OutOfMemory { limit: 10_000 });
    assert_eq!(pushed, 8);
    queues.find(b"q", &mut ticket, |queue| queue.pop(|_| ())).unwrap();
    queues.create(b"q", &mut ticket, |queue| queue.push(&message)).unwrap();
}
