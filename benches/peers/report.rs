//! Samples in, tables out: medians, ratios with their spread, and whether targets are met.
//!
//! A ratio is taken within each round, so that what slows the machine down slows both sides; its
//! median and its smallest and largest value are shown. Everything else is a median over the
//! rounds, but for CPU time, which is a sum divided by a sum.

use crate::cases::{Case, P99, Row, TOLERANCE, TOOL_RATE};
use crate::machine::SyncTime;
use crate::measure::{Effort, Sample, Samples, Trial};

/// What the columns say.
const READING: &str = include_str!("reading.md");

/// A case with what was measured.
type Measured = (&'static Case, Samples);

/// The sides of a trial.
const MQD: usize = 0;
const PEER: usize = 1;

/// The place of p99 among a sample's latencies.
const P99_PLACE: usize = 1;

/// How many targets there are of one kind, and how many of them are met.
#[derive(Default)]
struct Tally {
    met: usize,
    targets: usize,
}

impl Tally {
    /// Counts a target and says whether it is met.
    fn verdict(&mut self, met: bool) -> &'static str {
        self.targets += 1;
        self.met += usize::from(met);
        if met { "yes" } else { "**no**" }
    }

    fn at_least(&mut self, ratio: f64, target: f64) -> String {
        format!("{target:.2} | {}", self.verdict(ratio >= target - TOLERANCE))
    }

    fn at_most(&mut self, ratio: f64, target: f64) -> String {
        format!("{target:.2} | {}", self.verdict(ratio <= target + TOLERANCE))
    }
}

/// The kinds of targets.
#[derive(Default)]
struct Tallies {
    rate: Tally,
    tool: Tally,
    cpu: Tally,
    p99: Tally,
}

/// The tables and what they come to.
pub fn tables(cases: &[Measured], sync: &SyncTime) -> String {
    let mut speed = String::from(
        "| case | | mqd/s | peer/s | ratio | best | at least | met \
         | redis-benchmark: mqd/s | peer/s | ratio | at least | met |\n\
         | --- | --- | ---: | ---: | --- | ---: | ---: | --- | ---: | ---: | --- | ---: | --- |\n",
    );
    let mut cost = String::from(
        "| case | | CPU us: mqd | peer | ratio | at most | met \
         | p50, p99, p99.9 us: mqd | peer | ratio of p99 | at most | met \
         | MiB anonymous, resident (messages): mqd | peer |\n\
         | --- | --- | ---: | ---: | ---: | ---: | --- | --- | --- | --- | ---: | --- | --- | --- \
         |\n",
    );
    let mut tallies = Tallies::default();
    for (case, samples) in cases {
        for (number, row) in case.rows.iter().enumerate() {
            let trials: Vec<&Trial> = samples.iter().map(|round| &round[number]).collect();
            let place = format!("| {} | {} ", case.title(), row.name);
            speed.push_str(&format!("{place}{}", speed_line(case, row, &trials, &mut tallies)));
            cost.push_str(&format!("{place}{}", cost_line(case, row, &trials, &mut tallies)));
        }
    }
    let count = |tally: &Tally| format!("{} of {}", tally.met, tally.targets);
    format!(
        "{speed}\n{cost}\nTargets met: {} of the rates, {} of the rates by redis-benchmark, \
         {} of the CPU times, {} of p99.\nA sync of 100 bytes takes {:.0} us (p99: {:.0} us).\n",
        count(&tallies.rate),
        count(&tallies.tool),
        count(&tallies.cpu),
        count(&tallies.p99),
        sync.p50_us,
        sync.p99_us
    )
}

/// The page for the record.
pub fn page(effort: &Effort, machine: &str, tables: &str) -> String {
    let (slice, threads) = (effort.slice, effort.threads);
    format!(
        "# mqd beside its peers\n\nWritten by `cargo bench --bench peers`. How to read it is below.\
         \n\n{machine}- {slice:?} for each row and server in a round; {threads} thread(s) of load\
         \n\n{tables}{READING}"
    )
}

fn speed_line(case: &Case, row: &Row, trials: &[&Trial], tallies: &mut Tallies) -> String {
    let (ours, theirs, ratios) = compare(trials, |sample| Some(sample.rate));
    let tool = match compare(trials, |sample| sample.tool_rate) {
        (_, _, ratios) if ratios.is_empty() => "| | | | |".into(),
        (ours, theirs, ratios) => {
            let met = match case.pipeline {
                1 => tallies.tool.at_least(median(&ratios), TOOL_RATE),
                _ => " | ".into(),
            };
            format!("{ours:.0} | {theirs:.0} | {} | {met} |", spread(&ratios))
        }
    };
    format!(
        "| {ours:.0} | {theirs:.0} | {} | {:.2} | {} | {tool}\n",
        spread(&ratios),
        best(trials, MQD) / best(trials, PEER),
        tallies.rate.at_least(median(&ratios), row.rate),
    )
}

fn cost_line(case: &Case, row: &Row, trials: &[&Trial], tallies: &mut Tallies) -> String {
    let (ours, theirs) = (cpu_us(trials, MQD), cpu_us(trials, PEER));
    let ratio = ours / theirs;
    let cpu = row.cpu.map_or(" | ".into(), |target| tallies.cpu.at_most(ratio, target));
    let (_, _, ratios) = compare(trials, |sample| Some(sample.latency_us[P99_PLACE]));
    let p99 = match case.pipeline {
        1 => tallies.p99.at_most(median(&ratios), P99),
        _ => " | ".into(),
    };
    format!(
        "| {ours:.2} | {theirs:.2} | {ratio:.2} | {cpu} | {} | {} | {} | {p99} | {} | {} |\n",
        latency(trials, MQD),
        latency(trials, PEER),
        spread(&ratios),
        memory(trials, MQD),
        memory(trials, PEER)
    )
}

/// Latencies of a side in microseconds: the medians of its rounds.
fn latency(trials: &[&Trial], side: usize) -> String {
    let [p50, p99, p999] = [0, P99_PLACE, 2].map(|place| {
        median(&trials.iter().map(|trial| trial[side].latency_us[place]).collect::<Vec<_>>())
    });
    format!("{p50:.0}, {p99:.0}, {p999:.0}")
}

/// CPU time of a side in microseconds, for one request.
fn cpu_us(trials: &[&Trial], side: usize) -> f64 {
    let time: f64 = trials.iter().map(|trial| trial[side].cpu.as_secs_f64()).sum();
    let requests: u64 = trials.iter().map(|trial| trial[side].requests).sum();
    time * 1e6 / requests as f64
}

/// The medians of mqd and of the peer, and the ratio of the first to the second in each round.
fn compare(trials: &[&Trial], of: impl Fn(&Sample) -> Option<f64>) -> (f64, f64, Vec<f64>) {
    let both = |trial: &&Trial| Some((of(&trial[MQD])?, of(&trial[PEER])?));
    let (ours, theirs): (Vec<f64>, Vec<f64>) = trials.iter().filter_map(both).unzip();
    let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    (median(&ours), median(&theirs), ratios)
}

/// The rate of a side's best round.
fn best(trials: &[&Trial], side: usize) -> f64 {
    trials.iter().map(|trial| trial[side].rate).fold(0.0, f64::max)
}

fn memory(trials: &[&Trial], side: usize) -> String {
    let of = |what: fn(&Sample) -> u64| {
        median(&trials.iter().map(|trial| what(&trial[side]) as f64).collect::<Vec<_>>())
    };
    let mib = f64::from(1 << 20);
    let (anonymous, resident) =
        (of(|sample| sample.memory.anonymous) / mib, of(|sample| sample.memory.resident) / mib);
    format!("{anonymous:.1}, {resident:.1} ({:.0})", of(|sample| sample.held))
}

/// The middle one, the higher of two; NaN of none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn spread(ratios: &[f64]) -> String {
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    format!("{:.2} ({least:.2} to {most:.2})", median(ratios))
}
