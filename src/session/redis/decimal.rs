//! Decimal numbers with 17 digits behind the point, for INCRBYFLOAT.
//!
//! Redis adds in the processor's longest floating point and shows 17 digits behind the point; here
//! sums are exact to the last of these. Numbers go to 10^21; larger ones are refused.

use std::fmt;

/// Digits behind the point.
const DIGITS: u32 = 17;

/// A number, in units of 10^-17.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Decimal(i128);

impl Decimal {
    /// Reads `-12.5`, `.5`, `3e2` and the like; digits behind the 17th are dropped. Returns `None`
    /// for anything else, or if it is too large.
    pub fn parse(text: &[u8]) -> Option<Decimal> {
        let (is_negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] | rest => (false, rest),
        };
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
        // The first digit stands for 10^(length of the whole part - 1 + exponent).
        let mut power = i64::try_from(whole.len()).ok()?.checked_add(exponent)?;
        let mut units: i128 = 0;
        for digit in whole.iter().chain(fraction) {
            power = power.checked_sub(1)?;
            let digit = i128::from(digit.is_ascii_digit().then(|| digit - b'0')?);
            if digit != 0 && power >= -i64::from(DIGITS) {
                let shift = u32::try_from(power + i64::from(DIGITS)).ok()?;
                let unit = 10_i128.checked_pow(shift)?;
                units = units.checked_add(digit.checked_mul(unit)?)?;
            }
        }
        Some(Decimal(if is_negative { -units } else { units }))
    }

    /// The sum; `None` if it is too large.
    pub fn checked_add(self, other: Decimal) -> Option<Decimal> {
        self.0.checked_add(other.0).map(Decimal)
    }
}

fn exponent(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    let number = crate::protocol::number::parse_i64(digits)?;
    (-100_000..=100_000).contains(&number).then_some(number)
}

impl fmt::Display for Decimal {
    /// Without zeros at the end, and without a point where nothing is behind it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, units) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let unit = 10_u128.pow(DIGITS);
        let fraction = format!("{:017}", units % unit);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{sign}{}{point}{fraction}", units / unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("1e-18", "0"),
            ("0e99999", "0"),
            ("999999999999999999999", "999999999999999999999"),
        ];
        for (text, written) in cases {
            let number = Decimal::parse(text.as_bytes());
            assert_eq!(number.map(|number| number.to_string()), Some(written.into()), "{text}");
        }
        for text in
            ["", "-", ".", "e3", "1e", "1e1e1", "inf", "nan", " 1", "1 ", "0x1", "1e22", "1-"]
        {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn sums_are_exact_or_refused() {
        let sum = |a: &str, b: &str| {
            let (a, b) = (Decimal::parse(a.as_bytes()), Decimal::parse(b.as_bytes()));
            Some(a?.checked_add(b?)?.to_string())
        };
        assert_eq!(sum("0.1", "0.2").as_deref(), Some("0.3"));
        assert_eq!(sum("10.50", "-10.5").as_deref(), Some("0"));
        assert_eq!(sum("5.0e3", "2.0e2").as_deref(), Some("5200"));
        assert_eq!(sum("1.5e21", "1.5e21"), None);
    }
}
