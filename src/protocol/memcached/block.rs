//! The data block of a line that is refused: what its client takes for one is never a command.
//!
//! A client that sends a storage command which is not known here, or one with a word too many,
//! sends its data behind it all the same. Where the line does not tell how long that is, nothing
//! behind it can be read: the connection ends. memcached goes on and runs the data as commands.
//! This file knows how such lines are built and no command.

use super::words::Words;
use crate::protocol::number::parse_u64;

/// The longest data block that a line can announce, as in memcached.
const MAX_BLOCK: u64 = i32::MAX as u64;

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

/// What stands behind a refused line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// The next command. So it is too where the length is a number that memcached does not take: no
    /// client has such a block.
    Nothing,
    /// A data block of this many bytes.
    Block(u64),
    /// A data block of unknown length.
    Unmeasured,
}

impl Announced {
    /// What the `length` of a storage command announces.
    pub(super) fn by(length: Option<&[u8]>) -> Announced {
        let Some(number) = length.filter(|word| is_number(word)) else {
            return Announced::Unmeasured;
        };
        let length = parse_u64(number).filter(|length| *length <= MAX_BLOCK);
        length.map_or(Announced::Nothing, Announced::Block)
    }
}

/// Whether `words`, those of a line, are a storage command of memcached, with a data block behind
/// it. No command of Redis has this form.
pub fn is_storage<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> bool {
    let verb = words.next().unwrap_or_default();
    let is = |name: &[u8]| verb.eq_ignore_ascii_case(name);
    if is(META_SET) {
        return words.any(is_number);
    }
    let mut row = 0;
    let ends_row = |word| {
        row = if is_number(word) { row + 1 } else { 0 };
        row == NUMBERS
    };
    STORAGE.into_iter().any(is) && words.any(ends_row)
}

/// What follows the first word of `rest`, its key. A key of no bytes leaves two spaces.
fn behind_key(mut rest: Words<'_>) -> Option<Words<'_>> {
    if !rest.0.starts_with(b"  ") {
        rest.next()?;
    }
    Some(rest)
}

/// What a refused line announces, `rest` being its words behind `verb`.
pub(super) fn announced(verb: &[u8], rest: Words<'_>) -> Announced {
    if BLOCKLESS.contains(&verb) {
        return Announced::Nothing;
    }
    // No word has a control character, so to its client a tab or a NUL ends one: which is the
    // length is unknown.
    if rest.chain([verb]).any(|word| word.iter().any(u8::is_ascii_control)) {
        return Announced::Unmeasured;
    }
    let is_meta = begins_with(verb, META_SET);
    let is_storage = is_meta || STORAGE.iter().any(|name| begins_with(verb, name));
    let length = behind_key(rest).and_then(|behind_key| match is_meta {
        // A key with spaces in it may have numbers too.
        true => behind_key.filter(|word| is_number(word)).last(),
        false => length_of(behind_key, verb.eq_ignore_ascii_case(b"cas")),
    });
    match Announced::by(length) {
        // A line that only may be a storage command.
        Announced::Unmeasured if !is_storage => Announced::Nothing,
        announced => announced,
    }
}

/// Whether `verb` is `name` in any case, perhaps with something behind it that its client takes for
/// a space, or that makes it another storage command.
fn begins_with(verb: &[u8], name: &[u8]) -> bool {
    verb.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

/// The length among `words`: the end of the last numbers that are enough for a storage command, or
/// what stands before the cas. A key with spaces in it moves them to the right.
fn length_of(words: Words<'_>, has_cas: bool) -> Option<&[u8]> {
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
    length
}

fn is_number(word: &[u8]) -> bool {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Announced {
        let mut words = Words(line.as_bytes());
        let verb = words.next().unwrap_or_default();
        announced(verb, words)
    }

    #[test]
    fn a_refused_line_announces_the_block_that_its_client_sends() {
        use Announced::{Block, Nothing, Unmeasured};
        let cases = [
            ("ms k 9", Block(9)),
            ("ms k 9 T0 F5 q\r\n", Block(9)),
            ("ms a b 9 T0", Block(9)),
            ("ms a 1 9 T0", Block(9)),
            ("ms k S9", Unmeasured),
            ("SET k 0 0 9", Block(9)),
            ("setq k 0 -1 9 noreply\r\n", Block(9)),
            ("set a b 0 0 9", Block(9)),
            ("set a 1 0 0 9", Block(9)),
            ("set a b c d e f g h 0 0 9 noreply", Block(9)),
            ("set k 0 0 9 x y", Block(9)),
            ("set k 0 0", Unmeasured),
            ("set  0 0 9", Block(9)),
            ("add  0 0 9 noreply", Block(9)),
            ("ms  9", Block(9)),
            ("set  0 9", Unmeasured),
            ("set  k 0 0 9", Block(9)),
            ("foo k 0 0 9 q", Block(9)),
            ("set k", Unmeasured),
            ("set", Unmeasured),
            ("set k 0 0 -1", Nothing),
            ("set k 0 0 2147483648", Nothing),
            ("cas a b 0 0 9 12", Block(9)),
            ("cas k 0 0 9", Block(9)),
            ("cas k 0 0 9 noreply", Block(9)),
            ("sismember a b 0 0 9", Block(9)),
            ("touch k 1 2 3", Nothing),
            ("gat 1 2 3 4 5", Nothing),
            ("incr k 1 2 3 4 5 6 7 8", Nothing),
            ("bogus k 1 2", Nothing),
            ("bogus 1 2 3", Nothing),
            ("bogus k 1 2 x 3", Nothing),
            ("INCR k 9", Nothing),
            ("", Nothing),
            ("set k 0 0 9x", Unmeasured),
            ("set k 0  9 noreply", Unmeasured),
            ("append k 0 0 +9", Unmeasured),
            ("cas k 0 0 9x 1", Unmeasured),
            ("sismember q 0 0", Unmeasured),
            ("ms k", Unmeasured),
            ("ms k -9", Nothing),
            ("ms k 9x", Unmeasured),
            ("ms k 99999999999999999999", Nothing),
            ("set a b 0 0 99999999999999999999", Nothing),
            ("foo k 0 0 9x", Nothing),
            ("set\tk 0 0 9", Unmeasured),
            ("set\tk\t0\t0\t9\r\n", Unmeasured),
            ("set\x0bk 0 0 9", Unmeasured),
            ("set\0k 0 0 9", Unmeasured),
            ("\tset 0 0 9", Unmeasured),
            ("  set k 0 0\t9\r\n", Unmeasured),
            ("set a b 0 0 9\0", Unmeasured),
            ("foo\tk 0 0 9", Unmeasured),
            ("set\u{a0}k 0 0 9", Unmeasured),
            ("set:k 0 0 9", Unmeasured),
            ("SET k 0 0", Unmeasured),
            ("Set k 0 0 9x", Unmeasured),
            ("MS k 9 T0", Block(9)),
            ("MS k S9", Unmeasured),
            ("CAS a b 0 0 9 12", Block(9)),
            ("  SET k 0 0 9", Block(9)),
            ("get\tk", Unmeasured),
        ];
        for (line, expected) in cases {
            assert_eq!(of(line), expected, "{line}");
        }
    }

    #[test]
    fn a_storage_command_is_told_from_a_command_of_redis() {
        let is_storage = |line: &str| is_storage(line.split_whitespace().map(str::as_bytes));
        let lines = ["set k 0 0 5", "append k 0 -1 5 noreply\r\n", "cas k 1 2 3 4", "ms k 9 T0"];
        for line in
            [lines, ["add k 0 0 5", "replace k 0 0 5", "prepend k 0 0 5", "ms k 9"]].concat()
        {
            assert!(is_storage(line), "{line}");
            assert!(is_storage(&line.to_uppercase().replace(' ', "\t")), "{line} as a client may");
        }
        for line in ["set a b 0 0 5", "set  0 0 5", "set k 0 0 -1", "ms k T0 5", "ms  5"] {
            assert!(is_storage(line), "{line}");
        }
        let lines = ["set 1 2 ex 10", "SET k 0 px 5", "append k 5", "sadd q 1 2 3", "set k 0 0"];
        for line in [lines, ["smismember q 1 2 3", "ms k", "get k", "", "set"]].concat() {
            assert!(!is_storage(line), "{line}");
        }
    }
}
