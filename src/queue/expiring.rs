//! Messages with a time to live: which of them are dead, without a look at any other message.
//!
//! A message is dead once its time of expiry has passed. Nobody sees it or counts it from then on,
//! wherever it stands in its queue; it leaves the store soon after, some at each push and the rest
//! in slices of housekeeping. Messages that never expire cost nothing here, the others some 50
//! bytes each.

use super::Place;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};

/// The messages of one queue that expire and that are not hidden.
///
/// 1. `by_time` holds (time of expiry, number, position when it was pushed or read) of each.
/// 2. `counts` holds how many expire at each time: the dead are counted without a walk.
/// 3. `dead` is the sum of `counts` up to `now_ms`, in whichever direction the clock was set.
#[derive(Default)]
pub(super) struct Expiring {
    by_time: BTreeSet<(u64, u64, u64)>,
    counts: BTreeMap<u64, u64>,
    now_ms: u64,
    dead: u64,
}

impl Expiring {
    /// These messages, with their times of expiry.
    pub(super) fn of(messages: Vec<(Place, u64)>) -> Expiring {
        let entry =
            |(place, expires_ms): (Place, u64)| (expires_ms, place.sequence, place.position);
        let mut entries: Vec<_> = messages.into_iter().map(entry).collect();
        entries.sort_unstable();
        let at_one_time = entries.chunk_by(|one, next| one.0 == next.0);
        let counts = at_one_time.map(|run| (run[0].0, run.len() as u64)).collect();
        Expiring { by_time: entries.into_iter().collect(), counts, ..Expiring::default() }
    }

    /// It is `now_ms`, Unix time in milliseconds.
    pub(super) fn set_time(&mut self, now_ms: u64) {
        let before_ms = std::mem::replace(&mut self.now_ms, now_ms);
        if self.counts.is_empty() || before_ms == now_ms {
            return;
        }
        if before_ms < now_ms {
            self.dead += self.count_between(before_ms, now_ms);
        } else {
            self.dead -= self.count_between(now_ms, before_ms);
        }
    }

    /// Messages that expire after `from_ms`, and at `to_ms` at the latest.
    fn count_between(&self, from_ms: u64, to_ms: u64) -> u64 {
        self.counts.range((Excluded(from_ms), Included(to_ms))).map(|(_, count)| count).sum()
    }

    /// Dead messages.
    pub(super) fn dead(&self) -> u64 {
        self.dead
    }

    /// Notes a message; one that is noted already is left as it is.
    pub(super) fn insert(&mut self, place: Place, expires_ms: u64) {
        if expires_ms != 0 && !self.contains(place.sequence, expires_ms) {
            self.by_time.insert((expires_ms, place.sequence, place.position));
            *self.counts.entry(expires_ms).or_default() += 1;
            self.dead += u64::from(expires_ms <= self.now_ms);
        }
    }

    fn entry(&self, number: u64, expires_ms: u64) -> Option<(u64, u64, u64)> {
        let all = (expires_ms, number, 0)..=(expires_ms, number, u64::MAX);
        self.by_time.range(all).next().copied()
    }

    fn contains(&self, number: u64, expires_ms: u64) -> bool {
        self.entry(number, expires_ms).is_some()
    }

    /// Forgets a message, if it is noted.
    pub(super) fn remove(&mut self, number: u64, expires_ms: u64) {
        if expires_ms == 0 {
            return;
        }
        let Some(entry) = self.entry(number, expires_ms) else { return };
        self.by_time.remove(&entry);
        if let Some(count) = self.counts.get_mut(&expires_ms) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&expires_ms);
            }
        }
        self.dead -= u64::from(expires_ms <= self.now_ms);
    }

    /// When the next one dies.
    pub(super) fn next_death(&self) -> Option<u64> {
        self.counts.range((Excluded(self.now_ms), Unbounded)).next().map(|(at_ms, _)| *at_ms)
    }

    /// When the last of them is dead, if there are `count` of them.
    pub(super) fn all_dead_at(&self, count: u64) -> Option<u64> {
        let is_all = self.by_time.len() as u64 == count;
        self.by_time.last().filter(|_| is_all).map(|(expires_ms, _, _)| *expires_ms)
    }

    /// The message that has been dead for longest, and when it expired.
    pub(super) fn first_dead(&self) -> Option<(Place, u64)> {
        let (expires_ms, sequence, position) = *self.by_time.first()?;
        (expires_ms <= self.now_ms).then_some((Place { sequence, position }, expires_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Beside a list that is looked through each time.
    #[test]
    fn the_dead_are_counted_whichever_way_the_clock_is_set() {
        let (mut random, mut expiring) = (Random::seeded(), Expiring::default());
        let mut model: Vec<(u64, u64)> = Vec::new();
        for number in 1..5000 {
            let now_ms = 100 + random.below(50);
            expiring.set_time(now_ms);
            match random.below(4) {
                0 | 1 => {
                    let expires_ms = 90 + random.below(70);
                    let place = Place { sequence: number, position: number * 8 };
                    expiring.insert(place, expires_ms);
                    expiring.insert(place, expires_ms);
                    model.push((expires_ms, number));
                }
                2 if !model.is_empty() => {
                    let chosen = random.below(model.len() as u64) as usize;
                    let (expires_ms, number) = model.swap_remove(chosen);
                    expiring.remove(number, expires_ms);
                    expiring.remove(number, expires_ms);
                }
                _ => {}
            }
            let dead = || model.iter().filter(|(expires_ms, _)| *expires_ms <= now_ms);
            assert_eq!(expiring.dead(), dead().count() as u64);
            let first = dead().min().map(|(expires_ms, number)| (*number, *expires_ms));
            let found = expiring.first_dead();
            assert_eq!(found.map(|(place, expires_ms)| (place.sequence, expires_ms)), first);
        }
    }

    #[test]
    fn what_never_expires_is_not_kept() {
        let mut expiring = Expiring::default();
        expiring.insert(Place { sequence: 1, position: 8 }, 0);
        expiring.set_time(u64::MAX);
        assert_eq!((expiring.dead(), expiring.first_dead()), (0, None));
        assert!(expiring.by_time.is_empty() && expiring.counts.is_empty());
    }
}
