//! The cursor: which messages at the head are gone.
//!
//! It lies in four checksummed slots in the header of the newest segment, a sector each, so that
//! one sync of one file covers the log's records and the pops (rules 11 and 12 of the design, which
//! leave this open).
//!
//! 1. A slot that the last sync made durable is not written before another one is durable: a power
//!    cut finds it whole.
//! 2. A slot that a sync under way may make durable is not written either, for the same reason.
//! 3. The slot written last is not written next: a process killed in the middle of a write leaves
//!    the one before it whole.
//!
//! So three slots may be taken at a time, and four are enough.

use super::codec::Codec;
use super::index::HashKey;
use super::layout::*;
use super::version::Version;
use super::version_one;
use super::walk::is_zero;

/// What a slot says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Grows by one from write to write; the valid slot with the highest is the cursor.
    pub generation: u64,
    /// All messages with lower numbers are gone.
    pub head: u64,
    /// No message has had this number or a higher one.
    pub next_sequence: u64,
    /// The log was durable up to this position.
    pub durable: u64,
    /// The base of the oldest segment that counts: what lies before it is dead.
    pub oldest: u64,
}

impl Cursor {
    /// Writes the cursor to `slot`, a slot of the segment that starts at `base` and has this codec.
    pub fn encode(&self, base: u64, codec: &Codec, slot: &mut [u8]) {
        put_u64(slot, SLOT_GENERATION, self.generation);
        put_u64(slot, SLOT_HEAD, self.head);
        put_u64(slot, SLOT_NEXT_SEQUENCE, self.next_sequence);
        put_u64(slot, SLOT_DURABLE, self.durable);
        put_u64(slot, SLOT_OLDEST, self.oldest);
        put_u64(slot, SLOT_BASE, base);
        if codec.version() != Version::One {
            slot[SLOT_HASH_KEY..SLOT_READER].copy_from_slice(codec.key());
            codec.version().write(slot, SLOT_READER);
        }
        let crc_offset = crc_offset(codec.version());
        let crc = crc32fast::hash(&slot[..crc_offset]);
        put_u32(slot, crc_offset, crc);
    }

    /// Reads the slot of a segment of this version, or returns `None` if it was never written, is
    /// damaged or belongs elsewhere.
    pub fn decode(base: u64, version: Version, slot: &[u8]) -> Option<Cursor> {
        let fields = slot.get(..slot_size(version))?;
        let (fields, crc) = fields.split_at(crc_offset(version));
        let is_valid =
            get_u32(crc, 0) == crc32fast::hash(fields) && get_u64(fields, SLOT_BASE) == base;
        (is_valid && impossible_number(fields).is_none()).then(|| Cursor::fields(fields))
    }

    /// What the slot says, valid or not.
    pub fn fields(slot: &[u8]) -> Cursor {
        Cursor {
            generation: get_u64(slot, SLOT_GENERATION),
            head: get_u64(slot, SLOT_HEAD),
            next_sequence: get_u64(slot, SLOT_NEXT_SEQUENCE),
            durable: get_u64(slot, SLOT_DURABLE),
            oldest: get_u64(slot, SLOT_OLDEST),
        }
    }

    /// The newest valid cursor of a segment's first bytes, and the index of its slot.
    pub fn newest(base: u64, version: Version, segment: &[u8]) -> Option<(usize, Cursor)> {
        (0..SLOT_COUNT)
            .filter_map(|index| {
                let slot = segment.get(slot_offset(index)..)?;
                Some((index, Cursor::decode(base, version, slot)?))
            })
            .max_by_key(|(_, cursor)| cursor.generation)
    }
}

/// Where a slot's checksum lies.
const fn crc_offset(version: Version) -> usize {
    match version {
        Version::One => version_one::SLOT_CRC,
        Version::Two => SLOT_CRC,
    }
}

/// Bytes used of a slot's sector.
pub const fn slot_size(version: Version) -> usize {
    crc_offset(version) + 4
}

/// What a segment's valid slots say of the segment, for one whose header is lost: the version, or
/// the reader that a newer one asks for, and the key. `None` if no slot is valid.
pub fn said_by_slots(base: u64, segment: &[u8]) -> Option<(Result<Version, u16>, HashKey)> {
    let slots = || (0..SLOT_COUNT).filter_map(|index| segment.get(slot_offset(index)..));
    let of = |version: Version| slots().find(|slot| Cursor::decode(base, version, slot).is_some());
    if let Some(slot) = of(Version::Two) {
        let mut key = HashKey::default();
        key.copy_from_slice(&slot[SLOT_HASH_KEY..SLOT_READER]);
        return Some((Version::read(slot, SLOT_READER), key));
    }
    // Version 1 has the key in the header only, and its records need none.
    of(Version::One).map(|_| (Ok(Version::One), HashKey::default()))
}

/// Why a slot's sector is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotFault {
    /// The checksum does not fit the bytes.
    Checksum {
        /// What the slot says.
        expected: u32,
        /// What its bytes give.
        found: u32,
    },
    /// It was written for the segment at this base.
    Base(u64),
    /// No message and no write has this number.
    Number(u64),
    /// Bytes behind the slot are not zero, the first of them at this offset of the sector.
    Behind(usize),
}

impl SlotFault {
    /// What is wrong with a slot's whole sector, of the segment of this version at `base`, or
    /// `None` if it is valid or was never written.
    pub fn of(base: u64, version: Version, sector: &[u8]) -> Option<SlotFault> {
        let (slot, behind) = sector.split_at_checked(slot_size(version))?;
        let (fields, crc) = slot.split_at(crc_offset(version));
        let (expected, found) = (get_u32(crc, 0), crc32fast::hash(fields));
        if expected != found && !is_zero(slot) {
            return Some(SlotFault::Checksum { expected, found });
        }
        if expected == found && get_u64(slot, SLOT_BASE) != base {
            return Some(SlotFault::Base(get_u64(slot, SLOT_BASE)));
        }
        if let Some(number) = impossible_number(slot).filter(|_| expected == found) {
            return Some(SlotFault::Number(number));
        }
        let behind = behind.iter().position(|byte| *byte != 0)?;
        Some(SlotFault::Behind(slot.len() + behind))
    }

    /// What should be there, in words. No checksum is said: it would give the key away (rule 21).
    pub fn expected(&self, base: u64) -> String {
        match self {
            SlotFault::Checksum { .. } => "a cursor with its checksum".into(),
            SlotFault::Base(_) => format!("a cursor of the segment at {base}"),
            SlotFault::Number(_) => "numbers that a cursor can have".into(),
            SlotFault::Behind(_) => "zeros behind a cursor".into(),
        }
    }

    /// What is there, in words.
    pub fn found(&self) -> String {
        match self {
            SlotFault::Checksum { .. } => "another checksum".into(),
            SlotFault::Base(base) => format!("one of the segment at {base}"),
            SlotFault::Number(number) => number.to_string(),
            SlotFault::Behind(offset) => format!("something at byte {offset} of its sector"),
        }
    }
}

/// A number in a slot that is higher than it can be. Segments before the slot's own may be dead,
/// and none behind it.
fn impossible_number(slot: &[u8]) -> Option<u64> {
    let number = |offset| get_u64(slot, offset);
    let limits = [
        (SLOT_GENERATION, SEQUENCE_END),
        (SLOT_HEAD, SEQUENCE_END),
        (SLOT_NEXT_SEQUENCE, SEQUENCE_END),
        (SLOT_DURABLE, POSITION_MAX),
        (SLOT_OLDEST, number(SLOT_BASE)),
    ];
    let above = limits.into_iter().find(|(offset, limit)| number(*offset) > *limit);
    above.map(|(offset, _)| number(offset))
}

/// Where slot `index` starts in its segment, in bytes.
pub const fn slot_offset(index: usize) -> usize {
    SLOTS + index * SECTOR
}

/// Which slot of the newest segment may be written next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    last: Option<usize>,
    syncing: Option<usize>,
    durable: Option<usize>,
}

impl Turns {
    /// The turns of a segment whose cursor was found in slot `index`: it is the only one that
    /// counts.
    pub fn after(index: usize) -> Turns {
        Turns { last: Some(index), syncing: None, durable: Some(index) }
    }

    /// Takes the slot for the next write.
    pub fn take(&mut self) -> usize {
        let taken = [self.last, self.syncing, self.durable];
        // Three at most are taken, so one of four is free.
        let free = (0..SLOT_COUNT).find(|index| !taken.contains(&Some(*index))).unwrap_or(0);
        self.last = Some(free);
        free
    }

    /// A sync begins: the slot written last may become the durable one.
    pub fn begin_sync(&mut self) {
        self.syncing = self.last;
    }

    /// The sync that began last has succeeded.
    pub fn end_sync(&mut self) {
        if self.syncing.is_some() {
            self.durable = self.syncing.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSIONS: [Version; 2] = [Version::One, Version::Two];

    #[test]
    fn a_slot_reads_as_written_and_only_in_its_place() {
        let cursor = Cursor { generation: 9, head: 5, next_sequence: 8, durable: 4000, oldest: 3 };
        for version in VERSIONS {
            let mut slot = [0; SECTOR];
            cursor.encode(4096, &Codec::new(version, [7; 16]), &mut slot);
            assert_eq!(Cursor::decode(4096, version, &slot), Some(cursor));
            assert_eq!(Cursor::decode(0, version, &slot), None);
            for bit in 0..slot_size(version) * 8 {
                slot[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Cursor::decode(4096, version, &slot), None, "bit {bit}");
                slot[bit / 8] ^= 1 << (bit % 8);
            }
            assert_eq!(Cursor::decode(0, version, &[0; SECTOR]), None, "zeros are no cursor");
        }
    }

    #[test]
    fn a_slot_tells_the_version_and_the_key_of_its_segment() {
        for version in VERSIONS {
            let mut segment = vec![0; RECORDS];
            assert_eq!(said_by_slots(4096, &segment), None);
            let codec = Codec::new(version, [7; 16]);
            Cursor::default().encode(4096, &codec, &mut segment[slot_offset(2)..]);
            let key = if version == Version::One { [0; 16] } else { [7; 16] };
            assert_eq!(said_by_slots(4096, &segment), Some((Ok(version), key)));
            assert_eq!(said_by_slots(0, &segment), None);
        }
    }

    #[test]
    fn the_newest_valid_slot_is_the_cursor() {
        let mut segment = vec![0; RECORDS];
        let (version, codec) = (Version::Two, Codec::new(Version::Two, [7; 16]));
        for (index, generation) in [(0, 7), (1, 9), (2, 8)] {
            let cursor = Cursor { generation, ..Cursor::default() };
            cursor.encode(0, &codec, &mut segment[slot_offset(index)..]);
        }
        let newest = |segment: &[u8]| {
            Cursor::newest(0, version, segment).map(|(slot, cursor)| (slot, cursor.generation))
        };
        assert_eq!(newest(&segment), Some((1, 9)));
        segment[slot_offset(1)] ^= 1;
        assert_eq!(newest(&segment), Some((2, 8)));
        assert_eq!(Cursor::newest(0, version, &segment[..SECTOR]), None);
    }

    #[test]
    fn a_durable_a_syncing_and_the_last_slot_are_never_written() {
        let mut turns = Turns::default();
        let mut random = 0x9e37_79b9_u64;
        let (mut durable, mut syncing, mut last) = (None, None, None);
        for _ in 0..10_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match random >> 61 {
                0 => {
                    turns.begin_sync();
                    syncing = last;
                }
                1 => {
                    turns.end_sync();
                    durable = syncing.take().or(durable);
                }
                _ => {
                    let slot = Some(turns.take());
                    assert!(slot != durable && slot != syncing && slot != last);
                    last = slot;
                }
            }
        }
    }
}
