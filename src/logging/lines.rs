//! Lines on their way to standard error, within a bound of memory.
//!
//! 1. A thread that logs never waits for the reader of standard error: only the writer writes, and
//!    it holds no lock meanwhile.
//! 2. Lines are written in the order in which they were logged.
//! 3. A line that finds no room is dropped and counted, and so are those behind it. Where they are
//!    missing a line says how many, once there is room again.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of lines that wait, beside as many that are being written: some 2,500 lines.
pub(super) const CAPACITY: usize = 256 * 1024;

/// The lines that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Lines {
    state: Mutex<State>,
    /// Notified when a line comes, and when the writer has written what it took.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    text: String,
    /// Lines that found no room behind `text`.
    dropped: u64,
    is_writing: bool,
}

impl State {
    const NEW: State = State { text: String::new(), dropped: 0, is_writing: false };

    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.dropped == 0
    }
}

impl Lines {
    pub(super) const fn new() -> Lines {
        Lines { state: Mutex::new(State::NEW), changed: Condvar::new() }
    }

    /// Puts `line`, with its end, behind the others or drops it.
    pub(super) fn push(&self, line: &str) {
        let mut state = self.lock();
        // A short line may still fit where a long one did not, but would change places with it.
        if state.dropped > 0 || state.text.len() + line.len() > CAPACITY {
            state.dropped += 1;
        } else {
            state.text.push_str(line);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for lines, no longer than `patience` or without a limit, and moves them to `taken`,
    /// which has been written. Returns how many lines were dropped behind them.
    pub(super) fn take(&self, taken: &mut String, patience: Option<Duration>) -> u64 {
        taken.clear();
        let mut state = self.lock();
        state.is_writing = false;
        self.changed.notify_all();
        state = match patience {
            Some(patience) => self.wait_while(state, patience, State::is_empty),
            None => self
                .changed
                .wait_while(state, |state| state.is_empty())
                .unwrap_or_else(PoisonError::into_inner),
        };
        state.is_writing = !state.is_empty();
        std::mem::swap(&mut state.text, taken);
        std::mem::take(&mut state.dropped)
    }

    /// Waits until all lines have been written, no longer than `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let has_lines = |state: &State| !state.is_empty() || state.is_writing;
        drop(self.wait_while(self.lock(), patience, has_lines));
    }

    fn wait_while<'a>(
        &self,
        state: MutexGuard<'a, State>,
        patience: Duration,
        condition: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout_while(state, patience, |state| condition(state))
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The text and its count are changed in single steps: what a panic left is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn lines_come_out_in_the_order_in_which_they_went_in() {
        let (lines, mut taken) = (Lines::new(), String::from("the ones before"));
        lines.push("a\n");
        lines.push("b\n");
        assert_eq!((lines.take(&mut taken, None), &taken[..]), (0, "a\nb\n"));
        assert_eq!((lines.take(&mut taken, NOW), &taken[..]), (0, ""));
    }

    #[test]
    fn lines_without_room_are_counted_and_the_ones_behind_them_as_well() {
        let (lines, mut taken) = (Lines::new(), String::new());
        let half = "x".repeat(CAPACITY / 2);
        lines.push(&half);
        lines.push(&half);
        lines.push(&half);
        lines.push("short\n");
        assert_eq!(lines.take(&mut taken, None), 2);
        assert_eq!(taken.len(), CAPACITY);
        lines.push("short\n");
        assert_eq!((lines.take(&mut taken, None), &taken[..]), (0, "short\n"));
    }

    #[test]
    fn a_line_larger_than_all_room_is_counted_too() {
        let (lines, mut taken) = (Lines::new(), String::new());
        lines.push(&"x".repeat(CAPACITY + 1));
        assert_eq!((lines.take(&mut taken, None), &taken[..]), (1, ""));
    }

    #[test]
    fn a_flush_waits_for_the_writer_and_no_longer_than_its_patience() {
        let (lines, mut taken) = (Lines::new(), String::new());
        lines.push("a\n");
        lines.flush(Duration::from_millis(1));
        assert_eq!(lines.take(&mut taken, None), 0);
        // The writer has the line, and is not done with it.
        lines.flush(Duration::from_millis(1));
        std::thread::scope(|scope| {
            scope.spawn(|| lines.flush(Duration::MAX));
            // It is done when it comes for more.
            lines.take(&mut taken, NOW);
        });
    }
}
