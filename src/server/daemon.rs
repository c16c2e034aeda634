//! The server as a whole: starts the threads and stops them.

use super::acceptor::{self, Reception};
use super::budget::Budget;
use super::clients::Clients;
use super::mailbox::{Mailbox, Message};
use super::service::Service;
use super::ticker::Ticker;
use super::worker::Worker;
use crate::logging::expecting_panic;
use crate::queue::Durability;
use crate::session::{ClientLimits, Statistics};
use log::warn;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use threadpool::ThreadPool;

/// How long clients may take, at the stop, to get the replies to their commands.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How long workers may take to notice that their clients have been cut off.
const STOP_CUT: Duration = Duration::from_secs(1);

/// What the server may use.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Threads that serve clients.
    pub workers: usize,
    /// Bytes that all clients may take together.
    pub max_memory: usize,
    /// What clients may do.
    pub clients: Arc<ClientLimits>,
}

/// A running server.
pub struct Server {
    services: Vec<Arc<Service>>,
    clients: Arc<Clients>,
    accepting: Vec<JoinHandle<()>>,
    mailboxes: Vec<Arc<Mailbox>>,
    workers: ThreadPool,
    ticker: Option<Ticker>,
    durability: Arc<dyn Durability>,
}

impl Server {
    /// Serves `services` from now on.
    ///
    /// # Errors
    /// A thread or a descriptor that the system does not allow.
    pub fn start(
        services: Vec<Service>,
        limits: ServerLimits,
        durability: Arc<dyn Durability>,
        statistics: Arc<Statistics>,
    ) -> io::Result<Server> {
        let clients = Arc::new(Clients::new(Arc::clone(&limits.clients), statistics));
        let budget = Arc::new(Budget::new(limits.max_memory));
        let workers = pool(limits.workers)?;
        let mut mailboxes = Vec::new();
        for _ in 0..limits.workers {
            let (budget, durability) = (Arc::clone(&budget), Arc::clone(&durability));
            let clients = Arc::clone(&limits.clients);
            let mut worker = Worker::new(clients, budget, durability, Instant::now())?;
            mailboxes.push(Arc::clone(worker.mailbox()));
            workers.execute(move || worker.run());
        }
        let reception = Reception::new(Arc::clone(&clients), mailboxes.clone());
        let services: Vec<_> = services.into_iter().map(Arc::new).collect();
        let accept = |service: &Arc<Service>| {
            let (service, reception) = (Arc::clone(service), reception.clone());
            let accepting = thread::Builder::new().name(service.protocol.into());
            accepting.spawn(move || acceptor::accept(&service, &reception))
        };
        let accepting = services.iter().map(accept).collect::<io::Result<Vec<_>>>()?;
        let ticker = Ticker::start(Arc::clone(&durability))?;
        Ok(Server { services, clients, accepting, mailboxes, workers, ticker, durability })
    }

    /// Clients of each worker.
    #[cfg(test)]
    pub(super) fn clients_of_workers(&self) -> Vec<usize> {
        self.mailboxes.iter().map(|mailbox| mailbox.clients()).collect()
    }

    /// Stops accepting, lets clients get the replies to the commands that have begun, and commits.
    /// Afterwards no session runs any more, or that has been reported. What a client has changed by
    /// half when its time is up is cut: the next start finds nothing of it.
    pub fn stop(self) {
        self.stop_within(STOP_GRACE);
    }

    /// As [`stop`](Server::stop); clients have `grace`.
    pub(super) fn stop_within(self, grace: Duration) {
        self.clients.stop();
        self.services.iter().for_each(|service| acceptor::wake(service));
        for accepting in self.accepting {
            // A panic of an acceptor has been logged by its hook.
            let _ = accepting.join();
        }
        let post = |message: fn() -> Message| {
            self.mailboxes.iter().for_each(|mailbox| mailbox.post(message()));
        };
        post(|| Message::Stop);
        if self.clients.wait_until_empty(grace) > 0 {
            post(|| Message::Cut);
            let remain = self.clients.wait_until_empty(STOP_CUT);
            if remain > 0 {
                return warn!("stopped while {remain} clients were still being served");
            }
        }
        self.workers.join();
        if let Some(ticker) = self.ticker {
            ticker.stop();
        }
        self.durability.commit();
    }
}

/// A pool of exactly `threads` threads. The pool panics where a thread cannot be made.
fn pool(threads: usize) -> io::Result<ThreadPool> {
    let build =
        || threadpool::Builder::new().num_threads(threads).thread_name("worker".into()).build();
    expecting_panic(build)
        .map_err(|_| io::Error::other(format!("the system does not allow {threads} workers")))
}
