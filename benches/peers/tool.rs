//! redis-benchmark as a second source of load, with messages of 100 bytes like the generator's.
//!
//! Its `-d` has no effect on SADD, so the command itself is given, with a padded `__rand_int__`.

use crate::cases::Case;
use crate::generator::Workload;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// Random numbers are below this.
const RANGE: &str = "10000000";

/// Requests a second that it reports for a workload; None where it knows no such command.
pub fn rate(
    case: &Case,
    workload: Workload,
    address: SocketAddr,
    requests: u64,
) -> Result<Option<f64>, String> {
    let message = "x".repeat(88) + "__rand_int__";
    let words: &[&str] = match workload {
        Workload::Sadd => &["SADD", "q", &message],
        Workload::Spop => &["SPOP", "q"],
        _ => return Ok(None),
    };
    let (port, requests) = (address.port().to_string(), requests.max(1).to_string());
    let (clients, pipeline) = (case.clients.to_string(), case.pipeline.to_string());
    let output = Command::new("redis-benchmark")
        .args(["-p", &port, "-c", &clients, "-P", &pipeline, "-n", &requests])
        .args(["-r", RANGE, "--csv"])
        .args(words)
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("redis-benchmark: {error}")),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().last().and_then(rate_of_line);
    let complaint = || format!("redis-benchmark: {}", String::from_utf8_lossy(&output.stderr));
    rate.filter(|_| output.status.success()).map(Some).ok_or_else(complaint)
}

/// The second column of a line of CSV; the first, which is the command, has no commas.
fn rate_of_line(line: &str) -> Option<f64> {
    line.split(',').nth(1)?.trim_matches('"').parse().ok()
}
