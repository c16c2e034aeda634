//! Commands about keys, whatever is behind them: DEL, EXISTS, TYPE, KEYS, SCAN, DBSIZE, FLUSHALL.
//!
//! A key is a queue that has messages (type `set`) or a value (type `string`).

use super::context::Context;
use super::glob::Glob;
use super::progress::Progress;
use super::request::{Args, Outcome, SYNTAX_ERROR};
use super::scan::{self, ScanOptions};
use crate::protocol::resp::Reply;
use crate::queue::Queues;
use crate::session::budget;
use crate::session::{Shared, Store};

/// A queue is gone for others at once, several are in one step; the rest of the work may take
/// several turns. The names of queues are looked up in one turn: a million of them, which is all
/// but names of nothing or the same ones again, keep the others waiting for some 50 ms. Queues that
/// are there cost up to 3 us each: 300,000, which `--max-queues` must allow, took 0.8 s on a busy
/// machine. Values go one by one where there are many.
pub(super) fn del(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let shared = context.shared;
    let removed = match &shared.store {
        Store::Kv(kv) => {
            let mut progress = context.resume();
            let delete = |_: &mut Context<'_>, key: &[u8], progress: &mut Progress| {
                progress.count += u64::from(kv.delete(key));
                Ok(())
            };
            if !context.each_key(args, &mut progress, delete)? {
                return context.pause(progress);
            }
            progress.count
        }
        Store::Queues(queues) if args.len() == 2 => {
            context.budget.spend(budget::DROP);
            u64::from(queues.drop_queue(args.get(1), &mut context.ticket)?)
        }
        Store::Queues(queues) => {
            let mut progress = context.resume();
            if progress.drops.is_none() {
                context.check_steps(budget::DROP * args.len() as u64)?;
                let (count, drops) =
                    queues.doom(args.from(1), &mut context.ticket, &mut context.client.waiting)?;
                (progress.count, progress.drops) = (count, Some(drops));
            }
            let removed = progress.count;
            finish_drops(queues, context, progress)?;
            removed
        }
    };
    reply.integer(i64::try_from(removed).unwrap_or(i64::MAX));
    Ok(())
}

/// Lets go of queues that do not exist for clients any more, as far as the turn goes.
fn finish_drops(queues: &Queues, context: &mut Context<'_>, mut progress: Progress) -> Outcome {
    while let Some(drops) = &mut progress.drops
        && !drops.is_empty()
    {
        if context.budget.is_turn_over() {
            return context.pause(progress);
        }
        queues.finish_drop(drops, &mut context.ticket)?;
        context.budget.spend(budget::DROP);
    }
    Ok(())
}

/// A key that is given twice counts twice, as in Redis.
pub(super) fn exists(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut progress = context.resume();
    let look = |context: &mut Context<'_>, key: &[u8], progress: &mut Progress| {
        progress.count += u64::from(context.exists(key)?);
        Ok(())
    };
    if !context.each_key(args, &mut progress, look)? {
        return context.pause(progress);
    }
    reply.integer(i64::try_from(progress.count).unwrap_or(i64::MAX));
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

/// One more than the number of the newest key.
fn end(shared: &Shared) -> u64 {
    match &shared.store {
        Store::Queues(queues) => queues.end(),
        Store::Kv(kv) => kv.end(),
    }
}

/// Looks at the key with the lowest number from `from` on and copies it into `key`, which becomes
/// `None` if it is gone by now; answers the number to go on with, or `None` at `end`. It is copied
/// because no pattern is matched while others wait for a lock.
fn next_key(shared: &Shared, from: u64, end: u64, key: &mut Option<Vec<u8>>) -> Option<u64> {
    let mut buffer = key.take().unwrap_or_default();
    let show = |name: &[u8]| {
        buffer.clear();
        buffer.extend_from_slice(name);
        *key = Some(buffer);
    };
    match &shared.store {
        Store::Queues(queues) => queues.scan(from, end, show),
        Store::Kv(kv) => kv.scan(from, end, show),
    }
}

/// KEYS pattern: those that were there from the beginning to the end, which may be several turns
/// apart.
pub(super) fn keys(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (pattern, mut progress) = (Glob::new(args.get(1)), context.resume());
    let start = reply.out.len();
    if progress.end == 0 {
        progress.end = end(context.shared);
    }
    let (mut next, mut key) = (Some(progress.next), None);
    while let Some(from) = next {
        if context.budget.is_used_up() {
            progress.next = from;
            progress.keep(reply, start);
            return context.pause(progress);
        }
        next = next_key(context.shared, from, progress.end, &mut key);
        context.budget.look(0);
        if let Some(name) = &key
            && pattern.matches(name, &mut context.budget)?
        {
            context.check_room(reply, (progress.elements.len() + name.len()) as u64, "use SCAN")?;
            reply.bulk(name);
            progress.count += 1;
        }
    }
    let count = usize::try_from(progress.count).unwrap_or(usize::MAX);
    context.end_list(reply, start, progress.elements, |reply| reply.array(count));
    Ok(())
}

pub(super) fn scan(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let cursor = args.cursor(1)?;
    let options = ScanOptions::parse(args, 2, true)?;
    let type_name = type_name(context.shared).as_bytes();
    let is_type = options.kind.is_none_or(|kind| kind.eq_ignore_ascii_case(type_name));
    let (from, end) = scan::place(cursor, end(context.shared));
    let (mut next, mut key, mut seen, mut shown) = (Some(from), None, 0, 0);
    let mut page_budget = scan::page_budget(&context.budget);
    let (start, steps) = (reply.out.len(), page_budget.left());
    while let Some(from) = next
        && seen < options.count
        && (seen == 0 || !page_budget.is_used_up())
    {
        next = next_key(context.shared, from, end, &mut key);
        page_budget.look(0);
        seen += 1;
        if let Some(name) = &key
            && is_type
            && options.matches(name, &mut page_budget)?
        {
            context.check_room(reply, name.len() as u64, "use a smaller COUNT")?;
            reply.bulk(name);
            shown += 1;
        }
    }
    context.budget.spend(steps - page_budget.left());
    let next = next.map_or(0, |next| scan::cursor(next, end));
    scan::put_in_front(reply, start, |reply| {
        reply.array(2);
        reply.bulk(next.to_string().as_bytes());
        reply.array(shown);
    });
    Ok(())
}

pub(super) fn dbsize(context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let count = match &context.shared.store {
        Store::Kv(kv) => kv.len() as u64,
        Store::Queues(queues) => match queues.count_at_once() {
            Some(count) => count as u64,
            None => {
                let mut progress = context.resume();
                if !context.add_up(&mut progress.sums) {
                    return context.pause(progress);
                }
                progress.sums.queues
            }
        },
    };
    reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
    Ok(())
}

/// FLUSHALL and FLUSHDB, which are the same: there is one database.
pub(super) fn flush(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let known = args.is(1, "async") || args.is(1, "sync");
    if args.len() > 2 || (args.len() == 2 && !known) {
        return Err(SYNTAX_ERROR.into());
    }
    match &context.shared.store {
        Store::Queues(queues) => {
            let mut progress = context.resume();
            if progress.drops.is_none() {
                context.check_steps(budget::DROP * queues.len() as u64)?;
                progress.drops =
                    Some(queues.doom_all(&mut context.ticket, &mut context.client.waiting)?.1);
            }
            finish_drops(queues, context, progress)?;
        }
        Store::Kv(kv) => kv.clear(),
    }
    reply.simple("OK");
    Ok(())
}
