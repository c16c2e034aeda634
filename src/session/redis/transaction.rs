//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! A queued request is kept as the bytes it came in and parsed again by EXEC, which runs while
//! the dispatcher holds the gate for writing: no other client's command runs in between. So its
//! time is bounded: there are so many commands at most, and what they cost beside their number
//! comes out of one budget. A command that would take more than is left is refused before it has
//! changed anything, and those before it stay done. What is queued and what is watched is bounded
//! in number and in bytes; a refusal is too, and has its place in the reply.

use super::call::{Call, TRANSACTION_TOO_LONG};
use super::changes::Plan;
use super::client::Client;
use super::dispatch::{self, COMMAND_STEPS};
use super::request::{Again, Args, Outcome, Refusal};
use super::session::{limits, request_limit};
use super::table::{self, Command, EXCLUSIVE};
use crate::memory::{self, NoMemory};
use crate::protocol::Parsed;
use crate::protocol::resp::{Arguments, Limits, parse};
use crate::queue::{NAME_MAX, QueueError, Steps, Ticket};
use crate::session::budget::{self, Budget};
use crate::session::{Shared, Store};
use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;

/// Bytes that the names of watched keys may take, and what each is charged beside its name.
const WATCHED_BYTES: usize = 4 << 20;
const WATCHED_OVERHEAD: usize = 64;

/// Keys that a client may watch: EXEC looks at all of them while others wait, some 3 ms.
const MAX_WATCHED: usize = 4096;

/// Requests in one transaction.
const MAX_REQUESTS: usize = 1 << 17;

/// Bytes of a request that are copied in one turn, a millisecond or two.
const COPIED_AT_ONCE: usize = 1 << 20;

/// Steps that the commands of a transaction may take together, beside a few that each adds.
const TRANSACTION_STEPS: u64 = 200_000;

/// Bytes of the reply that are kept for the refusal of each command that is still to come.
pub(super) const REFUSAL_BYTES: usize = 96;

/// Names of queues that are kept of a transaction, about 2 MB with what each is charged beside its
/// own bytes.
const MAX_KEYS: usize = 4096;
const KEY_OVERHEAD: usize = 64;

/// The requests queued since MULTI.
#[derive(Default)]
pub(super) struct Transaction {
    requests: Vec<u8>,
    /// Bytes at their end of a request that is not here as a whole.
    copied: usize,
    len: usize,
    /// What they cost whatever is in the store.
    steps: u64,
    /// The queues that they may work on, and what these names take.
    keys: HashSet<Box<[u8]>>,
    key_bytes: usize,
    /// One of them works on every queue, or they name more than are kept: EXEC waits for all.
    needs_all: bool,
    /// What the requests before this byte need has been prepared.
    prepared: usize,
    /// A request could not be queued: EXEC will execute none.
    failed: bool,
}

impl Transaction {
    /// Requests in the queue.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.requests.capacity() + self.key_bytes
    }

    /// Copies a piece of a request, and returns true once all of it is here. After an error no
    /// other one may follow.
    fn copy(&mut self, request: &[u8], budget: &mut Budget) -> Result<bool, NoMemory> {
        let rest = request.get(self.copied..).unwrap_or_default();
        memory::reserve(&mut self.requests, rest.len())?;
        let piece = rest.get(..COPIED_AT_ONCE).unwrap_or(rest);
        memory::append(&mut self.requests, piece)?;
        budget.copy(piece.len());
        self.copied = if piece.len() < rest.len() { self.copied + piece.len() } else { 0 };
        Ok(self.copied == 0)
    }

    /// Counts a request that has been copied; after an error no other one may follow.
    fn push(&mut self, command: &Command, args: Args<'_>) -> Result<(), NoMemory> {
        self.len += 1;
        self.steps = self.steps.saturating_add(command.steps(args));
        self.needs_all |= command.has(EXCLUSIVE) || args.len() > MAX_KEYS;
        if !self.needs_all {
            self.keep_keys(command, args)?;
        }
        if self.needs_all || self.keys.len() > MAX_KEYS {
            (self.needs_all, self.keys, self.key_bytes) = (true, HashSet::default(), 0);
        }
        Ok(())
    }

    fn keep_keys(&mut self, command: &Command, args: Args<'_>) -> Result<(), NoMemory> {
        for key in command.keys(args).filter(|key| key.len() <= NAME_MAX) {
            if !self.keys.contains(key) {
                self.keys.try_reserve(1)?;
                self.keys.insert(memory::join(&[key])?.into());
                self.key_bytes += key.len() + KEY_OVERHEAD;
            }
        }
        Ok(())
    }

    /// Refuses another request if there would be too many, or it could not run behind these.
    fn check_place(&self, command: &Command, args: Args<'_>, limit: usize) -> Outcome {
        let others = self.requests.len().saturating_sub(self.copied);
        if others.saturating_add(args.request().len()) > limit {
            return Err(format!("ERR the transaction would be larger than {limit} bytes").into());
        }
        if self.len == MAX_REQUESTS {
            return Err(format!("ERR a transaction has at most {MAX_REQUESTS} commands").into());
        }
        let most = TRANSACTION_STEPS + COMMAND_STEPS * (self.len as u64 + 1);
        if self.steps.saturating_add(command.steps(args)) > most {
            return Err(TRANSACTION_TOO_LONG.into());
        }
        Ok(())
    }

    fn fail(&mut self) {
        *self = Transaction { failed: true, ..Transaction::default() };
    }

    /// Shows the requests from byte `start` on, with the place behind each, until `visit` answers
    /// false, or there is no memory for the list of a request's arguments.
    fn each(&self, shared: &Shared, start: usize, mut visit: impl FnMut(Args<'_>, usize) -> bool) {
        let mut arguments = Arguments::default();
        // They were within the limits when they were queued; these may be lower by now.
        let limits = Limits { max_bulk: usize::MAX, max_request: usize::MAX, ..limits(shared) };
        let mut rest = self.requests.get(start..).unwrap_or_default();
        // They were whole requests when they were queued, so there is no other error.
        while let Ok(Parsed::Complete { consumed }) = parse(rest, &mut arguments, &limits) {
            let (request, others) = rest.split_at(consumed);
            if !visit(Args::new(request, &arguments), self.requests.len() - others.len()) {
                return;
            }
            rest = others;
        }
    }
}

/// The keys of WATCH, with their stamps when it was sent.
#[derive(Default)]
pub(super) struct Watched {
    stamps: HashMap<Box<[u8]>, (u64, u64)>,
    bytes: usize,
}

impl Watched {
    /// Bytes of memory that they take.
    pub fn memory(&self) -> usize {
        self.bytes
    }

    fn insert(&mut self, key: &[u8], stamp: (u64, u64)) -> Outcome {
        self.stamps.try_reserve(1).map_err(NoMemory::from)?;
        self.stamps.insert(memory::join(&[key])?.into(), stamp);
        self.bytes += key.len() + WATCHED_OVERHEAD;
        Ok(())
    }

    fn append(&mut self, added: Watched) -> Outcome {
        self.stamps.try_reserve(added.stamps.len()).map_err(NoMemory::from)?;
        self.stamps.extend(added.stamps);
        self.bytes += added.bytes;
        Ok(())
    }
}

/// A request was refused before it was queued: it spoils the transaction, and an EXEC ends it.
pub(super) fn refuse(client: &mut Client, args: Args<'_>, refusal: Refusal) -> Refusal {
    if args.is(0, "exec") {
        (client.transaction, client.watched) = (None, Watched::default());
        let text = String::from_utf8_lossy(&refusal.text);
        return discarded(text.strip_prefix("ERR ").unwrap_or(&text));
    }
    if let Some(transaction) = &mut client.transaction {
        transaction.fail();
    }
    refusal
}

/// Keeps a request for EXEC. A long one is copied in several turns.
pub(super) fn enqueue(call: &mut Call<'_>, command: &Command) -> Outcome {
    let args = call.args;
    let (limit, progress) = (request_limit(call.shared), call.resume());
    if let Some(transaction) = &mut call.client.transaction
        && !transaction.failed
    {
        check_runnable(call.shared, command, args).inspect_err(|_| transaction.fail())?;
        let placed = transaction.check_place(command, args, limit);
        placed.inspect_err(|_| transaction.fail())?;
        let copied = transaction.copy(args.request(), &mut call.turn.budget);
        if !copied.inspect_err(|_| transaction.fail())? {
            return call.pause(progress);
        }
        transaction.push(command, args).inspect_err(|_| transaction.fail())?;
    }
    call.reply.simple("QUEUED");
    Ok(())
}

/// Refuses what would be an error in every EXEC: the rest of its transaction is not to run without
/// it. And what works on other queues than the keys say, for which no step has begun; and CLIENT
/// REPLY, which would take the answers of the others.
fn check_runnable(shared: &Shared, command: &Command, args: Args<'_>) -> Outcome {
    dispatch::check_store(command, &shared.store)?;
    if command.has_hidden_keys() {
        let name = command.name.to_ascii_uppercase();
        return Err(format!("ERR {name} is not allowed in a transaction").into());
    }
    if command.name == "client" && args.is(1, "reply") {
        return Err("ERR CLIENT REPLY is not allowed in a transaction".into());
    }
    Ok(())
}

/// Prepares, as far as the turn goes, what the queued commands need before the gate is taken for
/// all of them.
pub(super) fn prepare(call: &mut Call<'_>) -> Outcome {
    let Some(mut transaction) = call.client.transaction.take() else {
        return Ok(());
    };
    let (mut prepared, mut goes_on) = (transaction.prepared, true);
    transaction.each(call.shared, prepared, |args, behind| {
        let (left, mut queued) = (call.turn.budget.left(), call.with(args));
        if let Some(command) = table::find(args.get(0)) {
            // What fails here fails again in the command, which has a reply to say so.
            drop(dispatch::prepare(&mut queued, command));
            bury_dead(&mut queued, command);
        }
        let is_whole = left - queued.turn.budget.left() < budget::PREPARATION;
        if is_whole {
            prepared = behind;
            let was_missing = make_queue(&mut queued);
            queued.turn.budget.spend(if was_missing { budget::NEW_QUEUE } else { 1 });
        }
        goes_on = is_whole && !queued.turn.budget.is_used_up();
        goes_on
    });
    transaction.prepared = prepared;
    // If it ended by itself it came to the last one, or to one that cannot be read: EXEC says so.
    let is_prepared = transaction.failed || goes_on || prepared == transaction.requests.len();
    call.client.transaction = Some(transaction);
    if is_prepared { Ok(()) } else { Err(Refusal::again(Again::NextTurn)) }
}

/// Removes a slice of the dead messages in the queues of a request, which no step has room for.
fn bury_dead(call: &mut Call<'_>, command: &Command) {
    if let Store::Queues(queues) = &call.shared.store
        && command.keys(call.args).any(|name| queues.bury_in(name))
    {
        call.turn.budget.spend(budget::PREPARATION);
    }
}

/// Makes the queue that a request pushes to, if there is none, and returns whether there was none:
/// this waits for the disk, some 0.4 ms, and others need not wait for all of a transaction. What
/// fails here fails again in EXEC.
fn make_queue(call: &mut Call<'_>) -> bool {
    let (shared, args) = (call.shared, call.args);
    let Store::Queues(queues) = &shared.store else { return false };
    let is_move = args.is(0, "smove");
    let name = args.get(if is_move { 2 } else { 1 });
    let pushes = is_move || args.is(0, "sadd");
    if !pushes || !queues.outlive_crashes() || !queues.is_missing(name) {
        return false;
    }
    match call.client.watched.stamps.get_mut(name) {
        None => drop(queues.make(name)),
        Some(then) => {
            // Nobody sees the new queue, so it is no change to who watches it. Under the gate no
            // command changes it between the looks at its stamp.
            let _gate = shared.gate.write().unwrap_or_else(PoisonError::into_inner);
            if queues.stamp(name) == *then && queues.make(name).unwrap_or(false) {
                *then = queues.stamp(name);
            }
        }
    }
    true
}

pub(super) fn multi(call: &mut Call<'_>) -> Outcome {
    if call.client.transaction.is_some() {
        return Err("ERR MULTI calls can not be nested".into());
    }
    call.client.transaction = Some(Transaction::default());
    call.reply.simple("OK");
    Ok(())
}

pub(super) fn exec(call: &mut Call<'_>) -> Outcome {
    let shared = call.shared;
    let transaction = call.client.transaction.as_ref().ok_or("ERR EXEC without MULTI")?;
    let is_named = |name: &[u8]| transaction.needs_all || transaction.keys.contains(name);
    if let Store::Queues(queues) = &shared.store
        && queues.any_claimed(is_named, &mut call.client.waiting)
    {
        return Err(Refusal::again(Again::NextTurn));
    }
    let transaction = call.client.transaction.take().unwrap_or_default();
    let watched = std::mem::take(&mut call.client.watched);
    if transaction.failed {
        return Err("EXECABORT Transaction discarded because of previous errors.".into());
    }
    if watched.stamps.iter().any(|(key, then)| stamp(shared, key) != *then) {
        call.reply.null_array();
        return Ok(());
    }
    let steps = match begin_steps(shared, &transaction, &mut call.turn.ticket) {
        Err(refusal) if refusal.again.is_some() => {
            call.client.transaction = Some(transaction);
            call.client.watched = watched;
            return Err(refusal);
        }
        steps => steps?,
    };
    // Whatever its commands find, each of them is answered.
    call.reply.kept = transaction.len.saturating_mul(REFUSAL_BYTES);
    call.reply.prepare().inspect_err(|_| call.reply.kept = 0)?;
    call.reply.array(transaction.len);
    let budget = Budget::at_once(TRANSACTION_STEPS);
    let turn = std::mem::replace(&mut call.turn.budget, budget);
    call.turn.in_transaction = true;
    let (end, mut left) = (call.turn.reply_end, transaction.len);
    transaction.each(shared, 0, |args, _| {
        left = left.saturating_sub(1);
        call.turn.reply_end = end.saturating_sub(left.saturating_mul(REFUSAL_BYTES));
        call.reply.kept = left.saturating_mul(REFUSAL_BYTES);
        dispatch::handle_queued(&mut call.with(args));
        true
    });
    call.reply.kept = 0;
    for _ in 0..left {
        call.reply.error(&format!("OOM {NoMemory}"));
        call.client.tally.note_error();
    }
    call.turn.in_transaction = false;
    call.turn.budget = turn;
    // It was the others who waited.
    call.turn.budget.spend(u64::MAX);
    match steps {
        Some(steps) => Ok(steps.end(&mut call.turn.ticket)?),
        None => Ok(()),
    }
}

/// Begins a step in each queue that the transaction changes; `None` where none is needed.
fn begin_steps<'s>(
    shared: &'s Shared,
    transaction: &Transaction,
    ticket: &mut Ticket,
) -> Result<Option<Steps<'s>>, Refusal> {
    // One command is a step already.
    let Store::Queues(queues) = &shared.store else { return Ok(None) };
    if transaction.len < 2 || !queues.outlive_crashes() {
        return Ok(None);
    }
    let (mut plan, mut budget) = (Plan::default(), Budget::at_once(TRANSACTION_STEPS));
    let mut is_known = true;
    transaction.each(shared, 0, |args, _| {
        if let Some(command) = table::find(args.get(0)) {
            is_known = plan.add(queues, command, args, &mut budget);
        }
        is_known
    });
    if !is_known {
        return Err(discarded(TRANSACTION_TOO_LONG.strip_prefix("ERR ").unwrap_or_default()));
    }
    match queues.begin_transaction(plan.settle(queues, &mut budget), ticket) {
        Err(QueueError::Busy) => Err(Refusal::again(Again::NextTurn)),
        Err(error) => Err(discarded(&error.to_string())),
        Ok(steps) => Ok(Some(steps)),
    }
}

fn discarded(why: &str) -> Refusal {
    format!("EXECABORT Transaction discarded because of: {why}").into()
}

pub(super) fn discard(call: &mut Call<'_>) -> Outcome {
    call.client.transaction.take().ok_or("ERR DISCARD without MULTI")?;
    call.client.watched = Watched::default();
    call.reply.simple("OK");
    Ok(())
}

pub(super) fn watch(call: &mut Call<'_>) -> Outcome {
    if call.client.transaction.is_some() {
        return Err("ERR WATCH inside MULTI is not allowed".into());
    }
    let mut progress = call.resume();
    let is_done = call.each_key(&mut progress, |call, key, progress| {
        let (watched, added) = (&call.client.watched, &mut progress.watched);
        if watched.stamps.contains_key(key) || added.stamps.contains_key(key) {
            return Ok(());
        }
        let bytes = watched.bytes + added.bytes + key.len() + WATCHED_OVERHEAD;
        if bytes > WATCHED_BYTES || watched.stamps.len() + added.stamps.len() == MAX_WATCHED {
            return Err("ERR too many watched keys".into());
        }
        added.insert(key, stamp(call.shared, key))
    })?;
    if !is_done {
        return call.pause(progress);
    }
    call.client.watched.append(progress.watched)?;
    call.reply.simple("OK");
    Ok(())
}

pub(super) fn unwatch(call: &mut Call<'_>) -> Outcome {
    call.client.watched = Watched::default();
    call.reply.simple("OK");
    Ok(())
}

fn stamp(shared: &Shared, key: &[u8]) -> (u64, u64) {
    match &shared.store {
        Store::Queues(queues) => queues.stamp(key),
        Store::Kv(kv) => (kv.stamp(key), 0),
    }
}
