//! What clients of every kind get from the server, over real sockets: limits, timeouts, slow
//! readers, strangers, and requests of every size.

use crate::common::{Client, Daemon, GUARD, request};
use rustix::process::Signal;
use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

const MIB: usize = 1 << 20;

fn both(daemon: &Daemon) -> [(Client, &'static str, &'static str); 2] {
    [(daemon.redis(), "PING\r\n", "+PONG\r\n"), (daemon.memcached(), "get nothing\r\n", "END\r\n")]
}

#[test]
fn one_client_too_many_gets_its_protocols_error_and_the_end() {
    let daemon = Daemon::start("--store kv --max-clients 2");
    let [(mut redis, ping, pong), (mut memcached, get, end)] = both(&daemon);
    redis.ask(ping, pong);
    memcached.ask(get, end);
    for _ in 0..3 {
        let mut refused = daemon.redis();
        refused.expect("-ERR max number of clients reached\r\n");
        refused.expect_end();
        let mut refused = daemon.memcached();
        refused.expect("SERVER_ERROR too many open connections\r\n");
        refused.expect_end();
    }
    redis.ask(ping, pong);
    memcached.ask("quit\r\n", "");
    memcached.expect_end();
    // The place is free a moment after the client has seen the end.
    loop {
        let mut next = daemon.redis();
        next.send(ping);
        match next.read(1)[..] {
            [b'+'] => break next.expect("PONG\r\n"),
            _ => next.expect("ERR max number of clients reached\r\n"),
        }
    }
}

#[test]
fn idle_clients_are_closed_and_busy_ones_are_not() {
    let daemon = Daemon::start("--store kv --idle-timeout 1");
    let mut idle = both(&daemon).map(|(client, _, _)| client);
    let watching = thread::spawn(move || idle.iter_mut().for_each(Client::expect_end));
    let [(mut redis, ping, pong), (mut memcached, get, end)] = both(&daemon);
    while !watching.is_finished() {
        redis.ask(ping, pong);
        memcached.ask(get, end);
        thread::sleep(std::time::Duration::from_millis(50));
    }
    watching.join().expect("idle clients see the end");
    redis.ask(ping, pong);
    memcached.ask(get, end);
}

/// Without it a client whose machine has vanished would hold its place for ever.
#[test]
fn the_kernel_looks_after_connections_that_are_silent() {
    let daemon = Daemon::start("--store kv");
    for (mut client, question, answer) in both(&daemon) {
        client.ask(question, answer);
        let port = |address: SocketAddr| format!("0100007F:{:04X}", address.port());
        let (local, peer) = client.addresses();
        let wanted = [port(peer), port(local)];
        // The daemon's end: its timer may be that of the reply, until that has been acknowledged.
        let timer = || {
            let table = std::fs::read_to_string("/proc/net/tcp").expect("a table of sockets");
            let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
            let mut found = rows.filter(|row| row.len() > 5 && row[1..3] == wanted);
            found.next().map(|row| row[5][..2].to_owned())
        };
        let start = Instant::now();
        while timer().as_deref() != Some("02") {
            assert!(start.elapsed() < GUARD, "{:?} is no timer of keepalive", timer());
            thread::yield_now();
        }
    }
}

/// The disk store does not count what its bookkeeping takes: there it is the process's own memory.
#[test]
fn monitors_see_the_memory_of_every_store() {
    for (store, push) in [("disk", "SADD"), ("memory", "SADD"), ("kv", "APPEND")] {
        let daemon = Daemon::start(&format!("--store {store}"));
        let mut client = daemon.redis();
        client.ask(format!("{push} q m\r\nINFO memory\r\n"), ":1\r\n");
        let mut lines = std::iter::repeat_with(|| client.read_line());
        for name in ["used_memory:", "used_memory_rss:"] {
            let bytes = lines.find_map(|line| line.strip_prefix(name)?.parse().ok());
            assert!(bytes.is_some_and(|bytes: u64| bytes > 0), "{store}: {name}{bytes:?}");
        }
    }
}

/// glibc reserves 64 MiB for each heap but the first.
#[test]
fn many_clients_share_one_heap() {
    let daemon = Daemon::start("--store memory");
    let mut clients: Vec<Client> = (0..20).map(|_| daemon.redis()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.ask(format!("SADD q {number}\r\n"), ":1\r\n");
    }
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", daemon.id())).expect("maps");
    let size = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        address(end)?.checked_sub(address(start)?)
    };
    let reserved = maps.lines().filter(|line| line.contains(" ---p 00000000 00:00 0"));
    let large: Vec<&str> = reserved.filter(|line| size(line) > Some(32 << 20)).collect();
    assert!(large.is_empty(), "{large:#?}");
}

/// Sends a byte now and then until the daemon ends the connection.
fn trickle_until_the_end(mut client: Client) {
    let mut sender = client.sender();
    let trickle = thread::spawn(move || {
        let mut sent = 0;
        while sent < 900 && sender.write_all(b"x").is_ok() {
            sent += 1;
            thread::sleep(std::time::Duration::from_millis(25));
        }
        sent
    });
    client.expect_end();
    drop(client);
    assert!(trickle.join().expect("no panic") < 900, "the whole trickle was taken");
}

#[test]
fn a_request_that_trickles_in_for_ever_is_closed() {
    let daemon = Daemon::start("--store kv --idle-timeout 1");
    for (mut client, start) in [
        (daemon.redis(), "*2\r\n$3\r\nGET\r\n$1000\r\n"),
        (daemon.memcached(), "set k 0 0 1000\r\n"),
    ] {
        client.send(start);
        trickle_until_the_end(client);
    }
}

/// Every byte of a block that is passed over counted as a request, so a client that sent one now
/// and then kept its place for ever.
#[test]
fn a_refused_block_that_trickles_in_for_ever_is_closed() {
    let daemon = Daemon::start("--store kv --idle-timeout 1");
    let mut client = daemon.memcached();
    client.ask("set k 0 0 999999999\r\n", "SERVER_ERROR object too large for cache\r\n");
    trickle_until_the_end(client);
    let mut client = daemon.memcached();
    client.ask("set k 0 0 1\r\nabc", "CLIENT_ERROR bad data chunk\r\n");
    trickle_until_the_end(client);
}

#[test]
fn a_reader_that_does_not_read_is_closed_in_the_end() {
    let daemon = Daemon::start("--store kv --idle-timeout 1 --log debug");
    let mut client = daemon.redis();
    client.ask(request(&[b"SET", b"k", &vec![b'x'; 8 * MIB]]), "+OK\r\n");
    client.send("GET k\r\n".repeat(10));
    daemon.wait_for_log("replies cannot be sent");
}

#[test]
fn a_slow_reader_holds_up_nobody_and_costs_bounded_memory() {
    let daemon = Daemon::start("--store kv --max-output 4m");
    daemon.redis().ask(request(&[b"SET", b"k", &vec![b'x'; MIB]]), "+OK\r\n");
    let before = daemon.memory("VmRSS");
    let mut slow = [daemon.redis(), daemon.memcached()];
    slow[0].send("GET k\r\n".repeat(1000));
    slow[1].send("get k\r\n".repeat(1000));
    for _ in 0..1000 {
        for (mut client, question, answer) in both(&daemon) {
            client.ask(question, answer);
        }
    }
    let grown = daemon.memory("VmHWM") - before;
    assert!(grown < 24 * MIB as u64, "{grown} bytes for clients that do not read");
    for _ in 0..1000 {
        slow[0].expect(format!("${MIB}\r\n{}\r\n", "x".repeat(MIB)));
    }
}

#[test]
fn http_is_closed_and_logged() {
    let daemon = Daemon::start("--store kv");
    let requests = [
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\nSET evil 1\r\n",
        "Host: localhost\r\nSET evil 1\r\n",
    ];
    for text in requests {
        for (protocol, mut client) in [("redis", daemon.redis()), ("memcached", daemon.memcached())]
        {
            let lines = daemon.log().matches("it speaks HTTP").count();
            client.send(text);
            client.read_to_end();
            daemon.wait_for_log(protocol);
            while daemon.log().matches("it speaks HTTP").count() == lines {
                thread::yield_now();
            }
        }
    }
    daemon.redis().ask("EXISTS evil\r\n", ":0\r\n");
}

#[test]
fn a_framing_error_is_answered_before_the_end() {
    let daemon = Daemon::start("--store kv");
    let mut client = daemon.redis();
    client.send("*1\r\n$4\r\nPING\r\n*1\r\n$x\r\nPING\r\n*1\r\n$4\r\nPING\r\n");
    client.expect("+PONG\r\n-ERR Protocol error: invalid bulk length\r\n");
    client.expect_end();
    daemon.wait_for_log("not the protocol");
}

#[test]
fn a_pipeline_of_100_000_commands_is_answered_in_order() {
    let daemon = Daemon::start("--store kv");
    let numbers = || 0..100_000;
    let mut redis = daemon.redis();
    let mut sender = redis.sender();
    let input: String = numbers().map(|number| format!("ECHO {number:06}\r\n")).collect();
    let sending = thread::spawn(move || sender.write_all(input.as_bytes()));
    redis.expect(numbers().map(|number| format!("$6\r\n{number:06}\r\n")).collect::<String>());
    sending.join().expect("no panic").expect("all was taken");

    let mut memcached = daemon.memcached();
    let mut sender = memcached.sender();
    let input: String = numbers().map(|number| format!("set k 0 0 6\r\n{number:06}\r\n")).collect();
    let sending = thread::spawn(move || sender.write_all(input.as_bytes()));
    memcached.expect("STORED\r\n".repeat(100_000));
    sending.join().expect("no panic").expect("all was taken");
    memcached.ask("get k\r\n", "VALUE k 0 6\r\n099999\r\nEND\r\n");
}

#[test]
fn a_declared_length_costs_nothing_until_the_bytes_arrive() {
    let daemon = Daemon::start("--store kv --max-message 512m");
    let before = daemon.memory("VmRSS");
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut redis = daemon.redis();
        redis.ask("PING\r\n", "+PONG\r\n");
        redis.send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n");
        let mut memcached = daemon.memcached();
        memcached.ask("get nothing\r\n", "END\r\n");
        memcached.send("set k 0 0 500000000\r\nabc");
        clients.extend([redis, memcached]);
    }
    daemon.redis().ask("PING\r\n", "+PONG\r\n");
    let grown = daemon.memory("VmHWM") - before;
    assert!(grown < 32 * MIB as u64, "{grown} bytes for lengths that were only declared");
}

#[test]
fn a_value_of_16_mib_passes_through_both_protocols() {
    let daemon = Daemon::start("--store kv");
    let value: Vec<u8> = (0..16 * MIB).map(|index| (index % 251) as u8).collect();
    let mut redis = daemon.redis();
    redis.ask(request(&[b"SET", b"k", &value]), "+OK\r\n");
    let mut memcached = daemon.memcached();
    memcached.send("get k\r\n");
    memcached.expect(format!("VALUE k 0 {}\r\n", value.len()));
    memcached.expect(&value);
    memcached.expect("\r\nEND\r\n");
    memcached.send(format!("set l 5 0 {}\r\n", value.len()));
    memcached.send(&value);
    memcached.ask("\r\n", "STORED\r\n");
    redis.ask("GET l\r\n", format!("${}\r\n", value.len()));
    redis.expect(&value);
    redis.expect("\r\n");
}

#[test]
fn a_request_in_single_bytes_is_a_request() {
    let daemon = Daemon::start("--store kv");
    let mut redis = daemon.redis();
    for byte in request(&[b"SET", b"k", b"a\r\nb\0"]) {
        redis.send([byte]);
    }
    redis.expect("+OK\r\n");
    let mut memcached = daemon.memcached();
    for byte in b"get k\r\n" {
        memcached.send([*byte]);
    }
    memcached.expect("VALUE k 0 5\r\na\r\nb\0\r\nEND\r\n");
}

#[test]
fn a_half_closed_client_gets_all_its_replies() {
    let daemon = Daemon::start("--store kv");
    for (mut client, question, answer) in both(&daemon) {
        client.send(question.repeat(1000));
        client.half_close();
        client.expect(answer.repeat(1000));
        client.expect_end();
    }
}

#[test]
fn two_hundred_clients_at_once_are_all_served() {
    let daemon = Daemon::start("--store kv");
    let mut clients: Vec<Client> = (0..200).map(|_| daemon.redis()).collect();
    clients.iter_mut().for_each(|client| client.send("INCR n\r\n"));
    let mut counts: Vec<u32> = clients
        .iter_mut()
        .map(|client| client.read_line()[1..].parse().expect("a number"))
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=200).collect::<Vec<u32>>());
}

/// Commands of a pipeline that follow each other on one queue share its lock; it is given back for
/// a command that needs the index built first, and for one that takes two queues.
#[test]
fn a_pipeline_right_after_a_start_lets_go_of_its_queue_where_it_must() {
    let daemon = Daemon::start("");
    daemon.redis().ask("SADD q a b c d\r\n", ":4\r\n");
    let daemon = daemon.restart();
    let commands = "SPOP q\r\nSISMEMBER q a\r\nSADD q b\r\nSMOVE q r c\r\nSPOP q\r\nSCARD q\r\n";
    daemon.redis().ask(commands, "$1\r\na\r\n:0\r\n:0\r\n:1\r\n$1\r\nb\r\n:1\r\n");
}

/// More than the kernel keeps for both sides of a connection.
const LONG_COUNT: usize = 300;

/// A daemon with one worker and a queue of messages that make a reply of 24 MB, and that reply.
fn with_long_queue() -> (Daemon, Vec<u8>) {
    let daemon = Daemon::start("--fsync always --workers 1");
    let mut client = daemon.redis();
    let body = |number: usize| format!("{number:08}").repeat(10_000).into_bytes();
    let mut reply = format!("*{LONG_COUNT}\r\n").into_bytes();
    for number in 0..LONG_COUNT {
        client.ask(request(&[b"SADD", b"q", &body(number)]), ":1\r\n");
        reply.extend([b"$80000\r\n", &body(number)[..], b"\r\n"].concat());
    }
    (daemon, reply)
}

/// Stops the daemon; when this returns its worker has looked at every client.
fn stop(daemon: &Daemon) {
    let mut idle = daemon.redis();
    idle.ask("PING\r\n", "+PONG\r\n");
    daemon.signal(Signal::TERM);
    idle.expect_end();
}

#[test]
fn a_stop_in_the_middle_of_a_reply_lets_a_reader_have_all_of_it() {
    for (command, left) in [("SMEMBERS q", LONG_COUNT), ("SPOP q 299", 1)] {
        let (mut daemon, mut reply) = with_long_queue();
        if left == 1 {
            let length = reply.len() - (reply.len() - 6) / LONG_COUNT;
            reply.truncate(length);
            reply[..6].copy_from_slice(b"*299\r\n");
        }
        let mut client = daemon.redis();
        client.send(format!("{command}\r\n"));
        assert_eq!(client.read(6), reply[..6]);
        stop(&daemon);
        assert!(client.read_to_end() == reply[6..], "{command}: not the whole reply");
        assert_eq!(daemon.wait().code(), Some(0));
        daemon.restart().redis().ask("SCARD q\r\n", format!(":{left}\r\n"));
    }
}

#[test]
fn a_stop_waits_a_while_for_a_client_that_does_not_read_and_loses_nothing() {
    let (mut daemon, reply) = with_long_queue();
    let mut client = daemon.redis();
    client.send("SMEMBERS q\r\n");
    assert_eq!(client.read(6), reply[..6]);
    daemon.redis().ask("SADD q last\r\n", ":1\r\n");
    stop(&daemon);
    assert_eq!(daemon.wait().code(), Some(0));
    let expected = format!(":{}\r\n:1\r\n", LONG_COUNT + 1);
    daemon.restart().redis().ask("SCARD q\r\nSISMEMBER q last\r\n", expected);
}

/// Waits until the daemon counts so many clients that wait for messages.
fn await_waiting(client: &mut Client, count: usize) {
    let line = format!("blocked_clients:{count}\r\n");
    loop {
        client.send("*2\r\n$4\r\nINFO\r\n$7\r\nclients\r\n");
        let head = client.read_line();
        let length = head.trim().trim_start_matches('$').parse::<usize>().expect("a bulk string");
        let text = String::from_utf8(client.read(length + 2)).expect("text");
        if text.contains(&line) {
            return;
        }
    }
}

/// Clients of both workers and both protocols.
#[test]
fn a_push_wakes_the_client_that_has_waited_longest() {
    for store in ["disk", "memory"] {
        let daemon = Daemon::start(&format!("--store {store} --workers 2"));
        let mut other = daemon.redis();
        let mut waiting = Vec::new();
        for index in 0..6 {
            let mut client = if index % 2 == 0 { daemon.redis() } else { daemon.memcached() };
            client.send(["PING\r\nBSPOP q 0\r\n", "version\r\nget q/t=100000\r\n"][index % 2]);
            match index % 2 {
                0 => client.expect("+PONG\r\n"),
                _ => {
                    assert!(client.read_line().starts_with("VERSION"), "it leaves before the wait")
                }
            }
            await_waiting(&mut other, index + 1);
            waiting.push(client);
        }
        // The third one goes before anything comes.
        drop(waiting.remove(2));
        await_waiting(&mut other, 5);
        other.ask("SADD q a b\r\n", ":2\r\n");
        other.ask("MULTI\r\nSADD q c\r\nSADD q d e f\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n+QUEUED\r\n");
        other.expect("*2\r\n:1\r\n:3\r\n");
        for (index, client) in [0, 1, 3, 4, 5].into_iter().zip(&mut waiting) {
            let body = ["a", "b", "", "c", "d", "e"][index];
            match index % 2 {
                0 => client.expect(format!("*2\r\n$1\r\nq\r\n$1\r\n{body}\r\n")),
                _ => client.expect(format!("VALUE q 0 1\r\n{body}\r\nEND\r\n")),
            }
        }
        other.ask("SPOP q\r\n", "$1\r\nf\r\n");
        other.ask("BSPOP q 0.001\r\n", "*-1\r\n");
    }
}

#[test]
fn a_stop_ends_waits_and_loses_nothing() {
    let daemon = Daemon::start("--store disk");
    let (mut client, mut other) = (daemon.redis(), daemon.redis());
    client.send("BSPOP q 0\r\n");
    await_waiting(&mut other, 1);
    stop(&daemon);
    client.expect_end();
}

#[test]
fn a_stop_counts_no_failure_of_what_is_open_and_a_broken_connection_does() {
    let mut daemon = Daemon::start("--store disk");
    daemon.memcached().ask("set q 0 0 1\r\na\r\n", "STORED\r\n");
    for failures in [0, 1] {
        let mut worker = daemon.memcached();
        worker.ask("get q/open\r\n", "VALUE q 0 1\r\na\r\nEND\r\n");
        if failures == 1 {
            drop(worker);
            // The message is ready again once the daemon has seen the end of the connection.
            daemon.memcached().ask("get q/peek/t=60000\r\n", "VALUE q 0 1\r\na\r\nEND\r\n");
        }
        stop(&daemon);
        assert!(daemon.wait().success());
        daemon = daemon.restart();
        let mut client = daemon.redis();
        client.send("GETJOB NOHANG WITHCOUNTERS FROM q\r\n");
        let reply: String = (0..14).map(|_| client.read_line()).collect();
        let counters = format!("nacks:{failures}");
        assert!(reply.contains(&counters), "{reply:?} has not {counters:?}");
        // The lease of a client that leaves stays until it runs out, or the daemon ends.
        daemon = daemon.restart();
    }
}
