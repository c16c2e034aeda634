//! Times of expiry in the key/value store: EXPIRE, TTL, PERSIST, and the options of SET.
//!
//! Times are Unix times in milliseconds; 0 = never. A time that has passed removes the entry, which
//! is the store's own rule.

use super::call::Call;
use super::request::{Args, Outcome, Refusal, SYNTAX_ERROR};
use crate::clock::Clock;
use crate::kv::{Change, Entry};
use crate::protocol::resp::Reply;
use crate::session::Store;
use crate::session::budget::Budget;

/// How a client counts a time: in what unit, and whether from now on or as a Unix time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Time {
    unit_ms: i64,
    is_absolute: bool,
}

const EX: Time = Time { unit_ms: 1000, is_absolute: false };
const PX: Time = Time { unit_ms: 1, is_absolute: false };
const EXAT: Time = Time { unit_ms: 1000, is_absolute: true };
const PXAT: Time = Time { unit_ms: 1, is_absolute: true };

impl Time {
    /// The Unix time of `count` units, in milliseconds, at least 1.
    fn of(self, count: i64, args: Args<'_>, clock: &Clock) -> Result<u64, Refusal> {
        let now_ms = i64::try_from(clock.now_ms()).unwrap_or(i64::MAX);
        let base_ms = if self.is_absolute { 0 } else { now_ms };
        let at_ms = count.checked_mul(self.unit_ms).and_then(|ms| ms.checked_add(base_ms));
        let at_ms = at_ms.ok_or_else(|| invalid_time(args))?;
        Ok(u64::try_from(at_ms).unwrap_or(0).max(1))
    }

    /// The same of the count in word `index`, which must be above 0.
    fn of_positive(self, index: usize, args: Args<'_>, clock: &Clock) -> Result<u64, Refusal> {
        match args.integer(index)? {
            ..=0 => Err(invalid_time(args)),
            count => self.of(count, args, clock),
        }
    }
}

fn invalid_time(args: Args<'_>) -> Refusal {
    format!("ERR invalid expire time in '{}' command", args.name()).into()
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
        options.expires_ms = time.map(|time| time.expires_ms(args, clock)).transpose()?;
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
    time: Time,
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
        let time = match args.option(index).as_slice() {
            b"ex" => EX,
            b"px" => PX,
            b"exat" => EXAT,
            b"pxat" => PXAT,
            _ => return Err(SYNTAX_ERROR.into()),
        };
        if index + 1 == args.len() || before.is_some_and(|before| before.time != time) {
            return Err(SYNTAX_ERROR.into());
        }
        Ok(TimeOption { time, word: index + 1 })
    }

    fn expires_ms(self, args: Args<'_>, clock: &Clock) -> Result<u64, Refusal> {
        self.time.of_positive(self.word, args, clock)
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

pub(super) fn expire(call: &mut Call<'_>) -> Outcome {
    expire_at(call, EX)
}

pub(super) fn pexpire(call: &mut Call<'_>) -> Outcome {
    expire_at(call, PX)
}

pub(super) fn expireat(call: &mut Call<'_>) -> Outcome {
    expire_at(call, EXAT)
}

pub(super) fn pexpireat(call: &mut Call<'_>) -> Outcome {
    expire_at(call, PXAT)
}

fn expire_at(call: &mut Call<'_>, time: Time) -> Outcome {
    let (kv, args) = (call.kv()?, call.args);
    let conditions = Conditions::parse(args)?;
    let new_ms = time.of(args.integer(2)?, args, kv.clock())?;
    let changed = kv.update(args.get(1), |old| match old {
        Some(entry) if conditions.hold(entry.expires_ms, new_ms) => {
            (Change::Touch { expires_ms: new_ms }, true)
        }
        _ => (Change::Keep, false),
    })?;
    call.reply.integer(i64::from(changed));
    Ok(())
}

/// SETEX key seconds value
pub(super) fn setex(call: &mut Call<'_>) -> Outcome {
    set_for(call, EX)
}

/// PSETEX key milliseconds value
pub(super) fn psetex(call: &mut Call<'_>) -> Outcome {
    set_for(call, PX)
}

fn set_for(call: &mut Call<'_>, time: Time) -> Outcome {
    let (kv, args) = (call.kv()?, call.args);
    let expires_ms = time.of_positive(2, args, kv.clock())?;
    let value = args.get(3).into();
    kv.update(args.get(1), |_| (Change::Set { value, flags: 0, expires_ms }, ()))?;
    call.reply.simple("OK");
    Ok(())
}

/// GETEX key [EX s|PX ms|EXAT s|PXAT ms|PERSIST]: answers the value and changes when it expires.
pub(super) fn getex(call: &mut Call<'_>) -> Outcome {
    let (kv, args) = (call.kv()?, call.args);
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
        Some(time) => time.expires_ms(args, kv.clock()).map(Some),
        None => Ok(persists.then_some(0)),
    };
    kv.update(args.get(1), |old| match expires_ms {
        // A time that is wrong is not looked at where there is nothing that would expire.
        Err(refusal) if old.is_some() => (Change::Keep, Err(refusal)),
        expires_ms => {
            let is_shown = show_old(old, call.reply, &mut call.turn.budget);
            let expires_ms = expires_ms.ok().flatten().filter(|_| is_shown);
            (expires_ms.map_or(Change::Keep, |expires_ms| Change::Touch { expires_ms }), Ok(()))
        }
    })?
}

/// A bulk string, or null where there is no value. Returns false if there is no memory for it, and
/// the value is to stay.
pub(super) fn show_old(old: Option<Entry<'_>>, reply: &mut Reply, budget: &mut Budget) -> bool {
    match old {
        Some(entry) => {
            budget.copy(entry.value.len());
            reply.bulk(entry.value);
        }
        None => reply.null(),
    }
    !reply.is_cut
}

pub(super) fn persist(call: &mut Call<'_>) -> Outcome {
    let changed = call.kv()?.update(call.args.get(1), |old| match old {
        Some(entry) if entry.expires_ms != 0 => (Change::Touch { expires_ms: 0 }, true),
        _ => (Change::Keep, false),
    })?;
    call.reply.integer(i64::from(changed));
    Ok(())
}

/// Seconds left, rounded; -1: it never expires, -2: there is none. A queue never expires.
pub(super) fn ttl(call: &mut Call<'_>) -> Outcome {
    answer(call, |at_ms, now_ms| seconds(at_ms.saturating_sub(now_ms)))
}

/// As TTL, in milliseconds.
pub(super) fn pttl(call: &mut Call<'_>) -> Outcome {
    answer(call, u64::saturating_sub)
}

/// As TTL, but the Unix time at which it expires.
pub(super) fn expiretime(call: &mut Call<'_>) -> Outcome {
    answer(call, |at_ms, _| seconds(at_ms))
}

/// As EXPIRETIME, in milliseconds.
pub(super) fn pexpiretime(call: &mut Call<'_>) -> Outcome {
    answer(call, |at_ms, _| at_ms)
}

fn seconds(time_ms: u64) -> u64 {
    time_ms.saturating_add(500) / 1000
}

/// Answers what `show` makes of when the key of word 1 expires, and of the time now, both in
/// milliseconds.
fn answer(call: &mut Call<'_>, show: fn(u64, u64) -> u64) -> Outcome {
    const NEVER: i64 = -1;
    const NO_KEY: i64 = -2;
    let shared = call.shared;
    let Store::Kv(kv) = &shared.store else {
        let exists = call.exists(call.args.get(1))?;
        call.reply.integer(if exists { NEVER } else { NO_KEY });
        return Ok(());
    };
    match kv.get(call.args.get(1), |entry| entry.expires_ms) {
        None => call.reply.integer(NO_KEY),
        Some(0) => call.reply.integer(NEVER),
        Some(at_ms) => call.reply.count(show(at_ms, kv.clock().now_ms())),
    }
    Ok(())
}
