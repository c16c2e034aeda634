//! Room on a full disk: dead segments go at once, and of an empty queue all of them.

use super::super::error::StorageError;
use super::{FIRST_SEGMENT_SIZE, Log};
use std::collections::VecDeque;

impl Log {
    /// On a full disk: lets dead segments go at once, also the newest when the queue is empty. This
    /// blocks for a sync. True when that gave something back.
    pub(super) fn reclaim(&mut self) -> Result<bool, StorageError> {
        if self.step.is_some() {
            // Nothing is durable of half a step.
            return Ok(false);
        }
        if self.has_dead_segments() && self.copies_end.max(self.step_end) > self.durable {
            self.sync_now()?;
            self.durable = self.end();
        }
        let doomed = self.doom()?;
        let was_dead = doomed.is_some();
        if let Some(doomed) = doomed {
            self.write_cursor()?;
            self.sync_now()?;
            self.unlink_doomed(&doomed)?;
        }
        // A sync under way looks for the newest at its end. While older ones stay, that has what
        // says that they are dead. And without a segment, the settings would be nobody's.
        let is_last = !self.is_syncing && self.leftovers.is_empty() && !self.has_settings;
        let has_room = self.segments.len() > 1 || self.segments[0].record_bytes() > 0;
        if self.live_count == 0 && is_last && has_room && !self.segments[0].is_unlinked {
            self.start_over()?;
            return Ok(true);
        }
        Ok(was_dead)
    }

    /// Removes the only segment in use of an empty queue and its spare ones, and begins with a
    /// small one behind them. A crash in between leaves a queue without segments, which is an empty
    /// queue too. Where they cannot be unlinked, the log goes on in them.
    fn start_over(&mut self) -> Result<(), StorageError> {
        let base = self.segments[self.segments.len() - 1].end().max(self.least_base);
        self.unlink_all(self.doomed(Vec::new())?)?;
        if self.segments[self.tail].is_unlinked { self.begin_anew(base) } else { Ok(()) }
    }

    /// Begins with a small segment at `base`, in place of one that is unlinked: where there was no
    /// room for it when that went, the next push tries again.
    pub(super) fn begin_anew(&mut self, base: u64) -> Result<(), StorageError> {
        let segment = self.create_segment(base, FIRST_SEGMENT_SIZE)?;
        self.segments = VecDeque::from([segment]);
        self.segments[0].first_sequence = self.next_sequence;
        self.record_bytes = 0;
        self.live_bytes = 0;
        self.turns = Default::default();
        self.reset_scans();
        self.write_cursor()
    }
}

#[cfg(test)]
mod tests {
    use crate::random::Random;
    use crate::storage::format::SETTINGS;
    use crate::storage::log::Log;
    use crate::storage::{DataDirectory, NewMessage, Place, StepSize, StorageError, set_disk_full};
    use std::fs;
    use std::path::Path;

    fn open(path: &Path) -> DataDirectory {
        DataDirectory::open(path, 16 * 1024, true).unwrap()
    }

    fn push(log: &mut Log, length: usize) -> Result<Place, StorageError> {
        log.push(&NewMessage { body: &[7; 15_000][..length], flags: 0, expires_ms: 0 }, 1)
    }

    fn sync(log: &mut Log) {
        if let Some((work, point)) = log.begin_sync() {
            let outcome = work();
            log.end_sync(point, &outcome);
        }
    }

    fn remove(log: &mut Log, place: Place) {
        log.remove(log.current(place)).unwrap();
    }

    /// Removes all messages, durably.
    fn empty(log: &mut Log) {
        while let Some((place, _)) = log.next(0).unwrap() {
            remove(log, place);
        }
        sync(log);
    }

    /// Pushes a message that is larger than what any segment has room for.
    fn expect_no_room(log: &mut Log) {
        let refused = push(log, 15_000);
        assert!(matches!(refused, Err(StorageError::Full { .. })), "{refused:?}");
    }

    /// In any order, and with what moves have been promised, with steps that are not durable, and
    /// with syncs or none in between.
    #[test]
    fn a_full_disk_refuses_no_removal() {
        let mut random = Random::seeded();
        for round in 0..15 {
            let folder = tempfile::tempdir().unwrap();
            let directory = open(folder.path());
            let mut log = directory.create_log(b"q").unwrap();
            let count = 50 + random.below(600);
            let mut places: Vec<_> = (0..count)
                .map(|_| push(&mut log, 8 + random.below(100) as usize).unwrap())
                .collect();
            set_disk_full(true);
            for place in places.iter().filter(|_| random.below(8) == 0) {
                let promised = log.promise_removal(*place);
                let is_full = matches!(promised, Err(StorageError::Full { .. }));
                assert!(promised.is_ok() || is_full, "round {round}");
            }
            while !places.is_empty() {
                let is_step = random.below(3) == 0
                    && log.begin_step(&StepSize { removals: 3, ..StepSize::default() }).is_ok();
                for _ in 0..if is_step { 3 } else { 1 } {
                    let index = match random.below(3) {
                        0 => 0,
                        _ => random.below(places.len().max(1) as u64) as usize,
                    };
                    if index < places.len() {
                        remove(&mut log, places.remove(index));
                    }
                }
                log.end_step().unwrap();
                if random.below(30) == 0 {
                    sync(&mut log);
                }
            }
            set_disk_full(false);
            drop((log, directory));
            let mut logs = open(folder.path()).open_logs().unwrap();
            assert!(logs.pop().unwrap().is_empty(), "round {round}");
        }
    }

    /// A queue in two segments, whose oldest file cannot be unlinked from now on; and its bytes.
    fn with_a_file_that_stays(directory: &DataDirectory, name: &[u8]) -> (Log, Vec<u8>) {
        let mut log = directory.create_log(name).unwrap();
        while log.tail == 0 || log.end() < log.segments[1].base + 8 * 1024 {
            push(&mut log, 100).unwrap();
        }
        while log.segments[0].live_count > 1 {
            let (place, _) = log.next(0).unwrap().unwrap();
            remove(&mut log, place);
        }
        sync(&mut log);
        let oldest = &log.segments[0].path;
        let bytes = fs::read(oldest).unwrap();
        // Even root cannot unlink a folder.
        fs::remove_file(oldest).unwrap();
        fs::create_dir(oldest).unwrap();
        (log, bytes)
    }

    fn put_back(oldest: &Path, bytes: &[u8]) {
        fs::remove_dir(oldest).unwrap();
        fs::write(oldest, bytes).unwrap();
    }

    /// On a full disk the newest segment went, which alone said that an older file did not count:
    /// popped messages came back.
    #[test]
    fn the_newest_segment_stays_while_an_older_file_does() {
        let folder = tempfile::tempdir().unwrap();
        let directory = open(folder.path());
        let (mut log, bytes) = with_a_file_that_stays(&directory, b"q");
        let oldest = log.segments[0].path.clone();
        empty(&mut log);
        set_disk_full(true);
        for _ in 0..2 {
            expect_no_room(&mut log);
            assert!(log.segments[log.tail].path.exists(), "its cursor is gone");
        }
        push(&mut log, 50).unwrap();
        sync(&mut log);
        set_disk_full(false);
        drop((log, directory));
        put_back(&oldest, &bytes);
        // A strict start: no damage is found.
        let log = open(folder.path()).open_logs().unwrap().pop().unwrap();
        assert_eq!(log.len(), 1, "popped messages are back");
    }

    /// The folder of a queue cannot be renamed, and a file in it not unlinked: after a drop the
    /// messages in that came back, and no other queue of the name could be made.
    #[test]
    fn a_drop_leaves_an_empty_queue_in_files_that_stay() {
        let names: [&[u8]; 2] = [b"q", &[0xff; 100]];
        for (name, is_restarted) in names.into_iter().flat_map(|name| [(name, false), (name, true)])
        {
            let folder = tempfile::tempdir().unwrap();
            let directory = open(folder.path());
            let (mut log, bytes) = with_a_file_that_stays(&directory, name);
            let oldest = log.segments[0].path.clone();
            directory.empty(&mut log).unwrap();
            assert!(log.segments[log.tail].path.exists(), "its cursor is gone");
            put_back(&oldest, &bytes);
            let end = log.end();
            drop(log);
            let (directory, mut log) = match is_restarted {
                false => {
                    let log = directory.create_log(name).unwrap();
                    (directory, log)
                }
                true => {
                    drop(directory);
                    let directory = open(folder.path());
                    let log = directory.open_logs().unwrap().pop().unwrap();
                    (directory, log)
                }
            };
            assert!(log.is_empty(), "dropped messages are back");
            assert!(push(&mut log, 50).unwrap().position >= end);
            sync(&mut log);
            drop((log, directory));
            let logs = open(folder.path()).open_logs().unwrap();
            let lengths: Vec<_> = logs.iter().map(|log| (log.name(), log.len())).collect();
            assert_eq!(lengths, [(name, 1)]);
        }
    }

    /// The sync did not find the file that it was about, and closed the queue.
    #[test]
    fn the_newest_segment_stays_while_it_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let directory = open(folder.path());
        let mut log = directory.create_log(b"q").unwrap();
        let place = push(&mut log, 100).unwrap();
        remove(&mut log, place);
        let (work, point) = log.begin_sync().unwrap();
        set_disk_full(true);
        let refused = push(&mut log, 15_000);
        assert!(matches!(refused, Err(StorageError::Full { .. })), "{refused:?}");
        log.end_sync(point, &work());
        set_disk_full(false);
        push(&mut log, 15_000).unwrap();
    }

    #[test]
    fn the_last_file_of_a_queue_with_settings_stays_on_a_full_disk() {
        let folder = tempfile::tempdir().unwrap();
        let directory = open(folder.path());
        let place = push(&mut directory.create_log(b"q").unwrap(), 100).unwrap();
        drop(directory);
        fs::write(folder.path().join("q-q").join(SETTINGS), b"some").unwrap();
        let directory = open(folder.path());
        let mut log = directory.open_logs().unwrap().pop().unwrap();
        remove(&mut log, place);
        sync(&mut log);
        set_disk_full(true);
        let refused = push(&mut log, 15_000);
        assert!(matches!(refused, Err(StorageError::Full { .. })), "{refused:?}");
        assert!(log.segments[0].path.exists(), "its settings are nobody's");
        push(&mut log, 100).unwrap();
    }

    /// Its last file was given back, and what came next had the room: the queue was closed.
    #[test]
    fn an_empty_queue_that_lost_its_last_file_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let directory = open(folder.path());
        let mut log = directory.create_log(b"q").unwrap();
        while push(&mut log, 100).unwrap().position < 12 * 1024 {}
        empty(&mut log);
        set_disk_full(true);
        for _ in 0..2 {
            expect_no_room(&mut log);
            assert!(log.segments[log.tail].is_unlinked, "its last file is there");
            sync(&mut log);
            log.sync_now().unwrap();
            log.rest();
            assert!(log.next(0).unwrap().is_none());
            assert!(log.find(b"x").unwrap().is_none());
        }
        set_disk_full(false);
        push(&mut log, 50).unwrap();
        sync(&mut log);
        log.check_writable().unwrap();
        drop((log, directory));
        let mut log = open(folder.path()).open_logs().unwrap().pop().unwrap();
        assert_eq!(log.next(0).unwrap().unwrap().1.body.len(), 50);
        assert_eq!(log.len(), 1);
    }
}
