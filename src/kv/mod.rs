//! Key/value store: values by key in memory, behind one lock. It knows no protocol and no disk.

mod error;
mod store;
mod table;

pub use error::KvError;
pub use store::{Change, Entry, KEY_MAX, Kv};
