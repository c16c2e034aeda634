//! Transcripts: bytes sent to a session, bytes expected from it, without a socket.

use super::MemcachedSession;
use super::statistics::MEMCACHED_VERSION;
use crate::clock::set_by_hand;
use crate::kv::Kv;
use crate::protocol::Foreign;
use crate::queue::{Limits, MemoryBacking, NewMessage, Policy, Queues, Ticket};
use crate::session::{
    ClientLimits, Close, NewClient, OUTPUT_PIECE, Session, Settings, Shared, Store,
};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

mod kv;
mod leases;
mod queue;
mod waiting;

const MAX_MESSAGE: usize = 100;

fn shared(store: Store) -> Arc<Shared> {
    let limits = ClientLimits { max_message: MAX_MESSAGE.into(), ..ClientLimits::default() };
    Arc::new(Shared::new(store, Settings::default(), Arc::new(limits)))
}

fn kv() -> Arc<Shared> {
    shared(Store::Kv(Arc::new(Kv::new(1 << 20))))
}

fn queues() -> Arc<Shared> {
    let limits = Limits { max_queues: 3, max_queue_len: 1000 };
    let backing = Box::new(MemoryBacking::new(1 << 20));
    shared(Store::Queues(Arc::new(Queues::open(backing, limits, Policy::Never).unwrap())))
}

/// One client, driven as the server drives it.
struct Client {
    session: MemcachedSession,
    input: Vec<u8>,
    need: usize,
    closed: Option<Close>,
    waits: bool,
}

impl Client {
    fn new(shared: &Arc<Shared>) -> Client {
        let session = MemcachedSession::new(Arc::clone(shared), NewClient::detached(7));
        Client { session, input: Vec::new(), need: 0, closed: None, waits: false }
    }

    /// The client has been woken; answers what comes back, and whether it waits on.
    fn wake(&mut self) -> (Vec<u8>, bool) {
        assert!(self.waits);
        let answer = self.ask(b"");
        (answer, self.waits)
    }

    /// Sends `bytes` and answers what comes back, until it has to wait; output is taken piece by
    /// piece.
    fn ask(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(bytes);
        let mut answer = Vec::new();
        while self.closed.is_none() && self.input.len() >= self.need {
            let mut output = Vec::new();
            let advance = self.session.advance(&self.input, &mut output);
            assert!(output.len() < OUTPUT_PIECE + 2 * MAX_MESSAGE + 300, "a piece is bounded");
            self.input.drain(..advance.consumed);
            assert!(advance.need == 0 || advance.need > self.input.len());
            self.need = advance.need;
            self.closed = advance.close;
            answer.extend_from_slice(&output);
            self.waits = advance.wait.is_some();
            if self.waits {
                break;
            }
        }
        answer
    }
}

/// Plays a script of (sent, expected) line by line, then once more in all cuts of all that is sent.
fn play(start: fn() -> Arc<Shared>, script: &[(&str, &str)]) {
    let mut client = Client::new(&start());
    let mut conversation = String::new();
    for (sent, expected) in script {
        let answer = client.ask(sent.as_bytes());
        let answer = String::from_utf8_lossy(&answer);
        conversation += &format!("> {}\n< {}\n", sent.escape_debug(), answer.escape_debug());
        assert_eq!(answer, *expected, "\n{conversation}");
    }
    let sent: String = script.iter().map(|(sent, _)| *sent).collect();
    let expected: String = script.iter().map(|(_, expected)| *expected).collect();
    for cut in 0..sent.len() {
        let (head, tail) = sent.as_bytes().split_at(cut);
        let mut client = Client::new(&start());
        let answer = [client.ask(head), client.ask(tail)].concat();
        assert_eq!(String::from_utf8_lossy(&answer), expected, "cut at {cut}");
    }
}

#[test]
fn every_refusal_has_the_text_of_memcached_and_the_connection_stays() {
    const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format\r\n";
    const BAD_TIME: &str = "CLIENT_ERROR invalid exptime argument\r\n";
    const BAD_DELTA: &str = "CLIENT_ERROR invalid numeric delta argument\r\n";
    let long_get = format!("get {}\r\n", "k".repeat(251));
    let long_set = format!("set {} 0 0 9\r\nflush_all\r\n", "k".repeat(251));
    let large = format!("set k 0 0 101\r\n{}\r\n", "x".repeat(101));
    let large_silent = format!("set k 0 0 101 noreply\r\n{}\r\n", "x".repeat(101));
    let script = [
        ("\r\n", "ERROR\r\n"),
        ("bogus\r\n", "ERROR\r\n"),
        ("GET k\r\n", "ERROR\r\n"),
        ("get\r\n", "ERROR\r\n"),
        (&long_get, BAD_FORMAT),
        (&long_set, BAD_FORMAT),
        ("set k x 0 1\r\na\r\n", BAD_FORMAT),
        ("set k 0 0 -1\r\n", BAD_FORMAT),
        ("set k 0 0 1\r\nabc\r\n", "CLIENT_ERROR bad data chunk\r\n"),
        ("set k 0 0 1 noreply\r\nabc\r\n", ""),
        (&large, "SERVER_ERROR object too large for cache\r\n"),
        (&large_silent, ""),
        ("incr k x\r\n", BAD_DELTA),
        ("touch k x\r\n", BAD_TIME),
        ("gat x k\r\n", BAD_TIME),
        ("flush_all x\r\n", BAD_TIME),
        (
            "delete k 1\r\n",
            "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n",
        ),
        ("stats bogus\r\n", "ERROR\r\n"),
        ("get k\r\n", "END\r\n"),
    ];
    play(kv, &script);
    play(queues, &script);
}

#[test]
fn commands_that_ask_no_store_are_answered_alike() {
    let version = format!("VERSION {MEMCACHED_VERSION}\r\n");
    let script = [
        ("version\r\n", version.as_str()),
        ("verbosity 1\r\n", "OK\r\n"),
        ("verbosity 1 noreply\r\n", ""),
        ("stats items\r\n", "END\r\n"),
        ("stats sizes\r\n", "STAT sizes_status disabled\r\nEND\r\n"),
        ("stats detail on\r\n", "OK\r\n"),
        ("stats detail dump\r\n", "END\r\n"),
        ("stats detail off\r\n", "OK\r\n"),
        ("stats detail\r\n", "CLIENT_ERROR usage: stats detail on|off|dump\r\n"),
        ("stats detail all\r\n", "CLIENT_ERROR usage: stats detail on|off|dump\r\n"),
        ("stats cachedump 1 1\r\n", "END\r\n"),
        ("stats cachedump\r\n", "CLIENT_ERROR bad command line\r\n"),
        ("stats reset\r\n", "RESET\r\n"),
    ];
    play(kv, &script);
    play(queues, &script);
}

#[test]
fn statistics_count_commands_and_name_settings() {
    for shared in [kv(), queues()] {
        shared.statistics.traffic.received.store(7, Relaxed);
        shared.statistics.traffic.sent.store(9, Relaxed);
        let mut client = Client::new(&shared);
        client.ask(b"set a 0 0 1\r\nx\r\nbogus\r\nget b c\r\n");
        let general = String::from_utf8(client.ask(b"stats\r\n")).unwrap();
        assert!(general.contains("STAT bytes_read 7\r\nSTAT bytes_written 9\r\n"), "{general}");
        assert!(general.contains("STAT cmd_total 4\r\n"), "{general}");
        assert!(general.contains("STAT threads "), "{general}");
        assert!(general.ends_with("\r\nEND\r\n"), "{general}");
        let settings = String::from_utf8(client.ask(b"stats settings\r\n")).unwrap();
        assert!(settings.contains("STAT maxconns 256\r\n"), "{settings}");
        assert!(settings.contains("STAT num_threads "), "{settings}");
        assert!(settings.contains("STAT item_size_max 100\r\n"), "{settings}");
    }
}

/// The lines of `text` that are not among `expected`, and the other way round.
fn check_statistics(text: &[u8], expected: &[(&str, u64)]) {
    let text = String::from_utf8_lossy(text);
    for (name, value) in expected {
        assert!(text.contains(&format!("STAT {name} {value}\r\n")), "{name} {value} in {text}");
    }
}

#[test]
fn statistics_count_hits_and_misses() {
    let mut client = Client::new(&kv());
    client.ask(b"set n 0 0 1\r\n5\r\nadd n 0 0 1\r\nx\r\nget n x n\r\ngat 9 n x\r\n");
    client.ask(b"cas n 0 0 1 1\r\n6\r\ncas n 0 0 1 1\r\n7\r\ncas x 0 0 1 1\r\n7\r\n");
    client.ask(b"incr n 1\r\nincr x 1\r\ndecr n 1\r\ndecr x 1\r\ntouch n 9\r\ntouch x 9\r\n");
    client.ask(b"delete n\r\ndelete x\r\nflush_all\r\nset k 0 0 2\r\nab\r\n");
    let expected = [
        ("cmd_get", 5),
        ("get_hits", 3),
        ("get_misses", 2),
        ("cmd_set", 6),
        ("total_items", 5),
        ("cas_hits", 1),
        ("cas_badval", 1),
        ("cas_misses", 1),
        ("incr_hits", 1),
        ("incr_misses", 1),
        ("decr_hits", 1),
        ("decr_misses", 1),
        ("cmd_touch", 4),
        ("touch_hits", 2),
        ("touch_misses", 2),
        ("delete_hits", 1),
        ("delete_misses", 1),
        ("cmd_flush", 1),
        ("curr_items", 1),
        ("bytes", 195),
    ];
    check_statistics(&client.ask(b"stats\r\n"), &expected);
    check_statistics(&client.ask(b"stats items\r\n"), &[("items:1:number", 1)]);
    assert_eq!(client.ask(b"stats queues\r\n"), b"END\r\n");
    assert_eq!(client.ask(b"stats reset\r\n"), b"RESET\r\n");
    client.ask(b"get k x\r\nset k 0 0 1\r\n5\r\n");
    let expected = [("cmd_get", 2), ("get_misses", 1), ("cmd_set", 1), ("total_items", 1)];
    let others = [("cmd_flush", 0), ("incr_hits", 0), ("curr_items", 1), ("cmd_total", 3)];
    check_statistics(&client.ask(b"stats\r\n"), &[expected, others].concat());
}

#[test]
fn statistics_show_each_queue() {
    let shared = queues();
    let mut client = Client::new(&shared);
    client.ask(b"set a,b 0 0 2\r\nxy\r\nset a,b 0 0 1\r\nz\r\nget a,b none\r\n");
    let general =
        [("cmd_get", 2), ("get_hits", 1), ("get_misses", 1), ("curr_items", 1), ("bytes", 1)];
    check_statistics(&client.ask(b"stats\r\n"), &general);
    // What comes over Redis is an item too.
    let Store::Queues(queues) = &shared.store else { unreachable!("it was made so") };
    let message = NewMessage { body: b"m", flags: 0, expires_ms: 0 };
    queues.create(b"r", &mut Ticket::default(), |queue| queue.push(&message)).unwrap();
    check_statistics(&client.ask(b"stats\r\n"), &[("total_items", 3), ("curr_items", 2)]);
    client.ask(b"delete r\r\n");
    let queue = [
        ("queue_a%2Cb_items", 1),
        ("queue_a%2Cb_leased", 0),
        ("queue_a%2Cb_bytes", 1),
        ("queue_a%2Cb_disk_bytes", 0),
        ("queue_a%2Cb_total_items", 2),
        ("queue_a%2Cb_taken_items", 1),
        ("queue_a%2Cb_expired_items", 0),
    ];
    check_statistics(&client.ask(b"stats queues\r\n"), &queue);
    client.ask(b"set other 0 0 1\r\nx\r\n");
    let named = client.ask(b"stats queues none a,b\r\n");
    check_statistics(&named, &queue);
    assert!(!String::from_utf8_lossy(&named).contains("other"), "only what is asked for");
    assert_eq!(client.ask(b"stats queues none\r\n"), b"END\r\n");
    client.ask(b"get other\r\n");
    let items = client.ask(b"stats items\r\n");
    check_statistics(&items, &[("items:1:number", 1), ("items:1:evicted", 0)]);
    assert!(!String::from_utf8_lossy(&items).contains("age"), "nobody knows it");
}

#[test]
fn quit_long_lines_and_browsers_end_the_connection() {
    let long = "x".repeat(2049);
    let cases = [
        ("quit\r\nversion\r\n", "", Close::Quit),
        ("quit now\r\nquit\n", "ERROR\r\n", Close::Quit),
        (&long, "CLIENT_ERROR line too long\r\n", Close::Framing),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", Close::Foreign(Foreign::Http)),
        ("POST /x HTTP/1.1\r\n", "", Close::Foreign(Foreign::Http)),
        (
            "set k 0 0 9x\r\nflush_all\r\n",
            "CLIENT_ERROR bad command line format\r\n",
            Close::Framing,
        ),
        ("set k 0 0 9x noreply\r\nflush_all\r\n", "", Close::Framing),
        ("set k 0 0\r\nflush_all\r\n", "ERROR\r\n", Close::Framing),
    ];
    for (sent, expected, close) in cases {
        let mut client = Client::new(&kv());
        let answer = client.ask(sent.as_bytes());
        assert_eq!(String::from_utf8(answer).unwrap(), expected, "{sent}");
        assert_eq!(client.closed, Some(close), "{sent}");
    }
}

#[test]
fn a_poisoned_gate_is_entered_all_the_same() {
    let shared = queues();
    let poisoned = Arc::clone(&shared);
    let panicked = std::thread::spawn(move || {
        let _gate = poisoned.gate.write();
        panic!("a client's command");
    });
    assert!(panicked.join().is_err());
    let mut client = Client::new(&shared);
    assert_eq!(
        client.ask(b"set q 0 0 1\r\na\r\nget q\r\n"),
        b"STORED\r\nVALUE q 0 1\r\na\r\nEND\r\n"
    );
}

/// A large block that nobody wants does not stay in the input.
#[test]
fn a_block_that_is_too_large_is_consumed_as_it_comes() {
    let mut client = Client::new(&kv());
    client.ask(b"set k 0 0 1000000000\r\n");
    for _ in 0..100 {
        assert_eq!(client.ask(&[b'x'; 4096]), b"");
        assert_eq!(client.input.len(), 0);
    }
}

#[test]
fn statistics_tell_the_time_of_the_stores_clock() {
    let (clock, time_ms) = set_by_hand();
    let kv = Kv::new(1 << 20).with_clock(clock);
    let mut client = Client::new(&shared(Store::Kv(Arc::new(kv))));
    time_ms.fetch_add(2999, Relaxed);
    let general = String::from_utf8(client.ask(b"stats\r\n")).unwrap();
    assert!(general.contains("STAT uptime 2\r\n"), "{general}");
    assert!(general.contains("STAT time 1700000003\r\n"), "{general}");
}
