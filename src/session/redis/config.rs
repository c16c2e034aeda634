//! CONFIG: what the daemon was started with, and what of it may change while it runs, under the
//! names that Redis's clients know where Redis has the setting.
//!
//! What is set holds until the next start. Sizes take `k`, `m` and `g` as on the command line:
//! powers of 1024, with or without a `b` behind.

use super::call::{Call, Subcommand, subcommand};
use super::glob::{Glob, TOO_LONG};
use super::request::{Args, Outcome, Refusal, SYNTAX_ERROR};
use crate::memory;
use crate::protocol::number::{parse_i64, parse_size, parse_u64};
use crate::queue::Limits;
use crate::session::budget::Budget;
use crate::session::settings::{
    CLIENTS, IDLE_SECONDS, LEASE_SECONDS, MEMORY_SIZES, MESSAGE_SIZES, OUTPUT_SIZES, QUEUES,
};
use crate::session::{Shared, Store};
use log::LevelFilter;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

pub(super) const SUBCOMMANDS: &[Subcommand] = &[
    subcommand("get", -3, get, "<pattern> ...: Show the settings that match."),
    subcommand(
        "resetstat",
        2,
        resetstat,
        ": Reset the counters of INFO and stats, not those of queues.",
    ),
    subcommand("rewrite", 2, rewrite, ": Fail; there is no config file."),
    subcommand("set", -4, set, "<name> <value> ...: Change settings until the next start."),
];

/// Steps of all patterns of a CONFIG GET, which is done in one turn: some milliseconds.
const PATTERN_STEPS: u64 = 20_000;

/// One setting.
struct Setting {
    /// In small letters.
    name: &'static str,
    show: fn(&Shared) -> String,
    /// Whether and how it changes.
    change: Change,
}

/// How a setting changes while the daemon runs.
enum Change {
    /// It does not.
    Never,
    /// To a number of this range.
    Number(fn(&Shared) -> RangeInclusive<u64>, fn(&Shared, u64)),
    /// To a number of bytes of this range.
    Size(RangeInclusive<u64>, fn(&Shared, u64)),
    /// To a level of log lines.
    Level,
}

/// A change that has been found right, to be made when all of a command's have been.
type Ready = Box<dyn FnOnce(&Shared)>;

impl Change {
    /// The change to `value`, or why there is none.
    fn to(&self, shared: &Shared, value: &[u8]) -> Result<Ready, String> {
        let (number, range, apply) = match self {
            // It has been refused for its name.
            Change::Never => return Ok(Box::new(|_| ())),
            Change::Level => {
                let level = level(value).ok_or(UNKNOWN_LEVEL)?;
                return Ok(Box::new(move |_| log::set_max_level(level)));
            }
            Change::Number(..) if parse_i64(value).is_none() && parse_u64(value).is_none() => {
                return Err("argument couldn't be parsed into an integer".into());
            }
            Change::Number(range, apply) => (parse_u64(value), range(shared), *apply),
            Change::Size(range, apply) => (parse_size(value), range.clone(), *apply),
        };
        let unit = if let Change::Size(..) = self { ", bytes or as 16m" } else { "" };
        let number = number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (start, end) = (range.start(), range.end());
            format!("argument must be between {start} and {end} inclusive{unit}")
        })?;
        Ok(Box::new(move |shared| apply(shared, number)))
    }
}

const UNKNOWN_LEVEL: &str = "argument(s) must be one of the following: error, warn, info, debug";

/// A level of log lines under the daemon's names or Redis's.
fn level(name: &[u8]) -> Option<LevelFilter> {
    let start = name.get(..16).unwrap_or(name);
    Some(match start.to_ascii_lowercase().as_slice() {
        b"error" => LevelFilter::Error,
        b"warn" | b"warning" => LevelFilter::Warn,
        b"info" | b"notice" => LevelFilter::Info,
        b"debug" | b"verbose" => LevelFilter::Debug,
        _ => return None,
    })
}

const fn fixed(name: &'static str, show: fn(&Shared) -> String) -> Setting {
    Setting { name, show, change: Change::Never }
}

/// As many clients as the open files of the process allow.
fn clients(shared: &Shared) -> RangeInclusive<u64> {
    *CLIENTS.start()..=(shared.settings.room_for_clients as u64).min(*CLIENTS.end())
}

/// The settings of every store.
static SETTINGS: &[Setting] = &[
    fixed("appendfsync", |shared| match shared.settings.fsync {
        "never" => "no".into(),
        policy => policy.into(),
    }),
    fixed("appendonly", |shared| if shared.settings.store == "disk" { "yes" } else { "no" }.into()),
    fixed("databases", |_| "1".into()),
    fixed("dir", |shared| shared.settings.directory.clone()),
    Setting {
        name: "loglevel",
        show: |_| log::max_level().as_str().to_ascii_lowercase(),
        change: Change::Level,
    },
    Setting {
        name: "maxclients",
        show: |shared| shared.limits.max_clients().to_string(),
        change: Change::Number(clients, |shared, count| {
            shared.limits.max_clients.store(count as usize, Ordering::Relaxed);
        }),
    },
    Setting {
        name: "max-output",
        show: |shared| shared.limits.max_output().to_string(),
        change: Change::Size(OUTPUT_SIZES, |shared, bytes| {
            shared.limits.max_output.store(bytes as usize, Ordering::Relaxed);
        }),
    },
    fixed("maxmemory-policy", |_| "noeviction".into()),
    fixed("port", |shared| shared.settings.redis_port.to_string()),
    Setting {
        name: "proto-max-bulk-len",
        show: |shared| shared.limits.max_message().to_string(),
        change: Change::Size(MESSAGE_SIZES, |shared, bytes| {
            shared.limits.max_message.store(bytes as usize, Ordering::Relaxed);
        }),
    },
    fixed("save", |_| String::new()),
    Setting {
        name: "timeout",
        show: |shared| shared.limits.idle_timeout_s.load(Ordering::Relaxed).to_string(),
        change: Change::Number(
            |_| IDLE_SECONDS,
            |shared, seconds| shared.limits.idle_timeout_s.store(seconds, Ordering::Relaxed),
        ),
    },
];

/// The settings of a store in memory, and of one that is not, beside these.
static MEMORY_SETTINGS: [&[Setting]; 2] = [
    &[Setting {
        name: "maxmemory",
        show: |shared| shared.store.max_memory().to_string(),
        change: Change::Size(MEMORY_SIZES, |shared, bytes| shared.store.set_max_memory(bytes)),
    }],
    &[fixed("maxmemory", |_| "0".into())],
];

/// The settings of the queue stores beside these.
static QUEUE_SETTINGS: &[Setting] = &[
    Setting {
        name: "lease",
        show: |shared| shared.limits.lease().as_secs().to_string(),
        change: Change::Number(
            |_| LEASE_SECONDS,
            |shared, seconds| shared.limits.lease_s.store(seconds, Ordering::Relaxed),
        ),
    },
    Setting {
        name: "max-queue-len",
        show: |shared| queue_limits(shared).map_or(0, |limits| limits.max_queue_len).to_string(),
        change: Change::Number(
            |_| 0..=u64::MAX,
            |shared, count| {
                let max_queue_len = if count == 0 { u64::MAX } else { count };
                change_queue_limits(shared, |limits| Limits { max_queue_len, ..limits });
            },
        ),
    },
    Setting {
        name: "max-queues",
        show: |shared| queue_limits(shared).map_or(0, |limits| limits.max_queues).to_string(),
        change: Change::Number(
            |_| QUEUES,
            |shared, count| {
                change_queue_limits(shared, |limits| Limits {
                    max_queues: count as usize,
                    ..limits
                });
            },
        ),
    },
];

fn queue_limits(shared: &Shared) -> Option<Limits> {
    let Store::Queues(queues) = &shared.store else { return None };
    let limits = queues.limits();
    // No limit is written 0, as on the command line.
    let max_queue_len = if limits.max_queue_len == u64::MAX { 0 } else { limits.max_queue_len };
    Some(Limits { max_queue_len, ..limits })
}

fn change_queue_limits(shared: &Shared, change: impl FnOnce(Limits) -> Limits) {
    if let Store::Queues(queues) = &shared.store {
        queues.set_limits(change(queues.limits()));
    }
}

/// The settings of this daemon's store, in the order of names.
fn settings(shared: &Shared) -> Vec<&'static Setting> {
    let of_queues = match shared.store {
        Store::Queues(_) => QUEUE_SETTINGS,
        Store::Kv(_) => &[],
    };
    let of_memory = MEMORY_SETTINGS[usize::from(shared.store.max_memory() == 0)];
    let mut settings: Vec<_> = SETTINGS.iter().chain(of_memory).chain(of_queues).collect();
    settings.sort_unstable_by_key(|setting| setting.name);
    settings
}

/// CONFIG GET pattern [pattern ...]: each setting once, whichever patterns match it.
fn get(call: &mut Call<'_>) -> Outcome {
    let settings = settings(call.shared);
    let mut budget = Budget::at_once(PATTERN_STEPS);
    let chosen = choose(&settings, call.args, &mut budget);
    call.turn.budget.spend(PATTERN_STEPS - budget.left());
    let chosen = chosen?;
    call.reply.map(chosen.iter().filter(|is_chosen| **is_chosen).count());
    for (setting, _) in settings.iter().zip(chosen).filter(|(_, is_chosen)| *is_chosen) {
        call.reply.bulk(setting.name.as_bytes());
        call.reply.bulk((setting.show)(call.shared).as_bytes());
    }
    Ok(())
}

/// Whether each of the settings matches one of the patterns.
fn choose(
    settings: &[&Setting],
    args: Args<'_>,
    budget: &mut Budget,
) -> Result<Vec<bool>, Refusal> {
    let mut chosen = vec![false; settings.len()];
    for word in args.from(2) {
        let mut pattern = memory::join(&[word])?;
        pattern.make_ascii_lowercase();
        for (setting, is_chosen) in settings.iter().zip(&mut chosen) {
            let (pattern, name) = (Glob::new(&pattern), setting.name.as_bytes());
            *is_chosen = *is_chosen || pattern.matches(name, budget)?;
        }
        if budget.is_used_up() {
            return Err(TOO_LONG.into());
        }
    }
    Ok(chosen)
}

/// CONFIG SET name value [name value ...]: all of them, or none where one is wrong.
fn set(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    if !args.len().is_multiple_of(2) {
        return Err(SYNTAX_ERROR.into());
    }
    let failed = |word: &[u8], reason: &str| {
        let text = "ERR CONFIG SET failed (possibly related to argument '";
        Refusal::quoting(text, word, &format!("') - {reason}"))
    };
    let known = settings(call.shared);
    let (mut named, mut changes) = (Vec::<&Setting>::new(), Vec::new());
    // All names are found right before any value is looked at.
    for index in (2..args.len()).step_by(2) {
        let word = args.get(index);
        let setting =
            known.iter().find(|setting| args.is(index, setting.name)).ok_or_else(|| {
                let text = "ERR Unknown option or number of arguments for CONFIG SET - '";
                Refusal::quoting(text, word, "'")
            })?;
        if matches!(setting.change, Change::Never) {
            return Err(failed(word, "can't set immutable config"));
        }
        if named.iter().any(|named| named.name == setting.name) {
            return Err(failed(word, "duplicate parameter"));
        }
        memory::reserve(&mut named, 1)?;
        named.push(setting);
    }
    for (setting, index) in named.into_iter().zip((2..).step_by(2)) {
        let change = setting.change.to(call.shared, args.get(index + 1));
        memory::reserve(&mut changes, 1)?;
        changes.push(change.map_err(|reason| failed(args.get(index), &reason))?);
    }
    changes.into_iter().for_each(|change| change(call.shared));
    call.reply.simple("OK");
    Ok(())
}

fn resetstat(call: &mut Call<'_>) -> Outcome {
    // What this client has asked before it counts no more either.
    call.client.tally.flush(call.shared, call.shared.store.clock().uptime());
    call.shared.reset_statistics();
    call.reply.simple("OK");
    Ok(())
}

fn rewrite(_call: &mut Call<'_>) -> Outcome {
    Err("ERR The server is running without a config file".into())
}
