//! Pops that wait for a message.

use super::blocking::seconds;
use super::call::{Call, Turn};
use super::request::{Args, Outcome, Refusal, SYNTAX_ERROR};
use crate::protocol::number::parse_u64;
use crate::protocol::resp::Reply;
use crate::queue::{Handed, Queue, QueueError};
use crate::session::OUTPUT_PIECE;
use crate::session::blocked::Timeout;
use crate::session::budget::{Budget, LOOK};

/// The options of BSPOP.
#[derive(Clone, Copy)]
struct Options {
    /// The word behind the last queue.
    end: usize,
    timeout: Timeout,
    /// COUNT. Without it the reply has one message, and no array of messages.
    count: Option<u64>,
}

impl Options {
    fn parse(args: Args<'_>) -> Result<Options, Refusal> {
        let (mut behind, mut count) = (args.len(), None);
        if behind > 4 && args.is(behind - 2, "count") {
            count = parse_u64(args.get(behind - 1)).filter(|count| *count > 0);
            if count.is_none() {
                return Err("ERR count should be greater than 0".into());
            }
            behind -= 2;
        }
        let end = behind - 1;
        if end < 2 {
            return Err(SYNTAX_ERROR.into());
        }
        Ok(Options { end, timeout: seconds(args, end)?, count })
    }
}

/// The most messages that a BSPOP of these words pops.
pub(super) fn popped(args: Args<'_>) -> u64 {
    Options::parse(args).map_or(0, |options| options.count.unwrap_or(1))
}

/// BSPOP q [q ...] timeout [COUNT n]: pops the oldest message of the first queue that has one, and
/// waits where none has. Replies with the queue's name and the message, or with COUNT with an array
/// of at most `n` messages of one queue: fewer if the reply would take more than a piece of output,
/// or the turn is over.
pub(super) fn bspop(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    let options = Options::parse(args)?;
    let names = (1..options.end).map(move |word| args.get(word));
    if !call.is_waiting() {
        for name in names.clone() {
            if pop_ready(call, name, options)? {
                return Ok(());
            }
        }
    }
    while let Some(handed) = call.wait_for(names.clone(), options.timeout)? {
        if pop_handed(call, &handed, options)? {
            return Ok(());
        }
    }
    call.reply.null_array();
    Ok(())
}

/// Pops ready messages. Returns false if there are none.
fn pop_ready(call: &mut Call<'_>, name: &[u8], options: Options) -> Result<bool, Refusal> {
    let (queues, start) = (call.queues()?, call.reply.out.len());
    let (Turn { ticket, budget, .. }, reply) = (&mut *call.turn, &mut *call.reply);
    let popped = queues.find(name, ticket, |queue| {
        let mut most = bounded(options, queue, budget);
        if most > 1 {
            most = queue.begin_popping(most)?;
        }
        let popped = pop(queue, most, reply, budget);
        queue.end_step()?;
        popped
    })?;
    match popped {
        None | Some(0) => Ok(false),
        Some(popped) => Ok(write_head(call, start, name, options, popped)),
    }
}

/// Pops what the client has been handed, and with COUNT what is there behind it. Returns false if
/// the handed message has gone.
fn pop_handed(call: &mut Call<'_>, handed: &Handed, options: Options) -> Result<bool, Refusal> {
    let (start, mut popped, number) = (call.reply.out.len(), 0, handed.delivery.number);
    let mut budget = Budget::at_once(call.turn.budget.left());
    let is_taken = call.take_handed(
        handed,
        |reply, message| reply.try_bulk(message.body),
        |queue, reply| {
            let most = queue.begin_popping_handed(bounded(options, queue, &budget))? - 1;
            let first = queue.acknowledge(number);
            if first == Ok(true) {
                // What has been popped must reach the client.
                popped = 1 + pop(queue, most, reply, &mut budget).unwrap_or(0);
            }
            queue.end_step()?;
            first
        },
    )?;
    let name = call.args.get(1 + handed.index);
    Ok(is_taken && write_head(call, start, name, options, popped))
}

/// How many messages to pop: what is asked for, limited by the queue's length and by the turn.
fn bounded(options: Options, queue: &Queue, budget: &Budget) -> u64 {
    let most = options.count.unwrap_or(1).min(queue.held());
    most.min(budget.left() / LOOK).max(1)
}

/// Pops up to `most` messages, and returns how many.
fn pop(
    queue: &mut Queue,
    most: u64,
    reply: &mut Reply,
    budget: &mut Budget,
) -> Result<u64, QueueError> {
    let (start, mut popped) = (reply.out.len(), 0);
    while popped < most && reply.out.len() - start < OUTPUT_PIECE {
        let begin = reply.out.len();
        match queue.try_pop(|message| reply.try_bulk(message.body)) {
            Ok(Some(())) => popped += 1,
            Ok(None) => break,
            Err(error) => {
                reply.take_back(begin);
                return if popped > 0 { Ok(popped) } else { Err(error) };
            }
        }
        budget.look(reply.out.len() - begin);
    }
    budget.spend(queue.take_passed());
    Ok(popped)
}

/// Writes in front of the messages what the reply begins with.
fn write_head(
    call: &mut Call<'_>,
    start: usize,
    name: &[u8],
    options: Options,
    popped: u64,
) -> bool {
    call.end_list(start, Vec::new(), |reply| {
        reply.array(2);
        reply.bulk(name);
        if options.count.is_some() {
            reply.array(usize::try_from(popped).unwrap_or(usize::MAX));
        }
    });
    true
}
