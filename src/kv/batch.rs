//! Values that are to be set in one step. They are copied before it, a few at a time, so that the
//! step itself takes no time for their bytes.

use super::error::{KEY_MAX, KvError};
use crate::memory::{self, NoMemory};
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes charged for a pair beside its key and value: its place in both collections and the headers
/// of the allocator.
const PAIR_OVERHEAD: usize = 120;

type Pair = (Arc<[u8]>, Box<[u8]>);

/// Keys with their new values, each key once.
#[derive(Debug, Default)]
pub struct Batch {
    pairs: Vec<Pair>,
    /// Where in `pairs` a key stands.
    places: HashMap<Arc<[u8]>, usize>,
    /// Pairs that have been added, those of a repeated key included.
    added: usize,
    bytes: usize,
}

impl Batch {
    /// Makes an empty batch with room for `count` pairs.
    ///
    /// # Errors
    /// There is no memory.
    pub fn with_room(count: usize) -> Result<Batch, NoMemory> {
        let mut batch = Batch::default();
        memory::reserve_exact(&mut batch.pairs, count)?;
        batch.places.try_reserve(count)?;
        Ok(batch)
    }

    /// Adds a copy of a pair. Of a key that is named twice the last value counts.
    ///
    /// # Errors
    /// The key is too long, or there is no memory; nothing is added.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), KvError> {
        if key.len() > KEY_MAX {
            return Err(KvError::KeyTooLong);
        }
        let value = memory::join(&[value])?.into_boxed_slice();
        let value_len = value.len();
        if let Some(&place) = self.places.get(key) {
            self.bytes -= self.pairs[place].1.len();
            self.pairs[place].1 = value;
        } else {
            memory::reserve(&mut self.pairs, 1)?;
            self.places.try_reserve(1).map_err(NoMemory::from)?;
            let key: Arc<[u8]> = key.into();
            self.bytes += key.len() + PAIR_OVERHEAD;
            self.places.insert(Arc::clone(&key), self.pairs.len());
            self.pairs.push((key, value));
        }
        self.bytes += value_len;
        self.added += 1;
        Ok(())
    }

    /// How many pairs have been added, those of a repeated key included.
    pub fn added(&self) -> usize {
        self.added
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        self.bytes
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// The keys, in the order in which each was named first.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.pairs.iter().map(|(key, _)| &**key)
    }

    /// Each key with the length of its value.
    pub(super) fn lengths(&self) -> impl Iterator<Item = (&[u8], usize)> + Clone {
        self.pairs.iter().map(|(key, value)| (&**key, value.len()))
    }

    /// Each key with its value.
    pub(super) fn into_pairs(self) -> impl Iterator<Item = (Arc<[u8]>, Box<[u8]>)> {
        self.pairs.into_iter()
    }
}
