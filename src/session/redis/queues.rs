//! Queues under the names of Redis's set commands: SADD pushes, SPOP pops the oldest.
//!
//! Where a set has no order a queue is first-in first-out, so what Redis answers at random comes
//! oldest first here. Bodies are encoded straight from the store, under the queue's lock; a reply
//! of many messages is measured before anything is removed.

use super::context::{Context, too_large};
use super::progress::{Progress, each_word, is_busy, measure_removals};
use super::request::{Args, Outcome, Refusal, SYNTAX_ERROR};
use super::scan::{self, ScanOptions, with_head};
use crate::memory;
use crate::protocol::number::parse_i64_canonical;
use crate::protocol::resp::Reply;
use crate::queue::{NewMessage, Queue, QueueError, Queues, Slice, Target};
use crate::session::budget::{self, Budget};

/// What a bulk string takes beside its bytes, at most: `$`, its length and two line ends.
const BULK_OVERHEAD: u64 = 16;

const SMALLER_COUNT: &str = "use a smaller count";

fn new_message(body: &[u8]) -> NewMessage<'_> {
    NewMessage { body, flags: 0, expires_ms: 0 }
}

/// SADD q m [m ...]: pushes each that is not in the queue, all as one step; answers how many.
pub(super) fn sadd(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    if args.len() == 3 {
        let message = new_message(args.get(2));
        let budget = &mut context.budget;
        let push = budget.passing(|queue| queue.push_unique(&message));
        let pushed = target.create(&mut context.ticket, push)?;
        budget.look(message.body.len());
        reply.integer(i64::from(pushed));
        return Ok(());
    }
    let mut progress = context.resume();
    let (state, ticket) = ((&mut progress, &mut context.budget), &mut context.ticket);
    let pushed = target.create_sliced(ticket, |queue| {
        if is_busy(queue.begin_pushing(args.from(2)))? {
            return Ok(Slice::More);
        }
        each_word(queue, args, state, |queue, body, progress| {
            progress.count += u64::from(queue.push_unique(&new_message(body))?);
            Ok(false)
        })
    })?;
    match pushed {
        Slice::Done(()) => reply.integer(to_i64(progress.count)),
        Slice::More => return context.pause(progress),
    }
    Ok(())
}

/// SREM q m [m ...]: answers how many were there.
pub(super) fn srem(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let mut progress = context.resume();
    let (progress_ref, budget, ticket) = (&mut progress, &mut context.budget, &mut context.ticket);
    let removed = target.find_sliced(ticket, |queue| {
        if !measure_removals(queue, args, &mut progress_ref.measured, budget)? {
            return Ok(Slice::More);
        }
        let most = progress_ref.measured.count;
        if is_busy(queue.begin_removing(most))? {
            return Ok(Slice::More);
        }
        each_word(queue, args, (progress_ref, budget), |queue, body, progress| {
            let removed = progress.count < most && queue.remove_one(body)?;
            progress.count += u64::from(removed);
            Ok(removed)
        })
    })?;
    match removed {
        Some(Slice::More) => return context.pause(progress),
        Some(Slice::Done(())) | None => reply.integer(to_i64(progress.count)),
    }
    Ok(())
}

pub(super) fn sismember(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let look = context.budget.passing(|queue| queue.contains(args.get(2)));
    let found = target.find(&mut context.ticket, look)?;
    reply.integer(i64::from(found.unwrap_or(false)));
    Ok(())
}

pub(super) fn smismember(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let (mut progress, start) = (context.resume(), reply.out.len());
    let (state, ticket) = ((&mut progress, &mut context.budget), &mut context.ticket);
    let found = target.find_sliced(ticket, |queue| {
        each_word(queue, args, state, |queue, body, _| {
            reply.integer(i64::from(queue.contains(body)?));
            Ok(false)
        })
    })?;
    match found {
        Some(Slice::Done(())) => {}
        Some(Slice::More) => {
            progress.keep(reply, start);
            return context.pause(progress);
        }
        None => {
            const NO: &[u8] = b":0\r\n";
            memory::reserve(&mut progress.elements, NO.len() * (args.len() - 2))?;
            args.from(2).for_each(|_| progress.elements.extend_from_slice(NO));
        }
    }
    context.end_list(reply, start, progress.elements, |reply| reply.array(args.len() - 2));
    Ok(())
}

pub(super) fn scard(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    _args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let len = target.find(&mut context.ticket, |queue| Ok(queue.len()))?;
    reply.integer(to_i64(len.unwrap_or(0)));
    Ok(())
}

/// SMOVE src dst m: the message is never lost in between.
pub(super) fn smove(
    queues: &Queues,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let (from, to, body) = (args.get(1), args.get(2), args.get(3));
    let mut passed = 0;
    let moved = queues.move_message(from, to, body, &mut context.ticket, &mut passed);
    context.budget.spend(passed);
    let moved = moved?;
    reply.integer(i64::from(moved));
    Ok(())
}

/// SPOP q [count]
pub(super) fn spop(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    match args.len() {
        2 => pop_one(target, context, reply),
        3 => pop_many(target, context, args, reply),
        _ => Err(SYNTAX_ERROR.into()),
    }
}

fn pop_one(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let take = |queue: &mut Queue| queue.try_pop(|message| reply.try_bulk(message.body));
    let popped = target.find(&mut context.ticket, context.budget.passing(take))?;
    if popped.flatten().is_none() {
        reply.null();
    }
    Ok(())
}

/// An array in RESP3 too, where Redis answers a set: its order is what the client came for.
fn pop_many(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let count = parse_i64_canonical(args.get(2)).and_then(|count| u64::try_from(count).ok());
    let count = count.ok_or("ERR value is out of range, must be positive")?;
    let (mut progress, start) = (context.resume(), reply.out.len());
    let room = context.room(reply).saturating_sub(progress.elements.len() as u64);
    let (progress_ref, budget, ticket) = (&mut progress, &mut context.budget, &mut context.ticket);
    let popped = target.find_sliced(ticket, |queue| {
        let steps = count.min(queue.len()).saturating_mul(budget::LOOK);
        if !budget.affords(steps) || !measure(queue, count, room, progress_ref, budget)? {
            return Ok(Slice::More);
        }
        if progress_ref.measured.bytes > room {
            return Ok(Slice::Done(false));
        }
        if is_busy(queue.begin_popping(count))? {
            return Ok(Slice::More);
        }
        pop_up_to(queue, count, (progress_ref, budget), reply)
    });
    match popped {
        Ok(Some(Slice::More)) => {
            progress.keep(reply, start);
            return context.pause(progress);
        }
        Ok(Some(Slice::Done(false))) => return Err(too_large(SMALLER_COUNT)),
        Err(error) if progress.count == 0 => return Err(error.into()),
        // What was popped must reach the client.
        Ok(Some(Slice::Done(true)) | None) | Err(_) => {}
    }
    let count = usize::try_from(progress.count).unwrap_or(usize::MAX);
    context.end_list(reply, start, progress.elements, |reply| reply.array(count));
    Ok(())
}

/// Looks ahead, as far as the turn goes, whether the `count` oldest messages fit into `room` bytes
/// of reply; true: it is known.
fn measure(
    queue: &mut Queue,
    count: u64,
    room: u64,
    progress: &mut Progress,
    budget: &mut Budget,
) -> Result<bool, QueueError> {
    let measured = &mut progress.measured;
    let all = queue.len().saturating_mul(BULK_OVERHEAD).saturating_add(queue.bytes());
    // A transaction cannot stop where too much is passed that is gone.
    measured.is_done |= measured.next == 0 && all <= room && budget.affords(queue.gaps());
    if measured.is_done {
        return Ok(true);
    }
    let mut is_turn_over = false;
    let next = queue.visit(measured.next, budget.left(), |message| {
        if measured.count == count || measured.bytes > room {
            return false;
        }
        if budget.is_used_up() {
            measured.next = message.sequence;
            is_turn_over = true;
            return false;
        }
        budget.look(message.body.len());
        measured.count += 1;
        measured.bytes += message.body.len() as u64 + BULK_OVERHEAD;
        true
    })?;
    budget.spend(queue.take_passed());
    measured.next = next.unwrap_or(measured.next);
    measured.is_done = (next.is_none() || measured.count == count) && !is_turn_over;
    Ok(measured.is_done)
}

/// An error after the first message ends the reply early: what was popped must reach the client.
fn pop_up_to(
    queue: &mut Queue,
    count: u64,
    (progress, budget): (&mut Progress, &mut Budget),
    reply: &mut Reply<'_>,
) -> Result<Slice<bool>, QueueError> {
    let begin = reply.out.len();
    while progress.count < count {
        if budget.is_turn_over() {
            return Ok(Slice::More);
        }
        let start = reply.out.len();
        let popped = queue.try_pop(|message| {
            reply.try_bulk(message.body)?;
            progress.prepare_to_keep(reply.out.len() - begin)
        });
        budget.spend(queue.take_passed());
        match popped {
            Ok(Some(())) => progress.count += 1,
            Ok(None) => break,
            Err(QueueError::Busy) if budget.pauses() => return Ok(Slice::More),
            Err(error) => {
                reply.take_back(start);
                return if progress.count == 0 { Err(error) } else { Ok(Slice::Done(true)) };
            }
        }
        budget.look(reply.out.len() - start);
    }
    Ok(Slice::Done(true))
}

/// SMEMBERS q: an array in RESP3 too, where Redis answers a set. A queue has an order and may have
/// equal messages, and a client makes neither of a set.
pub(super) fn smembers(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    _args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    show_oldest(target, context, u64::MAX, "use SSCAN", Reply::array, reply)
}

/// SRANDMEMBER q [count]: a peek. Redis repeats members where the count is negative; a queue shows
/// its oldest messages once.
pub(super) fn srandmember(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    match args.len() {
        2 => peek(target, context, reply),
        3 if args.integer(2)? == i64::MIN => {
            Err("ERR value is out of range, value must between -9223372036854775807 and \
                 9223372036854775807"
                .into())
        }
        3 => {
            let count = args.integer(2)?.unsigned_abs();
            show_oldest(target, context, count, SMALLER_COUNT, Reply::array, reply)
        }
        _ => Err(SYNTAX_ERROR.into()),
    }
}

fn peek(target: &mut Target<'_, '_>, context: &mut Context<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (mut progress, mut shown) = (context.resume(), false);
    let (budget, ticket) = (&mut context.budget, &mut context.ticket);
    let found = target.find_sliced(ticket, |queue| {
        let next = queue.visit(progress.next, budget.left(), |message| {
            reply.bulk(message.body);
            shown = true;
            false
        })?;
        budget.spend(queue.take_passed());
        progress.next = next.unwrap_or_default();
        Ok(if next.is_some() { Slice::More } else { Slice::Done(()) })
    })?;
    if let Some(Slice::More) = found {
        return context.pause(progress);
    }
    if !shown {
        reply.null();
    }
    Ok(())
}

/// Shows the `count` oldest messages under `head`.
fn show_oldest<'r>(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    count: u64,
    advice: &str,
    head: fn(&mut Reply<'r>, usize),
    reply: &mut Reply<'r>,
) -> Outcome {
    let (mut progress, start) = (context.resume(), reply.out.len());
    let room = context.room(reply);
    let (progress_ref, budget, ticket) = (&mut progress, &mut context.budget, &mut context.ticket);
    let shown = target.find_sliced(ticket, |queue| {
        if !budget.affords(count.min(queue.len()).saturating_mul(budget::LOOK)) {
            return Ok(Slice::More);
        }
        show_up_to(queue, count, room, (progress_ref, budget), reply)
    })?;
    match shown {
        Some(Slice::More) => {
            progress.keep(reply, start);
            return context.pause(progress);
        }
        Some(Slice::Done(false)) => return Err(too_large(advice)),
        Some(Slice::Done(true)) | None => {}
    }
    let count = usize::try_from(progress.count).unwrap_or(usize::MAX);
    context.end_list(reply, start, progress.elements, |reply| head(reply, count));
    Ok(())
}

/// Shows the oldest messages as far as the turn goes; false: they do not fit into `room` bytes.
fn show_up_to(
    queue: &mut Queue,
    count: u64,
    room: u64,
    (progress, budget): (&mut Progress, &mut Budget),
    reply: &mut Reply<'_>,
) -> Result<Slice<bool>, QueueError> {
    let mut shown = Slice::Done(true);
    let next = queue.visit(progress.next, budget.left(), |message| {
        if progress.count == count {
            return false;
        }
        if budget.is_used_up() {
            progress.next = message.sequence;
            shown = Slice::More;
            return false;
        }
        progress.measured.bytes += message.body.len() as u64 + BULK_OVERHEAD;
        if progress.measured.bytes > room {
            shown = Slice::Done(false);
            return false;
        }
        budget.look(message.body.len());
        reply.bulk(message.body);
        progress.count += 1;
        true
    })?;
    budget.spend(queue.take_passed());
    match next.filter(|_| progress.count < count) {
        Some(next) => progress.next = next,
        None => return Ok(shown),
    }
    Ok(Slice::More)
}

/// SSCAN q cursor [MATCH pattern] [COUNT count]: the cursor holds the number of the next message,
/// so a message that stays is shown exactly once, and where the queue ended when the scan began.
pub(super) fn sscan(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let cursor = args.cursor(2)?;
    let options = ScanOptions::parse(args, 3, false)?;
    let room = context.room(reply);
    let head = |reply: &mut Reply<'_>, (next, shown): (u64, usize)| {
        reply.array(2);
        reply.bulk(next.to_string().as_bytes());
        reply.array(shown);
    };
    let budget = &mut context.budget;
    let fill = |reply: &mut Reply<'_>| {
        let page = target.find(&mut context.ticket, |queue| {
            show_page(queue, cursor, &options, room, budget, reply)
        })?;
        page.unwrap_or(Ok((0, 0)))
    };
    with_head(reply, fill, head)
}

/// Answers the cursor of the next page and how many messages are in this one. A page ends early
/// rather than grow beyond `room` or take long.
fn show_page(
    queue: &mut Queue,
    cursor: u64,
    options: &ScanOptions<'_>,
    room: u64,
    budget: &mut Budget,
    reply: &mut Reply<'_>,
) -> Result<Result<(u64, usize), Refusal>, QueueError> {
    let (start, above) = (reply.out.len(), queue.numbers_above());
    let (from, end) = scan::place(cursor, queue.end().saturating_sub(above));
    let mut page_budget = scan::page_budget(budget);
    let (steps, mut seen, mut page) = (page_budget.left(), 0, Ok((0, 0)));
    let from = from.saturating_add(above);
    let stopped = queue.visit(from, page_budget.left(), |message| {
        let number = message.sequence.saturating_sub(above);
        let used = (reply.out.len() - start) as u64;
        let is_full = used > 0 && used.saturating_add(message.body.len() as u64) > room;
        let Ok((next, shown)) = &mut page else {
            return false;
        };
        if number >= end {
            return false;
        }
        if seen == options.count || is_full || (seen > 0 && page_budget.is_used_up()) {
            *next = scan::cursor(number, end);
            return false;
        }
        seen += 1;
        page_budget.look(message.body.len());
        match options.matches(message.body, &mut page_budget) {
            Ok(true) => {
                reply.bulk(message.body);
                *shown += 1;
            }
            Ok(false) => {}
            Err(refusal) => page = Err(refusal),
        }
        true
    })?;
    budget.spend(steps - page_budget.left() + queue.take_passed());
    match (&mut page, stopped) {
        (Ok((0, 0)), Some(next)) if next == from => return Err(QueueError::Busy),
        (Ok((next, _)), Some(stopped)) if stopped - above < end => {
            *next = scan::cursor(stopped - above, end);
        }
        _ => {}
    }
    Ok(page)
}

/// Counts of messages are far from the end of an i64.
fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
