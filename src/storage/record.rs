//! Records: pure functions between bytes and what they say. This file knows no files and no queue.
//!
//! 1. A record's checksum covers its position and every byte of it, padding included: a stale,
//!    moved or half-written record never passes.
//! 2. Bytes after the end of the log are zero, and no record starts with 32 zero bytes.

use super::layout::*;
use super::message::Message;
use std::sync::LazyLock;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A message that was pushed.
    Message = 1,
    /// The removal of a message that did not stand at the head.
    Removal = 2,
    /// A message moved forward from a dying segment, with its number.
    Copy = 3,
}

impl Kind {
    /// The kind that is written as `byte`.
    pub fn from_byte(byte: u8) -> Option<Kind> {
        match byte {
            1 => Some(Kind::Message),
            2 => Some(Kind::Removal),
            3 => Some(Kind::Copy),
            _ => None,
        }
    }

    /// Bytes before the body.
    pub const fn header_size(self) -> usize {
        match self {
            Kind::Message => MESSAGE_BODY,
            Kind::Removal => REMOVAL_SIZE,
            Kind::Copy => COPY_BODY,
        }
    }

    /// Bytes of a record with a body of `length` bytes, padding included.
    pub const fn record_size(self, length: usize) -> usize {
        (self.header_size() + length).next_multiple_of(ALIGNMENT)
    }
}

/// A record's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is.
    pub kind: Kind,
    /// The message's client flags; 0 in a removal.
    pub flags: u32,
    /// The message's number.
    pub sequence: u64,
    /// The log was durable up to this position when the record was written.
    pub durable: u64,
    /// Unix time of the push in milliseconds; 0 in a removal.
    pub pushed_ms: u64,
    /// Unix time of expiry in milliseconds, 0 = never.
    pub expires_ms: u64,
    /// Unix time before which it is not delivered, 0 = at once. Nothing writes another value yet.
    pub deliver_ms: u64,
    /// The position of the record that this one copies or removes; 0 in a message.
    pub origin: u64,
    /// The message; empty in a removal.
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// Bytes of the record, padding included.
    pub fn size(&self) -> usize {
        self.kind.record_size(self.body.len())
    }

    /// The message in it.
    pub fn message(&self) -> Message<'a> {
        Message {
            sequence: self.sequence,
            pushed_ms: self.pushed_ms,
            expires_ms: self.expires_ms,
            flags: self.flags,
            body: self.body,
        }
    }

    /// Writes the record, which lies at `position` in the log, to the start of `out`. `out` holds
    /// [`size`](Record::size) bytes at least, all zero; the body is shorter than 4 GiB.
    pub fn encode(&self, position: u64, out: &mut [u8]) {
        let out = &mut out[..self.size()];
        // The caller has compared the length with the limit of a message, far below 4 GiB.
        put_u32(out, RECORD_LENGTH, self.body.len() as u32);
        out[RECORD_KIND] = self.kind as u8;
        put_u32(out, RECORD_FLAGS, self.flags);
        put_u64(out, RECORD_SEQUENCE, self.sequence);
        put_u64(out, RECORD_DURABLE, self.durable);
        match self.kind {
            Kind::Removal => put_u64(out, REMOVAL_ORIGIN, self.origin),
            Kind::Message | Kind::Copy => {
                put_u64(out, MESSAGE_PUSHED_MS, self.pushed_ms);
                put_u64(out, MESSAGE_EXPIRES_MS, self.expires_ms);
                put_u64(out, MESSAGE_DELIVER_MS, self.deliver_ms);
            }
        }
        if self.kind == Kind::Copy {
            put_u64(out, COPY_ORIGIN, self.origin);
        }
        let body = self.kind.header_size();
        out[body..body + self.body.len()].copy_from_slice(self.body);
        let crc = checksum(position, out);
        put_u32(out, RECORD_CRC, crc);
    }
}

/// What stands at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// A whole record.
    Whole(Record<'a>),
    /// Zeros: the log ends here, or a hole begins.
    Blank,
    /// Something that is no record.
    Bad(Fault),
}

/// What is wrong with bytes that should be a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The checksum does not fit the bytes.
    Checksum {
        /// What the record says.
        expected: u32,
        /// What its bytes and position give.
        found: u32,
    },
    /// No such kind of record.
    Kind(u8),
    /// The record would end behind its segment.
    Length(u32),
    /// No message has this number, or it is not that of the message that should be there.
    Sequence(u64),
    /// Zeros with something behind them.
    Hole,
}

impl Fault {
    /// What should be there, in words.
    pub fn expected(&self) -> String {
        match self {
            Fault::Checksum { expected, .. } => format!("checksum {expected:08x}"),
            Fault::Kind(_) => "a kind of record from 1 to 3".into(),
            Fault::Length(_) => "a record inside the segment".into(),
            Fault::Sequence(_) => "the number of a message".into(),
            Fault::Hole => "a record".into(),
        }
    }

    /// What is there, in words.
    pub fn found(&self) -> String {
        match self {
            Fault::Checksum { found, .. } => format!("{found:08x}"),
            Fault::Kind(byte) => byte.to_string(),
            Fault::Length(length) => format!("a body of {length} bytes"),
            Fault::Sequence(number) => number.to_string(),
            Fault::Hole => "zeros".into(),
        }
    }
}

/// What no record starts with.
const BLANK: [u8; RECORD_COMMON] = [0; RECORD_COMMON];

/// One of nothing, to be cloned: to make one asks for the processor's features each time.
static HASHER: LazyLock<crc32fast::Hasher> = LazyLock::new(crc32fast::Hasher::new);

fn checksum(position: u64, record: &[u8]) -> u32 {
    let mut hasher = HASHER.clone();
    hasher.update(&position.to_le_bytes());
    hasher.update(&record[RECORD_LENGTH..]);
    hasher.finalize()
}

/// Says what stands at `position`; `bytes` reaches from there to the end of the segment.
pub fn decode(bytes: &[u8], position: u64) -> Verdict<'_> {
    let record = match reread(bytes) {
        Verdict::Whole(record) => record,
        other => return other,
    };
    let bytes = &bytes[..record.size()];
    let (expected, found) = (get_u32(bytes, RECORD_CRC), checksum(position, bytes));
    if expected != found {
        return Verdict::Bad(Fault::Checksum { expected, found });
    }
    Verdict::Whole(record)
}

/// As [`decode`], for a record whose checksum has been found right before and is not looked at
/// again.
pub fn reread(bytes: &[u8]) -> Verdict<'_> {
    let Some(common) = bytes.first_chunk::<RECORD_COMMON>() else {
        let is_blank = bytes.iter().all(|byte| *byte == 0);
        return if is_blank { Verdict::Blank } else { Verdict::Bad(Fault::Length(0)) };
    };
    let Some(kind) = Kind::from_byte(common[RECORD_KIND]) else {
        return match *common {
            BLANK => Verdict::Blank,
            _ => Verdict::Bad(Fault::Kind(common[RECORD_KIND])),
        };
    };
    let length = get_u32(common, RECORD_LENGTH);
    // Widened first: neither sum can overflow.
    let size = (kind.header_size() as u64 + u64::from(length)).next_multiple_of(ALIGNMENT as u64);
    if size > bytes.len() as u64 || (kind == Kind::Removal && length != 0) {
        return Verdict::Bad(Fault::Length(length));
    }
    let sequence = get_u64(common, RECORD_SEQUENCE);
    if sequence >= SEQUENCE_END {
        return Verdict::Bad(Fault::Sequence(sequence));
    }
    Verdict::Whole(fields(kind, &bytes[..size as usize], length as usize))
}

/// Reads the fields of a record of this kind with a body of `length` bytes.
fn fields(kind: Kind, record: &[u8], length: usize) -> Record<'_> {
    let is_message = kind != Kind::Removal;
    let time = |offset| {
        if is_message { get_u64(record, offset) } else { 0 }
    };
    let body = kind.header_size();
    Record {
        kind,
        flags: get_u32(record, RECORD_FLAGS),
        sequence: get_u64(record, RECORD_SEQUENCE),
        durable: get_u64(record, RECORD_DURABLE),
        pushed_ms: time(MESSAGE_PUSHED_MS),
        expires_ms: time(MESSAGE_EXPIRES_MS),
        deliver_ms: time(MESSAGE_DELIVER_MS),
        origin: match kind {
            Kind::Message => 0,
            Kind::Removal => get_u64(record, REMOVAL_ORIGIN),
            Kind::Copy => get_u64(record, COPY_ORIGIN),
        },
        body: &record[body..body + length],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(kind: Kind, body: &[u8]) -> Record<'_> {
        let is_message = kind != Kind::Removal;
        Record {
            kind,
            flags: 7,
            sequence: 42,
            durable: 4096,
            pushed_ms: if is_message { 1_700_000_000_000 } else { 0 },
            expires_ms: if is_message { 5 } else { 0 },
            deliver_ms: 0,
            origin: if kind == Kind::Message { 0 } else { 2560 },
            body,
        }
    }

    fn samples() -> Vec<Record<'static>> {
        vec![
            sample(Kind::Message, b"hello"),
            sample(Kind::Message, b""),
            sample(Kind::Copy, b"12345678"),
            sample(Kind::Removal, b""),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        for record in samples() {
            let mut bytes = vec![0; record.size() + 64];
            record.encode(10_000, &mut bytes);
            assert_eq!(decode(&bytes, 10_000), Verdict::Whole(record));
        }
    }

    #[test]
    fn a_record_at_another_position_does_not_pass() {
        for record in samples() {
            let mut bytes = vec![0; record.size()];
            record.encode(10_000, &mut bytes);
            assert!(matches!(decode(&bytes, 10_008), Verdict::Bad(Fault::Checksum { .. })));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for record in samples() {
            let mut bytes = vec![0; record.size()];
            record.encode(10_000, &mut bytes);
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(matches!(decode(&bytes, 10_000), Verdict::Bad(_)), "bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn every_cut_is_noticed_and_none_panics() {
        for record in samples() {
            let mut bytes = vec![0; record.size()];
            record.encode(10_000, &mut bytes);
            for length in 0..bytes.len() {
                let verdict = decode(&bytes[..length], 10_000);
                let starts_with_zeros = bytes[..length].iter().all(|byte| *byte == 0);
                assert_eq!(matches!(verdict, Verdict::Blank), starts_with_zeros, "{length}");
                assert!(!matches!(verdict, Verdict::Whole(_)), "{length}");
            }
        }
    }

    #[test]
    fn zeros_are_the_end_of_the_log() {
        assert_eq!(decode(&[0; 100], 2560), Verdict::Blank);
        assert_eq!(decode(&[0; 5], 2560), Verdict::Blank);
        assert_eq!(decode(&[], 2560), Verdict::Blank);
    }

    #[test]
    fn a_length_of_four_gibibytes_is_a_fault_and_no_overflow() {
        let mut bytes = [0; 64];
        put_u32(&mut bytes, RECORD_LENGTH, u32::MAX);
        for kind in [Kind::Message, Kind::Removal, Kind::Copy] {
            bytes[RECORD_KIND] = kind as u8;
            assert_eq!(decode(&bytes, 0), Verdict::Bad(Fault::Length(u32::MAX)));
        }
    }
}
