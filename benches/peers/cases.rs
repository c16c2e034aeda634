//! The table of targets: what is compared with whom, and what ratio is wanted.
//!
//! Peers run with what suits them: Redis neither saves nor rewrites its file meanwhile, memcached
//! has its four threads. This file knows arguments and workloads; it starts nothing.

use crate::generator::Workload;
use crate::server::{Duties, Program};

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

/// What is measured beside mqd and its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Third {
    /// mqd's shape and nothing else.
    Shape,
    /// The same with the least that a queue must do.
    Floor,
    /// mqd's sessions and queues on one thread.
    OneThread,
}

impl Third {
    /// What it is called in the report.
    pub fn name(self) -> &'static str {
        match self {
            Third::Shape => "the shape",
            Third::Floor => "the floor",
            Third::OneThread => "one thread",
        }
    }
}

/// One line of the table.
pub struct Row {
    /// What it is called.
    pub name: &'static str,
    /// What mqd does.
    pub ours: Workload,
    /// What the peer does.
    pub theirs: Workload,
    /// Wanted of mqd's requests a second divided by the peer's.
    pub target: f64,
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

    /// The third server that is measured; None with memcached's protocol.
    pub fn third(&self, third: Third) -> Option<Program> {
        let (sync, is_kept) = (self.is_synced(), self.ours != MEMORY);
        let program = match third {
            Third::Shape => Program::Shape(Duties { file: sync, sync, queue: false }),
            Third::Floor => Program::Shape(Duties { file: is_kept, sync, queue: true }),
            Third::OneThread => Program::OneThread,
        };
        (self.mqd == Program::MqdRedis).then_some(program)
    }

    /// Whether a reply waits for a sync.
    pub fn is_synced(&self) -> bool {
        self.ours.contains(&"always")
    }
}

const MEMORY: &[&str] = &["--store", "memory"];
const EVERYSEC: &[&str] = &["--fsync", "everysec"];
const ALWAYS: &[&str] = &["--fsync", "always"];
const KV: &[&str] = &["--store", "kv"];
const REDIS_MEMORY: &[&str] = &["--appendonly", "no"];
const REDIS_EVERYSEC: &[&str] = &["--appendonly", "yes", "--appendfsync", "everysec"];
const REDIS_ALWAYS: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

const fn row(name: &'static str, workload: Workload, target: f64) -> Row {
    Row { name, ours: workload, theirs: workload, target }
}

const fn job(target: f64) -> [Row; 1] {
    let (ours, theirs) = (Workload::SaddSpop, Workload::PutReserveDelete);
    [Row { name: "whole job", ours, theirs, target }]
}

/// The targets of push and pop.
const fn queue(push: f64, pop: f64) -> [Row; 2] {
    [row("SADD", Workload::Sadd, push), row("SPOP", Workload::Spop, pop)]
}

const AHEAD: &[Row] = &queue(1.5, 2.0);
const LEVEL: &[Row] = &queue(1.0, 1.0);
const ALONE: &[Row] = &queue(1.1, 1.1);
const DOUBLE: &[Row] = &queue(2.0, 2.0);

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
    redis("memory", (50, 16), MEMORY, REDIS_MEMORY, AHEAD),
    redis("memory", (50, 1), MEMORY, REDIS_MEMORY, LEVEL),
    redis("everysec", (50, 16), EVERYSEC, REDIS_EVERYSEC, AHEAD),
    redis("everysec", (50, 1), EVERYSEC, REDIS_EVERYSEC, LEVEL),
    redis("everysec", (200, 1), EVERYSEC, REDIS_EVERYSEC, LEVEL),
    redis("always", (1, 1), ALWAYS, REDIS_ALWAYS, ALONE),
    redis("always", (50, 1), ALWAYS, REDIS_ALWAYS, LEVEL),
    redis("always", (200, 1), ALWAYS, REDIS_ALWAYS, LEVEL),
    redis("always", (50, 16), ALWAYS, REDIS_ALWAYS, DOUBLE),
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
        rows: &[row("set", Workload::Set, 0.9), row("get", Workload::Get, 0.9)],
    },
];
