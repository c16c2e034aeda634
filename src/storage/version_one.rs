//! Version 1, as far as it differs: the layout of cursor slots and records, whose checksums have no
//! seed. `storage-format.md` describes it under "Version 1".

use super::layout::{
    ALIGNMENT, RECORD_COMMON, SEQUENCE_END, SLOT_BASE, get_u32, get_u64, put_u32, put_u64,
};
use super::record::{Fault, Kind, Record, Verdict};
use super::version::Version;
use crc32fast::Hasher;

/// Where a cursor slot's checksum lies: behind its base.
pub const SLOT_CRC: usize = SLOT_BASE + 8;

// A record: crc32, length, kind, three zero bytes, flags, sequence, durable.
const LENGTH: usize = 4;
const KIND: usize = 8;
const FLAGS: usize = 12;
const SEQUENCE: usize = 16;
const DURABLE: usize = 24;
const COMMON: usize = 32;
// A message and a copy go on with these.
const PUSHED_MS: usize = COMMON;
const EXPIRES_MS: usize = COMMON + 8;
const DELIVER_MS: usize = COMMON + 16;
const COPY_ORIGIN: usize = COMMON + 24;
const REMOVAL_ORIGIN: usize = COMMON;

const _: () = assert!(COMMON < RECORD_COMMON, "a record's first bytes are looked at together");
const _: () = assert!(Kind::Message.version_one_head() == DELIVER_MS + 8);
const _: () = assert!(Kind::Copy.version_one_head() == COPY_ORIGIN + 8);
const _: () = assert!(Kind::Removal.version_one_head() == REMOVAL_ORIGIN + 8);

/// Writes `record`, which lies at `position`, to `out`, which is as long and all zero.
pub fn encode(record: &Record<'_>, position: u64, out: &mut [u8], hasher: Hasher) {
    // The caller has compared the length with the limit of a message, far below 4 GiB.
    put_u32(out, LENGTH, record.body.len() as u32);
    out[KIND] = record.kind.byte();
    put_u32(out, FLAGS, record.flags);
    put_u64(out, SEQUENCE, record.sequence);
    put_u64(out, DURABLE, record.durable);
    if record.kind == Kind::Removal {
        put_u64(out, REMOVAL_ORIGIN, record.origin);
    } else {
        put_u64(out, PUSHED_MS, record.pushed_ms);
        put_u64(out, EXPIRES_MS, record.expires_ms);
        put_u64(out, DELIVER_MS, record.deliver_ms);
    }
    if record.kind == Kind::Copy {
        put_u64(out, COPY_ORIGIN, record.origin);
    }
    let body = record.kind.version_one_head();
    out[body..body + record.body.len()].copy_from_slice(record.body);
    let crc = checksum(position, out, hasher);
    put_u32(out, 0, crc);
}

fn checksum(position: u64, record: &[u8], mut hasher: Hasher) -> u32 {
    hasher.update(&position.to_le_bytes());
    hasher.update(&record[LENGTH..]);
    hasher.finalize()
}

/// Says what stands at `position`; `bytes` reaches from there to the end of the segment.
pub fn decode(bytes: &[u8], position: u64, hasher: Hasher) -> Verdict<'_> {
    let record = match reread(bytes) {
        Verdict::Whole(record) => record,
        other => return other,
    };
    let bytes = &bytes[..record.size()];
    let (expected, found) = (get_u32(bytes, 0), checksum(position, bytes, hasher));
    if expected != found {
        return Verdict::Bad(Fault::Checksum { expected, found });
    }
    Verdict::Whole(record)
}

/// As [`decode`], without a look at the checksum.
pub fn reread(bytes: &[u8]) -> Verdict<'_> {
    let Some(common) = bytes.first_chunk::<COMMON>() else {
        let is_blank = bytes.iter().all(|byte| *byte == 0);
        return if is_blank { Verdict::Blank } else { Verdict::Bad(Fault::Length(0)) };
    };
    let kind = match Kind::from_byte(common[KIND]) {
        Some(Kind::State | Kind::Other(_)) | None if *common == [0; COMMON] => {
            return Verdict::Blank;
        }
        Some(Kind::State | Kind::Other(_)) | None => {
            return Verdict::Bad(Fault::Kind(common[KIND]));
        }
        Some(kind) => kind,
    };
    let length = get_u32(common, LENGTH);
    // Widened first: neither sum can overflow.
    let size =
        (kind.version_one_head() as u64 + u64::from(length)).next_multiple_of(ALIGNMENT as u64);
    if size > bytes.len() as u64 || (kind == Kind::Removal && length != 0) {
        return Verdict::Bad(Fault::Length(length));
    }
    let sequence = get_u64(common, SEQUENCE);
    if sequence >= SEQUENCE_END {
        return Verdict::Bad(Fault::Sequence(sequence));
    }
    Verdict::Whole(fields(kind, &bytes[..size as usize], length as usize))
}

fn fields(kind: Kind, record: &[u8], length: usize) -> Record<'_> {
    let time = |offset| if kind == Kind::Removal { 0 } else { get_u64(record, offset) };
    let body = kind.version_one_head();
    Record {
        version: Version::One,
        kind,
        marks: 0,
        flags: get_u32(record, FLAGS),
        room: 0,
        sequence: get_u64(record, SEQUENCE),
        durable: get_u64(record, DURABLE),
        origin: match kind {
            Kind::Removal => get_u64(record, REMOVAL_ORIGIN),
            Kind::Copy => get_u64(record, COPY_ORIGIN),
            Kind::Message | Kind::State | Kind::Other(_) => 0,
        },
        pushed_ms: time(PUSHED_MS),
        expires_ms: time(EXPIRES_MS),
        deliver_ms: time(DELIVER_MS),
        more: &[],
        body: &record[body..body + length],
    }
}
