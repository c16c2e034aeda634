//! Commands about keys, whatever is behind them: DEL, EXISTS, TYPE, KEYS, SCAN, DBSIZE, FLUSHALL.
//!
//! A key is a queue that has messages (type `set`) or a value (type `string`).

use super::dispatch::Context;
use super::glob::Glob;
use super::request::{Args, Outcome, SYNTAX_ERROR};
use super::scan::{ScanOptions, with_head};
use crate::protocol::resp::Reply;
use crate::session::{Shared, Store};

/// Keys that are copied at once, whatever COUNT asks for.
const MAX_PAGE: usize = 10_000;

pub(super) fn del(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut removed = 0;
    for key in args.from(1) {
        removed += i64::from(match &context.shared.store {
            Store::Queues(queues) => queues.drop_queue(key, &mut context.ticket)?,
            Store::Kv(kv) => kv.delete(key),
        });
    }
    reply.integer(removed);
    Ok(())
}

/// A key that is given twice counts twice, as in Redis.
pub(super) fn exists(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut found = 0;
    for key in args.from(1) {
        found += i64::from(context.exists(key)?);
    }
    reply.integer(found);
    Ok(())
}

fn type_name(shared: &Shared) -> &'static str {
    match shared.store {
        Store::Queues(_) => "set",
        Store::Kv(_) => "string",
    }
}

pub(super) fn type_of(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let there = context.exists(args.get(1))?;
    reply.simple(if there { type_name(context.shared) } else { "none" });
    Ok(())
}

fn page(shared: &Shared, cursor: u64, count: usize) -> (u64, Vec<Box<[u8]>>) {
    match &shared.store {
        Store::Queues(queues) => queues.scan(cursor, count),
        Store::Kv(kv) => kv.scan(cursor, count),
    }
}

pub(super) fn keys(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut pattern = Glob::new(args.get(1));
    let fill = |reply: &mut Reply<'_>| {
        let (mut count, mut cursor) = (0, 0);
        loop {
            let (next, names) = page(context.shared, cursor, MAX_PAGE);
            for name in names {
                if pattern.matches(&name)? {
                    context.check_room(reply, name.len() as u64, "use SCAN")?;
                    reply.bulk(&name);
                    count += 1;
                }
            }
            if next == 0 {
                return Ok(count);
            }
            cursor = next;
        }
    };
    with_head(reply, fill, Reply::array)
}

pub(super) fn scan(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let cursor = args.cursor(1)?;
    let mut options = ScanOptions::parse(args, 2, true)?;
    let count = usize::try_from(options.count).unwrap_or(MAX_PAGE).min(MAX_PAGE);
    let (next, mut names) = page(context.shared, cursor, count);
    if options
        .kind
        .is_some_and(|kind| !kind.eq_ignore_ascii_case(type_name(context.shared).as_bytes()))
    {
        names.clear();
    }
    reply.array(2);
    reply.bulk(next.to_string().as_bytes());
    let fill = |reply: &mut Reply<'_>| {
        let mut count = 0;
        for name in names {
            if options.matches(&name)? {
                context.check_room(reply, name.len() as u64, "use a smaller COUNT")?;
                reply.bulk(&name);
                count += 1;
            }
        }
        Ok(count)
    };
    with_head(reply, fill, Reply::array)
}

pub(super) fn dbsize(context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(i64::try_from(size(context.shared)).unwrap_or(i64::MAX));
    Ok(())
}

/// Keys in the store.
pub(super) fn size(shared: &Shared) -> usize {
    match &shared.store {
        Store::Queues(queues) => queues.len(),
        Store::Kv(kv) => kv.len(),
    }
}

/// FLUSHALL and FLUSHDB, which are the same: there is one database.
pub(super) fn flush(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let known = args.is(1, "async") || args.is(1, "sync");
    if args.len() > 2 || (args.len() == 2 && !known) {
        return Err(SYNTAX_ERROR.into());
    }
    match &context.shared.store {
        Store::Queues(queues) => queues.clear(&mut context.ticket)?,
        Store::Kv(kv) => kv.clear(),
    }
    reply.simple("OK");
    Ok(())
}
