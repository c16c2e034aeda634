//! Leases on every store: random operations beside a naive model, with the clock in the test's
//! hands, and restarts of the disk store.
//!
//! The seed of a failing run is printed; give it back as `MQ_TEST_SEED` to see the same run again.

use crate::random::Random;
use mq::clock::Clock;
use mq::queue::{
    Backing, Cause, DiskBacking, Lease, Limits, MemoryBacking, Message, MessageState, NewMessage,
    Policy, Queue, QueueError, Queues, Ticket,
};
use mq::storage::DataDirectory;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const NAME: &[u8] = b"jobs";
const MOST: u64 = 40;

/// What the queue should have: the messages by their numbers, each with the delivery that holds it.
#[derive(Default)]
struct Model {
    messages: BTreeMap<u64, (u8, Option<Lease>)>,
    /// How often messages were given back, and how often their leases ran out.
    failed: BTreeMap<u64, [u32; 2]>,
    /// All deliveries there have been.
    deliveries: Vec<(u64, u64)>,
}

impl Model {
    fn end_leases(&mut self, now: Duration) {
        for (number, (_, lease)) in &mut self.messages {
            if lease.take_if(|lease| lease.until <= now).is_some() {
                self.failed.entry(*number).or_default()[1] += 1;
            }
        }
    }

    fn waiting(&self) -> impl Iterator<Item = (u64, u8)> {
        self.messages.iter().filter(|(_, it)| it.1.is_none()).map(|(number, it)| (*number, it.0))
    }

    fn holds(&mut self, number: u64, attempt: u64) -> Option<&mut Option<Lease>> {
        let (_, lease) = self.messages.get_mut(&number)?;
        Some(lease).filter(|lease| lease.is_some_and(|lease| lease.attempt == attempt))
    }
}

struct Run {
    queues: Queues,
    uptime_ms: Arc<AtomicU64>,
    model: Model,
    random: Random,
}

fn open(backing: Box<dyn Backing>, uptime_ms: &Arc<AtomicU64>) -> Queues {
    let limits = Limits { max_queues: 2, max_queue_len: MOST };
    let read = Arc::clone(uptime_ms);
    // Its uptime begins anew, as the daemon's does.
    let clock = Clock::new(move || Duration::from_millis(read.load(Ordering::Relaxed)));
    Queues::open(backing, limits, Policy::Never).unwrap().with_clock(clock)
}

fn shown(message: Message<'_>) -> (u64, u8) {
    (message.sequence, message.body[0])
}

impl Run {
    fn now(&self) -> Duration {
        self.queues.clock().uptime()
    }

    fn find<R>(&self, work: impl FnOnce(&mut Queue) -> Result<R, QueueError>) -> Option<R> {
        while !self.queues.prepare_membership(NAME).unwrap() {}
        self.queues.find(NAME, &mut Ticket::default(), work).unwrap()
    }

    fn push(&mut self, body: u8) {
        let message = NewMessage { body: &[body; 90], flags: 7, expires_ms: 0 };
        let pushed = self.queues.create(NAME, &mut Ticket::default(), |queue| {
            queue.push(&message)?;
            Ok(queue.end() - 1)
        });
        match pushed {
            Ok(number) => drop(self.model.messages.insert(number, (body, None))),
            Err(error) => {
                assert_eq!(error, QueueError::QueueFull { limit: MOST });
                assert_eq!(self.model.messages.len() as u64, MOST, "leased ones count too");
            }
        }
    }

    fn lease(&mut self) {
        let length = Duration::from_millis(self.random.below(60));
        let lease = Lease { attempt: self.queues.next_attempt(), until: self.now() + length };
        let leased = self.find(|queue| queue.lease(lease, |message| Ok(shown(message)))).flatten();
        assert_eq!(leased, self.model.waiting().next());
        if let Some((number, _)) = leased {
            self.model.messages.get_mut(&number).unwrap().1 = Some(lease);
            self.model.deliveries.push((number, lease.attempt));
        }
    }

    /// A delivery that there has been, most often one of the last.
    fn delivery(&mut self) -> Option<(u64, u64)> {
        let count = self.model.deliveries.len() as u64;
        let back = self.random.below(count.clamp(1, 30));
        let index = count.checked_sub(1 + back)?;
        Some(self.model.deliveries[index as usize])
    }

    fn step(&mut self) {
        self.model.end_leases(self.now());
        let choice = self.random.below(100);
        let body = self.random.below(6) as u8;
        match choice {
            0..=29 => self.push(body),
            30..=54 => self.lease(),
            55..=69 => {
                let Some((number, _)) = self.delivery() else { return };
                let done = self.find(|queue| queue.acknowledge(number)).unwrap_or(false);
                assert_eq!(done, self.model.messages.remove(&number).is_some());
            }
            70..=72 => {
                let Some((number, attempt)) = self.delivery() else { return };
                let fail =
                    |queue: &mut Queue| queue.fail(number, Some(attempt), Cause::Nack, b"why");
                let back = self.find(fail).unwrap_or(false);
                let held = self.model.holds(number, attempt).and_then(Option::take);
                assert_eq!(back, held.is_some());
                if back {
                    self.model.failed.entry(number).or_default()[0] += 1;
                }
            }
            73..=74 => {
                let Some((number, attempt)) = self.delivery() else { return };
                let back = self.find(|queue| Ok(queue.give_back(number, Some(attempt))));
                let held = self.model.holds(number, attempt);
                assert_eq!(back.unwrap_or(false), held.is_some());
                held.map(Option::take);
            }
            75..=79 => {
                let Some((number, attempt)) = self.delivery() else { return };
                let lease = Lease { attempt, until: self.now() + Duration::from_millis(50) };
                let extended = self.find(|queue| Ok(queue.extend(number, lease)));
                let held = self.model.holds(number, attempt);
                assert_eq!(extended.unwrap_or(false), held.is_some());
                held.map(|held| held.replace(lease));
            }
            80..=84 => {
                let popped = self.find(|queue| queue.pop(shown)).flatten();
                assert_eq!(popped, self.model.waiting().next());
                popped.map(|(number, _)| self.model.messages.remove(&number));
            }
            85..=87 => {
                let removed = self.find(|queue| queue.remove(&[body; 90])).unwrap_or(0);
                let before = self.model.messages.len() as u64;
                self.model.messages.retain(|_, it| it.0 != body || it.1.is_some());
                assert_eq!(removed, before - self.model.messages.len() as u64);
            }
            88 if self.random.below(10) == 0 => {
                let dropped = self.queues.drop_queue(NAME, &mut Ticket::default()).unwrap();
                assert_eq!(dropped, !self.model.messages.is_empty());
                self.model.messages.clear();
                self.model.failed.clear();
            }
            89 => drop(self.queues.tidy()),
            _ => drop(self.uptime_ms.fetch_add(self.random.below(20), Ordering::Relaxed)),
        }
        self.check(body);
    }

    fn check(&mut self, body: u8) {
        self.model.end_leases(self.now());
        let seen = self.find(|queue| {
            let mut all = Vec::new();
            queue.visit(0, u64::MAX, |message| {
                all.push(shown(message));
                true
            })?;
            let is_there = queue.contains(&[body; 90])?;
            Ok((queue.len(), queue.leased(), is_there, all))
        });
        let waiting: Vec<_> = self.model.waiting().collect();
        let leased = (self.model.messages.len() - waiting.len()) as u64;
        let is_there = waiting.iter().any(|it| it.1 == body);
        let expected = (waiting.len() as u64, leased, is_there, waiting);
        assert_eq!(seen, (!self.model.messages.is_empty()).then_some(expected));
        self.look();
        let (exists, sums) = (seen.is_some(), self.queues.sums());
        assert_eq!(sums.queues, u64::from(exists));
        assert_eq!(sums.messages, self.model.messages.len() as u64);
    }

    /// Looks at what is there without taking it: the newest first, and by number.
    fn look(&mut self) {
        let end = self.find(|queue| Ok(queue.end())).unwrap_or_default();
        let below = end.saturating_sub(self.random.below(60));
        let newest = self.find(|queue| queue.newest_below(below)).flatten();
        let waiting = self.model.waiting().filter(|(number, _)| *number < below);
        assert_eq!(newest, waiting.last().map(|(number, _)| number));
        let expected = self.model.messages.get(&below).map(|(body, lease)| {
            let state = if lease.is_some() { MessageState::Leased } else { MessageState::Ready };
            ((below, *body), state)
        });
        let look = |queue: &mut Queue| queue.show(below, |it, state| (shown(it), state));
        assert_eq!(self.find(look).flatten(), expected);
        let failures = self.find(|queue| queue.failures(below)).unwrap_or_default();
        let counted = self.model.failed.get(&below).copied().unwrap_or_default();
        let counted = expected.map_or([0, 0], |_| counted);
        assert_eq!([failures.nacks, failures.expiries], counted);
        assert_eq!(failures.attempts, counted[0] + counted[1]);
    }
}

#[test]
fn in_memory() {
    let uptime_ms = Arc::default();
    let queues = open(Box::new(MemoryBacking::new(1 << 30)), &uptime_ms);
    let mut run = Run { queues, uptime_ms, model: Model::default(), random: Random::seeded() };
    (0..20_000).for_each(|_| run.step());
}

#[test]
fn on_disk_and_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let backing = |path: &Path| {
        Box::new(DiskBacking::new(DataDirectory::open(path, 64 << 10, true).unwrap()))
    };
    let uptime_ms = Arc::default();
    let queues = open(backing(folder.path()), &uptime_ms);
    let mut run = Run { queues, uptime_ms, model: Model::default(), random: Random::seeded() };
    for _ in 0..20 {
        (0..500).for_each(|_| run.step());
        let identity = run.find(|queue| Ok(queue.identity()));
        let Run { queues, uptime_ms, mut model, random } = run;
        assert!(queues.close());
        drop(queues);
        // A worker that comes back late: its id means the message still.
        model.messages.values_mut().for_each(|it| it.1 = None);
        let queues = open(backing(folder.path()), &uptime_ms);
        run = Run { queues, uptime_ms, model, random };
        assert_eq!(run.find(|queue| Ok(queue.identity())), identity);
    }
}

fn on_disk(path: &Path, segment_size: u64) -> Queues {
    let backing = DiskBacking::new(DataDirectory::open(path, segment_size, true).unwrap());
    open(Box::new(backing), &Arc::default())
}

fn push(queues: &Queues, body: &[u8]) -> u64 {
    let message = NewMessage { body, flags: 0, expires_ms: 0 };
    let push = |queue: &mut Queue| {
        queue.push(&message)?;
        Ok(queue.end() - 1)
    };
    queues.create(NAME, &mut Ticket::default(), push).unwrap()
}

fn with<R>(queues: &Queues, work: impl FnOnce(&mut Queue) -> Result<R, QueueError>) -> R {
    queues.find(NAME, &mut Ticket::default(), work).unwrap().expect("it is there")
}

fn lease(queues: &Queues) -> Option<(u64, u8)> {
    let lease = Lease { attempt: queues.next_attempt(), until: Duration::MAX };
    with(queues, |queue| queue.lease(lease, |message| Ok(shown(message))))
}

/// The next start gives the number to another message, and the id of the one that was lost removed
/// that.
#[test]
fn an_id_of_what_a_power_cut_took_means_no_other_message() {
    let (folder, before) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let queues = on_disk(folder.path(), 64 << 10);
    let kept = push(&queues, b"kept");
    assert!(queues.close());
    let files = folder.path().join("q-jobs");
    std::fs::create_dir(before.path().join("q-jobs")).unwrap();
    for path in [folder.path(), &files].map(|path| std::fs::read_dir(path).unwrap()) {
        for entry in path.map(|entry| entry.unwrap()) {
            let inner = entry.path();
            let inner = inner.strip_prefix(folder.path()).unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), before.path().join(inner)).unwrap();
            }
        }
    }
    drop(queues);
    let queues = on_disk(folder.path(), 64 << 10);
    let (lost, attempt) = (push(&queues, b"lost"), queues.next_attempt());
    assert!(with(&queues, |queue| Ok(queues.is_meant(queue, lost, attempt))));
    drop(queues);
    let queues = on_disk(before.path(), 64 << 10);
    assert_eq!(push(&queues, b"new"), lost);
    assert!(with(&queues, |queue| {
        assert!(!queues.is_meant(queue, lost, attempt), "it is another one");
        assert!(queues.is_meant(queue, lost, queues.next_attempt()));
        Ok(queues.is_meant(queue, kept, attempt))
    }));
}

/// Each lease that ended threw away an index that had been built since it began.
#[test]
fn the_index_stays_whole_while_leases_end() {
    let folder = tempfile::tempdir().unwrap();
    let queues = on_disk(folder.path(), 64 << 10);
    let numbers = [b"a", b"b", b"c"].map(|body| push(&queues, body));
    assert!(queues.close());
    drop(queues);
    let queues = on_disk(folder.path(), 64 << 10);
    assert_eq!(lease(&queues), Some((numbers[0], b'a')));
    while !queues.prepare_membership(NAME).unwrap() {}
    with(&queues, |queue| {
        assert_eq!(queue.contains(b"a"), Ok(false), "it is leased");
        assert!(queue.give_back(numbers[0], None));
        assert!(queue.contains(b"a")? && queue.contains(b"b")?);
        Ok(())
    });
}

/// Room was made for each lease anew, in one piece for all of them: 400 MB for 20,000 of short
/// messages.
#[test]
fn leases_take_no_room_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let size = || -> u64 {
        let files = std::fs::read_dir(folder.path().join("q-jobs")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    };
    let limits = Limits { max_queues: 2, max_queue_len: u64::MAX };
    let directory = DataDirectory::open(folder.path(), 64 << 10, true).unwrap();
    let backing = Box::new(DiskBacking::new(directory));
    let queues = Queues::open(backing, limits, Policy::Never).unwrap();
    for _ in 0..4000 {
        push(&queues, b"m");
    }
    let before = size();
    while lease(&queues).is_some() {}
    assert_eq!((with(&queues, |queue| Ok(queue.leased())), size()), (4000, before));
}

/// The acknowledgement was an error, and so was that of the others in its request.
#[test]
fn what_damage_takes_while_it_is_leased_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(folder.path(), 64 << 10, false).unwrap();
    let queues = open(Box::new(DiskBacking::new(directory)), &Arc::default());
    let numbers = [b"one", b"two"].map(|body| push(&queues, body));
    assert_eq!([lease(&queues), lease(&queues)].map(|it| it.unwrap().0), numbers);
    let path = std::fs::read_dir(folder.path().join("q-jobs")).unwrap().next().unwrap();
    let path = path.unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(3).position(|bytes| bytes == b"one").unwrap();
    bytes[at] ^= 1;
    std::os::unix::fs::FileExt::write_all_at(
        &std::fs::File::options().write(true).open(&path).unwrap(),
        &bytes[at..=at],
        at as u64,
    )
    .unwrap();
    assert_eq!(with(&queues, |queue| queue.acknowledge_all(numbers.into_iter())), 1);
    assert_eq!(with(&queues, |queue| Ok((queue.leased(), queue.pop(shown)?))), (0, None));
    let left = queues.find(NAME, &mut Ticket::default(), |queue| Ok(queue.len()));
    assert_eq!(left, Ok(None), "a look has met the damage");
}
