//! `list`: one line for each queue.

use crate::text::{Age, Escaped};
use crate::{Dump, now_ms};
use mq::storage::{InspectedQueue, Message, StorageError};
use std::fmt::Display;
use std::io::{self, Write};

/// What stands where nothing is known.
const UNKNOWN: &str = "?";

/// The columns before the queue's name.
struct Row<T> {
    ready: T,
    removed: T,
    total: T,
    live_bytes: T,
    disk_bytes: T,
    segments: T,
    oldest: T,
    newest: T,
}

impl<T: Display> Row<T> {
    fn write(&self, output: &mut dyn Write, name: &dyn Display) -> io::Result<()> {
        let Row { ready, removed, total, live_bytes, disk_bytes, segments, oldest, newest } = self;
        write!(output, "{ready:>10} {removed:>10} {total:>10} {live_bytes:>12} {disk_bytes:>12} ")?;
        writeln!(output, "{segments:>8} {oldest:>8} {newest:>8}  {name}")
    }
}

impl Dump {
    /// Writes the counts, sizes and ages of every queue. One that cannot be opened has only those
    /// of its files.
    pub fn list(&mut self) -> io::Result<()> {
        let heads = Row {
            ready: "ready",
            removed: "removed",
            total: "total",
            live_bytes: "live bytes",
            disk_bytes: "disk bytes",
            segments: "segments",
            oldest: "oldest",
            newest: "newest",
        };
        heads.write(&mut self.output, &"queue")?;
        for folder in self.folders(None) {
            match self.open(&folder) {
                Ok(Some(queue)) => self.list_queue(queue)?,
                Ok(None) => {}
                Err(error) => {
                    self.fail(format_args!("{error}"));
                    self.list_files(&folder)?;
                }
            }
        }
        Ok(())
    }

    fn list_queue(&mut self, mut queue: InspectedQueue) -> io::Result<()> {
        let (ready, total) = (queue.message_count(), queue.pushed_count());
        let oldest = self.age(queue.next(0));
        let newest = self.age(queue.newest());
        let row = Row {
            ready: ready.to_string(),
            removed: total.saturating_sub(ready).to_string(),
            total: total.to_string(),
            live_bytes: queue.live_bytes().to_string(),
            disk_bytes: queue.disk_bytes().to_string(),
            segments: queue.segments().count().to_string(),
            oldest,
            newest,
        };
        row.write(&mut self.output, &Escaped(queue.name()))
    }

    /// What can be said of a queue that cannot be opened.
    fn list_files(&mut self, folder: &str) -> io::Result<()> {
        let files = self.segment_files(folder);
        let disk_bytes: u64 = files.iter().map(|file| file.length()).sum();
        let (disk_bytes, segments) = (disk_bytes.to_string(), files.len().to_string());
        let row = Row {
            ready: UNKNOWN,
            removed: UNKNOWN,
            total: UNKNOWN,
            live_bytes: UNKNOWN,
            disk_bytes: &disk_bytes,
            segments: &segments,
            oldest: UNKNOWN,
            newest: UNKNOWN,
        };
        let name = self.names_of(folder, &files).into_iter().next();
        let name = name.unwrap_or_else(|| folder.as_bytes().to_vec());
        row.write(&mut self.output, &Escaped(&name))
    }

    /// How old a message is; `-` where there is none.
    fn age(&mut self, message: Result<Option<Message<'_>>, StorageError>) -> String {
        match message {
            Ok(Some(message)) => Age(now_ms().saturating_sub(message.pushed_ms)).to_string(),
            Ok(None) => "-".into(),
            Err(error) => {
                self.fail(format_args!("{error}"));
                UNKNOWN.into()
            }
        }
    }
}
