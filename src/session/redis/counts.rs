//! How often each command was called, and how many errors were answered: `INFO commandstats` and
//! `INFO stats`.

use super::command::Command;
use super::request::Outcome;
use std::sync::atomic::{AtomicU64, Ordering};

/// The calls of one command.
#[derive(Debug, Default)]
struct Count {
    calls: AtomicU64,
    /// Calls that were answered with an error.
    failed: AtomicU64,
    /// Requests that were refused before they were a call.
    rejected: AtomicU64,
}

/// The calls of each command since the start or the last reset, shared by all sessions.
#[derive(Debug)]
pub struct CommandCounts {
    /// In the order of the table.
    counts: Box<[Count]>,
    /// Replies that are errors, also where no command is known.
    errors: AtomicU64,
}

/// The counts of one command, as they are shown.
pub(super) struct Counted {
    pub name: &'static str,
    pub calls: u64,
    pub failed: u64,
    pub rejected: u64,
}

impl CommandCounts {
    /// Counts of as many commands as there are.
    pub(super) fn new(commands: usize) -> CommandCounts {
        let counts = (0..commands).map(|_| Count::default()).collect();
        CommandCounts { counts, errors: AtomicU64::default() }
    }

    /// The counts of each of `commands`, which are all in the order of the table, that was asked
    /// for.
    pub(super) fn list(
        &self,
        commands: impl Iterator<Item = &'static Command>,
    ) -> impl Iterator<Item = Counted> {
        let counted = |(command, count): (&Command, &Count)| Counted {
            name: command.name,
            calls: count.calls.load(Ordering::Relaxed),
            failed: count.failed.load(Ordering::Relaxed),
            rejected: count.rejected.load(Ordering::Relaxed),
        };
        commands.zip(&self.counts).map(counted).filter(|it| it.calls + it.rejected > 0)
    }

    /// Counts from here on.
    pub(in crate::session) fn reset(&self) {
        let counters = self.counts.iter().flat_map(|it| [&it.calls, &it.failed, &it.rejected]);
        counters.chain([&self.errors]).for_each(|counter| counter.store(0, Ordering::Relaxed));
    }

    /// Errors that were answered.
    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

/// What became of a request that names a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Called {
    /// It was called, and not refused.
    Done,
    /// It was called, and answered an error.
    Failed,
    /// It was refused before it was called: a number of words that it does not take.
    Rejected,
}

impl Called {
    /// What became of a command that was called.
    pub fn of(outcome: &Outcome) -> Called {
        if outcome.is_err() { Called::Failed } else { Called::Done }
    }
}

/// Requests for one command in a row, and errors, which one session has not added to the shared
/// counts yet.
#[derive(Default)]
pub(super) struct Tally {
    command: Option<&'static Command>,
    calls: u64,
    failed: u64,
    rejected: u64,
    errors: u64,
}

impl Tally {
    /// Notes what became of a request for `command`.
    pub fn note(&mut self, command: &'static Command, called: Called, counts: &CommandCounts) {
        if !self.command.is_some_and(|last| std::ptr::eq(last, command)) {
            self.flush(counts);
            self.command = Some(command);
        }
        self.calls += u64::from(called != Called::Rejected);
        self.failed += u64::from(called == Called::Failed);
        self.rejected += u64::from(called == Called::Rejected);
    }

    /// Notes a reply that is an error.
    pub fn note_error(&mut self) {
        self.errors += 1;
    }

    /// Adds what was noted to the shared counts.
    pub fn flush(&mut self, counts: &CommandCounts) {
        add(&counts.errors, &mut self.errors);
        let Some(command) = self.command.take() else { return };
        if let Some(count) = counts.counts.get(command.index) {
            add(&count.calls, &mut self.calls);
            add(&count.failed, &mut self.failed);
            add(&count.rejected, &mut self.rejected);
        }
    }
}

/// Moves what was noted to a shared count.
fn add(counter: &AtomicU64, noted: &mut u64) {
    if *noted > 0 {
        counter.fetch_add(std::mem::take(noted), Ordering::Relaxed);
    }
}
