//! The input of one client: bytes that have arrived and are not executed yet.
//!
//! Its memory grows with what has arrived, never with what a client declares, and an input without
//! bytes has none. It knows bytes, and nothing of requests.

use crate::memory::{self, NoMemory};

/// Room that need not have been earned by sending as much. Beyond it, room at most doubles what has
/// arrived, and is made for at least half as much: however small the pieces of a large request are,
/// the number of its copies grows with the logarithm of its size.
pub(super) const UNEARNED: usize = 64 * 1024;

/// Room that is filled with zeros at a time: to touch new memory takes up to 0.3 ms for a MiB, and
/// the room of a large request has many.
const FILLED: usize = 1 << 20;

/// A growing buffer; `start..end` of `bytes` has arrived and is not consumed.
#[derive(Default)]
pub(super) struct Input {
    /// Behind `end` there is room. Each part of it is filled with zeros once, and not for each
    /// read.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    /// What has arrived and is not consumed.
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Adds bytes that have arrived elsewhere.
    ///
    /// # Errors
    /// There is no memory for them.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), NoMemory> {
        self.bytes.truncate(self.end);
        memory::append(&mut self.bytes, bytes)?;
        self.end = self.bytes.len();
        Ok(())
    }

    /// Keeps the first `count` bytes, and no memory beside.
    pub(super) fn truncate(&mut self, count: usize) {
        self.end = self.end.min(self.start.saturating_add(count));
        self.bytes.truncate(self.end);
        self.bytes.drain(..std::mem::take(&mut self.start));
        self.end = self.bytes.len();
        self.bytes.shrink_to_fit();
    }

    /// Drops `count` bytes, at most all, from the front. Memory goes when little is left in it.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start.saturating_add(count));
        // Where there is no memory to copy to, it stays where it is.
        if self.len() <= self.bytes.capacity() / 4
            && let Ok(bytes) = memory::join(&[self.pending()])
        {
            *self = Input { start: 0, end: bytes.len(), bytes };
        }
    }

    /// Lets `receive` fill a part of the room for a request that needs `need` bytes in all, and
    /// returns what it returns: how many bytes it has filled.
    ///
    /// # Errors
    /// Those of `receive`, and that there is no memory.
    pub(super) fn receive<E: From<NoMemory>>(
        &mut self,
        need: usize,
        receive: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        if self.bytes.len() - self.end < UNEARNED / 2 {
            self.grow(need)?;
        }
        let received = receive(&mut self.bytes[self.end..]);
        let count = *received.as_ref().unwrap_or(&0);
        self.end = self.bytes.len().min(self.end + count);
        if count == 0 {
            // The room is given back.
            self.consume(0);
        }
        received
    }

    fn grow(&mut self, need: usize) -> Result<(), NoMemory> {
        self.bytes.truncate(self.end);
        if self.bytes.capacity() - self.end < UNEARNED / 2 {
            let room = self.room(need);
            self.bytes.drain(..self.start);
            (self.start, self.end) = (0, self.bytes.len());
            memory::reserve_exact(&mut self.bytes, room)?;
        }
        let filled = self.bytes.capacity().min(self.end + FILLED);
        self.bytes.resize(filled, 0);
        Ok(())
    }

    /// Bytes that the input grows by.
    fn room(&self, need: usize) -> usize {
        let pending = self.len();
        need.saturating_sub(pending).clamp(pending / 2, pending).max(UNEARNED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receives as much as there is room for, and returns how much that was.
    fn fill(input: &mut Input, need: usize) -> usize {
        let all = |room: &mut [u8]| Ok::<usize, NoMemory>(room.len());
        input.receive(need, all).unwrap()
    }

    fn arrive(input: &mut Input, bytes: &[u8]) {
        let some = |room: &mut [u8]| {
            room[..bytes.len()].copy_from_slice(bytes);
            Ok::<usize, NoMemory>(bytes.len())
        };
        assert_eq!(input.receive(1, some).unwrap(), bytes.len());
    }

    #[test]
    fn a_declared_length_reserves_at_most_the_unearned_size() {
        let mut input = Input::default();
        arrive(&mut input, b"$500000000\r\n");
        assert!(fill(&mut input, 500_000_014) <= UNEARNED);
        assert!(input.memory() <= 2 * UNEARNED + 12);
    }

    #[test]
    fn a_large_request_at_most_doubles_what_has_arrived() {
        let (mut input, need, mut reads) = (Input::default(), 16 << 20, 0);
        while input.len() < need {
            let pending = input.len();
            let room = fill(&mut input, need);
            let most = UNEARNED.max(pending).min(FILLED);
            assert!(room > 0 && room <= most, "{room} after {pending}");
            assert!(input.memory() <= UNEARNED + 2 * input.len());
            reads += 1;
        }
        assert!(reads < 30, "{reads} reads");
    }

    /// Each byte was read into as much room as had arrived, filled with zeros before.
    #[test]
    fn a_large_request_in_small_pieces_makes_its_room_a_few_times() {
        let (mut input, need, mut rooms) = (Input::default(), 16 << 20, 0);
        let mut before = 0;
        while input.len() < need {
            let some = |room: &mut [u8]| Ok::<usize, NoMemory>(room.len().min(1400));
            input.receive(need, some).unwrap();
            rooms += usize::from(input.memory() != before);
            before = input.memory();
        }
        assert!(rooms < 20, "room was made {rooms} times");
    }

    /// A request of many words needs a few bytes more each time.
    #[test]
    fn a_small_need_of_a_large_request_is_read_in_large_pieces() {
        let (mut input, mut reads) = (Input::default(), 0);
        while input.len() < 16 << 20 {
            let need = input.len() + 5;
            fill(&mut input, need);
            reads += 1;
        }
        assert!(reads < 40, "{reads} reads");
    }

    #[test]
    fn bytes_keep_their_order_when_the_front_is_consumed() {
        let mut input = Input::default();
        input.append(&vec![b'a'; UNEARNED]).unwrap();
        arrive(&mut input, b"bc");
        input.consume(UNEARNED);
        arrive(&mut input, b"def");
        assert_eq!(input.pending(), b"bcdef");
        input.consume(usize::MAX);
        assert_eq!(input.len(), 0);
    }

    #[test]
    fn an_empty_input_has_no_memory() {
        let mut input = Input::default();
        fill(&mut input, 1 << 20);
        input.consume(UNEARNED - 1);
        assert_eq!((input.len(), input.memory()), (1, 1));
        input.consume(1);
        assert_eq!(input.memory(), 0);
    }

    #[test]
    fn what_is_cut_off_takes_no_memory_and_no_room_is_left() {
        let mut input = Input::default();
        arrive(&mut input, b"abcdef");
        input.append(&vec![b'x'; 4 * UNEARNED]).unwrap();
        fill(&mut input, 8 * UNEARNED);
        input.consume(2);
        input.truncate(3 * UNEARNED);
        assert_eq!((input.len(), input.memory()), (3 * UNEARNED, 3 * UNEARNED));
        assert_eq!(input.pending()[..5], *b"cdefx");
        input.truncate(0);
        assert_eq!(input.memory(), 0);
    }

    #[test]
    fn an_error_leaves_what_has_arrived() {
        let mut input = Input::default();
        input.append(b"abc").unwrap();
        let failed = input.receive(9, |_| Err(NoMemory));
        assert!(failed.is_err());
        assert_eq!((input.pending(), input.memory()), (&b"abc"[..], 3), "and nothing else");
    }
}
