//! Times of expiry in the key/value store: EXPIRE, TTL, PERSIST, and the options of SET.
//!
//! Times are Unix times in milliseconds; 0 = never. A time that has passed removes the entry, which
//! is the store's own rule.

use super::context::Context;
use super::request::{Args, Outcome, Refusal, SYNTAX_ERROR};
use super::strings::show_old;
use crate::clock::Clock;
use crate::kv::{Change, Kv};
use crate::protocol::resp::Reply;
use crate::session::Store;

/// Milliseconds of what a client counts in.
const SECOND: i64 = 1000;
const MILLISECOND: i64 = 1;

/// The time as clients' numbers are: signed.
fn now(clock: &Clock) -> i64 {
    i64::try_from(clock.now_ms()).unwrap_or(i64::MAX)
}

/// The Unix time `count` units after `base_ms`, in milliseconds, at least 1; None: out of range.
fn deadline_ms(count: i64, unit_ms: i64, base_ms: i64) -> Option<u64> {
    let at_ms = count.checked_mul(unit_ms)?.checked_add(base_ms)?;
    Some(u64::try_from(at_ms).unwrap_or(0).max(1))
}

fn invalid_time(command: &str) -> Refusal {
    format!("ERR invalid expire time in '{command}' command").into()
}

/// The options of SET.
#[derive(Default)]
pub(super) struct SetOptions {
    pub get: bool,
    pub keep_expiry: bool,
    pub expires_ms: Option<u64>,
    /// NX: only where there is no entry. XX: only where there is one.
    only_new: bool,
    only_old: bool,
}

impl SetOptions {
    /// The options of `SET key value ...`, from word 3 on.
    pub fn parse(args: Args<'_>, clock: &Clock) -> Result<SetOptions, Refusal> {
        let (mut options, mut time) = (SetOptions::default(), None);
        let mut index = 3;
        while index < args.len() {
            if args.is(index, "nx") && !options.only_old {
                options.only_new = true;
            } else if args.is(index, "xx") && !options.only_new {
                options.only_old = true;
            } else if args.is(index, "get") {
                options.get = true;
            } else if args.is(index, "keepttl") && time.is_none() {
                options.keep_expiry = true;
            } else if !options.keep_expiry {
                time = Some(TimeOption::read(time, args, index)?);
                index += 1;
            } else {
                return Err(SYNTAX_ERROR.into());
            }
            index += 1;
        }
        options.expires_ms = time.map(|time| time.expires_ms("set", args, clock)).transpose()?;
        Ok(options)
    }

    /// Whether to set where there is an entry, or none.
    pub fn allow(&self, is_old: bool) -> bool {
        if is_old { !self.only_new } else { !self.only_old }
    }
}

/// `EX s`, `PX ms`, `EXAT s` or `PXAT ms`. The one that is given may be given again, and the last
/// one counts.
#[derive(Clone, Copy)]
struct TimeOption {
    unit_ms: i64,
    is_absolute: bool,
    /// The word that is its value, which is read when all options are known.
    word: usize,
}

impl TimeOption {
    /// The option at `index`, if it may stand behind the one `before`.
    fn read(
        before: Option<TimeOption>,
        args: Args<'_>,
        index: usize,
    ) -> Result<TimeOption, Refusal> {
        let (unit_ms, is_absolute) = match args.option(index).as_slice() {
            b"ex" => (SECOND, false),
            b"px" => (MILLISECOND, false),
            b"exat" => (SECOND, true),
            b"pxat" => (MILLISECOND, true),
            _ => return Err(SYNTAX_ERROR.into()),
        };
        let is_same =
            |before: TimeOption| (before.unit_ms, before.is_absolute) == (unit_ms, is_absolute);
        if index + 1 == args.len() || !before.is_none_or(is_same) {
            return Err(SYNTAX_ERROR.into());
        }
        Ok(TimeOption { unit_ms, is_absolute, word: index + 1 })
    }

    fn expires_ms(
        self,
        command: &'static str,
        args: Args<'_>,
        clock: &Clock,
    ) -> Result<u64, Refusal> {
        let base_ms = if self.is_absolute { 0 } else { now(clock) };
        Time { command, unit_ms: self.unit_ms, base_ms }.of_positive(args.integer(self.word)?)
    }
}

/// Conditions of EXPIRE: all that are given must hold.
#[derive(Default)]
struct Conditions {
    none: bool,
    some: bool,
    later: bool,
    earlier: bool,
}

impl Conditions {
    fn parse(args: Args<'_>) -> Result<Conditions, Refusal> {
        let mut conditions = Conditions::default();
        for index in 3..args.len() {
            let condition = match args.option(index).as_slice() {
                b"nx" => &mut conditions.none,
                b"xx" => &mut conditions.some,
                b"gt" => &mut conditions.later,
                b"lt" => &mut conditions.earlier,
                _ => {
                    return Err(Refusal::quoting("ERR Unsupported option ", args.get(index), ""));
                }
            };
            *condition = true;
        }
        let Conditions { none, some, later, earlier } = conditions;
        if none && (some || later || earlier) {
            return Err(
                "ERR NX and XX, GT or LT options at the same time are not compatible".into()
            );
        }
        if later && earlier {
            return Err("ERR GT and LT options at the same time are not compatible".into());
        }
        Ok(conditions)
    }

    /// Whether an entry that expires at `old_ms` may expire at `new_ms`; never is later than all.
    fn hold(&self, old_ms: u64, new_ms: u64) -> bool {
        let old_end_ms = if old_ms == 0 { u64::MAX } else { old_ms };
        !(self.none && old_ms != 0
            || self.some && old_ms == 0
            || self.later && new_ms <= old_end_ms
            || self.earlier && new_ms >= old_end_ms)
    }
}

pub(super) fn expire(
    kv: &Kv,
    _context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    expire_at(
        kv,
        Time { command: "expire", unit_ms: SECOND, base_ms: now(kv.clock()) },
        args,
        reply,
    )
}

pub(super) fn pexpire(
    kv: &Kv,
    _context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    expire_at(
        kv,
        Time { command: "pexpire", unit_ms: MILLISECOND, base_ms: now(kv.clock()) },
        args,
        reply,
    )
}

pub(super) fn expireat(
    kv: &Kv,
    _context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    expire_at(kv, Time { command: "expireat", unit_ms: SECOND, base_ms: 0 }, args, reply)
}

pub(super) fn pexpireat(
    kv: &Kv,
    _context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    expire_at(kv, Time { command: "pexpireat", unit_ms: MILLISECOND, base_ms: 0 }, args, reply)
}

/// How a command counts its time.
struct Time {
    command: &'static str,
    unit_ms: i64,
    base_ms: i64,
}

impl Time {
    /// The time of `count` units, in milliseconds.
    fn of(&self, count: i64) -> Result<u64, Refusal> {
        let at_ms = deadline_ms(count, self.unit_ms, self.base_ms);
        at_ms.ok_or_else(|| invalid_time(self.command))
    }

    /// The same, where it must be after the beginning.
    fn of_positive(&self, count: i64) -> Result<u64, Refusal> {
        if count <= 0 {
            return Err(invalid_time(self.command));
        }
        self.of(count)
    }
}

fn expire_at(kv: &Kv, time: Time, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let conditions = Conditions::parse(args)?;
    let new_ms = time.of(args.integer(2)?)?;
    let changed = kv.update(args.get(1), |old| match old {
        Some(entry) if conditions.hold(entry.expires_ms, new_ms) => {
            (Change::Touch { expires_ms: new_ms }, true)
        }
        _ => (Change::Keep, false),
    })?;
    reply.integer(i64::from(changed));
    Ok(())
}

/// SETEX key seconds value
pub(super) fn setex(
    kv: &Kv,
    _context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    set_for(kv, Time { command: "setex", unit_ms: SECOND, base_ms: now(kv.clock()) }, args, reply)
}

/// PSETEX key milliseconds value
pub(super) fn psetex(
    kv: &Kv,
    _context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    set_for(
        kv,
        Time { command: "psetex", unit_ms: MILLISECOND, base_ms: now(kv.clock()) },
        args,
        reply,
    )
}

fn set_for(kv: &Kv, time: Time, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let expires_ms = time.of_positive(args.integer(2)?)?;
    let value = args.get(3).into();
    kv.update(args.get(1), |_| (Change::Set { value, flags: 0, expires_ms }, ()))?;
    reply.simple("OK");
    Ok(())
}

/// GETEX key [EX s|PX ms|EXAT s|PXAT ms|PERSIST]: answers the value and changes when it expires.
pub(super) fn getex(
    kv: &Kv,
    _context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let (mut time, mut persists, mut index) = (None, false, 2);
    while index < args.len() {
        if args.is(index, "persist") && time.is_none() {
            persists = true;
            index += 1;
        } else if !persists {
            time = Some(TimeOption::read(time, args, index)?);
            index += 2;
        } else {
            return Err(SYNTAX_ERROR.into());
        }
    }
    let expires_ms = match time {
        Some(time) => time.expires_ms("getex", args, kv.clock()).map(Some),
        None => Ok(persists.then_some(0)),
    };
    kv.update(args.get(1), |old| match expires_ms {
        // A time that is wrong is not looked at where there is nothing that would expire.
        Err(refusal) if old.is_some() => (Change::Keep, Err(refusal)),
        expires_ms => {
            let is_shown = show_old(old, reply);
            let expires_ms = expires_ms.ok().flatten().filter(|_| is_shown);
            (expires_ms.map_or(Change::Keep, |expires_ms| Change::Touch { expires_ms }), Ok(()))
        }
    })?
}

pub(super) fn persist(
    kv: &Kv,
    _context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let changed = kv.update(args.get(1), |old| match old {
        Some(entry) if entry.expires_ms != 0 => (Change::Touch { expires_ms: 0 }, true),
        _ => (Change::Keep, false),
    })?;
    reply.integer(i64::from(changed));
    Ok(())
}

/// Seconds left, rounded; -1: it never expires, -2: there is none. A queue never expires.
pub(super) fn ttl(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let left_ms = expiry(context, args)?.map(|(at_ms, now_ms)| at_ms.saturating_sub(now_ms));
    reply.integer(left_ms.map_or_else(|none| none, seconds));
    Ok(())
}

/// As TTL, in milliseconds.
pub(super) fn pttl(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let left_ms = expiry(context, args)?.map(|(at_ms, now_ms)| at_ms.saturating_sub(now_ms));
    reply.integer(left_ms.map_or_else(|none| none, to_i64));
    Ok(())
}

/// As TTL, but the Unix time at which it expires.
pub(super) fn expiretime(
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let at_ms = expiry(context, args)?.map(|(at_ms, _)| at_ms);
    reply.integer(at_ms.map_or_else(|none| none, seconds));
    Ok(())
}

/// As EXPIRETIME, in milliseconds.
pub(super) fn pexpiretime(
    context: &mut Context<'_>,
    args: Args<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let at_ms = expiry(context, args)?.map(|(at_ms, _)| at_ms);
    reply.integer(at_ms.map_or_else(|none| none, to_i64));
    Ok(())
}

/// When the key of word 1 expires, and the time now, in milliseconds; or what to answer where it
/// never does, or is not there.
fn expiry(context: &mut Context<'_>, args: Args<'_>) -> Result<Result<(u64, u64), i64>, Refusal> {
    const NEVER: i64 = -1;
    const NO_KEY: i64 = -2;
    let Store::Kv(kv) = &context.shared.store else {
        let exists = context.exists(args.get(1))?;
        return Ok(Err(if exists { NEVER } else { NO_KEY }));
    };
    Ok(match kv.get(args.get(1), |entry| entry.expires_ms) {
        None => Err(NO_KEY),
        Some(0) => Err(NEVER),
        Some(at_ms) => Ok((at_ms, kv.clock().now_ms())),
    })
}

fn seconds(time_ms: u64) -> i64 {
    to_i64(time_ms.saturating_add(500) / 1000)
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
