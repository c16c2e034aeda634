//! One memcached client: its place in the input, and what it is answered.

use super::line::{ReplyLine, server_error};
use super::open_items::OpenItems;
use super::queue_store::Fetched;
use super::statistics::MEMCACHED_VERSION;
use super::{kv_store, queue_store, statistics};
use crate::protocol::memcached::{
    BadRequest, Fatal, Found, Keys, Progress, Request, Retrieval, TextCommand, parse, reply,
    set_key,
};
use crate::queue::{Cause, Drops, QueueError, Queues, Sums, Ticket, Waiting};
use crate::session::budget::{self, Budget};
use crate::session::{
    Activity, Advance, Close, Membership, NewClient, OUTPUT_PIECE, Session, Shared, Store,
};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// A memcached client's session.
pub struct MemcachedSession {
    shared: Arc<Shared>,
    entry: Membership,
    progress: Progress,
    /// The last command.
    last_verb: &'static str,
    /// The command at the start of the input has begun, and been counted.
    is_counted: bool,
    /// A `get` whose reply grew over a piece: the input starts with the rest of its keys. So a
    /// reply takes a piece and one value of memory, however many keys there are.
    unfinished: Option<Retrieval>,
    /// Messages that the client has leased.
    open: OpenItems,
    /// The client or the daemon ends in good order: what is open counts as no failure.
    is_in_order: bool,
    /// The queues of a `flush_all` that is not done, and what its reply waits for.
    flush: Option<(Drops, Ticket)>,
    /// What a `flush_all` waits for before it begins.
    waiting: Waiting,
    /// What the queues come to that have been added up for `stats`.
    sums: Sums,
    /// What is left of the turn.
    budget: Budget,
}

impl MemcachedSession {
    /// A session for a new connection.
    pub fn new(shared: Arc<Shared>, client: NewClient) -> MemcachedSession {
        let entry = shared.clients.enter(client, 0, shared.store.clock().uptime());
        let progress = Progress::default();
        MemcachedSession {
            shared,
            entry,
            progress,
            last_verb: "NULL",
            is_counted: false,
            unfinished: None,
            open: OpenItems::default(),
            is_in_order: false,
            waiting: Waiting::default(),
            flush: None,
            sums: Sums::default(),
            budget: Budget::turn(),
        }
    }
}

impl Session for MemcachedSession {
    fn advance(&mut self, input: &[u8], output: &mut Vec<u8>) -> Advance {
        let mut advance = Advance::default();
        self.budget = Budget::turn();
        while advance.need == 0
            && advance.close.is_none()
            && output.len() < OUTPUT_PIECE
            && !advance.again
            && advance.wait.is_none()
        {
            let made = self.shared.store.queues_made();
            self.step(input.get(advance.consumed..).unwrap_or_default(), output, &mut advance);
            let made = self.shared.store.queues_made() - made;
            self.budget.spend(budget::LOOK + made.saturating_mul(budget::NEW_QUEUE));
            let goes_on = advance.need == 0 && advance.wait.is_none();
            advance.again |= goes_on && self.budget.is_used_up();
        }
        advance.midway = self.progress.is_skipping();
        advance.unfinished = self.flush.is_some() || self.waiting.is_waiting();
        let (at, command) = (self.shared.store.clock().uptime(), self.last_verb);
        self.entry.note(Activity { at, command, queued: None, version: 0 });
        advance
    }

    fn stop(&mut self) {
        self.is_in_order = true;
    }

    fn memory(&self) -> usize {
        self.open.memory()
    }

    fn is_at_work(&self) -> bool {
        !self.open.is_empty()
    }
}

impl Drop for MemcachedSession {
    fn drop(&mut self) {
        if let Store::Queues(queues) = &self.shared.store
            && self.open.memory() > 0
        {
            // Nothing changes between the commands of another client's transaction.
            let _gate = enter(&self.shared.gate);
            let cause = if self.is_in_order { None } else { Some(Cause::Nack) };
            self.open.give_back(queues, cause);
        }
    }
}

impl MemcachedSession {
    /// Does one thing with what is at the start of `input`, and notes in `advance` what it was.
    fn step(&mut self, input: &[u8], output: &mut Vec<u8>, advance: &mut Advance) {
        if let Some(retrieval) = self.unfinished.take() {
            return self.retrieve(Keys::resume(input), retrieval, output, advance);
        }
        let max_data = self.shared.limits.max_message();
        match parse(input, &mut self.progress, max_data) {
            Ok(Found::Partial { need }) => advance.need = need,
            Ok(Found::Skipped { consumed }) => advance.consumed += consumed,
            Ok(Found::Refused { refusal, noreply, consumed }) => {
                self.count();
                advance.consumed += consumed;
                if refusal == BadRequest::TooLarge {
                    self.forget(set_key(&input[..consumed]));
                }
                if !noreply {
                    reply::line(output, refusal.text());
                }
            }
            Ok(Found::Complete { request, consumed }) => {
                if !std::mem::take(&mut self.is_counted) {
                    self.count();
                }
                advance.consumed += consumed;
                self.execute(&request, output, advance);
                if advance.again && self.unfinished.is_none() {
                    // It is still to be done.
                    advance.consumed -= consumed;
                    self.is_counted = true;
                }
            }
            Err(Fatal::LineTooLong) => {
                reply::line(output, "CLIENT_ERROR line too long");
                advance.close = Some(Close::Framing);
            }
            Err(Fatal::Unmeasured { refusal, noreply }) => {
                self.count();
                if !noreply {
                    reply::line(output, refusal.text());
                }
                advance.close = Some(Close::Framing);
            }
            Err(Fatal::Foreign(protocol)) => advance.close = Some(Close::Foreign(protocol)),
        }
    }

    /// Removes the old value of a `set` whose new one is too large, as memcached does: a reader
    /// would take the one for the other.
    fn forget(&self, key: Option<&[u8]>) {
        if let (Store::Kv(kv), Some(key)) = (&self.shared.store, key) {
            let _gate = enter(&self.shared.gate);
            kv.delete(key);
        }
    }

    fn count(&self) {
        self.shared.statistics.commands.fetch_add(1, Ordering::Relaxed);
    }

    fn execute(&mut self, request: &Request<'_>, output: &mut Vec<u8>, advance: &mut Advance) {
        self.last_verb = request.command.verb();
        let reply = match &request.command {
            TextCommand::Get { keys, retrieval } => {
                advance.consumed -= keys.unread();
                return self.retrieve(*keys, *retrieval, output, advance);
            }
            TextCommand::Quit => {
                self.is_in_order = true;
                advance.close = Some(Close::Quit);
                return;
            }
            TextCommand::Version => format!("VERSION {MEMCACHED_VERSION}").into(),
            TextCommand::Verbosity => "OK".into(),
            TextCommand::Stats { group, words } => {
                let store = &self.shared.store;
                if statistics::needs_sums(group) && !store.add_up(&mut self.sums, &mut self.budget)
                {
                    advance.again = true;
                    return;
                }
                let sums = std::mem::take(&mut self.sums);
                statistics::write(&self.shared, &sums, group, *words, output).into()
            }
            _ => match self.ask_store(request, advance) {
                Err(QueueError::Busy | QueueError::NotIndexed) => {
                    advance.again = true;
                    return;
                }
                done => {
                    let line = done.unwrap_or_else(server_error);
                    self.shared.statistics.memcached.note(&request.command, &line);
                    line
                }
            },
        };
        if !request.noreply {
            reply::line(output, &reply);
        }
    }

    /// Busy or not indexed: it is to be asked again when others have had their turn.
    fn ask_store(
        &mut self,
        request: &Request<'_>,
        advance: &mut Advance,
    ) -> Result<ReplyLine, QueueError> {
        let shared = Arc::clone(&self.shared);
        match &shared.store {
            Store::Queues(queues)
                if matches!(request.command, TextCommand::FlushAll { delay: ..=0 }) =>
            {
                self.flush(queues, &mut advance.ticket)
            }
            Store::Queues(queues) => {
                let done = {
                    let _gate = enter(&shared.gate);
                    let turn = (&mut advance.ticket, &mut self.budget);
                    queue_store::execute(queues, request, turn)
                };
                if done == Err(QueueError::NotIndexed) {
                    queue_store::prepare(queues, &request.command)?;
                }
                self.budget.look(request.data.len());
                done
            }
            Store::Kv(kv) => {
                let _gate = enter(&shared.gate);
                let max_value = shared.limits.max_message();
                Ok(kv_store::execute(kv, request, max_value, &mut self.budget))
            }
        }
    }

    /// Drops every queue: for others in one step, on the disk as far as the turn goes.
    fn flush(&mut self, queues: &Queues, ticket: &mut Ticket) -> Result<ReplyLine, QueueError> {
        let (mut drops, waits) = match self.flush.take() {
            Some(flush) => flush,
            None => {
                let _gate = self.shared.gate.write().unwrap_or_else(PoisonError::into_inner);
                (queues.doom_all(ticket, &mut self.waiting)?.1, Ticket::default())
            }
        };
        ticket.merge(waits);
        while !drops.is_empty() {
            if self.budget.is_turn_over() {
                self.flush = Some((drops, ticket.clone()));
                return Err(QueueError::Busy);
            }
            queues.finish_drop(&mut drops, ticket)?;
            self.budget.spend(budget::DROP);
        }
        Ok("OK".into())
    }

    /// Answers the values of `keys`, which stand at the first byte not consumed, up to a piece of
    /// output; what is left of them waits for the next call.
    fn retrieve(
        &mut self,
        mut keys: Keys<'_>,
        retrieval: Retrieval,
        output: &mut Vec<u8>,
        advance: &mut Advance,
    ) {
        let line_end = advance.consumed + keys.unread();
        let _gate = enter(&self.shared.gate);
        let (mut hits, mut misses) = (0, 0);
        let shared = Arc::clone(&self.shared);
        let counts = &shared.statistics.memcached;
        let note = |hits, misses| counts.note_get(hits, misses, retrieval.exptime.is_some());
        loop {
            let left = keys;
            let Some(key) = keys.next() else { break };
            let start = output.len();
            let written = match &self.shared.store {
                Store::Queues(queues) => {
                    let turn = (&self.entry, &mut advance.ticket, &mut self.budget);
                    let how = (retrieval, shared.limits.lease());
                    self.open.fetch(queues, key, how, output, turn)
                }
                Store::Kv(kv) => kv_store::write_value(kv, key, retrieval, output).map(|()| {
                    if output.len() > start { Fetched::Message } else { Fetched::Nothing }
                }),
            };
            match written {
                Ok(Fetched::Message) => hits += 1,
                Ok(Fetched::Nothing) => misses += 1,
                Ok(Fetched::Settled) => {}
                Ok(waits @ (Fetched::Busy | Fetched::Waits(_))) => {
                    note(hits, misses);
                    self.unfinished = Some(retrieval);
                    advance.consumed = line_end - left.unread();
                    match waits {
                        Fetched::Waits(wait) => advance.wait = Some(wait),
                        _ => advance.again = true,
                    }
                    return;
                }
                Err(error) => {
                    note(hits, misses + 1);
                    reply::line(output, &error);
                    advance.consumed = line_end;
                    return;
                }
            }
            self.budget.look(output.len() - start);
            if output.len() >= OUTPUT_PIECE || self.budget.is_used_up() {
                note(hits, misses);
                self.unfinished = Some(retrieval);
                advance.consumed = line_end - keys.unread();
                return;
            }
        }
        note(hits, misses);
        reply::line(output, "END");
        advance.consumed = line_end;
    }
}

/// A panic in one client's command must not stop the others: a poisoned gate is entered all the
/// same, since it guards no data of its own.
fn enter(gate: &RwLock<()>) -> RwLockReadGuard<'_, ()> {
    gate.read().unwrap_or_else(PoisonError::into_inner)
}
