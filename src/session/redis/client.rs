//! What a session remembers of its client.

use super::command::{Command, WRITE};
use super::counts::Tally;
use super::progress::{Outgoing, Progress};
use super::request::Outcome;
use super::transaction::{Transaction, Watched};
use crate::kv::Batch;
use crate::protocol::resp::Version;
use crate::queue::{Claim, Handle, Waiting};
use crate::session::blocked::Blocked;
use crate::session::budget::Budget;
use crate::session::{Activity, Membership};
use std::time::Duration;

/// Bytes of a name that a client may give itself or its library: they are kept while it stays.
const MAX_NAME: usize = 1024;

/// Which commands are answered (CLIENT REPLY).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Replies {
    /// All.
    #[default]
    On,
    /// None.
    Off,
    /// None of this many commands, and then all.
    Skip(u8),
}

impl Replies {
    /// Whether the command that has just run is answered; another one comes.
    pub fn answers(&mut self) -> bool {
        match *self {
            Replies::On => true,
            Replies::Off => false,
            Replies::Skip(count) => {
                *self = if count > 1 { Replies::Skip(count - 1) } else { Replies::On };
                false
            }
        }
    }
}

/// One client's state between requests.
pub(super) struct Client {
    /// Its place among all clients, with its names.
    pub entry: Membership,
    pub version: Version,
    pub replies: Replies,
    pub tally: Tally,
    pub last_command: Option<&'static Command>,
    /// The queue of the last row of commands, if it was in use then.
    pub last_queue: Option<Handle>,
    /// The requests queued since MULTI.
    pub transaction: Option<Transaction>,
    pub watched: Watched,
    /// Where the next request stands that has taken a turn or more.
    pub progress: Option<Box<Progress>>,
    /// What MSET or MSETNX, the next request, is to set.
    pub batch: Option<Batch>,
    /// What the last MSET has replaced: memory that is given back a part at a time.
    pub replaced: Vec<Box<[u8]>>,
    /// The queue that it works on.
    pub claim: Option<Claim>,
    /// What it waits for before it begins.
    pub waiting: Waiting,
    /// The next request waits for a message.
    pub blocked: Option<Blocked>,
    /// What has not left of the last reply.
    pub outgoing: Outgoing,
}

impl Client {
    pub fn new(entry: Membership) -> Client {
        Client {
            entry,
            version: Version::default(),
            replies: Replies::default(),
            tally: Tally::default(),
            last_command: None,
            last_queue: None,
            transaction: None,
            watched: Watched::default(),
            progress: None,
            batch: None,
            replaced: Vec::new(),
            claim: None,
            waiting: Waiting::default(),
            blocked: None,
            outgoing: Outgoing::default(),
        }
    }

    /// The client's number, as replies write it.
    pub fn id(&self) -> i64 {
        i64::try_from(self.entry.id).unwrap_or(i64::MAX)
    }

    /// Names the client; an empty name takes the name away.
    pub fn set_name(&mut self, name: &[u8]) -> Outcome {
        check_name("Client names", name)?;
        self.entry.names().name = name.to_vec();
        Ok(())
    }

    /// Back to the state of a new connection, as RESET does.
    pub fn reset(&mut self) {
        self.version = Version::default();
        // RESET itself is still skipped, if it is to be.
        if self.replies == Replies::Off {
            self.replies = Replies::On;
        }
        self.entry.names().name.clear();
        self.transaction = None;
        self.watched = Watched::default();
    }

    /// True when the next request has taken a turn and goes on.
    pub fn is_under_way(&self) -> bool {
        self.progress.is_some() || self.claim.is_some()
    }

    /// True when the next request has begun, or waits to, or the last reply has not left as a
    /// whole.
    pub fn is_unfinished(&self) -> bool {
        self.is_under_way() || self.waiting.is_waiting() || !self.outgoing.is_empty()
    }

    /// True when the next request has changed something and goes on.
    pub fn is_half_done(&self) -> bool {
        // Queues that are dropped are gone already, for all others in one step.
        let has_changed = |progress: &Progress| progress.count > 0 && progress.drops.is_none();
        self.last_command.is_some_and(|command| command.has(WRITE))
            && self.progress.as_deref().is_some_and(has_changed)
    }

    /// The next request is done, and nothing of it goes on. One that was refused may have waited.
    pub fn forget_request(&mut self) {
        (self.progress, self.waiting) = (None, Waiting::default());
        (self.batch, self.blocked) = (None, None);
        self.end_claim();
    }

    /// Gives memory of replaced values back as far as the turn goes: 75 us for a MiB. Returns true
    /// once none is left.
    pub fn give_back(&mut self, budget: &mut Budget) -> bool {
        while !budget.is_turn_over() {
            let Some(value) = self.replaced.pop() else {
                self.replaced = Vec::new();
                return true;
            };
            budget.spend(1);
            budget.copy(value.len() / 8);
        }
        false
    }

    /// The command on a claimed queue is over.
    pub fn end_claim(&mut self) {
        if let Some(claim) = self.claim.take() {
            claim.end();
        }
    }

    /// Bytes of memory that are kept between two turns.
    pub fn memory(&self) -> usize {
        let transaction = self.transaction.as_ref().map_or(0, Transaction::memory);
        let progress = self.progress.as_ref().map_or(0, |progress| progress.memory());
        let batch = self.batch.as_ref().map_or(0, Batch::memory);
        let replaced: usize = self.replaced.iter().map(|value| value.len()).sum();
        let blocked = self.blocked.as_ref().map_or(0, Blocked::memory);
        transaction
            + progress
            + batch
            + replaced
            + blocked
            + self.watched.memory()
            + self.outgoing.memory()
    }

    /// Notes for others what the client does at `uptime`.
    pub fn note(&self, uptime: Duration) {
        self.entry.note(Activity {
            at: uptime,
            command: self.last_command.map_or("NULL", |command| command.name),
            queued: self.transaction.as_ref().map(Transaction::len),
            version: protocol_number(self.version),
        });
    }
}

/// The protocol's version as HELLO writes it.
pub(super) fn protocol_number(version: Version) -> u8 {
    match version {
        Version::Resp2 => 2,
        Version::Resp3 => 3,
    }
}

/// A name is printable ASCII without spaces, so that it cannot break the line it is shown in.
pub(super) fn check_name(what: &str, name: &[u8]) -> Outcome {
    if name.len() > MAX_NAME {
        return Err(format!("ERR {what} cannot be longer than {MAX_NAME} bytes.").into());
    }
    if !name.iter().all(u8::is_ascii_graphic) {
        let rule = "cannot contain spaces, newlines or special characters.";
        return Err(format!("ERR {what} {rule}").into());
    }
    Ok(())
}
