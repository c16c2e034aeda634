//! A memcached client's session: requests to either store, and the replies.
//!
//! In the key/value store this is a memcached without eviction. In the queue stores `set` pushes,
//! `add` pushes what is not queued, `get` pops one message from each queue that it names, `delete`
//! drops a queue; the commands that queues cannot have answer an error that says so. Nothing here
//! knows a socket, and nothing blocks.

mod counts;
mod expiry;
mod kv_store;
mod line;
mod open_items;
mod queue_store;
mod session;
mod statistics;

pub use counts::MemcachedCounts;
pub use session::MemcachedSession;

#[cfg(test)]
mod tests;
