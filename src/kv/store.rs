//! The store: one map in memory under one lock.
//!
//! It promises that reading, deciding and changing an entry are one step, that an entry past its
//! time is never seen again, and that keys, values and bookkeeping stay within the memory it was
//! given. When they would not, a `Set` is refused; nothing is evicted, because every value in here
//! was acknowledged to a client and what was acknowledged is never dropped silently. Reading and
//! deleting always work and make room again.
//! It knows no protocol, no socket and no disk: what is in here is gone after a restart.
//!
//! The lock is entered even after a panic in a closure of a caller's. Closures run before anything
//! is changed, so the map that they leave behind is whole.

use super::batch::Batch;
use super::error::{KEY_MAX, KvError};
use super::table::Table;
use crate::clock::Clock;
use crate::memory;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(test)]
mod tests;

/// Bytes charged for an entry beside its key and value: the slot and its share of free slots in
/// the table (about 120), the two ordered sets (about 50), and the allocator's headers.
const ENTRY_OVERHEAD: u64 = 192;

/// Places for the stamps of keys that are gone.
const GONE_PLACES: usize = 4096;

/// In a stamp: the entry has expired since.
const EXPIRED: u64 = 1 << 63;

/// The most entries that one `sweep` removes: some ten milliseconds under the lock at worst.
const SWEEP_ENTRIES: usize = 20_000;

/// One entry as a reader sees it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The value, any bytes.
    pub value: &'a [u8],
    /// Client flags of memcached; 0 for values set over Redis.
    pub flags: u32,
    /// Grows with every new value of any entry.
    pub cas: u64,
    /// Unix time in milliseconds; 0 = never.
    pub expires_ms: u64,
}

/// What `update` does with the entry that it showed.
#[derive(Debug)]
pub enum Change<'v> {
    /// Nothing changes.
    Keep,
    /// The entry, if there is one, is removed.
    Delete,
    /// A new value, and with it a new cas. A time that has passed already removes the entry.
    Set {
        /// The value, any bytes.
        value: Cow<'v, [u8]>,
        /// Client flags of memcached.
        flags: u32,
        /// Unix time in milliseconds; 0 = never.
        expires_ms: u64,
    },
    /// New time of expiry, same value, same cas. Nothing happens where there is no entry.
    Touch {
        /// Unix time in milliseconds; 0 = never.
        expires_ms: u64,
    },
}

/// The key/value store.
pub struct Kv {
    max_memory: AtomicU64,
    clock: Clock,
    map: Mutex<Map>,
    /// What was in the map when everything was removed, and its memory is still to be given back.
    removed: Mutex<Vec<Map>>,
}

impl Kv {
    /// An empty store; `max_memory` is for keys, values and bookkeeping, in bytes.
    pub fn new(max_memory: u64) -> Kv {
        Kv {
            max_memory: max_memory.into(),
            clock: Clock::default(),
            map: Mutex::default(),
            removed: Mutex::default(),
        }
    }

    /// Entries expire by `clock` from now on, in place of the system's.
    pub fn with_clock(self, clock: Clock) -> Kv {
        Kv { clock, ..self }
    }

    /// The clock that entries expire by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Bytes that keys, values and bookkeeping may take.
    pub fn max_memory(&self) -> u64 {
        self.max_memory.load(Ordering::Relaxed)
    }

    /// Another limit from now on. Nothing is removed where there is more already.
    pub fn set_max_memory(&self, bytes: u64) {
        self.max_memory.store(bytes, Ordering::Relaxed);
    }

    /// Shows the entry of `key` to `read`; None where there is none.
    pub fn get<R>(&self, key: &[u8], read: impl FnOnce(Entry<'_>) -> R) -> Option<R> {
        self.lock().entry(key, self.clock.now_ms()).map(read)
    }

    /// Reads, decides and changes in one step under the lock. `decide` sees None where there is no
    /// entry or it has expired.
    ///
    /// # Errors
    /// A `Set` that does not fit into the memory, or whose key is too long, is refused, and nothing
    /// has changed.
    pub fn update<'v, R>(
        &self,
        key: &[u8],
        decide: impl FnOnce(Option<Entry<'_>>) -> (Change<'v>, R),
    ) -> Result<R, KvError> {
        let now_ms = self.clock.now_ms();
        let mut map = self.lock();
        let (change, answer) = decide(map.entry(key, now_ms));
        let applied = map.apply(key, change, now_ms, self.max_memory());
        drop(map);
        applied.inspect_err(KvError::log).map(|()| answer)
    }

    /// Sets all values of a batch, without flags and times of expiry, in one step. Returns the
    /// values that have been replaced, for the caller to give their memory back. With `only_new`
    /// nothing is done, and the answer is `None`, where one of the keys has an entry.
    ///
    /// # Errors
    /// Where not all of them fit into the memory, or a key is too long, nothing has changed.
    pub fn set_all(&self, batch: Batch, only_new: bool) -> Result<Option<Vec<Box<[u8]>>>, KvError> {
        let mut replaced = Vec::new();
        memory::reserve_exact(&mut replaced, batch.len())?;
        let now_ms = self.clock.now_ms();
        let mut map = self.lock();
        if only_new && batch.keys().any(|key| map.slot(key, now_ms).is_some()) {
            return Ok(None);
        }
        let made = map.make_room(batch.lengths(), now_ms, self.max_memory());
        made.inspect_err(KvError::log)?;
        map.slots.reserve_all(batch.keys())?;
        // In their order, which is that of SCAN.
        for (key, value) in batch.into_pairs() {
            map.remove_if_dead(&key, now_ms);
            replaced.extend(map.set(key, value, 0, 0));
        }
        Ok(Some(replaced))
    }

    /// Removes the entry of `key`; false where there was none.
    pub fn delete(&self, key: &[u8]) -> bool {
        let mut map = self.lock();
        let was_there = map.entry(key, self.clock.now_ms()).is_some();
        let removed = map.remove(key);
        drop(map);
        drop(removed);
        was_there
    }

    /// Removes all entries.
    pub fn clear(&self) {
        let removed = self.lock().take();
        self.bury(removed);
    }

    /// Removes all entries at a time to come, Unix time in milliseconds, also those that are set
    /// until then. A later `clear` or `clear_at` takes its place.
    pub fn clear_at(&self, at_ms: u64) {
        self.lock().clear_at_ms = at_ms;
    }

    /// Entries, counting those that have expired and are not swept yet.
    pub fn len(&self) -> usize {
        self.lock().slots.len()
    }

    /// Entries that have a time of expiry, and the milliseconds that are left to them on average.
    pub fn expiring(&self) -> (u64, u64) {
        let map = self.lock();
        let count = map.due.len() as u64;
        let mean_ms = map.due_sum.checked_div(u128::from(count)).unwrap_or(0);
        let now_ms = u128::from(self.clock.now_ms());
        (count, u64::try_from(mean_ms.saturating_sub(now_ms)).unwrap_or(u64::MAX))
    }

    /// Values that were set since the start.
    pub fn sets(&self) -> u64 {
        self.lock().sets
    }

    /// True where there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of keys, values and bookkeeping.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// One more than the newest number of a key, as `scan` counts them.
    pub fn end(&self) -> u64 {
        self.lock().changes + 1
    }

    /// Looks at the key with the lowest number from `from` on and shows it if it has not expired;
    /// answers the number to go on with, or `None` at `end`. Keys have the numbers of their
    /// creation, so every key that stays is shown exactly once.
    pub fn scan(&self, from: u64, end: u64, show: impl FnOnce(&[u8])) -> Option<u64> {
        self.lock().scan(from..end.max(from), self.clock.now_ms(), show)
    }

    /// A number that changes whenever the entry does, its time of expiry included, and also when it
    /// is made and goes, or goes by its time (WATCH).
    pub fn stamp(&self, key: &[u8]) -> u64 {
        self.lock().stamp(key, self.clock.now_ms())
    }

    /// Removes expired entries, a bounded number of them, and gives back the memory of all that was
    /// cleared; called about once a second.
    pub fn sweep(&self) {
        let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        let buried = std::mem::take(&mut *removed);
        drop(removed);
        drop(buried);
        self.lock().expire(self.clock.now_ms(), SWEEP_ENTRIES);
    }

    /// Leaves what has been removed to `sweep`: to free a gigabyte takes a while, and nobody waits
    /// for it.
    fn bury(&self, removed: Map) {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner).push(removed);
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if map.clear_at_ms != 0 && has_passed(map.clear_at_ms, self.clock.now_ms()) {
            self.bury(map.take());
        }
        map
    }
}

/// One entry as it is kept.
#[derive(Debug)]
struct Stored {
    value: Box<[u8]>,
    flags: u32,
    cas: u64,
    stamp: u64,
    expires_ms: u64,
    /// Its place in `Map::order`, from 1; a key keeps it until it is removed.
    number: u64,
}

/// The map behind the lock. Every method takes the time as an argument.
///
/// 1. `order` holds the number and key of every slot, and nothing else.
/// 2. `due` holds (time of expiry, number) of every slot that has a time of expiry.
/// 3. `bytes` is the sum of `cost` over all slots, and at most the limit given to `apply`.
#[derive(Debug, Default)]
struct Map {
    slots: Table<Stored>,
    order: BTreeMap<u64, Arc<[u8]>>,
    due: BTreeSet<(u64, u64)>,
    /// The sum of the times in it.
    due_sum: u128,
    /// Counts values that were set.
    sets: u64,
    bytes: u64,
    /// Counts changes; never goes back, so that no two changes share a cas, stamp or number.
    changes: u64,
    /// When everything goes, Unix time in milliseconds; 0 = never.
    clear_at_ms: u64,
    /// By the hash of a key: the change that last removed one with this hash. Empty before the
    /// first one; keys that share a place change each other's stamps, which does no harm.
    gone: Vec<u64>,
    /// The change that last removed everything.
    cleared: u64,
}

impl Map {
    /// Leaves an empty map, which counts its changes on.
    fn take(&mut self) -> Map {
        let (changes, sets) = (self.changes + 1, self.sets);
        std::mem::replace(self, Map { changes, sets, cleared: changes, ..Map::default() })
    }

    /// The place of a key in `gone`.
    fn place(&self, key: &[u8]) -> usize {
        self.slots.hash(key) as usize % GONE_PLACES
    }

    fn stamp(&self, key: &[u8], now_ms: u64) -> u64 {
        match self.slots.get(key) {
            // It is gone, though it is still there.
            Some(slot) if has_passed(slot.expires_ms, now_ms) => slot.stamp | EXPIRED,
            Some(slot) => slot.stamp,
            None => self.gone.get(self.place(key)).copied().unwrap_or(0).max(self.cleared),
        }
    }

    fn slot(&self, key: &[u8], now_ms: u64) -> Option<&Stored> {
        self.slots.get(key).filter(|slot| !has_passed(slot.expires_ms, now_ms))
    }

    fn entry(&self, key: &[u8], now_ms: u64) -> Option<Entry<'_>> {
        self.slot(key, now_ms).map(|slot| Entry {
            value: &slot.value,
            flags: slot.flags,
            cas: slot.cas,
            expires_ms: slot.expires_ms,
        })
    }

    fn apply(
        &mut self,
        key: &[u8],
        change: Change<'_>,
        now_ms: u64,
        max_memory: u64,
    ) -> Result<(), KvError> {
        self.remove_if_dead(key, now_ms);
        match change {
            Change::Keep => {}
            Change::Set { expires_ms, .. } | Change::Touch { expires_ms }
                if has_passed(expires_ms, now_ms) =>
            {
                drop(self.remove(key));
            }
            Change::Delete => drop(self.remove(key)),
            Change::Set { value, flags, expires_ms } => {
                self.make_room([(key, value.len())].into_iter(), now_ms, max_memory)?;
                self.slots.reserve(key)?;
                let value = match value {
                    Cow::Borrowed(value) => memory::join(&[value])?,
                    Cow::Owned(value) => value,
                };
                self.set(key, value.into_boxed_slice(), flags, expires_ms);
            }
            Change::Touch { expires_ms } => self.touch(key, expires_ms),
        }
        Ok(())
    }

    /// An entry that has expired must not come back to life.
    fn remove_if_dead(&mut self, key: &[u8], now_ms: u64) {
        if self.slot(key, now_ms).is_none() {
            self.remove(key);
        }
    }

    /// Removes what has expired for as long as that is in the way of new values of these lengths,
    /// each of another key.
    fn make_room<'a>(
        &mut self,
        new: impl Iterator<Item = (&'a [u8], usize)> + Clone,
        now_ms: u64,
        max_memory: u64,
    ) -> Result<(), KvError> {
        if new.clone().any(|(key, _)| key.len() > KEY_MAX) {
            return Err(KvError::KeyTooLong);
        }
        loop {
            let old = |key| self.slots.get(key).map_or(0, |slot| cost(key, slot.value.len()));
            let (mut added, mut replaced) = (0, 0);
            for (key, value_len) in new.clone() {
                added += cost(key, value_len);
                replaced += old(key);
            }
            if self.bytes - replaced + added <= max_memory {
                return Ok(());
            }
            // As many as there are new ones, so that this takes no longer than setting them.
            if self.expire(now_ms, new.clone().count()) == 0 {
                return Err(KvError::OutOfMemory { limit: max_memory });
            }
        }
    }

    /// Sets a value and returns the one that it replaces.
    fn set(
        &mut self,
        key: impl AsRef<[u8]> + Into<Arc<[u8]>>,
        value: Box<[u8]>,
        flags: u32,
        expires_ms: u64,
    ) -> Option<Box<[u8]>> {
        self.changes += 1;
        self.sets += 1;
        let change = self.changes;
        let added = cost(key.as_ref(), value.len());
        let new = Stored { value, flags, cas: change, stamp: change, expires_ms, number: change };
        if let Some(slot) = self.slots.get_mut(key.as_ref()) {
            self.bytes = self.bytes - cost(key.as_ref(), slot.value.len()) + added;
            let number = slot.number;
            let old = std::mem::replace(slot, Stored { number, ..new });
            self.reschedule(number, old.expires_ms, expires_ms);
            Some(old.value)
        } else {
            let key: Arc<[u8]> = key.into();
            self.order.insert(change, Arc::clone(&key));
            self.slots.insert(key, new);
            self.bytes += added;
            self.reschedule(change, 0, expires_ms);
            None
        }
    }

    fn touch(&mut self, key: &[u8], expires_ms: u64) {
        let Some(slot) = self.slots.get_mut(key) else {
            return;
        };
        self.changes += 1;
        slot.stamp = self.changes;
        let (number, old_ms) = (slot.number, std::mem::replace(&mut slot.expires_ms, expires_ms));
        self.reschedule(number, old_ms, expires_ms);
    }

    fn reschedule(&mut self, number: u64, old_ms: u64, new_ms: u64) {
        if old_ms != 0 {
            self.due.remove(&(old_ms, number));
        }
        if new_ms != 0 {
            self.due.insert((new_ms, number));
        }
        self.due_sum = self.due_sum - u128::from(old_ms) + u128::from(new_ms);
    }

    fn remove(&mut self, key: &[u8]) -> Option<Stored> {
        let slot = self.slots.remove(key)?;
        self.changes += 1;
        let (place, change) = (self.place(key), self.changes);
        self.gone.resize(GONE_PLACES, 0);
        self.gone[place] = change;
        self.order.remove(&slot.number);
        self.reschedule(slot.number, slot.expires_ms, 0);
        self.bytes -= cost(key, slot.value.len());
        Some(slot)
    }

    /// Removes up to `most` expired entries and answers how many it removed.
    fn expire(&mut self, now_ms: u64, most: usize) -> usize {
        for removed in 0..most {
            let next = self.due.first().filter(|(expires_ms, _)| has_passed(*expires_ms, now_ms));
            let Some(key) = next.and_then(|(_, number)| self.order.get(number)).map(Arc::clone)
            else {
                return removed;
            };
            self.remove(&key);
        }
        most
    }

    fn scan(&self, numbers: Range<u64>, now_ms: u64, show: impl FnOnce(&[u8])) -> Option<u64> {
        let mut rest = self.order.range(numbers);
        if let Some((_, key)) = rest.next()
            && self.slot(key, now_ms).is_some()
        {
            show(key);
        }
        rest.next().map(|(number, _)| *number)
    }
}

/// What an entry is charged against the limit. Both lengths are of byte strings in memory, so the
/// sum is far from the end of a u64.
fn cost(key: &[u8], value_len: usize) -> u64 {
    key.len() as u64 + value_len as u64 + ENTRY_OVERHEAD
}

fn has_passed(expires_ms: u64, now_ms: u64) -> bool {
    expires_ms != 0 && expires_ms <= now_ms
}
