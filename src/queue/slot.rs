//! One name's place among the queues: the queue's lock, and what is read without it.

use super::QueueError;
use super::identities::Identities;
use super::single::{NO_QUEUE, Queue, QueueId};
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// One name's place in the map.
pub(super) struct Slot {
    /// Grows from slot to slot: the order of `scan`.
    pub(super) id: u64,
    pub(super) name: Box<[u8]>,
    /// Messages, leased ones included, as of the last work on the queue; read without the lock.
    pub(super) len: AtomicU64,
    /// When all of them have died, or `NEVER`; Unix time in milliseconds.
    dies_at: AtomicU64,
    /// When `len` counts one too many, because a message has died, or `NEVER`.
    recount_at: AtomicU64,
    /// What the map knows of its slots: of this one too.
    census: Arc<Census>,
    /// Their bytes, likewise.
    pub(super) bytes: AtomicU64,
    /// How many of its messages are leased, likewise.
    pub(super) leased: AtomicU64,
    /// Counts changes that clients can see, from a start of the slot's own.
    pub(super) stamp: AtomicU64,
    /// Commands that wait until nobody claims the queue.
    pub(super) awaited_by: AtomicUsize,
    /// Why nothing can be done with the queue until restart. Its store is not there.
    closed: Option<QueueError>,
    /// The queue that `state` holds now; read without the lock.
    queue: AtomicU64,
    state: Mutex<State>,
    /// Held over a sync from beginning to end, and while the queue is let go: the outcome of a sync
    /// never meets a new mapping. A new queue of this name is made only while nobody holds it: what
    /// a sync unlinks, it finds by its path. Taken before `state`, or not waited for.
    syncing: Mutex<()>,
}

/// The time at which messages die that never do.
const NEVER: u64 = u64::MAX;

/// What the map knows of its slots without a look at each.
#[derive(Default)]
pub(super) struct Census {
    /// How many have messages.
    pub(super) filled: AtomicUsize,
    /// Those whose messages all die: they may be dead by now.
    pub(super) mortal: AtomicUsize,
    /// Which queues are in them.
    pub(super) identities: Identities,
    /// The names of those that are closed, by the numbers of their slots.
    closed: Mutex<BTreeMap<u64, Box<[u8]>>>,
}

impl Census {
    // It is changed by single insertions and removals: what a panic left is good.
    pub(super) fn closed(&self) -> MutexGuard<'_, BTreeMap<u64, Box<[u8]>>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of taking a slot out of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retired {
    /// It is not in use any more.
    Now,
    /// It has messages, or cannot be taken out.
    Not,
    /// It has messages, all of which will have died at this time, Unix time in milliseconds.
    NotBefore(u64),
    /// The transaction under way changes it, and does not wait for itself.
    NotInTransaction,
    /// Somebody works on it, or its messages are on their way to another queue.
    NotYet,
}

/// What a slot's lock guards.
pub(super) struct State {
    /// `None` if it is empty, with nothing in the backing.
    pub(super) queue: Option<Queue>,
    /// The commit epoch of the last change.
    pub(super) epoch: u64,
    /// What a reply about the queue waits for: an epoch, and the queue, which may have gone since.
    pub(super) awaited: (u64, QueueId),
    /// A client keeps the queue to itself between the slices of a long command.
    pub(super) claimed: bool,
    /// A step of the transaction under way is open: only its commands change the queue.
    pub(super) in_transaction: bool,
    /// A panic has ended a step in its middle. Nobody sees the half that was done: its end is never
    /// written, and the next start cuts it (rule 20).
    pub(super) half_done: bool,
    /// The queue does not exist for clients, and its store is still to be let go of.
    pub(super) doomed: bool,
    /// In the list of slots that may be empty.
    pub(super) listed: bool,
    /// No longer in the map: a caller that found it there looks again.
    pub(super) retired: bool,
    /// Worked on since the last housekeeping.
    pub(super) used: bool,
    /// The stamp at the last housekeeping.
    pub(super) tidied: u64,
}

impl State {
    /// Whether housekeeping may work on the queue, and a command in a row.
    pub(super) fn is_free(&self) -> bool {
        !self.claimed && !self.doomed && !self.in_transaction && !self.half_done
    }
}

impl Slot {
    /// A slot in use, with the queue that was found for it.
    pub(super) fn new(id: u64, name: &[u8], queue: Option<Queue>) -> Slot {
        let len = queue.as_ref().map_or(0, Queue::len);
        let bytes = queue.as_ref().map_or(0, Queue::bytes);
        let dies_at = queue.as_ref().and_then(Queue::dies_at).unwrap_or(NEVER);
        let recount_at = queue.as_ref().and_then(Queue::next_death).unwrap_or(NEVER);
        let holds = queue.as_ref().map_or(NO_QUEUE, Queue::id);
        let state = State {
            queue,
            epoch: 0,
            awaited: (0, holds),
            claimed: false,
            in_transaction: false,
            half_done: false,
            doomed: false,
            listed: true,
            retired: false,
            used: true,
            tidied: 0,
        };
        Slot {
            id,
            name: name.into(),
            len: AtomicU64::new(len),
            dies_at: AtomicU64::new(dies_at),
            recount_at: AtomicU64::new(recount_at),
            census: Arc::default(),
            bytes: AtomicU64::new(bytes),
            leased: AtomicU64::new(0),
            stamp: AtomicU64::new(id << 32),
            awaited_by: AtomicUsize::new(0),
            closed: None,
            queue: AtomicU64::new(holds),
            state: Mutex::new(state),
            syncing: Mutex::new(()),
        }
    }

    /// A slot whose queue is closed: every command on it is answered with the reason.
    pub(super) fn closed(id: u64, name: &[u8], why: QueueError) -> Slot {
        Slot { closed: Some(why), ..Slot::new(id, name, None) }
    }

    /// An error if the queue is closed as a whole.
    pub(super) fn check_open(&self) -> Result<(), QueueError> {
        self.closed.clone().map_or(Ok(()), Err)
    }

    /// Names the queue among the closed ones, and returns false if it has been named.
    pub(super) fn name_closed(&self) -> bool {
        self.census.closed().insert(self.id, self.name.clone()).is_none()
    }

    /// Locks the queue for work on it.
    pub(super) fn lock(&self) -> Result<MutexGuard<'_, State>, QueueError> {
        self.lock_store()
            .and_then(|state| if state.half_done { Err(self.broken()) } else { Ok(state) })
    }

    /// The same for a sync: what was done before a panic is to be durable.
    fn lock_store(&self) -> Result<MutexGuard<'_, State>, QueueError> {
        self.check_open()?;
        // A panic under the lock may have left the store half-changed: it is not touched again.
        self.state.lock().map_err(|_| self.broken())
    }

    fn broken(&self) -> QueueError {
        let name = self.name.escape_ascii();
        QueueError::Storage(format!("queue {name} is closed after an internal error; restart"))
    }

    /// Notes what work on the queue has changed. Returns whether that is something in its store.
    pub(super) fn note(&self, queue: &mut Queue) -> bool {
        let changed = std::mem::take(&mut queue.changed);
        if changed || queue.differs {
            self.note_visible(queue);
        }
        changed
    }

    /// Notes what clients see of the queue.
    pub(super) fn note_visible(&self, queue: &mut Queue) {
        if std::mem::take(&mut queue.differs) {
            self.stamp.fetch_add(1, Ordering::Relaxed);
        }
        self.note_len(queue);
    }

    /// Notes how many messages there are now: some may have died.
    pub(super) fn note_len(&self, queue: &Queue) {
        self.set_len(queue.held(), queue.dies_at());
        self.recount_at.store(queue.next_death().unwrap_or(NEVER), Ordering::Relaxed);
        self.bytes.store(queue.bytes(), Ordering::Relaxed);
        self.leased.store(queue.leased(), Ordering::Relaxed);
    }

    /// Counts again if messages have died since the last work on the queue. Does not block: a
    /// command that holds the lock counts again itself.
    pub(super) fn recount(&self, now_ms: u64) {
        if now_ms >= self.recount_at.load(Ordering::Relaxed)
            && let Ok(mut state) = self.state.try_lock()
            && !state.doomed
            && let Some(queue) = &mut state.queue
        {
            queue.set_time(now_ms);
            self.note_len(queue);
        }
    }

    /// The slot comes into the map that `census` is of.
    pub(super) fn enter(&mut self, census: &Arc<Census>) {
        let len = self.len.swap(0, Ordering::Relaxed);
        let dies_at = self.dies_at.swap(NEVER, Ordering::Relaxed);
        self.census = Arc::clone(census);
        self.set_len(len, Some(dies_at));
        if self.closed.is_some() {
            self.name_closed();
        }
        if let Some(queue) = &self.state.get_mut().unwrap_or_else(PoisonError::into_inner).queue {
            self.census.identities.insert(queue.identity(), self.id);
        }
    }

    /// The caller holds the slot's lock, or is the only one that has the slot.
    fn set_len(&self, len: u64, dies_at: Option<u64>) {
        let before = self.len.load(Ordering::Relaxed);
        self.len.store(len, Ordering::Relaxed);
        count(&self.census.filled, before > 0, len > 0);
        let dies_at = dies_at.filter(|_| len > 0).unwrap_or(NEVER);
        let before = self.dies_at.load(Ordering::Relaxed);
        if before != dies_at {
            self.dies_at.store(dies_at, Ordering::Relaxed);
            count(&self.census.mortal, before < NEVER, dies_at < NEVER);
        }
    }

    /// Notes that the queue does not exist for clients any more.
    pub(super) fn note_gone(&self) {
        self.stamp.fetch_add(1, Ordering::Relaxed);
        self.set_len(0, None);
        self.bytes.store(0, Ordering::Relaxed);
        self.leased.store(0, Ordering::Relaxed);
    }

    /// Keeps syncs away while it is held. Taken before the queue is locked.
    pub(super) fn no_sync(&self) -> MutexGuard<'_, ()> {
        // It guards no data.
        self.syncing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same if no sync is under way. Returns `None` if one is, or if one has panicked: only its
    /// mapping knows the outcome, and has to stay.
    pub(super) fn no_sync_now(&self) -> Option<MutexGuard<'_, ()>> {
        self.syncing.try_lock().ok()
    }

    /// Whether a sync is under way. While the caller holds the slot's lock, none begins.
    pub(super) fn is_syncing(&self) -> bool {
        matches!(self.syncing.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Makes the queue's changes durable; its lock is free while the device works.
    ///
    /// # Errors
    /// The queue that could not be synced: it is closed for writing from now on.
    pub(super) fn sync(&self) -> Result<(), QueueId> {
        if self.closed.is_some() {
            return Ok(());
        }
        let _one_at_a_time = self.no_sync();
        let mut state = self.lock_store().map_err(|_| self.queue_id())?;
        let Some(queue) = &mut state.queue else { return Ok(()) };
        let id = queue.id();
        let Some((work, point)) = queue.store().begin_sync() else { return Ok(()) };
        drop(state);
        let panicked = |_| Err(io::Error::other("a sync panicked"));
        let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked);
        let mut state = self.lock_store().map_err(|_| id)?;
        // One that was dropped meanwhile is not where it was, and needs no sync any more: what was
        // answered about it waits for the drop. Another of its name has nothing to do with it.
        let Some(queue) = state.queue.as_mut().filter(|queue| queue.id() == id) else {
            return Ok(());
        };
        queue.store().end_sync(point, &outcome);
        // The kernel reports a failure once, perhaps to another sync of the same file.
        queue.store().check_writable().map_err(|_| id)?;
        outcome.map_err(|_| id)
    }

    /// The queue that the slot holds now, or [`NO_QUEUE`].
    pub(super) fn queue_id(&self) -> QueueId {
        self.queue.load(Ordering::Relaxed)
    }

    /// Puts a new queue into the empty slot whose lock the caller holds.
    pub(super) fn fill(&self, state: &mut State, queue: Queue) {
        self.queue.store(queue.id(), Ordering::Relaxed);
        self.census.identities.insert(queue.identity(), self.id);
        state.queue = Some(queue);
    }

    /// Takes the queue out of the slot whose lock the caller holds.
    pub(super) fn empty(&self, state: &mut State) -> Option<Queue> {
        self.queue.store(NO_QUEUE, Ordering::Relaxed);
        let queue = state.queue.take()?;
        self.census.identities.remove(queue.identity());
        self.census.closed().remove(&self.id);
        Some(queue)
    }

    /// Whether the queue had messages after the last work on it.
    pub(super) fn has_messages(&self) -> bool {
        self.len.load(Ordering::Relaxed) > 0
    }

    /// Whether it has messages that live at `now_ms`, likewise.
    pub(super) fn has_living(&self, now_ms: u64) -> bool {
        self.has_messages() && now_ms < self.dies_at.load(Ordering::Relaxed)
    }

    /// Takes a queue out of use that is empty at `now_ms`. One that has messages is to be listed
    /// again when it has none.
    pub(super) fn retire(&self, now_ms: u64) -> Retired {
        if self.closed.is_some() {
            return Retired::Not;
        }
        let Some(_no_sync) = self.no_sync_now() else { return Retired::NotYet };
        let mut state = match self.state.try_lock() {
            Ok(state) if state.in_transaction => return Retired::NotInTransaction,
            Ok(state) if state.half_done => return Retired::Not,
            Ok(state) if state.is_free() => state,
            Ok(_) | Err(TryLockError::WouldBlock) => return Retired::NotYet,
            Err(TryLockError::Poisoned(_)) => return Retired::Not,
        };
        if state.retired {
            return Retired::Not;
        }
        if let Some(queue) = &mut state.queue {
            queue.set_time(now_ms);
            if !queue.is_empty() {
                let dies_at = queue.dies_at();
                state.listed = false;
                return dies_at.map_or(Retired::Not, Retired::NotBefore);
            }
            let store = queue.store();
            if store.outlives_messages() || store.check_writable().is_err() {
                // What is dead in it is found again by housekeeping, or by the next start.
                state.listed = false;
                return Retired::Not;
            }
            if !queue.is_vacant() {
                return Retired::NotYet;
            }
            if let Err(error) = queue.store().discard() {
                log::warn!("queue {}: {error}", self.name.escape_ascii());
                state.listed = false;
                return Retired::Not;
            }
        }
        self.empty(&mut state);
        // Its last messages may have died unseen.
        self.set_len(0, None);
        state.retired = true;
        Retired::Now
    }
}

/// Counts what was one of a kind `before` and is one of it now, or not.
fn count(kind: &AtomicUsize, before: bool, now: bool) {
    match (before, now) {
        (false, true) => drop(kind.fetch_add(1, Ordering::Relaxed)),
        (true, false) => drop(kind.fetch_sub(1, Ordering::Relaxed)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_panic_under_the_lock_closes_the_queue() {
        let slot = Slot::new(1, b"q\n", None);
        let panicked = thread::scope(|scope| {
            let work = || {
                let _state = slot.lock();
                panic!("on purpose");
            };
            scope.spawn(work).join()
        });
        assert!(panicked.is_err());
        for _ in 0..2 {
            let text = "queue q\\n is closed after an internal error; restart";
            assert_eq!(slot.lock().err(), Some(QueueError::Storage(text.into())));
        }
        assert!(slot.sync().is_err());
        assert_eq!(slot.retire(0), Retired::Not);
    }
}
