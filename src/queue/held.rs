//! One queue, found and locked once for several commands in a row.
//!
//! A client that sends many commands on one queue at once takes its lock once for all of them:
//! where many clients do that, most of the time went into taking it from each other.

use super::slot::{Slot, State};
use super::{BodyHash, Queue, QueueError, Queues, Ticket};
use crate::clock::Clock;
use std::sync::{Arc, MutexGuard};

/// A queue that was found by its name.
pub struct Handle {
    slot: Arc<Slot>,
}

impl Handle {
    pub(super) fn new(slot: Arc<Slot>) -> Handle {
        Handle { slot }
    }

    /// The queue's name.
    pub fn name(&self) -> &[u8] {
        &self.slot.name
    }

    /// Locks the queue; None where it is not of use any more: to be looked for by its name again.
    /// What is done with it then is done at one time, which `clock` tells.
    pub fn lock(&self, clock: &Clock) -> Option<Locked<'_>> {
        let state = self.slot.lock().ok().filter(|state| !state.retired)?;
        Some(Locked { slot: &self.slot, state, now_ms: clock.now_ms() })
    }
}

/// A queue that nobody else works on meanwhile.
pub struct Locked<'h> {
    slot: &'h Arc<Slot>,
    state: MutexGuard<'h, State>,
    now_ms: u64,
}

impl Locked<'_> {
    /// A message with these bytes will be asked for soon: a hint, which changes nothing. Answers
    /// their hash in this queue; None: it has no messages, and no store yet.
    pub fn expect(&mut self, body: &[u8]) -> Option<BodyHash> {
        let store = self.state.queue.as_mut()?.store();
        let hash = store.hash(body);
        store.expect(hash);
        Some(hash)
    }
}

/// The queue that a command names, and the lock on it where that is held already.
pub struct Target<'a, 'h> {
    /// All queues.
    pub queues: &'a Queues,
    /// The name in the command.
    pub name: &'a [u8],
    /// Of the queue of that name.
    pub locked: Option<&'a mut Locked<'h>>,
    /// In that queue, of the first message that the command names; None: it is not known.
    pub hash: Option<BodyHash>,
}

impl Target<'_, '_> {
    /// As [`Queues::create`].
    pub fn create<R>(
        &mut self,
        ticket: &mut Ticket,
        work: impl FnOnce(&mut Queue) -> Result<R, QueueError>,
    ) -> Result<R, QueueError> {
        match &mut self.locked {
            Some(Locked { slot, state, now_ms }) => {
                self.queues.create_in(slot, state, *now_ms, ticket, work)
            }
            None => self.queues.create(self.name, ticket, work),
        }
    }

    /// As [`Queues::find`].
    pub fn find<R>(
        &mut self,
        ticket: &mut Ticket,
        work: impl FnOnce(&mut Queue) -> Result<R, QueueError>,
    ) -> Result<Option<R>, QueueError> {
        match &mut self.locked {
            Some(Locked { slot, state, now_ms }) => {
                self.queues.find_in(slot, state, *now_ms, ticket, work)
            }
            None => self.queues.find(self.name, ticket, work),
        }
    }
}
