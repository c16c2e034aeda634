//! Group commit: many changes of many queues, one round of syncs.
//!
//! Time is cut into epochs. A change belongs to the epoch in which it was made, and its reply
//! carries that epoch as a ticket. A commit closes the epoch, syncs every queue that changed in it,
//! side by side, and then says that the epoch is durable.
//!
//! 1. A queue is in the dirty list of the epoch of its last change, or that epoch is committed.
//! 2. A change is marked under its queue's lock, and a commit locks the queue after it has closed
//!    the epoch: so a change marked with an epoch is covered by that epoch's syncs.
//! 3. A reply speaks of a queue's state, so a reader's ticket is the epoch of the queue's last
//!    change: "already in the queue" is not said of a message that a power cut could still take.

use super::QueueError;
use super::slot::Slot;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use threadpool::ThreadPool;

/// A reply with this ticket may leave once [`Durability::durable`] has reached it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

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

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Everything up to here is decided.
    pub durable: Ticket,
    /// A sync failed: replies with tickets up to `durable` that have not left must not leave.
    pub failed: bool,
}

/// The side of the queues that the server drives.
pub trait Durability: Send + Sync {
    /// Replies with tickets up to here may leave; without `--fsync always`, every one may at once.
    fn durable(&self) -> Ticket;

    /// Makes durable what has changed so far; blocks for the length of a sync.
    fn commit(&self) -> Committed;

    /// How often a commit is wanted with nobody waiting for it, in milliseconds.
    fn interval_ms(&self) -> Option<u64>;
}

/// The most syncs under way at once.
const SYNC_THREADS: usize = 8;

/// The epochs and the list of what changed in the open one.
pub(super) struct Commit {
    policy: Policy,
    /// The epoch that changes made now belong to.
    open: AtomicU64,
    /// The last epoch whose syncs are done.
    durable: AtomicU64,
    dirty: Mutex<Vec<Arc<Slot>>>,
    /// One commit at a time; holds the threads for syncs side by side, once there were several.
    syncers: Mutex<Option<ThreadPool>>,
}

impl Commit {
    pub(super) fn new(policy: Policy) -> Commit {
        Commit {
            policy,
            open: AtomicU64::new(1),
            durable: AtomicU64::new(0),
            dirty: Mutex::new(Vec::new()),
            syncers: Mutex::new(None),
        }
    }

    /// Notes that `slot` has changed in the open epoch. The caller holds the slot's lock and keeps
    /// `epoch`, the epoch of the slot's last change, for it.
    pub(super) fn mark(&self, slot: &Arc<Slot>, epoch: &mut u64) -> Ticket {
        if self.policy == Policy::Never {
            // Nobody commits, so nobody would ever empty the list.
            return Ticket::default();
        }
        if self.open.load(Ordering::SeqCst) != *epoch {
            let mut dirty = self.dirty();
            // The epoch cannot close while its list is locked.
            *epoch = self.open.load(Ordering::SeqCst);
            dirty.push(Arc::clone(slot));
        }
        Ticket(*epoch)
    }

    fn dirty(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        // A list of names has no half-made state: what a panic left is good.
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close_epoch(&self) -> (u64, Vec<Arc<Slot>>) {
        let mut dirty = self.dirty();
        let epoch = self.open.fetch_add(1, Ordering::SeqCst);
        (epoch, std::mem::take(&mut dirty))
    }
}

fn start_syncers() -> ThreadPool {
    threadpool::Builder::new()
        .num_threads(SYNC_THREADS)
        .thread_name("sync".into())
        .thread_stack_size(128 * 1024)
        .build()
}

impl Durability for Commit {
    fn durable(&self) -> Ticket {
        match self.policy {
            Policy::Always => Ticket(self.durable.load(Ordering::SeqCst)),
            Policy::EverySecond | Policy::Never => Ticket(u64::MAX),
        }
    }

    fn commit(&self) -> Committed {
        let mut syncers = self.syncers.lock().unwrap_or_else(PoisonError::into_inner);
        let (epoch, mut slots) = self.close_epoch();
        let last = slots.pop();
        let count = slots.len();
        let (sender, outcomes) = mpsc::channel();
        for slot in slots {
            let sender = sender.clone();
            syncers.get_or_insert_with(start_syncers).execute(move || {
                let outcome = slot.sync();
                // Whoever has the answer may let go of everything.
                drop(slot);
                // The receiver waits for all answers; a sync that panics gives none, and has
                // failed.
                let _received = sender.send(outcome);
            });
        }
        drop(sender);
        let own = last.map_or(Ok(()), |slot| slot.sync());
        let answers: Vec<Result<(), QueueError>> = outcomes.iter().collect();
        let failed = own.is_err() || answers.len() < count || answers.iter().any(Result::is_err);
        self.durable.store(epoch, Ordering::SeqCst);
        Committed { durable: Ticket(epoch), failed }
    }

    fn interval_ms(&self) -> Option<u64> {
        (self.policy == Policy::EverySecond).then_some(1000)
    }
}
