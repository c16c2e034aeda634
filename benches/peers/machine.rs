//! The machine that is measured on: what it is, which servers it has, how long its syncs take.

use crate::server::{self, Program};
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Syncs that are timed in each round.
const SYNCS: usize = 50;

/// Bytes of a file that is synced: its blocks are allocated and written before.
const FILE_SIZE: usize = 1 << 20;

/// How long a sync of one small write takes.
#[derive(Clone, Copy, Debug)]
pub struct SyncTime {
    /// The median in microseconds.
    pub p50_us: f64,
    /// 99 of a hundred take less, in microseconds.
    pub p99_us: f64,
}

impl SyncTime {
    /// Of these times, of which there is at least one.
    pub fn of(mut times: Vec<Duration>) -> SyncTime {
        times.sort();
        let us = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e6;
        SyncTime { p50_us: us(50), p99_us: us(99) }
    }
}

/// Times writes of 100 bytes, each with its `fdatasync`, where the servers have their directories.
pub fn time_syncs() -> Result<Vec<Duration>, String> {
    timed_syncs().map_err(|error| format!("timing syncs: {error}"))
}

fn timed_syncs() -> io::Result<Vec<Duration>> {
    let file = tempfile::tempfile()?;
    file.write_all_at(&vec![1; FILE_SIZE], 0)?;
    file.sync_all()?;
    let mut times = Vec::new();
    for number in 0..SYNCS as u64 {
        let start = Instant::now();
        file.write_all_at(&[2; 100], number * 100)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// A measurement of who uses the CPUs, from when it was started.
pub struct Usage {
    start: Instant,
    /// Ticks of all CPUs that were not idle.
    busy: u64,
}

impl Usage {
    /// Starts now.
    pub fn start() -> Usage {
        Usage { start: Instant::now(), busy: busy_ticks() }
    }

    /// The part of all CPUs that others than this process and its children have used since;
    /// every child must have ended.
    pub fn of_others(&self) -> f64 {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let ours: u64 = server::ticks(&stat, 4);
        let others = (busy_ticks() - self.busy).saturating_sub(ours);
        let all = self.start.elapsed().as_secs_f64() * f64::from(server::TICKS) * cores() as f64;
        others as f64 / all
    }
}

/// User, nice, system, interrupts and what a hypervisor took: all of the first line of `/proc/stat`
/// but for idling, waiting and guests, which are in the others.
fn busy_ticks() -> u64 {
    let line = first_line("/proc/stat", "cpu ").unwrap_or_default();
    let fields = line.split_whitespace().map(|field| field.parse::<u64>().unwrap_or(0));
    fields.take(8).enumerate().filter(|(index, _)| ![3, 4].contains(index)).map(|(_, n)| n).sum()
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Lines of Markdown: CPUs, kernel, file system, versions.
pub fn describe() -> String {
    let cores = cores();
    let model = first_line("/proc/cpuinfo", "model name").unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let directory = std::env::temp_dir();
    let mut text = format!(
        "- {cores} CPUs, {model}; they serve the load generator too\n\
         - Linux {}, {} on {}\n",
        kernel.trim(),
        file_system(&directory).unwrap_or_else(|| "an unknown file system".into()),
        "the temporary directory",
    );
    for program in [Program::MqdRedis].into_iter().chain(Program::PEERS) {
        let version = program.version();
        let version = version.as_deref().and_then(|text| text.lines().next());
        text.push_str(&format!("- {}\n", version.unwrap_or(&format!("no {}", program.name()))));
    }
    text
}

fn first_line(path: &str, start: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(start)).map(String::from)
}

/// The kind of file system that `directory` is on.
fn file_system(directory: &Path) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        directory.starts_with(point).then(|| (point.len(), kind.to_string()))
    });
    // Of two mounts at one place the later one is on top.
    mounts.max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}
