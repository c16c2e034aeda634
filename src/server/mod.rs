//! Server: the only owner of sockets and threads.
//!
//! An acceptor thread per listener hands each connection to a pool that has as many threads as
//! there may be clients. A connection's handler reads, lets the session execute, and hands the
//! replies to the connection's outbox; a reply that must wait for the disk leaves from the
//! committer's thread, so that no handler sleeps through a sync, but that of a client who is alone
//! and waits for it, and no slow client holds up another.
//!
//! ```text
//! acceptor -> pool -> connection -> session      (bytes in, bytes out)
//!                         |
//!                       outbox <- committer      (replies leave in order, once they are durable)
//! ```
//!
//! This module knows sessions as bytes and the queues as [`crate::queue::Durability`]: no command,
//! no protocol, no store.

mod acceptor;
mod clients;
mod committer;
mod connection;
mod daemon;
mod input;
mod keepalive;
pub mod limits;
mod outbox;
pub mod signals;
#[cfg(test)]
mod tests;
mod turns;
mod wire;

pub use committer::NothingToSync;
pub use daemon::{Limits, Server, Service, SessionFactory};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`. A panic is contained in its connection, and what these locks hold is changed in
/// single steps, so what a panicking holder left behind is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
