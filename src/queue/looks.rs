//! Looks that change nothing: at the newest messages first, and at one message by its number.

use super::single::{Queue, has_passed};
use super::{Message, QueueError, Queues};

/// What a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageState {
    /// It is delivered when its turn comes.
    Ready,
    /// A worker has it.
    Leased,
}

impl Queue {
    /// The number of the newest message below number `end` that is not hidden. It may be dead. In
    /// front of a gap of numbers this takes two looks for each bit of its length.
    pub fn newest_below(&mut self, end: u64) -> Result<Option<u64>, QueueError> {
        let least = self.numbers_above();
        // No message has a number from `upper` on, and below `end`.
        let (mut upper, mut step) = (end, 1);
        let mut newest = loop {
            let from = end.saturating_sub(step).max(least);
            if let Some(number) = self.number_from(from)?.filter(|number| *number < upper) {
                break number;
            }
            if from == least {
                return Ok(None);
            }
            (upper, step) = (from, step.saturating_mul(2));
        };
        while upper - newest > 1 {
            let middle = newest + (upper - newest) / 2;
            match self.number_from(middle)?.filter(|number| *number < upper) {
                Some(number) => newest = number,
                None => upper = middle,
            }
        }
        Ok(Some(newest))
    }

    /// The number of the oldest message from number `from` on that is not hidden.
    fn number_from(&mut self, from: u64) -> Result<Option<u64>, QueueError> {
        self.passed += 1;
        Ok(self.next(from)?.map(|(place, _)| place.sequence))
    }

    /// Shows the message of this number, leased or not. Returns `None` if there is none, or if it
    /// is dead and nobody has it.
    pub fn show<R>(
        &mut self,
        number: u64,
        show: impl FnOnce(Message<'_>, MessageState) -> R,
    ) -> Result<Option<R>, QueueError> {
        if self.leases.contains(number) {
            let place = self.hidden.place(number);
            let found = place.map_or(Ok(None), |place| self.store.at(place))?;
            return Ok(found.map(|(_, message)| show(message, MessageState::Leased)));
        }
        let now_ms = self.now_ms();
        let found = if number < self.end() { self.next(number)? } else { None };
        let found = found.filter(|(place, message)| {
            place.sequence == number && !has_passed(message.expires_ms, now_ms)
        });
        Ok(found.map(|(_, message)| show(message, MessageState::Ready)))
    }
}

impl Queues {
    /// The name of the queue of this [identity](Queue::identity).
    pub fn name_of(&self, identity: u64) -> Option<Box<[u8]>> {
        self.slot_of(identity).map(|slot| slot.name.clone())
    }

    /// Clients that wait for a message of queue `name`.
    pub fn waiting_for(&self, name: &[u8]) -> usize {
        self.waiters.line_len(name)
    }

    /// How many messages wait in queue `name`; 0 where it cannot be seen. This counts as no use.
    pub fn length(&self, name: &[u8]) -> u64 {
        let Some(slot) = self.slot(name) else { return 0 };
        let Ok(mut state) = slot.lock() else { return 0 };
        let is_there = !state.doomed;
        let Some(queue) = state.queue.as_mut().filter(|_| is_there) else { return 0 };
        queue.set_time(self.clock().now_ms());
        queue.len()
    }
}
