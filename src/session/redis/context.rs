//! What a command works with: the daemon, its client, and what it may take of time and of reply.
//!
//! This file knows no command.

use super::client::Client;
use super::dispatch::TRANSACTION_TOO_LONG;
use super::progress::{Outgoing, Progress};
use super::request::{Again, Args, Outcome, Refusal};
use super::scan::put_in_front;
use super::session::REPLY_LIMIT;
use crate::memory;
use crate::protocol::resp::Reply;
use crate::queue::{Sums, Ticket};
use crate::session::budget::Budget;
use crate::session::{Close, Shared, Store};

/// The most words of a request whose keys are all looked at in one turn: half of a turn's work.
const KEYS_AT_ONCE: usize = 1000;

/// What a command works with beside its arguments and its reply.
pub(super) struct Context<'a> {
    pub shared: &'a Shared,
    pub client: &'a mut Client,
    /// The reply may leave once the log is durable up to here.
    pub ticket: Ticket,
    /// Set by a command that ends the connection.
    pub close: Option<Close>,
    /// Bytes that the reply to one request may take.
    pub reply_limit: usize,
    /// Where the output must end: a reply that would go beyond is refused.
    pub reply_end: usize,
    /// What is left of the turn, or of a transaction.
    pub budget: Budget,
    /// The command is one of a transaction.
    pub in_transaction: bool,
    /// The next request is not done, and it is the others' turn.
    pub again: bool,
}

impl Context<'_> {
    /// Whether another request may be executed in this turn.
    pub fn goes_on(&self) -> bool {
        self.close.is_none()
            && !self.again
            && !self.budget.is_used_up()
            && self.client.outgoing.is_empty()
    }

    /// Another request begins, or goes on.
    pub fn begin(&mut self, reply: &mut Reply<'_>) -> Outcome {
        self.reply_end = reply.out.len().saturating_add(self.reply_limit);
        Ok(reply.prepare()?)
    }

    /// What the command has done in earlier turns.
    pub fn resume(&mut self) -> Progress {
        let Some(mut progress) = self.client.progress.take() else { return Progress::default() };
        self.ticket.merge(std::mem::take(&mut progress.ticket));
        *progress
    }

    /// The command goes on in the next turn. In a transaction there is none: the command, which has
    /// changed nothing yet, is refused.
    pub fn pause(&mut self, mut progress: Progress) -> Outcome {
        if self.in_transaction {
            return Err(TRANSACTION_TOO_LONG.into());
        }
        progress.ticket = self.ticket.clone();
        let wants_index = std::mem::take(&mut progress.wants_index);
        self.client.progress = Some(Box::new(progress));
        Err(Refusal::again(if wants_index { Again::Indexed } else { Again::NextTurn }))
    }

    /// Does `each` for the keys of a request, from word 1 on, as far as the turn goes, and returns
    /// whether all are done. A request of [`KEYS_AT_ONCE`] words is done in one turn, so that its
    /// keys are seen at one moment, and so is every one in a transaction.
    pub fn each_key(
        &mut self,
        args: Args<'_>,
        progress: &mut Progress,
        mut each: impl FnMut(&mut Self, &[u8], &mut Progress) -> Outcome,
    ) -> Result<bool, Refusal> {
        let is_sliced = self.budget.pauses() && args.len() > KEYS_AT_ONCE;
        for word in progress.next.max(1)..args.len() as u64 {
            progress.next = word;
            if is_sliced && self.budget.is_turn_over() {
                return Ok(false);
            }
            match each(self, args.get(usize::try_from(word).unwrap_or(usize::MAX)), progress) {
                // Another client has claimed the queue of this name.
                Err(Refusal { again: Some(Again::NextTurn), .. }) if is_sliced => return Ok(false),
                done => done?,
            }
            if is_sliced {
                self.budget.look(0);
            }
        }
        Ok(true)
    }

    /// Adds up all queues as far as the turn goes, and returns true once they are.
    pub fn add_up(&mut self, sums: &mut Sums) -> bool {
        self.shared.store.add_up(sums, &mut self.budget)
    }

    /// Refuses what cannot stop in the middle and has to be done at once, if it takes too long.
    pub fn check_steps(&self, steps: u64) -> Outcome {
        if self.budget.affords(steps) { Ok(()) } else { Err(TRANSACTION_TOO_LONG.into()) }
    }

    /// Ends a reply of several elements, of which those since `start` have been written in this
    /// turn. A long one leaves in pieces.
    pub fn end_list<'r>(
        &mut self,
        reply: &mut Reply<'r>,
        start: usize,
        mut elements: Vec<u8>,
        head: impl FnOnce(&mut Reply<'r>),
    ) {
        if elements.is_empty() {
            put_in_front(reply, start, head);
            return;
        }
        reply.is_cut |= memory::append(&mut elements, &reply.out[start..]).is_err();
        reply.out.truncate(start);
        head(reply);
        self.client.outgoing = Outgoing::new(elements);
        self.client.outgoing.pump(reply.out);
    }

    /// Bytes that the reply may still take.
    pub fn room(&self, reply: &Reply<'_>) -> u64 {
        self.reply_end.saturating_sub(reply.out.len()) as u64
    }

    /// Refuses a reply of `bytes` more bytes if they are too many; `advice` says what to do.
    pub fn check_room(&self, reply: &Reply<'_>, bytes: u64, advice: &str) -> Outcome {
        if bytes < self.room(reply) {
            return Ok(());
        }
        Err(too_large(advice))
    }

    /// Whether `key` is a queue that has messages, or a value.
    pub fn exists(&mut self, key: &[u8]) -> Result<bool, Refusal> {
        Ok(match &self.shared.store {
            Store::Queues(queues) => queues.find(key, &mut self.ticket, |_| Ok(()))?.is_some(),
            Store::Kv(kv) => kv.get(key, |_| ()).is_some(),
        })
    }
}

/// The refusal of a reply that would take more than `REPLY_LIMIT`.
pub(super) fn too_large(advice: &str) -> Refusal {
    format!("ERR the reply would be larger than {} MiB; {advice}", REPLY_LIMIT >> 20).into()
}
