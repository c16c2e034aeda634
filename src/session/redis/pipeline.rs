//! The requests at the start of a client's bytes, one after the other.
//!
//! This file finds them and keeps the place; it knows no command.

use super::request::Args;
use crate::protocol::Parsed;
use crate::protocol::resp::{Arguments, FramingError, Limits, parse};

/// A client's bytes, and the request in them that is next.
pub(super) struct Pipeline<'a> {
    input: &'a [u8],
    arguments: &'a mut Arguments,
    limits: &'a Limits,
    consumed: usize,
    /// What is at `consumed`; None: not looked at yet.
    found: Option<Result<Parsed, FramingError>>,
}

impl<'a> Pipeline<'a> {
    /// `arguments` carries on from what earlier bytes of the next request gave.
    pub fn new(input: &'a [u8], arguments: &'a mut Arguments, limits: &'a Limits) -> Pipeline<'a> {
        Pipeline { input, arguments, limits, consumed: 0, found: None }
    }

    /// The next request, again and again until it is `done`; None: there is no whole one, and
    /// `rest` says why.
    pub fn next(&mut self) -> Option<Args<'_>> {
        let rest = self.input.get(self.consumed..).unwrap_or_default();
        let found = self.found.get_or_insert_with(|| parse(rest, self.arguments, self.limits));
        let Ok(Parsed::Complete { consumed }) = found else { return None };
        Some(Args::new(rest.get(..*consumed).unwrap_or_default(), self.arguments))
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
