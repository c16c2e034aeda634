//! Long commands on a log that are not done: their client goes, or they are too long for a
//! transaction. The queue stays as it was, and open.

use mq::queue::{DiskBacking, Limits, Policy, Queues};
use mq::session::redis::RedisSession;
use mq::session::{ClientLimits, NewClient, Session, Settings, Shared, Store};
use mq::storage::DataDirectory;
use std::sync::Arc;
use tempfile::TempDir;

/// More messages than a turn has work for.
const MANY: usize = 5000;

/// A daemon with queues on disk, without a server.
struct Daemon {
    shared: Arc<Shared>,
}

impl Daemon {
    fn start(root: &TempDir) -> Daemon {
        let directory = DataDirectory::open(&root.path().join("data"), 1 << 20, true).unwrap();
        let limits = Limits { max_queues: 10, max_queue_len: u64::MAX };
        let backing = Box::new(DiskBacking::new(directory));
        let queues = Queues::open(backing, limits, Policy::Never).unwrap();
        let (store, limits) = (Store::Queues(Arc::new(queues)), ClientLimits::default());
        let shared = Arc::new(Shared::new(store, Settings::default(), Arc::new(limits)));
        Daemon { shared }
    }

    fn client(&self) -> RedisSession {
        RedisSession::new(Arc::clone(&self.shared), NewClient::detached(1))
    }
}

/// A request of `verb` and words.
fn request(verb: &str, words: impl Iterator<Item = String>) -> Vec<u8> {
    let words: Vec<String> = verb.split(' ').map(String::from).chain(words).collect();
    let bulks = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), bulks.collect::<String>()).into_bytes()
}

fn messages(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("m{number}"))
}

/// Sends whole requests and returns all replies.
fn ask(session: &mut RedisSession, requests: &[u8]) -> String {
    let (mut replies, mut done) = (Vec::new(), 0);
    loop {
        let advance = session.advance(&requests[done..], &mut replies);
        done += advance.consumed;
        if done == requests.len() && !advance.again && !advance.unfinished {
            return String::from_utf8(replies).unwrap();
        }
    }
}

/// The first turn of each has begun its step, and changed nothing.
#[test]
fn a_client_that_goes_before_it_has_changed_anything_closes_no_queue() {
    let absent = || (0..MANY).map(|number| format!("absent{number}"));
    let requests =
        [request("SADD q", messages(MANY)), request("SREM q", absent().chain(messages(2)))];
    for unfinished in requests {
        let root = TempDir::new().unwrap();
        let daemon = Daemon::start(&root);
        let mut client = daemon.client();
        ask(&mut client, &request("SADD q", messages(MANY)));
        ask(&mut client, b"SISMEMBER q m0\r\n");
        let mut gone = daemon.client();
        let advance = gone.advance(&unfinished, &mut Vec::new());
        assert!(advance.again && advance.consumed == 0 && advance.half_done == 0, "{advance:?}");
        drop(gone);
        let answered = format!(":1\r\n:{}\r\n$2\r\nm0\r\n", MANY + 1);
        assert_eq!(ask(&mut client, b"SADD q new\r\nSCARD q\r\nSPOP q\r\n"), answered);
    }
}

/// A stop waits for such a client only so long.
#[test]
fn what_a_client_has_changed_by_half_when_the_daemon_stops_is_undone_by_the_next_start() {
    let new = || (0..MANY).map(|number| format!("new{number}"));
    let requests = [
        request("SADD q", new()),
        request("SREM q", messages(MANY)),
        request("SPOP q 4500", std::iter::empty()),
    ];
    for unfinished in requests {
        let root = TempDir::new().unwrap();
        let daemon = Daemon::start(&root);
        ask(&mut daemon.client(), &request("SADD q", messages(MANY)));
        ask(&mut daemon.client(), b"SISMEMBER q m0\r\n");
        let mut cut = daemon.client();
        while cut.advance(&unfinished, &mut Vec::new()).half_done == 0 {}
        drop(cut);
        let Store::Queues(queues) = &daemon.shared.store else { unreachable!("it was made so") };
        assert!(queues.close());
        drop(daemon);
        let daemon = Daemon::start(&root);
        let all = format!(":{MANY}\r\n$2\r\nm0\r\n:0\r\n");
        assert_eq!(ask(&mut daemon.client(), b"SCARD q\r\nSPOP q\r\nSISMEMBER q new1\r\n"), all);
    }
}

#[test]
fn a_command_that_is_too_long_for_its_transaction_closes_no_queue() {
    const TOO_MANY: usize = 120_000;
    let root = TempDir::new().unwrap();
    let daemon = Daemon::start(&root);
    let mut client = daemon.client();
    ask(&mut client, &request("SADD q", messages(TOO_MANY)));
    let transaction = b"MULTI\r\nSADD q a\r\nSADD q b\r\nSMEMBERS q\r\nEXEC\r\n";
    let replies = ask(&mut client, transaction);
    let refusal = "-ERR the transaction takes too long; use a smaller one\r\n";
    assert!(replies.ends_with(&format!("*3\r\n:1\r\n:1\r\n{refusal}")), "{replies}");
    let after = ask(&mut client, b"SCARD q\r\nSADD q c\r\n");
    assert_eq!(after, format!(":{}\r\n:1\r\n", TOO_MANY + 2));
}
