//! What is spoken at one listener, and what strangers to it are told.

use crate::session::{NewClient, Session};
use std::net::TcpListener;

/// Makes the session of a new client.
pub type SessionFactory = Box<dyn Fn(NewClient) -> Box<dyn Session> + Send + Sync>;

/// One listener and what is spoken there.
pub struct Service {
    /// Name for the log lines: "redis".
    pub protocol: &'static str,
    /// A bound, blocking listener.
    pub listener: TcpListener,
    /// What one client too many is told before it is disconnected.
    pub refusal: &'static [u8],
    /// What a client is told before it is disconnected, if there is no memory for it: it is the
    /// largest where all clients together take too much, or the system has none.
    pub overload: &'static [u8],
    /// Makes a client's session.
    pub sessions: SessionFactory,
}
