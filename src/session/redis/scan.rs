//! What SCAN, SSCAN and KEYS share: the options, the cursors, and replies whose length is known at
//! their end.
//!
//! What is scanned has growing numbers: messages, queues, keys. A cursor holds the number to go on
//! with and the end, the number that nothing had yet when the scan began. So a scan ends however
//! much comes and goes meanwhile, and shows everything that was there from its beginning to its
//! end. It is a number below 2^53, which every client keeps whole:
//!
//! - bits 0 to 39: the lower bits of the number to go on with; the others follow from the end,
//!   which is about the newest number,
//! - bits 40 to 46: how far the end is behind it, in units, rounded up,
//! - bits 47 to 52: the unit is two to this power.
//!
//! The end is a multiple of the unit, and of each smaller one: it is rounded once. A distance of
//! none, as in a number that a client made up, means the end as it is now; and 0 is the beginning.

use super::glob::Glob;
use super::request::{Args, Refusal, SYNTAX_ERROR};
use crate::protocol::resp::Reply;
use crate::session::budget::Budget;

/// Elements of a page where COUNT is not given, as in Redis.
pub(super) const DEFAULT_COUNT: u64 = 10;

/// Steps of one page: it ends early rather than take longer.
const PAGE_STEPS: u64 = 4000;

/// Where the parts of a cursor begin.
const DISTANCE_SHIFT: u32 = 40;
const UNIT_SHIFT: u32 = 47;
const CURSOR_BITS: u32 = 53;

/// The end of a scan is rounded by two to this power at most, where it is within 2^45 numbers.
const ROUNDING_SHIFT: u32 = 38;

/// The steps of a page: as many as there may be in a turn, however much of that is left, or what is
/// left of a transaction.
pub(super) fn page_budget(budget: &Budget) -> Budget {
    Budget::at_once(if budget.pauses() { PAGE_STEPS } else { budget.left().min(PAGE_STEPS) })
}

/// The numbers that a scan goes on with and ends before, where `end` is one more than the newest;
/// from `end` on for a cursor that is none.
pub(super) fn place(cursor: u64, end: u64) -> (u64, u64) {
    if cursor == 0 || cursor >> CURSOR_BITS != 0 {
        return (cursor.min(end), end);
    }
    let unit = cursor >> UNIT_SHIFT;
    let distance = (cursor >> DISTANCE_SHIFT) % (1 << (UNIT_SHIFT - DISTANCE_SHIFT));
    let has_end = unit < u64::from(DISTANCE_SHIFT) && distance > 0;
    // The end that the cursor holds is not above the newest number, but for the rounding, and what
    // the scan goes on with is as far before it as the cursor says.
    let latest = match has_end {
        true => (end + (1 << ROUNDING_SHIFT)).saturating_sub((distance - 1) << unit).min(end),
        false => end,
    };
    let span = 1 << DISTANCE_SHIFT;
    let candidate = latest - latest % span + cursor % span;
    let next = if candidate > latest { candidate.saturating_sub(span) } else { candidate };
    if has_end { (next, ((next >> unit) + distance) << unit) } else { (next, end) }
}

/// The cursor that goes on with `next`, which is below `end`.
pub(super) fn cursor(next: u64, end: u64) -> u64 {
    let distance = |unit: &u64| end.div_ceil(1 << unit) - (next >> unit);
    let fits = |unit: &u64| distance(unit) < 1 << (UNIT_SHIFT - DISTANCE_SHIFT);
    let unit = (0..u64::from(DISTANCE_SHIFT)).find(fits).unwrap_or_default();
    let lower = next % (1 << DISTANCE_SHIFT);
    unit << UNIT_SHIFT | distance(&unit).min(127) << DISTANCE_SHIFT | lower
}

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

    /// Whether the pattern, if there is one, matches `text`; the steps that it takes are spent.
    pub fn matches(&self, text: &[u8], budget: &mut Budget) -> Result<bool, Refusal> {
        self.pattern.map_or(Ok(true), |pattern| pattern.matches(text, budget))
    }
}

/// Ends a page of which `shown` elements have been written since `start`.
pub(super) fn end_page(reply: &mut Reply, start: usize, next: u64, shown: usize) {
    put_in_front(reply, start, |reply| {
        reply.array(2);
        reply.bulk(next.to_string().as_bytes());
        reply.array(shown);
    });
}

/// Puts a head in front of the elements that have been written since `start`.
pub(super) fn put_in_front(reply: &mut Reply, start: usize, head: impl FnOnce(&mut Reply)) {
    let end = reply.out.len();
    head(reply);
    let head_len = reply.out.len() - end;
    reply.out[start..].rotate_right(head_len);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn a_cursor_says_where_to_go_on_and_where_to_end() {
        let mut random = Random::seeded();
        for _ in 0..100_000 {
            let (mut next, size) = (random.below(1 << 62), random.below(45));
            let gap = 1 + random.below(1 << size);
            let (end, mut last) = (next + gap, None);
            // A scan of a few pages, while more and more comes behind the end.
            let mut newest = end + random.below(1 << 30);
            while next < end {
                let word = cursor(next, last.unwrap_or(end));
                assert!(word > 0 && word < 1 << CURSOR_BITS);
                let (from, until) = place(word, newest);
                assert_eq!(from, next);
                assert!(until >= end && until - end <= gap / 32 + 1, "{until} for {end}");
                assert!(last.is_none_or(|last| last == until), "it is rounded once");
                last = Some(until);
                next += 1 + random.below(gap);
                newest += random.below(1 << 30);
            }
        }
    }

    #[test]
    fn a_number_that_is_no_cursor_ends_the_scan_or_is_a_place() {
        assert_eq!(place(0, 100), (0, 100));
        assert_eq!(place(0, 3 << 40), (0, 3 << 40));
        assert_eq!(place(7, 100), (7, 100));
        assert_eq!(place(u64::MAX, 100), (100, 100));
        assert_eq!(place(1 << CURSOR_BITS, 100), (100, 100));
        let mut random = Random::seeded();
        for _ in 0..100_000 {
            let word = random.below(u64::MAX) >> random.below(64);
            let (from, _) = place(word, random.below(1 << 62));
            assert!(from < 1 << 63);
        }
    }
}
