//! Where messages went that were copied forward.
//!
//! Entries are in the order of their numbers, and nearly always come in that order: segments are
//! copied oldest first and from front to back.

use crate::memory::NoMemory;
use std::collections::VecDeque;

/// The position of an entry that is gone.
const GONE: u64 = u64::MAX;

/// Positions of copied messages by number; 16 bytes each.
#[derive(Debug, Default)]
pub struct Relocated {
    entries: VecDeque<(u64, u64)>,
    gone: usize,
}

impl Relocated {
    fn search(&self, sequence: u64) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&sequence, |entry| entry.0)
    }

    /// Where message `sequence` lies, if it was copied.
    pub fn get(&self, sequence: u64) -> Option<u64> {
        let index = self.search(sequence).ok()?;
        self.entries.get(index).map(|entry| entry.1).filter(|position| *position != GONE)
    }

    /// Makes sure that there is memory for the next `set`.
    pub fn prepare(&mut self) -> Result<(), NoMemory> {
        Ok(self.entries.try_reserve(1)?)
    }

    /// Message `sequence` lies at `position` now.
    pub fn set(&mut self, sequence: u64, position: u64) {
        match self.search(sequence) {
            Ok(index) => {
                if self.entries[index].1 == GONE {
                    self.gone -= 1;
                }
                self.entries[index].1 = position;
            }
            Err(index) => self.entries.insert(index, (sequence, position)),
        }
    }

    /// Message `sequence` is gone.
    pub fn remove(&mut self, sequence: u64) {
        let Ok(index) = self.search(sequence) else {
            return;
        };
        if self.entries[index].1 != GONE {
            self.entries[index].1 = GONE;
            self.gone += 1;
        }
        while self.entries.front().is_some_and(|entry| entry.1 == GONE) {
            self.entries.pop_front();
            self.gone -= 1;
        }
        if self.gone > self.entries.len() / 2 {
            self.entries.retain(|entry| entry.1 != GONE);
            self.gone = 0;
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    /// The number and position of the first copied message whose number is `from` or more.
    pub fn next(&self, from: u64) -> Option<(u64, u64)> {
        let start = self.search(from).unwrap_or_else(|index| index);
        self.entries.range(start..).find(|entry| entry.1 != GONE).copied()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Relocated::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_answers_as_a_map_does() {
        let mut random = 0x1234_5678_u64;
        let (mut relocated, mut model) = (Relocated::default(), BTreeMap::new());
        for step in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let sequence = (random >> 33) % 500;
            if random >> 63 == 0 {
                relocated.set(sequence, step);
                model.insert(sequence, step);
            } else {
                relocated.remove(sequence);
                model.remove(&sequence);
            }
            assert_eq!(relocated.get(sequence), model.get(&sequence).copied());
            let next = model.range(sequence..).next().map(|(key, value)| (*key, *value));
            assert_eq!(relocated.next(sequence), next);
        }
    }
}
