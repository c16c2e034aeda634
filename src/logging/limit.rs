//! Log lines that anybody outside can cause: a few a second of each kind, and a count of the rest.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Lines of a kind that are logged in one second.
const LINES_A_SECOND: u64 = 5;

const SECOND: Duration = Duration::from_secs(1);

/// How many lines of each kind have come in this second. The time is the caller's: any clock that
/// does not go back.
#[derive(Debug, Default)]
pub(super) struct RateLimits(Mutex<BTreeMap<&'static str, Window>>);

/// A second in which lines of one kind come.
#[derive(Debug)]
struct Window {
    start: Duration,
    lines: u64,
}

impl Window {
    fn is_over(&self, now: Duration) -> bool {
        now >= self.start + SECOND
    }

    fn skipped(&self) -> u64 {
        self.lines.saturating_sub(LINES_A_SECOND)
    }
}

impl RateLimits {
    pub(super) const fn new() -> RateLimits {
        RateLimits(Mutex::new(BTreeMap::new()))
    }

    /// Counts a line of this kind. Returns whether to log it. `skipped` says how many have not been
    /// in the second before, if that is not said yet.
    pub(super) fn admit(
        &self,
        kind: &'static str,
        now: Duration,
        skipped: impl FnOnce(&'static str, u64),
    ) -> bool {
        let mut windows = self.lock();
        let window = windows.entry(kind).or_insert(Window { start: now, lines: 0 });
        let mut before = 0;
        if window.is_over(now) {
            before = window.skipped();
            *window = Window { start: now, lines: 0 };
        }
        window.lines += 1;
        let is_admitted = window.lines <= LINES_A_SECOND;
        drop(windows);
        if before > 0 {
            skipped(kind, before);
        }
        is_admitted
    }

    /// Ends the seconds that are over; `skipped` says of each kind how many lines were not logged.
    pub(super) fn settle(&self, now: Duration, mut skipped: impl FnMut(&'static str, u64)) {
        let mut over = Vec::new();
        self.lock().retain(|kind, window| {
            let is_over = window.is_over(now);
            if is_over && window.skipped() > 0 {
                over.push((*kind, window.skipped()));
            }
            !is_over
        });
        over.into_iter().for_each(|(kind, count)| skipped(kind, count));
    }

    /// True when there is nothing to settle later.
    pub(super) fn is_settled(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Window>> {
        // Counts are changed in single steps: what a panic left is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn nothing(kind: &str, count: u64) {
        panic!("{count} of {kind} were skipped");
    }

    fn settled(limits: &RateLimits, now: Duration) -> Vec<(&'static str, u64)> {
        let mut skipped = Vec::new();
        limits.settle(now, |kind, count| skipped.push((kind, count)));
        skipped
    }

    #[test]
    fn a_few_lines_a_second_are_logged_and_the_rest_is_counted() {
        let limits = RateLimits::new();
        let admitted = (0..100).filter(|_| limits.admit("a", at(7), nothing)).count();
        assert_eq!(admitted as u64, LINES_A_SECOND);
        assert_eq!(settled(&limits, at(1006)), []);
        assert!(!limits.is_settled());
        assert_eq!(settled(&limits, at(1007)), [("a", 100 - LINES_A_SECOND)]);
        assert!(limits.is_settled());
        assert!(limits.admit("a", at(1008), nothing));
    }

    #[test]
    fn the_count_is_said_before_the_first_line_of_a_later_second() {
        let limits = RateLimits::new();
        (0..LINES_A_SECOND + 3).for_each(|_| _ = limits.admit("a", at(0), nothing));
        let mut said = 0;
        assert!(limits.admit("a", at(2000), |_, count| said = count));
        assert_eq!(said, 3);
        assert_eq!(settled(&limits, at(9000)), []);
    }

    #[test]
    fn each_kind_has_its_own_lines() {
        let limits = RateLimits::new();
        (0..LINES_A_SECOND + 1).for_each(|_| _ = limits.admit("a", at(0), nothing));
        assert!(limits.admit("b", at(0), nothing));
        assert_eq!(settled(&limits, at(1000)), [("a", 1)]);
    }
}
