//! Messages on disk: the seam over a log of the storage.

use super::{Backing, Message, MessageStore, NamedStore, NewMessage, Place, QueueError, Tidied};
use crate::logging;
use crate::storage::{DataDirectory, Log, OpenedQueue, StorageError};
use crate::storage::{Failures, StepSize, SyncPoint, SyncWork};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Makes stores in one data directory.
pub struct DiskBacking {
    directory: Arc<DataDirectory>,
}

impl DiskBacking {
    /// Stores in `directory`.
    pub fn new(directory: DataDirectory) -> DiskBacking {
        DiskBacking { directory: Arc::new(directory) }
    }

    fn store(&self, log: Log) -> Box<dyn MessageStore> {
        Box::new(DiskStore { log, directory: Arc::clone(&self.directory) })
    }
}

impl Backing for DiskBacking {
    fn existing(&self) -> Result<Vec<NamedStore>, QueueError> {
        let queues = self.directory.open_queues()?.into_iter();
        // One whose name nobody knows is looked after by the directory.
        let named = queues.filter_map(|OpenedQueue { name, log }| Some((name?, log)));
        let store = |(name, log): (Vec<u8>, Result<Log, StorageError>)| {
            let store = log.map(|log| self.store(log));
            (name.into(), store.map_err(|error| QueueError::Storage(error.to_string())))
        };
        Ok(named.map(store).collect())
    }

    fn create(&self, name: &[u8]) -> Result<Box<dyn MessageStore>, QueueError> {
        Ok(self.store(self.directory.create_log(name)?))
    }

    fn watch(&self) {
        self.directory.watch();
    }

    fn settle(&self) -> Result<(), QueueError> {
        Ok(self.directory.settle_drops()?)
    }

    fn is_closed(&self) -> bool {
        self.directory.check_writable().is_err()
    }

    fn count_closed(&self) {
        self.directory.counters().closed_queues.fetch_add(1, Ordering::Relaxed);
    }

    fn give_up(&self) {
        self.directory.give_up_drops();
    }

    fn has_failed(&self) -> bool {
        self.directory.counters().failed_syncs.load(Ordering::Relaxed) > 0
    }

    fn statistics(&self) -> Vec<(&'static str, u64)> {
        self.directory.counters().list()
    }
}

impl From<StorageError> for QueueError {
    fn from(error: StorageError) -> QueueError {
        match error {
            StorageError::Full { .. } => QueueError::DiskFull(error.to_string()),
            StorageError::NoMemory(error) => QueueError::NoMemory(error),
            StorageError::NameTooLong { limit } => QueueError::NameTooLong { limit },
            other => QueueError::Storage(other.to_string()),
        }
    }
}

struct DiskStore {
    log: Log,
    directory: Arc<DataDirectory>,
}

impl MessageStore for DiskStore {
    fn len(&self) -> u64 {
        self.log.len()
    }

    fn bytes(&self) -> u64 {
        self.log.live_bytes()
    }

    fn disk_bytes(&self) -> u64 {
        self.log.segments().map(|segment| segment.size).sum()
    }

    fn take_expiring(&mut self) -> Vec<(Place, u64)> {
        self.log.take_expiring()
    }

    fn identity(&self) -> u64 {
        self.log.identity()
    }

    fn end(&self) -> u64 {
        self.log.next_sequence()
    }

    fn check_writable(&self) -> Result<(), QueueError> {
        Ok(self.log.check_writable()?)
    }

    fn push(&mut self, message: &NewMessage<'_>, pushed_ms: u64) -> Result<Place, QueueError> {
        Ok(self.log.push(message, pushed_ms)?)
    }

    fn begin_step(&mut self, size: &StepSize) -> Result<(), QueueError> {
        Ok(self.log.begin_step(size)?)
    }

    fn is_in_step(&self) -> bool {
        self.log.is_in_step()
    }

    fn end_step(&mut self) -> Result<(), QueueError> {
        Ok(self.log.end_step()?)
    }

    fn next(&mut self, from: u64) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        Ok(self.log.next(from)?)
    }

    fn take_passed(&mut self) -> u64 {
        self.log.take_passed()
    }

    fn gaps(&self) -> u64 {
        self.log.gaps()
    }

    fn numbers_above(&self) -> u64 {
        self.log.numbers_above()
    }

    fn promise_removal(&mut self, place: Place) -> Result<(), QueueError> {
        Ok(self.log.promise_removal(place)?)
    }

    fn withdraw_promise(&mut self, place: Place) {
        self.log.withdraw_promise(place);
    }

    fn withhold(&mut self, place: Place) -> Result<(), QueueError> {
        Ok(self.log.withhold(place)?)
    }

    fn put_back(&mut self, place: Place) {
        self.log.put_back(place);
    }

    fn remove(&mut self, place: Place) -> Result<(), QueueError> {
        Ok(self.log.remove(place)?)
    }

    fn failures(&mut self, place: Place) -> Result<Failures, QueueError> {
        Ok(self.log.failures(place)?)
    }

    fn note_failures(&mut self, place: Place, failures: &Failures) -> Result<(), QueueError> {
        Ok(self.log.note_failures(place, failures)?)
    }

    fn current(&self, place: Place) -> Place {
        self.log.current(place)
    }

    fn at(&mut self, place: Place) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        Ok(self.log.at(place)?)
    }

    fn find(
        &mut self,
        body: &[u8],
        wanted: &dyn Fn(&Message<'_>) -> bool,
    ) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        match self.log.prepare_find()? {
            true => Ok(self.log.find_if(body, wanted)?),
            false => Err(QueueError::NotIndexed),
        }
    }

    fn count_equal(
        &mut self,
        body: &[u8],
        from: &mut Option<u64>,
        most: u64,
    ) -> Result<u64, QueueError> {
        match self.log.prepare_find()? {
            true => Ok(self.log.count_equal(body, from, most)?),
            false => Err(QueueError::NotIndexed),
        }
    }

    fn prepare_find(&mut self) -> Result<bool, QueueError> {
        Ok(self.log.prepare_find()?)
    }

    fn is_dirty(&self) -> bool {
        self.log.is_dirty()
    }

    fn begin_sync(&mut self) -> Option<(SyncWork, SyncPoint)> {
        self.log.begin_sync()
    }

    fn end_sync(&mut self, point: SyncPoint, outcome: &io::Result<()>) {
        self.log.end_sync(point, outcome);
    }

    fn wants_tidying(&self) -> bool {
        self.log.wants_copying() || self.log.wants_sync()
    }

    fn tidy(&mut self) -> Tidied {
        self.log.watch();
        self.log.remove_leftovers();
        let copying = self.log.copy_forward().unwrap_or_else(|error| {
            let directory = self.log.directory().display();
            logging::refused(&format!("{directory}: copying forward fails"), error);
            false
        });
        let work = self.log.write_footer();
        let more = copying || work.is_some();
        let wants_sync = self.log.has_dead_segments() || self.log.wants_sync();
        Tidied { more, wants_sync, work }
    }

    fn is_oversized(&self) -> bool {
        self.log.is_oversized()
    }

    fn outlives_messages(&self) -> bool {
        self.log.has_settings()
    }

    fn rest(&mut self) {
        self.log.rest();
    }

    fn discard(&mut self) -> Result<(), QueueError> {
        Ok(self.directory.begin_drop(&mut self.log)?)
    }
}
