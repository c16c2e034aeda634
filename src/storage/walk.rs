//! Going through the records of a segment, also past damaged ones.
//!
//! After a bad record the walk goes on with the next valid one. That is where the bad record's own
//! length says, if the numbers there show that one message was lost at the most: a message's body
//! may hold bytes that pass for a record. Else it is the next position whose bytes pass the
//! checksum. The search is bounded: it may look at `SEARCH_BUDGET` times the bytes there are, and
//! then gives the rest up.

use super::error::StorageError;
use super::layout::{ALIGNMENT, RECORD_COMMON};
use super::record::{Fault, Kind, Record, Verdict, decode, reread};
use super::segment::Segment;

/// How often, on average, the search for a valid record may look at a byte.
const SEARCH_BUDGET: usize = 16;

/// What the walk came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole record and its position.
    Whole(u64, Record<'a>),
    /// Bytes that are no record.
    Damage {
        /// Where they start.
        position: u64,
        /// What is wrong there.
        fault: Fault,
        /// Where the next whole record starts; None: there is none.
        resumes: Option<u64>,
    },
}

/// A walk through the bytes of one segment, from one position to the end of the bytes or to where
/// only zeros follow.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    bytes: &'a [u8],
    position: u64,
    /// The number of the last message that was pushed here, once one has been seen behind the last
    /// damage.
    last_sequence: Option<u64>,
    /// Records are known to reach to the end of the bytes: zeros before it are damage.
    is_bounded: bool,
    /// From here on all bytes are known to be zero.
    zero_from: u64,
}

impl<'a> Walk<'a> {
    /// A walk from `position`, where `bytes` starts.
    pub fn new(bytes: &'a [u8], position: u64) -> Walk<'a> {
        Walk { bytes, position, last_sequence: None, is_bounded: false, zero_from: u64::MAX }
    }

    /// The same walk, where all bytes from `position` on are known to be zero.
    pub fn with_zeros_from(self, position: u64) -> Walk<'a> {
        Walk { zero_from: position, ..self }
    }

    /// A walk through bytes that records are known to reach to the end of.
    pub fn bounded(bytes: &'a [u8], position: u64) -> Walk<'a> {
        Walk { is_bounded: true, ..Walk::new(bytes, position) }
    }

    /// A walk from `position` to the last record of `segment`, where it lies.
    pub fn through(segment: &'a Segment, position: u64) -> Result<Walk<'a>, StorageError> {
        // The end of a full segment is the start of the next one, whose header comes first.
        let position = position.max(segment.records_start());
        let length = segment.records_end.saturating_sub(position) as usize;
        let bytes = segment.bytes_from(position)?;
        Ok(Walk::bounded(bytes.get(..length).unwrap_or(bytes), position))
    }

    /// Where the walk stands: after its end, the position after the last record.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn advance_to(&mut self, position: u64) {
        let step = usize::try_from(position - self.position).unwrap_or(usize::MAX);
        self.bytes = self.bytes.get(step..).unwrap_or_default();
        self.position = position;
    }

    fn is_rest_zero(&self) -> bool {
        let unknown = usize::try_from(self.zero_from.saturating_sub(self.position));
        is_zero(unknown.ok().and_then(|length| self.bytes.get(..length)).unwrap_or(self.bytes))
    }

    /// Where the bad record at the walk's position ends by its own length, if that can be believed.
    fn behind_bad_record(&self) -> Option<u64> {
        let last_sequence = self.last_sequence?;
        let Verdict::Whole(bad) = reread(self.bytes) else {
            return None;
        };
        let position = self.position + bad.size() as u64;
        let Verdict::Whole(next) = decode(self.bytes.get(bad.size()..)?, position) else {
            return None;
        };
        let is_next = next.kind == Kind::Message && next.sequence <= last_sequence + 2;
        is_next.then_some(position)
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        let position = self.position;
        let fault = match decode(self.bytes, position) {
            Verdict::Whole(record) => {
                self.advance_to(position + record.size() as u64);
                if record.kind == Kind::Message {
                    self.last_sequence = Some(record.sequence);
                }
                return Some(Step::Whole(position, record));
            }
            Verdict::Blank if self.bytes.is_empty() => return None,
            Verdict::Blank if !self.is_bounded && self.is_rest_zero() => return None,
            Verdict::Blank => Fault::Hole,
            Verdict::Bad(fault) => fault,
        };
        let resumes = self.behind_bad_record().or_else(|| search(self.bytes, position));
        let end = position.saturating_add(self.bytes.len() as u64);
        self.advance_to(resumes.unwrap_or(end));
        // What was passed over may have held any number.
        self.last_sequence = None;
        Some(Step::Damage { position, fault, resumes })
    }
}

/// True when all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    // A line at a time: a whole segment's rest is looked at here.
    let (lines, tail) = bytes.as_chunks::<64>();
    lines.iter().all(|line| *line == [0; 64]) && tail.iter().all(|byte| *byte == 0)
}

/// The position of the first whole record behind the bad one at `position`, where `bytes` starts.
fn search(bytes: &[u8], position: u64) -> Option<u64> {
    let mut budget = bytes.len().saturating_mul(SEARCH_BUDGET);
    let mut offset = ALIGNMENT;
    while offset + RECORD_COMMON <= bytes.len() {
        let rest = &bytes[offset..];
        // Only what could be a record costs a checksum.
        if let Verdict::Whole(candidate) = reread(rest) {
            if matches!(decode(rest, position + offset as u64), Verdict::Whole(_)) {
                return Some(position + offset as u64);
            }
            budget = budget.checked_sub(candidate.size())?;
        }
        offset += ALIGNMENT;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::record::Kind;

    fn log_of(bodies: &[&[u8]], base: u64) -> (Vec<u8>, Vec<u64>) {
        let records: Vec<_> = bodies.iter().map(|body| (Kind::Message, *body)).collect();
        log_of_kinds(&records, base)
    }

    fn log_of_kinds(records: &[(Kind, &[u8])], base: u64) -> (Vec<u8>, Vec<u64>) {
        let (mut bytes, mut positions, mut sequence) = (Vec::new(), Vec::new(), 0);
        for (kind, body) in records.iter().copied() {
            sequence += u64::from(kind == Kind::Message);
            let record = Record {
                kind,
                flags: 0,
                sequence,
                durable: 0,
                pushed_ms: 1,
                expires_ms: 0,
                deliver_ms: 0,
                origin: 0,
                body,
            };
            let position = base + bytes.len() as u64;
            positions.push(position);
            let start = bytes.len();
            bytes.resize(start + record.size(), 0);
            record.encode(position, &mut bytes[start..]);
        }
        (bytes, positions)
    }

    fn sequences(bytes: &[u8], base: u64) -> Vec<u64> {
        let whole = |step| match step {
            Step::Whole(_, record) => Some(record.sequence),
            Step::Damage { .. } => None,
        };
        Walk::new(bytes, base).filter_map(whole).collect()
    }

    #[test]
    fn it_goes_from_record_to_record_and_ends_at_zeros() {
        let (mut bytes, _) = log_of(&[b"a", b"", b"ccc"], 2560);
        let end = 2560 + bytes.len() as u64;
        bytes.resize(bytes.len() + 500, 0);
        let mut walk = Walk::new(&bytes, 2560);
        assert_eq!(walk.by_ref().count(), 3);
        assert_eq!(walk.position(), end);
        assert_eq!(sequences(&bytes, 2560), [1, 2, 3]);
    }

    #[test]
    fn whichever_bit_is_flipped_only_its_record_is_passed_over() {
        let (mut bytes, positions) = log_of(&[b"first", b"second", b"third message"], 2560);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let hit = positions.partition_point(|start| *start <= 2560 + bit as u64 / 8) as u64;
            let rest: Vec<u64> = (1..=3).filter(|sequence| *sequence != hit).collect();
            assert_eq!(sequences(&bytes, 2560), rest, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_hole_is_named_and_the_record_behind_it_found() {
        let (mut bytes, positions) = log_of(&[b"first", b"second", b"third"], 2560);
        let (second, third) = (positions[1], positions[2]);
        bytes[(second - 2560) as usize..(third - 2560) as usize].fill(0);
        let steps: Vec<Step<'_>> = Walk::new(&bytes, 2560).collect();
        let hole = Step::Damage { position: second, fault: Fault::Hole, resumes: Some(third) };
        assert_eq!(steps[1], hole);
        assert_eq!(sequences(&bytes, 2560), [1, 3]);
    }

    #[test]
    fn what_is_known_to_be_zero_is_not_looked_at() {
        let (mut bytes, positions) = log_of(&[b"first", b"second", b"third"], 2560);
        bytes[(positions[1] - 2560) as usize..(positions[2] - 2560) as usize].fill(0);
        let count = |zero_from| Walk::new(&bytes, 2560).with_zeros_from(zero_from).count();
        assert_eq!(count(positions[1]), 1);
        assert_eq!(count(positions[2]), 1);
        assert_eq!(count(positions[2] + 1), 3);
        assert_eq!(count(2560), 1, "a record is one wherever it lies");
    }

    #[test]
    fn zeros_where_records_are_known_to_be_are_damage() {
        let (mut bytes, positions) = log_of(&[b"first", b"second"], 2560);
        bytes[(positions[1] - 2560) as usize..].fill(0);
        let (position, fault) = (positions[1], Fault::Hole);
        let damage = Step::Damage { position, fault, resumes: None };
        assert_eq!(Walk::bounded(&bytes, 2560).nth(1), Some(damage));
        assert_eq!(Walk::new(&bytes, 2560).nth(1), None);
    }

    #[test]
    fn a_record_inside_a_damaged_message_is_not_taken_for_one() {
        let inside = 64 + 56;
        let (forged, _) = log_of(&[b"forged"], 2560 + inside as u64);
        let (mut bytes, positions) = log_of(&[b"first", &forged, b"third"], 2560);
        assert_eq!(positions[1], 2560 + 64);
        assert!(matches!(decode(&bytes[inside..], 2560 + inside as u64), Verdict::Whole(_)));
        bytes[64 + 20] ^= 1;
        assert_eq!(sequences(&bytes, 2560), [1, 3]);
    }

    #[test]
    fn behind_damage_a_length_is_believed_only_after_another_message() {
        let inside = 2560 + 64 + 2 * 40 + 56;
        let (forged, _) = log_of(&[b"forged"], inside);
        let records = [
            (Kind::Message, &b"first"[..]),
            (Kind::Removal, b""),
            (Kind::Removal, b""),
            (Kind::Message, &forged),
            (Kind::Message, b"third"),
        ];
        let (mut bytes, positions) = log_of_kinds(&records, 2560);
        assert_eq!(positions[3] + 56, inside);
        for damaged in [positions[1], positions[3]] {
            bytes[(damaged - 2560) as usize + 20] ^= 1;
        }
        // From the first message on, and like whoever begins behind the first damage.
        for start in [positions[0], positions[2]] {
            let walk = Walk::new(&bytes[(start - 2560) as usize..], start);
            let resumes = |step| match step {
                Step::Damage { resumes, .. } => resumes,
                Step::Whole(..) => None,
            };
            assert_eq!(walk.filter_map(resumes).last(), Some(inside));
        }
    }

    #[test]
    fn garbage_that_looks_like_records_without_end_is_given_up() {
        // Every eighth byte starts a candidate that reaches nearly to the end.
        let count = 1 << 15;
        let mut bytes = vec![0; count * 8];
        for index in 0..count {
            let length = ((count - index) * 8).saturating_sub(100) as u32;
            bytes[index * 8 + 4..index * 8 + 7].copy_from_slice(&length.to_le_bytes()[..3]);
            bytes[index * 8] = 1;
        }
        assert_eq!(sequences(&bytes, 0), []);
    }
}
