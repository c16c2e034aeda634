//! RESP2 and RESP3, the protocol of Redis: requests in, replies out.
//!
//! A request is an array of bulk strings or an inline command (a line of words). The rules and the
//! error texts are those of Redis 7 (`networking.c`). This module knows the framing and no command.

mod framing;
mod inline;
mod parse;
mod reply;

pub use framing::{Cause, FramingError};
pub use parse::{Arguments, Limits, is_type, parse};
pub use reply::{Reply, Version};
