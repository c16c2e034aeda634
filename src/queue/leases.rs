//! Which messages of a queue are leased, for which delivery, and until when.

use crate::storage::Cause;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One delivery of a message to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// No two deliveries have the same, also over a restart.
    pub attempt: u64,
    /// When it is over, by [`Clock::uptime`](crate::clock::Clock::uptime).
    pub until: Duration,
}

/// The leases of one queue. They are in memory only: a restart ends them.
#[derive(Default)]
pub(super) struct Leases {
    /// By the numbers of their messages.
    by_number: BTreeMap<u64, Lease>,
    /// The same by their ends.
    by_end: BTreeSet<(Duration, u64)>,
    /// For each lease that ended before its time, the failure that it counts as, if any.
    lapsed: BTreeMap<u64, Option<Cause>>,
    /// The time that the ends are compared with.
    now: Duration,
}

impl Leases {
    /// 0 in a queue that is only popped: what follows from leases is kept off that path.
    pub(super) fn len(&self) -> u64 {
        self.by_number.len() as u64
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.by_number.contains_key(&number)
    }

    /// It is `now`, by the clock of the ends.
    pub(super) fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// Leases the message of this number. It is leased to nobody.
    pub(super) fn insert(&mut self, number: u64, lease: Lease) {
        self.by_number.insert(number, lease);
        self.by_end.insert((lease.until, number));
    }

    /// Ends the lease of a message. Returns false if it had none.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let Some(lease) = self.by_number.remove(&number) else { return false };
        self.lapsed.remove(&number);
        self.by_end.remove(&(lease.until, number))
    }

    /// The lease is over, if this delivery has it, and counts as a failure of this cause, if
    /// there is one: it is ended with the next ones.
    pub(super) fn lapse(&mut self, number: u64, attempt: u64, cause: Option<Cause>) {
        if self.is_current(number, attempt) && self.remove(number) {
            self.insert(number, Lease { attempt, until: Duration::ZERO });
            self.lapsed.insert(number, cause);
        }
    }

    /// What the end of a lease that is over counts as.
    pub(super) fn cause(&self, number: u64) -> Option<Cause> {
        self.lapsed.get(&number).copied().unwrap_or(Some(Cause::Expiry))
    }

    /// Whether this delivery of a message is the one that holds it now.
    pub(super) fn is_current(&self, number: u64, attempt: u64) -> bool {
        let is_current = |lease: &Lease| lease.attempt == attempt && lease.until > self.now;
        self.by_number.get(&number).is_some_and(is_current)
    }

    /// A message whose lease is over.
    pub(super) fn first_over(&self) -> Option<u64> {
        self.by_end.first().filter(|(until, _)| *until <= self.now).map(|(_, number)| *number)
    }

    /// Any leased message.
    pub(super) fn first(&self) -> Option<u64> {
        self.by_number.first_key_value().map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Beside a list that is looked through each time.
    #[test]
    fn leases_end_in_the_order_of_their_times() {
        let (mut random, mut leases) = (Random::seeded(), Leases::default());
        let mut model: Vec<(u64, Lease)> = Vec::new();
        for attempt in 1..5000 {
            let now = Duration::from_millis(attempt / 10);
            leases.set_time(now);
            let number = random.below(50);
            let known = model.iter().position(|(known, _)| *known == number);
            match (random.below(3), known) {
                (0 | 1, None) => {
                    let until = now + Duration::from_millis(random.below(20));
                    leases.insert(number, Lease { attempt, until });
                    model.push((number, Lease { attempt, until }));
                }
                (2, known) => {
                    assert_eq!(leases.remove(number), known.is_some());
                    known.map(|index| model.swap_remove(index));
                }
                _ => {}
            }
            assert_eq!(leases.len(), model.len() as u64);
            let over = model.iter().filter(|(_, lease)| lease.until <= now);
            let first = over.min_by_key(|(number, lease)| (lease.until, *number));
            assert_eq!(leases.first_over(), first.map(|(number, _)| *number));
            for (number, lease) in &model {
                assert_eq!(leases.is_current(*number, lease.attempt), lease.until > now);
                assert!(leases.contains(*number) && !leases.is_current(*number, attempt + 1));
            }
        }
    }
}
