//! How the records of one segment are written and read: by its version, with checksums that its
//! queue's key seeds.
//!
//! 1. A record's checksums cover the key, its position and every byte of it, padding included: a
//!    stale, moved or half-written record never passes, and neither does one that somebody without
//!    the key made up (rules 3 and 21).
//! 2. The head has a checksum of its own, so a damaged body says still where it ends.
//! 3. Bytes after the end of the log are zero, and no record starts with this many zero bytes.

use super::index::HashKey;
use super::layout::*;
use super::record::{Fault, Kind, Record, Verdict};
use super::version::Version;
use super::version_one;
use crc32fast::Hasher;

/// What the records of a segment are written and read with.
#[derive(Clone, Debug)]
pub struct Codec {
    version: Version,
    key: HashKey,
    /// What a checksum starts from, to be cloned: `Hasher::new` repeats CPU feature detection.
    seeded: Hasher,
}

/// What a head says of a record's extent.
struct Outline {
    /// `None` for one of a newer format.
    kind: Option<Kind>,
    head: usize,
    length: usize,
    size: usize,
}

impl Codec {
    /// A codec for the segments of this version of the queue with this key.
    pub fn new(version: Version, key: HashKey) -> Codec {
        let mut seeded = Hasher::new();
        if version != Version::One {
            seeded.update(&key);
        }
        Codec { version, key, seeded }
    }

    /// The version of the segment.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The key of the queue.
    pub fn key(&self) -> &HashKey {
        &self.key
    }

    /// Writes `record`, which lies at `position` in the log, to the start of `out`, in the layout
    /// of this version. `out` holds as many bytes as it then has, all zero; the body is shorter
    /// than 4 GiB. Returns how many those are.
    pub fn encode(&self, record: &Record<'_>, position: u64, out: &mut [u8]) -> usize {
        let record = Record { version: self.version, ..*record };
        let out = &mut out[..record.size()];
        if self.version == Version::One {
            version_one::encode(&record, position, out, self.seeded.clone());
            return out.len();
        }
        let head = record.head_size();
        put_fields(&record, head, out);
        out[head..head + record.body.len()].copy_from_slice(record.body);
        self.put_checksums(position, head, out);
        out.len()
    }

    fn put_checksums(&self, position: u64, head: usize, out: &mut [u8]) {
        let mut hasher = self.seeded.clone();
        hasher.update(&position.to_le_bytes());
        hasher.update(&out[RECORD_LENGTH..head]);
        let head_crc = hasher.clone().finalize();
        hasher.update(&out[head..]);
        put_u32(out, RECORD_HEAD_CRC, head_crc);
        put_u32(out, RECORD_CRC, hasher.finalize());
    }

    /// Says what stands at `position`; `bytes` reaches from there to the end of the segment.
    pub fn decode<'a>(&self, bytes: &'a [u8], position: u64) -> Verdict<'a> {
        if self.version == Version::One {
            return version_one::decode(bytes, position, self.seeded.clone());
        }
        let outline = match outline(bytes) {
            Ok(outline) => outline,
            Err(verdict) => return verdict,
        };
        let Outline { kind, head, length, size } = outline;
        let mut hasher = match self.check_head(bytes, position, head) {
            Ok(hasher) => hasher,
            Err(fault) => return Verdict::Bad(fault),
        };
        hasher.update(&bytes[head..size]);
        let (expected, found) = (get_u32(bytes, RECORD_CRC), hasher.finalize());
        if expected != found {
            return Verdict::Bad(Fault::Checksum { expected, found });
        }
        let Some(kind) = kind else { return Verdict::Bad(Fault::Newer(bytes[RECORD_KIND])) };
        match fields(kind, head, &bytes[..head + length]) {
            Verdict::Whole(record)
                if record.sequence >= SEQUENCE_END && !matches!(kind, Kind::Other(_)) =>
            {
                Verdict::Bad(Fault::Sequence(record.sequence))
            }
            verdict => verdict,
        }
    }

    /// As [`decode`](Codec::decode), for a record whose checksums have been found right before and
    /// are not looked at again.
    pub fn reread<'a>(&self, bytes: &'a [u8]) -> Verdict<'a> {
        if self.version == Version::One {
            return version_one::reread(bytes);
        }
        match outline(bytes) {
            Ok(Outline { kind: Some(kind), head, length, .. }) => {
                fields(kind, head, &bytes[..head + length])
            }
            Ok(_) => Verdict::Bad(Fault::Newer(bytes[RECORD_KIND])),
            Err(verdict) => verdict,
        }
    }

    /// Bytes of the record at `position` where its head can be believed, whatever its body is.
    pub fn extent(&self, bytes: &[u8], position: u64) -> Option<usize> {
        if self.version == Version::One {
            return None;
        }
        let outline = outline(bytes).ok()?;
        self.check_head(bytes, position, outline.head).ok()?;
        Some(outline.size)
    }

    /// The record at `position` as its head says it, where that can be believed: the head is whole,
    /// or it says that the record ends where it does, at `end`. Its body may be anything.
    pub fn believed<'a>(&self, bytes: &'a [u8], position: u64, end: u64) -> Option<Record<'a>> {
        let Verdict::Whole(record) = self.reread(bytes) else { return None };
        let ends_there = position.checked_add(record.size() as u64) == Some(end);
        (ends_there || self.extent(bytes, position).is_some()).then_some(record)
    }

    /// The checksum so far, or what is wrong with the head.
    fn check_head(&self, bytes: &[u8], position: u64, head: usize) -> Result<Hasher, Fault> {
        let mut hasher = self.seeded.clone();
        hasher.update(&position.to_le_bytes());
        hasher.update(&bytes[RECORD_LENGTH..head]);
        let (expected, found) = (get_u32(bytes, RECORD_HEAD_CRC), hasher.clone().finalize());
        if expected == found { Ok(hasher) } else { Err(Fault::Checksum { expected, found }) }
    }

    /// The record at the start of `bytes`, which is whole and lies at `position`, is the last one
    /// of its step.
    pub fn end_step(&self, position: u64, bytes: &mut [u8]) {
        let Ok(Outline { head, size, .. }) = outline(bytes) else { return };
        let marks = get_u16(bytes, RECORD_MARKS) & !MARK_MORE;
        put_u16(bytes, RECORD_MARKS, marks);
        self.put_checksums(position, head, &mut bytes[..size]);
    }
}

/// Reads how long head and body are, where that is possible.
fn outline(bytes: &[u8]) -> Result<Outline, Verdict<'_>> {
    let Some(common) = bytes.first_chunk::<RECORD_COMMON>() else {
        let is_blank = bytes.iter().all(|byte| *byte == 0);
        return Err(if is_blank { Verdict::Blank } else { Verdict::Bad(Fault::Length(0)) });
    };
    let byte = common[RECORD_KIND];
    if byte == 0 {
        let is_blank = *common == [0; RECORD_COMMON];
        return Err(if is_blank { Verdict::Blank } else { Verdict::Bad(Fault::Kind(0)) });
    }
    let kind = Kind::from_byte(byte);
    let head = usize::from(common[RECORD_HEAD]) * ALIGNMENT;
    if head < kind.map_or(RECORD_COMMON, Kind::shortest_head) {
        return Err(Verdict::Bad(Fault::Head(head)));
    }
    let length = get_u32(common, RECORD_LENGTH);
    // Widened first: neither sum can overflow.
    let size = (head as u64 + u64::from(length)).next_multiple_of(ALIGNMENT as u64);
    if size > bytes.len() as u64 || (kind.is_some_and(Kind::is_bare) && length != 0) {
        return Err(Verdict::Bad(Fault::Length(length)));
    }
    Ok(Outline { kind, head, length: length as usize, size: size as usize })
}

/// Where the times of a message or copy start in its head.
fn times_of(kind: Kind) -> usize {
    if kind == Kind::Copy { COPY_PUSHED_MS } else { MESSAGE_PUSHED_MS }
}

fn put_fields(record: &Record<'_>, head: usize, out: &mut [u8]) {
    // The caller has compared the length with the limit of a message, far below 4 GiB.
    put_u32(out, RECORD_LENGTH, record.body.len() as u32);
    out[RECORD_KIND] = record.kind.byte();
    out[RECORD_HEAD] = (head / ALIGNMENT) as u8;
    put_u16(out, RECORD_MARKS, record.marks);
    put_u32(out, RECORD_FLAGS, record.flags);
    put_u32(out, RECORD_ROOM, record.room);
    put_u64(out, RECORD_SEQUENCE, record.sequence);
    put_u64(out, RECORD_DURABLE, record.durable);
    if record.kind == Kind::Copy || record.kind.is_bare() {
        put_u64(out, RECORD_ORIGIN, record.origin);
    }
    if record.kind == Kind::State {
        put_u64(out, STATE_DELIVER_MS, record.deliver_ms);
    }
    let more = head - record.more.len();
    out[more..head].copy_from_slice(record.more);
    if record.kind.holds_message() {
        let times = [record.pushed_ms, record.expires_ms, record.deliver_ms];
        let offsets = (times_of(record.kind)..more).step_by(8);
        offsets.zip(times).for_each(|(offset, time)| put_u64(out, offset, time));
    }
}

/// Reads the fields of a record of this kind, whose head has `head` bytes. A head ends behind the
/// last of its times that is not zero: nothing else is valid, so a record is written in one way.
fn fields(kind: Kind, head: usize, record: &[u8]) -> Verdict<'_> {
    let (head_bytes, body) = record.split_at(head);
    let common_end = match kind {
        Kind::Message | Kind::Copy => times_of(kind),
        Kind::Removal | Kind::State | Kind::Other(_) => kind.shortest_head(),
    };
    let is_message = kind.holds_message();
    // What a head is too short for counts as zero.
    let time =
        |index: usize| if is_message { get_u64(head_bytes, common_end + 8 * index) } else { 0 };
    let known_end = if is_message { common_end + 24 } else { common_end };
    let record = Record {
        version: Version::Two,
        kind,
        marks: get_u16(record, RECORD_MARKS),
        flags: get_u32(record, RECORD_FLAGS),
        room: get_u32(record, RECORD_ROOM),
        sequence: get_u64(record, RECORD_SEQUENCE),
        durable: get_u64(record, RECORD_DURABLE),
        origin: match kind {
            Kind::Removal | Kind::Copy | Kind::State => get_u64(record, RECORD_ORIGIN),
            Kind::Message | Kind::Other(_) => 0,
        },
        pushed_ms: time(0),
        expires_ms: time(1),
        deliver_ms: match kind {
            Kind::State => get_u64(head_bytes, STATE_DELIVER_MS),
            _ => time(2),
        },
        more: head_bytes.get(known_end..).unwrap_or_default(),
        body,
    };
    let is_canonical = record.head_size() == head;
    if is_canonical { Verdict::Whole(record) } else { Verdict::Bad(Fault::Head(head)) }
}

#[cfg(test)]
mod tests;
