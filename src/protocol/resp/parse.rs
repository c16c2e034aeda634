//! Requests of RESP: arrays of bulk strings and inline commands, found in a byte string.
//!
//! An ordinary request that is there as a whole is found in one pass; every other one element by
//! element. Promises: no byte before the element that is being read is looked at again, whatever
//! the pieces in which a request arrives, but for that one pass; memory grows with what has
//! arrived, never with what was declared; the answer does not depend on where the input was cut.
//! Stricter than Redis in three things: a line of an array must end in CRLF, and so must each bulk
//! string (Redis skips these bytes unseen); and no inline command begins with the type of a RESP
//! value or a byte that is no text: Redis runs each line of such a value as a command.

use super::framing::FramingError;
use super::inline;
use crate::memory;
use crate::protocol::Parsed;
use crate::protocol::foreign::is_binary;
use crate::protocol::number::parse_i64_canonical;

/// What one request may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Arguments of an array, the command's name among them.
    pub max_arguments: usize,
    /// Bytes of one argument of an array.
    pub max_bulk: usize,
    /// Bytes of an inline command or of a count, before its line feed.
    pub max_inline: usize,
    /// Bytes of a request in all; no request is larger than 4 GiB whatever this says.
    pub max_request: usize,
}

/// Memory that `clear` keeps for the next request; one with more arguments is no ordinary one.
const KEPT_SPANS: usize = 128;
const KEPT_WORD_BYTES: usize = 1024;

/// The arguments found so far, and where the search stopped: reused from request to request.
#[derive(Debug, Default)]
pub struct Arguments {
    stage: Stage,
    /// Start of the element that is being read; nothing before it is looked at again.
    position: usize,
    /// There is no line feed between `position` and here.
    scanned: usize,
    /// Arguments of the array that are still to come.
    missing: usize,
    spans: Vec<Span>,
    /// The words of an inline command, unquoted.
    words: Vec<u8>,
    is_inline: bool,
}

/// The element at `Arguments::position`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// The first line of a request.
    #[default]
    Start,
    /// `$length` of the next argument, or the end of the request.
    BulkLength,
    /// An argument of this many bytes, and its CRLF.
    Bulk(usize),
    /// The request is complete.
    Done,
}

/// One argument: in the request, or in the words of an inline command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    offset: u32,
    length: u32,
}

/// Looks for one request at the start of `input`. `arguments` carries on from the last `Partial` of
/// the same bytes, and starts afresh after a `Complete`; after an error it is to be cleared.
///
/// A request without arguments is `Complete` too: an empty line, or an array of none or fewer,
/// which Redis skips without a reply.
pub fn parse(
    input: &[u8],
    arguments: &mut Arguments,
    limits: &Limits,
) -> Result<Parsed, FramingError> {
    if arguments.stage == Stage::Done {
        arguments.clear();
    }
    if input.is_empty() {
        return Ok(Parsed::Partial { need: 1 });
    }
    if arguments.stage == Stage::Start
        && let Some(consumed) = arguments.find_whole(input, limits)
    {
        arguments.move_to(Stage::Done, consumed);
        return Ok(Parsed::Complete { consumed });
    }
    loop {
        let need = match arguments.stage {
            Stage::Start => arguments.start(input, limits)?,
            Stage::BulkLength => arguments.bulk_length(input, limits)?,
            Stage::Bulk(length) => arguments.bulk(input, length)?,
            Stage::Done => {
                return Ok(Parsed::Complete { consumed: arguments.position });
            }
        };
        if let Some(need) = need {
            return Ok(Parsed::Partial { need });
        }
    }
}

impl Arguments {
    /// Arguments of a complete request.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// True when the request asks for nothing: an empty line or an empty array.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Argument `index` of a complete request at the start of `input` (the same bytes that `parse`
    /// saw); empty where there is none.
    pub fn get<'a>(&'a self, input: &'a [u8], index: usize) -> &'a [u8] {
        let bytes = if self.is_inline { &self.words } else { input };
        let Some(span) = self.spans.get(index) else {
            return &[];
        };
        let start = span.offset as usize;
        bytes.get(start..start + span.length as usize).unwrap_or_default()
    }

    /// True when the request was an inline command (a line of words).
    pub fn is_inline(&self) -> bool {
        self.is_inline
    }

    /// Bytes at the start of the input that the search for this request does not look at again.
    pub fn settled(&self) -> usize {
        self.position
    }

    /// Bytes of memory that are kept.
    pub fn memory(&self) -> usize {
        self.spans.capacity() * size_of::<Span>() + self.words.capacity()
    }

    /// Forgets everything; memory for an ordinary request is kept.
    pub fn clear(&mut self) {
        self.stage = Stage::Start;
        self.position = 0;
        self.scanned = 0;
        self.missing = 0;
        self.is_inline = false;
        self.spans.clear();
        self.spans.shrink_to(KEPT_SPANS);
        self.words.clear();
        self.words.shrink_to(KEPT_WORD_BYTES);
    }

    /// The length of an ordinary request that is there as a whole, in one pass: nearly all of them.
    /// Returns `None`, and has noted nothing, if the request must be read element by element.
    fn find_whole(&mut self, input: &[u8], limits: &Limits) -> Option<usize> {
        let found = self.find_words(input, limits).filter(|end| *end <= limits.max_request);
        if found.is_none() {
            self.spans.clear();
        }
        found
    }

    fn find_words(&mut self, input: &[u8], limits: &Limits) -> Option<usize> {
        let (count, mut position) = short_count(input, 0, b'*')?;
        if count > KEPT_SPANS.min(limits.max_arguments) {
            return None;
        }
        for _ in 0..count {
            let (length, start) = short_count(input, position, b'$')?;
            let end = start + length;
            if length > limits.max_bulk || *input.get(end..end + 2)? != *b"\r\n" {
                return None;
            }
            push_span(&mut self.spans, start, length).ok()?;
            position = end + 2;
        }
        Some(position)
    }

    /// Each step moves to the next element (None), or says how many bytes it needs (Some).
    fn start(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, FramingError> {
        match input.first() {
            Some(b'*') => self.array_length(input, limits),
            Some(&byte) if is_type(byte) || is_binary(byte) => {
                Err(FramingError::from(&unexpected("'*' or a command", byte)[..]))
            }
            _ => self.inline(input, limits),
        }
    }

    fn array_length(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, FramingError> {
        let Some(line) = self.line(input, limits, "too big mbulk count string")? else {
            return Ok(Some(input.len() + 1));
        };
        let count = parse_count(line).ok_or("invalid multibulk length")?;
        // A count of none or fewer is a request without arguments.
        self.missing = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
        if self.missing > limits.max_arguments {
            return Err("invalid multibulk length".into());
        }
        self.move_to(Stage::BulkLength, self.position + line.len() + 1);
        Ok(None)
    }

    fn bulk_length(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, FramingError> {
        if self.missing == 0 {
            self.stage = Stage::Done;
            return Ok(None);
        }
        match input.get(self.position) {
            None | Some(b'$') => {}
            Some(&byte) => return Err(FramingError::from(&unexpected("'$'", byte)[..])),
        }
        let Some(line) = self.line(input, limits, "too big bulk count string")? else {
            return Ok(Some(input.len() + 1));
        };
        let length = parse_count(line).and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or("invalid bulk length")?;
        if length > limits.max_bulk {
            return Err(FramingError::too_large("invalid bulk length", limits.max_bulk));
        }
        let start = self.position + line.len() + 1;
        // A sum that saturates is over the limit as well.
        let end = start.saturating_add(length).saturating_add(2);
        if end > limits.max_request {
            return Err(FramingError::too_large(TOO_BIG, limits.max_request));
        }
        self.move_to(Stage::Bulk(length), start);
        Ok(None)
    }

    fn bulk(&mut self, input: &[u8], length: usize) -> Result<Option<usize>, FramingError> {
        let end = self.position.saturating_add(length);
        let next = end.saturating_add(2);
        let Some(terminator) = input.get(end..next) else {
            return Ok(Some(next));
        };
        if terminator != b"\r\n" {
            return Err("expected CRLF after bulk string".into());
        }
        push_span(&mut self.spans, self.position, length)?;
        self.missing -= 1;
        self.move_to(Stage::BulkLength, next);
        Ok(None)
    }

    fn inline(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, FramingError> {
        let Some(line) = self.line(input, limits, "too big inline request")? else {
            return Ok(Some(input.len() + 1));
        };
        self.is_inline = true;
        let words = line.strip_suffix(b"\r").unwrap_or(line);
        inline::split(words, &mut self.words, |start, length| {
            push_span(&mut self.spans, start, length)
        })?;
        self.move_to(Stage::Done, line.len() + 1);
        Ok(None)
    }

    /// Returns the line at `position` without its line feed, or `None` if it has not ended yet.
    fn line<'a>(
        &mut self,
        input: &'a [u8],
        limits: &Limits,
        too_long: &str,
    ) -> Result<Option<&'a [u8]>, FramingError> {
        let last = self.position.saturating_add(limits.max_inline);
        let unseen = input.get(self.scanned..).unwrap_or_default();
        let allowed = last.saturating_add(1).saturating_sub(self.scanned);
        let unseen = &unseen[..unseen.len().min(allowed)];
        if let Some(found) = unseen.iter().position(|&byte| byte == b'\n') {
            return Ok(input.get(self.position..self.scanned + found));
        }
        self.scanned += unseen.len();
        if self.scanned > last {
            return Err(too_long.into());
        }
        Ok(None)
    }

    fn move_to(&mut self, stage: Stage, position: usize) {
        self.stage = stage;
        self.position = position;
        self.scanned = position;
    }
}

const TOO_BIG: &str = "too big request";

fn push_span(spans: &mut Vec<Span>, start: usize, length: usize) -> Result<(), FramingError> {
    match (u32::try_from(start), u32::try_from(length)) {
        (Ok(offset), Ok(length)) => {
            memory::reserve(spans, 1)?;
            spans.push(Span { offset, length });
        }
        _ => return Err(FramingError::too_large(TOO_BIG, u32::MAX as usize)),
    }
    Ok(())
}

/// The number of at most six digits in the line that begins with `first` at `position`, and where
/// the next line begins. Returns `None` if something else is there, or the line has not ended.
fn short_count(input: &[u8], position: usize, first: u8) -> Option<(usize, usize)> {
    let (kind, mut line) = input.get(position..)?.split_first()?;
    if *kind != first {
        return None;
    }
    let mut count = 0;
    for digits in 0..=6 {
        let (&byte, behind) = line.split_first()?;
        match byte {
            b'0'..=b'9' if digits == 0 || count > 0 => {
                count = count * 10 + usize::from(byte - b'0')
            }
            b'\r' if digits > 0 && behind.first() == Some(&b'\n') => {
                return Some((count, input.len() - behind.len() + 1));
            }
            _ => return None,
        }
        line = behind;
    }
    None
}

/// The number of a line such as `*3` CR.
fn parse_count(line: &[u8]) -> Option<i64> {
    parse_i64_canonical(line.get(1..)?.strip_suffix(b"\r")?)
}

/// Whether values of RESP2 or RESP3 begin with `byte`.
pub fn is_type(byte: u8) -> bool {
    b"*$+-:_#,(!=%|~>;.".contains(&byte)
}

fn unexpected(expected: &str, byte: u8) -> String {
    match byte {
        b' '..=b'~' => format!("expected {expected}, got '{}'", char::from(byte)),
        _ => format!("expected {expected}, got '{}'", byte.escape_ascii()),
    }
}

#[cfg(test)]
mod tests;
