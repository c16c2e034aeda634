//! How often each command was called and what time that took, and how many errors were answered:
//! `INFO commandstats` and `INFO stats`.
//!
//! The clock is read when a turn begins, when it ends, and in between where the next command is
//! another one: a row of equal commands costs nothing, and what is shown is a mean in any case.

use super::command::Command;
use crate::session::Shared;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The calls of one command.
#[derive(Debug, Default)]
struct Count {
    calls: AtomicU64,
    /// Calls that were answered with an error.
    failed: AtomicU64,
    /// Requests that were refused before they were a call.
    rejected: AtomicU64,
    /// Nanoseconds that the calls took.
    taken_ns: AtomicU64,
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
    pub taken_ns: u64,
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
            taken_ns: count.taken_ns.load(Ordering::Relaxed),
        };
        commands.zip(&self.counts).map(counted).filter(|it| it.calls + it.rejected > 0)
    }

    /// Counts from here on.
    pub(in crate::session) fn reset(&self) {
        for Count { calls, failed, rejected, taken_ns } in &self.counts {
            let counters = [calls, failed, rejected, taken_ns];
            counters.into_iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
        }
        self.errors.store(0, Ordering::Relaxed);
    }

    /// Notes a request for `command` that was refused before it was a call.
    pub(super) fn reject(&self, command: &Command) {
        if let Some(count) = self.counts.get(command.index) {
            count.rejected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Errors that were answered.
    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

/// What one session has not added to the shared counts yet: errors, and the calls of a command in a
/// row. Each turn begins with [`begin`](Tally::begin) and ends with [`flush`](Tally::flush).
#[derive(Default)]
pub(super) struct Tally {
    /// The command that the time goes to.
    command: Option<&'static Command>,
    calls: u64,
    failed: u64,
    errors: u64,
    /// Since when, as an uptime.
    since: Duration,
}

impl Tally {
    /// A turn begins at `uptime`. What is read before its first command goes to that one.
    pub fn begin(&mut self, uptime: Duration) {
        (self.command, self.since) = (None, uptime);
    }

    /// The time goes to `command` from now on.
    pub fn turn_to(&mut self, command: &'static Command, shared: &Shared) {
        match self.command {
            Some(last) if std::ptr::eq(last, command) => return,
            Some(_) => self.flush(shared, shared.store.clock().uptime()),
            None => {}
        }
        self.command = Some(command);
    }

    /// Notes that `command` was called.
    pub fn note(&mut self, command: &'static Command, has_failed: bool, shared: &Shared) {
        self.turn_to(command, shared);
        self.calls += 1;
        self.failed += u64::from(has_failed);
    }

    /// Notes a reply that is an error.
    pub fn note_error(&mut self) {
        self.errors += 1;
    }

    /// Adds what was noted to the shared counts, at `uptime`.
    pub fn flush(&mut self, shared: &Shared, uptime: Duration) {
        let counts = &shared.statistics.redis;
        add(&counts.errors, &mut self.errors);
        if let Some(count) = self.command.and_then(|command| counts.counts.get(command.index)) {
            let taken = uptime.saturating_sub(self.since).as_nanos();
            add(&count.calls, &mut self.calls);
            add(&count.failed, &mut self.failed);
            add(&count.taken_ns, &mut u64::try_from(taken).unwrap_or(u64::MAX));
            self.since = uptime;
        }
    }
}

/// Moves what was noted to a shared count.
fn add(counter: &AtomicU64, noted: &mut u64) {
    if *noted > 0 {
        counter.fetch_add(std::mem::take(noted), Ordering::Relaxed);
    }
}
