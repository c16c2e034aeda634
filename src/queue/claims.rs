//! Queues that one client keeps to itself between the slices of a long command.
//!
//! A long command gives its queue's lock back after each slice, so that it holds nobody up who
//! wants another queue. It stays one step for all who want the same one: until it is over, the
//! queue is claimed, and any other caller gets [`QueueError::Busy`](super::QueueError::Busy)
//! before anything is done.
//!
//! A command that needs several queues to itself at one moment, as EXEC does, waits until nobody
//! claims one of them. Long commands that follow each other would keep it waiting for ever. So
//! whatever it has found claimed is claimed by nobody else before it is done: each time that it
//! comes back there is one queue less that it may have to wait for.

use super::slot::{Slot, State};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The slots whose queues are claimed, by number: one for each client at most.
#[derive(Default)]
pub(super) struct Claims {
    slots: Mutex<BTreeMap<u64, Arc<Slot>>>,
}

/// The queues that a command has found claimed by others, until it is done or its client gone.
#[derive(Default)]
pub struct Waiting {
    slots: BTreeMap<u64, Arc<Slot>>,
}

impl Waiting {
    /// Whether the command waits.
    pub fn is_waiting(&self) -> bool {
        !self.slots.is_empty()
    }

    fn note(&mut self, slot: &Arc<Slot>) {
        if self.slots.insert(slot.id, Arc::clone(slot)).is_none() {
            slot.awaited_by.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        for slot in self.slots.values() {
            slot.awaited_by.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A queue that is claimed until this is dropped: at the end of the command, or with the session of
/// a client that has gone before it changed anything. A drop after a change and without a call of
/// [`end`](Claim::end) means that the command has panicked.
pub struct Claim {
    pub(super) slot: Arc<Slot>,
    claims: Arc<Claims>,
    is_over: bool,
}

impl Claim {
    /// Ends the command: it is done, or refused, and what it has changed stays.
    pub fn end(mut self) {
        self.is_over = true;
    }
}

impl Claims {
    // The map is changed by single insertions and removals: what a panic left is good.
    fn slots(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims the queue in `slot`, whose lock the caller holds and which nobody has claimed.
    pub(super) fn claim(self: &Arc<Claims>, slot: &Arc<Slot>, state: &mut State) -> Claim {
        debug_assert!(!state.claimed, "claimed twice");
        state.claimed = true;
        self.slots().insert(slot.id, Arc::clone(slot));
        Claim { slot: Arc::clone(slot), claims: Arc::clone(self), is_over: false }
    }

    /// Whether one of the claimed queues is `wanted`. Those that are will not be claimed again
    /// before `waiting` ends, which it does where none is.
    pub(super) fn any(&self, wanted: impl Fn(&Slot) -> bool, waiting: &mut Waiting) -> bool {
        let (slots, mut is_any) = (self.slots(), false);
        for slot in slots.values().filter(|slot| wanted(slot)) {
            waiting.note(slot);
            is_any = true;
        }
        if !is_any {
            *waiting = Waiting::default();
        }
        is_any
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Held to the end: who claims the queue next must not be taken out for this one.
        let mut locked = self.slot.lock();
        // A queue that a panic has closed stays closed, although it is claimed.
        if let Ok(state) = &mut locked {
            state.claimed = false;
            // The memory store keeps half a command; on disk a step without its end is cut at the
            // next start.
            if let State { queue: Some(queue), half_done, .. } = &mut **state {
                *half_done = !self.is_over && queue.is_half_done();
                if !*half_done {
                    let _nobody_is_answered = queue.end_step();
                }
            }
        }
        self.claims.slots().remove(&self.slot.id);
    }
}
