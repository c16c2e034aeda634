//! Commands about the connection itself: PING, ECHO, SELECT, AUTH, HELLO, RESET, QUIT, and TIME.
//!
//! There is one database and no password.

use super::client::protocol_number;
use super::context::Context;
use super::info::REDIS_VERSION;
use super::request::{Args, Outcome, Refusal, SYNTAX_ERROR};
use crate::protocol::number::parse_i64_canonical;
use crate::protocol::resp::{Reply, Version};
use crate::session::Close;

pub(super) fn ping(_context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match args.len() {
        1 => reply.simple("PONG"),
        2 => reply.bulk(args.get(1)),
        _ => return Err(Refusal::arity("ping")),
    }
    Ok(())
}

pub(super) fn echo(_context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.bulk(args.get(1));
    Ok(())
}

pub(super) fn select(_context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.integer(1)? != 0 {
        return Err("ERR DB index is out of range".into());
    }
    reply.simple("OK");
    Ok(())
}

pub(super) fn auth(_context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match args.len() {
        2 => {
            return Err("ERR AUTH <password> called without any password configured for the \
                        default user. Are you sure your configuration is correct?"
                .into());
        }
        3 => check_user(args.get(1))?,
        _ => return Err(SYNTAX_ERROR.into()),
    }
    reply.simple("OK");
    Ok(())
}

/// The default user has no password, so any will do.
fn check_user(user: &[u8]) -> Outcome {
    if user != b"default" {
        return Err("WRONGPASS invalid username-password pair or user is disabled.".into());
    }
    Ok(())
}

/// `HELLO [2|3 [AUTH user password] [SETNAME name]]`: nothing changes unless all of it is right.
pub(super) fn hello(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let version = match (args.len(), parse_i64_canonical(args.get(1))) {
        (1, _) => context.client.version,
        (_, Some(2)) => Version::Resp2,
        (_, Some(3)) => Version::Resp3,
        (_, Some(_)) => return Err("NOPROTO unsupported protocol version".into()),
        (_, None) => {
            return Err("ERR Protocol version is not an integer or out of range".into());
        }
    };
    let mut name = None;
    let mut index = 2;
    while index < args.len() {
        let following = args.len() - index - 1;
        if args.is(index, "auth") && following >= 2 {
            check_user(args.get(index + 1))?;
            index += 3;
        } else if args.is(index, "setname") && following >= 1 {
            name = Some(args.get(index + 1));
            index += 2;
        } else {
            let option = args.get(index);
            return Err(Refusal::quoting("ERR Syntax error in HELLO option '", option, "'"));
        }
    }
    if let Some(name) = name {
        context.client.set_name(name)?;
    }
    context.client.version = version;
    reply.version = version;
    greet(context, reply);
    Ok(())
}

fn greet(context: &Context<'_>, reply: &mut Reply<'_>) {
    reply.map(8);
    let texts = [
        ("server", "redis"),
        ("version", REDIS_VERSION),
        ("mq_version", env!("CARGO_PKG_VERSION")),
        ("mode", "standalone"),
        ("role", "master"),
    ];
    for (name, text) in texts {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(protocol_number(context.client.version).into());
    reply.bulk(b"id");
    reply.integer(context.client.id());
    reply.bulk(b"modules");
    reply.array(0);
}

pub(super) fn reset(context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    context.client.reset();
    reply.version = context.client.version;
    reply.simple("RESET");
    Ok(())
}

pub(super) fn quit(context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    context.close = Some(Close::Quit);
    reply.simple("OK");
    Ok(())
}

/// Seconds and microseconds of Unix time.
pub(super) fn time(context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let since_epoch = context.shared.store.clock().now();
    reply.array(2);
    reply.bulk(since_epoch.as_secs().to_string().as_bytes());
    reply.bulk(since_epoch.subsec_micros().to_string().as_bytes());
    Ok(())
}
