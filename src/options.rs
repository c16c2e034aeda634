//! The command line: arguments in, options out.
//!
//! Names and defaults are fixed by the documentation, and the usage text shows the defaults that
//! the parser uses. Nothing here prints, opens or binds anything.

use crate::queue::Policy;
use crate::session::settings::{
    CLIENTS, IDLE_SECONDS, LEASE_SECONDS, MEMORY_SIZES, MESSAGE_SIZES, OUTPUT_SIZES, QUEUES,
};
use getopts::Matches;
use log::LevelFilter;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Where messages are kept (`--store`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// Queues in files.
    Disk,
    /// Queues in memory.
    Memory,
    /// Keys and values in memory.
    Kv,
}

/// What the daemon is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Serve.
    Run(Box<Options>),
    /// Print this text and end.
    Help(String),
    /// Print the version and end.
    Version,
}

/// Everything that the command line decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where messages are kept.
    pub store: StoreKind,
    /// The disk store's directory.
    pub directory: PathBuf,
    /// Address of the Redis listener, `host:port`, or `None` if it is off.
    pub redis: Option<String>,
    /// Address of the memcached listener, `host:port`, or `None` if it is off.
    pub memcached: Option<String>,
    /// When changes are made durable.
    pub fsync: Policy,
    /// Largest segment of a log, in bytes.
    pub segment_size: u64,
    /// Largest message or value, in bytes.
    pub max_message: usize,
    /// Threads that serve clients.
    pub workers: usize,
    /// Most clients at a time, over both listeners. `None` is [`DEFAULT_MAX_CLIENTS`], or fewer
    /// where the limit of open files is lower.
    pub max_clients: Option<usize>,
    /// How long a client may be idle, or `None` if for ever.
    pub idle_timeout: Option<Duration>,
    /// Most output that is kept for one client that does not read, in bytes.
    pub max_output: usize,
    /// Most queues.
    pub max_queues: usize,
    /// Most messages in a queue, or `None` if there is no limit.
    pub max_queue_len: Option<u64>,
    /// Most memory of the memory and kv stores, in bytes.
    pub max_memory: u64,
    /// How long a worker may have a message before it comes back.
    pub lease: Duration,
    /// Refuse to start on damaged files.
    pub strict: bool,
    /// Log lines of this level and above. With `None`, `MQ_LOG` decides.
    pub log: Option<LevelFilter>,
}

const STORE: &str = "disk";
const DIRECTORY: &str = "./mq-data";
const REDIS: &str = "127.0.0.1:4000";
const MEMCACHED: &str = "127.0.0.1:4001";
const FSYNC: &str = "always";
const SEGMENT_SIZE: &str = "64m";
const MAX_MESSAGE: &str = "16m";
const WORKERS: &str = "1";
/// Clients at a time where the command line says nothing and the limit of open files allows it.
pub const DEFAULT_MAX_CLIENTS: usize = 10_000;
const IDLE_TIMEOUT_S: &str = "0";
const MAX_OUTPUT: &str = "32m";
const MAX_QUEUES: &str = "10000";
const MAX_QUEUE_LEN: &str = "0";
const MAX_MEMORY: &str = "1g";
const LEASE_S: &str = "300";
const LOG: &str = "info";

const STORES: [(&str, StoreKind); 3] =
    [("disk", StoreKind::Disk), ("memory", StoreKind::Memory), ("kv", StoreKind::Kv)];
const POLICIES: [(&str, Policy); 3] =
    [("always", Policy::Always), ("everysec", Policy::EverySecond), ("never", Policy::Never)];
const LEVELS: [(&str, LevelFilter); 4] = [
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
];

const SEGMENT_SIZES: RangeInclusive<u64> = 64 << 10..=1 << 30;
const WORKER_COUNTS: RangeInclusive<u64> = 1..=1024;

/// Parses the arguments after the program's name. An error is one line for standard error.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, String> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // The parser would call it an option.
    if let Some(other) = arguments.iter().find(|argument| argument.to_str().is_none()) {
        return Err(one_line(&format!("not UTF-8: {}", other.display())));
    }
    let given = declare().parse(arguments).map_err(|mistake| one_line(&mistake.to_string()))?;
    if given.opt_present("help") {
        return Ok(Invocation::Help(usage()));
    }
    if given.opt_present("version") {
        return Ok(Invocation::Version);
    }
    if let Some(extra) = given.free.first() {
        return Err(format!("unexpected argument \"{}\"", one_line(extra)));
    }
    options(&given).map(|options| Invocation::Run(Box::new(options)))
}

/// A mistake may repeat what was given: it is made one line that is safe to show.
fn one_line(mistake: &str) -> String {
    let mut line = String::with_capacity(mistake.len());
    for character in mistake.chars() {
        match character {
            ' '..='~' => line.push(character),
            _ => line.extend(character.escape_default()),
        }
    }
    line
}

/// The level of log lines: `--log` first, then the environment's `MQ_LOG`, then the default.
pub fn log_level(
    option: Option<LevelFilter>,
    environment: Option<&str>,
) -> Result<LevelFilter, String> {
    match option {
        Some(level) => Ok(level),
        None => {
            let given = environment.filter(|level| !level.is_empty());
            choice("MQ_LOG", given.unwrap_or(LOG), &LEVELS)
        }
    }
}

impl Options {
    /// `--store` as it is written on the command line.
    pub fn store_name(&self) -> &'static str {
        name_of(self.store, &STORES)
    }

    /// `--fsync` as it is written on the command line.
    pub fn fsync_name(&self) -> &'static str {
        name_of(self.fsync, &POLICIES)
    }
}

fn declare() -> getopts::Options {
    let mut options = getopts::Options::new();
    let with_value = [
        "store",
        "dir",
        "redis",
        "memcached",
        "fsync",
        "segment-size",
        "max-message",
        "workers",
        "max-clients",
        "idle-timeout",
        "max-output",
        "max-queues",
        "max-queue-len",
        "max-memory",
        "lease",
        "log",
    ];
    for name in with_value {
        options.optopt("", name, "", "");
    }
    options.optflag("", "strict", "");
    options.optflag("h", "help", "");
    options.optflag("V", "version", "");
    options
}

fn options(given: &Matches) -> Result<Options, String> {
    let text = |name: &str, default: &str| given.opt_str(name).unwrap_or(default.into());
    let number = |name: &str, default: &str, range| number(name, &text(name, default), range);
    let idle_s = number("idle-timeout", IDLE_TIMEOUT_S, IDLE_SECONDS)?;
    let clients = match given.opt_present("max-clients") {
        true => Some(number("max-clients", "", CLIENTS)? as usize),
        false => None,
    };
    let options = Options {
        store: choice("--store", &text("store", STORE), &STORES)?,
        directory: text("dir", DIRECTORY).into(),
        redis: address("redis", &text("redis", REDIS))?,
        memcached: address("memcached", &text("memcached", MEMCACHED))?,
        fsync: choice("--fsync", &text("fsync", FSYNC), &POLICIES)?,
        segment_size: size("segment-size", &text("segment-size", SEGMENT_SIZE), SEGMENT_SIZES)?,
        max_message: size("max-message", &text("max-message", MAX_MESSAGE), MESSAGE_SIZES)?
            as usize,
        workers: number("workers", WORKERS, WORKER_COUNTS)? as usize,
        max_clients: clients,
        idle_timeout: (idle_s > 0).then(|| Duration::from_secs(idle_s)),
        max_output: size("max-output", &text("max-output", MAX_OUTPUT), OUTPUT_SIZES)? as usize,
        max_queues: number("max-queues", MAX_QUEUES, QUEUES)? as usize,
        max_queue_len: Some(number("max-queue-len", MAX_QUEUE_LEN, 0..=u64::MAX)?)
            .filter(|&n| n > 0),
        max_memory: size("max-memory", &text("max-memory", MAX_MEMORY), MEMORY_SIZES)?,
        lease: Duration::from_secs(number("lease", LEASE_S, LEASE_SECONDS)?),
        strict: given.opt_present("strict"),
        log: given.opt_str("log").map(|text| choice("--log", &text, &LEVELS)).transpose()?,
    };
    if options.redis.is_none() && options.memcached.is_none() {
        return Err("--redis and --memcached are both off: there is nothing to serve".into());
    }
    if options.directory.as_os_str().is_empty() {
        return Err("--dir wants a directory".into());
    }
    Ok(options)
}

/// The value that `text` names in a table of names.
fn choice<T: Copy>(name: &str, text: &str, table: &[(&str, T)]) -> Result<T, String> {
    let found = table.iter().find(|(known, _)| *known == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = table.iter().map(|(known, _)| *known).collect();
        format!("{name} is one of {}, not \"{}\"", known.join(", "), one_line(text))
    })
}

/// The name of `value` in a table of names.
fn name_of<T: PartialEq>(value: T, table: &[(&'static str, T)]) -> &'static str {
    table.iter().find(|(_, known)| *known == value).map_or("", |(name, _)| name)
}

fn address(name: &str, text: &str) -> Result<Option<String>, String> {
    if text == "off" {
        return Ok(None);
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(Some(text.into()))
        }
        _ => Err(format!("--{name} is host:port or off, not \"{}\"", one_line(text))),
    }
}

fn number(name: &str, text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let value = digits(text).filter(|value| range.contains(value));
    value.ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        format!("--{name} is a number from {least} to {most}, not \"{}\"", one_line(text))
    })
}

/// A number of bytes: digits, then perhaps one of k, m and g, which are powers of 1024.
fn size(name: &str, text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let (number, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let bytes = digits(number).and_then(|number| number.checked_mul(1 << shift));
    bytes.filter(|bytes| range.contains(bytes)).ok_or_else(|| {
        let (least, most) = (shown_size(*range.start()), shown_size(*range.end()));
        let text = one_line(text);
        format!("--{name} is a size from {least} to {most}, in bytes or as in 16m, not \"{text}\"")
    })
}

/// A size as it can be given: with the largest unit that divides it.
fn shown_size(bytes: u64) -> String {
    let units = [(30, "g"), (20, "m"), (10, "k")];
    let unit = units.into_iter().find(|(shift, _)| bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// Only digits: what `parse` takes beside them, a plus sign, is a mistake here.
fn digits(text: &str) -> Option<u64> {
    let all = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| all)
}

fn usage() -> String {
    format!(
        "\
mqd: durable first-in first-out queues for every Redis and memcached client.

usage: mqd [options]

  --store disk|memory|kv    where messages are kept ({STORE}); kv: keys and values, in memory
  --dir DIR                 directory of the disk store ({DIRECTORY})
  --redis ADDR|off          Redis listener ({REDIS})
  --memcached ADDR|off      memcached listener ({MEMCACHED})
  --fsync always|everysec|never
                            when changes are synced to disk ({FSYNC}: before the reply)
  --segment-size BYTES      largest segment of a log ({SEGMENT_SIZE})
  --max-message BYTES       largest message or value ({MAX_MESSAGE})
  --workers N               threads that serve clients ({WORKERS})
  --max-clients N           most clients at a time ({DEFAULT_MAX_CLIENTS}, or what open files allow)
  --idle-timeout SECS       disconnect clients idle for so long ({IDLE_TIMEOUT_S}: never)
  --max-output BYTES        most output kept for a client that does not read ({MAX_OUTPUT})
  --max-queues N            most queues ({MAX_QUEUES})
  --max-queue-len N         most messages in a queue ({MAX_QUEUE_LEN}: no limit)
  --max-memory BYTES        most memory of the memory and kv stores ({MAX_MEMORY})
  --lease SECS              how long a worker may have a message before it comes back ({LEASE_S})
  --strict                  refuse to start on damaged files
  --log LEVEL               error, warn, info or debug ({LOG}; else from MQ_LOG)
  -h, --help                print this text
  -V, --version             print the version

BYTES may end in k, m or g. ADDR is host:port; port 0 takes a free one. The addresses are
printed at the start.
"
    )
}

#[cfg(test)]
mod tests;
