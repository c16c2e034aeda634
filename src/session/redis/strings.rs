//! Values of the key/value store: GET, SET, MGET, MSET, APPEND, STRLEN and the counters.
//!
//! Each command decides and changes in one step under the store's lock. Client flags, which only
//! memcached sets, stay with a value that is changed and go with one that is replaced.

use super::call::Call;
use super::decimal::{Decimal, Fault};
use super::expiry::{SetOptions, show_old};
use super::request::{Again, NOT_AN_INTEGER, Outcome, Refusal};
use crate::kv::{Batch, Change, Entry};
use crate::memory::{self, NoMemory};
use crate::protocol::number::{append_i64, parse_i64_canonical};
use std::borrow::Cow;

pub(super) fn get(call: &mut Call<'_>) -> Outcome {
    show(call, 0, call.args.get(1))
}

pub(super) fn mget(call: &mut Call<'_>) -> Outcome {
    let (mut progress, start) = (call.resume(), call.reply.out.len());
    let is_done = call
        .each_key(&mut progress, |call, key, progress| show(call, progress.elements.len(), key))?;
    if !is_done {
        return call.pause_list(progress, start);
    }
    let count = call.args.len() - 1;
    call.end_list(start, progress.elements, |reply| reply.array(count));
    Ok(())
}

/// Shows a value behind the bytes of a reply that have been `kept` from earlier turns.
fn show(call: &mut Call<'_>, kept: usize, key: &[u8]) -> Outcome {
    call.check_room(kept as u64, "ask for fewer keys at once")?;
    let length = call.kv()?.get(key, |entry| {
        call.reply.bulk(entry.value);
        entry.value.len()
    });
    match length {
        Some(length) => call.turn.budget.copy(length),
        None => call.reply.null(),
    }
    Ok(())
}

/// SET key value [NX|XX] [GET] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL]
pub(super) fn set(call: &mut Call<'_>) -> Outcome {
    let (kv, args) = (call.kv()?, call.args);
    let options = SetOptions::parse(args, kv.clock())?;
    let stored = kv.update(args.get(1), |old| {
        let is_refused = options.get && !show_old(old, call.reply, &mut call.turn.budget);
        if is_refused || !options.allow(old.is_some()) {
            return (Change::Keep, false);
        }
        let kept_ms = old.filter(|_| options.keep_expiry).map_or(0, |entry| entry.expires_ms);
        let expires_ms = options.expires_ms.unwrap_or(kept_ms);
        (Change::Set { value: args.get(2).into(), flags: 0, expires_ms }, true)
    })?;
    match stored {
        _ if options.get => {}
        true => call.reply.simple("OK"),
        false => call.reply.null(),
    }
    Ok(())
}

pub(super) fn setnx(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    let stored = call.kv()?.update(args.get(1), |old| match old {
        Some(_) => (Change::Keep, false),
        None => (plain(args.get(2)), true),
    })?;
    call.reply.integer(i64::from(stored));
    Ok(())
}

/// MSET key value [key value ...]: one moment for all others, whom the dispatcher keeps out.
pub(super) fn mset(call: &mut Call<'_>) -> Outcome {
    set_all(call, false)?;
    call.reply.simple("OK");
    Ok(())
}

/// MSETNX key value [key value ...]: all of them, or none where one of the keys has a value.
pub(super) fn msetnx(call: &mut Call<'_>) -> Outcome {
    let is_set = set_all(call, true)?;
    call.reply.integer(i64::from(is_set));
    Ok(())
}

fn set_all(call: &mut Call<'_>, only_new: bool) -> Result<bool, Refusal> {
    copy_pairs(call)?;
    let batch = call.client.batch.take().unwrap_or_default();
    let Some(replaced) = call.kv()?.set_all(batch, only_new)? else { return Ok(false) };
    if call.turn.budget.pauses() {
        call.client.replaced = replaced;
        // It was the others who waited.
        call.turn.budget.spend(u64::MAX);
    }
    Ok(true)
}

/// Copies the keys and values of MSET and MSETNX as far as the turn goes. The dispatcher calls this
/// until all are copied, and keeps others out only then: 120 MB take 60 ms to copy.
pub(super) fn copy_pairs(call: &mut Call<'_>) -> Outcome {
    let Call { client, turn, args, .. } = call;
    if args.len().is_multiple_of(2) {
        return Err(Refusal::arity(&args.name()));
    }
    let count = args.len() / 2;
    let mut batch = client.batch.take().map_or_else(|| Batch::with_room(count), Ok)?;
    while batch.added() < count && !turn.budget.is_turn_over() {
        let word = 1 + 2 * batch.added();
        let (key, value) = (args.get(word), args.get(word + 1));
        batch.add(key, value)?;
        turn.budget.look(key.len() + value.len());
    }
    let is_whole = batch.added() == count;
    client.batch = Some(batch);
    if is_whole { Ok(()) } else { Err(Refusal::again(Again::NextTurn)) }
}

/// GETSET key value: answers the old value.
pub(super) fn getset(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    call.kv()?.update(args.get(1), |old| {
        let is_shown = show_old(old, call.reply, &mut call.turn.budget);
        (if is_shown { plain(args.get(2)) } else { Change::Keep }, ())
    })?;
    Ok(())
}

/// GETDEL key: answers the value and removes it.
pub(super) fn getdel(call: &mut Call<'_>) -> Outcome {
    call.kv()?.update(call.args.get(1), |old| {
        let is_shown = show_old(old, call.reply, &mut call.turn.budget);
        (if is_shown { Change::Delete } else { Change::Keep }, ())
    })?;
    Ok(())
}

fn plain(value: &[u8]) -> Change<'_> {
    Change::Set { value: value.into(), flags: 0, expires_ms: 0 }
}

/// A changed value with the flags and the time of expiry of the one before.
fn changed(old: Option<Entry<'_>>, value: Vec<u8>) -> Change<'static> {
    let (flags, expires_ms) = old.map_or((0, 0), |entry| (entry.flags, entry.expires_ms));
    Change::Set { value: Cow::Owned(value), flags, expires_ms }
}

/// The same with the length of the new value, or why there is none.
fn grown(
    old: Option<Entry<'_>>,
    value: Result<Vec<u8>, Refusal>,
) -> (Change<'static>, Result<usize, Refusal>) {
    match value {
        Ok(value) => {
            let len = value.len();
            (changed(old, value), Ok(len))
        }
        Err(refusal) => (Change::Keep, Err(refusal)),
    }
}

pub(super) fn append(call: &mut Call<'_>) -> Outcome {
    let (kv, args) = (call.kv()?, call.args);
    let (added, limit) = (args.get(2), call.shared.limits.max_message());
    let len = kv.update(args.get(1), |old| {
        let before = old.map_or(&[][..], |entry| entry.value);
        let is_long = before.len() + added.len() > limit;
        let joined = || memory::join(&[before, added]).map_err(Refusal::from);
        grown(old, if is_long { Err(TOO_LONG.into()) } else { joined() })
    })?;
    show_length(call, len?);
    Ok(())
}

/// Answers the length of a value that has been copied to be changed.
fn show_length(call: &mut Call<'_>, len: usize) {
    call.turn.budget.copy(len);
    call.reply.count(len as u64);
}

/// SETRANGE key offset value: writes over the value from `offset` on, behind zeros where it is
/// shorter; answers its length.
pub(super) fn setrange(call: &mut Call<'_>) -> Outcome {
    let (kv, args, limit) = (call.kv()?, call.args, call.shared.limits.max_message());
    let (offset, part) = (args.integer(2)?, args.get(3));
    let offset = usize::try_from(offset).map_err(|_| "ERR offset is out of range")?;
    let len = kv.update(args.get(1), |old| {
        let before = old.map_or(&[][..], |entry| entry.value);
        if part.is_empty() {
            return (Change::Keep, Ok(before.len()));
        }
        let is_long = offset.saturating_add(part.len()) > limit;
        let written = || written_over(before, offset, part).map_err(Refusal::from);
        grown(old, if is_long { Err(TOO_LONG.into()) } else { written() })
    })?;
    show_length(call, len?);
    Ok(())
}

fn written_over(before: &[u8], offset: usize, part: &[u8]) -> Result<Vec<u8>, NoMemory> {
    let (mut value, end) = (Vec::new(), offset + part.len());
    memory::reserve(&mut value, before.len().max(end))?;
    value.extend_from_slice(before);
    value.resize(before.len().max(end), 0);
    value[offset..end].copy_from_slice(part);
    Ok(value)
}

const TOO_LONG: &str = "ERR string exceeds maximum allowed size (--max-message)";

/// GETRANGE key start end: both count, and from the end where they are negative.
pub(super) fn getrange(call: &mut Call<'_>) -> Outcome {
    let (kv, args) = (call.kv()?, call.args);
    let (start, end) = (args.integer(2)?, args.integer(3)?);
    call.check_room(0, "use a smaller transaction")?;
    let shown = kv.get(args.get(1), |entry| {
        let len = i64::try_from(entry.value.len()).unwrap_or(i64::MAX);
        let from_start = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
        let (start, end) = (from_start(start).max(0), from_start(end).max(0).min(len - 1));
        // What is out of range or the wrong way round is empty.
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let part = range.and_then(|(start, end)| entry.value.get(start..=end)).unwrap_or_default();
        call.turn.budget.copy(part.len());
        call.reply.bulk(part);
    });
    if shown.is_none() {
        call.reply.bulk(b"");
    }
    Ok(())
}

pub(super) fn strlen(call: &mut Call<'_>) -> Outcome {
    let length = call.kv()?.get(call.args.get(1), |entry| entry.value.len());
    call.reply.count(length.unwrap_or(0) as u64);
    Ok(())
}

pub(super) fn incr(call: &mut Call<'_>) -> Outcome {
    add(call, 1)
}

pub(super) fn decr(call: &mut Call<'_>) -> Outcome {
    add(call, -1)
}

pub(super) fn incrby(call: &mut Call<'_>) -> Outcome {
    add(call, call.args.integer(2)?)
}

pub(super) fn decrby(call: &mut Call<'_>) -> Outcome {
    let delta = call.args.integer(2)?.checked_neg().ok_or("ERR decrement would overflow")?;
    add(call, delta)
}

/// INCRBYFLOAT key increment: exact, to 17 digits behind the point as Redis shows them.
pub(super) fn incrbyfloat(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    let sum = call.kv()?.update(args.get(1), |old| match float_sum(old, args.get(2)) {
        Ok(sum) => (changed(old, sum.clone().into_bytes()), Ok(sum)),
        Err(refusal) => (Change::Keep, Err(refusal)),
    })?;
    call.reply.bulk(sum?.as_bytes());
    Ok(())
}

fn float_sum(old: Option<Entry<'_>>, delta: &[u8]) -> Result<String, Refusal> {
    let value = old.map_or(Ok(Decimal::default()), |entry| Decimal::parse(entry.value));
    let sum = value.and_then(|value| value.add(Decimal::parse(delta)?));
    Ok(sum.map(|sum| sum.to_string()).map_err(|fault| match fault {
        Fault::NotANumber => "ERR value is not a valid float",
        Fault::Infinite => "ERR increment would produce NaN or Infinity",
    })?)
}

fn add(call: &mut Call<'_>, delta: i64) -> Outcome {
    let sum = call.kv()?.update(call.args.get(1), |old| match sum(old, delta) {
        Ok(sum) => {
            let mut value = Vec::new();
            append_i64(&mut value, sum);
            (changed(old, value), Ok(sum))
        }
        Err(refusal) => (Change::Keep, Err(refusal)),
    })?;
    call.reply.integer(sum?);
    Ok(())
}

fn sum(old: Option<Entry<'_>>, delta: i64) -> Result<i64, Refusal> {
    let value = old.map_or(Some(0), |entry| parse_i64_canonical(entry.value));
    let value = value.ok_or(NOT_AN_INTEGER)?;
    value.checked_add(delta).ok_or("ERR increment or decrement would overflow".into())
}
