//! Server: the only owner of sockets, and of the threads that serve clients.
//!
//! An acceptor thread per listener hands each connection to one of a fixed number of workers. A
//! worker waits for all its clients at once. In one turn it reads what has arrived, lets the
//! sessions execute it, makes the log durable once for all of them, and sends the replies.
//!
//! ```text
//! acceptor -> mailbox -> worker -> connection -> session   (bytes in, bytes out)
//!                          |           |
//!                        poller   input, output            (replies leave in order, once they
//!                                                           are durable)
//! ```
//!
//! This module knows sessions as bytes and the queues as [`crate::queue::Durability`]: no command,
//! no protocol, no store.

mod acceptor;
mod budget;
mod clients;
mod connection;
mod daemon;
mod input;
mod interest;
mod keepalive;
pub mod limits;
mod mailbox;
mod output;
mod poller;
mod report;
mod service;
pub mod signals;
#[cfg(test)]
mod tests;
mod ticker;
mod wire;
mod worker;

pub use daemon::{Server, ServerLimits};
pub use service::{Service, SessionFactory};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`. A panic is contained in its connection, and what these locks hold is changed in
/// single steps, so what a panicking holder left behind is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
