//! The memory that all clients take together: input, output, and what their sessions keep.
//!
//! A client that takes little is only counted. Of those that take more than `LARGE` bytes the
//! budget knows how much each takes, so that the largest can go if there is too much in all.

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
    /// Its worker has been told to disconnect it.
    is_going: bool,
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
                let new = || Large { bytes, mailbox: Arc::clone(mailbox), is_going: false };
                large.entry(id).or_insert_with(new).bytes = bytes;
            }
        }
        let used = used.wrapping_add(bytes.wrapping_sub(before));
        if bytes > before && used > self.limit {
            self.shed(used, id, mailbox);
        }
    }

    fn shed(&self, used: usize, id: u64, mailbox: &Arc<Mailbox>) {
        let mut large = lock(&self.large);
        let going: usize = large.values().filter(|it| it.is_going).map(|it| it.bytes).sum();
        if used.saturating_sub(going) <= self.limit {
            return;
        }
        let staying = large.iter_mut().filter(|(_, it)| !it.is_going);
        match staying.max_by_key(|(_, it)| it.bytes) {
            Some((largest, it)) => {
                it.is_going = true;
                it.mailbox.post(Message::Shed(*largest));
            }
            None => mailbox.post(Message::Shed(id)),
        }
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
