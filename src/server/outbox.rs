//! The outbox of one connection: replies on their way to the client, in order.
//!
//! 1. Only the connection's handler puts replies in, so nobody overtakes it while the outbox is
//!    empty.
//! 2. An outbox with replies in it has exactly one owner that will send them: the committer, which
//!    never waits for a client, or a finisher, a short-lived thread that waits for this client
//!    alone.
//! 3. A reply leaves only by the committer's verdict; one that would be a lie ends the connection.
//! 4. A handler whose client does not read waits here before it reads on, so memory is bounded.
//!
//! This file knows tickets and bytes, and nothing of commands.

use super::committer::{Committer, Verdict};
use super::lock;
use super::wire::Wire;
use crate::queue::Ticket;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A handler waits while its outbox holds more bytes than this.
const OUTBOX_LIMIT: usize = 1024 * 1024;

/// What a piece costs beside its bytes, so that many tiny replies are bounded as well.
const PIECE_COST: usize = 64;

/// Why no more replies leave from an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The client is gone, or did not take a reply in time.
    Wire(ErrorKind),
    /// A sync failed, so a reply in hand would have been a lie.
    NotDurable,
    /// The handler gave up.
    Abandoned,
}

/// What a visit of the committer left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Nothing is left to send.
    Empty,
    /// A reply waits for the next commit.
    Waiting,
    /// The client does not take more now: a finisher must wait for it.
    Blocked,
}

/// When a reply may leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condition {
    /// The log must be durable up to here.
    pub(super) ticket: Ticket,
    /// `Committer::failures` from before the reply's command was executed.
    pub(super) failures: u64,
}

struct Piece {
    bytes: Vec<u8>,
    sent: usize,
    condition: Condition,
}

impl Piece {
    fn cost(&self) -> usize {
        self.bytes.len() + PIECE_COST
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Nobody,
    Committer,
    Finisher,
}

struct State {
    pieces: VecDeque<Piece>,
    /// Cost of the pieces that are not sent, the one in a finisher's hands included.
    cost: usize,
    /// Nobody when there is nothing to send.
    owner: Owner,
    broken: Option<Broken>,
    /// The handler, the only one who ever does, waits for a change.
    is_awaited: bool,
}

/// Replies on their way to one client.
pub(super) struct Outbox {
    wire: Arc<dyn Wire>,
    committer: Arc<Committer>,
    state: Mutex<State>,
    /// Told whenever the state changes in a way that a handler may wait for.
    changed: Condvar,
}

impl Outbox {
    pub(super) fn new(wire: Arc<dyn Wire>, committer: Arc<Committer>) -> Outbox {
        let state = State {
            pieces: VecDeque::new(),
            cost: 0,
            owner: Owner::Nobody,
            broken: None,
            is_awaited: false,
        };
        Outbox { wire, committer, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Sends `reply` at once if it may leave, else keeps it for the committer; `reply` is empty
    /// afterwards. Waits only for this connection's own client.
    pub(super) fn send(
        self: &Arc<Self>,
        reply: &mut Vec<u8>,
        condition: Condition,
    ) -> Result<(), Broken> {
        let mut state = lock(&self.state);
        if let Some(broken) = state.broken {
            return Err(broken);
        }
        if state.owner == Owner::Nobody {
            match self.committer.verdict(condition) {
                Verdict::Leave => {
                    drop(state);
                    return self.write(reply);
                }
                Verdict::Never => return Err(self.break_off(&mut state, Broken::NotDurable)),
                Verdict::Wait => self.hand_to_committer(&mut state),
            }
        }
        let piece = Piece { bytes: std::mem::take(reply), sent: 0, condition };
        state.cost += piece.cost();
        state.pieces.push_back(piece);
        self.wait_while(state, |state| state.cost > OUTBOX_LIMIT)
    }

    /// Waits until every reply has been sent.
    pub(super) fn drain(&self) -> Result<(), Broken> {
        self.wait_while(lock(&self.state), |state| state.owner != Owner::Nobody)
    }

    /// Throws away what has not been sent and ends the connection.
    pub(super) fn abandon(&self) {
        self.break_off(&mut lock(&self.state), Broken::Abandoned);
    }

    /// The committer's visit: sends what may leave and what the client takes at once.
    pub(super) fn flush(&self) -> Flushed {
        let mut state = lock(&self.state);
        loop {
            let Some(piece) = state.pieces.front_mut() else {
                state.owner = Owner::Nobody;
                self.tell(&state);
                return Flushed::Empty;
            };
            match self.committer.verdict(piece.condition) {
                Verdict::Leave => {}
                Verdict::Wait => return Flushed::Waiting,
                Verdict::Never => {
                    self.break_off(&mut state, Broken::NotDurable);
                    return Flushed::Empty;
                }
            }
            match self.wire.send_now(&piece.bytes[piece.sent..]) {
                Ok(sent) if sent > 0 => {
                    piece.sent += sent;
                    if piece.sent == piece.bytes.len() {
                        self.sent_front(&mut state);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    state.owner = Owner::Finisher;
                    return Flushed::Blocked;
                }
                failed => {
                    self.break_off(&mut state, Broken::Wire(kind_of(failed)));
                    return Flushed::Empty;
                }
            }
        }
    }

    /// A finisher's work after `Flushed::Blocked`: sends what may leave, waiting for the client,
    /// then gives the outbox back.
    pub(super) fn finish(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        while let Some(piece) = state.pieces.front() {
            match self.committer.verdict(piece.condition) {
                Verdict::Leave => {}
                Verdict::Wait => return self.hand_to_committer(&mut state),
                Verdict::Never => {
                    self.break_off(&mut state, Broken::NotDurable);
                    return;
                }
            }
            let Some(piece) = state.pieces.pop_front() else {
                break;
            };
            drop(state);
            let written = self.wire.write_all(&piece.bytes[piece.sent..]);
            state = lock(&self.state);
            state.cost = state.cost.saturating_sub(piece.cost());
            self.tell(&state);
            if let Err(error) = written {
                self.break_off(&mut state, Broken::Wire(error.kind()));
            }
        }
        state.owner = Owner::Nobody;
        self.tell(&state);
    }

    /// No finisher could be had: without one the client cannot be served.
    pub(super) fn give_up(&self) {
        self.break_off(&mut lock(&self.state), Broken::Wire(ErrorKind::OutOfMemory));
    }

    fn write(&self, reply: &mut Vec<u8>) -> Result<(), Broken> {
        let written = self.wire.write_all(reply);
        reply.clear();
        written.map_err(|error| self.break_off(&mut lock(&self.state), Broken::Wire(error.kind())))
    }

    fn hand_to_committer(self: &Arc<Self>, state: &mut State) {
        state.owner = Owner::Committer;
        self.committer.register(Arc::clone(self));
    }

    fn sent_front(&self, state: &mut State) {
        if let Some(piece) = state.pieces.pop_front() {
            state.cost = state.cost.saturating_sub(piece.cost());
            self.tell(state);
        }
    }

    /// Ends the connection; the first reason stays. Whoever waits for the socket or for this outbox
    /// comes back.
    fn break_off(&self, state: &mut State, why: Broken) -> Broken {
        let broken = *state.broken.get_or_insert(why);
        state.pieces.clear();
        state.cost = 0;
        state.owner = Owner::Nobody;
        self.wire.shutdown(Shutdown::Both);
        self.tell(state);
        broken
    }

    /// Wakes the handler if it waits: the call into the system is made also where nobody does.
    fn tell(&self, state: &State) {
        if state.is_awaited {
            self.changed.notify_all();
        }
    }

    fn wait_while(
        &self,
        mut state: MutexGuard<'_, State>,
        busy: impl Fn(&State) -> bool,
    ) -> Result<(), Broken> {
        state.is_awaited = true;
        let mut state = self
            .changed
            .wait_while(state, |state| state.broken.is_none() && busy(state))
            .unwrap_or_else(PoisonError::into_inner);
        state.is_awaited = false;
        state.broken.map_or(Ok(()), Err)
    }
}

fn kind_of(sent: io::Result<usize>) -> ErrorKind {
    sent.map_or_else(|error| error.kind(), |_| ErrorKind::WriteZero)
}
