//! Clients that wait for messages, on every store: random operations beside a naive model, with the
//! clock in the test's hands.
//!
//! The seed of a failing run is printed; give it back as `MQ_TEST_SEED` to see the same run again.

use crate::random::Random;
use mq::clock::Clock;
use mq::queue::{
    Backing, DiskBacking, Lease, Limits, MemoryBacking, Message, NewMessage, Policy, Queue,
    QueueError, Queues, Registration, Ticket,
};
use mq::storage::DataDirectory;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const NAMES: [&[u8]; 2] = [b"a", b"b"];

/// A message that is leased to a worker until then.
type Leased = Option<(u64, Duration)>;

struct Client {
    registration: Registration,
    queues: Vec<usize>,
    /// The queue and the number of what it should have been handed.
    handed: Option<(usize, u64)>,
}

/// What the queues should have: messages by number, those that nobody was handed.
#[derive(Default)]
struct Model {
    queues: [BTreeMap<u64, (u8, Leased)>; 2],
}

struct Run {
    queues: Arc<Queues>,
    uptime_ms: Arc<AtomicU64>,
    model: Model,
    /// In the order in which they came.
    clients: Vec<Client>,
    random: Random,
}

fn shown(message: Message<'_>) -> (u64, u8) {
    (message.sequence, message.body[0])
}

impl Run {
    fn new(backing: Box<dyn Backing>) -> Run {
        let limits = Limits { max_queues: 2, max_queue_len: u64::MAX };
        let uptime_ms = Arc::<AtomicU64>::default();
        let read = Arc::clone(&uptime_ms);
        let clock = Clock::new(move || Duration::from_millis(read.load(Ordering::Relaxed)));
        let queues = Queues::open(backing, limits, Policy::Never).unwrap().with_clock(clock);
        let (model, random) = (Model::default(), Random::seeded());
        Run { queues: Arc::new(queues), uptime_ms, model, clients: Vec::new(), random }
    }

    fn find<R>(
        &self,
        queue: usize,
        work: impl FnOnce(&mut Queue) -> Result<R, QueueError>,
    ) -> Option<R> {
        self.queues.find(NAMES[queue], &mut Ticket::default(), work).unwrap()
    }

    /// The model's leases that are over end, and its messages go to clients that wait.
    fn settle(&mut self) {
        let now = self.queues.clock().uptime();
        for (index, queue) in self.model.queues.iter_mut().enumerate() {
            for (_, lease) in queue.values_mut() {
                *lease = lease.filter(|(_, until)| *until > now);
            }
            let waits = |client: &Client| client.handed.is_none() && client.queues.contains(&index);
            while let Some((&number, _)) = queue.iter().find(|(_, it)| it.1.is_none())
                && let Some(client) = self.clients.iter_mut().find(|client| waits(client))
            {
                client.handed = Some((index, number));
                // It is leased to the client until that comes or goes.
                queue.get_mut(&number).unwrap().1 = Some((u64::MAX, Duration::MAX));
            }
        }
    }

    /// A client takes the oldest ready message of the leftmost queue that has one.
    fn look_at(&mut self, wanted: &[usize]) -> Option<(usize, u64)> {
        wanted.iter().find_map(|&queue| {
            let ready = self.model.queues[queue].iter_mut().find(|(_, it)| it.1.is_none());
            let (&number, it) = ready?;
            it.1 = Some((u64::MAX, Duration::MAX));
            Some((queue, number))
        })
    }

    fn step(&mut self) {
        let queue = self.random.below(2) as usize;
        let client = self.random.below(self.clients.len().max(1) as u64) as usize;
        match self.random.below(20) {
            0..=4 => {
                let body = [self.random.below(200) as u8; 40];
                let message = NewMessage { body: &body, flags: 0, expires_ms: 0 };
                let push = |queue: &mut Queue| {
                    queue.push(&message)?;
                    Ok(queue.end() - 1)
                };
                let number = self.queues.create(NAMES[queue], &mut Ticket::default(), push);
                self.model.queues[queue].insert(number.unwrap(), (body[0], None));
            }
            5..=8 if self.clients.len() < 8 => {
                let both = self.random.below(2) == 0;
                let wanted = if both { vec![queue, 1 - queue] } else { vec![queue] };
                let names = wanted.iter().map(|queue| NAMES[*queue]);
                let registration = self.queues.wait_for(names, Box::new(|| ()));
                self.settle();
                let handed = self.look_at(&wanted);
                self.clients.push(Client { registration, queues: wanted, handed });
            }
            9..=11 if client < self.clients.len() => self.take(client),
            12 if client < self.clients.len() => {
                // It goes, and what it was handed is the next one's.
                let Client { handed, registration, .. } = self.clients.remove(client);
                drop(registration);
                if let Some((queue, number)) = handed {
                    self.model.queues[queue].get_mut(&number).unwrap().1 = None;
                }
            }
            13..=14 => {
                self.settle();
                let popped = self.find(queue, |queue| queue.pop(shown)).flatten();
                let ready = self.model.queues[queue].iter().find(|(_, it)| it.1.is_none());
                let ready = ready.map(|(number, it)| (*number, it.0));
                assert_eq!(popped, ready, "a newcomer overtakes nobody");
                ready.map(|(number, _)| self.model.queues[queue].remove(&number));
            }
            15 => self.lease(queue),
            16 => self.give_back(queue),
            17 => drop(self.queues.tidy()),
            _ => drop(self.uptime_ms.fetch_add(self.random.below(20), Ordering::Relaxed)),
        }
        self.check();
    }

    /// A client comes for what it was handed: pops it, or finds that it has gone.
    fn take(&mut self, client: usize) {
        let Some((queue, number)) = self.clients[client].handed else { return };
        let delivery = self.clients[client].registration.handed().unwrap().delivery;
        assert_eq!(delivery.number, number);
        if self.random.below(4) == 0 {
            // Somebody removes it first.
            assert_eq!(self.find(queue, |queue| queue.acknowledge(number)), Some(true));
            let shown = self.find(queue, |queue| queue.show_leased(&delivery, |_| Ok(())));
            assert_eq!(shown.flatten(), None);
            self.clients[client].registration.wait_again();
            self.model.queues[queue].remove(&number);
            let wanted = self.clients[client].queues.clone();
            self.clients[client].handed = self.look_at(&wanted);
            return;
        }
        let mut client = self.clients.remove(client);
        let (_, body) = self
            .find(queue, |queue| {
                let shown = queue.show_leased(&delivery, |message| Ok(shown(message)))?;
                assert!(queue.acknowledge(number)?);
                Ok(shown.expect("it is leased to the client"))
            })
            .unwrap();
        client.registration.keep();
        assert_eq!(self.model.queues[queue].remove(&number).map(|it| it.0), Some(body));
    }

    fn lease(&mut self, queue: usize) {
        self.settle();
        let until = self.queues.clock().uptime() + Duration::from_millis(self.random.below(60));
        let attempt = self.queues.next_attempt();
        let lease = Lease { attempt, until };
        let leased = self.find(queue, |queue| queue.lease(lease, |message| Ok(shown(message))));
        let ready = self.model.queues[queue].iter_mut().find(|(_, it)| it.1.is_none());
        assert_eq!(leased.flatten().map(|it| it.0), ready.as_ref().map(|(number, _)| **number));
        if let Some((_, it)) = ready {
            it.1 = Some((attempt, until));
        }
    }

    /// A worker gives back what it leased first.
    fn give_back(&mut self, queue: usize) {
        self.settle();
        let is_workers = |lease: &Leased| lease.is_some_and(|(attempt, _)| attempt != u64::MAX);
        let held = self.model.queues[queue].iter_mut().find(|(_, it)| is_workers(&it.1));
        let Some((&number, it)) = held else { return };
        let attempt = it.1.take().map(|(attempt, _)| attempt);
        let given_back = self.find(queue, |queue| Ok(queue.give_back(number, attempt)));
        assert_eq!(given_back, Some(true));
    }

    fn check(&mut self) {
        self.settle();
        for queue in 0..2 {
            let seen = self.find(queue, |queue| {
                let mut all = Vec::new();
                queue.visit(0, u64::MAX, |message| {
                    all.push(shown(message));
                    true
                })?;
                Ok(all)
            });
            let ready = self.model.queues[queue].iter().filter(|(_, it)| it.1.is_none());
            let ready: Vec<_> = ready.map(|(number, it)| (*number, it.0)).collect();
            assert_eq!(seen.unwrap_or_default(), ready);
        }
        for Client { registration, handed, queues } in &self.clients {
            let found = registration.handed().map(|it| (queues[it.index], it.delivery.number));
            assert_eq!(found, *handed);
        }
        let waiting = self.clients.iter().filter(|client| client.handed.is_none());
        assert_eq!(self.queues.waiting(), waiting.count());
    }
}

#[test]
fn in_memory() {
    let mut run = Run::new(Box::new(MemoryBacking::new(1 << 30)));
    (0..20_000).for_each(|_| run.step());
}

#[test]
fn on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(folder.path(), 64 << 10, true).unwrap();
    let mut run = Run::new(Box::new(DiskBacking::new(directory)));
    (0..5000).for_each(|_| run.step());
}
