//! LATENCY and SLOWLOG, which monitors ask for: no call is timed by itself, so there is nothing to
//! show.

use super::call::{Call, Subcommand, subcommand};
use super::request::{Outcome, Refusal};

pub(super) const LATENCY: &[Subcommand] = &[
    subcommand("histogram", -2, no_pairs, "[<command> ...]: Show nothing."),
    subcommand("history", 3, nothing, "<event>: Show nothing."),
    subcommand("latest", 2, nothing, ": Show nothing; no call is timed by itself."),
    subcommand("reset", -2, none, ": Forget nothing."),
];

pub(super) const SLOWLOG: &[Subcommand] = &[
    subcommand("get", -2, slowest, "[<count>]: Show nothing; no call is timed by itself."),
    subcommand("len", 2, none, ": Answer 0."),
    subcommand("reset", 2, done, ": Forget nothing."),
];

fn nothing(call: &mut Call<'_>) -> Outcome {
    call.reply.array(0);
    Ok(())
}

fn no_pairs(call: &mut Call<'_>) -> Outcome {
    call.reply.map(0);
    Ok(())
}

fn slowest(call: &mut Call<'_>) -> Outcome {
    let args = call.args;
    if args.len() > 3 {
        let before = "ERR unknown subcommand or wrong number of arguments for '";
        return Err(Refusal::quoting(before, args.get(1), "'. Try SLOWLOG HELP."));
    }
    if args.len() == 3 && !args.integer(2).is_ok_and(|count| count >= -1) {
        return Err("ERR count should be greater than or equal to -1".into());
    }
    nothing(call)
}

fn none(call: &mut Call<'_>) -> Outcome {
    call.reply.integer(0);
    Ok(())
}

fn done(call: &mut Call<'_>) -> Outcome {
    call.reply.simple("OK");
    Ok(())
}
