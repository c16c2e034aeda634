//! A load generator for queue servers: `cargo run --release --example load -- --help`.
//!
//! It speaks the protocols of Redis, memcached and beanstalkd, checks every reply, and prints one
//! line of `name=value` pairs. A wrong reply is an error, and an error ends it with exit code 1.

use getopts::{Matches, Options};
use std::net::ToSocketAddrs;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

mod generator;
#[cfg(test)]
mod tests;

use generator::{Plan, Report, Workload};

const MISTAKE: u8 = 2;

fn options() -> Options {
    let mut options = Options::new();
    options.optopt("w", "workload", &format!("one of {}", workloads()), "NAME");
    options.optopt("c", "connections", "connections (50)", "N");
    options.optopt("p", "pipeline", "requests sent before a wait for replies (1)", "N");
    options.optopt("t", "threads", "threads that share the connections (1)", "N");
    options.optopt("n", "requests", "most requests (no limit)", "N");
    options.optopt("s", "seconds", "longest time to send (10)", "SECONDS");
    options.optopt("r", "rate", "open loop: requests a second (closed loop)", "N");
    options.optopt("", "first", "the number in the first message or key, then one more (0)", "N");
    options.optopt("", "random", "random numbers below N instead; misses are no errors", "N");
    options.optflag("h", "help", "print this text");
    options
}

fn workloads() -> String {
    Workload::ALL.map(|(name, _)| name).join(", ")
}

fn value<T: FromStr>(matches: &Matches, name: &str) -> Result<Option<T>, String> {
    let Some(text) = matches.opt_str(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| format!("--{name}: {text} is no good value"))
}

fn plan(matches: &Matches) -> Result<Plan, String> {
    let [address] = matches.free.as_slice() else {
        return Err("the server's address is wanted, and nothing else".into());
    };
    let resolved = address.to_socket_addrs().ok().and_then(|mut found| found.next());
    let seconds = value(matches, "seconds")?.unwrap_or(10.0);
    let rate: Option<f64> = value(matches, "rate")?;
    if rate.is_some_and(|rate| !(0.001..=1e9).contains(&rate)) {
        return Err("--rate: from 0.001 to 1e9".into());
    }
    Ok(Plan {
        address: resolved.ok_or_else(|| format!("no such address: {address}"))?,
        workload: value(matches, "workload")?
            .ok_or_else(|| format!("--workload: one of {}", workloads()))?,
        connections: value(matches, "connections")?.unwrap_or(50).max(1),
        pipeline: value(matches, "pipeline")?.unwrap_or(1).max(1),
        threads: value(matches, "threads")?.unwrap_or(1).max(1),
        requests: value(matches, "requests")?.unwrap_or(u64::MAX / 2),
        duration: Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?,
        rate,
        random_below: value(matches, "random")?.map(|below: u64| below.max(1)),
        first: value(matches, "first")?.map_or(0, |first: u64| first % 1_000_000_000_000),
    })
}

fn print(report: &Report) {
    println!(
        "requests={} seconds={:.3} rate={:.0} p50_us={:.1} p99_us={:.1} p999_us={:.1} \
         max_us={:.1} misses={} errors={}",
        report.requests,
        report.elapsed.as_secs_f64(),
        report.rate(),
        report.latency_us(0.5),
        report.latency_us(0.99),
        report.latency_us(0.999),
        report.latency_us(1.0),
        report.misses,
        report.errors
    );
}

fn main() -> ExitCode {
    let parsed = options().parse(std::env::args_os().skip(1)).map_err(|fail| fail.to_string());
    if parsed.as_ref().is_ok_and(|matches| matches.opt_present("help")) {
        print!("{}", options().usage("usage: load --workload NAME [options] ADDRESS"));
        return ExitCode::SUCCESS;
    }
    let plan = match parsed.and_then(|matches| plan(&matches)) {
        Ok(plan) => plan,
        Err(mistake) => {
            eprintln!("load: {mistake} (--help shows the usage)");
            return ExitCode::from(MISTAKE);
        }
    };
    match generator::run(&plan) {
        Ok(report) => {
            print(&report);
            let Some(error) = &report.first_error else { return ExitCode::SUCCESS };
            eprintln!("load: {error}");
        }
        Err(error) => eprintln!("load: {}: {error}", plan.address),
    }
    ExitCode::FAILURE
}
