//! INFO: the daemon in numbers, in sections of `name:value` lines.
//!
//! Clients read a few of these by name: `redis_version`, `loading`, `role`, `connected_clients`.

use super::call::Call;
use super::counts::Counted;
use super::request::Outcome;
use crate::queue::{Figures, Sums, Totals};
use crate::session::process::ProcessMemory;
use crate::session::{Shared, Store, queue_list};
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

/// The version of Redis whose replies these are: clients decide by it what to send. `mq_version` is
/// the daemon's own.
pub(super) const REDIS_VERSION: &str = "7.2.0";

/// Names and values.
type Lines = Vec<(&'static str, String)>;

/// What a section shows.
enum Section {
    /// This.
    Plain(fn(&Shared) -> Lines),
    /// What all queues come to is in it, so they are added up before.
    Summed(fn(&Shared, &Sums) -> Lines),
}
use Section::{Plain, Summed};

/// Title and content of each section that is shown without being named.
const SECTIONS: [(&str, Section); 8] = [
    ("Server", Plain(server)),
    ("Clients", Plain(clients)),
    ("Memory", Plain(memory)),
    ("Persistence", Plain(persistence)),
    ("Stats", Summed(stats)),
    ("Replication", Plain(replication)),
    ("Cluster", Plain(|_| vec![line("cluster_enabled", 0)])),
    ("Keyspace", Summed(keys)),
];

/// INFO [section ...]: without a name, or with `default`, all sections above, and with `all` or
/// `everything` also `commandstats`. `INFO queues [name ...]` is for itself; behind another section
/// `queues` has no names.
pub(super) fn info(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    // The requests before this one in the same read count too.
    call.client.tally.flush(call.shared, call.shared.store.clock().uptime());
    if args.is(1, "queues") {
        return show(vec![("Queues", queue_lines(call.shared, args.from(2)))], call);
    }
    let names = |word: &str| args.from(1).any(|name| name.eq_ignore_ascii_case(word.as_bytes()));
    let wants_more = names("all") || names("everything");
    let wants_all = args.len() == 1 || names("default") || wants_more;
    let wanted = SECTIONS.iter().filter(|(title, _)| wants_all || names(title));
    let mut progress = call.resume();
    let is_summed = wanted.clone().any(|(_, section)| matches!(section, Summed(_)));
    if is_summed && !call.add_up(&mut progress.sums) {
        return call.pause(progress);
    }
    let (shared, sums) = (call.shared, &progress.sums);
    let lines = |section: &Section| match section {
        Plain(lines) => lines(shared),
        Summed(lines) => lines(shared, sums),
    };
    let mut sections: Vec<_> =
        wanted.map(|(title, section)| (*title, named(lines(section)))).collect();
    if wants_more || names("commandstats") {
        sections.push(("Commandstats", command_lines(call)));
    }
    if names("queues") {
        sections.push(("Queues", queue_lines(call.shared, std::iter::empty())));
    }
    show(sections, call)
}

fn show(sections: Vec<(&str, Vec<String>)>, call: &mut Call<'_>) -> Outcome {
    let section = |(title, lines): (&str, Vec<String>)| format!("# {title}\r\n{}", lines.concat());
    let text = sections.into_iter().map(section).collect::<Vec<_>>().join("\r\n");
    call.check_room(text.len() as u64, "ask for fewer queues")?;
    call.reply.verbatim(text.as_bytes());
    Ok(())
}

fn named(lines: Lines) -> Vec<String> {
    lines.into_iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect()
}

/// How often each command was called, and what time that took.
fn command_lines(call: &Call<'_>) -> Vec<String> {
    let line = |Counted { name, calls, failed, rejected, taken_ns }| {
        let (taken_us, hundredths) = (taken_ns / 1000, taken_ns / 10 / calls.max(1));
        format!(
            "cmdstat_{name}:calls={calls},usec={taken_us},usec_per_call={}.{:02},\
             rejected_calls={rejected},failed_calls={failed}\r\n",
            hundredths / 100,
            hundredths % 100
        )
    };
    let commands = call.turn.table.iter().map(|entry| &entry.command);
    call.shared.statistics.redis.list(commands).map(line).collect()
}

/// A line for each of the queues with these names, or for the oldest ones if there are no names.
fn queue_lines<'a>(shared: &Shared, names: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let Store::Queues(queues) = &shared.store else { return Vec::new() };
    let line = |(name, figures)| match figures {
        Ok(Figures {
            length, leased, bytes, disk_bytes, oldest_age_ms, totals, is_closed, ..
        }) => {
            let Totals { came, went, expired } = totals;
            let age = oldest_age_ms.map_or(String::new(), |age| format!(",oldest_age_ms={age}"));
            let closed = if is_closed { ",closed=1" } else { "" };
            format!(
                "queue_{name}:length={length},leased={leased},bytes={bytes},\
                 disk_bytes={disk_bytes}{age},in={came},out={went},expired={expired}{closed}\r\n"
            )
        }
        Err(_) => format!("queue_{name}:closed=1\r\n"),
    };
    queue_list::list(queues, names).into_iter().map(line).collect()
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
        line("blocked_clients", shared.store.waiting()),
    ]
}

/// Bytes of messages or values and of their bookkeeping; with the disk store, which does not count
/// them, the process's own memory.
fn memory(shared: &Shared) -> Lines {
    let process = shared.settings.process_memory.map_or(ProcessMemory::default(), |tell| tell());
    let used = match &shared.store {
        Store::Queues(queues) => queues.memory().map_or(process.own, |(used, _)| used),
        Store::Kv(kv) => kv.bytes(),
    };
    vec![
        line("used_memory", used),
        line("used_memory_rss", process.resident),
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

fn stats(shared: &Shared, sums: &Sums) -> Lines {
    let statistics = &shared.statistics;
    let mut lines = vec![
        count("total_connections_received", &statistics.connections_total),
        count("total_commands_processed", &statistics.commands),
        count("total_net_input_bytes", &statistics.traffic.received),
        count("total_net_output_bytes", &statistics.traffic.sent),
        count("rejected_connections", &statistics.connections_refused),
        line("total_error_replies", statistics.redis.errors()),
        line("evicted_keys", 0),
    ];
    if let Store::Queues(queues) = &shared.store {
        let counters = queues.statistics(sums);
        lines.extend(counters.into_iter().map(|(name, value)| line(name, value)));
    }
    lines
}

fn replication(_shared: &Shared) -> Lines {
    vec![line("role", "master"), line("connected_slaves", 0)]
}

fn keys(shared: &Shared, sums: &Sums) -> Lines {
    let (keys, (expires, ttl_ms)) = match &shared.store {
        Store::Queues(_) => (sums.queues, (0, 0)),
        Store::Kv(kv) => (kv.len() as u64, kv.expiring()),
    };
    match keys {
        0 => Vec::new(),
        keys => vec![line("db0", format!("keys={keys},expires={expires},avg_ttl={ttl_ms}"))],
    }
}
