//! Queues under the names of Redis's set commands: SADD pushes, SPOP pops the oldest.
//!
//! Where a set has no order a queue is first-in first-out, so what Redis answers at random comes
//! oldest first here. Bodies are encoded straight from the store, under the queue's lock; a reply
//! of many messages is measured before anything is removed.

use super::call::{Call, Turn, too_large};
use super::progress::{Progress, each_word, is_busy, measure_removals};
use super::request::{Outcome, Refusal, SYNTAX_ERROR};
use super::scan::{self, ScanOptions};
use crate::memory;
use crate::protocol::number::parse_i64_canonical;
use crate::protocol::resp::Reply;
use crate::queue::{Message, NewMessage, Queue, QueueError, Slice};
use crate::session::budget::{self, Budget};

/// What a bulk string takes beside its bytes, at most: `$`, its length and two line ends.
const BULK_OVERHEAD: u64 = 16;

pub(super) const SMALLER_COUNT: &str = "use a smaller count";

/// How a message is shown in a list.
pub(super) struct Form<'f> {
    /// What it takes beside the body, at most, in bytes.
    pub overhead: u64,
    /// Writes it, with the identity of its queue at hand.
    pub show: &'f dyn Fn(&mut Reply, u64, &Message<'_>),
}

const BODY: Form<'_> =
    Form { overhead: BULK_OVERHEAD, show: &|reply, _, message| reply.bulk(message.body) };

fn new_message(body: &[u8]) -> NewMessage<'_> {
    NewMessage { body, flags: 0, expires_ms: 0 }
}

/// SADD q m [m ...]: pushes each that is not in the queue, all as one step; answers how many.
pub(super) fn sadd(call: &mut Call<'_>) -> Outcome {
    let (target, args) = (call.target()?, call.args);
    if args.len() == 3 {
        let message = new_message(args.get(2));
        let push = call.turn.budget.passing(|queue| queue.push_unique(&message));
        let pushed = target.create(&mut call.turn.ticket, push)?;
        call.turn.budget.look(message.body.len());
        call.reply.integer(i64::from(pushed));
        return Ok(());
    }
    let mut progress = call.resume();
    let (claim, Turn { ticket, budget, .. }) = (&mut call.client.claim, &mut *call.turn);
    let pushed = target.create_sliced(claim, ticket, |queue| {
        if is_busy(queue.begin_pushing(args.from(2)))? {
            return Ok(Slice::More);
        }
        each_word(queue, args, (&mut progress, budget), |queue, body, progress| {
            progress.count += u64::from(queue.push_unique(&new_message(body))?);
            Ok(false)
        })
    })?;
    match pushed {
        Slice::Done(()) => call.reply.count(progress.count),
        Slice::More => return call.pause(progress),
    }
    Ok(())
}

/// SREM q m [m ...]: answers how many were there.
pub(super) fn srem(call: &mut Call<'_>) -> Outcome {
    let (target, args, mut progress) = (call.target()?, call.args, call.resume());
    let (claim, Turn { ticket, budget, .. }) = (&mut call.client.claim, &mut *call.turn);
    let removed = target.find_sliced(claim, ticket, |queue| {
        if !measure_removals(queue, args, &mut progress.measured, budget)? {
            return Ok(Slice::More);
        }
        let most = progress.measured.count;
        if is_busy(queue.begin_removing(most))? {
            return Ok(Slice::More);
        }
        each_word(queue, args, (&mut progress, budget), |queue, body, progress| {
            let removed = progress.count < most && queue.remove_one(body)?;
            progress.count += u64::from(removed);
            Ok(removed)
        })
    })?;
    match removed {
        Some(Slice::More) => return call.pause(progress),
        Some(Slice::Done(())) | None => call.reply.count(progress.count),
    }
    Ok(())
}

pub(super) fn sismember(call: &mut Call<'_>) -> Outcome {
    let target = call.target()?;
    let look = call.turn.budget.passing(|queue| queue.contains(call.args.get(2)));
    let found = target.find(&mut call.turn.ticket, look)?;
    call.reply.integer(i64::from(found.unwrap_or(false)));
    Ok(())
}

pub(super) fn smismember(call: &mut Call<'_>) -> Outcome {
    let (target, args) = (call.target()?, call.args);
    let (mut progress, start) = (call.resume(), call.reply.out.len());
    let (claim, Turn { ticket, budget, .. }) = (&mut call.client.claim, &mut *call.turn);
    let found = target.find_sliced(claim, ticket, |queue| {
        each_word(queue, args, (&mut progress, budget), |queue, body, _| {
            call.reply.integer(i64::from(queue.contains(body)?));
            Ok(false)
        })
    })?;
    match found {
        Some(Slice::Done(())) => {}
        Some(Slice::More) => return call.pause_list(progress, start),
        None => {
            const NO: &[u8] = b":0\r\n";
            memory::reserve(&mut progress.elements, NO.len() * (args.len() - 2))?;
            args.from(2).for_each(|_| progress.elements.extend_from_slice(NO));
        }
    }
    call.end_list(start, progress.elements, |reply| reply.array(args.len() - 2));
    Ok(())
}

pub(super) fn scard(call: &mut Call<'_>) -> Outcome {
    let len = call.target()?.find(&mut call.turn.ticket, |queue| Ok(queue.len()))?;
    call.reply.count(len.unwrap_or(0));
    Ok(())
}

/// SMOVE src dst m: the message is never lost in between.
pub(super) fn smove(call: &mut Call<'_>) -> Outcome {
    let (args, mut passed) = (call.args, 0);
    let (from, to, body) = (args.get(1), args.get(2), args.get(3));
    let moved = call.queues()?.move_message(from, to, body, &mut call.turn.ticket, &mut passed);
    call.turn.budget.spend(passed);
    call.reply.integer(i64::from(moved?));
    Ok(())
}

/// SPOP q [count]
pub(super) fn spop(call: &mut Call<'_>) -> Outcome {
    match call.args.len() {
        2 => pop_one(call),
        3 => pop_many(call),
        _ => Err(SYNTAX_ERROR.into()),
    }
}

fn pop_one(call: &mut Call<'_>) -> Outcome {
    let target = call.target()?;
    let take = |queue: &mut Queue| {
        queue.try_pop(|message| call.reply.try_bulk(message.body).map(|()| message.body.len()))
    };
    let popped = target.find(&mut call.turn.ticket, call.turn.budget.passing(take))?;
    match popped.flatten() {
        Some(length) => call.turn.budget.copy(length),
        None => call.reply.null(),
    }
    Ok(())
}

/// An array in RESP3 too, where Redis answers a set: its order is what the client came for.
fn pop_many(call: &mut Call<'_>) -> Outcome {
    let count = parse_i64_canonical(call.args.get(2)).and_then(|count| u64::try_from(count).ok());
    let count = count.ok_or("ERR value is out of range, must be positive")?;
    let (mut progress, start) = (call.resume(), call.reply.out.len());
    let room = call.room().saturating_sub(progress.elements.len() as u64);
    let target = call.target()?;
    let (claim, Turn { ticket, budget, .. }) = (&mut call.client.claim, &mut *call.turn);
    let popped = target.find_sliced(claim, ticket, |queue| {
        let steps = count.min(queue.len()).saturating_mul(budget::LOOK);
        if !budget.affords(steps) || !measure(queue, count, room, &mut progress, budget)? {
            return Ok(Slice::More);
        }
        if progress.measured.bytes > room {
            return Ok(Slice::Done(false));
        }
        let count = match queue.begin_popping(count) {
            Err(QueueError::Busy) => return Ok(Slice::More),
            begun => begun?,
        };
        pop_up_to(queue, count, (&mut progress, budget), call.reply)
    });
    match popped {
        Ok(Some(Slice::More)) => return call.pause_list(progress, start),
        Ok(Some(Slice::Done(false))) => return Err(too_large(SMALLER_COUNT)),
        Err(error) if progress.count == 0 => return Err(error.into()),
        // What was popped must reach the client.
        Ok(Some(Slice::Done(true)) | None) | Err(_) => {}
    }
    let count = usize::try_from(progress.count).unwrap_or(usize::MAX);
    call.end_list(start, progress.elements, |reply| reply.array(count));
    Ok(())
}

/// Looks ahead, as far as the turn goes, whether the `count` oldest messages fit into `room` bytes
/// of reply. Returns whether that is known.
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
    reply: &mut Reply,
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
pub(super) fn smembers(call: &mut Call<'_>) -> Outcome {
    show_oldest(call, u64::MAX, "use SSCAN", &BODY)
}

/// SRANDMEMBER q [count]: a peek. Redis repeats members where the count is negative; a queue shows
/// its oldest messages once.
pub(super) fn srandmember(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    match args.len() {
        2 => peek(call),
        3 if args.integer(2)? == i64::MIN => {
            Err("ERR value is out of range, value must between -9223372036854775807 and \
                 9223372036854775807"
                .into())
        }
        3 => show_oldest(call, args.integer(2)?.unsigned_abs(), SMALLER_COUNT, &BODY),
        _ => Err(SYNTAX_ERROR.into()),
    }
}

fn peek(call: &mut Call<'_>) -> Outcome {
    let (target, mut progress, mut shown) = (call.target()?, call.resume(), false);
    let (claim, Turn { ticket, budget, .. }) = (&mut call.client.claim, &mut *call.turn);
    let found = target.find_sliced(claim, ticket, |queue| {
        let next = queue.visit(progress.next, budget.left(), |message| {
            call.reply.bulk(message.body);
            shown = true;
            false
        })?;
        budget.spend(queue.take_passed());
        wait_for_dead(next)?;
        progress.next = next.unwrap_or_default();
        Ok(if next.is_some() { Slice::More } else { Slice::Done(()) })
    })?;
    if let Some(Slice::More) = found {
        return call.pause(progress);
    }
    if !shown {
        call.reply.null();
    }
    Ok(())
}

/// Shows the `count` oldest messages.
pub(super) fn show_oldest(
    call: &mut Call<'_>,
    count: u64,
    advice: &str,
    form: &Form<'_>,
) -> Outcome {
    let (mut progress, start) = (call.resume(), call.reply.out.len());
    let (target, room) = (call.target()?, call.room());
    let (claim, Turn { ticket, budget, .. }) = (&mut call.client.claim, &mut *call.turn);
    let shown = target.find_sliced(claim, ticket, |queue| {
        if !budget.affords(count.min(queue.len()).saturating_mul(budget::LOOK)) {
            return Ok(Slice::More);
        }
        show_up_to(queue, (count, room), (&mut progress, budget), call.reply, form)
    })?;
    match shown {
        Some(Slice::More) => return call.pause_list(progress, start),
        Some(Slice::Done(false)) => return Err(too_large(advice)),
        Some(Slice::Done(true)) | None => {}
    }
    let count = usize::try_from(progress.count).unwrap_or(usize::MAX);
    call.end_list(start, progress.elements, |reply| reply.array(count));
    Ok(())
}

/// A look that has not begun, because dead messages leave first, claims nothing.
fn wait_for_dead(next: Option<u64>) -> Result<(), QueueError> {
    if next == Some(0) { Err(QueueError::Busy) } else { Ok(()) }
}

/// Shows the oldest messages as far as the turn goes. Returns false if they do not fit into `room`
/// bytes.
fn show_up_to(
    queue: &mut Queue,
    (count, room): (u64, u64),
    (progress, budget): (&mut Progress, &mut Budget),
    reply: &mut Reply,
    form: &Form<'_>,
) -> Result<Slice<bool>, QueueError> {
    let identity = queue.identity();
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
        progress.measured.bytes += message.body.len() as u64 + form.overhead;
        if progress.measured.bytes > room {
            shown = Slice::Done(false);
            return false;
        }
        budget.look(message.body.len());
        (form.show)(reply, identity, &message);
        progress.count += 1;
        true
    })?;
    budget.spend(queue.take_passed());
    wait_for_dead(next)?;
    match next.filter(|_| progress.count < count) {
        Some(next) => progress.next = next,
        None => return Ok(shown),
    }
    Ok(Slice::More)
}

/// SSCAN q cursor [MATCH pattern] [COUNT count]: the cursor holds the number of the next message,
/// so a message that stays is shown exactly once, and where the queue ended when the scan began.
pub(super) fn sscan(call: &mut Call<'_>) -> Outcome {
    let cursor = call.args.cursor(2)?;
    let options = ScanOptions::parse(call.args, 3, false)?;
    let (target, room, start) = (call.target()?, call.room(), call.reply.out.len());
    let Turn { ticket, budget, .. } = &mut *call.turn;
    let page = target
        .find(ticket, |queue| show_page(queue, cursor, &options, room, budget, call.reply))?;
    let (next, shown) = page.unwrap_or(Ok((0, 0)))?;
    scan::end_page(call.reply, start, next, shown);
    Ok(())
}

/// Answers the cursor of the next page and how many messages are in this one. A page ends early
/// rather than grow beyond `room` or take long.
fn show_page(
    queue: &mut Queue,
    cursor: u64,
    options: &ScanOptions<'_>,
    room: u64,
    budget: &mut Budget,
    reply: &mut Reply,
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
