//! Commands about keys, whatever is behind them: DEL, EXISTS, TYPE, KEYS, SCAN, DBSIZE, FLUSHALL.
//!
//! A key is a queue that has messages (type `set`) or a value (type `string`).

use super::call::Call;
use super::glob::Glob;
use super::progress::Progress;
use super::request::{Outcome, SYNTAX_ERROR};
use super::scan::{self, ScanOptions};
use crate::queue::Queues;
use crate::session::budget;
use crate::session::{Shared, Store};

/// A queue is gone for others at once, several are in one step; the rest of the work may take
/// several turns. The names of queues are looked up in one turn: a million of them, which is all
/// but names of nothing or the same ones again, keep the others waiting for 12 to 17 ms. Queues
/// that are there cost up to 3 us each: 300,000, which `--max-queues` must allow, took 0.8 s on a
/// busy machine. Values go one by one where there are many.
pub(super) fn del(call: &mut Call<'_>) -> Outcome {
    let (args, shared) = (call.args, call.shared);
    let removed = match &shared.store {
        Store::Kv(kv) => {
            let mut progress = call.resume();
            let delete = |_: &mut Call<'_>, key: &[u8], progress: &mut Progress| {
                progress.count += u64::from(kv.delete(key));
                Ok(())
            };
            if !call.each_key(&mut progress, delete)? {
                return call.pause(progress);
            }
            progress.count
        }
        Store::Queues(queues) if args.len() == 2 => {
            call.turn.budget.spend(budget::DROP);
            u64::from(queues.drop_queue(args.get(1), &mut call.turn.ticket)?)
        }
        Store::Queues(queues) => {
            let mut progress = call.resume();
            if progress.drops.is_none() {
                call.check_steps(budget::DROP * args.len() as u64)?;
                let (count, drops) =
                    queues.doom(args.from(1), &mut call.turn.ticket, &mut call.client.waiting)?;
                (progress.count, progress.drops) = (count, Some(drops));
            }
            let removed = progress.count;
            finish_drops(queues, call, progress)?;
            removed
        }
    };
    call.reply.count(removed);
    Ok(())
}

/// Lets go of queues that do not exist for clients any more, as far as the turn goes.
fn finish_drops(queues: &Queues, call: &mut Call<'_>, mut progress: Progress) -> Outcome {
    while let Some(drops) = &mut progress.drops
        && !drops.is_empty()
    {
        if call.turn.budget.is_turn_over() {
            return call.pause(progress);
        }
        queues.finish_drop(drops, &mut call.turn.ticket)?;
        call.turn.budget.spend(budget::DROP);
    }
    Ok(())
}

/// A key that is given twice counts twice, as in Redis.
pub(super) fn exists(call: &mut Call<'_>) -> Outcome {
    let mut progress = call.resume();
    let look = |call: &mut Call<'_>, key: &[u8], progress: &mut Progress| {
        progress.count += u64::from(call.exists(key)?);
        Ok(())
    };
    if !call.each_key(&mut progress, look)? {
        return call.pause(progress);
    }
    call.reply.count(progress.count);
    Ok(())
}

fn type_name(shared: &Shared) -> &'static str {
    match shared.store {
        Store::Queues(_) => "set",
        Store::Kv(_) => "string",
    }
}

pub(super) fn type_of(call: &mut Call<'_>) -> Outcome {
    let there = call.exists(call.args.get(1))?;
    call.reply.simple(if there { type_name(call.shared) } else { "none" });
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
pub(super) fn next_key(
    shared: &Shared,
    from: u64,
    end: u64,
    key: &mut Option<Vec<u8>>,
) -> Option<u64> {
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
pub(super) fn keys(call: &mut Call<'_>) -> Outcome {
    let (pattern, mut progress) = (Glob::new(call.args.get(1)), call.resume());
    let start = call.reply.out.len();
    if progress.end == 0 {
        progress.end = end(call.shared);
    }
    let (mut next, mut key) = (Some(progress.next), None);
    while let Some(from) = next {
        if call.turn.budget.is_used_up() {
            progress.next = from;
            return call.pause_list(progress, start);
        }
        next = next_key(call.shared, from, progress.end, &mut key);
        call.turn.budget.look(0);
        if let Some(name) = &key
            && pattern.matches(name, &mut call.turn.budget)?
        {
            call.check_room((progress.elements.len() + name.len()) as u64, "use SCAN")?;
            call.reply.bulk(name);
            progress.count += 1;
        }
    }
    let count = usize::try_from(progress.count).unwrap_or(usize::MAX);
    call.end_list(start, progress.elements, |reply| reply.array(count));
    Ok(())
}

pub(super) fn scan(call: &mut Call<'_>) -> Outcome {
    let cursor = call.args.cursor(1)?;
    let options = ScanOptions::parse(call.args, 2, true)?;
    let type_name = type_name(call.shared).as_bytes();
    let is_type = options.kind.is_none_or(|kind| kind.eq_ignore_ascii_case(type_name));
    let (from, end) = scan::place(cursor, end(call.shared));
    let (mut next, mut key, mut seen, mut shown) = (Some(from), None, 0, 0);
    let mut page_budget = scan::page_budget(&call.turn.budget);
    let (start, steps) = (call.reply.out.len(), page_budget.left());
    while let Some(from) = next
        && seen < options.count
        && (seen == 0 || !page_budget.is_used_up())
    {
        next = next_key(call.shared, from, end, &mut key);
        page_budget.look(0);
        seen += 1;
        if let Some(name) = &key
            && is_type
            && options.matches(name, &mut page_budget)?
        {
            call.check_room(name.len() as u64, "use a smaller COUNT")?;
            call.reply.bulk(name);
            shown += 1;
        }
    }
    call.turn.budget.spend(steps - page_budget.left());
    let next = next.map_or(0, |next| scan::cursor(next, end));
    scan::end_page(call.reply, start, next, shown);
    Ok(())
}

pub(super) fn dbsize(call: &mut Call<'_>) -> Outcome {
    let count = match &call.shared.store {
        Store::Kv(kv) => kv.len() as u64,
        Store::Queues(queues) => match queues.count_at_once() {
            Some(count) => count as u64,
            None => {
                let mut progress = call.resume();
                if !call.add_up(&mut progress.sums) {
                    return call.pause(progress);
                }
                progress.sums.queues
            }
        },
    };
    call.reply.count(count);
    Ok(())
}

/// FLUSHALL and FLUSHDB, which are the same: there is one database.
pub(super) fn flush(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    let known = args.is(1, "async") || args.is(1, "sync");
    if args.len() > 2 || (args.len() == 2 && !known) {
        return Err(SYNTAX_ERROR.into());
    }
    match &call.shared.store {
        Store::Queues(queues) => {
            let mut progress = call.resume();
            if progress.drops.is_none() {
                call.check_steps(budget::DROP * queues.len() as u64)?;
                progress.drops =
                    Some(queues.doom_all(&mut call.turn.ticket, &mut call.client.waiting)?.1);
            }
            finish_drops(queues, call, progress)?;
        }
        Store::Kv(kv) => kv.clear(),
    }
    call.reply.simple("OK");
    Ok(())
}
