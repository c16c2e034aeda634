//! One connection: reads, lets the session execute, hands the replies to the outbox.
//!
//! The only I/O loop around the sessions. It sees its socket as a [`Wire`], so that tests drive it
//! with byte vectors; it knows no protocol.

use super::acceptor::Reception;
use super::clients::Clients;
use super::committer::{Committer, Verdict};
use super::input::Input;
use super::outbox::{Broken, Condition, Outbox};
use super::wire::{Wire, is_timeout};
use crate::session::{Close, OUTPUT_PIECE, Session};
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A client that has sent nothing for so long gives back the memory of its last burst.
const QUIET: Duration = Duration::from_secs(1);

/// How long a client may take to see our last reply before its socket is closed: what it has sent
/// and we have not read would make the kernel reset the connection, and the reply would be lost.
const LINGER: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The client closed its side.
    Closed,
    /// The session ended it.
    Session(Close),
    /// No request for longer than the timeout.
    Idle,
    /// A request that was not whole in the timeout.
    Slow,
    /// The daemon stops.
    Stopping,
    /// No more replies leave.
    Broken(Broken),
    /// The socket failed.
    Failed(io::Error),
    /// The session took nothing, answered nothing and wanted nothing: a fault of ours.
    Stuck,
}

/// One client's connection, with everything that its handler needs.
pub(super) struct Connection {
    wire: Arc<dyn Wire>,
    session: Box<dyn Session>,
    clients: Arc<Clients>,
    committer: Arc<Committer>,
    outbox: Arc<Outbox>,
    input: Input,
    output: Vec<u8>,
    idle_timeout: Option<Duration>,
    /// What the wire's read timeout is now.
    read_timeout: Option<Duration>,
    /// When the first bytes of an incomplete request were found; None: there is none.
    begun: Option<Instant>,
    /// The session passes over the rest of a request.
    midway: bool,
}

impl Connection {
    /// `outbox` is this connection's own, over the same wire.
    pub(super) fn new(
        wire: Arc<dyn Wire>,
        session: Box<dyn Session>,
        outbox: Arc<Outbox>,
        reception: &Reception,
    ) -> Connection {
        Connection {
            wire,
            session,
            clients: Arc::clone(&reception.clients),
            committer: Arc::clone(&reception.committer),
            outbox,
            input: Input::new(),
            output: Vec::new(),
            idle_timeout: reception.idle_timeout,
            read_timeout: None,
            begun: None,
            midway: false,
        }
    }

    /// Serves the client until the connection ends, and ends it: whatever was answered has been
    /// sent, or cannot be.
    pub(super) fn serve(&mut self) -> Ending {
        let ending = self.converse();
        let drained = self.outbox.drain();
        match (ending, drained) {
            (Ending::Broken(broken), _) | (_, Err(broken)) => Ending::Broken(broken),
            (ending, Ok(())) => {
                match ending {
                    Ending::Session(_) => self.linger(),
                    Ending::Stopping => self.leave_to_read(),
                    _ => {}
                }
                self.wire.shutdown(Shutdown::Both);
                ending
            }
        }
    }

    fn converse(&mut self) -> Ending {
        let mut need = 1;
        loop {
            if self.clients.is_stopping() {
                return Ending::Stopping;
            }
            while self.input.pending().len() < need {
                if let Err(ending) = self.read(need) {
                    return ending;
                }
            }
            match self.execute() {
                Ok(wanted) => need = wanted,
                Err(ending) => return ending,
            }
        }
    }

    /// Executes the whole requests that are there and answers how many bytes the next one needs.
    fn execute(&mut self) -> Result<usize, Ending> {
        loop {
            let failures = self.committer.failures();
            let advance = self.session.advance(self.input.pending(), &mut self.output);
            let progress = advance.consumed > 0 || !self.output.is_empty();
            if advance.consumed > 0 {
                self.input.consume(advance.consumed);
                // More of a request that is passed over is no new request.
                if !(self.midway && advance.midway && self.output.is_empty()) {
                    self.begun = None;
                }
            }
            self.midway = advance.midway;
            self.hand_over(Condition { ticket: advance.ticket, failures })?;
            if let Some(close) = advance.close {
                return Err(Ending::Session(close));
            }
            if advance.need > 0 {
                if self.midway || !self.input.pending().is_empty() {
                    self.begun.get_or_insert_with(Instant::now);
                }
                return Ok(advance.need);
            }
            if !progress {
                return Err(Ending::Stuck);
            }
        }
    }

    fn hand_over(&mut self, condition: Condition) -> Result<(), Ending> {
        if self.output.is_empty() {
            return Ok(());
        }
        // Nobody shares this sync, and the only client waits for it: another thread is a detour.
        if self.committer.verdict(condition) == Verdict::Wait
            && self.clients.is_one()
            && !self.wire.has_unread()
        {
            self.committer.commit();
        }
        self.outbox.send(&mut self.output, condition).map_err(Ending::Broken)?;
        if self.output.capacity() > 2 * OUTPUT_PIECE {
            self.output = Vec::new();
        }
        Ok(())
    }

    /// Waits for more bytes of a request that needs `need` in all.
    fn read(&mut self, need: usize) -> Result<(), Ending> {
        loop {
            let patience = self.patience()?;
            self.set_read_timeout(patience).map_err(Ending::Failed)?;
            match self.wire.read(self.input.room(need)) {
                Ok(0) => return Err(Ending::Closed),
                Ok(count) => {
                    self.input.arrived(count);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) && self.is_large() => self.shrink(),
                Err(error) if is_timeout(&error) && self.begun.is_none() => {
                    return Err(Ending::Idle);
                }
                Err(error) if is_timeout(&error) => return Err(Ending::Slow),
                Err(error) => return Err(Ending::Failed(error)),
            }
        }
    }

    /// How long the next read may wait. Between requests this is the same from read to read, so
    /// that a client that sends one request at a time costs no system call for it.
    fn patience(&self) -> Result<Option<Duration>, Ending> {
        let left = match (self.idle_timeout, self.begun) {
            (Some(timeout), Some(begun)) => match timeout.checked_sub(begun.elapsed()) {
                Some(left) if !left.is_zero() => Some(left),
                _ => return Err(Ending::Slow),
            },
            (timeout, _) => timeout,
        };
        if self.is_large() {
            return Ok(Some(left.map_or(QUIET, |left| left.min(QUIET))));
        }
        Ok(left)
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout != self.read_timeout {
            self.wire.set_read_timeout(timeout)?;
            self.read_timeout = timeout;
        }
        Ok(())
    }

    fn is_large(&self) -> bool {
        self.input.is_large() || self.output.capacity() > OUTPUT_PIECE
    }

    fn shrink(&mut self) {
        self.input.shrink();
        self.output = Vec::new();
    }

    /// Lets the client see the last reply: reads and throws away what it still sends.
    fn linger(&mut self) {
        self.wire.shutdown(Shutdown::Write);
        let start = Instant::now();
        let mut rest = [0; 4096];
        while let Some(left) = LINGER.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            let read = self.set_read_timeout(Some(left)).and_then(|()| self.wire.read(&mut rest));
            if !matches!(read, Ok(count) if count > 0) {
                return;
            }
        }
    }
    /// At the stop, gives a client that is still sending the time to read what was answered. What
    /// it sent stays unread on purpose: reading has been ended and would not open the window again,
    /// and the reset at the close frees a client that waits for room to send.
    fn leave_to_read(&self) {
        self.wire.shutdown(Shutdown::Write);
        if self.wire.has_unread() {
            thread::sleep(LINGER);
        }
    }
}
