//! The wire of one client: every read and write of its socket is in this file.
//!
//! [`Wire`] is what the rest of the server sees of a socket, so that tests put byte vectors in its
//! place. No call waits. This file knows bytes and counts them, and nothing of replies or sessions.

use crate::session::Traffic;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One client's byte stream.
pub(super) trait Wire {
    /// Receives what has arrived; 0 if the client sends no more.
    ///
    /// # Errors
    /// `WouldBlock` if nothing has arrived.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Sends what the client takes at once.
    ///
    /// # Errors
    /// `WouldBlock` if that is nothing.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Ends one direction or both.
    fn shutdown(&mut self, how: Shutdown);
}

/// A client's TCP connection.
pub(super) struct Socket {
    stream: TcpStream,
    traffic: Arc<Traffic>,
}

impl Socket {
    /// Replies leave at once from now on, however small they are, and count in `traffic`.
    pub(super) fn new(stream: TcpStream, traffic: Arc<Traffic>) -> io::Result<Socket> {
        stream.set_nodelay(true)?;
        Ok(Socket { stream, traffic })
    }
}

impl Wire for Socket {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, count) = recv(&self.stream, buffer, RecvFlags::DONTWAIT)?;
        self.traffic.received.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = send(&self.stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        self.traffic.sent.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn shutdown(&mut self, how: Shutdown) {
        // The only error is that the client is gone already.
        let _ = self.stream.shutdown(how);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
