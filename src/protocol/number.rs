//! Decimal numbers in byte strings, as both protocols write them.
//!
//! Reading is strict and never overflows; writing needs no allocation beyond the output's own
//! growth. This module knows digits and no protocol.

/// Digits of the longest `u64`.
const MAX_DIGITS: usize = 20;

/// Reads an unsigned number: digits only, leading zeros allowed. Returns `None` for anything else,
/// and for a number that is too large.
pub fn parse_u64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, &digit| {
        if !digit.is_ascii_digit() {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

/// Reads a signed number: an optional minus sign and digits, leading zeros allowed. Returns
/// `None` for anything else, and for a number out of range.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-") {
        Some(digits) => 0i64.checked_sub_unsigned(parse_u64(digits)?),
        None => i64::try_from(parse_u64(text)?).ok(),
    }
}

/// Reads a signed number in its one canonical form, as Redis's `string2ll` does: no plus sign, no
/// leading zeros, no `-0`, no spaces. Returns `None` for anything else, and for a number out of
/// range.
pub fn parse_i64_canonical(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits.first() {
        Some(b'1'..=b'9') => parse_i64(text),
        _ => (text == b"0").then_some(0),
    }
}

/// Reads a number of bytes: digits, then perhaps `k`, `m` or `g`, which are powers of 1024, with or
/// without a `b` behind, in capitals or not. Returns `None` for anything else, or if it is too
/// large.
pub fn parse_size(text: &[u8]) -> Option<u64> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, unit) = text.split_at(count);
    let unit = unit.get(..3).unwrap_or(unit);
    let shift = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 0,
        b"k" | b"kb" => 10,
        b"m" | b"mb" => 20,
        b"g" | b"gb" => 30,
        _ => return None,
    };
    parse_u64(digits)?.checked_mul(1 << shift)
}

/// Appends a number in decimal.
pub fn append_u64(out: &mut Vec<u8>, mut number: u64) {
    // Nearly every reply to a push or a removal: it needs no room for more digits.
    if number < 10 {
        out.push(b'0' + number as u8);
        return;
    }
    let mut digits = [0u8; MAX_DIGITS];
    let mut start = MAX_DIGITS;
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends a signed number in decimal.
pub fn append_i64(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    append_u64(out, number.unsigned_abs());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_numbers_are_those_of_the_standard_library() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, i64::MAX, -1, -10, i64::MIN] {
            let mut out = b"x".to_vec();
            append_i64(&mut out, number);
            assert_eq!(out, format!("x{number}").into_bytes());
            assert_eq!(parse_i64_canonical(&out[1..]), Some(number));
        }
        let mut out = Vec::new();
        append_u64(&mut out, u64::MAX);
        assert_eq!(out, u64::MAX.to_string().into_bytes());
        assert_eq!(parse_u64(&out), Some(u64::MAX));
    }

    #[test]
    fn what_is_not_a_number_is_none() {
        for text in ["", "-", "+1", " 1", "1 ", "1x", "0x1", "18446744073709551616", "-1"] {
            assert_eq!(parse_u64(text.as_bytes()), None, "{text}");
        }
        for text in ["", "-", "--1", "-0", "00", "01", "-01", "+1", " 1", "1 ", "1.0", "1x"] {
            assert_eq!(parse_i64_canonical(text.as_bytes()), None, "{text}");
        }
        for text in ["9223372036854775808", "-9223372036854775809", "18446744073709551615"] {
            assert_eq!(parse_i64_canonical(text.as_bytes()), None, "{text}");
        }
        for text in ["", "-", "--1", "+1", "1 ", "9223372036854775808", "-9223372036854775809"] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
        for text in ["", "k", "mb", "1t", "1 k", "-1k", "1kk", "17179869184g"] {
            assert_eq!(parse_size(text.as_bytes()), None, "{text}");
        }
        let sizes = [("7", 7), ("7b", 7), ("1k", 1024), ("2KB", 2048), ("16m", 16 << 20)];
        for (text, bytes) in sizes {
            assert_eq!(parse_size(text.as_bytes()), Some(bytes), "{text}");
        }
        assert_eq!(parse_u64(b"007"), Some(7));
        assert_eq!((parse_i64(b"-07"), parse_i64(b"-0")), (Some(-7), Some(0)));
    }
}
