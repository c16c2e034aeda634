//! The blocks of a segment's file: had before they are needed, and written before they are synced.
//!
//! 1. A file has real blocks for all its bytes (rule 6): a hole in a mapping is a SIGBUS on a full
//!    disk. One that somebody has restored with holes, or copied so that it shares its blocks, gets
//!    its own before it is written to (rule 19).
//! 2. Blocks that were only allocated are unwritten extents, and the first sync of bytes in them
//!    has to write their conversion as well, which takes longer than the bytes do. So zeros are
//!    written some way ahead of what is appended. They are what is there anyhow (rule 4).
//! 3. They are written page by page, and the mapping is advised to be used at random. Else the page
//!    cache keeps the file in large folios (on ext4 since Linux 6.16, of up to 1 MiB), and each
//!    sync writes all of a folio in which a byte has changed.
//!
//! Only 1 is a promise. 2 and 3 are for speed, and are given up where they fail, with at most
//! a line in the debug log. They are for the start of a new segment and where a sync
//! covers few bytes: where it covers many, the conversion is a small part of it, and large folios
//! are cheaper to have. `segment` decides that, and gives the advice.
//!
//! This file knows bytes, and nothing of what they say.

use fs2::FileExt as _;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes of the smallest page that a kernel maps.
pub const PAGE: usize = 4096;

/// How far ahead blocks are written, in bytes.
pub const AHEAD: u64 = 256 * 1024;

/// The largest sync, in bytes of records, for which the conversion outweighs the records.
pub const AHEAD_SYNC_MAX: u64 = 16 * 1024;

/// The largest sync, in bytes of records, for which it pays to have the pages one by one: large
/// folios are cheaper to have, and each is written whole.
pub const PAGED_SYNC_MAX: u64 = 256 * 1024;

#[cfg(test)]
thread_local! {
    static IS_FULL: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// For tests: there are no blocks any more for files of this thread, or there are again.
#[cfg(test)]
pub fn set_disk_full(is_full: bool) {
    IS_FULL.set(is_full);
}

/// Gives the first `size` bytes of `file` real blocks, and the file that length at least.
pub fn allocate(file: &File, size: u64) -> io::Result<()> {
    #[cfg(test)]
    if IS_FULL.get() {
        return Err(io::ErrorKind::StorageFull.into());
    }
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, size)) {
        // `fs2` answers the error of an older call in place of its own, so that a full disk may
        // look like anything: it is asked only where the file system cannot do it by itself.
        Err(Errno::OPNOTSUPP) => file.allocate(size),
        outcome => Ok(outcome?),
    }
}

/// Makes the blocks of the first `size` bytes of `file`, which has that length, its own: a hole
/// gets some, and what is shared with a copy gets others. Writing to a mapping of it then needs no
/// room.
pub fn make_own(file: &File, size: u64) -> io::Result<()> {
    match retry_on_intr(|| fallocate(file, FallocateFlags::UNSHARE_RANGE, 0, size)) {
        // Where that is not known, nothing is shared, or (on btrfs) every write takes other blocks.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => allocate(file, size),
        Err(error) => Err(error.into()),
    }
}

/// Writes zeros to `start..end` of `file`, where something may be.
pub fn write_over(file: &File, start: u64, end: u64) -> io::Result<()> {
    let zeros = vec![0; 16 * PAGE];
    let mut offset = start;
    while offset < end {
        let size = (end - offset).min(zeros.len() as u64);
        file.write_all_at(&zeros[..size as usize], offset)?;
        offset += size;
    }
    Ok(())
}

/// Writes zeros to the pages of `file` that begin in `start..end`, and not past `end`. Nothing may
/// be there, or be written there meanwhile.
pub fn write_zeros(file: &File, start: u64, end: u64) -> io::Result<()> {
    let pages = start.next_multiple_of(PAGE as u64)..end;
    pages.step_by(PAGE).try_for_each(|page| {
        let size = (end - page).min(PAGE as u64);
        file.write_all_at(&[0; PAGE][..size as usize], page)
    })
}
