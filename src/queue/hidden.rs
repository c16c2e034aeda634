//! Messages that are in a queue's store and that no client sees.
//!
//! A message that moves to another queue stays in its store until it is durable in the other one,
//! and one that is leased until it is acknowledged. Until then it is hidden: it is not delivered,
//! not found and not counted.

use super::Place;
use crate::storage::Runs;
use std::collections::BTreeMap;
use std::ops::Range;

/// The hidden messages of one queue.
///
/// 1. No message that clients see has one of the numbers in `runs`, and all numbers of hidden
///    messages are among them.
/// 2. Each run has a hidden message: there are not more of them.
/// 3. What a look has passed becomes one run, so that the next one passes it at once.
#[derive(Default)]
pub(super) struct Hidden {
    /// By number.
    messages: BTreeMap<u64, HiddenMessage>,
    runs: Runs,
    /// The sum of these lengths.
    bytes: u64,
}

struct HiddenMessage {
    /// Where it lay when it was hidden.
    place: Place,
    /// Bytes of its body.
    length: u64,
    expires_ms: u64,
}

impl Hidden {
    /// Nearly always true: what follows from it is kept off the path of a pop.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Hidden messages.
    pub(super) fn len(&self) -> u64 {
        self.messages.len() as u64
    }

    /// Bytes of their bodies.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        !self.is_empty() && self.messages.contains_key(&number)
    }

    /// Whether there is a hidden message with the number `number` or a higher one.
    pub(super) fn reaches(&self, number: u64) -> bool {
        self.messages.last_key_value().is_some_and(|(last, _)| *last >= number)
    }

    /// The number behind the run that `number` is in, or `number` if it is in none.
    pub(super) fn skip(&self, number: u64) -> u64 {
        self.runs.skip(number)
    }

    /// Notes that clients see no message with a number in `run`. A hidden one is among them.
    pub(super) fn join(&mut self, run: Range<u64>) {
        self.runs.insert(run);
    }

    /// Whether there is a hidden message in `run`.
    fn has_any(&self, run: &Range<u64>) -> bool {
        !run.is_empty() && self.messages.range(run.clone()).next().is_some()
    }

    /// Keeps a run if there is a hidden message in it.
    fn keep_run(&mut self, run: Range<u64>) {
        if self.has_any(&run) {
            self.runs.insert(run);
        }
    }

    /// Hides the message at `place`, whose body has `length` bytes.
    pub(super) fn insert(&mut self, place: Place, length: usize, expires_ms: u64) {
        let (number, length) = (place.sequence, length as u64);
        let hidden = HiddenMessage { place, length, expires_ms };
        if self.messages.insert(number, hidden).is_none() {
            self.bytes += length;
            self.join(number..number + 1);
        }
    }

    /// Forgets a message that has gone.
    pub(super) fn remove(&mut self, number: u64) {
        if self.forget(number).is_some()
            && let Some(run) = self.runs.run(number)
            && !self.has_any(&run)
        {
            self.runs.remove_run(number);
        }
    }

    /// Forgets a message that clients see from now on; answers where it lay when it was hidden, and
    /// its time of expiry.
    pub(super) fn show(&mut self, number: u64) -> Option<(Place, u64)> {
        let HiddenMessage { place, expires_ms, .. } = self.forget(number)?;
        if let Some(Range { start, end }) = self.runs.remove_run(number) {
            self.keep_run(start..number);
            self.keep_run(number + 1..end);
        }
        Some((place, expires_ms))
    }

    fn forget(&mut self, number: u64) -> Option<HiddenMessage> {
        let hidden = self.messages.remove(&number)?;
        self.bytes -= hidden.length;
        Some(hidden)
    }

    /// Where a message lay when it was hidden.
    pub(super) fn place(&self, number: u64) -> Option<Place> {
        self.messages.get(&number).map(|message| message.place)
    }
}

#[cfg(test)]
mod tests;
