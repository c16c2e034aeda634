//! memcached's commands on queues.
//!
//! `set` and `add` push, `get` and `gets` pop, `delete` drops a queue, `flush_all` drops them all;
//! the ancestor's `scard` and `sismember` ask for the length and for membership. The client's flags
//! stay with the message; its number is its cas, counted from 1.

use super::expiry::expires_ms;
use super::line::{ReplyLine, server_error};
use crate::memory::NoMemory;
use crate::protocol::memcached::{Request, Retrieval, StoreMode, TextCommand, reply};
use crate::queue::{Message, NewMessage, Queue, QueueError, Queues, Ticket};
use crate::session::Wait;
use crate::session::budget::Budget;

/// Builds a slice of what a command that has answered [`QueueError::NotIndexed`] needs, while other
/// clients' commands and transactions may run.
pub(super) fn prepare(queues: &Queues, command: &TextCommand<'_>) -> Result<(), QueueError> {
    match command {
        TextCommand::Contains { key } | TextCommand::Store { mode: StoreMode::Add, key, .. } => {
            queues.prepare_membership(key).map(drop)
        }
        _ => Ok(()),
    }
}

/// Executes a command and answers its line.
pub(super) fn execute(
    queues: &Queues,
    request: &Request<'_>,
    turn: (&mut Ticket, &mut Budget),
) -> Result<ReplyLine, QueueError> {
    match request.command {
        TextCommand::Store {
            mode: mode @ (StoreMode::Set | StoreMode::Add),
            key,
            flags,
            exptime,
        } => {
            match expires_ms(exptime, queues.clock().now_ms()) {
                Some(expires_ms) => {
                    let message = NewMessage { body: request.data, flags, expires_ms };
                    push(queues, key, &message, mode == StoreMode::Add, turn)
                }
                None if mode == StoreMode::Add => contains(queues, key, request.data, turn)
                    .map(|found| if found { "NOT_STORED" } else { "STORED" }.into()),
                // As far as the client can tell it was stored and has expired.
                None => Ok("STORED".into()),
            }
        }
        TextCommand::Delete { key } => queues
            .drop_queue(key, turn.0)
            .map(|dropped| if dropped { "DELETED" } else { "NOT_FOUND" }.into()),
        TextCommand::FlushAll { .. } => Ok(needs_kv("flush_all with a delay")),
        TextCommand::Length { key } => queues
            .find(key, turn.0, |queue| Ok(queue.len()))
            .map(|length| length.unwrap_or(0).to_string().into()),
        TextCommand::Contains { key } => contains(queues, key, request.data, turn)
            .map(|found| if found { "1" } else { "0" }.into()),
        _ => Ok(needs_kv(request.command.verb())),
    }
}

fn contains(
    queues: &Queues,
    key: &[u8],
    body: &[u8],
    (ticket, budget): (&mut Ticket, &mut Budget),
) -> Result<bool, QueueError> {
    let found = queues.find(key, ticket, budget.passing(|queue| queue.contains(body)))?;
    Ok(found.unwrap_or(false))
}

fn push(
    queues: &Queues,
    key: &[u8],
    message: &NewMessage<'_>,
    unique: bool,
    (ticket, budget): (&mut Ticket, &mut Budget),
) -> Result<ReplyLine, QueueError> {
    let push = budget.passing(|queue| match unique {
        true => queue.push_unique(message),
        false => queue.push(message).map(|()| true),
    });
    let pushed = queues.create(key, ticket, push);
    match pushed {
        Ok(true) => Ok("STORED".into()),
        Ok(false) | Err(QueueError::QueueFull { .. }) => Ok("NOT_STORED".into()),
        Err(error) => Err(error),
    }
}

/// What a `get` of one queue has come to.
pub(super) enum Fetched {
    /// A message has been written.
    Message,
    /// There is none.
    Nothing,
    /// An item has been closed or given back, and nothing was asked for.
    Settled,
    /// The queue is busy: the same is to be tried again.
    Busy,
    /// The client waits for a message: the same is to be tried again when it is woken.
    Waits(Wait),
}

/// Writes a message.
pub(super) type Write<'a> = dyn FnMut(Message<'_>) -> Result<(), NoMemory> + 'a;

/// Writes the message of queue `key` that `take` has shown. It is written before it is taken, so on
/// an error what was written is taken back.
pub(super) fn write_message(
    queues: &Queues,
    (key, retrieval): (&[u8], Retrieval),
    take: impl FnOnce(&mut Queue, &mut Write<'_>) -> Result<Option<()>, QueueError>,
    output: &mut Vec<u8>,
    (ticket, budget): (&mut Ticket, &mut Budget),
) -> Result<Fetched, ReplyLine> {
    if retrieval.exptime.is_some() {
        return Err(needs_kv(retrieval.verb()));
    }
    let start = output.len();
    let taken = queues.find(key, ticket, |queue| {
        let above = queue.numbers_above();
        let taken = take(queue, &mut |message| {
            let cas = retrieval.with_cas.then_some(message.sequence.saturating_sub(above));
            reply::value(output, key, message.flags, message.body, cas)
        });
        budget.spend(queue.take_passed());
        taken
    });
    match taken {
        Ok(taken) if taken.flatten().is_some() => Ok(Fetched::Message),
        Ok(_) => Ok(Fetched::Nothing),
        Err(QueueError::Busy) => Ok(Fetched::Busy),
        Err(error) => {
            output.truncate(start);
            Err(server_error(error))
        }
    }
}

fn needs_kv(what: &str) -> ReplyLine {
    server_error(format_args!("{what} needs the key/value store (--store kv)"))
}
