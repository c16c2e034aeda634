//! The logger: its lines, the thread that writes them, and what it says of lines it left out.

use super::condition::{Conditions, QUIET};
use super::limit::RateLimits;
use super::line::{line, push_escaped};
use super::lines::Lines;
use super::panics;
use crate::clock::{Clock, system_time};
use log::{Level, LevelFilter, Log, Metadata, Record, log, warn};
use std::fmt::{Arguments, Display};
use std::io::{self, Write};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How long the end of the process may wait for the last lines to be read.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How often it is looked whether there is something to say of the seconds before.
const LOOK: Duration = Duration::from_secs(1);

static LOGGER: StandardError = StandardError {
    has_thread: AtomicBool::new(false),
    lines: Lines::new(),
    limits: RateLimits::new(),
    conditions: Conditions::new(),
};

/// Tells the seconds of `limits` and `conditions`.
static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::default);

/// Logs records of `level` and above to standard error from now on, and panics too. The thread
/// that logs writes. Only the first call of a process has an effect.
pub fn start(level: LevelFilter) {
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(level);
        panics::log_from_now_on();
    }
}

/// As [`start`], but a thread of its own writes: a thread that logs never waits. Errors: the thread
/// could not be made.
pub fn start_thread(level: LevelFilter) -> io::Result<()> {
    thread::Builder::new().name("log".into()).spawn(|| LOGGER.write_lines())?;
    LOGGER.has_thread.store(true, Ordering::Relaxed);
    start(level);
    Ok(())
}

/// Writes a line that is no record, `text`, behind what has been logged.
pub fn plain(text: &str) {
    let mut line = String::with_capacity(text.len() + 1);
    push_escaped(&mut line, text);
    line.push('\n');
    LOGGER.write(&line);
}

/// Waits until what has been logged is written, for a second at most: the reader of standard error
/// may have stopped. For the end of the process.
pub fn finish() {
    log::logger().flush();
}

/// Logs a line that a client can cause at will, such as one about bytes that are not the protocol:
/// five a second of each `kind`, and then how many more there were. The kind is a short text, which
/// stands in the line of the count: "... and 120 more: not the protocol".
pub fn limited(level: Level, kind: &'static str, line: Arguments<'_>) {
    let say = |kind, count| say_skipped(kind, count);
    if log::log_enabled!(level) && LOGGER.limits.admit(kind, CLOCK.uptime(), say) {
        log!(level, "{line}");
    }
}

/// Notes that a request was refused, or work failed, for a condition that may last: "the disk is
/// full", "queue jobs is full". The condition is logged as a warning when it begins, with `detail`,
/// and when nobody has met it for five seconds.
pub fn refused(condition: &str, detail: impl Display) {
    if let Some(name) = LOGGER.conditions.meet(condition, CLOCK.uptime()) {
        warn!("{name}: {detail}");
    }
}

/// Says what is to be said of the seconds before `now`.
fn settle(now: Duration) {
    LOGGER.limits.settle(now, say_skipped);
    LOGGER.conditions.settle(now, |name, episode| {
        let (count, seconds) = (episode.count, episode.length().as_secs());
        let times = if count == 1 { "once" } else { &format!("{count} times") };
        let quiet = QUIET.as_secs();
        warn!("{name}: over, met {times} in {seconds} s, and not in the last {quiet} s");
    });
}

fn say_skipped(kind: &str, count: u64) {
    warn!("... and {count} more: {kind}");
}

/// The process's logger.
struct StandardError {
    /// Whether one thread writes, or each thread that logs.
    has_thread: AtomicBool,
    lines: Lines,
    limits: RateLimits,
    conditions: Conditions,
}

impl StandardError {
    fn write(&self, line: &str) {
        match self.has_thread.load(Ordering::Relaxed) {
            true => self.lines.push(line),
            false => write_line(line),
        }
    }

    /// The work of the thread.
    fn write_lines(&self) {
        let mut text = String::new();
        loop {
            let is_settled = self.limits.is_settled() && self.conditions.is_settled();
            let dropped = self.lines.take(&mut text, (!is_settled).then_some(LOOK));
            text.split_inclusive('\n').for_each(write_line);
            if dropped > 0 {
                let what = format!("{dropped} lines are missing here: they were not read in time");
                write_line(&line(system_time().as_secs(), Level::Warn.as_str(), &what));
            }
            settle(CLOCK.uptime());
        }
    }
}

/// In one write, so that the lines of two processes do not mix.
fn write_line(line: &str) {
    let _ = io::stderr().write_all(line.as_bytes());
}

impl Log for StandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let now = system_time();
            let text = record.args().to_string();
            self.write(&line(now.as_secs(), record.level().as_str(), &text));
        }
    }

    fn flush(&self) {
        if self.has_thread.load(Ordering::Relaxed) {
            self.lines.flush(LAST_LINES);
        }
    }
}
