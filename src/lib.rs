//! mq: durable first-in first-out queues that every Redis client and every memcached client speaks.
//!
//! ```text
//! bytes --parse--> request --execute--> reply --encode--> bytes
//!         protocol            queue / kv            protocol
//!                                |
//!                             storage          (disk queues only)
//! ```
//!
//! A module uses only modules below it in this list; `tests/tidy.rs` holds that.
//!
//! - [`server`] owns every socket, and the threads that serve clients,
//! - [`session`] is one client's state: bytes in, bytes out,
//! - [`queue`] is FIFO with membership over a store, [`kv`] the key/value store,
//! - [`protocol`] parses and encodes byte strings, and [`storage`] keeps logs in files,
//! - [`options`] is the command line of the daemon, [`memory`] reserves what clients can make
//!   large, [`logging`] writes log lines, [`clock`] is the time.
//!
//! Threads by their names:
//!
//! - `worker` serves clients, `redis` and `memcached` accept them, `commit` syncs every second if
//!   the policy asks for that, `signals` hears a second wish to stop: all of them in [`server`],
//! - `sync` syncs a queue beside others that changed in the same epoch, in [`queue`],
//! - `reaper` unlinks the files of dropped queues, in [`storage`],
//! - `log` writes log lines, in [`logging`],
//! - `housekeeping` does what no client waits for, in `main.rs`, where the main thread waits for a
//!   signal,
//! - `progress` says how far `mq-dump` has come.

pub mod clock;
pub mod kv;
pub mod logging;
pub mod memory;
pub mod options;
pub mod protocol;
pub mod queue;
pub mod server;
pub mod session;
pub mod storage;

#[cfg(test)]
#[path = "../tests/common/random.rs"]
mod random;
