//! The table of targets: what is compared with whom, and what ratio is wanted.
//!
//! Peers run with what suits them: Redis neither saves nor rewrites its file meanwhile, memcached
//! has its four threads. This file knows arguments and workloads; it starts nothing.

use crate::generator::Workload;
use crate::server::Program;

/// What is wanted of mqd's p99 divided by the peer's, at most, without a pipeline.
pub const P99: f64 = 1.2;

/// What is wanted of mqd's rate divided by the peer's as redis-benchmark finds them, at least,
/// without a pipeline. It is one thread and busy itself, so about 1 is all that it can show.
pub const TOOL_RATE: f64 = 0.95;

/// A ratio that misses its target by no more than this meets it.
pub const TOLERANCE: f64 = 0.05;

/// One comparison.
pub struct Case {
    /// How it differs from the others, but for clients and pipeline.
    name: &'static str,
    /// Connections.
    pub clients: usize,
    /// Requests that a connection sends before it waits.
    pub pipeline: usize,
    /// mqd, as it speaks here.
    pub mqd: Program,
    /// Its arguments.
    pub ours: &'static [&'static str],
    /// The peer.
    pub peer: Program,
    /// Its arguments.
    pub theirs: &'static [&'static str],
    /// What is measured, one after the other on the same data.
    pub rows: &'static [Row],
}

/// One line of the table.
pub struct Row {
    /// What it is called.
    pub name: &'static str,
    /// What mqd does.
    pub ours: Workload,
    /// What the peer does.
    pub theirs: Workload,
    /// Wanted of mqd's requests a second divided by the peer's, at least.
    pub rate: f64,
    /// Wanted of mqd's CPU time for a request divided by the peer's, at most; `None` where nothing
    /// is wanted.
    pub cpu: Option<f64>,
}

impl Case {
    /// The case in words.
    pub fn title(&self) -> String {
        let clients = if self.clients == 1 { "client" } else { "clients" };
        let pipeline = match self.pipeline {
            1 => String::new(),
            depth => format!(", pipeline {depth}"),
        };
        format!("{}, {} {clients}{pipeline}", self.name, self.clients)
    }
}

const MEMORY: &[&str] = &["--store", "memory"];
const EVERYSEC: &[&str] = &["--fsync", "everysec"];
const ALWAYS: &[&str] = &["--fsync", "always"];
const KV: &[&str] = &["--store", "kv"];
const REDIS_MEMORY: &[&str] = &["--appendonly", "no"];
const REDIS_EVERYSEC: &[&str] = &["--appendonly", "yes", "--appendfsync", "everysec"];
const REDIS_ALWAYS: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

const fn row(name: &'static str, workload: Workload, rate: f64, cpu: f64) -> Row {
    Row { name, ours: workload, theirs: workload, rate, cpu: Some(cpu) }
}

const fn job(rate: f64) -> [Row; 1] {
    let (ours, theirs) = (Workload::SaddSpop, Workload::PutReserveDelete);
    [Row { name: "whole job", ours, theirs, rate, cpu: None }]
}

/// The targets of push and pop: their rates, and the CPU time of both.
const fn queue(push: f64, pop: f64, cpu: f64) -> [Row; 2] {
    [row("SADD", Workload::Sadd, push, cpu), row("SPOP", Workload::Spop, pop, cpu)]
}

const ONE_BY_ONE: &[Row] = &queue(1.1, 1.1, 0.9);
const PIPELINE: &[Row] = &queue(2.0, 3.0, 0.6);
const SYNCED_ALONE: &[Row] = &queue(1.15, 1.15, 0.9);
const SYNCED: &[Row] = &queue(1.2, 1.2, 0.9);
const SYNCED_PIPELINE: &[Row] = &queue(1.7, 2.4, 0.6);

const fn redis(
    name: &'static str,
    (clients, pipeline): (usize, usize),
    ours: &'static [&'static str],
    theirs: &'static [&'static str],
    rows: &'static [Row],
) -> Case {
    let (mqd, peer) = (Program::MqdRedis, Program::Redis);
    Case { name, clients, pipeline, mqd, ours, peer, theirs, rows }
}

const fn beanstalkd(
    name: &'static str,
    ours: &'static [&'static str],
    theirs: &'static [&'static str],
    rows: &'static [Row],
) -> Case {
    let (mqd, peer) = (Program::MqdRedis, Program::Beanstalkd);
    Case { name, clients: 50, pipeline: 1, mqd, ours, peer, theirs, rows }
}

/// Every case, in the order of the report.
pub const CASES: &[Case] = &[
    redis("memory", (50, 1), MEMORY, REDIS_MEMORY, ONE_BY_ONE),
    redis("memory", (200, 1), MEMORY, REDIS_MEMORY, ONE_BY_ONE),
    redis("memory", (50, 16), MEMORY, REDIS_MEMORY, PIPELINE),
    redis("everysec", (50, 1), EVERYSEC, REDIS_EVERYSEC, ONE_BY_ONE),
    redis("everysec", (200, 1), EVERYSEC, REDIS_EVERYSEC, ONE_BY_ONE),
    redis("everysec", (50, 16), EVERYSEC, REDIS_EVERYSEC, PIPELINE),
    redis("always", (1, 1), ALWAYS, REDIS_ALWAYS, SYNCED_ALONE),
    redis("always", (50, 1), ALWAYS, REDIS_ALWAYS, SYNCED),
    redis("always", (200, 1), ALWAYS, REDIS_ALWAYS, SYNCED),
    redis("always", (50, 16), ALWAYS, REDIS_ALWAYS, SYNCED_PIPELINE),
    beanstalkd("always against beanstalkd -f0", ALWAYS, &["-f0"], &job(10.0)),
    beanstalkd("everysec against beanstalkd -f50", EVERYSEC, &["-f50"], &job(1.5)),
    Case {
        name: "kv against memcached",
        clients: 50,
        pipeline: 1,
        mqd: Program::MqdMemcached,
        ours: KV,
        peer: Program::Memcached,
        theirs: &["-m", "1024"],
        rows: &[row("set", Workload::Set, 1.1, 1.0), row("get", Workload::Get, 1.1, 1.0)],
    },
];
