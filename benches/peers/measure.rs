//! One round of one case: the servers in turn, each with fresh data.
//!
//! A round fails when a reply is wrong, or when the messages that were popped are not the ones that
//! were pushed: a server that answers quickly and wrongly is not quick.

use crate::cases::{Case, Row};
use crate::generator::{self, Plan, Report, Workload};
use crate::server::{Memory, Program, Server};
use crate::tool;
use std::collections::BTreeMap;
use std::time::Duration;

/// Keys of the key/value workloads; all are set before.
const KEYS: u64 = 100_000;

/// How much time to take.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Most rounds.
    pub rounds: usize,
    /// No round begins after this time.
    pub last_start: Duration,
    /// How long a row is measured on one server in one round.
    pub slice: Duration,
    /// Whether redis-benchmark runs too.
    pub tool: bool,
    /// The generator's threads.
    pub threads: usize,
    /// Arguments of mqd beside those of each case.
    pub mqd: Vec<String>,
}

impl Effort {
    /// For the record.
    pub const FULL: Effort = Effort {
        rounds: 5,
        last_start: Duration::from_secs(250),
        slice: Duration::from_millis(500),
        tool: true,
        threads: 1,
        mqd: Vec::new(),
    };
    /// For a look.
    pub const SHORT: Effort = Effort {
        rounds: 3,
        last_start: Duration::from_secs(35),
        slice: Duration::from_millis(150),
        tool: false,
        threads: 1,
        mqd: Vec::new(),
    };
}

/// What one server did in one row of one round.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Requests a second.
    pub rate: f64,
    /// Latency in microseconds: half, 99 and 99.9 of a hundred requests are answered within.
    pub latency_us: [f64; 3],
    /// Requests that were answered.
    pub requests: u64,
    /// CPU time that the server took for them.
    pub cpu: Duration,
    /// Its memory afterwards.
    pub memory: Memory,
    /// Messages that it held then.
    pub held: u64,
    /// Requests a second as redis-benchmark finds them.
    pub tool_rate: Option<f64>,
}

/// mqd's sample and the peer's.
pub type Trial = Vec<Sample>;

/// For each round, for each row of a case, a trial.
pub type Samples = Vec<Vec<Trial>>;

/// Measures all rows of `case` once. The order of the servers changes from round to round: what one
/// leaves behind, such as files to be removed, is the next one's burden.
pub fn round(case: &Case, effort: &Effort, number: usize) -> Result<Vec<Trial>, String> {
    let mut order = [(0, case.mqd), (1, case.peer)];
    if number % 2 == 1 {
        order.reverse();
    }
    let mut sides = BTreeMap::new();
    for (place, program) in order {
        sides.insert(place, side(case, effort, program)?);
    }
    let trial = |row: usize| sides.values().map(|side| side[row].clone()).collect();
    Ok((0..case.rows.len()).map(trial).collect())
}

/// Measures one server, with the generator and then with redis-benchmark.
fn side(case: &Case, effort: &Effort, program: Program) -> Result<Vec<Sample>, String> {
    let name = |error| format!("{}: {error}", program.name());
    let mut samples = own_load(case, effort, program).map_err(name)?;
    if effort.tool && case.peer == Program::Redis {
        let server = start(case, effort, program).map_err(name)?;
        let mut pushed = 0;
        for (row, sample) in case.rows.iter().zip(&mut samples) {
            let mut requests = (sample.rate * effort.slice.as_secs_f64()) as u64;
            let workload = workload(case, row, program);
            match workload {
                // A pop of nothing is quick. Some of its random messages were the same.
                Workload::Spop => requests = requests.min(pushed / 10 * 9),
                _ => pushed = requests,
            }
            sample.tool_rate =
                tool::rate(case, workload, server.address, requests).map_err(name)?;
        }
    }
    Ok(samples)
}

fn start(case: &Case, effort: &Effort, program: Program) -> Result<Server, String> {
    let (arguments, more) = match program == case.peer {
        true => (case.theirs, &[][..]),
        false => (case.ours, &effort.mqd[..]),
    };
    Server::start(program, arguments.iter().copied().chain(more.iter().map(String::as_str)))
}

fn workload(case: &Case, row: &Row, program: Program) -> Workload {
    if program == case.peer { row.theirs } else { row.ours }
}

/// Measures all rows on a fresh server.
fn own_load(case: &Case, effort: &Effort, program: Program) -> Result<Vec<Sample>, String> {
    let server = start(case, effort, program)?;
    let mut samples = Vec::new();
    let mut before: Option<Report> = None;
    for row in case.rows {
        let mut plan = Plan {
            address: server.address,
            workload: workload(case, row, program),
            connections: case.clients,
            pipeline: case.pipeline,
            threads: effort.threads,
            requests: u64::MAX / 2,
            duration: effort.slice,
            rate: None,
            random_below: None,
            first: 0,
        };
        match plan.workload {
            Workload::Spop => {
                plan.requests = before.as_ref().map_or(0, |report| report.pushed.count);
                plan.duration = effort.slice * 3;
            }
            Workload::Set => {
                let all =
                    Plan { pipeline: 16, requests: KEYS, duration: effort.slice * 100, ..plan };
                run(&all)?;
                plan.random_below = Some(KEYS);
            }
            Workload::Get => plan.random_below = Some(KEYS),
            _ => {}
        }
        let cpu = server.cpu_time();
        let report = run(&plan)?;
        let cpu = server.cpu_time().saturating_sub(cpu);
        samples.push(sample(&server, &report, before.as_ref(), cpu)?);
        before = Some(report);
    }
    Ok(samples)
}

fn run(plan: &Plan) -> Result<Report, String> {
    let report = generator::run(plan).map_err(|error| error.to_string())?;
    match report.first_error {
        Some(error) => Err(error),
        None if report.requests == 0 => Err("nothing was answered".into()),
        None => Ok(report),
    }
}

fn sample(
    server: &Server,
    report: &Report,
    before: Option<&Report>,
    cpu: Duration,
) -> Result<Sample, String> {
    let mut pushed = report.pushed;
    if let Some(before) = before {
        pushed.plus(&before.pushed);
    }
    let held = pushed.count.checked_sub(report.popped.count);
    let held = held.filter(|held| *held > 0 || report.popped == pushed);
    let held = held.ok_or("other messages were popped than were pushed")?;
    Ok(Sample {
        rate: report.rate(),
        latency_us: [0.5, 0.99, 0.999].map(|quantile| report.latency_us(quantile)),
        requests: report.requests,
        cpu,
        memory: server.memory(),
        held,
        tool_rate: None,
    })
}
