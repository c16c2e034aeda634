//! Replies of RESP2 and RESP3.
//!
//! Each method appends one complete reply, or the head of an aggregate whose elements follow as
//! replies of their own. A simple string and an error are one line whatever they are given. Where
//! there is no memory nothing is appended, and [`Reply::is_cut`] says so. This module knows the
//! wire format and no command.

use crate::memory::{self, NoMemory};
use crate::protocol::number::{append_i64, append_u64};

/// The most bytes of a small reply or of an error.
const SMALL: usize = 512;

/// What stands before a text for people in RESP3.
const FORMAT: &[u8] = b"txt:";

/// The most bytes of a number with its type byte and CRLF.
const NUMBER: usize = 32;

/// The dialect that a client has asked for: RESP3 comes after `HELLO 3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Version {
    /// The dialect of every connection at its start.
    #[default]
    Resp2,
    /// With its own forms for null, set, map and verbatim text.
    Resp3,
}

/// Appends encoded replies to a byte vector.
#[derive(Debug)]
pub struct Reply {
    /// Where the replies go.
    pub out: Vec<u8>,
    /// The client's dialect.
    pub version: Version,
    /// Bytes that stay free for replies that have to follow.
    pub kept: usize,
    /// There was no memory for a part, which is missing, and so is all behind it.
    pub is_cut: bool,
}

impl Reply {
    /// Replies at the end of `out`.
    pub fn new(out: Vec<u8>, version: Version) -> Reply {
        Reply { out, version, kept: 0, is_cut: false }
    }

    /// Takes back what has been written since the output was `start` bytes long.
    pub fn take_back(&mut self, start: usize) {
        self.out.truncate(start);
        self.is_cut = false;
    }

    /// Makes room for a small reply, before anything is done that has one: it cannot be cut then.
    ///
    /// # Errors
    /// There is no memory.
    pub fn prepare(&mut self) -> Result<(), NoMemory> {
        memory::reserve(&mut self.out, self.kept.saturating_add(SMALL))
    }

    /// Whether there is room for `count` bytes.
    fn fits(&mut self, count: usize) -> bool {
        let count = self.kept.saturating_add(count);
        self.is_cut = self.is_cut || memory::reserve(&mut self.out, count).is_err();
        !self.is_cut
    }

    /// `+text`, made one line: CR and LF in it become spaces.
    pub fn simple(&mut self, text: &str) {
        self.simple_bytes(text.as_bytes());
    }

    /// The same for text that may be no UTF-8.
    pub fn simple_bytes(&mut self, text: &[u8]) {
        self.one_line(b'+', text);
    }

    /// `-text`, made one line: CR and LF in it become spaces.
    pub fn error(&mut self, text: &str) {
        self.error_bytes(text.as_bytes());
    }

    /// As `error`, for text that holds bytes of a client's.
    pub fn error_bytes(&mut self, text: &[u8]) {
        self.one_line(b'-', text);
    }

    /// `:n`
    pub fn integer(&mut self, n: i64) {
        if self.fits(NUMBER) {
            self.out.push(b':');
            append_i64(&mut self.out, n);
            self.end_line();
        }
    }

    /// `:n` for a number that only an error could make longer than an `i64`.
    pub fn count(&mut self, n: u64) {
        self.integer(i64::try_from(n).unwrap_or(i64::MAX));
    }

    /// `$length`, then the bytes as they are.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.bytes(b'$', &[bytes]);
    }

    /// As `bulk`, for what changes when it has been shown.
    ///
    /// # Errors
    /// There is no memory.
    pub fn try_bulk(&mut self, bytes: &[u8]) -> Result<(), NoMemory> {
        self.bulk(bytes);
        if self.is_cut { Err(NoMemory) } else { Ok(()) }
    }

    /// `$-1`, or `_` in RESP3.
    pub fn null(&mut self) {
        self.by_version(b"$-1\r\n", b"_\r\n");
    }

    /// `*-1`, or `_` in RESP3.
    pub fn null_array(&mut self) {
        self.by_version(b"*-1\r\n", b"_\r\n");
    }

    /// The head of an array: `count` replies follow.
    pub fn array(&mut self, count: usize) {
        self.head(b'*', count);
    }

    /// The head of a set: `*count`, or `~count` in RESP3; `count` replies follow.
    pub fn set(&mut self, count: usize) {
        match self.version {
            Version::Resp2 => self.head(b'*', count),
            Version::Resp3 => self.head(b'~', count),
        }
    }

    /// The head of a map: an array of twice `pairs`, or `%pairs` in RESP3; a key and a value follow
    /// for each pair.
    pub fn map(&mut self, pairs: usize) {
        match self.version {
            Version::Resp2 => self.head(b'*', pairs.saturating_mul(2)),
            Version::Resp3 => self.head(b'%', pairs),
        }
    }

    /// Text for people: a bulk string, or `=length`, `txt:` and the text in RESP3.
    pub fn verbatim(&mut self, text: &[u8]) {
        match self.version {
            Version::Resp2 => self.bulk(text),
            Version::Resp3 => self.bytes(b'=', &[FORMAT, text]),
        }
    }

    /// What stands before `length` bytes of text for people, which the caller writes.
    pub fn verbatim_head(&mut self, length: usize) {
        match self.version {
            Version::Resp2 => self.head(b'$', length),
            Version::Resp3 => {
                self.head(b'=', length + FORMAT.len());
                self.out.extend_from_slice(FORMAT);
            }
        }
    }

    /// What stands behind the text of `verbatim_head`.
    pub fn end_verbatim(&mut self) {
        self.end_line();
    }

    /// The length of all parts, then the parts.
    fn bytes(&mut self, kind: u8, parts: &[&[u8]]) {
        let length = parts.iter().map(|part| part.len()).sum();
        // A small reply may follow, of the same command or of the next one.
        if self.fits(length + NUMBER + SMALL) {
            self.head(kind, length);
            parts.iter().for_each(|part| self.out.extend_from_slice(part));
            self.end_line();
        }
    }

    fn head(&mut self, kind: u8, count: usize) {
        if self.fits(NUMBER) {
            self.out.push(kind);
            append_u64(&mut self.out, count as u64);
            self.end_line();
        }
    }

    fn one_line(&mut self, kind: u8, text: &[u8]) {
        if !self.fits(text.len() + 3) {
            return;
        }
        self.out.push(kind);
        let line = text.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte });
        self.out.extend(line);
        self.end_line();
    }

    fn by_version(&mut self, resp2: &[u8], resp3: &[u8]) {
        if self.fits(NUMBER) {
            self.out.extend_from_slice(match self.version {
                Version::Resp2 => resp2,
                Version::Resp3 => resp3,
            });
        }
    }

    fn end_line(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Write = fn(&mut Reply);

    fn encoded(version: Version, write: impl Fn(&mut Reply)) -> String {
        let mut reply = Reply::new(Vec::new(), version);
        write(&mut reply);
        String::from_utf8(reply.out).unwrap()
    }

    fn both(write: impl Fn(&mut Reply)) -> (String, String) {
        (encoded(Version::Resp2, &write), encoded(Version::Resp3, &write))
    }

    #[test]
    fn forms_that_both_versions_share_are_the_same_bytes() {
        let cases: [(Write, &str); 7] = [
            (|reply| reply.simple("OK"), "+OK\r\n"),
            (|reply| reply.error("ERR no"), "-ERR no\r\n"),
            (|reply| reply.integer(-12), ":-12\r\n"),
            (|reply| reply.integer(i64::MIN), ":-9223372036854775808\r\n"),
            (|reply| reply.bulk(b"a\r\nb"), "$4\r\na\r\nb\r\n"),
            (|reply| reply.bulk(b""), "$0\r\n\r\n"),
            (|reply| reply.array(10), "*10\r\n"),
        ];
        for (write, expected) in cases {
            assert_eq!(both(write), (expected.to_owned(), expected.to_owned()));
        }
    }

    #[test]
    fn null_set_map_and_verbatim_have_their_own_form_in_resp3() {
        let cases: [(Write, &str, &str); 5] = [
            (|reply| reply.null(), "$-1\r\n", "_\r\n"),
            (|reply| reply.null_array(), "*-1\r\n", "_\r\n"),
            (|reply| reply.set(3), "*3\r\n", "~3\r\n"),
            (|reply| reply.map(3), "*6\r\n", "%3\r\n"),
            (|reply| reply.verbatim(b"abc"), "$3\r\nabc\r\n", "=7\r\ntxt:abc\r\n"),
        ];
        for (write, resp2, resp3) in cases {
            assert_eq!(both(write), (resp2.to_owned(), resp3.to_owned()));
        }
    }

    #[test]
    fn an_error_or_a_simple_string_is_one_line_whatever_it_is_given() {
        let (error, _) = both(|reply| reply.error_bytes(b"ERR unknown 'a\r\n+OK\r\nb'"));
        assert_eq!(error, "-ERR unknown 'a  +OK  b'\r\n");
        let (simple, _) = both(|reply| reply.simple("a\nb"));
        assert_eq!(simple, "+a b\r\n");
    }
}
