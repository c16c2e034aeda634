//! LATENCY and SLOWLOG, which monitors ask for: nothing is measured, so there is nothing to show.

use super::context::Context;
use super::request::{Args, Outcome, Refusal};
use super::table::{Subcommand, run_subcommand, subcommand};
use crate::protocol::resp::Reply;

pub(super) const LATENCY: &[Subcommand] = &[
    subcommand("histogram", -2, no_pairs, "[<command> ...]: Show nothing."),
    subcommand("history", 3, nothing, "<event>: Show nothing."),
    subcommand("latest", 2, nothing, ": Show nothing; no latency is measured."),
    subcommand("reset", -2, none, ": Forget nothing."),
];

pub(super) const SLOWLOG: &[Subcommand] = &[
    subcommand("get", -2, slowest, "[<count>]: Show nothing; no time of a command is measured."),
    subcommand("len", 2, none, ": Answer 0."),
    subcommand("reset", 2, done, ": Forget nothing."),
];

pub(super) fn latency(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    run_subcommand(LATENCY, context, args, reply)
}

pub(super) fn slowlog(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    run_subcommand(SLOWLOG, context, args, reply)
}

fn nothing(_context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.array(0);
    Ok(())
}

fn no_pairs(_context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.map(0);
    Ok(())
}

fn slowest(context: &mut Context<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() > 3 {
        let before = "ERR unknown subcommand or wrong number of arguments for '";
        return Err(Refusal::quoting(before, args.get(1), "'. Try SLOWLOG HELP."));
    }
    if args.len() == 3 && !args.integer(2).is_ok_and(|count| count >= -1) {
        return Err("ERR count should be greater than or equal to -1".into());
    }
    nothing(context, args, reply)
}

fn none(_context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(0);
    Ok(())
}

fn done(_context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.simple("OK");
    Ok(())
}
