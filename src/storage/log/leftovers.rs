//! Files that do not count any more and could not be unlinked.
//!
//! Such a file takes room and does no other harm: what says that it does not count is durable, and
//! stays in the newest segment as long as the file does. Housekeeping tries again, so that the room
//! comes back without a restart.

use super::super::error::StorageError;
use super::super::names::file_name;
use super::super::reaper::try_remove_file;
use super::Log;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The bases of such files of one log; shared with the syncs that unlink.
#[derive(Clone, Debug, Default)]
pub(super) struct Leftovers {
    bases: Arc<Mutex<BTreeSet<u64>>>,
}

impl Leftovers {
    // The set is changed by single insertions and removals: what a panic left is good.
    fn bases(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.bases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, base: u64) {
        self.bases().insert(base);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bases().is_empty()
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.bases().last().copied()
    }
}

impl Log {
    /// Tries again to unlink the files that stayed, and makes that durable: only then may the
    /// newest segment go, which says that they do not count.
    pub fn remove_leftovers(&mut self) {
        if self.leftovers.is_empty() || self.check_writable().is_err() {
            return;
        }
        if let Err(error) = self.try_leftovers() {
            log::debug!("{}: {error}", self.directory().display());
        }
    }

    fn try_leftovers(&mut self) -> Result<(), StorageError> {
        let folder = self.open_folder()?;
        let bases = self.leftovers.bases().clone();
        let is_gone = |base: &u64| try_remove_file(&folder, &file_name(*base)).is_ok();
        let gone: Vec<u64> = bases.into_iter().filter(is_gone).collect();
        if gone.is_empty() {
            return Ok(());
        }
        folder.sync().inspect_err(|error| self.poison(error))?;
        self.leftovers.bases().retain(|base| !gone.contains(base));
        Ok(())
    }

    /// Where a file that stayed has the name of the next segment, the log goes on behind it, and
    /// behind `end`.
    pub(in super::super) fn step_over_leftovers(&mut self, end: u64) {
        let next = self.segments[self.segments.len() - 1].end();
        if let Some(last) = self.leftovers.last().filter(|last| *last >= next) {
            let behind = last.saturating_add(super::FIRST_SEGMENT_SIZE).max(end);
            self.least_base = self.least_base.max(behind.next_multiple_of(super::BLOCK));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::storage::cursor::{Cursor, slot_offset};
    use crate::storage::folder::set_unlinking_fails;
    use crate::storage::log::Log;
    use crate::storage::names::file_name;
    use crate::storage::version::Version;
    use crate::storage::{DataDirectory, Label, NewMessage, StorageError, set_disk_full};
    use std::fs::{self, File};
    use std::path::Path;
    use std::sync::atomic::Ordering;

    fn open(path: &Path, is_strict: bool) -> Log {
        let directory = DataDirectory::open(path, 16 * 1024, is_strict).unwrap();
        directory.open_logs().unwrap().pop().unwrap()
    }

    fn push(log: &mut Log, count: usize) {
        for _ in 0..count {
            log.push(&NewMessage { body: &[7; 100], flags: 0, expires_ms: 0 }, 1).unwrap();
        }
        log.sync_now().unwrap();
    }

    fn with_messages(path: &Path, count: usize) -> Log {
        let directory = DataDirectory::open(path, 16 * 1024, true).unwrap();
        let mut log = directory.create_log(b"q").unwrap();
        push(&mut log, count);
        log
    }

    /// Where a file stays it is in the way of the next segment: pushes go on behind it, and no
    /// later start takes the gap for a missing segment.
    fn expect_pushes(path: &Path, count: u64, is_strict: bool) {
        set_unlinking_fails(true);
        for pushed in 0..100 {
            // There may be a spare behind the gap before the log goes on in it.
            let mut log = open(path, is_strict);
            assert_eq!(log.len(), count + pushed);
            push(&mut log, 1);
        }
        push(&mut open(path, is_strict), 200);
        assert_eq!(open(path, is_strict).len(), count + 300);
        set_unlinking_fails(false);
        assert_eq!(open(path, is_strict).len(), count + 300);
        let mut log = open(path, is_strict);
        assert_eq!(log.len(), count + 300);
        push(&mut log, 300);
        drop(log);
        assert_eq!(open(path, is_strict).len(), count + 600);
    }

    #[test]
    fn an_unborn_segment_that_stays_is_in_the_way_of_no_push() {
        let folder = tempfile::tempdir().unwrap();
        let log = with_messages(folder.path(), 1);
        let next = log.segments[log.tail].end();
        drop(log);
        File::create(folder.path().join("q-q").join(file_name(next))).unwrap();
        expect_pushes(folder.path(), 1, true);
    }

    #[test]
    fn a_short_spare_that_stays_is_in_the_way_of_no_push() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = with_messages(folder.path(), 1);
        let mut count = 1;
        while log.tail + 1 == log.segments.len() {
            push(&mut log, 1);
            count += 1;
        }
        let spare = log.segments[log.tail + 1].path.clone();
        drop(log);
        File::options().write(true).open(&spare).unwrap().set_len(4096).unwrap();
        expect_pushes(folder.path(), count, false);
        fs::remove_file(spare).unwrap();
        assert_eq!(open(folder.path(), true).len(), count + 600);
    }

    /// On a full disk each try left a file in the way of the next one, also when there was room
    /// again.
    #[test]
    fn half_a_segment_that_stays_is_in_the_way_of_no_push() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = with_messages(folder.path(), 1);
        let mut count = 0;
        let message = NewMessage { body: &[7; 100], flags: 0, expires_ms: 0 };
        set_disk_full(true);
        set_unlinking_fails(true);
        while log.push(&message, 1).is_ok() {
            count += 1;
        }
        assert!(log.push(&message, 1).is_err() && !log.leftovers.is_empty());
        set_disk_full(false);
        push(&mut log, 300);
        drop(log);
        expect_pushes(folder.path(), count + 301, true);
    }

    /// Where no message was pushed before the gap, its bytes were counted as lost messages.
    #[test]
    fn a_gap_where_a_file_stayed_is_no_lost_message() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = with_messages(folder.path(), 300);
        let (mut places, mut from) = (Vec::new(), 0);
        while let Some((place, _)) = log.next(from).unwrap() {
            from = place.sequence + 1;
            places.push(place);
        }
        places.iter().skip(1).step_by(2).for_each(|place| log.remove(*place).unwrap());
        // Now there are copies only, and nothing says the numbers between them.
        log.renew().unwrap();
        let next = log.segments[log.segments.len() - 1].end();
        drop(log);
        File::create(folder.path().join("q-q").join(file_name(next))).unwrap();
        set_unlinking_fails(true);
        let mut log = open(folder.path(), true);
        log.push(&NewMessage { body: &[7; 40_000], flags: 0, expires_ms: 0 }, 1).unwrap();
        log.sync_now().unwrap();
        assert!(log.segments[log.tail].base > next, "there is no gap");
        drop(log);
        set_unlinking_fails(false);
        let log = open(folder.path(), true);
        assert_eq!(log.len(), 151);
        assert_eq!(log.settings.counters.lost_messages.load(Ordering::Relaxed), 0);
    }

    /// The cursor that named it was bad, so a lost file was taken for one that had been in the
    /// way of the spare one.
    #[test]
    fn a_gap_behind_a_bad_cursor_is_a_missing_segment() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = with_messages(folder.path(), 1);
        while log.tail == 0 || log.tail + 1 == log.segments.len() {
            push(&mut log, 1);
        }
        assert_eq!((log.tail, log.segments.len()), (1, 3));
        let [first, lost] = [0, 1].map(|index| log.segments[index].path.clone());
        drop(log);
        fs::remove_file(lost).unwrap();
        for is_bad in [false, true] {
            let mut bytes = fs::read(&first).unwrap();
            let (slot, _) = Cursor::newest(0, Version::Two, &bytes).unwrap();
            bytes[slot_offset(slot)] ^= u8::from(is_bad);
            fs::write(&first, bytes).unwrap();
            let directory = DataDirectory::open(folder.path(), 16 * 1024, true).unwrap();
            let refused = directory.open_logs();
            let Err(StorageError::Refused(finding)) = refused else { panic!("{refused:?}") };
            assert_eq!(finding.label, Label::MissingSegment, "{finding}");
        }
    }

    /// It stayed until the next start, and so did the last segment of the empty queue.
    #[test]
    fn housekeeping_unlinks_what_stayed() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = with_messages(folder.path(), 300);
        let oldest = log.segments[0].path.clone();
        set_unlinking_fails(true);
        while log.segments[0].path == oldest {
            let (place, _) = log.next(0).unwrap().unwrap();
            log.remove(place).unwrap();
            let (work, point) = log.begin_sync().unwrap();
            log.end_sync(point, &work());
        }
        log.remove_leftovers();
        assert!(oldest.exists() && !log.leftovers.is_empty());
        set_unlinking_fails(false);
        log.remove_leftovers();
        assert!(!oldest.exists() && log.leftovers.is_empty());
        assert!(fs::read_dir(folder.path().join("q-q")).unwrap().count() > 0);
    }
}
