//! Decimal numbers with 17 digits behind the point, for INCRBYFLOAT.
//!
//! Redis adds in the CPU's longest floating point and shows 17 digits behind the point; here
//! sums are exact to the last of these. So they differ where Redis's have run out of digits: 0.1
//! added to 3000 is 3000.1 here and 3000.10000000000000009 there. Numbers end where Redis's do, at
//! some 10^4932. A number in hexadecimal, which Redis reads, is refused.

use std::cmp::Ordering;
use std::fmt;

/// Digits behind the point.
const DIGITS: usize = 17;

/// Digits in front of it.
const MAX_WHOLE: usize = 4932;

/// The longest text that is read, as in Redis.
const MAX_TEXT: usize = 5 * 1024 - 1;

/// A number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Decimal {
    /// 0 is not.
    is_negative: bool,
    /// In units of 10^-17, the lowest digit first; the last one is not 0.
    digits: Vec<u8>,
}

/// Why there is no sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A text is no number.
    NotANumber,
    /// A number is infinite, or the sum is too large.
    Infinite,
}

impl Decimal {
    /// Reads `-12.5`, `.5`, `3e2` and the like; digits behind the 17th are dropped.
    pub fn parse(text: &[u8]) -> Result<Decimal, Fault> {
        let (is_negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] | rest => (false, rest),
        };
        let is = |word: &str| text.eq_ignore_ascii_case(word.as_bytes());
        if is("inf") || is("infinity") {
            return Err(Fault::Infinite);
        }
        let digits = read(text).ok_or(Fault::NotANumber)?;
        Ok(Decimal { is_negative, digits }.settled())
    }

    /// The sum.
    pub fn add(self, other: Decimal) -> Result<Decimal, Fault> {
        let (larger, smaller) = match self.compare_size(&other) {
            Ordering::Less => (other, self),
            _ => (self, other),
        };
        let is_negative = larger.is_negative;
        let subtracts = is_negative != smaller.is_negative;
        let (mut digits, mut carry) = (larger.digits, 0);
        for (index, digit) in digits.iter_mut().enumerate() {
            let part = i8::try_from(smaller.digits.get(index).copied().unwrap_or(0)).unwrap_or(0);
            let sum = *digit as i8 + carry + if subtracts { -part } else { part };
            (*digit, carry) = (sum.rem_euclid(10) as u8, sum.div_euclid(10));
        }
        // A difference leaves nothing to carry: the larger one is first.
        if carry > 0 {
            digits.push(1);
        }
        if digits.len() > MAX_WHOLE + DIGITS {
            return Err(Fault::Infinite);
        }
        Ok(Decimal { is_negative, digits }.settled())
    }

    /// Compares without the signs.
    fn compare_size(&self, other: &Decimal) -> Ordering {
        let by_length = self.digits.len().cmp(&other.digits.len());
        by_length.then_with(|| self.digits.iter().rev().cmp(other.digits.iter().rev()))
    }

    fn settled(mut self) -> Decimal {
        let zeros = self.digits.iter().rev().take_while(|digit| **digit == 0).count();
        self.digits.truncate(self.digits.len() - zeros);
        self.is_negative &= !self.digits.is_empty();
        self
    }
}

/// The digits of a number without a sign, the lowest first. Returns `None` for anything else, or if
/// it is too large.
fn read(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let exponent_at = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (mantissa, exponent) = match exponent_at {
        Some(at) => (&text[..at], exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let point = mantissa.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Where the first digit belongs: it stands for 10^(length of the whole part - 1 + exponent).
    let mut place = i64::try_from(whole.len() + DIGITS).ok()?.checked_add(exponent)?;
    let mut digits = Vec::new();
    for digit in whole.iter().chain(fraction) {
        place = place.checked_sub(1)?;
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        // Digits behind the 17th have no place.
        let Ok(index) = usize::try_from(place) else { continue };
        if digit == 0 {
            continue;
        }
        if index >= MAX_WHOLE + DIGITS {
            return None;
        }
        digits.resize(digits.len().max(index + 1), 0);
        digits[index] = digit;
    }
    Some(digits)
}

fn exponent(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    let number = crate::protocol::number::parse_i64(digits)?;
    (-100_000..=100_000).contains(&number).then_some(number)
}

impl fmt::Display for Decimal {
    /// Without zeros at the end, and without a point where nothing is behind it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fraction, whole) = self.digits.split_at(DIGITS.min(self.digits.len()));
        let mut text = String::with_capacity(self.digits.len() + 3);
        text.push_str(if self.is_negative { "-" } else { "" });
        text.extend(whole.iter().rev().map(|digit| char::from(b'0' + digit)));
        if whole.is_empty() {
            text.push('0');
        }
        let zeros = fraction.iter().take_while(|digit| **digit == 0).count();
        if zeros < fraction.len() {
            text.push('.');
            text.extend(std::iter::repeat_n('0', DIGITS - fraction.len()));
            text.extend(fraction[zeros..].iter().rev().map(|digit| char::from(b'0' + digit)));
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<String, Fault> {
        Decimal::parse(text.as_bytes()).map(|number| number.to_string())
    }

    #[test]
    fn numbers_are_read_and_written() {
        let cases = [
            ("0", "0"),
            ("-0", "0"),
            ("007", "7"),
            ("10.5", "10.5"),
            ("-.5", "-0.5"),
            ("5.", "5"),
            ("+3e3", "3000"),
            ("2.5E-3", "0.0025"),
            ("1.00000000000000001", "1.00000000000000001"),
            ("1.000000000000000019", "1.00000000000000001"),
            ("-1e-17", "-0.00000000000000001"),
            ("1e-18", "0"),
            ("-1e-18", "0"),
            ("0e99999", "0"),
            ("999999999999999999999", "999999999999999999999"),
            ("1e22", "10000000000000000000000"),
            ("123456789012345678901234567890.5", "123456789012345678901234567890.5"),
        ];
        for (text, expected) in cases {
            assert_eq!(written(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(written("9e4931"), Ok(format!("9{}", "0".repeat(4931))));
        let long = format!("0.{}", "1".repeat(MAX_TEXT - 2));
        assert_eq!(written(&long).as_deref(), Ok("0.11111111111111111"));
        assert_eq!(written(&format!("{long}1")), Err(Fault::NotANumber));
        let others = ["", "-", ".", "e3", "1e", "1e1e1", "nan", " 1", "1 ", "0x1", "1e4932", "1-"];
        for text in others {
            assert_eq!(written(text), Err(Fault::NotANumber), "{text}");
        }
        for text in ["inf", "-INF", "+Infinity"] {
            assert_eq!(written(text), Err(Fault::Infinite), "{text}");
        }
    }

    #[test]
    fn sums_are_exact_or_refused() {
        let sum = |a: &str, b: &str| {
            let (a, b) = (Decimal::parse(a.as_bytes())?, Decimal::parse(b.as_bytes())?);
            a.add(b).map(|sum| sum.to_string())
        };
        for (a, b, expected) in [
            ("0.1", "0.2", "0.3"),
            ("10.50", "-10.5", "0"),
            ("5.0e3", "2.0e2", "5200"),
            ("1.5e21", "1.5e21", "3000000000000000000000"),
            ("1e30", "-1", "999999999999999999999999999999"),
            ("-1e30", "1", "-999999999999999999999999999999"),
            ("1", "-1e30", "-999999999999999999999999999999"),
            ("99.9", "0.1", "100"),
            ("-0.3", "0.1", "-0.2"),
            ("1e-17", "-2e-17", "-0.00000000000000001"),
            ("9e4931", "-9e4931", "0"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Ok(expected), "{a} + {b}");
        }
        assert_eq!(sum("9e4931", "1e4931"), Err(Fault::Infinite));
        assert_eq!(sum("-9e4931", "-1e4931"), Err(Fault::Infinite));
    }
}
