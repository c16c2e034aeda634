//! `stats`: the daemon's counters and settings under memcached's names where it has one for them.

use crate::protocol::memcached::{Refusal, reply};
use crate::session::{Shared, Store};
use std::sync::atomic::Ordering;

/// The version of memcached whose replies these are. Clients decide by it what they can send, and
/// libmemcached takes a version that begins with 0 for a reply that it cannot read. `mq_version` is
/// the daemon's own.
pub(super) const MEMCACHED_VERSION: &str = "1.6.38";

/// Writes the lines of a group and answers the last one. Groups that memcached has and that mean
/// nothing here are empty; others are unknown, as in memcached.
pub(super) fn write(shared: &Shared, group: &[u8], output: &mut Vec<u8>) -> &'static str {
    match group {
        b"" => general(shared, output),
        b"settings" => settings(shared, output),
        b"items" | b"slabs" | b"sizes" | b"conns" | b"cachedump" => {}
        // Counters are those of the whole daemon, and count from its start.
        b"reset" => return "RESET",
        _ => return Refusal::Unknown.text(),
    }
    "END"
}

fn general(shared: &Shared, output: &mut Vec<u8>) {
    let (limits, counters) = (&shared.limits, &shared.statistics);
    let numbers = [
        ("pid", u64::from(std::process::id())),
        ("uptime", shared.store.clock().uptime().as_secs()),
        ("time", shared.store.clock().now().as_secs()),
        ("pointer_size", u64::from(usize::BITS)),
        ("max_connections", limits.max_clients.load(Ordering::Relaxed) as u64),
        ("curr_connections", counters.connections_now.load(Ordering::Relaxed)),
        ("total_connections", counters.connections_total.load(Ordering::Relaxed)),
        ("rejected_connections", counters.connections_refused.load(Ordering::Relaxed)),
        ("cmd_total", counters.commands.load(Ordering::Relaxed)),
        ("limit_maxbytes", shared.store.max_memory()),
    ];
    reply::statistic(output, "version", MEMCACHED_VERSION);
    reply::statistic(output, "mq_version", env!("CARGO_PKG_VERSION"));
    for (name, value) in numbers {
        reply::statistic(output, name, value);
    }
    match &shared.store {
        Store::Queues(queues) => {
            for (name, value) in queues.statistics() {
                reply::statistic(output, name, value);
            }
        }
        Store::Kv(kv) => {
            reply::statistic(output, "curr_items", kv.len());
            reply::statistic(output, "bytes", kv.bytes());
        }
    }
}

fn settings(shared: &Shared, output: &mut Vec<u8>) {
    let (settings, limits) = (&shared.settings, &shared.limits);
    reply::statistic(output, "maxbytes", shared.store.max_memory());
    reply::statistic(output, "maxconns", limits.max_clients.load(Ordering::Relaxed));
    reply::statistic(output, "tcpport", settings.memcached_port);
    reply::statistic(output, "item_size_max", limits.max_message());
    reply::statistic(output, "idle_timeout", limits.idle_timeout_s.load(Ordering::Relaxed));
    reply::statistic(output, "evictions", "off");
    reply::statistic(output, "cas_enabled", "yes");
    reply::statistic(output, "flush_enabled", "yes");
    reply::statistic(output, "store", settings.store);
    reply::statistic(output, "fsync", settings.fsync);
}
