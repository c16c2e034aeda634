//! The clients that are connected: admission, and the list of live connections for the stop.
//!
//! Admission is counted when a connection is accepted, because the pool's own queue has no bound.
//! The count is given back by a guard, so a handler that panics gives it back too.

use super::lock;
use super::wire::Wire;
use crate::logging;
use crate::session::Statistics;
use std::collections::HashMap;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// All live connections.
pub(super) struct Clients {
    most: usize,
    live: Mutex<HashMap<u64, Arc<dyn Wire>>>,
    /// Told when the last client leaves.
    empty: Condvar,
    stopping: AtomicBool,
    statistics: Arc<Statistics>,
}

impl Clients {
    /// At most `most` clients at a time.
    pub(super) fn new(most: usize, statistics: Arc<Statistics>) -> Clients {
        Clients {
            most,
            live: Mutex::default(),
            empty: Condvar::new(),
            stopping: AtomicBool::new(false),
            statistics,
        }
    }

    /// Counts a client in until the guard is dropped; None: there are as many as there may be.
    pub(super) fn admit(self: &Arc<Self>, id: u64, wire: Arc<dyn Wire>) -> Option<Client> {
        let mut live = lock(&self.live);
        if live.len() >= self.most {
            let limit = format_args!("the limit is {} (--max-clients)", self.most);
            logging::refused("too many clients", limit);
        }
        if live.len() >= self.most || self.is_stopping() {
            self.statistics.connections_refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        live.insert(id, wire);
        self.statistics.connections_total.fetch_add(1, Ordering::Relaxed);
        self.statistics.connections_now.store(live.len() as u64, Ordering::Relaxed);
        Some(Client { clients: Arc::clone(self), id })
    }

    /// Whether there is one client and no other.
    pub(super) fn is_one(&self) -> bool {
        lock(&self.live).len() == 1
    }

    /// Whether handlers should end after the commands in hand.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Admits nobody from now on, and ends the reading of every client that is there.
    pub(super) fn stop(&self) {
        let live = lock(&self.live);
        self.stopping.store(true, Ordering::Release);
        live.values().for_each(|wire| wire.shutdown(Shutdown::Read));
    }

    /// Ends every connection that is still there.
    pub(super) fn disconnect(&self) {
        lock(&self.live).values().for_each(|wire| wire.shutdown(Shutdown::Both));
    }

    /// Waits until nobody is there, no longer than `timeout`; answers how many remain.
    pub(super) fn wait_until_empty(&self, timeout: Duration) -> usize {
        let live = lock(&self.live);
        let (live, _) = self
            .empty
            .wait_timeout_while(live, timeout, |live| !live.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        live.len()
    }
}

/// One admitted client.
pub(super) struct Client {
    clients: Arc<Clients>,
    id: u64,
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut live = lock(&self.clients.live);
        live.remove(&self.id);
        self.clients.statistics.connections_now.store(live.len() as u64, Ordering::Relaxed);
        if live.is_empty() {
            self.clients.empty.notify_all();
        }
    }
}
