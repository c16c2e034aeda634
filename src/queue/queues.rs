//! All queues of a daemon, by name.
//!
//! The map's lock is held to look a queue up, and to take a few empty ones out, which renames their
//! folders and syncs nothing, but may wait for a sync of earlier drops; work is done under the
//! queue's own lock, so a slow queue never stops another. An empty queue does not exist for
//! clients; what is left of it here goes when the daemon tidies up, or when room for another queue
//! is needed.

use super::chores::Chores;
use super::held::Handle;
use super::ledger::Ledger;
use super::single::Queue;
use super::slot::{Slot, State};
use super::{Backing, Durability, Policy, QueueError, Ticket, Verdict};
use crate::clock::Clock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::Duration;

/// Limits over all queues.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Queues at once (`--max-queues`).
    pub max_queues: usize,
    /// Messages in each (`--max-queue-len`).
    pub max_queue_len: u64,
}

/// All queues of a daemon.
pub struct Queues {
    slots: RwLock<Slots>,
    pub(super) backing: Box<dyn Backing>,
    max_queues: AtomicUsize,
    /// Every queue reads it.
    max_queue_len: Arc<AtomicU64>,
    pub(super) ledger: Ledger,
    /// The last queue's name for the ledger.
    last_queue: AtomicU64,
    pub(super) chores: Chores,
    pub(super) clock: Clock,
}

/// The longest name of a queue in bytes, in every store: what a segment's header holds.
pub const NAME_MAX: usize = crate::storage::format::NAME_MAX;

/// How long others have a queue to themselves between two slices of its index.
const SLICE_PAUSE: Duration = Duration::from_micros(50);

/// The most empty queues that go at once to make room for another.
const RETIRED_AT_ONCE: usize = 16;

#[derive(Default)]
pub(super) struct Slots {
    pub(super) by_name: HashMap<Box<[u8]>, Arc<Slot>>,
    last_id: u64,
}

impl Queues {
    /// Opens the queues that `backing` has.
    pub fn open(
        backing: Box<dyn Backing>,
        limits: Limits,
        policy: Policy,
    ) -> Result<Queues, QueueError> {
        let mut slots = Slots::default();
        let max_queue_len = Arc::new(AtomicU64::new(limits.max_queue_len));
        for (name, store) in backing.existing()? {
            slots.last_id += 1;
            let slot = match store {
                Ok(store) => {
                    let queue = Queue::new(slots.last_id, store, Arc::clone(&max_queue_len));
                    Slot::new(slots.last_id, &name, Some(queue))
                }
                Err(why) => Slot::closed(slots.last_id, &name, why),
            };
            slots.by_name.insert(name, Arc::new(slot));
        }
        let ledger = Ledger::new(policy).map_err(|error| QueueError::Storage(error.to_string()))?;
        Ok(Queues {
            backing,
            max_queues: limits.max_queues.into(),
            max_queue_len,
            ledger,
            last_queue: slots.last_id.into(),
            slots: RwLock::new(slots),
            chores: Chores::default(),
            clock: Clock::default(),
        })
    }

    /// Messages expire by `clock` from now on, in place of the system's.
    pub fn with_clock(self, clock: Clock) -> Queues {
        Queues { clock, ..self }
    }

    /// The clock that messages expire by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The limits that hold now.
    pub fn limits(&self) -> Limits {
        Limits {
            max_queues: self.max_queues.load(Ordering::Relaxed),
            max_queue_len: self.max_queue_len.load(Ordering::Relaxed),
        }
    }

    /// Other limits from now on. Nothing is removed where there is more already.
    pub fn set_limits(&self, limits: Limits) {
        self.max_queues.store(limits.max_queues, Ordering::Relaxed);
        self.max_queue_len.store(limits.max_queue_len, Ordering::Relaxed);
    }

    /// Bytes that the messages of all queues may take; `None` where they take no memory.
    pub fn memory_limit(&self) -> Option<u64> {
        self.backing.memory_limit()
    }

    /// Another such limit from now on, where there is one.
    pub fn set_memory_limit(&self, bytes: u64) {
        self.backing.set_memory_limit(bytes);
    }

    // The map is changed by single insertions and removals: what a panic left is good.
    fn slots(&self) -> RwLockReadGuard<'_, Slots> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn slots_mut(&self) -> RwLockWriteGuard<'_, Slots> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn slot(&self, name: &[u8]) -> Option<Arc<Slot>> {
        self.slots().by_name.get(name).cloned()
    }

    pub(super) fn all_slots(&self) -> Vec<Arc<Slot>> {
        self.slots().by_name.values().cloned().collect()
    }

    pub(super) fn slot_or_new(&self, name: &[u8]) -> Result<Arc<Slot>, QueueError> {
        if let Some(slot) = self.slot(name) {
            return Ok(slot);
        }
        if name.len() > NAME_MAX {
            return Err(QueueError::NameTooLong { limit: NAME_MAX });
        }
        let max_queues = self.limits().max_queues;
        let mut slots = self.slots_mut();
        if let Some(slot) = slots.by_name.get(name) {
            return Ok(Arc::clone(slot));
        }
        if slots.by_name.len() >= max_queues && !self.backing.is_closed() {
            // A few at a time: each takes a sync of the directory, and everybody waits for the map.
            let now_ms = self.clock.now_ms();
            let empty: Vec<Arc<Slot>> = slots.by_name.values().cloned().collect();
            for slot in empty.iter().filter(|slot| slot.retire(now_ms)).take(RETIRED_AT_ONCE) {
                slots.by_name.remove(&slot.name);
            }
        }
        if slots.by_name.len() >= max_queues {
            return Err(QueueError::TooManyQueues { limit: max_queues }.logged(name));
        }
        slots.last_id += 1;
        let slot = Arc::new(Slot::new(slots.last_id, name, None));
        slots.by_name.insert(name.into(), Arc::clone(&slot));
        Ok(slot)
    }

    /// The queue `name` for several commands in a row; None where there is none yet.
    pub fn handle(&self, name: &[u8]) -> Option<Handle> {
        self.slot(name).map(Handle::new)
    }

    /// Runs `work` on queue `name` under its lock; the queue is made if it is not there. `ticket`
    /// rises to what a reply about the queue has to wait for.
    pub fn create<R>(
        &self,
        name: &[u8],
        ticket: &mut Ticket,
        work: impl FnOnce(&mut Queue) -> Result<R, QueueError>,
    ) -> Result<R, QueueError> {
        loop {
            let slot = self.slot_or_new(name)?;
            let mut state = slot.lock()?;
            if state.retired {
                continue;
            }
            return self.create_in(&slot, &mut state, self.clock.now_ms(), ticket, work);
        }
    }

    pub(super) fn create_in<R>(
        &self,
        slot: &Arc<Slot>,
        state: &mut State,
        now_ms: u64,
        ticket: &mut Ticket,
        work: impl FnOnce(&mut Queue) -> Result<R, QueueError>,
    ) -> Result<R, QueueError> {
        self.make_store(slot, state)?;
        self.run(slot, state, now_ms, ticket, work).map(|(result, _)| result)
    }

    /// Runs `work` on queue `name` if it has messages; None: there is no such queue.
    pub fn find<R>(
        &self,
        name: &[u8],
        ticket: &mut Ticket,
        work: impl FnOnce(&mut Queue) -> Result<R, QueueError>,
    ) -> Result<Option<R>, QueueError> {
        let Some(slot) = self.slot(name) else {
            self.ledger.await_directory(ticket);
            return Ok(None);
        };
        let mut state = slot.lock()?;
        self.find_in(&slot, &mut state, self.clock.now_ms(), ticket, work)
    }

    pub(super) fn find_in<R>(
        &self,
        slot: &Arc<Slot>,
        state: &mut State,
        now_ms: u64,
        ticket: &mut Ticket,
        work: impl FnOnce(&mut Queue) -> Result<R, QueueError>,
    ) -> Result<Option<R>, QueueError> {
        self.ledger.await_queue(ticket, state.awaited);
        match &mut state.queue {
            Some(queue) => queue.set_time(now_ms),
            None => return Ok(None),
        }
        if state.queue.as_ref().is_none_or(Queue::is_empty) {
            return Ok(None);
        }
        self.run(slot, state, now_ms, ticket, work).map(|(result, _)| Some(result))
    }

    pub(super) fn make_store(&self, slot: &Slot, state: &mut State) -> Result<(), QueueError> {
        if state.queue.is_none() {
            let store = self.backing.create(&slot.name);
            let store = store.map_err(|error| error.logged(&slot.name))?;
            let id = self.last_queue.fetch_add(1, Ordering::Relaxed) + 1;
            slot.fill(state, Queue::new(id, store, Arc::clone(&self.max_queue_len)));
        }
        Ok(())
    }

    pub(super) fn run<R>(
        &self,
        slot: &Arc<Slot>,
        state: &mut State,
        now_ms: u64,
        ticket: &mut Ticket,
        work: impl FnOnce(&mut Queue) -> Result<R, QueueError>,
    ) -> Result<(R, bool), QueueError> {
        let State { queue: Some(queue), epoch, awaited, used, .. } = state else {
            return Err(QueueError::Storage("no such queue".into()));
        };
        *used = true;
        queue.set_time(now_ms);
        let result = work(queue);
        // Also after an error: what was done before it counts.
        let changed = slot.note(queue);
        if changed && queue.store().wants_tidying() {
            self.chores.ring();
        }
        if changed && queue.store().is_dirty() {
            self.ledger.mark(slot, queue.id(), epoch);
            *awaited = (awaited.0.max(*epoch), queue.id());
        }
        self.ledger.await_queue(ticket, *awaited);
        result.map(|result| (result, changed)).map_err(|error| error.logged(&slot.name))
    }

    /// Builds what a membership command needs in slices, so that other clients of the queue run in
    /// between. To be called, holding nothing, when one has answered
    /// [`NotIndexed`](QueueError::NotIndexed).
    pub fn prepare_membership(&self, name: &[u8]) -> Result<(), QueueError> {
        let Some(slot) = self.slot(name) else {
            return Ok(());
        };
        loop {
            let mut state = slot.lock()?;
            let Some(queue) = &mut state.queue else {
                return Ok(());
            };
            if queue.store().prepare_find()? {
                return Ok(());
            }
            drop(state);
            // A lock that is given back and taken at once is never had by those who wait for it.
            thread::sleep(SLICE_PAUSE);
        }
    }

    /// Drops a queue with all its messages; false: it did not exist.
    pub fn drop_queue(&self, name: &[u8], ticket: &mut Ticket) -> Result<bool, QueueError> {
        let Some(slot) = self.slot(name) else {
            self.ledger.await_directory(ticket);
            return Ok(false);
        };
        let mut state = slot.lock()?;
        self.ledger.await_queue(ticket, state.awaited);
        let Some(queue) = &mut state.queue else {
            return Ok(false);
        };
        queue.set_time(self.clock.now_ms());
        let existed = !queue.is_empty();
        queue.store().discard()?;
        slot.empty(&mut state);
        state.awaited = self.ledger.mark_directory();
        self.ledger.await_queue(ticket, state.awaited);
        slot.len.store(0, Ordering::Relaxed);
        slot.bytes.store(0, Ordering::Relaxed);
        slot.stamp.fetch_add(1, Ordering::Relaxed);
        drop(state);
        Ok(existed)
    }

    /// Drops every queue.
    pub fn clear(&self, ticket: &mut Ticket) -> Result<(), QueueError> {
        let slots = self.all_slots();
        // One that is closed cannot be dropped, and half of all is not what was asked for.
        slots.iter().try_for_each(|slot| slot.check_open())?;
        for slot in slots {
            self.drop_queue(&slot.name, ticket)?;
        }
        Ok(())
    }

    /// Queues that have messages.
    pub fn len(&self) -> usize {
        self.slots().by_name.values().filter(|slot| slot.has_messages()).count()
    }

    /// True when no queue has messages.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names of up to `count` queues with messages after `cursor`, and the next cursor (0: the
    /// end).
    pub fn scan(&self, cursor: u64, count: usize) -> (u64, Vec<Box<[u8]>>) {
        let mut slots = self.all_slots();
        slots.retain(|slot| slot.id > cursor && slot.has_messages());
        slots.sort_unstable_by_key(|slot| slot.id);
        let more = slots.len() > count;
        slots.truncate(count);
        let next = slots.last().filter(|_| more).map_or(0, |slot| slot.id);
        (next, slots.iter().map(|slot| slot.name.clone()).collect())
    }

    /// A value that changes whenever the queue does; 0 where there is none.
    pub fn stamp(&self, name: &[u8]) -> u64 {
        let slot = self.slot(name).filter(|slot| slot.has_messages());
        slot.map_or(0, |slot| slot.stamp.load(Ordering::Relaxed))
    }

    /// Messages in all queues.
    pub fn messages(&self) -> u64 {
        self.slots().by_name.values().map(|slot| slot.len.load(Ordering::Relaxed)).sum()
    }

    /// Bytes of the messages of all queues, as of the last work on each.
    pub fn message_bytes(&self) -> u64 {
        self.slots().by_name.values().map(|slot| slot.bytes.load(Ordering::Relaxed)).sum()
    }

    /// Name and value of each counter.
    pub fn statistics(&self) -> Vec<(&'static str, u64)> {
        let mut counters = vec![("queues", self.len() as u64), ("messages", self.messages())];
        counters.extend(self.backing.statistics());
        counters
    }
}

impl Durability for Queues {
    fn verdict(&self, ticket: &Ticket) -> Verdict {
        self.ledger.verdict(ticket)
    }

    fn commit(&self) {
        let mut commit = self.ledger.begin_commit();
        commit.sync();
        for it in commit.take_moves() {
            self.finish_move(&commit, &it);
        }
        // A queue that was popped empty and then taken out has nothing left to sync: what says that
        // its messages are gone is that it is not there.
        if self.backing.settle().is_err() || self.backing.is_closed() {
            commit.fail_directory();
            self.backing.give_up();
        }
        commit.publish();
    }

    fn interval_ms(&self) -> Option<u64> {
        self.ledger.interval_ms()
    }
}
