//! CLIENT LIST and CLIENT KILL: all connections of the daemon, those over memcached among them.

use super::context::Context;
use super::request::{Args, Outcome, Refusal, SYNTAX_ERROR};
use crate::memory;
use crate::protocol::resp::Reply;
use crate::session::{Activity, ClientEntry, Close};
use std::net::SocketAddr;
use std::time::Duration;

/// A client's line of CLIENT LIST, with its end.
pub(super) fn describe(entry: &ClientEntry, uptime: Duration) -> Vec<u8> {
    let Activity { at, command, queued, version } = entry.activity();
    let ClientEntry { id, peer, local, .. } = entry;
    let since = |then: Duration| uptime.saturating_sub(then).as_secs();
    let (age, idle) = (since(entry.connected), since(at));
    let flags = if queued.is_some() { "x" } else { "N" };
    let multi = queued.map_or("-1".to_owned(), |queued| queued.to_string());
    let names = entry.names();
    [
        format!("id={id} addr={peer} laddr={local} name=").as_bytes(),
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

/// CLIENT LIST [TYPE type | ID id ...], the oldest first.
pub(super) fn list(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut ids = Vec::new();
    let mut wants_all = args.len() == 2;
    if args.is(2, "type") && args.len() == 4 {
        wants_all = is_normal(args, 3)?;
    } else if args.is(2, "id") && args.len() > 3 {
        for index in 3..args.len() {
            memory::reserve(&mut ids, 1)?;
            let id = args.integer(index).map_err(|_| "ERR Invalid client ID")?;
            // No client has a number below 1.
            ids.push(u64::try_from(id).unwrap_or(0));
        }
    } else if args.len() > 2 {
        return Err(SYNTAX_ERROR.into());
    }
    ids.sort_unstable();
    let uptime = context.shared.store.clock().uptime();
    context.client.note(uptime);
    let mut text = Vec::new();
    for entry in context.shared.clients.all() {
        if wants_all || ids.binary_search(&entry.id).is_ok() {
            memory::append(&mut text, &describe(&entry, uptime))?;
            context.check_room(reply, text.len() as u64, "ask for fewer clients by ID")?;
        }
    }
    reply.verbatim(&text);
    Ok(())
}

/// Whether clients of the type in word `index` are those that there are: all are normal.
fn is_normal(args: Args<'_>, index: usize) -> Result<bool, Refusal> {
    match args.option(index).as_slice() {
        b"normal" => Ok(true),
        b"master" | b"slave" | b"replica" | b"pubsub" => Ok(false),
        _ => Err(Refusal::quoting("ERR Unknown client type '", args.get(index), "'")),
    }
}

fn client_id(args: Args<'_>, index: usize, refusal: &'static str) -> Result<u64, Refusal> {
    let id = args.integer(index).ok().and_then(|id| u64::try_from(id).ok());
    id.filter(|id| *id > 0).ok_or(refusal.into())
}

/// Which clients CLIENT KILL ends: those that meet all conditions.
#[derive(Default)]
struct Victims {
    id: Option<u64>,
    address: Option<Address>,
    local: Option<Address>,
    /// Seconds since they connected, at least.
    age: Option<u64>,
    /// A type that no client here has was asked for.
    none: bool,
    /// The one that asks, too.
    own: bool,
}

impl Victims {
    /// The options of CLIENT KILL, from word 2 on.
    fn parse(args: Args<'_>) -> Result<Victims, Refusal> {
        let mut victims = Victims::default();
        if args.len().is_multiple_of(2) {
            for index in (2..args.len()).step_by(2) {
                victims.restrict(args, index)?;
            }
            return Ok(victims);
        }
        Err(SYNTAX_ERROR.into())
    }

    fn restrict(&mut self, args: Args<'_>, index: usize) -> Outcome {
        let value = args.get(index + 1);
        match args.option(index).as_slice() {
            b"id" => {
                let refusal = "ERR client-id should be greater than 0";
                self.id = Some(client_id(args, index + 1, refusal)?);
            }
            b"addr" => self.address = Some(address(value)),
            b"laddr" => self.local = Some(address(value)),
            b"type" => self.none |= !is_normal(args, index + 1)?,
            b"user" if value == b"default" => {}
            b"user" => return Err(Refusal::quoting("ERR No such user '", value, "'")),
            b"maxage" => self.age = Some(client_id(args, index + 1, NOT_AN_AGE)?),
            b"skipme" if args.is(index + 1, "yes") => self.own = false,
            b"skipme" if args.is(index + 1, "no") => self.own = true,
            _ => return Err(SYNTAX_ERROR.into()),
        }
        Ok(())
    }

    fn contain(&self, entry: &ClientEntry, uptime: Duration) -> bool {
        !self.none
            && self.id.is_none_or(|id| id == entry.id)
            && self.address.is_none_or(|address| address == Some(entry.peer))
            && self.local.is_none_or(|address| address == Some(entry.local))
            && self.age.is_none_or(|age| uptime.saturating_sub(entry.connected).as_secs() >= age)
    }
}

/// An address as a client gives it; `None` if it is none, and so nobody's.
type Address = Option<SocketAddr>;

fn address(word: &[u8]) -> Address {
    str::from_utf8(word).ok()?.parse().ok()
}

const NOT_AN_AGE: &str = "ERR maxage is not an integer or out of range";

/// `CLIENT KILL address`, or with conditions, and then the answer is how many were ended. The one
/// that asks gets its reply first.
pub(super) fn kill(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let is_old = args.len() == 3;
    let victims = match is_old {
        true => Victims { address: Some(address(args.get(2))), own: true, ..Victims::default() },
        false => Victims::parse(args)?,
    };
    let uptime = context.shared.store.clock().uptime();
    let mut count = 0;
    for entry in context.shared.clients.all() {
        let is_own = entry.id == context.client.entry.id;
        if !victims.contain(&entry, uptime) || (is_own && !victims.own) {
            continue;
        }
        count += 1;
        match is_own {
            true => context.close = Some(Close::Quit),
            false => entry.close(),
        }
    }
    match (is_old, count) {
        (true, 0) => return Err("ERR No such client".into()),
        (true, _) => reply.simple("OK"),
        (false, count) => reply.integer(count),
    }
    Ok(())
}
