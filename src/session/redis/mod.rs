//! A Redis client's session: RESP bytes in, RESP bytes out.
//!
//! `pipeline` cuts requests out of the input for [`RedisSession`]; `dispatch` looks each up in
//! `table`, the one table of commands, and runs it under the gate or queues it for `transaction`.
//! The other files are the commands themselves, by subject. Replies and error texts are those of
//! Redis 7, apart from what a queue must do differently; such a place says so.

mod call;
mod changes;
mod client;
mod client_list;
mod config;
mod connection;
mod counts;
mod decimal;
mod dispatch;
mod docs;
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
mod scan;
mod session;
mod strings;
mod table;
mod transaction;

pub use counts::CommandCounts;
pub use session::RedisSession;

#[cfg(test)]
mod tests;
