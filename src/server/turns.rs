//! Turns: whether a handler lets other threads run before it waits for its client.
//!
//! While many requests are on their way, a client's next one is most often there when the other
//! threads have run, the clients among them: to put a thread to sleep and to wake it costs more
//! than to let them run and to look again. Beside a program that never sleeps it is the other way
//! round: a thread that gives its turn to that one has it back a millisecond or more later.
//!
//! The system does not say who had a turn, but it shows: where handlers had it, the daemon has used
//! the processors. So reads are measured now and then, and where turns come back late while the
//! daemon has little of the processors, handlers wait for their clients at once for a while.
//!
//! This file knows threads and times, and nothing of sockets.

use rustix::thread::sched_yield;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// One of so many reads of a client is measured.
const MEASURED: u32 = 16;

/// Reads are judged together, so many measured ones and for so long at the least: a machine that
/// stands still for some milliseconds tells nothing of its other programs.
const JUDGED: u32 = 8;
const JUDGED_FOR: Duration = Duration::from_millis(200);

/// Turns that come back later than this, in the mean, are late.
const LATE: Duration = Duration::from_micros(500);

/// The daemon has little of the processors where it has less than one part of so many. Beside two
/// programs that never sleep it had 0.03 to 0.17 of two of them where turns are better kept, 0.2 to
/// 0.4 where to give them is no loss, and 0.4 to 0.8 where nothing but its clients ran and turns
/// came back late (medians of 0.1 s; 0.25 at the least).
const PARTS: u32 = 6;

/// What is longer between two measured reads is idleness, in which nobody uses the processors.
const PAUSE: Duration = Duration::from_millis(30);

/// How long handlers keep their turns before they try again.
const REST: Duration = Duration::from_secs(3);

/// What the handlers of a server know of turns together.
pub(super) struct Turns {
    /// Whether turns are kept.
    kept: AtomicBool,
    processors: u32,
    measured: Mutex<Measured>,
}

/// What was measured since turns were last judged.
struct Measured {
    /// When the last read was measured, or turns were judged.
    last: Instant,
    reads: u32,
    /// Until the turns came back, in all.
    waited: Duration,
    /// From the first read until the last one, but for pauses.
    lasted: Duration,
    /// Processor time that the daemon had used before the first one.
    used: Duration,
}

impl Measured {
    fn from(last: Instant, used: Duration) -> Measured {
        Measured { last, reads: 0, waited: Duration::ZERO, lasted: Duration::ZERO, used }
    }

    fn add(&mut self, start: Instant, now: Instant) {
        self.reads += 1;
        self.waited += now.saturating_duration_since(start);
        self.lasted += now.saturating_duration_since(self.last).min(PAUSE);
        self.last = now;
    }

    fn is_enough(&self) -> bool {
        self.reads >= JUDGED && self.lasted >= JUDGED_FOR
    }

    /// Whether turns come back late while the daemon, which has `used` so much now, has little of
    /// the `processors`.
    fn are_late(&self, used: Duration, processors: u32) -> bool {
        self.waited > LATE * self.reads
            && used.saturating_sub(self.used) < self.lasted.saturating_mul(processors) / PARTS
    }
}

impl Turns {
    pub(super) fn new() -> Turns {
        Turns::on(thread::available_parallelism().map_or(1, usize::from))
    }

    fn on(processors: usize) -> Turns {
        Turns {
            kept: AtomicBool::new(false),
            processors: u32::try_from(processors).unwrap_or(u32::MAX).max(1),
            measured: Mutex::new(Measured::from(Instant::now(), Duration::ZERO)),
        }
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
        let start = Instant::now();
        let found = let_run(look);
        self.judge(start, Instant::now(), processor_time);
        found
    }

    /// Adds what was measured from `start` until `now`, unless another handler does that just now:
    /// to wait for it would be one more turn. `used` tells what processor time the daemon has used;
    /// it is asked at the first read and the last one, as the system adds it up over all threads.
    fn judge(&self, start: Instant, now: Instant, used: impl Fn() -> Duration) {
        let Ok(mut measured) = self.measured.try_lock() else { return };
        if self.kept.load(Ordering::Relaxed) {
            return;
        }
        if measured.reads == 0 {
            *measured = Measured::from(start, used());
        }
        measured.add(start, now);
        if measured.is_enough() {
            self.kept.store(measured.are_late(used(), self.processors), Ordering::Relaxed);
            *measured = Measured::from(now, Duration::ZERO);
        }
    }

    fn try_again(&self, now: Instant) {
        let Ok(measured) = self.measured.try_lock() else { return };
        if now.saturating_duration_since(measured.last) > REST {
            self.kept.store(false, Ordering::Relaxed);
        }
    }
}

/// Processor time of all threads since the start.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
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

    /// Between two measured reads in these tests.
    const GAP: Duration = PAUSE;

    /// Turns on `processors` after `count` measured reads, each of which took `waited` while the
    /// daemon used `used` of the processors; and when that was.
    fn on(processors: usize, count: u32, waited: Duration, used: Duration) -> (Turns, Instant) {
        let turns = Turns::on(processors);
        let start = turns.measured.lock().unwrap().last;
        // However much it had used before.
        let ready = Duration::from_secs(7);
        for nth in 1..=count {
            let now = start + nth * GAP;
            turns.judge(now - waited, now, || ready + nth * used);
        }
        (turns, start + count * GAP)
    }

    fn after(count: u32, waited: Duration, used: Duration) -> (Turns, Instant) {
        on(2, count, waited, used)
    }

    fn are_kept(turns: &Turns) -> bool {
        turns.kept.load(Ordering::Relaxed)
    }

    #[test]
    fn turns_that_come_back_late_while_little_is_used_are_kept() {
        assert!(are_kept(&after(JUDGED, 2 * MILLISECOND, MILLISECOND).0));
        assert!(are_kept(&after(JUDGED, 2 * MILLISECOND, Duration::ZERO).0));
    }

    #[test]
    fn turns_that_come_back_soon_are_given() {
        assert!(!are_kept(&after(JUDGED, MILLISECOND / 3, Duration::ZERO).0));
    }

    #[test]
    fn who_has_much_of_the_processors_gives_turns() {
        // Of each processor's 30 ms.
        for (processors, little, much) in [(1, 4, 6), (2, 9, 11), (8, 36, 44)] {
            let kept = |used| are_kept(&on(processors, 1000, MILLISECOND, used * MILLISECOND).0);
            assert_eq!((kept(little), kept(much)), (true, false), "{processors}");
        }
    }

    #[test]
    fn a_late_turn_among_others_changes_nothing() {
        let (turns, now) = after(JUDGED - 1, MILLISECOND / 10, Duration::ZERO);
        let now = now + GAP;
        turns.judge(now - 3 * MILLISECOND, now, || Duration::ZERO);
        assert!(!are_kept(&turns));
    }

    #[test]
    fn neither_few_reads_nor_a_short_time_are_judged() {
        assert!(!are_kept(&after(JUDGED - 1, 2 * MILLISECOND, Duration::ZERO).0));
        let turns = Turns::on(2);
        let start = turns.measured.lock().unwrap().last;
        let now = start + JUDGED_FOR - MILLISECOND;
        (0..100).for_each(|_| turns.judge(start, now, || Duration::ZERO));
        assert!(!are_kept(&turns));
    }

    #[test]
    fn the_time_in_which_nothing_is_read_does_not_count() {
        let hour = Duration::from_secs(3600);
        let turns = Turns::on(2);
        let mut now = turns.measured.lock().unwrap().last;
        // All the processors while there was something to read, but for the first measured read.
        for nth in 0..1000 {
            now += hour;
            turns.judge(now, now + 2 * MILLISECOND, || nth * 2 * PAUSE);
            assert!(!are_kept(&turns), "{nth}");
        }
    }

    #[test]
    fn kept_turns_are_given_again_after_the_rest_and_judged_anew() {
        let late = |turns: &Turns, now| turns.judge(now - 2 * MILLISECOND, now, || Duration::ZERO);
        let (turns, now) = after(JUDGED, 2 * MILLISECOND, Duration::ZERO);
        // These had begun before turns were kept.
        (0..100).for_each(|_| late(&turns, now + REST));
        turns.try_again(now + REST);
        assert!(are_kept(&turns));
        let now = now + REST + MILLISECOND;
        turns.try_again(now);
        assert!(!are_kept(&turns));
        (1..JUDGED).for_each(|nth| late(&turns, now + nth * GAP));
        assert!(!are_kept(&turns));
        late(&turns, now + JUDGED * GAP);
        assert!(are_kept(&turns));
    }

    #[test]
    fn one_read_of_sixteen_is_measured() {
        let turns = Turns::on(2);
        // However long the machine takes, it is not time to judge.
        let later = Instant::now() + Duration::from_secs(3600);
        let mut measured = Measured::from(later, Duration::ZERO);
        measured.add(later, later);
        *turns.measured.lock().unwrap() = measured;
        for nth in 0..=2 * MEASURED {
            assert_eq!(turns.give(nth, || Some(2)), Some(2));
        }
        assert_eq!(turns.measured.lock().unwrap().reads, 1 + 3);
    }

    #[test]
    fn only_a_measured_read_ends_the_rest() {
        let (turns, _) = after(JUDGED, 2 * MILLISECOND, Duration::ZERO);
        let long_ago = Instant::now().checked_sub(2 * REST).unwrap();
        turns.measured.lock().unwrap().last = long_ago;
        assert_eq!(turns.give(1, || Some(7)), None);
        assert!(are_kept(&turns));
        assert_eq!(turns.give(MEASURED, || Some(7)), None);
        assert!(!are_kept(&turns));
    }

    #[test]
    fn a_look_is_had_where_turns_are_given_and_not_where_they_are_kept() {
        assert_eq!(Turns::new().give(0, || Some(7)), Some(7));
        assert_eq!(Turns::new().give(0, || None::<u8>), None);
        let (turns, _) = after(JUDGED, 2 * MILLISECOND, Duration::ZERO);
        assert_eq!(turns.give(0, || Some(7)), None);
    }
}
