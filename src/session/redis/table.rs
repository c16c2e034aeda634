//! The one table of commands: what each is called, takes and does, and the function that does it.

use super::blocking_pops;
use super::call::{Entry, Run};
use super::client_commands;
use super::command::{
    Command, EXCLUSIVE, FAST, IMMEDIATE, MEMBERSHIP, ONE_STEP, READ, Right, TYPED, WRITE,
};
use super::counts::CommandCounts;
use super::{
    config, connection, docs, exec, expiry, info, jobs, keyspace, measures, queues, sight, strings,
};
use Run::{Any, Kv as InKv, Queue as InQueue, Queues as InQueues, Subcommands as Has};

impl Default for CommandCounts {
    fn default() -> CommandCounts {
        CommandCounts::new(TABLE.len())
    }
}

const fn command(
    name: &'static str,
    arity: i8,
    keys: (i8, i8, i8),
    rights: &'static [Right],
    flags: u8,
    run: Run,
    (group, summary): (&'static str, &'static str),
) -> Entry {
    Entry { command: Command { name, arity, keys, rights, flags, group, summary, index: 0 }, run }
}

/// Notes in each command where it stands.
const fn numbered<const N: usize>(mut entries: [Entry; N]) -> [Entry; N] {
    let mut index = 0;
    while index < N {
        entries[index].command.index = index;
        index += 1;
    }
    entries
}

const NONE: (i8, i8, i8) = (0, 0, 0);
const ONE: (i8, i8, i8) = (1, 1, 1);
const ALL: (i8, i8, i8) = (1, -1, 1);

const PRODUCE: &[Right] = &[Right::Produce];
const CONSUME: &[Right] = &[Right::Consume];
const MOVE: &[Right] = &[Right::Consume, Right::Produce];
const INSPECT: &[Right] = &[Right::Inspect];
const ADMIN: &[Right] = &[Right::Admin];
/// Only the client's own connection is concerned; of CLIENT, LIST and KILL are about others too.
const OWN: &[Right] = &[];

/// All commands, in the order of their names.
#[rustfmt::skip]
pub(super) static TABLE: &[Entry] = &numbered([
    command("ackjob", -2, NONE, CONSUME, WRITE, InQueues(jobs::ackjob),
        ("jobs", "Remove messages by the ids of their deliveries: the work is done")),
    command("addjob", -4, ONE, PRODUCE, WRITE | FAST, InQueue(jobs::addjob),
        ("jobs", "Push a message and answer its id")),
    command("append", 3, ONE, PRODUCE, WRITE | FAST | TYPED, InKv(strings::append),
        ("string", "Append bytes to a value")),
    command("auth", -2, NONE, OWN, FAST, Any(connection::auth),
        ("connection", "Authenticate; there is no password")),
    command("bspop", -3, (1, -2, 1), CONSUME, WRITE, InQueues(blocking_pops::bspop),
        ("set", "Pop the oldest message of the first queue that has one, or wait for one")),
    command("client", -2, NONE, OWN, 0, Has(client_commands::SUBCOMMANDS),
        ("connection", "Show or change this connection")),
    command("command", -1, NONE, OWN, 0, Has(docs::SUBCOMMANDS),
        ("server", "Describe the commands")),
    command("config", -2, NONE, ADMIN, 0, Has(config::SUBCOMMANDS),
        ("server", "Show what the daemon was started with")),
    command("dbsize", 1, NONE, INSPECT, READ | FAST, Any(keyspace::dbsize),
        ("server", "Count the keys")),
    command("decr", 2, ONE, PRODUCE, WRITE | FAST | TYPED, InKv(strings::decr),
        ("string", "Subtract 1 from a number")),
    command("decrby", 3, ONE, PRODUCE, WRITE | FAST | TYPED, InKv(strings::decrby),
        ("string", "Subtract from a number")),
    command("del", -2, ALL, CONSUME, WRITE | ONE_STEP, Any(keyspace::del),
        ("generic", "Remove queues with all their messages, or values")),
    command("deljob", -2, NONE, CONSUME, WRITE, InQueues(jobs::ackjob),
        ("jobs", "Remove messages by their ids")),
    command("discard", 1, NONE, OWN, FAST | IMMEDIATE, Any(exec::discard),
        ("transactions", "Forget the commands queued since MULTI")),
    command("echo", 2, NONE, OWN, FAST, Any(connection::echo),
        ("connection", "Answer the same bytes")),
    command("enqueue", -2, NONE, CONSUME, WRITE, InQueues(jobs::enqueue),
        ("jobs", "Give messages back, whichever delivery holds them")),
    command("exec", 1, NONE, OWN, EXCLUSIVE | IMMEDIATE, Any(exec::exec),
        ("transactions", "Run the commands queued since MULTI, with no other client's in between")),
    command("exists", -2, ALL, INSPECT, READ | FAST, Any(keyspace::exists),
        ("generic", "Count which of the keys exist")),
    command("expire", -3, ONE, PRODUCE, WRITE | FAST, InKv(expiry::expire),
        ("generic", "Let a value expire after seconds")),
    command("expireat", -3, ONE, PRODUCE, WRITE | FAST, InKv(expiry::expireat),
        ("generic", "Let a value expire at a Unix time")),
    command("expiretime", 2, ONE, INSPECT, READ | FAST, Any(expiry::expiretime),
        ("generic", "Answer the Unix time at which a value expires")),
    command("fastack", -2, NONE, CONSUME, WRITE, InQueues(jobs::ackjob),
        ("jobs", "Do what ACKJOB does")),
    command("flushall", -1, NONE, ADMIN, WRITE | EXCLUSIVE, Any(keyspace::flush),
        ("server", "Remove everything")),
    command("flushdb", -1, NONE, ADMIN, WRITE | EXCLUSIVE, Any(keyspace::flush),
        ("server", "Remove everything")),
    command("get", 2, ONE, INSPECT, READ | FAST | TYPED, InKv(strings::get),
        ("string", "Answer a value")),
    command("getdel", 2, ONE, CONSUME, WRITE | FAST | TYPED, InKv(strings::getdel),
        ("string", "Answer a value and remove it")),
    command("getex", -2, ONE, PRODUCE, WRITE | FAST | TYPED, InKv(expiry::getex),
        ("string", "Answer a value and change when it expires")),
    command("getjob", -3, NONE, CONSUME, WRITE, InQueues(jobs::getjob),
        ("jobs", "Lease the oldest messages")),
    command("getrange", 4, ONE, INSPECT, READ | TYPED, InKv(strings::getrange),
        ("string", "Answer a part of a value")),
    command("getset", 3, ONE, PRODUCE, WRITE | FAST | TYPED, InKv(strings::getset),
        ("string", "Set a value and answer the old one")),
    command("hello", -1, NONE, OWN, FAST, Any(connection::hello),
        ("connection", "Choose the protocol's version")),
    command("incr", 2, ONE, PRODUCE, WRITE | FAST | TYPED, InKv(strings::incr),
        ("string", "Add 1 to a number")),
    command("incrby", 3, ONE, PRODUCE, WRITE | FAST | TYPED, InKv(strings::incrby),
        ("string", "Add to a number")),
    command("incrbyfloat", 3, ONE, PRODUCE, WRITE | FAST | TYPED, InKv(strings::incrbyfloat),
        ("string", "Add to a number with digits behind the point")),
    command("info", -1, NONE, INSPECT, 0, Any(info::info),
        ("server", "Show the daemon in numbers")),
    command("keys", 2, NONE, INSPECT, READ, Any(keyspace::keys),
        ("generic", "List the keys that match a pattern")),
    command("latency", -2, NONE, INSPECT, 0, Has(measures::LATENCY),
        ("server", "Show nothing; no latency is measured")),
    command("mget", -2, ALL, INSPECT, READ | FAST, InKv(strings::mget),
        ("string", "Answer several values")),
    command("mset", -3, (1, -1, 2), PRODUCE, WRITE | EXCLUSIVE, InKv(strings::mset),
        ("string", "Set several values at once")),
    command("msetnx", -3, (1, -1, 2), PRODUCE, WRITE | EXCLUSIVE, InKv(strings::msetnx),
        ("string", "Set several values at once if there is none of them")),
    command("multi", 1, NONE, OWN, FAST | IMMEDIATE, Any(exec::multi),
        ("transactions", "Queue the following commands for EXEC")),
    command("nack", -2, NONE, CONSUME, WRITE, InQueues(jobs::nack),
        ("jobs", "Give messages back, to their places")),
    command("persist", 2, ONE, PRODUCE, WRITE | FAST, InKv(expiry::persist),
        ("generic", "Let a value never expire")),
    command("pexpire", -3, ONE, PRODUCE, WRITE | FAST, InKv(expiry::pexpire),
        ("generic", "Let a value expire after milliseconds")),
    command("pexpireat", -3, ONE, PRODUCE, WRITE | FAST, InKv(expiry::pexpireat),
        ("generic", "Let a value expire at a Unix time in milliseconds")),
    command("pexpiretime", 2, ONE, INSPECT, READ | FAST, Any(expiry::pexpiretime),
        ("generic", "Answer the Unix time in milliseconds at which a value expires")),
    command("ping", -1, NONE, OWN, FAST, Any(connection::ping),
        ("connection", "Answer PONG or the same bytes")),
    command("psetex", 4, ONE, PRODUCE, WRITE, InKv(expiry::psetex),
        ("string", "Set a value that expires after milliseconds")),
    command("pttl", 2, ONE, INSPECT, READ | FAST, Any(expiry::pttl),
        ("generic", "Answer the milliseconds until a value expires")),
    command("qlen", 2, ONE, INSPECT, READ | FAST, InQueue(queues::scard),
        ("jobs", "Count the messages of a queue")),
    command("qpeek", 3, ONE, INSPECT, READ, InQueue(sight::qpeek),
        ("jobs", "Show the oldest or the newest messages of a queue, and their ids")),
    command("qscan", -1, NONE, INSPECT, READ, InQueues(sight::qscan),
        ("jobs", "List the queues page by page, or all that are as long as is asked for")),
    command("qstat", 2, ONE, INSPECT, READ | FAST, InQueues(sight::qstat),
        ("jobs", "Show a queue in numbers")),
    command("quit", -1, NONE, OWN, FAST | IMMEDIATE, Any(connection::quit),
        ("connection", "Close the connection")),
    command("reset", 1, NONE, OWN, FAST | IMMEDIATE, Any(connection::reset),
        ("connection", "Put the connection back to its start")),
    command("sadd", -3, ONE, PRODUCE, WRITE | FAST | MEMBERSHIP, InQueue(queues::sadd),
        ("set", "Push each message that is not in the queue")),
    command("scan", -2, NONE, INSPECT, READ, Any(keyspace::scan),
        ("generic", "List the keys page by page")),
    command("scard", 2, ONE, INSPECT, READ | FAST, InQueue(queues::scard),
        ("set", "Count the messages of a queue")),
    command("select", 2, NONE, OWN, FAST, Any(connection::select),
        ("connection", "Choose database 0, the only one")),
    command("set", -3, ONE, PRODUCE, WRITE, InKv(strings::set),
        ("string", "Set a value")),
    command("setex", 4, ONE, PRODUCE, WRITE, InKv(expiry::setex),
        ("string", "Set a value that expires after seconds")),
    command("setnx", 3, ONE, PRODUCE, WRITE | FAST, InKv(strings::setnx),
        ("string", "Set a value if there is none")),
    command("setrange", 4, ONE, PRODUCE, WRITE | TYPED, InKv(strings::setrange),
        ("string", "Write over a part of a value")),
    command("show", 2, NONE, INSPECT, READ | FAST, InQueues(sight::show),
        ("jobs", "Show a message by the id of a delivery")),
    command("sismember", 3, ONE, INSPECT, READ | FAST | MEMBERSHIP, InQueue(queues::sismember),
        ("set", "Ask whether a message is in a queue")),
    command("slowlog", -2, NONE, INSPECT, 0, Has(measures::SLOWLOG),
        ("server", "Show nothing; no time of a command is measured")),
    command("smembers", 2, ONE, INSPECT, READ, InQueue(queues::smembers),
        ("set", "Show all messages of a queue, oldest first")),
    command("smismember", -3, ONE, INSPECT, READ | FAST | MEMBERSHIP, InQueue(queues::smismember),
        ("set", "Ask which of the messages are in a queue")),
    command("smove", 4, (1, 2, 1), MOVE, WRITE | FAST | MEMBERSHIP, InQueues(queues::smove),
        ("set", "Move one message to another queue")),
    command("spop", -2, ONE, CONSUME, WRITE | FAST, InQueue(queues::spop),
        ("set", "Pop the oldest message, or as many as asked for")),
    command("srandmember", -2, ONE, INSPECT, READ, InQueue(queues::srandmember),
        ("set", "Show the oldest message, or as many as asked for, without popping")),
    command("srem", -3, ONE, CONSUME, WRITE | FAST | MEMBERSHIP, InQueue(queues::srem),
        ("set", "Remove messages by value, wherever they stand")),
    command("sscan", -3, ONE, INSPECT, READ, InQueue(queues::sscan),
        ("set", "Show the messages of a queue page by page, oldest first")),
    command("strlen", 2, ONE, INSPECT, READ | FAST | TYPED, InKv(strings::strlen),
        ("string", "Answer the length of a value")),
    command("time", 1, NONE, OWN, FAST, Any(connection::time),
        ("server", "Answer the time in seconds and microseconds")),
    command("ttl", 2, ONE, INSPECT, READ | FAST, Any(expiry::ttl),
        ("generic", "Answer the seconds until a value expires; a queue never does")),
    command("type", 2, ONE, INSPECT, READ | FAST, Any(keyspace::type_of),
        ("generic", "Answer set for a queue, string for a value, or none")),
    command("unlink", -2, ALL, CONSUME, WRITE | FAST | ONE_STEP, Any(keyspace::del),
        ("generic", "Remove queues with all their messages, or values")),
    command("unwatch", 1, NONE, OWN, FAST, Any(exec::unwatch),
        ("transactions", "Forget the watched keys")),
    command("watch", -2, ALL, INSPECT, FAST | IMMEDIATE, Any(exec::watch),
        ("transactions", "Let EXEC fail if one of the keys changes before it")),
    command("working", 2, NONE, CONSUME, WRITE | FAST, InQueues(jobs::working),
        ("jobs", "Let a lease last as long again from now")),
]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::redis::call::find;

    #[test]
    fn a_command_knows_its_place_and_is_found_by_its_name() {
        for (index, Entry { command, .. }) in TABLE.iter().enumerate() {
            assert_eq!(command.index, index);
            let found = find(TABLE, command.name.to_ascii_uppercase().as_bytes());
            assert!(found.is_some_and(|found| found.command.index == index), "{}", command.name);
        }
    }

    #[test]
    fn what_changes_or_shows_data_takes_a_right() {
        for Entry { command, .. } in TABLE {
            let Command { name, rights, keys: (first, ..), .. } = command;
            let (writes, reads) = (command.has(WRITE), command.has(READ));
            assert_eq!(*rights == OWN, !writes && !reads && *first == 0 && !rights_of_daemon(name));
            assert!(!writes || !rights.contains(&Right::Inspect), "{name} changes data");
            assert!(!reads || *rights == INSPECT, "{name} shows data");
        }
        let rights = |name: &str| find(TABLE, name.as_bytes()).map(|it| it.command.rights);
        for (name, expected) in [
            ("sadd", PRODUCE),
            ("spop", CONSUME),
            ("smove", MOVE),
            ("srandmember", INSPECT),
            ("flushall", ADMIN),
            ("config", ADMIN),
            ("ping", OWN),
        ] {
            assert_eq!(rights(name), Some(expected), "{name}");
        }
    }

    /// Commands that show or change the daemon.
    fn rights_of_daemon(name: &str) -> bool {
        matches!(name, "config" | "info" | "latency" | "slowlog")
    }
}
