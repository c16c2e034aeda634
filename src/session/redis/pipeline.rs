//! The requests at the start of a client's bytes, one after the other.
//!
//! This file finds them and keeps the place; it knows no command.

use super::request::Args;
use crate::protocol::Parsed;
use crate::protocol::resp::{Arguments, FramingError, Limits, parse};
use crate::session::Shared;

/// Arguments of one request, as in Redis 7: the bytes of a request are the limit that is met.
const MAX_ARGUMENTS: usize = i32::MAX as usize;

/// Bytes of an inline command, as in Redis.
const MAX_INLINE: usize = 64 * 1024;

/// What a request may take beside large messages.
const REQUEST_BYTES: usize = 64 << 20;

/// A client's bytes, and the request in them that is next.
pub(super) struct Pipeline<'a> {
    input: &'a [u8],
    /// Of the request at `consumed`.
    arguments: &'a mut Arguments,
    limits: &'a Limits,
    consumed: usize,
    /// What is at `consumed`, or `None` before the first look.
    found: Option<Result<Parsed, FramingError>>,
}

impl<'a> Pipeline<'a> {
    /// `arguments` carry on from what earlier bytes of the next request gave. If that was found as
    /// a whole and is not done, `parked` is its length.
    pub fn new(
        input: &'a [u8],
        arguments: &'a mut Arguments,
        limits: &'a Limits,
        parked: Option<usize>,
    ) -> Pipeline<'a> {
        let found = parked.map(|consumed| Ok(Parsed::Complete { consumed }));
        Pipeline { input, arguments, limits, consumed: 0, found }
    }

    /// The length of the next request if it has been found: `arguments` are those of that one, and
    /// a long one is not to be read again in each turn that it takes.
    pub fn parked(&self) -> Option<usize> {
        match self.found {
            Some(Ok(Parsed::Complete { consumed })) => Some(consumed),
            _ => None,
        }
    }

    /// The first byte of the next request.
    pub fn first_byte(&self) -> Option<u8> {
        self.input.get(self.consumed).copied()
    }

    /// Returns the next request, again and again until it is `done`, or `None` if there is no whole
    /// one: `rest` says why.
    pub fn next(&mut self) -> Option<Args<'_>> {
        let rest = self.input.get(self.consumed..).unwrap_or_default();
        let arguments = &mut *self.arguments;
        let found = self.found.get_or_insert_with(|| parse(rest, arguments, self.limits));
        let Ok(Parsed::Complete { consumed }) = found else { return None };
        Some(Args::new(rest.get(..*consumed).unwrap_or_default(), arguments))
    }

    /// Goes on behind the request that `next` has answered.
    pub fn done(&mut self) {
        if let Some(Ok(Parsed::Complete { consumed })) = &self.found {
            self.consumed += consumed;
            self.found = None;
        }
    }

    /// Bytes of the requests that are done.
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// What was found behind them, if anything was looked for.
    pub fn rest(self) -> Option<Result<Parsed, FramingError>> {
        self.found
    }
}

/// What a request may ask for; the requests of a transaction are parsed under the same limits.
pub(super) fn limits(shared: &Shared) -> Limits {
    Limits {
        max_arguments: MAX_ARGUMENTS,
        max_bulk: shared.limits.max_message(),
        max_inline: MAX_INLINE,
        max_request: request_limit(shared),
    }
}

/// Bytes of one request, and of all requests that a transaction may queue.
fn request_limit(shared: &Shared) -> usize {
    shared.limits.max_message().saturating_mul(4).saturating_add(REQUEST_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { max_arguments: 9, max_bulk: 99, max_inline: 99, max_request: 999 };

    fn words(args: Option<Args<'_>>) -> Option<Vec<u8>> {
        args.map(|args| args.from(0).collect::<Vec<_>>().concat())
    }

    #[test]
    fn all_requests_are_found_wherever_the_input_is_cut() {
        let input = b"a 1\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n\r\nc 3\r\n*1\r\n$1\r\nd\r\n*1\r\nx";
        for cut in 0..=input.len() {
            let (mut arguments, mut found, mut consumed) = (Arguments::default(), vec![], 0);
            for end in [cut, input.len()] {
                let mut pipeline =
                    Pipeline::new(&input[consumed..end], &mut arguments, &LIMITS, None);
                while let Some(next) = words(pipeline.next()) {
                    assert_eq!(words(pipeline.next()).as_ref(), Some(&next), "it is next still");
                    pipeline.done();
                    found.push(next);
                }
                consumed += pipeline.consumed();
                let rest = pipeline.rest();
                assert_eq!(matches!(rest, Some(Err(_))), end == input.len(), "{rest:?} at {cut}");
            }
            assert_eq!(found, [&b"a1"[..], b"b2", b"", b"c3", b"d"]);
            assert_eq!(consumed, input.len() - b"*1\r\nx".len());
        }
    }
}
