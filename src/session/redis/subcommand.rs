//! Words after CLIENT, COMMAND, CONFIG, LATENCY and SLOWLOG that are commands of their own.

use super::call::{Call, Subcommand};
use super::command::allows;
use super::request::{Args, Outcome, Refusal};
use crate::protocol::resp::Reply;

/// HELP of a command with subcommands.
fn help(container: &str, subcommands: &[Subcommand], reply: &mut Reply) {
    let name = container.to_ascii_uppercase();
    reply.array(subcommands.len() + 2);
    reply.simple(&format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for Subcommand { name, help, .. } in subcommands {
        let space = if help.starts_with(':') { "" } else { " " };
        reply.simple(&format!("{}{space}{help}", name.to_ascii_uppercase()));
    }
    reply.simple("HELP: Print this help.");
}

/// Runs the subcommand that word 1 names.
pub(super) fn run(subcommands: &'static [Subcommand], call: &mut Call<'_>) -> Outcome {
    if is_help(call.args) {
        help(&call.args.name(), subcommands, call.reply);
        return Ok(());
    }
    (find(subcommands, call.args)?.run)(call)
}

/// Refuses a request that names a subcommand which does not exist, or has too few words for it:
/// before it is called, and in a transaction before it is queued.
pub(super) fn check(subcommands: &'static [Subcommand], args: Args<'_>) -> Outcome {
    if is_help(args) { Ok(()) } else { find(subcommands, args).map(drop) }
}

fn is_help(args: Args<'_>) -> bool {
    args.is(1, "help") && args.len() == 2
}

/// The subcommand that word 1 names, if it takes this many words. COMMAND alone, the only one that
/// may stand alone, is COMMAND INFO.
fn find(
    subcommands: &'static [Subcommand],
    args: Args<'_>,
) -> Result<&'static Subcommand, Refusal> {
    let (container, is_alone) = (args.name(), args.len() == 1);
    let is_meant = |known: &&Subcommand| args.is(1, known.name) || is_alone && known.name == "info";
    let Some(subcommand) = subcommands.iter().find(is_meant) else {
        let after = format!("'. Try {} HELP.", container.to_ascii_uppercase());
        return Err(Refusal::quoting("ERR unknown subcommand '", args.get(1), &after));
    };
    if !is_alone && !allows(subcommand.arity, args.len()) {
        return Err(Refusal::arity(&format!("{container}|{}", subcommand.name)));
    }
    Ok(subcommand)
}
