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

use super::call::{Call, KV_STORE, QUEUE_STORE, TRANSACTION_TOO_LONG, Turn, needs_store};
use super::client::{Client, Replies};
use super::counts::Called;
use super::pipeline::Pipeline;
use super::progress::Outgoing;
use super::request::{Again, Args, Outcome, Refusal};
use super::table::{self, Command, EXCLUSIVE, FAST, IMMEDIATE, MEMBERSHIP, ONE_STEP, Run, TYPED};
use super::transaction;
use crate::memory::NoMemory;
use crate::protocol::resp::Reply;
use crate::queue::{Handle, Lent, Locked, Queues};
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

/// One client's turn.
pub(super) struct Dispatcher<'a> {
    pub shared: &'a Shared,
    pub client: &'a mut Client,
    pub turn: Turn,
    pub reply: Reply,
}

impl Dispatcher<'_> {
    /// Whether another request may be executed in this turn.
    pub fn goes_on(&self) -> bool {
        self.turn.close.is_none()
            && !self.turn.again
            && !self.turn.budget.is_used_up()
            && self.client.outgoing.is_empty()
    }

    /// Executes or queues the next request of `pipeline`, of which there is one, and those that run
    /// in a row with it; writes one reply to each.
    pub fn handle(&mut self, pipeline: &mut Pipeline<'_>) {
        let Some(args) = pipeline.next() else { return };
        let (shared, resolved) = (self.shared, resolve(self.client, args));
        if self.client.transaction.is_none()
            && !self.client.is_under_way()
            && let Store::Queues(queues) = &shared.store
            && let Ok(command @ Command { run: Run::Queue(_), .. }) = resolved
        {
            return self.run_row(queues, command, pipeline);
        }
        let mut call = self.call(args, None);
        let start = call.reply.out.len();
        let outcome = call.begin().and_then(|()| execute(&mut call, resolved));
        if end(&mut call, start, outcome) {
            self.turn.budget.spend(1 + args.len() as u64);
            self.client.forget_request();
            pipeline.done();
        }
    }

    fn call<'c>(&'c mut self, args: Args<'c>, lent: Option<Lent<'c>>) -> Call<'c> {
        let Dispatcher { shared, client, turn, reply } = self;
        Call { shared, client, turn, args, reply, lent }
    }

    /// Runs `command`, the next one, which is one on a single queue, and those behind it on the
    /// same queue.
    fn run_row(&mut self, queues: &Queues, command: &'static Command, pipeline: &mut Pipeline<'_>) {
        let waiting = {
            let _gate = enter(self.shared);
            let name = pipeline.next().map(|args| args.get(1)).unwrap_or_default();
            let last = self.client.last_queue.take().filter(|last| last.name() == name);
            let handle = last.or_else(|| queues.handle(name));
            let locked = handle.as_ref().and_then(|handle| handle.lock(queues.clock()));
            let is_of_use = locked.is_some();
            let mut row = Row { handle: handle.as_ref(), locked, count: 0, words: 0 };
            let waiting = row.run(command, self, pipeline);
            count(self.shared, row.count);
            drop(row);
            self.client.last_queue = handle.filter(|_| is_of_use);
            if self.client.progress.is_none() {
                // The end of a claim takes the queue's lock.
                self.client.end_claim();
            }
            waiting
        };
        // The index is built without the gate.
        if let Some(command) = waiting
            && let Some(args) = pipeline.next()
            && let mut call = self.call(args, None)
            && let Err(refusal) = prepare(&mut call, command)
        {
            write_error(&mut call, &refusal.text);
            count(call.shared, 1);
            note(&mut call, command, Called::Failed);
            self.client.forget_request();
            pipeline.done();
        }
    }
}

/// Commands on one queue, one after the other.
struct Row<'a> {
    /// None: there was no queue of that name at the first command, which has the row for itself.
    handle: Option<&'a Handle>,
    locked: Option<Locked<'a>>,
    /// Commands that have run.
    count: u64,
    /// Words of their requests.
    words: usize,
}

impl Row<'_> {
    /// Runs `command`, the next one, and those behind it. Returns a command that waits for its
    /// index, if there is one: it is still to be done.
    fn run(
        &mut self,
        mut command: &'static Command,
        dispatcher: &mut Dispatcher<'_>,
        pipeline: &mut Pipeline<'_>,
    ) -> Option<&'static Command> {
        let mut args = pipeline.next()?;
        loop {
            let mut call = dispatcher.call(args, self.locked.as_mut().map(Locked::lend));
            let start = call.reply.out.len();
            let outcome = call.begin().and_then(|()| run(command, &mut call));
            let wants_index = matches!(&outcome, Err(Refusal { again: Some(Again::Indexed), .. }));
            if !is_to_go_on(&outcome) {
                note(&mut call, command, Called::of(&outcome));
            }
            if !end(&mut call, start, outcome) {
                return Some(command).filter(|_| wants_index);
            }
            dispatcher.client.progress = None;
            self.count += 1;
            self.words += if command.has(FAST) { args.len() } else { ROW_WORDS };
            dispatcher.turn.budget.spend(budget::LOOK);
            pipeline.done();
            let is_long = self.words >= ROW_WORDS || dispatcher.reply.out.len() >= OUTPUT_PIECE;
            if is_long || dispatcher.client.claim.is_some() || !dispatcher.goes_on() {
                return None;
            }
            args = pipeline.next()?;
            command = self.following(dispatcher.client, args)?;
        }
    }

    /// The command of the next request, if that is on the row's queue and does not take long: what
    /// may gives the queue back before and after it.
    fn following(&self, client: &mut Client, args: Args<'_>) -> Option<&'static Command> {
        let is_same = |handle: &Handle| handle.name() == args.get(1);
        if client.replies != Replies::On || args.is_inline() || !self.handle.is_some_and(is_same) {
            return None;
        }
        let command = resolve(client, args).ok()?;
        (command.has(FAST) && matches!(command.run, Run::Queue(_))).then_some(command)
    }
}

/// Writes the error of a refused command; false: it is not done.
fn end(call: &mut Call<'_>, start: usize, outcome: Outcome) -> bool {
    let Err(refusal) = outcome else { return true };
    call.reply.take_back(start);
    match refusal.again {
        Some(again) => {
            // What has been built of an index was counted.
            call.turn.again |= again == Again::NextTurn;
            false
        }
        None => {
            write_error(call, &refusal.text);
            true
        }
    }
}

/// Where there is not even memory for an error, no reply behind it would be known for what it is.
fn write_error(call: &mut Call<'_>, text: &[u8]) {
    call.client.tally.note_error();
    call.reply.error_bytes(text);
    if call.reply.is_cut {
        call.turn.close = Some(Close::NoMemory);
    }
}

fn execute(call: &mut Call<'_>, resolved: Result<&'static Command, Refusal>) -> Outcome {
    let command = resolved.map_err(|refusal| reject(call, refusal))?;
    if call.client.transaction.is_some() && !command.has(IMMEDIATE) {
        let queued = transaction::enqueue(call, command);
        if !is_to_go_on(&queued) && queued.is_err() {
            note(call, command, Called::Rejected);
        }
        return queued;
    }
    let shared = call.shared;
    let is_alone = command.has(EXCLUSIVE) || (command.has(ONE_STEP) && call.args.len() > 2);
    let outcome = if is_alone && !call.client.is_under_way() {
        transaction::prepare(call)?;
        let _gate = shared.gate.write().unwrap_or_else(PoisonError::into_inner);
        run(command, call)
    } else {
        let _gate = enter(shared);
        run(command, call)
    };
    settle(call, command, outcome)
}

/// Counts a request that is refused before it is called, if it names a command.
fn reject(call: &mut Call<'_>, refusal: Refusal) -> Refusal {
    if let Some(command) = table::find(call.args.get(0)) {
        note(call, command, Called::Rejected);
    }
    transaction::refuse(call.client, call.args, refusal)
}

/// Builds the indexes further that the command waits for, and counts it when it is done.
fn settle(call: &mut Call<'_>, command: &'static Command, mut outcome: Outcome) -> Outcome {
    if matches!(&outcome, Err(Refusal { again: Some(Again::Indexed), .. }))
        && let Err(refusal) = prepare(call, command)
    {
        outcome = Err(refusal);
    }
    if !is_to_go_on(&outcome) {
        count(call.shared, 1);
        note(call, command, Called::of(&outcome));
    }
    outcome
}

/// Whether nothing is answered yet: the command is to be called again.
fn is_to_go_on(outcome: &Outcome) -> bool {
    matches!(outcome, Err(Refusal { again: Some(_), .. }))
}

fn note(call: &mut Call<'_>, command: &'static Command, called: Called) {
    call.client.tally.note(command, called, &call.shared.statistics.redis);
}

fn enter(shared: &Shared) -> RwLockReadGuard<'_, ()> {
    shared.gate.read().unwrap_or_else(PoisonError::into_inner)
}

fn count(shared: &Shared, commands: u64) {
    shared.statistics.commands.fetch_add(commands, Ordering::Relaxed);
}

/// Executes one queued request of a transaction, whose caller holds the gate and has made sure that
/// nothing is to be waited for.
pub(super) fn handle_queued(call: &mut Call<'_>) {
    count(call.shared, 1);
    call.turn.budget.add(COMMAND_STEPS);
    let start = call.reply.out.len();
    let outcome = resolve(call.client, call.args).and_then(|command| {
        let outcome = run_queued(call, command);
        note(call, command, Called::of(&outcome));
        outcome
    });
    if let Err(refusal) = outcome {
        call.reply.take_back(start);
        let room = usize::try_from(call.room()).unwrap_or(usize::MAX);
        let is_short = refusal.text.len() <= room.max(transaction::REFUSAL_BYTES - 8);
        let text = if is_short { &refusal.text } else { TRANSACTION_TOO_LONG.as_bytes() };
        write_error(call, text);
    }
}

/// Runs a queued command to its end.
fn run_queued(call: &mut Call<'_>, command: &Command) -> Outcome {
    let start = call.reply.out.len();
    loop {
        call.reply.prepare()?;
        call.check_steps(command.steps(call.args))?;
        let outcome = run(command, call);
        // What is refused has nothing more to do.
        call.client.end_claim();
        match &outcome {
            // Damage has been found since: the index is built again, as far as there are steps.
            Err(Refusal { again: Some(Again::Indexed), .. }) if !call.turn.budget.is_used_up() => {
                call.reply.take_back(start);
                prepare(call, command)?;
            }
            Err(Refusal { again: Some(_), .. }) => return Err(TRANSACTION_TOO_LONG.into()),
            _ => {
                call.turn.budget.spend(command.steps(call.args));
                return outcome;
            }
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

/// Runs `command`, unless this daemon has another store. Where the reply has found no memory the
/// command is refused. If it changes anything, it has not: a reply that such a command cannot do
/// without is written first.
fn run(command: &Command, call: &mut Call<'_>) -> Outcome {
    call.check_room(0, "use a smaller transaction")?;
    let outcome = match (&command.run, &call.shared.store) {
        (Run::Any(run), _)
        | (Run::Queue(run) | Run::Queues(run), Store::Queues(_))
        | (Run::Kv(run), Store::Kv(_)) => run(call),
        _ => Err(other_store(call, command)),
    };
    if call.reply.is_cut {
        (call.client.progress, call.client.outgoing) = (None, Outgoing::default());
        return Err(NoMemory.into());
    }
    outcome
}

/// The refusal of a command of the store that this daemon does not have.
fn other_store(call: &mut Call<'_>, command: &Command) -> Refusal {
    let is_typed = command.has(TYPED) || matches!(command.run, Run::Queue(_) | Run::Queues(_));
    let first_key = command.keys(call.args).next().unwrap_or_default();
    if is_typed && matches!(call.exists(first_key), Ok(true)) {
        return WRONG_TYPE.into();
    }
    needed_store(command)
}

fn needed_store(command: &Command) -> Refusal {
    let is_kv = matches!(command.run, Run::Kv(_));
    needs_store(command.name, if is_kv { KV_STORE } else { QUEUE_STORE })
}

/// Refuses a command that this daemon's store does not have.
pub(super) fn check_store(command: &Command, store: &Store) -> Outcome {
    match (&command.run, store) {
        (Run::Any(_), _)
        | (Run::Queue(_) | Run::Queues(_), Store::Queues(_))
        | (Run::Kv(_), Store::Kv(_)) => Ok(()),
        _ => Err(needed_store(command)),
    }
}
