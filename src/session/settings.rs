//! What the daemon was started with, and what of it may change while it runs.

use super::process::ProcessMemory;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What the daemon was started with, as CONFIG GET, INFO and stats show it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `disk`, `memory` or `kv`.
    pub store: &'static str,
    /// `always`, `everysec` or `never`.
    pub fsync: &'static str,
    /// The disk store's directory.
    pub directory: String,
    /// The port of the Redis listener; 0 without one.
    pub redis_port: u16,
    /// The port of the memcached listener; 0 without one.
    pub memcached_port: u16,
    /// Threads that serve clients.
    pub workers: usize,
    /// Clients that the open files of the process have room for.
    pub room_for_clients: usize,
    /// Tells the process's memory; `None`: nobody does, as in a test.
    pub process_memory: Option<fn() -> ProcessMemory>,
}

/// What clients may do. CONFIG SET changes it while the daemon runs: sessions and the server read
/// it each time that it matters, and keep no copy.
#[derive(Debug)]
pub struct ClientLimits {
    /// Clients at once (`--max-clients`).
    pub max_clients: AtomicUsize,
    /// Seconds after which an idle client is closed, 0 for never (`--idle-timeout`).
    pub idle_timeout_s: AtomicU64,
    /// The longest message or value in bytes (`--max-message`).
    pub max_message: AtomicUsize,
    /// Bytes of replies that are kept for a client that does not read them, and again as many of
    /// what it goes on sending (`--max-output`).
    pub max_output: AtomicUsize,
    /// Seconds that a leased message stays with its worker (`--lease`).
    pub lease_s: AtomicU64,
}

impl ClientLimits {
    /// The longest message or value in bytes.
    pub fn max_message(&self) -> usize {
        self.max_message.load(Ordering::Relaxed)
    }

    /// How long a client may send nothing, take for one request, or take to read a reply; `None`
    /// for ever.
    pub fn idle_timeout(&self) -> Option<Duration> {
        let seconds = self.idle_timeout_s.load(Ordering::Relaxed);
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    /// How long a leased message stays with its worker.
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_s.load(Ordering::Relaxed))
    }

    /// Clients at once.
    pub fn max_clients(&self) -> usize {
        self.max_clients.load(Ordering::Relaxed)
    }

    /// Bytes of replies that are kept for a client that does not read them.
    pub fn max_output(&self) -> usize {
        self.max_output.load(Ordering::Relaxed)
    }
}

impl Default for ClientLimits {
    /// For tests: no limit that they would meet.
    fn default() -> ClientLimits {
        ClientLimits {
            max_clients: 256.into(),
            idle_timeout_s: 0.into(),
            max_message: (1 << 20).into(),
            max_output: (32 << 20).into(),
            lease_s: 300.into(),
        }
    }
}

/// What `--max-message` may be, in bytes. Names of queues and words of commands are under it too.
pub const MESSAGE_SIZES: RangeInclusive<u64> = 1 << 10..=512 << 20;
/// What `--max-clients` may be.
pub const CLIENTS: RangeInclusive<u64> = 1..=100_000;
/// What `--idle-timeout` may be, in seconds.
pub const IDLE_SECONDS: RangeInclusive<u64> = 0..=100 * 365 * 86_400;
/// What `--lease` may be, in seconds.
pub const LEASE_SECONDS: RangeInclusive<u64> = 1..=100 * 365 * 86_400;
/// What `--max-queues` may be.
pub const QUEUES: RangeInclusive<u64> = 1..=1 << 32;
/// What `--max-memory` may be, in bytes.
pub const MEMORY_SIZES: RangeInclusive<u64> = 1 << 20..=1 << 50;
/// What `--max-output` may be, in bytes. A session hands over 64 KiB of replies at once.
pub const OUTPUT_SIZES: RangeInclusive<u64> = 64 << 10..=1 << 30;
