//! The input of one connection: bytes that have arrived and are not executed yet.
//!
//! Its memory grows with what has arrived, never with what a client declares, and shrinks again
//! when less arrives. It knows bytes, and nothing of requests.

/// Bytes of a buffer at the start, and of one that is idle.
pub(super) const INITIAL: usize = 4 * 1024;

/// A buffer of this many bytes may be had without having sent that much; beyond it, a buffer at
/// most doubles what has arrived.
pub(super) const UNEARNED: usize = 64 * 1024;

/// A growing buffer: `start..end` of `bytes` is what has arrived and is not consumed.
pub(super) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read took all the room that it was given: probably more is there.
    filled: bool,
}

impl Input {
    pub(super) fn new() -> Input {
        Input { bytes: vec![0; INITIAL], start: 0, end: 0, filled: false }
    }

    /// What has arrived and is not consumed.
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Drops `count` bytes, at most all, from the front. A buffer that turns out to be four times
    /// as large as what it was used for is halved.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start.saturating_add(count));
        if self.start < self.end {
            return;
        }
        let used = self.end;
        (self.start, self.end) = (0, 0);
        if self.bytes.len() > INITIAL && used < self.bytes.len() / 4 {
            self.resize(INITIAL.max(self.bytes.len() / 2));
        }
    }

    /// Room for the next read, at least one byte, when `need` bytes in all are wanted.
    pub(super) fn room(&mut self, need: usize) -> &mut [u8] {
        let pending = self.end - self.start;
        if self.bytes.len() - self.end < need.saturating_sub(pending).max(1) {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, pending);
        }
        let earned = UNEARNED.max(pending.saturating_mul(2));
        let mut wanted = need.max(pending + 1).min(earned);
        if self.filled {
            wanted = wanted.max(UNEARNED.min(self.bytes.len() * 2));
        }
        if wanted > self.bytes.len() {
            self.resize(wanted);
        }
        &mut self.bytes[self.end..]
    }

    /// The last `room` was filled with `count` bytes.
    pub(super) fn arrived(&mut self, count: usize) {
        self.filled = count == self.bytes.len() - self.end;
        self.end += count;
    }

    /// Whether `shrink` would give memory back.
    pub(super) fn is_large(&self) -> bool {
        self.bytes.len() > INITIAL && self.end - self.start < INITIAL
    }

    /// Gives back what an idle client does not need.
    pub(super) fn shrink(&mut self) {
        if self.is_large() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.resize(INITIAL);
        }
    }

    fn resize(&mut self, size: usize) {
        self.bytes.reserve_exact(size.saturating_sub(self.bytes.len()));
        self.bytes.resize(size, 0);
        self.bytes.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(input: &mut Input, need: usize, bytes: &[u8]) {
        let room = input.room(need);
        room[..bytes.len()].copy_from_slice(bytes);
        input.arrived(bytes.len());
    }

    #[test]
    fn a_declared_length_reserves_at_most_the_unearned_size() {
        let mut input = Input::new();
        arrive(&mut input, 1, b"$500000000\r\n");
        assert_eq!(input.room(500_000_014).len() + 12, UNEARNED);
    }

    #[test]
    fn a_large_request_at_most_doubles_what_has_arrived() {
        let mut input = Input::new();
        let need = 16 << 20;
        let mut pending = 0;
        while pending < need {
            let room = input.room(need).len();
            assert!(room > 0);
            assert!(pending + room <= UNEARNED.max(2 * pending), "{room} after {pending}");
            input.arrived(room);
            pending += room;
        }
        assert_eq!(pending, need);
    }

    #[test]
    fn bytes_keep_their_order_when_the_front_is_consumed() {
        let mut input = Input::new();
        arrive(&mut input, 1, &vec![b'a'; INITIAL - 2]);
        arrive(&mut input, 1, b"bc");
        input.consume(INITIAL - 2);
        arrive(&mut input, INITIAL, b"def");
        assert_eq!(input.pending(), b"bcdef");
        input.consume(usize::MAX);
        assert_eq!(input.pending(), b"");
    }

    #[test]
    fn a_full_read_makes_the_buffer_grow_for_a_pipeline() {
        let mut input = Input::new();
        for _ in 0..10 {
            let room = input.room(1).len();
            input.arrived(room);
            input.consume(room);
        }
        assert_eq!(input.room(1).len(), UNEARNED);
    }

    #[test]
    fn small_requests_shrink_the_buffer_of_a_large_one() {
        let mut input = Input::new();
        while input.pending().len() < 1 << 20 {
            let room = input.room(1 << 20).len();
            input.arrived(room);
        }
        input.consume(1 << 20);
        for _ in 0..20 {
            arrive(&mut input, 1, b"PING\r\n");
            input.consume(6);
        }
        assert_eq!(input.bytes.len(), INITIAL);
        assert!(input.bytes.capacity() <= 2 * INITIAL);
    }

    #[test]
    fn an_idle_buffer_keeps_the_start_of_a_request_when_it_shrinks() {
        let mut input = Input::new();
        for _ in 0..10 {
            let room = input.room(1).len();
            input.arrived(room);
            input.consume(room);
        }
        arrive(&mut input, 1, b"PI");
        assert!(input.is_large());
        input.shrink();
        assert_eq!((input.pending(), input.bytes.len()), (&b"PI"[..], INITIAL));
        assert!(!input.is_large());
    }
}
