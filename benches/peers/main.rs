//! mqd beside its peers: `cargo bench --bench peers [-- --short]`.
//!
//! Starts mqd, each peer that is installed (redis-server, memcached, beanstalkd) and a server with
//! mqd's shape and nothing else on loopback ports with their data in temporary directories, drives
//! them in turns, and prints medians and ratios with their spread, latencies, processor time and
//! memory for every row of the table of targets. Load comes from the example `load`, and for Redis
//! from redis-benchmark as well.
//!
//! A full run takes less than ten minutes and writes `benches/RESULTS.md`, unless the machine was
//! busy with other things; `--short` takes less than one minute and writes nothing. Words after
//! `--` choose the cases whose titles contain one of them; `--threads N` gives the generator more
//! than one thread; with `--queue` the shape does the least that a queue must as well, with
//! `--one-thread` mqd's sessions and queues on one thread stand in its place, and with `--busy` a
//! loop for each processor runs beside the servers; nothing is written then. Servers are killed and
//! directories removed at the end, also after a failure and after SIGINT or SIGTERM.

use cases::{CASES, Case, Third};
use getopts::Options;
use measure::{Effort, Samples};
use server::Duties;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

mod cases;
#[path = "../../examples/load/generator/mod.rs"]
mod generator;
mod machine;
mod measure;
mod one_thread;
mod report;
mod server;
mod shape;
mod tool;

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md");

/// A run goes on record if other programs, the kernel's own threads among them, had no more than
/// this part of the processors.
const QUIET: f64 = 0.2;

/// What was asked for.
struct Wanted {
    effort: Effort,
    /// What is measured beside mqd and its peer.
    third: Third,
    /// Whether programs that never sleep run beside the servers.
    busy: bool,
    /// Parts of titles; none: all cases.
    words: Vec<String>,
}

impl Wanted {
    fn parse() -> Result<Wanted, String> {
        let mut options = Options::new();
        options.optflag("", "short", "");
        options.optopt("", "threads", "", "N");
        options.optflag("", "queue", "");
        options.optflag("", "one-thread", "");
        options.optflag("", "busy", "");
        // Cargo adds it.
        options.optflag("", "bench", "");
        let matches = options.parse(std::env::args().skip(1)).map_err(|error| error.to_string())?;
        let threads = matches.opt_get("threads").map_err(|_| "--threads: a number")?.unwrap_or(1);
        let effort = if matches.opt_present("short") { Effort::SHORT } else { Effort::FULL };
        let third = match (matches.opt_present("queue"), matches.opt_present("one-thread")) {
            (false, false) => Third::Shape,
            (true, false) => Third::Floor,
            (false, true) => Third::OneThread,
            (true, true) => return Err("--queue or --one-thread, not both".into()),
        };
        let (effort, busy) = (Effort { threads, ..effort }, matches.opt_present("busy"));
        Ok(Wanted { effort, third, busy, words: matches.free })
    }

    fn includes(&self, case: &Case) -> bool {
        let title = case.title();
        self.words.is_empty() || self.words.iter().any(|word| title.contains(word.as_str()))
    }

    /// Whether the run is one for the record.
    fn is_whole(&self) -> bool {
        let is_plain = self.third == Third::Shape && !self.busy;
        self.effort.tool && is_plain && self.words.is_empty()
    }
}

fn run(wanted: &Wanted, interrupted: &AtomicBool) -> Result<(), String> {
    if wanted.busy {
        machine::keep_busy();
    }
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
            let measured = measure::round(case, &wanted.effort, wanted.third, rounds);
            samples.push(measured.map_err(|error| format!("{}: {error}", case.title()))?);
        }
        rounds += 1;
    }
    let sync = machine::SyncTime::of(syncs);
    let mut text = report::tables(&cases, wanted.third, &sync);
    let others = usage.of_others();
    text.push_str(&format!(
        "{rounds} rounds took {:.0?}. Other programs used {:.0} % of the processors then.\n",
        start.elapsed(),
        others * 100.0
    ));
    text.push_str(match wanted.third {
        Third::Shape => "",
        Third::Floor => "The floor is the shape with the least that a queue must do.\n",
        Third::OneThread => "One thread served all clients with mqd's sessions and queues.\n",
    });
    if wanted.busy {
        text.push_str("A loop for each processor ran beside the servers.\n");
        if wanted.third != Third::OneThread {
            text.push_str("The shape yields to them all the same.\n");
        }
    }
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

/// Serves as one of the servers of our own where that is asked for; None: it is not.
fn serve() -> Option<Result<(), String>> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next()?;
    if first == server::AS_ONE_THREAD {
        return Some(one_thread::serve(arguments));
    }
    if first != server::AS_SHAPE {
        return None;
    }
    let address = arguments.next().unwrap_or_default();
    let path = PathBuf::from(arguments.next().unwrap_or_default());
    let duties: Vec<_> = arguments.map(|name| name.to_string_lossy().into_owned()).collect();
    let served = shape::serve(&address.to_string_lossy(), &path, Duties::parse(&duties));
    Some(served.map_err(|error| error.to_string()))
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
    match serve().unwrap_or_else(measure) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}
