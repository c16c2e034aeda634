//! What whole files say, read as `storage-format.md` describes them: no checksum is looked at, for
//! nothing is wrong with them yet.

use super::world::Files;

pub const SECTOR: usize = 512;
pub const SLOT_COUNT: usize = 4;
pub const SLOT_SIZE: usize = 72;
pub const RECORDS: usize = 2560;

pub const MESSAGE: u8 = 1;
pub const REMOVAL: u8 = 2;
pub const COPY: u8 = 3;

/// A cursor slot.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Where it lies in the file, in bytes.
    pub offset: usize,
    pub generation: u64,
    pub head: u64,
    pub durable: u64,
    pub oldest: u64,
}

/// A record.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Where it lies in the file, in bytes.
    pub offset: usize,
    pub size: usize,
    pub kind: u8,
    pub number: u64,
    pub durable: u64,
}

/// A segment file.
#[derive(Clone, Debug)]
pub struct Segment {
    pub file: String,
    pub base: u64,
    /// Bytes before the footer.
    pub size: usize,
    /// Bytes with the footer.
    pub length: usize,
    pub slots: Vec<Slot>,
    pub records: Vec<Record>,
}

impl Segment {
    fn read(file: &str, bytes: &[u8]) -> Segment {
        let size = number(bytes, 24) as usize;
        let slots = (0..SLOT_COUNT).map(|slot| SECTOR + slot * SECTOR).filter_map(|offset| {
            let generation = number(bytes, offset);
            let [head, _, durable, oldest] = [8, 16, 24, 32].map(|at| number(bytes, offset + at));
            (generation > 0).then_some(Slot { offset, generation, head, durable, oldest })
        });
        let mut segment = Segment {
            file: file.into(),
            base: file[..20].parse().unwrap(),
            size,
            length: bytes.len(),
            slots: slots.collect(),
            records: Vec::new(),
        };
        while let Some(record) = Record::read(&bytes[..size], segment.end()) {
            segment.records.push(record);
        }
        segment
    }

    /// Where its records end, in bytes.
    pub fn end(&self) -> usize {
        self.records.last().map_or(RECORDS, |last| last.offset + last.size)
    }

    pub fn has_footer(&self) -> bool {
        self.length > self.size
    }
}

impl Record {
    fn read(bytes: &[u8], offset: usize) -> Option<Record> {
        let (kind, head) = (*bytes.get(offset + 12)?, usize::from(*bytes.get(offset + 13)?) * 8);
        if kind == 0 {
            return None;
        }
        let length = u32::from_le_bytes(bytes[offset + 8..offset + 12].try_into().unwrap());
        Some(Record {
            offset,
            size: (head + length as usize).next_multiple_of(8),
            kind,
            number: number(bytes, offset + 24),
            durable: number(bytes, offset + 32),
        })
    }
}

fn number(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

/// The segments of a queue, oldest first.
pub fn read(files: &Files) -> Vec<Segment> {
    files.iter().map(|(file, bytes)| Segment::read(file, bytes)).collect()
}
