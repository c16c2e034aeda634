//! The header of a segment: which queue and which place in its log the file belongs to. And as much
//! of a queue's settings as says whether this program may pass over them.
//!
//! This file knows the bytes of one sector, and no files.

use super::index::HashKey;
use super::layout::*;
use super::version::Version;

/// What a segment's header says, beside where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The version of the segment.
    pub version: Version,
    /// Unix time of creation in milliseconds.
    pub created_ms: u64,
    /// The key of the queue's hashes.
    pub hash_key: HashKey,
    /// The queue's name.
    pub name: Box<[u8]>,
}

impl SegmentHeader {
    /// Writes the header of a segment of `size` bytes at `base` to `sector`, which is all zero. The
    /// name has [`NAME_MAX`] bytes at most.
    pub fn encode(&self, base: u64, size: u64, sector: &mut [u8]) {
        sector[SEGMENT_MAGIC..SEGMENT_READER].copy_from_slice(&MAGIC);
        self.version.write(sector, SEGMENT_READER);
        put_u64(sector, SEGMENT_BASE, base);
        put_u64(sector, SEGMENT_SIZE, size);
        put_u64(sector, SEGMENT_CREATED_MS, self.created_ms);
        sector[SEGMENT_HASH_KEY..SEGMENT_NAME_LENGTH].copy_from_slice(&self.hash_key);
        put_u32(sector, SEGMENT_NAME_LENGTH, self.name.len() as u32);
        sector[SEGMENT_NAME..SEGMENT_NAME + self.name.len()].copy_from_slice(&self.name);
        let crc = crc32fast::hash(&sector[..SECTOR]);
        put_u32(sector, SEGMENT_CRC, crc);
    }

    /// Reads the header of the segment at `base` from its first sector, and the size it says.
    pub fn decode(base: u64, sector: &[u8]) -> Result<(SegmentHeader, u64), HeaderFault> {
        let (sector, version) = decode_start(sector, &MAGIC)?;
        let name_length = get_u32(sector, SEGMENT_NAME_LENGTH) as usize;
        if name_length > NAME_MAX {
            return Err(HeaderFault::NameLength(name_length));
        }
        let (found, size) = (get_u64(sector, SEGMENT_BASE), get_u64(sector, SEGMENT_SIZE));
        if found != base {
            return Err(HeaderFault::Base { expected: base, found });
        }
        if !(RECORDS as u64..=POSITION_MAX).contains(&size) {
            return Err(HeaderFault::Size(size));
        }
        let mut hash_key = HashKey::default();
        hash_key.copy_from_slice(&sector[SEGMENT_HASH_KEY..SEGMENT_NAME_LENGTH]);
        let header = SegmentHeader {
            version,
            created_ms: get_u64(sector, SEGMENT_CREATED_MS),
            hash_key,
            name: sector[SEGMENT_NAME..SEGMENT_NAME + name_length].into(),
        };
        Ok((header, size))
    }
}

/// Reads which version's reader the settings of a queue ask for, from their sector.
pub fn settings_version(sector: &[u8]) -> Result<Version, HeaderFault> {
    decode_start(sector, &SETTINGS_MAGIC_BYTES).map(|(_, version)| version)
}

/// Reads what headers and settings have in common: magic, version and checksum.
fn decode_start<'a>(
    bytes: &'a [u8],
    magic: &[u8; 8],
) -> Result<(&'a [u8; SECTOR], Version), HeaderFault> {
    let Some(sector) = bytes.first_chunk::<SECTOR>() else {
        return Err(HeaderFault::Short(bytes.len()));
    };
    if sector[..SEGMENT_READER] != *magic {
        return Err(HeaderFault::Magic);
    }
    let mut unsigned = *sector;
    put_u32(&mut unsigned, SEGMENT_CRC, 0);
    let (expected, found) = (get_u32(sector, SEGMENT_CRC), crc32fast::hash(&unsigned));
    if expected != found {
        return Err(HeaderFault::Checksum { expected, found });
    }
    let version = Version::read(sector, SEGMENT_READER).map_err(HeaderFault::Version)?;
    Ok((sector, version))
}

/// Why a header does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// It is intact, and asks for a reader that this program is not.
    Version(u16),
    /// The file has only this many bytes.
    Short(usize),
    /// It does not begin as a header does.
    Magic,
    /// The checksum does not fit the bytes.
    Checksum {
        /// What the header says.
        expected: u32,
        /// What its bytes give.
        found: u32,
    },
    /// The name cannot be so long.
    NameLength(usize),
    /// It is that of another segment.
    Base {
        /// What the file's name says.
        expected: u64,
        /// What the header says.
        found: u64,
    },
    /// The segment cannot be so long, or so short.
    Size(u64),
}

impl HeaderFault {
    /// Where in the header it is, in bytes.
    pub fn offset(&self) -> usize {
        match self {
            HeaderFault::Version(_) => SEGMENT_READER,
            HeaderFault::Short(length) => *length,
            HeaderFault::Magic => SEGMENT_MAGIC,
            HeaderFault::Checksum { .. } => SEGMENT_CRC,
            HeaderFault::NameLength(_) => SEGMENT_NAME_LENGTH,
            HeaderFault::Base { .. } => SEGMENT_BASE,
            HeaderFault::Size(_) => SEGMENT_SIZE,
        }
    }

    /// What should be there, in words. No checksum is said: it would give the key away (rule 21).
    pub fn expected(&self) -> String {
        match self {
            HeaderFault::Version(_) => format!("a format that version {VERSION} reads"),
            HeaderFault::Short(_) => format!("a segment header of {SECTOR} bytes"),
            HeaderFault::Magic => {
                format!("a segment header, {:?}", MAGIC.escape_ascii().to_string())
            }
            HeaderFault::Checksum { .. } => "a segment header with its checksum".into(),
            HeaderFault::NameLength(_) => format!("a name of {NAME_MAX} bytes at most"),
            HeaderFault::Base { expected, .. } => format!("base {expected}"),
            HeaderFault::Size(_) => format!("a size from {RECORDS} to {POSITION_MAX}"),
        }
    }

    /// What is there, in words.
    pub fn found(&self) -> String {
        match self {
            HeaderFault::Version(reader) => format!("one for version {reader}"),
            HeaderFault::Short(length) => format!("{length}"),
            HeaderFault::Magic => "something else".into(),
            HeaderFault::Checksum { .. } => "another checksum".into(),
            HeaderFault::NameLength(length) => length.to_string(),
            HeaderFault::Base { found, .. } => found.to_string(),
            HeaderFault::Size(size) => size.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &[u8]) -> SegmentHeader {
        SegmentHeader { version: Version::Two, created_ms: 9, hash_key: [5; 16], name: name.into() }
    }

    #[test]
    fn a_header_reads_as_written() {
        let mut sector = [0; SECTOR];
        header(&[b'n'; NAME_MAX]).encode(8192, 16384, &mut sector);
        let read = SegmentHeader::decode(8192, &sector);
        assert_eq!(read, Ok((header(&[b'n'; NAME_MAX]), 16384)));
    }

    #[test]
    fn no_flipped_bit_of_a_header_passes() {
        let mut sector = [0; SECTOR];
        header(b"jobs").encode(8192, 16384, &mut sector);
        for bit in 0..SECTOR * 8 {
            sector[bit / 8] ^= 1 << (bit % 8);
            let read = SegmentHeader::decode(8192, &sector);
            assert!(
                matches!(read, Err(HeaderFault::Checksum { .. } | HeaderFault::Magic)),
                "{bit}"
            );
            sector[bit / 8] ^= 1 << (bit % 8);
        }
        let misplaced = HeaderFault::Base { expected: 0, found: 8192 };
        assert_eq!(SegmentHeader::decode(0, &sector), Err(misplaced));
        assert_eq!(SegmentHeader::decode(0, &[]), Err(HeaderFault::Short(0)));
    }

    #[test]
    fn a_header_of_version_1_is_read() {
        let mut sector = [0; SECTOR];
        let old = SegmentHeader { version: Version::One, ..header(b"jobs") };
        old.encode(8192, 16384, &mut sector);
        assert_eq!(sector[SEGMENT_READER..SEGMENT_CRC], [1, 0, 0, 0]);
        assert_eq!(SegmentHeader::decode(8192, &sector), Ok((old, 16384)));
    }

    #[test]
    fn a_newer_writer_is_read_where_it_says_so() {
        let mut sector = [0; SECTOR];
        header(b"jobs").encode(0, 16384, &mut sector);
        put_u16(&mut sector, SEGMENT_WRITER, 9);
        put_u32(&mut sector, SEGMENT_CRC, 0);
        let crc = crc32fast::hash(&sector);
        put_u32(&mut sector, SEGMENT_CRC, crc);
        assert_eq!(SegmentHeader::decode(0, &sector), Ok((header(b"jobs"), 16384)));
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut sector = [0; SECTOR];
        header(b"jobs").encode(0, 16384, &mut sector);
        put_u16(&mut sector, SEGMENT_READER, 3);
        put_u32(&mut sector, SEGMENT_CRC, 0);
        let crc = crc32fast::hash(&sector);
        put_u32(&mut sector, SEGMENT_CRC, crc);
        assert_eq!(SegmentHeader::decode(0, &sector), Err(HeaderFault::Version(3)));
    }
}
