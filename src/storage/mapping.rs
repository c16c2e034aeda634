//! A shared mapping of a segment's file.
//!
//! Records are written through it and not with `pwrite`, which was measured: it takes a tenth less
//! of CPU time from one client alone, and a sixth of the rate from many that send in pipelines.
//!
//! A sync write-protects each page that has changed, to see when it changes again, and has the
//! other CPUs that run the daemon forget that they may write to it: page by page, and for
//! each it waits for their answers. Pages that are released before are taken out of the address
//! space with one such message. They stay in the page cache, changed as they are, and the next look
//! at one maps it again.

use super::bus_error::WatchedMapping;
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use rustix::param::page_size;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Mappings that a process may have where nobody has set another number.
const PROCESS_MAX: usize = 65_530;

/// The most mappings of one queue while its log is put together; who only looks keeps as many.
pub fn queue_share() -> usize {
    process_max() / 4
}

#[cfg(not(test))]
fn process_max() -> usize {
    PROCESS_MAX
}

#[cfg(test)]
thread_local! {
    /// Mappings of one queue that this thread may make.
    static ALLOWED: std::cell::Cell<usize> = const { std::cell::Cell::new(PROCESS_MAX) };
}

#[cfg(test)]
pub fn set_process_max(count: usize) {
    ALLOWED.set(count);
}

#[cfg(test)]
fn process_max() -> usize {
    ALLOWED.get()
}

/// A mapping that is written under the log's lock, and synced from anywhere.
#[derive(Clone, Debug)]
pub struct Mapping {
    mapped: Arc<Mapped>,
    /// Whether a sync of it has failed. Locked for the whole of each sync: the kernel reports an
    /// error to only one of several concurrent callers, and all of them must see it.
    has_failed: Arc<Mutex<bool>>,
}

/// Dropped in this order.
#[derive(Debug)]
struct Mapped {
    /// `None` if there are more mappings than can be watched.
    watched: Option<WatchedMapping>,
    map: MmapRaw,
    is_writable: bool,
    /// How many there are of the queue.
    count: Arc<AtomicUsize>,
}

impl Drop for Mapped {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Mapping {
    /// Maps the first `length` bytes of `file`, which is at `path`: shared, to be written to where
    /// `is_writable`. It is counted in `count` as long as it is there.
    pub fn of(
        file: &File,
        path: &Path,
        length: usize,
        is_writable: bool,
        count: &Arc<AtomicUsize>,
    ) -> io::Result<Mapping> {
        #[cfg(test)]
        if count.load(Ordering::Relaxed) >= process_max() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let mut options = MmapOptions::new();
        let options = options.len(length);
        let map = match is_writable {
            true => options.map_raw(file),
            false => options.map_raw_read_only(file),
        }?;
        let watched = WatchedMapping::new(path, map.as_ptr(), map.len(), is_writable);
        count.fetch_add(1, Ordering::Relaxed);
        let mapped = Mapped { watched, map, is_writable, count: Arc::clone(count) };
        Ok(Mapping { mapped: Arc::new(mapped), has_failed: Arc::default() })
    }

    /// The offset of a page that could not be read; zeros stand there in its place. Returns `None`
    /// if all could so far.
    pub fn fault(&self) -> Option<u64> {
        self.mapped.watched.as_ref()?.fault()
    }

    /// True when its bytes may be written to.
    pub fn is_writable(&self) -> bool {
        self.mapped.is_writable
    }

    /// Writes what has changed in the first `end` bytes to the device; an error also after one of
    /// an earlier sync.
    pub fn sync(&self, end: usize) -> io::Result<()> {
        // A panic in a sync is not one that has succeeded.
        let mut has_failed = self.has_failed.lock().map_err(|_| failed_before())?;
        if *has_failed {
            return Err(failed_before());
        }
        let synced = self.mapped.map.flush_range(0, end.min(self.len()));
        *has_failed = synced.is_err();
        synced
    }

    /// Releases the pages that lie in `range` as a whole, to which nobody writes any more.
    pub fn release(&self, range: Range<usize>) {
        let start = range.start.next_multiple_of(page_size());
        let end = range.end.min(self.len()) / page_size() * page_size();
        if start >= end {
            return;
        }
        // SAFETY: in a shared mapping of a file the advice changes no byte: what has been written
        // is the page cache's, before and after, and a reader of the page meets it there. Nobody
        // writes to these pages meanwhile: before Linux 6.2 such a write could be taken for one
        // that the device has.
        let released = unsafe {
            self.mapped.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start)
        };
        if let Err(error) = released {
            log::debug!("pages of a segment's mapping are not released: {error}");
        }
    }

    /// Whether it is used at random: its pages are had one by one then.
    pub fn advise(&self, is_random: bool) -> io::Result<()> {
        self.mapped.map.advise(if is_random { Advice::Random } else { Advice::Normal })
    }

    pub fn len(&self) -> usize {
        self.mapped.map.len()
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.mapped.map.as_ptr()
    }

    /// Only a mapping that is writable may be written to.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.mapped.map.as_mut_ptr()
    }
}

fn failed_before() -> io::Error {
    io::Error::other("an earlier sync of this file has failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel reported the failure to another sync.
    #[test]
    fn after_a_sync_that_failed_none_succeeds() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(page_size() as u64).unwrap();
        let mapping =
            Mapping::of(&file, Path::new("file"), page_size(), true, &Arc::default()).unwrap();
        let same = mapping.clone();
        mapping.sync(1).unwrap();
        *mapping.has_failed.lock().unwrap() = true;
        assert!(mapping.sync(1).is_err());
        assert!(same.sync(1).is_err());
    }
}
