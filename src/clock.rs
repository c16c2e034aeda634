//! The time: of day, which times of expiry are compared with, and since the start.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

type Reading = dyn Fn() -> Duration + Send + Sync;

/// Unix time by the system's clock. Before 1970 it is 0, and then nothing expires.
pub fn system_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A time in whole milliseconds.
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A source of the time. A clone shares it. [`Clock::default`] is the system's.
#[derive(Clone)]
pub struct Clock {
    day: Arc<Reading>,
    uptime: Arc<Reading>,
}

impl Clock {
    /// A clock that shows what `read` answers, the time since 1970; its uptime goes by it too.
    pub fn new(read: impl Fn() -> Duration + Send + Sync + 'static) -> Clock {
        let (start, day) = (read(), Arc::new(read));
        let same = Arc::clone(&day);
        Clock { day, uptime: Arc::new(move || same().saturating_sub(start)) }
    }

    /// The time since 1970 (Unix time).
    pub fn now(&self) -> Duration {
        (self.day)()
    }

    /// The time since this clock was made. The system's uses the monotonic clock.
    pub fn uptime(&self) -> Duration {
        (self.uptime)()
    }

    /// Unix time in milliseconds.
    pub fn now_ms(&self) -> u64 {
        milliseconds(self.now())
    }
}

impl Default for Clock {
    /// The system's clock.
    fn default() -> Clock {
        let start = Instant::now();
        Clock { day: Arc::new(system_time), uptime: Arc::new(move || start.elapsed()) }
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
