//! Messages with a time to live, over both stores: a dead one is seen by nobody, counted nowhere
//! and in nobody's way, and it leaves its store wherever it stands.

use crate::random::Random;
use mq::clock::Clock;
use mq::queue::{
    Backing, DiskBacking, Durability, Limits, MemoryBacking, Message, NewMessage, Policy, Queue,
    QueueError, Queues, Ticket,
};
use mq::storage::DataDirectory;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

mod restart;
mod turns;

const LIMITS: Limits = Limits { max_queues: 100, max_queue_len: u64::MAX };

/// When a test begins, Unix time in milliseconds.
const START_MS: u64 = 1_700_000_000_000;

/// Queues under a clock that the test sets.
struct Run {
    queues: Queues,
    time_ms: Arc<AtomicU64>,
}

fn disk(path: &Path) -> Box<dyn Backing> {
    Box::new(DiskBacking::new(DataDirectory::open(path, 64 << 10, true).unwrap()))
}

impl Run {
    fn new(backing: Box<dyn Backing>, limits: Limits) -> Run {
        Run::at(backing, limits, START_MS)
    }

    fn at(backing: Box<dyn Backing>, limits: Limits, start_ms: u64) -> Run {
        let time_ms = Arc::new(AtomicU64::new(start_ms));
        let read = Arc::clone(&time_ms);
        let clock = Clock::new(move || Duration::from_millis(read.load(Relaxed)));
        let queues = Queues::open(backing, limits, Policy::Always).unwrap().with_clock(clock);
        Run { queues, time_ms }
    }

    fn push(&self, name: &[u8], body: &[u8], expires_ms: u64) -> Result<(), QueueError> {
        let message = NewMessage { body, flags: 0, expires_ms };
        self.queues.create(name, &mut Ticket::default(), |queue| queue.push(&message))
    }

    fn pass(&self, ms: u64) {
        self.time_ms.fetch_add(ms, Relaxed);
    }

    /// The length; `None` if there is no such queue.
    fn len(&self, name: &[u8]) -> Option<u64> {
        self.queues.find(name, &mut Ticket::default(), |queue| Ok(queue.len())).unwrap()
    }

    fn contains(&self, name: &[u8], body: &[u8]) -> Option<bool> {
        self.queues.find(name, &mut Ticket::default(), |queue| queue.contains(body)).unwrap()
    }

    fn bodies(&self, name: &[u8]) -> Vec<Vec<u8>> {
        let (mut bodies, mut from) = (Vec::new(), Some(0));
        while let Some(next) = from {
            let mut show = |message: Message<'_>| (bodies.push(message.body.to_vec()), true).1;
            let look = |queue: &mut Queue| queue.visit(next, u64::MAX, &mut show);
            from = self.queues.find(name, &mut Ticket::default(), look).unwrap().flatten();
        }
        bodies
    }

    /// Bytes of all bodies in the store, dead ones too.
    fn bytes(&self, name: &[u8]) -> u64 {
        let bytes = self.queues.find(name, &mut Ticket::default(), |queue| Ok(queue.bytes()));
        bytes.unwrap().unwrap_or(0)
    }

    fn tidy(&self) {
        while self.queues.tidy() {}
    }
}

/// Both stores, under `limits`.
fn runs(limits: Limits) -> Vec<(Run, Option<tempfile::TempDir>)> {
    let directory = tempfile::tempdir().unwrap();
    let on_disk = Run::new(disk(directory.path()), limits);
    let in_memory = Run::new(Box::new(MemoryBacking::new(1 << 30)), limits);
    vec![(in_memory, None), (on_disk, Some(directory))]
}

/// A list of queues looks at none of their messages.
#[test]
fn a_queue_whose_messages_are_all_dead_is_listed_and_counted_nowhere() {
    for (run, _directory) in runs(LIMITS) {
        let names = || {
            let (mut names, mut next) = (Vec::new(), Some(0));
            while let Some(from) = next {
                let show = |name: &[u8]| names.push(name.to_vec());
                next = run.queues.scan(from, run.queues.end(), show);
            }
            names
        };
        let sums = || {
            let sums = run.queues.sums();
            (sums.queues, sums.messages)
        };
        run.push(b"mixed", b"a", START_MS + 5).unwrap();
        assert_eq!(run.queues.count_at_once(), None, "it may die");
        run.push(b"mixed", b"b", 0).unwrap();
        assert_eq!(run.queues.count_at_once(), Some(1));
        run.push(b"dying", b"a", START_MS + 5).unwrap();
        run.push(b"dying", b"b", START_MS + 6).unwrap();
        assert_eq!(sums(), (2, 4));
        run.pass(5);
        assert_eq!((names(), sums()), (vec![b"mixed".to_vec(), b"dying".to_vec()], (2, 2)));
        run.pass(1);
        assert_eq!((names(), sums()), (vec![b"mixed".to_vec()], (1, 1)));
        run.push(b"dying", b"c", START_MS + 9).unwrap();
        assert_eq!((names().len(), sums()), (2, (2, 2)));
        run.pass(3);
        assert_eq!((names().len(), sums()), (1, (1, 1)));
        run.tidy();
        assert_eq!((sums(), run.queues.count_at_once()), ((1, 1), Some(1)));
        // With the clock set back it would have been alive, and it has gone.
        run.time_ms.store(START_MS, Relaxed);
        assert_eq!((names().len(), sums()), (1, (1, 1)));
    }
}

#[test]
fn a_dead_message_is_seen_by_nobody_and_counted_nowhere() {
    for (run, _directory) in runs(LIMITS) {
        for (body, expires_ms) in [("a", 0), ("b", START_MS + 5), ("c", START_MS + 6), ("d", 0)] {
            run.push(b"q", body.as_bytes(), expires_ms).unwrap();
        }
        run.push(b"r", b"x", START_MS + 5).unwrap();
        run.pass(4);
        assert_eq!((run.len(b"q"), run.contains(b"q", b"b")), (Some(4), Some(true)));
        run.pass(1);
        assert_eq!(run.len(b"q"), Some(3));
        assert_eq!((run.len(b"r"), run.contains(b"r", b"x")), (None, None));
        run.pass(1);
        assert_eq!(run.len(b"q"), Some(2));
        assert_eq!(run.contains(b"q", b"b"), Some(false));
        assert_eq!(run.len(b"q"), Some(2), "a read changes nothing");
        assert_eq!(run.bodies(b"q"), [b"a", b"d"]);
        run.tidy();
        assert_eq!(run.queues.len(), 1);
        let messages = run
            .queues
            .statistics(&run.queues.sums())
            .into_iter()
            .find(|(name, _)| *name == "messages");
        assert_eq!(messages, Some(("messages", 2)));
    }
}

/// In a queue of one place the dead one stands behind the live one.
#[test]
fn a_dead_message_takes_no_place_in_a_full_queue() {
    let limits = Limits { max_queues: 1, max_queue_len: 2 };
    for (run, _directory) in runs(limits) {
        run.push(b"q", b"a", 0).unwrap();
        run.push(b"q", b"b", START_MS + 1).unwrap();
        assert_eq!(run.push(b"q", b"c", 0), Err(QueueError::QueueFull { limit: 2 }));
        run.pass(1);
        run.push(b"q", b"c", 0).unwrap();
        assert_eq!(run.push(b"q", b"d", 0), Err(QueueError::QueueFull { limit: 2 }));
        assert_eq!(run.bodies(b"q"), [b"a", b"c"]);
    }
}

#[test]
fn a_queue_of_dead_messages_takes_no_place_among_the_queues() {
    for (run, _directory) in runs(Limits { max_queues: 1, ..LIMITS }) {
        (0..9).for_each(|_| run.push(b"q", b"a", START_MS + 1).unwrap());
        assert_eq!(run.push(b"r", b"a", 0), Err(QueueError::TooManyQueues { limit: 1 }));
        run.pass(1);
        run.push(b"r", b"a", 0).unwrap();
    }
}

#[test]
fn dead_messages_take_no_memory_from_a_push_nor_from_another_queue_for_long() {
    let run = Run::new(Box::new(MemoryBacking::new(100_000)), LIMITS);
    while run.push(b"q", &[7; 1000], START_MS + 1).is_ok() {}
    assert!(matches!(run.push(b"r", &[7; 1000], 0), Err(QueueError::OutOfMemory { .. })));
    run.pass(1);
    run.push(b"q", &[7; 1000], START_MS + 2).unwrap();
    while run.push(b"q", &[7; 1000], START_MS + 2).is_ok() {}
    run.pass(1);
    run.tidy();
    (0..88).for_each(|_| run.push(b"r", &[7; 1000], 0).unwrap());
}

/// What is dead in it cannot leave: whoever asks for another queue is refused, and does not wait.
#[test]
fn a_queue_that_is_closed_makes_no_place_when_its_messages_have_died() {
    let directory = tempfile::tempdir().unwrap();
    let run = Run::new(disk(directory.path()), Limits { max_queues: 2, ..LIMITS });
    run.push(b"closed", b"a", START_MS + 1).unwrap();
    run.push(b"other", b"a", 0).unwrap();
    let folder = directory.path().join("q-closed");
    std::fs::remove_dir_all(folder).unwrap();
    run.queues.commit();
    run.push(b"closed", b"b", START_MS + 1).unwrap_err();
    run.pass(1);
    assert_eq!(run.len(b"closed"), None);
    for _ in 0..3 {
        assert_eq!(run.push(b"third", b"a", 0), Err(QueueError::TooManyQueues { limit: 2 }));
    }
}

/// Nobody pops, and housekeeping does not come.
#[test]
fn dead_messages_leave_as_fast_as_others_come() {
    for (run, _directory) in runs(LIMITS) {
        run.push(b"q", b"live", 0).unwrap();
        for _ in 0..2000 {
            run.push(b"q", &[7; 100], run.time_ms.load(Relaxed) + 10).unwrap();
            run.pass(1);
            assert!(run.bytes(b"q") < 50 * 200, "{} bytes", run.bytes(b"q"));
        }
        assert_eq!(run.len(b"q"), Some(10));
        run.pass(1000);
        assert_eq!(run.len(b"q"), Some(1));
        assert_eq!(run.bodies(b"q"), [b"live"]);
    }
}

/// Live and dead ones in any order, in both stores and over a restart of the one on disk.
#[test]
fn dead_messages_leave_wherever_they_stand() {
    let mut random = Random::seeded();
    let directory = tempfile::tempdir().unwrap();
    let mut live: Vec<Vec<u8>> = Vec::new();
    let mut fill = |run: &Run| {
        live.clear();
        for number in 0..10_000_u32 {
            let body = number.to_le_bytes();
            let expires_ms = START_MS + 1 + random.below(100);
            let lives = random.below(4) == 0;
            run.push(b"q", &body, if lives { 0 } else { expires_ms }).unwrap();
            live.extend(lives.then(|| body.to_vec()));
        }
        live.clone()
    };
    let run = Run::new(Box::new(MemoryBacking::new(1 << 30)), LIMITS);
    let expected = fill(&run);
    run.pass(200);
    assert_eq!(run.len(b"q"), Some(expected.len() as u64));
    run.tidy();
    assert_eq!((run.bytes(b"q"), run.bodies(b"q")), (expected.len() as u64 * 4, expected));

    let run = Run::new(disk(directory.path()), LIMITS);
    let expected = fill(&run);
    run.pass(50);
    run.tidy();
    let middle = run.len(b"q");
    assert!(run.queues.close());
    drop(run);
    let run = Run::at(disk(directory.path()), LIMITS, START_MS + 50);
    assert_eq!(run.len(b"q"), middle);
    run.pass(150);
    assert_eq!(run.len(b"q"), Some(expected.len() as u64));
    assert_eq!(run.bodies(b"q"), expected);
    let before = run.bytes(b"q");
    run.tidy();
    assert!(run.bytes(b"q") < before, "their room is given back");
    assert_eq!(run.bodies(b"q"), expected);
}

/// Neither a pop nor a look at the queue may take longer the more of them there are; nor a look for
/// one of many equal ones, nor the beginning of a step.
#[test]
fn dead_messages_in_the_way_go_in_several_steps() {
    type Step<'a> = &'a dyn Fn(&mut Queue, &mut Vec<u8>) -> Result<(), QueueError>;
    let pop: Step<'_> =
        &|queue, shown| queue.pop(|message| shown.extend_from_slice(message.body)).map(drop);
    let visit: Step<'_> = &|queue, shown| {
        let next = queue.visit(0, u64::MAX, |message| {
            shown.extend_from_slice(message.body);
            false
        })?;
        if next.is_some() { Err(QueueError::Busy) } else { Ok(()) }
    };
    let look: Step<'_> = &|queue, shown| {
        let body: &[u8] = if queue.contains(b"dead")? { b"dead" } else { b"live" };
        shown.extend_from_slice(body);
        Ok(())
    };
    // A command that is one step has room for none of them.
    let begin: Step<'_> = &|queue, shown| {
        queue.begin_popping(2)?;
        shown.extend_from_slice(b"live");
        Ok(())
    };
    for (step, expected_steps) in [(pop, 4), (visit, 3), (look, 4), (begin, 4)] {
        for (run, _directory) in runs(LIMITS) {
            (0..3500).for_each(|_| run.push(b"q", b"dead", START_MS + 1).unwrap());
            run.push(b"q", b"live", 0).unwrap();
            while !run.queues.prepare_membership(b"q").unwrap() {}
            run.pass(1);
            let (mut shown, mut steps) = (Vec::new(), 0);
            let mut done = Err(QueueError::Busy);
            while done == Err(QueueError::Busy) {
                assert!(shown.is_empty());
                steps += 1;
                let work = |queue: &mut Queue| step(queue, &mut shown);
                done = run.queues.find(b"q", &mut Ticket::default(), work);
            }
            assert_eq!((done, &*shown, steps), (Ok(Some(())), &b"live"[..], expected_steps));
        }
    }
}

/// A message on its way to another queue stays until it is there, and is dead if it returns.
#[test]
fn a_hidden_message_does_not_die_before_it_is_shown_again() {
    for (run, _directory) in runs(LIMITS) {
        run.push(b"q", b"a", START_MS + 5).unwrap();
        run.push(b"q", b"b", 0).unwrap();
        let in_q = |work: &mut dyn FnMut(&mut Queue) -> Result<u64, QueueError>| {
            run.queues.find(b"q", &mut Ticket::default(), work).unwrap()
        };
        let hidden = in_q(&mut |queue| Ok(queue.hide(b"a", |_| ())?.unwrap().0));
        assert_eq!(run.len(b"q"), Some(1));
        run.pass(5);
        run.tidy();
        assert_eq!(run.len(b"q"), Some(1));
        in_q(&mut |queue| Ok(u64::from(queue.unhide(hidden.unwrap()))));
        assert_eq!((run.len(b"q"), run.bodies(b"q")), (Some(1), vec![b"b".to_vec()]));
        run.tidy();
        assert_eq!(run.len(b"q"), Some(1));
    }
}

/// A clock that is set back makes nothing come back, and keeps nobody from counting.
#[test]
fn a_clock_that_is_set_back_is_counted_with() {
    for (run, _directory) in runs(LIMITS) {
        run.push(b"q", b"a", START_MS + 50).unwrap();
        run.push(b"q", b"b", START_MS + 90).unwrap();
        run.push(b"q", b"c", 0).unwrap();
        run.pass(60);
        assert_eq!(run.len(b"q"), Some(2));
        run.time_ms.store(START_MS, Relaxed);
        assert_eq!(run.len(b"q"), Some(3), "it has not been removed yet, and is no longer dead");
        run.pass(100);
        assert_eq!(run.len(b"q"), Some(1));
        run.tidy();
        run.time_ms.store(START_MS, Relaxed);
        assert_eq!(run.len(b"q"), Some(1));
        let popped = run
            .queues
            .find(b"q", &mut Ticket::default(), |queue| queue.pop(|message| message.body.to_vec()));
        assert_eq!(popped.unwrap().flatten(), Some(b"c".to_vec()));
    }
}
