//! A daemon whose address space falls to what is mapped: what needs a large piece of memory is
//! refused, and the daemon, its other clients and what it holds stay as they are.

use crate::common::{Client, Daemon, GUARD, command, request};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::thread;
use std::time::Instant;

/// Bytes of a piece that is there when there is memory, and not within [`LEFT`].
const LARGE: usize = 24 << 20;

/// Bytes that the daemon may still map when it is short of memory: enough for all that is small.
const LEFT: u64 = 2 << 20;

/// A daemon that takes messages larger than [`LARGE`]. Each large piece is a mapping of its own: as
/// the GNU C library has it, one that was freed would let the next ones come from the heap, whose
/// address space is reserved beforehand.
fn daemon(store: &str) -> Daemon {
    let mut command = command();
    command.env("MALLOC_MMAP_THRESHOLD_", "131072");
    Daemon::start_from(command, &format!("--store {store} --max-message 64m"))
}

/// Lets the daemon map `more` bytes, or as many as it likes.
fn limit(daemon: &Daemon, more: Option<u64>) {
    let current = more.map(|more| daemon.memory("VmSize") + more);
    let pid = Pid::from_raw(daemon.id() as i32);
    prlimit(pid, Resource::As, Rlimit { current, maximum: None }).expect("a limit that may be set");
}

/// Sends `request`, which is large, and takes the memory away before its last byte has come: there
/// is enough for the request, whose last read takes half its length, and not for a copy of it.
fn send_short_of_memory(daemon: &Daemon, client: &mut Client, request: &[u8]) {
    let before = daemon.memory("VmRSS");
    let (start, last) = request.split_at(request.len() - 1);
    client.send(start);
    let begin = Instant::now();
    while daemon.memory("VmRSS") < before + start.len() as u64 {
        assert!(begin.elapsed() < GUARD, "the request does not arrive");
        thread::yield_now();
    }
    limit(daemon, Some(request.len() as u64 / 2 + LEFT));
    client.send(last);
}

/// What a client is told whose connection ends because it holds too much.
const TOLD: &str = "-OOM out of memory for what this client has sent or asked for";

const NO_MEMORY: &str = "out of memory, the system has no more";

fn expect_refusal(client: &mut Client) {
    assert_eq!(client.read_line(), format!("-OOM {NO_MEMORY}"));
}

/// What a refused command leaves behind: nothing, and a line in the log.
fn expect_unharmed(daemon: &Daemon, other: &mut Client, question: &str, answer: &str) {
    other.ask("PING\r\n", "+PONG\r\n");
    other.ask(question, answer);
    daemon.wait_for_log("the system has no memory: for what clients send and ask for");
    limit(daemon, None);
    other.ask(question, answer);
}

#[test]
fn a_value_that_there_is_no_memory_for_is_refused_over_redis() {
    let value = vec![b'v'; LARGE];
    let sets: [&[&[u8]]; 5] = [
        &[b"SET", b"k", &value],
        &[b"SETEX", b"k", b"100", &value],
        &[b"SETNX", b"new", &value],
        &[b"MSET", b"new", b"w", b"k", &value],
        &[b"APPEND", b"k", &value],
    ];
    for words in sets {
        let daemon = daemon("kv");
        let (mut client, mut other) = (daemon.redis(), daemon.redis());
        other.ask("SET k v\r\n", "+OK\r\n");
        send_short_of_memory(&daemon, &mut client, &request(words));
        expect_refusal(&mut client);
        expect_unharmed(&daemon, &mut other, "MGET k new\r\n", "*2\r\n$1\r\nv\r\n$-1\r\n");
        client.ask("SET k w\r\nDBSIZE\r\n", "+OK\r\n:1\r\n");
    }
}

#[test]
fn a_value_that_there_is_no_memory_for_is_refused_over_memcached() {
    for verb in ["set", "append", "prepend"] {
        let daemon = daemon("kv");
        let (mut client, mut other) = (daemon.memcached(), daemon.redis());
        other.ask("SET k v\r\nSET l w\r\n", "+OK\r\n+OK\r\n");
        let value = "v".repeat(LARGE);
        let store = format!("{verb} k 0 0 {LARGE}\r\n{value}\r\n");
        send_short_of_memory(&daemon, &mut client, store.as_bytes());
        assert_eq!(client.read_line(), format!("SERVER_ERROR {NO_MEMORY}"));
        expect_unharmed(&daemon, &mut other, "GET l\r\n", "$1\r\nw\r\n");
        // As where a value is too large: a reader would take the old one for the new one.
        let left = if verb == "set" { "END\r\n" } else { "VALUE k 0 1\r\nv\r\nEND\r\n" };
        client.ask("get k\r\n", left);
    }
}

/// A queue, or a value, that is there and cannot be shown.
fn holding(store: &str, put: &[u8]) -> (Daemon, Client) {
    let daemon = daemon(store);
    let mut client = daemon.redis();
    client.send(request(&[put, b"k", &vec![b'm'; LARGE]]));
    client.read_line();
    limit(&daemon, Some(LEFT));
    (daemon, client)
}

#[test]
fn a_message_that_there_is_no_memory_to_show_stays() {
    let (daemon, mut client) = holding("memory", b"SADD");
    for question in ["SPOP k", "SPOP k 1", "SRANDMEMBER k", "SMEMBERS k", "SSCAN k 0"] {
        client.send(format!("{question}\r\n"));
        expect_refusal(&mut client);
    }
    client.ask(
        "MULTI\r\nSADD k a\r\nSPOP k\r\nSADD k b\r\n",
        "+OK\r\n".to_owned() + &"+QUEUED\r\n".repeat(3),
    );
    client.ask("EXEC\r\n", format!("*3\r\n:1\r\n-OOM {NO_MEMORY}\r\n:1\r\n"));
    let mut other = daemon.memcached();
    other.ask("get k\r\n", format!("SERVER_ERROR {NO_MEMORY}\r\n"));
    expect_unharmed(&daemon, &mut client, "SCARD k\r\n", ":3\r\n");
    client.ask("SPOP k\r\n", format!("${LARGE}\r\n{}\r\n", "m".repeat(LARGE)));
    client.ask("SMEMBERS k\r\n", "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
}

#[test]
fn a_value_that_there_is_no_memory_to_show_stays() {
    let (daemon, mut client) = holding("kv", b"SET");
    for question in ["GET", "MGET none", "GETDEL", "STRLEN k\r\nGET"] {
        client.send(format!("{question} k\r\n"));
        if question.starts_with("STRLEN") {
            client.expect(format!(":{LARGE}\r\n"));
        }
        expect_refusal(&mut client);
    }
    for question in ["GETSET k v", "SET k v GET", "GETEX k EX 100", "GETRANGE k 0 -1"] {
        client.send(format!("{question}\r\n"));
        expect_refusal(&mut client);
    }
    let mut other = daemon.memcached();
    other.ask("get k\r\ngat 100 k\r\n", format!("SERVER_ERROR {NO_MEMORY}\r\n").repeat(2));
    expect_unharmed(&daemon, &mut client, "TTL k\r\n", ":-1\r\n");
    client.ask("GETDEL k\r\n", format!("${LARGE}\r\n{}\r\n", "m".repeat(LARGE)));
}

#[test]
fn what_is_sent_back_finds_memory_or_is_refused() {
    for word in ["ECHO", "PING"] {
        let daemon = daemon("memory");
        let (mut client, mut other) = (daemon.redis(), daemon.redis());
        send_short_of_memory(
            &daemon,
            &mut client,
            &request(&[word.as_bytes(), &vec![b'm'; LARGE]]),
        );
        expect_refusal(&mut client);
        expect_unharmed(&daemon, &mut other, "ECHO m\r\n", "$1\r\nm\r\n");
    }
}

/// Many small messages make a large reply. Those that are popped reach the client.
#[test]
fn a_list_that_there_is_no_memory_for_loses_no_message() {
    const COUNT: usize = 200_000;
    let daemon = daemon("memory");
    let mut client = daemon.redis();
    let message = |number: usize| format!("{number:0100}");
    for start in (0..COUNT).step_by(500) {
        let messages: String = (start..start + 500).map(|it| format!(" {}", message(it))).collect();
        client.ask(format!("SADD q{messages}\r\n"), ":500\r\n");
    }
    limit(&daemon, Some(LEFT));
    client.send("SMEMBERS q\r\n");
    expect_refusal(&mut client);
    client.ask("SCARD q\r\n", format!(":{COUNT}\r\n"));
    client.send(format!("SPOP q {COUNT}\r\n"));
    let head = client.read_line();
    let count = head.strip_prefix('*').and_then(|count| count.parse().ok()).unwrap_or(0);
    assert!(count > 0 && count < COUNT, "{head}");
    for number in 0..count {
        client.expect(format!("$100\r\n{}\r\n", message(number)));
    }
    expect_unharmed(&daemon, &mut client, "SCARD q\r\n", &format!(":{}\r\n", COUNT - count));
    client.ask("SPOP q\r\n", format!("$100\r\n{}\r\n", message(count)));
}

/// The memory ends when the command has claimed its queue for several slices.
#[test]
fn a_long_reply_that_there_is_no_memory_for_leaves_its_queue_to_others() {
    const COUNT: usize = 7000;
    for store in ["memory", "disk --fsync never"] {
        let daemon = daemon(store);
        let (mut client, mut other) = (daemon.redis(), daemon.redis());
        for start in (0..COUNT).step_by(100) {
            let messages: Vec<_> = (start..start + 100).map(|it| format!("{it:04000}")).collect();
            let words = ["SADD", "q"].into_iter().chain(messages.iter().map(String::as_str));
            client.ask(request(&words.map(str::as_bytes).collect::<Vec<_>>()), ":100\r\n");
        }
        limit(&daemon, Some(14 << 20));
        client.send("SMEMBERS q\r\n");
        expect_refusal(&mut client);
        expect_unharmed(&daemon, &mut other, "SCARD q\r\n", &format!(":{COUNT}\r\n"));
        client.ask("SADD q more\r\n", ":1\r\n");
    }
}

/// All messages of a command are pushed, or none.
#[test]
fn a_message_that_there_is_no_memory_for_is_refused_over_redis() {
    let message = vec![b'm'; LARGE];
    for words in [&[&b"SADD"[..], b"q", &message][..], &[b"SADD", b"q", b"a", &message, b"b"]] {
        let daemon = daemon("memory");
        let (mut client, mut other) = (daemon.redis(), daemon.redis());
        other.ask("SADD q m\r\n", ":1\r\n");
        send_short_of_memory(&daemon, &mut client, &request(words));
        expect_refusal(&mut client);
        expect_unharmed(&daemon, &mut other, "SMEMBERS q\r\n", "*1\r\n$1\r\nm\r\n");
        client.ask("SADD q a b\r\nSPOP q 9\r\n", ":2\r\n*3\r\n$1\r\nm\r\n$1\r\na\r\n$1\r\nb\r\n");
    }
}

#[test]
fn a_message_that_there_is_no_memory_for_is_refused_over_memcached() {
    let message = "m".repeat(LARGE);
    for verb in ["set", "add"] {
        let daemon = daemon("memory");
        let (mut client, mut other) = (daemon.memcached(), daemon.redis());
        other.ask("SADD q m\r\n", ":1\r\n");
        let store = format!("{verb} q 0 0 {LARGE}\r\n{message}\r\n");
        send_short_of_memory(&daemon, &mut client, store.as_bytes());
        assert_eq!(client.read_line(), format!("SERVER_ERROR {NO_MEMORY}"));
        expect_unharmed(&daemon, &mut other, "SMEMBERS q\r\n", "*1\r\n$1\r\nm\r\n");
    }
}

/// The tables of the index are large where there are many messages, and each grows by itself.
#[test]
fn an_index_that_there_is_no_memory_for_refuses_messages() {
    const BEFORE: usize = 55_000;
    const BEHIND: usize = 61_000;
    let name = |number: usize| format!("{number:08}");
    for store in ["memory", "disk --fsync never"] {
        let daemon = daemon(store);
        let mut client = daemon.redis();
        let names: String = (0..BEFORE).map(|number| format!(" {}", name(number))).collect();
        for names in names.as_bytes().chunks(9 * 5000) {
            client.send(b"SADD q");
            client.ask([names, b"\r\n"].concat(), ":5000\r\n");
        }
        let mut count = BEFORE;
        loop {
            assert!(count < BEHIND, "no table has grown");
            // Too little for a larger table, and enough for a message. Each time anew, as what the
            // other threads had mapped for a moment would be left, too.
            limit(&daemon, Some(900 << 10));
            client.send(format!("SADD q {}\r\n", name(count)));
            let answer = client.read_line();
            if answer != ":1" {
                // To build an index again takes a mapping of each file, too.
                let no_mapping = answer.contains("Cannot allocate memory");
                assert!(no_mapping || answer == format!("-OOM {NO_MEMORY}"), "{answer}");
                break;
            }
            count += 1;
        }
        client.ask("SCARD q\r\n", format!(":{count}\r\n"));
        limit(&daemon, None);
        client.ask(format!("SADD q {}\r\nSADD q {}\r\n", name(count), name(7)), ":1\r\n:0\r\n");
        client.ask(format!("SREM q {}\r\n", name(count - 1)), ":1\r\n");
        client.ask("SCARD q\r\n", format!(":{count}\r\n"));
    }
}

/// What the refused command had done before is nothing of the next one. Which word meets the end of
/// the memory is by chance, so it is tried more than once.
#[test]
fn a_command_after_one_whose_index_found_no_memory_begins_anew() {
    const BEFORE: usize = 112_000;
    // They fit into a small piece of memory, and take several slices.
    const WORDS: usize = 1900;
    let names = |numbers: std::ops::Range<usize>| -> String {
        numbers.map(|number| format!(" {number:08}")).collect()
    };
    let disk = "disk --fsync never";
    for store in ["memory", disk, disk] {
        let daemon = daemon(store);
        let mut client = daemon.redis();
        for start in (0..BEFORE).step_by(4000) {
            client.ask(format!("SADD q{}\r\n", names(start..start + 4000)), ":4000\r\n");
        }
        client.ask("SISMEMBER q x\r\n", ":0\r\n");
        let mut next = BEFORE;
        loop {
            assert!(next < BEFORE + 4 * WORDS, "no table has grown");
            limit(&daemon, Some(600 << 10));
            client.send(format!("SADD q{}\r\n", names(next..next + WORDS)));
            let answer = client.read_line();
            if answer.starts_with('-') {
                break;
            }
            next += WORDS;
        }
        limit(&daemon, None);
        client.ask("SADD other a b c\r\nSCARD other\r\n", ":3\r\n:3\r\n");
        client.ask("SPOP other 2\r\n", "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    }
}

#[test]
fn a_transaction_that_there_is_no_memory_for_is_not_executed() {
    let daemon = daemon("memory");
    let (mut client, mut other) = (daemon.redis(), daemon.redis());
    other.ask("SADD q m\r\n", ":1\r\n");
    client.ask("MULTI\r\nSADD q n\r\n", "+OK\r\n+QUEUED\r\n");
    send_short_of_memory(&daemon, &mut client, &request(&[b"SADD", b"q", &vec![b'm'; 16 << 20]]));
    expect_refusal(&mut client);
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    client.ask("EXEC\r\n", aborted);
    expect_unharmed(&daemon, &mut other, "SMEMBERS q\r\n", "*1\r\n$1\r\nm\r\n");
}

/// No queue has a name of this length, so nothing of it is kept.
#[test]
fn a_transaction_does_not_copy_names_that_no_queue_has() {
    let daemon = daemon("disk --fsync never");
    let mut client = daemon.redis();
    client.ask("MULTI\r\n", "+OK\r\n");
    for byte in [b"a", b"b"] {
        client.ask(request(&[b"SPOP", &byte.repeat(9 << 20)]), "+QUEUED\r\n");
    }
    limit(&daemon, Some(3 << 20));
    client.ask("EXEC\r\n", "*2\r\n$-1\r\n$-1\r\n");
    client.ask("PING\r\n", "+PONG\r\n");
}

#[test]
fn names_that_there_is_no_memory_for_are_refused() {
    let name = vec![b'n'; 3 << 20];
    for words in [&[&b"WATCH"[..], b"k", &name][..], &[b"CONFIG", b"GET", &name]] {
        let daemon = daemon("kv");
        let (mut client, mut other) = (daemon.redis(), daemon.redis());
        send_short_of_memory(&daemon, &mut client, &request(words));
        expect_refusal(&mut client);
        expect_unharmed(&daemon, &mut other, "SET k v\r\nDEL k\r\n", "+OK\r\n:1\r\n");
        // Nothing of it has been done.
        client.ask("MULTI\r\nPING\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n*1\r\n+PONG\r\n");
    }
}

/// What MULTI has queued counts as what has not been executed: the client that takes most goes.
#[test]
fn all_clients_together_take_a_quarter_of_the_memory() {
    let arguments = "--store memory --max-memory 100m --max-message 64m";
    let daemon = Daemon::start_within(256 << 20, arguments);
    daemon.wait_for_log("all clients together may take 67108864 bytes, of 268435456 bytes");
    let mut clients: Vec<Client> = (0..3).map(|_| daemon.redis()).collect();
    clients.iter_mut().for_each(|client| client.ask("MULTI\r\n", "+OK\r\n"));
    for (client, byte) in clients.iter_mut().zip([b'a', b'b']) {
        client.ask(request(&[b"SADD", b"q", &vec![byte; 16 << 20]]), "+QUEUED\r\n");
    }
    let last = &mut clients[2];
    let mut sender = last.sender();
    let large = request(&[b"SADD", b"q", &vec![b'c'; 48 << 20]]);
    let sending = thread::spawn(move || std::io::Write::write_all(&mut sender, &large));
    // It is told once the daemon has counted, which may be behind the reply.
    let first = last.read_line();
    let told = if first == "+QUEUED" { last.read_line() } else { first };
    assert_eq!(told, TOLD);
    last.expect_end();
    drop(sending.join().expect("no panic"));
    daemon.wait_for_log("closed, all clients take too much memory and it takes most of it");
    clients[..2].iter_mut().for_each(|client| client.ask("EXEC\r\n", "*1\r\n:1\r\n"));
    clients[0].ask("SCARD q\r\n", ":2\r\n");
}

#[test]
fn a_store_that_may_take_more_than_there_is_is_warned_of() {
    let warning = |daemon: &Daemon| daemon.log().contains("there is less memory than clients");
    let daemon = Daemon::start_within(256 << 20, "--store kv --max-memory 300m");
    daemon.wait_for_log("there is less memory than clients and the store (--max-memory 314572800)");
    let daemon = Daemon::start_within(256 << 20, "--store kv --max-memory 100m");
    daemon.wait_for_log("all clients together may take");
    daemon.redis().ask("PING\r\n", "+PONG\r\n");
    assert!(!warning(&daemon), "{}", daemon.log());
}

/// The list of a request's words takes more than the words, if they are short.
#[test]
fn a_request_of_many_words_that_there_is_no_memory_for_ends_its_connection() {
    let daemon = daemon("memory");
    let (mut client, mut other) = (daemon.redis(), daemon.redis());
    other.ask("SADD q m\r\n", ":1\r\n");
    limit(&daemon, Some(10 << 20));
    let mut sender = client.sender();
    let large = format!("*1500000\r\n{}", "$0\r\n\r\n".repeat(1_500_000));
    let sending = thread::spawn(move || std::io::Write::write_all(&mut sender, large.as_bytes()));
    // It is the list that finds no memory, or the words.
    let told = client.read_line();
    assert!(told == format!("-OOM {NO_MEMORY}") || told == TOLD, "{told}");
    client.expect_end();
    drop(sending.join().expect("no panic"));
    daemon.wait_for_log("closed, the system has no memory for it");
    expect_unharmed(&daemon, &mut other, "SMEMBERS q\r\n", "*1\r\n$1\r\nm\r\n");
}

/// Few bytes can ask for many.
#[test]
fn a_hole_that_there_is_no_memory_for_is_not_made() {
    let daemon = daemon("kv");
    let mut client = daemon.redis();
    client.ask("SET k v\r\n", "+OK\r\n");
    limit(&daemon, Some(LEFT));
    client.send(format!("SETRANGE k {LARGE} w\r\n"));
    expect_refusal(&mut client);
    expect_unharmed(&daemon, &mut client, "GET k\r\n", "$1\r\nv\r\n");
    client.ask(format!("SETRANGE k {LARGE} w\r\n"), format!(":{}\r\n", LARGE + 1));
}

#[test]
fn a_client_whose_request_finds_no_memory_is_told_and_disconnected() {
    let daemon = daemon("memory");
    let (mut client, mut other) = (daemon.redis(), daemon.redis());
    other.ask("SADD q m\r\n", ":1\r\n");
    limit(&daemon, Some(LEFT));
    // The daemon does not take it all.
    let mut sender = client.sender();
    let large = request(&[b"SADD", b"q", &vec![b'm'; LARGE]]);
    let sending = thread::spawn(move || std::io::Write::write_all(&mut sender, &large));
    assert_eq!(client.read_line(), TOLD);
    client.expect_end();
    drop(sending.join().expect("no panic"));
    daemon.wait_for_log("closed, the system has no memory for it");
    expect_unharmed(&daemon, &mut other, "SMEMBERS q\r\n", "*1\r\n$1\r\nm\r\n");
}
