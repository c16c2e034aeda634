//! `show`: one queue, its segments and its cursor.

use crate::segment::write_slots;
use crate::text::{Age, Escaped, OneLine, Time, names};
use crate::{Dump, now_ms};
use mq::storage::format::{Sealed, decode_folder};
use mq::storage::{InspectedQueue, Message, Role, SegmentFile, SegmentView, StorageError};
use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

const COLUMNS: [&str; 9] = [
    "base",
    "state",
    "header",
    "footer",
    "disk bytes",
    "messages",
    "live bytes",
    "dead bytes",
    "created",
];

fn write_row<T: Display>(output: &mut dyn Write, columns: [T; 9]) -> io::Result<()> {
    let [base, state, header, footer, disk, messages, live, dead, created] = columns;
    write!(output, "{base:>20} {state:<6} {header:<6} {footer:<6} {disk:>11} ")?;
    writeln!(output, "{messages:>10} {live:>11} {dead:>11}  {created}")
}

impl Dump {
    /// Writes what is known of the queue that the argument names, also of one that cannot be
    /// opened.
    pub fn show(&mut self, argument: &str) -> io::Result<()> {
        let names = names(argument);
        let mut folders: Vec<String> =
            names.iter().flat_map(|name| self.folders(Some(name))).collect();
        folders.dedup();
        let mut is_found = false;
        for folder in folders {
            let queue = self.open(&folder);
            let queue = self.shown(queue).flatten();
            let files = self.segment_files(&folder);
            let has_name = match &queue {
                Some(queue) => names.iter().any(|name| queue.name() == name),
                None => self.names_of(&folder, &files).iter().any(|name| names.contains(name)),
            };
            if has_name {
                is_found = true;
                self.show_queue(&folder, queue, &files)?;
            }
        }
        if !is_found && !self.has_failed {
            self.fail(format_args!("no queue \"{}\"", OneLine(argument)));
        }
        Ok(())
    }

    fn show_queue(
        &mut self,
        folder: &str,
        queue: Option<InspectedQueue>,
        files: &[SegmentFile],
    ) -> io::Result<()> {
        let path = self.directory.join(folder);
        writeln!(self.output, "folder       {}", Escaped(path.as_os_str().as_bytes()))?;
        let mut views = Vec::new();
        if let Some(mut queue) = queue {
            views.extend(queue.segments());
            self.show_counts(&mut queue)?;
        }
        writeln!(self.output)?;
        write_row(&mut self.output, COLUMNS)?;
        for file in files {
            let view = views.iter().find(|view| view.base == file.base());
            self.show_segment(file, view, !views.is_empty())?;
        }
        if let Some(file) = files.iter().max_by_key(|file| file.newest_generation()) {
            let name = file.path().file_name().unwrap_or_default();
            writeln!(self.output, "\ncursor, in {}", Escaped(name.as_bytes()))?;
            write_slots(&mut self.output, file)?;
        }
        Ok(())
    }

    fn show_counts(&mut self, queue: &mut InspectedQueue) -> io::Result<()> {
        let (ready, total) = (queue.message_count(), queue.pushed_count());
        let name = Escaped(queue.name()).to_string();
        writeln!(self.output, "queue        {name}")?;
        let (removed, bytes) = (total.saturating_sub(ready), queue.live_bytes());
        writeln!(
            self.output,
            "ready        {ready} ({bytes} bytes), removed {removed}, total {total}"
        )?;
        let (head, end, durable) = (queue.head(), queue.end(), queue.durable());
        writeln!(self.output, "head         {head}: all lower numbers are gone")?;
        writeln!(self.output, "next number  {}", queue.next_sequence())?;
        writeln!(self.output, "durable      up to position {durable} at the least, of {end}")?;
        let oldest = self.described(queue.next(0));
        writeln!(self.output, "oldest       {oldest}")?;
        let newest = self.described(queue.newest());
        writeln!(self.output, "newest       {newest}")
    }

    fn described(&mut self, message: Result<Option<Message<'_>>, StorageError>) -> String {
        let Some(message) = self.shown(message) else { return "unknown".into() };
        let describe = |message: Message<'_>| {
            let (number, pushed) = (message.sequence, Time(message.pushed_ms));
            let age = Age(now_ms().saturating_sub(message.pushed_ms));
            format!("number {number}, pushed {pushed}, {age} ago")
        };
        message.map_or("none".into(), describe)
    }

    /// A line about a segment: its file, and what it is to the log if that could be opened.
    fn show_segment(
        &mut self,
        file: &SegmentFile,
        view: Option<&SegmentView>,
        is_opened: bool,
    ) -> io::Result<()> {
        let (is_blank, footer) = (file.is_blank(), file.footer());
        let errors = [is_blank.as_ref().err(), footer.as_ref().err()];
        if errors.into_iter().flatten().any(StorageError::is_not_found) {
            // A daemon at work has let go of it meanwhile.
            return Ok(());
        }
        let state = match view.map(|view| view.role) {
            Some(Role::Sealed) => "sealed",
            Some(Role::Tail) => "tail",
            Some(Role::Spare) => "spare",
            None if self.shown(is_blank) == Some(true) => "unborn",
            None if is_opened => "dead",
            None => "?",
        };
        let footer = match self.shown(footer) {
            Some(Sealed::With(_)) => "ok",
            Some(Sealed::Not) => "none",
            _ => "BAD",
        };
        let created =
            file.header().map_or("?".into(), |(header, _)| Time(header.created_ms).to_string());
        let count = |count: fn(&SegmentView) -> u64| {
            view.map_or("?".into(), |view| count(view).to_string())
        };
        let columns = [
            file.base().to_string(),
            state.into(),
            if file.header().is_ok() { "ok" } else { "BAD" }.into(),
            footer.into(),
            file.length().to_string(),
            count(|view| view.live_count),
            count(|view| view.live_bytes),
            count(|view| view.dead_bytes),
            created,
        ];
        write_row(&mut self.output, columns)
    }

    /// The segment files of the queue in `folder` that can be read.
    pub fn segment_files(&mut self, folder: &str) -> Vec<SegmentFile> {
        let files = self.inspection.segment_files(folder);
        let files = self.shown(files).unwrap_or_default();
        files.into_iter().filter_map(|file| self.shown(file)).collect()
    }

    /// The names that the queue in `folder` may have, when it cannot be opened: the folder's, and
    /// those in its files.
    pub fn names_of(&self, folder: &str, files: &[SegmentFile]) -> Vec<Vec<u8>> {
        let in_files = files.iter().filter_map(|file| Some(file.header().ok()?.0.name.to_vec()));
        decode_folder(folder).flatten().into_iter().chain(in_files).collect()
    }
}
