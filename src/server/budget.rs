//! The memory that all clients take together: input, output, and what their sessions keep.
//!
//! A client that takes little is only counted. Of those that take more than `LARGE` bytes the
//! budget knows how much each takes, so that the largest can go if there is too much in all. One
//! that goes in the middle of a change keeps its request until that is done. It counts until then,
//! so others go in its place; what all take is above the bound only until they have gone.

use super::lock;
use super::mailbox::{Mailbox, Message};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Bytes from which on a client is known by name.
const LARGE: usize = 64 * 1024;

/// The bound over all clients, in bytes.
pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
    large: Mutex<HashMap<u64, Large>>,
}

struct Large {
    bytes: usize,
    mailbox: Arc<Mailbox>,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    /// Its worker is to disconnect it.
    Goes,
    /// It has gone, and a change of its is being finished: nothing ends that sooner.
    Finishes,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Budget {
        Budget { limit, used: AtomicUsize::new(0), large: Mutex::default() }
    }

    /// Notes that client `id` takes `bytes` now, and `before` until now. If all clients take too
    /// much and this one has grown, the largest of them is to go.
    pub(super) fn change(&self, id: u64, mailbox: &Arc<Mailbox>, before: usize, bytes: usize) {
        if bytes == before {
            return;
        }
        let used = self.used.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
        if bytes.max(before) >= LARGE {
            let mut large = lock(&self.large);
            if bytes < LARGE {
                large.remove(&id);
            } else {
                let new = || Large { bytes, mailbox: Arc::clone(mailbox), fate: Fate::Stays };
                large.entry(id).or_insert_with(new).bytes = bytes;
            }
        }
        let used = used.wrapping_add(bytes.wrapping_sub(before));
        if bytes > before && !self.shed(used) {
            mailbox.post(Message::Shed(id));
        }
    }

    /// Notes that client `id` has gone but for a change that is being finished.
    pub(super) fn finishes(&self, id: u64) {
        if let Some(it) = lock(&self.large).get_mut(&id) {
            it.fate = Fate::Finishes;
        }
        self.shed(self.used.load(Ordering::Relaxed));
    }

    /// Dismisses the largest client if all take too much, `used` bytes. Returns false if no known
    /// client can go.
    fn shed(&self, used: usize) -> bool {
        if used <= self.limit {
            return true;
        }
        let mut large = lock(&self.large);
        let going = large.values().filter(|it| it.fate == Fate::Goes);
        if used.saturating_sub(going.map(|it| it.bytes).sum()) <= self.limit {
            return true;
        }
        let staying = large.iter_mut().filter(|(_, it)| it.fate == Fate::Stays);
        let Some((largest, it)) = staying.max_by_key(|(_, it)| it.bytes) else { return false };
        it.fate = Fate::Goes;
        it.mailbox.post(Message::Shed(*largest));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::poller::Poller;

    fn shed(mailbox: &Mailbox) -> Vec<u64> {
        let id = |message| match message {
            Message::Shed(id) => Some(id),
            _ => None,
        };
        mailbox.take().into_iter().filter_map(id).collect()
    }

    fn mailbox() -> Arc<Mailbox> {
        Arc::new(Mailbox::new(Poller::new().unwrap().wake().unwrap()))
    }

    #[test]
    fn the_largest_goes_whoever_grew_last() {
        let (first, second) = (mailbox(), mailbox());
        let budget = Budget::new(10 * LARGE);
        budget.change(1, &first, 0, 4 * LARGE);
        budget.change(2, &second, 0, 5 * LARGE);
        assert_eq!(shed(&second), [0; 0], "there is room");
        budget.change(1, &first, 4 * LARGE, 4 * LARGE + 100);
        budget.change(3, &first, 0, LARGE);
        assert_eq!((shed(&first), shed(&second)), (vec![], vec![2]));
        budget.change(3, &first, LARGE, LARGE + 1);
        assert_eq!((shed(&first), shed(&second)), (vec![], vec![]), "it is going already");
        budget.change(2, &second, 5 * LARGE, 0);
        budget.change(3, &first, LARGE + 1, 6 * LARGE);
        assert_eq!((shed(&first), shed(&second)), (vec![3], vec![]));
        budget.change(3, &first, 6 * LARGE, 0);
        budget.change(1, &first, 4 * LARGE + 100, 0);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
        assert!(lock(&budget.large).is_empty());
    }

    /// A fault of before: a client that was to go was not counted any more.
    #[test]
    fn others_go_in_place_of_one_that_finishes_a_change() {
        let (first, second, budget) = (mailbox(), mailbox(), Budget::new(10 * LARGE));
        budget.change(1, &first, 0, 6 * LARGE);
        budget.change(2, &second, 0, 3 * LARGE);
        budget.change(3, &second, 0, 2 * LARGE);
        assert_eq!((shed(&first), shed(&second)), (vec![1], vec![]));
        budget.finishes(1);
        assert_eq!((shed(&first), shed(&second)), (vec![], vec![2]));
        budget.change(2, &second, 3 * LARGE, 0);
        budget.change(1, &first, 6 * LARGE, 9 * LARGE);
        assert_eq!((shed(&first), shed(&second)), (vec![], vec![3]));
        budget.change(3, &second, 2 * LARGE, 0);
        budget.change(1, &first, 9 * LARGE, 0);
        budget.change(1, &first, 0, 9 * LARGE);
        budget.change(2, &second, 0, 2 * LARGE);
        assert_eq!((shed(&first), shed(&second)), (vec![1], vec![]), "it is another client");
    }

    #[test]
    fn of_small_clients_the_one_that_grows_goes() {
        let (mailbox, budget) = (mailbox(), Budget::new(10 * LARGE));
        (0..20).for_each(|id| budget.change(id, &mailbox, 0, LARGE / 2));
        assert_eq!(shed(&mailbox), [0; 0]);
        budget.change(20, &mailbox, 0, 1);
        assert_eq!(shed(&mailbox), [20]);
        budget.change(19, &mailbox, LARGE / 2, 1);
        assert_eq!(shed(&mailbox), [0; 0]);
    }
}
