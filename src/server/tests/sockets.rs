//! A whole server over real sockets, with a session of the tests' own.

use super::*;
use crate::server::{Server, ServerLimits, Service};
use crate::session::Statistics;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Only a guard against hanging.
const GUARD: Duration = Duration::from_secs(20);

fn start(workers: usize, clients: ClientLimits) -> (Server, SocketAddr, Arc<Statistics>) {
    start_on(&Arc::default(), workers, clients)
}

fn start_on(
    disk: &Arc<Disk>,
    workers: usize,
    clients: ClientLimits,
) -> (Server, SocketAddr, Arc<Statistics>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let session_disk = Arc::clone(disk);
    let service = Service {
        protocol: "lines",
        listener,
        refusal: b"too many\n",
        overload: b"too much\n",
        sessions: Box::new(move |_| Lines::new(&session_disk, Instant::now())),
    };
    let statistics = Arc::<Statistics>::default();
    let limits = ServerLimits { workers, max_memory: MAX_MEMORY, clients: Arc::new(clients) };
    let server =
        Server::start(vec![service], limits, Arc::clone(disk) as _, Arc::clone(&statistics));
    (server.unwrap(), address, statistics)
}

fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    BufReader::new(stream)
}

fn ask(client: &mut BufReader<TcpStream>, text: &str) -> String {
    client.get_mut().write_all(text.as_bytes()).unwrap();
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    line
}

#[test]
fn one_client_too_many_is_told_so_and_the_next_place_is_taken() {
    let (server, address, statistics) =
        start(1, ClientLimits { max_clients: 1.into(), ..limits() });
    let mut first = connect(address);
    assert_eq!(ask(&mut first, "say a\n"), "a\n");
    let mut text = String::new();
    connect(address).read_to_string(&mut text).unwrap();
    assert_eq!(text, "too many\n");
    assert_eq!(statistics.connections_refused.load(Ordering::Relaxed), 1);
    drop(first);
    while statistics.connections_now.load(Ordering::Relaxed) > 0 {
        thread::yield_now();
    }
    assert_eq!(ask(&mut connect(address), "say b\n"), "b\n");
    assert_eq!(statistics.connections_total.load(Ordering::Relaxed), 2);
    server.stop();
    let (received, sent) = (["say a\n", "say b\n"].concat(), ["a\n", "too many\n", "b\n"].concat());
    let traffic = &statistics.traffic;
    assert_eq!(traffic.received.load(Ordering::Relaxed), received.len() as u64);
    assert_eq!(traffic.sent.load(Ordering::Relaxed), sent.len() as u64);
}

#[test]
fn clients_are_spread_over_all_workers() {
    let (server, address, _) = start(3, limits());
    let mut clients: Vec<_> = (0..6).map(|_| connect(address)).collect();
    for round in 0..10 {
        for client in &mut clients {
            let reply = ask(client, &format!("write {round}\n"));
            assert_eq!(reply, format!("{round}\n"));
        }
    }
    assert!(server.clients_of_workers().iter().all(|clients| *clients == 2));
    server.stop();
}

#[test]
fn the_stop_ends_idle_clients_and_nobody_is_accepted_any_more() {
    let (server, address, _) = start(1, limits());
    let mut idle = connect(address);
    assert_eq!(ask(&mut idle, "write hello\n"), "hello\n");
    let stopping = thread::spawn(move || server.stop());
    let mut rest = String::new();
    idle.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    drop(idle);
    stopping.join().unwrap();
    assert!(TcpStream::connect(address).is_err());
}

/// Nothing ended it before it was done: the daemon ended beside it, and without its last commit.
#[test]
fn the_stop_cuts_a_change_that_takes_for_ever() {
    let disk = Arc::<Disk>::default();
    let (server, address, statistics) = start_on(&disk, 1, limits());
    let mut endless = connect(address);
    endless.get_mut().write_all(b"change 18446744073709551615\n").unwrap();
    while disk.changes.load(Ordering::SeqCst) < 10 {
        thread::yield_now();
    }
    assert_eq!(disk.commits(), 0);
    server.stop_within(Duration::ZERO);
    assert_eq!((disk.commits(), statistics.connections_now.load(Ordering::SeqCst)), (1, 0));
    let mut rest = String::new();
    assert!(endless.read_to_string(&mut rest).is_err() || rest.is_empty());
}

#[test]
fn a_slow_reader_gets_everything_in_order_and_holds_nobody_up() {
    let (server, address, _) = start(1, limits());
    let mut slow = connect(address);
    // More than socket buffers hold.
    slow.get_mut().write_all(b"write a\nbig 20000000\nwrite b\nwrite c\n").unwrap();
    let mut quick = connect(address);
    for _ in 0..100 {
        assert_eq!(ask(&mut quick, "write z\n"), "z\n");
    }
    let mut replies = Vec::new();
    slow.get_mut().shutdown(Shutdown::Write).unwrap();
    slow.read_to_end(&mut replies).unwrap();
    assert_eq!(replies.len(), 20_000_000 + 6);
    assert!(replies.starts_with(b"a\nxx") && replies.ends_with(b"xb\nc\n"));
    server.stop();
}

#[test]
fn a_server_without_clients_stops_at_once() {
    let (server, _, statistics) = start(1, limits());
    server.stop();
    assert_eq!(statistics.connections_total.load(Ordering::Relaxed), 0);
}
