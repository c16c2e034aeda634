//! Values of the key/value store: GET, SET, MGET, MSET, APPEND, STRLEN and the counters.
//!
//! Each command decides and changes in one step under the store's lock. Client flags, which only
//! memcached sets, stay with a value that is changed and go with one that is replaced.

use super::dispatch::Context;
use super::expiry::SetOptions;
use super::request::{Args, NOT_AN_INTEGER, Outcome, Refusal};
use crate::kv::{Change, Entry, Kv};
use crate::protocol::number::{append_i64, parse_i64_canonical};
use crate::protocol::resp::Reply;
use std::borrow::Cow;

pub(super) fn get(
    kv: &Kv,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    show(kv, context, args.get(1), reply)
}

pub(super) fn mget(
    kv: &Kv,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    reply.array(args.len() - 1);
    args.from(1).try_for_each(|key| show(kv, context, key, reply))
}

fn show(kv: &Kv, context: &Context<'_>, key: &[u8], reply: &mut Reply<'_>) -> Outcome {
    context.check_room(reply, 0, "ask for fewer keys at once")?;
    if kv.get(key, |entry| reply.bulk(entry.value)).is_none() {
        reply.null();
    }
    Ok(())
}

/// SET key value [NX|XX] [GET] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL]
pub(super) fn set(
    kv: &Kv,
    _context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let options = SetOptions::parse(args, kv.clock())?;
    let stored = kv.update(args.get(1), |old| {
        if options.get {
            match old {
                Some(entry) => reply.bulk(entry.value),
                None => reply.null(),
            }
        }
        if !options.allow(old.is_some()) {
            return (Change::Keep, false);
        }
        let kept_ms = old.filter(|_| options.keep_expiry).map_or(0, |entry| entry.expires_ms);
        let expires_ms = options.expires_ms.unwrap_or(kept_ms);
        (Change::Set { value: args.get(2).into(), flags: 0, expires_ms }, true)
    })?;
    match stored {
        _ if options.get => {}
        true => reply.simple("OK"),
        false => reply.null(),
    }
    Ok(())
}

pub(super) fn setnx(
    kv: &Kv,
    _context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let stored = kv.update(args.get(1), |old| match old {
        Some(_) => (Change::Keep, false),
        None => (plain(args.get(2)), true),
    })?;
    reply.integer(i64::from(stored));
    Ok(())
}

/// MSET key value [key value ...]: the dispatcher keeps other clients out while it runs.
pub(super) fn mset(
    kv: &Kv,
    _context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    if args.len().is_multiple_of(2) {
        return Err(Refusal::arity("mset"));
    }
    for index in (1..args.len()).step_by(2) {
        kv.update(args.get(index), |_| (plain(args.get(index + 1)), ()))?;
    }
    reply.simple("OK");
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

pub(super) fn append(
    kv: &Kv,
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let (added, limit) = (args.get(2), context.shared.limits.max_message());
    let len = kv.update(args.get(1), |old| {
        let before = old.map_or(&[][..], |entry| entry.value);
        let len = before.len() + added.len();
        if len > limit {
            return (Change::Keep, None);
        }
        (changed(old, [before, added].concat()), Some(len))
    })?;
    let len = len.ok_or("ERR string exceeds maximum allowed size (--max-message)")?;
    reply.integer(to_i64(len));
    Ok(())
}

pub(super) fn strlen(
    kv: &Kv,
    _context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    reply.integer(to_i64(kv.get(args.get(1), |entry| entry.value.len()).unwrap_or(0)));
    Ok(())
}

/// Lengths in memory are far from the end of an i64.
fn to_i64(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

pub(super) fn incr(
    kv: &Kv,
    _context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    add(kv, args.get(1), 1, reply)
}

pub(super) fn decr(
    kv: &Kv,
    _context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    add(kv, args.get(1), -1, reply)
}

pub(super) fn incrby(
    kv: &Kv,
    _context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    add(kv, args.get(1), args.integer(2)?, reply)
}

pub(super) fn decrby(
    kv: &Kv,
    _context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let delta = args.integer(2)?.checked_neg().ok_or("ERR decrement would overflow")?;
    add(kv, args.get(1), delta, reply)
}

fn add(kv: &Kv, key: &[u8], delta: i64, reply: &mut Reply<'_>) -> Outcome {
    let sum = kv.update(key, |old| match sum(old, delta) {
        Ok(sum) => {
            let mut value = Vec::new();
            append_i64(&mut value, sum);
            (changed(old, value), Ok(sum))
        }
        Err(refusal) => (Change::Keep, Err(refusal)),
    })?;
    reply.integer(sum?);
    Ok(())
}

fn sum(old: Option<Entry<'_>>, delta: i64) -> Result<i64, Refusal> {
    let value = old.map_or(Some(0), |entry| parse_i64_canonical(entry.value));
    let value = value.ok_or(NOT_AN_INTEGER)?;
    value.checked_add(delta).ok_or("ERR increment or decrement would overflow".into())
}
