//! Counters of what the storage has met since the start: read for INFO and stats.

use std::sync::atomic::{AtomicU64, Ordering};

/// Shared by all logs of a daemon.
#[derive(Debug, Default)]
pub struct Counters {
    /// Places in logs where bytes that were durable were found damaged.
    pub damaged: AtomicU64,
    /// Messages lost to damage.
    pub lost_messages: AtomicU64,
    /// Torn tails that were cut at the start.
    pub torn_tails: AtomicU64,
    /// Syncs that failed.
    pub failed_syncs: AtomicU64,
    /// Queues that were closed, for writing or as a whole.
    pub closed_queues: AtomicU64,
    /// Messages copied forward out of segments that were mostly dead.
    pub copied_messages: AtomicU64,
    /// Bytes of records that the opening of logs has read: for who waits for it, and in no list.
    pub read_bytes: AtomicU64,
}

impl Counters {
    /// Name and value of each.
    pub fn list(&self) -> Vec<(&'static str, u64)> {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            ("damaged_records", value(&self.damaged)),
            ("lost_messages", value(&self.lost_messages)),
            ("torn_tails", value(&self.torn_tails)),
            ("failed_syncs", value(&self.failed_syncs)),
            ("closed_queues", value(&self.closed_queues)),
            ("copied_messages", value(&self.copied_messages)),
        ]
    }
}

/// Adds `count` to `counter`.
pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
