//! CLIENT: shows and changes what the daemon remembers of a client.

use super::call::{Call, Subcommand, subcommand};
use super::client::{Replies, check_name};
use super::client_list::{describe, kill, list};
use super::request::{Outcome, Refusal, SYNTAX_ERROR};

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
    subcommand("unblock", -3, unblock, "<id> [TIMEOUT|ERROR]: End a connection's wait."),
];

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

/// CLIENT UNBLOCK id [TIMEOUT|ERROR]: ends a client's wait, as its timeout does or with an error;
/// answers 0 if it does not wait.
fn unblock(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    let with_error = match (args.len(), args.option(3).as_slice()) {
        (3, _) | (4, b"timeout") => false,
        (4, b"error") => true,
        (4, _) => return Err("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR".into()),
        _ => return Err(SYNTAX_ERROR.into()),
    };
    let id = u64::try_from(args.integer(2)?).unwrap_or(0);
    let entry = call.shared.clients.find(id);
    call.reply.count(entry.is_some_and(|entry| entry.unblock(with_error)).into());
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
