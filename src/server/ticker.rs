//! The thread that commits every second, if the policy asks for that.

use super::lock;
use crate::queue::Durability;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A running thread.
pub(super) struct Ticker {
    stopping: Arc<(Mutex<bool>, Condvar)>,
    thread: JoinHandle<()>,
}

impl Ticker {
    /// Commits as often as `durability` wants. Returns `None` if it wants no commit by itself.
    pub(super) fn start(durability: Arc<dyn Durability>) -> io::Result<Option<Ticker>> {
        let Some(interval_ms) = durability.interval_ms() else { return Ok(None) };
        let interval = Duration::from_millis(interval_ms);
        let stopping = Arc::new((Mutex::new(false), Condvar::new()));
        let stop = Arc::clone(&stopping);
        let tick = move || {
            while !is_stopped(&stop, interval) {
                durability.commit();
            }
        };
        let thread = thread::Builder::new().name("commit".into()).spawn(tick)?;
        Ok(Some(Ticker { stopping, thread }))
    }

    /// Ends the thread after the commit that is under way.
    pub(super) fn stop(self) {
        *lock(&self.stopping.0) = true;
        self.stopping.1.notify_one();
        // A panic has been logged by its hook.
        let _ = self.thread.join();
    }
}

/// Waits for `interval`. Returns true as soon as the ticker is to stop.
fn is_stopped((stopping, changed): &(Mutex<bool>, Condvar), interval: Duration) -> bool {
    let waited = changed.wait_timeout_while(lock(stopping), interval, |stopping| !*stopping);
    *waited.unwrap_or_else(PoisonError::into_inner).0
}
