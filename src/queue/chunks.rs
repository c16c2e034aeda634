//! Messages in memory, in the order of their numbers.
//!
//! A map of chunks, each with the bodies of its messages one behind the other. Numbers only grow,
//! so a new message goes behind the last one and the oldest is the first: in a long queue neither
//! takes a search nor, most often, a call of the allocator. One in the middle is searched for.
//!
//! 1. A chunk has one message at least and `CHUNK` at the most, sorted by number.
//! 2. The numbers of a chunk are not below its key in the map, and all below the next key.
//! 3. Of the entries that a chunk keeps a quarter at least is in use, and of the bytes half; the
//!    last one may have room for more.

use super::Message;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

/// The most messages of a chunk.
const CHUNK: usize = 64;

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
    pub(super) fn push(&mut self, message: Message<'_>) {
        debug_assert!(self.next(message.sequence).is_none(), "{} again", message.sequence);
        self.len += 1;
        match self.chunks.last_entry() {
            Some(last) if !last.get().is_full() => last.into_mut().push(message),
            last => {
                // What comes takes most often as much as what came; the first chunk grows with what
                // is in it, as most queues are short.
                let mut next = Chunk::default();
                if let Some(last) = last.map(|last| last.into_mut()) {
                    last.bytes.shrink_to_fit();
                    last.entries.shrink_to_fit();
                    next.bytes.reserve(last.bytes.len().min(CHUNK_BYTES).max(message.body.len()));
                    next.entries.reserve(last.entries.len());
                }
                next.push(message);
                self.chunks.insert(message.sequence, next);
            }
        }
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
        let start = self.chunk_of(number).map(|(start, _)| start);
        let Some((start, chunk)) =
            start.and_then(|start| Some((start, self.chunks.get_mut(&start)?)))
        else {
            return false;
        };
        let place = chunk.place_of(number).ok();
        let Some(entry) = place.and_then(|place| chunk.entries.remove(place)) else { return false };
        self.len -= 1;
        chunk.live -= entry.length;
        if chunk.entries.is_empty() {
            self.chunks.remove(&start);
        } else {
            chunk.tidy();
        }
        true
    }

    /// Gives back the room that is kept for more messages.
    pub(super) fn rest(&mut self) {
        if let Some(mut last) = self.chunks.last_entry() {
            last.get_mut().bytes.shrink_to_fit();
            last.get_mut().entries.shrink_to_fit();
        }
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
        self.entries.len() >= CHUNK || self.bytes.len() >= CHUNK_BYTES
    }

    fn push(&mut self, message: Message<'_>) {
        let Message { sequence: number, pushed_ms, expires_ms, flags, body } = message;
        let (offset, length) = (self.bytes.len(), body.len());
        self.bytes.extend_from_slice(body);
        self.live += length;
        self.entries.push_back(Entry { number, pushed_ms, expires_ms, flags, offset, length });
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

    /// Gives back what messages that are gone have left, once that is much.
    fn tidy(&mut self) {
        if self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to_fit();
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
    use std::collections::BTreeMap;

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
                let most = if random.below(50) == 0 { 3 * CHUNK_BYTES as u64 } else { 200 };
                let body = vec![last as u8; random.below(most) as usize];
                messages.push(message(last, &body));
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
            let last = chunk.entries.back().map_or(0, |entry| entry.offset);
            assert!(last < CHUNK_BYTES, "a message behind {last} bytes");
            assert!(chunk.live * 2 >= chunk.bytes.len());
            assert!(behind == 0 || chunk.bytes.capacity() == chunk.bytes.len());
            assert!(behind == 0 || chunk.entries.len() * 4 >= chunk.entries.capacity());
            end = *start;
        }
    }

    #[test]
    fn what_is_gone_takes_little_room() {
        let mut messages = Chunks::default();
        let count = 100 * CHUNK as u64;
        (0..count).for_each(|number| messages.push(message(number, &[7; 100])));
        let room = |messages: &Chunks| -> (usize, usize) {
            let chunks = messages.chunks.values();
            chunks.fold((0, 0), |(entries, bytes), chunk| {
                (entries + chunk.entries.capacity(), bytes + chunk.bytes.capacity())
            })
        };
        let (entries, bytes) = room(&messages);
        assert!(entries <= count as usize && bytes <= count as usize * 101, "{entries}, {bytes}");
        for number in (0..count).filter(|number| number % CHUNK as u64 != 7) {
            assert!(messages.remove(number));
        }
        assert_eq!(messages.len(), 100);
        let (entries, bytes) = room(&messages);
        assert!(entries <= 400 && bytes <= 100 * 200, "{entries}, {bytes}");
    }

    #[test]
    fn a_queue_at_rest_keeps_no_room_for_more() {
        let mut messages = Chunks::default();
        (0..2 * CHUNK as u64 + 1).for_each(|number| messages.push(message(number, &[7; 100])));
        messages.rest();
        let last = messages.chunks.values().last().unwrap();
        assert_eq!((last.entries.capacity(), last.bytes.capacity()), (1, 100));
    }

    #[test]
    fn the_bytes_stay_where_they_are_when_little_of_them_is_gone() {
        let mut messages = Chunks::default();
        (0..40).for_each(|number| messages.push(message(number, b"")));
        messages.push(message(40, &[7; 1 << 20]));
        let place = |messages: &Chunks| messages.get(40).map(|message| message.body.as_ptr());
        let before = place(&messages);
        assert!((0..40).all(|number| messages.remove(number)));
        assert_eq!(place(&messages), before);
    }

    #[test]
    fn a_large_message_is_let_go_of_though_small_ones_stay() {
        let mut messages = Chunks::default();
        let bodies = (0..20).map(|number| if number == 9 { vec![7; 1 << 20] } else { vec![7; 10] });
        bodies.enumerate().for_each(|(number, body)| messages.push(message(number as u64, &body)));
        assert!(messages.remove(9));
        let bytes: usize = messages.chunks.values().map(|chunk| chunk.bytes.capacity()).sum();
        assert!(bytes < 2 * CHUNK_BYTES, "{bytes}");
    }
}
