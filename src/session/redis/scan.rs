//! What SCAN, SSCAN and KEYS share: the options, and replies whose length is known at their end.

use super::glob::Glob;
use super::request::{Args, Refusal, SYNTAX_ERROR};
use crate::protocol::resp::Reply;

/// Elements of a page where COUNT is not given, as in Redis.
const DEFAULT_COUNT: u64 = 10;

/// `[MATCH pattern] [COUNT count] [TYPE type]`
pub(super) struct ScanOptions<'a> {
    /// Elements to look at, at least 1.
    pub count: u64,
    pub kind: Option<&'a [u8]>,
    pattern: Option<Glob<'a>>,
}

impl<'a> ScanOptions<'a> {
    /// The options from word `index` on; only SCAN has TYPE.
    pub fn parse(
        args: Args<'a>,
        mut index: usize,
        has_type: bool,
    ) -> Result<ScanOptions<'a>, Refusal> {
        let mut options = ScanOptions { count: DEFAULT_COUNT, kind: None, pattern: None };
        while index + 1 < args.len() {
            let value = args.get(index + 1);
            if args.is(index, "count") {
                options.count = u64::try_from(args.integer(index + 1)?).unwrap_or(0);
                if options.count == 0 {
                    return Err(SYNTAX_ERROR.into());
                }
            } else if args.is(index, "match") {
                options.pattern = Some(Glob::new(value));
            } else if args.is(index, "type") && has_type {
                options.kind = Some(value);
            } else {
                return Err(SYNTAX_ERROR.into());
            }
            index += 2;
        }
        if index < args.len() {
            return Err(SYNTAX_ERROR.into());
        }
        Ok(options)
    }

    /// Whether the pattern, if there is one, matches `text`.
    pub fn matches(&mut self, text: &[u8]) -> Result<bool, Refusal> {
        self.pattern.as_mut().map_or(Ok(true), |pattern| pattern.matches(text))
    }
}

/// Writes elements with `fill`, then puts the head that depends on its answer in front of them.
/// After an error of `fill` the reply is as it was.
pub(super) fn with_head<'r, T, E>(
    reply: &mut Reply<'r>,
    fill: impl FnOnce(&mut Reply<'r>) -> Result<T, E>,
    head: impl FnOnce(&mut Reply<'r>, T),
) -> Result<(), E> {
    let start = reply.out.len();
    let filled = fill(reply).inspect_err(|_| reply.out.truncate(start))?;
    let end = reply.out.len();
    head(reply, filled);
    let head_len = reply.out.len() - end;
    reply.out[start..].rotate_right(head_len);
    Ok(())
}
