//! Samples in, tables out: medians, ratios with their spread, and whether targets are met.
//!
//! A ratio is taken within each round, so that what slows the machine down slows both sides; its
//! median and its smallest and largest value are shown. Everything else is a median over the
//! rounds, but for processor time, which is a sum divided by a sum.

use crate::cases::{Case, Row};
use crate::machine::SyncTime;
use crate::measure::{Effort, Pair, Sample, Samples};

/// A p99 under `always` is wanted within so many syncs.
const SYNCS_WANTED: f64 = 3.0;

/// What the columns say.
const READING: &str = include_str!("reading.md");

/// A case with what was measured.
type Measured = (&'static Case, Samples);

/// Both tables and what they come to.
pub fn tables(cases: &[Measured], sync: &SyncTime) -> String {
    let mut speed = String::from(
        "| case | | mqd/s | peer/s | ratio | best | target | met \
         | redis-benchmark: mqd/s | peer/s | ratio |\n\
         | --- | --- | ---: | ---: | --- | ---: | ---: | --- | ---: | ---: | --- |\n",
    );
    let mut cost = String::from(
        "| case | | mqd: p50, p99, p99.9 us | peer | mqd: us of processor | peer | met \
         | mqd: MiB anonymous, resident (messages) | peer |\n\
         | --- | --- | --- | --- | ---: | ---: | --- | --- | --- |\n",
    );
    let (mut met, mut count) = ([0, 0], 0);
    for (case, samples) in cases {
        for (number, row) in case.rows.iter().enumerate() {
            let pairs: Vec<&Pair> = samples.iter().map(|round| &round[number]).collect();
            let place = format!("| {} | {} ", case.title(), row.name);
            let (line, fast) = speed_line(row, &pairs);
            speed.push_str(&format!("{place}{line}"));
            let (line, cheap) = cost_line(case, &pairs, sync);
            cost.push_str(&format!("{place}{line}"));
            met[0] += usize::from(fast);
            met[1] += usize::from(cheap);
            count += 1;
        }
    }
    format!(
        "{speed}\n{cost}\nOf {count} rows, {} meet their ratio, and {} take no more processor time \
         than the peer.\nA sync of 100 bytes takes {:.0} us (p99: {:.0} us).\n",
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

fn speed_line(row: &Row, pairs: &[&Pair]) -> (String, bool) {
    let (ours, theirs, ratios) = compare(pairs, |sample| Some(sample.rate));
    let ratio = median(&ratios);
    let met = ratio >= row.target;
    let tool = match compare(pairs, |sample| sample.tool_rate) {
        (_, _, ratios) if ratios.is_empty() => "| | | |\n".into(),
        (ours, theirs, ratios) => format!("| {ours:.0} | {theirs:.0} | {} |\n", spread(&ratios)),
    };
    let line = format!(
        "| {ours:.0} | {theirs:.0} | {} | {:.2} | {} | {} {tool}",
        spread(&ratios),
        best(pairs, 0) / best(pairs, 1),
        row.target,
        yes(met)
    );
    (line, met)
}

fn cost_line(case: &Case, pairs: &[&Pair], sync: &SyncTime) -> (String, bool) {
    let latency = |side: usize| {
        let [p50, p99, p999] = [0, 1, 2].map(|quantile| {
            median(&pairs.iter().map(|pair| pair[side].latency_us[quantile]).collect::<Vec<_>>())
        });
        let syncs = p99 / sync.p50_us;
        let in_syncs = match case.is_synced() {
            true if syncs <= SYNCS_WANTED => format!(" ({syncs:.1} syncs)"),
            true => format!(" (**{syncs:.1} syncs**)"),
            false => String::new(),
        };
        format!("{p50:.0}, {p99:.0}{in_syncs}, {p999:.0}")
    };
    let processor_us = |side: usize| {
        let time: f64 = pairs.iter().map(|pair| pair[side].processor.as_secs_f64()).sum();
        let requests: u64 = pairs.iter().map(|pair| pair[side].requests).sum();
        time * 1e6 / requests as f64
    };
    let (ours, theirs) = (processor_us(0), processor_us(1));
    let met = ours <= theirs;
    let line = format!(
        "| {} | {} | {ours:.2} | {theirs:.2} | {} | {} | {} |\n",
        latency(0),
        latency(1),
        yes(met),
        memory(pairs, 0),
        memory(pairs, 1)
    );
    (line, met)
}

/// The medians of both sides, and the ratio of each round.
fn compare(pairs: &[&Pair], of: impl Fn(&Sample) -> Option<f64>) -> (f64, f64, Vec<f64>) {
    let both = |pair: &&Pair| Some((of(&pair[0])?, of(&pair[1])?));
    let (ours, theirs): (Vec<f64>, Vec<f64>) = pairs.iter().filter_map(both).unzip();
    let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    (median(&ours), median(&theirs), ratios)
}

/// The rate of a side's best round.
fn best(pairs: &[&Pair], side: usize) -> f64 {
    pairs.iter().map(|pair| pair[side].rate).fold(0.0, f64::max)
}

fn memory(pairs: &[&Pair], side: usize) -> String {
    let of = |what: fn(&Sample) -> u64| {
        median(&pairs.iter().map(|pair| what(&pair[side]) as f64).collect::<Vec<_>>())
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
