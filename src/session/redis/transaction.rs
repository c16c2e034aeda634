//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! A queued request is kept as the bytes it came in and parsed again by EXEC, which runs while
//! the dispatcher holds the gate for writing: no other client's command runs in between. What is
//! queued and what is watched is bounded in bytes.

use super::client::Client;
use super::dispatch::{self, Context};
use super::request::{Args, Outcome};
use super::session::{limits, request_limit};
use super::table;
use crate::protocol::Parsed;
use crate::protocol::resp::{Arguments, Limits, Reply, parse};
use crate::session::{Shared, Store};
use std::collections::HashMap;

/// Bytes that the names of watched keys may take, and what each is charged beside its name.
const WATCHED_BYTES: usize = 16 << 20;
const WATCHED_OVERHEAD: usize = 64;

/// The requests queued since MULTI.
#[derive(Default)]
pub(super) struct Transaction {
    requests: Vec<u8>,
    len: usize,
    /// A request could not be queued: EXEC will execute none.
    failed: bool,
}

impl Transaction {
    /// Requests in the queue.
    pub fn len(&self) -> usize {
        self.len
    }

    fn fail(&mut self) {
        *self = Transaction { failed: true, ..Transaction::default() };
    }

    fn each(&self, shared: &Shared, mut visit: impl FnMut(Args<'_>)) {
        let mut arguments = Arguments::default();
        // They were within the limits when they were queued; these may be lower by now.
        let limits = Limits { max_bulk: usize::MAX, max_request: usize::MAX, ..limits(shared) };
        let mut rest = self.requests.as_slice();
        // They were whole requests when they were queued, so the loop ends with the last of them.
        while let Ok(Parsed::Complete { consumed }) = parse(rest, &mut arguments, &limits) {
            let (request, others) = rest.split_at(consumed);
            visit(Args::new(request, &arguments));
            rest = others;
        }
    }
}

/// The keys of WATCH, with their stamps when it was sent.
#[derive(Default)]
pub(super) struct Watched {
    stamps: HashMap<Box<[u8]>, u64>,
    bytes: usize,
}

/// A request in a transaction was refused before it was queued.
pub(super) fn fail(client: &mut Client) {
    if let Some(transaction) = &mut client.transaction {
        transaction.fail();
    }
}

/// Keeps a request for EXEC.
pub(super) fn enqueue(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let limit = request_limit(context.shared);
    if let Some(transaction) = &mut context.client.transaction
        && !transaction.failed
    {
        if transaction.requests.len().saturating_add(args.request().len()) > limit {
            transaction.fail();
            return Err(format!("ERR the transaction would be larger than {limit} bytes").into());
        }
        transaction.requests.extend_from_slice(args.request());
        transaction.len += 1;
    }
    reply.simple("QUEUED");
    Ok(())
}

/// Prepares what the queued commands need, before the gate is taken for all of them.
pub(super) fn prepare(context: &Context<'_>) {
    let Some(transaction) = &context.client.transaction else {
        return;
    };
    transaction.each(context.shared, |args| {
        if let Some(command) = table::find(args.get(0)) {
            // What fails here fails again in the command, which has a reply to say so.
            drop(dispatch::prepare(context.shared, command, args));
        }
    });
}

pub(super) fn multi(context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if context.client.transaction.is_some() {
        return Err("ERR MULTI calls can not be nested".into());
    }
    context.client.transaction = Some(Transaction::default());
    reply.simple("OK");
    Ok(())
}

pub(super) fn exec(context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let transaction = context.client.transaction.take().ok_or("ERR EXEC without MULTI")?;
    let watched = std::mem::take(&mut context.client.watched);
    if transaction.failed {
        return Err("EXECABORT Transaction discarded because of previous errors.".into());
    }
    if watched.stamps.iter().any(|(key, then)| stamp(context.shared, key) != *then) {
        reply.null_array();
        return Ok(());
    }
    reply.array(transaction.len);
    transaction.each(context.shared, |args| dispatch::handle_queued(context, args, reply));
    Ok(())
}

pub(super) fn discard(
    context: &mut Context<'_>,
    _args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    context.client.transaction.take().ok_or("ERR DISCARD without MULTI")?;
    context.client.watched = Watched::default();
    reply.simple("OK");
    Ok(())
}

pub(super) fn watch(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if context.client.transaction.is_some() {
        return Err("ERR WATCH inside MULTI is not allowed".into());
    }
    let watched = &mut context.client.watched;
    for key in args.from(1) {
        if watched.stamps.contains_key(key) {
            continue;
        }
        if watched.bytes + key.len() + WATCHED_OVERHEAD > WATCHED_BYTES {
            return Err("ERR too many watched keys".into());
        }
        watched.bytes += key.len() + WATCHED_OVERHEAD;
        watched.stamps.insert(key.into(), stamp(context.shared, key));
    }
    reply.simple("OK");
    Ok(())
}

pub(super) fn unwatch(
    context: &mut Context<'_>,
    _args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    context.client.watched = Watched::default();
    reply.simple("OK");
    Ok(())
}

fn stamp(shared: &Shared, key: &[u8]) -> u64 {
    match &shared.store {
        Store::Queues(queues) => queues.stamp(key),
        Store::Kv(kv) => kv.stamp(key),
    }
}
