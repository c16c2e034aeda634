//! The time of day: what times of expiry are compared with.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time of day; a clone tells the same. [`Clock::default`] is the system's.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    /// A clock that shows what `read` answers, the time since 1970.
    pub fn new(read: impl Fn() -> Duration + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(read))
    }

    /// The time since 1970 (Unix time).
    pub fn now(&self) -> Duration {
        (self.0)()
    }

    /// Unix time in milliseconds.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for Clock {
    /// The system's clock. Before 1970 it shows 0, and then nothing expires.
    fn default() -> Clock {
        Clock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:?})", self.now())
    }
}

/// A clock for tests: it shows the milliseconds that stand in the number.
#[cfg(test)]
pub(crate) fn set_by_hand() -> (Clock, Arc<std::sync::atomic::AtomicU64>) {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    let time_ms = Arc::new(AtomicU64::new(1_700_000_000_123));
    let read = Arc::clone(&time_ms);
    (Clock::new(move || Duration::from_millis(read.load(Relaxed))), time_ms)
}
