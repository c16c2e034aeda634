//! One command line of memcached: words to a command.
//!
//! Words stand between spaces; a verb is lower case. How many words a verb takes, and which error a
//! wrong one gets, is as memcached 1.6.18 answers it, with these exceptions: flags must fit 32
//! bits, a key has no control characters (memcached takes some), `gat` needs a key, and `quit`
//! stands alone.

use super::block::{self, Announced};
use super::request::{BadRequest, Keys, Retrieval, StoreMode, TextCommand};
use super::words::Words;
use crate::protocol::Foreign;
use crate::protocol::number::{parse_i64, parse_u64};

/// The longest key, in bytes.
const MAX_KEY: usize = 250;

/// More words than any command takes behind its verb, `get` aside.
const MAX_WORDS: usize = 7;

/// A line that is understood.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) command: TextCommand<'a>,
    pub(super) noreply: bool,
    /// Bytes of the data block that follows, without its CRLF; at most `max_data`.
    pub(super) block: Option<usize>,
}

/// A line that is not.
#[derive(Debug)]
pub(super) struct BadLine {
    pub(super) refusal: BadRequest,
    pub(super) noreply: bool,
    /// The data block that the line announced all the same: it is no commands.
    pub(super) announced: Announced,
}

impl BadLine {
    fn new(refusal: BadRequest, noreply: bool) -> BadLine {
        BadLine { refusal, noreply, announced: Announced::Nothing }
    }
}

/// Reads `line`, which ends in its line feed.
pub(super) fn read<'a>(line: &'a [u8], max_data: usize) -> Result<Line<'a>, BadLine> {
    let mut rest = Words(line);
    let verb = rest.next().unwrap_or_default();
    command(verb, rest, max_data).map_err(|bad| match bad.refusal {
        // With any number of words it may be a storage command to the client.
        BadRequest::Unknown => BadLine { announced: block::announced(verb, rest), ..bad },
        _ => bad,
    })
}

fn command<'a>(verb: &[u8], rest: Words<'a>, max_data: usize) -> Result<Line<'a>, BadLine> {
    let get = |with_cas| retrieve(rest, Retrieval { with_cas, exptime: None });
    match verb {
        b"get" => return get(false),
        b"gets" => return get(true),
        b"gat" => return get_and_touch(rest, false),
        b"gats" => return get_and_touch(rest, true),
        b"stats" => return stats(rest),
        b"version" => {
            return Ok(Line { command: TextCommand::Version, noreply: false, block: None });
        }
        _ => {}
    }
    let mut words = [&[][..]; MAX_WORDS];
    // The first word of the others is a key, even if it is `noreply`.
    let has_key = !matches!(verb, b"flush_all" | b"verbosity");
    let arguments = Arguments::collect(rest, &mut words, has_key)?;
    match verb {
        b"set" => arguments.store(StoreMode::Set, max_data),
        b"add" => arguments.store(StoreMode::Add, max_data),
        b"replace" => arguments.store(StoreMode::Replace, max_data),
        b"append" => arguments.store(StoreMode::Append, max_data),
        b"prepend" => arguments.store(StoreMode::Prepend, max_data),
        b"cas" => arguments.compare_and_store(max_data),
        b"sismember" => arguments.contains(max_data),
        b"scard" => arguments.length(),
        b"delete" => arguments.delete(),
        b"incr" => arguments.arithmetic(false),
        b"decr" => arguments.arithmetic(true),
        b"touch" => arguments.touch(),
        b"flush_all" => arguments.flush_all(),
        b"verbosity" => arguments.verbosity(),
        b"quit" => arguments.quit(),
        _ => Err(BadLine::new(BadRequest::Unknown, false)),
    }
}

/// The key of a `set`. When its value is refused for its size, whatever was under the key before
/// is not what its client wanted there any more.
pub fn set_key(line: &[u8]) -> Option<&[u8]> {
    let mut words = Words(line);
    if words.next()? == b"set" { words.next() } else { None }
}

/// The protocol that a line is of, if it is another's. No command here has a capital letter.
pub(super) fn foreign(line: &[u8]) -> Option<Foreign> {
    let mut words = Words(line);
    let first = words.next().unwrap_or_default();
    Foreign::of_line(first, words.last().unwrap_or_default(), || false)
}

fn retrieve(rest: Words<'_>, retrieval: Retrieval) -> Result<Line<'_>, BadLine> {
    let mut count = 0;
    for key in rest {
        check_key(key, false)?;
        count += 1;
    }
    if count == 0 {
        return Err(BadLine::new(BadRequest::Unknown, false));
    }
    let command = TextCommand::Get { keys: Keys::new(rest.0), retrieval };
    Ok(Line { command, noreply: false, block: None })
}

fn get_and_touch(mut rest: Words<'_>, with_cas: bool) -> Result<Line<'_>, BadLine> {
    let exptime = rest.next().ok_or(BadLine::new(BadRequest::Unknown, false))?;
    let exptime = parse_i64(exptime).ok_or(BadLine::new(BadRequest::InvalidExptime, false))?;
    retrieve(rest, Retrieval { with_cas, exptime: Some(exptime) })
}

fn stats(mut rest: Words<'_>) -> Result<Line<'_>, BadLine> {
    let group = rest.next().unwrap_or_default();
    let command = TextCommand::Stats { group, words: Keys::new(rest.0) };
    Ok(Line { command, noreply: false, block: None })
}

fn check_key(key: &[u8], noreply: bool) -> Result<(), BadLine> {
    if key.len() > MAX_KEY || key.iter().any(u8::is_ascii_control) {
        return Err(BadLine::new(BadRequest::BadFormat, noreply));
    }
    Ok(())
}

/// The words behind a verb that takes a few.
struct Arguments<'w, 'a> {
    words: &'w [&'a [u8]],
    noreply: bool,
}

impl<'w, 'a> Arguments<'w, 'a> {
    fn collect(
        rest: Words<'a>,
        words: &'w mut [&'a [u8]; MAX_WORDS],
        has_key: bool,
    ) -> Result<Arguments<'w, 'a>, BadLine> {
        let mut count = 0;
        for word in rest {
            let free = words.get_mut(count).ok_or(BadLine::new(BadRequest::Unknown, false))?;
            *free = word;
            count += 1;
        }
        let words = &words[..count];
        let noreply = words[usize::from(has_key).min(count)..].last() == Some(&&b"noreply"[..]);
        Ok(Arguments { words, noreply })
    }

    fn refuse(&self, refusal: BadRequest) -> BadLine {
        BadLine::new(refusal, self.noreply)
    }

    fn line(&self, command: TextCommand<'a>) -> Result<Line<'a>, BadLine> {
        Ok(Line { command, noreply: self.noreply, block: None })
    }

    /// The first `N` words where there are these and at most one more, be it `noreply` or not.
    /// With any other number of words memcached does not know the command.
    fn exactly<const N: usize>(&self) -> Result<[&'a [u8]; N], BadLine> {
        if self.words.len() > N + 1 {
            return Err(BadLine::new(BadRequest::Unknown, false));
        }
        self.words.first_chunk().copied().ok_or(BadLine::new(BadRequest::Unknown, false))
    }

    /// As `exactly`, for a command with a data block. One word more that is a number is none of
    /// memcached's: a space in the key has moved the others, and the length with them.
    fn storage<const N: usize>(&self) -> Result<[&'a [u8]; N], BadLine> {
        match self.words.get(N) {
            Some(word) if parse_i64(word).is_some() => Err(self.refuse(BadRequest::Unknown)),
            _ => self.exactly().map_err(|_| self.refuse(BadRequest::Unknown)),
        }
    }

    fn store(&self, mode: StoreMode, max_data: usize) -> Result<Line<'a>, BadLine> {
        self.block(self.storage()?, max_data, |key, flags, exptime| {
            Some(TextCommand::Store { mode, key, flags, exptime })
        })
    }

    fn compare_and_store(&self, max_data: usize) -> Result<Line<'a>, BadLine> {
        let [key, flags, exptime, bytes, cas] = self.storage()?;
        self.block([key, flags, exptime, bytes], max_data, |key, flags, exptime| {
            let mode = StoreMode::Cas(parse_u64(cas)?);
            Some(TextCommand::Store { mode, key, flags, exptime })
        })
    }

    fn contains(&self, max_data: usize) -> Result<Line<'a>, BadLine> {
        self.block(self.storage()?, max_data, |key, _, _| Some(TextCommand::Contains { key }))
    }

    /// A line that announces a data block: its length is read first, so that the block can be
    /// skipped when something else is wrong.
    fn block(
        &self,
        [key, flags, exptime, bytes]: [&'a [u8]; 4],
        max_data: usize,
        command: impl FnOnce(&'a [u8], u32, i64) -> Option<TextCommand<'a>>,
    ) -> Result<Line<'a>, BadLine> {
        let announced = Announced::by(Some(bytes));
        let refuse = |refusal| BadLine { refusal, noreply: self.noreply, announced };
        let Announced::Block(bytes) = announced else { return Err(refuse(BadRequest::BadFormat)) };
        check_key(key, self.noreply).map_err(|bad| refuse(bad.refusal))?;
        let flags = parse_u64(flags).and_then(|flags| u32::try_from(flags).ok());
        let numbers = flags.zip(parse_i64(exptime));
        let command = numbers.and_then(|(flags, exptime)| command(key, flags, exptime));
        let command = command.ok_or(refuse(BadRequest::BadFormat))?;
        let block = usize::try_from(bytes).ok().filter(|&block| block <= max_data);
        let block = block.ok_or(refuse(BadRequest::TooLarge))?;
        Ok(Line { command, noreply: self.noreply, block: Some(block) })
    }

    fn length(&self) -> Result<Line<'a>, BadLine> {
        let [key] = self.exactly()?;
        check_key(key, self.noreply)?;
        self.line(TextCommand::Length { key })
    }

    /// `delete k`, and the remains of an old delay: `delete k 0`.
    fn delete(&self) -> Result<Line<'a>, BadLine> {
        let key = match self.words {
            [key] | [key, b"0" | b"noreply"] | [key, b"0", b"noreply"] => key,
            [_, _] | [_, _, _] => return Err(self.refuse(BadRequest::DeleteUsage)),
            _ => return Err(BadLine::new(BadRequest::Unknown, false)),
        };
        check_key(key, self.noreply)?;
        self.line(TextCommand::Delete { key })
    }

    fn arithmetic(&self, decrement: bool) -> Result<Line<'a>, BadLine> {
        let [key, delta] = self.exactly()?;
        check_key(key, self.noreply)?;
        let delta = parse_u64(delta).ok_or(self.refuse(BadRequest::InvalidDelta))?;
        self.line(TextCommand::Arithmetic { key, delta, decrement })
    }

    fn touch(&self) -> Result<Line<'a>, BadLine> {
        let [key, exptime] = self.exactly()?;
        check_key(key, self.noreply)?;
        let exptime = parse_i64(exptime).ok_or(self.refuse(BadRequest::InvalidExptime))?;
        self.line(TextCommand::Touch { key, exptime })
    }

    fn flush_all(&self) -> Result<Line<'a>, BadLine> {
        let delay = match self.words {
            [] | [b"noreply"] => Some(0),
            [delay] | [delay, _] => parse_i64(delay),
            _ => return Err(BadLine::new(BadRequest::Unknown, false)),
        };
        let delay = delay.ok_or(self.refuse(BadRequest::InvalidExptime))?;
        self.line(TextCommand::FlushAll { delay })
    }

    fn quit(&self) -> Result<Line<'a>, BadLine> {
        match self.words {
            [] => self.line(TextCommand::Quit),
            _ => Err(BadLine::new(BadRequest::Unknown, false)),
        }
    }

    /// The level is read and has no meaning here.
    fn verbosity(&self) -> Result<Line<'a>, BadLine> {
        let [level] = self.exactly()?;
        parse_u64(level).ok_or(self.refuse(BadRequest::BadFormat))?;
        self.line(TextCommand::Verbosity)
    }
}
