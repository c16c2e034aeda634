//! Room in allocated segments, which is there before anything is written.
//!
//! 1. After a push there is room for the removal of every live message: removing works on a full
//!    disk (rule 6). The room lies in the tail and in *spare* segments behind it.
//! 2. One segment alone has room for all removals, unless that takes more than
//!    [`largest_spare`](Log::largest_spare): a step lies in one segment, so a step of removals
//!    begins on a full disk too (rule 20), and one spare segment suffices.
//! 3. The room is not less than that. A removal cannot win it back by copying live messages: dead
//!    ones may lie one by one in all segments, and the blocks of an unlinked file are there for
//!    everybody.

use super::super::error::StorageError;
use super::super::layout::{RECORDS, REMOVAL_HEAD};
use super::super::version::Version;
use super::{BLOCK, FIRST_SEGMENT_SIZE, Log};
use std::ops::Range;

/// How many times larger than a regular segment a spare one may be to have room for all removals.
/// Without a bound, a queue of small segments gets large ones, and what is proportional to a
/// segment grows with the queue: a search in damage, and what one live message pins.
const SPARE_FACTOR: u64 = 4;

/// The size in bytes from which a spare segment is no larger than a regular one: that has room for
/// enough.
const SPARE_MAX: u64 = 1 << 20;

/// How many removal records fit into spare segments.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SpareRoom {
    /// Into all of them.
    all: u64,
    /// Into the largest one.
    one: u64,
}

/// Removal records that fit into `bytes`.
fn removals_in(bytes: u64) -> u64 {
    bytes / REMOVAL_HEAD as u64
}

/// Bytes of `count` removal records.
fn bytes_of(count: u64) -> u64 {
    count.saturating_mul(REMOVAL_HEAD as u64)
}

impl Log {
    pub(super) fn free_in(&self, index: usize) -> u64 {
        self.segments[index].room()
    }

    fn room_in(&self, segments: Range<usize>) -> SpareRoom {
        segments.map(|index| removals_in(self.free_in(index))).fold(
            SpareRoom::default(),
            |room, fitting| SpareRoom { all: room.all + fitting, one: room.one.max(fitting) },
        )
    }

    pub(in super::super) fn count_spare(&mut self) {
        self.spare_room = self.room_in(self.tail + 1..self.segments.len());
    }

    /// The size in bytes of the largest segment that is made for the sake of one with room for all
    /// removals.
    fn largest_spare(&self) -> u64 {
        let regular = self.settings.segment_size;
        regular.saturating_mul(SPARE_FACTOR).min(SPARE_MAX).max(regular)
    }

    /// Whether one segment must have room for all of `removals`. What removes messages makes do
    /// with the room that there is. So does a step, whose room was made when it began.
    fn is_for_one(&self, removals: u64) -> bool {
        let may_be_more = self.step.is_none() && removals >= self.live_count;
        may_be_more && bytes_of(removals) <= self.largest_spare() - RECORDS as u64
    }

    /// Whether `removals` removal records fit into `free` bytes of a segment and the `spare` ones
    /// behind it.
    fn has_room_for(&self, removals: u64, free: u64, spare: SpareRoom) -> bool {
        let here = removals_in(free);
        here >= removals
            || match self.is_for_one(removals) {
                true => spare.one >= removals,
                false => here + spare.all >= removals,
            }
    }

    /// As [`make_room`](Log::make_room); a full disk gives dead segments back first.
    pub(super) fn make_room_or_reclaim(
        &mut self,
        size: u64,
        removals: u64,
        version: Version,
    ) -> Result<(), StorageError> {
        match self.make_room(size, removals, version) {
            Err(StorageError::Full { .. }) if self.reclaim()? => {
                self.make_room(size, removals, version)
            }
            other => other,
        }
    }

    /// Makes the tail a segment of this version or a higher one that has room for a record of
    /// `size` bytes, so that `removals` removal records fit behind it; allocates segments as
    /// needed.
    pub(super) fn make_room(
        &mut self,
        size: u64,
        removals: u64,
        version: Version,
    ) -> Result<(), StorageError> {
        if self.segments[self.tail].is_unlinked {
            self.begin_anew(self.segments[self.tail].end().max(self.least_base))?;
        }
        // What has been promised fits behind it, beside the removals.
        let size = size + bytes_of(self.promised.len() as u64);
        let free = self.free_in(self.tail);
        let is_new = self.segments[self.tail].codec.version() >= version;
        if is_new && free >= size && self.has_room_for(removals, free - size, self.spare_room) {
            return Ok(());
        }
        if self.step.is_some() {
            // Its records lie in one segment, and what it needs there was made sure of.
            let (what, path) = ("no room in the segment", self.directory().into());
            return Err(StorageError::Full { what, path, bytes: size });
        }
        let mut target = self.tail;
        loop {
            let is_fit = |log: &Log, index: usize| {
                log.segments[index].codec.version() >= version && log.free_in(index) >= size
            };
            while target < self.segments.len() && !is_fit(self, target) {
                target += 1;
            }
            if target < self.segments.len() {
                let spare = self.room_in(target + 1..self.segments.len());
                if self.has_room_for(removals, self.free_in(target) - size, spare) {
                    break;
                }
            }
            self.add_spare(size, removals)?;
        }
        while self.tail < target {
            self.advance_tail()?;
        }
        Ok(())
    }

    /// Allocates one more segment with room for a record of `size` bytes: of the regular size, or
    /// on a disk too full for that of a smaller one. One that is to have room for all of
    /// `removals` also has it for those of the messages that will fill up the tail.
    fn add_spare(&mut self, size: u64, removals: u64) -> Result<(), StorageError> {
        let last = &self.segments[self.segments.len() - 1];
        let (end, last_size) = (last.end(), last.size);
        let grown =
            (last_size.saturating_mul(4)).clamp(FIRST_SEGMENT_SIZE, self.settings.segment_size);
        let is_for_one = self.is_for_one(removals);
        let beside = if is_for_one { bytes_of(removals) } else { REMOVAL_HEAD as u64 };
        let needed = RECORDS as u64 + size + beside;
        let smallest = needed.next_multiple_of(BLOCK).max(FIRST_SEGMENT_SIZE);
        let mut roomy = needed;
        if is_for_one {
            // An eighth more, as sizes vary.
            let usual = (self.live_bytes / self.live_count.max(1)).max(REMOVAL_HEAD as u64);
            let coming = bytes_of(self.free_in(self.tail) / usual);
            roomy = (needed + coming + (beside + coming) / 8).min(self.largest_spare());
        }
        // A base is a multiple of the alignment, so a size is too.
        let mut wanted = grown.max(roomy).max(smallest).next_multiple_of(BLOCK);
        let segment = loop {
            // One that failed may have left its file there.
            match self.create_segment(end.max(self.least_base), wanted) {
                Err(error) if error.leaves_less_room() && wanted > smallest => {
                    wanted = (wanted / 8).max(smallest).next_multiple_of(BLOCK);
                }
                other => break other?,
            }
        };
        self.segments.push_back(segment);
        self.count_spare();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::storage::{DataDirectory, NewMessage, Place, StepSize, set_disk_full};
    use std::path::Path;

    fn open(path: &Path) -> DataDirectory {
        DataDirectory::open(path, 16 * 1024, true).unwrap()
    }

    fn push(log: &mut Log, length: usize) -> Result<Place, StorageError> {
        log.push(&NewMessage { body: &[7; 2000][..length], flags: 0, expires_ms: 0 }, 1)
    }

    /// There were as many as the room for all removals takes, of the regular size each: with small
    /// segments a tenth of the files had no record.
    #[test]
    fn one_spare_segment_has_room_for_all_removals() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path()).create_log(b"q").unwrap();
        let mut random = Random::seeded();
        // 64 KiB have room for 1,312.
        for count in 1..=1300 {
            push(&mut log, 500 + random.below(1000) as usize).unwrap();
            let room = [log.tail, log.segments.len() - 1].map(|index| log.free_in(index));
            assert!(room.into_iter().any(|room| removals_in(room) >= count));
            assert!(log.segments.len() - log.tail <= 2, "{count} messages");
        }
        for _ in 0..2000 {
            push(&mut log, 500).unwrap();
        }
        let room: u64 = (log.tail..log.segments.len()).map(|n| removals_in(log.free_in(n))).sum();
        assert!(room >= 3300);
        let sizes = log.segments.iter().map(|segment| segment.size);
        // A record has room in it too.
        assert!(sizes.max().unwrap() <= 72 * 1024, "larger than four regular ones");
    }

    /// Its room lay in several segments: each removal was a step of its own.
    #[test]
    fn a_full_disk_has_room_for_one_step_of_all_removals() {
        let mut random = Random::seeded();
        for round in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            let directory = open(folder.path());
            let mut log = directory.create_log(b"q").unwrap();
            let largest = 1 + random.below(500);
            let mut length = || 8 + random.below(largest) as usize;
            let mut places: Vec<_> = (0..1000).map(|_| push(&mut log, length()).unwrap()).collect();
            set_disk_full(true);
            // One segment of four times the regular size has room for 1,312.
            while places.len() < 1300
                && let Ok(place) = push(&mut log, length())
            {
                places.push(place);
            }
            for _ in 0..random.below(900) {
                log.remove(places.swap_remove(random.below(places.len() as u64) as usize)).unwrap();
            }
            let removals = places.len() as u64;
            log.begin_step(&StepSize { removals, ..StepSize::default() }).unwrap();
            places.iter().rev().for_each(|place| log.remove(*place).unwrap());
            log.end_step().unwrap();
            set_disk_full(false);
            drop((log, directory));
            let log = open(folder.path()).open_logs().unwrap().pop().unwrap();
            assert!(log.is_empty(), "round {round}");
        }
    }

    /// A push in the middle of the step asked for more than had been made sure of.
    #[test]
    fn a_step_that_pushes_and_removes_is_done_as_a_whole_or_does_not_begin() {
        let (mut random, mut begun) = (Random::seeded(), [0; 2]);
        for round in 0..200 {
            let folder = tempfile::tempdir().unwrap();
            let mut log = open(folder.path()).create_log(b"q").unwrap();
            let count = random.below(700);
            // Small ones behind large ones use up the room for removals before that of the tail.
            let mut places: Vec<_> = (0..count).map(|_| push(&mut log, 300).unwrap()).collect();
            set_disk_full(round % 2 == 0);
            while round % 2 == 0
                && let Ok(place) = push(&mut log, 8)
            {
                places.push(place);
            }
            let most_pushes = if round % 2 == 0 { 1 } else { 60 };
            let (pushes, removals) = (1 + random.below(most_pushes), random.below(60));
            let removals = removals.min(places.len() as u64);
            let size =
                StepSize { pushes, pushed_bytes: 8 * pushes, removals, ..StepSize::default() };
            if log.begin_step(&size).is_ok() {
                for _ in 0..pushes {
                    push(&mut log, 8).unwrap();
                }
                places.drain(..removals as usize).for_each(|place| log.remove(place).unwrap());
                log.end_step().unwrap();
                begun[round % 2] += 1;
            }
            set_disk_full(false);
        }
        assert!(begun[0] > 0 && begun[1] > 0, "{begun:?}");
    }

    /// It was counted with the spare segments of before, behind which the copies lie.
    #[test]
    fn a_renewed_log_has_room_for_all_removals() {
        for count in (20..400).step_by(20) {
            let folder = tempfile::tempdir().unwrap();
            let mut log = open(folder.path()).create_log(b"q").unwrap();
            let mut places: Vec<_> = (0..count).map(|_| push(&mut log, 8).unwrap()).collect();
            log.renew().unwrap();
            set_disk_full(true);
            while let Some(place) = places.pop() {
                log.remove(log.current(place)).unwrap();
            }
            set_disk_full(false);
            assert!(log.is_empty());
        }
    }
}
