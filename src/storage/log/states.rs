//! What has failed about messages: a state record for each failure, and none for a success.
//!
//! 1. The newest state of a message counts, or the head of its newest copy if that lies behind it:
//!    a copy of a message says in its head what the state says. So a state lies behind its message,
//!    and no segment with a state goes before that of the message.
//! 2. A failure takes no room from removals. Where it finds none of its own, or the log is closed
//!    for writing, it is kept in memory only: a worker that fails must not be held up, and what it
//!    gave back is delivered again in any case. The next record of the message says it.
//! 3. A state costs 16 bytes of memory, and its entry in a map: it is read when somebody asks.

use super::super::error::StorageError;
use super::super::failures::{self, Failures};
use super::super::layout::{COPY_MORE, HEAD_MAX};
use super::super::message::Place;
use super::super::record::{Kind, Record, Verdict};
use super::super::version::Version;
use super::Log;
use crate::memory::{self, NoMemory};
use std::collections::HashMap;

/// Which messages have failed since they were written or copied.
#[derive(Debug, Default)]
pub(in super::super) struct States {
    /// Positions of their newest states, by number.
    written: HashMap<u64, u64>,
    /// Fields that found no room in the log, by number.
    unwritten: HashMap<u64, Box<[u8]>>,
}

impl States {
    /// Makes sure that there is memory for the next `set`.
    fn prepare(&mut self) -> Result<(), NoMemory> {
        Ok(self.written.try_reserve(1)?)
    }

    /// The newest state of message `sequence` lies at `position`.
    fn set(&mut self, sequence: u64, position: u64) {
        self.written.insert(sequence, position);
        self.unwritten.remove(&sequence);
    }

    /// The same, with memory that has not been prepared.
    pub(in super::super) fn insert(&mut self, sequence: u64, at: u64) -> Result<(), NoMemory> {
        self.prepare()?;
        self.set(sequence, at);
        Ok(())
    }

    /// Message `sequence` is gone, or has been copied with what was said of it.
    pub(in super::super) fn forget(&mut self, sequence: u64) {
        // Nearly always there are none: a pop pays for no hash.
        if !self.written.is_empty() {
            self.written.remove(&sequence);
        }
        if !self.unwritten.is_empty() {
            self.unwritten.remove(&sequence);
        }
    }

    /// Forgets what is said of numbers that are not `wanted`.
    pub(in super::super) fn retain(&mut self, wanted: impl Fn(u64) -> bool) {
        self.written.retain(|sequence, _| wanted(*sequence));
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = States::default();
    }
}

impl Log {
    /// What has failed so far about the live message that lay at `place`. Where its newest state is
    /// damaged, the message's own record says it.
    pub fn failures(&mut self, place: Place) -> Result<Failures, StorageError> {
        self.bound_mappings();
        if let Some(fields) = self.stated(place.sequence)? {
            return Ok(Failures::decode(&fields));
        }
        let record = self.reread(self.current(place).position)?;
        Ok(Failures::decode(record.more))
    }

    /// The fields that have been said of message `sequence` since it was written or copied.
    fn stated(&mut self, sequence: u64) -> Result<Option<Vec<u8>>, StorageError> {
        if let Some(fields) = self.states.unwritten.get(&sequence) {
            return Ok(Some(memory::join(&[fields])?));
        }
        let Some(position) = self.states.written.get(&sequence).copied() else { return Ok(None) };
        if position < self.segments[0].base {
            // Its message is gone, and damage has kept that from being noticed.
            self.states.forget(sequence);
            return Ok(None);
        }
        let fault = match self.decode(position)? {
            Verdict::Whole(record) if (record.kind, record.sequence) == (Kind::State, sequence) => {
                return Ok(Some(memory::join(&[record.more])?));
            }
            Verdict::Bad(fault) => Some(fault),
            // A footer has said something else.
            Verdict::Whole(_) | Verdict::Blank => None,
        };
        self.states.written.remove(&sequence);
        if let Some(fault) = fault {
            self.report_damage(position, fault)?;
        }
        Ok(None)
    }

    /// Says what has failed so far about the live message that lay at `place`.
    ///
    /// # Errors
    /// There is no memory.
    pub fn note_failures(&mut self, place: Place, all: &Failures) -> Result<(), StorageError> {
        let (fields, place) = (all.encode()?, self.current(place));
        match self.append_state(place, &fields) {
            Ok(()) => Ok(()),
            Err(error) => {
                if self.states.unwritten.is_empty() {
                    let directory = self.directory().display();
                    log::warn!("{directory}: failures are counted in memory only: {error}");
                }
                self.states.unwritten.try_reserve(1).map_err(NoMemory::from)?;
                self.states.unwritten.insert(place.sequence, fields.into());
                Ok(())
            }
        }
    }

    fn append_state(&mut self, place: Place, fields: &[u8]) -> Result<(), StorageError> {
        self.check_writable()?;
        let state = Record {
            kind: Kind::State,
            sequence: place.sequence,
            origin: place.position,
            more: fields,
            ..Record::default()
        };
        self.make_room_or_reclaim(state.size() as u64, self.live_count, Version::Two)?;
        self.segments[self.tail].prepare_writing()?;
        self.sync_slot()?;
        self.states.prepare()?;
        let position = self.append(&Record { durable: self.durable, ..state })?;
        self.states.set(place.sequence, position);
        Ok(())
    }

    /// The end of the head of a copy of message `sequence`, whose own ends with `fields`.
    pub(super) fn fields_of_copy(
        &mut self,
        sequence: u64,
        fields: &[u8],
    ) -> Result<Vec<u8>, StorageError> {
        Ok(match self.stated(sequence)? {
            Some(stated) => failures::joined(&stated, fields, HEAD_MAX - COPY_MORE)?,
            None => memory::join(&[fields])?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::blocks::set_disk_full;
    use crate::storage::failures::Cause;
    use crate::storage::{DataDirectory, NewMessage};
    use std::path::Path;

    fn open(path: &Path) -> DataDirectory {
        DataDirectory::open(path, 16 * 1024, true).unwrap()
    }

    /// A failure that took the room of a removal would make a removal fail.
    #[test]
    fn on_a_full_disk_failures_are_kept_in_memory_and_everything_can_be_removed() {
        let folder = tempfile::tempdir().unwrap();
        let directory = open(folder.path());
        let mut log = directory.create_log(b"q").unwrap();
        let mut places = Vec::new();
        for _ in 0..200 {
            let message = NewMessage { body: b"m", flags: 0, expires_ms: 0 };
            places.push(log.push(&message, 1).unwrap());
        }
        set_disk_full(true);
        let mut failures = Failures::default();
        while log.states.unwritten.is_empty() {
            failures.add(Cause::Expiry, 1, b"reason").unwrap();
            log.note_failures(places[7], &failures).unwrap();
            assert_eq!(log.failures(places[7]).unwrap(), failures);
            assert!(failures.attempts < 1000, "they all found room");
        }
        for place in places.drain(8..) {
            log.remove(place).unwrap();
        }
        set_disk_full(false);
        // The next record of the message says all of it.
        failures.add(Cause::Nack, 2, b"").unwrap();
        log.note_failures(places[7], &failures).unwrap();
        assert!(log.states.unwritten.is_empty());
        drop((log, directory));
        let mut log = open(folder.path()).open_logs().unwrap().pop().unwrap();
        assert_eq!(log.failures(places[7]).unwrap(), failures);
        places.drain(..).for_each(|place| log.remove(place).unwrap());
        assert!(log.states.written.is_empty());
    }
}
