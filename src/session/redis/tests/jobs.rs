//! Leases under the names of Disque's commands.

use super::{Conversation, Daemon, kv_client, queue_client};
use crate::clock::set_by_hand;
use crate::session::Store;
use std::sync::atomic::Ordering::Relaxed;

const NOTHING: &str = "*-1|";
const NO_JOB: &str = "-NOJOB Job not known in the context of this node.|";
const BAD_ID: &str = "-BADID Invalid Job ID format.|";
const UNKNOWN: &str = "D-00000000-AAAAAAAAAAAAAAAAAAAAAAAA-0000";

/// The id in the reply to ADDJOB.
fn added(client: &mut Conversation, line: &str) -> String {
    let reply = client.ask(line);
    let id = reply.strip_prefix("+").and_then(|rest| rest.strip_suffix("|"));
    id.filter(|id| id.len() == 40).unwrap_or_else(|| panic!("{line}: {reply}")).into()
}

/// The ids and the messages in the reply to GETJOB.
fn leased(client: &mut Conversation, line: &str) -> Vec<(String, String)> {
    let reply = client.ask(line);
    if reply == NOTHING {
        return Vec::new();
    }
    let words: Vec<&str> = reply.split('|').collect();
    let count: usize = words[0].strip_prefix("*").unwrap().parse().unwrap();
    let jobs = words[1..words.len() - 1].chunks_exact(7);
    assert_eq!((jobs.len(), jobs.remainder().len()), (count, 0), "{reply}");
    let job = |job: &[&str]| {
        assert_eq!((job[0], job[3]), ("*3", "$40"), "{reply}");
        (job[4].to_owned(), job[6].to_owned())
    };
    jobs.map(job).collect()
}

fn bodies(client: &mut Conversation, line: &str) -> Vec<String> {
    leased(client, line).into_iter().map(|(_, body)| body).collect()
}

#[test]
fn a_job_is_pushed_leased_and_acknowledged() {
    let mut client = queue_client();
    let first = added(&mut client, "ADDJOB q a 0");
    added(&mut client, "addjob q b 100 replicate 1 async");
    client.check(&[("SADD q c", ":1|"), ("QLEN q", ":3|")]);
    let jobs = leased(&mut client, "GETJOB NOHANG FROM q");
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].1, "a");
    assert_ne!(jobs[0].0, first, "an id names a delivery");
    // Who waits is counted and shown, who is leased is not.
    client.check(&[
        ("QLEN q", ":2|"),
        ("SISMEMBER q a", ":0|"),
        ("SMEMBERS q", "*2|$1|b|$1|c|"),
        (&format!("ACKJOB {}", jobs[0].0), ":1|"),
        (&format!("ACKJOB {}", jobs[0].0), ":0|"),
        (&format!("WORKING {}", jobs[0].0), NO_JOB),
        (&format!("FASTACK {first}"), ":0|"),
    ]);
    let jobs = leased(&mut client, "getjob count 5 nohang from none q");
    assert_eq!(jobs.iter().map(|(_, body)| &**body).collect::<Vec<_>>(), ["b", "c"]);
    client.check(&[
        ("EXISTS q", ":1|"),
        ("TYPE q", "+set|"),
        ("DBSIZE", ":1|"),
        ("SPOP q", "$-1|"),
        ("GETJOB NOHANG FROM q", NOTHING),
        (&format!("FASTACK {} {} {}", jobs[1].0, jobs[0].0, jobs[1].0), ":2|"),
        ("EXISTS q", ":0|"),
    ]);
}

#[test]
fn a_job_that_is_given_back_stands_at_its_old_place() {
    let mut client = queue_client();
    client.check(&[("SADD q a b c", ":3|")]);
    let jobs = leased(&mut client, "GETJOB NOHANG COUNT 2 FROM q");
    let (a, b) = (&jobs[0].0, &jobs[1].0);
    client.check(&[
        (&format!("NACK {b} {b}"), ":1|"),
        ("SMEMBERS q", "*2|$1|b|$1|c|"),
        (&format!("NACK {b}"), ":0|"),
        (&format!("WORKING {b}"), NO_JOB),
        (&format!("WORKING {a}"), ":300|"),
        (&format!("ENQUEUE {a}"), ":1|"),
        (&format!("ENQUEUE {a}"), ":0|"),
        ("SMEMBERS q", "*3|$1|a|$1|b|$1|c|"),
        (&format!("ACKJOB {a}"), ":1|"),
        (&format!("DELJOB {b}"), ":1|"),
        ("SMEMBERS q", "*1|$1|c|"),
    ]);
    // ENQUEUE takes the id that ADDJOB answered, NACK does not.
    let id = added(&mut client, "ADDJOB r x 0");
    assert_eq!(bodies(&mut client, "GETJOB NOHANG FROM r"), ["x"]);
    client.check(&[
        (&format!("NACK {id}"), ":0|"),
        (&format!("WORKING {id}"), NO_JOB),
        (&format!("ENQUEUE {id}"), ":1|"),
        (&format!("DELJOB {id}"), ":1|"),
    ]);
}

/// What `GETJOB WITHCOUNTERS` shows of the oldest message, without its id, and the id.
fn counted(client: &mut Conversation) -> (String, String) {
    let reply = client.ask("GETJOB NOHANG WITHCOUNTERS FROM q");
    let (before, rest) = reply.split_once("D-").expect("an id");
    let (id, counters) = rest.split_once('|').expect("more behind it");
    (format!("{before}{counters}"), format!("D-{id}"))
}

#[test]
fn deliveries_that_failed_are_counted() {
    let (clock, time_ms) = set_by_hand();
    let daemon = Daemon::with_queues_at(clock);
    let mut client = daemon.client();
    client.check(&[("SADD q a", ":1|")]);
    let shown = |nacks: u32, expiries: u32| {
        let counters = format!("$5|nacks|:{nacks}|$21|additional-deliveries|:{expiries}|");
        format!("*1|*7|$1|q|$40|$1|a|{counters}")
    };
    let (first, id) = counted(&mut client);
    assert_eq!(first, shown(0, 0));
    client.check(&[
        (&format!("NACK {id} REASON"), "-ERR syntax error|"),
        (&format!("NACK {id} {id} SILENT"), ":1|"),
    ]);
    let (second, id) = counted(&mut client);
    assert_eq!(second, shown(0, 0));
    client.check(&[(&format!("NACK {id} reason broken"), ":1|")]);
    let (third, id) = counted(&mut client);
    assert_eq!(third, shown(1, 0));
    client.check(&[(&format!("NACK {id} FAIL REASON SILENT"), ":1|")]);
    let (fourth, id) = counted(&mut client);
    assert_eq!(fourth, shown(2, 0));
    client.check(&[(&format!("ENQUEUE {id}"), ":1|")]);
    let (fifth, id) = counted(&mut client);
    assert_eq!(fifth, shown(2, 0));
    time_ms.fetch_add(300_000, Relaxed);
    let said = client.ask(&format!("SHOW {id}"));
    assert!(said.contains("|$5|count|:3|$8|failures|:2|$8|expiries|:1|"), "{said}");
    assert!(said.contains("|$12|first-reason|$6|broken|"), "{said}");
    assert!(said.contains("|$11|last-reason|$0||"), "{said}");
    assert_eq!(counted(&mut client).0, shown(2, 1));
}

#[test]
fn a_lease_is_over_in_time_and_work_that_was_done_late_counts() {
    let (clock, time_ms) = set_by_hand();
    let daemon = Daemon::with_queues_at(clock);
    let (mut one, mut other) = (daemon.client(), daemon.client());
    one.check(&[("CONFIG GET lease", "*2|$5|lease|$3|300|"), ("CONFIG SET lease 30", "+OK|")]);
    one.check(&[("SADD q a b", ":2|")]);
    let first = leased(&mut one, "GETJOB NOHANG FROM q").remove(0);
    time_ms.fetch_add(20_000, Relaxed);
    one.check(&[(&format!("WORKING {}", first.0), ":30|")]);
    time_ms.fetch_add(29_999, Relaxed);
    assert_eq!(bodies(&mut other, "GETJOB NOHANG FROM q"), ["b"]);
    let figures = other.ask("INFO queues q");
    assert!(figures.contains("|queue_q:length=0,leased=2,"), "{figures}");
    other.check(&[("GETJOB NOHANG FROM q", NOTHING), ("QLEN q", ":0|")]);
    time_ms.fetch_add(1, Relaxed);
    let figures = other.ask("INFO queues q");
    assert!(figures.contains("|queue_q:length=1,leased=1,"), "{figures}");
    other.check(&[("QLEN q", ":1|"), (&format!("NACK {}", first.0), ":0|")]);
    let second = leased(&mut other, "GETJOB NOHANG FROM q").remove(0);
    assert_eq!(second.1, "a");
    one.check(&[
        (&format!("WORKING {}", first.0), NO_JOB),
        (&format!("ACKJOB {}", first.0), ":1|"),
    ]);
    other.check(&[(&format!("ACKJOB {}", second.0), ":0|")]);
}

#[test]
fn time_to_live_goes_on_while_a_job_is_leased() {
    let (clock, time_ms) = set_by_hand();
    let mut client = Daemon::with_queues_at(clock).client();
    added(&mut client, "ADDJOB q a 0 TTL 10");
    added(&mut client, "ADDJOB q b 0 TTL 1000");
    let job = leased(&mut client, "GETJOB NOHANG FROM q").remove(0);
    time_ms.fetch_add(10_000, Relaxed);
    client.check(&[
        (&format!("WORKING {}", job.0), ":300|"),
        (&format!("NACK {}", job.0), ":1|"),
        ("QLEN q", ":1|"),
        (&format!("ACKJOB {}", job.0), ":0|"),
        ("SMEMBERS q", "*1|$1|b|"),
    ]);
}

#[test]
fn leased_jobs_count_for_limits_and_a_return_is_never_refused() {
    let mut client = Daemon::with_queues(1 << 30, 3).client();
    client.check(&[("SADD q a b c", ":3|")]);
    let job = leased(&mut client, "GETJOB NOHANG FROM q").remove(0);
    let full = "-ERR queue is full (3 messages)|";
    assert_eq!(client.ask("SADD q d").get(..4), full.get(..4));
    client.check(&[
        (
            "ADDJOB q d 0 MAXLEN 3",
            "-MAXLEN Queue is already longer than the specified MAXLEN count|",
        ),
        (&format!("NACK {}", job.0), ":1|"),
        ("SCARD q", ":3|"),
    ]);
    added(&mut client, "ADDJOB r d 0 MAXLEN 1");
}

#[test]
fn a_queue_that_is_dropped_takes_its_leases_along() {
    let mut client = queue_client();
    client.check(&[("SADD q a", ":1|")]);
    let job = leased(&mut client, "GETJOB NOHANG FROM q").remove(0);
    client.check(&[
        ("DEL q", ":1|"),
        ("EXISTS q", ":0|"),
        ("SADD q a", ":1|"),
        // A queue of the same name is another one, although its messages have the same numbers.
        (&format!("ACKJOB {}", job.0), ":0|"),
        (&format!("NACK {}", job.0), ":0|"),
        ("SMEMBERS q", "*1|$1|a|"),
    ]);
    assert_eq!(leased(&mut client, "GETJOB NOHANG FROM q").len(), 1);
    client.check(&[
        ("MULTI", "+OK|"),
        ("SADD q b", "+QUEUED|"),
        ("DEL q", "+QUEUED|"),
        ("EXISTS q", "+QUEUED|"),
        ("EXEC", "*3|:1|:1|:0|"),
    ]);
}

/// They agreed only after housekeeping had come, which never ended the lease.
#[test]
fn a_queue_is_gone_whose_last_message_has_died_with_a_worker() {
    let (clock, time_ms) = set_by_hand();
    let daemon = Daemon::with_queues_at(clock);
    let mut client = daemon.client();
    for line in ["EXISTS q", "INFO queues"] {
        added(&mut client, "ADDJOB q a 0 TTL 10");
        assert_eq!(leased(&mut client, "GETJOB NOHANG FROM q").len(), 1);
        time_ms.fetch_add(299_000, Relaxed);
        client.check(&[("EXISTS q", ":1|"), ("DBSIZE", ":1|")]);
        time_ms.fetch_add(1000, Relaxed);
        client.ask(line);
        if line == "EXISTS q" {
            client.check(&[("DBSIZE", ":0|"), ("KEYS *", "*0|")]);
        }
        let Store::Queues(queues) = &daemon.shared.store else { unreachable!("it was made so") };
        while queues.tidy() {}
        client.check(&[("DBSIZE", ":0|"), ("KEYS *", "*0|"), ("EXISTS q", ":0|")]);
    }
}

#[test]
fn watch_sees_what_becomes_of_leases() {
    let (clock, time_ms) = set_by_hand();
    let daemon = Daemon::with_queues_at(clock);
    let (mut client, mut worker) = (daemon.client(), daemon.client());
    let watch = [("WATCH q", "+OK|"), ("MULTI", "+OK|"), ("EXISTS q", "+QUEUED|")];
    worker.check(&[("SADD q a", ":1|")]);
    assert_eq!(bodies(&mut worker, "GETJOB NOHANG FROM q"), ["a"]);
    client.check(&watch);
    time_ms.fetch_add(300_000, Relaxed);
    client.check(&[("EXEC", "*-1|")]);
    let job = leased(&mut worker, "GETJOB NOHANG FROM q").remove(0);
    client.check(&watch);
    client.check(&[("EXEC", "*1|:1|")]);
    client.check(&watch);
    worker.check(&[(&format!("ACKJOB {}", job.0), ":1|")]);
    client.check(&[("EXEC", "*-1|")]);
}

#[test]
fn what_is_wrong_is_refused_before_anything_is_done() {
    let mut client = queue_client();
    client.check(&[("SADD q a", ":1|")]);
    let job = leased(&mut client, "GETJOB NOHANG FROM q").remove(0);
    client.check(&[
        (&format!("ACKJOB {} x", job.0), BAD_ID),
        (&format!("NACK {} {UNKNOWN}x", job.0), BAD_ID),
        ("WORKING \"\"", BAD_ID),
        (&format!("WORKING {}", job.0), ":300|"),
        (&format!("WORKING {UNKNOWN}"), NO_JOB),
        (&format!("ACKJOB {UNKNOWN}"), ":0|"),
        ("ADDJOB q a x", "-ERR value is not an integer or out of range|"),
        ("ADDJOB q a -1", "-ERR timeout is negative|"),
        ("ADDJOB q a 0 TTL 0", "-ERR TTL must be a positive number|"),
        ("ADDJOB q a 0 TTL", "-ERR syntax error|"),
        ("ADDJOB q a 0 SOON 1", "-ERR ADDJOB has no option 'SOON'|"),
        ("ADDJOB q a 0 SOON", "-ERR ADDJOB has no option 'SOON'|"),
        ("ADDJOB q a 0 MAXLEN x", "-ERR MAXLEN must be a positive number|"),
        (
            "ADDJOB q a 0 REPLICATE 2",
            "-NOREPL Not enough reachable nodes for the requested replication level|",
        ),
        ("GETJOB TIMEOUT -5 FROM q", "-ERR timeout is negative|"),
        ("GETJOB NOHANG TIMEOUT -1 FROM q", "-ERR timeout is negative|"),
        ("GETJOB NOHANG TIMEOUT 5 FROM q", NOTHING),
        ("GETJOB NOHANG COUNT 0 FROM q", "-ERR COUNT must be greater than zero|"),
        ("GETJOB NOHANG COUNT FROM", "-ERR COUNT must be greater than zero|"),
        ("GETJOB NOHANG FROM", "-ERR syntax error|"),
        ("GETJOB FROM", "-ERR wrong number of arguments for 'getjob' command|"),
        ("GETJOB NOHANG q q", "-ERR syntax error|"),
        ("QLEN q", ":0|"),
    ]);
    kv_client().check(&[(
        "GETJOB NOHANG FROM q",
        "-ERR GETJOB needs a queue store (--store disk or memory)|",
    )]);
}

/// Which queues they change is known only when they run, and EXEC must know before.
#[test]
fn in_a_transaction_jobs_can_be_added_and_not_be_taken() {
    let mut client = queue_client();
    for refused in ["GETJOB NOHANG FROM q".into(), format!("ACKJOB {UNKNOWN}")] {
        let command = refused.split(' ').next().unwrap();
        let text = format!("-ERR {command} is not allowed in a transaction|");
        client.check(&[("MULTI", "+OK|"), (&refused, &text)]);
        let aborted = "-EXECABORT Transaction discarded because of previous errors.|";
        client.check(&[("EXEC", aborted)]);
    }
    client.check(&[("MULTI", "+OK|"), ("ADDJOB q a 0", "+QUEUED|"), ("ADDJOB q b 0", "+QUEUED|")]);
    let reply = client.ask("EXEC");
    assert!(reply.starts_with("*2|+D-"), "{reply}");
    client.check(&[("SMEMBERS q", "*2|$1|a|$1|b|")]);
}

#[test]
fn as_many_are_leased_as_fit_into_a_piece_of_output() {
    let mut client = queue_client();
    let body = "x".repeat(10_000);
    for number in 0..20 {
        added(&mut client, &format!("ADDJOB q {number}{body} 0"));
    }
    let jobs = leased(&mut client, "GETJOB NOHANG COUNT 20 FROM q");
    assert_eq!(jobs.len(), 7);
    assert_eq!(leased(&mut client, "GETJOB NOHANG COUNT 1000 FROM q").len(), 7);
    let ids: Vec<String> = jobs.into_iter().map(|(id, _)| id).collect();
    client.check(&[(&format!("ACKJOB {}", ids.join(" ")), ":7|"), ("QLEN q", ":6|")]);
}
