//! mq-dump: looks into a data directory, and writes there only when asked to.
//!
//! It may look beside a running daemon, and into a damaged directory: what is damaged is named on
//! standard error, and everything else is shown. Exit codes: 0 for all well, also when nobody reads
//! the output to its end; 1 for damage or something that is not there; 2 for a wrong command line.

mod arguments;
mod copy;
mod export;
mod import;
mod json;
mod list;
mod messages;
mod own;
mod progress;
mod repair;
mod segment;
mod show;
mod text;
mod verify;

use arguments::Action;
use log::LevelFilter;
use mq::clock::{milliseconds, system_time};
use mq::logging;
use mq::storage::{InspectedQueue, Inspection, StorageError};
use progress::{Output, Progress};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

const MISTAKE: u8 = 2;

fn main() -> ExitCode {
    let (directory, command) = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(parsed) => parsed,
        Err(mistake) => {
            complain(&format!("{mistake} (mq-dump --help shows the usage)"));
            return ExitCode::from(MISTAKE);
        }
    };
    logging::start(LevelFilter::Warn);
    let mut dump = Dump::new(directory);
    let outcome = dump.run(command).and_then(|()| dump.output.flush());
    dump.progress.end();
    match outcome {
        Ok(()) if dump.has_failed => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        // As with `| head`: the reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("cannot write the output: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn complain(reason: &str) {
    let _ = writeln!(io::stderr(), "mq-dump: {reason}");
}

/// Unix time in milliseconds.
fn now_ms() -> u64 {
    milliseconds(system_time())
}

/// Bytes of the files in a folder, as far as it can be listed.
fn disk_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// What all commands share.
struct Dump {
    directory: PathBuf,
    inspection: Inspection,
    progress: Progress,
    output: Box<dyn Write>,
    /// Something asked for could not be shown or done.
    has_failed: bool,
}

impl Dump {
    fn new(directory: PathBuf) -> Dump {
        let progress = Progress::start();
        Dump {
            inspection: Inspection::new(&directory),
            directory,
            output: Output::buffered(progress.clone()),
            progress,
            has_failed: false,
        }
    }

    /// Does what is asked. An error is one of the output; all others are logged.
    fn run(&mut self, command: Action) -> io::Result<()> {
        let needs_directory = match command {
            Action::Help | Action::Version | Action::Segment { .. } => false,
            // It makes one.
            Action::Import { .. } => false,
            _ => true,
        };
        if needs_directory && !self.has_directory() {
            return Ok(());
        }
        match command {
            Action::Help => self.output.write_all(arguments::usage().as_bytes()),
            Action::Version => writeln!(self.output, "mq-dump {}", env!("CARGO_PKG_VERSION")),
            Action::List => self.list(),
            Action::Show { queue } => self.show(&queue),
            Action::Messages { queue, from, count, format } => {
                self.messages(&queue, from, count, format)
            }
            Action::Segment { file, is_json } => self.segment(&file, is_json),
            Action::Export { queues, is_protocol } => self.export(&queues, is_protocol),
            Action::Import { file } => self.import(file.as_deref()),
            Action::Verify => self.verify(),
            Action::Repair { is_sure } => self.repair(is_sure),
        }
    }

    /// Says so when a daemon is at work on what is about to be verified: what it has just written
    /// may look like damage.
    fn warn_of_daemon(&self) {
        if self.inspection.is_in_use() {
            self.progress.clear();
            log::warn!(
                "a daemon uses this directory: this is a moving target, and what is shown \
                        may have changed already"
            );
        }
    }

    /// Whether the directory is there. If not, that is logged.
    fn has_directory(&mut self) -> bool {
        let is_there = match fs::metadata(&self.directory) {
            Ok(metadata) => metadata.is_dir(),
            // The opening says what is wrong.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if !is_there {
            let path = self.directory.display().to_string();
            self.fail(format_args!("no data directory {path} (give --dir)"));
        }
        is_there
    }

    /// Folders of queues; with a name, of those that may have it.
    fn folders(&mut self, name: Option<&[u8]>) -> Vec<String> {
        let folders = self.inspection.folders(name);
        self.shown(folders).unwrap_or_default()
    }

    /// Opens the queue in `folder`, and logs what is found in its files. Returns `None` if there is
    /// no queue.
    fn open(&mut self, folder: &str) -> Result<Option<InspectedQueue>, StorageError> {
        self.watch_reading(folder);
        let queue = self.inspection.open(folder);
        self.progress.end();
        self.say_findings();
        queue
    }

    /// Shows how far the reading of a queue's files is.
    fn watch_reading(&self, folder: &str) {
        let counters = self.inspection.counters();
        let before = counters.read_bytes.load(Ordering::Relaxed);
        let total = disk_bytes(&self.directory.join(folder));
        let done = move || counters.read_bytes.load(Ordering::Relaxed).saturating_sub(before);
        self.progress.begin(format_args!("reading {folder}"), total, Box::new(done));
    }

    /// Names what was found in the files since the last call.
    fn say_findings(&mut self) {
        for finding in self.inspection.take_findings() {
            self.progress.clear();
            log::log!(finding.level(), "{finding}");
            self.has_failed |= finding.is_damage();
        }
    }

    /// Returns the queue that an argument names. Returns `None`, and logs that, if there is none.
    fn open_named(&mut self, argument: &str) -> Option<InspectedQueue> {
        let had_failed = std::mem::take(&mut self.has_failed);
        for name in text::names(argument) {
            for folder in self.folders(Some(&name)) {
                let queue = self.open(&folder);
                let queue = self.shown(queue).flatten();
                if let Some(queue) = queue.filter(|queue| queue.name() == name) {
                    self.has_failed |= had_failed;
                    return Some(queue);
                }
            }
        }
        if !self.has_failed {
            self.fail(format_args!("no queue \"{}\"", text::OneLine(argument)));
        }
        None
    }

    /// Logs why something cannot be shown.
    fn shown<T>(&mut self, outcome: Result<T, StorageError>) -> Option<T> {
        outcome.map_err(|error| self.fail(format_args!("{error}"))).ok()
    }

    fn fail(&mut self, reason: fmt::Arguments<'_>) {
        self.progress.clear();
        log::error!("{reason}");
        self.has_failed = true;
    }
}
