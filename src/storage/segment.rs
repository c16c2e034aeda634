//! A segment: one preallocated file of a log, mapped into memory when it is looked at.
//!
//! This file knows bytes and positions; it knows no records.

use super::error::StorageError;
use super::header::SegmentHeader;
use super::layout::*;
use fs2::FileExt;
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};
use std::cell::OnceCell;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of the smallest page that a kernel maps.
const PAGE: usize = 4096;

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

/// Gives the first `size` bytes of `file` real blocks (rule 6), and the file that length at least.
pub fn allocate(file: &File, size: u64) -> io::Result<()> {
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, size)) {
        // `fs2` answers the error of an older call in place of its own, so that a full disk may
        // look like anything: it is asked only where the file system cannot do it by itself.
        Err(Errno::OPNOTSUPP) => file.allocate(size),
        outcome => Ok(outcome?),
    }
}

/// A shared mapping of a segment file: written under the log's lock, synced from anywhere.
#[derive(Clone, Debug)]
pub struct Mapping(Arc<MmapRaw>);

impl Mapping {
    /// Writes what has changed in the first `end` bytes to the device.
    pub fn sync(&self, end: usize) -> io::Result<()> {
        self.0.flush_range(0, end.min(self.0.len()))
    }
}

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
            map: OnceCell::new(),
        }
    }

    /// The same segment, whose file is opened and mapped for reading only.
    pub fn read_only(self) -> Segment {
        Segment { is_read_only: true, map: OnceCell::new(), ..self }
    }

    /// The same bytes for whoever only reads them, without the log's lock: nothing is written to
    /// this segment any more, since it has a successor.
    pub fn sealed(&self) -> Result<Segment, StorageError> {
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
            .and_then(|file| sync_new(&file, &path))
            .map_err(|error| match error {
                StorageError::Full { path, .. } => StorageError::Full { path, bytes: size },
                other => other,
            })
            .and_then(|()| sync_directory(directory));
        if let Err(error) = made {
            // What is left of it would only take space; if it stays, recovery removes it.
            let _stays = fs::remove_file(&path);
            return Err(error);
        }
        Ok(Segment::existing(base, size, path))
    }

    fn make_file(path: &Path, base: u64, size: u64, header: &SegmentHeader) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(path)?;
        allocate(&file, size)?;
        let mut sector = [0; SECTOR];
        header.encode(base, size, &mut sector);
        io::Write::write_all(&mut &file, &sector)?;
        Ok(file)
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
        Ok(self.map.get_or_init(|| Mapping(Arc::new(mapping))))
    }

    /// Lets go of the mapping; the next look makes it anew.
    pub fn unmap(&mut self) {
        self.map.take();
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> Result<&[u8], StorageError> {
        let mapping = &self.mapping()?.0;
        // SAFETY: the mapping covers `len` bytes and lives as long as `self.map` holds it, which
        // takes `&mut self` to change. In this process only `bytes_mut` writes to it, which takes
        // `&mut self` too, and is not called any more when there is a `sealed` one beside it;
        // `Mapping::sync` only asks the kernel to write pages out. The blocks are allocated, so no
        // access meets a hole. What remains: another program that truncates the
        // file makes an access past its new end fail with SIGBUS, and one that writes to it changes
        // bytes under the slice. A segment that is written here has no such program: its directory
        // belongs to the daemon that holds the lock. One that is only read may have a daemon at
        // work on it, which never cuts off any of its bytes, but appends and writes the cursor. The
        // language promises nothing then. What the machine does is to load the bytes of before or
        // of after; no offset or length from them is used before it is compared with the slice, and
        // a record counts only with a checksum that fits.
        Ok(unsafe { std::slice::from_raw_parts(mapping.as_ptr(), mapping.len()) })
    }

    /// All bytes of the file, to be written.
    pub fn bytes_mut(&mut self) -> Result<&mut [u8], StorageError> {
        if self.is_read_only {
            let source = io::ErrorKind::ReadOnlyFilesystem.into();
            return Err(StorageError::io("write", &self.path, source));
        }
        let mapping = &self.mapping()?.0;
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
mod tests {
    use super::*;

    fn header(name: &[u8]) -> SegmentHeader {
        SegmentHeader { created_ms: 9, hash_key: [5; 16], name: name.into() }
    }

    #[test]
    fn file_names_sort_as_positions_do_and_are_read_back() {
        assert!(file_name(999) < file_name(1000));
        assert_eq!(base_of(&file_name(POSITION_MAX)), Some(POSITION_MAX));
        assert_eq!(base_of(&file_name(u64::MAX)), None);
        for name in ["1.seg", "0000000000000000000x.seg", "99999999999999999999.seg", "x"] {
            assert_eq!(base_of(name), None, "{name}");
        }
    }

    #[test]
    fn a_segment_is_made_of_real_blocks() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let segment = Segment::create(directory.path(), 0, 1 << 20, &header(b"q")).unwrap();
        let metadata = fs::metadata(&segment.path).unwrap();
        assert_eq!(metadata.len(), 1 << 20);
        assert!(metadata.blocks() * 512 >= 1 << 20, "{} blocks", metadata.blocks());
    }
}
