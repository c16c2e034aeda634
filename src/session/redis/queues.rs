//! Queues under the names of Redis's set commands: SADD pushes, SPOP pops the oldest.
//!
//! Where a set has no order a queue is first-in first-out, so what Redis answers at random comes
//! oldest first here. Bodies are encoded straight from the store, under the queue's lock; a reply
//! of many messages is measured before anything is removed.

use super::dispatch::{Context, too_large};
use super::request::{Args, Outcome, Refusal, SYNTAX_ERROR};
use super::scan::{ScanOptions, with_head};
use crate::protocol::number::parse_i64_canonical;
use crate::protocol::resp::Reply;
use crate::queue::{BodyHash, NewMessage, Queue, QueueError, Queues, Target, Wanted};

/// What a bulk string takes beside its bytes, at most: `$`, its length and two line ends.
const BULK_OVERHEAD: u64 = 16;

const SMALLER_COUNT: &str = "use a smaller count";

/// The messages that a command names, from word 2 on; `hash`: that of the first, where it is known.
fn bodies<'a>(args: Args<'a>, hash: Option<BodyHash>) -> impl Iterator<Item = Wanted<'a>> {
    let mut hash = hash;
    args.from(2).map(move |body| Wanted { body, hash: hash.take() })
}

/// SADD q m [m ...]: pushes each that is not in the queue; answers how many. An error in the middle
/// is the reply, and what was pushed before it stays: sent again, the command pushes the rest.
pub(super) fn sadd(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let mut bodies = bodies(args, target.hash);
    let pushed = target.create(&mut context.ticket, |queue| {
        bodies.try_fold(0, |pushed, Wanted { body, hash }| {
            let message = NewMessage { body, flags: 0, expires_ms: 0 };
            Ok(pushed + i64::from(queue.push_unique(&message, hash)?))
        })
    })?;
    reply.integer(pushed);
    Ok(())
}

/// SREM q m [m ...]: answers how many were there.
pub(super) fn srem(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let mut bodies = bodies(args, target.hash);
    let removed = target.find(&mut context.ticket, |queue| {
        bodies.try_fold(0, |removed, body| Ok(removed + queue.remove(body)?))
    })?;
    reply.integer(to_i64(removed.unwrap_or(0)));
    Ok(())
}

pub(super) fn sismember(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let body = Wanted { body: args.get(2), hash: target.hash };
    let found = target.find(&mut context.ticket, |queue| queue.contains(body))?;
    reply.integer(i64::from(found.unwrap_or(false)));
    Ok(())
}

pub(super) fn smismember(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    reply.array(args.len() - 2);
    let mut bodies = bodies(args, target.hash);
    let found = target.find(&mut context.ticket, |queue| {
        bodies.try_for_each(|body| {
            reply.integer(i64::from(queue.contains(body)?));
            Ok(())
        })
    })?;
    if found.is_none() {
        args.from(2).for_each(|_| reply.integer(0));
    }
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
    let moved = queues.move_message(from, to, body, &mut context.ticket)?;
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
    let popped =
        target.find(&mut context.ticket, |queue| queue.pop(|message| reply.bulk(message.body)))?;
    if popped.flatten().is_none() {
        reply.null();
    }
    Ok(())
}

/// Redis answers a set in RESP3; here it is an array in both versions, because its order is what
/// the client came for.
fn pop_many(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let count = parse_i64_canonical(args.get(2)).and_then(|count| u64::try_from(count).ok());
    let count = count.ok_or("ERR value is out of range, must be positive")?;
    let room = context.room(reply);
    let popped = target.find(&mut context.ticket, |queue| {
        if !fits(queue, count, room)? {
            return Ok(Err(too_large(SMALLER_COUNT)));
        }
        with_head(reply, |reply| pop_up_to(queue, count, reply), Reply::array).map(Ok)
    })?;
    popped.unwrap_or_else(|| {
        reply.array(0);
        Ok(())
    })
}

/// An error after the first message ends the reply early: what was popped must reach the client.
fn pop_up_to(queue: &mut Queue, count: u64, reply: &mut Reply<'_>) -> Result<usize, QueueError> {
    let mut popped = 0;
    while (popped as u64) < count {
        let start = reply.out.len();
        match queue.pop(|message| reply.bulk(message.body)) {
            Ok(Some(())) => popped += 1,
            Ok(None) => break,
            Err(error) if popped == 0 => return Err(error),
            Err(_) => {
                reply.out.truncate(start);
                break;
            }
        }
    }
    Ok(popped)
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
    let mut shown = false;
    target.find(&mut context.ticket, |queue| {
        queue.visit(0, |message| {
            reply.bulk(message.body);
            shown = true;
            false
        })
    })?;
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
    let room = context.room(reply);
    let shown = target.find(&mut context.ticket, |queue| {
        if !fits(queue, count, room)? {
            return Ok(Err(too_large(advice)));
        }
        let fill = |reply: &mut Reply<'r>| {
            let mut shown = 0;
            visit_oldest(queue, count, |body| {
                reply.bulk(body);
                shown += 1;
                true
            })?;
            Ok(shown)
        };
        with_head(reply, fill, head).map(Ok)
    })?;
    shown.unwrap_or_else(|| {
        head(reply, 0);
        Ok(())
    })
}

/// SSCAN q cursor [MATCH pattern] [COUNT count]: the cursor is the number of the next message, so a
/// message that stays is shown exactly once.
pub(super) fn sscan(
    target: &mut Target<'_, '_>,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let cursor = args.cursor(2)?;
    let mut options = ScanOptions::parse(args, 3, false)?;
    let room = context.room(reply);
    let head = |reply: &mut Reply<'_>, (next, shown): (u64, usize)| {
        reply.array(2);
        reply.bulk(next.to_string().as_bytes());
        reply.array(shown);
    };
    let fill = |reply: &mut Reply<'_>| {
        let page = target.find(&mut context.ticket, |queue| {
            show_page(queue, cursor, &mut options, room, reply)
        })?;
        page.unwrap_or(Ok((0, 0)))
    };
    with_head(reply, fill, head)
}

/// Answers the cursor of the next page and how many messages are in this one. A page ends early
/// rather than grow beyond `room`.
fn show_page(
    queue: &mut Queue,
    cursor: u64,
    options: &mut ScanOptions<'_>,
    room: u64,
    reply: &mut Reply<'_>,
) -> Result<Result<(u64, usize), Refusal>, QueueError> {
    let start = reply.out.len();
    let (mut seen, mut page) = (0, Ok((0, 0)));
    queue.visit(cursor, |message| {
        let used = (reply.out.len() - start) as u64;
        let is_full = used > 0 && used.saturating_add(message.body.len() as u64) > room;
        let Ok((next, shown)) = &mut page else {
            return false;
        };
        if seen == options.count || is_full {
            *next = message.sequence;
            return false;
        }
        seen += 1;
        match options.matches(message.body) {
            Ok(true) => {
                reply.bulk(message.body);
                *shown += 1;
            }
            Ok(false) => {}
            Err(refusal) => page = Err(refusal),
        }
        true
    })?;
    Ok(page)
}

/// Whether the `count` oldest messages fit into `room` bytes of reply.
fn fits(queue: &mut Queue, count: u64, room: u64) -> Result<bool, QueueError> {
    let all = queue.len().saturating_mul(BULK_OVERHEAD).saturating_add(queue.bytes());
    if all <= room {
        return Ok(true);
    }
    let mut needed = 0_u64;
    visit_oldest(queue, count, |body| {
        needed = needed.saturating_add(body.len() as u64 + BULK_OVERHEAD);
        needed <= room
    })?;
    Ok(needed <= room)
}

/// Shows the bodies of the `count` oldest messages until `show` answers false.
fn visit_oldest(
    queue: &mut Queue,
    count: u64,
    mut show: impl FnMut(&[u8]) -> bool,
) -> Result<(), QueueError> {
    let mut left = count;
    if left == 0 {
        return Ok(());
    }
    queue.visit(0, |message| {
        left -= 1;
        show(message.body) && left > 0
    })
}

/// Counts of messages are far from the end of an i64.
fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
