//! LATENCY and SLOWLOG, which monitors ask for: nothing is measured, so there is nothing to show.

use super::context::Context;
use super::request::{Args, Outcome};
use super::table::{Subcommand, run_subcommand, subcommand};
use crate::protocol::resp::Reply;

pub(super) const LATENCY: &[Subcommand] = &[
    subcommand("latest", 2, nothing, ": Show nothing; no latency is measured."),
    subcommand("reset", -2, none, ": Forget nothing."),
];

pub(super) const SLOWLOG: &[Subcommand] = &[
    subcommand("get", -2, nothing, "[<count>]: Show nothing; no time of a command is measured."),
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

fn none(_context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(0);
    Ok(())
}

fn done(_context: &mut Context<'_>, _args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.simple("OK");
    Ok(())
}
