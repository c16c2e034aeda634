//! Going through the records of a segment, also past damaged ones.
//!
//! After a bad record the walk goes on with the next whole one. The search for it starts where the
//! bad record ends by its head, if that is whole, and else at the next multiple of the alignment.
//! It meets nothing that only passes for a record, since nobody can make one up without the key,
//! and it costs no more than a look at the bytes, since a head has a checksum of its own.
//!
//! In version 1 a body may hold bytes that pass for a record, and the search may be long. So what
//! the bad record's length says is taken where the numbers there show that at most one message was
//! lost. And the search looks at no more than `SEARCH_BUDGET` times the bytes there are.

use super::codec::Codec;
use super::error::StorageError;
use super::layout::ALIGNMENT;
use super::record::{Fault, Kind, Record, Verdict};
use super::segment::Segment;
use super::version::Version;

/// How often, on average, the search in a segment of version 1 may look at a byte.
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
        /// Where the next whole record starts, or `None` if there is none.
        resumes: Option<u64>,
    },
}

/// A walk through the bytes of one segment, from one position to the end of the bytes or to where
/// only zeros follow.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    codec: &'a Codec,
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
    pub fn new(codec: &'a Codec, bytes: &'a [u8], position: u64) -> Walk<'a> {
        let zero_from = u64::MAX;
        Walk { codec, bytes, position, last_sequence: None, is_bounded: false, zero_from }
    }

    /// The same walk, where all bytes from `position` on are known to be zero.
    pub fn with_zeros_from(self, position: u64) -> Walk<'a> {
        Walk { zero_from: position, ..self }
    }

    /// A walk through bytes that records are known to reach to the end of.
    pub fn bounded(codec: &'a Codec, bytes: &'a [u8], position: u64) -> Walk<'a> {
        Walk { is_bounded: true, ..Walk::new(codec, bytes, position) }
    }

    /// A walk from `position` to the last record of `segment`, where it lies.
    pub fn through(segment: &'a Segment, position: u64) -> Result<Walk<'a>, StorageError> {
        if segment.is_unlinked {
            // There is nothing to be mapped, and there was no record.
            return Ok(Walk::bounded(&segment.codec, &[], segment.records_end));
        }
        // The end of a full segment is the start of the next one, whose header comes first.
        let position = position.max(segment.records_start());
        let length = segment.records_end.saturating_sub(position) as usize;
        let bytes = segment.bytes_from(position)?;
        Ok(Walk::bounded(&segment.codec, bytes.get(..length).unwrap_or(bytes), position))
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

    /// Where whole records go on behind the bad one at the walk's position.
    fn behind_bad_record(&self) -> Option<u64> {
        if self.codec.version() == Version::One {
            return self.by_its_length().or_else(|| self.search(ALIGNMENT));
        }
        self.search(self.codec.extent(self.bytes, self.position).unwrap_or(ALIGNMENT))
    }

    /// Where the bad record of a segment of version 1 ends by its own length, if that can be
    /// believed.
    fn by_its_length(&self) -> Option<u64> {
        let last_sequence = self.last_sequence?;
        let Verdict::Whole(bad) = self.codec.reread(self.bytes) else {
            return None;
        };
        let position = self.position + bad.size() as u64;
        let Verdict::Whole(next) = self.codec.decode(self.bytes.get(bad.size()..)?, position)
        else {
            return None;
        };
        let is_next = next.kind == Kind::Message && next.sequence <= last_sequence + 2;
        is_next.then_some(position)
    }

    /// The position of the first whole record, `start` bytes from the walk's position or more.
    fn search(&self, start: usize) -> Option<u64> {
        let mut budget = self.bytes.len().saturating_mul(SEARCH_BUDGET);
        for offset in (start..self.bytes.len()).step_by(ALIGNMENT) {
            let (rest, position) = (&self.bytes[offset..], self.position + offset as u64);
            if self.codec.version() == Version::One {
                // Only what could be a record costs a checksum.
                let Verdict::Whole(candidate) = self.codec.reread(rest) else { continue };
                budget = budget.checked_sub(candidate.size())?;
            }
            match self.codec.decode(rest, position) {
                // One of a newer format has to be met, too.
                Verdict::Whole(_) | Verdict::Bad(Fault::Newer(_)) => return Some(position),
                _ => {}
            }
        }
        None
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        let position = self.position;
        let fault = match self.codec.decode(self.bytes, position) {
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
        let resumes = self.behind_bad_record();
        let end = position.saturating_add(self.bytes.len() as u64);
        self.advance_to(resumes.unwrap_or(end));
        // What was passed over may have held any number.
        self.last_sequence = None;
        Some(Step::Damage { position, fault, resumes })
    }
}

impl Segment {
    /// What stands at `position`, checksums looked at.
    pub fn decode(&self, position: u64) -> Result<Verdict<'_>, StorageError> {
        Ok(self.codec.decode(self.bytes_from(position)?, position))
    }
}

/// True when all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    // A line at a time: a whole segment's rest is looked at here.
    let (lines, tail) = bytes.as_chunks::<64>();
    lines.iter().all(|line| *line == [0; 64]) && tail.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::layout::{MESSAGE_HEAD, RECORD_LENGTH};

    fn codec() -> Codec {
        Codec::new(Version::Two, [7; 16])
    }

    fn log_of(bodies: &[&[u8]], base: u64) -> (Vec<u8>, Vec<u64>) {
        let records: Vec<_> = bodies.iter().map(|body| (Kind::Message, *body)).collect();
        log_of_kinds(&codec(), &records, base)
    }

    fn log_of_kinds(codec: &Codec, records: &[(Kind, &[u8])], base: u64) -> (Vec<u8>, Vec<u64>) {
        let (mut bytes, mut positions, mut sequence) = (Vec::new(), Vec::new(), 0);
        for (kind, body) in records.iter().copied() {
            sequence += u64::from(kind == Kind::Message);
            let version = codec.version();
            let record =
                Record { version, kind, sequence, pushed_ms: 1, body, ..Record::default() };
            let position = base + bytes.len() as u64;
            positions.push(position);
            let start = bytes.len();
            bytes.resize(start + record.size(), 0);
            codec.encode(&record, position, &mut bytes[start..]);
        }
        (bytes, positions)
    }

    fn sequences(bytes: &[u8], base: u64) -> Vec<u64> {
        let whole = |step| match step {
            Step::Whole(_, record) => Some(record.sequence),
            Step::Damage { .. } => None,
        };
        Walk::new(&codec(), bytes, base).filter_map(whole).collect()
    }

    #[test]
    fn it_goes_from_record_to_record_and_ends_at_zeros() {
        let (mut bytes, _) = log_of(&[b"a", b"", b"ccc"], 2560);
        let end = 2560 + bytes.len() as u64;
        bytes.resize(bytes.len() + 500, 0);
        let codec = codec();
        let mut walk = Walk::new(&codec, &bytes, 2560);
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
        let codec = codec();
        let steps: Vec<Step<'_>> = Walk::new(&codec, &bytes, 2560).collect();
        let hole = Step::Damage { position: second, fault: Fault::Hole, resumes: Some(third) };
        assert_eq!(steps[1], hole);
        assert_eq!(sequences(&bytes, 2560), [1, 3]);
    }

    #[test]
    fn what_is_known_to_be_zero_is_not_looked_at() {
        let (mut bytes, positions) = log_of(&[b"first", b"second", b"third"], 2560);
        bytes[(positions[1] - 2560) as usize..(positions[2] - 2560) as usize].fill(0);
        let codec = codec();
        let count = |zero_from| Walk::new(&codec, &bytes, 2560).with_zeros_from(zero_from).count();
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
        let codec = codec();
        assert_eq!(Walk::bounded(&codec, &bytes, 2560).nth(1), Some(damage));
        assert_eq!(Walk::new(&codec, &bytes, 2560).nth(1), None);
    }

    /// A body that holds a record as somebody without the key makes it, for the very position.
    fn forged(inside: u64) -> Vec<u8> {
        let other = Codec::new(Version::Two, [0; 16]);
        let (mut forged, _) = log_of_kinds(&other, &[(Kind::Message, b"forged")], inside);
        let old = Codec::new(Version::One, [0; 16]);
        let inside = inside + forged.len() as u64;
        forged.extend(log_of_kinds(&old, &[(Kind::Message, b"forged")], inside).0);
        forged
    }

    #[test]
    fn a_record_inside_a_damaged_message_is_not_taken_for_one() {
        let (first, _) = log_of(&[b"first"], 2560);
        let inside = first.len() + MESSAGE_HEAD;
        let (bytes, positions) = log_of(&[b"first", &forged(2560 + inside as u64), b"third"], 2560);
        let second = (positions[1] - 2560) as usize..(positions[2] - 2560) as usize;
        // Whichever bit is flipped, also of the length.
        for bit in second.start * 8..second.end * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(sequences(&bytes, 2560), [1, 3], "bit {bit}");
        }
    }

    #[test]
    fn in_version_1_a_length_is_believed_only_after_another_message() {
        let codec = Codec::new(Version::One, [7; 16]);
        let inside = 2560 + 64 + 2 * 40 + 56;
        let (forged, _) = log_of_kinds(&codec, &[(Kind::Message, b"forged")], inside);
        let records = [
            (Kind::Message, &b"first"[..]),
            (Kind::Removal, b""),
            (Kind::Removal, b""),
            (Kind::Message, &forged),
            (Kind::Message, b"third"),
        ];
        let (mut bytes, positions) = log_of_kinds(&codec, &records, 2560);
        assert_eq!(positions[3] + 56, inside);
        fn resumes(step: Step<'_>) -> Option<u64> {
            match step {
                Step::Damage { resumes, .. } => resumes,
                Step::Whole(..) => None,
            }
        }
        bytes[(positions[3] - 2560) as usize + 20] ^= 1;
        let walk = Walk::new(&codec, &bytes, 2560);
        assert_eq!(walk.filter_map(resumes).last(), Some(positions[4]));
        bytes[(positions[1] - 2560) as usize + 20] ^= 1;
        // From the first message on, and like a reader that begins behind the first damage.
        for start in [positions[0], positions[2]] {
            let walk = Walk::new(&codec, &bytes[(start - 2560) as usize..], start);
            assert_eq!(walk.filter_map(resumes).last(), Some(inside));
        }
    }

    #[test]
    fn a_body_full_of_heads_hides_nothing_behind_it() {
        // Every eighth byte starts a candidate that reaches nearly to the end of the body.
        let count = 1 << 13;
        let (one, _) = log_of(&[&[1; 8]], 0);
        let mut body = vec![0; count * 8];
        for index in 0..count {
            body[index * 8..][..8].copy_from_slice(&one[8..16]);
            let length = ((count - index) * 8).saturating_sub(100) as u32;
            body[index * 8..][..4].copy_from_slice(&length.to_le_bytes());
        }
        let (mut bytes, positions) = log_of(&[b"first", &body, b"third"], 2560);
        bytes[(positions[1] - 2560) as usize + RECORD_LENGTH] ^= 1;
        assert_eq!(sequences(&bytes, 2560), [1, 3]);
    }

    #[test]
    fn in_version_1_garbage_that_looks_like_records_without_end_is_given_up() {
        let codec = Codec::new(Version::One, [7; 16]);
        let count = 1 << 15;
        let mut bytes = vec![0; count * 8];
        for index in 0..count {
            let length = ((count - index) * 8).saturating_sub(100) as u32;
            bytes[index * 8 + 4..index * 8 + 7].copy_from_slice(&length.to_le_bytes()[..3]);
            bytes[index * 8] = 1;
        }
        assert!(Walk::new(&codec, &bytes, 0).all(|step| matches!(step, Step::Damage { .. })));
    }
}
