//! The wire of one connection: every read and write of a client's socket is in this file.
//!
//! [`Wire`] is what the rest of the server sees of a socket, so that tests put byte vectors in its
//! place. This file knows bytes and deadlines, and nothing of replies, tickets or sessions.

use super::turns::Turns;
use crate::session::OUTPUT_PIECE;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// One client's byte stream, shared by the threads that read from it and write to it.
pub(super) trait Wire: Send + Sync {
    /// Waits for bytes, no longer than the read timeout; 0: the client sends no more.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// How long a read may wait; None: for ever.
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;

    /// Sends all of `bytes`, or fails with `TimedOut` when the client does not take them in time.
    fn write_all(&self, bytes: &[u8]) -> io::Result<()>;

    /// Sends what the client takes at once, without waiting; `WouldBlock`: nothing.
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether bytes are there that have not been read; does not wait for them.
    fn has_unread(&self) -> bool;

    /// Ends one direction or both; threads that wait in a call above come back.
    fn shutdown(&self, how: Shutdown);
}

/// A client's TCP connection.
pub(super) struct Socket {
    stream: TcpStream,
    write_timeout: Option<Duration>,
    turns: Arc<Turns>,
    /// The number of the next read; it may wrap.
    next_read: AtomicU32,
}

impl Socket {
    /// `write_timeout`: how long a piece of `OUTPUT_PIECE` bytes may take; None: for ever. Reads
    /// are numbered from `first_read` on, another number for each client: else the same read of all
    /// of them would be measured.
    pub(super) fn new(
        stream: TcpStream,
        write_timeout: Option<Duration>,
        turns: Arc<Turns>,
        first_read: u32,
    ) -> io::Result<Socket> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(write_timeout)?;
        Ok(Socket { stream, write_timeout, turns, next_read: AtomicU32::new(first_read) })
    }

    fn write_piece(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.send_now(bytes).or_else(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(0),
            _ => Err(error),
        })?;
        // Most often a client takes all at once, and nobody needs to know the time.
        if sent == bytes.len() { Ok(()) } else { self.write_rest(&bytes[sent..]) }
    }

    /// The kernel's timeout is for one call. A client that takes a few bytes just before each
    /// timeout must not hold its handler for ever, so a piece has a deadline as well.
    fn write_rest(&self, mut bytes: &[u8]) -> io::Result<()> {
        let start = Instant::now();
        while !bytes.is_empty() {
            match (&self.stream).write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return Err(ErrorKind::TimedOut.into()),
                Err(error) => return Err(error),
            }
            let late = self.write_timeout.is_some_and(|timeout| start.elapsed() > timeout);
            if late && !bytes.is_empty() {
                return Err(ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }
}

impl Wire for Socket {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // Only the handler reads.
        let nth = self.next_read.load(Ordering::Relaxed);
        self.next_read.store(nth.wrapping_add(1), Ordering::Relaxed);
        let look = || match recv(&self.stream, &mut *buffer, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => None,
            received => Some(received),
        };
        if let Some(received) = self.turns.give(nth, look) {
            return Ok(received?.1);
        }
        (&self.stream).read(buffer)
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)
    }

    fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(OUTPUT_PIECE).try_for_each(|piece| self.write_piece(piece))
    }

    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
    }

    fn has_unread(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        recv(&self.stream, &mut [0], flags).is_ok_and(|(_, count)| count > 0)
    }

    fn shutdown(&self, how: Shutdown) {
        // The only error is that the client is gone already.
        let _ = self.stream.shutdown(how);
    }
}

/// Whether a read or write ended because its timeout passed: systems differ in the error's name.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
