//! Opening a directory beside tests that start programs.

use mq::storage::StorageError;
use std::thread;
use std::time::{Duration, Instant};

/// Only a guard against hanging.
pub const GUARD: Duration = Duration::from_secs(120);

/// Opens a directory in a process that starts programs: a child that is about to become one has,
/// for a moment, a copy of every open file, with its lock.
pub fn open<T>(open: impl Fn() -> Result<T, StorageError>) -> Result<T, StorageError> {
    let start = Instant::now();
    loop {
        match open() {
            Err(StorageError::Locked { .. }) if start.elapsed() < GUARD => thread::yield_now(),
            opened => return opened,
        }
    }
}
