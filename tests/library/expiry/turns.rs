//! Dead messages in the way of clients: they leave in several turns, and what leaves is paid for.

use super::{LIMITS, Run, START_MS, disk, runs};
use mq::queue::{NewMessage, Queues, Ticket};
use mq::session::memcached::MemcachedSession;
use mq::session::redis::RedisSession;
use mq::session::{NewClient, Session, Settings, Shared, Store};
use std::sync::Arc;

/// Equal messages, which are dead at `START_MS` + 1, and one behind them.
fn fill_with_equal(run: &Run) {
    (0..3500).for_each(|_| run.push(b"q", b"dead", START_MS + 1).unwrap());
    run.push(b"q", b"live", 0).unwrap();
}

/// The replies to these lines, with `|` for each line end, and how many turns they took. Lines with
/// a data block are memcached's.
fn ask(queues: &Arc<Queues>, lines: &[&str]) -> (String, usize) {
    let store = Store::Queues(Arc::clone(queues));
    let shared = Arc::new(Shared::new(store, Settings::default(), Arc::default()));
    let mut session: Box<dyn Session> = match lines[0].contains("\r\n") {
        true => Box::new(MemcachedSession::new(shared, NewClient::detached(1))),
        false => Box::new(RedisSession::new(shared, NewClient::detached(1))),
    };
    let request = lines.iter().map(|line| format!("{line}\r\n")).collect::<String>();
    let (mut output, mut rest, mut turns) = (Vec::new(), request.as_bytes(), 0);
    while !rest.is_empty() {
        let advance = session.advance(rest, &mut output);
        rest = &rest[advance.consumed..];
        turns += 1;
        assert!(turns < 1000, "{lines:?}");
    }
    (String::from_utf8_lossy(&output).replace("\r\n", "|"), turns)
}

/// Each look for such a message passed all of them, in one turn.
#[test]
fn dead_equal_messages_leave_in_several_turns_and_are_passed_once() {
    let transaction = ["MULTI", "SADD q dead other", "SISMEMBER q dead", "SPOP q 2", "EXEC"];
    let cases: [(&[&str], &str); 8] = [
        (&["SISMEMBER q dead"], ":0|"),
        (&["SMISMEMBER q live dead"], "*2|:1|:0|"),
        (&["SADD q dead"], ":1|"),
        (&["SADD q dead other"], ":2|"),
        (&["SREM q dead live"], ":1|"),
        (&["SMOVE q r dead"], ":0|"),
        (&["SPOP q 2"], "*1|$4|live|"),
        (&transaction, "+OK|+QUEUED|+QUEUED|+QUEUED|*3|:2|:1|*2|$4|live|$4|dead|"),
    ];
    for (lines, expected) in cases {
        for (run, _directory) in runs(LIMITS) {
            fill_with_equal(&run);
            while !run.queues.prepare_membership(b"q").unwrap() {}
            run.pass(1);
            let queues = Arc::new(run.queues);
            let (replies, turns) = ask(&queues, lines);
            assert_eq!(replies, expected);
            assert!(turns > 3, "{turns} turns for {lines:?}");
            let (_, turns) = ask(&queues, &["SISMEMBER q dead"]);
            assert_eq!(turns, 1, "they are there still after {lines:?}");
        }
    }
}

/// A peek kept the queue to itself while they left, a turn for each thousand of them.
#[test]
fn nobody_waits_for_a_look_that_has_not_begun() {
    for command in ["SRANDMEMBER q", "SRANDMEMBER q 9", "SMEMBERS q"] {
        for (run, _directory) in runs(LIMITS) {
            fill_with_equal(&run);
            run.pass(1);
            let queues = Arc::new(run.queues);
            let store = Store::Queues(Arc::clone(&queues));
            let shared = Arc::new(Shared::new(store, Settings::default(), Arc::default()));
            let mut session = RedisSession::new(shared, NewClient::detached(1));
            let (request, mut output) = (format!("{command}\r\n"), Vec::new());
            assert!(session.advance(request.as_bytes(), &mut output).again);
            assert_eq!(ask(&queues, &["SADD r m", "SCARD q"]), (":1|:1|".into(), 1), "{command}");
            while session.advance(request.as_bytes(), &mut output).consumed == 0 {}
            assert!(String::from_utf8(output).unwrap().ends_with("$4\r\nlive\r\n"));
        }
    }
}

/// In one turn a pipeline removed up to 1,000 of them from each of any number of queues.
#[test]
fn dead_messages_that_leave_are_paid_for() {
    let names: Vec<String> = (0..12).map(|number| format!("q{number}")).collect();
    // A look at the oldest passes them, and removes them only where they are very many.
    let cases = [
        (900, "SPOP q"),
        (900, "SISMEMBER q dead"),
        (900, "SRANDMEMBER q"),
        (1100, "SRANDMEMBER q"),
        (900, "SADD q dead"),
        (900, "SMOVE q r dead"),
        (900, "sismember q 0 0 4\r\ndead"),
        (900, "add q 0 0 4\r\ndead"),
        (900, "add q 0 -1 4\r\ndead"),
    ];
    for (dead_count, command) in cases {
        for (run, _directory) in runs(LIMITS) {
            for name in &names {
                let name = name.as_bytes();
                (0..dead_count).for_each(|_| run.push(name, b"dead", START_MS + 1).unwrap());
                run.push(name, b"live", 0).unwrap();
                while !run.queues.prepare_membership(name).unwrap() {}
            }
            run.pass(1);
            let lines: Vec<String> =
                names.iter().map(|name| command.replace(" q", &format!(" {name}"))).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let (_, turns) = ask(&Arc::new(run.queues), &lines);
            assert!((3..12).contains(&turns), "{turns} turns for {command}");
        }
    }
}

/// Few messages among very many that have been removed.
fn sparse(run: &Run) {
    for _ in 0..60 {
        (0..600).for_each(|_| run.push(b"q", b"gone", 0).unwrap());
        run.push(b"q", b"live", 0).unwrap();
    }
    while !run.queues.prepare_membership(b"q").unwrap() {}
    let removed = run.queues.find(b"q", &mut Ticket::default(), |queue| {
        // Nobody passes what is before the head.
        queue.push(&NewMessage { body: b"live", flags: 0, expires_ms: 0 })?;
        queue.remove(b"gone")
    });
    assert_eq!(removed, Ok(Some(36_000)));
}

/// A turn was ended by what it had shown, and not by what it had passed.
#[test]
fn removed_messages_that_a_reader_passes_are_paid_for() {
    let directory = tempfile::tempdir().unwrap();
    let run = Run::new(disk(directory.path()), LIMITS);
    sparse(&run);
    let queues = Arc::new(run.queues);
    let (page, _) = ask(&queues, &["SSCAN q 0 COUNT 100"]);
    let shown = page.matches("live").count();
    assert!((1..60).contains(&shown), "{shown} in a page");
    for command in ["SMEMBERS q", "SRANDMEMBER q 99", "SPOP q 61"] {
        let (all, turns) = ask(&queues, &[command]);
        assert_eq!(all.matches("live").count(), 61, "{command}");
        assert!(turns > 3, "{turns} turns for {command}");
    }
}

/// They ran to their ends if there was a step left for them, and only those behind them paid.
#[test]
fn a_transaction_refuses_what_passes_more_than_is_left_of_its_steps() {
    let directory = tempfile::tempdir().unwrap();
    let run = Run::new(disk(directory.path()), LIMITS);
    sparse(&run);
    let queues = Arc::new(run.queues);
    let many = format!("SMISMEMBER q{}", " x".repeat(12_000));
    let shown = |commands: &[&str]| {
        let lines = [&["MULTI"][..], commands, &["EXEC"]].concat();
        ask(&queues, &lines).0.matches("live").count()
    };
    for command in ["SMEMBERS q", "SRANDMEMBER q 61", "SPOP q 61"] {
        assert_eq!(shown(&[&many, command]), 0, "{command}");
    }
    assert_eq!(shown(&[&many, "SRANDMEMBER q 1", "SPOP q"]), 2);
    for command in ["SMEMBERS q", "SRANDMEMBER q 60", "SPOP q 60"] {
        assert_eq!(shown(&[command]), 60, "{command}");
    }
}
