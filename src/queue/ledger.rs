//! The ledger of durability: what has changed, what is durable, and whether a reply may leave.
//!
//! Time is cut into epochs. A change belongs to the epoch in which it was made, and its reply
//! carries that epoch and its queue as a ticket. A commit closes the epoch, syncs every queue that
//! changed in it, side by side, and then says that the epoch is durable.
//!
//! 1. A queue is in the dirty list of the epoch of its last change, or that epoch is committed.
//! 2. A change is marked under its queue's lock, and a commit locks the queue after it has closed
//!    the epoch: so a change marked with an epoch is covered by that epoch's syncs.
//! 3. A reply speaks of a queue's state, so a reader's ticket is the epoch of the queue's last
//!    change: "already in the queue" is not said of a message that a power cut could still take.
//! 4. A sync that fails, or panics, closes its queue for writing. Replies about that queue that
//!    have not left never leave; those about other queues do (rule 17).
//! 5. What has failed is published before its epoch is called durable, so no reply slips through in
//!    between. A commit that panics fails all that it has taken.

use super::single::{NO_QUEUE, QueueId};
use super::slot::Slot;
use crate::logging::expecting_panic;
use std::collections::{BTreeSet, HashSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use threadpool::ThreadPool;

/// What a reply has to wait for. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ticket {
    /// The epoch that has to be durable; 0 if none has.
    epoch: u64,
    /// The queues that the reply speaks of, as far as they changed in epochs that were not durable.
    queues: BTreeSet<QueueId>,
}

impl Ticket {
    /// A ticket for an epoch of a disk that a test plays.
    #[cfg(test)]
    pub(crate) fn at(epoch: u64) -> Ticket {
        Ticket { epoch, queues: BTreeSet::new() }
    }

    #[cfg(test)]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Waits for what `other` waits for, too.
    pub fn merge(&mut self, mut other: Ticket) {
        self.epoch = self.epoch.max(other.epoch);
        // The few are added to the many: one of them may name every queue there is.
        if self.queues.len() < other.queues.len() {
            std::mem::swap(&mut self.queues, &mut other.queues);
        }
        self.queues.extend(other.queues);
    }

    fn add(&mut self, epoch: u64, queue: QueueId) {
        self.epoch = self.epoch.max(epoch);
        self.queues.insert(queue);
    }
}

/// Whether a reply may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyVerdict {
    /// What it says is durable, or need not be.
    Leave,
    /// Not yet: a commit is missing.
    Wait,
    /// A sync that it waited for has failed: it would be a lie.
    Never,
}

/// When changes are made durable (`--fsync`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Before the reply leaves.
    Always,
    /// Every second.
    EverySecond,
    /// When the operating system likes, while a segment fills, when the queue falls idle, and at a
    /// clean stop.
    Never,
}

/// The side of the queues that the server drives.
pub trait Durability: Send + Sync {
    /// Whether a reply with this ticket may leave now.
    fn verdict(&self, ticket: &Ticket) -> ReplyVerdict;

    /// Makes durable what has changed so far; blocks for the length of a sync. Failures show in the
    /// verdicts.
    fn commit(&self);

    /// How often a commit is wanted with nobody waiting for it, in milliseconds.
    fn interval_ms(&self) -> Option<u64>;
}

/// The durability of a store in memory: every reply may leave at once.
#[derive(Clone, Copy, Debug)]
pub struct NothingToSync;

impl Durability for NothingToSync {
    fn verdict(&self, _ticket: &Ticket) -> ReplyVerdict {
        ReplyVerdict::Leave
    }

    fn commit(&self) {}

    fn interval_ms(&self) -> Option<u64> {
        None
    }
}

/// Epochs, what changed in the open one, and what has failed.
pub(super) struct Ledger {
    policy: Policy,
    /// The epoch that changes made now belong to.
    open: AtomicU64,
    /// The last epoch whose syncs are done.
    durable: AtomicU64,
    /// The last epoch in which a queue went.
    directory: AtomicU64,
    changed: Mutex<Changed>,
    /// Queues with a sync that failed, and whether there are any.
    failed: RwLock<HashSet<QueueId>>,
    has_failed: AtomicBool,
    /// While it is held, the open epoch stays open.
    kept_open: Mutex<()>,
    /// One commit at a time, until what it did is published.
    committing: Mutex<()>,
    syncers: ThreadPool,
}

/// What changed in the open epoch.
#[derive(Default)]
struct Changed {
    /// Each queue once, and the name that it had at its first change.
    queues: Vec<(Arc<Slot>, QueueId)>,
    moves: Vec<Move>,
}

/// A message that is in its target already, and hidden in its source until it is durable there.
pub(super) struct Move {
    pub(super) source: (Arc<Slot>, QueueId),
    pub(super) target: (Arc<Slot>, QueueId),
    pub(super) number: u64,
}

/// A commit under way: one epoch is closed and not yet durable.
pub(super) struct Commit<'a> {
    ledger: &'a Ledger,
    epoch: u64,
    changed: Changed,
    is_published: bool,
    _one_at_a_time: MutexGuard<'a, ()>,
}

impl Ledger {
    /// # Errors
    /// The threads for syncs side by side cannot be made: later would be too late.
    pub(super) fn new(policy: Policy) -> io::Result<Ledger> {
        Ok(Ledger {
            policy,
            open: AtomicU64::new(1),
            durable: AtomicU64::new(0),
            directory: AtomicU64::new(0),
            changed: Mutex::default(),
            failed: RwLock::default(),
            has_failed: AtomicBool::new(false),
            kept_open: Mutex::default(),
            committing: Mutex::default(),
            syncers: start_syncers(policy)?,
        })
    }

    /// Notes that the queue in `slot` has changed in the open epoch. The caller holds the slot's
    /// lock and keeps `last`, the epoch of the queue's last change, for it.
    pub(super) fn mark(&self, slot: &Arc<Slot>, queue: QueueId, last: &mut u64) {
        // With `Policy::Never` nobody commits, so nobody would ever empty the list.
        if self.policy != Policy::Never && self.open.load(Ordering::SeqCst) != *last {
            let mut changed = self.changed();
            // The epoch cannot close while its list is locked.
            *last = self.open.load(Ordering::SeqCst);
            changed.queues.push((Arc::clone(slot), queue));
        }
    }

    /// A reply with this ticket speaks of a queue, and waits for an epoch of it.
    pub(super) fn await_queue(&self, ticket: &mut Ticket, (epoch, queue): (u64, QueueId)) {
        if self.policy == Policy::Always && epoch > self.durable.load(Ordering::Acquire) {
            ticket.add(epoch, queue);
        }
    }

    /// Notes that a queue has gone from the directory in the open epoch, and returns what a reply
    /// that says so waits for.
    pub(super) fn mark_directory(&self) -> (u64, QueueId) {
        let open = self.open.load(Ordering::SeqCst);
        self.directory.fetch_max(open, Ordering::SeqCst);
        (open, NO_QUEUE)
    }

    /// A reply with this ticket says which queues there are, or that one is not there.
    pub(super) fn await_directory(&self, ticket: &mut Ticket) {
        self.await_queue(ticket, (self.directory.load(Ordering::SeqCst), NO_QUEUE));
    }

    /// Leaves a move to the next commit, and returns the epoch that its reply waits for: that of
    /// the commit that makes the removal durable, or that writes it if the policy asks for no more.
    pub(super) fn add_move(&self, it: Move, ticket: &mut Ticket) -> u64 {
        let mut changed = self.changed();
        let open = self.open.load(Ordering::SeqCst);
        let epoch = if self.policy == Policy::Always { open + 1 } else { open };
        ticket.add(epoch, it.source.1);
        ticket.add(epoch, it.target.1);
        changed.moves.push(it);
        epoch
    }

    pub(super) fn interval_ms(&self) -> Option<u64> {
        (self.policy == Policy::EverySecond).then_some(1000)
    }

    /// Whether a reply with this ticket may leave now.
    pub(super) fn verdict(&self, ticket: &Ticket) -> ReplyVerdict {
        // In this order: a failure is published before its epoch is called durable.
        if ticket.epoch > self.durable.load(Ordering::Acquire) {
            ReplyVerdict::Wait
        } else if self.has_failed.load(Ordering::Acquire) && self.is_lie(ticket) {
            ReplyVerdict::Never
        } else {
            ReplyVerdict::Leave
        }
    }

    fn is_lie(&self, ticket: &Ticket) -> bool {
        let failed = self.failed.read().unwrap_or_else(PoisonError::into_inner);
        ticket.queues.iter().any(|queue| failed.contains(queue))
    }

    // A list has no half-made state: what a panic left is good.
    fn changed(&self) -> MutexGuard<'_, Changed> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the open epoch open while the answer is held: what is done meanwhile belongs to it.
    /// Waits for no sync.
    pub(super) fn keep_open(&self) -> MutexGuard<'_, ()> {
        self.kept_open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the open epoch. Waits for a commit that is under way, and for a transaction.
    pub(super) fn begin_commit(&self) -> Commit<'_> {
        let one_at_a_time = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let _whole = self.keep_open();
        let mut changed = self.changed();
        let epoch = self.open.fetch_add(1, Ordering::SeqCst);
        let changed = std::mem::take(&mut *changed);
        Commit { ledger: self, epoch, changed, is_published: false, _one_at_a_time: one_at_a_time }
    }
}

impl Commit<'_> {
    /// Syncs what has changed, side by side.
    pub(super) fn sync(&self) {
        let targets = self.changed.moves.iter().map(|it| &it.target);
        let mut slots: Vec<&Arc<Slot>> = self.changed.queues.iter().map(|(slot, _)| slot).collect();
        // With `Policy::Never` a move's target is in no list.
        slots.extend(targets.map(|(slot, _)| slot).filter(|_| self.ledger.policy == Policy::Never));
        slots.sort_unstable_by_key(|slot| slot.id);
        slots.dedup_by_key(|slot| slot.id);
        let last = slots.pop();
        let (sender, outcomes) = mpsc::channel();
        for slot in slots {
            let (slot, sender) = (Arc::clone(slot), sender.clone());
            self.ledger.syncers.execute(move || {
                let failed = sync(&slot);
                // The receiver of the answer may let go of everything.
                drop(slot);
                // The receiver waits for all answers.
                let _received = sender.send(failed);
            });
        }
        drop(sender);
        let own = last.and_then(sync);
        let failed: Vec<QueueId> = outcomes.iter().flatten().chain(own).collect();
        failed.into_iter().for_each(|queue| self.fail(queue));
    }

    /// No reply that waits for this queue leaves any more.
    pub(super) fn fail(&self, queue: QueueId) {
        let mut failed = self.ledger.failed.write().unwrap_or_else(PoisonError::into_inner);
        failed.insert(queue);
        self.ledger.has_failed.store(true, Ordering::Release);
    }

    /// The directory could not be synced: neither what was dropped is durably gone, nor what was
    /// popped from queues that went when they were empty.
    pub(super) fn fail_directory(&self) {
        self.fail(NO_QUEUE);
        let gone = self.changed.queues.iter().filter(|(slot, queue)| slot.queue_id() != *queue);
        gone.for_each(|(_, queue)| self.fail(*queue));
    }

    pub(super) fn has_failed(&self, queue: QueueId) -> bool {
        let failed = self.ledger.failed.read().unwrap_or_else(PoisonError::into_inner);
        failed.contains(&queue)
    }

    /// The moves whose targets have been synced by now, or have failed.
    pub(super) fn moves(&self) -> &[Move] {
        &self.changed.moves
    }

    /// Everything up to this epoch is decided.
    pub(super) fn publish(mut self) {
        self.ledger.durable.store(self.epoch, Ordering::Release);
        self.is_published = true;
    }
}

impl Drop for Commit<'_> {
    /// What a panic has left undone is not known: the next commit calls this epoch durable, too.
    fn drop(&mut self) {
        if !self.is_published {
            let changed = self.changed.queues.iter().map(|(_, queue)| *queue);
            let moved = self.changed.moves.iter().flat_map(|it| [it.source.1, it.target.1]);
            changed.chain(moved).chain([NO_QUEUE]).for_each(|queue| self.fail(queue));
        }
    }
}

/// Syncs one queue, and returns it if that failed. A panic is a failure too.
fn sync(slot: &Arc<Slot>) -> Option<QueueId> {
    let synced = catch_unwind(AssertUnwindSafe(|| slot.sync()));
    synced.unwrap_or_else(|_| Err(slot.queue_id())).err()
}

/// Threads for syncs side by side, beside the one that commits. The pool panics where a thread
/// cannot be made.
fn start_syncers(policy: Policy) -> io::Result<ThreadPool> {
    let threads = match policy {
        Policy::Always => 2,
        // Nobody waits for these.
        Policy::EverySecond | Policy::Never => 1,
    };
    let build = || {
        threadpool::Builder::new()
            .num_threads(threads)
            .thread_name("sync".into())
            .thread_stack_size(128 * 1024)
            .build()
    };
    expecting_panic(build)
        .map_err(|_| io::Error::other("the system does not allow threads for syncs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replies share a piece of output if their tickets are equal.
    #[test]
    fn tickets_are_equal_that_wait_for_the_same_in_whatever_order_and_however_often_it_was_said() {
        let (mut one, mut other) = (Ticket::default(), Ticket::default());
        for queue in [3, 1, 2, 1, 3] {
            one.add(7, queue);
        }
        other.add(5, 1);
        let mut more = Ticket::default();
        more.add(7, 2);
        more.add(6, 3);
        other.merge(more.clone());
        other.merge(more);
        assert_eq!(one, other);
        assert_eq!(one.queues.len(), 3);
        other.add(7, 4);
        assert_ne!(one, other);
    }
}
