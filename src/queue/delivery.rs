//! Messages that stay in the store while nobody sees them: on their way to another queue, or leased
//! to a worker until it acknowledges them.
//!
//! 1. A leased message is hidden in its store, at its place. It counts for the limits of the queue
//!    and keeps it from being empty, and no other client sees it.
//! 2. An acknowledgement removes it, also if another worker holds it by then: work that was done
//!    is not repeated.
//! 3. A message comes back to its place when its lease is over, when it is given back, and with a
//!    restart. Nothing of a lease is written. A delivery that has failed is counted, and that is.
//! 4. A lease that is over is ended by the next command on the queue, before anything else, and by
//!    housekeeping; where very many are over at once, by the next ones too.
//! 5. An id may be older than the start of the daemon, and than a power cut. What it names then may
//!    have been lost, and its number be that of another message: such an id means only messages
//!    that were there at the start.

use super::leases::Lease;
use super::single::{Queue, Taken};
use super::slot::Slot;
use super::{Cause, Failures, Message, Place, QueueError, Queues, Ticket};
use crate::memory::NoMemory;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Leases that one command ends on its way. The next one ends more.
const ENDED_AT_ONCE: usize = 1000;

/// Bytes of their messages, likewise: an index reads them.
const ENDED_BYTES: u64 = 1 << 20;

impl Queue {
    /// Hides one such message and shows it to `look`: it is in the store still, and nobody sees it.
    /// Answers its number too. An error if it could not be removed later.
    pub fn hide<R>(
        &mut self,
        body: &[u8],
        look: impl FnOnce(Message<'_>) -> R,
    ) -> Result<Option<(u64, R)>, QueueError> {
        let Some((place, message)) = self.look_up(body)? else { return Ok(None) };
        let (expires_ms, shown) = (message.expires_ms, look(message));
        self.store.promise_removal(place)?;
        self.note_hidden(&Taken { place, length: body.len(), expires_ms });
        Ok(Some((place.sequence, shown)))
    }

    fn note_hidden(&mut self, taken: &Taken) {
        let Taken { place, length, expires_ms } = *taken;
        self.expiring.remove(place.sequence, expires_ms);
        self.hidden.insert(place, length, expires_ms);
        (self.changed, self.differs) = (true, true);
    }

    /// Shows a hidden message again, at its place in the order; false: there is none.
    pub fn unhide(&mut self, number: u64) -> bool {
        let place = self.note_shown(number);
        place.is_some_and(|place| {
            self.store.withdraw_promise(place);
            true
        })
    }

    /// Returns where the message lay when it was hidden.
    fn note_shown(&mut self, number: u64) -> Option<Place> {
        let (place, expires_ms) = self.hidden.show(number)?;
        self.expiring.insert(place, expires_ms);
        (self.changed, self.differs) = (true, true);
        Some(place)
    }

    /// Removes a hidden message from the store; false: there is none. Nobody sees a difference, so
    /// this is no change of the queue. After an error the message is hidden still.
    pub fn remove_hidden(&mut self, number: u64) -> Result<bool, QueueError> {
        let Some(place) = self.hidden.place(number) else { return Ok(false) };
        self.remove_hidden_at(self.store.current(place)).map(|()| true)
    }

    /// The same for the one that lies at `place` now.
    fn remove_hidden_at(&mut self, place: Place) -> Result<(), QueueError> {
        self.store.remove(place)?;
        self.hidden.remove(place.sequence);
        self.totals.went += 1;
        Ok(())
    }

    /// Shows the oldest message to `take`, then leases it. When this answers an error after `take`
    /// ran, the message has stayed. [`Busy`](QueueError::Busy) is as with
    /// [`try_pop`](Queue::try_pop).
    pub fn lease<R>(
        &mut self,
        lease: Lease,
        take: impl FnOnce(Message<'_>) -> Result<R, NoMemory>,
    ) -> Result<Option<R>, QueueError> {
        self.take_oldest(take, |queue, taken: &Taken| {
            queue.store.withhold(taken.place)?;
            queue.note_hidden(taken);
            queue.leases.insert(taken.place.sequence, lease);
            Ok(())
        })
    }

    /// Shows the oldest message to `show`; dead ones before it go.
    pub fn peek<R>(
        &mut self,
        show: impl FnOnce(Message<'_>) -> Result<R, NoMemory>,
    ) -> Result<Option<R>, QueueError> {
        self.take_oldest(show, |_, _| Ok(()))
    }

    /// Removes the messages of these numbers, leased or not, in one step; answers how many were
    /// there.
    pub fn acknowledge_all(
        &mut self,
        mut numbers: impl ExactSizeIterator<Item = u64>,
    ) -> Result<u64, QueueError> {
        self.begin_removing(numbers.len() as u64)?;
        let acknowledged = numbers.try_fold(0, |count, number| {
            self.acknowledge(number).map(|is_gone| count + u64::from(is_gone))
        });
        self.end_step()?;
        acknowledged
    }

    /// Removes the message of this number, leased or not; false: it has gone already, or is on its
    /// way to another queue.
    pub fn acknowledge(&mut self, number: u64) -> Result<bool, QueueError> {
        if self.leases.contains(number) {
            let Some(place) = self.place_of_hidden(number)? else {
                // Damage has taken it meanwhile, and counted it.
                self.give_back(number, None);
                return Ok(false);
            };
            self.remove_hidden_at(place)?;
            self.leases.remove(number);
            // It is another queue for clients only if it has gone.
            (self.changed, self.differs) = (true, self.differs || self.is_empty());
            return Ok(true);
        }
        if number >= self.end() {
            return Ok(false);
        }
        let found = self.next(number)?.map(|(place, message)| (place, message.expires_ms));
        match found.filter(|(place, _)| place.sequence == number) {
            Some((place, expires_ms)) if !self.is_dead(expires_ms) => {
                self.take_out(place, expires_ms)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Where a hidden message lies now, or `None` if the store has it no more.
    fn place_of_hidden(&mut self, number: u64) -> Result<Option<Place>, QueueError> {
        let Some(place) = self.hidden.place(number) else { return Ok(None) };
        Ok(self.store.at(place)?.map(|(place, _)| place))
    }

    /// Ends a lease: its message is back at its place; false: the delivery does not hold it. `None`
    /// is whichever delivery does.
    pub fn give_back(&mut self, number: u64, attempt: Option<u64>) -> bool {
        let is_meant = attempt.is_none_or(|attempt| self.leases.is_current(number, attempt));
        if !is_meant || !self.leases.remove(number) {
            return false;
        }
        let place = self.note_shown(number);
        place.is_some_and(|place| {
            self.store.put_back(place);
            true
        })
    }

    /// The same for a delivery that has failed: that is counted. It is not where the message has
    /// died meanwhile.
    pub fn fail(
        &mut self,
        number: u64,
        attempt: Option<u64>,
        cause: Cause,
        reason: &[u8],
    ) -> Result<bool, QueueError> {
        if !self.give_back(number, attempt) {
            return Ok(false);
        }
        let found = self.next(number)?.map(|(place, message)| (place, message.expires_ms));
        if let Some((place, expires_ms)) = found
            && place.sequence == number
            && !self.is_dead(expires_ms)
        {
            let mut failures = self.store.failures(place)?;
            failures.add(cause, self.now_ms(), reason)?;
            self.store.note_failures(place, &failures)?;
        }
        Ok(true)
    }

    /// What has failed so far about the message of this number, leased or not.
    pub fn failures(&mut self, number: u64) -> Result<Failures, QueueError> {
        let place = match self.hidden.place(number) {
            Some(place) => Some(place),
            None => self.next(number)?.map(|(place, _)| place),
        };
        match place.filter(|place| place.sequence == number) {
            Some(place) => self.store.failures(place),
            None => Ok(Failures::default()),
        }
    }

    /// Whether an id of an earlier start may mean the message of this number. What has been pushed
    /// since may have the number of another message, which a power cut took.
    fn is_from_before(&self, number: u64) -> bool {
        number < self.first_number
    }

    /// Lets a lease last until `until`; false: the delivery does not hold the message any more.
    pub fn extend(&mut self, number: u64, lease: Lease) -> bool {
        let is_current = self.leases.is_current(number, lease.attempt);
        if is_current {
            self.leases.remove(number);
            self.leases.insert(number, lease);
        }
        is_current
    }

    /// Whether there are leases that are over and have not been ended.
    pub(super) fn has_overdue(&self) -> bool {
        self.leases.first_over().is_some()
    }

    /// Messages that are leased.
    pub fn leased(&self) -> u64 {
        self.leases.len()
    }

    /// It is `now`, by the clock of the leases: ends a slice of those that are over, and the next
    /// command goes on. A step sees what was there at its beginning.
    pub(super) fn end_leases(&mut self, now: Duration) {
        if self.is_in_step() {
            return;
        }
        self.leases.set_time(now);
        let bytes = self.hidden.bytes();
        for _ in 0..ENDED_AT_ONCE {
            let Some(number) = self.leases.first_over() else { break };
            match self.leases.cause(number) {
                Some(cause) => {
                    if let Err(error) = self.fail(number, None, cause, b"") {
                        log::warn!("a failure of message {number} is not counted: {error}");
                    }
                }
                None => drop(self.give_back(number, None)),
            }
            if bytes - self.hidden.bytes() > ENDED_BYTES {
                break;
            }
        }
    }
}

impl Queues {
    /// Attempts from this one on, in place of a random one: a test knows all ids then.
    pub fn with_attempts(mut self, first: u64) -> Queues {
        (self.attempts, self.first_attempt) = (first.into(), first);
        self
    }

    /// The slot that the queue of this identity was in a moment ago.
    pub(super) fn slot_of(&self, identity: u64) -> Option<Arc<Slot>> {
        let slots = self.slots();
        slots.by_id.get(&slots.census.identities.slot(identity)?).cloned()
    }

    /// Whether this attempt is one of a delivery since the start.
    fn is_of_this_start(&self, attempt: u64) -> bool {
        let count = self.attempts.load(Ordering::Relaxed).wrapping_sub(self.first_attempt);
        attempt.wrapping_sub(self.first_attempt) < count
    }

    /// Whether an id with this number and attempt means the message of this number.
    pub fn is_meant(&self, queue: &Queue, number: u64, attempt: u64) -> bool {
        self.is_of_this_start(attempt) || queue.is_from_before(number)
    }

    /// An attempt that no delivery has had.
    pub fn next_attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed)
    }

    /// As [`find`](Queues::find), but the queue is the one of this [identity](Queue::identity).
    pub fn find_identity<R>(
        &self,
        identity: u64,
        ticket: &mut Ticket,
        work: impl FnOnce(&mut Queue) -> Result<R, QueueError>,
    ) -> Result<Option<R>, QueueError> {
        let Some(slot) = self.slot_of(identity) else {
            self.ledger.await_directory(ticket);
            return Ok(None);
        };
        let mut state = self.enter(&slot)?;
        if state.queue.as_ref().is_none_or(|queue| queue.identity() != identity) {
            self.ledger.await_queue(ticket, state.awaited);
            return Ok(None);
        }
        self.find_in(&slot, &mut state, self.clock.now_ms(), ticket, work)
    }
}
