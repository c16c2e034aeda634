//! CLIENT LIST and CLIENT KILL: all connections of the daemon, those over memcached among them.

use super::call::{Call, too_large};
use super::progress::Progress;
use super::request::{Args, Outcome, Refusal, SYNTAX_ERROR};
use crate::memory;
use crate::session::{Activity, ClientEntry, Close};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A client's line of CLIENT LIST, with its end.
pub(super) fn describe(entry: &ClientEntry, uptime: Duration) -> Vec<u8> {
    let Activity { at, command, queued, version } = entry.activity();
    let ClientEntry { id, peer, local, .. } = entry;
    let since = |then: Duration| uptime.saturating_sub(then).as_secs();
    let (age, idle) = (since(entry.connected), since(at));
    let waits_for = entry.waits_for();
    let flags = match (queued, &waits_for) {
        (Some(_), _) => "x",
        (None, Some(_)) => "b",
        (None, None) => "N",
    };
    let waits = waits_for.map_or(String::new(), |queues| format!(" waits={queues}"));
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
        waits.as_bytes(),
        b"\n",
    ]
    .concat()
}

/// CLIENT LIST [TYPE type | ID id ...], the oldest first, or as they are named.
pub(super) fn list(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    let uptime = call.shared.store.clock().uptime();
    call.client.note(uptime);
    if args.is(2, "id") && args.len() > 3 {
        return list_named(call, uptime);
    }
    let is_wanted = match args.len() {
        2 => true,
        4 if args.is(2, "type") => is_normal(args, 3)?,
        _ => return Err(SYNTAX_ERROR.into()),
    };
    let (mut progress, start) = (call.resume(), call.reply.out.len());
    let is_done = !is_wanted
        || each_client(call, &mut progress, |call, entry, progress| {
            let line = describe(entry, uptime);
            let room = call.room().saturating_sub(progress.elements.len() as u64);
            if line.len() as u64 >= room {
                return Err(too_large("ask for fewer clients by ID"));
            }
            memory::append(&mut call.reply.out, &line)?;
            Ok(())
        })?;
    if !is_done {
        return call.pause_list(progress, start);
    }
    let length = progress.elements.len() + call.reply.out.len() - start;
    call.reply.end_verbatim();
    call.end_list(start, progress.elements, |reply| reply.verbatim_head(length));
    Ok(())
}

/// The clients whose numbers stand from word 3 on: a request has few words.
fn list_named(call: &mut Call<'_>, uptime: Duration) -> Outcome {
    let args = call.args;
    let mut text = Vec::new();
    for index in 3..args.len() {
        let id = args.integer(index).map_err(|_| "ERR Invalid client ID")?;
        // No client has a number below 1.
        if let Some(entry) = call.shared.clients.find(u64::try_from(id).unwrap_or(0)) {
            memory::append(&mut text, &describe(&entry, uptime))?;
            call.check_room(text.len() as u64, "ask for fewer clients by ID")?;
        }
        call.turn.budget.spend(CLIENT);
    }
    call.reply.verbatim(&text);
    Ok(())
}

/// What it costs to look at a client and to describe or end it.
const CLIENT: u64 = 8;

/// Does `each` for the clients that are there from the beginning to the end, as far as the turn
/// goes, and returns whether all are done.
fn each_client(
    call: &mut Call<'_>,
    progress: &mut Progress,
    mut each: impl FnMut(&mut Call<'_>, &ClientEntry, &mut Progress) -> Outcome,
) -> Result<bool, Refusal> {
    let clients = Arc::clone(&call.shared.clients);
    if progress.end == 0 {
        progress.end = clients.end();
    }
    loop {
        let page = clients.page(progress.next, progress.end);
        if page.is_empty() {
            return Ok(true);
        }
        for entry in page {
            if call.turn.budget.is_used_up() {
                return Ok(false);
            }
            each(call, &entry, progress)?;
            progress.next = entry.id.saturating_add(1);
            call.turn.budget.spend(CLIENT);
        }
    }
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
pub(super) fn kill(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    let is_old = args.len() == 3;
    let victims = match is_old {
        true => Victims { address: Some(address(args.get(2))), own: true, ..Victims::default() },
        false => Victims::parse(args)?,
    };
    let uptime = call.shared.store.clock().uptime();
    call.check_steps(CLIENT * call.shared.clients.count() as u64)?;
    let mut progress = call.resume();
    let is_done = each_client(call, &mut progress, |call, entry, progress| {
        let is_own = entry.id == call.client.entry.id;
        if victims.contain(entry, uptime) && (victims.own || !is_own) {
            progress.count += 1;
            match is_own {
                true => progress.ends_itself = true,
                false => entry.close(),
            }
        }
        Ok(())
    })?;
    if !is_done {
        return call.pause(progress);
    }
    if progress.ends_itself {
        call.turn.close = Some(Close::Quit);
    }
    match (is_old, progress.count) {
        (true, 0) => return Err("ERR No such client".into()),
        (true, _) => call.reply.simple("OK"),
        (false, count) => call.reply.count(count),
    }
    Ok(())
}
