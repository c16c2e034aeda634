//! Rule 20 for whole commands: a power cut in the middle of one leaves all of it in a queue, or
//! nothing. The commands are a session's, and what they write is cut everywhere.

use super::bench::*;
use crate::common::{Daemon, request};
use crate::random::Random;
use mq::queue::{
    Backing, Changes, DiskBacking, Durability, Limits, MemoryBacking, NewMessage, Policy, Queues,
    ReplyVerdict, StepSize, Ticket,
};
use mq::session::redis::RedisSession;
use mq::session::{NewClient, Session, Settings, Shared, Store};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tempfile::TempDir;

const SEGMENT_SIZE: u64 = 64 * 1024;

/// The bodies in a queue, oldest first.
type Bodies = Vec<String>;

/// Queues on disk, and a client of theirs.
struct Bench {
    root: TempDir,
    queues: Arc<Queues>,
    session: RedisSession,
}

impl Bench {
    fn new(max_queue_len: u64) -> Bench {
        let root = TempDir::new().unwrap();
        let directory = open_directory(root.path(), SEGMENT_SIZE, false).unwrap();
        let bench = Bench::over(Box::new(DiskBacking::new(directory)), max_queue_len);
        Bench { root, ..bench }
    }

    fn over(backing: Box<dyn Backing>, max_queue_len: u64) -> Bench {
        let limits = Limits { max_queues: 10, max_queue_len };
        let queues = Arc::new(Queues::open(backing, limits, Policy::Always).unwrap());
        let shared =
            Shared::new(Store::Queues(Arc::clone(&queues)), Settings::default(), Arc::default());
        let session = RedisSession::new(Arc::new(shared), NewClient::detached(1));
        Bench { root: TempDir::new().unwrap(), queues, session }
    }

    /// Pushes messages, of which some may be equal.
    fn push(&self, name: &str, bodies: &[&str]) {
        for body in bodies {
            let message = NewMessage { body: body.as_bytes(), flags: 0, expires_ms: 0 };
            let push = |queue: &mut mq::queue::Queue| queue.push(&message);
            self.queues.create(name.as_bytes(), &mut Ticket::default(), push).unwrap();
        }
    }

    /// The replies to these lines, with `|` for each line end.
    fn ask(&mut self, lines: &[impl Display]) -> String {
        let request = lines.iter().map(|line| format!("{line}\r\n")).collect::<String>();
        let (mut output, mut rest) = (Vec::new(), request.as_bytes());
        while !rest.is_empty() {
            let advance = self.session.advance(rest, &mut output);
            assert!(advance.close.is_none(), "it is closed");
            rest = &rest[advance.consumed..];
        }
        String::from_utf8_lossy(&output).replace("\r\n", "|")
    }

    fn files(&self, name: &str) -> Files {
        self.files_if_any(name).unwrap_or_else(|| panic!("there is no queue {name}"))
    }

    fn files_if_any(&self, name: &str) -> Option<Files> {
        let folder = self.root.path().join(format!("q-{name}"));
        folder.is_dir().then(|| read_files(&folder))
    }

    /// Lets `act` work, and checks of each queue in `names` that a power cut at any write leaves
    /// all of it there, or nothing.
    fn cut_everywhere(&mut self, names: &[&str], act: impl FnOnce(&mut Bench)) {
        self.queues.commit();
        let before: Vec<Files> = names.iter().map(|name| self.files(name)).collect();
        act(self);
        for (name, before) in names.iter().zip(before) {
            let seen = check_cuts(name, &before, &self.files(name));
            assert_eq!(seen, 2, "{name}: nothing has happened, or it was not cut");
        }
    }

    /// A transaction of these commands, which answers `replies` with `|` for each line end.
    fn exec(&mut self, commands: &[&str], replies: &str) {
        let lines = [&["MULTI"][..], commands, &["EXEC"]].concat();
        let queued = "+QUEUED|".repeat(commands.len());
        assert_eq!(self.ask(&lines), format!("+OK|{queued}{replies}"));
    }
}

/// Checks that whatever a power cut leaves between these states of a queue is one of them. Returns
/// how many of the two there were.
fn check_cuts(name: &str, before: &Files, after: &Files) -> usize {
    let (old, new) = (bodies(name, before), bodies(name, after));
    let mut seen = BTreeSet::new();
    for image in images(before, after) {
        let found = bodies(name, &image);
        assert!(found == old || found == new, "{name}: {found:?} of {old:?} and {new:?}");
        seen.insert(found);
    }
    seen.len()
}

/// What a start finds in the queue `name` of these files.
fn bodies(name: &str, files: &Files) -> Bodies {
    let root = TempDir::new().unwrap();
    let folder = root.path().join(format!("q-{name}"));
    fs::create_dir(&folder).unwrap();
    files.iter().for_each(|(file, bytes)| fs::write(folder.join(file), bytes).unwrap());
    let (_directory, log) = open(root.path(), SEGMENT_SIZE, false).unwrap();
    let (mut log, mut from, mut bodies) = (log.expect("a queue"), 0, Bodies::new());
    while let Some((place, message)) = log.next(from).unwrap() {
        from = place.sequence + 1;
        bodies.push(String::from_utf8_lossy(message.body).into_owned());
    }
    bodies
}

/// What a power cut may leave between two states of a queue of one file: any of the sectors with
/// cursors that have changed, and what has been appended up to any place.
fn images(before: &Files, after: &Files) -> Vec<Files> {
    let (old, new) = (&before[&only_name(before)], &after[&only_name(after)]);
    assert_eq!(old.len(), new.len());
    let sector = |number: usize| number * SECTOR..(number + 1) * SECTOR;
    let slots: Vec<_> =
        (1..RECORDS / SECTOR).filter(|it| old[sector(*it)] != new[sector(*it)]).collect();
    let end = |file: &[u8]| file.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    let mut images = Vec::new();
    for lost in 0..1 << slots.len() {
        let mut bytes = new.clone();
        for (_, slot) in slots.iter().enumerate().filter(|(index, _)| lost >> index & 1 == 1) {
            bytes[sector(*slot)].copy_from_slice(&old[sector(*slot)]);
        }
        // Records lie at multiples of 8.
        for cut in (RECORDS.max(end(old))..=RECORDS.max(end(new) + 7)).rev().step_by(8) {
            bytes[cut..].fill(0);
            images.push(Files::from([(only_name(after), bytes.clone())]));
        }
    }
    images
}

fn only_name(files: &Files) -> String {
    assert_eq!(files.len(), 1);
    files.keys().next().unwrap().clone()
}

/// A value that stands several times: each was a step of its own.
#[test]
fn rule_20_equal_messages_are_removed_together() {
    let mut bench = Bench::new(u64::MAX);
    bench.push("q", &["a", "m", "b", "m", "m", "c", "m"]);
    bench.cut_everywhere(&["q"], |bench| assert_eq!(bench.ask(&["SREM q m"]), ":4|"));
    bench.push("q", &["x", "x"]);
    bench.cut_everywhere(&["q"], |bench| assert_eq!(bench.ask(&["SREM q x none a x"]), ":3|"));
}

/// A transaction was a step for each of its commands.
#[test]
fn rule_20_a_transaction_is_one_step_in_each_queue() {
    let mut bench = Bench::new(u64::MAX);
    bench.push("q", &["a", "b", "c", "d"]);
    bench.push("r", &["x", "y", "y"]);
    let commands =
        ["SADD q e f", "SPOP q", "SPOP r", "SADD r z", "SPOP q 2", "SREM q f", "SADD q g"];
    let replies = "*7|:2|$1|a|$1|x|:1|*2|$1|b|$1|c|:1|:1|";
    bench.cut_everywhere(&["q", "r"], |bench| bench.exec(&commands, replies));
    // Pops alone are a cursor.
    let commands = ["SPOP q", "SPOP r 2", "SPOP q", "SPOP r"];
    let replies = "*4|$1|d|*2|$1|y|$1|y|$1|e|$1|z|";
    bench.cut_everywhere(&["q"], |bench| bench.exec(&commands, replies));
    assert_eq!(bench.ask(&["SMEMBERS q", "SCARD r"]), "*1|$1|g|:0|");
}

#[test]
fn rule_20_a_transaction_that_replaces_a_queue_is_one_step() {
    let mut bench = Bench::new(u64::MAX);
    bench.push("q", &["a", "b", "b"]);
    bench.push("r", &["x"]);
    let commands = ["SADD q c", "DEL q", "EXISTS q", "SADD q d a", "SPOP q", "DEL q r", "SADD q e"];
    let replies = "*7|:1|:1|:0|:2|$1|d|:2|:1|";
    bench.cut_everywhere(&["q"], |bench| bench.exec(&commands, replies));
    let commands = ["FLUSHALL", "SADD q g", "SADD q h"];
    bench.cut_everywhere(&["q"], |bench| bench.exec(&commands, "*3|+OK|:1|:1|"));
    assert_eq!(bench.ask(&["SMEMBERS q", "DBSIZE"]), "*2|$1|g|$1|h|:1|");
}

/// Limits are those of each command: what is refused takes nothing back of the others.
#[test]
fn rule_20_a_transaction_meets_the_limit_of_a_queue_command_by_command() {
    let mut bench = Bench::new(3);
    bench.push("q", &["a"]);
    let full = "-ERR the queue is full, the limit is 3 messages (--max-queue-len)|";
    let commands = ["SADD q b c d", "SADD q b c", "SADD q d", "SPOP q", "SADD q d", "SADD q b d c"];
    let replies = format!("*6|{full}:2|{full}$1|a|:1|:0|");
    bench.cut_everywhere(&["q"], |bench| bench.exec(&commands, &replies));
}

/// The target has it before the source lets it go, also where both have more to do.
#[test]
fn rule_20_a_transaction_that_moves_messages_loses_none() {
    let mut bench = Bench::new(u64::MAX);
    bench.push("q", &["a", "b", "c"]);
    bench.push("r", &["x"]);
    let commands = ["SADD r y", "SMOVE q r b", "SMOVE q r a", "SMOVE q r a", "SPOP r", "SADD q d"];
    bench.cut_everywhere(&["q", "r"], |bench| {
        bench.exec(&commands, "*6|:1|:1|:1|:0|$1|x|:1|");
    });
    assert_eq!(bodies("q", &bench.files("q")), ["a", "b", "c", "d"]);
    assert_eq!(bench.ask(&["SMEMBERS q", "SCARD r"]), "*2|$1|c|$1|d|:3|");
    bench.queues.commit();
    assert_eq!(bodies("q", &bench.files("q")), ["c", "d"]);
    assert_eq!(bodies("r", &bench.files("r")), ["y", "b", "a"]);
}

/// Beside the same commands on queues in memory, where a transaction is nothing but its commands.
#[test]
fn rule_20_transactions_answer_the_same_and_are_cut_nowhere() {
    let mut random = Random::seeded();
    for _ in 0..3 {
        let mut bench = Bench::new(6);
        let mut twin = Bench::over(Box::new(MemoryBacking::new(1 << 30)), 6);
        for _ in 0..8 {
            let count = 1 + random.below(7) as usize;
            let commands: Vec<String> = (0..count).map(|_| command(&mut random)).collect();
            let lines = commands.iter().map(String::as_str);
            let lines = ["MULTI"].into_iter().chain(lines).chain(["EXEC"]).collect::<Vec<_>>();
            bench.queues.commit();
            bench.queues.commit();
            let names = ["q", "r"];
            let before = names.map(|name| bench.files_if_any(name));
            assert_eq!(bench.ask(&lines), twin.ask(&lines), "{lines:?}");
            for (name, before) in names.iter().zip(before) {
                if let (Some(before), Some(after)) = (before, bench.files_if_any(name))
                    && before.keys().eq(after.keys())
                {
                    check_cuts(name, &before, &after);
                }
            }
            let all = ["SMEMBERS q", "SMEMBERS r", "SCARD q", "SCARD r"];
            assert_eq!(bench.ask(&all), twin.ask(&all), "{lines:?}");
        }
    }
}

fn command(random: &mut Random) -> String {
    let name = ["q", "r"][random.below(2) as usize];
    let body = |random: &mut Random| ["a", "b", "c", "d", "e"][random.below(5) as usize];
    let (one, other, count) = (body(random), body(random), random.below(4));
    match random.below(12) {
        0..4 => format!("SADD {name} {one}"),
        4 => format!("SADD {name} {one} {other}"),
        5 | 6 => format!("SPOP {name}"),
        7 => format!("SPOP {name} {count}"),
        8 => format!("SREM {name} {one}"),
        9 => format!("SREM {name} {one} {other}"),
        10 => format!("SMOVE {name} {} {one}", if name == "q" { "r" } else { "q" }),
        _ if count == 0 => format!("DEL {name}"),
        _ => format!("SISMEMBER {name} {one}"),
    }
}

/// One queue has no room for what a transaction does to it: nothing is done to any.
#[test]
fn rule_20_a_transaction_that_finds_no_room_does_nothing() {
    let daemon = Daemon::start("--segment-size 1m --fsync never");
    let mut client = daemon.redis();
    client.ask("SADD q a b\r\n", ":2\r\n");
    let maximum = getrlimit(Resource::Fsize).maximum;
    let limit = Rlimit { current: Some(64 * 1024), maximum };
    prlimit(Pid::from_raw(daemon.id() as i32), Resource::Fsize, limit).unwrap();
    let large = "x".repeat(70_000);
    client.ask("MULTI\r\n", "+OK\r\n");
    let commands: [&[&[u8]]; 4] = [
        &[b"SADD", b"q", b"c", b"d"],
        &[b"SPOP", b"q"],
        &[b"SADD", b"r", b"e"],
        &[b"SADD", b"r", large.as_bytes()],
    ];
    commands.iter().for_each(|words| client.ask(request(words), "+QUEUED\r\n"));
    client.send("EXEC\r\n");
    let error = client.read_line();
    assert!(error.starts_with("-EXECABORT Transaction discarded because of: "), "{error}");
    assert!(error.contains("q-r/"), "{error}");
    client.ask("SMEMBERS q\r\nSCARD r\r\n", "*2\r\n$1\r\na\r\n$1\r\nb\r\n:0\r\n");
    let lines = "MULTI\r\nSPOP q\r\nSADD r e f\r\nSADD q g\r\nEXEC\r\n";
    let replies = "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n$1\r\na\r\n:2\r\n:1\r\n";
    client.ask(lines, replies);
}

/// Wherever in a segment a step begins, it has room for all that is done in it.
#[test]
fn rule_20_no_command_of_a_transaction_fails_for_want_of_room() {
    let numbers: Vec<String> = (0..60).map(|number| format!("{number:02}")).collect();
    for count in 30..60 {
        let mut bench = Bench::new(u64::MAX);
        bench.push("q", &numbers[..count].iter().map(String::as_str).collect::<Vec<_>>());
        let moves = (5..15).map(|number| format!("SMOVE q r {number:02}"));
        let pops = (0..15).map(|_| "SPOP q".to_owned());
        let commands: Vec<String> = moves.chain(pops).chain(["SADD q x".to_owned()]).collect();
        let popped = (0..5).chain(15..25).map(|number| format!("$2|{number:02}|"));
        let replies = format!("*26|{}{}:1|", ":1|".repeat(10), popped.collect::<String>());
        bench.exec(&commands.iter().map(String::as_str).collect::<Vec<_>>(), &replies);
        bench.queues.commit();
        let left = bodies("q", &bench.files("q"));
        assert_eq!(left.len(), count - 24, "{left:?}");
    }
}

/// Each new queue waits for the disk, and all others waited for a transaction that made many.
#[test]
fn rule_13_a_transaction_makes_its_queues_before_others_have_to_wait() {
    let mut bench = Bench::new(u64::MAX);
    let pushes: Vec<String> = (0..8).map(|number| format!("SADD q{number} a b")).collect();
    // EXEC would take what is made before it for changed.
    let lines = ["WATCH q7", "MULTI"].into_iter().chain(pushes.iter().map(String::as_str));
    bench.ask(&lines.collect::<Vec<_>>());
    let (mut output, mut made) = (Vec::new(), vec![0]);
    while output.is_empty() {
        assert!(bench.session.advance(b"EXEC\r\n", &mut output).again);
        made.push(bench.queues.made());
    }
    assert_eq!(output, format!("*8\r\n{}", ":2\r\n".repeat(8)).as_bytes());
    assert!(made.windows(2).all(|turn| turn[1] - turn[0] <= 2), "{made:?}");
}

/// Sets a flag when it is dropped, also where an expectation fails.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A commit in the middle would take for durable what counts only with the rest.
#[test]
fn rule_13_no_commit_begins_in_the_middle_of_a_transaction() {
    let bench = Bench::new(u64::MAX);
    let queues = &bench.queues;
    let size = StepSize { pushes: 2, pushed_bytes: 2, ..StepSize::default() };
    let changes = [(&b"q"[..], Changes { size, drops: false })];
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _at_the_end = AtTheEnd(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                queues.commit();
            }
        });
        for round in 0..300 {
            let push = || {
                let (mut ticket, message) = (Ticket::default(), new_message(b"m"));
                queues.create(b"q", &mut ticket, |queue| queue.push(&message)).unwrap();
                ticket
            };
            let steps = queues.begin_transaction(changes.into_iter(), &mut Ticket::default());
            let first = push();
            (0..50).for_each(|_| thread::yield_now());
            assert_eq!(queues.verdict(&first), ReplyVerdict::Wait, "round {round}");
            assert_eq!(push(), first, "another epoch has begun in round {round}");
            steps.unwrap().end(&mut Ticket::default()).unwrap();
        }
    });
    queues.commit();
    assert_eq!(bodies("q", &bench.files("q")).len(), 600);
}

/// Each page was looked for from the start of its segment on. No transaction paid for that, and all
/// clients waited for it.
#[test]
fn rule_13_a_transaction_pays_for_what_its_pages_pass_on_their_way() {
    const COUNT: u64 = 20_000;
    let mut bench = Bench::new(u64::MAX);
    bench.push("q", &["m"; COUNT as usize]);
    let mut served = |place: fn(u64) -> u64| {
        let pages = (0..2000).map(|page| format!("SSCAN q {} COUNT 1", place(page)));
        let lines = ["MULTI".to_owned()].into_iter().chain(pages).chain(["EXEC".to_owned()]);
        let replies = bench.ask(&lines.collect::<Vec<_>>());
        let refused = replies.matches("-ERR the transaction takes too long").count();
        let served = replies.matches("|*1|$1|m|").count();
        assert_eq!(refused + served, 2000);
        served
    };
    // Whoever reads on passes nothing, and others up to 500 messages.
    assert_eq!(served(|page| page + 1), 2000);
    let far = served(|page| 1 + page * 7919 % COUNT);
    assert!((50..300).contains(&far), "{far} pages");
}
