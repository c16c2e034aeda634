//! CLIENT LIST, KILL and REPLY, and the HELP of all commands that have subcommands.

use super::{Conversation, Daemon, pipeline, queue_client};
use crate::clock::set_by_hand;
use crate::session::memcached::MemcachedSession;
use crate::session::{ClientHandle, Close, NewClient, Session};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A connection that notes whether it has been ended.
#[derive(Default)]
struct Connection(AtomicBool);

impl ClientHandle for Connection {
    fn wake(&self) {}

    fn close(&self) {
        self.0.store(true, Relaxed);
    }
}

/// A client with this number and a port of the same, that has connected to an odd or an even port.
fn new_client(id: u16, handle: Arc<dyn ClientHandle>) -> NewClient {
    let address = |port| SocketAddr::from(([10, 0, 0, 1], port));
    NewClient { id: id.into(), peer: address(id), local: address(4000 + id % 2), handle }
}

fn connect(daemon: &Daemon, id: u16) -> (Conversation, Arc<Connection>) {
    let connection = Arc::new(Connection::default());
    let handle = Arc::clone(&connection) as Arc<dyn ClientHandle>;
    let client = daemon.client_of(new_client(id, handle));
    (client, connection)
}

#[test]
fn client_list_shows_all_clients_of_both_protocols() {
    let (clock, time_ms) = set_by_hand();
    let daemon = Daemon::with_queues_at(clock);
    let (mut one, _) = connect(&daemon, 1);
    one.check(&[("CLIENT SETNAME first", "+OK|"), ("CLIENT SETINFO lib-name lib", "+OK|")]);
    one.check(&[("MULTI", "+OK|"), ("SADD q a", "+QUEUED|")]);
    time_ms.fetch_add(5000, Relaxed);
    let (mut two, _) = connect(&daemon, 2);
    let client = new_client(3, Arc::new(()));
    let mut three = MemcachedSession::new(Arc::clone(&daemon.shared), client);
    three.advance(b"scard q\r\n", &mut Vec::new());
    time_ms.fetch_add(2000, Relaxed);
    let list = two.ask("CLIENT LIST");
    let lines: Vec<&str> = list.split('|').nth(1).unwrap().trim_end().split('\n').collect();
    let rest = "db=0 sub=0 psub=0";
    assert_eq!(
        lines,
        [
            format!(
                "id=1 addr=10.0.0.1:1 laddr=10.0.0.1:4001 name=first age=7 idle=7 flags=x {rest} \
                     multi=1 events=r cmd=sadd user=default resp=2 lib-name=lib lib-ver="
            ),
            format!(
                "id=2 addr=10.0.0.1:2 laddr=10.0.0.1:4000 name= age=2 idle=0 flags=N {rest} \
                     multi=-1 events=r cmd=client user=default resp=2 lib-name= lib-ver="
            ),
            format!(
                "id=3 addr=10.0.0.1:3 laddr=10.0.0.1:4001 name= age=2 idle=2 flags=N {rest} \
                     multi=-1 events=r cmd=scard user=default resp=0 lib-name= lib-ver="
            ),
        ]
    );
    let count = |list: String| list.matches("id=").count();
    assert_eq!(count(two.ask("CLIENT LIST ID 1 3 9")), 2);
    assert_eq!(count(two.ask("CLIENT LIST TYPE normal")), 3);
    assert_eq!(count(two.ask("CLIENT LIST TYPE pubsub")), 0);
    drop((one, three));
    assert_eq!(count(two.ask("CLIENT LIST")), 1);
    two.check(&[
        ("CLIENT LIST TYPE odd", "-ERR Unknown client type 'odd'|"),
        ("CLIENT LIST ID x", "-ERR Invalid client ID|"),
        ("CLIENT LIST ID 0", "$0||"),
        ("CLIENT LIST ID -1", "$0||"),
        ("CLIENT LIST ID", "-ERR syntax error|"),
        ("CLIENT LIST all", "-ERR syntax error|"),
    ]);
    two.ask("HELLO 3");
    assert!(two.ask("CLIENT LIST").starts_with("=") && two.ask("CLIENT INFO").starts_with("="));
}

#[test]
fn client_kill_ends_those_that_meet_all_conditions() {
    let (clock, time_ms) = set_by_hand();
    let daemon = Daemon::with_queues_at(clock);
    let mut clients: Vec<_> = (1..=3).map(|id| connect(&daemon, id)).collect();
    time_ms.fetch_add(9000, Relaxed);
    clients.push(connect(&daemon, 4));
    let kill = |clients: &mut [(Conversation, Arc<Connection>)], words: &str| {
        let reply = clients[0].0.ask(&format!("CLIENT KILL {words}"));
        let ended: Vec<usize> =
            (0..4).filter(|index| clients[*index].1.0.swap(false, Relaxed)).collect();
        (reply, ended)
    };
    let cases = [
        ("ID 2", ":1|", vec![1]),
        ("ID 2 ADDR 10.0.0.1:3", ":0|", vec![]),
        ("10.0.0.1:3", "+OK|", vec![2]),
        ("10.0.0.1:9", "-ERR No such client|", vec![]),
        ("nobody", "-ERR No such client|", vec![]),
        ("LADDR 10.0.0.1:4000", ":2|", vec![1, 3]),
        ("laddr 10.0.0.1:4000 addr 10.0.0.1:4", ":1|", vec![3]),
        ("LADDR 10.0.0.1:1", ":0|", vec![]),
        ("LADDR 10.0.0.1", ":0|", vec![]),
        ("ID 1", ":0|", vec![]),
        ("TYPE normal", ":3|", vec![1, 2, 3]),
        ("TYPE pubsub", ":0|", vec![]),
        ("MAXAGE 9", ":2|", vec![1, 2]),
        ("USER default SKIPME yes ID 4", ":1|", vec![3]),
        ("USER other", "-ERR No such user 'other'|", vec![]),
        ("ID 0", "-ERR client-id should be greater than 0|", vec![]),
        ("MAXAGE x", "-ERR maxage is not an integer or out of range|", vec![]),
        ("SKIPME perhaps", "-ERR syntax error|", vec![]),
        ("ID 1 ADDR", "-ERR syntax error|", vec![]),
    ];
    for (words, reply, ended) in cases {
        assert_eq!(kill(&mut clients, words), (reply.to_owned(), ended), "{words}");
        assert_eq!(clients[0].0.last.close, None, "{words}");
    }
    assert_eq!(kill(&mut clients, "ID 1 SKIPME no"), (":1|".to_owned(), vec![]));
    assert_eq!(clients[0].0.last.close, Some(Close::Quit), "after its reply");
}

#[test]
fn client_reply_turns_replies_off_and_skips_one() {
    let mut client = queue_client();
    client.check(&[("CLIENT REPLY on", "+OK|"), ("CLIENT REPLY SKIP", ""), ("SADD q a", "")]);
    client.check(&[("SADD q a", ":0|"), ("CLIENT REPLY off", ""), ("SADD q b", ""), ("SADD", "")]);
    client.check(&[("CLIENT REPLY ON", "+OK|"), ("SCARD q", ":2|")]);
    client.check(&[("CLIENT REPLY no", "-ERR syntax error|"), ("SCARD q", ":2|")]);
    let lines = ["CLIENT REPLY skip", "SADD q c", "SADD q d", "SCARD q"];
    assert_eq!(pipeline(&mut client, &lines), ":1|:4|", "also in a row on one queue");
    client.check(&[("CLIENT REPLY off", ""), ("RESET", "+RESET|"), ("PING", "+PONG|")]);
    client.check(&[("CLIENT REPLY skip", ""), ("RESET", ""), ("PING", "+PONG|")]);
    let lines = ["CLIENT REPLY off", "CLIENT REPLY skip", "PING", "PING", "CLIENT REPLY on"];
    assert_eq!(pipeline(&mut client, &lines), "+OK|", "skipping ends no silence");
}

#[test]
fn help_is_there_where_errors_promise_it() {
    let mut client = queue_client();
    for name in ["CLIENT", "COMMAND", "CONFIG", "LATENCY", "SLOWLOG"] {
        let error = format!("-ERR unknown subcommand 'x'. Try {name} HELP.|");
        client.check(&[(&format!("{name} x"), &error)]);
        let help = client.ask(&format!("{name} help"));
        let start = format!("+{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:|");
        assert!(help.contains(&start) && help.ends_with("|+HELP: Print this help.|"), "{help}");
        // What nobody can run is not queued either.
        let abort = "-EXECABORT Transaction discarded because of previous errors.|";
        client.check(&[("MULTI", "+OK|"), (&format!("{name} x"), &error), ("EXEC", abort)]);
    }
}
