//! Session: one client's state. Bytes in, bytes out.
//!
//! A session never touches a socket and never blocks, so a socket, a test and a fuzzer drive the
//! same code. It says with a ticket what its replies have to wait for; waiting is the caller's
//! affair.

mod blocked;
mod budget;
mod clients;
pub mod memcached;
pub mod process;
mod queue_list;
pub mod redis;
pub mod settings;

pub use crate::protocol::Foreign;
pub use clients::{Activity, ClientEntry, ClientHandle, ClientTable, Membership, Names, NewClient};
pub use settings::{ClientLimits, Settings};

use crate::clock::Clock;
use crate::kv::Kv;
use crate::queue::{Queues, Sums, Ticket};
use budget::Budget;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Instant;

/// One client's conversation.
pub trait Session: Send {
    /// Executes the whole requests at the start of `input` and appends their replies to `output`.
    /// Stops once `output` holds [`OUTPUT_PIECE`] bytes or more, so that the caller can send them
    /// first; and after about a millisecond of work, also in the middle of a request, so that
    /// others have their turn. It never sleeps. It waits for a sync only where a log has to make or
    /// unlink a file: for the first message of a queue, for a push or a removal that needs another
    /// segment, and on a full disk; and where a command is the first to meet damage, for a copy of
    /// the segment and a look through it, once for all damage that is there. The log says so there.
    fn advance(&mut self, input: &[u8], output: &mut Vec<u8>) -> Advance;

    /// The daemon stops: the session ends soon, and not by a fault of its client.
    fn stop(&mut self) {}

    /// Bytes of memory that the session keeps between two calls.
    fn memory(&self) -> usize {
        0
    }

    /// Whether the client is at work on what it has got: it is not idle then, although it sends
    /// nothing.
    fn is_at_work(&self) -> bool {
        false
    }
}

/// No session: for a client whose requests are over.
impl Session for () {
    fn advance(&mut self, _: &[u8], _: &mut Vec<u8>) -> Advance {
        Advance::default()
    }
}

/// What a session waits for beside input: until its [`ClientHandle`] is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// When it gives up; `None` if it does not.
    pub until: Option<Instant>,
}

/// A session hands its replies over when there are this many bytes of them.
pub const OUTPUT_PIECE: usize = 64 * 1024;

/// What [`Session::advance`] did.
#[derive(Debug, Default)]
pub struct Advance {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Bytes wanted in all, counted from the first one not consumed, before anything more can be
    /// done; 0 if the output was full: call again with what is there.
    pub need: usize,
    /// The replies may leave once this is durable.
    pub ticket: Ticket,
    /// What was consumed last belongs to a request whose rest is passed over as it comes.
    pub midway: bool,
    /// A request has begun and is not done: call again, with the same input, when others have had
    /// their turn.
    pub again: bool,
    /// A request has been done in part, or its reply has been handed over in part: it is finished
    /// although the client takes no replies, for others may wait for what it holds, and although
    /// the daemon stops.
    pub unfinished: bool,
    /// Bytes of the next request if it has changed something and is to change more, else 0: it is
    /// finished although its client has gone, and nothing behind it is executed then.
    pub half_done: usize,
    /// The session is not to be called until this is over, even if input arrives.
    pub wait: Option<Wait>,
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
    /// A message or a request is over a limit of bytes, and its rest is not read.
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// There is no memory to read a request.
    NoMemory,
    /// The client speaks another protocol; it gets no answer.
    Foreign(Foreign),
}

/// What all sessions of a daemon share.
pub struct Shared {
    /// What the commands work on.
    pub store: Store,
    /// Every command runs under the read lock, a transaction under the write lock: between its
    /// commands no other client's command runs.
    pub gate: RwLock<()>,
    /// What the daemon was started with.
    pub settings: Settings,
    /// What clients may do.
    pub limits: Arc<ClientLimits>,
    /// Who is connected.
    pub clients: Arc<ClientTable>,
    /// Counters of the daemon.
    pub statistics: Arc<Statistics>,
}

impl Shared {
    /// A daemon that has done nothing yet.
    pub fn new(store: Store, settings: Settings, limits: Arc<ClientLimits>) -> Shared {
        let (gate, clients, statistics) = (RwLock::default(), Arc::default(), Arc::default());
        Shared { store, gate, settings, limits, clients, statistics }
    }

    /// Resets the counters of both protocols, whichever of them asks: the counters are the
    /// daemon's.
    fn reset_statistics(&self) {
        let Statistics { connections_total, connections_refused, commands, traffic, .. } =
            &*self.statistics;
        let Traffic { received, sent } = &**traffic;
        for counter in [connections_total, connections_refused, commands, received, sent] {
            counter.store(0, Ordering::Relaxed);
        }
        self.statistics.redis.reset();
        self.statistics.memcached.reset(self.store.items_come());
    }
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

    /// Clients that wait for messages.
    pub fn waiting(&self) -> usize {
        match self {
            Store::Queues(queues) => queues.waiting(),
            Store::Kv(_) => 0,
        }
    }

    /// How many queues were there at the start, or have been made since.
    pub fn queues_made(&self) -> u64 {
        match self {
            Store::Queues(queues) => queues.made(),
            Store::Kv(_) => 0,
        }
    }

    /// Messages that were there at the start or have come since, or values that were set.
    fn items_come(&self) -> u64 {
        match self {
            Store::Queues(queues) => queues.came(),
            Store::Kv(kv) => kv.sets(),
        }
    }

    /// Adds up all queues as far as the turn goes, and returns true once they are.
    fn add_up(&self, sums: &mut Sums, budget: &mut Budget) -> bool {
        let Store::Queues(queues) = self else { return true };
        while !queues.add_up(sums) {
            budget.spend(budget::ADD_UP);
            if budget.is_used_up() {
                return false;
            }
        }
        true
    }

    /// Bytes that what is in the store may take, 0 for no limit: the disk store has none.
    pub fn max_memory(&self) -> u64 {
        match self {
            Store::Queues(queues) => queues.memory().map_or(0, |(_, limit)| limit),
            Store::Kv(kv) => kv.max_memory(),
        }
    }

    /// Another such limit from now on, where there is one.
    pub fn set_max_memory(&self, bytes: u64) {
        match self {
            Store::Queues(queues) => queues.set_memory_limit(bytes),
            Store::Kv(kv) => kv.set_max_memory(bytes),
        }
    }
}

/// Bytes that clients have sent and have been sent.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes from clients.
    pub received: AtomicU64,
    /// Bytes to clients.
    pub sent: AtomicU64,
}

/// Counters of the daemon since the start or the last reset: the server counts connections,
/// sessions count commands.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Clients connected now.
    pub connections_now: AtomicU64,
    /// Clients accepted.
    pub connections_total: AtomicU64,
    /// Clients turned away because there were too many.
    pub connections_refused: AtomicU64,
    /// Bytes of all clients.
    pub traffic: Arc<Traffic>,
    /// Commands executed.
    pub commands: AtomicU64,
    /// Those over Redis, one by one.
    pub redis: redis::CommandCounts,
    /// Those over memcached, and what they met.
    pub memcached: memcached::MemcachedCounts,
}
