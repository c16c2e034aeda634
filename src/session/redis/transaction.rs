//! What a client has queued since MULTI, and the keys that it watches.
//!
//! A queued request is kept as the bytes it came in and parsed again by EXEC. What is queued and
//! what is watched is bounded in number and in bytes, and so are the steps of what is queued.

use super::command::{Command, EXCLUSIVE};
use super::pipeline::limits;
use super::request::{Args, Outcome};
use crate::memory::{self, NoMemory};
use crate::protocol::Parsed;
use crate::protocol::resp::{Arguments, Limits, parse};
use crate::queue::NAME_MAX;
use crate::session::Shared;
use crate::session::budget::Budget;
use std::collections::{HashMap, HashSet};

pub(super) const TRANSACTION_TOO_LONG: &str =
    "ERR the transaction takes too long; use a smaller one";

/// Bytes that the names of watched keys may take, and what each is charged beside its name.
pub(super) const WATCHED_BYTES: usize = 4 << 20;
pub(super) const WATCHED_OVERHEAD: usize = 64;

/// Keys that a client may watch: EXEC looks at all of them while others wait, some 3 ms.
pub(super) const MAX_WATCHED: usize = 4096;

/// Bytes of a request that are copied in one turn, a millisecond or two.
const COPIED_AT_ONCE: usize = 1 << 20;

/// Steps that a transaction may take, while all others wait: some 15 ms.
const TRANSACTION_STEPS: u64 = 42_000;

/// Those of them that its requests may cost whatever is in the store: 5,000 requests of three
/// words. The rest is for what they find.
const QUEUED_STEPS: u64 = 40_000;

/// Bytes of the reply that are kept for the refusal of each command that is still to come.
pub(super) const REFUSAL_BYTES: usize = 96;

/// Names of queues that are kept of a transaction, about 2 MB with what each is charged beside its
/// own bytes.
const MAX_KEYS: usize = 4096;
const KEY_OVERHEAD: usize = 64;

/// The requests queued since MULTI.
#[derive(Default)]
pub(super) struct Transaction {
    requests: Vec<u8>,
    /// Bytes at their end of a request that is not here as a whole.
    copied: usize,
    pub len: usize,
    /// What they cost whatever is in the store. Each of them has this for itself.
    steps: u64,
    /// The queues that they may work on, and what these names take.
    pub keys: HashSet<Box<[u8]>>,
    key_bytes: usize,
    /// One of them works on every queue, or they name more than are kept: EXEC waits for all.
    pub needs_all: bool,
    /// What the requests before this byte need has been prepared.
    pub prepared: usize,
    /// A request could not be queued: EXEC will execute none.
    pub failed: bool,
}

impl Transaction {
    /// Requests in the queue.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.requests.capacity() + self.key_bytes
    }

    /// Whether no request begins at byte `place`.
    pub fn ends_at(&self, place: usize) -> bool {
        place == self.requests.len()
    }

    /// Copies a piece of a request, and returns true once all of it is here. After an error no
    /// other one may follow.
    pub fn copy(&mut self, request: &[u8], budget: &mut Budget) -> Result<bool, NoMemory> {
        let rest = request.get(self.copied..).unwrap_or_default();
        memory::reserve(&mut self.requests, rest.len())?;
        let piece = rest.get(..COPIED_AT_ONCE).unwrap_or(rest);
        memory::append(&mut self.requests, piece)?;
        budget.copy(piece.len());
        self.copied = if piece.len() < rest.len() { self.copied + piece.len() } else { 0 };
        Ok(self.copied == 0)
    }

    /// Counts a request that has been copied; after an error no other one may follow.
    pub fn push(&mut self, command: &Command, args: Args<'_>) -> Result<(), NoMemory> {
        self.len += 1;
        self.steps = self.steps.saturating_add(command.steps(args));
        self.needs_all |= command.has(EXCLUSIVE) || args.len() > MAX_KEYS;
        if !self.needs_all {
            self.keep_keys(command, args)?;
        }
        if self.needs_all || self.keys.len() > MAX_KEYS {
            (self.needs_all, self.keys, self.key_bytes) = (true, HashSet::default(), 0);
        }
        Ok(())
    }

    fn keep_keys(&mut self, command: &Command, args: Args<'_>) -> Result<(), NoMemory> {
        for key in command.keys(args).filter(|key| key.len() <= NAME_MAX) {
            if !self.keys.contains(key) {
                self.keys.try_reserve(1)?;
                self.keys.insert(memory::join(&[key])?.into());
                self.key_bytes += key.len() + KEY_OVERHEAD;
            }
        }
        Ok(())
    }

    /// Refuses another request if it could not run behind these.
    pub fn check_place(&self, command: &Command, args: Args<'_>) -> Outcome {
        match self.steps.saturating_add(command.steps(args)) {
            ..=QUEUED_STEPS => Ok(()),
            _ => Err(TRANSACTION_TOO_LONG.into()),
        }
    }

    /// Steps that are left for what its requests find in the store.
    pub fn spare_steps(&self) -> u64 {
        TRANSACTION_STEPS.saturating_sub(self.steps)
    }

    pub fn fail(&mut self) {
        *self = Transaction { failed: true, ..Transaction::default() };
    }

    /// Shows the requests from byte `start` on, with the place behind each, until `visit` answers
    /// false, or there is no memory for the list of a request's arguments.
    pub fn each(
        &self,
        shared: &Shared,
        start: usize,
        mut visit: impl FnMut(Args<'_>, usize) -> bool,
    ) {
        let mut arguments = Arguments::default();
        // They were within the limits when they were queued; these may be lower by now.
        let limits = Limits { max_bulk: usize::MAX, max_request: usize::MAX, ..limits(shared) };
        let mut rest = self.requests.get(start..).unwrap_or_default();
        // They were whole requests when they were queued, so there is no other error.
        while let Ok(Parsed::Complete { consumed }) = parse(rest, &mut arguments, &limits) {
            let (request, others) = rest.split_at(consumed);
            if !visit(Args::new(request, &arguments), self.requests.len() - others.len()) {
                return;
            }
            rest = others;
        }
    }
}

/// The keys of WATCH, with their stamps when it was sent.
#[derive(Default)]
pub(super) struct Watched {
    pub stamps: HashMap<Box<[u8]>, (u64, u64)>,
    pub bytes: usize,
}

impl Watched {
    /// Bytes of memory that they take.
    pub fn memory(&self) -> usize {
        self.bytes
    }

    pub fn insert(&mut self, key: &[u8], stamp: (u64, u64)) -> Outcome {
        self.stamps.try_reserve(1).map_err(NoMemory::from)?;
        self.stamps.insert(memory::join(&[key])?.into(), stamp);
        self.bytes += key.len() + WATCHED_OVERHEAD;
        Ok(())
    }

    pub fn append(&mut self, added: Watched) -> Outcome {
        self.stamps.try_reserve(added.stamps.len()).map_err(NoMemory::from)?;
        self.stamps.extend(added.stamps);
        self.bytes += added.bytes;
        Ok(())
    }
}
