//! The index: where messages are by the hash of their bodies.
//!
//! An entry is eight bytes, 24 bits of hash above 40 of ordinal, in one of 16 tables, which shrink
//! as well as grow: 24 bytes a message at most. A table holds one entry for each hash; further
//! ones, which are equal messages and of ten million different ones about two in a hundred, are in
//! a sorted set beside it, so that many of them cost no more than different ones. What the index
//! answers are candidates: the caller compares the bytes. An ordinal says where a message is;
//! what it counts is the caller's affair.

use crate::memory::{self, NoMemory};
use hashbrown::hash_table::{Entry, HashTable};
use siphasher::sip::SipHasher13;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

/// The key of a queue's hashes: nobody outside knows it, so nobody can craft collisions.
pub type HashKey = [u8; 16];

/// A key that nobody can guess: the standard library seeds its hashers from the system's generator.
pub fn random_hash_key() -> HashKey {
    let mut key = HashKey::default();
    key[..8].copy_from_slice(&random().to_le_bytes());
    key[8..].copy_from_slice(&random().to_le_bytes());
    key
}

/// A number that nobody can know before.
pub fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

/// What the queue of this key is known by outside, where the key is never shown.
pub fn identity(key: &HashKey) -> u64 {
    SipHasher13::new_with_key(key).hash(b"identity")
}

/// Bits of an entry below its hash.
const ORDINAL_BITS: u32 = 40;
/// These bits.
const ORDINAL_MASK: u64 = (1 << ORDINAL_BITS) - 1;

/// All ordinals of a queue at one time are less than this apart: beyond it they wrap around.
const ORDINAL_SPAN: u64 = ORDINAL_MASK + 1;
/// Shards of an index. Of 20 million insertions the longest, which makes a table grow, takes 23 ms
/// of CPU. Without shards it took 156 ms, and each 714 ns in place of 197: the bits that choose the
/// shard are bits of the hash too, without which 8.3 million messages share one, and not 0.7.
const SHARD_COUNT: usize = 1 << 4;
/// Bytes that a table may take for an entry, and those that it may have beside.
const ENTRY_BYTES: usize = 24;
const SPARE_BYTES: usize = 64;

/// The hash of a body: its lower 4 bits choose the shard, the upper 24 are kept in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyHash(u32);

impl BodyHash {
    /// Hashes `body` with SipHash-1-3; the lower half is kept.
    pub fn new(key: &HashKey, body: &[u8]) -> BodyHash {
        BodyHash(SipHasher13::new_with_key(key).hash(body) as u32)
    }

    /// The hash as it is written in a footer.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The hash that was written as `bits`.
    pub fn from_bits(bits: u32) -> BodyHash {
        BodyHash(bits)
    }

    fn shard(self) -> usize {
        self.0 as usize % SHARD_COUNT
    }

    fn entry(self, ordinal: u64) -> u64 {
        let kept = u64::from(self.0 >> 8);
        (kept << ORDINAL_BITS) | (ordinal & ORDINAL_MASK)
    }
}

/// The ordinal before `end` that an entry's bits are the lower ones of.
fn whole_ordinal(entry: u64, end: u64) -> u64 {
    let candidate = end - end % ORDINAL_SPAN + (entry & ORDINAL_MASK);
    if candidate >= end { candidate.saturating_sub(ORDINAL_SPAN) } else { candidate }
}

/// Whether two entries have the same hash.
fn same_hash(one: u64, other: u64) -> bool {
    (one ^ other) & !ORDINAL_MASK == 0
}

/// What a table finds an entry by: the 24 random bits of its hash, spread over 64.
fn spread(entry: &u64) -> u64 {
    (entry >> ORDINAL_BITS).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Messages whose hashes have the same lower bits.
#[derive(Debug, Default)]
struct Shard {
    /// One entry for each hash.
    first: HashTable<u64>,
    /// All others.
    more: BTreeSet<u64>,
    /// Of some hash only further ones may be there.
    has_strays: bool,
}

impl Shard {
    fn insert(&mut self, entry: u64) -> Result<(), NoMemory> {
        if self.first.len() == self.first.capacity() {
            memory::check_spare(self.first.allocation_size() * 2)?;
            self.first.try_reserve(1, spread)?;
        }
        match self.first.entry(spread(&entry), |other| same_hash(*other, entry), spread) {
            Entry::Occupied(_) => _ = self.more.insert(entry),
            Entry::Vacant(vacant) => _ = vacant.insert(entry),
        }
        self.shrink();
        Ok(())
    }

    fn insert_stray(&mut self, entry: u64) {
        self.more.insert(entry);
        self.has_strays = true;
    }

    fn remove(&mut self, entry: u64) -> bool {
        let Ok(mut first) = self.first.find_entry(spread(&entry), |other| *other == entry) else {
            return self.more.remove(&entry);
        };
        let next = self.more.range(entry & !ORDINAL_MASK..).next().copied();
        match next.filter(|next| same_hash(*next, entry)) {
            Some(next) => {
                *first.get_mut() = next;
                self.more.remove(&next);
            }
            None => {
                first.remove();
                self.shrink();
            }
        }
        true
    }

    /// Gives memory back once the table takes too much for what is in it: after many removals, or
    /// where what they have left behind has made it grow.
    fn shrink(&mut self) {
        let len = self.first.len();
        if self.first.allocation_size() <= len * ENTRY_BYTES + SPARE_BYTES {
            return;
        }
        let mut smaller = HashTable::new();
        // Where there is no memory for a smaller table, this one stays.
        if smaller.try_reserve(len, spread).is_ok() {
            for entry in self.first.drain() {
                smaller.insert_unique(spread(&entry), entry, spread);
            }
            self.first = smaller;
        }
    }

    /// The entry of the table with the hash of `wanted`.
    fn first(&self, wanted: u64) -> Option<u64> {
        self.first.find(spread(&wanted), |other| same_hash(*other, wanted)).copied()
    }

    fn with_hash(&self, wanted: u64) -> impl Iterator<Item = u64> {
        let mut first = self.first(wanted);
        // But for strays, further ones are only where there is a first one. To look for them in
        // vain costs more than all the rest, and so does an iterator that chains the two.
        let has_more = first.is_some() || self.has_strays;
        let mut more = has_more.then(|| self.more.range(wanted..=wanted | ORDINAL_MASK));
        std::iter::from_fn(move || first.take().or_else(|| more.as_mut()?.next().copied()))
    }
}

/// The messages of a queue.
#[derive(Debug, Default)]
pub struct Index {
    shards: [Shard; SHARD_COUNT],
}

impl Index {
    /// Adds a message.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn insert(&mut self, hash: BodyHash, ordinal: u64) -> Result<(), NoMemory> {
        self.shards[hash.shard()].insert(hash.entry(ordinal))
    }

    /// Adds a message that has been removed. Where there is no memory for a larger table, a look
    /// for any message takes a little longer from now on.
    pub fn put_back(&mut self, hash: BodyHash, ordinal: u64) {
        if self.insert(hash, ordinal).is_err() {
            self.shards[hash.shard()].insert_stray(hash.entry(ordinal));
        }
    }

    /// Removes the message at `ordinal`. Returns false if it is not here.
    pub fn remove(&mut self, hash: BodyHash, ordinal: u64) -> bool {
        self.shards[hash.shard()].remove(hash.entry(ordinal))
    }

    /// Counts messages that may have this hash, `most` of them at most: fewer if there are no
    /// more. `from` is `None` at first, and the next call goes on with what this one leaves there.
    pub fn count(&self, hash: BodyHash, from: &mut Option<u64>, most: u64) -> u64 {
        let (shard, wanted) = (&self.shards[hash.shard()], hash.entry(0));
        let mut count = u64::from(from.is_none() && shard.first(wanted).is_some());
        let mut next = from.unwrap_or(wanted);
        for entry in shard.more.range(next..).take_while(|entry| same_hash(**entry, wanted)) {
            if count >= most {
                break;
            }
            (count, next) = (count + 1, entry.saturating_add(1));
        }
        *from = Some(next);
        count
    }

    /// Ordinals before `end` that a message with this hash may have.
    pub fn candidates(&self, hash: BodyHash, end: u64) -> impl Iterator<Item = u64> {
        let entries = self.shards[hash.shard()].with_hash(hash.entry(0));
        entries.map(move |entry| whole_ordinal(entry, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_message_is_a_candidate_until_it_is_removed() {
        let key = [7; 16];
        let hash = |ordinal: u64| BodyHash::new(&key, &(ordinal / 3).to_le_bytes());
        // A start that makes ordinals wrap around.
        let (start, count) = (ORDINAL_SPAN * 3 - 100_000, 200_000);
        let (mut index, end) = (Index::default(), start + count);
        for ordinal in start..end {
            index.insert(hash(ordinal), ordinal).unwrap();
        }
        for ordinal in start..end {
            assert!(index.candidates(hash(ordinal), end).any(|found| found == ordinal));
        }
        for ordinal in (start..end).step_by(2) {
            assert!(index.remove(hash(ordinal), ordinal));
            assert!(!index.remove(hash(ordinal), ordinal));
        }
        let candidates = (start..end).flat_map(|ordinal| index.candidates(hash(ordinal), end));
        let found: HashSet<u64> = candidates.collect();
        assert!(found.iter().all(|ordinal| (ordinal - start) % 2 == 1));
        assert_eq!(found.len(), count as usize / 2);
    }

    #[test]
    fn messages_are_counted_in_as_many_pieces_as_asked_for() {
        let (mut index, end) = (Index::default(), ORDINAL_SPAN + 100);
        let (hash, other) = (BodyHash::from_bits(7 << 8), BodyHash::from_bits(8 << 8));
        // The ordinals wrap around, and no hash has a higher entry than the last of them.
        (end - 1000..end).for_each(|ordinal| index.insert(hash, ordinal).unwrap());
        index.insert(other, 5).unwrap();
        for most in [1, 7, 999, 1000, 1001] {
            let (mut from, mut count) = (None, 0);
            loop {
                let found = index.count(hash, &mut from, most);
                assert!(found <= most);
                count += found;
                if found < most {
                    break;
                }
            }
            assert_eq!(count, 1000, "{most} at once");
        }
        assert_eq!(index.count(other, &mut None, 9), 1);
        assert_eq!(index.count(BodyHash::from_bits(9 << 8), &mut None, 9), 0);
    }

    #[test]
    fn messages_with_the_same_hash_are_found_one_by_one() {
        let (hash, mut index) = (BodyHash::from_bits(0), Index::default());
        let ordinals = [0, 1, 2, ORDINAL_SPAN];
        let end = ORDINAL_SPAN + 1;
        index.insert(hash, ORDINAL_SPAN).unwrap();
        index.insert(hash, 1).unwrap();
        index.insert(hash, 2).unwrap();
        let found: HashSet<u64> = index.candidates(hash, end).collect();
        assert_eq!(found, HashSet::from([1, 2, ORDINAL_SPAN]));
        assert!(index.remove(hash, 1));
        assert!(index.remove(hash, 2));
        assert_eq!(index.candidates(hash, end).collect::<Vec<_>>(), [ORDINAL_SPAN]);
        assert!(index.remove(hash, ORDINAL_SPAN));
        assert!(ordinals.iter().all(|ordinal| !index.remove(hash, *ordinal)));
    }

    /// So it is added where there is no memory for a larger table.
    #[test]
    fn a_message_that_is_put_back_beside_the_table_is_found() {
        let (hash, end) = (BodyHash::from_bits(7 << 8), 10);
        let mut index = Index::default();
        index.shards[hash.shard()].insert_stray(hash.entry(5));
        let found = |index: &Index| index.candidates(hash, end).collect::<Vec<_>>();
        assert_eq!((found(&index), index.count(hash, &mut None, 9)), (vec![5], 1));
        index.insert(hash, 6).unwrap();
        assert_eq!((found(&index), index.count(hash, &mut None, 9)), (vec![6, 5], 2));
        assert!(index.remove(hash, 6) && index.remove(hash, 5) && !index.remove(hash, 5));
        assert!(found(&index).is_empty());
    }

    #[test]
    fn an_entry_takes_24_bytes_at_most_while_messages_come_and_go() {
        let key = [7; 16];
        let hash = |number: u64| BodyHash::new(&key, &number.to_le_bytes());
        let mut index = Index::default();
        let check = |index: &Index, count: u64| {
            let bytes: usize = index.shards.iter().map(|shard| shard.first.allocation_size()).sum();
            assert!(bytes as u64 <= count * 24 + 1024, "{bytes} bytes for {count} messages");
        };
        for number in 0..200_000 {
            index.insert(hash(number), number).unwrap();
            if number > 10_000 && number % 1000 == 0 {
                check(&index, number + 1);
            }
        }
        for number in 0..190_000 {
            assert!(index.remove(hash(number), number));
            if number % 1000 == 0 {
                check(&index, 200_000 - number - 1);
            }
        }
    }
}
