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

use super::call::{Call, Entry, Run, Turn};
use super::client::{Client, Replies};
use super::command::{Command, EXCLUSIVE, FAST, IMMEDIATE, ONE_STEP};
use super::exec;
use super::pipeline::Pipeline;
use super::request::{Again, Args, Outcome, Refusal};
use super::run::{count, is_to_go_on, note, prepare, resolve, run, write_error};
use super::strings;
use crate::protocol::resp::Reply;
use crate::queue::{Handle, Lent, Locked, Queues};
use crate::session::budget;
use crate::session::{OUTPUT_PIECE, Shared, Store};
use std::sync::{PoisonError, RwLockReadGuard};

/// The most words of the requests that run in a row, but for the last one.
const ROW_WORDS: usize = 256;

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
            && self.turn.wait.is_none()
            && !self.turn.budget.is_used_up()
            && self.client.outgoing.is_empty()
    }

    /// Executes or queues the next request of `pipeline`, of which there is one, and those that run
    /// in a row with it; writes one reply to each.
    pub fn handle(&mut self, pipeline: &mut Pipeline<'_>) {
        let Some(args) = pipeline.next() else { return };
        let (shared, table) = (self.shared, self.turn.table);
        let resolved = resolve(shared, table, self.client, args);
        if self.client.transaction.is_none()
            && !self.client.is_under_way()
            && let Store::Queues(queues) = &shared.store
            && let Ok(entry @ Entry { run: Run::Queue(_), .. }) = resolved
        {
            return self.run_row(queues, entry, pipeline);
        }
        let mut call = self.call(args, None);
        let start = call.reply.out.len();
        let outcome = call.begin().and_then(|()| execute(&mut call, resolved));
        if end(&mut call, start, outcome) {
            self.turn.budget.spend(1 + args.len() as u64);
            self.turn.budget.copy(args.request().len());
            self.client.forget_request();
            pipeline.done();
        }
    }

    fn call<'c>(&'c mut self, args: Args<'c>, lent: Option<Lent<'c>>) -> Call<'c> {
        let Dispatcher { shared, client, turn, reply } = self;
        Call { shared, client, turn, args, reply, lent }
    }

    /// Runs the next command, which is one on a single queue, and those behind it on the same
    /// queue.
    fn run_row(&mut self, queues: &Queues, entry: &'static Entry, pipeline: &mut Pipeline<'_>) {
        let waiting = {
            let _gate = enter(self.shared);
            let name = pipeline.next().map(|args| args.get(1)).unwrap_or_default();
            let last = self.client.last_queue.take().filter(|last| last.name() == name);
            let handle = last.or_else(|| queues.handle(name));
            let locked = handle.as_ref().and_then(|handle| handle.lock(queues.clock()));
            let is_of_use = locked.is_some();
            let mut row = Row { handle: handle.as_ref(), locked, count: 0, words: 0 };
            let waiting = row.run(entry, self, pipeline);
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
            note(&mut call, command, &Err(refusal));
            self.client.forget_request();
            pipeline.done();
        }
    }
}

/// Commands on one queue, one after the other.
struct Row<'a> {
    /// `None` if no queue had that name at the first command, which is then the whole row.
    handle: Option<&'a Handle>,
    locked: Option<Locked<'a>>,
    /// Commands that have run.
    count: u64,
    /// Words of their requests.
    words: usize,
}

impl Row<'_> {
    /// Runs the next command and those behind it. Returns a command that waits for its
    /// index, if there is one: it is still to be done.
    fn run(
        &mut self,
        mut entry: &'static Entry,
        dispatcher: &mut Dispatcher<'_>,
        pipeline: &mut Pipeline<'_>,
    ) -> Option<&'static Command> {
        let mut args = pipeline.next()?;
        loop {
            let mut call = dispatcher.call(args, self.locked.as_mut().map(Locked::lend));
            let (start, command) = (call.reply.out.len(), &entry.command);
            let outcome = call.begin().and_then(|()| run(entry, &mut call));
            let wants_index = matches!(&outcome, Err(Refusal { again: Some(Again::Indexed), .. }));
            if !is_to_go_on(&outcome) {
                note(&mut call, command, &outcome);
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
            entry = self.following(dispatcher, args)?;
        }
    }

    /// The command of the next request, if that is on the row's queue and does not take long: what
    /// may gives the queue back before and after it.
    fn following(&self, turn: &mut Dispatcher<'_>, args: Args<'_>) -> Option<&'static Entry> {
        let is_same = |handle: &Handle| handle.name() == args.get(1);
        let is_answered = turn.client.replies == Replies::On;
        if !is_answered || args.is_inline() || !self.handle.is_some_and(is_same) {
            return None;
        }
        let entry = resolve(turn.shared, turn.turn.table, turn.client, args).ok()?;
        (entry.command.has(FAST) && matches!(entry.run, Run::Queue(_))).then_some(entry)
    }
}

/// Writes the error of a refused command. Returns false if the command is not done.
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

fn execute(call: &mut Call<'_>, resolved: Result<&'static Entry, Refusal>) -> Outcome {
    let entry = resolved.map_err(|refusal| reject(call, refusal))?;
    let (shared, command) = (call.shared, &entry.command);
    if call.client.transaction.is_some() && !command.has(IMMEDIATE) {
        let queued = exec::enqueue(call, entry);
        if !is_to_go_on(&queued) && queued.is_err() {
            shared.statistics.redis.reject(command);
        }
        return queued;
    }
    let is_alone = command.has(EXCLUSIVE) || (command.has(ONE_STEP) && call.args.len() > 2);
    let outcome = if is_alone && !call.client.is_under_way() {
        prepare_alone(call, entry).and_then(|()| {
            let _gate = shared.gate.write().unwrap_or_else(PoisonError::into_inner);
            run(entry, call)
        })
    } else {
        let _gate = enter(shared);
        run(entry, call)
    };
    settle(call, command, outcome)
}

/// Prepares, as far as the turn goes, what a command needs that keeps all others out.
fn prepare_alone(call: &mut Call<'_>, entry: &Entry) -> Outcome {
    if entry.command.sets_pairs() && entry.is_of(&call.shared.store) {
        return strings::copy_pairs(call);
    }
    exec::prepare(call)
}

/// Counts a request that is refused before it is called, if it names a command.
fn reject(call: &mut Call<'_>, refusal: Refusal) -> Refusal {
    if let Some(entry) = call.entry() {
        call.shared.statistics.redis.reject(&entry.command);
    }
    exec::refuse(call.client, call.args, refusal)
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
        note(call, command, &outcome);
    }
    outcome
}

fn enter(shared: &Shared) -> RwLockReadGuard<'_, ()> {
    shared.gate.read().unwrap_or_else(PoisonError::into_inner)
}
