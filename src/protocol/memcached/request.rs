//! What a memcached client can ask for, borrowed from the bytes that it sent.
//!
//! These are values only: keys are at most 250 bytes without spaces and control characters, numbers
//! are in range, and nothing is known of what a store does with them.

/// A whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is asked for.
    pub command: TextCommand<'a>,
    /// The data block of `Store` and `Contains`, without its CRLF; empty for the others.
    pub data: &'a [u8],
    /// No reply is wanted, not even an error.
    pub noreply: bool,
}

/// A command and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextCommand<'a> {
    /// `get`, `gets`, `gat`, `gats`
    Get {
        /// At least one key.
        keys: Keys<'a>,
        /// What is done with each.
        retrieval: Retrieval,
    },
    /// `set`, `add`, `replace`, `append`, `prepend`, `cas`: the value is the request's data.
    Store {
        /// Which of them.
        mode: StoreMode,
        /// Where to.
        key: &'a [u8],
        /// The client's own, kept with the value.
        flags: u32,
        /// memcached's time: see `Touch`.
        exptime: i64,
    },
    /// `delete`
    Delete {
        /// What.
        key: &'a [u8],
    },
    /// `incr` and `decr`
    Arithmetic {
        /// Where.
        key: &'a [u8],
        /// By how much.
        delta: u64,
        /// True for `decr`.
        decrement: bool,
    },
    /// `touch`
    Touch {
        /// What.
        key: &'a [u8],
        /// 0: never; up to 30 days: seconds from now; larger: Unix time; negative: at once.
        exptime: i64,
    },
    /// `flush_all`
    FlushAll {
        /// When, as `exptime`; 0 and negative: now.
        delay: i64,
    },
    /// `version`
    Version,
    /// `verbosity`
    Verbosity,
    /// `stats`
    Stats {
        /// The group of statistics asked for; empty for the general ones.
        group: &'a [u8],
        /// What follows it.
        words: Keys<'a>,
    },
    /// `quit`
    Quit,
    /// The ancestor's `scard`: how many messages are queued?
    Length {
        /// The queue's name.
        key: &'a [u8],
    },
    /// The ancestor's `sismember`: is the request's data queued?
    Contains {
        /// The queue's name.
        key: &'a [u8],
    },
}

impl TextCommand<'_> {
    /// The word that the command starts with.
    pub fn verb(&self) -> &'static str {
        match self {
            TextCommand::Get { retrieval, .. } => retrieval.verb(),
            TextCommand::Store { mode, .. } => mode.verb(),
            TextCommand::Delete { .. } => "delete",
            TextCommand::Arithmetic { decrement: false, .. } => "incr",
            TextCommand::Arithmetic { decrement: true, .. } => "decr",
            TextCommand::Touch { .. } => "touch",
            TextCommand::FlushAll { .. } => "flush_all",
            TextCommand::Version => "version",
            TextCommand::Verbosity => "verbosity",
            TextCommand::Stats { .. } => "stats",
            TextCommand::Quit => "quit",
            TextCommand::Length { .. } => "scard",
            TextCommand::Contains { .. } => "sismember",
        }
    }
}

/// What is done with the keys of a `get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retrieval {
    /// The reply carries the cas (`gets`, `gats`).
    pub with_cas: bool,
    /// A new time of expiry (`gat`, `gats`), as in `TextCommand::Touch`.
    pub exptime: Option<i64>,
}

impl Retrieval {
    /// The word that the command starts with.
    pub fn verb(self) -> &'static str {
        match (self.exptime, self.with_cas) {
            (None, false) => "get",
            (None, true) => "gets",
            (Some(_), false) => "gat",
            (Some(_), true) => "gats",
        }
    }
}

/// The conditions of storing a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreMode {
    /// In any case.
    Set,
    /// Where there is none.
    Add,
    /// Where there is one.
    Replace,
    /// Behind the old value.
    Append,
    /// In front of the old value.
    Prepend,
    /// Where the old value still has this cas.
    Cas(u64),
}

impl StoreMode {
    /// The word that the command starts with.
    pub fn verb(self) -> &'static str {
        match self {
            StoreMode::Set => "set",
            StoreMode::Add => "add",
            StoreMode::Replace => "replace",
            StoreMode::Append => "append",
            StoreMode::Prepend => "prepend",
            StoreMode::Cas(_) => "cas",
        }
    }
}

/// The keys of a `get` that have not been taken yet, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys<'a> {
    /// Keys that were found to be valid, spaces, and the end of the line.
    rest: &'a [u8],
}

impl<'a> Keys<'a> {
    /// `rest` is the rest of a line with its line feed.
    pub(super) fn new(rest: &'a [u8]) -> Keys<'a> {
        Keys { rest }
    }

    /// Bytes from the next key to the end of the line: a reply that has grown too large can be cut
    /// here, and go on later with `resume` on these bytes.
    pub fn unread(&self) -> usize {
        self.rest.len()
    }

    /// The keys at the start of `input`, the last `unread` bytes of a line that was parsed before.
    pub fn resume(input: &'a [u8]) -> Keys<'a> {
        let end = input.iter().position(|&byte| byte == b'\n').map_or(input.len(), |at| at + 1);
        Keys { rest: &input[..end] }
    }
}

impl<'a> Iterator for Keys<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let spaces = self.rest.iter().take_while(|&&byte| byte == b' ').count();
        let key_on = &self.rest[spaces..];
        // A valid key has no byte up to the space, so its line's CR and LF end it as well.
        let length = key_on.iter().take_while(|&&byte| byte > b' ').count();
        let (key, rest) = key_on.split_at(length);
        if key.is_empty() {
            return None;
        }
        self.rest = rest;
        Some(key)
    }
}

/// Why a request is not executed; the connection stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// No such command, or not with this number of arguments.
    Unknown,
    /// A key that is too long or has control characters, or a bad number.
    BadFormat,
    /// `delete` with something else behind the key than memcached allows.
    DeleteUsage,
    /// A time that is not a number.
    InvalidExptime,
    /// `incr` or `decr` by something else than a number.
    InvalidDelta,
    /// The data block does not end where the line said.
    BadDataChunk,
    /// The data block is over the limit.
    TooLarge,
}

impl BadRequest {
    /// The line that answers it, as memcached writes it.
    pub fn text(self) -> &'static str {
        match self {
            BadRequest::Unknown => "ERROR",
            BadRequest::BadFormat => "CLIENT_ERROR bad command line format",
            BadRequest::DeleteUsage => {
                "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"
            }
            BadRequest::InvalidExptime => "CLIENT_ERROR invalid exptime argument",
            BadRequest::InvalidDelta => "CLIENT_ERROR invalid numeric delta argument",
            BadRequest::BadDataChunk => "CLIENT_ERROR bad data chunk",
            BadRequest::TooLarge => "SERVER_ERROR object too large for cache",
        }
    }
}
