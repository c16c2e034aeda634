//! What is done for queues while nobody asks: space given back, expired and empty ones forgotten.
//!
//! Each queue is locked for a slice at a time; work on files runs without its lock.

use super::queues::Queues;
use super::single::{LEARNED_AT_ONCE, Queue};
use super::slot::{Retired, Slot};
use super::{Durability, QueueError, Ticket, Tidied};
use crate::logging;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// How long housekeeping waits where nothing calls it before.
const ROUND: Duration = Duration::from_secs(1);

/// A queue that nobody has used for so long is unmapped.
const IDLE: Duration = Duration::from_secs(10);

/// The most syncs of idle queues at once: other queues wait for their housekeeping meanwhile.
const IDLE_SYNCS: usize = 64;

/// Slices of logs from before the start that are looked at in each round: all queues wait for it.
const LEARNING_SLICES: usize = 32;

/// The pause behind each of these: others want the disk and the queue.
const LEARNING_PAUSE: Duration = Duration::from_millis(1);

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
        let (mut more, mut slices) = (false, LEARNING_SLICES);
        self.backing.watch();
        for slot in self.all_slots() {
            if slot.check_open().is_err() {
                continue;
            }
            more |= self.bury_dead(&slot, &mut slices).unwrap_or_else(|error| {
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

    /// Finds the dead messages of a log from before the start, by and by, in no more than `slices`
    /// of it, and removes a slice of all that are known; true: there may be more to find or to
    /// remove.
    fn bury_dead(&self, slot: &Arc<Slot>, slices: &mut usize) -> Result<bool, QueueError> {
        let mut more = true;
        while more && *slices > 0 {
            more = learn(slot)?;
            if more {
                *slices -= 1;
                thread::sleep(LEARNING_PAUSE);
            }
        }
        Ok(self.bury_known(slot)? || more)
    }

    /// Removes a slice of the dead messages of queue `name`, so that a transaction need not; true:
    /// there are more.
    pub fn bury_in(&self, name: &[u8]) -> bool {
        // What fails here fails again in housekeeping, which says so.
        self.slot(name).is_some_and(|slot| self.bury_known(&slot).unwrap_or(false))
    }

    fn bury_known(&self, slot: &Arc<Slot>) -> Result<bool, QueueError> {
        let mut state = slot.lock()?;
        if !state.is_free() {
            return Ok(false);
        }
        let now_ms = self.clock.now_ms();
        let Some(queue) = &mut state.queue else { return Ok(false) };
        queue.set_time(now_ms);
        if !queue.has_dead() {
            return Ok(false);
        }
        // Where nothing can be written any more, that has been said.
        if queue.store().check_writable().is_err() {
            slot.note_len(queue);
            return Ok(false);
        }
        let mut nobody_waits = Ticket::default();
        let bury = Queue::bury_some;
        let (more, _) = self.run(slot, &mut state, now_ms, &mut nobody_waits, bury)?;
        Ok(more)
    }

    /// Lets the queues rest that nobody has used since the last call, and forgets the empty ones.
    pub fn rest_idle(&self) {
        let mut syncs = 0;
        for slot in self.all_slots() {
            // What a sync under way works on is not let go of: if it fails, whoever syncs the same
            // file after it has to know. The queue rests at the next call.
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

    /// Syncs everything and lets go of it, for a clean stop; false: a sync has failed, now or at
    /// any time since the start. The queues are not to be used afterwards.
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

/// Looks at a slice of the queue's log from before the start; true: there is more. A step has room
/// for the dead that were known when it began, so nothing is looked at in the middle of one.
fn learn(slot: &Slot) -> Result<bool, QueueError> {
    let mut state = slot.lock()?;
    let (is_free, mut bytes) = (state.is_free(), LEARNED_AT_ONCE);
    match state.queue.as_mut().filter(|queue| is_free && !queue.is_learned()) {
        None => Ok(false),
        Some(queue) => {
            let more = queue.learn(&mut bytes);
            slot.note_len(queue);
            more
        }
    }
}

/// Housekeeping comes every second, and what it fails for may last.
fn say_failed(slot: &Slot, error: impl Display) {
    let name = slot.name.escape_ascii();
    logging::refused(&format!("housekeeping of queue {name} fails"), error);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{DiskBacking, Limits, NewMessage, Policy};
    use crate::storage::DataDirectory;

    /// The bound was for each log, so all queues waited for the sum.
    #[test]
    fn a_round_looks_at_a_bounded_part_of_all_logs() {
        const COUNT: u64 = 20;
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let directory = DataDirectory::open(folder.path(), 64 << 10, true).unwrap();
            let limits = Limits { max_queues: 10, max_queue_len: u64::MAX };
            let backing = Box::new(DiskBacking::new(directory));
            Queues::open_learning(backing, limits, Policy::Never, 0).unwrap()
        };
        let (queues, mut ticket) = (open(), Ticket::default());
        for name in [b"q", b"r"] {
            for _ in 0..COUNT {
                let message = NewMessage {
                    body: &[7; LEARNED_AT_ONCE as usize],
                    flags: 0,
                    expires_ms: u64::MAX,
                };
                queues.create(name, &mut ticket, |queue| queue.push(&message)).unwrap();
            }
        }
        assert!(queues.close());
        drop(queues);
        let queues = open();
        let learned = || {
            queues.tidy();
            let is_learned = |queue: &mut Queue| Ok(queue.is_learned());
            let find = |name: &[u8]| queues.find(name, &mut Ticket::default(), is_learned);
            [b"q", b"r"].iter().filter(|name| find(&name[..]).unwrap().unwrap()).count()
        };
        assert_eq!([learned(), learned()], [1, 2]);
    }
}
