//! What monitors ask: the figures of one queue, and what all are together, summed up in slices, for
//! there may be many. Asking does not count as use: an idle queue comes to rest.

use super::figures::Figures;
use super::queues::Queues;
use super::single::{DEAD_AT_ONCE, Queue};
use super::slot::State;
use super::{Message, QueueError};
use crate::clock::milliseconds;
use std::sync::atomic::Ordering;

/// The most queues that one slice adds.
pub const ADDED_AT_ONCE: usize = 256;

/// What all queues are together. Dead messages count for nothing, but for the bytes of those that
/// have not left yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// Queues that have messages.
    pub queues: u64,
    /// Their messages.
    pub messages: u64,
    /// The bytes of these.
    pub bytes: u64,
    /// Those of the messages that workers have.
    pub leased: u64,
    /// The next one to add.
    next: u64,
    /// Where to stop: queues that are made meanwhile have higher numbers.
    end: Option<u64>,
}

impl Queue {
    fn figures(&mut self, now_ms: u64, start_ms: u64) -> Result<Figures, QueueError> {
        let mut pushed_ms = None;
        let behind = self.look(0, DEAD_AT_ONCE as u64, |message: Message<'_>| {
            pushed_ms = Some(message.pushed_ms);
            false
        })?;
        let age_ms = now_ms.saturating_sub(pushed_ms.unwrap_or(now_ms));
        Ok(Figures {
            length: self.len(),
            leased: self.leased(),
            bytes: self.bytes(),
            disk_bytes: self.store().disk_bytes(),
            oldest_age_ms: behind.is_none().then_some(age_ms),
            totals: self.totals(),
            age_ms: now_ms.saturating_sub(self.made_ms.max(start_ms)),
            idle_ms: now_ms.saturating_sub(self.used_ms.max(start_ms)),
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
        let State { queue: Some(queue), claimed, .. } = &mut *state else { return Ok(None) };
        self.set_time(queue, *claimed, now_ms);
        let start_ms = now_ms.saturating_sub(milliseconds(self.clock.uptime()));
        queue.figures(now_ms, start_ms).map(Some)
    }

    /// Adds a slice of the queues, and returns true once `sums` is whole.
    pub fn add_up(&self, sums: &mut Sums) -> bool {
        let (slots, now_ms) = (self.slots(), self.clock.now_ms());
        let end = *sums.end.get_or_insert(slots.last_id + 1);
        let mut rest = slots.by_id.range(sums.next..end).map(|(_, slot)| slot);
        for slot in rest.by_ref().take(ADDED_AT_ONCE) {
            slot.recount(now_ms);
            if !slot.has_living(now_ms) {
                continue;
            }
            sums.queues += 1;
            sums.messages += slot.len.load(Ordering::Relaxed);
            sums.leased += slot.leased.load(Ordering::Relaxed);
            sums.bytes += slot.bytes.load(Ordering::Relaxed);
        }
        sums.next = rest.next().map_or(end, |slot| slot.id);
        sums.next == end
    }

    /// All of them, however long that takes.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        while !self.add_up(&mut sums) {}
        sums
    }

    /// Name and value of each counter.
    pub fn statistics(&self, sums: &Sums) -> Vec<(&'static str, u64)> {
        let Sums { queues, messages, leased, .. } = *sums;
        // The two are read one after the other, while others work.
        let waiting = messages.saturating_sub(leased);
        let mut counters = vec![("queues", queues), ("messages", messages)];
        counters.extend([("messages_leased", leased), ("messages_waiting", waiting)]);
        counters.extend(self.backing.statistics());
        counters
    }

    /// How many queues have messages, where that is known without a look at each: no queue will be
    /// empty because all that it has dies.
    pub fn count_at_once(&self) -> Option<usize> {
        let census = &self.slots().census;
        let is_known = census.mortal.load(Ordering::Relaxed) == 0;
        is_known.then(|| census.filled.load(Ordering::Relaxed))
    }
}
