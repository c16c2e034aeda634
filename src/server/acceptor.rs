//! The acceptor of one listener: counts clients in, hands each to a worker, turns away one too
//! many.
//!
//! It never waits for a client, and an error of `accept` never makes it spin.

use super::clients::Clients;
use super::keepalive::keep_alive;
use super::mailbox::{Mailbox, Message, Newcomer};
use super::service::Service;
use super::wire::{Socket, Wire};
use crate::logging;
use log::debug;
use rustix::net::Shutdown as ListenerShutdown;
use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How long to wait after an error of `accept`, usually that there are no more open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the acceptors of a server share.
#[derive(Clone)]
pub(super) struct Reception {
    clients: Arc<Clients>,
    workers: Vec<Arc<Mailbox>>,
    /// The last client's number.
    last_id: Arc<AtomicU64>,
}

impl Reception {
    pub(super) fn new(clients: Arc<Clients>, workers: Vec<Arc<Mailbox>>) -> Reception {
        Reception { clients, workers, last_id: Arc::default() }
    }
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

/// Ends the acceptor's wait: Linux lets `accept` fail once its listener is shut down.
pub(super) fn wake(service: &Service) {
    let _ = rustix::net::shutdown(&service.listener, ListenerShutdown::Both);
}

/// An error of the connection that would have been accepted, not of the listener.
fn is_passing(kind: ErrorKind) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(kind, ConnectionAborted | ConnectionReset | Interrupted)
}

fn welcome(service: &Arc<Service>, reception: &Reception, stream: TcpStream, peer: SocketAddr) {
    let id = reception.last_id.fetch_add(1, Ordering::Relaxed) + 1;
    let traffic = reception.clients.traffic();
    let made = keep_alive(&stream).and_then(|()| {
        let local = stream.local_addr()?;
        Ok((Socket::new(stream, traffic)?, local))
    });
    let (mut socket, local) = match made {
        Ok(made) => made,
        Err(error) => return debug!("{}: {peer} is gone: {error}", service.protocol),
    };
    let Some(place) = reception.clients.admit() else {
        debug!("{}: {peer} is refused, there are too many clients", service.protocol);
        // A fresh socket takes this line at once; a client that does not get it sees the end.
        let _ = socket.send(service.refusal);
        socket.shutdown(Shutdown::Both);
        return;
    };
    // The first of those with the fewest clients.
    if let Some(worker) = reception.workers.iter().min_by_key(|worker| worker.clients()) {
        worker.client_comes();
        let service = Arc::clone(service);
        let newcomer = Newcomer { id, peer, local, socket, service, place };
        worker.post(Message::Newcomer(Box::new(newcomer)));
    }
}
