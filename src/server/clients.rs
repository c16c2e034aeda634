//! The clients that are connected: admission, and their number for the stop.
//!
//! The count is given back by a guard, so a client whose session panics gives it back too.

use super::lock;
use crate::logging;
use crate::session::{ClientLimits, Statistics, Traffic};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The number of live connections.
pub(super) struct Clients {
    limits: Arc<ClientLimits>,
    live: Mutex<usize>,
    /// Notified when the last client leaves.
    empty: Condvar,
    stopping: AtomicBool,
    statistics: Arc<Statistics>,
}

impl Clients {
    pub(super) fn new(limits: Arc<ClientLimits>, statistics: Arc<Statistics>) -> Clients {
        Clients {
            limits,
            live: Mutex::default(),
            empty: Condvar::new(),
            stopping: AtomicBool::new(false),
            statistics,
        }
    }

    /// Counts a client in until the place is dropped. Returns `None` if there are as many as there
    /// may be, or if the daemon stops.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Place> {
        let mut live = lock(&self.live);
        let most = self.limits.max_clients();
        if *live >= most {
            let limit = format_args!("the limit is {most} (--max-clients)");
            logging::refused("too many clients", limit);
        }
        if *live >= most || self.is_stopping() {
            self.statistics.connections_refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *live += 1;
        self.statistics.connections_total.fetch_add(1, Ordering::Relaxed);
        self.statistics.connections_now.store(*live as u64, Ordering::Relaxed);
        Some(Place { clients: Arc::clone(self) })
    }

    /// Where the bytes of a client count.
    pub(super) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.statistics.traffic)
    }

    /// Whether nobody is admitted any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Admits nobody from now on.
    pub(super) fn stop(&self) {
        let _live = lock(&self.live);
        self.stopping.store(true, Ordering::Release);
    }

    /// Waits until nobody is there, no longer than `timeout`; returns how many remain.
    pub(super) fn wait_until_empty(&self, timeout: Duration) -> usize {
        let live = lock(&self.live);
        let (live, _) = self
            .empty
            .wait_timeout_while(live, timeout, |live| *live > 0)
            .unwrap_or_else(PoisonError::into_inner);
        *live
    }
}

/// One admitted client's place.
pub(super) struct Place {
    clients: Arc<Clients>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut live = lock(&self.clients.live);
        *live -= 1;
        self.clients.statistics.connections_now.store(*live as u64, Ordering::Relaxed);
        if *live == 0 {
            self.clients.empty.notify_all();
        }
    }
}
