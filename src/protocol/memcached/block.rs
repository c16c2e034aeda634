//! The data block of a line that is refused: what its client takes for one is never a command.
//!
//! A client that sends a storage command which is not known here, or one with a word too many,
//! sends its data behind it all the same. This file knows how such lines are built and no command.

use super::line::{MAX_BLOCK, Words};
use crate::protocol::number::{parse_i64, parse_u64};

/// The storage commands: `verb key flags exptime bytes`, and behind that a cas for `cas`.
const STORAGE: [&[u8]; 7] =
    [b"set", b"add", b"replace", b"append", b"prepend", b"cas", b"sismember"];

/// The meta command: its length stands behind the key, then flags that begin with a letter.
const META_SET: &[u8] = b"ms";

/// The commands without a data block; all others may be storage commands of a newer memcached.
const BLOCKLESS: [&[u8]; 13] = [
    b"get",
    b"gets",
    b"gat",
    b"gats",
    b"stats",
    b"delete",
    b"incr",
    b"decr",
    b"touch",
    b"flush_all",
    b"verbosity",
    b"version",
    b"scard",
];

/// Numbers behind the key of a storage command.
const NUMBERS: usize = 3;

/// Whether `line` is a storage command of memcached, with a data block behind it. No command of
/// Redis has this form.
pub fn is_storage(line: &[u8]) -> bool {
    let mut words = Words(line);
    let verb = words.next().unwrap_or_default();
    let Some(mut behind_key) = behind_key(words) else { return false };
    if verb == META_SET {
        return behind_key.any(is_number);
    }
    let mut row = 0;
    let mut ends_row = |word| {
        row = if is_number(word) { row + 1 } else { 0 };
        row == NUMBERS
    };
    STORAGE.contains(&verb) && behind_key.any(&mut ends_row)
}

/// What follows the first word of `rest`, its key. A key of no bytes leaves two spaces.
fn behind_key(mut rest: Words<'_>) -> Option<Words<'_>> {
    if !rest.0.starts_with(b"  ") {
        rest.next()?;
    }
    Some(rest)
}

/// Bytes of the data block that a refused line announces, `rest` being its words behind `verb`.
/// Returns `None` if it announces none, or more than memcached takes.
pub(super) fn announced(verb: &[u8], rest: Words<'_>) -> Option<u64> {
    if BLOCKLESS.contains(&verb) {
        return None;
    }
    let mut behind_key = behind_key(rest)?;
    let length = if verb == META_SET {
        behind_key.find_map(parse_u64)
    } else {
        length_of(behind_key, verb == b"cas")
    };
    length.filter(|length| *length <= MAX_BLOCK)
}

/// The length among `words`: the end of the last numbers that are enough for a storage command, or
/// what stands before the cas. A key with spaces in it moves them to the right.
fn length_of(words: Words<'_>, has_cas: bool) -> Option<u64> {
    let (mut length, mut row, mut before) = (None, 0, None);
    for word in words {
        if !is_number(word) {
            row = 0;
            continue;
        }
        row += 1;
        match row {
            ..NUMBERS => {}
            NUMBERS => length = Some(word),
            _ => length = if has_cas { before } else { Some(word) },
        }
        before = Some(word);
    }
    parse_u64(length?)
}

fn is_number(word: &[u8]) -> bool {
    parse_i64(word).is_some() || parse_u64(word).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<u64> {
        let mut words = Words(line.as_bytes());
        let verb = words.next().unwrap_or_default();
        announced(verb, words)
    }

    #[test]
    fn a_refused_line_announces_the_block_that_its_client_sends() {
        let cases = [
            ("ms k 9", Some(9)),
            ("ms k 9 T0 F5 q\r\n", Some(9)),
            ("ms a b 9 T0", Some(9)),
            ("ms k S9", None),
            ("SET k 0 0 9", Some(9)),
            ("setq k 0 -1 9 noreply\r\n", Some(9)),
            ("set a b 0 0 9", Some(9)),
            ("set a 1 0 0 9", Some(9)),
            ("set a b c d e f g h 0 0 9 noreply", Some(9)),
            ("set k 0 0 9 x y", Some(9)),
            ("set k 0 0", None),
            ("set  0 0 9", Some(9)),
            ("add  0 0 9 noreply", Some(9)),
            ("ms  9", Some(9)),
            ("set  0 9", None),
            ("set  k 0 0 9", Some(9)),
            ("foo k 0 0 9 q", Some(9)),
            ("set k", None),
            ("set", None),
            ("set k 0 0 -1", None),
            ("set k 0 0 2147483648", None),
            ("cas a b 0 0 9 12", Some(9)),
            ("cas k 0 0 9", Some(9)),
            ("cas k 0 0 9 noreply", Some(9)),
            ("sismember a b 0 0 9", Some(9)),
            ("touch k 1 2 3", None),
            ("gat 1 2 3 4 5", None),
            ("incr k 1 2 3 4 5 6 7 8", None),
            ("bogus k 1 2", None),
            ("bogus 1 2 3", None),
            ("bogus k 1 2 x 3", None),
            ("INCR k 9", None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(of(line), expected, "{line}");
        }
    }

    #[test]
    fn a_storage_command_is_told_from_a_command_of_redis() {
        let lines = ["set k 0 0 5", "append k 0 -1 5 noreply\r\n", "cas k 1 2 3 4", "ms k 9 T0"];
        for line in
            [lines, ["add k 0 0 5", "replace k 0 0 5", "prepend k 0 0 5", "ms k 9"]].concat()
        {
            assert!(is_storage(line.as_bytes()), "{line}");
        }
        for line in ["set a b 0 0 5", "set  0 0 5", "set k 0 0 -1", "ms k T0 5", "ms  5"] {
            assert!(is_storage(line.as_bytes()), "{line}");
        }
        let lines = ["set 1 2 ex 10", "SET k 0 0 5", "append k 5", "sadd q 1 2 3", "set k 0 0"];
        for line in [lines, ["smismember q 1 2 3", "ms k", "get k", "", "set"]].concat() {
            assert!(!is_storage(line.as_bytes()), "{line}");
        }
    }
}
