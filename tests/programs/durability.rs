//! `kill -9` and SIGTERM over real sockets: what was answered is there after the restart, once and
//! in order, whatever the policy.
//!
//! `MQ_TEST_SEED` repeats the choices of a run: depths of pipelines and the moment of the kill.

use crate::common::{Daemon, GUARD, command, request};
use crate::random::Random;
use crate::victim::{Message, Victim, body};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirEntry};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const PRODUCERS: u64 = 4;
/// Messages of each producer: 100,000 in all.
const MESSAGES: u64 = 25_000;
/// Commands in one pipeline at most.
const DEPTH: u64 = 400;
const POLICIES: [&str; 3] = ["always", "everysec", "never"];

/// What a producer knows at the end.
struct Pushed {
    /// Messages that were sent.
    sent: u64,
    /// Answers to them.
    answers: Vec<String>,
}

/// Pushes the producer's messages from `first` on, in pipelines, until all are answered or the
/// daemon is gone; counts the answers in `answered`.
fn produce(
    mut client: Victim,
    messages: std::ops::Range<u64>,
    command: impl Fn(u64) -> Vec<u8>,
    mut random: Random,
    answered: &AtomicU64,
) -> Pushed {
    let mut pushed = Pushed { sent: messages.start, answers: Vec::new() };
    while pushed.sent < messages.end {
        let depth = (1 + random.below(DEPTH)).min(messages.end - pushed.sent);
        let pipeline: Vec<u8> = (pushed.sent..pushed.sent + depth).flat_map(&command).collect();
        pushed.sent += depth;
        if !client.send(&pipeline) {
            return pushed;
        }
        for _ in 0..depth {
            let Some(answer) = client.line() else { return pushed };
            pushed.answers.push(answer);
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
    pushed
}

fn sadd(message: Message) -> Vec<u8> {
    request(&[b"SADD", b"q", &body(message)])
}

fn set(message: Message) -> Vec<u8> {
    let body = body(message);
    [format!("set q 0 0 {}\r\n", body.len()).as_bytes(), &body, b"\r\n"].concat()
}

/// Four producers at once, each from the given number on.
fn produce_all(
    daemon: &Daemon,
    firsts: &[u64],
    random: &mut Random,
    answered: &Arc<AtomicU64>,
) -> Vec<JoinHandle<Pushed>> {
    let start = |(producer, first): (u64, &u64)| {
        let (client, answered) = (Victim::connect(daemon.redis_address()), Arc::clone(answered));
        let (messages, random) = (*first..MESSAGES, random.fork());
        let command = move |number| sadd((producer, number));
        thread::spawn(move || produce(client, messages, command, random, &answered))
    };
    (0..).zip(firsts).map(start).collect()
}

fn wait_for(count: &AtomicU64, wanted: u64) {
    while count.load(Ordering::Relaxed) < wanted {
        thread::sleep(Duration::from_micros(200));
    }
}

/// Pops everything over memcached.
fn drain(daemon: &Daemon) -> Vec<Message> {
    let mut client = Victim::connect(daemon.memcached_address());
    let mut popped = Vec::new();
    loop {
        let before = popped.len();
        assert!(client.send(&b"get q\r\n".repeat(1000)));
        for _ in 0..1000 {
            popped.extend(client.popped_over_memcached().expect("the daemon is there"));
        }
        if popped.len() < before + 1000 {
            daemon.redis().ask("SCARD q\r\n", ":0\r\n");
            return popped;
        }
    }
}

fn numbers_of(producer: u64, messages: &[Message]) -> Vec<u64> {
    messages.iter().filter(|message| message.0 == producer).map(|message| message.1).collect()
}

/// The daemon dies when a random part of 100,000 pushes has been answered. Each producer then sends
/// what was not answered again: what had arrived all the same is in the queue, and `SADD` says so.
/// A second kill comes after the last answer, and everything is popped over the other protocol.
fn pushes_survive(policy: &str) {
    let mut random = Random::seeded();
    let mut daemon = Daemon::start(&format!("--fsync {policy} --segment-size 256k"));
    let answered = Arc::default();
    let producers = produce_all(&daemon, &[0; PRODUCERS as usize], &mut random, &answered);
    let all = PRODUCERS * MESSAGES;
    let kill_after = all / 5 + random.below(all / 2);
    wait_for(&answered, kill_after);
    daemon.kill();
    let pushed: Vec<Pushed> = producers.into_iter().map(|p| p.join().unwrap()).collect();
    assert!(pushed.iter().flat_map(|pushed| &pushed.answers).all(|answer| answer == ":1"));
    let firsts: Vec<u64> = pushed.iter().map(|pushed| pushed.answers.len() as u64).collect();
    println!("{policy}: killed after {kill_after} answers, producers had {firsts:?}");

    let mut daemon = daemon.restart();
    let again = produce_all(&daemon, &firsts, &mut random, &Arc::default());
    for ((again, first), pushed) in again.into_iter().zip(&firsts).zip(&pushed) {
        let answers = again.join().unwrap().answers;
        assert_eq!(answers.len() as u64, MESSAGES - first);
        let survived = answers.iter().take_while(|answer| *answer == ":0").count();
        assert!(survived as u64 <= pushed.sent - first, "never sent, and there");
        // A connection's commands are executed in order, so what survived is what came first.
        assert!(answers[survived..].iter().all(|answer| answer == ":1"), "lost in between");
    }
    daemon.kill();
    let daemon = daemon.restart();
    let popped = drain(&daemon);
    for producer in 0..PRODUCERS {
        let numbers = numbers_of(producer, &popped);
        assert!(numbers.iter().copied().eq(0..MESSAGES), "producer {producer}: lost or twice");
    }
}

#[test]
fn answered_pushes_survive_kill_9_under_fsync_always() {
    pushes_survive("always");
}

#[test]
fn answered_pushes_survive_kill_9_under_fsync_everysec() {
    pushes_survive("everysec");
}

#[test]
fn answered_pushes_survive_kill_9_under_fsync_never() {
    pushes_survive("never");
}

/// What a consumer knows at the end.
#[derive(Default)]
struct Popped {
    messages: Vec<Message>,
    /// Pops that were sent and not answered: each may have taken a message with it.
    unanswered: u64,
}

fn consume(
    mut client: Victim,
    pop: &[u8],
    answer: fn(&mut Victim) -> Option<Option<Message>>,
    mut random: Random,
) -> Popped {
    let mut popped = Popped::default();
    loop {
        popped.unanswered = 1 + random.below(DEPTH / 4);
        if !client.send(&pop.repeat(popped.unanswered as usize)) {
            return popped;
        }
        while popped.unanswered > 0 {
            let Some(message) = answer(&mut client) else { return popped };
            popped.messages.extend(message);
            popped.unanswered -= 1;
        }
    }
}

/// Producers and consumers of both protocols at work when the daemon dies.
fn a_busy_queue_survives(policy: &str) {
    let mut random = Random::seeded();
    let mut daemon = Daemon::start(&format!("--fsync {policy} --segment-size 64k"));
    let answered = Arc::<AtomicU64>::default();
    let mut producers = Vec::new();
    for producer in 0..PRODUCERS {
        let over_redis = producer % 2 == 0;
        let address = if over_redis { daemon.redis_address() } else { daemon.memcached_address() };
        let command = if over_redis { sadd } else { set };
        let (client, random, answered) =
            (Victim::connect(address), random.fork(), Arc::clone(&answered));
        producers.push(thread::spawn(move || {
            let command = |number| command((producer, number));
            produce(client, 0..MESSAGES, command, random, &answered)
        }));
    }
    let consumers = [
        (daemon.redis_address(), &b"SPOP q\r\n"[..], Victim::popped_over_redis as fn(&mut _) -> _),
        (daemon.memcached_address(), &b"get q\r\n"[..], Victim::popped_over_memcached),
    ]
    .map(|(address, pop, answer)| {
        let (client, random) = (Victim::connect(address), random.fork());
        thread::spawn(move || consume(client, pop, answer, random))
    });
    wait_for(&answered, 10_000 + random.below(60_000));
    daemon.kill();
    let pushed: Vec<Pushed> = producers.into_iter().map(|p| p.join().unwrap()).collect();
    let popped = consumers.map(|consumer| consumer.join().unwrap());
    let unanswered: u64 = popped.iter().map(|popped| popped.unanswered).sum();
    let daemon = daemon.restart();
    let left = drain(&daemon);

    let taken: BTreeSet<Message> =
        popped.iter().flat_map(|popped| &popped.messages).copied().collect();
    let count: usize = popped.iter().map(|popped| popped.messages.len()).sum();
    println!("{policy}: {count} popped, {unanswered} pops unanswered, {} left", left.len());
    assert_eq!(taken.len(), count, "delivered twice");
    assert!(left.iter().all(|message| !taken.contains(message)), "delivered again");
    let mut missing = 0;
    for (producer, pushed) in (0..).zip(&pushed) {
        let numbers = numbers_of(producer, &left);
        assert!(numbers.iter().zip(numbers.iter().skip(1)).all(|(one, next)| one + 1 == *next));
        let first = numbers.first().map_or(pushed.answers.len() as u64, |first| *first);
        let end = numbers.last().map_or(first, |last| last + 1);
        assert!(end >= pushed.answers.len() as u64, "answered and lost at the end");
        assert!(end <= pushed.sent, "never sent");
        // What is missing was in the hands of a pop that was not answered: the oldest there were.
        missing += (0..first).filter(|number| !taken.contains(&(producer, *number))).count();
    }
    assert!(missing as u64 <= unanswered, "{missing} missing, {unanswered} pops unanswered");
}

#[test]
fn a_busy_queue_survives_kill_9_under_fsync_always() {
    a_busy_queue_survives("always");
}

#[test]
fn a_busy_queue_survives_kill_9_under_fsync_everysec() {
    a_busy_queue_survives("everysec");
}

#[test]
fn a_busy_queue_survives_kill_9_under_fsync_never() {
    a_busy_queue_survives("never");
}

/// Removals by value from all over the queue, while segments are copied forward and die.
#[test]
fn answered_removals_survive_kill_9_under_every_policy() {
    for policy in POLICIES {
        let mut random = Random::seeded();
        let mut daemon = Daemon::start(&format!("--fsync {policy} --segment-size 64k"));
        let (count, removers) = (20_000, 4);
        let push: Vec<u8> = (0..count).flat_map(|number| sadd((0, number))).collect();
        let mut client = daemon.redis();
        client.send(&push);
        client.expect(":1\r\n".repeat(count as usize));
        let mut order: Vec<u64> = (0..count).collect();
        for index in (1..order.len()).rev() {
            order.swap(index, random.below(index as u64 + 1) as usize);
        }
        let answered = Arc::<AtomicU64>::default();
        let share = order.len() / removers;
        let threads: Vec<_> = order
            .chunks(share)
            .map(|share| {
                let (client, share) = (Victim::connect(daemon.redis_address()), share.to_vec());
                let (random, answered) = (random.fork(), Arc::clone(&answered));
                thread::spawn(move || {
                    let command =
                        |index| request(&[b"SREM", b"q", &body((0, share[index as usize]))]);
                    let asked = produce(client, 0..share.len() as u64, command, random, &answered);
                    (share, asked)
                })
            })
            .collect();
        wait_for(&answered, count / 4 + random.below(count / 2));
        daemon.kill();
        let daemon = daemon.restart();
        let left = numbers_of(0, &drain(&daemon));
        assert!(left.is_sorted_by(|one, next| one < next), "out of order or twice");
        let left: BTreeSet<u64> = left.into_iter().collect();
        for thread in threads {
            let (share, Pushed { sent, answers }) = thread.join().unwrap();
            assert!(answers.iter().all(|answer| answer == ":1"));
            let back = share[..answers.len()].iter().find(|number| left.contains(number));
            assert_eq!(back, None, "{policy}: removed, and back");
            let lost = share[sent as usize..].iter().find(|number| !left.contains(number));
            assert_eq!(lost, None, "{policy}: never removed, and gone");
        }
    }
}

/// A queue was dropped and made anew while the old one was being synced, and the outcome of that
/// sync was given to the new one: it took positions of the old log for durable, and a start with
/// `--strict` refused it; or clients were cut off because the old folder was gone.
#[test]
fn queues_that_come_and_go_under_load_are_whole_after_kill_9() {
    let mut random = Random::seeded();
    let mut daemon = Daemon::start("--fsync always --segment-size 64k");
    let mut threads = Vec::new();
    for client in 0..4 {
        let mut redis = daemon.redis();
        let mut random = random.fork();
        threads.push(thread::spawn(move || {
            for round in 0..400_u64 {
                let name = format!("q{}", random.below(2));
                let body = format!("{client}:{round}:{}", "x".repeat(20_000));
                match random.below(4) {
                    0 => redis.send(format!("DEL {name}\r\n")),
                    1 => redis.send(format!("SPOP {name} 3\r\nDEL {name}\r\n")),
                    _ => redis.send(format!("SADD {name} {body}a {body}b {body}c\r\n")),
                }
                redis.send("PING\r\n");
                while redis.read_line() != "+PONG" {}
            }
        }));
    }
    threads.into_iter().for_each(|thread| thread.join().expect("no client is cut off"));
    assert!(!daemon.log().contains("ERROR"), "{}", daemon.log());
    for name in ["q0", "q1"] {
        daemon.redis().ask(format!("SADD {name} last\r\n"), ":1\r\n");
    }
    daemon.kill();
    let arguments = ["--strict", "--segment-size", "64k"].map(String::from).to_vec();
    let daemon = daemon.restart_with(arguments);
    for name in ["q0", "q1"] {
        daemon.redis().ask(format!("SISMEMBER {name} last\r\n"), ":1\r\n");
    }
}

#[test]
fn sigterm_under_load_ends_with_0_and_everything_answered_is_there() {
    for policy in POLICIES {
        let mut random = Random::seeded();
        let mut daemon = Daemon::start(&format!("--fsync {policy}"));
        let answered = Arc::default();
        let producers = produce_all(&daemon, &[0; PRODUCERS as usize], &mut random, &answered);
        wait_for(&answered, 5000 + random.below(20_000));
        let status = daemon.terminate();
        assert_eq!(status.code(), Some(0), "{}", daemon.log());
        let daemon = daemon.restart();
        let left = drain(&daemon);
        for (producer, pushed) in (0..).zip(producers) {
            let Pushed { sent, answers } = pushed.join().unwrap();
            let numbers = numbers_of(producer, &left);
            assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "lost or twice");
            assert!((answers.len()..=sent as usize).contains(&numbers.len()));
        }
    }
}

#[test]
fn sigterm_in_the_middle_of_a_large_command_ends_with_0_and_leaves_all_of_it_or_nothing() {
    const COUNT: usize = 100_000;
    let named = |verb: &[u8], prefix: &str| {
        let bodies: Vec<_> = (0..COUNT).map(|number| format!("{prefix}{number}")).collect();
        let words: Vec<_> = bodies.iter().map(|body| body.as_bytes()).collect();
        request(&[&[verb, b"q"], &words[..]].concat())
    };
    let commands = [
        (named(b"SADD", "new"), 2 * COUNT),
        (named(b"SREM", "m"), 0),
        (b"SPOP q 99999\r\n".to_vec(), 1),
    ];
    for (command, after) in commands {
        let mut daemon = Daemon::start("");
        let mut client = daemon.redis();
        client.ask(named(b"SADD", "m"), format!(":{COUNT}\r\n"));
        client.send(&command);
        daemon.redis().ask("PING\r\n", "+PONG\r\n");
        let status = daemon.terminate();
        assert_eq!(status.code(), Some(0), "{}", daemon.log());
        let daemon = daemon.restart();
        let mut client = daemon.redis();
        client.send("SCARD q\r\n");
        let left = client.read_line();
        assert!([COUNT, after].iter().any(|count| left == format!(":{count}")), "{left}");
    }
}

/// The daemon's threads of this name, by their ids.
fn threads(daemon: &Daemon, name: &str) -> BTreeSet<OsString> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.id())).expect("a running daemon");
    let tasks = tasks.map(|task| task.expect("an entry"));
    let is_meant = |task: &DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    tasks.filter(is_meant).map(|task| task.file_name()).collect()
}

/// They were made when two queues changed in one epoch for the first time. Where a limit of threads
/// allowed none then, that commit panicked, and each later one of two queues as well.
#[test]
fn the_threads_for_syncs_side_by_side_are_made_at_the_start() {
    let daemon = Daemon::start("--fsync always");
    // A thread takes its name once it runs, perhaps a little after the daemon is ready.
    let start = Instant::now();
    let at_start = loop {
        let found = threads(&daemon, "sync");
        if found.len() == 2 {
            break found;
        }
        assert!(start.elapsed() < GUARD, "{} threads for syncs", found.len());
        thread::yield_now();
    };
    for turn in 0..20 {
        let pushes: String = (0..6).map(|queue| format!("SADD q{queue} {turn}\r\n")).collect();
        daemon.redis().ask(pushes, ":1\r\n".repeat(6));
    }
    assert_eq!(threads(&daemon, "sync"), at_start);
}

#[test]
fn a_second_daemon_on_the_same_directory_says_so_and_ends_with_1() {
    let mut daemon = Daemon::start("");
    daemon.redis().ask("SADD q m\r\n", ":1\r\n");
    let second = command()
        .args(["--redis", "127.0.0.1:0", "--memcached", "off", "--dir"])
        .arg(daemon.directory())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let complaint = String::from_utf8(second.stderr).unwrap();
    assert!(complaint.contains("another daemon uses this directory"), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(second.stdout.is_empty());
    daemon.redis().ask("SISMEMBER q m\r\n", ":1\r\n");
    // The lock goes with the process, however it ends.
    daemon.kill();
    daemon.restart().redis().ask("SPOP q\r\n", "$1\r\nm\r\n");
}
