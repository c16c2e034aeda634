//! The thread that commits every second, if the policy asks for that.

use super::lock;
use crate::queue::Durability;
use std::io;
use std::panic::{self, AssertUnwindSafe};
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
                // A panic has been logged, and what that commit had taken counts as failed. The
                // other queues are synced still.
                let _ = panic::catch_unwind(AssertUnwindSafe(|| durability.commit()));
            }
        };
        let thread = thread::Builder::new().name("commit".into()).spawn(tick)?;
        Ok(Some(Ticker { stopping, thread }))
    }

    /// Ends the thread after the commit that is under way.
    pub(super) fn stop(self) {
        *lock(&self.stopping.0) = true;
        self.stopping.1.notify_one();
        // It ends without a panic.
        let _ = self.thread.join();
    }
}

/// Waits for `interval`. Returns true as soon as the ticker is to stop.
fn is_stopped((stopping, changed): &(Mutex<bool>, Condvar), interval: Duration) -> bool {
    let waited = changed.wait_timeout_while(lock(stopping), interval, |stopping| !*stopping);
    *waited.unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{ReplyVerdict, Ticket};
    use std::sync::mpsc::{Sender, channel};

    struct Panicking(Mutex<Sender<()>>);

    impl Durability for Panicking {
        fn verdict(&self, _: &Ticket) -> ReplyVerdict {
            ReplyVerdict::Leave
        }

        fn commit(&self) {
            lock(&self.0).send(()).expect("the test waits");
            panic::resume_unwind(Box::new("a fault"));
        }

        fn interval_ms(&self) -> Option<u64> {
            Some(1)
        }
    }

    /// It was the last commit of all: nothing was synced every second any more.
    #[test]
    fn a_commit_that_panics_is_not_the_last_one() {
        let (sender, commits) = channel();
        let ticker = Ticker::start(Arc::new(Panicking(Mutex::new(sender)))).unwrap().unwrap();
        for _ in 0..3 {
            commits.recv().unwrap();
        }
        drop(ticker);
    }
}
