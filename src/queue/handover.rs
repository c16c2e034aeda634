//! Handing messages over to clients that wait until a queue has one.
//!
//! 1. A client that waits is a registration, and no thread: it stands in the lines of the queues
//!    that it names.
//! 2. A message that becomes ready is handed to the first client in the line of its queue, under
//!    the queue's lock: it is leased to that client, which is woken. So one message wakes one
//!    client, and nobody overtakes.
//! 3. The client pops the message or keeps the lease when its turn comes. If it has gone meanwhile,
//!    the message is back at its place, and the next client in the line has it.
//! 4. While a transaction runs nothing is handed over: its own commands come first.

use super::leases::Lease;
use super::single::{Queue, has_passed};
use super::slot::Slot;
use super::waiters::{Delivery, Handed, Wake};
use super::{Cause, Message, QueueError, Queues, Ticket};
use crate::memory::NoMemory;
use std::sync::Arc;
use std::time::Duration;

/// A client's place in the lines of queues. When it is dropped, the client leaves them, and a
/// message that it was handed goes back.
pub struct Registration {
    queues: Arc<Queues>,
    place: u64,
}

impl Registration {
    /// What the client has been handed.
    pub fn handed(&self) -> Option<Handed> {
        self.queues.waiters.handed(self.place)
    }

    /// What the client has been handed is its own from now on, and it waits no longer.
    pub fn keep(&mut self) {
        self.queues.waiters.leave(self.place);
    }

    /// What the client has been handed has gone: it stands in its lines again, at its old place.
    /// Messages that came to its queues meanwhile found nobody in line, so it looks at them again.
    pub fn wait_again(&self) {
        let names = self.queues.waiters.enter_again(self.place);
        self.look_at(names.iter().map(|name| &**name));
    }

    /// Takes a message that one of these queues has already; the leftmost wins.
    fn look_at<'n>(&self, mut names: impl Iterator<Item = &'n [u8]>) {
        while self.handed().is_none()
            && let Some(name) = names.next()
        {
            self.queues.serve(name);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(handed) = self.queues.waiters.leave(self.place) {
            self.queues.hand_on(&handed.delivery, None);
        }
    }
}

impl Queue {
    /// Whether there are messages that are not leased.
    fn has_ready(&self) -> bool {
        self.held() > self.leased()
    }

    /// Shows a delivery's message. Returns `None` if the message has gone or another delivery holds
    /// it.
    pub fn show_leased<R>(
        &mut self,
        delivery: &Delivery,
        show: impl FnOnce(Message<'_>) -> Result<R, NoMemory>,
    ) -> Result<Option<R>, QueueError> {
        let Delivery { number, attempt, .. } = *delivery;
        let place = self.hidden.place(number).filter(|_| self.leases.is_current(number, attempt));
        let Some(place) = place else { return Ok(None) };
        let now_ms = self.now_ms();
        if let Some((_, message)) = self.store.at(place)?
            && !has_passed(message.expires_ms, now_ms)
        {
            return Ok(Some(show(message)?));
        }
        // The message has expired since it was handed over, or damage has taken it.
        self.give_back(number, Some(attempt));
        Ok(None)
    }
}

impl Queues {
    /// Clients that wait for messages.
    pub fn waiting(&self) -> usize {
        self.waiters.count()
    }

    /// Lets a client wait for a message of the first of these queues that has one: it may have been
    /// handed one when this returns. `wake` is called when it is.
    pub fn wait_for<'n>(
        self: &Arc<Queues>,
        names: impl Iterator<Item = &'n [u8]> + Clone,
        wake: Wake,
    ) -> Registration {
        let place = self.waiters.enter(names.clone().map(Box::from).collect(), wake);
        let registration = Registration { queues: Arc::clone(self), place };
        registration.look_at(names);
        registration
    }

    /// Hands messages of queue `name` to clients that wait for them.
    fn serve(&self, name: &[u8]) {
        if let Some(slot) = self.slot(name).filter(|_| self.waiters.are_there())
            // The command that has claimed the queue does it at its end.
            && let Ok(mut state) = self.enter(&slot)
        {
            let (now_ms, mut nobody_waits) = (self.clock.now_ms(), Ticket::default());
            // What fails here fails again in the next command on the queue.
            let _handed = self.run(&slot, &mut state, now_ms, &mut nobody_waits, |_| Ok(()));
        }
    }

    /// The same after work on a queue, whose lock the caller holds.
    pub(super) fn hand_over(&self, slot: &Slot, queue: &mut Queue) {
        while queue.has_ready() && !queue.is_in_step() && self.waiters.has_line(&slot.name) {
            let attempt = self.next_attempt();
            let lease = Lease { attempt, until: Duration::MAX };
            let number = match queue.lease(lease, |message| Ok(message.sequence)) {
                Ok(Some(number)) => number,
                // Very many of the dead are in the way.
                Err(QueueError::Busy) => return self.chores.ring(),
                Ok(None) | Err(_) => return,
            };
            let delivery = Delivery { queue: queue.identity(), number, attempt };
            if !self.waiters.hand(&slot.name, delivery) {
                queue.give_back(number, Some(attempt));
            }
        }
    }

    /// Gives a message back whose client has gone, and hands it on to the next one in line. While a
    /// long command keeps the queue to itself the lease is only over: housekeeping ends it, or the
    /// next command on the queue. It counts as a failure of this cause, if there is one.
    pub fn hand_on(&self, delivery: &Delivery, cause: Option<Cause>) {
        let Delivery { queue, number, attempt } = *delivery;
        let Some(slot) = self.slot_of(queue) else { return };
        let Ok(mut state) = slot.lock() else { return };
        if state.is_free() {
            let (now_ms, mut nobody_waits) = (self.clock.now_ms(), Ticket::default());
            let back = |queue: &mut Queue| match cause {
                Some(cause) => queue.fail(number, Some(attempt), cause, b""),
                None => Ok(queue.give_back(number, Some(attempt))),
            };
            let _handed = self.run(&slot, &mut state, now_ms, &mut nobody_waits, back);
        } else if let Some(queue) = &mut state.queue {
            queue.leases.lapse(number, attempt, cause);
        }
    }

    /// Hands nothing over until the returned guard is dropped: a transaction runs.
    pub fn hold_messages(&self) -> HeldMessages<'_> {
        self.waiters.hold(true);
        HeldMessages { queues: self }
    }
}

/// Keeps messages from clients that wait for them.
pub struct HeldMessages<'q> {
    queues: &'q Queues,
}

impl HeldMessages<'_> {
    /// The transaction is over: hands messages of these queues over.
    pub fn release<'n>(self, names: impl Iterator<Item = &'n [u8]>) {
        let queues = self.queues;
        drop(self);
        if queues.waiters.are_there() {
            names.for_each(|name| queues.serve(name));
        }
    }
}

impl Drop for HeldMessages<'_> {
    fn drop(&mut self) {
        self.queues.waiters.hold(false);
    }
}
