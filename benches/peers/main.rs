//! mqd beside its peers: `cargo bench --bench peers [-- --short]`.
//!
//! Starts mqd and each peer that is installed (redis-server, memcached, beanstalkd) on loopback
//! ports with their data in temporary directories, drives them in turns, and prints medians and
//! ratios with their spread, latencies, CPU time and memory for every row of the table of targets.
//! Load comes from the example `load`, and for Redis from redis-benchmark as well.
//!
//! A full run takes about five minutes and writes `benches/RESULTS.md`, unless the machine was
//! busy with other things; `--short` takes less than one minute and writes nothing. Words after
//! `--` choose the cases whose titles contain one of them; `--threads N` gives the generator more
//! than one thread, and `--mqd "--workers 2"` gives mqd more arguments; nothing is written then.
//! Servers are killed and directories removed at the end, also after a failure and after SIGINT or
//! SIGTERM.

use cases::{CASES, Case};
use getopts::Options;
use measure::{Effort, Samples};
use mq::options::{Invocation, parse};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

mod cases;
#[path = "../../examples/load/generator/mod.rs"]
mod generator;
mod machine;
mod measure;
mod report;
mod server;
mod tool;

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md");

/// A run goes on record if other programs, the kernel's own threads among them, had no more than
/// this part of the CPUs.
const QUIET: f64 = 0.2;

/// What was asked for.
struct Wanted {
    effort: Effort,
    /// mqd's workers.
    workers: usize,
    /// Parts of titles; none: all cases.
    words: Vec<String>,
}

impl Wanted {
    fn parse() -> Result<Wanted, String> {
        let mut options = Options::new();
        options.optflag("", "short", "");
        options.optopt("", "threads", "", "N");
        options.optopt("", "mqd", "", "ARGUMENTS");
        // Cargo adds it.
        options.optflag("", "bench", "");
        let matches = options.parse(std::env::args().skip(1)).map_err(|error| error.to_string())?;
        let threads = matches.opt_get("threads").map_err(|_| "--threads: a number")?.unwrap_or(1);
        let effort = if matches.opt_present("short") { Effort::SHORT } else { Effort::FULL };
        let mqd = matches.opt_str("mqd").unwrap_or_default();
        let mqd: Vec<String> = mqd.split_whitespace().map(String::from).collect();
        let workers = match parse(mqd.iter().map(Into::into)) {
            Ok(Invocation::Run(options)) => options.workers,
            Ok(_) => return Err("--mqd: with these arguments mqd does not serve".into()),
            Err(mistake) => return Err(format!("--mqd: {mistake}")),
        };
        Ok(Wanted { effort: Effort { threads, mqd, ..effort }, workers, words: matches.free })
    }

    fn includes(&self, case: &Case) -> bool {
        let title = case.title();
        self.words.is_empty() || self.words.iter().any(|word| title.contains(word.as_str()))
    }

    /// Whether the run is one for the record.
    fn is_whole(&self) -> bool {
        self.effort.tool && self.effort.mqd.is_empty() && self.words.is_empty()
    }
}

fn run(wanted: &Wanted, interrupted: &AtomicBool) -> Result<(), String> {
    let (start, usage) = (Instant::now(), machine::Usage::start());
    let mut cases = Vec::new();
    for case in CASES.iter().filter(|case| wanted.includes(case)) {
        match case.peer.version() {
            Some(_) => cases.push((case, Samples::default())),
            None => println!("skipped, no {}: {}", case.peer.name(), case.title()),
        }
    }
    let (mut syncs, mut rounds) = (Vec::new(), 0);
    while rounds < wanted.effort.rounds && start.elapsed() < wanted.effort.last_start {
        eprintln!("round {} of {}, {:.0?}", rounds + 1, wanted.effort.rounds, start.elapsed());
        syncs.extend(machine::time_syncs()?);
        for (case, samples) in &mut cases {
            if interrupted.load(Ordering::Relaxed) {
                return Err("interrupted".into());
            }
            let measured = measure::round(case, &wanted.effort, rounds);
            samples.push(measured.map_err(|error| format!("{}: {error}", case.title()))?);
        }
        rounds += 1;
    }
    let sync = machine::SyncTime::of(syncs);
    let mut text = report::tables(&cases, &sync);
    let others = usage.of_others();
    text.push_str(&format!(
        "mqd had {} worker(s). {rounds} rounds took {:.0?}. Other programs used {:.0} % of the \
         CPUs then.\n",
        wanted.workers,
        start.elapsed(),
        others * 100.0
    ));
    println!("{text}");
    if !wanted.is_whole() {
        return Ok(());
    }
    if others > QUIET {
        println!("No record is made of this: the machine was too busy with other things.");
    } else {
        let page = report::page(&wanted.effort, &machine::describe(), &text);
        std::fs::write(RESULTS, page).map_err(|error| format!("{RESULTS}: {error}"))?;
    }
    Ok(())
}

fn measure() -> Result<(), String> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|error| error.to_string())?;
    }
    run(&Wanted::parse()?, &interrupted)
}

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}
