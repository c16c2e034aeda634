//! Queues that one client keeps to itself between the slices of a long command.
//!
//! A long command gives its queue's lock back after each slice, so that it holds nobody up who
//! wants another queue. It stays one step for all who want the same one: until it is over, the
//! queue is claimed, and whoever else comes gets [`QueueError::Busy`](super::QueueError::Busy)
//! before anything is done.

use super::slot::{Slot, State};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The slots whose queues are claimed: one for each client at most.
#[derive(Default)]
pub(super) struct Claims {
    slots: Mutex<Vec<Arc<Slot>>>,
}

/// A queue that is claimed until this is dropped: at the end of the command, or with its client.
pub struct Claim {
    pub(super) slot: Arc<Slot>,
    claims: Arc<Claims>,
}

impl Claims {
    // The list is changed by single insertions and removals: what a panic left is good.
    fn slots(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims the queue in `slot`, whose lock the caller holds and which nobody has claimed.
    pub(super) fn claim(self: &Arc<Claims>, slot: &Arc<Slot>, state: &mut State) -> Claim {
        debug_assert!(!state.claimed, "claimed twice");
        state.claimed = true;
        self.slots().push(Arc::clone(slot));
        Claim { slot: Arc::clone(slot), claims: Arc::clone(self) }
    }

    /// Whether one of the claimed queues is `wanted`.
    pub(super) fn any(&self, wanted: impl Fn(&Arc<Slot>) -> bool) -> bool {
        self.slots().iter().any(wanted)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A queue that a panic has closed stays closed, whoever claims it.
        if let Ok(mut state) = self.slot.lock() {
            state.claimed = false;
            // The client has gone in the middle of a command. What fails here fails again for
            // the next one.
            if let Some(queue) = &mut state.queue {
                let _closed = queue.end_step();
            }
        }
        self.claims.slots().retain(|slot| !Arc::ptr_eq(slot, &self.slot));
    }
}
