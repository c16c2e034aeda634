//! From a request to its reply: look the command up, check it once, queue it or run it.
//!
//! 1. A command runs while it holds the gate for reading; EXEC, and what else must not be seen half
//!    done, holds it for writing. So between the commands of a transaction no other client's runs.
//! 2. What a membership command needs is built while no gate is held, in slices, so that others run
//!    in between; then the command is tried again. For a transaction that is done before the gate
//!    is taken; only damage that one of its commands meets makes it wait there.
//! 3. A refused request leaves nothing of its reply but the error.
//! 4. Commands of one pipeline on one queue that follow each other, and whose time does not grow
//!    with the data, run in a row: gate and queue are taken once for all of them, and given back
//!    after at most `ROW_WORDS` words. They run at one time: the clock is read when the queue is
//!    had.
//!
//! The gate is entered although a panic has poisoned it: it guards no data, only order.

use super::client::{Client, Replies};
use super::pipeline::Pipeline;
use super::request::{Args, Outcome, Refusal};
use super::session::REPLY_LIMIT;
use super::table::{self, Command, EXCLUSIVE, FAST, IMMEDIATE, MEMBERSHIP, Run, TYPED};
use super::transaction;
use crate::protocol::resp::Reply;
use crate::queue::{BodyHash, Handle, Locked, Queues, Target, Ticket};
use crate::session::{Close, OUTPUT_PIECE, Shared, Store};
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLockReadGuard};

pub(super) const WRONG_TYPE: &str =
    "WRONGTYPE Operation against a key holding the wrong kind of value";

/// The most words of the requests that run in a row, but for the last one.
const ROW_WORDS: usize = 256;

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
}

impl Context<'_> {
    /// Another request begins.
    fn begin(&mut self, reply: &Reply<'_>) {
        self.reply_end = reply.out.len().saturating_add(self.reply_limit);
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

/// Executes or queues the next request of `pipeline`, of which there is one, and those that run in
/// a row with it; writes one reply to each.
pub(super) fn handle(
    context: &mut Context<'_>,
    pipeline: &mut Pipeline<'_>,
    reply: &mut Reply<'_>,
) {
    let Some(args) = pipeline.next() else { return };
    if context.client.transaction.is_none()
        && let Store::Queues(queues) = &context.shared.store
        && let Ok(command @ Command { run: Run::Queue(_), .. }) = resolve(context.client, args)
    {
        return run_row(queues, command, context, pipeline, reply);
    }
    context.begin(reply);
    answer(reply, |reply| execute(context, args, reply));
    pipeline.done();
}

fn execute(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let command =
        resolve(context.client, args).inspect_err(|_| transaction::fail(context.client))?;
    if context.client.transaction.is_some() && !command.has(IMMEDIATE) {
        return transaction::enqueue(context, args, reply);
    }
    let shared = context.shared;
    if command.has(EXCLUSIVE) {
        transaction::prepare(context);
        let enter = || shared.gate.write().unwrap_or_else(PoisonError::into_inner);
        return run_indexed(command, context, args, reply, enter);
    }
    run_indexed(command, context, args, reply, || enter(shared))
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
        waiting
    };
    if let Some(command) = waiting
        && let Some(args) = pipeline.next()
        && let Err(refusal) = prepare(context.shared, command, args)
    {
        reply.error_bytes(&refusal.text);
        count(context.shared, 1);
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
        let (mut command, mut hash_behind) = (first, None);
        while let Run::Queue(run) = command.run {
            let hash = hash_behind.take();
            if command.has(MEMBERSHIP) {
                hash_behind = self.expect_behind(command, pipeline, locked.as_deref_mut());
            }
            let args = pipeline.next()?;
            let start = reply.out.len();
            context.begin(reply);
            let (queues, name) = (self.queues, args.get(1));
            let mut target = Target { queues, name, locked: locked.as_deref_mut(), hash };
            let outcome = run(&mut target, context, args, reply);
            if matches!(&outcome, Err(Refusal { wants_index: true, .. })) {
                reply.out.truncate(start);
                return Some(command);
            }
            context.client.tally.note(command, outcome.is_err(), &context.shared.statistics.redis);
            if let Err(refusal) = outcome {
                reply.out.truncate(start);
                reply.error_bytes(&refusal.text);
            }
            self.count += 1;
            self.words += if command.has(FAST) { args.len() } else { ROW_WORDS };
            pipeline.done();
            if self.words >= ROW_WORDS || reply.out.len() >= OUTPUT_PIECE {
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

    /// Lets the queue get ready for the request behind `command`'s, where it is of the row and asks
    /// for a message as that does: what the index has of it is on the way meanwhile. Answers the
    /// message's hash; None: it is not known.
    fn expect_behind(
        &self,
        command: &Command,
        pipeline: &mut Pipeline<'_>,
        locked: Option<&mut Locked<'_>>,
    ) -> Option<BodyHash> {
        let behind = pipeline.behind().filter(|behind| self.is_on_queue(*behind))?;
        locked.filter(|_| behind.is(0, command.name))?.expect(behind.get(2))
    }
}

/// Executes one queued request of a transaction, whose caller holds the gate.
pub(super) fn handle_queued(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    answer(reply, |reply| {
        let command = resolve(context.client, args)?;
        run_indexed(command, context, args, reply, || ())
    });
}

/// Runs a command with what `enter` gives in hand; if it wants an index, builds that without it and
/// runs the command again.
fn run_indexed<G>(
    command: &'static Command,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
    enter: impl Fn() -> G,
) -> Outcome {
    count(context.shared, 1);
    let start = reply.out.len();
    loop {
        let outcome = {
            let _gate = enter();
            run(command, context, args, reply)
        };
        if !matches!(&outcome, Err(Refusal { wants_index: true, .. })) {
            context.client.tally.note(command, outcome.is_err(), &context.shared.statistics.redis);
            return outcome;
        }
        reply.out.truncate(start);
        prepare(context.shared, command, args)?;
    }
}

/// Builds what the membership commands among `command` need; called without the gate.
pub(super) fn prepare(shared: &Shared, command: &Command, args: Args<'_>) -> Outcome {
    if let Store::Queues(queues) = &shared.store
        && command.has(MEMBERSHIP)
    {
        for key in command.keys(args) {
            queues.prepare_membership(key)?;
        }
    }
    Ok(())
}

fn answer(reply: &mut Reply<'_>, work: impl FnOnce(&mut Reply<'_>) -> Outcome) {
    let start = reply.out.len();
    if let Err(refusal) = work(reply) {
        reply.out.truncate(start);
        reply.error_bytes(&refusal.text);
    }
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
    Ok(command)
}

fn run(
    command: &Command,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    context.check_room(reply, 0, "use a smaller transaction")?;
    match (&command.run, &context.shared.store) {
        (Run::Any(run), _) => run(context, args, reply),
        (Run::Queue(run), Store::Queues(queues)) => {
            let mut target = Target { queues, name: args.get(1), locked: None, hash: None };
            run(&mut target, context, args, reply)
        }
        (Run::Queues(run), Store::Queues(queues)) => run(queues, context, args, reply),
        (Run::Kv(run), Store::Kv(kv)) => run(kv, context, args, reply),
        _ => Err(other_store(context, command, args)),
    }
}

/// The refusal of a command of the store that this daemon does not have.
fn other_store(context: &mut Context<'_>, command: &Command, args: Args<'_>) -> Refusal {
    let is_typed = command.has(TYPED) || matches!(command.run, Run::Queue(_) | Run::Queues(_));
    let first_key = command.keys(args).next().unwrap_or_default();
    if is_typed && matches!(context.exists(first_key), Ok(true)) {
        return WRONG_TYPE.into();
    }
    let needs = match command.run {
        Run::Kv(_) => "the key/value store (--store kv)",
        _ => "a queue store (--store disk or memory)",
    };
    format!("ERR {} needs {needs}", command.name.to_ascii_uppercase()).into()
}
