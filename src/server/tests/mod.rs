//! Stand-ins for the server's tests: a wire, a disk and a session that do as they are told.

mod committing;
mod conversation;
mod sockets;

use super::acceptor::Reception;
use super::clients::Clients;
use super::committer::Committer;
use super::connection::{Connection, Ending};
use super::outbox::{Condition, Outbox};
use super::turns::Turns;
use super::wire::Wire;
use super::{NothingToSync, lock};
use crate::queue::{Committed, Durability, Ticket};
use crate::session::{Advance, Close, Foreign, Session, Statistics};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What the next read of a `ScriptedWire` finds.
enum Event {
    Bytes(Vec<u8>),
    /// Nothing for as long as the read timeout.
    Timeout,
    /// The next event comes after so long.
    Pause(Duration),
}

/// What a client has seen, and what it lets through.
#[derive(Default)]
struct Client {
    events: VecDeque<Event>,
    /// One entry for each write or send.
    written: Vec<Vec<u8>>,
    /// Bytes that may still be sent without waiting; None: all.
    room: Option<usize>,
    cut: bool,
    half_closed: bool,
    read_timeouts: Vec<Option<Duration>>,
}

/// A wire made of byte vectors. After its last event the client has closed its side.
#[derive(Default)]
struct ScriptedWire {
    client: Mutex<Client>,
    changed: Condvar,
}

impl ScriptedWire {
    fn new(events: impl IntoIterator<Item = Event>) -> Arc<ScriptedWire> {
        let wire = ScriptedWire::default();
        lock(&wire.client).events.extend(events);
        Arc::new(wire)
    }

    fn with_bytes(bytes: &[u8]) -> Arc<ScriptedWire> {
        ScriptedWire::new([Event::Bytes(bytes.to_vec())])
    }

    fn set_room(&self, room: Option<usize>) {
        lock(&self.client).room = room;
        self.changed.notify_all();
    }

    fn written(&self) -> String {
        String::from_utf8(lock(&self.client).written.concat()).unwrap()
    }

    fn writes(&self) -> usize {
        lock(&self.client).written.len()
    }

    fn is_cut(&self) -> bool {
        lock(&self.client).cut
    }

    fn wait_for(&self, condition: impl Fn(&Client) -> bool) {
        let guard = lock(&self.client);
        let wait = self.changed.wait_timeout_while(guard, GUARD, |client| !condition(client));
        assert!(!wait.unwrap().1.timed_out(), "waited in vain");
    }
}

/// Only a guard against hanging.
const GUARD: Duration = Duration::from_secs(20);

impl Wire for ScriptedWire {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let event = lock(&self.client).events.pop_front();
        match event {
            None => Ok(0),
            Some(Event::Timeout) => Err(ErrorKind::WouldBlock.into()),
            Some(Event::Pause(pause)) => {
                thread::sleep(pause);
                self.read(buffer)
            }
            Some(Event::Bytes(mut bytes)) => {
                let count = bytes.len().min(buffer.len());
                let rest = bytes.split_off(count);
                buffer[..count].copy_from_slice(&bytes);
                if !rest.is_empty() {
                    lock(&self.client).events.push_front(Event::Bytes(rest));
                }
                Ok(count)
            }
        }
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        lock(&self.client).read_timeouts.push(timeout);
        Ok(())
    }

    fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.wait_for(|client| client.cut || client.room.is_none_or(|room| room >= bytes.len()));
        match self.send_now(bytes)? {
            sent if sent == bytes.len() => Ok(()),
            _ => Err(ErrorKind::WriteZero.into()),
        }
    }

    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut client = lock(&self.client);
        if client.cut {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let count = client.room.map_or(bytes.len(), |room| room.min(bytes.len()));
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        client.room = client.room.map(|room| room - count);
        client.written.push(bytes[..count].to_vec());
        self.changed.notify_all();
        Ok(count)
    }

    fn has_unread(&self) -> bool {
        !lock(&self.client).events.is_empty()
    }

    fn shutdown(&self, how: Shutdown) {
        let mut client = lock(&self.client);
        match how {
            Shutdown::Both => client.cut = true,
            Shutdown::Write => client.half_closed = true,
            Shutdown::Read => client.events.clear(),
        }
        self.changed.notify_all();
    }
}

/// A disk whose commits wait until the test lets each of them end.
struct SlowDisk {
    /// The last ticket that was given out.
    last: AtomicU64,
    begun: Mutex<Sender<()>>,
    outcomes: Mutex<Receiver<Outcome>>,
    interval_ms: Option<u64>,
}

#[derive(Clone, Copy)]
enum Outcome {
    Done,
    Failed,
    Panic,
}

/// The test's side of a `SlowDisk`.
struct Operator {
    begun: Receiver<()>,
    outcomes: Sender<Outcome>,
}

impl Operator {
    /// Waits until a commit has begun; it covers what was written before.
    fn wait(&self) {
        self.begun.recv_timeout(GUARD).unwrap();
    }

    fn end(&self, outcome: Outcome) {
        self.outcomes.send(outcome).unwrap();
    }
}

impl SlowDisk {
    fn new(interval_ms: Option<u64>) -> (Arc<SlowDisk>, Operator) {
        let (begin, begun) = channel();
        let (end, outcomes) = channel();
        let disk = SlowDisk {
            last: AtomicU64::new(0),
            begun: Mutex::new(begin),
            outcomes: Mutex::new(outcomes),
            interval_ms,
        };
        (Arc::new(disk), Operator { begun, outcomes: end })
    }

    fn write(&self) -> Ticket {
        Ticket(self.last.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

impl Durability for SlowDisk {
    fn durable(&self) -> Ticket {
        Ticket(0)
    }

    fn commit(&self) -> Committed {
        let durable = Ticket(self.last.load(Ordering::SeqCst));
        let _ = lock(&self.begun).send(());
        // A test that has ended lets every commit end.
        match lock(&self.outcomes).recv().unwrap_or(Outcome::Done) {
            Outcome::Done => Committed { durable, failed: false },
            Outcome::Failed => Committed { durable, failed: true },
            Outcome::Panic => panic!("the disk panics on purpose"),
        }
    }

    fn interval_ms(&self) -> Option<u64> {
        self.interval_ms
    }
}

/// A session of lines: `say x` answers x, `write x` answers x once it is on disk, `big n` answers n
/// bytes, and `quit`, `framing`, `http`, `panic` and `stuck` do what they say.
struct Lines {
    disk: Option<Arc<SlowDisk>>,
}

impl Session for Lines {
    fn advance(&mut self, input: &[u8], output: &mut Vec<u8>) -> Advance {
        let mut advance = Advance::default();
        while let Some(end) = input[advance.consumed..].iter().position(|&byte| byte == b'\n') {
            let line = std::str::from_utf8(&input[advance.consumed..][..end]).unwrap();
            if line == "stuck" {
                return advance;
            }
            advance.consumed += end + 1;
            let (verb, text) = line.split_once(' ').unwrap_or((line, ""));
            match verb {
                "say" => output.extend_from_slice(format!("{text}\n").as_bytes()),
                "write" => {
                    advance.ticket = self.disk.as_ref().unwrap().write();
                    output.extend_from_slice(format!("{text}\n").as_bytes());
                }
                "big" => output.resize(output.len() + text.parse::<usize>().unwrap(), b'x'),
                "quit" => advance.close = Some(Close::Quit),
                "framing" => {
                    output.extend_from_slice(b"error\n");
                    advance.close = Some(Close::Framing);
                }
                "http" => advance.close = Some(Close::Foreign(Foreign::Http)),
                _ => panic!("the session panics on purpose"),
            }
            if advance.close.is_some() {
                return advance;
            }
        }
        advance.need = input.len() - advance.consumed + 1;
        advance
    }
}

fn reception(durability: Arc<dyn Durability>, idle_timeout: Option<Duration>) -> Reception {
    Reception {
        clients: Arc::new(Clients::new(10, Arc::new(Statistics::default()))),
        committer: Arc::new(Committer::new(durability)),
        pool: threadpool::ThreadPool::new(1),
        idle_timeout,
        turns: Arc::new(Turns::new()),
        last_id: Arc::default(),
    }
}

fn serve(wire: &Arc<ScriptedWire>, disk: Option<Arc<SlowDisk>>, reception: &Reception) -> Ending {
    let wire: Arc<dyn Wire> = Arc::clone(wire) as _;
    let outbox = Arc::new(Outbox::new(Arc::clone(&wire), Arc::clone(&reception.committer)));
    Connection::new(wire, Box::new(Lines { disk }), outbox, reception).serve()
}
