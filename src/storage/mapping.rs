//! A shared mapping of a segment's file.
//!
//! A sync write-protects each page that has changed, to see when it changes again, and has the
//! other processors that run the daemon forget that they may write to it: page by page, and for
//! each it waits for their answers. Pages that are released before are taken out of the address
//! space with one such message. They stay in the page cache, changed as they are, and the next look
//! at one maps it again.

use memmap2::{Advice, MmapRaw, UncheckedAdvice};
use rustix::param::page_size;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// A mapping that is written under the log's lock, and synced from anywhere.
#[derive(Clone, Debug)]
pub struct Mapping(Arc<MmapRaw>);

impl Mapping {
    /// `map` is of all of a file, and shared.
    pub fn new(map: MmapRaw) -> Mapping {
        Mapping(Arc::new(map))
    }

    /// Writes what has changed in the first `end` bytes to the device.
    pub fn sync(&self, end: usize) -> io::Result<()> {
        self.0.flush_range(0, end.min(self.len()))
    }

    /// Releases the pages that lie in `range` as a whole, to which nobody writes any more.
    pub fn release(&self, range: Range<usize>) {
        let start = range.start.next_multiple_of(page_size());
        let end = range.end.min(self.len()) / page_size() * page_size();
        if start >= end {
            return;
        }
        // SAFETY: in a shared mapping of a file the advice changes no byte: what has been written
        // is the page cache's, before and after, and whoever reads a page meets it there. Nobody
        // writes to these pages meanwhile: before Linux 6.2 such a write could be taken for one
        // that the device has.
        let released =
            unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
        if let Err(error) = released {
            log::debug!("pages of a segment's mapping are not released: {error}");
        }
    }

    /// Whether it is used at random: its pages are had one by one then.
    pub fn advise(&self, is_random: bool) -> io::Result<()> {
        self.0.advise(if is_random { Advice::Random } else { Advice::Normal })
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    /// Only where the file has been mapped for writing may anything be written there.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.0.as_mut_ptr()
    }
}
