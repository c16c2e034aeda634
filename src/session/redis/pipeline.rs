//! The requests at the start of a client's bytes, one after the other.
//!
//! This file finds them and keeps the place; it knows no command.

use super::request::Args;
use crate::protocol::Parsed;
use crate::protocol::resp::{Arguments, FramingError, Limits, parse};

/// A client's bytes, and the request in them that is next.
pub(super) struct Pipeline<'a> {
    input: &'a [u8],
    /// Of the request at `consumed`, and of the one behind it where that was looked for.
    arguments: &'a mut [Arguments; 2],
    limits: &'a Limits,
    consumed: usize,
    /// What is at `consumed`; None: not looked at yet.
    found: Option<Result<Parsed, FramingError>>,
    /// What is behind that.
    found_behind: Option<Parsed>,
}

impl<'a> Pipeline<'a> {
    /// `arguments` carry on from what earlier bytes of the next request gave. If that was found as
    /// a whole and is not done, `parked` is its length.
    pub fn new(
        input: &'a [u8],
        arguments: &'a mut [Arguments; 2],
        limits: &'a Limits,
        parked: Option<usize>,
    ) -> Pipeline<'a> {
        let found = parked.map(|consumed| Ok(Parsed::Complete { consumed }));
        Pipeline { input, arguments, limits, consumed: 0, found, found_behind: None }
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

    /// The next request, again and again until it is `done`; None: there is no whole one, and
    /// `rest` says why.
    pub fn next(&mut self) -> Option<Args<'_>> {
        let rest = self.input.get(self.consumed..).unwrap_or_default();
        let arguments = &mut self.arguments[0];
        let found = self.found.get_or_insert_with(|| parse(rest, arguments, self.limits));
        let Ok(Parsed::Complete { consumed }) = found else { return None };
        Some(Args::new(rest.get(..*consumed).unwrap_or_default(), arguments))
    }

    /// The request behind the one that `next` has answered; None: it is not whole.
    pub fn behind(&mut self) -> Option<Args<'_>> {
        let Some(Ok(Parsed::Complete { consumed })) = &self.found else { return None };
        let rest = self.input.get(self.consumed + consumed..).unwrap_or_default();
        if rest.is_empty() {
            return None;
        }
        let arguments = &mut self.arguments[1];
        if self.found_behind.is_none() {
            // What an earlier look has left was found in other bytes.
            arguments.clear();
            // An error is found again when the request is the next one.
            self.found_behind = parse(rest, arguments, self.limits).ok();
        }
        let Some(Parsed::Complete { consumed }) = &self.found_behind else { return None };
        Some(Args::new(rest.get(..*consumed).unwrap_or_default(), arguments))
    }

    /// Goes on behind the request that `next` has answered.
    pub fn done(&mut self) {
        if let Some(Ok(Parsed::Complete { consumed })) = &self.found {
            self.consumed += consumed;
            self.found = None;
            if let Some(behind) = self.found_behind.take() {
                self.found = Some(Ok(behind));
                self.arguments.swap(0, 1);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { max_arguments: 9, max_bulk: 99, max_inline: 99, max_request: 999 };

    fn words(args: Option<Args<'_>>) -> Option<Vec<u8>> {
        args.map(|args| args.from(0).collect::<Vec<_>>().concat())
    }

    /// All requests, with and without a look at the one behind, from every cut of the input on.
    #[test]
    fn a_look_behind_changes_nothing() {
        let input = b"a 1\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n\r\nc 3\r\n*1\r\n$1\r\nd\r\n*1\r\nx";
        for cut in 0..=input.len() {
            let (mut arguments, mut found, mut consumed) = (Default::default(), vec![], 0);
            for (end, looks) in [(cut, cut % 2 == 0), (input.len(), true)] {
                let mut pipeline =
                    Pipeline::new(&input[consumed..end], &mut arguments, &LIMITS, None);
                while let Some(next) = words(pipeline.next()) {
                    let behind = looks.then(|| words(pipeline.behind())).flatten();
                    assert_eq!(words(pipeline.next()).as_ref(), Some(&next), "it is next still");
                    pipeline.done();
                    found.push(next);
                    assert!(behind.is_none() || behind == words(pipeline.next()), "at {cut}");
                }
                consumed += pipeline.consumed();
                let rest = pipeline.rest();
                assert_eq!(matches!(rest, Some(Err(_))), end == input.len(), "{rest:?} at {cut}");
            }
            assert_eq!(found, [&b"a1"[..], b"b2", b"", b"c3", b"d"]);
            assert_eq!(consumed, input.len() - b"*1\r\nx".len());
        }
    }

    #[test]
    fn what_is_not_whole_or_no_request_is_not_behind() {
        for rest in ["", "c", "*1\r\n$1\r\n", "*x\r\n"] {
            let input = format!("a\r\nb\r\n{rest}");
            let mut arguments = Default::default();
            let mut pipeline = Pipeline::new(input.as_bytes(), &mut arguments, &LIMITS, None);
            assert_eq!(words(pipeline.behind()), None, "nothing is next yet");
            assert_eq!(words(pipeline.next()), Some(b"a".into()));
            assert_eq!(words(pipeline.behind()), Some(b"b".into()));
            pipeline.done();
            assert_eq!(words(pipeline.next()), Some(b"b".into()));
            assert_eq!(words(pipeline.behind()), None, "{rest}");
        }
    }

    #[test]
    fn what_a_look_behind_has_left_is_not_taken_for_other_bytes() {
        for left in ["*2\r\n$1\r\nx\r\n", "*1\r\n$x"] {
            let input = format!("a\r\n{left}");
            let mut arguments = Default::default();
            let mut pipeline = Pipeline::new(input.as_bytes(), &mut arguments, &LIMITS, None);
            assert_eq!(words(pipeline.next()), Some(b"a".into()));
            assert_eq!(words(pipeline.behind()), None);
            let mut pipeline = Pipeline::new(b"a\r\nb c\r\n", &mut arguments, &LIMITS, None);
            assert_eq!(words(pipeline.next()), Some(b"a".into()));
            assert_eq!(words(pipeline.behind()), Some(b"bc".into()), "after {left:?}");
        }
    }
}
