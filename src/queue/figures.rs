//! The figures of one queue, for monitors.

/// The figures of a queue. Totals count from when the queue was made, or from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Messages that wait.
    pub length: u64,
    /// Messages that workers have.
    pub leased: u64,
    /// Bytes of their bodies in memory, or of their records on disk.
    pub bytes: u64,
    /// Bytes of the queue's files.
    pub disk_bytes: u64,
    /// Milliseconds since the oldest message was pushed; 0 where there is none, and `None` where
    /// more of the dead are in front of it than one look passes.
    pub oldest_age_ms: Option<u64>,
    /// Messages that came, went, and died of age.
    pub totals: Totals,
    /// Milliseconds since the queue was made, or since the start.
    pub age_ms: u64,
    /// Milliseconds since the last command on it, those of monitors left out.
    pub idle_ms: u64,
    /// The queue is closed for writing until the next start.
    pub is_closed: bool,
}

/// Messages that passed through a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Pushed.
    pub came: u64,
    /// Popped, removed or moved.
    pub went: u64,
    /// Expired, and removed since.
    pub expired: u64,
}
