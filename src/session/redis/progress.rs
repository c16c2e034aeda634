//! Where a command stands that takes several turns, and a reply that leaves in pieces.
//!
//! A command that finds its turn over notes here what it has done and returns
//! [`Refusal::again`](super::request::Refusal::again). Its request stays in the input, so the
//! dispatcher calls it again in the next turn, with what it has noted.

use super::request::Args;
use super::transaction::Watched;
use crate::memory::{self, NoMemory};
use crate::queue::{Drops, Queue, QueueError, Slice, Sums, Ticket};
use crate::session::OUTPUT_PIECE;
use crate::session::budget::{Budget, LOOK};

/// Whether a step found too many dead messages in its way, and is to be tried again.
pub(super) fn is_busy(done: Result<(), QueueError>) -> Result<bool, QueueError> {
    match done {
        Err(QueueError::Busy) => Ok(true),
        done => done.map(|()| false),
    }
}

/// What a command has done so far; each takes what it needs of this.
#[derive(Default)]
pub(super) struct Progress {
    /// The word of the request, the message or the key to go on with.
    pub next: u64,
    /// Where to stop, if that was settled at the beginning.
    pub end: u64,
    /// What the reply counts.
    pub count: u64,
    /// What has been looked at before anything is done: messages, and bytes of the reply.
    pub measured: Measured,
    /// The client is among those that it ends.
    pub ends_itself: bool,
    /// The elements of the reply, without its head.
    pub elements: Vec<u8>,
    /// Keys that are to be watched.
    pub watched: Watched,
    /// What the reply has to wait for.
    pub ticket: Ticket,
    /// It goes on when an index has been built further.
    pub wants_index: bool,
    /// What the queues come to that have been added up.
    pub sums: Sums,
    /// Queues that do not exist for clients any more.
    pub drops: Option<Drops>,
}

/// A look ahead before anything is removed: to refuse a reply that would be too large, and to know
/// how large the step is.
#[derive(Clone, Copy, Default)]
pub(super) struct Measured {
    pub next: u64,
    /// Where the count goes on of messages that are equal to word `next`.
    pub from: Option<u64>,
    pub count: u64,
    pub bytes: u64,
    pub is_done: bool,
}

impl Progress {
    /// Bytes that the progress keeps between two turns.
    pub fn memory(&self) -> usize {
        let kept = self.elements.capacity() + self.watched.memory();
        kept + self.drops.as_ref().map_or(0, Drops::len) * size_of::<usize>()
    }

    /// Makes sure that `count` bytes of elements can be kept: those of messages that are popped.
    pub fn prepare_to_keep(&mut self, count: usize) -> Result<(), NoMemory> {
        match self.elements.is_empty() && count <= OUTPUT_PIECE {
            true => Ok(()),
            false => memory::reserve(&mut self.elements, count),
        }
    }
}

/// What is left of a reply that was too long for one piece of output.
#[derive(Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    pub fn new(bytes: Vec<u8>) -> Outgoing {
        Outgoing { bytes, sent: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Moves what fits into a piece of output.
    pub fn pump(&mut self, output: &mut Vec<u8>) {
        let room = OUTPUT_PIECE.saturating_sub(output.len());
        let piece = &self.bytes[self.sent..];
        let piece = piece.get(..room).unwrap_or(piece);
        output.extend_from_slice(piece);
        self.sent += piece.len();
        if self.sent == self.bytes.len() {
            *self = Outgoing::default();
        }
    }
}

/// Does something for each message that a request names, from word 2 on, as far as the turn goes:
/// `each` answers whether it is to be called for the same one again.
pub(super) fn each_word(
    queue: &mut Queue,
    args: Args<'_>,
    (progress, budget): (&mut Progress, &mut Budget),
    mut each: impl FnMut(&mut Queue, &[u8], &mut Progress) -> Result<bool, QueueError>,
) -> Result<Slice<()>, QueueError> {
    for word in progress.next.max(2)..args.len() as u64 {
        progress.next = word;
        let body = args.get(usize::try_from(word).unwrap_or(usize::MAX));
        loop {
            if budget.is_turn_over() {
                return Ok(Slice::More);
            }
            budget.look(body.len());
            let done = each(queue, body, progress);
            budget.spend(queue.take_passed());
            match done {
                Ok(true) => {}
                Ok(false) => break,
                Err(QueueError::Busy) if budget.pauses() => return Ok(Slice::More),
                // Damage that it met has cost the queue its index.
                Err(QueueError::NotIndexed) if word > 2 || progress.count > 0 => {
                    progress.wants_index = true;
                    return Ok(Slice::More);
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Slice::Done(()))
}

/// Messages that are counted in one step.
const COUNTED: u64 = 16;

/// Counts, as far as the turn goes, the messages that a request removes, which names their bodies
/// from word 2 on. Returns true once they are known and may be removed in this turn or in several.
/// A body that is named again and again is counted each time, but no more than the whole queue.
pub(super) fn measure_removals(
    queue: &mut Queue,
    args: Args<'_>,
    measured: &mut Measured,
    budget: &mut Budget,
) -> Result<bool, QueueError> {
    while !measured.is_done {
        let word = usize::try_from(measured.next).unwrap_or(usize::MAX).max(2);
        measured.is_done = word >= args.len() || measured.count >= queue.len();
        if budget.is_used_up() {
            return Ok(false);
        }
        if !measured.is_done {
            let most = COUNTED * budget.left();
            let count = queue.count_equal(args.get(word), &mut measured.from, most)?;
            budget.spend(1 + count / COUNTED);
            measured.count += count;
            if count < most {
                (measured.next, measured.from) = (word as u64 + 1, None);
            }
        }
    }
    Ok(budget.affords(measured.count.saturating_mul(LOOK)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reply_leaves_in_pieces_and_whole() {
        let bytes: Vec<u8> = (0..3 * OUTPUT_PIECE + 7).map(|index| index as u8).collect();
        let (mut outgoing, mut sent, mut output) = (Outgoing::new(bytes.clone()), vec![], vec![7]);
        while !outgoing.is_empty() {
            outgoing.pump(&mut output);
            assert!(output.len() <= OUTPUT_PIECE);
            sent.append(&mut output);
        }
        assert_eq!(sent[1..], bytes);
        assert_eq!(outgoing.memory(), 0);
    }
}
