//! The session: hands a client's requests on, one after the other.
//!
//! It promises that the replies do not depend on how the input was cut into pieces, and that it
//! stops for its caller to send them once they are `OUTPUT_PIECE` long. It knows no command.

use super::call::{REPLY_LIMIT, Turn, find};
use super::client::Client;
use super::dispatch::Dispatcher;
use super::pipeline::{Pipeline, limits};
use super::request::Args;
use super::table::TABLE;
use crate::protocol::memcached::is_storage;
use crate::protocol::resp::{Arguments, Cause, FramingError, Reply};
use crate::protocol::{Foreign, Parsed};
use crate::queue::Ticket;
use crate::session::budget::{self, Budget};
use crate::session::{Advance, Close, NewClient, OUTPUT_PIECE, Session, Shared};
use std::sync::{Arc, PoisonError};

/// One Redis client's conversation.
pub struct RedisSession {
    shared: Arc<Shared>,
    arguments: Arguments,
    /// The length of the next request, which has been found and is not done.
    parked: Option<usize>,
    /// What the replies wait for that have not left as a whole.
    ticket: Ticket,
    pub(super) client: Client,
    pub(super) reply_limit: usize,
}

impl RedisSession {
    /// A session for a new connection.
    pub fn new(shared: Arc<Shared>, client: NewClient) -> RedisSession {
        let uptime = shared.store.clock().uptime();
        RedisSession {
            client: Client::new(shared.clients.enter(client, 2, uptime)),
            shared,
            arguments: Arguments::default(),
            parked: None,
            ticket: Ticket::default(),
            reply_limit: REPLY_LIMIT,
        }
    }
}

impl Drop for RedisSession {
    fn drop(&mut self) {
        if self.client.blocked.is_some() {
            // What it was handed does not come back between the commands of a transaction.
            let _gate = self.shared.gate.read().unwrap_or_else(PoisonError::into_inner);
            self.client.blocked = None;
        }
    }
}

impl Session for RedisSession {
    fn advance(&mut self, input: &[u8], output: &mut Vec<u8>) -> Advance {
        self.client.tally.begin(self.shared.store.clock().uptime());
        let limits = limits(&self.shared);
        let mut pipeline = Pipeline::new(input, &mut self.arguments, &limits, self.parked);
        let turn = Turn {
            table: TABLE,
            ticket: std::mem::take(&mut self.ticket),
            close: None,
            reply_limit: self.reply_limit,
            reply_end: 0,
            budget: Budget::turn(),
            in_transaction: false,
            again: false,
            wait: None,
        };
        let mut dispatcher = Dispatcher {
            shared: &self.shared,
            reply: Reply::new(std::mem::take(output), self.client.version),
            client: &mut self.client,
            turn,
        };
        execute(&mut dispatcher, &mut pipeline);
        let Dispatcher { turn, mut reply, .. } = dispatcher;
        let mut advance = Advance {
            consumed: pipeline.consumed(),
            ticket: turn.ticket,
            again: turn.wait.is_none() && (turn.again || turn.budget.is_used_up()),
            wait: turn.wait,
            close: turn.close,
            ..Advance::default()
        };
        self.parked = pipeline.parked().filter(|_| advance.close.is_none());
        advance.half_done = self.parked.filter(|_| self.client.is_half_done()).unwrap_or(0);
        if !self.client.outgoing.is_empty() {
            self.ticket = advance.ticket.clone();
        }
        advance.unfinished = self.client.is_unfinished();
        // The turn may have ended in front of another protocol.
        let foreign = pipeline.first_byte().and_then(Foreign::of_first_byte);
        match pipeline.rest() {
            // Whatever was found of a request that does not begin.
            _ if advance.close.is_some() || advance.wait.is_some() => {}
            Some(Ok(Parsed::Partial { need })) => (advance.need, advance.again) = (need, false),
            Some(Err(_)) if foreign.is_some() => advance.close = foreign.map(Close::Foreign),
            Some(Err(error)) => {
                advance.close = Some(refuse(&error, &mut reply));
                self.client.tally.note_error();
            }
            _ => {}
        }
        let uptime = self.shared.store.clock().uptime();
        self.client.tally.flush(&self.shared, uptime);
        self.client.note(uptime);
        *output = reply.out;
        advance
    }

    fn memory(&self) -> usize {
        self.arguments.memory() + self.client.memory()
    }
}

/// Executes requests one after the other until the turn is over, or there is no whole one. Behind
/// one that was unfinished the turn is over: it is finished although the client takes no replies,
/// and the next one does not begin then.
fn execute(dispatcher: &mut Dispatcher<'_>, pipeline: &mut Pipeline<'_>) {
    let was_unfinished = dispatcher.client.is_unfinished();
    dispatcher.client.outgoing.pump(&mut dispatcher.reply.out);
    if !dispatcher.client.give_back(&mut dispatcher.turn.budget) {
        return;
    }
    while dispatcher.reply.out.len() < OUTPUT_PIECE && dispatcher.goes_on() {
        let is_finished = was_unfinished && !dispatcher.client.is_unfinished();
        if is_finished && pipeline.first_byte().is_some() {
            dispatcher.turn.again = true;
            break;
        }
        if let Some(protocol) = pipeline.first_byte().and_then(Foreign::of_first_byte) {
            dispatcher.turn.close = Some(Close::Foreign(protocol));
            break;
        }
        let Some(args) = pipeline.next() else { break };
        if args.is_empty() {
            pipeline.done();
        } else if let Some(protocol) = foreign(args) {
            dispatcher.turn.close = Some(Close::Foreign(protocol));
        } else {
            let (start, consumed) = (dispatcher.reply.out.len(), pipeline.consumed());
            let made = dispatcher.shared.store.queues_made();
            dispatcher.handle(pipeline);
            let made = dispatcher.shared.store.queues_made() - made;
            dispatcher.turn.budget.spend(made.saturating_mul(budget::NEW_QUEUE));
            if pipeline.consumed() > consumed && !dispatcher.client.replies.answers() {
                dispatcher.reply.out.truncate(start);
                dispatcher.client.outgoing = Default::default();
            }
        }
    }
}

/// Answers an error of framing, after which the connection ends.
fn refuse(FramingError { text, cause }: &FramingError, reply: &mut Reply) -> Close {
    let kind = if matches!(cause, Cause::NoMemory(_)) { "OOM" } else { "ERR Protocol error:" };
    reply.error(&format!("{kind} {text}"));
    match *cause {
        Cause::Framing => Close::Framing,
        Cause::TooLarge { limit } => Close::TooLarge { limit },
        Cause::NoMemory(_) => Close::NoMemory,
    }
}

/// The protocol that a line is of, if it is another's.
fn foreign(args: Args<'_>) -> Option<Foreign> {
    if !args.is_inline() {
        return None;
    }
    // GET has one key.
    let is_command =
        || find(TABLE, args.get(0)).is_some() && !(args.is(0, "get") && args.len() > 2);
    Foreign::of_line(args.get(0), args.get(args.len() - 1), is_command)
        .or_else(|| is_storage(args.from(0)).then_some(Foreign::MemcachedText))
}
