//! Turns: whether a handler lets other threads run before it waits for its client.
//!
//! While many requests are on their way, a client's next one is most often there when the other
//! threads have run, the clients among them: to put a thread to sleep and to wake it costs more
//! than to let them run and to look again. Beside a program that never sleeps it is the other way
//! round: a thread that gives its turn to that one has it back a millisecond or more later.
//!
//! The system does not say who had a turn, but it shows: where handlers had it, the daemon has used
//! the processors. So reads are measured now and then, and where turns come back late while the
//! daemon has little of the processors, handlers keep their turns for a while: they wait for their
//! clients at once.
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

/// Reads are judged together, so many measured ones and for so long at the least.
const JUDGED: u32 = 8;
const JUDGED_FOR: Duration = Duration::from_millis(200);

/// Reads that wait longer than this for their turns, in the mean, are late.
const LATE: Duration = Duration::from_micros(500);

/// One read counts as so late at the most, which alone makes no others late: a machine that stands
/// still for a while tells nothing of its other programs.
const LATEST: Duration = Duration::from_millis(2);

/// The daemon has little of the processors where it has less than one part of so many. Measured on
/// two of them, in tenths of a second: with its clients alone it had 0.4 to 0.8, and 0.25 at the
/// least; beside two programs that never sleep 0.2 to 0.4 where to give turns is no loss, and 0.03
/// to 0.17 where turns are better kept, the highest of which fall either way.
const PARTS: u32 = 6;

/// A longer time between two measured reads counts as so much: most often nothing was asked for.
/// What the daemon used in it counts as a whole, so that in doubt turns are given.
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
    /// From when the first read had its turn until the last one had, with pauses cut short.
    lasted: Duration,
    /// Processor time that the daemon had used by then, its committer and housekeeping included.
    used: Duration,
}

impl Measured {
    fn begun(last: Instant, used: Duration) -> Measured {
        Measured { last, reads: 0, waited: Duration::ZERO, lasted: Duration::ZERO, used }
    }

    fn add(&mut self, start: Instant, now: Instant) {
        self.reads += 1;
        self.waited += now.saturating_duration_since(start).min(LATEST);
        self.lasted += now.saturating_duration_since(self.last).min(PAUSE);
        // Another handler may have been first.
        self.last = self.last.max(now);
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
            measured: Mutex::new(Measured::begun(Instant::now(), Duration::ZERO)),
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
            *measured = Measured::begun(now, used());
        }
        measured.add(start, now);
        if measured.is_enough() {
            self.kept.store(measured.are_late(used(), self.processors), Ordering::Relaxed);
            measured.reads = 0;
        }
    }

    /// Reads that were measured since turns were last judged.
    #[cfg(test)]
    pub(super) fn measured_reads(&self) -> u32 {
        super::lock(&self.measured).reads
    }

    fn try_again(&self, now: Instant) {
        let Ok(measured) = self.measured.try_lock() else { return };
        if now.saturating_duration_since(measured.last) > REST {
            self.kept.store(false, Ordering::Relaxed);
        }
    }
}

/// Processor time of all threads since the start; it is never negative.
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

    /// Turns on `processors` after `count` measured reads, each of which took `waited`, while the
    /// daemon used `used` of the processors from one to the next; and when that was.
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
        // In 30 ms, on all processors together.
        for (processors, little, much) in [(1, 4, 6), (2, 9, 11), (8, 36, 44)] {
            let kept = |used| are_kept(&on(processors, 1000, MILLISECOND, used * MILLISECOND).0);
            assert_eq!((kept(little), kept(much)), (true, false), "{processors}");
        }
    }

    #[test]
    fn a_late_turn_among_others_changes_nothing() {
        let hour = Duration::from_secs(3600);
        let (turns, now) = after(JUDGED - 1, MILLISECOND / 10, Duration::ZERO);
        turns.judge(now, now + hour, || Duration::ZERO);
        turns.judge(now + hour, now + hour + GAP, || Duration::ZERO);
        assert_eq!(turns.measured_reads(), 1, "it has been judged");
        assert!(!are_kept(&turns));
    }

    #[test]
    fn neither_few_reads_nor_a_short_time_are_judged() {
        assert!(!are_kept(&after(JUDGED - 1, 2 * MILLISECOND, Duration::ZERO).0));
        let turns = Turns::on(2);
        let start = turns.measured.lock().unwrap().last;
        let late = |now| turns.judge(now - 2 * MILLISECOND, now, || Duration::ZERO);
        (0..100).for_each(|nth| late(start + JUDGED_FOR * nth / 100));
        assert!(!are_kept(&turns));
        late(start + JUDGED_FOR);
        assert!(are_kept(&turns));
    }

    #[test]
    fn reads_that_are_told_out_of_order_count_once() {
        let turns = Turns::on(2);
        let start = turns.measured.lock().unwrap().last;
        for after in [0, 9, 1, 9, 2, 10] {
            let now = start + after * MILLISECOND;
            turns.judge(now, now, || Duration::ZERO);
        }
        assert_eq!(turns.measured.lock().unwrap().lasted, 10 * MILLISECOND);
    }

    #[test]
    fn the_time_in_which_nothing_is_read_does_not_count() {
        let hour = Duration::from_secs(3600);
        let turns = Turns::on(2);
        let mut now = turns.measured.lock().unwrap().last;
        // All the processors while there was something to read.
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
        for nth in 0..=2 * MEASURED {
            assert_eq!(turns.give(nth, || Some(2)), Some(2));
        }
        assert_eq!(turns.measured_reads(), 3);
    }

    #[test]
    fn a_read_is_answered_while_another_is_counted() {
        let turns = Turns::on(2);
        let measured = turns.measured.lock().unwrap();
        assert_eq!(turns.give(0, || Some(7)), Some(7));
        assert_eq!(measured.reads, 0);
    }

    #[test]
    fn the_processor_time_is_that_of_all_threads() {
        let before = processor_time();
        let work = || while clock_gettime(ClockId::ThreadCPUTime).tv_nsec < 20_000_000 {};
        thread::spawn(work).join().unwrap();
        assert!(processor_time() - before >= 20 * MILLISECOND);
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
