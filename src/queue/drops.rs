//! Dropping queues: gone for everybody at once, and from the disk a few at a time.
//!
//! 1. A doomed queue does not exist for clients. A caller that needs its name lets go of its store
//!    first, so nobody sees the one and then the other.
//! 2. On the disk a drop is a rename, which blocks for no sync. A reply that says or implies that
//!    the queue is gone waits for the commit that makes the rename durable.
//! 3. A drop whose client has gone is finished by housekeeping.
//! 4. What a store holds in memory is given back by housekeeping: that takes long where it is much.

use super::chores::Remains;
use super::claims::Waiting;
use super::queues::Queues;
use super::single::Queue;
use super::slot::{Slot, State};
use super::{QueueError, Ticket};
use crate::memory::NoMemory;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// Doomed queues whose stores are still to be let go of.
pub struct Drops {
    slots: VecDeque<Arc<Slot>>,
    remains: Arc<Remains>,
}

impl Drops {
    /// Queues that are left.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True when none is left.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

impl Drop for Drops {
    fn drop(&mut self) {
        let mut slots = self.remains.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.extend(self.slots.drain(..));
    }
}

impl Queues {
    /// Drops a queue with all its messages. Returns false if it did not exist. After an error it
    /// is as it was.
    pub fn drop_queue(&self, name: &[u8], ticket: &mut Ticket) -> Result<bool, QueueError> {
        let Some(slot) = self.slot(name) else {
            self.ledger.await_directory(ticket);
            return Ok(false);
        };
        let mut state = self.enter(&slot)?;
        self.ledger.await_queue(ticket, state.awaited);
        if state.in_transaction {
            return self.clear(&slot, &mut state, ticket);
        }
        let existed = self.has_messages(&mut state);
        self.let_go(&slot, &mut state, ticket)?;
        Ok(existed)
    }

    /// Removes the messages of a queue in the step of a transaction, which goes on with it.
    /// Returns false if there were none.
    fn clear(
        &self,
        slot: &Arc<Slot>,
        state: &mut State,
        ticket: &mut Ticket,
    ) -> Result<bool, QueueError> {
        self.run(slot, state, self.clock.now_ms(), ticket, Queue::clear).map(|(existed, _)| existed)
    }

    /// Dooms the queues of these names, and returns how many there were. To be called while no
    /// other command runs: then all go in one step, or none if one is busy, for which `waiting`
    /// stands. They are dropped once [`finish_drop`](Queues::finish_drop) has been called for each.
    pub fn doom<'a>(
        &self,
        names: impl Iterator<Item = &'a [u8]>,
        ticket: &mut Ticket,
        waiting: &mut Waiting,
    ) -> Result<(u64, Drops), QueueError> {
        let mut slots = VecDeque::new();
        for slot in names.filter_map(|name| self.slot(name)) {
            slots.try_reserve(1).map_err(NoMemory::from)?;
            slots.push_back(slot);
        }
        self.doom_slots(slots, ticket, waiting)
    }

    /// Dooms every queue, as [`doom`](Queues::doom).
    pub fn doom_all(
        &self,
        ticket: &mut Ticket,
        waiting: &mut Waiting,
    ) -> Result<(u64, Drops), QueueError> {
        self.doom_slots(self.all_slots().into(), ticket, waiting)
    }

    fn has_messages(&self, state: &mut State) -> bool {
        state.queue.as_mut().is_some_and(|queue| {
            self.set_time(queue, false, self.clock.now_ms());
            !queue.is_empty()
        })
    }

    fn doom_slots(
        &self,
        mut slots: VecDeque<Arc<Slot>>,
        ticket: &mut Ticket,
        waiting: &mut Waiting,
    ) -> Result<(u64, Drops), QueueError> {
        // Many may be claimed, and each is looked for among these.
        slots.make_contiguous().sort_unstable_by_key(|slot| slot.id);
        let is_one = |claimed: &Slot| slots.binary_search_by_key(&claimed.id, |it| it.id).is_ok();
        if self.claims.any(is_one, waiting) {
            return Err(QueueError::Busy);
        }
        // One that is closed cannot be dropped, and half of all is not what was asked for.
        slots.iter().try_for_each(|slot| slot.lock().map(drop))?;
        let remains = Arc::clone(&self.remains);
        let (mut drops, mut count) = (Drops { slots: VecDeque::new(), remains }, 0);
        drops.slots.try_reserve(slots.len()).map_err(NoMemory::from)?;
        // What may fail comes first: then none is doomed.
        for slot in &slots {
            let mut state = slot.lock()?;
            self.ledger.await_queue(ticket, state.awaited);
            if state.in_transaction {
                count += u64::from(self.clear(slot, &mut state, ticket)?);
            }
        }
        for slot in slots {
            let Ok(mut state) = slot.lock() else { continue };
            if !state.in_transaction && state.queue.is_some() {
                count += u64::from(!state.doomed && self.has_messages(&mut state));
                state.doomed = true;
                slot.note_gone();
                drop(state);
                drops.slots.push_back(slot);
            }
        }
        Ok((count, drops))
    }

    /// Lets go of one of the doomed queues, so that their drop can take several turns. After an
    /// error that one is what it was, and so are those behind it: none of them is doomed any more.
    pub fn finish_drop(&self, drops: &mut Drops, ticket: &mut Ticket) -> Result<(), QueueError> {
        let Some(slot) = drops.slots.pop_front() else { return Ok(()) };
        let mut state = slot.lock()?;
        if !state.doomed {
            // Somebody needed the name in the meantime.
            self.ledger.await_queue(ticket, state.awaited);
            return Ok(());
        }
        self.let_go(&slot, &mut state, ticket).inspect_err(|_| {
            reprieve(&slot, &mut state);
            for slot in drops.slots.drain(..) {
                if let Ok(mut state) = slot.lock() {
                    reprieve(&slot, &mut state);
                }
            }
        })
    }

    /// Does what dropped queues have left to be done.
    pub(super) fn bury(&self) {
        let take = |slots: &Mutex<Vec<Arc<Slot>>>| {
            std::mem::take(&mut *slots.lock().unwrap_or_else(PoisonError::into_inner))
        };
        let remains = Arc::clone(&self.remains);
        let mut drops = Drops { slots: take(&self.remains.slots).into(), remains };
        while !drops.is_empty() {
            if let Err(error) = self.finish_drop(&mut drops, &mut Ticket::default()) {
                log::warn!("a queue that was dropped is still there: {error}");
            }
        }
        let queues = &self.remains.queues;
        drop(std::mem::take(&mut *queues.lock().unwrap_or_else(PoisonError::into_inner)));
    }
}

/// A doomed queue is there again: its store could not be let go of.
fn reprieve(slot: &Slot, state: &mut State) {
    if std::mem::take(&mut state.doomed)
        && let Some(queue) = &state.queue
    {
        slot.note_len(queue);
        slot.stamp.fetch_add(1, Ordering::Relaxed);
    }
}
