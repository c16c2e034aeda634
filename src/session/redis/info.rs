//! INFO: the daemon in numbers, in sections of `name:value` lines.
//!
//! Clients read a few of these by name: `redis_version`, `loading`, `role`, `connected_clients`.

use super::dispatch::Context;
use super::keyspace;
use super::request::{Args, Outcome};
use crate::protocol::resp::Reply;
use crate::session::{Shared, Store};
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

/// The version of Redis whose replies these are: clients decide by it what to send. `mq_version` is
/// the daemon's own.
pub(super) const REDIS_VERSION: &str = "7.2.0";

/// Names and values.
type Lines = Vec<(&'static str, String)>;

type Section = fn(&Shared) -> Lines;

/// Title and content of each section.
const SECTIONS: [(&str, Section); 7] = [
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("Keyspace", keys),
];

/// INFO [section ...]: without a name, or with `all`, `default` or `everything`, all sections.
pub(super) fn info(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let names = [b"all".as_slice(), b"default", b"everything"];
    let is_any = |word: &[u8]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
    let wants_all = args.len() == 1 || args.from(1).any(is_any);
    let mut text = String::new();
    for (title, lines) in SECTIONS {
        if !wants_all && !args.from(1).any(|word| word.eq_ignore_ascii_case(title.as_bytes())) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        text.push_str(&format!("# {title}\r\n"));
        for (name, value) in lines(context.shared) {
            text.push_str(&format!("{name}:{value}\r\n"));
        }
    }
    reply.verbatim(text.as_bytes());
    Ok(())
}

fn line(name: &'static str, value: impl Display) -> (&'static str, String) {
    (name, value.to_string())
}

fn count(name: &'static str, counter: &AtomicU64) -> (&'static str, String) {
    line(name, counter.load(Ordering::Relaxed))
}

fn server(shared: &Shared) -> Lines {
    let settings = &shared.settings;
    let uptime_s = shared.store.clock().uptime().as_secs();
    vec![
        line("redis_version", REDIS_VERSION),
        line("mq_version", env!("CARGO_PKG_VERSION")),
        line("mq_store", settings.store),
        line("redis_mode", "standalone"),
        line("os", std::env::consts::OS),
        line("arch_bits", usize::BITS),
        line("process_id", std::process::id()),
        line("tcp_port", settings.redis_port),
        line("memcached_port", settings.memcached_port),
        line("uptime_in_seconds", uptime_s),
        line("uptime_in_days", uptime_s / 86_400),
    ]
}

fn clients(shared: &Shared) -> Lines {
    vec![
        count("connected_clients", &shared.statistics.connections_now),
        line("maxclients", shared.limits.max_clients.load(Ordering::Relaxed)),
        line("blocked_clients", 0),
    ]
}

/// Bytes of messages or values, and of their bookkeeping where the store counts it.
fn memory(shared: &Shared) -> Lines {
    let used = match &shared.store {
        Store::Queues(queues) => {
            let counters = queues.statistics();
            let used = counters.iter().find(|(name, _)| *name == "memory_used_bytes");
            used.map_or(0, |(_, bytes)| *bytes)
        }
        Store::Kv(kv) => kv.bytes(),
    };
    vec![
        line("used_memory", used),
        line("maxmemory", shared.store.max_memory()),
        line("maxmemory_policy", "noeviction"),
    ]
}

fn persistence(shared: &Shared) -> Lines {
    let is_disk = shared.settings.store == "disk";
    vec![
        line("loading", 0),
        line("aof_enabled", u8::from(is_disk)),
        line("appendfsync", shared.settings.fsync),
    ]
}

fn stats(shared: &Shared) -> Lines {
    let statistics = &shared.statistics;
    let mut lines = vec![
        count("total_connections_received", &statistics.connections_total),
        count("total_commands_processed", &statistics.commands),
        count("rejected_connections", &statistics.connections_refused),
        line("evicted_keys", 0),
    ];
    if let Store::Queues(queues) = &shared.store {
        let counters = queues.statistics();
        lines.extend(counters.into_iter().map(|(name, value)| line(name, value)));
    }
    lines
}

fn replication(_shared: &Shared) -> Lines {
    vec![line("role", "master"), line("connected_slaves", 0)]
}

fn keys(shared: &Shared) -> Lines {
    match keyspace::size(shared) {
        0 => Vec::new(),
        keys => vec![line("db0", format!("keys={keys},expires=0,avg_ttl=0"))],
    }
}
