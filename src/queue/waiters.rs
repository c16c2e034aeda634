//! Clients that wait for messages, in the order in which they have come.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One delivery of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The [identity](super::Queue::identity) of the queue.
    pub queue: u64,
    /// The message's number.
    pub number: u64,
    /// That of the lease.
    pub attempt: u64,
}

/// A message that a client has been handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Which of the queues that the client waited for it is from.
    pub index: usize,
    /// What holds it for the client.
    pub delivery: Delivery,
}

/// Wakes a client from any thread. It never blocks.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// The clients that wait.
#[derive(Default)]
pub(super) struct Waiters {
    /// How many clients stand in lines. A client that enters a line looks at its queue afterwards,
    /// under the queue's lock, and a push looks at this under the same lock: one of the two sees
    /// the other.
    waiting: AtomicUsize,
    /// A transaction runs.
    is_held: AtomicBool,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// The place of the client that came last.
    last_place: u64,
    /// Clients that wait, and clients that have been handed a message and have not fetched it.
    clients: HashMap<u64, Waiter>,
    /// The places of the clients that wait, by the names of the queues.
    lines: HashMap<Box<[u8]>, BTreeSet<u64>>,
}

struct Waiter {
    /// The queues that it waits for.
    names: Vec<Box<[u8]>>,
    wake: Wake,
    handed: Option<Handed>,
}

impl Waiters {
    // It is changed by small steps that do not panic: what a panic elsewhere left is good.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Hands nothing over while this is so.
    pub(super) fn hold(&self, is_held: bool) {
        self.is_held.store(is_held, Ordering::Relaxed);
    }

    /// Whether a message may be handed over. It is nearly always false, and costs a push no lock.
    pub(super) fn are_there(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0 && !self.is_held.load(Ordering::Relaxed)
    }

    /// Puts a client at the ends of these lines. Returns its place.
    pub(super) fn enter(&self, names: Vec<Box<[u8]>>, wake: Wake) -> u64 {
        let mut table = self.table();
        table.last_place += 1;
        let place = table.last_place;
        table.clients.insert(place, Waiter { names, wake, handed: None });
        table.line_up(place);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        place
    }

    /// Puts a client whose message has gone back at its place in its lines. Returns the names of
    /// its queues.
    pub(super) fn enter_again(&self, place: u64) -> Vec<Box<[u8]>> {
        let mut table = self.table();
        let Some(waiter) = table.clients.get_mut(&place) else { return Vec::new() };
        let names = waiter.names.clone();
        if waiter.handed.take().is_some() {
            table.line_up(place);
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        names
    }

    /// Takes a client out. Returns what it was handed.
    pub(super) fn leave(&self, place: u64) -> Option<Handed> {
        let mut table = self.table();
        let handed = table.clients.get(&place)?.handed;
        if handed.is_none() {
            table.step_out(place);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        table.clients.remove(&place);
        handed
    }

    /// Whether anybody waits for queue `name`.
    pub(super) fn has_line(&self, name: &[u8]) -> bool {
        self.table().lines.contains_key(name)
    }

    /// How many clients wait for queue `name`.
    pub(super) fn line_len(&self, name: &[u8]) -> usize {
        self.table().lines.get(name).map_or(0, BTreeSet::len)
    }

    /// What a client has been handed.
    pub(super) fn handed(&self, place: u64) -> Option<Handed> {
        self.table().clients.get(&place)?.handed
    }

    /// Hands a message to the first client in the line of queue `name` and wakes it. Returns false
    /// if the line is empty.
    pub(super) fn hand(&self, name: &[u8], delivery: Delivery) -> bool {
        let mut table = self.table();
        let Some(place) = table.first(name) else { return false };
        table.step_out(place);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if let Some(waiter) = table.clients.get_mut(&place) {
            let index = waiter.names.iter().position(|waited| **waited == *name).unwrap_or(0);
            waiter.handed = Some(Handed { index, delivery });
            (waiter.wake)();
        }
        true
    }
}

impl Table {
    fn first(&self, name: &[u8]) -> Option<u64> {
        self.lines.get(name)?.first().copied()
    }

    fn line_up(&mut self, place: u64) {
        let Table { clients, lines, .. } = self;
        for name in clients.get(&place).into_iter().flat_map(|waiter| &waiter.names) {
            match lines.get_mut(name) {
                Some(line) => drop(line.insert(place)),
                None => drop(lines.insert(name.clone(), BTreeSet::from([place]))),
            }
        }
    }

    fn step_out(&mut self, place: u64) {
        let Table { clients, lines, .. } = self;
        for name in clients.get(&place).into_iter().flat_map(|waiter| &waiter.names) {
            if let Some(line) = lines.get_mut(name) {
                line.remove(&place);
                if line.is_empty() {
                    lines.remove(name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::sync::Arc;

    /// A client of the model: its place, its queues, and what it was handed.
    struct Client {
        place: u64,
        names: Vec<u8>,
        handed: Option<u64>,
    }

    /// The model is a list that is searched each time.
    #[test]
    fn the_client_that_came_first_is_served_first() {
        let (mut random, waiters) = (Random::seeded(), Waiters::default());
        let mut model: Vec<Client> = Vec::new();
        let woken = Arc::new(AtomicUsize::new(0));
        for number in 0..20_000 {
            let name = random.below(3) as u8;
            let index = random.below(model.len().max(1) as u64) as usize;
            match random.below(5) {
                0 | 1 if model.len() < 30 => {
                    let names: Vec<u8> = (0..=name).map(|_| random.below(3) as u8).collect();
                    let boxed = names.iter().map(|name| Box::from([*name])).collect();
                    let woken = Arc::clone(&woken);
                    let wake = Box::new(move || {
                        woken.fetch_add(1, Ordering::Relaxed);
                    });
                    let place = waiters.enter(boxed, wake);
                    model.push(Client { place, names, handed: None });
                }
                2 if index < model.len() => {
                    let Client { place, handed, .. } = model.remove(index);
                    let left = waiters.leave(place);
                    assert_eq!(left.map(|handed| handed.delivery.number), handed);
                    assert_eq!(waiters.leave(place), None, "it has left");
                }
                3 if index < model.len() => {
                    waiters.enter_again(model[index].place);
                    model[index].handed = None;
                }
                _ => {
                    let waits = |client: &&mut Client| {
                        client.handed.is_none() && client.names.contains(&name)
                    };
                    let first = model.iter_mut().filter(waits).min_by_key(|client| client.place);
                    let before = woken.load(Ordering::Relaxed);
                    assert_eq!(waiters.has_line(&[name]), first.is_some());
                    let delivery = Delivery { queue: 1, number, attempt: 2 };
                    assert_eq!(waiters.hand(&[name], delivery), first.is_some());
                    let rung = woken.load(Ordering::Relaxed) - before;
                    assert_eq!(rung, usize::from(first.is_some()), "one message wakes one");
                    if let Some(client) = first {
                        client.handed = Some(number);
                        let index = client.names.iter().position(|waited| *waited == name);
                        let handed = waiters.handed(client.place).unwrap();
                        assert_eq!((Some(handed.index), handed.delivery), (index, delivery));
                    }
                }
            }
            let waiting = model.iter().filter(|client| client.handed.is_none());
            assert_eq!(waiters.count(), waiting.count());
        }
        for client in model {
            waiters.leave(client.place);
        }
        let table = waiters.table();
        assert!(table.lines.is_empty() && table.clients.is_empty(), "nothing is left of them");
    }
}
