//! The entries by their keys: many small hash tables, of which the hash of a key chooses one.
//!
//! Each table grows by itself, so that the insertion that makes one grow moves a small part of the
//! entries. One table for all of them stopped every client for about a second at 1.8 million. An
//! MSET of 10,000 keys may still make all tables grow at once. This file knows keys, and nothing of
//! what their entries hold.

use crate::memory::NoMemory;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// Tables: at 16 million entries an insertion moves 64,000 of them at most. More of them would cost
/// every look a cache miss where there are few entries.
const PARTS: usize = 256;

/// Entries by their keys. The hash is keyed at random, so that no client can craft collisions.
#[derive(Debug)]
pub(super) struct Table<V> {
    parts: Box<[HashTable<Kept<V>>]>,
    hasher: RandomState,
    len: usize,
}

#[derive(Debug)]
struct Kept<V> {
    /// A table that grows would have to look at every key to find it out again.
    hash: u64,
    key: Arc<[u8]>,
    value: V,
}

impl<V> Kept<V> {
    fn hash(&self) -> u64 {
        self.hash
    }
}

impl<V> Default for Table<V> {
    fn default() -> Table<V> {
        let parts = (0..PARTS).map(|_| HashTable::new()).collect();
        Table { parts, hasher: RandomState::new(), len: 0 }
    }
}

/// The table of the keys with this hash. A table finds its entries by the lowest and the highest
/// bits.
fn part(hash: u64) -> usize {
    (hash >> 32) as usize % PARTS
}

impl<V> Table<V> {
    /// The hash of a key.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The entry of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        let hash = self.hash(key);
        let found = self.parts[part(hash)].find(hash, |kept| *kept.key == *key);
        found.map(|kept| &kept.value)
    }

    /// The entry of `key`, to be changed.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        let hash = self.hash(key);
        let found = self.parts[part(hash)].find_mut(hash, |kept| *kept.key == *key);
        found.map(|kept| &mut kept.value)
    }

    /// Makes room for an entry of `key`.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn reserve(&mut self, key: &[u8]) -> Result<(), NoMemory> {
        self.reserve_in(part(self.hash(key)), 1)
    }

    /// Makes room for entries of all of these keys, as if they were different ones.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn reserve_all<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Result<(), NoMemory> {
        let mut counts = [0; PARTS];
        keys.for_each(|key| counts[part(self.hash(key))] += 1);
        (0..PARTS).try_for_each(|part| self.reserve_in(part, counts[part]))
    }

    fn reserve_in(&mut self, part: usize, count: usize) -> Result<(), NoMemory> {
        Ok(self.parts[part].try_reserve(count, Kept::hash)?)
    }

    /// Adds the entry of a key that has none, for which room has been made.
    pub fn insert(&mut self, key: Arc<[u8]>, value: V) {
        let hash = self.hash(&key);
        self.parts[part(hash)].insert_unique(hash, Kept { hash, key, value }, Kept::hash);
        self.len += 1;
    }

    /// Removes the entry of `key`.
    pub fn remove(&mut self, key: &[u8]) -> Option<V> {
        let hash = self.hash(key);
        let found = self.parts[part(hash)].find_entry(hash, |kept| *kept.key == *key).ok()?;
        let (Kept { value, .. }, _) = found.remove();
        self.len -= 1;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> [u8; 4] {
        number.to_le_bytes()
    }

    /// The room of each table, and what is in it.
    fn rooms(table: &Table<u32>) -> Vec<(usize, usize)> {
        table.parts.iter().map(|part| (part.capacity(), part.len())).collect()
    }

    #[test]
    fn an_insertion_moves_a_small_part_of_the_entries() {
        let (mut table, count, mut moves) = (Table::default(), 20_000, Vec::new());
        for number in 0..count {
            let before = rooms(&table);
            table.reserve(&key(number)).unwrap();
            table.insert(key(number).as_slice().into(), number);
            let grown = before.iter().zip(rooms(&table)).filter(|(old, new)| old.0 != new.0);
            moves.extend(grown.map(|(old, _)| old.1));
        }
        let most = moves.iter().max().copied().unwrap();
        assert!(moves.iter().sum::<usize>() > 5000, "tables have grown");
        assert!(most < count as usize / 100, "one insertion moved {most} of {count} entries");
    }

    #[test]
    fn room_that_has_been_made_for_keys_is_there() {
        let (mut table, keys) = (Table::default(), (0..20_000).map(key).collect::<Vec<_>>());
        table.reserve_all(keys.iter().map(|key| &key[..])).unwrap();
        let capacities = |table: &Table<u32>| rooms(table).into_iter().map(|(room, _)| room);
        let before: Vec<_> = capacities(&table).collect();
        keys.iter().for_each(|key| table.insert(key.as_slice().into(), 7));
        assert_eq!(table.len(), 20_000);
        assert!(capacities(&table).eq(before), "none has moved");
    }

    #[test]
    fn every_entry_is_found_until_it_is_removed() {
        let mut table = Table::<u32>::default();
        for number in 0..10_000 {
            table.insert(key(number).as_slice().into(), number);
        }
        for number in 0..10_000 {
            *table.get_mut(&key(number)).unwrap() += 1;
            assert_eq!(table.get(&key(number)), Some(&(number + 1)));
        }
        for number in (0..10_000).step_by(2) {
            assert_eq!(table.remove(&key(number)), Some(number + 1));
            assert_eq!(table.remove(&key(number)), None);
        }
        assert_eq!(table.len(), 5000);
        assert!((0..10_000).all(|number| table.get(&key(number)).is_some() == (number % 2 == 1)));
    }
}
