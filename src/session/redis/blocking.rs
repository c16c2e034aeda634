//! Commands that wait: one that finds no message lets its client wait, and is called again when the
//! client has been handed one, or its time is up.
//!
//! 1. Within a transaction nothing waits: it is as if the time were up at once.
//! 2. What a client has been handed is leased to it. [`Call::take_handed`] says what becomes of it;
//!    if the command fails instead, or its client goes, it is the next client's.

use super::call::Call;
use super::request::{Again, Args, Refusal};
use crate::memory::NoMemory;
use crate::protocol::resp::Reply;
use crate::queue::{Handed, Message, Queue, QueueError};
use crate::session::blocked::{Blocked, Timeout, Waited};
use std::time::Duration;

const NEGATIVE: &str = "ERR timeout is negative";

/// A timeout in milliseconds; 0 is for ever.
pub(super) fn milliseconds(args: Args<'_>, word: usize) -> Result<Timeout, Refusal> {
    let milliseconds = u64::try_from(args.integer(word)?).map_err(|_| NEGATIVE)?;
    Ok(Some(Duration::from_millis(milliseconds)).filter(|timeout| !timeout.is_zero()))
}

/// A timeout in seconds, with digits behind the point or not; 0 is for ever.
pub(super) fn seconds(args: Args<'_>, word: usize) -> Result<Timeout, Refusal> {
    let text = str::from_utf8(args.get(word)).ok();
    let seconds = text.and_then(|text| text.parse::<f64>().ok()).filter(|it| it.is_finite());
    let seconds = seconds.ok_or("ERR timeout is not a float or out of range")?;
    if seconds < 0.0 {
        return Err(NEGATIVE.into());
    }
    let timeout = Duration::try_from_secs_f64(seconds);
    let timeout = timeout.map_err(|_| "ERR timeout is out of range")?;
    // Only 0 is for ever, and not a time that is rounded to 0.
    let least = if seconds > 0.0 { Duration::from_nanos(1) } else { timeout };
    Ok(Some(timeout.max(least)).filter(|timeout| !timeout.is_zero()))
}

impl<'a> Call<'a> {
    /// Whether the command waits: it has looked for messages, and found none.
    pub fn is_waiting(&self) -> bool {
        self.client.blocked.is_some()
    }

    /// Lets the client wait for a message of the first of these queues that has one. Returns what
    /// it has been handed, or `None` when its time is up.
    pub fn wait_for(
        &mut self,
        names: impl Iterator<Item = &'a [u8]> + Clone,
        timeout: Timeout,
    ) -> Result<Option<Handed>, Refusal> {
        let queues = self.queues()?;
        if self.turn.in_transaction {
            return Ok(None);
        }
        let Call { client, turn, .. } = self;
        let entry = &client.entry;
        let blocked =
            client.blocked.get_or_insert_with(|| Blocked::new(queues, names, timeout, entry));
        match blocked.look(queues.clock().uptime()) {
            Waited::Handed(handed) => Ok(Some(handed)),
            Waited::Over { with_error: true } => {
                Err("UNBLOCKED client unblocked via CLIENT UNBLOCK".into())
            }
            Waited::Over { with_error: false } => Ok(None),
            Waited::Longer(wait) => {
                turn.wait = Some(wait);
                Err(Refusal::again(Again::Woken))
            }
        }
    }

    /// Lets `show` write what the client has been handed, and `settle` do with it what the command
    /// is for. Returns false if the message has gone; the client waits on.
    pub fn take_handed(
        &mut self,
        handed: &Handed,
        show: impl FnOnce(&mut Reply, Message<'_>) -> Result<(), NoMemory>,
        settle: impl FnOnce(&mut Queue, &mut Reply) -> Result<bool, QueueError>,
    ) -> Result<bool, Refusal> {
        let (queues, delivery, start) = (self.queues()?, &handed.delivery, self.reply.out.len());
        let reply = &mut *self.reply;
        let taken = queues.find_identity(delivery.queue, &mut self.turn.ticket, |queue| {
            let shown = queue.show_leased(delivery, |message| show(reply, message))?;
            Ok(shown.is_some() && settle(queue, reply)?)
        });
        let is_taken = taken?.unwrap_or(false);
        self.turn.budget.look(self.reply.out.len() - start);
        match self.client.blocked.take() {
            Some(blocked) if is_taken => blocked.take(),
            blocked => {
                self.reply.take_back(start);
                blocked.iter().for_each(Blocked::wait_again);
                self.client.blocked = blocked;
            }
        }
        Ok(is_taken)
    }
}
