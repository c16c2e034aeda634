//! Key/value store: values by key in memory, behind one lock. It knows no protocol and no disk.

mod batch;
mod error;
mod store;
mod table;

pub use batch::Batch;
pub use error::{KEY_MAX, KvError};
pub use store::{Change, Entry, Kv};
