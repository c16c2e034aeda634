//! Looks at queues under the names of Disque's commands.

use super::{Conversation, Daemon, queue_client};
use crate::clock::set_by_hand;
use crate::session::NewClient;
use std::sync::atomic::Ordering::Relaxed;

/// The ids and the messages in the reply to QPEEK or GETJOB.
fn peeked(client: &mut Conversation, line: &str) -> (Vec<String>, Vec<String>) {
    let reply = client.ask(line);
    let words: Vec<&str> = reply.split('|').collect();
    let jobs = words[1..words.len() - 1].chunks_exact(7);
    assert_eq!(words[0], format!("*{}", jobs.len()), "{reply}");
    jobs.map(|job| (job[4].to_owned(), job[6].to_owned())).unzip()
}

#[test]
fn a_peek_shows_the_oldest_or_the_newest_and_takes_nothing() {
    let mut client = queue_client();
    client.check(&[("SADD q a b c d", ":4|"), ("QPEEK none 2", "*0|"), ("QPEEK none -2", "*0|")]);
    let (ids, bodies) = peeked(&mut client, "QPEEK q 2");
    assert_eq!(bodies, ["a", "b"]);
    assert_eq!(peeked(&mut client, "qpeek q -3").1, ["d", "c", "b"]);
    assert_eq!(peeked(&mut client, "QPEEK q -9").1, ["d", "c", "b", "a"]);
    client.check(&[("QPEEK q 0", "*0|"), ("QLEN q", ":4|")]);
    // Its ids name messages, and no deliveries.
    client.check(&[
        (&format!("WORKING {}", ids[0]), "-NOJOB Job not known in the context of this node.|"),
        (&format!("DELJOB {}", ids[1]), ":1|"),
    ]);
    assert_eq!(peeked(&mut client, "GETJOB NOHANG FROM q").1, ["a"]);
    assert_eq!(peeked(&mut client, "QPEEK q 5").1, ["c", "d"]);
    assert_eq!(peeked(&mut client, "QPEEK q -5").1, ["d", "c"]);
}

/// The newest one stands before a gap that is as long as a turn is short.
#[test]
fn a_peek_at_the_newest_of_many_takes_several_turns_and_shows_all() {
    let mut client = queue_client();
    let words: Vec<String> = (0..5000).map(|index| format!("m{index}")).collect();
    client.check(&[(&format!("SADD q {}", words.join(" ")), ":5000|")]);
    let (_, bodies) = peeked(&mut client, "QPEEK q -5000");
    assert!(bodies.iter().eq(words.iter().rev()));
    client.check(&[(&format!("SREM q {}", words[1..].join(" ")), ":4999|")]);
    assert_eq!(peeked(&mut client, "QPEEK q -2").1, ["m0"]);
}

#[test]
fn a_message_is_shown_by_any_id_of_it_until_it_is_gone() {
    let (clock, _) = set_by_hand();
    let daemon = Daemon::with_queues_at(clock);
    let (mut one, mut other) = (daemon.client(), daemon.client());
    let reply = one.ask("ADDJOB q body 0");
    let id = reply.trim_matches(['+', '|']);
    let shown = |id: &str, state: &str| {
        let fields = format!("$2|id|$40|{id}|$5|queue|$1|q|$5|state|${}|{state}|", state.len());
        let counts = "$5|count|:0|$8|failures|:0|$8|expiries|:0|";
        let first = "$12|first-reason|$0||$16|first-failure-ms|:0|";
        let last = "$11|last-reason|$0||$15|last-failure-ms|:0|";
        let pushed = "$13|first-push-ms|:1700000000123|";
        format!("*24|{fields}$4|body|$4|body|{pushed}{counts}{first}{last}")
    };
    one.check(&[(&format!("SHOW {id}"), &shown(id, "ready"))]);
    let delivery = peeked(&mut one, "GETJOB NOHANG FROM q").0.remove(0);
    other.check(&[(&format!("show {id}"), &shown(id, "leased"))]);
    other.check(&[(&format!("SHOW {delivery}"), &shown(&delivery, "leased"))]);
    other.check(&[
        (&format!("ACKJOB {delivery}"), ":1|"),
        (&format!("SHOW {id}"), "$-1|"),
        ("SHOW D-00000000-AAAAAAAAAAAAAAAAAAAAAAAA-0000", "$-1|"),
        ("SHOW x", "-BADID Invalid Job ID format.|"),
    ]);
}

#[test]
fn a_queue_in_numbers() {
    let (clock, time_ms) = set_by_hand();
    let daemon = Daemon::with_queues_at(clock);
    let (mut one, mut other) = (daemon.client(), daemon.client());
    one.check(&[("QSTAT q", "*-1|")]);
    let numbers = |client: &mut Conversation| {
        let reply = client.ask("QSTAT q");
        let words: Vec<&str> = reply.split('|').filter(|word| !word.starts_with('$')).collect();
        assert_eq!(words[0], "*26");
        words[1..].join(" ").trim_end().to_owned()
    };
    time_ms.fetch_add(60_000, Relaxed);
    one.check(&[("SADD q a b c", ":3|"), ("SPOP q", "$1|a|")]);
    time_ms.fetch_add(5_000, Relaxed);
    peeked(&mut one, "GETJOB NOHANG FROM q");
    time_ms.fetch_add(2_000, Relaxed);
    assert_eq!(
        numbers(&mut other),
        "name q pause none len :1 age :7 idle :2 blocked :0 jobs-in :3 jobs-out :1 \
         ready :1 delayed :0 held :0 leased :1 dead-moved :0"
    );
    // A clock that was set back makes no age negative.
    time_ms.fetch_sub(6_000, Relaxed);
    let reply = numbers(&mut other);
    assert!(reply.contains(" age :1 idle :0 "), "{reply}");
}

#[test]
fn lists_show_who_waits_for_what_and_how_much_is_leased() {
    let daemon = Daemon::with_queues_at(set_by_hand().0);
    let (mut one, mut other) = (daemon.client(), daemon.client_of(NewClient::detached(8)));
    one.check(&[("SADD q a b c", ":3|")]);
    peeked(&mut one, "GETJOB NOHANG COUNT 2 FROM q");
    let info = other.ask("INFO stats");
    assert!(info.contains("|messages:3|messages_leased:2|messages_waiting:1|"), "{info}");
    let many: Vec<String> = (0..99).map(|number| format!("queue{number}")).collect();
    one.ask(&format!("BSPOP a%b {} 0", many.join(" ")));
    let list = other.ask("CLIENT LIST");
    let waits = list.lines().find_map(|line| Some(line.split_once(" waits=")?.1));
    let waits = waits.unwrap_or_else(|| panic!("{list}"));
    assert!(waits.starts_with("a%25b,queue0,queue1,") && waits.ends_with(",..."), "{waits}");
    assert!(waits.len() < 150 && list.matches(" waits=").count() == 1, "{list}");
}

#[test]
fn queues_are_listed_by_their_length() {
    let mut client = queue_client();
    client.check(&[("SADD a 1", ":1|"), ("SADD b 1 2", ":2|"), ("SADD c 1 2 3", ":3|")]);
    client.check(&[
        ("QSCAN BUSYLOOP", "*2|$1|0|*3|$1|a|$1|b|$1|c|"),
        ("QSCAN", "*2|$1|0|*3|$1|a|$1|b|$1|c|"),
        ("QSCAN BUSYLOOP MINLEN 2", "*2|$1|0|*2|$1|b|$1|c|"),
        ("qscan 0 maxlen 2 minlen 2 count 9", "*2|$1|0|*1|$1|b|"),
        ("QSCAN COUNT", "-ERR syntax error|"),
        ("QSCAN COUNT 0", "-ERR syntax error|"),
        ("QSCAN MINLEN -1", "-ERR syntax error|"),
        ("QSCAN MATCH 1", "-ERR syntax error|"),
    ]);
    let mut names = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let reply = client.ask(&format!("QSCAN {cursor} COUNT 1"));
        let words: Vec<&str> = reply.split('|').collect();
        names.push(words[5].to_owned());
        cursor = words[2].to_owned();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c"]);
    peeked(&mut client, "GETJOB NOHANG FROM c");
    client.check(&[("QSCAN BUSYLOOP MINLEN 3", "*2|$1|0|*0|")]);
}
