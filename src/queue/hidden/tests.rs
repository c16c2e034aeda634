//! Hidden messages beside a model, in both stores, and how often a store is asked for them.

use super::*;
use crate::queue::{Backing, DiskBacking, MemoryBacking, Message, MessageStore, NewMessage};
use crate::queue::{Queue, QueueError};
use crate::random::Random;
use crate::storage::DataDirectory;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A queue, and for each number in it whether the message is hidden.
struct Run {
    queue: Queue,
    model: BTreeMap<u64, (Vec<u8>, bool)>,
    first: u64,
    last: u64,
    random: Random,
}

impl Run {
    fn new(backing: &dyn Backing) -> Run {
        let max_len = Arc::new(u64::MAX.into());
        let mut queue = Queue::new(1, backing.create(b"q").unwrap(), max_len);
        // Where a store's numbers begin is its own affair.
        queue.push(&NewMessage { body: b"", flags: 0, expires_ms: 0 }).unwrap();
        let last = queue.pop(|message| message.sequence).unwrap().unwrap();
        Run { queue, model: BTreeMap::new(), first: last, last, random: Random::seeded() }
    }

    fn numbers(&self, hidden: bool) -> Vec<u64> {
        let wanted = self.model.iter().filter(|(_, (_, is_hidden))| *is_hidden == hidden);
        wanted.map(|(number, _)| *number).collect()
    }

    fn step(&mut self) {
        while !self.queue.store().prepare_find().unwrap() {}
        let body = vec![self.random.below(12) as u8; 900];
        let hidden = self.numbers(true);
        let chosen = self.random.below(hidden.len().max(1) as u64) as usize;
        let number = hidden.get(chosen);
        match self.random.below(20) {
            0..=7 => {
                let message = NewMessage { body: &body, flags: 0, expires_ms: 0 };
                self.queue.push(&message).unwrap();
                self.last += 1;
                self.model.insert(self.last, (body, false));
            }
            8..=9 => {
                let popped = self.queue.pop(|message| message.sequence).unwrap();
                assert_eq!(popped, self.numbers(false).first().copied());
                popped.map(|number| self.model.remove(&number));
            }
            10..=13 => {
                let found = self.queue.hide(body.as_slice(), |message| message.sequence);
                let found = found.unwrap().map(|(number, shown)| {
                    assert_eq!(number, shown);
                    let (found, is_hidden) = self.model.get_mut(&number).unwrap();
                    assert!(*found == body && !std::mem::replace(is_hidden, true));
                });
                let is_seen = |it: &(Vec<u8>, bool)| it.0 == body && !it.1;
                assert!(found.is_some() || !self.model.values().any(is_seen));
            }
            14 => {
                assert!(number.is_none_or(|number| self.queue.unhide(*number)));
                if let Some(number) = number {
                    self.model.get_mut(number).unwrap().1 = false;
                }
            }
            15..=17 => {
                assert!(number.is_none_or(|number| self.queue.remove_hidden(*number).unwrap()));
                number.map(|number| self.model.remove(number));
            }
            18 => {
                let before = self.model.len();
                self.model.retain(|_, (other, hidden)| *other != body || *hidden);
                let removed = self.queue.remove(&body).unwrap();
                assert_eq!(removed as usize, before - self.model.len());
            }
            _ => self.tidy(),
        }
        self.check();
    }

    fn tidy(&mut self) {
        let store = self.queue.store();
        store.tidy();
        if let Some((work, point)) = store.begin_sync() {
            let outcome = work();
            store.end_sync(point, &outcome);
        }
    }

    fn check(&mut self) {
        let from = self.first + self.random.below(self.last - self.first + 2);
        let mut seen = Vec::new();
        let show = |message: Message<'_>| {
            seen.push(message.sequence);
            true
        };
        self.queue.visit(from, u64::MAX, show).unwrap();
        let visible = self.numbers(false);
        let expected: Vec<u64> = visible.iter().copied().filter(|it| *it >= from).collect();
        assert_eq!(seen, expected, "from {from}");
        assert_eq!(self.queue.len(), visible.len() as u64);
        assert!(self.queue.bytes() >= visible.len() as u64 * 900);
        assert_eq!(self.queue.is_vacant(), self.model.is_empty());
        let Hidden { messages, runs, .. } = &self.queue.hidden;
        let mut with_hidden = BTreeSet::new();
        for number in messages.keys() {
            let run = runs.run(*number).expect("a hidden message is in a run");
            assert!(!visible.iter().any(|it| run.contains(it)), "{runs:?}");
            with_hidden.insert(run.start);
        }
        assert_eq!(with_hidden.len(), runs.len(), "{runs:?}");
    }
}

#[test]
fn hidden_messages_are_not_seen_and_come_back_at_their_place() {
    let mut run = Run::new(&MemoryBacking::new(1 << 30));
    (0..3000).for_each(|_| run.step());
}

/// Segments are small, so that hidden messages are copied forward meanwhile.
#[test]
fn hidden_messages_on_disk_are_found_where_they_were_copied_to() {
    let folder = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(folder.path(), 16 * 1024, true).unwrap();
    let backing = DiskBacking::new(directory);
    let mut run = Run::new(&backing);
    (0..4000).for_each(|_| run.step());
    let counters = backing.statistics();
    assert!(counters.iter().any(|(name, count)| *name == "copied_messages" && *count > 0));
    while let Some(number) = run.numbers(true).first().copied() {
        assert!(run.queue.remove_hidden(number).unwrap());
        run.model.remove(&number);
        assert!(!run.queue.unhide(number));
        assert!(!run.queue.remove_hidden(number).unwrap());
    }
    run.check();
}

/// Counts what a queue asks of its store.
struct Counted {
    store: Box<dyn MessageStore>,
    nexts: Arc<AtomicU64>,
    /// Messages that a look by content has shown.
    shown: Arc<AtomicU64>,
}

impl MessageStore for Counted {
    fn len(&self) -> u64 {
        self.store.len()
    }

    fn bytes(&self) -> u64 {
        self.store.bytes()
    }

    fn identity(&self) -> u64 {
        self.store.identity()
    }

    fn end(&self) -> u64 {
        self.store.end()
    }

    fn push(&mut self, message: &NewMessage<'_>, pushed_ms: u64) -> Result<Place, QueueError> {
        self.store.push(message, pushed_ms)
    }

    fn next(&mut self, from: u64) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        self.nexts.fetch_add(1, Ordering::Relaxed);
        self.store.next(from)
    }

    fn promise_removal(&mut self, place: Place) -> Result<(), QueueError> {
        self.store.promise_removal(place)
    }

    fn withdraw_promise(&mut self, place: Place) {
        self.store.withdraw_promise(place);
    }

    fn remove(&mut self, place: Place) -> Result<(), QueueError> {
        self.store.remove(place)
    }

    fn current(&self, place: Place) -> Place {
        self.store.current(place)
    }

    fn at(&mut self, place: Place) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        self.store.at(place)
    }

    fn find(
        &mut self,
        body: &[u8],
        wanted: &dyn Fn(&Message<'_>) -> bool,
    ) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        self.store.find(body, &|message| {
            self.shown.fetch_add(1, Ordering::Relaxed);
            wanted(message)
        })
    }

    fn count_equal(
        &mut self,
        body: &[u8],
        from: &mut Option<u64>,
        most: u64,
    ) -> Result<u64, QueueError> {
        self.store.count_equal(body, from, most)
    }

    fn prepare_find(&mut self) -> Result<bool, QueueError> {
        self.store.prepare_find()
    }

    fn discard(&mut self) -> Result<(), QueueError> {
        self.store.discard()
    }
}

/// A queue of `count` messages whose bodies `body` makes of their places, and the counts of what it
/// asks of its store.
fn counted(
    backing: &dyn Backing,
    count: u64,
    body: impl Fn(u64) -> String,
) -> (Queue, [Arc<AtomicU64>; 2]) {
    let counts: [Arc<AtomicU64>; 2] = Default::default();
    let [nexts, shown] = counts.clone();
    let store = Box::new(Counted { store: backing.create(b"q").unwrap(), nexts, shown });
    let mut queue = Queue::new(1, store, Arc::new(u64::MAX.into()));
    for place in 0..count {
        let body = body(place);
        queue.push(&NewMessage { body: body.as_bytes(), flags: 0, expires_ms: 0 }).unwrap();
    }
    while !queue.store().prepare_find().unwrap() {}
    (queue, counts)
}

/// Runs `test` with each kind of store.
fn with_each_store(test: impl Fn(&dyn Backing)) {
    test(&MemoryBacking::new(1 << 30));
    let folder = tempfile::tempdir().unwrap();
    test(&DiskBacking::new(DataDirectory::open(folder.path(), 1 << 20, true).unwrap()));
}

fn take(count: &AtomicU64) -> u64 {
    count.swap(0, Ordering::Relaxed)
}

/// A transaction of SMOVEs and SPOPs walked past all that it had hidden with each of them, and all
/// clients waited.
#[test]
fn what_is_hidden_is_passed_at_once() {
    const HALF: u64 = 500;
    let body = |place: u64| format!("m{place}");
    let hide = |queue: &mut Queue, place: u64| {
        assert!(queue.hide(body(place).as_bytes(), |_| ()).unwrap().is_some());
    };
    let pop = |queue: &mut Queue, place: u64| {
        let popped = queue.pop(|message| message.body.to_vec()).unwrap();
        assert_eq!(popped, Some(body(place).into_bytes()));
    };
    // The hidden ones are in a row, or have gone ones between them; in both cases there is one
    // that stays in front of them.
    for is_mixed in [false, true] {
        with_each_store(|backing| {
            let (mut queue, [nexts, _]) = counted(backing, 2 * HALF, body);
            let first = queue.end() - 2 * HALF;
            for place in 0..HALF {
                hide(&mut queue, if is_mixed { 2 * place } else { place });
                if is_mixed {
                    pop(&mut queue, 2 * place + 1);
                }
            }
            if !is_mixed {
                (HALF..2 * HALF - 1).for_each(|place| pop(&mut queue, place));
            }
            let asked = take(&nexts);
            assert!(asked < 4 * HALF, "asked {asked} times for {HALF} messages");
            for from in first..first + HALF {
                queue.visit(from, u64::MAX, |_| false).unwrap();
            }
            let asked = take(&nexts);
            assert!(asked <= 4 * HALF, "asked {asked} times by readers at {HALF} places");
        });
    }
}

/// Each SMOVE of one of many equal messages looked at all that were hidden before it.
#[test]
fn hidden_equal_messages_are_in_the_way_of_no_look() {
    const COUNT: u64 = 500;
    with_each_store(|backing| {
        let (mut queue, [_, shown]) = counted(backing, COUNT, |_| "equal".into());
        let mut numbers = Vec::new();
        while let Some((number, ())) = queue.hide(b"equal", |_| ()).unwrap() {
            numbers.push(number);
            assert!(take(&shown) <= 1);
            assert_eq!(queue.contains(b"equal").unwrap(), numbers.len() < COUNT as usize);
            assert!(take(&shown) <= 1);
        }
        assert_eq!(numbers.len(), COUNT as usize);
        assert_eq!(queue.count_equal(b"equal", &mut None, COUNT).unwrap(), 0);
        for number in numbers.drain(..) {
            assert!(queue.unhide(number) && queue.contains(b"equal").unwrap());
            assert!(take(&shown) <= 1);
        }
        assert_eq!(queue.remove(b"equal").unwrap(), COUNT);
    });
}
