//! COMMAND: the table of commands as clients read it.

use super::context::Context;
use super::request::{Args, Outcome, SYNTAX_ERROR};
use super::table::{self, Command, Subcommand, TABLE, run_subcommand, subcommand};
use crate::protocol::resp::Reply;

pub(super) const SUBCOMMANDS: &[Subcommand] = &[
    subcommand("count", 2, count, ": Count the commands."),
    subcommand("docs", -2, docs, "[<name> ...]: Show what commands do."),
    subcommand("getkeys", -3, getkeys, "<command> [<arg> ...]: Show the keys of a command."),
    subcommand("info", -2, info, "[<name> ...]: Show arity, flags and keys of commands."),
    subcommand("list", -2, list, ": Show the names of all commands."),
];

pub(super) fn command(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() == 1 {
        return info(context, args, reply);
    }
    run_subcommand(SUBCOMMANDS, context, args, reply)
}

fn count(_context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(i64::try_from(TABLE.len()).unwrap_or(i64::MAX));
    Ok(())
}

fn list(_context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() > 2 {
        return Err(SYNTAX_ERROR.into());
    }
    reply.array(TABLE.len());
    TABLE.iter().for_each(|command| reply.bulk(command.name.as_bytes()));
    Ok(())
}

const FEWER: &str = "ask for fewer commands";

/// COMMAND INFO [name ...]: null for a name that is no command.
fn info(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() <= 2 {
        reply.array(TABLE.len());
        TABLE.iter().for_each(|command| show_info(command, reply));
        return Ok(());
    }
    reply.array(args.len() - 2);
    for name in args.from(2) {
        context.check_room(reply, 0, FEWER)?;
        match table::find(name) {
            Some(command) => show_info(command, reply),
            None => reply.null(),
        }
    }
    Ok(())
}

fn show_info(command: &Command, reply: &mut Reply<'_>) {
    reply.array(10);
    reply.bulk(command.name.as_bytes());
    reply.integer(command.arity.into());
    let flags = command.flag_names();
    reply.set(flags.clone().count());
    flags.for_each(|flag| reply.simple(flag));
    let (first, last, step) = command.keys;
    [first, last, step].into_iter().for_each(|number| reply.integer(number.into()));
    // Access categories (a set), then tips, key specifications and subcommands (arrays): none.
    reply.set(0);
    (0..3).for_each(|_| reply.array(0));
}

/// COMMAND DOCS [name ...]: names that are no commands are left out.
fn docs(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() == 2 {
        reply.map(TABLE.len());
        TABLE.iter().for_each(|command| show_docs(command, reply));
        return Ok(());
    }
    reply.map(args.from(2).filter_map(table::find).count());
    for command in args.from(2).filter_map(table::find) {
        context.check_room(reply, 0, FEWER)?;
        show_docs(command, reply);
    }
    Ok(())
}

fn show_docs(command: &Command, reply: &mut Reply<'_>) {
    reply.bulk(command.name.as_bytes());
    reply.map(3);
    let texts = [("summary", command.summary), ("since", SINCE), ("group", command.group)];
    for (name, text) in texts {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
}

/// The version that had the command first; all are as old as the daemon.
const SINCE: &str = "0.1.0";

/// COMMAND GETKEYS command [argument ...]
fn getkeys(_context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let command = table::find(args.get(2)).ok_or("ERR Invalid command specified")?;
    if !table::allows(command.arity, args.len() - 2) {
        return Err("ERR Invalid number of arguments specified for command".into());
    }
    let positions = command.key_positions(args.len() - 2);
    if positions.clone().next().is_none() {
        return Err("ERR The command has no key arguments".into());
    }
    reply.array(positions.clone().count());
    positions.for_each(|position| reply.bulk(args.get(position + 2)));
    Ok(())
}
