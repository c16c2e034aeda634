//! A server with mqd's shape and nothing else, to see what of a row is the shape's part.
//!
//! A thread for each client looks at its socket once before it sleeps in a read, finds the
//! requests of the load by their lengths, keeps and gives messages under one lock, and answers.
//! With a file, it appends what it has read to the file's mapping, and hands its answers to a
//! committer, which syncs and then sends them; where it is the only client's, it does so itself.
//! There is no protocol, no record, no index, no limit and no timeout; without a file there is no
//! log, and with one no segment is made and no block written for the first time.
//!
//! Where it is asked to, it does the least that a queue must as well, with mqd's own parts:
//! requests are parsed, what is pushed is hashed and looked up in an index, what is popped is taken
//! out of that, and with a file each leaves a record or a cursor there, in place of what was read.
//! Nothing syncs that where answers do not wait for it, and nobody looks at a clock.

use crate::generator::step::{MEMBER_SIZE, Step};
use crate::server::Duties;
use memmap2::MmapMut;
use mq::protocol::Parsed;
use mq::protocol::resp::{self, Arguments, Limits};
use mq::storage::format::{Cursor, Kind, RECORDS, Record, SECTOR};
use mq::storage::{BodyHash, HashKey, Index, random_hash_key};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustix::thread::sched_yield;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Bytes of a client's buffer.
const INPUT_SIZE: usize = 64 * 1024;

/// Bytes of the file; at its end the log goes on at its start.
const FILE_SIZE: u64 = 64 << 20;

/// Bytes of one write when the file is prepared.
const PAGE: usize = 4096;

/// What redis-benchmark asks for first, perhaps several times at once; it can do without.
const CONFIG: &[u8] = b"*3\r\n$6\r\nCONFIG";
const UNKNOWN: &[u8] = b"-ERR unknown command\r\n";

type Message = [u8; MEMBER_SIZE];

/// An answer, and whom it is for.
type Answer = (Arc<TcpStream>, Vec<u8>);

/// A log in a file's mapping.
struct Log {
    bytes: MmapMut,
    /// Where it goes on.
    end: usize,
}

impl Log {
    /// Room for `size` more bytes.
    fn room(&mut self, size: usize) -> (u64, &mut [u8]) {
        if self.end + size > self.bytes.len() {
            self.end = RECORDS;
        }
        let start = self.end;
        self.end += size;
        (start as u64, &mut self.bytes[start..][..size])
    }
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Message>,
    /// The number of the next message.
    next: u64,
    /// None: nothing but the messages is kept.
    index: Option<(HashKey, Index)>,
    /// Where records and cursors go; None: there is no file.
    log: Option<Log>,
}

impl Queue {
    fn head(&self) -> u64 {
        self.next - self.messages.len() as u64
    }

    /// Appends a message; false: it is there already.
    fn push(&mut self, message: Message) -> bool {
        let (number, head) = (self.next, self.head());
        if let Some((key, index)) = &mut self.index {
            let hash = BodyHash::new(key, &message);
            let place = |found| usize::try_from(found - head).unwrap_or(usize::MAX);
            let mut candidates = index.candidates(hash, number);
            if candidates.any(|found| self.messages.get(place(found)) == Some(&message)) {
                return false;
            }
            drop(candidates);
            index.insert(hash, number);
        }
        if let Some(log) = &mut self.log {
            let record = Record {
                kind: Kind::Message,
                flags: 0,
                sequence: number,
                durable: 0,
                pushed_ms: number,
                expires_ms: 0,
                deliver_ms: 0,
                origin: 0,
                body: &message,
            };
            // Once the log has gone round, the room holds records of this very layout: what is not
            // written of them is zero still.
            let (position, room) = log.room(record.size());
            record.encode(position, room);
        }
        self.messages.push_back(message);
        self.next += 1;
        true
    }

    fn pop(&mut self) -> Option<Message> {
        let number = self.head();
        let message = self.messages.pop_front()?;
        if let Some((key, index)) = &mut self.index {
            index.remove(BodyHash::new(key, &message), number);
        }
        if let Some(log) = &mut self.log {
            let (head, next_sequence) = (number + 1, self.next);
            let cursor = Cursor { generation: head, head, next_sequence, durable: 0, oldest: 0 };
            cursor.encode(0, &mut log.bytes[SECTOR..2 * SECTOR]);
        }
        Some(message)
    }
}

/// What is to be synced.
struct Syncs {
    file: File,
    /// What has been read goes there; None: the queue writes what is synced.
    log: Option<Mutex<Log>>,
    /// What waits for the next sync.
    answers: Mutex<Vec<Answer>>,
}

struct Shape {
    queue: Mutex<Queue>,
    /// None: answers leave at once.
    syncs: Option<Syncs>,
    clients: AtomicUsize,
    /// Told when there is a first answer that waits.
    wake: Condvar,
    push_size: usize,
    pop_size: usize,
    /// Requests are parsed, and not found by their lengths.
    parses: bool,
}

/// What a client asks for.
enum Request {
    Push(Message),
    Pop,
}

/// What mqd's parser is told; nothing in the load comes near.
const LIMITS: Limits =
    Limits { max_arguments: 1024, max_bulk: 1 << 20, max_inline: 1 << 16, max_request: 1 << 20 };

/// The request at the start of `input`, and how long it is; None: it is not whole.
fn parse(input: &[u8], arguments: &mut Arguments) -> Option<(Request, usize)> {
    let Ok(Parsed::Complete { consumed }) = resp::parse(input, arguments, &LIMITS) else {
        return None;
    };
    let message = arguments.get(input, 2).last_chunk().copied();
    let is_push = arguments.get(input, 0).eq_ignore_ascii_case(b"sadd");
    let push = message.filter(|_| is_push).map(Request::Push);
    Some((push.unwrap_or(Request::Pop), consumed))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size(step: Step) -> usize {
    let mut request = Vec::new();
    step.encode(0, &mut request);
    request.len()
}

/// Serves at `address` until the process ends; `path`: of a file, where one is wanted.
pub fn serve(address: &str, path: &Path, duties: Duties) -> io::Result<()> {
    let (mut file, mut log) = (None, None);
    if duties.file {
        let made = make_log(path)?;
        (file, log) = (Some(made.0), Some(made.1));
    }
    let mut queue = Queue::default();
    if duties.queue {
        queue.index = Some((random_hash_key(), Index::default()));
        queue.log = log.take();
    }
    let syncs = |file| Syncs { file, log: log.map(Mutex::new), answers: Mutex::default() };
    let shape = Arc::new(Shape {
        queue: Mutex::new(queue),
        syncs: file.filter(|_| duties.sync).map(syncs),
        clients: AtomicUsize::new(0),
        wake: Condvar::new(),
        push_size: size(Step::Sadd),
        pop_size: size(Step::Spop),
        parses: duties.queue,
    });
    let committing = Arc::clone(&shape);
    thread::spawn(move || committing.commit());
    for stream in TcpListener::bind(address)?.incoming() {
        let stream = Arc::new(stream?);
        stream.set_nodelay(true)?;
        let shape = Arc::clone(&shape);
        thread::spawn(move || {
            shape.clients.fetch_add(1, Ordering::Relaxed);
            let _ended = shape.serve(&stream);
            shape.clients.fetch_sub(1, Ordering::Relaxed);
        });
    }
    Ok(())
}

/// A file whose blocks have all been written, page by page, and a log in it.
fn make_log(path: &Path) -> io::Result<(File, Log)> {
    let file = OpenOptions::new().create_new(true).read(true).write(true).open(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, FILE_SIZE)?;
    for page in (0..FILE_SIZE).step_by(PAGE) {
        file.write_all_at(&[0; PAGE], page)?;
    }
    file.sync_all()?;
    // SAFETY: the file is this process's own, and nobody cuts it.
    let bytes = unsafe { MmapMut::map_mut(&file) }?;
    Ok((file, Log { bytes, end: RECORDS }))
}

/// As mqd's handlers read while they give their turns.
fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    sched_yield();
    match recv(stream, &mut *buffer, RecvFlags::DONTWAIT) {
        Err(Errno::AGAIN) => sched_yield(),
        received => return Ok(received?.1),
    }
    (&*stream).read(buffer)
}

impl Shape {
    /// One client's thread.
    fn serve(&self, stream: &Arc<TcpStream>) -> io::Result<()> {
        let (mut input, mut end) = (vec![0; INPUT_SIZE], 0);
        let (mut arguments, mut answers) = (Arguments::default(), Vec::new());
        loop {
            match read(stream, &mut input[end..])? {
                0 => return Ok(()),
                count => end += count,
            }
            let taken = self.execute(&input[..end], &mut arguments, &mut answers);
            match &self.syncs {
                _ if taken == 0 => {}
                Some(syncs) => {
                    let answer = (Arc::clone(stream), std::mem::take(&mut answers));
                    self.hand_over(syncs, &input[..taken], answer);
                }
                None => {
                    (&**stream).write_all(&answers)?;
                    answers.clear();
                }
            }
            input.copy_within(taken..end, 0);
            end -= taken;
        }
    }

    /// The request at the start of `input`, found by its length, and that.
    fn find(&self, input: &[u8]) -> Option<(Request, usize)> {
        if !input.starts_with(b"*3") {
            return (input.len() >= self.pop_size).then_some((Request::Pop, self.pop_size));
        }
        let message = input.get(..self.push_size - 2)?.last_chunk()?;
        (input.len() >= self.push_size).then_some((Request::Push(*message), self.push_size))
    }

    /// Executes the whole requests of `input` and answers how long they are.
    fn execute(&self, input: &[u8], arguments: &mut Arguments, answers: &mut Vec<u8>) -> usize {
        let mut queue = lock(&self.queue);
        let mut rest = input;
        loop {
            if rest.starts_with(CONFIG) {
                rest.split(|byte| *byte == b'*').skip(1).for_each(|_| answers.extend(UNKNOWN));
                return input.len();
            }
            let found = if self.parses { parse(rest, arguments) } else { self.find(rest) };
            let Some((request, size)) = found else {
                return input.len() - rest.len();
            };
            rest = &rest[size..];
            match request {
                Request::Push(message) => {
                    let is_new = queue.push(message);
                    answers.extend_from_slice(if is_new { b":1\r\n" } else { b":0\r\n" });
                }
                Request::Pop => match queue.pop() {
                    Some(message) => {
                        answers.extend_from_slice(b"$100\r\n");
                        answers.extend_from_slice(&message);
                        answers.extend_from_slice(b"\r\n");
                    }
                    None => answers.extend_from_slice(b"$-1\r\n"),
                },
            }
        }
    }

    fn hand_over(&self, syncs: &Syncs, read: &[u8], answer: Answer) {
        if let Some(log) = &syncs.log {
            lock(log).room(read.len()).1.copy_from_slice(read);
        }
        if self.clients.load(Ordering::Relaxed) == 1 {
            return sync_and_send(&syncs.file, [answer]);
        }
        let mut answers = lock(&syncs.answers);
        answers.push(answer);
        if answers.len() == 1 {
            self.wake.notify_one();
        }
    }

    /// The committer's thread.
    fn commit(&self) {
        let Some(syncs) = &self.syncs else { return };
        loop {
            let answers = self.wake.wait_while(lock(&syncs.answers), |answers| answers.is_empty());
            let answers = std::mem::take(&mut *answers.unwrap_or_else(PoisonError::into_inner));
            sync_and_send(&syncs.file, answers);
        }
    }
}

/// Ends the process where the sync fails.
fn sync_and_send(file: &File, answers: impl IntoIterator<Item = Answer>) {
    if file.sync_data().is_err() {
        std::process::exit(1);
    }
    for (stream, answer) in answers {
        // A client that is gone is found out by its thread.
        let _gone = (&*stream).write_all(&answer);
    }
}
