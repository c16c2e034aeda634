//! A shared mapping of a segment's file.
//!
//! A sync takes every page that has changed from the threads that write to it, to see when it
//! changes again: page by page, and for each it sends a message to the other processors that run
//! the daemon and waits for their answers. Pages that are released before are taken away all at
//! once. They stay in the page cache, changed as they are, and the next look at one has it again.

use memmap2::{Advice, MmapRaw, UncheckedAdvice};
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

    /// Releases the pages of `range`; an empty one says nothing.
    pub fn release(&self, range: Range<usize>) {
        let end = range.end.min(self.len());
        let Some(length) = end.checked_sub(range.start).filter(|length| *length > 0) else {
            return;
        };
        // SAFETY: in a shared mapping of a file the advice changes no byte: what has been written
        // is the page cache's, before and after, and an access meets it there.
        let released = unsafe {
            self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, length)
        };
        if let Err(error) = released {
            log::debug!("pages of a mapping not released: {error}");
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
