//! Stand-ins for the server's tests: a wire, a disk and a session that tests control.

mod conversation;
mod sockets;
mod turns;

use super::connection::{Bench, Connection, Ending};
use super::lock;
use super::wire::Wire;
use crate::queue::{Durability, ReplyVerdict, Ticket};
use crate::session::{Advance, ClientHandle, ClientLimits, Close, OUTPUT_PIECE, Session, Wait};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A wire made of byte vectors.
#[derive(Default)]
struct ScriptedWire {
    /// What the next reads find; an empty one is the end of the stream.
    arriving: VecDeque<Vec<u8>>,
    /// One entry for each send.
    sent: Vec<Vec<u8>>,
    /// Bytes that the client still takes; `None` for all.
    room: Option<usize>,
    is_cut: bool,
    is_half_closed: bool,
}

impl ScriptedWire {
    fn arriving(reads: &[&str]) -> ScriptedWire {
        let arriving = reads.iter().map(|read| read.as_bytes().to_vec()).collect();
        ScriptedWire { arriving, ..ScriptedWire::default() }
    }

    fn text(&self) -> String {
        String::from_utf8(self.sent.concat()).unwrap()
    }
}

impl Wire for ScriptedWire {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_cut {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let Some(mut bytes) = self.arriving.pop_front() else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let count = bytes.len().min(buffer.len());
        let rest = bytes.split_off(count);
        buffer[..count].copy_from_slice(&bytes);
        if !rest.is_empty() {
            self.arriving.push_front(rest);
        }
        Ok(count)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_cut {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let count = self.room.map_or(bytes.len(), |room| room.min(bytes.len()));
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room = self.room.map(|room| room - count);
        self.sent.push(bytes[..count].to_vec());
        Ok(count)
    }

    fn shutdown(&mut self, how: Shutdown) {
        match how {
            Shutdown::Both | Shutdown::Read => self.is_cut = true,
            Shutdown::Write => self.is_half_closed = true,
        }
    }
}

/// A disk that counts its commits.
#[derive(Default)]
struct Disk {
    /// The last epoch that was given out.
    last: AtomicU64,
    durable: AtomicU64,
    commits: AtomicU64,
    /// Parts of changes that have been done.
    changes: AtomicU64,
    /// Epochs whose syncs fail.
    failing: Mutex<Vec<u64>>,
}

impl Disk {
    fn write(&self) -> Ticket {
        Ticket::at(self.last.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }
}

impl Durability for Disk {
    fn verdict(&self, ticket: &Ticket) -> ReplyVerdict {
        if ticket.epoch() > self.durable.load(Ordering::SeqCst) {
            ReplyVerdict::Wait
        } else if lock(&self.failing).contains(&ticket.epoch()) {
            ReplyVerdict::Never
        } else {
            ReplyVerdict::Leave
        }
    }

    fn commit(&self) {
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.durable.store(self.last.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    fn interval_ms(&self) -> Option<u64> {
        None
    }
}

/// A session of lines: `say x` answers x, `write x` answers x once it is on disk, `big n` answers n
/// bytes, `slow n` takes n + 1 calls to answer, and so does `change n`, which changes something in
/// each, `wait` answers once it is woken, `wait n` does so after n seconds at the latest, and
/// `quit`, `framing`, `panic` and `stuck` do what they say.
struct Lines {
    disk: Arc<Disk>,
    start: Instant,
    /// Calls that the slow request has had.
    calls: usize,
    is_waiting: bool,
}

impl Lines {
    fn new(disk: &Arc<Disk>, start: Instant) -> Box<Lines> {
        Box::new(Lines { disk: Arc::clone(disk), start, calls: 0, is_waiting: false })
    }

    /// Executes one line. Returns false if it is not done.
    fn line(&mut self, line: &str, output: &mut Vec<u8>, advance: &mut Advance) -> bool {
        let (verb, text) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "say" => output.extend_from_slice(format!("{text}\n").as_bytes()),
            "write" => {
                advance.ticket = self.disk.write();
                output.extend_from_slice(format!("{text}\n").as_bytes());
            }
            "big" => output.resize(output.len() + text.parse::<usize>().unwrap(), b'x'),
            "slow" if self.calls < text.parse().unwrap() => {
                self.calls += 1;
                (advance.again, advance.unfinished) = (true, true);
                return false;
            }
            "change" => {
                self.disk.changes.fetch_add(1, Ordering::SeqCst);
                if self.calls < text.parse().unwrap() {
                    self.calls += 1;
                    (advance.again, advance.unfinished) = (true, true);
                    advance.half_done = line.len() + 1;
                    return false;
                }
                self.calls = 0;
                output.extend_from_slice(b"changed\n");
            }
            "slow" => {
                self.calls = 0;
                output.extend_from_slice(b"slow\n");
            }
            "wait" if !std::mem::take(&mut self.is_waiting) => {
                self.is_waiting = true;
                let seconds = text.parse().ok().map(Duration::from_secs);
                advance.wait = Some(Wait { until: seconds.map(|seconds| self.start + seconds) });
                return false;
            }
            "wait" => output.extend_from_slice(b"woken\n"),
            "quit" => advance.close = Some(Close::Quit),
            "framing" => {
                output.extend_from_slice(b"error\n");
                advance.close = Some(Close::Framing);
            }
            "stuck" => return false,
            _ => panic!("the session panics on purpose"),
        }
        true
    }
}

impl Session for Lines {
    fn advance(&mut self, input: &[u8], output: &mut Vec<u8>) -> Advance {
        let mut advance = Advance::default();
        while let Some(end) = input[advance.consumed..].iter().position(|&byte| byte == b'\n') {
            if output.len() >= OUTPUT_PIECE {
                return advance;
            }
            let line = std::str::from_utf8(&input[advance.consumed..][..end]).unwrap();
            if !self.line(line, output, &mut advance) {
                return advance;
            }
            advance.consumed += end + 1;
            if advance.close.is_some() || advance.ticket != Ticket::default() {
                return advance;
            }
        }
        advance.need = input.len() - advance.consumed + 1;
        advance
    }
}

const MAX_OUTPUT: usize = 256 * 1024;

fn limits() -> ClientLimits {
    ClientLimits { max_output: MAX_OUTPUT.into(), ..ClientLimits::default() }
}

/// Bytes that all clients together may take.
const MAX_MEMORY: usize = 64 * MAX_OUTPUT;

/// A connection over byte vectors, served as a worker serves it.
struct Served {
    wire: ScriptedWire,
    connection: Connection,
    bench: Bench,
    disk: Arc<Disk>,
    start: Instant,
}

impl Served {
    fn new(wire: ScriptedWire) -> Served {
        let (disk, start) = (Arc::<Disk>::default(), Instant::now());
        let connection = Connection::new(Lines::new(&disk, start), b"too much\n", start);
        Served { wire, connection, bench: Bench::new(start, MAX_OUTPUT), disk, start }
    }

    /// Turns until nothing more happens.
    fn serve(&mut self) -> &mut Served {
        while !self.wire.arriving.is_empty() && self.connection.wants_input(&self.bench)
            || self.connection.is_runnable(&self.bench)
        {
            self.turn();
        }
        self.turn();
        self
    }

    /// Reads once, if the connection wants that, executes, commits and sends.
    fn turn(&mut self) {
        if self.connection.wants_input(&self.bench) {
            self.connection.receive(&mut self.wire, &mut self.bench);
        } else {
            self.connection.go_on(&mut self.bench);
        }
        while self.connection.flush(&mut self.wire, &mut self.bench, &*self.disk) {
            self.disk.commit();
        }
    }

    fn says(&mut self, text: &str) -> &mut Served {
        self.wire.arriving.push_back(text.as_bytes().to_vec());
        self.serve()
    }

    fn over(&self) -> Option<&Ending> {
        self.connection.over()
    }
}
