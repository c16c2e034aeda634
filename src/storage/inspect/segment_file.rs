//! One segment file, piece by piece, whatever state it is in.
//!
//! It may lie anywhere, have any name and hold anything: what can be decoded is, and the rest is
//! named. This file knows no queue, so it cannot tell what lives, nor a torn record from a rotten
//! one.

use super::super::codec::Codec;
use super::super::cursor::{Cursor, SlotFault, said_by_slots, slot_offset};
use super::super::error::StorageError;
use super::super::folder::{OpenFile, open_regular};
use super::super::footer::{Footer, Sealed};
use super::super::header::{HeaderFault, SegmentHeader};
use super::super::index::HashKey;
use super::super::layout::*;
use super::super::names::base_of;
use super::super::record::{Fault, Record, Verdict};
use super::super::segment::Segment;
use super::super::version::Version;
use super::super::walk::{Step, Walk, is_zero};
use std::io::{self, Read};
use std::path::Path;

/// Bytes of a segment's file name.
const FILE_NAME_LENGTH: usize = 24;

/// Where a file's base is taken from: the first of these that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseSource {
    /// An intact header.
    Header,
    /// The end of the file's name.
    Name,
    /// A cursor slot with a right checksum.
    CursorSlot,
    /// Nothing: zero is a guess.
    Nothing,
}

/// A cursor slot as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorSlot {
    /// It was never written.
    Blank,
    /// It counts.
    Valid(Cursor),
    /// It was written, and something is wrong.
    Bad {
        /// What it says, as far as that can be believed.
        says: Cursor,
        /// What is wrong.
        fault: SlotFault,
    },
}

/// What stands at a place where a record may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A whole record.
    Whole {
        /// Where it starts in the file, in bytes.
        offset: u64,
        /// Its checksum, which is the one that its bytes give.
        crc: u32,
        /// What it says.
        record: Record<'a>,
    },
    /// Bytes that are no record.
    Bad {
        /// Where they start in the file.
        offset: u64,
        /// What is wrong there.
        fault: Fault,
        /// What it would be if its checksum were right.
        seeming: Option<Record<'a>>,
        /// All of them, up to the next whole record or the end.
        bytes: &'a [u8],
    },
}

/// A segment file that is looked at.
#[derive(Debug)]
pub struct SegmentFile {
    segment: Segment,
    length: u64,
    header: Result<(SegmentHeader, u64), HeaderFault>,
    base_source: BaseSource,
    /// What comes before the records.
    start: Vec<u8>,
}

impl SegmentFile {
    /// Opens the file at `path`. What it holds is never an error.
    pub fn open(path: &Path) -> Result<SegmentFile, StorageError> {
        let mut start = Vec::new();
        let mut read = || -> io::Result<u64> {
            let OpenFile { file, length, .. } = open_regular(path)?;
            file.take(RECORDS as u64).read_to_end(&mut start)?;
            Ok(length)
        };
        let length = read().map_err(|error| StorageError::io("read", path, error))?;
        let (base, base_source) = base(path, &start);
        let header = SegmentHeader::decode(base, &start);
        let size = header.as_ref().map_or(length, |(_, size)| length.min(*size));
        let codec = codec(base, header.as_ref().ok().map(|(header, _)| header), &start);
        let segment = Segment::anywhere(path.into(), base, size).with_codec(codec).read_only();
        Ok(SegmentFile { segment, length, header, base_source, start })
    }

    /// The version that its records and slots are read as.
    pub fn version(&self) -> Version {
        self.segment.codec.version()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.segment.path
    }

    /// The position of its first byte.
    pub fn base(&self) -> u64 {
        self.segment.base
    }

    /// How that is known.
    pub fn base_source(&self) -> BaseSource {
        self.base_source
    }

    /// The base that its name says, if that is the name of a segment.
    pub fn base_in_name(&self) -> Option<u64> {
        base_in_name(self.path())
    }

    /// Bytes of the file, a footer included.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of the segment that are there, without a footer where the header is intact.
    pub fn size(&self) -> u64 {
        self.segment.size
    }

    /// The header, and the size it says.
    pub fn header(&self) -> Result<&(SegmentHeader, u64), HeaderFault> {
        self.header.as_ref().map_err(|fault| *fault)
    }

    /// True when there is nothing but zeros, or nothing at all: it was never finished.
    pub fn is_blank(&self) -> Result<bool, StorageError> {
        Ok(self.segment.size == 0 || is_zero(self.segment.bytes()?))
    }

    /// An offset of bytes that could not be read so far; zeros are shown in their place.
    pub fn unreadable(&self) -> Option<u64> {
        self.segment.unreadable()
    }

    /// The cursor slots.
    pub fn slots(&self) -> [CursorSlot; SLOT_COUNT] {
        std::array::from_fn(|index| slot(self.base(), self.version(), &self.start, index))
    }

    /// The highest generation of its valid cursors.
    pub fn newest_generation(&self) -> Option<u64> {
        Cursor::newest(self.base(), self.version(), &self.start)
            .map(|(_, cursor)| cursor.generation)
    }

    /// What stands where records may be, in order. Only zeros follow the last piece.
    pub fn pieces(&self) -> Result<impl Iterator<Item = Piece<'_>>, StorageError> {
        let start = self.segment.records_start();
        let bytes = if self.segment.size == 0 { &[] } else { self.segment.bytes_from(start)? };
        let from = move |position: u64| {
            let offset = usize::try_from(position - start).unwrap_or(usize::MAX);
            bytes.get(offset..).unwrap_or_default()
        };
        let piece = move |step| match step {
            Step::Whole(position, record) => Piece::Whole {
                offset: position - start + RECORDS as u64,
                crc: stored_crc(self.version(), from(position)),
                record,
            },
            Step::Damage { position, fault, resumes } => {
                let rest = from(position);
                let behind = resumes.map_or(0, |resumes| from(resumes).len());
                let seeming = match self.segment.codec.reread(rest) {
                    Verdict::Whole(record) => Some(record),
                    _ => None,
                };
                let offset = position - start + RECORDS as u64;
                Piece::Bad { offset, fault, seeming, bytes: &rest[..rest.len() - behind] }
            }
        };
        Ok(Walk::new(&self.segment.codec, bytes, start).map(piece))
    }

    /// What is behind the segment's own bytes. Without an intact header nothing says where that is.
    pub fn footer(&self) -> Result<Sealed, StorageError> {
        let read = Footer::read(&self.segment);
        read.map_err(|error| StorageError::io("read", self.path(), error))
    }
}

/// The base of the file at `path` that starts with `start`.
fn base(path: &Path, start: &[u8]) -> (u64, BaseSource) {
    let in_header = get_u64(start, SEGMENT_BASE);
    let header = SegmentHeader::decode(in_header, start);
    let is_intact = matches!(header, Ok(_) | Err(HeaderFault::Version(_)));
    if is_intact && in_header <= POSITION_MAX {
        return (in_header, BaseSource::Header);
    }
    if let Some(base) = base_in_name(path) {
        return (base, BaseSource::Name);
    }
    let slots = [Version::Two, Version::One]
        .into_iter()
        .flat_map(|version| (0..SLOT_COUNT).map(move |index| slot(0, version, start, index)));
    let in_slot = slots.into_iter().find_map(|slot| match slot {
        CursorSlot::Bad { fault: SlotFault::Base(base), .. } if base <= POSITION_MAX => Some(base),
        _ => None,
    });
    in_slot.map_or((0, BaseSource::Nothing), |base| (base, BaseSource::CursorSlot))
}

/// What the records of the file at `base` that starts with `start` are read with. Where neither
/// header nor slots say it, they are taken for records of version 1, which need no key.
fn codec(base: u64, header: Option<&SegmentHeader>, start: &[u8]) -> Codec {
    if let Some(header) = header {
        return Codec::new(header.version, header.hash_key);
    }
    match said_by_slots(base, start) {
        Some((Ok(version), key)) => Codec::new(version, key),
        _ => Codec::new(Version::One, HashKey::default()),
    }
}

/// The checksum that a whole record has.
fn stored_crc(version: Version, record: &[u8]) -> u32 {
    get_u32(record, if version == Version::One { 0 } else { RECORD_CRC })
}

/// The base in the file's name. A copy in `damaged` has its queue's folder before it.
fn base_in_name(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    base_of(name.get(name.len().checked_sub(FILE_NAME_LENGTH)?..)?)
}

/// CursorSlot `index` of the segment of this version at `base` that starts with `start`.
fn slot(base: u64, version: Version, start: &[u8], index: usize) -> CursorSlot {
    // What a short file lacks counts as zero.
    let mut sector = [0; SECTOR];
    let bytes = start.get(slot_offset(index)..).unwrap_or_default();
    let length = bytes.len().min(SECTOR);
    sector[..length].copy_from_slice(&bytes[..length]);
    match (Cursor::decode(base, version, &sector), SlotFault::of(base, version, &sector)) {
        (Some(cursor), None) => CursorSlot::Valid(cursor),
        (_, Some(fault)) => CursorSlot::Bad { says: Cursor::fields(&sector), fault },
        (None, None) => CursorSlot::Blank,
    }
}
