//! The footer of a sealed segment: what a restart and the index need of its records, without the
//! bodies.
//!
//! It lies behind the segment's own bytes, at the file's end, so it takes no room that records were
//! promised, and a segment without one is read record by record. Nothing is lost with a footer: it
//! is believed only when its checksum is right.

use super::blocks::allocate;
use super::error::StorageError;
use super::folder::OpenFile;
use super::index::{BodyHash, HashKey};
use super::layout::*;
use super::record::{Kind, Record};
use super::segment::Segment;
use super::walk::{Step, Walk};
use crate::memory::{self, NoMemory};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bits of an entry below its hash, that hold the record's size in units of the alignment, and its
/// kind.
const SIZE_SHIFT: u32 = 4;
const HASH_SHIFT: u32 = 32;
const KIND_MASK: u64 = (1 << SIZE_SHIFT) - 1;
const SIZE_MASK: u64 = (1 << (HASH_SHIFT - SIZE_SHIFT)) - 1;

/// Bits of the first word of a time below its entry's index, and which time they say: when the
/// message expires. Other times are of later versions.
const TIME_SHIFT: u32 = 4;
const EXPIRES: u64 = 1;

/// What a footer says of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Where it lies.
    pub position: u64,
    /// What it is.
    pub kind: Kind,
    /// The message's number.
    pub sequence: u64,
    /// The position of the record that it copies, removes or describes; 0 in a message.
    pub origin: u64,
    /// Bytes of the record.
    pub size: u64,
    /// The hash of the body; nothing in a removal and a state.
    pub hash: BodyHash,
    /// Unix time of expiry in milliseconds, 0 = never; `None` if the footer says nothing of times.
    pub expires_ms: Option<u64>,
}

impl Summary {
    /// Whether both say the same. Nothing counts in the hash of what has no body, and a footer
    /// without times is not wrong about them.
    pub fn agrees(&self, other: &Summary) -> bool {
        let hash = if self.kind.is_bare() { self.hash } else { other.hash };
        let expires_ms = self.expires_ms.and(other.expires_ms);
        *self == Summary { hash, expires_ms, ..*other }
    }
}

/// What is behind a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// Nothing.
    Not,
    /// Its footer.
    With(Footer),
    /// So many bytes that are no footer of it.
    Badly {
        /// How many.
        length: u64,
    },
}

/// Summaries of all records of a segment, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    /// The position after the last record.
    pub records_end: u64,
    /// The log was durable up to here when the first record was written, and when the last was.
    pub durable: (u64, u64),
    /// A record each: kind, size and hash.
    entries: Vec<u64>,
    /// Numbers of messages that follow each other: the first and how many.
    runs: Vec<(u64, u64)>,
    /// Number and origin of each copy, removal and state.
    origins: Vec<(u64, u64)>,
    /// Entry and which time, and the time; `None` in a footer of before times were written.
    times: Option<Vec<(u64, u64)>>,
}

/// Where a reader of a footer has stopped.
#[derive(Clone, Copy, Debug)]
pub struct Bookmark {
    /// The position of the next record.
    pub position: u64,
    entry: usize,
    run: usize,
    /// Numbers of the run that have been read.
    in_run: u64,
    origin: usize,
    time: usize,
}

impl Bookmark {
    /// At the first record, which lies at `position`.
    pub fn at(position: u64) -> Bookmark {
        Bookmark { position, entry: 0, run: 0, in_run: 0, origin: 0, time: 0 }
    }
}

impl Footer {
    /// A footer for a segment whose first record lies at `position`.
    pub fn new(position: u64) -> Footer {
        Footer { records_end: position, times: Some(Vec::new()), ..Footer::default() }
    }

    /// What the records of `segment` come to, with hashes by `key`, or `None` if some of them are
    /// damaged or of kinds that a footer has no place for.
    pub fn of(segment: &Segment, key: &HashKey) -> Result<Option<Footer>, StorageError> {
        let start = segment.records_start();
        let mut footer = Footer::new(start);
        for step in Walk::through(segment, start)? {
            let Step::Whole(_, record) = step else { return Ok(None) };
            if matches!(record.kind, Kind::Other(_)) {
                return Ok(None);
            }
            let added = footer.add(&record, BodyHash::new(key, record.body));
            added.map_err(|none| StorageError::io("seal", &segment.path, none.into()))?;
        }
        Ok(Some(footer))
    }

    /// Adds the record that lies at the end of those so far.
    ///
    /// # Errors
    /// There is no memory; nothing is added.
    pub fn add(&mut self, record: &Record<'_>, hash: BodyHash) -> Result<(), NoMemory> {
        memory::reserve(&mut self.entries, 1)?;
        memory::reserve(&mut self.runs, 1)?;
        memory::reserve(&mut self.origins, 1)?;
        if let Some(times) = self.times.as_mut().filter(|_| record.expires_ms != 0) {
            memory::reserve(times, 1)?;
            times.push(((self.entries.len() as u64) << TIME_SHIFT | EXPIRES, record.expires_ms));
        }
        if self.entries.is_empty() {
            self.durable.0 = record.durable;
        }
        self.durable.1 = self.durable.1.max(record.durable);
        let size = record.size() as u64;
        self.records_end += size;
        let units = size / ALIGNMENT as u64;
        let hash = u64::from(hash.bits()) << HASH_SHIFT;
        self.entries.push(hash | units << SIZE_SHIFT | u64::from(record.kind.byte()));
        if record.kind != Kind::Message {
            self.origins.push((record.sequence, record.origin));
            return Ok(());
        }
        match self.runs.last_mut() {
            Some((first, count)) if first.checked_add(*count) == Some(record.sequence) => {
                *count += 1;
            }
            _ => self.runs.push((record.sequence, 1)),
        }
        Ok(())
    }

    /// The records, from the first at `position` on.
    pub fn summaries(&self, position: u64) -> impl Iterator<Item = Summary> {
        let mut bookmark = Bookmark::at(position);
        std::iter::from_fn(move || self.next(&mut bookmark))
    }

    /// The record at `bookmark`, which moves behind it.
    pub fn next(&self, bookmark: &mut Bookmark) -> Option<Summary> {
        let entry = self.entries.get(bookmark.entry)?;
        let kind = Kind::from_byte((entry & KIND_MASK) as u8)?;
        let (sequence, origin) = match kind {
            Kind::Message => (self.next_number(bookmark)?, 0),
            Kind::Copy | Kind::Removal | Kind::State => *self.origins.get(bookmark.origin)?,
            Kind::Other(_) => return None,
        };
        let (position, size) = (bookmark.position, entry >> SIZE_SHIFT & SIZE_MASK);
        let size = size * ALIGNMENT as u64;
        let hash = BodyHash::from_bits((entry >> HASH_SHIFT) as u32);
        let expires_ms = self.times.as_ref().map(|times| next_expiry(times, bookmark));
        bookmark.entry += 1;
        bookmark.origin += usize::from(kind != Kind::Message);
        bookmark.position += size;
        Some(Summary { position, kind, sequence, origin, size, hash, expires_ms })
    }

    fn next_number(&self, bookmark: &mut Bookmark) -> Option<u64> {
        let Bookmark { run, in_run, .. } = bookmark;
        while *in_run == self.runs.get(*run)?.1 {
            (*run, *in_run) = (*run + 1, 0);
        }
        *in_run += 1;
        self.runs.get(*run).map(|(first, _)| first + *in_run - 1)
    }

    /// How many records, runs of numbers, origins and times it names.
    pub fn counts(&self) -> [usize; 4] {
        let time_count = self.times.as_ref().map_or(0, Vec::len);
        [self.entries.len(), self.runs.len(), self.origins.len(), time_count]
    }

    /// The footer's bytes, for the segment that starts at `base`.
    ///
    /// # Errors
    /// There is no memory.
    pub fn encode(&self, base: u64) -> Result<Vec<u8>, NoMemory> {
        let pair = |&(one, other): &(u64, u64)| [one, other];
        let pairs = self.runs.iter().chain(&self.origins).flat_map(pair);
        let time_count = self.times.as_ref().map(|times| times.len() as u64);
        let times = self.times.iter().flatten().flat_map(pair);
        let words = self.entries.iter().copied().chain(pairs).chain(time_count).chain(times);
        let [entry_count, run_count, origin_count, time_count] = self.counts();
        let count = entry_count + 2 * (run_count + origin_count + time_count) + 2;
        let mut bytes = Vec::new();
        memory::reserve_exact(&mut bytes, FOOTER_ENTRIES + 8 * count)?;
        bytes.resize(FOOTER_ENTRIES, 0);
        bytes[FOOTER_MAGIC..FOOTER_BASE].copy_from_slice(&FOOTER_MAGIC_BYTES);
        put_u64(&mut bytes, FOOTER_BASE, base);
        put_u64(&mut bytes, FOOTER_RECORDS_END, self.records_end);
        put_u64(&mut bytes, FOOTER_FIRST_DURABLE, self.durable.0);
        put_u64(&mut bytes, FOOTER_LAST_DURABLE, self.durable.1);
        put_u64(&mut bytes, FOOTER_ENTRY_COUNT, self.entries.len() as u64);
        put_u64(&mut bytes, FOOTER_RUN_COUNT, self.runs.len() as u64);
        put_u64(&mut bytes, FOOTER_ORIGIN_COUNT, self.origins.len() as u64);
        words.for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&u64::from(crc).to_le_bytes());
        Ok(bytes)
    }

    /// Reads the footer of the segment that starts at `base`, or nothing if this is none.
    ///
    /// # Errors
    /// There is no memory.
    pub fn decode(base: u64, bytes: &[u8]) -> Result<Option<Footer>, NoMemory> {
        let Some(lists) = lists(base, bytes) else { return Ok(None) };
        let Lists { entries, runs, origins, times } = lists;
        let entries = decode_list(entries, |word: &[u8; 8]| u64::from_le_bytes(*word))?;
        let pair = |words: &[u8; 16]| (get_u64(words, 0), get_u64(words, 8));
        let (runs, origins) = (decode_list(runs, pair)?, decode_list(origins, pair)?);
        let times = times.map(|times| decode_list(times, pair)).transpose()?;
        let is_run = |(first, count): &(u64, u64)| {
            first.checked_add(*count).is_some_and(|end| end <= SEQUENCE_END)
        };
        let has_entry = |(time, _): &(u64, u64)| time >> TIME_SHIFT < entries.len() as u64;
        if !runs.iter().all(is_run)
            || origins.iter().any(|(number, _)| *number >= SEQUENCE_END)
            || !times.iter().flatten().all(has_entry)
            || !times.as_ref().is_none_or(|times| times.is_sorted_by(|one, next| one.0 < next.0))
        {
            return Ok(None);
        }
        let durable = (get_u64(bytes, FOOTER_FIRST_DURABLE), get_u64(bytes, FOOTER_LAST_DURABLE));
        let records_end = get_u64(bytes, FOOTER_RECORDS_END);
        Ok(Some(Footer { records_end, durable, entries, runs, origins, times }))
    }

    /// Appends the footer to `file`, that of the segment of `size` bytes at `base`, durably. The
    /// blocks are allocated first: on a full disk nothing is written.
    pub fn write(&self, file: &File, base: u64, size: u64) -> io::Result<()> {
        let bytes = self.encode(base)?;
        // What is there already is no footer, and may be longer than one.
        file.set_len(size)?;
        let written = allocate(file, size + bytes.len() as u64)
            .and_then(|()| file.write_all_at(&bytes, size))
            .and_then(|()| file.sync_all());
        if written.is_err() {
            // Part of the blocks may have been had.
            file.set_len(size)?;
        }
        written
    }

    /// Reads what is behind `segment`.
    pub fn read(segment: &Segment) -> io::Result<Sealed> {
        let OpenFile { file, length, .. } = segment.open(false)?;
        let length = length.saturating_sub(segment.size);
        if length == 0 {
            return Ok(Sealed::Not);
        }
        // No record is smaller than its entry, so a footer is never larger than its segment.
        if length > segment.size {
            return Ok(Sealed::Badly { length });
        }
        let size = usize::try_from(length).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        memory::reserve_exact(&mut bytes, size)?;
        bytes.resize(size, 0);
        file.read_exact_at(&mut bytes, segment.size)?;
        let footer = Footer::decode(segment.base, &bytes)?.filter(|footer| {
            let start = segment.records_start();
            let version = segment.codec.version();
            let read = footer.summaries(start).try_fold((0, start), |(count, _), last| {
                let shortest = Record { version, kind: last.kind, ..Record::default() };
                let is_possible = last.size >= shortest.size() as u64;
                is_possible.then_some((count + 1, last.position + last.size))
            });
            // Entries that say nothing may come behind those that reach to the end.
            read == Some((footer.entries.len(), footer.records_end))
                && footer.records_end <= segment.end()
        });
        Ok(footer.map_or(Sealed::Badly { length }, Sealed::With))
    }
}

/// The time of expiry of the entry at `bookmark`, or 0. `times` are in the order of the entries.
fn next_expiry(times: &[(u64, u64)], bookmark: &mut Bookmark) -> u64 {
    let mut expires_ms = 0;
    while let Some((said, time_ms)) = times.get(bookmark.time)
        && said >> TIME_SHIFT == bookmark.entry as u64
    {
        if said & ((1 << TIME_SHIFT) - 1) == EXPIRES {
            expires_ms = *time_ms;
        }
        bookmark.time += 1;
    }
    expires_ms
}

/// The bytes of a footer's lists.
struct Lists<'a> {
    entries: &'a [u8],
    runs: &'a [u8],
    origins: &'a [u8],
    times: Option<&'a [u8]>,
}

/// Those of a footer of the segment at `base`, or `None` if these are not the bytes of one.
fn lists(base: u64, bytes: &[u8]) -> Option<Lists<'_>> {
    let (rest, crc) = bytes.split_last_chunk::<8>()?;
    let is_valid = rest.len() >= FOOTER_ENTRIES
        && rest.len().is_multiple_of(8)
        && rest[FOOTER_MAGIC..FOOTER_BASE] == FOOTER_MAGIC_BYTES
        && get_u64(rest, FOOTER_BASE) == base
        && u64::from_le_bytes(*crc) == u64::from(crc32fast::hash(rest));
    if !is_valid {
        return None;
    }
    let (head, mut rest) = rest.split_at(FOOTER_ENTRIES);
    let mut take = |count, each| {
        let size = usize::try_from(count).ok()?.checked_mul(each)?;
        let (list, behind) = rest.split_at_checked(size)?;
        rest = behind;
        Some(list)
    };
    let entries = take(get_u64(head, FOOTER_ENTRY_COUNT), 8)?;
    let runs = take(get_u64(head, FOOTER_RUN_COUNT), 16)?;
    let origins = take(get_u64(head, FOOTER_ORIGIN_COUNT), 16)?;
    let times = match rest.split_first_chunk() {
        None => None,
        Some((count, times)) => {
            let size = usize::try_from(u64::from_le_bytes(*count)).ok()?.checked_mul(16)?;
            Some(times).filter(|times| times.len() == size).map(Some)?
        }
    };
    Some(Lists { entries, runs, origins, times })
}

/// What `bytes` holds, `N` bytes each.
fn decode_list<T, const N: usize>(
    bytes: &[u8],
    decode: impl Fn(&[u8; N]) -> T,
) -> Result<Vec<T>, NoMemory> {
    let (elements, _) = bytes.as_chunks::<N>();
    let mut list = Vec::new();
    memory::reserve_exact(&mut list, elements.len())?;
    list.extend(elements.iter().map(decode));
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind, sequence: u64, body: &[u8]) -> Record<'_> {
        let origin = if kind == Kind::Message { 0 } else { 77 };
        let (durable, is_mortal) = (sequence * 10, kind != Kind::Removal && sequence != 6);
        let expires_ms = if is_mortal { 1000 + sequence } else { 0 };
        Record { kind, sequence, durable, origin, expires_ms, body, ..Record::default() }
    }

    fn sample() -> (Footer, Vec<Record<'static>>) {
        let records = vec![
            record(Kind::Message, 5, b"five"),
            record(Kind::Message, 6, b""),
            record(Kind::Removal, 5, b""),
            record(Kind::Copy, 2, b"two"),
            record(Kind::Message, 9, &[0; 1000]),
        ];
        let mut footer = Footer::new(2560);
        for record in &records {
            footer.add(record, BodyHash::new(&[1; 16], record.body)).unwrap();
        }
        (footer, records)
    }

    #[test]
    fn what_is_added_is_read_back() {
        let (footer, records) = sample();
        let read = Footer::decode(4096, &footer.encode(4096).unwrap()).unwrap();
        assert_eq!(read.as_ref(), Some(&footer));
        let mut position = 2560;
        for (summary, record) in footer.summaries(2560).zip(&records) {
            assert_eq!(summary.position, position);
            assert_eq!((summary.kind, summary.sequence), (record.kind, record.sequence));
            assert_eq!((summary.origin, summary.size), (record.origin, record.size() as u64));
            assert_eq!(summary.hash, BodyHash::new(&[1; 16], record.body));
            assert_eq!(summary.expires_ms, Some(record.expires_ms));
            position += summary.size;
        }
        assert_eq!(footer.summaries(2560).count(), records.len());
        assert_eq!((footer.records_end, footer.durable), (position, (50, 90)));
    }

    /// The bytes of a footer of before times were written end behind the origins.
    #[test]
    fn a_footer_without_times_says_nothing_of_them() {
        let (footer, _) = sample();
        let old = Footer { times: None, ..footer.clone() };
        let bytes = old.encode(4096).unwrap();
        assert_eq!(Footer::decode(4096, &bytes), Ok(Some(old.clone())));
        assert_eq!(bytes.len() + 8 + 3 * 16, footer.encode(4096).unwrap().len());
        for (said, is) in old.summaries(2560).zip(footer.summaries(2560)) {
            assert_eq!(said.expires_ms, None);
            assert!(said.agrees(&is));
        }
    }

    /// Which time, of which entry: in order, once each, and of an entry that is there. Times that
    /// this version does not know are passed over.
    #[test]
    fn the_times_of_a_footer_are_those_of_its_entries() {
        let (footer, _) = sample();
        let of = |entry: u64, which: u64| (entry << TIME_SHIFT | which, 7);
        let cases = [
            (vec![], Some([0; 5])),
            (vec![of(0, 1), of(0, 2), of(3, 0), of(4, 1), of(4, 15)], Some([7, 0, 0, 0, 7])),
            (vec![of(2, 1), of(1, 1)], None),
            (vec![of(2, 1), of(2, 1)], None),
            (vec![of(5, 1)], None),
            (vec![(u64::MAX, 7)], None),
        ];
        for (times, expected) in cases {
            let changed = Footer { times: Some(times.clone()), ..footer.clone() };
            let read = Footer::decode(0, &changed.encode(0).unwrap()).unwrap();
            let expiries = |footer: Footer| {
                footer.summaries(2560).map(|it| it.expires_ms.unwrap()).collect::<Vec<_>>()
            };
            assert_eq!(read.map(expiries), expected.map(Vec::from), "{times:?}");
        }
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes() {
        let (footer, _) = sample();
        let mut bytes = footer.encode(4096).unwrap();
        assert_eq!(Footer::decode(0, &bytes), Ok(None), "misplaced");
        for length in 0..bytes.len() {
            assert_eq!(Footer::decode(4096, &bytes[..length]), Ok(None), "{length} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Footer::decode(4096, &bytes), Ok(None), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
