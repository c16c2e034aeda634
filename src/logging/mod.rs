//! Log lines on standard error.
//!
//! Every record is one line, `2026-11-23T12:30:01Z INFO  text`, whatever its text holds: control
//! characters are escaped, so that no client can forge a line. A line that cannot be written is
//! lost and nothing else happens. A panic is logged as a line as well.
//!
//! In the daemon no thread that logs waits for the reader of standard error: lines go through a
//! bounded queue to one thread that writes them ([`start_thread`]). What clients can cause at will
//! goes through [`limited`], and what lasts, such as a full disk, through [`refused`].

mod condition;
mod limit;
mod line;
mod lines;
mod panics;
mod standard_error;

pub use line::date_and_time;
pub use panics::expecting_panic;
pub use standard_error::{finish, limited, plain, refused, start, start_thread};
