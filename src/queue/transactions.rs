//! Transactions: what one does to a queue is one step (rule 20).
//!
//! 1. Before its first command, a step begins in each queue that the transaction changes more than
//!    once, with room for all that its commands may do. If one finds no room nothing is done.
//! 2. A command's own step is part of it: limits hold for each command, and a command that is
//!    refused takes nothing back of the others.
//! 3. The transaction runs at one time, and nobody else changes its queues: housekeeping passes
//!    them over. What is dead leaves before it begins.
//! 4. The steps end together. What the transaction does belongs to one epoch, which is not closed
//!    before they have ended: no commit takes half a step for durable.
//!
//! A store that keeps nothing over a crash needs none of this.

use super::QueueError;
use super::single::{DEAD_AT_ONCE, Queue};
use super::slot::Slot;
use super::{Queues, StepSize, Ticket};
use std::sync::{Arc, MutexGuard};
use std::thread;

/// What a transaction may do to one queue at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes {
    /// What its commands push, pop and remove.
    pub size: StepSize,
    /// One of them drops the queue.
    pub drops: bool,
}

impl Changes {
    /// How many messages come and go.
    pub fn messages(&self) -> u64 {
        let StepSize { pushes, removals, pops, moves, .. } = self.size;
        [pushes, removals, pops, moves].into_iter().fold(0, u64::saturating_add)
    }

    /// False if the queue is only dropped, or has one message more or less afterwards: that is a
    /// step of its own.
    pub fn are_several(&self) -> bool {
        self.messages() > u64::from(!self.drops)
    }
}

/// The steps of a transaction under way, one in each of these queues.
pub struct Steps<'q> {
    queues: &'q Queues,
    slots: Vec<Arc<Slot>>,
    _one_epoch: MutexGuard<'q, ()>,
}

impl Queues {
    /// Whether a queue may be changed in part by a crash, if nothing is done about it.
    pub fn outlive_crashes(&self) -> bool {
        self.backing.outlives_crashes()
    }

    /// Whether [`make`](Queues::make) would make the queue `name`.
    pub fn is_missing(&self, name: &[u8]) -> bool {
        let Some(slot) = self.slot(name) else { return true };
        slot.lock().is_ok_and(|state| state.queue.is_none() || state.doomed)
    }

    /// Makes the queue `name` where there is none, which nobody sees before it has messages, so
    /// that a transaction need not make it while all others wait for it. Returns false if it is
    /// there.
    pub fn make(&self, name: &[u8]) -> Result<bool, QueueError> {
        let made = self.visit(name, true, |slot, state| {
            let is_missing = state.queue.is_none();
            self.make_store(slot, state)?;
            Ok(Some(is_missing))
        })?;
        Ok(made.unwrap_or(false))
    }

    /// Begins a transaction that changes these queues, to be called while no other command runs.
    /// Queues that it pushes to are made. After an error nothing has begun: one of them has no
    /// room, or cannot be changed at all.
    pub fn begin_transaction<'n>(
        &self,
        changes: impl Iterator<Item = (&'n [u8], Changes)>,
        ticket: &mut Ticket,
    ) -> Result<Steps<'_>, QueueError> {
        let _one_epoch = self.ledger.keep_open();
        let mut steps = Steps { queues: self, slots: Vec::new(), _one_epoch };
        for (name, changes) in changes.filter(|(_, changes)| changes.are_several()) {
            steps.slots.extend(self.begin_in(name, &changes, ticket)?);
        }
        Ok(steps)
    }

    /// Returns the slot of the queue if a step has begun there.
    fn begin_in(
        &self,
        name: &[u8],
        changes: &Changes,
        ticket: &mut Ticket,
    ) -> Result<Option<Arc<Slot>>, QueueError> {
        let creates = changes.size.pushes > 0;
        self.visit(name, creates, |slot, state| {
            if creates {
                self.make_store(slot, state)?;
            }
            if state.queue.is_none() {
                return Ok(None);
            }
            let begin = |queue: &mut Queue| queue.begin_transaction(changes);
            let (has_begun, _) = self.run(slot, state, self.clock.now_ms(), ticket, begin)?;
            state.in_transaction = has_begun;
            Ok(has_begun.then(|| Arc::clone(slot)))
        })
    }
}

impl Steps<'_> {
    /// Ends the steps. `ticket` rises to what a reply has to wait for.
    ///
    /// # Errors
    /// A queue has been closed for writing meanwhile: the next start finds nothing of it there.
    pub fn end(mut self, ticket: &mut Ticket) -> Result<(), QueueError> {
        self.end_steps(ticket)
    }

    fn end_steps(&mut self, ticket: &mut Ticket) -> Result<(), QueueError> {
        let mut outcome = Ok(());
        for slot in self.slots.drain(..) {
            let ended = slot.lock().and_then(|mut state| {
                state.in_transaction = false;
                if state.queue.is_none() {
                    return Ok(());
                }
                let now_ms = self.queues.clock.now_ms();
                let end = Queue::end_transaction;
                self.queues.run(&slot, &mut state, now_ms, ticket, end).map(drop)
            });
            outcome = outcome.and(ended);
        }
        outcome
    }
}

impl Drop for Steps<'_> {
    /// A command of it has panicked, or it has not begun as a whole.
    fn drop(&mut self) {
        if !thread::panicking() {
            // Nothing has been done in the steps.
            let _nobody_is_answered = self.end_steps(&mut Ticket::default());
        }
        for slot in self.slots.drain(..) {
            if let Ok(mut state) = slot.lock() {
                state.half_done = true;
            }
        }
    }
}

impl Queue {
    /// Begins the step of a transaction. Returns false if there is nothing to do here.
    fn begin_transaction(&mut self, changes: &Changes) -> Result<bool, QueueError> {
        self.bury_before_step()?;
        let Changes { size, drops } = *changes;
        let most = self.store.len().saturating_add(size.pushes);
        if most == 0 {
            return Ok(false);
        }
        let gone = size.pops.saturating_add(size.removals).min(most);
        let dead = match drops {
            true => most,
            false if size.pops > 0 && self.has_dead() => DEAD_AT_ONCE as u64,
            false => 0,
        };
        let gone = gone.saturating_add(dead).min(most);
        let size = match size {
            StepSize { pushes: 0, removals: 0, moves: 0, .. } => self.popping(gone),
            _ => StepSize { removals: gone, pops: 0, ..size },
        };
        self.store.begin_step(&size)?;
        self.transaction = Some(dead);
        Ok(true)
    }

    fn end_transaction(&mut self) -> Result<(), QueueError> {
        match self.transaction.take() {
            Some(_) => {
                // The next client waits until it is durable.
                self.changed = true;
                self.store.end_step()
            }
            None => Ok(()),
        }
    }

    /// Removes all messages in the step of a transaction. Returns false if there were
    /// none.
    pub(super) fn clear(&mut self) -> Result<bool, QueueError> {
        let existed = !self.is_empty();
        while let Some((place, message)) = self.next(0)? {
            let expires_ms = message.expires_ms;
            self.take_out(place, expires_ms)?;
        }
        while let Some(number) = self.leases.first() {
            self.acknowledge(number)?;
        }
        Ok(existed)
    }
}
