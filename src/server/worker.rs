//! One worker: a thread that serves many clients.
//!
//! It works in turns. It waits until sockets are ready, reads from each once and lets the session
//! execute what came, makes the log durable once for all of them, and sends the replies.
//!
//! 1. A client belongs to one worker from its first byte to its end, so that its socket, buffers
//!    and session have no lock.
//! 2. Replies leave at the end of a turn: first those that may leave at once, then, after one
//!    commit, those that waited for it. A worker waits for nothing else than sockets and commits.
//! 3. A client that has more to do goes to the end of the line after a bounded piece of work, so
//!    that a turn ends whatever clients send.
//! 4. A panic in a session ends its client and nothing else.

use super::budget::Budget;
use super::clients::Place;
use super::connection::{Bench, Connection, Ending};
use super::interest::{Phase, interest};
use super::mailbox::{Handle, Mailbox, Message, Newcomer};
use super::poller::{Interest, Poller, Ready};
use super::report::report;
use super::service::Service;
use super::wire::Socket;
use crate::logging;
use crate::queue::Durability;
use crate::session::{ClientLimits, NewClient};
use log::Level;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How often clients are looked through for one that has been idle for too long.
const SWEEP: Duration = Duration::from_secs(1);

/// How long a worker pauses after a turn that failed. Each further one in a row doubles the pause,
/// so that a fault that stays costs no CPU, and the stop is still noticed.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A client of a worker.
struct Client {
    peer: SocketAddr,
    service: Arc<Service>,
    connection: Connection,
    socket: Socket,
    /// What the poller waits for.
    interest: Interest,
    /// The client's turn comes although nothing has arrived.
    is_in_line: bool,
    /// Something has been done for the client in this turn.
    is_touched: bool,
    /// The client's deadline among those of the worker.
    deadline: Option<Instant>,
    /// Bytes that the budget has counted.
    memory: usize,
    /// Declared last: the socket is closed before the place is another's.
    _place: Place,
}

/// A thread's clients, and all that it needs to serve them.
pub(super) struct Worker {
    poller: Poller,
    ready: Vec<Ready>,
    clients: HashMap<u64, Client>,
    /// Clients that have more to do.
    line: VecDeque<u64>,
    /// Clients for whom something has been done in this turn.
    touched: Vec<u64>,
    /// Those of them whose replies wait for a commit.
    waiting: Vec<u64>,
    /// When clients have to be looked at although nothing happens: at most one deadline for each,
    /// so that waits that end early leave nothing.
    deadlines: BTreeSet<(Instant, u64)>,
    last_sweep: Instant,
    bench: Bench,
    mailbox: Arc<Mailbox>,
    budget: Arc<Budget>,
    durability: Arc<dyn Durability>,
    limits: Arc<ClientLimits>,
    is_stopping: bool,
}

impl Worker {
    pub(super) fn new(
        limits: Arc<ClientLimits>,
        budget: Arc<Budget>,
        durability: Arc<dyn Durability>,
        now: Instant,
    ) -> io::Result<Worker> {
        let poller = Poller::new()?;
        Ok(Worker {
            mailbox: Arc::new(Mailbox::new(poller.wake()?)),
            poller,
            ready: Vec::new(),
            clients: HashMap::new(),
            line: VecDeque::new(),
            touched: Vec::new(),
            waiting: Vec::new(),
            deadlines: BTreeSet::new(),
            last_sweep: now,
            bench: Bench::new(now, limits.max_output()),
            budget,
            durability,
            limits,
            is_stopping: false,
        })
    }

    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Makes every wait for clients fail.
    #[cfg(test)]
    pub(super) fn spoil(&mut self) {
        self.poller.spoil();
    }

    /// Serves until the stop, when the last client has gone.
    pub(super) fn run(&mut self) {
        self.run_with(thread::sleep);
    }

    /// As [`run`](Worker::run). `pause` waits after a turn that failed.
    pub(super) fn run_with(&mut self, mut pause: impl FnMut(Duration)) {
        let mut next_pause = FIRST_PAUSE;
        while !(self.is_stopping && self.clients.is_empty()) {
            // A panic here is none of a session's. What it leaves of a client is served on.
            let turn = catch_unwind(AssertUnwindSafe(|| self.turn(Instant::now)));
            let text = match turn {
                Ok(Ok(())) => {
                    next_pause = FIRST_PAUSE;
                    continue;
                }
                Ok(Err(error)) => format!("waiting for clients: {error}"),
                Err(_) => "a worker goes on after a panic".into(),
            };
            logging::limited(Level::Error, "turns of workers failed", format_args!("{text}"));
            pause(next_pause);
            next_pause = (2 * next_pause).min(LONGEST_PAUSE);
        }
    }

    /// One turn. `clock` returns the time.
    pub(super) fn turn(&mut self, clock: impl Fn() -> Instant) -> io::Result<()> {
        let timeout = self.timeout(clock());
        let mut ready = std::mem::take(&mut self.ready);
        let waited = self.poller.wait(timeout, &mut ready);
        self.bench.now = clock();
        self.bench.max_output = self.limits.max_output();
        for event in &ready {
            self.serve(event);
        }
        self.ready = ready;
        for _ in 0..self.line.len() {
            self.serve_next_in_line();
        }
        self.read_mail();
        self.look_at_deadlines();
        self.sweep();
        self.send();
        self.finish();
        waited
    }

    /// How long nothing needs to be done: until the next deadline or sweep. Returns `None` if there
    /// is neither.
    pub(super) fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.line.is_empty() {
            return Some(Duration::ZERO);
        }
        let is_swept = self.limits.idle_timeout().is_some() && !self.clients.is_empty();
        let sweep = is_swept.then(|| self.last_sweep + SWEEP);
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let next = sweep.into_iter().chain(deadline).min()?;
        Some(next.saturating_duration_since(now))
    }

    fn serve(&mut self, event: &Ready) {
        let Ready { key, readable, broken, .. } = *event;
        self.with_client(key, |client, bench| {
            if broken {
                client.connection.abort(Ending::Closed);
            } else if readable {
                client.connection.receive(&mut client.socket, bench);
            }
        });
    }

    fn serve_next_in_line(&mut self) {
        if let Some(id) = self.line.pop_front() {
            self.with_client(id, |client, bench| {
                client.is_in_line = false;
                client.connection.go_on(bench);
            });
        }
    }

    /// Does `work` for a client, if it is there still; a panic ends it.
    fn with_client(&mut self, id: u64, work: impl FnOnce(&mut Client, &mut Bench)) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if !client.is_touched {
            client.is_touched = true;
            self.touched.push(id);
        }
        let bench = &mut self.bench;
        if catch_unwind(AssertUnwindSafe(|| work(client, bench))).is_err() {
            client.connection.abort(Ending::Panicked);
            self.bench.mend();
        }
    }

    fn read_mail(&mut self) {
        for message in self.mailbox.take() {
            match message {
                Message::Newcomer(newcomer) => self.adopt(*newcomer),
                Message::Waker(id) => {
                    self.with_client(id, |client, bench| client.connection.wake(bench));
                }
                Message::Close(id) => {
                    // At once, so that the client is gone before its killer is answered.
                    let durability = Arc::clone(&self.durability);
                    self.with_client(id, |client, bench| {
                        client.connection.kill();
                        client.connection.flush(&mut client.socket, bench, &*durability);
                    });
                }
                Message::Shed(id) => self.with_client(id, |client, _| client.connection.shed()),
                Message::Stop => {
                    self.is_stopping = true;
                    self.with_all(|connection| connection.stop());
                }
                Message::Cut => self.with_all(Connection::cut),
            }
        }
    }

    fn with_all(&mut self, work: impl Fn(&mut Connection)) {
        let ids: Vec<u64> = self.clients.keys().copied().collect();
        for id in ids {
            self.with_client(id, |client, _| work(&mut client.connection));
        }
    }

    fn adopt(&mut self, newcomer: Newcomer) {
        let Newcomer { id, peer, local, socket, service, place } = newcomer;
        let handle = Arc::new(Handle { mailbox: Arc::clone(&self.mailbox), id });
        let new = NewClient { id, peer, local, handle };
        let made = catch_unwind(AssertUnwindSafe(|| (service.sessions)(new)));
        let interest = Interest { read: true, write: false };
        let registered = self.poller.add(&socket, id, interest);
        let (Ok(session), Ok(())) = (made, registered) else {
            log::error!("{} client {id} at {peer}: cannot be served", service.protocol);
            return self.mailbox.client_goes();
        };
        log::debug!("{} client {id} at {peer}: connected", service.protocol);
        let client = Client {
            peer,
            connection: Connection::new(session, service.overload, self.bench.now),
            service,
            socket,
            interest,
            is_in_line: false,
            is_touched: false,
            deadline: None,
            memory: 0,
            _place: place,
        };
        self.clients.insert(id, client);
        if self.is_stopping {
            self.with_client(id, |client, _| client.connection.stop());
        }
    }

    fn look_at_deadlines(&mut self) {
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= self.bench.now
        {
            self.deadlines.pop_first();
            self.with_client(id, |client, bench| {
                client.deadline = None;
                client.connection.look_at_deadline(bench);
            });
        }
    }

    fn sweep(&mut self) {
        let now = self.bench.now;
        if let Some(timeout) = self.limits.idle_timeout()
            && now.saturating_duration_since(self.last_sweep) >= SWEEP
        {
            self.last_sweep = now;
            let overdue = |(id, client): (&u64, &Client)| {
                client.connection.overdue(now, timeout).map(|ending| (*id, ending))
            };
            let overdue: Vec<_> = self.clients.iter().filter_map(overdue).collect();
            for (id, ending) in overdue {
                self.with_client(id, |client, _| client.connection.abort(ending));
            }
        }
    }

    /// Sends what may leave; if replies wait for a commit, commits and sends them.
    fn send(&mut self) {
        let Worker { waiting, clients, bench, durability, .. } = self;
        waiting.clone_from(&self.touched);
        loop {
            waiting.retain(|id| {
                let client = clients.get_mut(id);
                client.is_some_and(|client| {
                    client.connection.flush(&mut client.socket, bench, &**durability)
                })
            });
            if waiting.is_empty() {
                return;
            }
            durability.commit();
        }
    }

    /// Closes the sockets of clients that have gone, and settles what the others wait for.
    fn finish(&mut self) {
        // One by one: a panic must not take those that are left.
        while let Some(id) = self.touched.pop() {
            let Some(client) = self.clients.get_mut(&id) else { continue };
            client.is_touched = false;
            let memory = client.connection.memory();
            self.budget.change(id, &self.mailbox, client.memory, memory);
            client.memory = memory;
            if client.connection.state(&self.bench).phase == Phase::Finishing {
                self.budget.finishes(id);
            }
            let registered = client.settle(id, &self.poller, &self.bench);
            if let Err(error) = registered {
                client.connection.abort(Ending::Failed(error));
            }
            if let Some(ending) = client.connection.over() {
                report(client.service.protocol, id, client.peer, ending);
                self.close(id);
                continue;
            }
            if client.connection.is_runnable(&self.bench) && !client.is_in_line {
                client.is_in_line = true;
                self.line.push_back(id);
            }
            let deadline = client.connection.deadline();
            if deadline != client.deadline {
                let before = std::mem::replace(&mut client.deadline, deadline);
                before.map(|before| self.deadlines.remove(&(before, id)));
                self.deadlines.extend(deadline.map(|deadline| (deadline, id)));
            }
        }
    }

    fn close(&mut self, id: u64) {
        if let Some(client) = self.clients.remove(&id) {
            client.deadline.map(|deadline| self.deadlines.remove(&(deadline, id)));
            self.budget.change(id, &self.mailbox, client.memory, 0);
            self.mailbox.client_goes();
        }
    }
}

impl Client {
    /// Tells the poller what the socket is waited for from now on.
    fn settle(&mut self, id: u64, poller: &Poller, bench: &Bench) -> io::Result<()> {
        let wanted = interest(self.connection.state(bench));
        if wanted != self.interest {
            self.interest = wanted;
            poller.modify(&self.socket, id, wanted)?;
        }
        Ok(())
    }
}
