//! Which queue an id of a delivery means.
//!
//! A queue has an identity, a number that no other one has, before or after it: ids outlive queues,
//! and restarts.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The slots that queues are in, by the identities of these.
#[derive(Default)]
pub(super) struct Identities {
    slots: Mutex<HashMap<u64, u64>>,
}

impl Identities {
    // It is changed by single insertions and removals: what a panic left is good.
    fn slots(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue of this identity is in slot `id` from now on.
    pub(super) fn insert(&self, identity: u64, id: u64) {
        self.slots().insert(identity, id);
    }

    /// The queue of this identity has gone.
    pub(super) fn remove(&self, identity: u64) {
        self.slots().remove(&identity);
    }

    /// The slot that the queue of this identity is in.
    pub(super) fn slot(&self, identity: u64) -> Option<u64> {
        self.slots().get(&identity).copied()
    }
}
