//! The output of one client: replies on their way out, in order.
//!
//! 1. A reply leaves only by the verdict on its ticket; one that would be a lie ends the
//!    connection.
//! 2. A reply that may leave never overtakes one that may not.
//!
//! This file knows tickets and bytes, and nothing of commands.

use super::wire::Wire;
use crate::memory::NoMemory;
use crate::queue::{Durability, ReplyVerdict, Ticket};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};

/// Replies up to this many bytes share a piece, if they wait for the same.
const SMALL: usize = 16 * 1024;

/// Why no more replies leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The client is gone.
    Wire(ErrorKind),
    /// A sync failed, so the next reply would be a lie.
    NotDurable,
}

/// What is left after a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Nothing.
    Empty,
    /// A reply that waits for a commit.
    Waiting,
    /// A reply that the client does not take now.
    Blocked,
}

struct Piece {
    bytes: Vec<u8>,
    sent: usize,
    ticket: Ticket,
}

/// Replies that have not been sent.
#[derive(Default)]
pub(super) struct Output {
    pieces: VecDeque<Piece>,
    /// Memory of the pieces.
    memory: usize,
    is_blocked: bool,
    /// Bytes that the client has taken.
    taken: u64,
}

impl Output {
    /// Makes sure that there is memory for the next `push`. To be called before anything is done
    /// that must be answered.
    pub(super) fn prepare(&mut self) -> Result<(), NoMemory> {
        Ok(self.pieces.try_reserve(1)?)
    }

    /// Adds whole replies, which may leave once what `ticket` names is durable; `bytes` is left
    /// empty.
    pub(super) fn push(&mut self, bytes: &mut Vec<u8>, ticket: Ticket) {
        match self.pieces.back_mut() {
            // What waits behind another piece may wait for long, so it takes no room to grow.
            Some(last) if last.ticket == ticket && last.bytes.len() + bytes.len() <= SMALL => {
                self.memory -= last.bytes.capacity();
                last.bytes.append(bytes);
                self.memory += last.bytes.capacity();
                return;
            }
            Some(_) => bytes.shrink_to_fit(),
            None => {}
        }
        self.memory += bytes.capacity() + size_of::<Piece>();
        self.pieces.push_back(Piece { bytes: std::mem::take(bytes), sent: 0, ticket });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether the client has refused bytes, and has not taken them since.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// Bytes that the client has taken since it came.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Throws everything away.
    pub(super) fn clear(&mut self) {
        *self = Output::default();
    }

    /// Sends what may leave and what the client takes at once; `recycle` gets the empty buffers.
    pub(super) fn flush(
        &mut self,
        wire: &mut impl Wire,
        durability: &dyn Durability,
        mut recycle: impl FnMut(Vec<u8>),
    ) -> Result<Flushed, Broken> {
        self.is_blocked = false;
        while let Some(piece) = self.pieces.front_mut() {
            match durability.verdict(&piece.ticket) {
                ReplyVerdict::Leave => {}
                ReplyVerdict::Wait => return Ok(Flushed::Waiting),
                ReplyVerdict::Never => return Err(Broken::NotDurable),
            }
            match wire.send(&piece.bytes[piece.sent..]) {
                Ok(sent) if sent > 0 => {
                    piece.sent += sent;
                    self.taken += sent as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.block();
                    return Ok(Flushed::Blocked);
                }
                failed => return Err(Broken::Wire(kind_of(failed))),
            }
            if piece.sent == piece.bytes.len()
                && let Some(piece) = self.pieces.pop_front()
            {
                self.memory -= piece.bytes.capacity() + size_of::<Piece>();
                recycle(piece.bytes);
            }
        }
        Ok(Flushed::Empty)
    }

    /// The client does not take the first piece now: what it has taken, and room to grow, go.
    fn block(&mut self) {
        self.is_blocked = true;
        if let Some(piece) = self.pieces.front_mut() {
            self.memory -= piece.bytes.capacity();
            piece.bytes.drain(..std::mem::take(&mut piece.sent));
            piece.bytes.shrink_to_fit();
            self.memory += piece.bytes.capacity();
        }
    }
}

fn kind_of(sent: io::Result<usize>) -> ErrorKind {
    sent.map_or_else(|error| error.kind(), |_| ErrorKind::WriteZero)
}
