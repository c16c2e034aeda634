//! The load generator: sends requests at a server, checks every reply, measures latencies.
//!
//! A few threads with many sockets each, so that two hundred connections cost little of the
//! CPU time that the server needs too. The example `load` is its command line; the benchmark
//! `peers` calls it. It knows protocols and clocks, and nothing of the servers behind them.

mod connection;
pub mod step;
mod worker;

use connection::Connection;
use hdrhistogram::Histogram;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use step::{Said, Step};
use worker::Worker;

pub use step::Workload;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// What one request is.
    pub workload: Workload,
    /// Connections in all.
    pub connections: usize,
    /// Requests that a connection sends before it waits for replies.
    pub pipeline: usize,
    /// Threads that share the connections.
    pub threads: usize,
    /// Most requests in all.
    pub requests: u64,
    /// No request is sent after this time.
    pub duration: Duration,
    /// Requests a second in all, sent whatever the server does, or `None` for a closed loop.
    pub rate: Option<f64>,
    /// Numbers of messages and keys: random below this, else from `first` on, each once.
    pub random_below: Option<u64>,
    /// The number of the first request.
    pub first: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Requests that were answered whole.
    pub requests: u64,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// Nanoseconds from when a request was meant to be sent to the last byte of its last reply, to
    /// one part in a hundred.
    pub latency: Histogram<u64>,
    /// Right replies that said no: a message that was queued already, an empty queue.
    pub misses: u64,
    /// Connections that failed or got a wrong reply.
    pub errors: u64,
    /// What went wrong first.
    pub first_error: Option<String>,
    /// Messages that were pushed.
    pub pushed: Tally,
    /// Messages that were popped.
    pub popped: Tally,
}

impl Report {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that this part of the requests kept, in microseconds.
    pub fn latency_us(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// Which messages there were, as sums: equal tallies are equal sets of distinct messages, but
/// for an unlikely accident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    sum: u64,
    squares: u64,
}

impl Tally {
    fn add(&mut self, number: u64) {
        self.plus(&Tally { count: 1, sum: number, squares: number.wrapping_mul(number) });
    }

    /// Adds what `other` counts.
    pub fn plus(&mut self, other: &Tally) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
        self.squares = self.squares.wrapping_add(other.squares);
    }
}

/// Requests that may still be sent, shared by the workers.
struct Budget {
    sent: AtomicU64,
    requests: u64,
    end: Instant,
    random_below: Option<u64>,
    first: u64,
}

impl Budget {
    /// The numbers of the next requests, at most `count`.
    fn take(&self, count: usize, now: Instant) -> impl Iterator<Item = u64> + use<> {
        let wanted = if now < self.end { count as u64 } else { 0 };
        let first = self.sent.fetch_add(wanted, Ordering::Relaxed);
        let taken: Range<u64> = first..self.requests.min(first + wanted).max(first);
        let (below, start) = (self.random_below, self.first);
        let choose = move |number| below.map_or(number, |below| scatter(number) % below);
        taken.map(move |number| choose(start + number))
    }
}

/// A random number for each number (the finalizer of SplitMix64).
fn scatter(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// What one worker saw.
struct Outcome {
    latency: Histogram<u64>,
    last: Instant,
    misses: u64,
    errors: u64,
    first_error: Option<String>,
    pushed: Tally,
    popped: Tally,
}

impl Outcome {
    fn new() -> Outcome {
        Outcome {
            latency: new_histogram(),
            last: Instant::now(),
            misses: 0,
            errors: 0,
            first_error: None,
            pushed: Tally::default(),
            popped: Tally::default(),
        }
    }

    fn finished(&mut self, now: Instant, latency: Duration) {
        self.last = now;
        self.latency.saturating_record(latency.as_nanos() as u64);
    }

    fn tally(&mut self, step: Step, number: u64, said: Said) {
        match (step, said) {
            (_, Said::Miss) => self.misses += 1,
            (Step::Sadd | Step::Put, _) => self.pushed.add(number),
            (Step::Spop | Step::Reserve, Said::Message { number, .. }) => self.popped.add(number),
            _ => {}
        }
    }

    fn failed(&mut self, error: String) {
        self.errors += 1;
        self.first_error.get_or_insert(error);
    }
}

/// From 100 ns to 100 s, to one part in a hundred.
fn new_histogram() -> Histogram<u64> {
    #[allow(clippy::expect_used)] // The bounds are constants in the right order.
    Histogram::new_with_bounds(100, 100_000_000_000, 2).expect("bounds of a histogram")
}

/// Runs a plan. An error: the server cannot be reached; what goes wrong later is in the report.
pub fn run(plan: &Plan) -> io::Result<Report> {
    let steps = plan.workload.steps();
    let may_miss = plan.random_below.is_some();
    let open = |_| Connection::open(plan.address, steps, may_miss);
    let mut connections =
        (0..plan.connections).map(open).collect::<io::Result<Vec<Connection>>>()?;
    let start = Instant::now();
    let budget = Budget {
        sent: AtomicU64::new(0),
        requests: plan.requests,
        end: start + plan.duration,
        random_below: plan.random_below,
        first: plan.first,
    };
    let threads = plan.threads.clamp(1, plan.connections.max(1));
    let interval = plan.rate.map(|rate| Duration::from_secs_f64(threads as f64 / rate));
    let mut workers = Vec::new();
    for thread in 0..threads {
        let share =
            connections.split_off(connections.len() - connections.len() / (threads - thread));
        workers.push(Worker::new(share, &budget, plan.pipeline, interval)?);
    }
    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let running: Vec<_> =
            workers.into_iter().map(|worker| scope.spawn(move || worker.run())).collect();
        #[allow(clippy::expect_used)] // A panic of a worker goes on here.
        running.into_iter().map(|thread| thread.join().expect("a worker")).collect()
    });
    Ok(report(start, &outcomes))
}

fn report(start: Instant, outcomes: &[Outcome]) -> Report {
    let mut report = Report {
        requests: 0,
        elapsed: Duration::ZERO,
        latency: new_histogram(),
        misses: 0,
        errors: 0,
        first_error: None,
        pushed: Tally::default(),
        popped: Tally::default(),
    };
    for outcome in outcomes {
        report.elapsed = report.elapsed.max(outcome.last - start);
        // Histograms of the same bounds can always be added.
        let _added = report.latency.add(&outcome.latency);
        report.misses += outcome.misses;
        report.errors += outcome.errors;
        report.first_error = report.first_error.take().or_else(|| outcome.first_error.clone());
        report.pushed.plus(&outcome.pushed);
        report.popped.plus(&outcome.popped);
    }
    report.requests = report.latency.len();
    report
}
