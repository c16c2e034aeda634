//! The text protocol of memcached, its classic commands: lines in, some with a data block behind.
//!
//! The grammar and the error texts are those of memcached 1.6 (`protocol.txt`), with the ancestor's
//! `scard` and `sismember` beside them. One command has one reply: what follows a data block, or a
//! line that announced one, is never taken for a command by mistake. This module knows the wire
//! format and no store.

mod block;
mod line;
mod parse;
pub mod reply;
mod request;
mod words;

pub use block::is_storage;
pub use line::set_key;
pub use parse::{Fatal, Found, Progress, parse};
pub use request::{BadRequest, Keys, Request, Retrieval, StoreMode, TextCommand};
