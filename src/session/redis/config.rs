//! CONFIG: what the daemon was started with, under the names that Redis's clients ask for.
//!
//! Nothing can be changed while it runs.

use super::dispatch::Context;
use super::glob::Glob;
use super::request::{Args, Outcome, Refusal};
use super::table::{Subcommand, run_subcommand};
use crate::protocol::resp::Reply;
use crate::session::Shared;

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand { name: "get", arity: -3, run: get },
    Subcommand { name: "resetstat", arity: 2, run: resetstat },
    Subcommand { name: "rewrite", arity: 2, run: rewrite },
    Subcommand { name: "set", arity: -4, run: set },
];

pub(super) fn config(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    run_subcommand(SUBCOMMANDS, context, args, reply)
}

/// Name and value of each setting, in the order of names.
fn settings(shared: &Shared) -> Vec<(&'static str, String)> {
    let settings = &shared.settings;
    let is_disk = settings.store == "disk";
    let fsync = if settings.fsync == "never" { "no" } else { settings.fsync };
    vec![
        ("appendfsync", fsync.into()),
        ("appendonly", if is_disk { "yes" } else { "no" }.into()),
        ("databases", "1".into()),
        ("dir", settings.directory.clone()),
        ("maxclients", settings.max_clients.to_string()),
        ("maxmemory", settings.max_memory.to_string()),
        ("maxmemory-policy", "noeviction".into()),
        ("port", settings.redis_port.to_string()),
        ("proto-max-bulk-len", shared.max_message.to_string()),
        ("save", String::new()),
        ("timeout", settings.idle_timeout_s.to_string()),
    ]
}

/// CONFIG GET pattern [pattern ...]: each setting once, whichever patterns match it.
fn get(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut chosen = settings(context.shared);
    let patterns: Vec<Vec<u8>> = args.from(2).map(<[u8]>::to_ascii_lowercase).collect();
    let mut kept = Vec::new();
    for (name, value) in chosen.drain(..) {
        for pattern in &patterns {
            if Glob::new(pattern).matches(name.as_bytes())? {
                kept.push((name, value));
                break;
            }
        }
    }
    reply.map(kept.len());
    for (name, value) in kept {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    Ok(())
}

fn set(context: &mut Context<'_>, args: Args<'_>, _reply: &mut Reply<'_>) -> Outcome {
    let name = args.get(2).to_ascii_lowercase();
    if !settings(context.shared).iter().any(|(known, _)| known.as_bytes() == name) {
        let text = "ERR Unknown option or number of arguments for CONFIG SET - '";
        return Err(Refusal::quoting(text, args.get(2), "'"));
    }
    let text = "ERR CONFIG SET failed (possibly related to argument '";
    Err(Refusal::quoting(text, args.get(2), "') - can't set immutable config"))
}

/// The counters count from the start of the daemon, whoever asks; clients that reset them are told
/// that all is well.
fn resetstat(_context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.simple("OK");
    Ok(())
}

fn rewrite(_context: &mut Context<'_>, _args: Args<'_>, _reply: &mut Reply<'_>) -> Outcome {
    Err("ERR The server is running without a config file".into())
}
