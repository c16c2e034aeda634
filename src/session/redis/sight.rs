//! What is in the queues, under the names of Disque's commands: QPEEK and SHOW show messages with
//! their ids, QSTAT a queue in numbers, QSCAN the queues.
//!
//! Nothing here changes a queue, and no look counts as a delivery.

use super::call::{Call, Turn, too_large};
use super::jobs::parse_id;
use super::keyspace::next_key;
use super::queues::{Form, SMALLER_COUNT, show_oldest};
use super::request::{Args, Outcome, Refusal, SYNTAX_ERROR};
use super::scan;
use crate::protocol::job_id::{self, JobId};
use crate::protocol::number::parse_u64;
use crate::protocol::resp::Reply;
use crate::queue::{Failures, Message, MessageState, Slice};
use crate::session::budget;

/// What a message takes in a reply of QPEEK beside its body and the name of its queue.
const PEEK_OVERHEAD: u64 = job_id::LENGTH as u64 + 64;

/// QPEEK q n: as GETJOB shows them, the `n` oldest messages, or where it is negative the newest,
/// the newest of all first. The ids are of no delivery, as that of ADDJOB.
pub(super) fn qpeek(call: &mut Call<'_>) -> Outcome {
    let (name, count) = (call.args.get(1), call.args.integer(2)?);
    let attempt = call.queues()?.next_attempt();
    let show = |reply: &mut Reply, queue, message: &Message<'_>| {
        reply.array(3);
        reply.bulk(name);
        reply.bulk(&JobId { queue, number: message.sequence, attempt }.encode());
        reply.bulk(message.body);
    };
    let form = Form { overhead: PEEK_OVERHEAD + name.len() as u64, show: &show };
    match count {
        0.. => show_oldest(call, count.unsigned_abs(), SMALLER_COUNT, &form),
        _ => show_newest(call, count.unsigned_abs(), &form),
    }
}

/// Shows the `count` newest messages.
fn show_newest(call: &mut Call<'_>, count: u64, form: &Form<'_>) -> Outcome {
    let (mut progress, start) = (call.resume(), call.reply.out.len());
    let (target, room) = (call.target()?, call.room());
    let (claim, Turn { ticket, budget, .. }) = (&mut call.client.claim, &mut *call.turn);
    let reply = &mut *call.reply;
    let shown = target.find_sliced(claim, ticket, |queue| {
        let identity = queue.identity();
        if progress.end == 0 {
            progress.end = queue.end();
        }
        while progress.count < count {
            if budget.is_used_up() {
                return Ok(Slice::More);
            }
            let Some(number) = queue.newest_below(progress.end)? else { break };
            progress.end = number;
            queue.show(number, |message, _| {
                progress.measured.bytes += message.body.len() as u64 + form.overhead;
                if progress.measured.bytes <= room {
                    budget.copy(message.body.len());
                    (form.show)(reply, identity, &message);
                    progress.count += 1;
                }
            })?;
            budget.spend(budget::LOOK * queue.take_passed());
            if progress.measured.bytes > room {
                return Ok(Slice::Done(false));
            }
        }
        Ok(Slice::Done(true))
    })?;
    match shown {
        Some(Slice::More) => return call.pause_list(progress, start),
        Some(Slice::Done(false)) => return Err(too_large(SMALLER_COUNT)),
        Some(Slice::Done(true)) | None => {}
    }
    let count = usize::try_from(progress.count).unwrap_or(usize::MAX);
    call.end_list(start, progress.elements, |reply| reply.array(count));
    Ok(())
}

/// SHOW id: a flat list of what is known of the message; nil if it is not there.
pub(super) fn show(call: &mut Call<'_>) -> Outcome {
    let (queues, text) = (call.queues()?, call.args.get(1));
    let JobId { queue: identity, number, attempt } = parse_id(text)?;
    let name = queues.name_of(identity).unwrap_or_default();
    let (reply, budget) = (&mut *call.reply, &mut call.turn.budget);
    let shown = queues.find_identity(identity, &mut call.turn.ticket, |queue| {
        if !queues.is_meant(queue, number, attempt) {
            return Ok(None);
        }
        let failures = queue.failures(number)?;
        let shown = queue.show(number, |message, state| {
            let state = match state {
                MessageState::Ready => "ready",
                MessageState::Leased => "leased",
            };
            reply.array(24);
            let fields: [(&str, &[u8]); 4] = [
                ("id", text),
                ("queue", &name),
                ("state", state.as_bytes()),
                ("body", message.body),
            ];
            for (field, value) in fields {
                reply.bulk(field.as_bytes());
                reply.bulk(value);
            }
            reply.bulk(b"first-push-ms");
            reply.count(message.pushed_ms);
            show_failures(reply, &failures);
            budget.look(message.body.len());
        });
        budget.spend(queue.take_passed());
        shown
    })?;
    if shown.flatten().is_none() {
        call.reply.null();
    }
    Ok(())
}

fn show_failures(reply: &mut Reply, all: &Failures) {
    let Failures { attempts, nacks, expiries, first, last } = all;
    for (field, count) in [("count", attempts), ("failures", nacks), ("expiries", expiries)] {
        reply.bulk(field.as_bytes());
        reply.count((*count).into());
    }
    for (reason, time, failure) in [
        (&b"first-reason"[..], &b"first-failure-ms"[..], first),
        (b"last-reason", b"last-failure-ms", last),
    ] {
        reply.bulk(reason);
        reply.bulk(&failure.reason);
        reply.bulk(time);
        reply.count(failure.at_ms);
    }
}

/// QSTAT q: a flat list; nil where there is no such queue and nobody waits for it.
pub(super) fn qstat(call: &mut Call<'_>) -> Outcome {
    let (queues, name) = (call.queues()?, call.args.get(1));
    let (figures, blocked) = (queues.figures(name)?, queues.waiting_for(name) as u64);
    if figures.is_none() && blocked == 0 {
        call.reply.null_array();
        return Ok(());
    }
    let figures = figures.unwrap_or_default();
    let reply = &mut *call.reply;
    let numbers = [
        ("len", figures.length),
        ("age", figures.age_ms / 1000),
        ("idle", figures.idle_ms / 1000),
        ("blocked", blocked),
        ("jobs-in", figures.totals.came),
        ("jobs-out", figures.totals.went),
        ("ready", figures.length),
        // No message is delayed, held back behind another or dead-lettered yet.
        ("delayed", 0),
        ("held", 0),
        ("leased", figures.leased),
        ("dead-moved", 0),
    ];
    reply.array(2 * (2 + numbers.len()));
    for (what, text) in [("name", name), ("pause", b"none")] {
        reply.bulk(what.as_bytes());
        reply.bulk(text);
    }
    for (what, number) in numbers {
        reply.bulk(what.as_bytes());
        reply.count(number);
    }
    Ok(())
}

/// `[cursor] [COUNT n] [BUSYLOOP] [MINLEN n] [MAXLEN n]`
struct QueueScan {
    cursor: u64,
    count: u64,
    /// All queues at once.
    is_whole: bool,
    least: u64,
    most: u64,
}

impl QueueScan {
    fn parse(args: Args<'_>) -> Result<QueueScan, Refusal> {
        let mut scan = QueueScan {
            cursor: 0,
            count: scan::DEFAULT_COUNT,
            is_whole: false,
            least: 0,
            most: u64::MAX,
        };
        let mut word = 1;
        if let Some(cursor) = parse_u64(args.get(word)) {
            (scan.cursor, word) = (cursor, 2);
        }
        while word < args.len() {
            if args.is(word, "busyloop") {
                scan.is_whole = true;
                word += 1;
                continue;
            }
            let number = args.integer(word + 1).ok().and_then(|number| u64::try_from(number).ok());
            let number = number.ok_or(SYNTAX_ERROR)?;
            match args.option(word).as_slice() {
                b"count" if number > 0 => scan.count = number,
                b"minlen" => scan.least = number,
                b"maxlen" => scan.most = number,
                _ => return Err(SYNTAX_ERROR.into()),
            }
            word += 2;
        }
        Ok(scan)
    }
}

/// QSCAN [cursor] [COUNT n] [BUSYLOOP] [MINLEN n] [MAXLEN n]: a page of the queues, as SCAN, whose
/// length is within these bounds; or all of them as KEYS, slice by slice.
pub(super) fn qscan(call: &mut Call<'_>) -> Outcome {
    let (options, queues, mut progress) =
        (QueueScan::parse(call.args)?, call.queues()?, call.resume());
    let start = call.reply.out.len();
    let advice = if options.is_whole { "leave BUSYLOOP out" } else { "use a smaller COUNT" };
    if progress.end == 0 {
        (progress.next, progress.end) = scan::place(options.cursor, queues.end());
    }
    let (mut next, mut key, mut seen) = (Some(progress.next), None, 0);
    let mut page_budget = scan::page_budget(&call.turn.budget);
    while let Some(from) = next {
        if options.is_whole && call.turn.budget.is_used_up() {
            progress.next = from;
            return call.pause_list(progress, start);
        }
        let is_full = seen == options.count || (seen > 0 && page_budget.is_used_up());
        if !options.is_whole && is_full {
            break;
        }
        next = next_key(call.shared, from, progress.end, &mut key);
        seen += 1;
        page_budget.look(0);
        call.turn.budget.look(0);
        if let Some(name) = &key
            && (options.least..=options.most).contains(&queues.length(name))
        {
            call.check_room((progress.elements.len() + name.len()) as u64, advice)?;
            call.reply.bulk(name);
            progress.count += 1;
        }
    }
    let next = next.map_or(0, |next| scan::cursor(next, progress.end)).to_string();
    let count = usize::try_from(progress.count).unwrap_or(usize::MAX);
    call.end_list(start, progress.elements, |reply| {
        reply.array(2);
        reply.bulk(next.as_bytes());
        reply.array(count);
    });
    Ok(())
}
