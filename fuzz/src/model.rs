//! The model: a log at work, and what must be in it by the replies to its clients.
//!
//! An input is a list of operations: pushes, pops, removals, steps of several of these, questions,
//! syncs, failures, copying forward, footers, restarts, drops, and power cuts after which any part
//! of what was not synced is there. After each power cut what `--fsync always` promises is checked
//! (rules 4, 5, 8, 10, 11, 12 and 20):
//!
//! 1. what was answered is there, in order, once, and as it was written,
//! 2. what was answered as gone is not,
//! 3. no image looks damaged: torn is not rotten,
//! 4. of a step that was not answered all is there or nothing,
//! 5. a message has failed as often as was answered, or as often as was noted since.
//!
//! The work goes on with what was recovered.

use super::choices::Choices;
use super::device::Device;
use super::recipe::{Files, write_files};
use super::recovery::shared_memory;
use mq::storage::format::FIRST_SEQUENCE;
use mq::storage::{
    Cause, DataDirectory, Failures, Log, NewMessage, Place, StepSize, SyncPoint, SyncWork,
};
use std::collections::BTreeMap;
use tempfile::TempDir;

const SEGMENT_SIZE: u64 = 16 * 1024;
const QUEUE: &[u8] = b"q";

/// Messages by number.
type Messages = BTreeMap<u64, Vec<u8>>;

/// How often messages have failed, by number.
type Counts = BTreeMap<u64, u32>;

/// How often something happened, by its name.
pub type Seen = BTreeMap<&'static str, u64>;

/// Holds for every input, or panics.
pub fn check(input: &[u8]) {
    play(input);
}

/// As `check`; answers what the operations came to.
pub fn play(input: &[u8]) -> Seen {
    let mut choices = Choices::new(input);
    let mut seen = Seen::new();
    let mut bench = Bench::over(&Files::new(), &Files::new(), 0);
    while !choices.is_empty() {
        bench.step(&mut choices, &mut seen);
    }
    bench.count(&mut seen);
    seen
}

/// A sync that has begun, and how things were then.
struct Syncing {
    work: SyncWork,
    point: SyncPoint,
    contents: Files,
    present: Messages,
    failed: Counts,
    last_number: u64,
    step_count: usize,
}

/// What a step did, by the numbers of the messages.
#[derive(Default)]
struct Step {
    pushed: Vec<u64>,
    removed: Vec<u64>,
}

/// A log, and what the replies have said of it.
struct Bench {
    /// There always is one, but for the moment between an end and a start.
    disk: Option<(DataDirectory, Log)>,
    device: Device,
    /// Work goes on beside it.
    syncing: Option<Syncing>,
    /// What is in the queue.
    present: Messages,
    /// What was in the queue as of the last answer; the replies after it have not left.
    answered: Messages,
    /// What was pushed since then.
    pushed: Messages,
    /// How often messages have failed, those that have gone since then among them.
    failed: Counts,
    /// The same as of the last answer.
    answered_failed: Counts,
    /// Steps since then.
    steps: Vec<Step>,
    /// The highest number that was given, and as of the last answer.
    last_number: u64,
    last_answered: u64,
    /// The next number is one more than the last one. After a start it may be higher.
    is_counting: bool,
    /// Dropped last, when nothing has a file in it open any more.
    root: TempDir,
}

impl Bench {
    /// Opens what a power cut has left: a queue's files and those of a queue that was dropped.
    /// Numbers up to `last_answered` were given to messages that clients know of.
    fn over(files: &Files, dropped: &Files, last_answered: u64) -> Bench {
        let root = shared_memory();
        let folder = root.path().join("q-q");
        write_files(&root.path().join("dropped-1"), dropped);
        write_files(&folder, files);
        let disk = Some(open(&root));
        let device = Device::new(&folder);
        let (syncing, present, answered, pushed, steps) = Default::default();
        let (failed, answered_failed) = Default::default();
        let (last_number, is_counting) = (0, false);
        let mut bench = Bench {
            disk,
            device,
            syncing,
            present,
            answered,
            pushed,
            failed,
            answered_failed,
            steps,
            last_number,
            last_answered,
            is_counting,
            root,
        };
        bench.present = bench.contents();
        bench.failed = bench.counts();
        let last_found = bench.present.keys().last().copied();
        bench.last_number = last_answered.max(last_found.unwrap_or(0));
        bench.answer();
        assert_eq!(bench.counter("damaged_records"), 0, "an image looks damaged");
        bench
    }

    fn log(&mut self) -> &mut Log {
        &mut self.disk.as_mut().expect("there is one").1
    }

    fn counter(&self, name: &str) -> u64 {
        let (directory, _) = self.disk.as_ref().expect("there is one");
        let counters = directory.counters().list();
        counters.into_iter().find(|(known, _)| *known == name).expect("a counter").1
    }

    /// Counts what was done here before it is left.
    fn count(&self, seen: &mut Seen) {
        *seen.entry("copies").or_default() += self.counter("copied_messages");
        *seen.entry("torn tails").or_default() += self.counter("torn_tails");
        *seen.entry("rotations").or_default() += u64::from(self.device.file_count() > 1);
        *seen.entry("drops").or_default() += u64::from(!self.device.dropped.is_empty());
        *seen.entry("failures").or_default() += self.failed.len() as u64;
    }

    fn contents(&mut self) -> Messages {
        let (mut messages, mut from) = (Messages::new(), 0);
        while let Some((place, message)) = self.log().next(from).expect("readable") {
            assert!(place.sequence >= from, "out of order");
            messages.insert(place.sequence, message.body.to_vec());
            from = place.sequence + 1;
        }
        assert_eq!(self.log().len(), messages.len() as u64, "counted wrong");
        messages
    }

    fn step(&mut self, choices: &mut Choices<'_>, seen: &mut Seen) {
        match choices.byte() {
            0..=75 => self.push(body(choices)),
            76..=77 => self.fail(choices),
            78..=89 => self.push_step(choices),
            90..=108 => self.pop(),
            109..=110 => self.pop_step(choices),
            111..=163 => drop(self.remove(choices)),
            164..=171 => self.remove_step(choices),
            172..=182 => drop(self.log().copy_forward().expect("room")),
            183..=193 => self.write_footer(),
            194..=203 => self.device.note_contents(),
            204..=213 => self.sync(),
            214..=224 if self.syncing.is_some() => self.end_sync(),
            214..=224 => self.begin_sync(),
            225..=231 => self.log().rest(),
            232..=238 => self.ask(choices),
            239..=243 => self.restart(),
            244 if choices.below(4) == 0 => self.drop_queue(),
            244 => self.fail(choices),
            _ => return self.cut_power(choices, seen),
        }
        self.device.note_rotations();
    }

    fn push(&mut self, body: Vec<u8>) {
        self.log().push(&NewMessage { body: &body, flags: 0, expires_ms: 0 }, 1).expect("room");
        self.last_number += 1;
        if !self.is_counting {
            let higher = self.last_number;
            let (place, _) = self.log().next(higher).expect("readable").expect("a higher number");
            self.last_number = place.sequence;
            self.is_counting = true;
        }
        self.present.insert(self.last_number, body.clone());
        self.pushed.insert(self.last_number, body);
    }

    /// Notes a failure of a message, with a reason that says how many there are.
    fn fail(&mut self, choices: &mut Choices<'_>) {
        let count = self.present.len();
        let Some(chosen) = count.checked_sub(1).map(|last| choices.below(last.min(255) + 1)) else {
            return;
        };
        let number = *self.present.keys().nth(chosen).expect("one of them");
        let (place, _) = self.log().next(number).expect("readable").expect("it is there");
        let mut failures = self.failures(place);
        let reason = vec![failures.attempts as u8; choices.below(300)];
        failures.add(Cause::Nack, 1, &reason).expect("memory");
        self.log().note_failures(place, &failures).expect("room");
        assert_eq!(self.failures(place), failures, "what was noted");
        self.failed.insert(number, failures.attempts);
    }

    fn failures(&mut self, place: Place) -> Failures {
        let failures = self.log().failures(place).expect("readable");
        let count = failures.attempts.wrapping_sub(1) as u8;
        assert!(failures.last.reason.iter().all(|byte| *byte == count), "another reason");
        failures
    }

    /// How often what is in the queue has failed.
    fn counts(&mut self) -> Counts {
        let (mut counts, mut from) = (Counts::new(), 0);
        while let Some((place, _)) = self.log().next(from).expect("readable") {
            from = place.sequence + 1;
            let attempts = self.failures(place).attempts;
            if attempts > 0 {
                counts.insert(place.sequence, attempts);
            }
        }
        counts
    }

    /// Whether what is in the queue has failed as often as it should.
    fn check_counts(&mut self) {
        let mut expected = self.failed.clone();
        expected.retain(|number, _| self.present.contains_key(number));
        assert_eq!(self.counts(), expected, "what has failed");
    }

    /// Runs `work` as a step.
    fn step_of(&mut self, size: &StepSize, work: impl FnOnce(&mut Bench)) {
        self.log().begin_step(size).expect("room");
        work(self);
        self.log().end_step().expect("an end");
    }

    fn push_step(&mut self, choices: &mut Choices<'_>) {
        let bodies: Vec<Vec<u8>> = (0..2 + choices.below(6)).map(|_| body(choices)).collect();
        let pushed_bytes = bodies.iter().map(|body| body.len() as u64).sum();
        let pushes = bodies.len() as u64;
        let mut step = Step::default();
        self.step_of(&StepSize { pushes, pushed_bytes, ..StepSize::default() }, |bench| {
            for body in bodies {
                bench.push(body);
                step.pushed.push(bench.last_number);
            }
        });
        self.steps.push(step);
    }

    fn pop_step(&mut self, choices: &mut Choices<'_>) {
        let pops = choices.below(8).min(self.present.len());
        let removed = self.present.keys().take(pops).copied().collect();
        let pops = pops as u64;
        self.step_of(&StepSize { pops, ..StepSize::default() }, |bench| {
            (0..pops).for_each(|_| bench.pop());
        });
        self.steps.push(Step { removed, ..Step::default() });
    }

    fn remove_step(&mut self, choices: &mut Choices<'_>) {
        let count = choices.below(6).min(self.present.len());
        let mut step = Step::default();
        let removals = count as u64;
        self.step_of(&StepSize { removals, ..StepSize::default() }, |bench| {
            step.removed.extend((0..count).filter_map(|_| bench.remove(choices)));
        });
        self.steps.push(step);
    }

    fn pop(&mut self) {
        let found = self.log().next(0).expect("readable");
        let found = found.map(|(place, message)| (place, message.body.to_vec()));
        let first = found.as_ref().map(|(place, body)| (place.sequence, body.clone()));
        assert_eq!(first, self.present.pop_first(), "the oldest");
        if let Some((place, _)) = found {
            self.log().remove(place).expect("a removal");
        }
    }

    /// Removes a message by its bytes; answers its number.
    fn remove(&mut self, choices: &mut Choices<'_>) -> Option<u64> {
        let count = self.present.len();
        if count == 0 {
            return None;
        }
        let chosen = choices.below(count.min(256));
        let body = self.present.values().nth(chosen).expect("one of them").clone();
        let place = self.find(&body).expect("it is in the queue");
        self.log().remove(place).expect("a removal");
        self.present.remove(&place.sequence);
        Some(place.sequence)
    }

    /// Where a message with these bytes lies.
    fn find(&mut self, body: &[u8]) -> Option<Place> {
        let found = self.log().find(body).expect("readable");
        let place = found.map(|(place, _)| place);
        let known = place.map(|place| self.present.get(&place.sequence).expect("it is there"));
        assert!(known.is_none_or(|known| known == body), "another message");
        place
    }

    fn ask(&mut self, choices: &mut Choices<'_>) {
        let body = body(choices);
        let is_there = self.present.values().any(|known| *known == body);
        assert_eq!(self.find(&body).is_some(), is_there, "whether it is in the queue");
        assert_eq!(self.contents(), self.present, "what is in the queue");
        self.check_counts();
    }

    fn write_footer(&mut self) {
        if let Some(work) = self.log().write_footer() {
            work().expect("a footer");
        }
    }

    fn sync(&mut self) {
        self.end_sync();
        self.begin_sync();
        self.end_sync();
        self.device.sync();
        self.answer();
    }

    fn begin_sync(&mut self) {
        let Some((work, point)) = self.log().begin_sync() else { return };
        let (contents, present) = (self.device.contents(), self.present.clone());
        let (last_number, step_count) = (self.last_number, self.steps.len());
        let failed = self.failed.clone();
        self.syncing =
            Some(Syncing { work, point, contents, present, failed, last_number, step_count });
    }

    /// What was there when the sync began is durable; the replies up to then leave.
    fn end_sync(&mut self) {
        let Some(syncing) = self.syncing.take() else { return };
        let outcome = (syncing.work)();
        self.log().end_sync(syncing.point, &outcome);
        outcome.expect("a sync");
        self.device.end_sync(syncing.contents);
        self.answered = syncing.present;
        self.answered_failed = syncing.failed;
        self.last_answered = syncing.last_number;
        self.steps.drain(..syncing.step_count);
        self.pushed.retain(|sequence, _| *sequence > syncing.last_number);
    }

    /// The replies to everything so far leave.
    fn answer(&mut self) {
        self.answered = self.present.clone();
        self.answered_failed = self.failed.clone();
        self.last_answered = self.last_number;
        self.pushed.clear();
        self.steps.clear();
    }

    /// Drops the queue and makes a new one of that name; both are durable when they are answered.
    fn drop_queue(&mut self) {
        self.syncing = None;
        self.device.note_drop();
        let (directory, log) = self.disk.as_mut().expect("there is one");
        directory.drop_log(log).expect("a drop");
        *log = directory.create_log(QUEUE).expect("room");
        self.present.clear();
        self.failed.clear();
        (self.last_number, self.is_counting) = (FIRST_SEQUENCE - 1, true);
        self.sync();
    }

    /// The daemon is killed and started again: all that was written is there.
    fn restart(&mut self) {
        (self.syncing, self.disk) = (None, None);
        self.disk = Some(open(&self.root));
        assert_eq!(self.contents(), self.present, "after a restart");
        self.check_counts();
        assert_eq!(self.counter("damaged_records"), 0, "it looks damaged");
        self.is_counting = false;
        self.device.sync();
        self.answer();
    }

    /// Looks at what is left; goes on with that, or as if nothing had been.
    fn cut_power(&mut self, choices: &mut Choices<'_>, seen: &mut Seen) {
        let goes_on = choices.below(8) > 0;
        let image = self.device.image(choices);
        let next = Bench::over(&image, &self.device.dropped, self.last_answered);
        self.check_survivors(&next.present);
        self.check_failed(&next);
        *seen.entry("power cuts").or_default() += 1;
        if goes_on {
            self.count(seen);
            *self = next;
        }
    }

    fn check_failed(&self, next: &Bench) {
        let count = |counts: &Counts, number| counts.get(number).copied().unwrap_or_default();
        for number in next.present.keys() {
            let possible = count(&self.answered_failed, number)..=count(&self.failed, number);
            let found = count(&next.failed, number);
            assert!(possible.contains(&found), "number {number} has failed {found} times");
        }
    }

    fn check_survivors(&self, found: &Messages) {
        for (sequence, body) in found {
            let known = self.answered.get(sequence).or(self.pushed.get(sequence));
            assert_eq!(Some(body), known, "number {sequence} is back from the dead or was changed");
        }
        for sequence in self.answered.keys().filter(|it| self.present.contains_key(it)) {
            assert!(found.contains_key(sequence), "number {sequence} is lost");
        }
        for Step { pushed, removed } in &self.steps {
            let pushed = pushed.iter().filter(|number| self.present.contains_key(number));
            let removed = removed.iter().filter(|number| self.answered.contains_key(number));
            check_whole(pushed, found);
            check_whole(removed, found);
        }
    }
}

/// All of a step is there, or nothing.
fn check_whole<'a>(numbers: impl Iterator<Item = &'a u64>, found: &Messages) {
    let (there, gone): (Vec<u64>, Vec<u64>) =
        numbers.copied().partition(|it| found.contains_key(it));
    assert!(there.is_empty() || gone.is_empty(), "half a step: {there:?} and not {gone:?}");
}

fn open(root: &TempDir) -> (DataDirectory, Log) {
    // Not strictly, so that footers are read.
    let directory = DataDirectory::open(root.path(), SEGMENT_SIZE, false).expect("a directory");
    let log = directory.open_logs().expect("intact files").pop();
    let log = log.unwrap_or_else(|| directory.create_log(QUEUE).expect("room"));
    (directory, log)
}

/// One of a few bodies that come again and again, one of many, or one larger than a segment.
fn body(choices: &mut Choices<'_>) -> Vec<u8> {
    match choices.byte() {
        few @ 0..=63 => vec![few % 4; 20 * usize::from(few % 8)],
        many @ 64..=250 => vec![many; choices.below(256) * 2],
        _ => vec![choices.byte(); 2000 + 80 * choices.below(256)],
    }
}
