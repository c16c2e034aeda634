//! One command line of memcached: words to a command.
//!
//! Words stand between spaces; a verb is lower case. How many words a verb takes, and which error a
//! wrong one gets, is as memcached 1.6.18 answers it, with these exceptions: flags must fit 32
//! bits, a key has no control characters (memcached takes some), `gat` needs a key, and `quit`
//! stands alone.

use super::block::{self, Announced};
use super::request::{Command, Keys, Limits, Refusal, Retrieval, StoreMode};
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
    pub(super) command: Command<'a>,
    pub(super) noreply: bool,
    /// Bytes of the data block that follows, without its CRLF; at most `Limits::max_data`.
    pub(super) block: Option<usize>,
}

/// A line that is not.
#[derive(Debug)]
pub(super) struct BadLine {
    pub(super) refusal: Refusal,
    pub(super) noreply: bool,
    /// The data block that the line announced all the same: it is no commands.
    pub(super) announced: Announced,
}

impl BadLine {
    fn new(refusal: Refusal, noreply: bool) -> BadLine {
        BadLine { refusal, noreply, announced: Announced::Nothing }
    }
}

/// Reads `line`, which ends in its line feed.
pub(super) fn read<'a>(line: &'a [u8], limits: &Limits) -> Result<Line<'a>, BadLine> {
    let mut rest = Words(line);
    let verb = rest.next().unwrap_or_default();
    command(verb, rest, limits).map_err(|bad| match bad.refusal {
        // With any number of words it may be a storage command to the client.
        Refusal::Unknown => BadLine { announced: block::announced(verb, rest), ..bad },
        _ => bad,
    })
}

fn command<'a>(verb: &[u8], rest: Words<'a>, limits: &Limits) -> Result<Line<'a>, BadLine> {
    let get = |with_cas| retrieve(rest, Retrieval { with_cas, exptime: None });
    match verb {
        b"get" => return get(false),
        b"gets" => return get(true),
        b"gat" => return get_and_touch(rest, false),
        b"gats" => return get_and_touch(rest, true),
        b"stats" => return stats(rest),
        b"version" => return Ok(Line { command: Command::Version, noreply: false, block: None }),
        _ => {}
    }
    let mut words = [&[][..]; MAX_WORDS];
    // The first word of the others is a key, even if it is `noreply`.
    let has_key = !matches!(verb, b"flush_all" | b"verbosity");
    let arguments = Arguments::collect(rest, &mut words, has_key)?;
    match verb {
        b"set" => arguments.store(StoreMode::Set, limits),
        b"add" => arguments.store(StoreMode::Add, limits),
        b"replace" => arguments.store(StoreMode::Replace, limits),
        b"append" => arguments.store(StoreMode::Append, limits),
        b"prepend" => arguments.store(StoreMode::Prepend, limits),
        b"cas" => arguments.compare_and_store(limits),
        b"sismember" => arguments.contains(limits),
        b"scard" => arguments.length(),
        b"delete" => arguments.delete(),
        b"incr" => arguments.arithmetic(false),
        b"decr" => arguments.arithmetic(true),
        b"touch" => arguments.touch(),
        b"flush_all" => arguments.flush_all(),
        b"verbosity" => arguments.verbosity(),
        b"quit" => arguments.quit(),
        _ => Err(BadLine::new(Refusal::Unknown, false)),
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
        return Err(BadLine::new(Refusal::Unknown, false));
    }
    let command = Command::Get { keys: Keys::new(rest.0), retrieval };
    Ok(Line { command, noreply: false, block: None })
}

fn get_and_touch(mut rest: Words<'_>, with_cas: bool) -> Result<Line<'_>, BadLine> {
    let exptime = rest.next().ok_or(BadLine::new(Refusal::Unknown, false))?;
    let exptime = parse_i64(exptime).ok_or(BadLine::new(Refusal::InvalidExptime, false))?;
    retrieve(rest, Retrieval { with_cas, exptime: Some(exptime) })
}

fn stats(mut rest: Words<'_>) -> Result<Line<'_>, BadLine> {
    let group = rest.next().unwrap_or_default();
    let command = Command::Stats { group, words: Keys::new(rest.0) };
    Ok(Line { command, noreply: false, block: None })
}

fn check_key(key: &[u8], noreply: bool) -> Result<(), BadLine> {
    if key.len() > MAX_KEY || key.iter().any(u8::is_ascii_control) {
        return Err(BadLine::new(Refusal::BadFormat, noreply));
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
            let free = words.get_mut(count).ok_or(BadLine::new(Refusal::Unknown, false))?;
            *free = word;
            count += 1;
        }
        let words = &words[..count];
        let noreply = words[usize::from(has_key).min(count)..].last() == Some(&&b"noreply"[..]);
        Ok(Arguments { words, noreply })
    }

    fn refuse(&self, refusal: Refusal) -> BadLine {
        BadLine::new(refusal, self.noreply)
    }

    fn line(&self, command: Command<'a>) -> Result<Line<'a>, BadLine> {
        Ok(Line { command, noreply: self.noreply, block: None })
    }

    /// The first `N` words where there are these and at most one more, be it `noreply` or not.
    /// With any other number of words memcached does not know the command.
    fn exactly<const N: usize>(&self) -> Result<[&'a [u8]; N], BadLine> {
        if self.words.len() > N + 1 {
            return Err(BadLine::new(Refusal::Unknown, false));
        }
        self.words.first_chunk().copied().ok_or(BadLine::new(Refusal::Unknown, false))
    }

    /// As `exactly`, for a command with a data block. One word more that is a number is none of
    /// memcached's: a space in the key has moved the others, and the length with them.
    fn storage<const N: usize>(&self) -> Result<[&'a [u8]; N], BadLine> {
        match self.words.get(N) {
            Some(word) if parse_i64(word).is_some() => Err(self.refuse(Refusal::Unknown)),
            _ => self.exactly().map_err(|_| self.refuse(Refusal::Unknown)),
        }
    }

    fn store(&self, mode: StoreMode, limits: &Limits) -> Result<Line<'a>, BadLine> {
        self.block(self.storage()?, limits, |key, flags, exptime| {
            Some(Command::Store { mode, key, flags, exptime })
        })
    }

    fn compare_and_store(&self, limits: &Limits) -> Result<Line<'a>, BadLine> {
        let [key, flags, exptime, bytes, cas] = self.storage()?;
        self.block([key, flags, exptime, bytes], limits, |key, flags, exptime| {
            let mode = StoreMode::Cas(parse_u64(cas)?);
            Some(Command::Store { mode, key, flags, exptime })
        })
    }

    fn contains(&self, limits: &Limits) -> Result<Line<'a>, BadLine> {
        self.block(self.storage()?, limits, |key, _, _| Some(Command::Contains { key }))
    }

    /// A line that announces a data block: its length is read first, so that the block can be
    /// skipped when something else is wrong.
    fn block(
        &self,
        [key, flags, exptime, bytes]: [&'a [u8]; 4],
        limits: &Limits,
        command: impl FnOnce(&'a [u8], u32, i64) -> Option<Command<'a>>,
    ) -> Result<Line<'a>, BadLine> {
        let announced = Announced::by(Some(bytes));
        let refuse = |refusal| BadLine { refusal, noreply: self.noreply, announced };
        let Announced::Block(bytes) = announced else { return Err(refuse(Refusal::BadFormat)) };
        check_key(key, self.noreply).map_err(|bad| refuse(bad.refusal))?;
        let flags = parse_u64(flags).and_then(|flags| u32::try_from(flags).ok());
        let numbers = flags.zip(parse_i64(exptime));
        let command = numbers.and_then(|(flags, exptime)| command(key, flags, exptime));
        let command = command.ok_or(refuse(Refusal::BadFormat))?;
        let block = usize::try_from(bytes).ok().filter(|&block| block <= limits.max_data);
        let block = block.ok_or(refuse(Refusal::TooLarge))?;
        Ok(Line { command, noreply: self.noreply, block: Some(block) })
    }

    fn length(&self) -> Result<Line<'a>, BadLine> {
        let [key] = self.exactly()?;
        check_key(key, self.noreply)?;
        self.line(Command::Length { key })
    }

    /// `delete k`, and the remains of an old delay: `delete k 0`.
    fn delete(&self) -> Result<Line<'a>, BadLine> {
        let key = match self.words {
            [key] | [key, b"0" | b"noreply"] | [key, b"0", b"noreply"] => key,
            [_, _] | [_, _, _] => return Err(self.refuse(Refusal::DeleteUsage)),
            _ => return Err(BadLine::new(Refusal::Unknown, false)),
        };
        check_key(key, self.noreply)?;
        self.line(Command::Delete { key })
    }

    fn arithmetic(&self, decrement: bool) -> Result<Line<'a>, BadLine> {
        let [key, delta] = self.exactly()?;
        check_key(key, self.noreply)?;
        let delta = parse_u64(delta).ok_or(self.refuse(Refusal::InvalidDelta))?;
        self.line(Command::Arithmetic { key, delta, decrement })
    }

    fn touch(&self) -> Result<Line<'a>, BadLine> {
        let [key, exptime] = self.exactly()?;
        check_key(key, self.noreply)?;
        let exptime = parse_i64(exptime).ok_or(self.refuse(Refusal::InvalidExptime))?;
        self.line(Command::Touch { key, exptime })
    }

    fn flush_all(&self) -> Result<Line<'a>, BadLine> {
        let delay = match self.words {
            [] | [b"noreply"] => Some(0),
            [delay] | [delay, _] => parse_i64(delay),
            _ => return Err(BadLine::new(Refusal::Unknown, false)),
        };
        let delay = delay.ok_or(self.refuse(Refusal::InvalidExptime))?;
        self.line(Command::FlushAll { delay })
    }

    fn quit(&self) -> Result<Line<'a>, BadLine> {
        match self.words {
            [] => self.line(Command::Quit),
            _ => Err(BadLine::new(Refusal::Unknown, false)),
        }
    }

    /// The level is read and has no meaning here.
    fn verbosity(&self) -> Result<Line<'a>, BadLine> {
        let [level] = self.exactly()?;
        parse_u64(level).ok_or(self.refuse(Refusal::BadFormat))?;
        self.line(Command::Verbosity)
    }
}
