//! Who is connected: one entry for each client, which CLIENT LIST shows and CLIENT KILL ends.
//!
//! A session enters itself when it begins and leaves when it is dropped. An entry is small, and its
//! lock is held for a few moves of words, by the session after each turn and by a session that
//! lists.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most clients that are looked at at once.
pub const PAGE: usize = 64;

/// What one session may do to another's connection; the server makes it.
pub trait ClientHandle: Send + Sync {
    /// Ends the session's [`Wait`](super::Wait), from any thread. Never blocks.
    fn wake(&self);

    /// Ends the connection soon, from any thread: a wait for its input ends, no further request of
    /// it is executed, and its session is dropped. Never blocks.
    fn close(&self);
}

/// No connection: for sessions that a test or a fuzzer drives.
impl ClientHandle for () {
    fn wake(&self) {}

    fn close(&self) {}
}

/// A connection as the server hands it to its session.
pub struct NewClient {
    /// Unique among all connections since the start.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that it has connected to.
    pub local: SocketAddr,
    /// How others end it.
    pub handle: Arc<dyn ClientHandle>,
}

impl NewClient {
    /// A client without a connection.
    pub fn detached(id: u64) -> NewClient {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        NewClient { id, peer: address(9), local: address(4000), handle: Arc::new(()) }
    }
}

/// What a client was last seen doing.
#[derive(Clone, Debug)]
pub struct Activity {
    /// When, by the uptime.
    pub at: Duration,
    /// The last command, in the protocol's spelling.
    pub command: &'static str,
    /// Requests queued since MULTI; `None` outside of a transaction.
    pub queued: Option<usize>,
    /// The protocol's version: 2 or 3 for Redis, 0 for memcached.
    pub version: u8,
}

/// The names that a client gives itself and its library.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME.
    pub library: Vec<u8>,
    /// CLIENT SETINFO LIB-VER.
    pub library_version: Vec<u8>,
}

/// What a client waits for.
#[derive(Debug, Default, PartialEq, Eq)]
enum Waits {
    /// Nothing.
    #[default]
    Not,
    /// A message of these queues, as a list shows them.
    ForMessage { queues: String },
    /// Another client has ended its wait: as its timeout does, or with an error.
    Ended { with_error: bool },
}

/// One client of the table.
pub struct ClientEntry {
    /// Unique among all connections since the start.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that it has connected to.
    pub local: SocketAddr,
    /// When it connected, by the uptime.
    pub connected: Duration,
    handle: Arc<dyn ClientHandle>,
    activity: Mutex<Activity>,
    names: Mutex<Names>,
    waits: Mutex<Waits>,
}

impl ClientEntry {
    /// Notes what the client has just done.
    pub fn note(&self, activity: Activity) {
        *lock(&self.activity) = activity;
    }

    /// What the client was last seen doing.
    pub fn activity(&self) -> Activity {
        lock(&self.activity).clone()
    }

    /// The client's names, to be read or changed.
    pub fn names(&self) -> MutexGuard<'_, Names> {
        lock(&self.names)
    }

    /// The client waits for a message of these queues from now on, or does not.
    pub fn note_waiting(&self, queues: Option<String>) {
        let waits = queues.map_or(Waits::Not, |queues| Waits::ForMessage { queues });
        *lock(&self.waits) = waits;
    }

    /// The queues that the client waits for, or `None` if it does not wait.
    pub fn waits_for(&self) -> Option<String> {
        match &*lock(&self.waits) {
            Waits::ForMessage { queues } => Some(queues.clone()),
            Waits::Not | Waits::Ended { .. } => None,
        }
    }

    /// Ends the client's wait. Returns false if it does not wait.
    pub fn unblock(&self, with_error: bool) -> bool {
        let mut waits = lock(&self.waits);
        if !matches!(*waits, Waits::ForMessage { .. }) {
            return false;
        }
        *waits = Waits::Ended { with_error };
        drop(waits);
        self.wake();
        true
    }

    /// How another client has ended this one's wait, if one has.
    pub fn unblocked_with_error(&self) -> Option<bool> {
        match *lock(&self.waits) {
            Waits::Ended { with_error } => Some(with_error),
            Waits::Not | Waits::ForMessage { .. } => None,
        }
    }

    /// Lets the client's session look again at what it waits for.
    pub fn wake(&self) {
        self.handle.wake();
    }

    /// Ends the client's connection.
    pub fn close(&self) {
        self.handle.close();
    }
}

/// All clients, by number.
#[derive(Default)]
pub struct ClientTable {
    entries: Mutex<BTreeMap<u64, Arc<ClientEntry>>>,
}

impl ClientTable {
    /// Enters a client that has connected at `uptime`. It leaves when the answer is dropped.
    pub fn enter(self: &Arc<Self>, client: NewClient, version: u8, uptime: Duration) -> Membership {
        let NewClient { id, peer, local, handle } = client;
        let activity = Activity { at: uptime, command: "NULL", queued: None, version };
        let entry = Arc::new(ClientEntry {
            id,
            peer,
            local,
            connected: uptime,
            handle,
            activity: Mutex::new(activity),
            names: Mutex::default(),
            waits: Mutex::default(),
        });
        lock(&self.entries).insert(id, Arc::clone(&entry));
        Membership { entry, table: Arc::clone(self) }
    }

    /// The client of this number.
    pub fn find(&self, id: u64) -> Option<Arc<ClientEntry>> {
        lock(&self.entries).get(&id).cloned()
    }

    /// At most [`PAGE`] clients, the oldest first, from number `from` on and before `end`.
    pub fn page(&self, from: u64, end: u64) -> Vec<Arc<ClientEntry>> {
        let entries = lock(&self.entries);
        entries.range(from..end.max(from)).take(PAGE).map(|(_, entry)| Arc::clone(entry)).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        lock(&self.entries).len()
    }

    /// One more than the number of the newest client.
    pub fn end(&self) -> u64 {
        lock(&self.entries).last_key_value().map_or(0, |(id, _)| id.saturating_add(1))
    }
}

/// A session's place in the table.
pub struct Membership {
    entry: Arc<ClientEntry>,
    table: Arc<ClientTable>,
}

impl Membership {
    /// The client's entry, by which others wake it.
    pub fn share(&self) -> Arc<ClientEntry> {
        Arc::clone(&self.entry)
    }
}

impl std::ops::Deref for Membership {
    type Target = ClientEntry;

    fn deref(&self) -> &ClientEntry {
        &self.entry
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        lock(&self.table.entries).remove(&self.entry.id);
    }
}

/// What these locks guard is changed in single steps: what a panic left behind is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
