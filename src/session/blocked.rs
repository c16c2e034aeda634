//! A request that waits until a queue has a message: how it is woken, when it gives up, and what
//! others see of it.

use super::{ClientEntry, Membership, Wait, queue_list};
use crate::queue::{Handed, Queues, Registration};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a request waits, or `None` if it waits for ever.
pub(super) type Timeout = Option<Duration>;

/// Bytes that a place in the line of a queue takes beside the name.
const PLACE_BYTES: usize = 256;

/// A request that waits. When it is dropped, the wait ends, and the next client in line gets what
/// it was handed.
pub(super) struct Blocked {
    registration: Registration,
    /// When it gives up, by the uptime.
    until: Timeout,
    entry: Arc<ClientEntry>,
    memory: usize,
}

/// What has become of the wait.
pub(super) enum Waited {
    /// It has been handed a message.
    Handed(Handed),
    /// Its time is up, or another client has ended it.
    Over { with_error: bool },
    /// It goes on.
    Longer(Wait),
}

impl Blocked {
    /// Lets a client wait for a message of the first of these queues that has one.
    pub fn new<'n>(
        queues: &Arc<Queues>,
        names: impl Iterator<Item = &'n [u8]> + Clone,
        timeout: Timeout,
        client: &Membership,
    ) -> Blocked {
        let (entry, waker) = (client.share(), client.share());
        entry.note_waiting(Some(queue_list::written(names.clone())));
        let uptime = queues.clock().uptime();
        let memory = names.clone().map(|name| PLACE_BYTES + 2 * name.len()).sum();
        Blocked {
            registration: queues.wait_for(names, Box::new(move || waker.wake())),
            until: timeout.map(|timeout| uptime.saturating_add(timeout)),
            entry,
            memory,
        }
    }

    /// Bytes of memory that the wait takes.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// What has become of the wait by `uptime`.
    pub fn look(&self, uptime: Duration) -> Waited {
        if let Some(handed) = self.registration.handed() {
            return Waited::Handed(handed);
        }
        if let Some(with_error) = self.entry.unblocked_with_error() {
            return Waited::Over { with_error };
        }
        match self.until.map(|until| until.saturating_sub(uptime)) {
            Some(Duration::ZERO) => Waited::Over { with_error: false },
            // A time that `Instant` cannot express never comes.
            left => Waited::Longer(Wait {
                until: left.and_then(|left| Instant::now().checked_add(left)),
            }),
        }
    }

    /// What it was handed is the client's.
    pub fn take(mut self) {
        self.registration.keep();
    }

    /// What it was handed has gone: it waits on, at its old place.
    pub fn wait_again(&self) {
        self.registration.wait_again();
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.entry.note_waiting(None);
    }
}
