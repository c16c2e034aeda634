//! Glob patterns as Redis matches them (`stringmatchlen`), in bounded time.
//!
//! `*` any bytes, `?` any byte, `[ab]` `[a-z]` `[^a]` one of a class, `\` takes the next byte as it
//! is. A class that is not closed ends with the pattern. Only the last `*` is ever tried again, so
//! time grows with the product of the two lengths and not with a power of the stars. As both
//! lengths are the client's choice, steps are counted: each text has those that an ordinary pattern
//! takes, which grow with its length, and a limited number of others.

use super::request::Refusal;
use crate::session::budget::Budget;

/// Steps for a text: some two milliseconds, and as many for each of its bytes.
const TEXT_STEPS: u64 = 512 << 10;
const BYTE_STEPS: u64 = 4;

/// Steps here that are one of a budget's.
const BUDGET_STEP: u64 = 32;

/// The reply to a pattern that takes more steps than it may.
pub(super) const TOO_LONG: &str = "ERR the pattern takes too long to match";

/// A pattern.
#[derive(Clone, Copy)]
pub(super) struct Glob<'a> {
    pattern: &'a [u8],
}

impl<'a> Glob<'a> {
    pub fn new(pattern: &'a [u8]) -> Glob<'a> {
        Glob { pattern }
    }

    /// Whether the pattern matches the whole `text`; a refusal if that takes too many steps. Those
    /// that it takes are spent.
    pub fn matches(self, text: &[u8], budget: &mut Budget) -> Result<bool, Refusal> {
        let allowed = TEXT_STEPS.saturating_add(BYTE_STEPS.saturating_mul(text.len() as u64));
        let mut steps = Steps { left: allowed };
        let matched = steps.run(self.pattern, text);
        budget.spend((allowed - steps.left) / BUDGET_STEP);
        matched.ok_or(TOO_LONG.into())
    }
}

/// The steps that are left for a text.
struct Steps {
    left: u64,
}

impl Steps {
    fn run(&mut self, pattern: &[u8], text: &[u8]) -> Option<bool> {
        let (mut rest, mut unread) = (pattern, text);
        // What follows the last star, and the text that the star has not taken yet.
        let mut retry: Option<(&[u8], &[u8])> = None;
        loop {
            if let [b'*', after @ ..] = rest {
                self.spend(1)?;
                (rest, retry) = (after, Some((after, unread)));
                if after.is_empty() {
                    return Some(true);
                }
                continue;
            }
            let Some((&byte, others)) = unread.split_first() else {
                return Some(rest.is_empty());
            };
            let (matched, after) = element(rest, byte);
            self.spend(1 + rest.len() - after.len())?;
            if matched {
                (rest, unread) = (after, others);
                continue;
            }
            let Some((after_star, [_, left @ ..])) = retry else {
                return Some(false);
            };
            retry = Some((after_star, left));
            (rest, unread) = (after_star, left);
        }
    }

    fn spend(&mut self, steps: usize) -> Option<()> {
        self.left = self.left.checked_sub(steps as u64)?;
        Some(())
    }
}

/// Whether the first element of `pattern`, which is no star, matches `byte`; and what follows it.
fn element(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    match pattern {
        [] => (false, pattern),
        [b'?', after @ ..] => (true, after),
        [b'[', b'^', after @ ..] => {
            let (found, after) = class(after, byte);
            (!found, after)
        }
        [b'[', after @ ..] => class(after, byte),
        [b'\\', literal, after @ ..] | [literal, after @ ..] => (*literal == byte, after),
    }
}

/// Whether `byte` is in the class whose members start `pattern`; and what follows its bracket.
fn class(mut pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    let mut found = false;
    loop {
        match pattern {
            [] => return (found, pattern),
            [b']', after @ ..] => return (found, after),
            [b'\\', literal, after @ ..] => {
                found |= *literal == byte;
                pattern = after;
            }
            [from, b'-', to, after @ ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                pattern = after;
            }
            [literal, after @ ..] => {
                found |= *literal == byte;
                pattern = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Glob, TEXT_STEPS};
    use crate::session::budget::Budget;

    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        Glob::new(pattern).matches(text, &mut Budget::turn()).unwrap()
    }

    #[test]
    fn patterns_match_as_in_redis() {
        let cases: [(&str, &str, bool); 40] = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "abc", true),
            ("**", "abc", true),
            ("a*", "abc", true),
            ("a*", "ba", false),
            ("*c", "abc", true),
            ("*b", "abc", false),
            ("a*c", "abbbc", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("*ab", "aab", true),
            ("*a*", "", false),
            ("?", "a", true),
            ("?", "", false),
            ("a?c", "abc", true),
            ("a?", "abc", false),
            ("abc", "ABC", false),
            ("[abc]", "b", true),
            ("[abc]", "d", false),
            ("[^abc]", "d", true),
            ("[^abc]", "a", false),
            ("[a-c]x", "bx", true),
            ("[c-a]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[\\]]", "]", true),
            ("[\\-a]", "-", true),
            ("[a", "a", true),
            ("[a", "b", false),
            ("[^a", "b", true),
            ("[", "a", false),
            ("[]a", "a", false),
            ("h[ae]llo*", "hallo there", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("*\\?", "ab?", true),
            ("*[0-9]", "ab7", true),
            ("key:*:[a-z]?", "key:1:2:ab", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        let pattern = b"a*".repeat(1000);
        let text = [b'a'; 2000];
        assert!(matches(&pattern, &text));
        assert!(!matches(&[&pattern, b"b".as_slice()].concat(), &text));
    }

    #[test]
    fn steps_are_spent_and_a_text_takes_no_more_than_it_may() {
        let mut budget = Budget::turn();
        let before = budget.left();
        assert!(Glob::new(b"user:[0-9]*:na?e").matches(b"user:12345:name", &mut budget).unwrap());
        assert!(before - budget.left() <= 1, "nothing to speak of");
        let pattern = [b"*".as_slice(), &[b'a'; 220], b"b"].concat();
        assert!(!Glob::new(&pattern).matches(&[b'a'; 443], &mut budget).unwrap());
        assert!(before - budget.left() > 443 * 220 / 2 / 32);
        let (mut budget, steps) = (Budget::at_once(u64::MAX), u64::MAX);
        let pattern = [b"*".as_slice(), &[b'a'; 50_000], b"b"].concat();
        assert!(Glob::new(&pattern).matches(&[b'a'; 100_000], &mut budget).is_err());
        assert!(steps - budget.left() < TEXT_STEPS / 16);
    }

    #[test]
    fn a_match_that_would_take_too_long_is_refused() {
        let pattern = [b"*".as_slice(), &[b'a'; 50_000], b"b"].concat();
        assert!(Glob::new(&pattern).matches(&[b'a'; 100_000], &mut Budget::turn()).is_err());
    }
}
