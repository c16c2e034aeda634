//! The ids of deliveries, as they are written: 40 characters, in the form of Disque's job ids.
//!
//! `D-`, 8 hexadecimal digits, `-`, 24 characters of base64, `-`, 4 hexadecimal digits: together
//! three numbers of 64 bits. Clients check no more than the length and where the hyphens are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::ops::Range;

/// Characters of an id.
pub const LENGTH: usize = 40;

/// The part of the numbers' 24 bytes, the lowest of each first, that is written in base64.
const MIDDLE: Range<usize> = 4..22;

/// What an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobId {
    /// The queue's identity.
    pub queue: u64,
    /// The message's number in it.
    pub number: u64,
    /// The delivery.
    pub attempt: u64,
}

impl JobId {
    /// The id as clients see it.
    pub fn encode(&self) -> String {
        let JobId { queue, number, attempt } = *self;
        let bytes = [queue, number, attempt].map(u64::to_le_bytes).concat();
        let middle = STANDARD.encode(&bytes[MIDDLE]);
        format!("D-{:08x}-{middle}-{:04x}", queue & 0xffff_ffff, attempt >> 48)
    }

    /// Reads an id; `None`: it is none that the daemon has made.
    pub fn parse(text: &[u8]) -> Option<JobId> {
        let text = str::from_utf8(text).ok().filter(|text| text.len() == LENGTH)?;
        let hexadecimal = |range| u64::from_str_radix(text.get(range)?, 16).ok();
        let (first, last) = (hexadecimal(2..10)?, hexadecimal(36..40)?);
        let middle = STANDARD.decode(text.get(11..35)?).ok()?;
        let number_of = |range: Range<usize>| {
            let bytes = middle.get(range)?.iter().rev();
            Some(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
        };
        let id = JobId {
            queue: number_of(0..4)? << 32 | first,
            number: number_of(4..12)?,
            attempt: last << 48 | number_of(12..18)?,
        };
        // There is one way to write each.
        (id.encode() == text).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn an_id_is_read_as_it_was_written() {
        let id = JobId { queue: 0x0123_4567_89ab_cdef, number: 1 << 61, attempt: 0xfedc };
        let text = id.encode();
        assert_eq!(text, "D-89abcdef-Z0UjAQAAAAAAAAAg3P4AAAAA-0000");
        assert_eq!(JobId::parse(text.as_bytes()), Some(id));
        let mut random = Random::seeded();
        for _ in 0..1000 {
            let [queue, number, attempt] = [(); 3].map(|()| random.below(u64::MAX));
            let id = JobId { queue, number, attempt };
            assert_eq!(JobId::parse(id.encode().as_bytes()), Some(id));
        }
    }

    #[test]
    fn anything_else_is_no_id() {
        let text = JobId { queue: 7, number: 8, attempt: 9 }.encode().into_bytes();
        for index in 0..LENGTH {
            for byte in 0..=u8::MAX {
                let mut other = text.clone();
                other[index] = byte;
                let parsed = JobId::parse(&other);
                assert!(parsed.is_none_or(|id| id.encode().as_bytes() == other), "{index} {byte}");
            }
            assert_eq!(JobId::parse(&text[index..]).is_some(), index == 0);
        }
        let others: [&[u8]; 5] = [
            b"",
            &[b'D'; LENGTH],
            &[0xff; LENGTH],
            b"D-89ABCDEF-Z0UjAQAAAAAAAAAg3P4AAAAA-0000",
            b"D-+9abcdef-Z0UjAQAAAAAAAAAg3P4AAAAA-0000",
        ];
        assert!(others.iter().all(|other| JobId::parse(other).is_none()));
    }
}
