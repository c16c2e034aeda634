//! A segment: one preallocated file of a log, mapped into memory when it is looked at.
//!
//! This file knows bytes and positions; it knows no records.

use super::blocks::{AHEAD, AHEAD_SYNC_MAX, PAGE, PAGED_SYNC_MAX, allocate, write_zeros};
use super::error::StorageError;
use super::header::SegmentHeader;
use super::layout::*;
use super::mapping::Mapping;
use memmap2::MmapOptions;
use rustix::fs::{Advice as FileAdvice, SeekFrom, fadvise, seek};
use rustix::io::Errno;
use std::cell::OnceCell;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// The file name of the segment at `base`: 20 digits, so that names sort as positions do.
pub fn file_name(base: u64) -> String {
    format!("{base:020}.seg")
}

/// The base in a segment's file name; None: this is no segment.
pub fn base_of(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(".seg")?;
    let is_plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let base: Option<u64> = if is_plain { digits.parse().ok() } else { None };
    base.filter(|base| *base <= POSITION_MAX && base.is_multiple_of(ALIGNMENT as u64))
}

/// Makes the directory at `path` and those above it that are missing, durable with their names.
pub fn create_durably(path: &Path) -> Result<(), StorageError> {
    let missing: Vec<&Path> = path.ancestors().take_while(|level| !level.exists()).collect();
    fs::create_dir_all(path).map_err(|error| StorageError::io("create", path, error))?;
    for level in missing {
        let parent = level.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Makes creations, renames and removals in `directory` durable.
pub fn sync_directory(directory: &Path) -> Result<(), StorageError> {
    let folder = File::open(directory);
    let folder = folder.map_err(|error| StorageError::io("open", directory, error))?;
    sync_open_directory(&folder, directory)
}

/// The same with `folder`, which is `directory`, opened before.
pub fn sync_open_directory(folder: &File, directory: &Path) -> Result<(), StorageError> {
    folder.sync_all().map_err(|error| StorageError::sync(directory, error))
}

/// Makes a new file durable. Where there is no room for that it is as if it had not been made:
/// nothing else waits for this sync.
fn sync_new(file: &File, path: &Path) -> Result<(), StorageError> {
    file.sync_all().map_err(|error| match StorageError::io("sync", path, error) {
        StorageError::Io { source, .. } => StorageError::sync(path, source),
        full => full,
    })
}

/// The largest sync, in bytes of records, before which no pages are released: they are few, and
/// whoever pops would have them again at once.
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
    /// Where the file is.
    pub path: PathBuf,
    /// No message that was pushed into this segment has a lower number; `u64::MAX` in a spare one.
    pub first_sequence: u64,
    /// The position after its last record.
    pub records_end: u64,
    /// Live messages in it.
    pub live_count: u64,
    /// Bytes of the records of live messages.
    pub live_bytes: u64,
    /// Whether its footer is written, or will not be.
    pub footer: FooterState,
    is_read_only: bool,
    /// The offset up to which its blocks have been written, or that has been tried; 0: not known.
    written_end: u64,
    /// The mapping has been advised to be used at random.
    is_random: bool,
    map: OnceCell<Mapping>,
}

impl Segment {
    /// A segment over an existing file of `size` bytes, without records for all that is known.
    pub fn existing(base: u64, size: u64, path: PathBuf) -> Segment {
        Segment {
            base,
            size,
            path,
            first_sequence: u64::MAX,
            records_end: base.saturating_add(RECORDS as u64),
            live_count: 0,
            live_bytes: 0,
            footer: FooterState::Absent,
            is_read_only: false,
            written_end: 0,
            is_random: false,
            map: OnceCell::new(),
        }
    }

    /// The same segment, whose file is opened and mapped for reading only.
    pub fn read_only(self) -> Segment {
        Segment { is_read_only: true, map: OnceCell::new(), ..self }
    }

    /// The same bytes for whoever only reads them, without the log. While that is there nothing is
    /// written to this segment: it has a successor, or the log is being put together.
    pub fn apart(&self) -> Result<Segment, StorageError> {
        let map = OnceCell::from(self.mapping()?.clone());
        Ok(Segment { path: self.path.clone(), is_read_only: true, map, ..*self })
    }

    /// The position of its first record.
    pub fn records_start(&self) -> u64 {
        self.base.saturating_add(RECORDS as u64)
    }

    /// Bytes of all its records.
    pub fn record_bytes(&self) -> u64 {
        self.records_end.saturating_sub(self.records_start())
    }

    /// Makes a segment file of `size` bytes, with its header, durable with its name in `directory`.
    pub fn create(
        directory: &Path,
        base: u64,
        size: u64,
        header: &SegmentHeader,
    ) -> Result<Segment, StorageError> {
        let path = directory.join(file_name(base));
        let made = Segment::make_file(&path, base, size, header)
            .map_err(|error| StorageError::io("create", &path, error))
            .and_then(|(file, written_end)| sync_new(&file, &path).map(|()| written_end))
            .map_err(|error| match error {
                StorageError::Full { path, .. } => StorageError::Full { path, bytes: size },
                other => other,
            })
            .and_then(|written_end| sync_directory(directory).map(|()| written_end));
        let written_end = made.inspect_err(|_| {
            // What is left of it would only take space; if it stays, recovery removes it.
            let _stays = fs::remove_file(&path);
        })?;
        Ok(Segment { written_end, ..Segment::existing(base, size, path) })
    }

    /// The file, and the offset up to which its blocks are written.
    fn make_file(
        path: &Path,
        base: u64,
        size: u64,
        header: &SegmentHeader,
    ) -> io::Result<(File, u64)> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(path)?;
        allocate(&file, size)?;
        let mut sector = [0; SECTOR];
        header.encode(base, size, &mut sector);
        io::Write::write_all(&mut &file, &sector)?;
        let ahead = size.min(AHEAD);
        let written = write_zeros(&file, SECTOR as u64, ahead);
        Ok((file, written.map_or(0, |()| ahead)))
    }

    /// The work of a sync that covers `unsynced` bytes of records at their end, and whatever else
    /// has changed. It runs without the log's lock.
    pub fn begin_sync(
        &mut self,
        unsynced: u64,
    ) -> Result<impl FnOnce() -> io::Result<()> + use<>, StorageError> {
        let mapping = self.mapping()?.clone();
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
            let file = OpenOptions::new().write(true).open(&self.path);
            let start = end.max(self.written_end);
            if let Err(error) = file.and_then(|file| write_zeros(&file, start, wanted)) {
                log::debug!("{}: not written ahead: {error}", self.path.display());
            }
            // Also where it has failed: it is not worth a try in each sync.
            self.written_end = wanted;
        }
        end.max(self.written_end)
    }

    /// It is only read from now on, and in order.
    pub fn expect_reads(&mut self) {
        self.advise(false);
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

    /// The mapping, made now if there is none.
    pub fn mapping(&self) -> Result<&Mapping, StorageError> {
        if let Some(mapping) = self.map.get() {
            return Ok(mapping);
        }
        let opened = OpenOptions::new().read(true).write(!self.is_read_only).open(&self.path);
        let mapped = opened.and_then(|file| {
            if file.metadata()?.len() < self.size {
                return Err(io::Error::other("the file has become shorter"));
            }
            let length = usize::try_from(self.size).map_err(io::Error::other)?;
            let mut options = MmapOptions::new();
            let options = options.len(length);
            if self.is_read_only {
                options.map_raw_read_only(&file)
            } else {
                options.map_raw(&file)
            }
        });
        let mapping = mapped.map_err(|error| StorageError::io("map", &self.path, error))?;
        Ok(self.map.get_or_init(|| Mapping::new(mapping)))
    }

    /// Lets go of the mapping; the next look makes it anew.
    pub fn unmap(&mut self) {
        self.map.take();
        self.is_random = false;
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
        let drop = |file: File| Ok(fadvise(file, start, None, FileAdvice::DontNeed)?);
        if let Err(error) = File::open(&self.path).and_then(drop) {
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
            let file = File::open(&self.path)?;
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
        // to write pages out, and to map them anew. The blocks are allocated, so no access meets a
        // hole. What remains: another program that truncates the file makes an access past its new
        // end fail with SIGBUS, and one that writes to it changes bytes under the slice. A segment
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
        if self.is_read_only {
            let source = io::ErrorKind::ReadOnlyFilesystem.into();
            return Err(StorageError::io("write", &self.path, source));
        }
        let mapping = self.mapping()?;
        // SAFETY: as for `bytes`; `&mut self` makes this the only slice of the mapping in the
        // process, and a segment that is not read-only is mapped for writing.
        Ok(unsafe { std::slice::from_raw_parts_mut(mapping.as_mut_ptr(), mapping.len()) })
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
