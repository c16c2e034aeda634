//! Samples in, tables out: medians, ratios with their spread, and whether targets are met.
//!
//! A ratio is taken within each round, so that what slows the machine down slows both sides; its
//! median and its smallest and largest value are shown. Everything else is a median over the
//! rounds, but for processor time, which is a sum divided by a sum.

use crate::cases::{Case, Row, Third};
use crate::machine::SyncTime;
use crate::measure::{Effort, Sample, Samples, Trial};

/// A p99 under `always` is wanted within so many syncs.
const SYNCS_WANTED: f64 = 3.0;

/// What the columns say.
const READING: &str = include_str!("reading.md");

/// A case with what was measured.
type Measured = (&'static Case, Samples);

/// The sides of a trial.
const MQD: usize = 0;
const PEER: usize = 1;
const THIRD: usize = 2;

/// The tables and what they come to.
pub fn tables(cases: &[Measured], third: Third, sync: &SyncTime) -> String {
    let mut speed = String::from(
        "| case | | mqd/s | peer/s | ratio | best | target | met \
         | redis-benchmark: mqd/s | peer/s | ratio | met |\n\
         | --- | --- | ---: | ---: | --- | ---: | ---: | --- | ---: | ---: | --- | --- |\n",
    );
    let mut cost = String::from(
        "| case | | mqd: p50, p99, p99.9 us | peer | mqd: us of processor | peer | met \
         | mqd: MiB anonymous, resident (messages) | peer |\n\
         | --- | --- | --- | --- | ---: | ---: | --- | --- | --- |\n",
    );
    let name = third.name();
    let mut beside = format!(
        "| case | | {name}/s | {name} by the peer | mqd by {name} \
         | redis-benchmark: {name} by the peer | mqd by {name} \
         | us of processor: {name}, mqd, peer | {name}: p50, p99, p99.9 us |\n\
         | --- | --- | ---: | --- | --- | --- | --- | --- | --- |\n",
    );
    let (mut met, mut count) = ([0, 0], 0);
    for (case, samples) in cases {
        for (number, row) in case.rows.iter().enumerate() {
            let trials: Vec<&Trial> = samples.iter().map(|round| &round[number]).collect();
            let place = format!("| {} | {} ", case.title(), row.name);
            let (line, fast) = speed_line(row, &trials);
            speed.push_str(&format!("{place}{line}"));
            let (line, cheap) = cost_line(case, &trials, sync);
            cost.push_str(&format!("{place}{line}"));
            if case.third(third).is_some() {
                beside.push_str(&format!("{place}{}", third_line(case, &trials, sync)));
            }
            met[0] += usize::from(fast);
            met[1] += usize::from(cheap);
            count += 1;
        }
    }
    format!(
        "{speed}\n{cost}\n{beside}\nOf {count} rows, {} meet their ratio, and {} take no more \
         processor time than the peer.\nA sync of 100 bytes takes {:.0} us (p99: {:.0} us).\n",
        met[0], met[1], sync.p50_us, sync.p99_us
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

fn speed_line(row: &Row, trials: &[&Trial]) -> (String, bool) {
    let (ours, theirs, ratios) = compare(trials, [MQD, PEER], |sample| Some(sample.rate));
    let ratio = median(&ratios);
    let met = ratio >= row.target;
    let tool = match compare(trials, [MQD, PEER], |sample| sample.tool_rate) {
        (_, _, ratios) if ratios.is_empty() => "| | | | |\n".into(),
        (ours, theirs, ratios) => {
            let met = yes(median(&ratios) >= row.target);
            format!("| {ours:.0} | {theirs:.0} | {} | {met} |\n", spread(&ratios))
        }
    };
    let line = format!(
        "| {ours:.0} | {theirs:.0} | {} | {:.2} | {} | {} {tool}",
        spread(&ratios),
        best(trials, MQD) / best(trials, PEER),
        row.target,
        yes(met)
    );
    (line, met)
}

fn cost_line(case: &Case, trials: &[&Trial], sync: &SyncTime) -> (String, bool) {
    let (ours, theirs) = (processor_us(trials, MQD), processor_us(trials, PEER));
    let met = ours <= theirs;
    let line = format!(
        "| {} | {} | {ours:.2} | {theirs:.2} | {} | {} | {} |\n",
        latency(case, trials, MQD, sync),
        latency(case, trials, PEER, sync),
        yes(met),
        memory(trials, MQD),
        memory(trials, PEER)
    );
    (line, met)
}

fn third_line(case: &Case, trials: &[&Trial], sync: &SyncTime) -> String {
    let (_, third, ratios) = compare(trials, [MQD, THIRD], |sample| Some(sample.rate));
    let (_, _, over_peer) = compare(trials, [THIRD, PEER], |sample| Some(sample.rate));
    let tool = |sides| match compare(trials, sides, |sample| sample.tool_rate) {
        (_, _, ratios) if ratios.is_empty() => String::new(),
        (_, _, ratios) => spread(&ratios),
    };
    let [of_third, ours, theirs] = [THIRD, MQD, PEER].map(|side| processor_us(trials, side));
    format!(
        "| {third:.0} | {} | {} | {} | {} | {of_third:.2}, {ours:.2}, {theirs:.2} \
         | {} |\n",
        spread(&over_peer),
        spread(&ratios),
        tool([THIRD, PEER]),
        tool([MQD, THIRD]),
        latency(case, trials, THIRD, sync)
    )
}

/// Latencies of a side in microseconds: the medians of its rounds. Under `always`, with what p99 is
/// in syncs.
fn latency(case: &Case, trials: &[&Trial], side: usize, sync: &SyncTime) -> String {
    let [p50, p99, p999] = [0, 1, 2].map(|quantile| {
        median(&trials.iter().map(|trial| trial[side].latency_us[quantile]).collect::<Vec<_>>())
    });
    let syncs = p99 / sync.p50_us;
    let in_syncs = match case.is_synced() {
        true if syncs <= SYNCS_WANTED => format!(" ({syncs:.1} syncs)"),
        true => format!(" (**{syncs:.1} syncs**)"),
        false => String::new(),
    };
    format!("{p50:.0}, {p99:.0}{in_syncs}, {p999:.0}")
}

/// Processor time of a side in microseconds, for one request.
fn processor_us(trials: &[&Trial], side: usize) -> f64 {
    let time: f64 = trials.iter().map(|trial| trial[side].processor.as_secs_f64()).sum();
    let requests: u64 = trials.iter().map(|trial| trial[side].requests).sum();
    time * 1e6 / requests as f64
}

/// The medians of two sides, and the ratio of the first to the second in each round.
fn compare(
    trials: &[&Trial],
    sides: [usize; 2],
    of: impl Fn(&Sample) -> Option<f64>,
) -> (f64, f64, Vec<f64>) {
    let both = |trial: &&Trial| Some((of(&trial[sides[0]])?, of(&trial[sides[1]])?));
    let (first, second): (Vec<f64>, Vec<f64>) = trials.iter().filter_map(both).unzip();
    let ratios = first.iter().zip(&second).map(|(first, second)| first / second).collect();
    (median(&first), median(&second), ratios)
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

fn yes(met: bool) -> &'static str {
    if met { "yes" } else { "**no**" }
}
