//! Leases under the names of Disque's commands: ADDJOB pushes a message, GETJOB leases the oldest,
//! ACKJOB removes it when its work is done.
//!
//! An id names one delivery of a message. That of ADDJOB is of none: its attempt has no lease.
//! A command that takes ids sorts them, so that the oldest go first.

use super::blocking::milliseconds;
use super::call::{Call, Turn};
use super::request::{Args, Outcome, Refusal, SYNTAX_ERROR};
use crate::memory::NoMemory;
use crate::protocol::job_id::JobId;
use crate::protocol::resp::Reply;
use crate::queue::{
    Cause, Delivery, Failures, Handed, Lease, NewMessage, Queue, QueueError, Ticket,
};
use crate::session::OUTPUT_PIECE;
use crate::session::blocked::Timeout;
use crate::session::budget;

const NO_JOB: &str = "NOJOB Job not known in the context of this node.";

/// What follows the three words of ADDJOB that it has always.
#[derive(Default)]
struct AddOptions {
    time_to_live_s: Option<u64>,
    max_len: Option<u64>,
    /// The reply does not wait until the message is durable.
    is_async: bool,
}

impl AddOptions {
    fn parse(args: Args<'_>) -> Result<AddOptions, Refusal> {
        let (mut options, mut word) = (AddOptions::default(), 4);
        while word < args.len() {
            if args.is(word, "async") {
                options.is_async = true;
                word += 1;
                continue;
            }
            if !["ttl", "maxlen", "replicate"].iter().any(|name| args.is(word, name)) {
                return Err(Refusal::quoting("ERR ADDJOB has no option '", args.get(word), "'"));
            }
            if word + 1 == args.len() {
                return Err(SYNTAX_ERROR.into());
            }
            let positive = |text| positive(args, word + 1, text);
            if args.is(word, "ttl") {
                options.time_to_live_s = Some(positive("ERR TTL must be a positive number")?);
            } else if args.is(word, "maxlen") {
                options.max_len = Some(positive("ERR MAXLEN must be a positive number")?);
            } else if positive("ERR REPLICATE must be a positive number")? > 1 {
                let text = "NOREPL Not enough reachable nodes for the requested replication level";
                return Err(text.into());
            }
            word += 2;
        }
        Ok(options)
    }
}

/// The number at `word` if it is more than 0, else the refusal `text`.
fn positive(args: Args<'_>, word: usize, text: &'static str) -> Result<u64, Refusal> {
    let number = args.integer(word).ok().and_then(|number| u64::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or_else(|| text.into())
}

/// ADDJOB q body ms-timeout [REPLICATE n] [TTL s] [MAXLEN n] [ASYNC]: answers the message's id. The
/// timeout is how long Disque may take to copy the job to other nodes, of which there are none.
pub(super) fn addjob(call: &mut Call<'_>) -> Outcome {
    let (queues, target, args) = (call.queues()?, call.target()?, call.args);
    if args.integer(3)? < 0 {
        return Err("ERR timeout is negative".into());
    }
    let options = AddOptions::parse(args)?;
    let expires_ms = options
        .time_to_live_s
        .map_or(0, |seconds| queues.clock().now_ms().saturating_add(seconds.saturating_mul(1000)));
    let message = NewMessage { body: args.get(2), flags: 0, expires_ms };
    let push = |queue: &mut Queue| {
        if options.max_len.is_some_and(|most| queue.held() >= most) {
            return Ok(None);
        }
        queue.push(&message)?;
        let (queue, number) = (queue.identity(), queue.end() - 1);
        Ok(Some(JobId { queue, number, attempt: queues.next_attempt() }))
    };
    let mut nobody_waits = Ticket::default();
    let Turn { ticket, budget, .. } = &mut *call.turn;
    let ticket = if options.is_async { &mut nobody_waits } else { ticket };
    let Some(id) = target.create(ticket, budget.passing(push))? else {
        return Err("MAXLEN Queue is already longer than the specified MAXLEN count".into());
    };
    budget.look(message.body.len());
    call.reply.simple_bytes(&id.encode());
    Ok(())
}

/// What GETJOB says before the names of queues.
struct GetOptions {
    /// The reply says how often each message has failed.
    with_counters: bool,
    count: u64,
    waits: bool,
    timeout: Timeout,
    /// The word of the first queue.
    first: usize,
}

impl GetOptions {
    fn parse(args: Args<'_>) -> Result<GetOptions, Refusal> {
        let (with_counters, waits) = (false, true);
        let mut options = GetOptions { with_counters, count: 1, waits, timeout: None, first: 1 };
        while !args.is(options.first, "from") {
            let word = options.first;
            if args.is(word, "nohang") || args.is(word, "withcounters") {
                options.waits &= !args.is(word, "nohang");
                options.with_counters |= args.is(word, "withcounters");
                options.first += 1;
                continue;
            }
            if word + 1 >= args.len() {
                return Err(SYNTAX_ERROR.into());
            }
            if args.is(word, "timeout") {
                options.timeout = milliseconds(args, word + 1)?;
            } else if args.is(word, "count") {
                let text = "ERR COUNT must be greater than zero";
                options.count = positive(args, word + 1, text)?;
            } else {
                return Err(SYNTAX_ERROR.into());
            }
            options.first += 2;
        }
        options.first += 1;
        if options.first < args.len() { Ok(options) } else { Err(SYNTAX_ERROR.into()) }
    }
}

/// GETJOB [NOHANG] [WITHCOUNTERS] [TIMEOUT ms] [COUNT n] FROM q [q ...]: leases the oldest messages
/// of the first queue, as many as there are, then of the next; waits where there are none. Fewer
/// than `n` where the reply would take more than a piece of output or the turn is over: a worker
/// asks again.
pub(super) fn getjob(call: &mut Call<'_>) -> Outcome {
    let (args, start) = (call.args, call.reply.out.len());
    let options = GetOptions::parse(args)?;
    let mut count = 0;
    if !call.is_waiting() {
        lease_ready(call, &options, start, &mut count)?;
    }
    while count == 0
        && options.waits
        && let Some(handed) = call.wait_for(args.from(options.first), options.timeout)?
    {
        let name = args.get(options.first + handed.index);
        if lease_handed(call, &options, &handed, name)? {
            count += 1;
            lease_ready(call, &options, start, &mut count)?;
        }
    }
    match usize::try_from(count).unwrap_or(usize::MAX) {
        0 => call.reply.null_array(),
        count => call.end_list(start, Vec::new(), |reply| reply.array(count)),
    }
    Ok(())
}

/// Leases what the client has been handed while it waited; false: it has gone.
fn lease_handed(
    call: &mut Call<'_>,
    options: &GetOptions,
    handed: &Handed,
    name: &[u8],
) -> Result<bool, Refusal> {
    let until = call.queues()?.clock().uptime() + call.shared.limits.lease();
    let Delivery { queue, number, attempt } = handed.delivery;
    let id = JobId { queue, number, attempt };
    let is_taken = call.take_handed(
        handed,
        |reply, message| show(reply, name, &id, message.body, options.with_counters),
        |queue, _| Ok(queue.extend(number, Lease { attempt, until })),
    )?;
    if is_taken && options.with_counters {
        let count = |queue: &mut Queue| Ok(counters(queue, number));
        let counted = call.queues()?.find_identity(queue, &mut call.turn.ticket, count);
        show_counters(call.reply, counted.ok().flatten().unwrap_or_default());
    }
    Ok(is_taken)
}

/// Leases what is there, up to COUNT messages with those that `count` counts already. What has been
/// leased must reach the client: an error behind it is none.
fn lease_ready(
    call: &mut Call<'_>,
    options: &GetOptions,
    start: usize,
    count: &mut u64,
) -> Outcome {
    let (queues, args) = (call.queues()?, call.args);
    let until = queues.clock().uptime() + call.shared.limits.lease();
    let (Turn { ticket, budget, .. }, reply) = (&mut *call.turn, &mut *call.reply);
    for name in args.from(options.first) {
        let leased = queues.find(name, ticket, |queue| {
            while *count < options.count {
                let is_full = budget.is_turn_over() || reply.out.len() - start >= OUTPUT_PIECE;
                if *count > 0 && is_full {
                    break;
                }
                let attempt = queues.next_attempt();
                let (identity, begin) = (queue.identity(), reply.out.len());
                let mut number = 0;
                let shown = queue.lease(Lease { attempt, until }, |message| {
                    number = message.sequence;
                    let id = JobId { queue: identity, number, attempt };
                    show(reply, name, &id, message.body, options.with_counters)
                });
                budget.spend(queue.take_passed());
                match shown {
                    Ok(Some(())) => *count += 1,
                    Ok(None) => break,
                    Err(error) => {
                        reply.take_back(begin);
                        return Err(error);
                    }
                }
                if options.with_counters {
                    show_counters(reply, counters(queue, number));
                }
                budget.look(reply.out.len() - begin);
            }
            Ok(())
        });
        match leased {
            Err(_) if *count > 0 => break,
            leased => drop(leased?),
        }
    }
    Ok(())
}

/// Shows a message, or what comes before its counters.
fn show(
    reply: &mut Reply,
    name: &[u8],
    id: &JobId,
    body: &[u8],
    with_counters: bool,
) -> Result<(), NoMemory> {
    reply.array(if with_counters { 7 } else { 3 });
    reply.try_bulk(name)?;
    reply.try_bulk(&id.encode())?;
    reply.try_bulk(body)
}

/// How often a message was given back, and how often its lease ran out; 0 where that cannot be
/// read.
fn counters(queue: &mut Queue, number: u64) -> [u32; 2] {
    let Failures { nacks, expiries, .. } = queue.failures(number).unwrap_or_default();
    [nacks, expiries]
}

fn show_counters(reply: &mut Reply, [nacks, expiries]: [u32; 2]) {
    for (name, count) in [(&b"nacks"[..], nacks), (b"additional-deliveries", expiries)] {
        reply.bulk(name);
        reply.count(count.into());
    }
}

/// ACKJOB, FASTACK and DELJOB id [id ...]: removes the messages, also those that other deliveries
/// hold; those of one queue go in one step. Answers how many were there.
pub(super) fn ackjob(call: &mut Call<'_>) -> Outcome {
    let all = call.args.len();
    each_queue(call, all, |queue, ids| queue.acknowledge_all(ids.iter().map(|id| id.number)))
}

/// NACK id [id ...] [SILENT|FAIL] [REASON text]: gives the messages back, to their places. Answers
/// how many were held.
pub(super) fn nack(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    let is_option = |word: &usize| ["silent", "fail", "reason"].iter().any(|it| args.is(*word, it));
    let behind_ids = (2..args.len()).find(is_option).unwrap_or(args.len());
    let (mut is_counted, mut reason, mut word) = (true, &b""[..], behind_ids);
    while word < args.len() {
        if args.is(word, "reason") && word + 1 < args.len() {
            reason = args.get(word + 1);
            word += 1;
        } else if args.is(word, "silent") || args.is(word, "fail") {
            is_counted = args.is(word, "fail");
        } else {
            return Err(SYNTAX_ERROR.into());
        }
        word += 1;
    }
    each_queue(call, behind_ids, |queue, ids| {
        ids.iter().try_fold(0, |count, &JobId { number, attempt, .. }| {
            let was_held = match is_counted {
                true => queue.fail(number, Some(attempt), Cause::Nack, reason)?,
                false => queue.give_back(number, Some(attempt)),
            };
            Ok(count + u64::from(was_held))
        })
    })
}

/// ENQUEUE id [id ...]: the same, whichever delivery holds them.
pub(super) fn enqueue(call: &mut Call<'_>) -> Outcome {
    let all = call.args.len();
    each_queue(call, all, |queue, ids| {
        Ok(ids.iter().filter(|id| queue.give_back(id.number, None)).count() as u64)
    })
}

/// WORKING id: lets the lease last as long again from now; answers how many seconds.
pub(super) fn working(call: &mut Call<'_>) -> Outcome {
    let (queues, lease) = (call.queues()?, call.shared.limits.lease());
    let JobId { queue, number, attempt } = parse_id(call.args.get(1))?;
    let until = queues.clock().uptime() + lease;
    let extend = |queue: &mut Queue| Ok(queue.extend(number, Lease { attempt, until }));
    match queues.find_identity(queue, &mut call.turn.ticket, extend)? {
        Some(true) => call.reply.count(lease.as_secs()),
        Some(false) | None => return Err(NO_JOB.into()),
    }
    Ok(())
}

pub(super) fn parse_id(text: &[u8]) -> Result<JobId, Refusal> {
    JobId::parse(text).ok_or_else(|| "BADID Invalid Job ID format.".into())
}

/// Does `work` on each queue that the ids of a request name, which end before the word `end`, with
/// its ids in the order of their numbers, and answers the sum. If one of them is no id nothing is
/// done.
fn each_queue(
    call: &mut Call<'_>,
    end: usize,
    mut work: impl FnMut(&mut Queue, &[JobId]) -> Result<u64, QueueError>,
) -> Outcome {
    let (queues, mut progress) = (call.queues()?, call.resume());
    let mut ids =
        call.args.from(1).take(end - 1).map(parse_id).collect::<Result<Vec<JobId>, Refusal>>()?;
    ids.sort_unstable_by_key(|id| (id.queue, id.number));
    let of_queues = ids.chunk_by(|one, next| one.queue == next.queue);
    for ids in of_queues.skip(usize::try_from(progress.next).unwrap_or(usize::MAX)) {
        let Turn { ticket, budget, .. } = &mut *call.turn;
        let done = queues.find_identity(ids[0].queue, ticket, |queue| {
            let is_meant = |id: &&JobId| queues.is_meant(queue, id.number, id.attempt);
            let meant: Vec<JobId> = ids.iter().filter(is_meant).copied().collect();
            let done = work(queue, &meant);
            budget.spend(queue.take_passed() + budget::LOOK * ids.len() as u64);
            done
        });
        match done {
            // It goes on with this queue in the next turn.
            Err(QueueError::Busy) => return call.pause(progress),
            done => progress.count += done?.unwrap_or(0),
        }
        progress.next += 1;
    }
    call.reply.count(progress.count);
    Ok(())
}
