//! How often each command was called: `INFO commandstats`.

use super::table::{Command, TABLE};
use std::sync::atomic::{AtomicU64, Ordering};

/// The calls of one command.
#[derive(Debug, Default)]
struct Count {
    calls: AtomicU64,
    /// Calls that were answered with an error.
    failed: AtomicU64,
}

/// The calls of each command since the start, shared by all sessions.
#[derive(Debug)]
pub struct CommandCounts {
    /// In the order of the table.
    counts: Box<[Count]>,
}

impl Default for CommandCounts {
    fn default() -> CommandCounts {
        CommandCounts { counts: TABLE.iter().map(|_| Count::default()).collect() }
    }
}

impl CommandCounts {
    /// Name, calls and failed calls of each command that was called.
    pub(super) fn list(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        let numbers = self.counts.iter().map(|count| {
            (count.calls.load(Ordering::Relaxed), count.failed.load(Ordering::Relaxed))
        });
        let named = TABLE.iter().zip(numbers);
        named
            .filter(|(_, (calls, _))| *calls > 0)
            .map(|(command, (calls, failed))| (command.name, calls, failed))
    }
}

/// Calls of one command in a row, which one session has not added to the shared counts yet.
#[derive(Default)]
pub(super) struct Tally {
    command: Option<&'static Command>,
    calls: u64,
    failed: u64,
}

impl Tally {
    /// Notes a call.
    pub fn note(&mut self, command: &'static Command, has_failed: bool, counts: &CommandCounts) {
        if !self.command.is_some_and(|last| std::ptr::eq(last, command)) {
            self.flush(counts);
            self.command = Some(command);
        }
        self.calls += 1;
        self.failed += u64::from(has_failed);
    }

    /// Adds what was noted to the shared counts.
    pub fn flush(&mut self, counts: &CommandCounts) {
        let Some(command) = self.command.take() else { return };
        let (calls, failed) = (std::mem::take(&mut self.calls), std::mem::take(&mut self.failed));
        let index = TABLE.binary_search_by_key(&command.name, |known| known.name);
        if let Some(count) = index.ok().and_then(|index| counts.counts.get(index)) {
            count.calls.fetch_add(calls, Ordering::Relaxed);
            if failed > 0 {
                count.failed.fetch_add(failed, Ordering::Relaxed);
            }
        }
    }
}
