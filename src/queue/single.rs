//! One queue, under its lock: limits, uniqueness, expiry. Where the messages are is the store's
//! affair.
//!
//! A message whose time of expiry has passed is dead: no client sees it, and it is counted nowhere,
//! also while it is still in the store. What the store says of times at the start may be wrong
//! where files are damaged: the time in the message decides whether it is delivered or goes.

use super::expiring::Expiring;
use super::figures::Totals;
use super::hidden::Hidden;
use super::leases::Leases;
use super::{Message, MessageStore, NewMessage, Place, QueueError};
use crate::memory::NoMemory;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names a queue from its creation until it is dropped; never given again.
pub(super) type QueueId = u64;

/// Stands for no queue, and in a ticket for the data directory: which queues there are.
pub(super) const NO_QUEUE: QueueId = 0;

/// Dead messages that leave with each push: more than one, so that they leave as fast as they come.
const DEAD_AT_PUSH: usize = 2;

/// Dead messages that leave in one slice of housekeeping, and that one step of a command removes or
/// passes on its way.
pub(super) const DEAD_AT_ONCE: usize = 1000;

/// One queue.
pub struct Queue {
    id: QueueId,
    pub(super) store: Box<dyn MessageStore>,
    pub(super) hidden: Hidden,
    pub(super) leases: Leases,
    /// The number of the first message that was not there when the queue was opened.
    pub(super) first_number: u64,
    pub(super) expiring: Expiring,
    /// The limit of all queues (`--max-queue-len`).
    pub(super) max_len: Arc<AtomicU64>,
    /// The totals before the step that has begun: what is done is part of it.
    pub(super) step: Option<Totals>,
    /// While a transaction is under way: how many of the dead messages that it meets it may still
    /// remove.
    pub(super) transaction: Option<u64>,
    /// The time of what is being done, Unix time in milliseconds: one for all of a command, or of
    /// those in a row.
    now_ms: u64,
    /// When it was made, or 0 if that was before the start.
    pub(super) made_ms: u64,
    /// The time of the last command on it, or when it was made.
    pub(super) used_ms: u64,
    /// Dead messages that looks have passed, or that have been removed.
    pub(super) passed: u64,
    /// Whether messages came to the store or went from it since the last look.
    pub(super) changed: bool,
    /// Whether clients see another queue than at the last look: the dead had gone for them already.
    pub(super) differs: bool,
    pub(super) totals: Totals,
}

/// What is known of a message that is about to go or to be hidden.
pub(super) struct Taken {
    pub(super) place: Place,
    /// Bytes of its body.
    pub(super) length: usize,
    pub(super) expires_ms: u64,
}

pub(super) fn has_passed(expires_ms: u64, now_ms: u64) -> bool {
    expires_ms != 0 && expires_ms <= now_ms
}

impl Queue {
    pub(super) fn new(
        id: QueueId,
        mut store: Box<dyn MessageStore>,
        max_len: Arc<AtomicU64>,
    ) -> Queue {
        Queue {
            id,
            expiring: Expiring::of(store.take_expiring()),
            first_number: store.end(),
            store,
            hidden: Hidden::default(),
            leases: Leases::default(),
            max_len,
            step: None,
            transaction: None,
            now_ms: 0,
            made_ms: 0,
            used_ms: 0,
            passed: 0,
            changed: false,
            differs: false,
            totals: Totals::default(),
        }
    }

    pub(super) fn id(&self) -> QueueId {
        self.id
    }

    pub(super) fn store(&mut self) -> &mut dyn MessageStore {
        &mut *self.store
    }

    /// A command or a slice of one begins, and it is `now_ms`, Unix time in milliseconds, for all
    /// that follows. A step runs at one time: room was made for those that are dead at its
    /// beginning.
    pub(super) fn set_time(&mut self, now_ms: u64) {
        let _by_others = self.take_passed();
        if self.is_in_step() {
            return;
        }
        let dead = self.expiring.dead();
        self.now_ms = now_ms;
        self.expiring.set_time(now_ms);
        self.differs |= self.expiring.dead() != dead;
    }

    /// The time of what is being done, Unix time in milliseconds.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// What no other queue has had or will have, here or anywhere.
    pub fn identity(&self) -> u64 {
        self.store.identity()
    }

    /// Messages that wait in the queue.
    pub fn len(&self) -> u64 {
        // A store that lost messages to damage may have fewer than were hidden or are dead.
        self.store.len().saturating_sub(self.hidden.len() + self.expiring.dead())
    }

    /// Those, and the leased ones: what counts for limits.
    pub fn held(&self) -> u64 {
        self.len() + self.leases.len()
    }

    /// True without messages, leased ones included.
    pub fn is_empty(&self) -> bool {
        self.held() == 0
    }

    /// True when the store has no message either, after a slice of the dead has gone: nothing would
    /// be lost with it.
    pub(super) fn is_vacant(&mut self) -> bool {
        if self.is_empty() {
            // What fails here fails again in housekeeping, which says so.
            let _is_left = self.bury_some();
        }
        self.store.is_empty()
    }

    /// Bytes of the bodies of all messages, dead ones that are still there among them.
    pub fn bytes(&self) -> u64 {
        self.store.bytes().saturating_sub(self.hidden.bytes())
    }

    /// What has passed through the queue.
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// The number that the next message gets: all in the queue have lower ones.
    pub fn end(&self) -> u64 {
        self.store.end()
    }

    /// Appends a message.
    pub fn push(&mut self, message: &NewMessage<'_>) -> Result<(), QueueError> {
        self.check_places(1)?;
        let place = match self.store.push(message, self.now_ms) {
            // The dead are in the way of nobody.
            Err(QueueError::OutOfMemory { .. }) if self.expiring.dead() > 0 => {
                self.bury(DEAD_AT_ONCE)?;
                self.store.push(message, self.now_ms)?
            }
            Err(error @ QueueError::NoMemory(_)) => {
                self.take_back()?;
                return Err(error);
            }
            pushed => pushed?,
        };
        (self.changed, self.differs) = (true, true);
        self.totals.came += 1;
        self.expiring.insert(place, message.expires_ms);
        if !self.is_in_step() {
            // The message is there. What fails here fails again in housekeeping, which says so.
            let _is_left = self.bury(DEAD_AT_PUSH);
        }
        Ok(())
    }

    /// Refuses `count` more messages if the queue has no places for them.
    pub(super) fn check_places(&self, count: u64) -> Result<(), QueueError> {
        let limit = self.max_len.load(Ordering::Relaxed);
        let is_full = self.held().saturating_add(count) > limit;
        if is_full { Err(QueueError::QueueFull { limit }) } else { Ok(()) }
    }

    /// Removes a slice of the dead messages. Returns whether there are more.
    pub(super) fn bury_some(&mut self) -> Result<bool, QueueError> {
        self.bury(DEAD_AT_ONCE)
    }

    /// When the queue is empty because all of its messages have died; `None` if one never does.
    pub(super) fn dies_at(&self) -> Option<u64> {
        self.expiring.all_dead_at(self.store.len())
    }

    /// Removes a slice of the dead before a step begins, which has no room for that;
    /// [`Busy`](QueueError::Busy): there still are some.
    pub(super) fn bury_before_step(&mut self) -> Result<(), QueueError> {
        // If they cannot leave, they stay.
        if self.bury_some().unwrap_or(false) { Err(QueueError::Busy) } else { Ok(()) }
    }

    /// Whether what expires then is dead now.
    pub(super) fn is_dead(&self, expires_ms: u64) -> bool {
        has_passed(expires_ms, self.now_ms)
    }

    /// Whether there are dead messages.
    pub(super) fn has_dead(&self) -> bool {
        self.expiring.dead() > 0
    }

    /// Removes up to `most` dead messages, wherever they stand. Returns whether there are more.
    fn bury(&mut self, most: usize) -> Result<bool, QueueError> {
        for _ in 0..most {
            let Some((place, noted_ms)) = self.expiring.first_dead() else { return Ok(false) };
            let found = self.store.at(place)?;
            let found = found.map(|(place, message)| (place, message.expires_ms));
            match found {
                // A wrong time was noted, and a worker has it.
                Some((place, _)) if self.hidden.contains(place.sequence) => {}
                Some((place, expires_ms)) if has_passed(expires_ms, self.now_ms) => {
                    self.store.remove(place)?;
                    (self.changed, self.passed) = (true, self.passed + 1);
                    self.totals.expired += 1;
                }
                // A wrong time was noted: it lives.
                Some((place, expires_ms)) => {
                    self.expiring.insert(place, expires_ms);
                    self.differs = true;
                }
                None => {}
            }
            self.expiring.remove(place.sequence, noted_ms);
        }
        Ok(self.expiring.dead() > 0)
    }

    /// When the next message dies.
    pub(super) fn next_death(&self) -> Option<u64> {
        self.expiring.next_death()
    }

    /// The oldest message whose number is `from` or more and that is not hidden.
    pub(super) fn next(&mut self, from: u64) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        if self.hidden.is_empty() {
            return self.store.next(from);
        }
        let known = self.hidden.skip(from);
        let mut visible = known;
        // Behind the last hidden message the store is asked only once.
        while self.hidden.reaches(visible)
            && let Some((place, _)) = self.store.next(visible)?
            && self.hidden.contains(place.sequence)
        {
            visible = self.hidden.skip(place.sequence);
        }
        if visible > known {
            self.hidden.join(from..visible);
        }
        self.store.next(visible)
    }

    pub(super) fn take_out(&mut self, place: Place, expires_ms: u64) -> Result<(), QueueError> {
        self.store.remove(place)?;
        self.expiring.remove(place.sequence, expires_ms);
        self.changed = true;
        let is_dead = has_passed(expires_ms, self.now_ms);
        self.differs |= !is_dead;
        self.passed += u64::from(is_dead);
        let total = if is_dead { &mut self.totals.expired } else { &mut self.totals.went };
        *total += 1;
        Ok(())
    }

    /// Appends a message unless one with the same bytes is in the queue. Returns false if one
    /// is.
    pub fn push_unique(&mut self, message: &NewMessage<'_>) -> Result<bool, QueueError> {
        // "It is in the queue" is a promise too, and may be one about a message that never reached
        // the disk.
        self.store.check_writable()?;
        if self.contains(message.body)? {
            return Ok(false);
        }
        self.push(message)?;
        Ok(true)
    }

    /// As [`try_pop`](Queue::try_pop), with a `take` that needs no memory.
    pub fn pop<R>(&mut self, take: impl FnOnce(Message<'_>) -> R) -> Result<Option<R>, QueueError> {
        self.try_pop(|message| Ok(take(message)))
    }

    /// Shows the oldest message to `take`, then removes it. When this answers an error after `take`
    /// ran, the message has stayed, and what `take` made of it is to be thrown away. Where more of
    /// the dead stand before it than one step removes, the answer is [`Busy`](QueueError::Busy).
    pub fn try_pop<R>(
        &mut self,
        take: impl FnOnce(Message<'_>) -> Result<R, NoMemory>,
    ) -> Result<Option<R>, QueueError> {
        self.take_oldest(take, |queue, taken| queue.take_out(taken.place, taken.expires_ms))
    }

    /// As [`try_pop`](Queue::try_pop), but `settle` says what becomes of the message.
    pub(super) fn take_oldest<R>(
        &mut self,
        take: impl FnOnce(Message<'_>) -> Result<R, NoMemory>,
        settle: impl FnOnce(&mut Queue, &Taken) -> Result<(), QueueError>,
    ) -> Result<Option<R>, QueueError> {
        let (now_ms, mut removed) = (self.now_ms, 0);
        while let Some((place, message)) = self.next(0)? {
            let Message { expires_ms, body, .. } = message;
            if has_passed(expires_ms, now_ms) {
                if removed == DEAD_AT_ONCE || self.transaction == Some(0) {
                    // It may not have been known.
                    self.expiring.insert(place, expires_ms);
                    return Err(QueueError::Busy);
                }
                self.take_out(place, expires_ms)?;
                removed += 1;
                self.transaction = self.transaction.map(|left| left.saturating_sub(1));
                continue;
            }
            let length = body.len();
            let shown = take(message)?;
            settle(self, &Taken { place, length, expires_ms })?;
            return Ok(Some(shown));
        }
        Ok(None)
    }

    /// All numbers of messages are above this one. Clients are shown how much: they may keep
    /// numbers that are exact up to 2^53 only, and those of messages are higher.
    pub fn numbers_above(&self) -> u64 {
        self.store.numbers_above()
    }

    /// Removes a slice of the dead where there are more than one step passes. Returns false if
    /// there still are. If they cannot leave, a reader passes them.
    fn make_way(&mut self) -> bool {
        let is_far = |dead: u64| dead > DEAD_AT_ONCE as u64;
        if !is_far(self.expiring.dead()) {
            return true;
        }
        self.transaction.is_none() && (self.bury_some().is_err() || !is_far(self.expiring.dead()))
    }

    /// Shows messages with numbers from `from` on, oldest first, until `show` answers false. Where
    /// more of the dead are in the way than one step passes, or more than `most` records of others,
    /// this returns the number to go on with when others have had their turn.
    pub fn visit(
        &mut self,
        from: u64,
        most: u64,
        show: impl FnMut(Message<'_>) -> bool,
    ) -> Result<Option<u64>, QueueError> {
        if !self.make_way() {
            return Ok(Some(from));
        }
        self.look(from, most, show)
    }

    /// The same for who asks and removes nothing: none of the dead leave before it.
    pub(super) fn look(
        &mut self,
        mut from: u64,
        most: u64,
        mut show: impl FnMut(Message<'_>) -> bool,
    ) -> Result<Option<u64>, QueueError> {
        let (now_ms, mut dead, mut gone) = (self.now_ms, 0, 0);
        let mut goes_on = true;
        while goes_on && let Some((place, message)) = self.next(from)? {
            from = place.sequence + 1;
            let expires_ms = message.expires_ms;
            if has_passed(expires_ms, now_ms) {
                // It may not have been known.
                self.expiring.insert(place, expires_ms);
                dead += 1;
            } else if !show(message) {
                break;
            }
            gone += self.store.take_passed();
            goes_on = dead <= DEAD_AT_ONCE as u64 && gone <= most;
        }
        self.passed += dead + gone;
        Ok((!goes_on).then_some(from))
    }

    /// A message with these bytes, or [`NotIndexed`](QueueError::NotIndexed). The answer is
    /// [`Busy`](QueueError::Busy) where more of the dead have them than one step removes.
    pub(super) fn look_up(
        &mut self,
        body: &[u8],
    ) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        self.bury_equal(body)?;
        let Queue { store, now_ms, passed, .. } = self;
        let passed = Cell::from_mut(passed);
        store.find(body, &|message| {
            let is_dead = has_passed(message.expires_ms, *now_ms);
            passed.set(passed.get() + u64::from(is_dead));
            !is_dead
        })
    }

    /// Removes the dead messages that a look for these bytes would pass: else each look would pass
    /// them anew. A step has no room for that.
    fn bury_equal(&mut self, body: &[u8]) -> Result<(), QueueError> {
        let may_leave = !self.is_in_step() && self.store.check_writable().is_ok();
        if !(self.has_dead() && may_leave) {
            return Ok(());
        }
        let now_ms = self.now_ms;
        for _ in 0..DEAD_AT_ONCE {
            let found = self.store.find(body, &|_| true)?;
            let found = found.map(|(place, message)| (place, message.expires_ms));
            let Some((place, expires_ms)) = found.filter(|it| has_passed(it.1, now_ms)) else {
                return Ok(());
            };
            // If the dead cannot leave, a look passes them all.
            if self.take_out(place, expires_ms).is_err() {
                return Ok(());
            }
        }
        Err(QueueError::Busy)
    }

    /// How much looks have passed on their way since the last call, or since the command began:
    /// dead messages, those that it removed among them, and in a store on disk what lies before the
    /// message that was looked for.
    pub fn take_passed(&mut self) -> u64 {
        std::mem::take(&mut self.passed) + self.store.take_passed()
    }

    /// Bounds what looks by number pass in all.
    pub fn gaps(&self) -> u64 {
        self.store.gaps()
    }

    /// Whether a message with these bytes is in the queue.
    pub fn contains(&mut self, body: &[u8]) -> Result<bool, QueueError> {
        Ok(self.look_up(body)?.is_some())
    }

    /// Counts messages that may have these bytes, those that have expired among them: `most` of
    /// them at most, and fewer if there are no more. `from` is `None` at first, and the next call
    /// goes on with what this one leaves there.
    pub fn count_equal(
        &mut self,
        body: &[u8],
        from: &mut Option<u64>,
        most: u64,
    ) -> Result<u64, QueueError> {
        self.store.count_equal(body, from, most)
    }

    /// Removes every such message, wherever it stands; answers how many there were.
    pub fn remove(&mut self, body: &[u8]) -> Result<u64, QueueError> {
        let mut count = 0;
        while self.remove_one(body)? {
            count += 1;
        }
        Ok(count)
    }

    /// Removes one such message. Returns false if there is none.
    pub fn remove_one(&mut self, body: &[u8]) -> Result<bool, QueueError> {
        let found = self.look_up(body)?.map(|(place, message)| (place, message.expires_ms));
        let Some((place, expires_ms)) = found else { return Ok(false) };
        self.take_out(place, expires_ms)?;
        Ok(true)
    }
}
