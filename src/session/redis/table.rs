//! The one table of commands: what each is called, takes and does.
//!
//! Arity counts the command's name; a negative one is a minimum. Keys are the first and the last
//! position and the step between them; a negative last position counts from the end.

use super::call::Call;
use super::request::{Args, Outcome, Refusal};
use super::transaction;
use super::{
    client, config, connection, docs, expiry, info, jobs, keyspace, measures, queues, strings,
};
use crate::protocol::resp::Reply;
use crate::session::budget;
use Run::{Any, Kv as InKv, Queue as InQueue, Queues as InQueues};
use std::cmp::Ordering;

/// Executes a command.
pub(super) type Handler = fn(&mut Call<'_>) -> Outcome;

/// A command's function, and by its kind the store that it needs.
pub(super) enum Run {
    Any(Handler),
    /// Works on the one queue that word 1 names.
    Queue(Handler),
    Queues(Handler),
    Kv(Handler),
}

/// One command.
pub(super) struct Command {
    /// In small letters.
    pub name: &'static str,
    pub arity: i8,
    pub keys: (i8, i8, i8),
    pub run: Run,
    flags: u8,
    /// The group and the summary that COMMAND DOCS shows.
    pub group: &'static str,
    pub summary: &'static str,
}

/// What it costs to describe the daemon, its commands or its clients.
const DESCRIPTION: u64 = 1000;

/// The most words of a request without a list of keys or messages, which is read in one turn, and
/// whose reply is made in it.
const OPTION_WORDS: usize = 1024;

/// The most words of a request that sets values: 50,000 of them, all in one moment.
const PAIRS_WORDS: usize = 100_001;

/// It changes data.
pub(super) const WRITE: u8 = 1;
/// It reads data.
const READ: u8 = 2;
/// Its time does not grow with the data.
pub(super) const FAST: u8 = 4;
/// It asks whether a message is in the queues that its keys name.
pub(super) const MEMBERSHIP: u8 = 8;
/// No other command runs beside it.
pub(super) const EXCLUSIVE: u8 = 16;
/// Redis refuses it where a value of another type is.
pub(super) const TYPED: u8 = 64;
/// With several keys it is one step, and no other command runs beside it.
pub(super) const ONE_STEP: u8 = 128;
/// In a transaction it runs at once instead of being queued.
pub(super) const IMMEDIATE: u8 = 32;

impl Command {
    /// Whether the command has this flag.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Steps that a request costs whatever is in the store: its words, or what the daemon gathers
    /// to describe itself.
    pub fn steps(&self, args: Args<'_>) -> u64 {
        if self.is_description() { DESCRIPTION } else { budget::LOOK * args.len() as u64 }
    }

    /// Whether it shows or changes the daemon or its clients, and no data.
    pub fn is_description(&self) -> bool {
        self.flags == 0
    }

    /// The most words of a request; of a list of keys or messages the bytes are the limit.
    pub fn most_words(&self) -> usize {
        match self.keys {
            (_, -1, 2) => PAIRS_WORDS,
            (_, -1, _) => usize::MAX,
            _ if self.has(MEMBERSHIP) => usize::MAX,
            _ => OPTION_WORDS,
        }
    }

    /// Whether it changes queues that are known only when it runs: those of the ids in it.
    pub fn has_hidden_keys(&self) -> bool {
        self.has(WRITE) && self.keys == NONE && !self.has(EXCLUSIVE)
    }

    /// The flags that COMMAND INFO shows.
    pub fn flag_names(&self) -> impl Iterator<Item = &'static str> + Clone {
        let flags = self.flags;
        let named = [(WRITE, "write"), (READ, "readonly"), (FAST, "fast")];
        named.into_iter().filter(move |(flag, _)| flags & flag != 0).map(|(_, name)| name)
    }

    /// Positions of the keys in a request of `len` words.
    pub fn key_positions(&self, len: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        let (first, last, step) = self.keys;
        let (first, step) = (first.unsigned_abs().into(), step.unsigned_abs().into());
        let end = match usize::try_from(last) {
            Ok(last) => last + 1,
            Err(_) => (len + 1).saturating_sub(last.unsigned_abs().into()),
        };
        // Position 0 is the command's name: a command without keys has 0 for the first.
        let end = if first == 0 { 0 } else { end.min(len) };
        (first..end).step_by(std::cmp::max(step, 1))
    }

    /// The keys of a request.
    pub fn keys<'a>(&self, args: Args<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.key_positions(args.len()).map(move |position| args.get(position))
    }
}

/// Whether a request of `len` words has the arity.
pub(super) fn allows(arity: i8, len: usize) -> bool {
    let words = usize::from(arity.unsigned_abs());
    if arity < 0 { len >= words } else { len == words }
}

/// The command of this name, in capitals or not.
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    let index = TABLE.binary_search_by(|command| compare(command.name, name)).ok()?;
    TABLE.get(index)
}

fn compare(known: &str, name: &[u8]) -> Ordering {
    known.bytes().cmp(name.iter().map(u8::to_ascii_lowercase))
}

/// A word after CLIENT, COMMAND or CONFIG that is a command of its own.
pub(super) struct Subcommand {
    pub name: &'static str,
    /// Counts both names.
    pub arity: i8,
    pub run: Handler,
    /// What it takes and does, one line for HELP.
    pub help: &'static str,
}

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
pub(super) fn run_subcommand(subcommands: &'static [Subcommand], call: &mut Call<'_>) -> Outcome {
    if is_help(call.args) {
        help(&call.args.name(), subcommands, call.reply);
        return Ok(());
    }
    (find_subcommand(subcommands, call.args)?.run)(call)
}

fn is_help(args: Args<'_>) -> bool {
    args.is(1, "help") && args.len() == 2
}

/// The subcommand that word 1 names, if it takes this many words.
fn find_subcommand(
    subcommands: &'static [Subcommand],
    args: Args<'_>,
) -> Result<&'static Subcommand, Refusal> {
    let container = args.name();
    let Some(subcommand) = subcommands.iter().find(|known| args.is(1, known.name)) else {
        let after = format!("'. Try {} HELP.", container.to_ascii_uppercase());
        return Err(Refusal::quoting("ERR unknown subcommand '", args.get(1), &after));
    };
    if !allows(subcommand.arity, args.len()) {
        return Err(Refusal::arity(&format!("{container}|{}", subcommand.name)));
    }
    Ok(subcommand)
}

/// Refuses a request that names a subcommand which does not exist, or has too few words for it:
/// before it is called, and in a transaction before it is queued.
pub(super) fn check_subcommand(command: &Command, args: Args<'_>) -> Outcome {
    let subcommands = match command.name {
        "client" => client::SUBCOMMANDS,
        "command" if args.len() > 1 => docs::SUBCOMMANDS,
        "config" => config::SUBCOMMANDS,
        "latency" => measures::LATENCY,
        "slowlog" => measures::SLOWLOG,
        _ => return Ok(()),
    };
    if is_help(args) {
        return Ok(());
    }
    find_subcommand(subcommands, args).map(drop)
}

pub(super) const fn subcommand(
    name: &'static str,
    arity: i8,
    run: Handler,
    help: &'static str,
) -> Subcommand {
    Subcommand { name, arity, run, help }
}

const fn command(
    name: &'static str,
    arity: i8,
    keys: (i8, i8, i8),
    flags: u8,
    run: Run,
    group: &'static str,
    summary: &'static str,
) -> Command {
    Command { name, arity, keys, run, flags, group, summary }
}

const NONE: (i8, i8, i8) = (0, 0, 0);
const ONE: (i8, i8, i8) = (1, 1, 1);
const ALL: (i8, i8, i8) = (1, -1, 1);

/// All commands, in the order of their names.
#[rustfmt::skip]
pub(super) static TABLE: &[Command] = &[
    command("ackjob", -2, NONE, WRITE, InQueues(jobs::ackjob),
        "jobs", "Remove messages by the ids of their deliveries: the work is done"),
    command("addjob", -4, ONE, WRITE | FAST, InQueue(jobs::addjob),
        "jobs", "Push a message and answer its id"),
    command("append", 3, ONE, WRITE | FAST | TYPED, InKv(strings::append),
        "string", "Append bytes to a value"),
    command("auth", -2, NONE, FAST, Any(connection::auth),
        "connection", "Authenticate; there is no password"),
    command("client", -2, NONE, 0, Any(client::client),
        "connection", "Show or change this connection"),
    command("command", -1, NONE, 0, Any(docs::command),
        "server", "Describe the commands"),
    command("config", -2, NONE, 0, Any(config::config),
        "server", "Show what the daemon was started with"),
    command("dbsize", 1, NONE, READ | FAST, Any(keyspace::dbsize),
        "server", "Count the keys"),
    command("decr", 2, ONE, WRITE | FAST | TYPED, InKv(strings::decr),
        "string", "Subtract 1 from a number"),
    command("decrby", 3, ONE, WRITE | FAST | TYPED, InKv(strings::decrby),
        "string", "Subtract from a number"),
    command("del", -2, ALL, WRITE | ONE_STEP, Any(keyspace::del),
        "generic", "Remove queues with all their messages, or values"),
    command("deljob", -2, NONE, WRITE, InQueues(jobs::ackjob),
        "jobs", "Remove messages by their ids"),
    command("discard", 1, NONE, FAST | IMMEDIATE, Any(transaction::discard),
        "transactions", "Forget the commands queued since MULTI"),
    command("echo", 2, NONE, FAST, Any(connection::echo),
        "connection", "Answer the same bytes"),
    command("enqueue", -2, NONE, WRITE, InQueues(jobs::enqueue),
        "jobs", "Give messages back, whichever delivery holds them"),
    command("exec", 1, NONE, EXCLUSIVE | IMMEDIATE, Any(transaction::exec),
        "transactions", "Run the commands queued since MULTI, with no other client's in between"),
    command("exists", -2, ALL, READ | FAST, Any(keyspace::exists),
        "generic", "Count which of the keys exist"),
    command("expire", -3, ONE, WRITE | FAST, InKv(expiry::expire),
        "generic", "Let a value expire after seconds"),
    command("expireat", -3, ONE, WRITE | FAST, InKv(expiry::expireat),
        "generic", "Let a value expire at a Unix time"),
    command("expiretime", 2, ONE, READ | FAST, Any(expiry::expiretime),
        "generic", "Answer the Unix time at which a value expires"),
    command("fastack", -2, NONE, WRITE, InQueues(jobs::ackjob),
        "jobs", "Do what ACKJOB does"),
    command("flushall", -1, NONE, WRITE | EXCLUSIVE, Any(keyspace::flush),
        "server", "Remove everything"),
    command("flushdb", -1, NONE, WRITE | EXCLUSIVE, Any(keyspace::flush),
        "server", "Remove everything"),
    command("get", 2, ONE, READ | FAST | TYPED, InKv(strings::get),
        "string", "Answer a value"),
    command("getdel", 2, ONE, WRITE | FAST | TYPED, InKv(strings::getdel),
        "string", "Answer a value and remove it"),
    command("getex", -2, ONE, WRITE | FAST | TYPED, InKv(expiry::getex),
        "string", "Answer a value and change when it expires"),
    command("getjob", -3, NONE, WRITE, InQueues(jobs::getjob),
        "jobs", "Lease the oldest messages"),
    command("getrange", 4, ONE, READ | TYPED, InKv(strings::getrange),
        "string", "Answer a part of a value"),
    command("getset", 3, ONE, WRITE | FAST | TYPED, InKv(strings::getset),
        "string", "Set a value and answer the old one"),
    command("hello", -1, NONE, FAST, Any(connection::hello),
        "connection", "Choose the protocol's version"),
    command("incr", 2, ONE, WRITE | FAST | TYPED, InKv(strings::incr),
        "string", "Add 1 to a number"),
    command("incrby", 3, ONE, WRITE | FAST | TYPED, InKv(strings::incrby),
        "string", "Add to a number"),
    command("incrbyfloat", 3, ONE, WRITE | FAST | TYPED, InKv(strings::incrbyfloat),
        "string", "Add to a number with digits behind the point"),
    command("info", -1, NONE, 0, Any(info::info),
        "server", "Show the daemon in numbers"),
    command("keys", 2, NONE, READ, Any(keyspace::keys),
        "generic", "List the keys that match a pattern"),
    command("latency", -2, NONE, 0, Any(measures::latency),
        "server", "Show nothing; no latency is measured"),
    command("mget", -2, ALL, READ | FAST, InKv(strings::mget),
        "string", "Answer several values"),
    command("mset", -3, (1, -1, 2), WRITE | EXCLUSIVE, InKv(strings::mset),
        "string", "Set several values at once"),
    command("msetnx", -3, (1, -1, 2), WRITE | EXCLUSIVE, InKv(strings::msetnx),
        "string", "Set several values at once if there is none of them"),
    command("multi", 1, NONE, FAST | IMMEDIATE, Any(transaction::multi),
        "transactions", "Queue the following commands for EXEC"),
    command("nack", -2, NONE, WRITE, InQueues(jobs::nack),
        "jobs", "Give messages back, to their places"),
    command("persist", 2, ONE, WRITE | FAST, InKv(expiry::persist),
        "generic", "Let a value never expire"),
    command("pexpire", -3, ONE, WRITE | FAST, InKv(expiry::pexpire),
        "generic", "Let a value expire after milliseconds"),
    command("pexpireat", -3, ONE, WRITE | FAST, InKv(expiry::pexpireat),
        "generic", "Let a value expire at a Unix time in milliseconds"),
    command("pexpiretime", 2, ONE, READ | FAST, Any(expiry::pexpiretime),
        "generic", "Answer the Unix time in milliseconds at which a value expires"),
    command("ping", -1, NONE, FAST, Any(connection::ping),
        "connection", "Answer PONG or the same bytes"),
    command("psetex", 4, ONE, WRITE, InKv(expiry::psetex),
        "string", "Set a value that expires after milliseconds"),
    command("pttl", 2, ONE, READ | FAST, Any(expiry::pttl),
        "generic", "Answer the milliseconds until a value expires"),
    command("qlen", 2, ONE, READ | FAST, InQueue(queues::scard),
        "jobs", "Count the messages of a queue"),
    command("quit", -1, NONE, FAST | IMMEDIATE, Any(connection::quit),
        "connection", "Close the connection"),
    command("reset", 1, NONE, FAST | IMMEDIATE, Any(connection::reset),
        "connection", "Put the connection back to its start"),
    command("sadd", -3, ONE, WRITE | FAST | MEMBERSHIP, InQueue(queues::sadd),
        "set", "Push each message that is not in the queue"),
    command("scan", -2, NONE, READ, Any(keyspace::scan),
        "generic", "List the keys page by page"),
    command("scard", 2, ONE, READ | FAST, InQueue(queues::scard),
        "set", "Count the messages of a queue"),
    command("select", 2, NONE, FAST, Any(connection::select),
        "connection", "Choose database 0, the only one"),
    command("set", -3, ONE, WRITE, InKv(strings::set),
        "string", "Set a value"),
    command("setex", 4, ONE, WRITE, InKv(expiry::setex),
        "string", "Set a value that expires after seconds"),
    command("setnx", 3, ONE, WRITE | FAST, InKv(strings::setnx),
        "string", "Set a value if there is none"),
    command("setrange", 4, ONE, WRITE | TYPED, InKv(strings::setrange),
        "string", "Write over a part of a value"),
    command("sismember", 3, ONE, READ | FAST | MEMBERSHIP, InQueue(queues::sismember),
        "set", "Ask whether a message is in a queue"),
    command("slowlog", -2, NONE, 0, Any(measures::slowlog),
        "server", "Show nothing; no time of a command is measured"),
    command("smembers", 2, ONE, READ, InQueue(queues::smembers),
        "set", "Show all messages of a queue, oldest first"),
    command("smismember", -3, ONE, READ | FAST | MEMBERSHIP, InQueue(queues::smismember),
        "set", "Ask which of the messages are in a queue"),
    command("smove", 4, (1, 2, 1), WRITE | FAST | MEMBERSHIP, InQueues(queues::smove),
        "set", "Move one message to another queue"),
    command("spop", -2, ONE, WRITE | FAST, InQueue(queues::spop),
        "set", "Pop the oldest message, or as many as asked for"),
    command("srandmember", -2, ONE, READ, InQueue(queues::srandmember),
        "set", "Show the oldest message, or as many as asked for, without popping"),
    command("srem", -3, ONE, WRITE | FAST | MEMBERSHIP, InQueue(queues::srem),
        "set", "Remove messages by value, wherever they stand"),
    command("sscan", -3, ONE, READ, InQueue(queues::sscan),
        "set", "Show the messages of a queue page by page, oldest first"),
    command("strlen", 2, ONE, READ | FAST | TYPED, InKv(strings::strlen),
        "string", "Answer the length of a value"),
    command("time", 1, NONE, FAST, Any(connection::time),
        "server", "Answer the time in seconds and microseconds"),
    command("ttl", 2, ONE, READ | FAST, Any(expiry::ttl),
        "generic", "Answer the seconds until a value expires; a queue never does"),
    command("type", 2, ONE, READ | FAST, Any(keyspace::type_of),
        "generic", "Answer set for a queue, string for a value, or none"),
    command("unlink", -2, ALL, WRITE | FAST | ONE_STEP, Any(keyspace::del),
        "generic", "Remove queues with all their messages, or values"),
    command("unwatch", 1, NONE, FAST, Any(transaction::unwatch),
        "transactions", "Forget the watched keys"),
    command("watch", -2, ALL, FAST | IMMEDIATE, Any(transaction::watch),
        "transactions", "Let EXEC fail if one of the keys changes before it"),
    command("working", 2, NONE, WRITE | FAST, InQueues(jobs::working),
        "jobs", "Let a lease last as long again from now"),
];
