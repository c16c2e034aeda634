//! The acceptor of one listener: counts clients in, hands them to the pool, turns away one too
//! many.
//!
//! It never waits for a client, and an error of `accept` never makes it spin.

use super::clients::Clients;
use super::committer::Committer;
use super::connection::{Connection, Ending};
use super::daemon::Service;
use super::keepalive::keep_alive;
use super::outbox::{Broken, Outbox};
use super::turns::Turns;
use super::wire::{Socket, Wire};
use crate::logging;
use crate::session::{ClientHandle, Close, NewClient};
use log::{Level, debug, error};
use rustix::net::Shutdown as ListenerShutdown;
use std::fmt::Display;
use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use threadpool::ThreadPool;

/// How long to wait after an error of `accept`, most often that there are no more open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the acceptors of a server share.
#[derive(Clone)]
pub(super) struct Reception {
    pub(super) clients: Arc<Clients>,
    pub(super) committer: Arc<Committer>,
    pub(super) pool: ThreadPool,
    pub(super) turns: Arc<Turns>,
    pub(super) idle_timeout: Option<Duration>,
    /// The last client's number.
    pub(super) last_id: Arc<AtomicU64>,
}

/// Accepts from one listener until the server stops.
pub(super) fn accept(service: &Arc<Service>, reception: &Reception) {
    loop {
        let accepted = service.listener.accept();
        if reception.clients.is_stopping() {
            return;
        }
        match accepted {
            Ok((stream, peer)) => welcome(service, reception, stream, peer),
            Err(error) if is_passing(error.kind()) => {}
            Err(error) => {
                logging::refused(&format!("{}: accept fails", service.protocol), error);
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

/// Brings the acceptor of `service` back from its wait.
pub(super) fn wake(service: &Service) {
    // Where the system does not do this to a listener, the acceptor stays in its wait and ends with
    // the process.
    let _ = rustix::net::shutdown(&service.listener, ListenerShutdown::Both);
}

/// An error of the connection that would have been accepted, not of the listener.
fn is_passing(kind: ErrorKind) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(kind, ConnectionAborted | ConnectionReset | Interrupted)
}

fn welcome(service: &Arc<Service>, reception: &Reception, stream: TcpStream, peer: SocketAddr) {
    let id = reception.last_id.fetch_add(1, Ordering::Relaxed) + 1;
    if let Err(error) = keep_alive(&stream) {
        return debug!("{}: {peer} is gone: {error}", service.protocol);
    }
    let turns = Arc::clone(&reception.turns);
    let wire: Arc<dyn Wire> = match Socket::new(stream, reception.idle_timeout, turns, id as u32) {
        Ok(socket) => Arc::new(socket),
        Err(error) => return debug!("{}: {peer} is gone: {error}", service.protocol),
    };
    let Some(client) = reception.clients.admit(id, Arc::clone(&wire)) else {
        debug!("{}: {peer} is refused, there are too many clients", service.protocol);
        // A fresh socket takes this line at once; a client that does not get it sees the end.
        let _ = wire.send_now(service.refusal);
        wire.shutdown(Shutdown::Both);
        return;
    };
    let work = {
        let (service, reception) = (Arc::clone(service), reception.clone());
        move || handle(&service, &reception, wire, id, peer)
    };
    reception.pool.execute(move || {
        work();
        // The socket is closed before another client is admitted in this one's place.
        drop(client);
    });
}

/// The work of a pool thread. A panic ends this connection and nothing else.
fn handle(
    service: &Service,
    reception: &Reception,
    wire: Arc<dyn Wire>,
    id: u64,
    peer: SocketAddr,
) {
    let name = format!("{} client {id} at {peer}", service.protocol);
    debug!("{name}: connected");
    let outbox = Arc::new(Outbox::new(Arc::clone(&wire), Arc::clone(&reception.committer)));
    let served = catch_unwind(AssertUnwindSafe(|| {
        let handle = Arc::new(Handle(Arc::clone(&wire)));
        let session = (service.sessions)(NewClient { id, peer: peer.to_string(), handle });
        Connection::new(wire, session, Arc::clone(&outbox), reception).serve()
    }));
    match served {
        Ok(ending) => report(&name, &ending),
        Err(_) => {
            error!("{name}: disconnected after a panic");
            outbox.abandon();
        }
    }
}

/// What other sessions may do to a connection.
struct Handle(Arc<dyn Wire>);

impl ClientHandle for Handle {
    fn close(&self) {
        // Whoever waits for input, or for room to send, comes back.
        self.0.shutdown(Shutdown::Both);
    }
}

fn report(name: &str, ending: &Ending) {
    match ending {
        Ending::Closed => debug!("{name}: closed by the client"),
        Ending::Session(close) => report_close(name, *close),
        Ending::Idle => debug!("{name}: closed, idle"),
        Ending::Slow => debug!("{name}: closed, its request was not whole in time"),
        Ending::Stopping => debug!("{name}: closed, the daemon stops"),
        Ending::Broken(Broken::NotDurable) => {
            let line =
                format_args!("{name}: closed without a reply, what it would say is not on disk");
            logging::limited(Level::Error, "not on disk", line);
        }
        Ending::Broken(broken) => debug!("{name}: closed, replies cannot be sent: {broken:?}"),
        Ending::Failed(error) => debug!("{name}: closed: {error}"),
        Ending::Stuck => error!("{name}: closed, its session makes no progress"),
    }
}

/// Whoever can connect can cause these lines, as often as it likes.
fn report_close(name: &str, close: Close) {
    let warn = |kind, what: &dyn Display| {
        logging::limited(Level::Warn, kind, format_args!("{name}: closed, {what}"));
    };
    match close {
        Close::Quit => debug!("{name}: quit"),
        Close::Framing => warn("not the protocol", &"not the protocol"),
        Close::TooLarge => warn("too large", &"a message or request is larger than is allowed"),
        Close::Foreign(protocol) => {
            warn("another protocol", &format_args!("it speaks {protocol}"));
        }
    }
}
