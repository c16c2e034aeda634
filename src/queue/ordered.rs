//! Values in the order of their numbers: what keeps the messages in memory.
//!
//! A row of chunks. Numbers only grow, so a new value goes behind the last one and the oldest is
//! the first, both without a search; one in the middle is searched for, and the hole that it leaves
//! is closed in its chunk. A map of single values would have nodes behind it that are half empty.
//!
//! 1. A chunk has one value at least and `CHUNK` at the most, sorted by number.
//! 2. The numbers of a chunk are not below its `start`, and all below that of the next one.

use std::collections::VecDeque;

/// The most values of a chunk.
const CHUNK: usize = 64;

/// Values, each by its own number.
pub(super) struct Ordered<T> {
    chunks: VecDeque<Chunk<T>>,
    len: usize,
}

struct Chunk<T> {
    start: u64,
    values: VecDeque<(u64, T)>,
}

impl<T> Ordered<T> {
    pub(super) fn new() -> Ordered<T> {
        Ordered { chunks: VecDeque::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds `value`, whose number is larger than any that was here before.
    pub(super) fn push(&mut self, number: u64, value: T) {
        self.len += 1;
        match self.chunks.back_mut() {
            Some(last) if last.values.len() < CHUNK => last.values.push_back((number, value)),
            _ => {
                // The first one grows with what is in it: most queues are short.
                let room = if self.chunks.is_empty() { 1 } else { CHUNK };
                let mut values = VecDeque::with_capacity(room);
                values.push_back((number, value));
                self.chunks.push_back(Chunk { start: number, values });
            }
        }
    }

    /// The value with the lowest number from `from` on.
    pub(super) fn next(&self, from: u64) -> Option<(u64, &T)> {
        let index = self.chunk_of(from);
        let place = self.chunks.get(index)?.place_of(from).unwrap_or_else(|place| place);
        // Where all of a chunk is before `from`, it is the first of the one behind.
        let here = self.chunks.get(index)?.values.get(place);
        let (number, value) = here.or_else(|| self.chunks.get(index + 1)?.values.front())?;
        Some((*number, value))
    }

    /// The value with this number.
    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let chunk = self.chunks.get(self.chunk_of(number))?;
        chunk.values.get(chunk.place_of(number).ok()?).map(|(_, value)| value)
    }

    /// Takes the value with this number out.
    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let index = self.chunk_of(number);
        let chunk = self.chunks.get_mut(index)?;
        let (_, value) = chunk.values.remove(chunk.place_of(number).ok()?)?;
        self.len -= 1;
        if chunk.values.is_empty() {
            self.chunks.remove(index);
        } else if chunk.values.len() <= chunk.values.capacity() / 4 {
            chunk.values.shrink_to_fit();
        }
        Some(value)
    }

    /// All values, in order.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| &chunk.values).map(|(_, value)| value)
    }

    /// The chunk where this number would be, which is most often the first.
    fn chunk_of(&self, number: u64) -> usize {
        if self.chunks.get(1).is_none_or(|second| number < second.start) {
            return 0;
        }
        self.chunks.partition_point(|chunk| chunk.start <= number).saturating_sub(1)
    }
}

impl<T> Chunk<T> {
    /// The place of this number, which is most often the first; Err: where it would be.
    fn place_of(&self, number: u64) -> Result<usize, usize> {
        match self.values.front() {
            Some((first, _)) if *first >= number => {
                if *first == number {
                    Ok(0)
                } else {
                    Err(0)
                }
            }
            _ => self.values.binary_search_by_key(&number, |(number, _)| *number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::collections::BTreeMap;

    #[test]
    fn values_are_a_map_by_number() {
        let mut random = Random::seeded();
        let (mut values, mut model) = (Ordered::new(), BTreeMap::new());
        let mut last = 0;
        for step in 0..60_000 {
            let wants_more = step / 10_000 % 2 == 0;
            if random.below(10) < if wants_more { 7 } else { 3 } {
                last += 1 + random.below(3);
                values.push(last, step);
                model.insert(last, step);
            } else {
                // One at the front as a pop does, or one anywhere, or most of a stretch.
                let anywhere = random.below(last + 2);
                let first = model.keys().next().copied().unwrap_or_default();
                let number = if random.below(2) == 0 { first } else { anywhere };
                assert_eq!(values.remove(number), model.remove(&number));
            }
            let number = random.below(last + 2);
            assert_eq!(values.get(number), model.get(&number));
            let next = model.range(number..).next().map(|(number, value)| (*number, value));
            assert_eq!(values.next(number), next);
            assert_eq!(values.next(0), model.iter().next().map(|(number, value)| (*number, value)));
            assert_eq!(values.len(), model.len());
            if step % 100 == 0 {
                assert!(values.values().eq(model.values()));
            }
        }
    }

    #[test]
    fn what_is_left_of_a_chunk_takes_little_room() {
        let mut values = Ordered::new();
        let count = 100 * CHUNK as u64;
        (0..count).for_each(|number| values.push(number, ()));
        let room = |values: &Ordered<()>| -> usize {
            values.chunks.iter().map(|chunk| chunk.values.capacity()).sum()
        };
        assert!(room(&values) <= count as usize, "full chunks");
        for number in (0..count).filter(|number| number % CHUNK as u64 != 7) {
            values.remove(number);
        }
        assert_eq!(values.len(), 100);
        assert!(room(&values) <= 400, "{}", room(&values));
    }
}
