//! What a session remembers of its client, and CLIENT, which shows and changes it.
//!
//! It works on no queue and no value.

use super::call::Call;
use super::client_list::{describe, kill, list};
use super::counts::Tally;
use super::progress::{Outgoing, Progress};
use super::request::{Outcome, Refusal, SYNTAX_ERROR};
use super::table::{Command, Subcommand, WRITE, run_subcommand, subcommand};
use super::transaction::{Transaction, Watched};
use crate::protocol::resp::Version;
use crate::queue::{Claim, Handle, Waiting};
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
    /// None of the next commands, so many of them, and then all.
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
    /// The queue of the last row of commands, if it was of use then.
    pub last_queue: Option<Handle>,
    /// The requests queued since MULTI.
    pub transaction: Option<Transaction>,
    pub watched: Watched,
    /// Where the next request stands that has taken a turn or more.
    pub progress: Option<Box<Progress>>,
    /// The queue that it works on.
    pub claim: Option<Claim>,
    /// What it waits for before it begins.
    pub waiting: Waiting,
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
            claim: None,
            waiting: Waiting::default(),
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
        self.end_claim();
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
        transaction + progress + self.watched.memory() + self.outgoing.memory()
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
fn check_name(what: &str, name: &[u8]) -> Outcome {
    if name.len() > MAX_NAME {
        return Err(format!("ERR {what} cannot be longer than {MAX_NAME} bytes.").into());
    }
    if !name.iter().all(u8::is_ascii_graphic) {
        let rule = "cannot contain spaces, newlines or special characters.";
        return Err(format!("ERR {what} {rule}").into());
    }
    Ok(())
}

const KILL_HELP: &str = "<address> | [ID <id>] [ADDR|LADDR <address>] [TYPE normal] [USER default] \
                         [MAXAGE <seconds>] [SKIPME yes|no]: End connections.";

pub(super) const SUBCOMMANDS: &[Subcommand] = &[
    subcommand("getname", 2, getname, ": Show this connection's name."),
    subcommand("getredir", 2, getredir, ": Answer -1; there are no notifications of changes."),
    subcommand("id", 2, id, ": Show this connection's number."),
    subcommand("info", 2, info, ": Show this connection."),
    subcommand("kill", -3, kill, KILL_HELP),
    subcommand("list", -2, list, "[TYPE normal | ID <id> ...]: Show connections."),
    subcommand("no-evict", 3, switch, "on|off: Do nothing; nothing is evicted."),
    subcommand("no-touch", 3, switch, "on|off: Do nothing; nothing is evicted."),
    subcommand("reply", 3, reply_mode, "on|off|skip: Answer the next commands or not."),
    subcommand("setinfo", 4, setinfo, "LIB-NAME|LIB-VER <text>: Name this connection's library."),
    subcommand("setname", 3, setname, "<name>: Name this connection."),
    subcommand("tracking", -3, tracking, "off: Do nothing; there are no notifications of changes."),
    subcommand("trackinginfo", 2, trackinginfo, ": Show that there are no notifications."),
];

pub(super) fn client(call: &mut Call<'_>) -> Outcome {
    run_subcommand(SUBCOMMANDS, call)
}

fn id(call: &mut Call<'_>) -> Outcome {
    call.reply.integer(call.client.id());
    Ok(())
}

fn getname(call: &mut Call<'_>) -> Outcome {
    match call.client.entry.names().name.as_slice() {
        [] => call.reply.null(),
        name => call.reply.bulk(name),
    }
    Ok(())
}

fn setname(call: &mut Call<'_>) -> Outcome {
    call.client.set_name(call.args.get(2))?;
    call.reply.simple("OK");
    Ok(())
}

fn setinfo(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    let mut names = call.client.entry.names();
    let (what, field) = if args.is(2, "lib-name") {
        ("lib-name", &mut names.library)
    } else if args.is(2, "lib-ver") {
        ("lib-ver", &mut names.library_version)
    } else {
        return Err(Refusal::quoting("ERR Unrecognized option '", args.get(2), "'"));
    };
    check_name(what, args.get(3))?;
    *field = args.get(3).to_vec();
    call.reply.simple("OK");
    Ok(())
}

fn info(call: &mut Call<'_>) -> Outcome {
    let uptime = call.shared.store.clock().uptime();
    call.client.note(uptime);
    call.reply.verbatim(&describe(&call.client.entry, uptime));
    Ok(())
}

/// CLIENT REPLY ON|OFF|SKIP: only ON is answered.
fn reply_mode(call: &mut Call<'_>) -> Outcome {
    call.client.replies = match (call.args.option(2).as_slice(), call.client.replies) {
        (b"on", _) => Replies::On,
        (b"off", _) | (b"skip", Replies::Off) => Replies::Off,
        // This command and the next one.
        (b"skip", _) => Replies::Skip(2),
        _ => return Err(SYNTAX_ERROR.into()),
    };
    call.reply.simple("OK");
    Ok(())
}

/// Answers that no other client gets this one's notifications: there are none.
fn getredir(call: &mut Call<'_>) -> Outcome {
    call.reply.integer(-1);
    Ok(())
}

fn tracking(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    if args.is(2, "on") {
        return Err("ERR there is no client side caching here".into());
    }
    if !args.is(2, "off") || args.len() > 3 {
        return Err(SYNTAX_ERROR.into());
    }
    call.reply.simple("OK");
    Ok(())
}

/// Answers as Redis does to a client that has not turned tracking on.
fn trackinginfo(call: &mut Call<'_>) -> Outcome {
    call.reply.map(3);
    call.reply.bulk(b"flags");
    call.reply.set(1);
    call.reply.bulk(b"off");
    call.reply.bulk(b"redirect");
    call.reply.integer(-1);
    call.reply.bulk(b"prefixes");
    call.reply.array(0);
    Ok(())
}

/// NO-EVICT and NO-TOUCH: nothing is ever evicted here, so both hold whatever is asked.
fn switch(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    if !args.is(2, "on") && !args.is(2, "off") {
        return Err(SYNTAX_ERROR.into());
    }
    call.reply.simple("OK");
    Ok(())
}
