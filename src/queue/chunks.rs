//! Messages in memory, in the order of their numbers.
//!
//! A map of chunks, each with the bodies of its messages one behind the other. Numbers only grow,
//! so a new message goes behind the last one and the oldest is the first: in a long queue neither
//! takes a search among single messages nor, most often, a call of the allocator. What is taken out
//! between others leaves chunks with little in them, which are put together.
//!
//! 1. A chunk has one message at least and `CHUNK` at the most, sorted by number.
//! 2. The numbers of a chunk are not below its key in the map, and all below the next key.
//! 3. Of the entries and of the bytes that a chunk keeps half at least are in use, but for the room
//!    of four entries; the last one may have room for more.
//! 4. Two neighbours, the first chunk aside, have more than three quarters of the messages or of
//!    the bytes that make a chunk full.

use super::Message;
use crate::memory::{self, NoMemory};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

/// The most messages of a chunk.
const CHUNK: usize = 64;

/// Entries that a chunk may keep room for, however few it has.
const FEW: usize = 4;

/// A chunk with so many bytes of bodies gets no further message.
const CHUNK_BYTES: usize = 16 * 1024;

/// Messages, each with its own number.
#[derive(Default)]
pub(super) struct Chunks {
    chunks: BTreeMap<u64, Chunk>,
    len: usize,
}

#[derive(Default)]
struct Chunk {
    entries: VecDeque<Entry>,
    /// The bodies of the entries, and of messages that are gone.
    bytes: Vec<u8>,
    /// Bytes of the entries' bodies.
    live: usize,
}

struct Entry {
    number: u64,
    pushed_ms: u64,
    expires_ms: u64,
    flags: u32,
    /// Where in the chunk's bytes the body is.
    offset: usize,
    length: usize,
}

impl Chunks {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a message, whose number is larger than any that was here before.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(super) fn push(&mut self, message: Message<'_>) -> Result<(), NoMemory> {
        debug_assert!(self.next(message.sequence).is_none(), "{} again", message.sequence);
        match self.chunks.last_entry() {
            Some(last) if !last.get().is_full() => last.into_mut().push(message)?,
            last => {
                // What comes takes most often as much as what came; the first chunk grows with what
                // is in it, as most queues are short.
                let mut next = Chunk::default();
                if let Some(last) = last.map(|last| last.into_mut()) {
                    last.bytes.shrink_to_fit();
                    last.entries.shrink_to_fit();
                    let usual = last.bytes.len().min(CHUNK_BYTES);
                    memory::reserve(&mut next.bytes, usual.max(message.body.len()))?;
                    next.entries.reserve(last.entries.len());
                }
                next.push(message)?;
                self.chunks.insert(message.sequence, next);
            }
        }
        self.len += 1;
        Ok(())
    }

    /// The message with the lowest number from `from` on.
    pub(super) fn next(&self, from: u64) -> Option<Message<'_>> {
        let (start, chunk) = self.chunk_of(from)?;
        let place = chunk.place_of(from).unwrap_or_else(|place| place);
        // Where all of a chunk is before `from`, it is the first of the one behind.
        chunk.message(place).or_else(|| {
            let (_, behind) = self.chunks.range((Excluded(start), Unbounded)).next()?;
            behind.message(0)
        })
    }

    /// The message with this number.
    pub(super) fn get(&self, number: u64) -> Option<Message<'_>> {
        let (_, chunk) = self.chunk_of(number)?;
        chunk.message(chunk.place_of(number).ok()?)
    }

    /// Takes the message with this number out; false: there is none.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let Some((start, _)) = self.chunk_of(number) else { return false };
        let Some(chunk) = self.chunks.get_mut(&start) else { return false };
        let place = chunk.place_of(number).ok();
        let Some(entry) = place.and_then(|place| chunk.entries.remove(place)) else { return false };
        self.len -= 1;
        chunk.live -= entry.length;
        chunk.tidy();
        if chunk.entries.is_empty() {
            self.chunks.remove(&start);
            if self.chunks.len() == 1 {
                self.rest();
            }
        }
        // Each pop leaves less in the first one, which will soon be gone.
        if let Some((&before, _)) = self.chunks.range(..start).next_back() {
            self.join(start);
            self.join(before);
        }
        true
    }

    /// Puts the chunk with this key and the one behind it into one, if that is far from full.
    fn join(&mut self, start: u64) {
        let Some(chunk) = self.chunks.get(&start) else { return };
        let behind = self.chunks.range((Excluded(start), Unbounded)).next();
        let Some((&next, _)) = behind.filter(|(_, behind)| chunk.has_room_for(behind)) else {
            return;
        };
        if let Some(behind) = self.chunks.remove(&next)
            && let Some(chunk) = self.chunks.get_mut(&start)
        {
            chunk.append(&behind);
        }
    }

    /// Gives back the room that is kept for more messages.
    pub(super) fn rest(&mut self) {
        if let Some(mut last) = self.chunks.last_entry() {
            last.get_mut().bytes.shrink_to_fit();
            last.get_mut().entries.shrink_to_fit();
        }
    }

    /// Entries and bytes that there is room for.
    #[cfg(test)]
    pub(super) fn room(&self) -> (usize, usize) {
        let chunks = self.chunks.values();
        chunks.fold((0, 0), |(entries, bytes), chunk| {
            (entries + chunk.entries.capacity(), bytes + chunk.bytes.capacity())
        })
    }

    /// The chunk where this number would be, which is most often the first, and its key.
    fn chunk_of(&self, number: u64) -> Option<(u64, &Chunk)> {
        let (start, first) = self.chunks.first_key_value()?;
        if first.entries.back().is_some_and(|last| number <= last.number) {
            return Some((*start, first));
        }
        self.chunks.range(..=number).next_back().map(|(start, chunk)| (*start, chunk))
    }
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.entries.len() >= CHUNK || self.live >= CHUNK_BYTES
    }

    fn push(&mut self, message: Message<'_>) -> Result<(), NoMemory> {
        memory::reserve(&mut self.bytes, message.body.len())?;
        self.add(message);
        Ok(())
    }

    /// Adds a message that there is room for.
    fn add(&mut self, message: Message<'_>) {
        let Message { sequence: number, pushed_ms, expires_ms, flags, body } = message;
        let (offset, length) = (self.bytes.len(), body.len());
        self.bytes.extend_from_slice(body);
        self.live += length;
        self.entries.push_back(Entry { number, pushed_ms, expires_ms, flags, offset, length });
    }

    /// Whether both together are three quarters of a chunk at the most, so that a small message
    /// does not make it full again at once.
    fn has_room_for(&self, other: &Chunk) -> bool {
        self.entries.len() + other.entries.len() <= CHUNK / 4 * 3
            && self.live + other.live <= CHUNK_BYTES / 4 * 3
    }

    fn append(&mut self, other: &Chunk) {
        self.bytes.reserve_exact(other.live);
        self.entries.reserve_exact(other.entries.len());
        (0..other.entries.len()).filter_map(|place| other.message(place)).for_each(|message| {
            self.add(message);
        });
    }

    fn message(&self, place: usize) -> Option<Message<'_>> {
        let Entry { number, pushed_ms, expires_ms, flags, offset, length } =
            *self.entries.get(place)?;
        let body = &self.bytes[offset..offset + length];
        Some(Message { sequence: number, pushed_ms, expires_ms, flags, body })
    }

    /// The place of this number, which is most often the first; Err: where it would be.
    fn place_of(&self, number: u64) -> Result<usize, usize> {
        match self.entries.front() {
            Some(first) if first.number == number => Ok(0),
            Some(first) if first.number > number => Err(0),
            _ => self.entries.binary_search_by_key(&number, |entry| entry.number),
        }
    }

    /// Gives back what messages that are gone have left, once it is half.
    fn tidy(&mut self) {
        if self.entries.len() * 2 < self.entries.capacity() {
            // The least that it grows to: a queue of a message or two would grow again at once.
            self.entries.shrink_to(FEW);
        }
        if self.live * 2 < self.bytes.len() {
            let mut bytes = Vec::with_capacity(self.live);
            for entry in &mut self.entries {
                let offset = bytes.len();
                bytes.extend_from_slice(&self.bytes[entry.offset..entry.offset + entry.length]);
                entry.offset = offset;
            }
            self.bytes = bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn message(number: u64, body: &[u8]) -> Message<'_> {
        let (pushed_ms, expires_ms, flags) = (number + 1, number + 2, number as u32 + 3);
        Message { sequence: number, pushed_ms, expires_ms, flags, body }
    }

    #[test]
    fn messages_are_a_map_by_number() {
        let mut random = Random::seeded();
        let (mut messages, mut model) = (Chunks::default(), BTreeMap::<u64, Vec<u8>>::new());
        let mut last = 0;
        for step in 0..60_000 {
            let wants_more = step / 10_000 % 2 == 0;
            if random.below(10) < if wants_more { 7 } else { 3 } {
                last += 1 + random.below(3);
                let usual = if step < 20_000 { 200 } else { 2000 };
                let most = if random.below(50) == 0 { 3 * CHUNK_BYTES as u64 } else { usual };
                let body = vec![last as u8; random.below(most) as usize];
                messages.push(message(last, &body)).unwrap();
                model.insert(last, body);
            } else {
                // The first one, as a pop does, or one anywhere.
                let anywhere = random.below(last + 2);
                let first = model.keys().next().copied().unwrap_or_default();
                let number = if random.below(2) == 0 { first } else { anywhere };
                assert_eq!(messages.remove(number), model.remove(&number).is_some());
            }
            let number = random.below(last + 2);
            assert_eq!(messages.get(number), model.get(&number).map(|body| message(number, body)));
            for from in [0, number] {
                let next = model.range(from..).next().map(|(number, body)| message(*number, body));
                assert_eq!(messages.next(from), next);
            }
            assert_eq!(messages.len(), model.len());
            if step % 50 == 0 {
                check(&messages);
            }
        }
    }

    /// The invariants, and that a chunk behind which there is another keeps no room for more.
    fn check(messages: &Chunks) {
        let mut end = u64::MAX;
        for (behind, (start, chunk)) in messages.chunks.iter().rev().enumerate() {
            let numbers = || chunk.entries.iter().map(|entry| entry.number);
            assert!((1..=CHUNK).contains(&chunk.entries.len()));
            assert!(numbers().is_sorted() && numbers().all(|it| (*start..end).contains(&it)));
            let last = chunk.entries.back().map_or(0, |entry| entry.length);
            assert!(chunk.live - last < CHUNK_BYTES, "{last} bytes in a full chunk");
            assert!(chunk.live * 2 >= chunk.bytes.len());
            assert!(behind == 0 || chunk.bytes.capacity() == chunk.bytes.len());
            let most = FEW.max(chunk.entries.len() * 2);
            assert!(behind == 0 || chunk.entries.capacity() <= most);
            end = *start;
        }
        let chunks: Vec<&Chunk> = messages.chunks.values().skip(1).collect();
        for pair in chunks.windows(2) {
            let sum = |of: fn(&Chunk) -> usize| of(pair[0]) + of(pair[1]);
            let (count, live) = (sum(|chunk| chunk.entries.len()), sum(|chunk| chunk.live));
            assert!(
                count > CHUNK / 4 * 3 || live > CHUNK_BYTES / 4 * 3,
                "{count} messages, {live} bytes"
            );
        }
    }

    #[test]
    fn what_is_gone_takes_little_room() {
        for (kept, length) in [(1, 1), (16, 1), (25, 1), (40, 1), (1, 1000), (16, 1000)] {
            // In each order the chunk that gets smaller has another neighbour with little in it.
            for is_backward in [false, true] {
                let mut messages = Chunks::default();
                let (count, body) = (100 * CHUNK, vec![7; length]);
                (0..count).for_each(|number| messages.push(message(number as u64, &body)).unwrap());
                messages.rest();
                assert_eq!(messages.room(), (count, count * length));
                let is_gone = |number: &usize| number * kept % CHUNK >= kept;
                let mut gone: Vec<usize> = (0..count).filter(is_gone).collect();
                if is_backward {
                    gone.reverse();
                }
                assert!(gone.iter().all(|number| messages.remove(*number as u64)));
                let left = messages.len();
                assert_eq!(left, 100 * kept);
                check(&messages);
                let (entries, bytes) = messages.room();
                // Room for 64 where 40 are left is the most of all these.
                assert!(
                    entries * 40 <= left * 64 && bytes <= left * length * 2,
                    "{entries}, {bytes}"
                );
            }
        }
    }

    #[test]
    fn what_is_gone_does_not_make_a_chunk_full() {
        let mut messages = Chunks::default();
        (0..CHUNK as u64).for_each(|number| messages.push(message(number, b"")).unwrap());
        (100..116).for_each(|number| messages.push(message(number, &[7; 1000])).unwrap());
        assert!((105..112).all(|number| messages.remove(number)));
        (116..118).for_each(|number| messages.push(message(number, &[7; 1000])).unwrap());
        check(&messages);
    }

    #[test]
    fn what_is_left_of_a_long_queue_keeps_no_room_for_more() {
        for (count, length) in [(2 * CHUNK as u64 + 1, 100), (20, CHUNK_BYTES)] {
            let mut messages = Chunks::default();
            let body = vec![7; length];
            (0..count - 1).for_each(|number| messages.push(message(number, &body)).unwrap());
            messages.push(message(count - 1, b"last")).unwrap();
            assert!((0..count - 1).all(|number| messages.remove(number)));
            let (entries, bytes) = messages.room();
            assert!(entries <= 2 && bytes <= 200, "{entries}, {bytes}");
        }
    }

    #[test]
    fn a_queue_of_a_message_or_two_keeps_its_entries() {
        let mut messages = Chunks::default();
        for number in 0..9 {
            messages.push(message(number, b"one of two")).unwrap();
            assert!(number == 0 || messages.remove(number - 1));
            assert_eq!(messages.room().0, FEW);
        }
    }

    #[test]
    fn the_bytes_stay_where_they_are_when_little_of_them_is_gone() {
        let mut messages = Chunks::default();
        (0..40).for_each(|number| messages.push(message(number, b"")).unwrap());
        messages.push(message(40, &[7; 1 << 20])).unwrap();
        let place = |messages: &Chunks| messages.get(40).map(|message| message.body.as_ptr());
        let before = place(&messages);
        assert!((0..40).all(|number| messages.remove(number)));
        assert_eq!(place(&messages), before);
    }

    #[test]
    fn a_large_message_is_let_go_of_though_small_ones_stay() {
        let mut messages = Chunks::default();
        let bodies = (0..20).map(|number| if number == 9 { vec![7; 1 << 20] } else { vec![7; 10] });
        for (number, body) in bodies.enumerate() {
            messages.push(message(number as u64, &body)).unwrap();
        }
        assert!(messages.remove(9));
        let (_, bytes) = messages.room();
        assert!(bytes < 2 * CHUNK_BYTES, "{bytes}");
    }
}
