//! Turns: whether a handler lets other threads run before it waits for its client.
//!
//! While many requests are on their way, a client's next one is most often there when the other
//! threads have run, the clients among them: to put a thread to sleep and to wake it costs more
//! than to let them run and to look again. Beside a program that never sleeps it is the other way
//! round: a thread that gives its turn to that one has it back a millisecond or more later.
//!
//! The system does not say who had a turn, but it shows: where handlers had it, requests were read.
//! So one read of some is measured, and where turns come back late while little is read, handlers
//! wait for their clients at once for a while.
//!
//! This file knows threads and times, and nothing of sockets.

use super::lock;
use rustix::thread::sched_yield;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One of so many reads of a client is measured.
const MEASURED: u32 = 16;

/// Reads are judged together, so many measured ones and for so long at the least: a machine that
/// stands still for some milliseconds tells nothing of its other programs.
const JUDGED: u32 = 8;
const JUDGED_FOR: Duration = Duration::from_millis(100);

/// Turns that come back later than this, in the mean, are late.
const LATE: Duration = Duration::from_micros(500);

/// Two processors read a request each 5 to 15 us while handlers have them, and each 35 us or more
/// beside two programs that never sleep.
const READ_EACH: Duration = Duration::from_micros(25);

/// How long handlers keep their turns before they try again.
const REST: Duration = Duration::from_secs(3);

/// What the handlers of a server know of turns together.
pub(super) struct Turns {
    /// Whether turns are kept.
    kept: AtomicBool,
    /// Measured reads that have begun. The others are not counted, so that handlers on several
    /// processors do not write to one counter at every read.
    begun: AtomicU64,
    measured: Mutex<Measured>,
}

/// What was measured since turns were last judged.
struct Measured {
    since: Instant,
    reads: u32,
    /// Until the turns came back, in all.
    waited: Duration,
    /// Measured reads that began meanwhile.
    others: u64,
}

impl Measured {
    fn since(since: Instant) -> Measured {
        Measured { since, reads: 0, waited: Duration::ZERO, others: 0 }
    }

    /// None: there is not enough to judge by.
    fn are_late(&self, now: Instant) -> Option<bool> {
        if self.reads < JUDGED || now.duration_since(self.since) < JUDGED_FOR {
            return None;
        }
        let others = u32::try_from(self.others).unwrap_or(u32::MAX).saturating_mul(MEASURED);
        Some(self.waited / self.reads > LATE && self.waited > READ_EACH.saturating_mul(others))
    }
}

impl Turns {
    pub(super) fn new() -> Turns {
        let measured = Mutex::new(Measured::since(Instant::now()));
        Turns { kept: AtomicBool::new(false), begun: AtomicU64::new(0), measured }
    }

    /// Before a client's `nth` read: lets others run if that is of use, and answers what `look`
    /// finds then; None: nothing, so that the caller has to wait.
    pub(super) fn give<T>(&self, nth: u32, look: impl FnOnce() -> Option<T>) -> Option<T> {
        let is_measured = nth.is_multiple_of(MEASURED);
        if self.kept.load(Ordering::Relaxed) {
            if is_measured {
                self.try_again(Instant::now());
            }
            return None;
        }
        if !is_measured {
            return let_run(look);
        }
        let (start, begun) = (Instant::now(), self.begun.fetch_add(1, Ordering::Relaxed) + 1);
        let found = let_run(look);
        let others = self.begun.load(Ordering::Relaxed).saturating_sub(begun);
        self.judge(start, Instant::now(), others);
        found
    }

    /// Adds what was measured from `start` until `now`.
    fn judge(&self, start: Instant, now: Instant, others: u64) {
        let mut measured = lock(&self.measured);
        measured.reads += 1;
        measured.waited += now.saturating_duration_since(start);
        measured.others += others;
        if let Some(are_late) = measured.are_late(now) {
            self.kept.store(are_late, Ordering::Relaxed);
            *measured = Measured::since(now);
        }
    }

    fn try_again(&self, now: Instant) {
        let mut measured = lock(&self.measured);
        if now.saturating_duration_since(measured.since) > REST {
            self.kept.store(false, Ordering::Relaxed);
            *measured = Measured::since(now);
        }
    }
}

/// Lets others run and looks; where nothing is found, lets them run once more.
fn let_run<T>(look: impl FnOnce() -> Option<T>) -> Option<T> {
    sched_yield();
    let found = look();
    if found.is_none() {
        sched_yield();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Whether turns are kept after `count` measured reads, one in 20 ms, each of which took
    /// `waited` and saw `others` read meanwhile; and when that was.
    fn after(count: u32, waited: Duration, others: u64) -> (Turns, Instant) {
        let turns = Turns::new();
        let mut now = lock(&turns.measured).since;
        for _ in 0..count {
            now += 20 * MILLISECOND;
            turns.judge(now - waited, now, others);
        }
        (turns, now)
    }

    fn are_kept(turns: &Turns) -> bool {
        turns.kept.load(Ordering::Relaxed)
    }

    #[test]
    fn turns_that_come_back_late_while_little_is_read_are_kept() {
        assert!(are_kept(&after(JUDGED, 2 * MILLISECOND, 4).0));
        assert!(are_kept(&after(JUDGED, 2 * MILLISECOND, 0).0));
    }

    #[test]
    fn turns_that_other_handlers_have_are_given() {
        assert!(!are_kept(&after(JUDGED, 2 * MILLISECOND, 6).0));
    }

    #[test]
    fn turns_that_come_back_soon_are_given() {
        assert!(!are_kept(&after(JUDGED, MILLISECOND / 3, 0).0));
    }

    #[test]
    fn a_late_turn_among_others_changes_nothing() {
        let (turns, mut now) = after(JUDGED - 1, MILLISECOND / 10, 0);
        now += 20 * MILLISECOND;
        turns.judge(now - 3 * MILLISECOND, now, 0);
        assert!(!are_kept(&turns));
    }

    #[test]
    fn neither_few_reads_nor_a_short_time_are_judged() {
        assert!(!are_kept(&after(JUDGED - 1, 2 * MILLISECOND, 0).0));
        let turns = Turns::new();
        let now = lock(&turns.measured).since + JUDGED_FOR - MILLISECOND;
        (0..100).for_each(|_| turns.judge(now - 2 * MILLISECOND, now, 0));
        assert!(!are_kept(&turns));
    }

    #[test]
    fn kept_turns_are_given_again_after_the_rest_and_judged_anew() {
        let (turns, now) = after(JUDGED, 2 * MILLISECOND, 0);
        turns.try_again(now + REST);
        assert!(are_kept(&turns));
        turns.try_again(now + REST + MILLISECOND);
        assert!(!are_kept(&turns));
        turns.judge(now, now + REST + 2 * MILLISECOND, 0);
        assert!(!are_kept(&turns));
    }

    #[test]
    fn a_look_is_had_where_turns_are_given_and_not_where_they_are_kept() {
        assert_eq!(Turns::new().give(0, || Some(7)), Some(7));
        assert_eq!(Turns::new().give(0, || None::<u8>), None);
        let (turns, _) = after(JUDGED, 2 * MILLISECOND, 0);
        assert_eq!(turns.give(0, || Some(7)), None);
    }
}
