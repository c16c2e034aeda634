//! The ids of deliveries, as they are written: 40 characters, in the form of Disque's job ids.
//!
//! `D-`, 8 hexadecimal digits, `-`, 24 characters of base64, `-`, 4 hexadecimal digits: together
//! three numbers of 64 bits. Clients check no more than the length and where the hyphens are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::ops::Range;

/// Characters of an id.
pub const LENGTH: usize = 40;

/// Where the three parts stand between the hyphens.
const FIRST: Range<usize> = 2..10;
const MIDDLE: Range<usize> = 11..35;
const LAST: Range<usize> = 36..40;

/// The part of the numbers' 24 bytes, the lowest of each first, that is written in base64.
const MIDDLE_BYTES: Range<usize> = 4..22;

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
    pub fn encode(&self) -> [u8; LENGTH] {
        let words = [self.queue, self.number, self.attempt].map(u64::to_le_bytes);
        let mut text = *b"D-........-........................-....";
        write_hexadecimal(&mut text[FIRST], self.queue & 0xffff_ffff);
        write_hexadecimal(&mut text[LAST], self.attempt >> 48);
        // The bytes of the middle are as many as its characters hold.
        _ = STANDARD.encode_slice(&words.as_flattened()[MIDDLE_BYTES], &mut text[MIDDLE]);
        text
    }

    /// Reads an id, or returns `None` if the daemon writes no such id.
    pub fn parse(text: &[u8]) -> Option<JobId> {
        let text: &[u8; LENGTH] = text.try_into().ok()?;
        let digits = |range| str::from_utf8(&text[range]).ok();
        let first = u32::from_str_radix(digits(FIRST)?, 16).ok()?;
        let last = u16::from_str_radix(digits(LAST)?, 16).ok()?;
        let mut words = [[0; 8]; 3];
        let bytes = words.as_flattened_mut();
        bytes[..MIDDLE_BYTES.start].copy_from_slice(&first.to_le_bytes());
        STANDARD.decode_slice(&text[MIDDLE], &mut bytes[MIDDLE_BYTES]).ok()?;
        bytes[MIDDLE_BYTES.end..].copy_from_slice(&last.to_le_bytes());
        let [queue, number, attempt] = words.map(u64::from_le_bytes);
        let id = JobId { queue, number, attempt };
        // There is one way to write each.
        (id.encode() == *text).then_some(id)
    }
}

/// Fills `text` with the last digits of `number`.
fn write_hexadecimal(text: &mut [u8], mut number: u64) {
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number % 16) as usize];
        number /= 16;
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
        assert_eq!(&text, b"D-89abcdef-Z0UjAQAAAAAAAAAg3P4AAAAA-0000");
        assert_eq!(JobId::parse(&text), Some(id));
        let mut random = Random::seeded();
        for _ in 0..1000 {
            let [queue, number, attempt] = [(); 3].map(|()| random.below(u64::MAX));
            let id = JobId { queue, number, attempt };
            assert_eq!(JobId::parse(&id.encode()), Some(id));
        }
    }

    #[test]
    fn anything_else_is_no_id() {
        let text = JobId { queue: 7, number: 8, attempt: 9 }.encode();
        for index in 0..LENGTH {
            for byte in 0..=u8::MAX {
                let mut other = text;
                other[index] = byte;
                let parsed = JobId::parse(&other);
                assert!(parsed.is_none_or(|id| id.encode() == other), "{index} {byte}");
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
