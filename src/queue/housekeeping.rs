//! What is done for queues while nobody asks: space given back, expired and empty ones forgotten.
//!
//! Each queue is locked for a slice at a time; work on files runs without its lock.

use super::queues::Queues;
use super::single::Queue;
use super::slot::{Retired, Slot};
use super::{Durability, QueueError, Ticket, Tidied};
use crate::logging;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long housekeeping waits where nothing calls it before.
const ROUND: Duration = Duration::from_secs(1);

/// A queue that nobody has used for so long is unmapped.
const IDLE: Duration = Duration::from_secs(10);

/// The most syncs of idle queues at once: other queues wait for their housekeeping meanwhile.
const IDLE_SYNCS: usize = 64;

impl Queues {
    /// Does a round of housekeeping and waits until there is more to do. `last_rest` is when idle
    /// queues came to rest last.
    pub fn keep_house(&self, last_rest: &mut Instant) {
        if last_rest.elapsed() >= IDLE {
            self.rest_idle();
            *last_rest = Instant::now();
        }
        if !self.tidy() {
            self.wait_for_chores(ROUND);
        }
    }

    /// Housekeeping, a slice for each queue: gives space back, syncs what fills. True when there is
    /// more to do at once.
    pub fn tidy(&self) -> bool {
        self.bury();
        let mut more = false;
        self.backing.watch();
        for slot in self.all_slots() {
            if slot.check_open().is_err() {
                continue;
            }
            more |= self.bury_dead(&slot).unwrap_or_else(|error| {
                say_failed(&slot, error);
                false
            });
            let tidied = self.tidy_locked(&slot);
            self.note_closed(&slot);
            let Some((tidied, is_unneeded)) = tidied else { continue };
            more |= tidied.more;
            if let Some(Err(error)) = tidied.work.map(|work| work()) {
                say_failed(&slot, error);
            }
            if tidied.wants_sync {
                // A failure is logged there and closes the queue for writing.
                let _logged = slot.sync();
            }
            if is_unneeded {
                self.forget(&slot);
                // A failure is logged there and closes all queues for writing.
                let _logged = self.backing.settle();
            }
        }
        more
    }

    /// A slice of a queue's housekeeping; true with it: the queue is empty, nothing has changed
    /// since the last slice, and it takes more room than the next queue of its name would.
    fn tidy_locked(&self, slot: &Arc<Slot>) -> Option<(Tidied, bool)> {
        let mut state = slot.lock().ok().filter(|state| state.is_free())?;
        let stamp = slot.stamp.load(Ordering::Relaxed);
        let is_settled = std::mem::replace(&mut state.tidied, stamp) == stamp;
        let store = state.queue.as_mut()?.store();
        let tidied = store.tidy();
        let is_unneeded = store.is_oversized() && !store.outlives_messages();
        Some((tidied, is_settled && is_unneeded))
    }

    /// Takes an empty queue out of the map.
    fn forget(&self, slot: &Slot) {
        if !slot.has_messages() && !self.backing.is_closed() {
            let mut slots = self.slots_mut();
            if slot.retire(self.clock.now_ms()) == Retired::Now {
                slots.remove(slot);
            }
        }
    }

    /// Removes a slice of the dead messages of queue `name`, so that a transaction need not.
    /// Returns whether there are more.
    pub fn bury_in(&self, name: &[u8]) -> bool {
        // What fails here fails again in housekeeping, which says so.
        self.slot(name).is_some_and(|slot| self.bury_dead(&slot).unwrap_or(false))
    }

    /// Removes a slice of a queue's dead messages. Returns whether there are more.
    fn bury_dead(&self, slot: &Arc<Slot>) -> Result<bool, QueueError> {
        let mut state = slot.lock()?;
        if !state.is_free() {
            return Ok(false);
        }
        let now_ms = self.clock.now_ms();
        let Some(queue) = &mut state.queue else { return Ok(false) };
        self.set_time(queue, false, now_ms);
        let mut nobody_waits = Ticket::default();
        if !queue.has_dead() {
            let has_overdue = queue.has_overdue();
            if queue.changed {
                // Deliveries that failed are in the log now, and a commit is to know.
                self.run(slot, &mut state, now_ms, &mut nobody_waits, |_| Ok(()))?;
                return Ok(has_overdue);
            }
            if self.waiters.are_there() {
                self.hand_over(slot, queue);
            }
            slot.note(queue);
            return Ok(has_overdue);
        }
        // Where nothing can be written any more, that has been said.
        if queue.store().check_writable().is_err() {
            slot.note_len(queue);
            return Ok(false);
        }
        let bury = Queue::bury_some;
        let (more, _) = self.run(slot, &mut state, now_ms, &mut nobody_waits, bury)?;
        Ok(more)
    }

    /// Lets the queues rest that nobody has used since the last call, and forgets the empty ones.
    pub fn rest_idle(&self) {
        let mut syncs = 0;
        for slot in self.all_slots() {
            // What a sync under way works on is not let go of: if it fails, the next sync of the
            // same file has to know. The queue rests at the next call.
            let Some(no_sync) = slot.no_sync_now() else { continue };
            let Ok(mut state) = slot.lock() else { continue };
            if std::mem::take(&mut state.used) {
                continue;
            }
            if let Some(queue) = &mut state.queue {
                let store = queue.store();
                // Nobody else syncs it under `--fsync never`, and once it rests a sync would need a
                // descriptor. It rests at the next call.
                if store.is_dirty() && store.check_writable().is_ok() {
                    drop((state, no_sync));
                    syncs += 1;
                    if syncs <= IDLE_SYNCS {
                        // A failure is logged there and closes the queue for writing.
                        let _logged = slot.sync();
                    }
                    continue;
                }
                store.rest();
            }
            drop((state, no_sync));
            self.forget(&slot);
        }
        let slots = self.slots();
        self.candidates().forget_retired(&slots);
        drop(slots);
        // A failure is logged there and closes all queues for writing.
        let _logged = self.backing.settle();
    }

    /// Waits until a queue wants [`tidy`](Queues::tidy), but no longer than `longest`.
    pub fn wait_for_chores(&self, longest: Duration) {
        self.chores.wait(longest);
    }

    /// Syncs everything and lets go of it, for a clean stop. Returns false if a sync has failed,
    /// now or at any time since the start. The queues must not be used afterwards.
    pub fn close(&self) -> bool {
        self.bury();
        let mut is_whole = true;
        // Moves end with a commit.
        self.commit();
        for slot in self.all_slots() {
            is_whole &= slot.sync().is_ok();
            let _no_sync = slot.no_sync();
            if let Ok(mut state) = slot.lock()
                && let Some(queue) = &mut state.queue
            {
                queue.store().rest();
            }
        }
        is_whole & self.backing.settle().is_ok() & !self.backing.has_failed()
    }
}

/// Housekeeping comes every second, and what it fails for may last.
fn say_failed(slot: &Slot, error: impl Display) {
    let name = slot.name.escape_ascii();
    logging::refused(&format!("housekeeping of queue {name} fails"), error);
}
