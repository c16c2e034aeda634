//! What a session remembers of its client, and CLIENT, which shows and changes it.
//!
//! It works on no queue and no value.

use super::dispatch::Context;
use super::request::{Args, Outcome, Refusal, SYNTAX_ERROR};
use super::table::{Command, Subcommand, run_subcommand};
use super::transaction::{Transaction, Watched};
use crate::protocol::resp::{Reply, Version};
use crate::queue::Handle;
use crate::session::{Activity, ClientEntry, Membership};
use std::time::Duration;

/// Bytes of a name that a client may give itself or its library: they are kept while it stays.
const MAX_NAME: usize = 1024;

/// One client's state between requests.
pub(super) struct Client {
    /// Its place among all clients, with its names.
    pub entry: Membership,
    pub version: Version,
    pub last_command: Option<&'static Command>,
    /// The queue of the last row of commands, if it was of use then.
    pub last_queue: Option<Handle>,
    /// The requests queued since MULTI.
    pub transaction: Option<Transaction>,
    pub watched: Watched,
}

impl Client {
    pub fn new(entry: Membership) -> Client {
        Client {
            entry,
            version: Version::default(),
            last_command: None,
            last_queue: None,
            transaction: None,
            watched: Watched::default(),
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
        self.entry.names().name.clear();
        self.transaction = None;
        self.watched = Watched::default();
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

/// A client's line of CLIENT LIST, with its end.
fn describe(entry: &ClientEntry, uptime: Duration) -> Vec<u8> {
    let Activity { at, command, queued, version } = entry.activity();
    let (id, peer) = (entry.id, &entry.peer);
    let since = |then: Duration| uptime.saturating_sub(then).as_secs();
    let (age, idle) = (since(entry.connected), since(at));
    let flags = if queued.is_some() { "x" } else { "N" };
    let multi = queued.map_or("-1".to_owned(), |queued| queued.to_string());
    let names = entry.names();
    [
        format!("id={id} addr={peer} name=").as_bytes(),
        &names.name,
        format!(" age={age} idle={idle} flags={flags} db=0 sub=0 psub=0 multi={multi}").as_bytes(),
        format!(" events=r cmd={command} user=default resp={version} lib-name=").as_bytes(),
        &names.library,
        b" lib-ver=",
        &names.library_version,
        b"\n",
    ]
    .concat()
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

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand { name: "getname", arity: 2, run: getname },
    Subcommand { name: "id", arity: 2, run: id },
    Subcommand { name: "info", arity: 2, run: info },
    Subcommand { name: "no-evict", arity: 3, run: switch },
    Subcommand { name: "no-touch", arity: 3, run: switch },
    Subcommand { name: "setinfo", arity: 4, run: setinfo },
    Subcommand { name: "setname", arity: 3, run: setname },
];

pub(super) fn client(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    run_subcommand(SUBCOMMANDS, context, args, reply)
}

fn id(context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(context.client.id());
    Ok(())
}

fn getname(context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match context.client.entry.names().name.as_slice() {
        [] => reply.null(),
        name => reply.bulk(name),
    }
    Ok(())
}

fn setname(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    context.client.set_name(args.get(2))?;
    reply.simple("OK");
    Ok(())
}

fn setinfo(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut names = context.client.entry.names();
    let (what, field) = if args.is(2, "lib-name") {
        ("lib-name", &mut names.library)
    } else if args.is(2, "lib-ver") {
        ("lib-ver", &mut names.library_version)
    } else {
        return Err(Refusal::quoting("ERR Unrecognized option '", args.get(2), "'"));
    };
    check_name(what, args.get(3))?;
    *field = args.get(3).to_vec();
    reply.simple("OK");
    Ok(())
}

fn info(context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let uptime = context.shared.store.clock().uptime();
    context.client.note(uptime);
    reply.verbatim(&describe(&context.client.entry, uptime));
    Ok(())
}

/// NO-EVICT and NO-TOUCH: nothing is ever evicted here, so both hold whatever is asked.
fn switch(_context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if !args.is(2, "on") && !args.is(2, "off") {
        return Err(SYNTAX_ERROR.into());
    }
    reply.simple("OK");
    Ok(())
}
