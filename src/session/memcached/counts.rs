//! What memcached's `stats` counts: commands, hits and misses.

use crate::protocol::memcached::{StoreMode, TextCommand};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start or the last reset, shared by all sessions. In a queue store a pop is a
/// hit, and a pop from an empty queue a miss.
#[derive(Debug, Default)]
pub struct MemcachedCounts {
    cmd_get: AtomicU64,
    cmd_set: AtomicU64,
    cmd_flush: AtomicU64,
    cmd_touch: AtomicU64,
    get_hits: AtomicU64,
    get_misses: AtomicU64,
    delete_hits: AtomicU64,
    delete_misses: AtomicU64,
    incr_hits: AtomicU64,
    incr_misses: AtomicU64,
    decr_hits: AtomicU64,
    decr_misses: AtomicU64,
    cas_hits: AtomicU64,
    cas_misses: AtomicU64,
    cas_badval: AtomicU64,
    touch_hits: AtomicU64,
    touch_misses: AtomicU64,
    /// What the store had come to at the last reset, for `total_items`.
    items_before: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    if count > 0 {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

impl MemcachedCounts {
    /// Notes the keys of a `get` or `gat`.
    pub(super) fn note_get(&self, hits: u64, misses: u64, has_touched: bool) {
        add(&self.cmd_get, hits + misses);
        add(&self.get_hits, hits);
        add(&self.get_misses, misses);
        if has_touched {
            add(&self.cmd_touch, hits + misses);
            add(&self.touch_hits, hits);
            add(&self.touch_misses, misses);
        }
    }

    /// Notes a command with the line that answers it.
    pub(super) fn note(&self, command: &TextCommand<'_>, line: &str) {
        let one_of = |hits, misses| match line {
            "NOT_FOUND" => add(misses, 1),
            _ if line.starts_with("CLIENT_ERROR") || line.starts_with("SERVER_ERROR") => {}
            _ => add(hits, 1),
        };
        match command {
            TextCommand::Store { mode, .. } => {
                add(&self.cmd_set, 1);
                match (mode, line) {
                    (StoreMode::Cas(_), "EXISTS") => add(&self.cas_badval, 1),
                    (StoreMode::Cas(_), _) => one_of(&self.cas_hits, &self.cas_misses),
                    _ => {}
                }
            }
            TextCommand::Delete { .. } => one_of(&self.delete_hits, &self.delete_misses),
            TextCommand::Arithmetic { decrement: true, .. } => {
                one_of(&self.decr_hits, &self.decr_misses);
            }
            TextCommand::Arithmetic { .. } => one_of(&self.incr_hits, &self.incr_misses),
            TextCommand::Touch { .. } => {
                add(&self.cmd_touch, 1);
                one_of(&self.touch_hits, &self.touch_misses);
            }
            TextCommand::FlushAll { .. } => add(&self.cmd_flush, 1),
            _ => {}
        }
    }

    /// Each counter under memcached's name.
    fn counters(&self) -> [(&'static str, &AtomicU64); 17] {
        [
            ("cmd_get", &self.cmd_get),
            ("cmd_set", &self.cmd_set),
            ("cmd_flush", &self.cmd_flush),
            ("cmd_touch", &self.cmd_touch),
            ("get_hits", &self.get_hits),
            ("get_misses", &self.get_misses),
            ("delete_hits", &self.delete_hits),
            ("delete_misses", &self.delete_misses),
            ("incr_hits", &self.incr_hits),
            ("incr_misses", &self.incr_misses),
            ("decr_hits", &self.decr_hits),
            ("decr_misses", &self.decr_misses),
            ("cas_hits", &self.cas_hits),
            ("cas_misses", &self.cas_misses),
            ("cas_badval", &self.cas_badval),
            ("touch_hits", &self.touch_hits),
            ("touch_misses", &self.touch_misses),
        ]
    }

    /// Each count under memcached's name. The store has come to `items`, over both protocols.
    pub(super) fn list(&self, items: u64) -> impl Iterator<Item = (&'static str, u64)> {
        let total = items.saturating_sub(self.items_before.load(Ordering::Relaxed));
        let counts = self.counters().map(|(name, counter)| (name, counter.load(Ordering::Relaxed)));
        counts.into_iter().chain([("total_items", total)])
    }

    /// Counts from here on. The store has come to `items`.
    pub(in crate::session) fn reset(&self, items: u64) {
        self.items_before.store(items, Ordering::Relaxed);
        self.counters().into_iter().for_each(|(_, counter)| counter.store(0, Ordering::Relaxed));
    }
}
