//! Writing: records at the end of the log, pops into the cursor.
//!
//! Nobody who pushes, pops or removes waits for a sync, but in `begin`, `sync_slot`, `reclaim`,
//! `advance_tail` and `settle_steps`, and on the way to a message in `report_damage`: they say so.
//!
//! 1. A segment is synced before its successor gets a record (rule 8).
//! 2. A push that fails has changed nothing but, at most, the number of spare segments.

use super::super::cursor::{Cursor, slot_offset};
use super::super::error::StorageError;
use super::super::folder::Folder;
use super::super::header::SegmentHeader;
use super::super::home::Home;
use super::super::layout::{MARK_MORE, REMOVAL_HEAD, SECTOR, SEQUENCE_END};
use super::super::message::{NewMessage, Place};
use super::super::names::file_name;
use super::super::record::{Kind, Record};
use super::super::segment::Segment;
use super::super::settings::LogSettings;
use super::super::version::Version;
use super::{BLOCK, FIRST_SEGMENT_SIZE, Log, Promise};
use crate::clock::{milliseconds, system_time};
use crate::memory::NoMemory;
use crate::storage::index::{BodyHash, random_hash_key};
use crate::storage::layout::NAME_MAX;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::sync::Arc;

impl Log {
    /// Makes the log of a new queue in the folder `folder` of `root`, which must not exist.
    pub(in super::super) fn create(
        root: &Arc<Folder>,
        folder: &OsStr,
        name: &[u8],
        settings: &LogSettings,
    ) -> Result<Log, StorageError> {
        if name.len() > NAME_MAX {
            return Err(StorageError::NameTooLong { limit: NAME_MAX });
        }
        let created = Home::create(root, folder);
        let (home, opened) = created.map_err(|error| {
            let path = root.path().join(folder);
            StorageError::io("create", &path, error)
        })?;
        Log::begin(Arc::new(home), &opened, name, settings).inspect_err(|_| {
            // Nothing was promised of it, and what stays is in the way of the next try.
            let _stays = root.remove_folder(folder);
        })
    }

    /// Makes the first segment in a new folder, durable with its name: blocks for the syncs.
    fn begin(
        home: Arc<Home>,
        folder: &Folder,
        name: &[u8],
        settings: &LogSettings,
    ) -> Result<Log, StorageError> {
        let hash_key = random_hash_key();
        let header = SegmentHeader {
            version: Version::Two,
            created_ms: milliseconds(system_time()),
            hash_key,
            name: name.into(),
        };
        let size = FIRST_SEGMENT_SIZE.min(settings.segment_size);
        let segment = Segment::create(&home, folder, 0, size, &header)?;
        let root = Arc::clone(&home);
        let mut log = Log::over(home, settings, name, hash_key, VecDeque::from([segment]));
        log.segments[0].first_sequence = log.next_sequence;
        let begun = root.root().sync().and_then(|()| log.write_cursor());
        begun.map(|()| log).inspect_err(|_| {
            let _stays = folder.remove_file(OsStr::new(&file_name(0)));
        })
    }

    /// Appends a message, which gets the next number; answers where it lies.
    pub fn push(
        &mut self,
        message: &NewMessage<'_>,
        pushed_ms: u64,
    ) -> Result<Place, StorageError> {
        self.check_writable()?;
        self.check_number(self.next_sequence)?;
        let record = Record {
            kind: Kind::Message,
            flags: message.flags,
            sequence: self.next_sequence,
            durable: self.durable,
            pushed_ms,
            expires_ms: message.expires_ms,
            body: message.body,
            ..Record::default()
        };
        let size = record.size() as u64;
        self.make_room_or_reclaim(size, self.live_count + 1, Version::Two)?;
        let position = self.append(&record)?;
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.segments[self.tail].note_place(sequence, position);
        self.count_live(position, size);
        self.index_insert(position, |key| BodyHash::new(key, message.body));
        Ok(Place { sequence, position })
    }

    /// Promises that the message at `place` can be removed, although there may be no descriptor and
    /// no room by then: the tail stays mapped and keeps room for it, and nothing has to be read.
    /// Until then the index is without it: many equal messages whose removal is promised would all
    /// be in the way of a look for one that stays.
    pub fn promise_removal(&mut self, place: Place) -> Result<(), StorageError> {
        self.check_writable()?;
        let promise = self.measure(place.position)?;
        self.make_room(REMOVAL_HEAD as u64, self.live_count, Version::One)?;
        self.segments[self.tail].prepare_writing()?;
        self.promised.try_reserve(1).map_err(NoMemory::from)?;
        self.sync_slot()?;
        self.promised.insert(place.sequence, promise);
        if let Some(hash) = promise.hash {
            self.index_remove(hash, place.position);
        }
        Ok(())
    }

    /// Takes that back for the message that lay at `place`.
    pub fn withdraw_promise(&mut self, place: Place) {
        let Some(promise) = self.promised.remove(&place.sequence) else { return };
        match promise.hash {
            Some(hash) => self.index_insert(self.current(place).position, |_| hash),
            // One that has been built since is without it.
            None => self.membership = None,
        }
    }

    /// Lets looks by content pass over the message at `place`. It stays a live one, with the room
    /// for its removal that a push has reserved.
    pub fn withhold(&mut self, place: Place) -> Result<(), StorageError> {
        self.check_writable()?;
        self.withheld.try_reserve(1).map_err(NoMemory::from)?;
        if let Some(hash) = self.measure(place.position)?.hash {
            self.index_remove(hash, place.position);
        }
        self.withheld.insert(place.sequence);
        Ok(())
    }

    /// Takes that back for the message that lay at `place`.
    pub fn put_back(&mut self, place: Place) {
        if !self.withheld.remove(&place.sequence) {
            return;
        }
        if self.membership.is_none() {
            return;
        }
        let key = self.hash_key;
        let found = self.at(place).map(|found| {
            found.map(|(place, message)| (place.position, BodyHash::new(&key, message.body)))
        });
        match found {
            Ok(Some((position, hash))) => self.index_insert(position, |_| hash),
            // Damage has taken it.
            Ok(None) => {}
            // The index would lack it. The next one that is built meets the damage, and says so.
            Err(_) => self.membership = None,
        }
    }

    /// Removes the message at `place`, which was found there and has not changed since. At the head
    /// this writes the cursor, elsewhere a removal record.
    pub fn remove(&mut self, place: Place) -> Result<(), StorageError> {
        self.check_writable()?;
        let Place { sequence, position } = place;
        // Nothing may fail between the first change in memory and the last one in the log.
        self.segments[self.tail].prepare_writing()?;
        self.sync_slot()?;
        let (Promise { size, hash }, lowest) = match self.promised.remove(&sequence) {
            // To find the oldest one may take a descriptor: a record says as much as the cursor.
            Some(promise) => (Promise { hash: None, ..promise }, self.lowest().unwrap_or_default()),
            None => (self.measure(position)?, self.lowest()?),
        };
        let is_oldest = lowest == Some(sequence);
        let is_said = !is_oldest || self.has_unsettled_step();
        if !(is_said && self.make_room_to_remove(is_oldest)?) {
            self.advance_head(sequence);
            self.pass_head(place, size);
            self.lowest = None;
            match &mut self.step {
                // The cursor of a step comes at its end.
                Some(step) => step.has_popped = true,
                None => self.write_cursor()?,
            }
        } else {
            self.append(&Record {
                kind: Kind::Removal,
                sequence,
                durable: self.durable,
                origin: position,
                ..Record::default()
            })?;
            self.note_removed(sequence);
            self.lowest = self.lowest.filter(|lowest| *lowest != sequence);
        }
        self.relocated.remove(sequence);
        self.states.forget(sequence);
        self.withheld.remove(&sequence);
        self.count_dead(position, size);
        if let Some(hash) = hash {
            self.index_remove(hash, position);
        }
        self.forget_gone();
        Ok(())
    }

    fn measure(&self, position: u64) -> Result<Promise, StorageError> {
        let record = self.reread(position)?;
        let hash = self.membership.is_some().then(|| self.hash(record.body));
        Ok(Promise { size: record.size() as u64, hash })
    }

    /// The oldest live message, `sequence`, is gone, and so is everything before it.
    pub(in super::super) fn advance_head(&mut self, sequence: u64) {
        self.head = self.removed.skip(sequence.saturating_add(1));
        self.removed.remove_below(self.head);
    }

    /// Remembers that `sequence`, not the oldest live message, is gone, where a record may say
    /// otherwise.
    pub(in super::super) fn note_removed(&mut self, sequence: u64) {
        let first = self.segments.front().map_or(0, |segment| segment.first_sequence);
        if sequence >= self.head.max(first) {
            self.removed.insert(sequence..sequence.saturating_add(1));
        }
    }

    /// A live message's record of `size` bytes lies at `position`.
    pub(super) fn count_live(&mut self, position: u64, size: u64) {
        self.count_live_in(self.segment_index(position), size);
    }

    /// A live message's record of `size` bytes lies in segment `index`.
    pub(in super::super) fn count_live_in(&mut self, index: usize, size: u64) {
        self.segments[index].live_count += 1;
        self.segments[index].live_bytes += size;
        self.live_count += 1;
        self.live_bytes += size;
    }

    /// The message whose record of `size` bytes lies at `position` is gone from there.
    pub(super) fn count_dead(&mut self, position: u64, size: u64) {
        self.count_dead_in(self.segment_index(position), size);
    }

    /// A message's record of `size` bytes in segment `index` does not live any more.
    pub(in super::super) fn count_dead_in(&mut self, index: usize, size: u64) {
        let segment = &mut self.segments[index];
        // If a footer has said less than there is, less was counted.
        let (count, size) = (segment.live_count.min(1), size.min(segment.live_bytes));
        segment.live_count -= count;
        segment.live_bytes -= size;
        self.live_count -= count;
        self.live_bytes -= size;
    }

    /// Writes `record` at the end of the log, where there is room for it; answers where it lies.
    pub(super) fn append(&mut self, record: &Record<'_>) -> Result<u64, StorageError> {
        let position = self.end();
        let mut record = *record;
        if let Some(step) = &mut self.step {
            record.marks |= MARK_MORE;
            step.record_count += 1;
            step.last = position;
            step.has_removed |= record.kind == Kind::Removal;
        }
        let segment = &mut self.segments[self.tail];
        let (offset, codec) = ((position - segment.base) as usize, segment.codec.clone());
        let size = codec.encode(&record, position, &mut segment.bytes_mut()?[offset..]) as u64;
        segment.records_end += size;
        self.record_bytes += size;
        self.dirty = true;
        Ok(position)
    }

    /// An error where there is no number after `number`.
    pub(super) fn check_number(&self, number: u64) -> Result<(), StorageError> {
        if number >= SEQUENCE_END {
            return Err(StorageError::OutOfNumbers { path: self.directory().into() });
        }
        Ok(())
    }

    /// Makes the slot durable that an earlier process has written: else the one that is durable
    /// could be the next to be written. Blocks for a sync, once after a start.
    pub(super) fn sync_slot(&mut self) -> Result<(), StorageError> {
        match std::mem::take(&mut self.is_slot_unsynced) {
            true => self.sync_now(),
            false => Ok(()),
        }
    }

    /// Writes the cursor to a free slot of the newest segment.
    pub(in super::super) fn write_cursor(&mut self) -> Result<(), StorageError> {
        self.write_cursor_saying(self.durable)
    }

    /// The same, where the log is durable up to a position that is no record's.
    fn write_cursor_saying(&mut self, durable: u64) -> Result<(), StorageError> {
        if self.segments[self.tail].is_unlinked {
            return Ok(());
        }
        self.sync_slot()?;
        self.check_number(self.generation)?;
        let cursor = Cursor {
            generation: self.generation + 1,
            head: self.head,
            next_sequence: self.next_sequence,
            durable,
            oldest: self.segments[0].base,
        };
        let segment = &mut self.segments[self.tail];
        let (base, codec) = (segment.base, segment.codec.clone());
        let bytes = segment.bytes_mut()?;
        let slot = slot_offset(self.turns.take());
        cursor.encode(base, &codec, &mut bytes[slot..slot + SECTOR]);
        self.generation = cursor.generation;
        self.said_durable = cursor.durable;
        self.dirty = true;
        Ok(())
    }

    /// Syncs the tail, which blocks, and goes on with the segment after it. Before that has
    /// anything to lose, the tail's last cursor says that it is in use: else nobody would miss its
    /// file.
    pub(super) fn advance_tail(&mut self) -> Result<(), StorageError> {
        // Mapped before anything changes: the cursor must find its place there.
        self.segments[self.tail + 1].prepare_writing()?;
        self.sync_now()?;
        // There is no record between the end of this one and the start of that one.
        let start = self.segments[self.tail + 1].records_start();
        self.write_cursor_saying(start)?;
        self.sync_now()?;
        self.durable = start;
        // It is only read from now on, through a mapping that nothing is written to.
        self.segments[self.tail].unmap();
        self.tail += 1;
        self.turns = Default::default();
        self.segments[self.tail].first_sequence = self.next_sequence;
        self.count_spare();
        self.write_cursor()
    }

    /// Goes on with a new segment at `position` or behind it, past what cannot be written to any
    /// more.
    pub(in super::super) fn begin_behind(&mut self, position: u64) -> Result<(), StorageError> {
        let base = position.next_multiple_of(BLOCK);
        let segment = self.create_segment(base, FIRST_SEGMENT_SIZE)?;
        for spare in self.segments.range_mut(self.tail + 1..) {
            spare.first_sequence = self.next_sequence;
        }
        self.segments.push_back(segment);
        self.tail = self.segments.len() - 1;
        self.count_spare();
        self.segments[self.tail].first_sequence = self.next_sequence;
        self.turns = Default::default();
        self.write_cursor()?;
        self.sync_now()
    }

    /// Makes a segment file of this log. A sync that fails in it is one of this log's (rule 9):
    /// what the next one would say of the folder would tell nothing.
    pub(super) fn create_segment(&mut self, base: u64, size: u64) -> Result<Segment, StorageError> {
        let header = SegmentHeader {
            version: Version::Two,
            created_ms: milliseconds(system_time()),
            hash_key: self.hash_key,
            name: self.name.clone(),
        };
        let folder = self.open_folder()?;
        Segment::create(&self.home, &folder, base, size, &header).map_err(|failed| {
            if let error @ StorageError::Sync { .. } = &failed.error {
                self.poison(error);
            }
            if failed.stays {
                self.leftovers.add(base);
                self.step_over_leftovers(base.saturating_add(size));
            }
            failed.error
        })
    }
}
