//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! EXEC runs while the dispatcher holds the gate for writing: no other client's command runs in
//! between. So its time is bounded: its commands share one budget. What they cost whatever is in
//! the store is set aside for them when they are queued, and one that it does not suffice for is
//! refused then. What they find in the store comes out of the rest. A command that would take more
//! than is left is refused before it has changed anything, and those before it stay done. A refusal
//! is bounded too, and has its place in the reply.

use super::call::{Call, Entry};
use super::changes::Plan;
use super::client::Client;
use super::command::Command;
use super::request::{Again, Args, Outcome, Refusal};
use super::run::{self, needed_store};
use super::transaction::{
    MAX_WATCHED, REFUSAL_BYTES, TRANSACTION_TOO_LONG, Transaction, WATCHED_BYTES, WATCHED_OVERHEAD,
    Watched,
};
use crate::memory::NoMemory;
use crate::queue::{QueueError, Steps};
use crate::session::budget::{self, Budget};
use crate::session::{Shared, Store};
use std::sync::PoisonError;

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
pub(super) fn enqueue(call: &mut Call<'_>, entry: &Entry) -> Outcome {
    let (args, command) = (call.args, &entry.command);
    let progress = call.resume();
    if let Some(transaction) = &mut call.client.transaction
        && !transaction.failed
    {
        check_runnable(call.shared, entry, args).inspect_err(|_| transaction.fail())?;
        transaction.check_place(command, args).inspect_err(|_| transaction.fail())?;
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
fn check_runnable(shared: &Shared, entry: &Entry, args: Args<'_>) -> Outcome {
    if !entry.is_of(&shared.store) {
        return Err(needed_store(entry));
    }
    let command = &entry.command;
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
        if let Some(Entry { command, .. }) = queued.entry() {
            // What fails here fails again in the command, which has a reply to say so.
            drop(run::prepare(&mut queued, command));
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
    let is_prepared = transaction.failed || goes_on || transaction.ends_at(prepared);
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
    let pushes = is_move || args.is(0, "sadd") || args.is(0, "addjob");
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
    let mut budget = Budget::at_once(transaction.spare_steps());
    let steps = match begin_steps(call, &transaction, &mut budget) {
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
    let held = match &shared.store {
        Store::Queues(queues) if queues.waiting() > 0 => Some(queues.hold_messages()),
        Store::Queues(_) | Store::Kv(_) => None,
    };
    let turn = std::mem::replace(&mut call.turn.budget, budget);
    call.turn.in_transaction = true;
    let (end, mut left) = (call.turn.reply_end, transaction.len);
    transaction.each(shared, 0, |args, _| {
        left = left.saturating_sub(1);
        call.turn.reply_end = end.saturating_sub(left.saturating_mul(REFUSAL_BYTES));
        call.reply.kept = left.saturating_mul(REFUSAL_BYTES);
        run::run_queued(&mut call.with(args));
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
    let ended = steps.map_or(Ok(()), |steps| steps.end(&mut call.turn.ticket));
    if let Some(held) = held {
        held.release(transaction.keys.iter().map(|name| &**name));
    }
    Ok(ended?)
}

/// Begins a step in each queue that the transaction changes; `None` where none is needed.
fn begin_steps<'a>(
    call: &mut Call<'a>,
    transaction: &Transaction,
    budget: &mut Budget,
) -> Result<Option<Steps<'a>>, Refusal> {
    let shared = call.shared;
    // One command is a step already.
    let Store::Queues(queues) = &shared.store else { return Ok(None) };
    if transaction.len < 2 || !queues.outlive_crashes() {
        return Ok(None);
    }
    let (mut plan, mut is_known) = (Plan::default(), true);
    transaction.each(shared, 0, |args, _| {
        if let Some(Entry { command, .. }) = call.with(args).entry() {
            is_known = plan.add(queues, command, args, budget);
        }
        is_known
    });
    let changes = plan.settle(queues, budget);
    if !is_known || budget.is_overdrawn() {
        return Err(discarded(TRANSACTION_TOO_LONG.strip_prefix("ERR ").unwrap_or_default()));
    }
    match queues.begin_transaction(changes, &mut call.turn.ticket) {
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
