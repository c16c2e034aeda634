//! A server with mqd's own sessions and queues, and one thread that waits for all clients: what
//! another shape would come to.
//!
//! The thread asks the system which clients have sent something, executes all of that, syncs once
//! where a reply has to wait for it, and sends the replies. Tidying and the syncs of each second
//! have threads of their own; queues that nobody uses do not rest, and a client keeps its buffers.
//! There is no idle timeout and no limit of clients, and a client that does not take its replies
//! stops all others. A request longer than the buffer ends its connection, and so do replies of
//! `OUTPUT_PIECE` bytes at once; a request that is to end it is not answered. The protocol is
//! Redis's.

use mq::options::{self, Command, Options, StoreKind};
use mq::queue::{Backing, DiskBacking, Durability, Limits, MemoryBacking, Policy, Queues, Ticket};
use mq::session::redis::RedisSession;
use mq::session::{ClientLimits, NewClient, OUTPUT_PIECE, Session, Settings, Shared, Store};
use mq::storage::DataDirectory;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::retry_on_intr;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Bytes of a client's buffer.
const INPUT_SIZE: usize = 64 * 1024;

/// Clients that are told of at once.
const EVENTS: usize = 512;

/// What the listener is called among the clients, whose numbers begin with 1.
const LISTENER: u64 = 0;

/// How often housekeeping is done.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

struct Client {
    stream: TcpStream,
    session: RedisSession,
    input: Vec<u8>,
    /// Bytes of it that have arrived and are not done.
    end: usize,
    output: Vec<u8>,
}

impl Client {
    /// Executes what has arrived, and answers what the replies wait for; None: the connection ends.
    fn execute(&mut self) -> Option<Ticket> {
        let count =
            self.stream.read(&mut self.input[self.end..]).ok().filter(|count| *count > 0)?;
        self.end += count;
        let (mut start, mut ticket) = (0, Ticket::default());
        loop {
            let advance = self.session.advance(&self.input[start..self.end], &mut self.output);
            start += advance.consumed;
            ticket = ticket.max(advance.ticket);
            if advance.close.is_some() || self.output.len() >= OUTPUT_PIECE {
                return None;
            }
            if advance.need > 0 {
                break;
            }
        }
        self.input.copy_within(start..self.end, 0);
        self.end -= start;
        Some(ticket)
    }

    fn send(&mut self) -> io::Result<()> {
        let sent = self.stream.write_all(&self.output);
        self.output.clear();
        sent
    }
}

/// Serves until the process ends; `arguments` are mqd's.
pub fn serve(arguments: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    let Command::Run(options) = options::parse(arguments)? else {
        return Err("options of a server are wanted".into());
    };
    let listener = TcpListener::bind(options.redis.as_deref().unwrap_or_default());
    let listener = listener.map_err(|error| error.to_string())?;
    let queues = open(&options)?;
    start_threads(&queues);
    let limits =
        ClientLimits { max_message: options.max_message.into(), ..ClientLimits::default() };
    let store = Store::Queues(Arc::clone(&queues));
    let shared = Shared::new(store, Settings::default(), Arc::new(limits));
    converse(&listener, &Arc::new(shared), &queues).map_err(|error| error.to_string())
}

fn open(options: &Options) -> Result<Arc<Queues>, String> {
    let (path, size) = (&options.directory, options.segment_size);
    let (backing, policy): (Box<dyn Backing>, _) = match options.store {
        StoreKind::Disk => {
            let directory = DataDirectory::open(path, size, options.strict);
            let directory = directory.map_err(|error| error.to_string())?;
            (Box::new(DiskBacking::new(directory)), options.fsync)
        }
        StoreKind::Memory => (Box::new(MemoryBacking::new(options.max_memory)), Policy::Never),
        StoreKind::Kv => return Err("a store of queues is wanted".into()),
    };
    let max_queue_len = options.max_queue_len.unwrap_or(u64::MAX);
    let limits = Limits { max_queues: options.max_queues, max_queue_len };
    let queues = Queues::open(backing, limits, policy).map_err(|error| error.to_string())?;
    Ok(Arc::new(queues))
}

fn start_threads(queues: &Arc<Queues>) {
    let tidied = Arc::clone(queues);
    thread::spawn(move || {
        loop {
            if !tidied.tidy() {
                tidied.wait_for_chores(HOUSEKEEPING);
            }
        }
    });
    if let Some(interval_ms) = queues.interval_ms() {
        let synced = Arc::clone(queues);
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_millis(interval_ms));
                synced.commit();
            }
        });
    }
}

fn converse(listener: &TcpListener, shared: &Arc<Shared>, queues: &Queues) -> io::Result<()> {
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let (mut clients, mut last) = (HashMap::new(), LISTENER);
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        retry_on_intr(|| epoll::wait(&poll, spare_capacity(&mut events), None))?;
        let mut ticket = Ticket::default();
        for id in events.iter().map(|event| event.data.u64()) {
            if id == LISTENER {
                last += 1;
                clients.insert(last, welcome(&poll, listener, shared, last)?);
                continue;
            }
            match clients.get_mut(&id).and_then(Client::execute) {
                Some(awaited) => ticket = ticket.max(awaited),
                None => drop(clients.remove(&id)),
            }
        }
        if queues.durable() < ticket && queues.commit().failed {
            return Err(io::Error::other("a sync failed"));
        }
        for id in events.iter().map(|event| event.data.u64()) {
            if clients.get_mut(&id).is_some_and(|client| client.send().is_err()) {
                clients.remove(&id);
            }
        }
    }
}

fn welcome(
    poll: &OwnedFd,
    listener: &TcpListener,
    shared: &Arc<Shared>,
    id: u64,
) -> io::Result<Client> {
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    epoll::add(poll, &stream, EventData::new_u64(id), EventFlags::IN)?;
    let session = RedisSession::new(Arc::clone(shared), NewClient::detached(id));
    Ok(Client { stream, session, input: vec![0; INPUT_SIZE], end: 0, output: Vec::new() })
}
