//! What monitors ask of one queue. Asking does not count as use: an idle queue comes to rest.

use super::single::DEAD_AT_ONCE;
use super::{Message, Queue, QueueError, Queues};

/// The figures of a queue. Totals count from when the queue was made, or from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Messages.
    pub length: u64,
    /// Bytes of their bodies in memory, or of their records on disk.
    pub bytes: u64,
    /// Bytes of the queue's files.
    pub disk_bytes: u64,
    /// Milliseconds since the oldest message was pushed; 0 where there is none.
    pub oldest_age_ms: u64,
    /// Messages that came, went, and died of age.
    pub totals: Totals,
    /// The queue is closed for writing until the next start.
    pub is_closed: bool,
}

/// Messages that passed through a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Pushed.
    pub came: u64,
    /// Popped, removed or moved.
    pub went: u64,
    /// Expired, and removed since.
    pub expired: u64,
}

impl Queue {
    fn figures(&mut self, now_ms: u64) -> Result<Figures, QueueError> {
        self.set_time(now_ms);
        let mut pushed_ms = now_ms;
        // Behind many dead messages the oldest one is not known before they have left.
        let _behind = self.visit(0, DEAD_AT_ONCE as u64, |message: Message<'_>| {
            pushed_ms = message.pushed_ms;
            false
        })?;
        Ok(Figures {
            length: self.len(),
            bytes: self.bytes(),
            disk_bytes: self.store().disk_bytes(),
            oldest_age_ms: now_ms.saturating_sub(pushed_ms),
            totals: self.totals(),
            is_closed: self.store().check_writable().is_err(),
        })
    }
}

impl Queues {
    /// Returns the figures of queue `name`, or `None` if there is no such queue. One that is empty
    /// has figures until it is forgotten: its totals are those of a queue that works well.
    pub fn figures(&self, name: &[u8]) -> Result<Option<Figures>, QueueError> {
        let Some(slot) = self.slot(name) else { return Ok(None) };
        let mut state = slot.lock()?;
        if state.doomed {
            return Ok(None);
        }
        let now_ms = self.clock.now_ms();
        state.queue.as_mut().map(|queue| queue.figures(now_ms)).transpose()
    }
}
