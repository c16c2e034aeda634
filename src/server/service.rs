//! The protocol of one listener, and its replies to clients that it refuses.

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
    /// The reply to one client too many, which is then disconnected.
    pub refusal: &'static [u8],
    /// The reply to a client for which there is no memory, which is then disconnected: it is the
    /// largest when all clients together take too much, or the system has no memory left.
    pub overload: &'static [u8],
    /// Makes a client's session.
    pub sessions: SessionFactory,
}
