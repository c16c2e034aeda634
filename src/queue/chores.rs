//! What is left to housekeeping, and a bell that calls it before its time.

use super::single::Queue;
use super::slot::Slot;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A bell: the thread that makes work rings it, and the thread that does the work hears it.
#[derive(Debug, Default)]
pub(super) struct Chores {
    /// Rung and not heard yet; so that ringing again costs nothing.
    rung: AtomicBool,
    waiting: Mutex<()>,
    bell: Condvar,
}

impl Chores {
    /// There is something to do.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::Relaxed) {
            // Taken so that the bell does not ring between a look at `rung` and the wait for it.
            let _waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            self.bell.notify_one();
        }
    }

    /// Waits for the bell, but no longer than `longest`.
    pub(super) fn wait(&self, longest: Duration) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_quiet = |_: &mut ()| !self.rung.load(Ordering::Relaxed);
        let _heard = self.bell.wait_timeout_while(waiting, longest, is_quiet);
        self.rung.store(false, Ordering::Relaxed);
    }
}

/// What dropped queues leave to housekeeping.
#[derive(Default)]
pub(super) struct Remains {
    /// Doomed queues that nobody waits for.
    pub(super) slots: Mutex<Vec<Arc<Slot>>>,
    /// Queues whose stores have been let go of.
    pub(super) queues: Mutex<Vec<Queue>>,
}
