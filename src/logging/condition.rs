//! Conditions that last, such as a full disk: said when they begin and when they end, not for each
//! request that meets them.
//!
//! A condition begins with the first request that is refused for it. It is over when nobody has met
//! it for [`QUIET`]: clients that free some room again and again, and fill it, do not fill the log.
//! While nothing is wrong nobody pays anything.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A condition that nobody has met for so long is over.
pub(super) const QUIET: Duration = Duration::from_secs(5);

/// Conditions at a time: further ones are one.
const MOST: usize = 64;

/// The name of all conditions beyond [`MOST`].
const OTHERS: &str = "more of the kind";

/// The conditions that last, by their names. The time is the caller's: any clock that does not go
/// back.
#[derive(Debug, Default)]
pub(super) struct Conditions(Mutex<BTreeMap<String, Episode>>);

/// From the beginning of a condition to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Episode {
    begun: Duration,
    last: Duration,
    /// How often it was met.
    pub(super) count: u64,
}

impl Episode {
    /// From the first time that it was met to the last.
    pub(super) fn length(&self) -> Duration {
        self.last - self.begun
    }
}

impl Conditions {
    pub(super) const fn new() -> Conditions {
        Conditions(Mutex::new(BTreeMap::new()))
    }

    /// Counts that the condition `name` was met. Returns the name that it has here if it begins
    /// with that, or `None` if it goes on.
    pub(super) fn meet<'n>(&self, name: &'n str, now: Duration) -> Option<&'n str> {
        let mut episodes = self.lock();
        let is_one_of_many = episodes.len() >= MOST && !episodes.contains_key(name);
        let name = if is_one_of_many { OTHERS } else { name };
        if let Some(episode) = episodes.get_mut(name) {
            episode.last = now;
            episode.count += 1;
            return None;
        }
        episodes.insert(name.into(), Episode { begun: now, last: now, count: 1 });
        Some(name)
    }

    /// Ends what has not been met for [`QUIET`], and says it with `over`.
    pub(super) fn settle(&self, now: Duration, mut over: impl FnMut(&str, Episode)) {
        let mut ended = Vec::new();
        self.lock().retain(|name, episode| {
            let lasts = now < episode.last + QUIET;
            if !lasts {
                ended.push((name.clone(), *episode));
            }
            lasts
        });
        ended.iter().for_each(|(name, episode)| over(name, *episode));
    }

    /// True when there is nothing to settle later.
    pub(super) fn is_settled(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Episode>> {
        // Episodes are changed in single steps: what a panic left is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn ended(conditions: &Conditions, now: Duration) -> Vec<(String, u64, Duration)> {
        let mut ended = Vec::new();
        conditions.settle(now, |name, episode| {
            ended.push((name.to_owned(), episode.count, episode.length()));
        });
        ended
    }

    #[test]
    fn a_condition_begins_once_and_ends_once_it_has_been_quiet() {
        let conditions = Conditions::new();
        assert_eq!(conditions.meet("full", at(1000)), Some("full"));
        assert_eq!(conditions.meet("full", at(2000)), None);
        assert_eq!(conditions.meet("full", at(4000)), None);
        assert_eq!(ended(&conditions, at(4000) + QUIET - at(1)), []);
        assert!(!conditions.is_settled());
        assert_eq!(ended(&conditions, at(4000) + QUIET), [("full".into(), 3, at(3000))]);
        assert!(conditions.is_settled());
        assert_eq!(conditions.meet("full", at(60_000)), Some("full"));
    }

    #[test]
    fn flapping_is_one_condition() {
        let conditions = Conditions::new();
        let begun = (0..1000).filter(|n| conditions.meet("full", at(n * 4000)).is_some()).count();
        assert_eq!(begun, 1);
        assert_eq!(ended(&conditions, at(999 * 4000)), []);
    }

    #[test]
    fn conditions_have_beginnings_of_their_own_up_to_a_bound() {
        let conditions = Conditions::new();
        let begun = |n: usize| conditions.meet(&format!("queue {n}"), at(0)).map(String::from);
        for n in 0..MOST {
            assert_eq!(begun(n), Some(format!("queue {n}")));
        }
        assert_eq!(begun(MOST), Some(OTHERS.into()));
        assert_eq!(begun(MOST + 1), None);
        assert_eq!(begun(0), None);
        assert_eq!(ended(&conditions, QUIET).len(), MOST + 1);
    }
}
