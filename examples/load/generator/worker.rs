//! One thread of the generator: many connections, one epoll.
//!
//! In a closed loop a connection sends its next requests when all earlier ones are answered. In an
//! open loop requests are due at fixed times, whatever the server does; one that finds no free
//! connection waits for one, and its latency counts from when it was due. Otherwise a server that
//! stands still for a second would be asked nothing in this second, and would look quick.

use super::connection::Connection;
use super::{Budget, Outcome};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// A server that says nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Events taken at a time.
const EVENTS: usize = 256;

/// One thread's part of a run.
pub struct Worker<'a> {
    connections: Vec<Option<Connection>>,
    budget: &'a Budget,
    pipeline: usize,
    pace: Option<Pace>,
    outcome: Outcome,
    /// Requests that have been sent and not answered whole.
    unanswered: u64,
    epoll: OwnedFd,
}

/// When requests are due.
struct Pace {
    start: Instant,
    interval: Duration,
    /// Requests that have been sent.
    sent: u32,
    /// The connection to try first.
    next: usize,
}

impl Pace {
    fn due(&self) -> Instant {
        self.start + self.interval * self.sent
    }
}

impl<'a> Worker<'a> {
    /// A worker with its `connections`; `interval`: between the starts of two requests in an open
    /// loop, None for a closed one.
    pub fn new(
        connections: Vec<Connection>,
        budget: &'a Budget,
        pipeline: usize,
        interval: Option<Duration>,
    ) -> std::io::Result<Worker<'a>> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for (index, connection) in connections.iter().enumerate() {
            // Edge-triggered, so that a full socket needs no change of what is waited for.
            let events = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            epoll::add(&epoll, &connection.stream, EventData::new_u64(index as u64), events)?;
        }
        let start = Instant::now();
        Ok(Worker {
            connections: connections.into_iter().map(Some).collect(),
            budget,
            pipeline,
            pace: interval.map(|interval| Pace { start, interval, sent: 0, next: 0 }),
            outcome: Outcome::new(),
            unanswered: 0,
            epoll,
        })
    }

    /// Runs until the budget is used up and everything is answered.
    pub fn run(mut self) -> Outcome {
        if self.pace.is_some() {
            // Only lateness depends on it, and that is measured.
            let _kept = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        } else {
            (0..self.connections.len()).for_each(|index| self.top_up(index));
        }
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        let mut heard = Instant::now();
        loop {
            let wait = self.send_due();
            if wait.is_none() && self.unanswered == 0 {
                return self.outcome;
            }
            if let Err(error) = self.wait(&mut events, wait.unwrap_or(PATIENCE)) {
                self.outcome.failed(format!("epoll: {error}"));
                return self.outcome;
            }
            if !events.is_empty() {
                heard = Instant::now();
            } else if self.unanswered > 0 && heard.elapsed() >= PATIENCE {
                self.outcome.failed(format!("no reply for {PATIENCE:?}"));
                return self.outcome;
            }
            for event in events.drain(..) {
                self.visit(event.data.u64() as usize);
            }
        }
    }

    fn wait(&self, events: &mut Vec<Event>, timeout: Duration) -> Result<(), Errno> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let room = rustix::buffer::spare_capacity(events);
        match epoll::wait(&self.epoll, room, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn visit(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else { return };
        let before = connection.in_flight();
        let received = connection.receive(&mut self.outcome);
        self.unanswered -= (before - connection.in_flight()) as u64;
        match received {
            Ok(()) if self.pace.is_none() => self.top_up(index),
            Ok(()) => {}
            Err(error) => self.give_up(index, error),
        }
    }

    /// Closed loop: the next requests of a connection that has none.
    fn top_up(&mut self, index: usize) {
        let idle = |connection: &Connection| connection.in_flight() == 0;
        if self.connections[index].as_ref().is_some_and(idle) {
            let now = Instant::now();
            self.send(index, self.budget.take(self.pipeline, now), now);
        }
    }

    /// Open loop: sends what is due where there is room; answers how long to wait for the next, or
    /// None when there is no next.
    fn send_due(&mut self) -> Option<Duration> {
        loop {
            let pace = self.pace.as_ref()?;
            let (due, now) = (pace.due(), Instant::now());
            if due > now {
                return Some(due - now);
            }
            let Some(index) = self.with_room(pace.next) else {
                let alive = self.connections.iter().any(Option::is_some);
                return alive.then_some(PATIENCE);
            };
            // Whether the run is over is a question of when a request is due.
            let number = self.budget.take(1, due).next()?;
            if let Some(pace) = &mut self.pace {
                pace.sent += 1;
                pace.next = index + 1;
            }
            self.send(index, [number], due);
        }
    }

    /// The first connection from `next` on, round and round, that may send.
    fn with_room(&self, next: usize) -> Option<usize> {
        let count = self.connections.len();
        let may_send = |index: &usize| {
            let connection = self.connections[*index].as_ref();
            connection.is_some_and(|connection| connection.in_flight() < self.pipeline)
        };
        (next..next + count).map(|index| index % count).find(may_send)
    }

    fn send(&mut self, index: usize, numbers: impl IntoIterator<Item = u64>, intended: Instant) {
        let Some(connection) = &mut self.connections[index] else { return };
        for number in numbers {
            connection.add(number, intended);
            self.unanswered += 1;
        }
        if let Err(error) = connection.send() {
            self.give_up(index, error);
        }
    }

    fn give_up(&mut self, index: usize, error: String) {
        let lost = self.connections[index].take();
        self.unanswered -= lost.map_or(0, |connection| connection.in_flight() as u64);
        self.outcome.failed(error);
    }
}
