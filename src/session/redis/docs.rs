//! COMMAND: the table of commands as clients read it.

use super::call::{Call, Subcommand, find, subcommand};
use super::command::{Command, allows};
use super::request::{Outcome, SYNTAX_ERROR};
use crate::protocol::resp::Reply;

pub(super) const SUBCOMMANDS: &[Subcommand] = &[
    subcommand("count", 2, count, ": Count the commands."),
    subcommand("docs", -2, docs, "[<name> ...]: Show what commands do."),
    subcommand("getkeys", -3, getkeys, "<command> [<arg> ...]: Show the keys of a command."),
    subcommand("info", -2, info, "[<name> ...]: Show arity, flags and keys of commands."),
    subcommand("list", -2, list, ": Show the names of all commands."),
];

fn count(call: &mut Call<'_>) -> Outcome {
    call.reply.count(call.turn.table.len() as u64);
    Ok(())
}

fn list(call: &mut Call<'_>) -> Outcome {
    if call.args.len() > 2 {
        return Err(SYNTAX_ERROR.into());
    }
    let table = call.turn.table;
    call.reply.array(table.len());
    table.iter().for_each(|entry| call.reply.bulk(entry.command.name.as_bytes()));
    Ok(())
}

const FEWER: &str = "ask for fewer commands";

/// COMMAND INFO [name ...]: null for a name that is no command.
fn info(call: &mut Call<'_>) -> Outcome {
    let (args, table) = (call.args, call.turn.table);
    if args.len() <= 2 {
        call.reply.array(table.len());
        table.iter().for_each(|entry| show_info(&entry.command, call.reply));
        return Ok(());
    }
    call.reply.array(args.len() - 2);
    for name in args.from(2) {
        call.check_room(0, FEWER)?;
        match find(table, name) {
            Some(entry) => show_info(&entry.command, call.reply),
            None => call.reply.null(),
        }
    }
    Ok(())
}

fn show_info(command: &Command, reply: &mut Reply) {
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
fn docs(call: &mut Call<'_>) -> Outcome {
    let (args, table) = (call.args, call.turn.table);
    if args.len() == 2 {
        call.reply.map(table.len());
        table.iter().for_each(|entry| show_docs(&entry.command, call.reply));
        return Ok(());
    }
    let named = args.from(2).filter_map(|name| find(table, name));
    call.reply.map(named.clone().count());
    for entry in named {
        call.check_room(0, FEWER)?;
        show_docs(&entry.command, call.reply);
    }
    Ok(())
}

fn show_docs(command: &Command, reply: &mut Reply) {
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
fn getkeys(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    let entry = find(call.turn.table, args.get(2)).ok_or("ERR Invalid command specified")?;
    let command = &entry.command;
    if !allows(command.arity, args.len() - 2) {
        return Err("ERR Invalid number of arguments specified for command".into());
    }
    let keys = command.keys_behind(args, 2);
    if keys.clone().next().is_none() {
        return Err("ERR The command has no key arguments".into());
    }
    call.reply.array(keys.clone().count());
    keys.for_each(|key| call.reply.bulk(key));
    Ok(())
}
