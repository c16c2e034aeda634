//! `stats`: the daemon's counters and settings under memcached's names where it has one for them.

use crate::protocol::memcached::{BadRequest, Keys, reply};
use crate::queue::Sums;
use crate::session::{Shared, Store, queue_list};
use std::sync::atomic::Ordering;

/// The version of memcached whose replies these are. Clients decide by it what they can send, and
/// libmemcached takes a version that begins with 0 for a reply that it cannot read. `mq_version` is
/// the daemon's own.
pub(super) const MEMCACHED_VERSION: &str = "1.6.38";

/// Whether a group is about all queues: then they are added up before.
pub(super) fn needs_sums(group: &[u8]) -> bool {
    matches!(group, b"" | b"items" | b"slabs")
}

/// Writes the lines of a group and answers the last one. Groups that memcached has and that mean
/// nothing here are empty; others are unknown, as in memcached.
pub(super) fn write(
    shared: &Shared,
    sums: &Sums,
    group: &[u8],
    mut words: Keys<'_>,
    output: &mut Vec<u8>,
) -> &'static str {
    match group {
        b"" => general(shared, sums, output),
        b"settings" => settings(shared, output),
        b"items" => items(shared, sums, output),
        b"queues" => queue_lines(shared, words, output),
        b"slabs" => {
            reply::statistic(output, "active_slabs", 0);
            reply::statistic(output, "total_malloced", bytes(shared, sums));
        }
        b"sizes" => reply::statistic(output, "sizes_status", "disabled"),
        b"cachedump" if words.next().is_none() => return "CLIENT_ERROR bad command line",
        b"conns" | b"cachedump" => {}
        // What begins keys is not counted.
        b"detail" => match words.next() {
            Some(b"on" | b"off") => return "OK",
            Some(b"dump") => {}
            _ => return "CLIENT_ERROR usage: stats detail on|off|dump",
        },
        b"reset" => {
            shared.reset_statistics();
            return "RESET";
        }
        _ => return BadRequest::Unknown.text(),
    }
    "END"
}

fn general(shared: &Shared, sums: &Sums, output: &mut Vec<u8>) {
    let (settings, limits) = (&shared.settings, &shared.limits);
    let counters = &shared.statistics;
    let numbers = [
        ("pid", u64::from(std::process::id())),
        ("uptime", shared.store.clock().uptime().as_secs()),
        ("time", shared.store.clock().now().as_secs()),
        ("threads", settings.workers as u64),
        ("pointer_size", u64::from(usize::BITS)),
        ("max_connections", limits.max_clients.load(Ordering::Relaxed) as u64),
        ("curr_connections", counters.connections_now.load(Ordering::Relaxed)),
        ("total_connections", counters.connections_total.load(Ordering::Relaxed)),
        ("rejected_connections", counters.connections_refused.load(Ordering::Relaxed)),
        ("bytes_read", counters.traffic.received.load(Ordering::Relaxed)),
        ("bytes_written", counters.traffic.sent.load(Ordering::Relaxed)),
        ("cmd_total", counters.commands.load(Ordering::Relaxed)),
        ("limit_maxbytes", shared.store.max_memory()),
    ];
    reply::statistic(output, "version", MEMCACHED_VERSION);
    reply::statistic(output, "mq_version", env!("CARGO_PKG_VERSION"));
    for (name, value) in numbers {
        reply::statistic(output, name, value);
    }
    for (name, value) in counters.memcached.list(shared.store.items_come()) {
        reply::statistic(output, name, value);
    }
    reply::statistic(output, "curr_items", item_count(shared, sums));
    reply::statistic(output, "bytes", bytes(shared, sums));
    reply::statistic(output, "evictions", 0);
    if let Store::Queues(queues) = &shared.store {
        for (name, value) in queues.statistics(sums) {
            reply::statistic(output, name, value);
        }
    }
}

/// Messages or values.
fn item_count(shared: &Shared, sums: &Sums) -> u64 {
    match &shared.store {
        Store::Queues(_) => sums.messages,
        Store::Kv(kv) => kv.len() as u64,
    }
}

/// Their bytes, with their bookkeeping where the store counts it.
fn bytes(shared: &Shared, sums: &Sums) -> u64 {
    match &shared.store {
        Store::Queues(_) => sums.bytes,
        Store::Kv(kv) => kv.bytes(),
    }
}

/// memcached sorts its items by size into classes; here all are in one. What nobody knows is left
/// out: the oldest age would take a look at every queue.
fn items(shared: &Shared, sums: &Sums, output: &mut Vec<u8>) {
    let count = item_count(shared, sums);
    if count > 0 {
        reply::statistic(output, "items:1:number", count);
        for name in ["evicted", "evicted_time", "reclaimed"] {
            reply::statistic(output, &format!("items:1:{name}"), 0);
        }
    }
}

/// The queues of these names, or the oldest ones where there are no names.
fn queue_lines(shared: &Shared, names: Keys<'_>, output: &mut Vec<u8>) {
    let Store::Queues(queues) = &shared.store else { return };
    for (name, figures) in queue_list::list(queues, names) {
        let mut line = |what: &str, value: u64| {
            reply::statistic(output, &format!("queue_{name}_{what}"), value);
        };
        let Ok(figures) = figures else {
            line("closed", 1);
            continue;
        };
        line("items", figures.length);
        line("leased", figures.leased);
        line("bytes", figures.bytes);
        line("disk_bytes", figures.disk_bytes);
        if let Some(age_ms) = figures.oldest_age_ms {
            line("age_ms", age_ms);
        }
        line("total_items", figures.totals.came);
        line("taken_items", figures.totals.went);
        line("expired_items", figures.totals.expired);
        if figures.is_closed {
            line("closed", 1);
        }
    }
}

fn settings(shared: &Shared, output: &mut Vec<u8>) {
    let (settings, limits) = (&shared.settings, &shared.limits);
    reply::statistic(output, "maxbytes", shared.store.max_memory());
    reply::statistic(output, "maxconns", limits.max_clients.load(Ordering::Relaxed));
    reply::statistic(output, "tcpport", settings.memcached_port);
    reply::statistic(output, "num_threads", settings.workers);
    reply::statistic(output, "item_size_max", limits.max_message());
    reply::statistic(output, "idle_timeout", limits.idle_timeout_s.load(Ordering::Relaxed));
    reply::statistic(output, "evictions", "off");
    reply::statistic(output, "cas_enabled", "yes");
    reply::statistic(output, "flush_enabled", "yes");
    reply::statistic(output, "store", settings.store);
    reply::statistic(output, "fsync", settings.fsync);
}
