//! The server as a whole: starts the threads and stops them.

use super::acceptor::{self, Reception};
use super::clients::Clients;
use super::committer::Committer;
use super::turns::Turns;
use crate::logging::expecting_panic;
use crate::queue::Durability;
use crate::session::{NewClient, Session, Statistics};
use log::{error, warn};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Bytes of a handler's stack. A debug build has touched 32 KiB of it, with mixed commands over
/// each of the stores; what is not touched costs only addresses.
const HANDLER_STACK: usize = 256 * 1024;

/// How long clients may take, at the stop, to get the replies to their commands in hand.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How long handlers may take to notice that their connections have been cut.
const STOP_CUT: Duration = Duration::from_secs(1);

/// Makes the session of a new client.
pub type SessionFactory = Box<dyn Fn(NewClient) -> Box<dyn Session> + Send + Sync>;

/// One listener and what is spoken there.
pub struct Service {
    /// Name for the log lines: "redis".
    pub protocol: &'static str,
    /// A bound, blocking listener.
    pub listener: TcpListener,
    /// What one client too many is told before it is disconnected.
    pub refusal: &'static [u8],
    /// Makes a client's session.
    pub sessions: SessionFactory,
}

/// What clients may ask of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most clients at a time, over all listeners; as many threads are made.
    pub max_clients: usize,
    /// How long a client may send nothing, take for one request, or take to read a reply; None: for
    /// ever.
    pub idle_timeout: Option<Duration>,
}

/// A running server.
pub struct Server {
    services: Vec<Arc<Service>>,
    clients: Arc<Clients>,
    committer: Arc<Committer>,
    committing: JoinHandle<()>,
}

impl Server {
    /// Serves `services` from now on. Errors: a thread that could not be made.
    pub fn start(
        services: Vec<Service>,
        limits: Limits,
        durability: Arc<dyn Durability>,
        statistics: Arc<Statistics>,
    ) -> io::Result<Server> {
        let clients = Arc::new(Clients::new(limits.max_clients, statistics));
        let committer = Arc::new(Committer::new(durability));
        let reception = Reception {
            clients: Arc::clone(&clients),
            committer: Arc::clone(&committer),
            pool: pool(limits.max_clients)?,
            idle_timeout: limits.idle_timeout,
            turns: Arc::new(Turns::new()),
            last_id: Arc::default(),
        };
        let run = Arc::clone(&committer);
        let committing = spawn("committer", move || run.run())?;
        let services: Vec<_> = services.into_iter().map(Arc::new).collect();
        let accepting = |service: &Arc<Service>| {
            let (service, reception) = (Arc::clone(service), reception.clone());
            spawn(service.protocol, move || acceptor::accept(&service, &reception)).map(drop)
        };
        services.iter().try_for_each(accepting)?;
        Ok(Server { services, clients, committer, committing })
    }

    /// Stops accepting, lets clients get the replies to what is in hand, and syncs. Afterwards no
    /// handler works any more, or it has been reported.
    pub fn stop(self) {
        self.clients.stop();
        self.services.iter().for_each(|service| acceptor::wake(service));
        if self.clients.wait_until_empty(STOP_GRACE) > 0 {
            self.clients.disconnect();
            let remain = self.clients.wait_until_empty(STOP_CUT);
            if remain > 0 {
                warn!("{remain} clients are still being served at the stop");
            }
        }
        self.committer.stop();
        match self.committing.join() {
            Ok(()) => {}
            Err(_) => error!("the committer has panicked"),
        }
    }
}

/// A pool of exactly `threads` threads. The pool panics if a thread cannot be made.
fn pool(threads: usize) -> io::Result<threadpool::ThreadPool> {
    let build = || {
        threadpool::Builder::new()
            .num_threads(threads)
            .thread_name("client".into())
            .thread_stack_size(HANDLER_STACK)
            .build()
    };
    expecting_panic(build)
        .map_err(|_| io::Error::other(format!("the system does not allow {threads} threads")))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(work)
}
