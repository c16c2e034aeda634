//! What a command works with: one [`Call`] holds the request, the reply, the client and the daemon,
//! and what the command may take of time and of reply.
//!
//! This file knows no command by its name.

use super::client::Client;
use super::command::Command;
use super::progress::{Outgoing, Progress};
use super::request::{Again, Args, Outcome, Refusal};
use super::scan::put_in_front;
use super::transaction::TRANSACTION_TOO_LONG;
use crate::kv::Kv;
use crate::memory;
use crate::protocol::resp::Reply;
use crate::queue::{Lent, Queues, Sums, Target, Ticket};
use crate::session::budget::Budget;
use crate::session::{Close, Shared, Store, Wait};
use std::sync::Arc;

/// The largest reply that one request may build, in bytes, EXEC with all its commands among them;
/// one value or message may exceed it by its own length.
pub(super) const REPLY_LIMIT: usize = 32 << 20;

/// The most words of a request whose keys are all looked at in one turn: most of a turn's work.
const KEYS_AT_ONCE: usize = 1000;

/// Executes a command.
pub(super) type Handler = fn(&mut Call<'_>) -> Outcome;

/// How a command is executed, and by its kind the store that it needs.
pub(super) enum Run {
    Any(Handler),
    /// Works on the one queue that word 1 names.
    Queue(Handler),
    Queues(Handler),
    Kv(Handler),
    /// Word 1 names a command of its own.
    Subcommands(&'static [Subcommand]),
}

/// A command in the table.
pub(super) struct Entry {
    pub command: Command,
    pub run: Run,
}

impl Entry {
    /// Whether the command is one of this store.
    pub fn is_of(&self, store: &Store) -> bool {
        match self.run {
            Run::Any(_) | Run::Subcommands(_) => true,
            Run::Queue(_) | Run::Queues(_) => matches!(store, Store::Queues(_)),
            Run::Kv(_) => matches!(store, Store::Kv(_)),
        }
    }
}

/// A word after CLIENT, COMMAND or CONFIG that is a command of its own.
pub(super) struct Subcommand {
    pub name: &'static str,
    /// Counts both names.
    pub arity: i8,
    pub run: Handler,
    /// What it takes and does, one line for HELP.
    pub help: &'static str,
}

pub(super) const fn subcommand(
    name: &'static str,
    arity: i8,
    run: Handler,
    help: &'static str,
) -> Subcommand {
    Subcommand { name, arity, run, help }
}

/// Returns the command of this name, in capitals or not. A table is in the order of names.
pub(super) fn find(table: &'static [Entry], name: &[u8]) -> Option<&'static Entry> {
    let in_small_letters = || name.iter().map(u8::to_ascii_lowercase);
    let compare = |entry: &Entry| entry.command.name.bytes().cmp(in_small_letters());
    table.get(table.binary_search_by(compare).ok()?)
}

/// What one turn of a client has to go on with, or a transaction within it.
pub(super) struct Turn {
    /// The commands that there are.
    pub table: &'static [Entry],
    /// The replies may leave once the log is durable up to here.
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
    /// The next request waits for a message.
    pub wait: Option<Wait>,
}

/// One request of a client: its words, its reply, and what it may work with.
pub(super) struct Call<'a> {
    pub shared: &'a Shared,
    pub client: &'a mut Client,
    pub turn: &'a mut Turn,
    pub args: Args<'a>,
    pub reply: &'a mut Reply,
    /// The lock on the queue that word 1 names, if it is held for several commands.
    pub lent: Option<Lent<'a>>,
}

impl<'a> Call<'a> {
    /// The request begins, or goes on.
    pub fn begin(&mut self) -> Outcome {
        self.turn.reply_end = self.reply.out.len().saturating_add(self.turn.reply_limit);
        Ok(self.reply.prepare()?)
    }

    /// The same for another request: one of a transaction.
    pub fn with<'b>(&'b mut self, args: Args<'b>) -> Call<'b> {
        let Call { shared, client, turn, reply, .. } = self;
        Call { shared, client, turn, args, reply, lent: None }
    }

    /// The command that the request names.
    pub fn entry(&self) -> Option<&'static Entry> {
        find(self.turn.table, self.args.get(0))
    }

    /// The key/value store.
    pub fn kv(&self) -> Result<&'a Kv, Refusal> {
        match &self.shared.store {
            Store::Kv(kv) => Ok(kv),
            Store::Queues(_) => Err(needs_store(&self.args.name(), KV_STORE)),
        }
    }

    /// All queues.
    pub fn queues(&self) -> Result<&'a Arc<Queues>, Refusal> {
        match &self.shared.store {
            Store::Queues(queues) => Ok(queues),
            Store::Kv(_) => Err(needs_store(&self.args.name(), QUEUE_STORE)),
        }
    }

    /// The queue that word 1 names, to be asked for once.
    pub fn target(&mut self) -> Result<Target<'a>, Refusal> {
        let (queues, name, lent) = (self.queues()?, self.args.get(1), self.lent.take());
        Ok(Target { queues, name, lent, in_transaction: self.turn.in_transaction })
    }

    /// What the command has done in earlier turns.
    pub fn resume(&mut self) -> Progress {
        let Some(mut progress) = self.client.progress.take() else { return Progress::default() };
        self.turn.ticket.merge(std::mem::take(&mut progress.ticket));
        *progress
    }

    /// The command goes on in the next turn. In a transaction there is none: the command, which has
    /// changed nothing yet, is refused.
    pub fn pause(&mut self, mut progress: Progress) -> Outcome {
        if self.turn.in_transaction {
            return Err(TRANSACTION_TOO_LONG.into());
        }
        progress.ticket = self.turn.ticket.clone();
        let wants_index = std::mem::take(&mut progress.wants_index);
        self.client.progress = Some(Box::new(progress));
        Err(Refusal::again(if wants_index { Again::Indexed } else { Again::NextTurn }))
    }

    /// As [`pause`](Call::pause), in the middle of a list: the elements written since `start` are
    /// kept. Where there is no memory for them, the reply is cut.
    pub fn pause_list(&mut self, mut progress: Progress, start: usize) -> Outcome {
        let reply = &mut *self.reply;
        reply.is_cut |= memory::append(&mut progress.elements, &reply.out[start..]).is_err();
        reply.out.truncate(start);
        self.pause(progress)
    }

    /// Does `each` for the keys of a request, from word 1 on, as far as the turn goes, and returns
    /// whether all are done. A request of [`KEYS_AT_ONCE`] words is done in one turn, so that its
    /// keys are seen at one moment, and so is every one in a transaction.
    pub fn each_key(
        &mut self,
        progress: &mut Progress,
        mut each: impl FnMut(&mut Self, &[u8], &mut Progress) -> Outcome,
    ) -> Result<bool, Refusal> {
        let args = self.args;
        let is_sliced = self.turn.budget.pauses() && args.len() > KEYS_AT_ONCE;
        for word in progress.next.max(1)..args.len() as u64 {
            progress.next = word;
            if is_sliced && self.turn.budget.is_turn_over() {
                return Ok(false);
            }
            match each(self, args.get(usize::try_from(word).unwrap_or(usize::MAX)), progress) {
                // Another client has claimed the queue of this name.
                Err(Refusal { again: Some(Again::NextTurn), .. }) if is_sliced => return Ok(false),
                done => done?,
            }
            if is_sliced {
                self.turn.budget.look(0);
            }
        }
        Ok(true)
    }

    /// Adds up all queues as far as the turn goes, and returns true once they are.
    pub fn add_up(&mut self, sums: &mut Sums) -> bool {
        self.shared.store.add_up(sums, &mut self.turn.budget)
    }

    /// Refuses what cannot stop in the middle and has to be done at once, if it takes too long.
    pub fn check_steps(&self, steps: u64) -> Outcome {
        if self.turn.budget.affords(steps) { Ok(()) } else { Err(TRANSACTION_TOO_LONG.into()) }
    }

    /// Ends a reply of several elements, of which those since `start` have been written in this
    /// turn. A long one leaves in pieces.
    pub fn end_list(&mut self, start: usize, mut elements: Vec<u8>, head: impl FnOnce(&mut Reply)) {
        let reply = &mut *self.reply;
        if elements.is_empty() {
            put_in_front(reply, start, head);
            return;
        }
        reply.is_cut |= memory::append(&mut elements, &reply.out[start..]).is_err();
        reply.out.truncate(start);
        head(reply);
        self.client.outgoing = Outgoing::new(elements);
        self.client.outgoing.pump(&mut reply.out);
    }

    /// Bytes that the reply may still take.
    pub fn room(&self) -> u64 {
        self.turn.reply_end.saturating_sub(self.reply.out.len()) as u64
    }

    /// Refuses a reply of `bytes` more bytes if they are too many; `advice` says what to do.
    pub fn check_room(&self, bytes: u64, advice: &str) -> Outcome {
        if bytes < self.room() {
            return Ok(());
        }
        Err(too_large(advice))
    }

    /// Whether `key` is a queue that has messages, or a value.
    pub fn exists(&mut self, key: &[u8]) -> Result<bool, Refusal> {
        Ok(match &self.shared.store {
            Store::Queues(queues) => queues.find(key, &mut self.turn.ticket, |_| Ok(()))?.is_some(),
            Store::Kv(kv) => kv.get(key, |_| ()).is_some(),
        })
    }
}

pub(super) const KV_STORE: &str = "the key/value store (--store kv)";
pub(super) const QUEUE_STORE: &str = "a queue store (--store disk or memory)";

/// The refusal of a command that works on another store than this daemon has.
pub(super) fn needs_store(name: &str, store: &str) -> Refusal {
    format!("ERR {} needs {store}", name.to_ascii_uppercase()).into()
}

/// The refusal of a reply that would take more than `REPLY_LIMIT`.
pub(super) fn too_large(advice: &str) -> Refusal {
    format!("ERR the reply would be larger than {} MiB; {advice}", REPLY_LIMIT >> 20).into()
}
