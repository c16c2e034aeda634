//! Turns: whether a handler lets other threads run before it waits for its client.
//!
//! While many requests are on their way, a client's next one is most often there when the other
//! threads have run, the clients among them: to put a thread to sleep and to wake it costs more
//! than to let them run and to look again. Beside a program that never sleeps it is the other way
//! round: a thread that gives its turn to that one has it back a millisecond or more later.
//!
//! The system does not say who had a turn, but it shows: where handlers had it, requests were read.
//! So reads are measured now and then, and where turns come back late while little is read and the
//! daemon has little of the processors, handlers wait for their clients at once for a while.
//!
//! This file knows threads and times, and nothing of sockets.

use rustix::thread::sched_yield;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// One of so many reads of a client is measured.
const MEASURED: u32 = 16;

/// Reads are judged together, so many measured ones and for so long at the least: a machine that
/// stands still for some milliseconds tells nothing of its other programs.
const JUDGED: u32 = 8;
const JUDGED_FOR: Duration = Duration::from_millis(100);

/// Turns that come back later than this, in the mean, are late.
const LATE: Duration = Duration::from_micros(500);

/// Little is read where a processor has this time for each read of a few requests at the most: on
/// two of them it was 10 to 30 us while handlers had their turns, with 16 requests at once up to
/// 60, and 65 to 260 us beside two programs that never sleep.
const READ_EACH: Duration = Duration::from_micros(50);

/// The daemon has little of the processors where it has less than one part of so many: beside two
/// programs that never sleep it had 0.03 to 0.26 of two of them where turns are better kept, and
/// 0.53 to 0.80 where nothing but its clients ran. Large requests are few reads, but much work.
const PARTS: u32 = 3;

/// How long handlers keep their turns before they try again.
const REST: Duration = Duration::from_secs(3);

/// What the handlers of a server know of turns together.
pub(super) struct Turns {
    /// Whether turns are kept.
    kept: AtomicBool,
    /// Measured reads that have begun. The others are not counted, so that handlers on several
    /// processors do not write to one counter at every read.
    begun: AtomicU64,
    processors: u32,
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
    /// Processor time that the daemon had used before.
    used: Duration,
}

impl Measured {
    fn since(since: Instant) -> Measured {
        Measured { since, reads: 0, waited: Duration::ZERO, others: 0, used: Duration::ZERO }
    }

    fn is_enough(&self, now: Instant) -> bool {
        self.reads >= JUDGED && now.saturating_duration_since(self.since) >= JUDGED_FOR
    }

    /// Whether turns come back late, until `now`, while little is read, and the daemon, which has
    /// `used` so much now, had little of the `processors`.
    fn are_late(&self, now: Instant, used: Duration, processors: u32) -> bool {
        let others = u32::try_from(self.others).unwrap_or(u32::MAX).saturating_mul(MEASURED);
        let all = now.saturating_duration_since(self.since).saturating_mul(processors);
        self.waited > LATE * self.reads
            && self.waited > (READ_EACH / processors).saturating_mul(others)
            && used.saturating_sub(self.used) < all / PARTS
    }
}

impl Turns {
    pub(super) fn new() -> Turns {
        Turns::on(thread::available_parallelism().map_or(1, usize::from))
    }

    fn on(processors: usize) -> Turns {
        Turns {
            kept: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            processors: u32::try_from(processors).unwrap_or(u32::MAX).max(1),
            measured: Mutex::new(Measured::since(Instant::now())),
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
        let (start, begun) = (Instant::now(), self.begun.fetch_add(1, Ordering::Relaxed) + 1);
        let found = let_run(look);
        let others = self.begun.load(Ordering::Relaxed).saturating_sub(begun);
        self.judge(start, Instant::now(), others, processor_time);
        found
    }

    /// Adds what was measured from `start` until `now`, unless another handler does that just now:
    /// to wait for it would be one more turn. `used` tells what processor time the daemon has used;
    /// it is asked at the first read and the last one, as the system adds it up over all threads.
    fn judge(&self, start: Instant, now: Instant, others: u64, used: impl Fn() -> Duration) {
        let Ok(mut measured) = self.measured.try_lock() else { return };
        if self.kept.load(Ordering::Relaxed) {
            return;
        }
        if measured.reads == 0 {
            (measured.since, measured.used) = (start, used());
        }
        measured.reads += 1;
        measured.waited += now.saturating_duration_since(start);
        measured.others += others;
        if measured.is_enough(now) {
            let are_late = measured.are_late(now, used(), self.processors);
            self.kept.store(are_late, Ordering::Relaxed);
            *measured = Measured::since(now);
        }
    }

    fn try_again(&self, now: Instant) {
        let Ok(measured) = self.measured.try_lock() else { return };
        if now.saturating_duration_since(measured.since) > REST {
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

    /// Turns after `count` measured reads, one in 20 ms, each of which took `waited` and saw
    /// `others` measured ones begin; and when that was.
    fn worked(turns: Turns, count: u32, waited: Duration, others: u64) -> (Turns, Instant) {
        let mut now = turns.measured.lock().unwrap().since;
        for _ in 0..count {
            now += 20 * MILLISECOND;
            turns.judge(now - waited, now, others, || Duration::ZERO);
        }
        (turns, now)
    }

    /// The same on two processors.
    fn after(count: u32, waited: Duration, others: u64) -> (Turns, Instant) {
        worked(Turns::on(2), count, waited, others)
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
    fn who_has_much_of_the_processors_gives_turns() {
        for (used, is_kept) in [(60, true), (70, false)] {
            let (turns, start) = after(0, MILLISECOND, 0);
            let ready = Duration::from_secs(7);
            turns.judge(start, start + 2 * MILLISECOND, 0, || ready);
            for nth in 2..=JUDGED {
                let now = start + nth * JUDGED_FOR / JUDGED;
                turns.judge(now - 2 * MILLISECOND, now, 0, || ready + used * MILLISECOND);
            }
            assert_eq!(are_kept(&turns), is_kept, "{used} of 200 ms");
        }
    }

    #[test]
    fn a_late_turn_among_others_changes_nothing() {
        let (turns, mut now) = after(JUDGED - 1, MILLISECOND / 10, 0);
        now += 20 * MILLISECOND;
        turns.judge(now - 3 * MILLISECOND, now, 0, || Duration::ZERO);
        assert!(!are_kept(&turns));
    }

    #[test]
    fn what_is_little_depends_on_how_many_processors_there_are() {
        let on = |processors, others| {
            are_kept(&worked(Turns::on(processors), JUDGED, 2 * MILLISECOND, others).0)
        };
        assert_eq!((on(1, 2), on(1, 3)), (true, false));
        assert_eq!((on(8, 19), on(8, 21)), (true, false));
    }

    #[test]
    fn neither_few_reads_nor_a_short_time_are_judged() {
        assert!(!are_kept(&after(JUDGED - 1, 2 * MILLISECOND, 0).0));
        let turns = Turns::on(2);
        let start = turns.measured.lock().unwrap().since;
        let now = start + JUDGED_FOR - MILLISECOND;
        (0..100).for_each(|_| turns.judge(start, now, 0, || Duration::ZERO));
        assert!(!are_kept(&turns));
    }

    #[test]
    fn the_time_in_which_nothing_is_read_does_not_count() {
        let (turns, now) = after(0, MILLISECOND, 0);
        let now = now + Duration::from_secs(3600);
        (0..100).for_each(|_| turns.judge(now - 2 * MILLISECOND, now, 0, || Duration::ZERO));
        assert!(!are_kept(&turns));
    }

    #[test]
    fn kept_turns_are_given_again_after_the_rest_and_judged_anew() {
        let (turns, now) = after(JUDGED, 2 * MILLISECOND, 0);
        // These had begun before turns were kept.
        (0..100).for_each(|_| turns.judge(now, now + REST, 0, || Duration::ZERO));
        turns.try_again(now + REST);
        assert!(are_kept(&turns));
        let now = now + REST + MILLISECOND;
        turns.try_again(now);
        assert!(!are_kept(&turns));
        (1..JUDGED)
            .for_each(|nth| turns.judge(now, now + nth * 20 * MILLISECOND, 0, || Duration::ZERO));
        assert!(!are_kept(&turns));
        turns.judge(now, now + JUDGED * 20 * MILLISECOND, 0, || Duration::ZERO);
        assert!(are_kept(&turns));
    }

    #[test]
    fn one_read_of_sixteen_is_measured_with_those_that_begin_meanwhile() {
        let turns = Turns::on(2);
        // However long the machine takes, it is not time to judge.
        let since = Instant::now() + Duration::from_secs(3600);
        *turns.measured.lock().unwrap() = Measured { reads: 1, ..Measured::since(since) };
        for nth in 0..=2 * MEASURED {
            let found = turns.give(nth, || {
                (0..3).for_each(|_| assert_eq!(turns.give(MEASURED, || Some(1)), Some(1)));
                Some(2)
            });
            assert_eq!(found, Some(2));
        }
        let measured = turns.measured.lock().unwrap();
        let outer = u64::from(2 * MEASURED + 1);
        assert_eq!(u64::from(measured.reads), 1 + 3 + 3 * outer);
        assert_eq!(measured.others, 3 * 3);
        assert_eq!(turns.begun.load(Ordering::Relaxed), 3 + 3 * outer);
    }

    #[test]
    fn only_a_measured_read_ends_the_rest() {
        let (turns, _) = after(JUDGED, 2 * MILLISECOND, 0);
        let long_ago = Instant::now().checked_sub(2 * REST).unwrap();
        turns.measured.lock().unwrap().since = long_ago;
        assert_eq!(turns.give(1, || Some(7)), None);
        assert!(are_kept(&turns));
        assert_eq!(turns.give(MEASURED, || Some(7)), None);
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
