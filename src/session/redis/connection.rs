//! Commands about the connection itself: PING, ECHO, SELECT, AUTH, HELLO, RESET, QUIT, and TIME.
//!
//! There is one database and no password.

use super::call::Call;
use super::client::protocol_number;
use super::info::REDIS_VERSION;
use super::request::{Outcome, Refusal, SYNTAX_ERROR};
use crate::protocol::number::parse_i64_canonical;
use crate::protocol::resp::Version;
use crate::session::Close;

pub(super) fn ping(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    match args.len() {
        1 => call.reply.simple("PONG"),
        2 => call.reply.bulk(args.get(1)),
        _ => return Err(Refusal::arity("ping")),
    }
    Ok(())
}

pub(super) fn echo(call: &mut Call<'_>) -> Outcome {
    call.reply.bulk(call.args.get(1));
    Ok(())
}

pub(super) fn select(call: &mut Call<'_>) -> Outcome {
    if call.args.integer(1)? != 0 {
        return Err("ERR DB index is out of range".into());
    }
    call.reply.simple("OK");
    Ok(())
}

pub(super) fn auth(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    match args.len() {
        2 => {
            return Err("ERR AUTH <password> called without any password configured for the \
                        default user. Are you sure your configuration is correct?"
                .into());
        }
        3 => check_user(args.get(1))?,
        _ => return Err(SYNTAX_ERROR.into()),
    }
    call.reply.simple("OK");
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
pub(super) fn hello(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    let version = match (args.len(), parse_i64_canonical(args.get(1))) {
        (1, _) => call.client.version,
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
        call.client.set_name(name)?;
    }
    call.client.version = version;
    call.reply.version = version;
    greet(call);
    Ok(())
}

fn greet(call: &mut Call<'_>) {
    let reply = &mut *call.reply;
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
    reply.integer(protocol_number(call.client.version).into());
    reply.bulk(b"id");
    reply.integer(call.client.id());
    reply.bulk(b"modules");
    reply.array(0);
}

pub(super) fn reset(call: &mut Call<'_>) -> Outcome {
    call.client.reset();
    call.reply.version = call.client.version;
    call.reply.simple("RESET");
    Ok(())
}

pub(super) fn quit(call: &mut Call<'_>) -> Outcome {
    call.turn.close = Some(Close::Quit);
    call.reply.simple("OK");
    Ok(())
}

/// Seconds and microseconds of Unix time.
pub(super) fn time(call: &mut Call<'_>) -> Outcome {
    let since_epoch = call.shared.store.clock().now();
    call.reply.array(2);
    call.reply.bulk(since_epoch.as_secs().to_string().as_bytes());
    call.reply.bulk(since_epoch.subsec_micros().to_string().as_bytes());
    Ok(())
}
