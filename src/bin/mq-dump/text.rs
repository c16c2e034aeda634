//! Bytes, times and sizes as text that is safe for a terminal, and the way back for queue names.

use mq::logging;
use std::fmt;
use std::io::{self, Write};

/// Bytes as one line of ASCII: `\n`, `\x00` and their like, and `\\`. Quotes are as they are.
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for quoted in self.0.split_inclusive(|byte| matches!(byte, b'"' | b'\'')) {
            match quoted {
                [plain @ .., quote @ (b'"' | b'\'')] => {
                    write!(f, "{}{}", plain.escape_ascii(), char::from(*quote))?;
                }
                plain => write!(f, "{}", plain.escape_ascii())?,
            }
        }
        Ok(())
    }
}

/// The first bytes of something long, escaped.
pub struct Excerpt<'a>(pub &'a [u8]);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 32;
        match self.0.get(..LONGEST) {
            Some(start) if start.len() < self.0.len() => write!(f, "{}...", Escaped(start)),
            _ => write!(f, "{}", Escaped(self.0)),
        }
    }
}

/// Text that is meant to be read, as one line without control characters.
pub struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                ' '..='~' => write!(f, "{character}")?,
                _ => write!(f, "{}", character.escape_default())?,
            }
        }
        Ok(())
    }
}

/// How many there are of something: `1 queue`, `2 queues`.
pub struct Count<'a>(pub u64, pub &'a str);

impl fmt::Display for Count<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count(count, noun) = self;
        write!(f, "{count} {noun}{}", if *count == 1 { "" } else { "s" })
    }
}

/// The names that an argument may mean: its bytes, and what it says with escapes as printed.
pub fn names(argument: &str) -> Vec<Vec<u8>> {
    let mut names = vec![argument.into()];
    names.extend(unescape(argument.as_bytes()).filter(|name| name != argument.as_bytes()));
    names
}

/// Returns the bytes that [`Escaped`] prints as this text, or `None` if there are none.
fn unescape(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some((&first, rest)) = text.split_first() {
        text = rest;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let (&letter, rest) = text.split_first()?;
        text = rest;
        bytes.push(match letter {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'\\' => b'\\',
            b'x' => {
                let (digits, rest) = text.split_at_checked(2)?;
                text = rest;
                let digit = |digit: u8| char::from(digit).to_digit(16);
                (digit(digits[0])? * 16 + digit(digits[1])?) as u8
            }
            _ => return None,
        });
    }
    Some(bytes)
}

/// Unix time in milliseconds as `2026-11-23T12:30:01.042Z`.
pub struct Time(pub u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}Z", logging::date_and_time(self.0 / 1000), self.0 % 1000)
    }
}

/// How long something took, in milliseconds, in its two largest units: `3d 4h`, `12s`.
pub struct Age(pub u64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
        let text = match (days, hours, minutes) {
            (0, 0, 0) => format!("{seconds}s"),
            (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
            (0, _, _) => format!("{hours}h {}m", minutes % 60),
            _ => format!("{days}d {}h", hours % 24),
        };
        f.pad(&text)
    }
}

/// A size in the largest unit that leaves a digit before the point: `1.5 GiB`.
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        let (mut tenths, mut unit) = (u128::from(self.0) * 10, "bytes");
        for larger in UNITS {
            if tenths < 10 * 1024 {
                break;
            }
            (tenths, unit) = (tenths / 1024, larger);
        }
        match unit {
            "bytes" => write!(f, "{} bytes", self.0),
            _ => write!(f, "{}.{} {unit}", tenths / 10, tenths % 10),
        }
    }
}

/// Writes bytes in rows of sixteen: offset, values, and letters where they are plain.
pub fn hexdump(output: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    for (row, bytes) in bytes.chunks(16).enumerate() {
        write!(output, "{:08x} ", row * 16)?;
        for column in 0..16 {
            let gap = if column % 8 == 0 { " " } else { "" };
            match bytes.get(column) {
                Some(byte) => write!(output, "{gap}{byte:02x} ")?,
                None => write!(output, "{gap}   ")?,
            }
        }
        let plain = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' };
        writeln!(output, " |{}|", bytes.iter().map(plain).collect::<String>())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_is_plain_and_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        let text = Escaped(&all).to_string();
        assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text}");
        assert_eq!(unescape(text.as_bytes()), Some(all));
        assert_eq!(names("a"), [b"a"]);
        assert_eq!(names(r"\n"), [&b"\\n"[..], b"\n"]);
        for never in ["\\", "\\q", "\\x", "\\x1", "\\xgg"] {
            assert_eq!(unescape(never.as_bytes()), None, "{never}");
        }
    }

    #[test]
    fn ages_have_their_two_largest_units() {
        let texts = [0, 59, 60, 3599, 3600, 86_399, 86_400, 273_600, 40_000_000];
        let texts = texts.map(|seconds| Age(seconds * 1000 + 999).to_string());
        let expected =
            ["0s", "59s", "1m 0s", "59m 59s", "1h 0m", "23h 59m", "1d 0h", "3d 4h", "462d 23h"];
        assert_eq!(texts, expected);
    }

    #[test]
    fn sizes_have_one_decimal() {
        let texts = [0, 1023, 1024, 1536, 1 << 20, u64::MAX].map(|size| Size(size).to_string());
        let expected = ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 KiB", "1.0 MiB", "16383.9 PiB"];
        assert_eq!(texts, expected);
    }

    #[test]
    fn counts_and_texts_are_readable() {
        assert_eq!(
            [0, 1, 2].map(|n| Count(n, "note").to_string()),
            ["0 notes", "1 note", "2 notes"]
        );
        let text = OneLine("queue \"a\\n\"\n\u{1b}[2J\u{9b}\u{fc}").to_string();
        assert_eq!(text, "queue \"a\\n\"\\n\\u{1b}[2J\\u{9b}\\u{fc}");
    }

    #[test]
    fn an_excerpt_says_that_it_is_one() {
        assert_eq!(Excerpt(&[b'a'; 32]).to_string(), "a".repeat(32));
        assert_eq!(Excerpt(&[b'a'; 33]).to_string(), "a".repeat(32) + "...");
    }

    #[test]
    fn a_hexdump_has_rows_of_sixteen() {
        let mut text = Vec::new();
        hexdump(&mut text, b"0123456789abcdef\x1b[2J").unwrap();
        let expected = "\
00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|
00000010  1b 5b 32 4a                                       |.[2J|
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
