//! The committer: one thread that makes the log durable and sends the replies that waited for it.
//!
//! Handlers register their outboxes and go back to their sockets; everything that registers during
//! a sync shares the next one. The committer never waits for a client: what a socket does not take
//! at once is finished by a thread of that connection's own. A client that is alone has nobody to
//! share a sync with: its handler commits by itself.
//!
//! This file knows tickets, and nothing of files: what a commit is, [`Durability`] says.

use super::lock;
use super::outbox::{Condition, Flushed, Outbox};
use crate::queue::{Committed, Durability, Ticket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes of a finisher's stack: it only writes to a socket.
const FINISHER_STACK: usize = 64 * 1024;

/// Whether a reply may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The log is durable up to what the reply says.
    Leave,
    /// Not yet.
    Wait,
    /// The sync that it waited for has failed: it would be a lie.
    Never,
}

#[derive(Default)]
struct Registered {
    outboxes: Vec<Arc<Outbox>>,
    stopping: bool,
}

/// What handlers, finishers and the committer's thread share.
pub(super) struct Committer {
    durability: Arc<dyn Durability>,
    /// Held over a commit.
    committing: Mutex<()>,
    registered: Mutex<Registered>,
    /// Told when the first outbox registers and at the stop.
    wake: Condvar,
    /// Tickets up to here are decided: what is durable, and what has failed.
    decided: AtomicU64,
    /// Failed commits so far, and the highest ticket that one of them was for.
    failures: AtomicU64,
    failed_up_to: AtomicU64,
}

impl Committer {
    pub(super) fn new(durability: Arc<dyn Durability>) -> Committer {
        Committer {
            decided: AtomicU64::new(durability.durable().0),
            durability,
            committing: Mutex::default(),
            registered: Mutex::default(),
            wake: Condvar::new(),
            failures: AtomicU64::new(0),
            failed_up_to: AtomicU64::new(0),
        }
    }

    /// Failed commits so far: read before a command is executed, so that its reply is withheld if
    /// the commit that it needs fails before the reply has been handed over.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Acquire)
    }

    /// Whether a reply may leave now.
    pub(super) fn verdict(&self, condition: Condition) -> Verdict {
        // In this order: a failure is published before the tickets that it was for are decided.
        let decided = self.decided.load(Ordering::Acquire);
        let failed = self.failures() != condition.failures
            && condition.ticket > Ticket::default()
            && condition.ticket.0 <= self.failed_up_to.load(Ordering::Acquire);
        if failed {
            Verdict::Never
        } else if condition.ticket.0 <= decided {
            Verdict::Leave
        } else {
            Verdict::Wait
        }
    }

    /// The committer will send from `outbox` until nothing in it waits.
    pub(super) fn register(&self, outbox: Arc<Outbox>) {
        let mut registered = lock(&self.registered);
        registered.outboxes.push(outbox);
        if registered.outboxes.len() == 1 {
            self.wake.notify_one();
        }
    }

    /// Ends the thread in `run` after a last commit.
    pub(super) fn stop(&self) {
        lock(&self.registered).stopping = true;
        self.wake.notify_one();
    }

    /// The committer's thread.
    pub(super) fn run(&self) {
        let mut waiting = Vec::new();
        loop {
            let stopping = self.collect(&mut waiting);
            self.commit();
            waiting.retain(|outbox| self.visit(outbox));
            if stopping {
                return;
            }
        }
    }

    /// Waits until there is something to do, adds what has registered to `waiting`, and answers
    /// whether it is time to stop.
    fn collect(&self, waiting: &mut Vec<Arc<Outbox>>) -> bool {
        let registered = lock(&self.registered);
        let idle = |registered: &mut Registered| {
            waiting.is_empty() && registered.outboxes.is_empty() && !registered.stopping
        };
        let mut registered = match self.durability.interval_ms() {
            Some(interval_ms) => {
                let interval = Duration::from_millis(interval_ms);
                let woken = self.wake.wait_timeout_while(registered, interval, idle);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let woken = self.wake.wait_while(registered, idle);
                woken.unwrap_or_else(PoisonError::into_inner)
            }
        };
        waiting.append(&mut registered.outboxes);
        registered.stopping
    }

    /// One sync. A panic in it decides nothing and is a failure for everything in hand.
    pub(super) fn commit(&self) {
        // One at a time, until it is published: a later one that succeeds must not let replies
        // leave that an earlier one has failed.
        let _one_at_a_time = lock(&self.committing);
        let committed = catch_unwind(AssertUnwindSafe(|| self.durability.commit()));
        let (failed_up_to, decided) = match committed {
            Ok(Committed { durable, failed: false }) => (None, durable.0),
            Ok(Committed { durable, failed: true }) => (Some(durable.0), durable.0),
            Err(_) => (Some(u64::MAX), 0),
        };
        if let Some(ticket) = failed_up_to {
            log::error!("a sync failed: the clients that wait for it are disconnected");
            self.failed_up_to.fetch_max(ticket, Ordering::Release);
            self.failures.fetch_add(1, Ordering::Release);
        }
        self.decided.fetch_max(decided, Ordering::Release);
    }

    /// Sends from one outbox and answers whether it still waits for a commit.
    fn visit(&self, outbox: &Arc<Outbox>) -> bool {
        match outbox.flush() {
            Flushed::Empty => false,
            Flushed::Waiting => true,
            Flushed::Blocked => {
                let finishing = Arc::clone(outbox);
                let finisher = thread::Builder::new()
                    .name("finisher".into())
                    .stack_size(FINISHER_STACK)
                    .spawn(move || finishing.finish());
                if let Err(error) = finisher {
                    log::error!(
                        "a slow client is disconnected, no thread can wait for it: {error}"
                    );
                    outbox.give_up();
                }
                false
            }
        }
    }
}

/// The durability of a store in memory: every reply may leave at once.
#[derive(Clone, Copy, Debug)]
pub struct NothingToSync;

impl Durability for NothingToSync {
    fn durable(&self) -> Ticket {
        Ticket(u64::MAX)
    }

    fn commit(&self) -> Committed {
        Committed { durable: self.durable(), failed: false }
    }

    fn interval_ms(&self) -> Option<u64> {
        None
    }
}
