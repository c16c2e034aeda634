//! Rules 8, 9 and 13: when syncs happen, what a failed one means, and who shares one.
//!
//! `tests/faults` fails the system's own calls under a running daemon.

use super::bench::*;
use crate::common::{Client, GUARD};
use mq::queue::{
    DiskBacking, Durability, Limits as QueueLimits, Policy, Queues, ReplyVerdict, Ticket,
};
use mq::server::{Server, ServerLimits, Service};
use mq::session::redis::RedisSession;
use mq::session::{Settings, Shared, Store};
use mq::storage::{Inspection, StorageError};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use std::{io, thread};
use tempfile::TempDir;

/// What the newest cursor of a segment says is durable: the slots are in the sectors after the
/// header, the generation first and the durable position fourth.
fn durable_position(segment: &[u8]) -> u64 {
    let field =
        |slot: &[u8], index: usize| u64::from_le_bytes(*slot[index * 8..].first_chunk().unwrap());
    let slots = segment[SECTOR..RECORDS].chunks(SECTOR);
    slots.max_by_key(|slot| field(slot, 0)).map_or(0, |slot| field(slot, 3))
}

#[test]
fn rule_08_a_segment_is_durable_before_its_successor_gets_a_record() {
    let mut bench = Bench::new(16 * 1024);
    // No sync is asked for. The rotation makes the older one durable; then its last cursor says
    // that all is durable up to where the newer one's records start, so that one is in use.
    (0..500).for_each(|number| bench.push(format!("{number:0100}")));
    let with_records = || bench.log.segments().filter(|segment| segment.record_bytes() > 0);
    let mut count = 0;
    for (older, newer) in with_records().zip(with_records().skip(1)) {
        let bytes = std::fs::read(&older.path).unwrap();
        assert_eq!(durable_position(&bytes), newer.records_start());
        count += 1;
    }
    assert!(count > 3, "{count} rotations");
}

/// What waits for a sync when a segment is full holds up whoever pushes.
#[test]
fn rule_08_little_is_left_to_sync_when_a_segment_is_full() {
    const LEAST: u64 = 256 * 1024;
    let mut bench = Bench::new(4 << 20);
    let (mut base, mut start, mut syncs, mut most_left) = (0, 0, 0, 0);
    loop {
        bench.push([b'x'; 1000]);
        let tail =
            bench.log.segments().filter(|segment| segment.record_bytes() > 0).last().unwrap();
        let (end, room) = (tail.records_end, tail.end() - tail.records_end);
        if tail.base > base {
            // The first record of the next segment: what was before it is durable by now.
            most_left = most_left.max(tail.base - start);
            (base, start) = (tail.base, tail.records_start());
        }
        if base > 8 << 20 {
            break;
        }
        let waiting = end - start;
        assert_eq!(bench.log.wants_sync(), waiting >= LEAST && waiting >= room, "{waiting} {room}");
        if bench.log.wants_sync() {
            bench.sync();
            assert!(!bench.log.wants_sync());
            (start, syncs) = (end, syncs + 1);
        }
    }
    assert!(most_left < LEAST, "{most_left} bytes are left");
    // Of segments of 512 KiB, 2 MiB, and twice 4 MiB; those before are too small.
    assert_eq!(syncs, 1 + 3 + 4 + 4);

    // Of a log that is closed for writing nobody wants another sync.
    while !bench.log.wants_sync() {
        bench.push([b'x'; 1000]);
    }
    let (_work, point) = bench.log.begin_sync().unwrap();
    assert!(!bench.log.wants_sync(), "one is under way");
    while !bench.log.wants_sync() {
        bench.push([b'x'; 1000]);
    }
    bench.log.end_sync(point, &failed());
    assert!(!bench.log.wants_sync());
}

#[test]
fn rule_08_a_segment_that_fills_is_synced_by_housekeeping() {
    let root = TempDir::new().unwrap();
    let directory = open_directory(root.path(), 4 << 20, false).unwrap();
    let limits = QueueLimits { max_queues: 1, max_queue_len: u64::MAX };
    let backing = Box::new(DiskBacking::new(directory));
    let queues = Queues::open(backing, limits, Policy::Never).unwrap();
    let push = |count| {
        let message = new_message(&[b'x'; 1000]);
        let pushed = (0..count).try_for_each(|_| {
            queues.create(b"q", &mut Ticket::default(), |queue| queue.push(&message))
        });
        pushed.unwrap();
    };
    let durable = || Inspection::new(root.path()).open("q-q").unwrap().unwrap().durable();
    push(450);
    let start = Instant::now();
    queues.wait_for_chores(GUARD);
    assert!(start.elapsed() < GUARD, "nobody has called housekeeping");
    while queues.tidy() {}
    assert!(durable() < 400_000, "a record says what was durable when it was written");
    push(1);
    assert!(durable() > 400_000, "{}", durable());
}

fn failed() -> io::Result<()> {
    Err(io::Error::from_raw_os_error(5))
}

#[test]
fn rule_09_a_failed_sync_closes_the_queue_for_writing_until_restart() {
    let mut bench = Bench::new(16 * 1024);
    bench.push("durable");
    bench.push("durable too");
    bench.push([b'x'; 30_000]);
    bench.sync();
    bench.push("not durable");
    let (_work, point) = bench.log.begin_sync().unwrap();
    bench.log.end_sync(point, &failed());
    assert_eq!(bench.count("failed_syncs"), 1);
    for _ in 0..2 {
        let pushed = bench.log.push(&new_message(b"later"), 1);
        assert!(matches!(pushed, Err(StorageError::Closed { .. })), "{pushed:?}");
        let place = bench.log.next(0).unwrap().unwrap().0;
        let popped = bench.log.remove(place);
        assert!(matches!(popped, Err(StorageError::Closed { .. })), "{popped:?}");
        let place = bench.log.find(b"durable too").unwrap().unwrap().0;
        assert!(matches!(bench.log.remove(place), Err(StorageError::Closed { .. })));
        assert!(matches!(bench.log.sync_now(), Err(StorageError::Closed { .. })));
        // It is not tried again, and never succeeds silently.
        let (work, point) = bench.log.begin_sync().expect("a refusal");
        let outcome = work();
        assert!(outcome.is_err());
        bench.log.end_sync(point, &outcome);
        assert!(!bench.log.copy_forward().unwrap());
        assert!(bench.log.write_footer().is_none(), "nothing is written any more");
        bench.log.rest();
    }
    assert_eq!(bench.bodies().len(), 4, "reading goes on");
    let mut bench = bench.reopen();
    assert_eq!(bench.bodies()[..2], [b"durable".to_vec(), b"durable too".to_vec()]);
    bench.push("writable again");
    bench.sync();
}

/// The durability of real queues; counts commits, and lets none begin while `hold` is locked.
struct Counting {
    queues: Arc<Queues>,
    commits: AtomicU64,
    hold: Mutex<()>,
}

impl Durability for Counting {
    fn verdict(&self, ticket: &Ticket) -> ReplyVerdict {
        self.queues.verdict(ticket)
    }

    fn commit(&self) {
        let _held = self.hold.lock().unwrap();
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.queues.commit();
    }

    fn interval_ms(&self) -> Option<u64> {
        self.queues.interval_ms()
    }
}

/// A Redis server over queues on disk, in this process.
fn serve(policy: Policy) -> (Server, SocketAddr, Arc<Counting>, TempDir) {
    let root = TempDir::new().unwrap();
    let directory = open_directory(root.path(), 1 << 20, true).unwrap();
    let limits = QueueLimits { max_queues: 100, max_queue_len: u64::MAX };
    let backing = Box::new(DiskBacking::new(directory));
    let queues = Arc::new(Queues::open(backing, limits, policy).unwrap());
    let durability = Arc::new(Counting {
        queues: Arc::clone(&queues),
        commits: AtomicU64::new(0),
        hold: Mutex::new(()),
    });
    let shared = Shared::new(Store::Queues(queues), Settings::default(), Arc::default());
    let shared = Arc::new(shared);
    let statistics = Arc::clone(&shared.statistics);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let service = Service {
        protocol: "redis",
        listener,
        refusal: b"",
        overload: b"",
        sessions: Box::new(move |client| Box::new(RedisSession::new(Arc::clone(&shared), client))),
    };
    let limits = ServerLimits { workers: 2, max_memory: 1 << 30, clients: Arc::default() };
    let committing: Arc<dyn Durability> = Arc::<Counting>::clone(&durability);
    let server = Server::start(vec![service], limits, committing, statistics).unwrap();
    (server, address, durability, root)
}

/// A peer syncs only inside the next write, so its last writes before idle never are.
#[test]
fn rule_08_every_second_what_is_dirty_is_synced_also_when_idle() {
    let (server, address, durability, root) = serve(Policy::EverySecond);
    Client::connect(address).ask("SADD q m\r\n", ":1\r\n");
    // One may have begun before the push; the one behind it has ended when a third begins.
    let (start, before) = (Instant::now(), durability.commits.load(Ordering::SeqCst));
    while durability.commits.load(Ordering::SeqCst) < before + 3 {
        assert!(start.elapsed() < GUARD, "nobody commits");
        thread::yield_now();
    }
    // What is dirty is synced at the second call and rests at the third; what is synced rests at
    // the second, and its cursor says that it is durable.
    (0..2).for_each(|_| durability.queues.rest_idle());
    let files = read_files(&root.path().join("q-q"));
    assert!(durable_position(&files["00000000000000000000.seg"]) > RECORDS as u64);
    server.stop();
}

#[test]
fn rule_13_a_pipeline_costs_a_few_syncs_and_not_one_a_command() {
    let (server, address, durability, _root) = serve(Policy::Always);
    let mut client = Client::connect(address);
    client.ask("SADD q first\r\n", ":1\r\n");
    let before = durability.commits.load(Ordering::SeqCst);
    let pushes: String = (0..1000).map(|number| format!("SADD q {number}\r\n")).collect();
    client.ask(pushes, ":1\r\n".repeat(1000));
    let commits = durability.commits.load(Ordering::SeqCst) - before;
    println!("{commits} commits");
    assert!((1..=20).contains(&commits), "{commits} commits for a pipeline of 1000");
    server.stop();
}

#[test]
fn rule_13_many_clients_share_a_sync_and_no_reply_leaves_before_it() {
    let (server, address, durability, _root) = serve(Policy::Always);
    let mut clients: Vec<Client> = (0..50).map(|_| Client::connect(address)).collect();
    clients.iter_mut().for_each(|client| client.ask("PING\r\n", "+PONG\r\n"));
    let before = durability.commits.load(Ordering::SeqCst);
    let held = durability.hold.lock().unwrap();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("SADD q {number}\r\n"));
    }
    // Somebody's push is in the queue, and nobody has been told. A reply about the queue waits too.
    let queues = &durability.queues;
    let len = || queues.find(b"q", &mut Ticket::default(), |queue| Ok(queue.len()));
    while len() == Ok(None) {
        thread::yield_now();
    }
    for client in &mut clients {
        let socket = client.sender();
        socket.set_nonblocking(true).unwrap();
        let early = socket.peek(&mut [0; 16]);
        assert!(early.is_err(), "answered before it is durable: {early:?}");
        socket.set_nonblocking(false).unwrap();
    }
    drop(held);
    clients.iter_mut().for_each(|client| client.expect(":1\r\n"));
    let commits = durability.commits.load(Ordering::SeqCst) - before;
    assert!((1..=10).contains(&commits), "{commits} commits for 50 clients");
    server.stop();
}
