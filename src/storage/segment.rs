//! A segment: one preallocated file of a log, mapped into memory when it is looked at.
//!
//! This file knows bytes and positions; what its records are written with it only keeps.

use super::blocks::{
    AHEAD, AHEAD_SYNC_MAX, PAGE, PAGED_SYNC_MAX, allocate, make_own, write_over, write_zeros,
};
use super::codec::Codec;
use super::error::{NotCreated, StorageError};
use super::folder::{FileId, Folder, OpenFile, open_regular};
use super::header::SegmentHeader;
use super::home::{FilePlace, Home};
use super::index::HashKey;
use super::layout::*;
use super::mapping::Mapping;
use super::names::file_name;
use super::version::Version;
use super::waypoints::{Waypoint, Waypoints};
use rustix::fs::{Advice as FileAdvice, SeekFrom, fadvise, seek};
use rustix::io::Errno;
use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Makes a new file of `size` bytes durable. Where there is no room for that it is as if it had not
/// been made: nothing else waits for this sync.
fn sync_new(file: &File, path: &Path, size: u64) -> Result<(), StorageError> {
    file.sync_all().map_err(|error| match StorageError::io("sync", path, error) {
        StorageError::Io { source, .. } => StorageError::sync(path, source),
        StorageError::Full { what, path, .. } => StorageError::Full { what, path, bytes: size },
        other => other,
    })
}

/// Allocates `size` bytes for a new segment and writes its header. Returns the offset up to which
/// its blocks are written.
fn fill(file: &File, base: u64, size: u64, header: &SegmentHeader) -> io::Result<u64> {
    allocate(file, size)?;
    let mut sector = [0; SECTOR];
    header.encode(base, size, &mut sector);
    file.write_all_at(&sector, 0)?;
    let ahead = size.min(AHEAD);
    let written = write_zeros(file, SECTOR as u64, ahead);
    Ok(written.map_or(0, |()| ahead))
}

/// The largest sync, in bytes of records, before which no pages are released: they are few, and
/// the next pop would fault them in again at once.
const UNRELEASED_SYNC_MAX: u64 = AHEAD_SYNC_MAX;

/// What is known of a segment's footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FooterState {
    /// There is none.
    Absent,
    /// It is behind the segment's bytes, or somebody has set about writing it.
    Written,
    /// The segment is damaged: it is not to be tried again.
    GivenUp,
}

/// One segment of a log.
#[derive(Debug)]
pub struct Segment {
    /// The position of the file's first byte.
    pub base: u64,
    /// The file's length in bytes.
    pub size: u64,
    /// What its records are written and read with.
    pub codec: Codec,
    /// Where the file was when its folder was opened.
    pub path: PathBuf,
    /// No message that was pushed into this segment has a lower number; `u64::MAX` in a spare one.
    pub first_sequence: u64,
    /// Where some of these messages lie.
    pub waypoints: Waypoints,
    /// The position after its last record.
    pub records_end: u64,
    /// Live messages in it.
    pub live_count: u64,
    /// Bytes of the records of live messages.
    pub live_bytes: u64,
    /// Whether its footer is written, or will not be.
    pub footer: FooterState,
    /// Its file has been unlinked, with all that it said: there is nothing of it to write or sync.
    pub is_unlinked: bool,
    /// The folder of its queue; `None` if it is only looked at, wherever it lies.
    home: Option<Arc<Home>>,
    /// Which file it is; `None` until that is known.
    id: Option<FileId>,
    is_read_only: bool,
    /// The offset up to which its blocks are known to be its own, or 0 if unknown.
    own_end: u64,
    /// The offset up to which its blocks have been written, or that has been tried; 0 if unknown.
    written_end: u64,
    /// The mapping has been advised to be used at random.
    is_random: bool,
    map: OnceCell<Mapping>,
}

impl Segment {
    /// A segment over the existing file of `size` bytes in `home`, without records for all that is
    /// known.
    pub fn existing(home: &Arc<Home>, base: u64, size: u64) -> Segment {
        let path = home.path().join(file_name(base));
        Segment { home: Some(Arc::clone(home)), ..Segment::anywhere(path, base, size) }
    }

    /// The same over the file at `path`, which need not belong to a queue.
    pub fn anywhere(path: PathBuf, base: u64, size: u64) -> Segment {
        Segment {
            base,
            size,
            // Until it is known: records of version 1 need no key.
            codec: Codec::new(Version::One, HashKey::default()),
            path,
            first_sequence: u64::MAX,
            waypoints: Waypoints::default(),
            records_end: base.saturating_add(RECORDS as u64),
            live_count: 0,
            live_bytes: 0,
            footer: FooterState::Absent,
            is_unlinked: false,
            home: None,
            id: None,
            is_read_only: false,
            own_end: 0,
            written_end: 0,
            is_random: false,
            map: OnceCell::new(),
        }
    }

    /// The same segment, whose file is opened and mapped for reading only.
    pub fn read_only(self) -> Segment {
        Segment { is_read_only: true, map: OnceCell::new(), ..self }
    }

    /// The same segment, whose records are written and read like that.
    pub fn with_codec(self, codec: Codec) -> Segment {
        Segment { codec, ..self }
    }

    /// The same segment, whose file is this one and no other.
    pub fn known_as(self, id: FileId) -> Segment {
        Segment { id: Some(id), ..self }
    }

    /// Where its file must be for a start to find it.
    pub fn place(&self) -> FilePlace {
        FilePlace { path: self.path.clone(), id: self.id }
    }

    /// Opens its file, to be written to as well where `is_written`.
    pub fn open(&self, is_written: bool) -> io::Result<OpenFile> {
        let Some(home) = &self.home else { return open_regular(&self.path) };
        let opened = home.open()?.open_file(OsStr::new(&file_name(self.base)), is_written)?;
        match self.id {
            Some(id) if id != opened.id => {
                Err(io::Error::new(io::ErrorKind::NotFound, "another file is in its place"))
            }
            _ => Ok(opened),
        }
    }

    /// The same bytes for a reader that has no lock on the log. While that is there nothing is
    /// written to this segment: it has a successor, or the log is being put together.
    pub fn apart(&self) -> Result<Segment, StorageError> {
        let map = OnceCell::from(self.mapping()?.clone());
        let (path, home, codec) = (self.path.clone(), self.home.clone(), self.codec.clone());
        Ok(Segment {
            path,
            home,
            codec,
            is_read_only: true,
            map,
            waypoints: Waypoints::default(),
            ..*self
        })
    }

    /// The position of its first record.
    pub fn records_start(&self) -> u64 {
        self.base.saturating_add(RECORDS as u64)
    }

    /// Whether a look may begin in the middle: in version 1 the number before damage bounds it.
    pub fn has_places(&self) -> bool {
        self.codec.version() != Version::One
    }

    /// None of the messages that were pushed with number `from` or above lies before `position`.
    pub fn note_place(&mut self, from: u64, position: u64) {
        if self.has_places() {
            self.waypoints.note(Waypoint { from, position }, self.records_start());
        }
    }

    /// Bytes of all its records.
    pub fn record_bytes(&self) -> u64 {
        self.records_end.saturating_sub(self.records_start())
    }

    /// Makes a segment file of `size` bytes, with its header, durable with its name in `folder`,
    /// which is that of `home`. A file that is there already stays as it is.
    pub fn create(
        home: &Arc<Home>,
        folder: &Folder,
        base: u64,
        size: u64,
        header: &SegmentHeader,
    ) -> Result<Segment, NotCreated> {
        let segment = Segment::existing(home, base, size);
        let (path, name) = (segment.path.clone(), file_name(base));
        let name = OsStr::new(&name);
        let failed = |error| match StorageError::io("create", &path, error) {
            StorageError::Full { what, path, .. } => StorageError::Full { what, path, bytes: size },
            other => other,
        };
        let refused = |error| NotCreated { error: failed(error), stays: false };
        let file = folder.create_file(name).map_err(refused)?;
        let made = fill(&file, base, size, header)
            .and_then(|written_end| Ok((written_end, FileId::of(&file)?)))
            .map_err(failed)
            .and_then(|made| sync_new(&file, &path, size).map(|()| made))
            .and_then(|made| folder.sync().map(|()| made));
        let (written_end, id) = made.map_err(|error| {
            // What is left of it would only take space; if it stays, recovery removes it.
            NotCreated { error, stays: folder.remove_file(name).is_err() }
        })?;
        let codec = Codec::new(header.version, header.hash_key);
        Ok(Segment { own_end: size, written_end, ..segment.known_as(id).with_codec(codec) })
    }

    /// The work of a sync that covers `unsynced` bytes of records at their end, and whatever else
    /// has changed. It runs without the log's lock.
    pub fn begin_sync(
        &mut self,
        unsynced: u64,
    ) -> Result<impl FnOnce() -> io::Result<()> + use<>, StorageError> {
        let mapping = self.prepare_writing()?.clone();
        let end = self.records_end - self.base;
        let reach = self.prepare_syncs(unsynced);
        // What is before the records, the cursor's slots, is written to meanwhile.
        let start = end.saturating_sub(unsynced).max(RECORDS as u64);
        let released = match unsynced > UNRELEASED_SYNC_MAX {
            true => start as usize..end as usize,
            false => 0..0,
        };
        Ok(move || {
            mapping.release(released);
            mapping.sync(reach as usize)
        })
    }

    /// Prepares the syncs after one of `unsynced` bytes of records: where that is few, they write
    /// little more than as many. Answers the offset that this one should reach for that.
    fn prepare_syncs(&mut self, unsynced: u64) -> u64 {
        let end = self.records_end - self.base;
        if unsynced > 0 {
            self.advise(unsynced <= PAGED_SYNC_MAX);
        }
        let is_small = (1..=AHEAD_SYNC_MAX).contains(&unsynced);
        if is_small && self.written_end < self.size.min(end + AHEAD / 4) {
            let wanted = self.size.min((end + AHEAD).next_multiple_of(PAGE as u64));
            let start = end.max(self.written_end);
            let write = |it: OpenFile| write_zeros(&it.file, start, wanted);
            if let Err(error) = self.open(true).and_then(write) {
                log::debug!("{}: not written ahead: {error}", self.path.display());
            }
            // Also where it has failed: it is not worth a try in each sync.
            self.written_end = wanted;
        }
        end.max(self.written_end)
    }

    /// Whether the mapping is used at random: its pages are had one by one then.
    fn advise(&mut self, is_random: bool) {
        if is_random == self.is_random {
            return;
        }
        let mapping = self.mapping().map_err(io::Error::other);
        match mapping.and_then(|mapping| mapping.advise(is_random)) {
            Ok(()) => self.is_random = is_random,
            Err(error) => log::debug!("{}: advice not taken: {error}", self.path.display()),
        }
    }

    /// The position after the file's last byte.
    pub fn end(&self) -> u64 {
        self.base.saturating_add(self.size)
    }

    /// The mapping, made now if there is none. It is for reading only unless
    /// [`prepare_writing`](Self::prepare_writing) has made it: reading needs no right to write.
    pub fn mapping(&self) -> Result<&Mapping, StorageError> {
        if let Some(mapping) = self.map.get() {
            if !self.is_read_only {
                self.check_read()?;
            }
            return Ok(mapping);
        }
        let mapping = self.map_file(false)?;
        Ok(self.map.get_or_init(|| mapping))
    }

    /// An offset of bytes that could not be read since the file was mapped: zeros are in their
    /// place. Returns `None` if all could.
    pub fn unreadable(&self) -> Option<u64> {
        self.map.get()?.fault()
    }

    /// An error if something could not be read since the file was mapped: what has been made of the
    /// zeros in its place does not count.
    pub fn check_read(&self) -> Result<(), StorageError> {
        let Some(offset) = self.unreadable() else { return Ok(()) };
        let source = io::Error::other(format!("the bytes at offset {offset} cannot be read"));
        Err(StorageError::io("read", &self.path, source))
    }

    fn map_file(&self, is_writable: bool) -> Result<Mapping, StorageError> {
        let mapped = self.open(is_writable).and_then(|OpenFile { file, length, .. }| {
            if length < self.size {
                return Err(io::Error::other("the file has become shorter"));
            }
            let length = usize::try_from(self.size).map_err(io::Error::other)?;
            let alone = Arc::default();
            let count = self.home.as_ref().map_or(&alone, |home| home.mappings());
            Mapping::of(&file, &self.path, length, is_writable, count)
        });
        mapped.map_err(|error| StorageError::io("map", &self.path, error))
    }

    /// The mapping for writing, made now if there is none. After this a write to it cannot fail for
    /// want of blocks.
    pub fn prepare_writing(&mut self) -> Result<&Mapping, StorageError> {
        if self.is_read_only {
            let source = io::ErrorKind::ReadOnlyFilesystem.into();
            return Err(StorageError::io("write", &self.path, source));
        }
        if !self.map.get().is_some_and(Mapping::is_writable) {
            if self.own_end == 0 {
                self.own_blocks()?;
            }
            let mapping = self.map_file(true)?;
            self.unmap();
            return Ok(self.map.get_or_init(|| mapping));
        }
        self.mapping()
    }

    /// Makes all blocks of the file its own, or as many as its records take where there is no room
    /// for more: popping needs no others.
    pub fn own_blocks(&mut self) -> Result<(), StorageError> {
        let used = (self.records_end - self.base).next_multiple_of(PAGE as u64).min(self.size);
        let own = || -> io::Result<u64> {
            let file = self.open(true)?.file;
            match make_own(&file, self.size) {
                Ok(()) => Ok(self.size),
                Err(error) if used < self.size => {
                    make_own(&file, used)?;
                    log::warn!("{}: no blocks behind offset {used}: {error}", self.path.display());
                    Ok(used)
                }
                failed => failed.map(|()| 0),
            }
        };
        let own_end = own().map_err(|error| StorageError::io("allocate", &self.path, error))?;
        self.own_end = own_end;
        Ok(())
    }

    /// Bytes that are free for records.
    pub fn room(&self) -> u64 {
        let end = if self.own_end == 0 { self.size } else { self.own_end };
        self.base.saturating_add(end).saturating_sub(self.records_end)
    }

    /// Lets go of the mapping; the next look makes it anew.
    pub fn unmap(&mut self) {
        self.map.take();
        self.is_random = false;
    }

    /// The same when nothing is looked at any more: what could not be read is known only as long as
    /// the mapping is there. Who only looks takes it for zeros.
    pub fn let_go(&mut self) -> Result<(), StorageError> {
        if !self.is_read_only {
            self.check_read()?;
        }
        self.unmap();
        Ok(())
    }

    /// Drops the pages behind the records from the page cache, where they have been read in large
    /// folios: a sync would write these whole. A folio with records in it stays, and so does what
    /// waits to be written.
    pub fn forget_free_pages(&mut self) {
        let start = self.records_end - self.base;
        if self.size.saturating_sub(start) <= AHEAD {
            return;
        }
        self.unmap();
        let drop = |it: OpenFile| Ok(fadvise(it.file, start, None, FileAdvice::DontNeed)?);
        if let Err(error) = self.open(false).and_then(drop) {
            log::debug!("{}: pages not dropped: {error}", self.path.display());
        }
    }

    /// An offset behind which nothing had been written when it was asked: zeros were there, which
    /// need not be read. Where the file system does not tell, or to ask is not worth it, the end of
    /// the file. A daemon at work may append there meanwhile: a record is one wherever it lies.
    pub fn data_end(&self) -> u64 {
        if self.size <= AHEAD {
            return self.size;
        }
        let find_end = || -> io::Result<u64> {
            let file = self.open(false)?.file;
            let mut end = 0;
            loop {
                match seek(&file, SeekFrom::Data(end)) {
                    // There is no more.
                    Err(Errno::NXIO) => return Ok(end),
                    data => end = seek(&file, SeekFrom::Hole(data?))?.max(end + 1),
                }
                if end >= self.size {
                    return Ok(self.size);
                }
            }
        };
        find_end().unwrap_or(self.size)
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> Result<&[u8], StorageError> {
        let mapping = self.mapping()?;
        // SAFETY: the mapping covers `len` bytes and lives as long as `self.map` holds it, which
        // takes `&mut self` to change. In this process only `bytes_mut` writes to it, and
        // `prepare_syncs` to the file under it. Both take `&mut self` too, and are not called while
        // there is one `apart` from it; `Mapping::sync` and `Mapping::release` only ask the kernel
        // to write pages out, and to map them anew. Where it is written to,
        // the blocks are allocated, so no access meets a hole. What cannot be read turns to zeros
        // under the slice, by `bus_error`. What remains: another program that writes to the file
        // changes bytes under the slice. A segment
        // that is written here has no such program: its directory belongs to the daemon that holds
        // the lock. One that is only read may have a daemon at work on it, which never cuts off any
        // of its bytes, but appends and writes the cursor. The language promises nothing then. What
        // the machine does is to load the bytes of before or of after; no offset or length from
        // them is used before it is compared with the slice, and a record counts only with a
        // checksum that fits.
        Ok(unsafe { std::slice::from_raw_parts(mapping.as_ptr(), mapping.len()) })
    }

    /// All bytes of the file, to be written.
    pub fn bytes_mut(&mut self) -> Result<&mut [u8], StorageError> {
        let mapping = self.prepare_writing()?;
        // SAFETY: as for `bytes`; `&mut self` makes this the only slice of the mapping in the
        // process, and `prepare_writing` answers a mapping that may be written to.
        Ok(unsafe { std::slice::from_raw_parts_mut(mapping.as_mut_ptr(), mapping.len()) })
    }

    /// Writes zeros from `start` to the last byte that is none, durably.
    pub fn cut(&mut self, start: usize) -> Result<(), StorageError> {
        let bytes = self.bytes()?.get(start..).unwrap_or_default();
        let end = start + bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        // By a system call: there may be holes among what is cut, and no room for their blocks.
        let cut = || -> io::Result<File> {
            let file = self.open(true)?.file;
            write_over(&file, start as u64, end as u64)?;
            Ok(file)
        };
        let file = cut().map_err(|error| StorageError::io("cut", &self.path, error))?;
        file.sync_all().map_err(|error| StorageError::sync(&self.path, error))
    }

    /// Makes every page between two offsets dirty, so that the next sync writes it. After a sync
    /// that failed the kernel may take pages for written that never were.
    pub fn touch(&mut self, start: usize, end: usize) -> Result<(), StorageError> {
        let bytes = self.bytes_mut()?;
        let end = end.min(bytes.len());
        for page in (start / PAGE * PAGE..end).step_by(PAGE) {
            // The same value again; black_box keeps the compiler from leaving the write out.
            bytes[page] = std::hint::black_box(bytes[page]);
        }
        Ok(())
    }

    /// The bytes from `position` to the end of the file.
    pub fn bytes_from(&self, position: u64) -> Result<&[u8], StorageError> {
        let offset = usize::try_from(position.saturating_sub(self.base)).unwrap_or(usize::MAX);
        Ok(self.bytes()?.get(offset..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
