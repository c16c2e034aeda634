//! A worker over real sockets, turn by turn in the test's own thread and with its clock.

use super::*;
use crate::server::budget::Budget;
use crate::server::clients::Clients;
use crate::server::mailbox::{Message, Newcomer};
use crate::server::service::Service;
use crate::server::wire::Socket;
use crate::server::worker::Worker;
use crate::session::Statistics;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

struct Room {
    worker: Worker,
    disk: Arc<Disk>,
    service: Arc<Service>,
    clients: Arc<Clients>,
    statistics: Arc<Statistics>,
    handles: Arc<Mutex<Vec<Arc<dyn ClientHandle>>>>,
    now: Instant,
    last_id: u64,
}

impl Room {
    fn new(limits: ClientLimits) -> Room {
        Room::with_memory(limits, MAX_MEMORY)
    }

    fn with_memory(limits: ClientLimits, max_memory: usize) -> Room {
        let (disk, now) = (Arc::<Disk>::default(), Instant::now());
        let handles: Arc<Mutex<Vec<Arc<dyn ClientHandle>>>> = Arc::default();
        let (session_disk, kept) = (Arc::clone(&disk), Arc::clone(&handles));
        let service = Service {
            protocol: "lines",
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            refusal: b"too many\n",
            overload: b"too much\n",
            sessions: Box::new(move |client| {
                lock(&kept).push(client.handle);
                Lines::new(&session_disk, now)
            }),
        };
        let budget = Arc::new(Budget::new(max_memory));
        let durability: Arc<dyn Durability> = Arc::<Disk>::clone(&disk);
        let limits = Arc::new(limits);
        let worker = Worker::new(Arc::clone(&limits), budget, durability, now).unwrap();
        let statistics = Arc::<Statistics>::default();
        let clients = Arc::new(Clients::new(limits, Arc::clone(&statistics)));
        let service = Arc::new(service);
        Room { worker, disk, service, clients, statistics, handles, now, last_id: 0 }
    }

    fn connect(&mut self) -> BufReader<TcpStream> {
        let client = self.connect_with("");
        self.turn();
        client
    }

    /// A client whose bytes are there already when the worker first sees it.
    fn connect_with(&mut self, text: &str) -> BufReader<TcpStream> {
        let mut client = TcpStream::connect(self.service.listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = self.service.listener.accept().unwrap();
        client.write_all(text.as_bytes()).unwrap();
        if !text.is_empty() {
            stream.peek(&mut [0]).unwrap();
        }
        let socket = Socket::new(stream, Arc::default()).unwrap();
        let place = self.clients.admit().unwrap();
        self.last_id += 1;
        self.worker.mailbox().client_comes();
        let service = Arc::clone(&self.service);
        let newcomer = Newcomer { id: self.last_id, peer, local: peer, socket, service, place };
        self.worker.mailbox().post(Message::Newcomer(Box::new(newcomer)));
        BufReader::new(client)
    }

    /// One turn, which does not wait: what has arrived by then is served.
    fn turn(&mut self) {
        self.worker.mailbox().post(Message::Waker(0));
        let now = self.now;
        self.worker.turn(|| now).unwrap();
    }

    fn ask(&mut self, client: &mut BufReader<TcpStream>, text: &str) -> String {
        client.get_mut().write_all(text.as_bytes()).unwrap();
        self.line(client)
    }

    /// The next line that the client gets, in as many turns as that takes.
    fn line(&mut self, client: &mut BufReader<TcpStream>) -> String {
        let mut line = String::new();
        self.turns_until(client, |client| client.read_line(&mut line));
        line
    }

    /// What the client gets until the end.
    fn end(&mut self, client: &mut BufReader<TcpStream>) -> String {
        let mut rest = String::new();
        self.turns_until(client, |client| client.read_to_string(&mut rest));
        rest
    }

    fn turns_until(
        &mut self,
        client: &mut BufReader<TcpStream>,
        mut read: impl FnMut(&mut BufReader<TcpStream>) -> io::Result<usize>,
    ) {
        client.get_mut().set_nonblocking(true).unwrap();
        loop {
            match read(client) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.turn(),
                done => break assert!(done.is_ok(), "{done:?}"),
            }
        }
        client.get_mut().set_nonblocking(false).unwrap();
    }

    fn connections(&self) -> u64 {
        self.statistics.connections_now.load(Ordering::Relaxed)
    }
}

#[test]
fn all_replies_of_a_turn_share_one_commit() {
    let mut room = Room::new(limits());
    let write = |number| format!("write {number}\n");
    let mut clients: Vec<_> = (0..5).map(|number| room.connect_with(&write(number))).collect();
    room.turn();
    assert_eq!(room.disk.commits(), 0, "they have only been adopted");
    room.turn();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(room.line(client), format!("{number}\n"));
    }
    assert_eq!(room.disk.commits(), 1);
    assert_eq!(room.ask(&mut clients[0], "say a\n"), "a\n");
    assert_eq!(room.disk.commits(), 1, "nobody waited for another one");
}

#[test]
fn a_slow_request_lets_others_have_their_turn() {
    let mut room = Room::new(limits());
    let (mut slow, mut quick) = (room.connect(), room.connect());
    slow.get_mut().write_all(b"slow 3\n").unwrap();
    room.turn();
    for _ in 0..3 {
        assert_eq!(room.ask(&mut quick, "say a\n"), "a\n");
    }
    assert_eq!(room.line(&mut slow), "slow\n");
}

#[test]
fn a_pipeline_without_end_lets_others_have_their_turn() {
    let mut room = Room::new(limits());
    let (mut greedy, mut quick) = (room.connect(), room.connect());
    greedy.get_mut().write_all("say a\n".repeat(100_000).as_bytes()).unwrap();
    let mut turns = 0;
    let mut replies = greedy.get_ref().try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut replies_read = vec![0; 200_000];
        replies.read_exact(&mut replies_read).unwrap();
    });
    while !reading.is_finished() {
        assert_eq!(room.ask(&mut quick, "say b\n"), "b\n");
        turns += 1;
    }
    reading.join().unwrap();
    assert!(turns > 3, "{turns}");
}

#[test]
fn a_panic_ends_its_own_client_and_gives_its_place_back() {
    let mut room = Room::new(limits());
    let mut other = room.connect();
    for _ in 0..20 {
        let mut client = room.connect();
        client.get_mut().write_all(b"panic\n").unwrap();
        room.turn();
        assert_eq!(room.end(&mut client), "");
        assert_eq!(room.connections(), 1);
    }
    assert_eq!(room.ask(&mut other, "say after\n"), "after\n");
}

#[test]
fn a_handle_wakes_a_session_that_waits() {
    let mut room = Room::new(limits());
    let mut client = room.connect();
    client.get_mut().write_all(b"wait\nsay a\n").unwrap();
    room.turn();
    let handle = Arc::clone(&lock(&room.handles)[0]);
    std::thread::spawn(move || handle.wake()).join().unwrap();
    room.turn();
    assert_eq!(room.line(&mut client), "woken\n");
    assert_eq!(room.line(&mut client), "a\n");
}

#[test]
fn a_wait_ends_at_its_deadline() {
    let mut room = Room::new(limits());
    let (mut early, mut late) = (room.connect(), room.connect());
    late.get_mut().write_all(b"wait 50\n").unwrap();
    room.turn();
    early.get_mut().write_all(b"wait 5\n").unwrap();
    room.turn();
    room.now += Duration::from_secs(5);
    room.turn();
    assert_eq!(room.line(&mut early), "woken\n");
    room.now += Duration::from_secs(45);
    room.turn();
    assert_eq!(room.line(&mut late), "woken\n");
}

/// Each wait left its deadline behind, also of a client that had gone, until that time came: 24
/// bytes for each `BSPOP q 1000000` that was served.
#[test]
fn a_wait_that_ends_early_leaves_no_deadline() {
    let mut room = Room::new(limits());
    let (mut woken, mut gone) = (room.connect(), room.connect());
    woken.get_mut().write_all(b"wait 1000\n").unwrap();
    room.turn();
    assert_eq!(room.worker.timeout(room.now), Some(Duration::from_secs(1000)));
    lock(&room.handles)[0].wake();
    assert_eq!(room.line(&mut woken), "woken\n");
    assert_eq!(room.worker.timeout(room.now), None);
    gone.get_mut().write_all(b"wait 1000\n").unwrap();
    room.turn();
    assert_eq!(room.worker.timeout(room.now), Some(Duration::from_secs(1000)));
    drop(gone);
    while room.connections() > 1 {
        room.turn();
    }
    assert_eq!(room.worker.timeout(room.now), None);
}

#[test]
fn a_handle_closes_its_client_after_the_replies() {
    let mut room = Room::new(limits());
    let (mut client, mut other) = (room.connect(), room.connect());
    client.get_mut().write_all(b"write a\n").unwrap();
    lock(&room.handles)[0].close();
    room.turn();
    assert_eq!(room.end(&mut client), "a\n");
    drop(client);
    room.turn();
    assert_eq!(room.connections(), 1);
    assert_eq!(room.ask(&mut other, "say b\n"), "b\n");
}

#[test]
fn idle_clients_are_closed_by_the_sweep_and_busy_ones_are_not() {
    let mut room = Room::new(ClientLimits { idle_timeout_s: 300.into(), ..limits() });
    let (mut idle, mut busy) = (room.connect(), room.connect());
    room.now += Duration::from_secs(200);
    assert_eq!(room.ask(&mut busy, "say a\n"), "a\n");
    room.now += Duration::from_secs(101);
    room.turn();
    assert_eq!(room.end(&mut idle), "");
    assert_eq!(room.ask(&mut busy, "say b\n"), "b\n");
    assert_eq!(room.connections(), 1);
}

/// Without an idle timeout nothing else wakes the worker for it.
#[test]
fn a_client_that_has_left_and_never_reads_gives_its_place_back() {
    let all = 1 << 30;
    let mut room = Room::with_memory(ClientLimits { max_output: all.into(), ..limits() }, all);
    let mut deaf = room.connect();
    // More than the kernel keeps for both sides.
    deaf.get_mut().write_all(b"big 50000000\nquit\n").unwrap();
    room.turn();
    room.turn();
    room.now += Duration::from_secs(59);
    room.turn();
    assert_eq!(room.connections(), 1);
    room.now += Duration::from_secs(1);
    room.turn();
    assert_eq!(room.connections(), 0);
}

#[test]
fn the_client_that_takes_most_is_disconnected_when_all_take_too_much() {
    let mut room = Room::with_memory(limits(), 4 * MAX_OUTPUT);
    let mut small = room.connect();
    let mut large: Vec<_> = (0..5).map(|_| room.connect()).collect();
    let half = [b"say ".as_slice(), &vec![b'x'; MAX_OUTPUT]].concat();
    for client in &mut large {
        let mut sending = client.get_ref().try_clone().unwrap();
        let half = half.clone();
        let sent = std::thread::spawn(move || sending.write_all(&half));
        // The worker reads while the client sends; one that is refused need not get it all out.
        while !sent.is_finished() {
            assert_eq!(room.ask(&mut small, "say a\n"), "a\n");
        }
    }
    // One lingers with its reply, and what the others take together fits.
    while !large.iter_mut().any(is_told) {
        assert_eq!(room.ask(&mut small, "say a\n"), "a\n");
    }
    let dismissed = large.iter_mut().filter_map(|client| is_told(client).then_some(())).count();
    assert_eq!(dismissed, 0, "the others stay");
    assert_eq!(room.ask(&mut small, "say b\n"), "b\n");
}

/// A fault of before: a client that was to go counted no more, although it still took memory.
#[test]
fn another_one_is_disconnected_too_while_a_change_of_the_largest_is_finished() {
    let mut room = Room::with_memory(limits(), 4 * MAX_OUTPUT);
    let (mut changing, mut large, mut small) = (room.connect(), room.connect(), room.connect());
    let many = format!("change {}{}\n", "0".repeat(3 * MAX_OUTPUT), u64::MAX);
    let send = |client: &mut BufReader<TcpStream>, text: &str, room: &mut Room| {
        let (mut sending, text) = (client.get_ref().try_clone().unwrap(), text.to_string());
        let sent = std::thread::spawn(move || sending.write_all(text.as_bytes()));
        while !sent.is_finished() {
            room.turn();
        }
    };
    send(&mut changing, &many, &mut room);
    while room.disk.changes.load(Ordering::SeqCst) == 0 {
        room.turn();
    }
    send(&mut large, &format!("say {}", "x".repeat(2 * MAX_OUTPUT)), &mut room);
    let is_told = (0..1000).any(|_| {
        assert_eq!(room.ask(&mut small, "say a\n"), "a\n");
        is_told(&mut large)
    });
    assert!(is_told);
    room.worker.mailbox().post(Message::Cut);
    room.turn();
}

/// Whether the client has been refused; one that has not got no byte.
fn is_told(client: &mut BufReader<TcpStream>) -> bool {
    client.get_mut().set_nonblocking(true).unwrap();
    let mut text = [0; 9];
    matches!(client.read(&mut text), Ok(9) if text == *b"too much\n")
}

#[test]
fn the_stop_lets_clients_read_what_was_answered() {
    let mut room = Room::new(limits());
    let (mut idle, mut writer) = (room.connect(), room.connect());
    writer.get_mut().write_all(b"write done\n").unwrap();
    room.turn();
    room.worker.mailbox().post(Message::Stop);
    room.turn();
    assert_eq!((room.end(&mut idle), room.end(&mut writer)), ("".into(), "done\n".into()));
    drop((idle, writer));
    // The worker ends when the last client has gone.
    room.worker.run();
    assert_eq!(room.connections(), 0);
}

#[test]
fn a_worker_that_cannot_wait_pauses_for_longer_and_longer_and_stops_when_it_is_told() {
    let mut room = Room::new(limits());
    room.worker.spoil();
    let (mailbox, mut pauses_ms) = (Arc::clone(room.worker.mailbox()), Vec::new());
    room.worker.run_with(|pause| {
        pauses_ms.push(pause.as_millis());
        if pauses_ms.len() == 12 {
            mailbox.post(Message::Stop);
        }
    });
    let doubling = (0..10).map(|power| 1 << power);
    assert_eq!(pauses_ms, doubling.chain([1000; 3]).collect::<Vec<u128>>());
}
