//! What has failed about a message so far: how often a worker got it and did not finish, and why.
//!
//! A state record says it, and so does the head of a copy, which takes the place of the states
//! before it: both end with a list of fields, and this is one of them. This file knows the bytes of
//! that list, and nothing of records or files.

use super::layout::*;
use crate::memory::{self, NoMemory};

/// The longest reason, in bytes. More of one is cut off.
pub const REASON_MAX: usize = u8::MAX as usize;

/// One failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Unix time in milliseconds.
    pub at_ms: u64,
    /// Why, in the worker's words; empty where it gave none.
    pub reason: Box<[u8]>,
}

/// The failures of one message; all 0 where nothing has failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Those that count for the limit of deliveries.
    pub attempts: u32,
    /// Deliveries that a worker gave back, or whose connection broke.
    pub nacks: u32,
    /// Deliveries whose lease ran out.
    pub expiries: u32,
    /// The first of all.
    pub first: Failure,
    /// The newest.
    pub last: Failure,
}

/// Why a delivery failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The worker said so, or its connection broke.
    Nack,
    /// The lease ran out.
    Expiry,
}

impl Failures {
    /// Counts one more failure. Counts stay at their highest value; a reason is cut to
    /// [`REASON_MAX`] bytes.
    ///
    /// # Errors
    /// There is no memory for the reason; nothing has changed.
    pub fn add(&mut self, cause: Cause, at_ms: u64, reason: &[u8]) -> Result<(), NoMemory> {
        let reason = &reason[..reason.len().min(REASON_MAX)];
        let last = Failure { at_ms, reason: memory::join(&[reason])?.into() };
        if self.nacks == 0 && self.expiries == 0 {
            self.first = Failure { at_ms, reason: memory::join(&[reason])?.into() };
        }
        self.last = last;
        let count = match cause {
            Cause::Nack => &mut self.nacks,
            Cause::Expiry => &mut self.expiries,
        };
        *count = count.saturating_add(1);
        self.attempts = self.attempts.saturating_add(1);
        Ok(())
    }

    /// Reads them from a list of fields. One that has no field of failures says that there are
    /// none.
    pub fn decode(fields: &[u8]) -> Failures {
        let field = Fields(fields).find(|field| get_u16(field, FIELD_KIND) == FAILURES_FIELD);
        let Some(field) = field.filter(|field| field.len() >= FAILURES_REASONS) else {
            return Failures::default();
        };
        let reasons = &field[FAILURES_REASONS..];
        let first_length = usize::from(field[FAILURES_FIRST_LENGTH]).min(reasons.len());
        let (first, rest) = reasons.split_at(first_length);
        let last = &rest[..usize::from(field[FAILURES_LAST_LENGTH]).min(rest.len())];
        let failure = |offset, reason: &[u8]| Failure {
            at_ms: get_u64(field, offset),
            reason: reason.into(),
        };
        Failures {
            attempts: get_u32(field, FAILURES_ATTEMPTS),
            nacks: get_u32(field, FAILURES_NACKS),
            expiries: get_u32(field, FAILURES_EXPIRIES),
            first: failure(FAILURES_FIRST_MS, first),
            last: failure(FAILURES_LAST_MS, last),
        }
    }

    /// The field that says them.
    ///
    /// # Errors
    /// There is no memory.
    pub fn encode(&self) -> Result<Vec<u8>, NoMemory> {
        let reasons = [&self.first.reason, &self.last.reason];
        let reasons = reasons.map(|reason| &reason[..reason.len().min(REASON_MAX)]);
        let length: usize = reasons.iter().map(|reason| reason.len()).sum();
        let size = (FAILURES_REASONS + length).next_multiple_of(ALIGNMENT);
        let mut field = Vec::new();
        memory::reserve_exact(&mut field, size)?;
        field.resize(FAILURES_REASONS, 0);
        put_u16(&mut field, FIELD_KIND, FAILURES_FIELD);
        // Both fit: a reason has 255 bytes at most.
        put_u16(&mut field, FIELD_SIZE, size as u16);
        put_u32(&mut field, FAILURES_ATTEMPTS, self.attempts);
        put_u32(&mut field, FAILURES_NACKS, self.nacks);
        put_u32(&mut field, FAILURES_EXPIRIES, self.expiries);
        put_u64(&mut field, FAILURES_FIRST_MS, self.first.at_ms);
        put_u64(&mut field, FAILURES_LAST_MS, self.last.at_ms);
        field[FAILURES_FIRST_LENGTH] = reasons[0].len() as u8;
        field[FAILURES_LAST_LENGTH] = reasons[1].len() as u8;
        reasons.iter().for_each(|reason| field.extend_from_slice(reason));
        field.resize(size, 0);
        Ok(field)
    }
}

/// The fields of a message with what a state says in place of its own: those of the state, then
/// those of the message that the state lacks. Fields that would make them more than `most` bytes
/// are left out: only a later version could have written so much.
///
/// # Errors
/// There is no memory.
pub fn joined(state: &[u8], message: &[u8], most: usize) -> Result<Vec<u8>, NoMemory> {
    let kind = |field: &[u8]| get_u16(field, FIELD_KIND);
    let is_kept = |field: &&[u8]| Fields(state).all(|stated| kind(stated) != kind(field));
    let mut joined = Vec::new();
    for field in Fields(state).chain(Fields(message).filter(is_kept)) {
        if joined.len() + field.len() <= most {
            memory::append(&mut joined, field)?;
        }
    }
    Ok(joined)
}

/// The fields at the end of a head, each with its kind and size. What is no field ends the list.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let size = usize::from(get_u16(self.0, FIELD_SIZE));
        if size == 0 || !size.is_multiple_of(ALIGNMENT) {
            return None;
        }
        let (field, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(reasons: &[&[u8]]) -> Failures {
        let mut failures = Failures::default();
        for (index, reason) in reasons.iter().enumerate() {
            let cause = if index % 2 == 0 { Cause::Nack } else { Cause::Expiry };
            failures.add(cause, 1000 + index as u64, reason).unwrap();
        }
        failures
    }

    #[test]
    fn what_is_written_is_read_back() {
        let long = [b'x'; 300];
        let cases: [&[&[u8]]; 4] = [&[], &[b""], &[b"first", b"", b"last"], &[&long, b"", &long]];
        for reasons in cases {
            let failures = failures(reasons);
            let field = failures.encode().unwrap();
            assert!(field.len().is_multiple_of(ALIGNMENT) && field.len() <= 552);
            assert_eq!(Failures::decode(&field), failures);
        }
    }

    #[test]
    fn the_first_failure_stays_and_the_newest_takes_the_place_of_the_last() {
        let failures = failures(&[b"one", b"two", b"three"]);
        assert_eq!((failures.attempts, failures.nacks, failures.expiries), (3, 2, 1));
        let said = |failure: &Failure| (failure.at_ms, failure.reason.to_vec());
        assert_eq!(said(&failures.first), (1000, b"one".to_vec()));
        assert_eq!(said(&failures.last), (1002, b"three".to_vec()));
    }

    /// A head of a later version has other fields, and one of nobody's any bytes.
    #[test]
    fn other_fields_are_passed_over_and_any_bytes_are_read() {
        let failures = failures(&[b"first", b"last"]);
        let field = failures.encode().unwrap();
        let other = [9, 0, 16, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2];
        let both = [&other[..], &field].concat();
        assert_eq!(Failures::decode(&both), failures);
        for end in 0..both.len() {
            Failures::decode(&both[..end]);
        }
        for byte in 0..both.len() {
            for value in [0, 1, 7, 8, 255] {
                let mut bytes = both.clone();
                bytes[byte] = value;
                Failures::decode(&bytes);
            }
        }
    }

    #[test]
    fn a_copy_has_the_fields_of_the_state_and_the_others_of_the_message() {
        let (old, new) = (failures(&[b"old"]), failures(&[b"old", b"new"]));
        let other = [9, 0, 8, 0, 1, 1, 1, 1];
        let message = [&old.encode().unwrap(), &other[..]].concat();
        let state = new.encode().unwrap();
        let copied = joined(&state, &message, 1000).unwrap();
        assert_eq!(copied, [&state[..], &other].concat());
        assert_eq!(joined(&[], &message, 1000).unwrap(), message);
        assert_eq!(joined(&state, &message, state.len() + 7).unwrap(), state);
    }
}
