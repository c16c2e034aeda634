//! Session: one client's state. Bytes in, bytes out.
//!
//! A session never touches a socket and never blocks, so a socket, a test and a fuzzer drive the
//! same code. It says with a ticket what its replies have to wait for; waiting is the caller's
//! affair.

pub mod memcached;
pub mod redis;

use crate::clock::Clock;
use crate::kv::Kv;
use crate::queue::{Queues, Ticket};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};

/// One client's conversation.
pub trait Session: Send {
    /// Executes the whole requests at the start of `input` and appends their replies to `output`.
    /// Stops once `output` holds [`OUTPUT_PIECE`] bytes or more, so that the caller can send them
    /// first.
    fn advance(&mut self, input: &[u8], output: &mut Vec<u8>) -> Advance;
}

/// A session hands its replies over when there are this many bytes of them.
pub const OUTPUT_PIECE: usize = 64 * 1024;

/// What [`Session::advance`] did.
#[derive(Debug, Default)]
pub struct Advance {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Bytes wanted in all, counted from the first one not consumed, before anything more can be
    /// done; 0: call again with what is there, the output was full.
    pub need: usize,
    /// The replies may leave once this is durable.
    pub ticket: Ticket,
    /// What was consumed last belongs to a request whose rest is passed over as it comes.
    pub midway: bool,
    /// The connection ends after these replies.
    pub close: Option<Close>,
}

/// Why a session ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The client asked for it.
    Quit,
    /// The input is not the protocol; nothing after it can be understood.
    Framing,
    /// A browser, or something that was made to speak HTTP here.
    Http,
}

/// What all sessions of a daemon share.
pub struct Shared {
    /// What the commands work on.
    pub store: Store,
    /// Every command runs under the read lock, a transaction under the write lock: between its
    /// commands no other client's command runs.
    pub gate: RwLock<()>,
    /// The longest message or value in bytes (`--max-message`).
    pub max_message: usize,
    /// What the daemon was started with.
    pub settings: Settings,
    /// Counters of the daemon.
    pub statistics: Arc<Statistics>,
}

/// The store of a daemon.
pub enum Store {
    /// Queues, in memory or on disk.
    Queues(Arc<Queues>),
    /// Keys and values.
    Kv(Arc<Kv>),
}

impl Store {
    /// The clock that what is in the store expires by; its uptime is the daemon's.
    pub fn clock(&self) -> &Clock {
        match self {
            Store::Queues(queues) => queues.clock(),
            Store::Kv(kv) => kv.clock(),
        }
    }
}

/// What the daemon was started with, as CONFIG GET, INFO and stats show it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Clients at once.
    pub max_clients: usize,
    /// Seconds after which an idle client is closed; 0 = never.
    pub idle_timeout_s: u64,
    /// Bytes for the memory and kv stores.
    pub max_memory: u64,
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
}

/// Counters of the daemon: the server counts connections, sessions count commands.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Clients connected now.
    pub connections_now: AtomicU64,
    /// Clients accepted since the start.
    pub connections_total: AtomicU64,
    /// Clients turned away because there were too many.
    pub connections_refused: AtomicU64,
    /// Commands executed since the start.
    pub commands: AtomicU64,
}
