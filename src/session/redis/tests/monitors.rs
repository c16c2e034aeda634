//! What monitors read: INFO with its sections, and a line for each queue.

use super::{Conversation, Daemon, bytes_of, pipeline, queue_client};
use crate::clock::set_by_hand;
use crate::queue::{
    Backing, Limits, MemoryBacking, MessageStore, NamedStore, NewMessage, Policy, Queue,
    QueueError, Queues, Ticket,
};
use crate::session::{Session, Store};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn info_counts_the_calls_of_each_command_and_those_that_failed() {
    let mut client = Daemon::with_queues_at(set_by_hand().0).client();
    pipeline(&mut client, &["SADD q a", "SADD q b", "SCARD q", "SADD q c", "GET q", "GET r"]);
    client.check(&[("MULTI", "+OK|"), ("SCARD q", "+QUEUED|"), ("EXEC", "*1|:3|")]);
    let text = client.ask("INFO commandstats");
    let counts = |name: &str, calls: u64, failed: u64| {
        format!(
            "|cmdstat_{name}:calls={calls},usec=0,usec_per_call=0.00,rejected_calls=0,\
             failed_calls={failed}|"
        )
    };
    let lines = [("exec", 1, 0), ("get", 2, 2), ("multi", 1, 0), ("sadd", 3, 0), ("scard", 2, 0)];
    for (name, calls, failed) in lines {
        assert!(text.contains(&counts(name, calls, failed)), "{name} in {text}");
    }
    assert!(client.ask("INFO all").contains("# Commandstats|"));
    assert!(!client.ask("INFO").contains("cmdstat_"), "only where it is asked for");
}

/// It takes 7 ms to make a queue, and nothing else takes any time.
struct Slow(MemoryBacking, Arc<AtomicU64>);

impl Backing for Slow {
    fn existing(&self) -> Result<Vec<NamedStore>, QueueError> {
        self.0.existing()
    }

    fn create(&self, name: &[u8]) -> Result<Box<dyn MessageStore>, QueueError> {
        self.1.fetch_add(7, Relaxed);
        self.0.create(name)
    }

    /// If it did, EXEC would make the queues of its commands.
    fn outlives_crashes(&self) -> bool {
        false
    }

    fn statistics(&self) -> Vec<(&'static str, u64)> {
        self.0.statistics()
    }
}

/// It was 0, for ever.
#[test]
fn info_shows_what_time_the_calls_of_each_command_took() {
    let (clock, time_ms) = set_by_hand();
    let backing = Box::new(Slow(MemoryBacking::new(1 << 30), Arc::clone(&time_ms)));
    let limits = Limits { max_queues: 99, max_queue_len: 99_999 };
    let queues = Queues::open(backing, limits, Policy::Never).unwrap().with_clock(clock);
    let mut client = Daemon::new(Store::Queues(Arc::new(queues)), "memory").client();
    let check = |client: &mut Conversation, name: &str, numbers: &str| {
        let text = client.ask("INFO commandstats");
        assert!(text.contains(&format!("|cmdstat_{name}:{numbers},rejected")), "{name} in {text}");
    };
    pipeline(&mut client, &["SADD a 1", "SCARD a", "SCARD b", "SADD b 1", "SADD b 2"]);
    check(&mut client, "sadd", "calls=3,usec=14000,usec_per_call=4666.66");
    check(&mut client, "scard", "calls=2,usec=0,usec_per_call=0.00");
    // In a transaction it is the time of the command that is in it.
    pipeline(&mut client, &["MULTI", "SCARD c", "SADD c 1", "SCARD c", "EXEC"]);
    check(&mut client, "sadd", "calls=4,usec=21000,usec_per_call=5250.00");
    check(&mut client, "exec", "calls=1,usec=0,usec_per_call=0.00");
    // What happens between the turns of a long command is no part of it, nor of what is before it.
    let messages: String = (0..9999).map(|number| format!(" {number}")).collect();
    let request = [bytes_of("SCARD d"), bytes_of(&format!("SADD d{messages}"))].concat();
    let (mut done, mut turns) = (0, 0);
    while done < request.len() {
        done += client.session.advance(&request[done..], &mut Vec::new()).consumed;
        time_ms.fetch_add(1000, Relaxed);
        turns += 1;
    }
    assert!(turns > 1);
    check(&mut client, "sadd", "calls=5,usec=28000,usec_per_call=5600.00");
    check(&mut client, "scard", "calls=5,usec=0,usec_per_call=0.00");
    client.check(&[("CONFIG RESETSTAT", "+OK|"), ("SCARD a", ":1|")]);
    check(&mut client, "scard", "calls=1,usec=0,usec_per_call=0.00");
}

/// The numbers of a command in `INFO commandstats`: calls, rejected and failed ones.
fn numbers_of(text: &str, name: &str) -> Option<[u64; 3]> {
    let line = text.split('|').find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:")))?;
    let number = |what: &str| {
        let word = line.split(',').find_map(|word| word.strip_prefix(&format!("{what}=")));
        word.unwrap().parse().unwrap()
    };
    Some(["calls", "rejected_calls", "failed_calls"].map(number))
}

#[test]
fn info_counts_requests_that_are_refused_before_they_are_called() {
    let mut client = queue_client();
    pipeline(&mut client, &["SADD only"; 50]);
    pipeline(&mut client, &["SADD q m", "SADD only", "CONFIG GET", "CLIENT none", "none q"]);
    client.ask("SADD only");
    let text = client.ask("INFO commandstats");
    assert_eq!(numbers_of(&text, "sadd"), Some([1, 52, 0]), "{text}");
    assert_eq!(numbers_of(&text, "config"), Some([0, 1, 0]), "{text}");
    assert_eq!(numbers_of(&text, "client"), Some([0, 1, 0]), "{text}");
    let stats = client.ask("INFO stats");
    assert!(stats.contains("|total_error_replies:55|"), "{stats}");
}

#[test]
fn info_counts_what_a_transaction_refuses() {
    let mut client = queue_client();
    let refused = ["MULTI", "SADD only", "CONFIG none", "SADD q m", "EXEC"];
    pipeline(&mut client, &refused);
    let text = client.ask("INFO commandstats");
    assert_eq!(numbers_of(&text, "sadd"), Some([0, 1, 0]), "{text}");
    assert_eq!(numbers_of(&text, "config"), Some([0, 1, 0]), "{text}");
    assert_eq!(numbers_of(&text, "exec"), Some([1, 0, 1]), "{text}");
    pipeline(&mut client, &["MULTI", "SPOP q x", "SADD q m", "EXEC"]);
    let text = client.ask("INFO commandstats");
    assert_eq!(numbers_of(&text, "sadd"), Some([1, 1, 0]), "{text}");
    assert_eq!(numbers_of(&text, "spop"), Some([1, 0, 1]), "{text}");
    assert_eq!(numbers_of(&text, "exec"), Some([2, 0, 1]), "{text}");
    let stats = client.ask("INFO stats");
    assert!(stats.contains("|total_error_replies:4|"), "{stats}");
}

#[test]
fn info_counts_what_stands_before_it_in_the_same_read() {
    let mut client = Daemon::with_queues_at(set_by_hand().0).client();
    let text = client.raw(b"none\r\nsadd q m\r\nsadd\r\ninfo stats\r\ninfo commandstats\r\n");
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("total_error_replies:2\r\n"), "{text}");
    assert!(text.contains("cmdstat_sadd:calls=1,usec=0,usec_per_call=0.00,rejected_calls=1,"));
}

#[test]
fn info_counts_the_error_that_ends_a_connection() {
    let daemon = Daemon::with_queues_at(set_by_hand().0);
    assert!(daemon.client().raw(b"*1\r\nx").starts_with(b"-ERR Protocol error"));
    let stats = daemon.client().ask("INFO stats");
    assert!(stats.contains("|total_error_replies:1|"), "{stats}");
}

#[test]
fn info_shows_each_queue_that_is_asked_for() {
    let (clock, time_ms) = set_by_hand();
    let daemon = Daemon::with_queues_at(clock);
    let mut client = daemon.client();
    client.check(&[("SADD jobs ab c d", ":3|"), ("SADD a:b,c x", ":1|"), ("SPOP jobs", "$2|ab|")]);
    let Store::Queues(queues) = &daemon.shared.store else { unreachable!("it was made so") };
    let expires_ms = time_ms.load(Relaxed) + 10;
    let message = NewMessage { body: b"m", flags: 0, expires_ms };
    queues.create(b"jobs", &mut Ticket::default(), |queue| queue.push(&message)).unwrap();
    time_ms.fetch_add(2500, Relaxed);
    while queues.tidy() {}
    let jobs =
        "queue_jobs:length=2,leased=0,bytes=2,disk_bytes=0,oldest_age_ms=2500,in=4,out=1,expired=1";
    let other = "queue_a%3Ab%2Cc:length=1,leased=0,bytes=1,disk_bytes=0,oldest_age_ms=2500,\
                 in=1,out=0,expired=0";
    let shown = |lines: &str| {
        let text = format!("# Queues|{lines}");
        format!("${}|{text}|", text.len() + text.matches('|').count())
    };
    assert_eq!(client.ask("INFO queues"), shown(&format!("{jobs}|{other}|")));
    assert_eq!(client.ask("info QUEUES none a:b,c"), shown(&format!("{other}|")));
    let both = client.ask("INFO commandstats queues");
    assert!(both.contains("# Commandstats|") && both.contains("# Queues|queue_jobs:"), "{both}");
    // A clock that is set back makes no negative age.
    time_ms.fetch_sub(5000, Relaxed);
    assert!(client.ask("INFO queues jobs").contains("oldest_age_ms=0,"));
    assert!(!client.ask("INFO everything").contains("# Queues"));
}

#[test]
fn a_queue_whose_messages_are_all_dead_is_in_no_list_and_no_count() {
    let (clock, time_ms) = set_by_hand();
    let daemon = Daemon::with_queues_at(clock);
    let mut client = daemon.client();
    client.check(&[("SADD jobs a", ":1|")]);
    let Store::Queues(queues) = &daemon.shared.store else { unreachable!("it was made so") };
    let message = NewMessage { body: b"m", flags: 0, expires_ms: time_ms.load(Relaxed) + 10 };
    queues.create(b"dying", &mut Ticket::default(), |queue| queue.push(&message)).unwrap();
    client.check(&[("DBSIZE", ":2|"), ("KEYS dying", "*1|$5|dying|")]);
    time_ms.fetch_add(10, Relaxed);
    client.check(&[
        ("DBSIZE", ":1|"),
        ("KEYS *", "*1|$4|jobs|"),
        ("SCAN 0", "*2|$1|0|*1|$4|jobs|"),
        ("INFO keyspace", "$44|# Keyspace|db0:keys=1,expires=0,avg_ttl=0||"),
    ]);
    let stats = client.ask("INFO stats");
    assert!(stats.contains("|queues:1|messages:1|"), "{stats}");
}

/// It was 0 as soon as more than 1,000 messages were dead, wherever they stood.
#[test]
fn info_shows_the_age_of_the_oldest_message_as_far_as_it_is_known() {
    let (clock, time_ms) = set_by_hand();
    let daemon = Daemon::with_queues_at(clock);
    let mut client = daemon.client();
    client.check(&[("SADD front a", ":1|")]);
    let Store::Queues(queues) = &daemon.shared.store else { unreachable!("it was made so") };
    let message = NewMessage { body: b"m", flags: 0, expires_ms: time_ms.load(Relaxed) + 10 };
    for name in [b"front", b"after"] {
        let push = |queue: &mut Queue| (0..1500).try_for_each(|_| queue.push(&message));
        queues.create(name, &mut Ticket::default(), push).unwrap();
    }
    client.check(&[("SADD after a", ":1|")]);
    time_ms.fetch_add(2500, Relaxed);
    // Asking removes nothing.
    for _ in 0..2 {
        let text = client.ask("INFO queues");
        assert!(
            text.contains(",oldest_age_ms=2500,in=1501,out=0,expired=0|queue_after:"),
            "{text}"
        );
        assert!(text.contains(",disk_bytes=0,in=1501,out=0,expired=0||"), "{text}");
    }
    while queues.tidy() {}
    let text = client.ask("INFO queues after");
    assert!(text.contains(",oldest_age_ms=2500,in=1501,out=0,expired=1500|"), "{text}");
}

/// A healthy queue is empty most of the time, and its totals go on.
#[test]
fn info_shows_an_empty_queue_that_is_named_until_it_is_forgotten() {
    let daemon = Daemon::with_queues_at(set_by_hand().0);
    let mut client = daemon.client();
    client.check(&[("SADD jobs a b", ":2|"), ("SPOP jobs 9", "*2|$1|a|$1|b|")]);
    let line = "# Queues|queue_jobs:length=0,leased=0,bytes=0,disk_bytes=0,oldest_age_ms=0,\
                in=2,out=2,expired=0|";
    let named = client.ask("INFO queues none jobs");
    assert!(named.ends_with(&format!("|{line}|")), "{named}");
    client.check(&[("INFO queues", "$10|# Queues||")]);
    let Store::Queues(queues) = &daemon.shared.store else { unreachable!("it was made so") };
    (0..2).for_each(|_| queues.rest_idle());
    client.check(&[("INFO queues jobs", "$10|# Queues||")]);
}

/// 300 queues were found, and behind them one that cannot be opened.
struct OneClosed(MemoryBacking);

impl Backing for OneClosed {
    fn existing(&self) -> Result<Vec<NamedStore>, QueueError> {
        let mut found: Vec<NamedStore> = Vec::new();
        for number in 0..300 {
            let name = format!("q{number}").into_bytes();
            let mut store = self.create(&name)?;
            store.push(&NewMessage { body: b"m", flags: 0, expires_ms: 0 }, 0)?;
            found.push((name.into(), Ok(store)));
        }
        found.push((b"bad"[..].into(), Err(QueueError::Storage("damaged".into()))));
        Ok(found)
    }

    fn create(&self, name: &[u8]) -> Result<Box<dyn MessageStore>, QueueError> {
        self.0.create(name)
    }

    fn statistics(&self) -> Vec<(&'static str, u64)> {
        self.0.statistics()
    }
}

#[test]
fn info_shows_closed_queues_first() {
    let backing = Box::new(OneClosed(MemoryBacking::new(1 << 20)));
    let limits = Limits { max_queues: 999, max_queue_len: 9 };
    let queues = Queues::open(backing, limits, Policy::Never).unwrap();
    let text = Daemon::new(Store::Queues(Arc::new(queues)), "memory").client().ask("INFO queues");
    assert!(text.contains("|# Queues|queue_bad:closed=1|queue_q0:length=1,"), "{text}");
    assert!(text.contains("|queue_q254:") && !text.contains("|queue_q255:"), "{text}");
}

#[test]
fn info_counts_bytes_of_all_clients() {
    let daemon = Daemon::with_queues_at(set_by_hand().0);
    daemon.shared.statistics.traffic.received.store(7, Relaxed);
    daemon.shared.statistics.traffic.sent.store(9, Relaxed);
    let text = daemon.client().ask("INFO stats");
    assert!(text.contains("|total_net_input_bytes:7|total_net_output_bytes:9|"), "{text}");
}

#[test]
fn info_counts_keys_that_expire() {
    let (clock, time_ms) = set_by_hand();
    let mut client = Daemon::with_kv_at(clock).client();
    client.check(&[
        ("SETEX a 100 1", "+OK|"),
        ("SET b 1", "+OK|"),
        ("INFO keyspace", "$49|# Keyspace|db0:keys=2,expires=1,avg_ttl=100000||"),
        ("PSETEX c 2000 1", "+OK|"),
    ]);
    time_ms.fetch_add(1000, Relaxed);
    client.check(&[
        ("INFO keyspace", "$48|# Keyspace|db0:keys=3,expires=2,avg_ttl=50000||"),
        ("PERSIST a", ":1|"),
        ("DEL c", ":1|"),
        ("INFO keyspace", "$44|# Keyspace|db0:keys=2,expires=0,avg_ttl=0||"),
        ("SET a 1 PXAT 9223372036854775807", "+OK|"),
        ("FLUSHALL", "+OK|"),
        ("INFO keyspace", "$12|# Keyspace||"),
    ]);
}

/// Of both protocols, as they are the daemon's.
#[test]
fn resetstat_resets_the_counters() {
    let daemon = Daemon::with_queues_at(set_by_hand().0);
    let statistics = &daemon.shared.statistics;
    statistics.connections_total.store(3, Relaxed);
    statistics.connections_now.store(2, Relaxed);
    statistics.traffic.received.store(7, Relaxed);
    let mut client = daemon.client();
    pipeline(&mut client, &["SADD q m", "SADD q", "none", "CONFIG RESETSTAT", "SCARD q"]);
    let text = client.ask("INFO all");
    assert_eq!((numbers_of(&text, "sadd"), numbers_of(&text, "scard")), (None, Some([1, 0, 0])));
    let lines = ["connected_clients:2|", "total_connections_received:0|", "messages:1|"];
    let lines = lines.into_iter().chain(["total_error_replies:0|", "total_net_input_bytes:0|"]);
    for line in lines.chain(["total_commands_processed:2|"]) {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(client.ask("INFO queues").contains(",in=1,"), "its totals are its own");
}
