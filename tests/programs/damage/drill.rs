//! One case: damaged files are verified, refused, opened, worked on and opened again; and the run
//! of many, on all processors.

use super::oracle::Expected;
use super::world::{Files, Queue, SEGMENT_SIZE, fast_directory, read_files};
use crate::common::capture::captured;
use crate::common::{opening, program};
use crate::random;
use mq::storage::{DataDirectory, Inspection, Label, Log, NewMessage, StorageError, Weight};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

/// Failures that are printed of a run.
const SHOWN: usize = 6;

/// So many cases are worth processes of their own.
const MANY: usize = 1000;

/// Set in a process that does a share of a test's cases.
const SHARE: &str = "MQ_DAMAGE_SHARE";

/// Labels and the files that they are about, below the data directory.
type Said = BTreeSet<(Label, String)>;

/// What one folder holds, and what has to come of it.
pub struct Folder<'a> {
    pub files: Files,
    /// Whose messages these are.
    pub queue: &'a Queue,
    pub expected: Expected,
}

/// A damage.
pub struct Case<'a> {
    pub name: String,
    pub folders: BTreeMap<String, Folder<'a>>,
}

impl<'a> Case<'a> {
    /// A damage of one queue alone.
    pub fn of(name: String, queue: &'a Queue, files: Files, expected: Expected) -> Case<'a> {
        let folder = Folder { files, queue, expected };
        Case { name, folders: BTreeMap::from([(queue.folder.clone(), folder)]) }
    }

    fn write(&self, root: &Path) {
        for entry in fs::read_dir(root).unwrap().map(Result::unwrap) {
            // What the last case dropped may be on its way out still.
            let start = Instant::now();
            while entry.path().is_dir() {
                let removed = fs::remove_dir_all(entry.path());
                assert!(removed.is_ok() || start.elapsed() < opening::GUARD, "{removed:?}");
            }
        }
        for (folder, Folder { files, .. }) in &self.folders {
            fs::create_dir(root.join(folder)).unwrap();
            for (file, bytes) in files {
                fs::write(root.join(folder).join(file), bytes).unwrap();
            }
        }
    }

    fn is_untouched(&self, root: &Path) -> bool {
        let same = |(folder, wanted): (&String, &Folder<'_>)| {
            read_files(&root.join(folder)) == wanted.files
        };
        self.folders.iter().all(same)
    }

    fn check(&self, root: &Path) -> Result<(), String> {
        self.write(root);
        let verified = self.verify(root)?;
        if is_new(&verified) {
            self.verify_by_program(root, &verified)?;
        }
        ensure(self.is_untouched(root), || "verifying has written".into())?;
        let weighs = |weight: Weight| verified.iter().any(|(label, _)| label.weight() == weight);
        let is_refused = weighs(Weight::Refusal);
        if is_refused || weighs(Weight::Damage) {
            let refusal = open(root, true).err().ok_or("a strict start is not refused")?;
            let StorageError::Refused(finding) = &refusal else {
                return Err(format!("a strict start failed: {refusal}"));
            };
            let said = (finding.label, below(root, &finding.file));
            ensure(verified.contains(&said), || format!("refused for {said:?}: {verified:?}"))?;
            ensure(self.is_untouched(root), || "a refused start has written".into())?;
        }
        if is_refused {
            let refusal = open(root, false).err().ok_or("the start is not refused")?.to_string();
            let is_precise = refusal.contains(": expected ") && refusal.contains(", found ");
            ensure(is_precise, || refusal)?;
            return ensure(self.is_untouched(root), || "a refused start has written".into());
        }
        // Every other case without damage has a strict start, which reads every record.
        let is_strict = !weighs(Weight::Damage) && self.name.len().is_multiple_of(2);
        let first = self.start(root, is_strict, &verified, false)?;
        let second = self.start(root, false, &first, true)?;
        ensure(second.is_subset(&first), || format!("said {first:?}, then {second:?}"))
    }

    /// What verifying says is what is expected.
    fn verify(&self, root: &Path) -> Result<Said, String> {
        let inspection = Inspection::new(root);
        let mut all = Said::new();
        for folder in self.folders.keys() {
            let found = inspection.verify(folder).map_err(|error| error.to_string())?;
            let found: Said =
                found.into_iter().map(|found| (found.label, below(root, &found.file))).collect();
            self.compare(folder, &found)?;
            all.extend(found);
        }
        Ok(all)
    }

    /// What the program says is what is expected, and what is `verified`.
    fn verify_by_program(&self, root: &Path, verified: &Said) -> Result<(), String> {
        let (lines, code) = program::verify(root);
        let said = labels(root, &lines);
        for folder in self.folders.keys() {
            let is_inside = |(_, file): &&(Label, String)| file.split('/').next() == Some(folder);
            self.compare(folder, &said.iter().filter(is_inside).cloned().collect())?;
        }
        ensure(verified.is_subset(&said), || format!("the program: {lines:?}"))?;
        let is_sound = said.iter().all(|(label, _)| label.weight() == Weight::Note);
        let wanted = if is_sound { Some(0) } else { Some(1) };
        ensure(code == wanted, || format!("the program has exit code {code:?}: {lines:?}"))
    }

    /// What is said of a folder is what is expected.
    fn compare(&self, folder: &str, found: &Said) -> Result<(), String> {
        let Expected { said, may, .. } = &self.folders[folder].expected;
        let wanted = |(label, file): &(Label, String)| match file.is_empty() {
            true => (*label, folder.to_string()),
            false => (*label, format!("{folder}/{file}")),
        };
        let wanted: Said = said.iter().map(wanted).collect();
        let more = found.difference(&wanted).all(|(label, _)| may.contains(label));
        ensure(more && wanted.is_subset(found), || {
            format!("verifying says {found:?}, expected {wanted:?}")
        })
    }

    /// A start, which says nothing but what is `known`, and work; answers what it said.
    fn start(
        &self,
        root: &Path,
        is_strict: bool,
        known: &Said,
        is_second: bool,
    ) -> Result<Said, String> {
        let (lost, lines) = captured(|| self.go_through(root, is_strict, is_second));
        let (lost, said) = (lost?, labels(root, &lines));
        ensure(said.is_subset(known), || format!("said {said:?}, known {known:?}"))?;
        let is_silent = said.is_empty() && !is_second;
        ensure(lost == 0 || !is_silent, || format!("{lost} lost in silence"))?;
        Ok(said)
    }

    /// Opens every queue and compares it with what is expected; answers how many messages are lost.
    fn go_through(&self, root: &Path, is_strict: bool, is_second: bool) -> Result<usize, String> {
        let opened = open(root, is_strict);
        let (_directory, mut logs) = opened.map_err(|error| format!("no start: {error}"))?;
        let mut lost = 0;
        for (folder, Folder { queue, expected, .. }) in &self.folders {
            let path = root.join(folder);
            let log = logs.iter_mut().find(|log| log.directory() == path);
            let Some(log) = log else {
                ensure(expected.delivered.is_empty(), || format!("{folder} is gone"))?;
                continue;
            };
            deliver(log, queue, expected, is_second)?;
            let is_lost = |number: &&u64| !expected.delivered.contains(number);
            lost += queue.live.iter().filter(is_lost).count();
            miss(log, queue, expected)?;
            if is_second { pop_all(log)? } else { work_on(log) }
        }
        Ok(lost)
    }
}

/// Whether no case before had these labels.
fn is_new(said: &Said) -> bool {
    static SEEN: Mutex<BTreeSet<Vec<Label>>> = Mutex::new(BTreeSet::new());
    SEEN.lock().unwrap().insert(said.iter().map(|(label, _)| *label).collect())
}

fn ensure(is_so: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(what()) }
}

fn open(root: &Path, is_strict: bool) -> Result<(DataDirectory, Vec<Log>), StorageError> {
    let directory = opening::open(|| DataDirectory::open(root, SEGMENT_SIZE, is_strict))?;
    let logs = directory.open_logs()?;
    Ok((directory, logs))
}

const LATER: &[u8] = b"pushed after the damage";

/// Reads all messages: they are the expected ones, as they were pushed, and counted right.
fn deliver(
    log: &mut Log,
    queue: &Queue,
    expected: &Expected,
    is_second: bool,
) -> Result<(), String> {
    let (mut delivered, mut from) = (Vec::new(), 0);
    let mut later = 0;
    while let Some((place, message)) = log.next(from).map_err(|error| error.to_string())? {
        from = place.sequence + 1;
        if message.body == LATER {
            later += 1;
            continue;
        }
        ensure(later == 0, || "out of order".into())?;
        let is_pushed = queue.pushed.get(&place.sequence).map(Vec::as_slice) == Some(message.body);
        ensure(is_pushed && message.flags == 7, || format!("{} was never pushed", from - 1))?;
        delivered.push(place.sequence);
    }
    ensure(delivered == expected.delivered, || {
        format!("delivered {delivered:?}, expected {:?}", expected.delivered)
    })?;
    ensure(later == u64::from(is_second), || format!("{later} of the later messages"))?;
    let count = delivered.len() as u64 + later;
    ensure(log.len() == count, || format!("counted {}, delivered {count}", log.len()))
}

fn work_on(log: &mut Log) {
    log.push(&NewMessage { body: LATER, flags: 0, expires_ms: 0 }, 1).unwrap();
    let (work, point) = log.begin_sync().unwrap();
    log.end_sync(point, &work());
    log.rest();
}

/// No message that is not delivered is a member.
fn miss(log: &mut Log, queue: &Queue, expected: &Expected) -> Result<(), String> {
    for (number, body) in &queue.pushed {
        if !expected.delivered.contains(number) {
            let found = log.find(body).map_err(|error| error.to_string())?;
            ensure(found.is_none(), || format!("{number} is a member"))?;
        }
    }
    Ok(())
}

/// Every message is found by its content and popped, and then nothing is left.
fn pop_all(log: &mut Log) -> Result<(), String> {
    while let Some((place, message)) = log.next(0).map_err(|error| error.to_string())? {
        let body = message.body.to_vec();
        let found = log.find(&body).map_err(|error| error.to_string())?;
        let found = found.map(|(place, _)| place.sequence);
        ensure(found == Some(place.sequence), || format!("{} is not found", place.sequence))?;
        log.remove(place).map_err(|error| error.to_string())?;
    }
    let bytes = log.live_bytes();
    ensure(log.is_empty() && bytes == 0, || format!("{} and {bytes} bytes left", log.len()))
}

fn below(root: &Path, file: &Path) -> String {
    file.strip_prefix(root).unwrap_or(file).to_string_lossy().into_owned()
}

/// Labels and files of log lines, but for what the start before has dropped: that is unlinked
/// meanwhile, or not yet.
fn labels(root: &Path, lines: &[String]) -> Said {
    let finding = |line: &String| {
        let (file, rest) = line.split_once(": at offset ")?;
        let name = rest.rsplit_once('[')?.1.strip_suffix(']')?;
        let label = Label::all().find(|label| label.name() == name)?;
        Some((label, below(root, Path::new(file))))
    };
    let is_lasting = |(label, _): &(Label, String)| *label != Label::DroppedQueue;
    lines.iter().filter_map(finding).filter(is_lasting).collect()
}

/// Runs a case for each of `damages`: many of them in a process for each processor, since threads
/// of one would have to tell each other whenever one of them unmaps a file.
pub fn run<'a, D>(damages: &'a [D], case: impl Fn(&'a D) -> Case<'a>) {
    match share() {
        Some((number, count)) => run_here(damages.iter().skip(number).step_by(count), case),
        None if damages.len() < MANY => run_here(damages.iter(), case),
        None => run_in_processes(damages.len()),
    }
}

fn run_here<'a, D: 'a>(
    damages: impl ExactSizeIterator<Item = &'a D>,
    case: impl Fn(&'a D) -> Case<'a>,
) {
    let (root, count) = (fast_directory(), damages.len());
    let failure = |damage| {
        let case = case(damage);
        let outcome = catch_unwind(AssertUnwindSafe(|| case.check(root.path())));
        let failure = outcome.unwrap_or_else(|_| Err("a panic".into())).err()?;
        Some(format!("{}: {failure}", case.name))
    };
    let failures: Vec<String> = damages.filter_map(failure).take(SHOWN).collect();
    assert!(failures.is_empty(), "of {count} cases:\n{}", failures.join("\n"));
    println!("{count} cases");
}

/// The share of the cases that this process is for: which one, and of how many; None: all.
fn share() -> Option<(usize, usize)> {
    let share = std::env::var(SHARE).ok()?;
    let (number, count) = share.split_once('/').unwrap();
    Some((number.parse().unwrap(), count.parse().unwrap()))
}

/// Runs the test of this thread in a process for each processor, which does a share of its `cases`.
fn run_in_processes(cases: usize) {
    let count = thread::available_parallelism().map_or(2, usize::from);
    // The harness names a test's thread by the test.
    let thread = thread::current();
    let start = |number: usize| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "--nocapture"]).arg(thread.name().unwrap());
        command
            .env(SHARE, format!("{number}/{count}"))
            .env(random::SEED, random::seed().to_string());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let processes: Vec<Child> = (0..count).map(start).collect();
    let done = |process: Child| {
        let Output { status, stdout, stderr } = process.wait_with_output().unwrap();
        let said = [stdout, stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        assert!(status.success(), "{status}\n{}", said.join("\n"));
        let words = said[0].lines().find_map(|line| line.strip_suffix(" cases"));
        let count = words.and_then(|words| words.rsplit(' ').next()?.parse().ok());
        count.unwrap_or(0)
    };
    let all_done: Vec<usize> = processes.into_iter().map(done).collect();
    assert_eq!(all_done.iter().sum::<usize>(), cases, "{all_done:?} of the cases were done");
    println!("{cases} cases");
}

/// Whether everything is tried, and not a choice of it.
pub fn tries_all() -> bool {
    std::env::var("MQ_DAMAGE").is_ok_and(|what| what == "all")
}
