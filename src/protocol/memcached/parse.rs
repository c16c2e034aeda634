//! Framing of memcached's text protocol: lines, data blocks, and blocks that nobody wants.
//!
//! Promises: a line is searched for its end once, whatever the pieces in which it arrives; a data
//! block that is too large, or that follows a bad line, is skipped as it comes and never kept; the
//! answer does not depend on where the input was cut. Nothing is allocated.

use super::block::Announced;
use super::line::{self, BadLine, Line};
use super::request::{BadRequest, Request};
use crate::protocol::foreign::is_binary;
use crate::protocol::{Foreign, resp};

/// The longest line, in bytes before its line feed.
const MAX_LINE: usize = 2048;

/// The longest line of a command that may have many keys.
const MAX_GET_LINE: usize = 1 << 20;

/// What has been looked at so far: to be given back with the same bytes and more behind them.
#[derive(Debug, Default)]
pub struct Progress {
    /// There is no line feed in front of here.
    scanned: usize,
    /// Bytes to skip, and then what is left of the line; `None` if a command is next.
    skip: Option<u64>,
}

/// What was found at the start of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A whole request; it takes `consumed` bytes.
    Complete {
        /// The request.
        request: Request<'a>,
        /// Bytes of the request, at most the length of the input.
        consumed: usize,
    },
    /// The request is not whole yet: call again when there are at least `need` bytes.
    Partial {
        /// Total bytes wanted, more than the length of the input.
        need: usize,
    },
    /// Bytes that belong to no request.
    Skipped {
        /// How many, at least one.
        consumed: usize,
    },
    /// A request that cannot be executed: to be answered, and the next is looked for.
    Refused {
        /// What to answer.
        refusal: BadRequest,
        /// Do not answer it.
        noreply: bool,
        /// Bytes that are done with; its data block may be skipped later.
        consumed: usize,
    },
}

/// Why the connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fatal {
    /// No line ends like this; to be answered with `CLIENT_ERROR line too long`.
    LineTooLong,
    /// It speaks another protocol; it gets no answer.
    Foreign(Foreign),
    /// A line is refused, and the length of the data behind it is unknown.
    Unmeasured {
        /// What to answer.
        refusal: BadRequest,
        /// Do not answer it.
        noreply: bool,
    },
}

/// Looks for one request at the start of `input`. `progress` carries on from the last `Partial` of
/// the same bytes, and stays with the connection. A data block of more than `max_data` bytes is
/// refused.
pub fn parse<'a>(
    input: &'a [u8],
    progress: &mut Progress,
    max_data: usize,
) -> Result<Found<'a>, Fatal> {
    if input.is_empty() {
        return Ok(Found::Partial { need: 1 });
    }
    if let Some(bytes) = progress.skip {
        return Ok(progress.skip(input, bytes));
    }
    if let Some(foreign) = input.first().and_then(|byte| foreign(*byte)) {
        return Err(Fatal::Foreign(foreign));
    }
    let Some(line) = progress.line(input)? else {
        return Ok(Found::Partial { need: input.len() + 1 });
    };
    if let Some(foreign) = line::foreign(line) {
        return Err(Fatal::Foreign(foreign));
    }
    Ok(match line::read(line, max_data) {
        Ok(Line { command, noreply, block }) => {
            let request = Request { command, data: &[], noreply };
            match block {
                None => progress.complete(request, line.len()),
                Some(length) => progress.block(input, line.len(), length, request),
            }
        }
        Err(bad) => progress.refuse(bad, line.len())?,
    })
}

/// Judges by the first byte of a line.
fn foreign(first: u8) -> Option<Foreign> {
    Foreign::of_first_byte(first)
        .or_else(|| resp::is_type(first).then_some(Foreign::Redis))
        .or_else(|| is_binary(first).then_some(Foreign::Binary))
}

impl Progress {
    /// Whether the input goes on with what is skipped.
    pub fn is_skipping(&self) -> bool {
        self.skip.is_some()
    }

    /// Skips `bytes` and what is left of the line behind them: in a well-formed block, its CRLF.
    fn skip<'a>(&mut self, input: &[u8], bytes: u64) -> Found<'a> {
        let rest = usize::try_from(bytes).ok().and_then(|bytes| input.get(bytes..));
        let Some(rest) = rest else {
            self.skip = Some(bytes - input.len() as u64);
            return Found::Skipped { consumed: input.len() };
        };
        match find_line_end(rest) {
            Some(line_length) => {
                self.skip = None;
                Found::Skipped { consumed: input.len() - rest.len() + line_length }
            }
            None => {
                self.skip = Some(0);
                Found::Skipped { consumed: input.len() }
            }
        }
    }

    /// Returns the first line with its line feed, or `None` if it has not ended yet.
    fn line<'a>(&mut self, input: &'a [u8]) -> Result<Option<&'a [u8]>, Fatal> {
        let unseen = input.get(self.scanned..).unwrap_or_default();
        let length = find_line_end(unseen).map(|length| self.scanned + length);
        // Where no line feed was found, all of the input stands before it.
        let before_end = length.map_or(input.len(), |length| length - 1);
        self.scanned = before_end;
        if before_end > MAX_LINE && (before_end > MAX_GET_LINE || !has_many_keys(input)) {
            return Err(Fatal::LineTooLong);
        }
        Ok(length.and_then(|length| input.get(..length)))
    }

    fn complete<'a>(&mut self, request: Request<'a>, consumed: usize) -> Found<'a> {
        self.scanned = 0;
        Found::Complete { request, consumed }
    }

    /// Refuses what takes `consumed` bytes; the block that belongs to it is skipped from there on.
    fn refuse<'a>(&mut self, bad: BadLine, consumed: usize) -> Result<Found<'a>, Fatal> {
        let BadLine { refusal, noreply, announced } = bad;
        self.scanned = 0;
        self.skip = match announced {
            Announced::Nothing => None,
            Announced::Block(bytes) => Some(bytes),
            Announced::Unmeasured => return Err(Fatal::Unmeasured { refusal, noreply }),
        };
        Ok(Found::Refused { refusal, noreply, consumed })
    }

    /// Looks for a data block of `length` bytes behind a line of `line_length` bytes.
    fn block<'a>(
        &mut self,
        input: &'a [u8],
        line_length: usize,
        length: usize,
        request: Request<'a>,
    ) -> Found<'a> {
        let data_end = line_length.saturating_add(length);
        let need = data_end.saturating_add(2);
        let (Some(data), Some(end)) = (input.get(line_length..data_end), input.get(data_end..need))
        else {
            return Found::Partial { need };
        };
        if end != b"\r\n" {
            let (refusal, noreply) = (BadRequest::BadDataChunk, request.noreply);
            (self.scanned, self.skip) = (0, Some(0));
            return Found::Refused { refusal, noreply, consumed: data_end };
        }
        self.complete(Request { data, ..request }, need)
    }
}

fn find_line_end(input: &[u8]) -> Option<usize> {
    input.iter().position(|&byte| byte == b'\n').map(|at| at + 1)
}

/// Judges by the first `MAX_LINE` bytes, so that the answer does not change as more arrive.
fn has_many_keys(input: &[u8]) -> bool {
    let line = input.get(..MAX_LINE).unwrap_or(input);
    let spaces = line.iter().take_while(|&&byte| byte == b' ').count();
    let verb = line[spaces..].split(|&byte| byte == b' ').next();
    matches!(verb, Some(b"get" | b"gets" | b"gat" | b"gats"))
}

#[cfg(test)]
mod tests;
