//! A Redis client's session: RESP bytes in, RESP bytes out.
//!
//! Each file uses files below it only:
//!
//! 1. `session` is the seam to the server.
//! 2. `dispatch` takes the requests that `pipeline` cuts out of the input, and the locks for them;
//!    `table` is the one table of commands.
//! 3. The commands are in files by subject; `exec` is the one that runs others.
//! 4. `run` and `subcommand` find, check and run one command.
//! 5. `call` is what a command works with.
//! 6. `client` is what is remembered of a client, `command` what a command is, `request` its words.
//!
//! Replies and error texts are those of Redis 7, apart from what a queue must do differently; such
//! a place says so.

mod blocking;
mod blocking_pops;
mod call;
mod changes;
mod client;
mod client_commands;
mod client_list;
mod command;
mod config;
mod connection;
mod counts;
mod decimal;
mod dispatch;
mod docs;
mod exec;
mod expiry;
mod glob;
mod info;
mod jobs;
mod keyspace;
mod measures;
mod pipeline;
mod progress;
mod queues;
mod request;
mod run;
mod scan;
mod session;
mod sight;
mod strings;
mod subcommand;
mod table;
mod transaction;

pub use counts::CommandCounts;
pub use session::RedisSession;

#[cfg(test)]
mod tests;
