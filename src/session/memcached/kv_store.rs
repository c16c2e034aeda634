//! memcached's commands on the key/value store.
//!
//! Replies are memcached's. Differences: nothing is evicted, so a full store refuses; `decr` writes
//! the number as it is, where memcached may leave spaces behind it.

use super::expiry::expires_ms;
use super::line::{ReplyLine, server_error};
use crate::kv::{Change, Entry, Kv, KvError};
use crate::memory;
use crate::protocol::memcached::{BadRequest, Request, Retrieval, StoreMode, TextCommand, reply};
use crate::protocol::number::parse_u64;
use crate::session::budget::Budget;
use std::borrow::Cow;

/// A time that has passed, for entries that are to go at once.
const PASSED_MS: u64 = 1;

/// Executes a command and answers its line. `max_value`: bytes that a value may grow to.
pub(super) fn execute(
    kv: &Kv,
    request: &Request<'_>,
    max_value: usize,
    budget: &mut Budget,
) -> ReplyLine {
    let done = match request.command {
        TextCommand::Store { mode, key, flags, exptime } => {
            let new = Change::Set {
                value: Cow::Borrowed(request.data),
                flags,
                expires_ms: expires_at(kv, exptime),
            };
            store(kv, mode, key, new, request.data, (max_value, budget))
        }
        TextCommand::Delete { key } => {
            Ok(if kv.delete(key) { "DELETED" } else { "NOT_FOUND" }.into())
        }
        TextCommand::Arithmetic { key, delta, decrement } => arithmetic(kv, key, delta, decrement),
        TextCommand::Touch { key, exptime } => touch(kv, key, exptime),
        TextCommand::FlushAll { delay } => {
            flush_all(kv, delay);
            Ok("OK".into())
        }
        _ => {
            let verb = request.command.verb();
            return server_error(format_args!("{verb} needs a queue store (--store disk|memory)"));
        }
    };
    done.unwrap_or_else(server_error)
}

/// Writes the value of `key` into `output`; nothing where there is none.
pub(super) fn write_value(
    kv: &Kv,
    key: &[u8],
    retrieval: Retrieval,
    output: &mut Vec<u8>,
) -> Result<(), ReplyLine> {
    let write = |entry: Entry<'_>| {
        let cas = retrieval.with_cas.then_some(entry.cas);
        reply::value(output, key, entry.flags, entry.value, cas)
    };
    let Some(exptime) = retrieval.exptime else {
        return kv.get(key, write).unwrap_or(Ok(())).map_err(server_error);
    };
    let touched = kv.update(key, |entry| match entry.map_or(Ok(()), write) {
        Ok(()) => (Change::Touch { expires_ms: expires_at(kv, exptime) }, Ok(())),
        Err(error) => (Change::Keep, Err(error)),
    });
    touched.map_err(server_error)?.map_err(server_error)
}

fn expires_at(kv: &Kv, exptime: i64) -> u64 {
    expires_ms(exptime, kv.clock().now_ms()).unwrap_or(PASSED_MS)
}

/// `new` is what the modes store that do not look at the old value's bytes.
fn store<'v>(
    kv: &Kv,
    mode: StoreMode,
    key: &[u8],
    new: Change<'v>,
    data: &[u8],
    (max_value, budget): (usize, &mut Budget),
) -> Result<ReplyLine, KvError> {
    budget.copy(data.len());
    let mut join = |old: Entry<'_>, parts: [&[u8]; 2]| {
        budget.copy(old.value.len());
        joined(old, parts, max_value)
    };
    let stored = kv.update(key, |entry| match (mode, entry) {
        (StoreMode::Set, _) | (StoreMode::Add, None) | (StoreMode::Replace, Some(_)) => {
            (new, "STORED".into())
        }
        (StoreMode::Append, Some(entry)) => join(entry, [entry.value, data]),
        (StoreMode::Prepend, Some(entry)) => join(entry, [data, entry.value]),
        (StoreMode::Cas(cas), Some(entry)) if cas == entry.cas => (new, "STORED".into()),
        (StoreMode::Cas(_), Some(_)) => (Change::Keep, "EXISTS".into()),
        (StoreMode::Cas(_), None) => (Change::Keep, "NOT_FOUND".into()),
        _ => (Change::Keep, "NOT_STORED".into()),
    });
    if stored.is_err() && mode == StoreMode::Set {
        // As where the value is too large: a reader would take the old value for the new one.
        kv.delete(key);
    }
    stored
}

/// Flags and time of expiry stay the old value's, as in memcached.
fn joined<'v>(old: Entry<'_>, parts: [&[u8]; 2], max_value: usize) -> (Change<'v>, ReplyLine) {
    if parts[0].len().saturating_add(parts[1].len()) > max_value {
        return (Change::Keep, BadRequest::TooLarge.text().into());
    }
    match memory::join(&parts) {
        Ok(value) => {
            let (value, Entry { flags, expires_ms, .. }) = (Cow::Owned(value), old);
            (Change::Set { value, flags, expires_ms }, "STORED".into())
        }
        Err(error) => (Change::Keep, server_error(error)),
    }
}

/// 64 bits: `incr` wraps around, `decr` stops at 0.
fn arithmetic(kv: &Kv, key: &[u8], delta: u64, decrement: bool) -> Result<ReplyLine, KvError> {
    kv.update(key, |entry| {
        let Some(Entry { value, flags, expires_ms, .. }) = entry else {
            return (Change::Keep, "NOT_FOUND".into());
        };
        // Programs leave spaces around a number, and so does `decr` of memcached itself.
        let Some(number) = parse_u64(value.trim_ascii()) else {
            let text = "CLIENT_ERROR cannot increment or decrement non-numeric value";
            return (Change::Keep, text.into());
        };
        let number = match decrement {
            true => number.saturating_sub(delta),
            false => number.wrapping_add(delta),
        };
        let text = number.to_string();
        let value = Cow::Owned(text.clone().into_bytes());
        (Change::Set { value, flags, expires_ms }, text.into())
    })
}

fn touch(kv: &Kv, key: &[u8], exptime: i64) -> Result<ReplyLine, KvError> {
    kv.update(key, |entry| {
        let line = if entry.is_some() { "TOUCHED" } else { "NOT_FOUND" };
        (Change::Touch { expires_ms: expires_at(kv, exptime) }, line.into())
    })
}

/// A delay is a time like `exptime`: everything stored until then goes then.
fn flush_all(kv: &Kv, delay: i64) {
    match expires_ms(delay, kv.clock().now_ms()) {
        None | Some(0) => kv.clear(),
        Some(at_ms) => kv.clear_at(at_ms),
    }
}
