//! Inline commands: a line is split into words by Redis's quoting rules (`sdssplitargs`).
//!
//! `"..."` knows `\n \r \t \b \a \xHH` and takes any other escaped byte as it is; `'...'` knows
//! `\'` alone. A quote may open in the middle of a word, but a closed one must end it. A NUL is a
//! byte like any other. This module knows one line and nothing about requests.

use super::framing::FramingError;

/// Splits `line` into words: appends their bytes to `words` and calls `found` with the start and
/// the length of each in it. An error of `found` ends it; a quote that is not closed, or is
/// followed by something else than a space, is one as well.
pub(super) fn split(
    line: &[u8],
    words: &mut Vec<u8>,
    mut found: impl FnMut(usize, usize) -> Result<(), FramingError>,
) -> Result<(), FramingError> {
    let mut rest = skip_spaces(line);
    while !rest.is_empty() {
        let start = words.len();
        rest = word(rest, words).ok_or("unbalanced quotes in request")?;
        found(start, words.len() - start)?;
        rest = skip_spaces(rest);
    }
    Ok(())
}

fn skip_spaces(line: &[u8]) -> &[u8] {
    let spaces = line.iter().take_while(|&&byte| is_space(byte)).count();
    &line[spaces..]
}

/// C's `isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Appends the word at the start of `rest` and answers what follows it.
fn word<'a>(mut rest: &'a [u8], words: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] | [b' ' | b'\t' | b'\n' | b'\r', ..] => return Some(rest),
            [b'"', quoted @ ..] => return closed(double_quoted(quoted, words)?),
            [b'\'', quoted @ ..] => return closed(single_quoted(quoted, words)?),
            [byte, after @ ..] => {
                words.push(*byte);
                rest = after;
            }
        }
    }
}

/// A closing quote ends its word.
fn closed(rest: &[u8]) -> Option<&[u8]> {
    match rest.first() {
        Some(&byte) if !is_space(byte) => None,
        _ => Some(rest),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], words: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [] => return None,
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex_digit(*high) << 4 | hex_digit(*low), after)
            }
            [b'\\', escaped, after @ ..] => (unescape(*escaped), after),
            [byte, after @ ..] => (*byte, after),
        };
        words.push(byte);
        rest = after;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], words: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [] => return None,
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [byte, after @ ..] => (*byte, after),
        };
        words.push(byte);
        rest = after;
    }
}

fn unescape(escaped: u8) -> u8 {
    match escaped {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::{FramingError, split};

    fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, FramingError> {
        let mut bytes = Vec::new();
        let mut spans = Vec::new();
        split(line, &mut bytes, |start, length| {
            spans.push(start..start + length);
            Ok(())
        })?;
        Ok(spans.into_iter().map(|span| bytes[span].to_vec()).collect())
    }

    #[test]
    fn words_are_split_at_white_space_and_unquoted() {
        let cases: [(&[u8], &[&[u8]]); 12] = [
            (b"", &[]),
            (b" \t\x0b\x0c ", &[]),
            (b"PING", &[b"PING"]),
            (b"  sadd  q\ta\rb ", &[b"sadd", b"q", b"a", b"b"]),
            (b"echo \"a b\"", &[b"echo", b"a b"]),
            (br#"echo "\n\r\t\b\a\x00\xfF\\\"\q\xg""#, &[b"echo", b"\n\r\t\x08\x07\0\xff\\\"qxg"]),
            (br"echo 'a \n \' b'", &[b"echo", br"a \n ' b"]),
            (b"echo \"\" ''", &[b"echo", b"", b""]),
            (b"fo\"o b\"", &[b"foo b"]),
            (b"fo'o b'", &[b"foo b"]),
            (b"a\0b", &[b"a\0b"]),
            (b"a\\nb", &[b"a\\nb"]),
        ];
        for (line, expected) in cases {
            assert_eq!(words(line).unwrap(), expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn quotes_that_do_not_close_or_do_not_end_a_word_are_unbalanced() {
        for line in ["\"", "'", "a \"b", "a 'b", "\"a\"b", "'a'b", "\"a\"\"b\"", "\"a\\", "\"a\\\""]
        {
            assert_eq!(
                words(line.as_bytes()),
                Err("unbalanced quotes in request".into()),
                "{line}"
            );
        }
    }
}
