//! The directory as this process's own, for the two commands that write: locked as a daemon locks
//! it, and recovered as a daemon recovers it.

use crate::{Dump, disk_bytes};
use mq::storage::{DataDirectory, Log, StorageError};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The largest segment, as a daemon has it without options.
const SEGMENT_SIZE: u64 = 64 << 20;

impl Dump {
    /// Takes the directory's lock; with `is_strict`, damaged queues will not be opened.
    /// Returns `None` if that fails, and logs why, with `instead` if a daemon has the lock.
    pub fn own(&mut self, is_strict: bool, instead: &str) -> Option<Arc<DataDirectory>> {
        match DataDirectory::open(&self.directory, SEGMENT_SIZE, is_strict) {
            Ok(directory) => Some(Arc::new(directory)),
            Err(error @ StorageError::Locked { .. }) => {
                self.fail(format_args!("{error}; stop it first{instead}"));
                None
            }
            Err(error) => {
                self.fail(format_args!("{error}"));
                None
            }
        }
    }

    /// Recovers all queues. Returns `None` if that fails, and logs why.
    pub fn recover(&mut self, directory: &Arc<DataDirectory>) -> Option<Vec<Log>> {
        let folders = self.folders(None);
        let total = folders.iter().map(|folder| disk_bytes(&self.directory.join(folder))).sum();
        let watched = Arc::clone(directory);
        let done = move || watched.counters().read_bytes.load(Ordering::Relaxed);
        self.progress.begin("recovering", total, Box::new(done));
        let logs = directory.open_logs();
        self.progress.end();
        self.shown(logs)
    }
}
