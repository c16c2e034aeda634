//! Runs one command: finds it, checks it once, and counts what became of it.
//!
//! The gate is the caller's affair.

use super::call::{Call, Entry, KV_STORE, QUEUE_STORE, Run, find, needs_store};
use super::client::Client;
use super::command::{Command, MEMBERSHIP, TYPED, allows};
use super::progress::Outgoing;
use super::request::{Again, Args, Outcome, Refusal};
use super::subcommand;
use super::transaction::{REFUSAL_BYTES, TRANSACTION_TOO_LONG};
use crate::memory::NoMemory;
use crate::session::budget;
use crate::session::{Close, Shared, Store};
use std::sync::atomic::Ordering;

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

/// Where there is not even memory for an error, no reply behind it would be known for what it is.
pub(super) fn write_error(call: &mut Call<'_>, text: &[u8]) {
    call.client.tally.note_error();
    call.reply.error_bytes(text);
    if call.reply.is_cut {
        call.turn.close = Some(Close::NoMemory);
    }
}

/// Whether nothing is answered yet: the command is to be called again.
pub(super) fn is_to_go_on(outcome: &Outcome) -> bool {
    matches!(outcome, Err(Refusal { again: Some(_), .. }))
}

pub(super) fn note(call: &mut Call<'_>, command: &'static Command, outcome: &Outcome) {
    call.client.tally.note(command, outcome.is_err(), call.shared);
}

pub(super) fn count(shared: &Shared, commands: u64) {
    shared.statistics.commands.fetch_add(commands, Ordering::Relaxed);
}

/// Executes one queued request of a transaction, whose caller holds the gate and has made sure that
/// nothing is to be waited for.
pub(super) fn run_queued(call: &mut Call<'_>) {
    count(call.shared, 1);
    let start = call.reply.out.len();
    let outcome = resolve(call.shared, call.turn.table, call.client, call.args).and_then(|entry| {
        let outcome = run_to_end(call, entry);
        note(call, &entry.command, &outcome);
        outcome
    });
    if let Err(refusal) = outcome {
        call.reply.take_back(start);
        let room = usize::try_from(call.room()).unwrap_or(usize::MAX);
        let is_short = refusal.text.len() <= room.max(REFUSAL_BYTES - 8);
        let text = if is_short { &refusal.text } else { TRANSACTION_TOO_LONG.as_bytes() };
        write_error(call, text);
    }
}

/// Runs a queued command to its end, with what is set aside for it and what is left for all.
fn run_to_end(call: &mut Call<'_>, entry: &'static Entry) -> Outcome {
    let command = &entry.command;
    let (start, steps) = (call.reply.out.len(), command.steps(call.args));
    call.turn.budget.set_aside(steps);
    call.check_steps(steps)?;
    loop {
        call.reply.prepare()?;
        let outcome = run(entry, call);
        // What is refused has nothing more to do.
        call.client.end_claim();
        match &outcome {
            // Damage has been found since: the index is built again, as far as there are steps.
            Err(Refusal { again: Some(Again::Indexed), .. }) if !call.turn.budget.is_used_up() => {
                call.reply.take_back(start);
                prepare(call, command)?;
            }
            Err(Refusal { again: Some(_), .. }) => return Err(TRANSACTION_TOO_LONG.into()),
            _ => return outcome,
        }
    }
}

/// Builds the indexes that a membership command needs, a slice in each turn; called without the
/// gate, but for a transaction.
pub(super) fn prepare(call: &mut Call<'_>, command: &Command) -> Outcome {
    if let Store::Queues(queues) = &call.shared.store
        && command.has(MEMBERSHIP)
    {
        call.turn.budget.spend(budget::LOOK);
        for key in command.keys(call.args) {
            if !queues.prepare_membership(key)? {
                call.turn.budget.spend(budget::PREPARATION);
                break;
            }
        }
    }
    Ok(())
}

/// The command that the request names, if it takes this many words; the time goes to it from now
/// on. The last one is tried first: it is usually the next one.
pub(super) fn resolve(
    shared: &Shared,
    table: &'static [Entry],
    client: &mut Client,
    args: Args<'_>,
) -> Result<&'static Entry, Refusal> {
    let last = client.last_command.filter(|last| args.is(0, last.name));
    let known = last.and_then(|last| table.get(last.index));
    let found = known.or_else(|| find(table, args.get(0)));
    let entry = found.ok_or_else(|| Refusal::unknown_command(args))?;
    let command = &entry.command;
    client.last_command = Some(command);
    if !allows(command.arity, args.len()) {
        return Err(Refusal::arity(command.name));
    }
    let (name, most) = (command.name, command.most_words());
    if args.len() > most {
        return Err(format!("ERR '{name}' takes at most {most} words at once").into());
    }
    if let Run::Subcommands(subcommands) = entry.run {
        subcommand::check(subcommands, args)?;
    }
    client.tally.turn_to(command, shared);
    Ok(entry)
}

/// Runs a command, unless this daemon has another store. Where the reply has found no memory the
/// command is refused. If it changes anything, it has not: a reply that such a command cannot do
/// without is written first.
pub(super) fn run(entry: &'static Entry, call: &mut Call<'_>) -> Outcome {
    call.check_room(0, "use a smaller transaction")?;
    if !entry.is_of(&call.shared.store) {
        return Err(other_store(call, entry));
    }
    let outcome = match entry.run {
        Run::Any(run) | Run::Queue(run) | Run::Queues(run) | Run::Kv(run) => run(call),
        Run::Subcommands(subcommands) => subcommand::run(subcommands, call),
    };
    if call.reply.is_cut {
        (call.client.progress, call.client.outgoing) = (None, Outgoing::default());
        return Err(NoMemory.into());
    }
    outcome
}

/// The refusal of a command of the store that this daemon does not have.
fn other_store(call: &mut Call<'_>, entry: &Entry) -> Refusal {
    let is_typed = entry.command.has(TYPED) || matches!(entry.run, Run::Queue(_) | Run::Queues(_));
    let first_key = entry.command.keys(call.args).next().unwrap_or_default();
    if is_typed && matches!(call.exists(first_key), Ok(true)) {
        return WRONG_TYPE.into();
    }
    needed_store(entry)
}

pub(super) fn needed_store(entry: &Entry) -> Refusal {
    let is_kv = matches!(entry.run, Run::Kv(_));
    needs_store(entry.command.name, if is_kv { KV_STORE } else { QUEUE_STORE })
}
