//! What other threads tell a worker: that there is a new client, that a session need not wait any
//! longer, that a client is to go, that the daemon stops.

use super::clients::Place;
use super::lock;
use super::poller::Waker;
use super::service::Service;
use super::wire::Socket;
use crate::session::ClientHandle;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A client that has been admitted, on its way to its worker.
pub(super) struct Newcomer {
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) socket: Socket,
    pub(super) service: Arc<Service>,
    pub(super) place: Place,
}

/// One message to a worker; numbers are those of its clients.
pub(super) enum Message {
    Newcomer(Box<Newcomer>),
    /// The session waits no longer.
    Waker(u64),
    /// The client is to be disconnected.
    Close(u64),
    /// All clients together take too much memory, and this one takes most of it.
    Shed(u64),
    /// No request begins any more.
    Stop,
    /// Clients that are still there are cut off.
    Cut,
}

/// The messages to one worker.
pub(super) struct Mailbox {
    messages: Mutex<Vec<Message>>,
    wake: Waker,
    /// Clients of the worker, those that are on their way to it among them.
    clients: AtomicUsize,
}

impl Mailbox {
    pub(super) fn new(wake: Waker) -> Mailbox {
        Mailbox { messages: Mutex::default(), wake, clients: AtomicUsize::new(0) }
    }

    /// Leaves a message, and wakes the worker if it is the first one.
    pub(super) fn post(&self, message: Message) {
        let mut messages = lock(&self.messages);
        messages.push(message);
        if messages.len() == 1 {
            self.wake.wake();
        }
    }

    /// Takes all messages.
    pub(super) fn take(&self) -> Vec<Message> {
        std::mem::take(&mut *lock(&self.messages))
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    pub(super) fn client_comes(&self) {
        self.clients.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn client_goes(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One client, for threads that are not its worker.
pub(super) struct Handle {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) id: u64,
}

impl ClientHandle for Handle {
    fn wake(&self) {
        self.mailbox.post(Message::Waker(self.id));
    }

    fn close(&self) {
        self.mailbox.post(Message::Close(self.id));
    }
}
