//! A whole server over real sockets, with a session of the tests' own.

use super::*;
use crate::server::wire::Socket;
use crate::server::{Limits, Server, Service};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

fn start(disk: Option<Arc<SlowDisk>>, max_clients: usize) -> (Server, SocketAddr, Arc<Statistics>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let session_disk = disk.clone();
    let service = Service {
        protocol: "lines",
        listener,
        refusal: b"too many\n",
        sessions: Box::new(move |_| Box::new(Lines { disk: session_disk.clone() })),
    };
    let limits = Limits { max_clients, idle_timeout: Some(GUARD) };
    let durability: Arc<dyn Durability> = match disk {
        Some(disk) => disk,
        None => Arc::new(NothingToSync),
    };
    let statistics = Arc::new(Statistics::default());
    let server = Server::start(vec![service], limits, durability, Arc::clone(&statistics));
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
fn a_socket_numbers_its_reads_from_the_first_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, turns) = (listener.accept().unwrap().0, Arc::new(Turns::new()));
    let socket = Socket::new(stream, Some(GUARD), Arc::clone(&turns), 5).unwrap();
    client.write_all(&[b'a'; 43]).unwrap();
    for _ in 5..48 {
        assert_eq!(socket.read(&mut [0]).unwrap(), 1);
    }
    // The 16th and the 32nd.
    assert_eq!(turns.measured_reads(), 2);
}

#[test]
fn a_panic_ends_its_own_connection_and_gives_its_place_back() {
    let (server, address, statistics) = start(None, 2);
    let mut other = connect(address);
    assert_eq!(ask(&mut other, "say before\n"), "before\n");
    for _ in 0..20 {
        let mut client = connect(address);
        let mut rest = String::new();
        client.get_mut().write_all(b"panic\n").unwrap();
        client.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
        while statistics.connections_now.load(Ordering::Relaxed) > 1 {
            thread::yield_now();
        }
    }
    assert_eq!(ask(&mut other, "say after\n"), "after\n");
    server.stop();
}

#[test]
fn one_client_too_many_is_told_so_and_the_next_place_is_taken() {
    let (server, address, statistics) = start(None, 1);
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
}

#[test]
fn the_stop_sends_the_replies_in_hand_and_ends_idle_clients() {
    let (disk, operator) = SlowDisk::new(None);
    let (server, address, _) = start(Some(disk), 10);
    let mut idle = connect(address);
    assert_eq!(ask(&mut idle, "say hello\n"), "hello\n");
    let mut writer = connect(address);
    writer.get_mut().write_all(b"write done\n").unwrap();
    operator.wait();
    let stopping = thread::spawn(move || server.stop());
    let mut rest = String::new();
    idle.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    drop(operator);
    writer.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "done\n");
    stopping.join().unwrap();
    assert!(TcpStream::connect(address).is_err(), "nobody accepts any more");
}

#[test]
fn a_half_closed_client_gets_all_replies() {
    let (server, address, _) = start(None, 10);
    let mut client = connect(address);
    client.get_mut().write_all("say abc\n".repeat(10_000).as_bytes()).unwrap();
    client.get_mut().shutdown(Shutdown::Write).unwrap();
    let mut replies = String::new();
    client.read_to_string(&mut replies).unwrap();
    assert_eq!(replies, "abc\n".repeat(10_000));
    server.stop();
}

#[test]
fn a_real_slow_reader_gets_everything_in_order_through_a_finisher() {
    let (disk, operator) = SlowDisk::new(None);
    drop(operator);
    let (server, address, _) = start(Some(disk), 10);
    let mut slow = connect(address);
    // More than socket buffers hold, so that the committer cannot send it at once.
    slow.get_mut().write_all(b"write a\nbig 20000000\nwrite b\n").unwrap();
    slow.get_mut().write_all(b"write c\n").unwrap();
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
fn one_service_without_clients_stops_at_once() {
    let (server, _, statistics) = start(None, 3);
    server.stop();
    assert_eq!(statistics.connections_total.load(Ordering::Relaxed), 0);
}
