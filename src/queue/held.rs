//! One queue, found and locked once for several commands in a row.
//!
//! A client that sends many commands on one queue at once takes its lock once for all of them:
//! where many clients do that, most of the time went into taking it from each other.

use super::claims::Claim;
use super::slot::{Slot, State};
use super::{Queue, QueueError, Queues, Ticket};
use crate::clock::Clock;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

/// A queue that was found by its name.
pub struct Handle {
    slot: Arc<Slot>,
}

impl Handle {
    /// The queue's name.
    pub fn name(&self) -> &[u8] {
        &self.slot.name
    }

    /// Locks the queue, or returns `None` if it has gone, or if a command on it is not over: the
    /// caller must look it up by its name.
    /// What is done with it then is done at one time, that of `clock`.
    pub fn lock(&self, clock: &Clock) -> Option<Locked<'_>> {
        let state = self.slot.lock().ok();
        let state = state.filter(|state| state.is_free() && !state.retired)?;
        Some(Locked { slot: &self.slot, state, now_ms: clock.now_ms() })
    }
}

impl Queues {
    /// Returns the queue `name` for several commands in a row, or `None` if there is none yet.
    pub fn handle(&self, name: &[u8]) -> Option<Handle> {
        self.slot(name).map(|slot| Handle { slot })
    }

    /// Ends the step of a command that has come to this, unless there is more to do of it.
    fn end_step_after<R>(
        &self,
        slot: &Arc<Slot>,
        state: &mut State,
        ticket: &mut Ticket,
        done: Sliced<R>,
    ) -> Sliced<R> {
        let is_open = state.queue.as_ref().is_some_and(|queue| queue.step.is_some());
        if !is_open || matches!(done, Ok(Some(Slice::More))) {
            return done;
        }
        let ended = self.run(slot, state, self.clock.now_ms(), ticket, Queue::end_step);
        done.and_then(|done| ended.map(|_| done))
    }
}

/// A queue that nobody else works on meanwhile.
pub struct Locked<'h> {
    slot: &'h Arc<Slot>,
    state: MutexGuard<'h, State>,
    now_ms: u64,
}

impl Locked<'_> {
    /// Lends the queue to one of the commands.
    pub fn lend(&mut self) -> Lent<'_> {
        Lent { slot: self.slot, state: &mut self.state, now_ms: self.now_ms }
    }
}

/// A locked queue, for one command.
pub struct Lent<'a> {
    slot: &'a Arc<Slot>,
    state: &'a mut State,
    now_ms: u64,
}

/// The queue that a command names, and the lock on it where that is held already.
pub struct Target<'a> {
    /// All queues.
    pub queues: &'a Queues,
    /// The name in the command.
    pub name: &'a [u8],
    /// The queue of that name.
    pub lent: Option<Lent<'a>>,
    /// The command is one of a transaction, which waits for no other that waits.
    pub in_transaction: bool,
}

/// A slice of a command's work on its queue, or `None` if there is no such queue.
type Sliced<R> = Result<Option<Slice<R>>, QueueError>;

/// What a slice of a command's work on its queue came to.
pub enum Slice<R> {
    /// It is done, with this.
    Done(R),
    /// There is more to do, when others have had their turn.
    More,
}

impl Target<'_> {
    /// As [`Queues::create`].
    pub fn create<R>(
        self,
        ticket: &mut Ticket,
        work: impl FnOnce(&mut Queue) -> Result<R, QueueError>,
    ) -> Result<R, QueueError> {
        match self.lent {
            Some(Lent { slot, state, now_ms }) => {
                self.queues.create_in(slot, state, now_ms, ticket, work)
            }
            None => self.queues.create(self.name, ticket, work),
        }
    }

    /// As [`Queues::find`].
    pub fn find<R>(
        self,
        ticket: &mut Ticket,
        work: impl FnOnce(&mut Queue) -> Result<R, QueueError>,
    ) -> Result<Option<R>, QueueError> {
        match self.lent {
            Some(Lent { slot, state, now_ms }) => {
                self.queues.find_in(slot, state, now_ms, ticket, work)
            }
            None => self.queues.find(self.name, ticket, work),
        }
    }

    /// As [`create`](Target::create), for a command of several slices: after each but the last the
    /// queue is claimed.
    pub fn create_sliced<R>(
        self,
        claim: &mut Option<Claim>,
        ticket: &mut Ticket,
        work: impl FnOnce(&mut Queue) -> Result<Slice<R>, QueueError>,
    ) -> Result<Slice<R>, QueueError> {
        let made = self.sliced(true, claim, ticket, |queues, slot, state, now_ms, ticket| {
            queues.create_in(slot, state, now_ms, ticket, work).map(Some)
        })?;
        made.ok_or_else(|| QueueError::Storage("no such queue".into()))
    }

    /// As [`find`](Target::find), for a command of several slices: after each but the last the
    /// queue is claimed.
    pub fn find_sliced<R>(
        self,
        claim: &mut Option<Claim>,
        ticket: &mut Ticket,
        work: impl FnOnce(&mut Queue) -> Result<Slice<R>, QueueError>,
    ) -> Result<Option<Slice<R>>, QueueError> {
        let queues = self.queues;
        let found = self.sliced(false, claim, ticket, |queues, slot, state, now_ms, ticket| {
            queues.find_in(slot, state, now_ms, ticket, work)
        })?;
        if found.is_none() {
            queues.ledger.await_directory(ticket);
        }
        Ok(found)
    }

    fn sliced<R>(
        self,
        creates: bool,
        claim: &mut Option<Claim>,
        ticket: &mut Ticket,
        act: impl FnOnce(&Queues, &Arc<Slot>, &mut State, u64, &mut Ticket) -> Sliced<R>,
    ) -> Sliced<R> {
        let Target { queues, name, lent, in_transaction } = self;
        if let Some(Claim { slot, .. }) = claim {
            let mut state = slot.lock()?;
            let done = act(queues, slot, &mut state, queues.clock.now_ms(), ticket);
            return queues.end_step_after(slot, &mut state, ticket, done);
        }
        let act = |slot: &Arc<Slot>, state: &mut State, now_ms| {
            if !in_transaction && slot.awaited_by.load(Ordering::Relaxed) > 0 {
                return Err(QueueError::Busy);
            }
            let done = act(queues, slot, state, now_ms, ticket);
            if let Ok(Some(Slice::More)) = &done {
                *claim = Some(queues.claims.claim(slot, state));
            }
            queues.end_step_after(slot, state, ticket, done)
        };
        match lent {
            Some(Lent { slot, state, now_ms }) => act(slot, state, now_ms),
            None => {
                queues.visit(name, creates, |slot, state| act(slot, state, queues.clock.now_ms()))
            }
        }
    }
}
