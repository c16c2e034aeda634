//! Messages in memory: in the order of their numbers, and the disk store's index by content. It
//! promises nothing across a restart.

use super::{
    Backing, Failures, Message, MessageStore, NamedStore, NewMessage, Place, QueueError, StepSize,
};
use crate::memory::{self, NoMemory};
use crate::storage::{BodyHash, HashKey, Index, identity, random_hash_key};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a message costs beside its body, in bytes: its entry here and in the index, and the
/// allocator's own. Measured over ten million messages of 100 bytes. Not counted is what removed
/// ones have left between others, and what a queue in use keeps for the next ones.
const OVERHEAD: u64 = 128;

/// Makes stores that share one limit of memory.
pub struct MemoryBacking {
    budget: Arc<Budget>,
    key: Box<dyn Fn() -> HashKey + Send + Sync>,
}

struct Budget {
    used: AtomicU64,
    limit: AtomicU64,
}

impl Budget {
    fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }
}

impl MemoryBacking {
    /// `limit`: bytes of messages and their bookkeeping, over all queues.
    pub fn new(limit: u64) -> MemoryBacking {
        let budget = Arc::new(Budget { used: 0.into(), limit: limit.into() });
        MemoryBacking { budget, key: Box::new(random_hash_key) }
    }

    /// With keys of the caller's in place of random ones: a test knows all ids then.
    pub fn with_keys(self, key: impl Fn() -> HashKey + Send + Sync + 'static) -> MemoryBacking {
        MemoryBacking { key: Box::new(key), ..self }
    }
}

impl Backing for MemoryBacking {
    fn existing(&self) -> Result<Vec<NamedStore>, QueueError> {
        Ok(Vec::new())
    }

    fn create(&self, _name: &[u8]) -> Result<Box<dyn MessageStore>, QueueError> {
        Ok(Box::new(MemoryStore::new(Arc::clone(&self.budget), (self.key)())))
    }

    fn outlives_crashes(&self) -> bool {
        false
    }

    fn memory(&self) -> Option<(u64, u64)> {
        Some((self.budget.used.load(Ordering::Relaxed), self.budget.limit()))
    }

    fn set_memory_limit(&self, bytes: u64) {
        self.budget.limit.store(bytes, Ordering::Relaxed);
    }

    fn statistics(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("memory_used_bytes", self.budget.used.load(Ordering::Relaxed)),
            ("memory_limit_bytes", self.budget.limit()),
        ]
    }
}

/// A message without its number.
struct Entry {
    pushed_ms: u64,
    expires_ms: u64,
    flags: u32,
    /// `None` for nearly all.
    failures: Option<Box<Failures>>,
    body: Box<[u8]>,
}

struct MemoryStore {
    /// The messages by their numbers.
    messages: BTreeMap<u64, Entry>,
    /// The numbers of the messages by the hashes of their bodies.
    index: Index,
    hash_key: HashKey,
    next_sequence: u64,
    bytes: u64,
    /// What the budget has for all of this.
    charged: u64,
    /// Taken from the budget for the step that has begun.
    reserved: u64,
    budget: Arc<Budget>,
}

impl Budget {
    /// Takes all of `bytes`, or none.
    fn take(&self, bytes: u64) -> Result<(), QueueError> {
        let (used, limit) = (self.used.fetch_add(bytes, Ordering::Relaxed), self.limit());
        if used.saturating_add(bytes) > limit {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(QueueError::OutOfMemory { limit });
        }
        Ok(())
    }
}

impl MemoryStore {
    fn new(budget: Arc<Budget>, hash_key: HashKey) -> MemoryStore {
        MemoryStore {
            messages: BTreeMap::new(),
            index: Index::default(),
            hash_key,
            next_sequence: 1,
            bytes: 0,
            charged: 0,
            reserved: 0,
            budget,
        }
    }

    /// Puts a message into the map and into the index, or into neither.
    fn put(
        &mut self,
        message: &NewMessage<'_>,
        sequence: u64,
        pushed_ms: u64,
    ) -> Result<(), NoMemory> {
        let NewMessage { body, flags, expires_ms } = *message;
        let kept = memory::join(&[body])?.into_boxed_slice();
        self.index.insert(self.hash(body), sequence)?;
        let entry = Entry { pushed_ms, expires_ms, flags, failures: None, body: kept };
        self.messages.insert(sequence, entry);
        Ok(())
    }

    fn hash(&self, body: &[u8]) -> BodyHash {
        BodyHash::new(&self.hash_key, body)
    }

    fn hash_of(&self, place: Place) -> Option<BodyHash> {
        self.messages.get(&place.sequence).map(|entry| self.hash(&entry.body))
    }
}

fn placed<'a>((&sequence, entry): (&'a u64, &'a Entry)) -> (Place, Message<'a>) {
    let &Entry { pushed_ms, expires_ms, flags, ref body, .. } = entry;
    let message = Message { sequence, pushed_ms, expires_ms, flags, body };
    (Place { sequence, position: 0 }, message)
}

fn cost(length: usize) -> u64 {
    OVERHEAD + length as u64
}

impl MessageStore for MemoryStore {
    fn len(&self) -> u64 {
        self.messages.len() as u64
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn identity(&self) -> u64 {
        identity(&self.hash_key)
    }

    fn end(&self) -> u64 {
        self.next_sequence
    }

    fn push(&mut self, message: &NewMessage<'_>, pushed_ms: u64) -> Result<Place, QueueError> {
        let cost = cost(message.body.len());
        match self.reserved.checked_sub(cost) {
            Some(rest) => self.reserved = rest,
            None => self.budget.take(cost)?,
        }
        self.charged += cost;
        let sequence = self.next_sequence;
        if let Err(error) = self.put(message, sequence, pushed_ms) {
            self.charged -= cost;
            self.budget.used.fetch_sub(cost, Ordering::Relaxed);
            return Err(error.into());
        }
        self.next_sequence += 1;
        self.bytes += message.body.len() as u64;
        Ok(Place { sequence, position: 0 })
    }

    fn begin_step(&mut self, size: &StepSize) -> Result<(), QueueError> {
        let overhead = size.pushes.saturating_mul(OVERHEAD);
        let wanted = overhead.saturating_add(size.pushed_bytes);
        self.budget.take(wanted)?;
        self.reserved = wanted;
        Ok(())
    }

    fn end_step(&mut self) -> Result<(), QueueError> {
        let left = std::mem::take(&mut self.reserved);
        self.budget.used.fetch_sub(left, Ordering::Relaxed);
        Ok(())
    }

    fn next(&mut self, from: u64) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        Ok(self.messages.range(from..).next().map(placed))
    }

    fn promise_removal(&mut self, place: Place) -> Result<(), QueueError> {
        if let Some(hash) = self.hash_of(place) {
            self.index.remove(hash, place.sequence);
        }
        Ok(())
    }

    fn withdraw_promise(&mut self, place: Place) {
        if let Some(hash) = self.hash_of(place) {
            self.index.put_back(hash, place.sequence);
        }
    }

    fn remove(&mut self, place: Place) -> Result<(), QueueError> {
        if let Some(Entry { body, .. }) = self.messages.remove(&place.sequence) {
            let length = body.len();
            self.index.remove(self.hash(&body), place.sequence);
            self.bytes -= length as u64;
            self.charged -= cost(length);
            self.budget.used.fetch_sub(cost(length), Ordering::Relaxed);
        }
        Ok(())
    }

    fn at(&mut self, place: Place) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        Ok(self.messages.get_key_value(&place.sequence).map(placed))
    }

    fn failures(&mut self, place: Place) -> Result<Failures, QueueError> {
        let entry = self.messages.get(&place.sequence);
        Ok(entry.and_then(|entry| entry.failures.as_deref().cloned()).unwrap_or_default())
    }

    fn note_failures(&mut self, place: Place, failures: &Failures) -> Result<(), QueueError> {
        if let Some(entry) = self.messages.get_mut(&place.sequence) {
            entry.failures = Some(Box::new(failures.clone()));
        }
        Ok(())
    }

    fn find(
        &mut self,
        body: &[u8],
        wanted: &dyn Fn(&Message<'_>) -> bool,
    ) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        for sequence in self.index.candidates(self.hash(body), self.next_sequence) {
            let found = self.messages.get_key_value(&sequence).map(placed);
            if let Some((place, message)) = found
                && message.body == body
                && wanted(&message)
            {
                return Ok(Some((place, message)));
            }
        }
        Ok(None)
    }

    fn count_equal(
        &mut self,
        body: &[u8],
        from: &mut Option<u64>,
        most: u64,
    ) -> Result<u64, QueueError> {
        Ok(self.index.count(self.hash(body), from, most))
    }

    /// Its memory counts no more; it is given back with the store.
    fn discard(&mut self) -> Result<(), QueueError> {
        self.budget.used.fetch_sub(std::mem::take(&mut self.charged), Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.charged + self.reserved, Ordering::Relaxed);
    }
}
