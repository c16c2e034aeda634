//! All queues of a daemon, by name.
//!
//! The map's lock is held to look a queue up, and to take a few empty ones out, which renames their
//! folders and syncs nothing; work is done under the queue's own lock, so a slow queue never stops
//! another. An empty queue does not exist for
//! clients; what is left of it here goes when the daemon tidies up, or when room for another queue
//! is needed.

use super::chores::{Chores, Remains};
use super::claims::{Claims, Waiting};
use super::ledger::Ledger;
use super::places::{Candidates, Slots};
use super::single::Queue;
use super::slot::{Slot, State};
use super::waiters::Waiters;
use super::{Backing, Durability, Policy, QueueError, ReplyVerdict, Ticket};
use crate::clock::Clock;
use crate::storage::random;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

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
    candidates: Mutex<Candidates>,
    pub(super) backing: Box<dyn Backing>,
    max_queues: AtomicUsize,
    /// Every queue reads it.
    max_queue_len: Arc<AtomicU64>,
    pub(super) ledger: Ledger,
    /// The last queue's name for the ledger.
    last_queue: AtomicU64,
    /// Messages that were there at the start, or have come since.
    came: AtomicU64,
    /// The attempt of the next delivery. The first is random: no id repeats after a restart.
    pub(super) attempts: AtomicU64,
    pub(super) first_attempt: u64,
    pub(super) claims: Arc<Claims>,
    pub(super) remains: Arc<Remains>,
    pub(super) chores: Chores,
    pub(super) waiters: Waiters,
    pub(super) clock: Clock,
}

/// The longest name of a queue in bytes, in every store: what a segment's header holds.
pub const NAME_MAX: usize = crate::storage::format::NAME_MAX;

/// The most slots that one step of a scan looks at.
const LOOKED_AT_ONCE: usize = 64;

impl Queues {
    /// Opens the queues that `backing` has.
    pub fn open(
        backing: Box<dyn Backing>,
        limits: Limits,
        policy: Policy,
    ) -> Result<Queues, QueueError> {
        let (mut slots, mut came) = (Slots::default(), 0);
        let mut candidates = Candidates::default();
        let max_queue_len = Arc::new(AtomicU64::new(limits.max_queue_len));
        for (name, store) in backing.existing()? {
            let slot = match store {
                Ok(store) => {
                    came += store.len();
                    let queue = Queue::new(slots.last_id + 1, store, Arc::clone(&max_queue_len));
                    slots.insert(|id| Slot::new(id, &name, Some(queue)))
                }
                Err(why) => slots.insert(|id| Slot::closed(id, &name, why)),
            };
            candidates.empty.push(slot);
        }
        let ledger = Ledger::new(policy).map_err(|error| QueueError::Storage(error.to_string()))?;
        let first_attempt = random();
        Ok(Queues {
            backing,
            max_queues: limits.max_queues.into(),
            max_queue_len,
            ledger,
            last_queue: slots.last_id.into(),
            came: came.into(),
            attempts: first_attempt.into(),
            first_attempt,
            slots: RwLock::new(slots),
            candidates: Mutex::new(candidates),
            claims: Arc::default(),
            remains: Arc::default(),
            chores: Chores::default(),
            waiters: Waiters::default(),
            clock: Clock::default(),
        })
    }

    /// Messages expire by `clock` from now on, in place of the system's.
    pub fn with_clock(self, clock: Clock) -> Queues {
        Queues { clock, ..self }
    }

    /// Queues that were there at the start, or have been made since.
    pub fn made(&self) -> u64 {
        self.last_queue.load(Ordering::Relaxed)
    }

    /// Messages that were there at the start, or have come since.
    pub fn came(&self) -> u64 {
        self.came.load(Ordering::Relaxed)
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

    /// Bytes that the messages of all queues take, and may take; `None` where they take no memory.
    pub fn memory(&self) -> Option<(u64, u64)> {
        self.backing.memory()
    }

    /// Another such limit from now on, where there is one.
    pub fn set_memory_limit(&self, bytes: u64) {
        self.backing.set_memory_limit(bytes);
    }

    // The map is changed by single insertions and removals: what a panic left is good.
    pub(super) fn slots(&self) -> RwLockReadGuard<'_, Slots> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn slots_mut(&self) -> RwLockWriteGuard<'_, Slots> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }

    // A list has no half-made state: what a panic left is good.
    pub(super) fn candidates(&self) -> MutexGuard<'_, Candidates> {
        self.candidates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn slot(&self, name: &[u8]) -> Option<Arc<Slot>> {
        self.slots().by_name.get(name).cloned()
    }

    pub(super) fn all_slots(&self) -> Vec<Arc<Slot>> {
        self.slots().by_id.values().cloned().collect()
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
            let may_be_more = self.candidates().make_place(&mut slots, self.clock.now_ms());
            if may_be_more && slots.by_name.len() >= max_queues {
                return Err(QueueError::Busy);
            }
        }
        if slots.by_name.len() >= max_queues {
            return Err(QueueError::TooManyQueues { limit: max_queues }.logged(name));
        }
        let slot = slots.insert(|id| Slot::new(id, name, None));
        self.candidates().empty.push(Arc::clone(&slot));
        Ok(slot)
    }

    /// Locks a slot for a command. A doomed queue in it is let go of first.
    pub(super) fn enter<'s>(
        &self,
        slot: &'s Arc<Slot>,
    ) -> Result<MutexGuard<'s, State>, QueueError> {
        let mut state = slot.lock()?;
        if state.claimed {
            return Err(QueueError::Busy);
        }
        if state.doomed {
            self.let_go(slot, &mut state, &mut Ticket::default())?;
        }
        Ok(state)
    }

    /// Lets go of the store of a slot's queue, if it has one; after an error it is as it was.
    pub(super) fn let_go(
        &self,
        slot: &Arc<Slot>,
        state: &mut State,
        ticket: &mut Ticket,
    ) -> Result<(), QueueError> {
        if let Some(queue) = &mut state.queue {
            queue.store().discard()?;
            slot.note_gone();
            let mut queues = self.remains.queues.lock().unwrap_or_else(PoisonError::into_inner);
            queues.extend(slot.empty(state));
            drop(queues);
            self.chores.ring();
            state.awaited = self.ledger.mark_directory();
            self.ledger.await_queue(ticket, state.awaited);
            if !state.listed {
                self.list(slot, state);
            }
        }
        state.doomed = false;
        Ok(())
    }

    /// Locks the slot of queue `name` for `act`; without one `act` is not called, unless one is to
    /// be made.
    pub(super) fn visit<R>(
        &self,
        name: &[u8],
        creates: bool,
        act: impl FnOnce(&Arc<Slot>, &mut State) -> Result<Option<R>, QueueError>,
    ) -> Result<Option<R>, QueueError> {
        loop {
            let found = if creates { Some(self.slot_or_new(name)?) } else { self.slot(name) };
            let Some(slot) = found else { return Ok(None) };
            let mut state = self.enter(&slot)?;
            if !(creates && state.retired) {
                return act(&slot, &mut state);
            }
        }
    }

    /// Runs `work` on queue `name` under its lock; the queue is made if it is not there. `ticket`
    /// rises to what a reply about the queue has to wait for.
    pub fn create<R>(
        &self,
        name: &[u8],
        ticket: &mut Ticket,
        work: impl FnOnce(&mut Queue) -> Result<R, QueueError>,
    ) -> Result<R, QueueError> {
        let made = self.visit(name, true, |slot, state| {
            self.create_in(slot, state, self.clock.now_ms(), ticket, work).map(Some)
        })?;
        made.ok_or_else(|| QueueError::Storage("no such queue".into()))
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

    /// Runs `work` on queue `name` if it has messages. Returns `None` if there is no such queue.
    pub fn find<R>(
        &self,
        name: &[u8],
        ticket: &mut Ticket,
        work: impl FnOnce(&mut Queue) -> Result<R, QueueError>,
    ) -> Result<Option<R>, QueueError> {
        let found = self.visit(name, false, |slot, state| {
            self.find_in(slot, state, self.clock.now_ms(), ticket, work).map(Some)
        })?;
        Ok(found.unwrap_or_else(|| {
            self.ledger.await_directory(ticket);
            None
        }))
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
        let State { queue: Some(queue), claimed, .. } = state else { return Ok(None) };
        self.set_time(queue, *claimed, now_ms);
        if state.queue.as_ref().is_none_or(Queue::is_empty) {
            // Its last message died while it was leased.
            if state.queue.as_ref().is_some_and(|queue| queue.changed) {
                self.work_on(slot, state, ticket, |_| Ok(()))?;
            }
            return Ok(None);
        }
        self.work_on(slot, state, ticket, work).map(|(result, _)| Some(result))
    }

    /// A command or a slice of one begins, and it is `now_ms`: what is over by then is ended.
    /// For a long command no messages come back between its slices.
    pub(super) fn set_time(&self, queue: &mut Queue, claimed: bool, now_ms: u64) {
        queue.set_time(now_ms);
        if queue.leased() > 0 && !claimed {
            queue.end_leases(self.clock.uptime());
        }
    }

    /// Lists a slot that has become empty.
    fn list(&self, slot: &Arc<Slot>, state: &mut State) {
        state.listed = true;
        self.candidates().empty.push(Arc::clone(slot));
    }

    pub(super) fn make_store(&self, slot: &Slot, state: &mut State) -> Result<(), QueueError> {
        if state.queue.is_none() {
            let store = self.backing.create(&slot.name);
            let store = store.map_err(|error| error.logged(&slot.name))?;
            let id = self.last_queue.fetch_add(1, Ordering::Relaxed) + 1;
            let mut queue = Queue::new(id, store, Arc::clone(&self.max_queue_len));
            queue.made_ms = self.clock.now_ms();
            queue.used_ms = queue.made_ms;
            slot.fill(state, queue);
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
        if let State { queue: Some(queue), claimed, .. } = state {
            self.set_time(queue, *claimed, now_ms);
        }
        self.work_on(slot, state, ticket, work)
    }

    /// As [`run`](Queues::run), for a queue whose time has been set.
    fn work_on<R>(
        &self,
        slot: &Arc<Slot>,
        state: &mut State,
        ticket: &mut Ticket,
        work: impl FnOnce(&mut Queue) -> Result<R, QueueError>,
    ) -> Result<(R, bool), QueueError> {
        let State { queue: Some(queue), epoch, awaited, used, listed, .. } = state else {
            return Err(QueueError::Storage("no such queue".into()));
        };
        *used = true;
        queue.used_ms = queue.now_ms();
        let came = queue.totals().came;
        if self.waiters.are_there() {
            // What has come back is theirs.
            self.hand_over(slot, queue);
        }
        let result = work(queue);
        if self.waiters.are_there() {
            self.hand_over(slot, queue);
        }
        match queue.totals().came.wrapping_sub(came) {
            0 => {}
            // A step that was taken back has fewer than before it.
            more => drop(self.came.fetch_add(more, Ordering::Relaxed)),
        }
        // Also after an error: what was done before it counts.
        let changed = slot.note(queue);
        if changed && queue.store().wants_tidying() {
            self.chores.ring();
        }
        let is_unlisted = changed && !*listed && queue.is_empty();
        if changed && queue.store().is_dirty() {
            self.ledger.mark(slot, queue.id(), epoch);
            *awaited = (awaited.0.max(*epoch), queue.id());
        }
        self.ledger.await_queue(ticket, *awaited);
        if is_unlisted {
            self.list(slot, state);
        }
        result.map(|result| (result, changed)).map_err(|error| error.logged(&slot.name))
    }

    /// Builds a slice of what a membership command needs, and returns true once that is whole. To
    /// be called, between turns of others, when a command has answered
    /// [`NotIndexed`](QueueError::NotIndexed).
    pub fn prepare_membership(&self, name: &[u8]) -> Result<bool, QueueError> {
        let Some(slot) = self.slot(name) else {
            return Ok(true);
        };
        let mut state = slot.lock()?;
        state.queue.as_mut().map_or(Ok(true), |queue| queue.store().prepare_find())
    }

    /// Whether a queue is claimed whose name is `wanted`; `waiting` keeps such a one from being
    /// claimed again.
    pub fn any_claimed(&self, wanted: impl Fn(&[u8]) -> bool, waiting: &mut Waiting) -> bool {
        self.claims.any(|slot| wanted(&slot.name), waiting)
    }

    /// Queues that have messages, leased ones and dead ones that have not left among them.
    pub fn len(&self) -> usize {
        self.slots().census.filled.load(Ordering::Relaxed)
    }

    /// True when no queue has messages.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One more than the number of the newest queue, as `scan` counts them.
    pub fn end(&self) -> u64 {
        self.slots().last_id + 1
    }

    /// Shows the name of the first queue with messages whose number is `from` or more; answers the
    /// number to go on with, or `None` at `end`. It looks at a bounded number of empty ones.
    pub fn scan(&self, from: u64, end: u64, show: impl FnOnce(&[u8])) -> Option<u64> {
        let (slots, mut show) = (self.slots(), Some(show));
        let mut next = slots.by_id.range(from..end.max(from)).map(|(_, slot)| slot);
        let now_ms = self.clock.now_ms();
        let is_seen = |slot: &&Arc<Slot>| slot.has_living(now_ms);
        for slot in next.by_ref().take(LOOKED_AT_ONCE).filter(is_seen) {
            match show.take() {
                Some(show) => show(&slot.name),
                None => return Some(slot.id),
            }
        }
        next.next().map(|slot| slot.id)
    }

    /// A value that changes whenever what clients see of the queue does: also when it is made and
    /// goes, and when a message dies, which counts for one in a log from before the start when it
    /// is found; that the dead leave the store is no change (WATCH). A name without a slot counts
    /// the slots that went: it may be one of them.
    pub fn stamp(&self, name: &[u8]) -> (u64, u64) {
        let slots = self.slots();
        let Some(slot) = slots.by_name.get(name).cloned() else { return (0, slots.removed) };
        drop(slots);
        let Ok(mut state) = slot.lock() else { return (0, 0) };
        if let State { doomed: false, claimed, queue: Some(queue), .. } = &mut *state {
            self.set_time(queue, *claimed, self.clock.now_ms());
            slot.note_visible(queue);
        }
        (slot.stamp.load(Ordering::Relaxed), 0)
    }
}

impl Durability for Queues {
    fn verdict(&self, ticket: &Ticket) -> ReplyVerdict {
        self.ledger.verdict(ticket)
    }

    fn commit(&self) {
        let commit = self.ledger.begin_commit();
        commit.sync();
        // A queue that was popped empty and then taken out, or dropped before it was synced, has
        // nothing left to sync: what says that its messages are gone is that it is not there.
        if self.backing.settle().is_err() || self.backing.is_closed() {
            commit.fail_directory();
            self.backing.give_up();
        }
        commit.moves().iter().for_each(|it| self.finish_move(&commit, it));
        commit.publish();
    }

    fn interval_ms(&self) -> Option<u64> {
        self.ledger.interval_ms()
    }
}
