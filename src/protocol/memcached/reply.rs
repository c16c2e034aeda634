//! Replies of memcached's text protocol, appended to a byte vector.
//!
//! A line is one line whatever it is given: CR and LF in it become spaces. This module knows the
//! wire format and no command.

use crate::memory::{self, NoMemory};
use crate::protocol::number::append_u64;

/// The most bytes that the lines before and behind a value take.
const LINES: usize = 512;

/// Appends `text` as a line.
pub fn line(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

/// Appends a found value: `VALUE key flags bytes [cas]` and its data block, and leaves room for the
/// line behind it. The key is one of a parsed request, so it cannot end the line.
///
/// # Errors
/// There is no memory; nothing is appended.
pub fn value(
    out: &mut Vec<u8>,
    key: &[u8],
    flags: u32,
    data: &[u8],
    cas: Option<u64>,
) -> Result<(), NoMemory> {
    memory::reserve(out, key.len() + data.len() + LINES)?;
    out.extend_from_slice(b"VALUE ");
    out.extend_from_slice(key);
    for number in [Some(u64::from(flags)), Some(data.len() as u64), cas].into_iter().flatten() {
        out.push(b' ');
        append_u64(out, number);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends a line of statistics: `STAT name value`.
pub fn statistic(out: &mut Vec<u8>, name: &str, value: impl std::fmt::Display) {
    line(out, &format!("STAT {name} {value}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lines_and_statistics_are_written_as_memcached_writes_them() {
        let mut out = Vec::new();
        value(&mut out, b"k", 7, b"a\r\nb", None).unwrap();
        value(&mut out, b"\xff", 0, b"", Some(u64::MAX)).unwrap();
        statistic(&mut out, "pid", 12);
        line(&mut out, "SERVER_ERROR a\r\nEND");
        let expected = b"VALUE k 7 4\r\na\r\nb\r\nVALUE \xff 0 0 18446744073709551615\r\n\r\n\
            STAT pid 12\r\nSERVER_ERROR a  END\r\n";
        assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}
