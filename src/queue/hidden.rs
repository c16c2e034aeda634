//! Messages that are in a queue's store and that no client sees.
//!
//! A message that moves to another queue stays in its store until it is durable in the other one.
//! Until then it is hidden: it is not delivered, not found and not counted.

use super::Place;
use std::collections::BTreeMap;

/// The hidden messages of one queue.
#[derive(Default)]
pub(super) struct Hidden {
    /// By number.
    messages: BTreeMap<u64, HiddenMessage>,
    /// The sum of these lengths.
    bytes: u64,
}

struct HiddenMessage {
    /// Where it lay when it was hidden.
    place: Place,
    /// Bytes of its body.
    length: u64,
    expires_ms: u64,
}

impl Hidden {
    /// Nearly always true: what follows from it is kept off the path of a pop.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Hidden messages.
    pub(super) fn len(&self) -> u64 {
        self.messages.len() as u64
    }

    /// Bytes of their bodies.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        !self.is_empty() && self.messages.contains_key(&number)
    }

    /// The lowest number from `number` on that is not a hidden message's.
    pub(super) fn skip(&self, number: u64) -> u64 {
        let mut visible = number;
        for hidden in self.messages.range(number..).map(|(hidden, _)| *hidden) {
            if hidden != visible {
                break;
            }
            visible += 1;
        }
        visible
    }

    /// Hides the message at `place`, whose body has `length` bytes.
    pub(super) fn insert(&mut self, place: Place, length: usize, expires_ms: u64) {
        let length = length as u64;
        let hidden = HiddenMessage { place, length, expires_ms };
        if self.messages.insert(place.sequence, hidden).is_none() {
            self.bytes += length;
        }
    }

    /// Forgets a message; answers where it lay when it was hidden, and its time of expiry.
    pub(super) fn remove(&mut self, number: u64) -> Option<(Place, u64)> {
        let HiddenMessage { place, length, expires_ms } = self.messages.remove(&number)?;
        self.bytes -= length;
        Some((place, expires_ms))
    }

    /// Where a message lay when it was hidden.
    pub(super) fn place(&self, number: u64) -> Option<Place> {
        self.messages.get(&number).map(|message| message.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Backing, DiskBacking, MemoryBacking, Message, NewMessage, Queue};
    use crate::random::Random;
    use crate::storage::DataDirectory;
    use std::sync::Arc;

    /// A queue and what is in it by number; true: it is hidden.
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
            self.queue.visit(from, show).unwrap();
            let visible = self.numbers(false);
            let expected: Vec<u64> = visible.iter().copied().filter(|it| *it >= from).collect();
            assert_eq!(seen, expected, "from {from}");
            assert_eq!(self.queue.len(), visible.len() as u64);
            assert!(self.queue.bytes() >= visible.len() as u64 * 900);
            assert_eq!(self.queue.is_vacant(), self.model.is_empty());
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
}
