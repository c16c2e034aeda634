//! From a request to its reply: look the command up, check it once, queue it or run it.
//!
//! 1. A command runs while it holds the gate for reading; EXEC, and what else must not be seen half
//!    done, holds it for writing. So between the commands of a transaction no other client's runs.
//! 2. A command that cannot be done in one turn holds the gate for a slice at a time. It goes on
//!    when it is called again in the next turn; the queue that it works on is claimed meanwhile, so
//!    for others it is one step. What a membership command needs is built in the same way, without
//!    a claim. EXEC waits for both before it takes the gate.
//! 3. A refused request leaves nothing of its reply but the error.
//! 4. Commands of one pipeline on one queue that follow each other, and whose time does not grow
//!    with the data, run in a row: gate and queue are taken once for all of them, and given back
//!    after at most `ROW_WORDS` words. They run at one time: the clock is read when the queue is
//!    had.
//!
//! The gate is entered although a panic has poisoned it: it guards no data, only order.

use super::client::{Client, Replies};
use super::context::Context;
use super::counts::Call;
use super::pipeline::Pipeline;
use super::progress::Outgoing;
use super::request::{Again, Args, Outcome, Refusal};
use super::table::{self, Command, EXCLUSIVE, FAST, IMMEDIATE, MEMBERSHIP, ONE_STEP, Run, TYPED};
use super::transaction;
use crate::memory::NoMemory;
use crate::protocol::resp::Reply;
use crate::queue::{Handle, Locked, Queues, Target};
use crate::session::budget;
use crate::session::{Close, OUTPUT_PIECE, Shared, Store};
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLockReadGuard};

pub(super) const WRONG_TYPE: &str =
    "WRONGTYPE Operation against a key holding the wrong kind of value";

/// The most words of the requests that run in a row, but for the last one.
const ROW_WORDS: usize = 256;

/// Steps that each command of a transaction adds to those of the transaction; what the commands
/// before it have taken too much is paid with them.
pub(super) const COMMAND_STEPS: u64 = 16;

pub(super) const TRANSACTION_TOO_LONG: &str =
    "ERR the transaction takes too long; use a smaller one";

/// Executes or queues the next request of `pipeline`, of which there is one, and those that run in
/// a row with it; writes one reply to each.
pub(super) fn handle(
    context: &mut Context<'_>,
    pipeline: &mut Pipeline<'_>,
    reply: &mut Reply<'_>,
) {
    let Some(args) = pipeline.next() else { return };
    if context.client.transaction.is_none()
        && !context.client.is_under_way()
        && let Store::Queues(queues) = &context.shared.store
        && let Ok(command @ Command { run: Run::Queue(_), .. }) = resolve(context.client, args)
    {
        return run_row(queues, command, context, pipeline, reply);
    }
    let start = reply.out.len();
    let outcome = context.begin(reply).and_then(|()| execute(context, args, reply));
    if end(context, start, outcome, reply) {
        context.budget.spend(1 + args.len() as u64);
        context.client.forget_request();
        pipeline.done();
    }
}

/// Writes the error of a refused command; false: it is not done.
fn end(context: &mut Context<'_>, start: usize, outcome: Outcome, reply: &mut Reply<'_>) -> bool {
    let Err(refusal) = outcome else { return true };
    reply.take_back(start);
    match refusal.again {
        Some(again) => {
            // What has been built of an index was counted.
            context.again |= again == Again::NextTurn;
            false
        }
        None => {
            write_error(context, &refusal.text, reply);
            true
        }
    }
}

/// Where there is not even memory for an error, no reply behind it would be known for what it is.
fn write_error(context: &mut Context<'_>, text: &[u8], reply: &mut Reply<'_>) {
    context.client.tally.note_error();
    reply.error_bytes(text);
    if reply.is_cut {
        context.close = Some(Close::NoMemory);
    }
}

/// Refuses a command whose reply has found no memory. If it changes anything, it has not: a reply
/// that such a command cannot do without is written first.
fn unless_cut(context: &mut Context<'_>, outcome: Outcome, reply: &Reply<'_>) -> Outcome {
    if reply.is_cut {
        (context.client.progress, context.client.outgoing) = (None, Outgoing::default());
        return Err(NoMemory.into());
    }
    outcome
}

fn execute(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let command =
        resolve(context.client, args).map_err(|refusal| reject(context, args, refusal))?;
    if context.client.transaction.is_some() && !command.has(IMMEDIATE) {
        let queued = transaction::enqueue(context, command, args, reply);
        if !is_to_go_on(&queued) && queued.is_err() {
            note(context, command, Call::Rejected);
        }
        return queued;
    }
    let shared = context.shared;
    let is_alone = command.has(EXCLUSIVE) || (command.has(ONE_STEP) && args.len() > 2);
    let outcome = if is_alone && !context.client.is_under_way() {
        transaction::prepare(context)?;
        let _gate = shared.gate.write().unwrap_or_else(PoisonError::into_inner);
        run(command, context, args, reply)
    } else {
        let _gate = enter(shared);
        run(command, context, args, reply)
    };
    settle(context, command, args, outcome)
}

/// Counts a request that is refused before it is called, if it names a command.
fn reject(context: &mut Context<'_>, args: Args<'_>, refusal: Refusal) -> Refusal {
    if let Some(command) = table::find(args.get(0)) {
        note(context, command, Call::Rejected);
    }
    transaction::refuse(context.client, args, refusal)
}

/// Builds the indexes further that the command waits for, and counts it when it is done.
fn settle(
    context: &mut Context<'_>,
    command: &'static Command,
    args: Args<'_>,
    mut outcome: Outcome,
) -> Outcome {
    if matches!(&outcome, Err(Refusal { again: Some(Again::Indexed), .. }))
        && let Err(refusal) = prepare(context, command, args)
    {
        outcome = Err(refusal);
    }
    if !is_to_go_on(&outcome) {
        count(context.shared, 1);
        note(context, command, Call::of(&outcome));
    }
    outcome
}

/// Whether nothing is answered yet: the command is to be called again.
fn is_to_go_on(outcome: &Outcome) -> bool {
    matches!(outcome, Err(Refusal { again: Some(_), .. }))
}

fn note(context: &mut Context<'_>, command: &'static Command, call: Call) {
    context.client.tally.note(command, call, &context.shared.statistics.redis);
}

fn enter(shared: &Shared) -> RwLockReadGuard<'_, ()> {
    shared.gate.read().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `command`, the next one, which is one on a single queue, and those behind it on the same
/// queue.
fn run_row(
    queues: &Queues,
    command: &'static Command,
    context: &mut Context<'_>,
    pipeline: &mut Pipeline<'_>,
    reply: &mut Reply<'_>,
) {
    let waiting = {
        let _gate = enter(context.shared);
        let name = pipeline.next().map(|args| args.get(1)).unwrap_or_default();
        let last = context.client.last_queue.take().filter(|last| last.name() == name);
        let handle = last.or_else(|| queues.handle(name));
        let mut locked = handle.as_ref().and_then(|handle| handle.lock(queues.clock()));
        let is_of_use = locked.is_some();
        let mut row = Row { queues, handle: handle.as_ref(), count: 0, words: 0 };
        let waiting = row.run(command, locked.as_mut(), context, pipeline, reply);
        count(context.shared, row.count);
        drop(locked);
        context.client.last_queue = handle.filter(|_| is_of_use);
        if context.client.progress.is_none() {
            // The end of a claim takes the queue's lock.
            context.client.end_claim();
        }
        waiting
    };
    // The index is built without the gate.
    if let Some(command) = waiting
        && let Some(args) = pipeline.next()
        && let Err(refusal) = prepare(context, command, args)
    {
        write_error(context, &refusal.text, reply);
        count(context.shared, 1);
        note(context, command, Call::Failed);
        context.client.forget_request();
        pipeline.done();
    }
}

fn count(shared: &Shared, commands: u64) {
    shared.statistics.commands.fetch_add(commands, Ordering::Relaxed);
}

/// Commands on one queue, one after the other.
struct Row<'a> {
    queues: &'a Queues,
    /// None: there was no queue of that name at the first command, which has the row for itself.
    handle: Option<&'a Handle>,
    /// Commands that have run.
    count: u64,
    /// Words of their requests.
    words: usize,
}

impl Row<'_> {
    /// Runs `first`, the next command, and those behind it. Answers a command that waits for its
    /// index, where there is one: it is still to be done.
    fn run(
        &mut self,
        first: &'static Command,
        mut locked: Option<&mut Locked<'_>>,
        context: &mut Context<'_>,
        pipeline: &mut Pipeline<'_>,
        reply: &mut Reply<'_>,
    ) -> Option<&'static Command> {
        let mut command = first;
        while let Run::Queue(run) = command.run {
            let args = pipeline.next()?;
            let start = reply.out.len();
            let begun = context.begin(reply);
            let (queues, name, mut claim) = (self.queues, args.get(1), None);
            let locked = locked.as_deref_mut();
            let mut target =
                Target { queues, name, locked, claim: &mut claim, in_transaction: false };
            let outcome = begun.and_then(|()| run(&mut target, context, args, reply));
            let outcome = unless_cut(context, outcome, reply);
            let wants_index = matches!(&outcome, Err(Refusal { again: Some(Again::Indexed), .. }));
            if !is_to_go_on(&outcome) {
                note(context, command, Call::of(&outcome));
            }
            let is_claimed = claim.is_some();
            context.client.claim = claim;
            if !end(context, start, outcome, reply) {
                return Some(command).filter(|_| wants_index);
            }
            context.client.progress = None;
            self.count += 1;
            self.words += if command.has(FAST) { args.len() } else { ROW_WORDS };
            context.budget.spend(budget::LOOK);
            pipeline.done();
            let is_long = self.words >= ROW_WORDS || reply.out.len() >= OUTPUT_PIECE;
            if is_claimed || is_long || !context.goes_on() {
                break;
            }
            command = self.following(context.client, pipeline)?;
        }
        None
    }

    /// The next command, where its request is on the row's queue, and it does not take long: what
    /// may gives the queue back before and after it.
    fn following(
        &self,
        client: &mut Client,
        pipeline: &mut Pipeline<'_>,
    ) -> Option<&'static Command> {
        if client.replies != Replies::On {
            return None;
        }
        let args = pipeline.next().filter(|args| self.is_on_queue(*args))?;
        resolve(client, args).ok().filter(|command| command.has(FAST))
    }

    fn is_on_queue(&self, args: Args<'_>) -> bool {
        let is_same = |handle: &Handle| handle.name() == args.get(1);
        !args.is_inline() && self.handle.is_some_and(is_same)
    }
}

/// Executes one queued request of a transaction, whose caller holds the gate and has made sure that
/// nothing is to be waited for.
pub(super) fn handle_queued(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    count(context.shared, 1);
    context.budget.add(COMMAND_STEPS);
    let start = reply.out.len();
    let outcome = resolve(context.client, args).and_then(|command| {
        let outcome = run_queued(context, command, args, reply);
        note(context, command, Call::of(&outcome));
        outcome
    });
    if let Err(refusal) = outcome {
        reply.take_back(start);
        let room = usize::try_from(context.room(reply)).unwrap_or(usize::MAX);
        let is_short = refusal.text.len() <= room.max(transaction::REFUSAL_BYTES - 8);
        let text = if is_short { &refusal.text } else { TRANSACTION_TOO_LONG.as_bytes() };
        write_error(context, text, reply);
    }
}

/// Runs a queued command to its end.
fn run_queued(
    context: &mut Context<'_>,
    command: &Command,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let start = reply.out.len();
    loop {
        reply.prepare()?;
        context.check_steps(command.steps(args))?;
        let outcome = run(command, context, args, reply);
        // What is refused has nothing more to do.
        context.client.end_claim();
        match &outcome {
            // Damage has been found since: the index is built again, as far as there are steps.
            Err(Refusal { again: Some(Again::Indexed), .. }) if !context.budget.is_used_up() => {
                reply.take_back(start);
                prepare(context, command, args)?;
            }
            Err(Refusal { again: Some(_), .. }) => return Err(TRANSACTION_TOO_LONG.into()),
            _ => {
                context.budget.spend(command.steps(args));
                return outcome;
            }
        }
    }
}

/// Builds the indexes that a membership command needs, a slice in each turn; called without the
/// gate, but for a transaction.
pub(super) fn prepare(context: &mut Context<'_>, command: &Command, args: Args<'_>) -> Outcome {
    if let Store::Queues(queues) = &context.shared.store
        && command.has(MEMBERSHIP)
    {
        context.budget.spend(budget::LOOK);
        for key in command.keys(args) {
            if !queues.prepare_membership(key)? {
                context.budget.spend(budget::PREPARATION);
                break;
            }
        }
    }
    Ok(())
}

/// The command that the request names, if it takes this many words. The last one is tried first: it
/// is most often the next one.
fn resolve(client: &mut Client, args: Args<'_>) -> Result<&'static Command, Refusal> {
    let last = client.last_command.filter(|last| args.is(0, last.name));
    let found = last.or_else(|| table::find(args.get(0)));
    let command = found.ok_or_else(|| Refusal::unknown_command(args))?;
    client.last_command = found;
    if !table::allows(command.arity, args.len()) {
        return Err(Refusal::arity(command.name));
    }
    let (name, most) = (command.name, command.most_words());
    if args.len() > most {
        return Err(format!("ERR '{name}' takes at most {most} words at once").into());
    }
    if command.is_description() {
        table::check_subcommand(command, args)?;
    }
    Ok(command)
}

fn run(
    command: &Command,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    context.check_room(reply, 0, "use a smaller transaction")?;
    let outcome = match (&command.run, &context.shared.store) {
        (Run::Any(run), _) => run(context, args, reply),
        (Run::Queue(run), Store::Queues(queues)) => {
            let mut claim = context.client.claim.take();
            let (name, claimed) = (args.get(1), &mut claim);
            let in_transaction = context.in_transaction;
            let mut target = Target { queues, name, locked: None, claim: claimed, in_transaction };
            let outcome = run(&mut target, context, args, reply);
            context.client.claim = claim;
            outcome
        }
        (Run::Queues(run), Store::Queues(queues)) => run(queues, context, args, reply),
        (Run::Kv(run), Store::Kv(kv)) => run(kv, context, args, reply),
        _ => Err(other_store(context, command, args)),
    };
    unless_cut(context, outcome, reply)
}

/// The refusal of a command of the store that this daemon does not have.
fn other_store(context: &mut Context<'_>, command: &Command, args: Args<'_>) -> Refusal {
    let is_typed = command.has(TYPED) || matches!(command.run, Run::Queue(_) | Run::Queues(_));
    let first_key = command.keys(args).next().unwrap_or_default();
    if is_typed && matches!(context.exists(first_key), Ok(true)) {
        return WRONG_TYPE.into();
    }
    needs_store(command)
}

fn needs_store(command: &Command) -> Refusal {
    let needs = match command.run {
        Run::Kv(_) => "the key/value store (--store kv)",
        _ => "a queue store (--store disk or memory)",
    };
    format!("ERR {} needs {needs}", command.name.to_ascii_uppercase()).into()
}

/// Refuses a command that this daemon's store does not have.
pub(super) fn check_store(command: &Command, store: &Store) -> Outcome {
    match (&command.run, store) {
        (Run::Any(_), _)
        | (Run::Queue(_) | Run::Queues(_), Store::Queues(_))
        | (Run::Kv(_), Store::Kv(_)) => Ok(()),
        _ => Err(needs_store(command)),
    }
}
