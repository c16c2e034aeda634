//! What a command is called, takes, costs and may do: all but the function that executes it.
//!
//! Arity counts the command's name; a negative one is a minimum. Keys are the first and the last
//! position and the step between them; a negative last position counts from the end.

use super::request::Args;
use crate::session::budget;

/// One command.
pub(super) struct Command {
    /// In small letters.
    pub name: &'static str,
    pub arity: i8,
    pub keys: (i8, i8, i8),
    /// What a user has to be allowed: all of these. Nobody asks before there are users.
    #[cfg_attr(not(test), expect(dead_code, reason = "there are no users yet"))]
    pub rights: &'static [Right],
    pub flags: u8,
    /// The group and the summary that COMMAND DOCS shows.
    pub group: &'static str,
    pub summary: &'static str,
    /// Its place in the table.
    pub index: usize,
}

/// What a user may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// Add messages or change values.
    Produce,
    /// Take messages or values away.
    Consume,
    /// See what is there.
    Inspect,
    /// Change the daemon, or all of its data at once.
    Admin,
}

/// What it costs to find a command and to answer it, and what each of its words costs: a message to
/// push or a key to look up. A step takes up to 0.4 us then.
const REQUEST: u64 = 2;
const WORD: u64 = 3;

/// What it costs to describe the daemon, its commands or its clients.
const DESCRIPTION: u64 = 1000;

/// The most words of a request without a list of keys or messages, which is read in one turn, and
/// whose reply is made in it.
const OPTION_WORDS: usize = 1024;

/// The most words of a request that sets values: 10,000 of them, all in one moment.
const PAIRS_WORDS: usize = 20_001;

/// It changes data.
pub(super) const WRITE: u8 = 1;
/// It reads data.
pub(super) const READ: u8 = 2;
/// Its time does not grow with the data.
pub(super) const FAST: u8 = 4;
/// It asks whether a message is in the queues that its keys name.
pub(super) const MEMBERSHIP: u8 = 8;
/// No other command runs beside it.
pub(super) const EXCLUSIVE: u8 = 16;
/// Redis refuses it where a value of another type is.
pub(super) const TYPED: u8 = 64;
/// With several keys it is one step, and no other command runs beside it.
pub(super) const ONE_STEP: u8 = 128;
/// In a transaction it runs at once instead of being queued.
pub(super) const IMMEDIATE: u8 = 32;

impl Command {
    /// Whether the command has this flag.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Steps that a request costs whatever is in the store: its words and bytes, or what the daemon
    /// gathers to describe itself.
    pub fn steps(&self, args: Args<'_>) -> u64 {
        let words = REQUEST + WORD * args.len().saturating_sub(1) as u64;
        let own = match self.keys {
            _ if self.is_description() => DESCRIPTION,
            // A move looks, pushes and removes.
            (1, 2, 1) => 2 * words,
            _ => words,
        };
        own + budget::bytes(args.request().len())
    }

    /// Whether it shows or changes the daemon or its clients, and no data.
    pub fn is_description(&self) -> bool {
        self.flags == 0
    }

    /// Whether it sets the values of many keys in one moment.
    pub fn sets_pairs(&self) -> bool {
        self.keys == (1, -1, 2)
    }

    /// The most words of a request; of a list of keys or messages the bytes are the limit.
    pub fn most_words(&self) -> usize {
        match self.keys {
            _ if self.sets_pairs() => PAIRS_WORDS,
            (_, -1, _) => usize::MAX,
            _ if self.has(MEMBERSHIP) => usize::MAX,
            _ => OPTION_WORDS,
        }
    }

    /// Whether it changes queues that are known only when it runs: those of the ids in it.
    pub fn has_hidden_keys(&self) -> bool {
        self.has(WRITE) && self.keys == (0, 0, 0) && !self.has(EXCLUSIVE)
    }

    /// The flags that COMMAND INFO shows.
    pub fn flag_names(&self) -> impl Iterator<Item = &'static str> + Clone {
        let flags = self.flags;
        let named = [(WRITE, "write"), (READ, "readonly"), (FAST, "fast")];
        named.into_iter().filter(move |(flag, _)| flags & flag != 0).map(|(_, name)| name)
    }

    /// The keys of a request.
    pub fn keys<'a>(&self, args: Args<'a>) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.keys_behind(args, 0)
    }

    /// The keys of a request that begins behind `before` other words.
    pub fn keys_behind<'a>(
        &self,
        args: Args<'a>,
        before: usize,
    ) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let (first, last, step) = self.keys;
        let (first, step): (usize, usize) =
            (first.unsigned_abs().into(), step.unsigned_abs().into());
        // Behind a timeout there may be COUNT.
        let has_count = last == -2 && args.is(args.len().saturating_sub(2), "count");
        let len = args.len() - before - if has_count { 2 } else { 0 };
        let end = match usize::try_from(last) {
            Ok(last) => last + 1,
            Err(_) => (len + 1).saturating_sub(last.unsigned_abs().into()),
        };
        // Position 0 is the command's name: a command without keys has 0 for the first.
        let end = if first == 0 { 0 } else { end.min(len) };
        let positions = (first..end).step_by(std::cmp::max(step, 1));
        positions.map(move |position| args.get(position + before))
    }
}

/// Whether a request of `len` words has the arity.
pub(super) fn allows(arity: i8, len: usize) -> bool {
    let words = usize::from(arity.unsigned_abs());
    if arity < 0 { len >= words } else { len == words }
}
