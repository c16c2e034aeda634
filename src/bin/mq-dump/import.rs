//! `import`: the way back in, for what `export` wrote.
//!
//! 1. No daemon may run: it would not see what is pushed behind its back.
//! 2. What is said to be imported is durable by then.
//! 3. The first line that cannot be imported ends it. What stands before it has been imported, and
//!    nothing of it or behind it.

use crate::json::parse;
use crate::text::{Count, OneLine};
use crate::{Dump, now_ms};
use mq::storage::{DataDirectory, Log, StorageError};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest message that a daemon can be set to take, and the longest line that may hold it.
const MESSAGE_MAX: usize = 512 << 20;
const LINE_MAX: u64 = 4 << 30;

/// The queues of a directory that belongs to this process, and what was pushed.
struct Import {
    directory: Arc<DataDirectory>,
    logs: HashMap<Box<[u8]>, Log>,
    now_ms: u64,
    count: u64,
}

impl Dump {
    /// Pushes the messages in `file`, or on standard input.
    pub fn import(&mut self, file: Option<&Path>) -> io::Result<()> {
        let (input, length) = match open(file) {
            Ok(opened) => opened,
            Err(reason) => {
                self.fail(format_args!("{reason}"));
                return Ok(());
            }
        };
        let instead = ", or let redis-cli --pipe load what mq-dump export --redis writes";
        let place = match self.directory.exists() {
            true => String::new(),
            false => format!(", into the new directory {}", self.directory.display()),
        };
        let Some(directory) = self.own(true, instead) else { return Ok(()) };
        let Some(logs) = self.recover(&directory) else {
            self.fail(format_args!("nothing was imported: see mq-dump verify, mq-dump repair"));
            return Ok(());
        };
        let logs = logs.into_iter().map(|log| (log.name().into(), log)).collect();
        let mut import = Import { directory, logs, now_ms: now_ms(), count: 0 };
        let done = self.progress.count("importing", length);
        let read = import.read(BufReader::new(input), &done);
        let synced = import.sync();
        self.progress.end();
        let Import { count, .. } = import;
        if let Err(error) = synced {
            let count = Count(count, "message");
            self.fail(format_args!("{count} imported, perhaps not durably: {error}"));
            return Ok(());
        }
        match read {
            Ok(()) => {
                let (count, place) = (Count(count, "message"), OneLine(&place));
                writeln!(self.output, "imported {count}, durably{place}")
            }
            Err((line, reason)) => {
                self.fail(format_args!(
                    "line {line}: {reason}; {} before it imported, durably, and nothing of it or \
                     behind it",
                    Count(count, "message")
                ));
                Ok(())
            }
        }
    }
}

/// What is to be read, and its length in bytes; 0 if that is unknown.
fn open(file: Option<&Path>) -> Result<(Box<dyn Read>, u64), String> {
    let Some(path) = file else { return Ok((Box::new(io::stdin()), 0)) };
    let failed = |error: io::Error| format!("open {}: {error}", path.display());
    let length = fs::metadata(path).map_err(failed)?.len();
    Ok((Box::new(File::open(path).map_err(failed)?), length))
}

impl Import {
    /// Pushes line by line, and counts the bytes in `done`. An error has the number of its line.
    fn read(&mut self, mut input: impl BufRead, done: &AtomicU64) -> Result<(), (u64, String)> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = input.by_ref().take(LINE_MAX).read_until(b'\n', &mut line);
            let length = read.map_err(|error| (number, error.to_string()))? as u64;
            if length == 0 {
                break;
            }
            if length == LINE_MAX {
                return Err((number, format!("it is longer than {LINE_MAX} bytes")));
            }
            if !line.trim_ascii().is_empty() {
                self.push(&line).map_err(|reason| (number, reason))?;
            }
            done.fetch_add(length, Ordering::Relaxed);
        }
        Ok(())
    }

    fn push(&mut self, line: &[u8]) -> Result<(), String> {
        let parsed = parse(line.trim_ascii_end())?;
        if parsed.value.len() > MESSAGE_MAX {
            return Err(format!("the value is longer than {MESSAGE_MAX} bytes"));
        }
        let one_line = |error: StorageError| error.to_string();
        let log = match self.logs.entry(parsed.queue[..].into()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let log = self.directory.create_log(unknown.key()).map_err(one_line)?;
                unknown.insert(log)
            }
        };
        let pushed_ms = parsed.pushed_ms.unwrap_or(self.now_ms);
        log.push(&parsed.message(), pushed_ms).map_err(one_line)?;
        self.count += 1;
        Ok(())
    }

    /// Makes durable what was pushed.
    fn sync(&mut self) -> io::Result<()> {
        for log in self.logs.values_mut() {
            if let Some((work, point)) = log.begin_sync() {
                let outcome = work();
                log.end_sync(point, &outcome);
                outcome?;
                log.rest();
            }
        }
        Ok(())
    }
}
