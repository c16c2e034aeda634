//! `repair`: what recovery would do, and with `--yes` what it does, after a copy.
//!
//! 1. Without `--yes` nothing is written.
//! 2. Before anything is changed, the whole directory lies beside itself once more, durably.
//! 3. The lock is held from the first look to the last.
//!
//! Recovery passes damaged bytes over and leaves them where they are. So the messages of a damaged
//! queue are then moved to new files, with their numbers, and the old files go.

use crate::Dump;
use crate::copy::Copying;
use crate::text::{Count, Escaped};
use mq::storage::Log;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

impl Dump {
    /// Shows what is damaged; when `is_sure`, mends it.
    pub fn repair(&mut self, is_sure: bool) -> io::Result<()> {
        if let Err(error) = fs::read_dir(&self.directory) {
            // Taking the lock would make it.
            let path = self.directory.display().to_string();
            self.fail(format_args!("list {path}: {error}"));
            return Ok(());
        }
        if !is_sure {
            if self.plan()?.is_some() {
                self.has_failed = true;
                writeln!(self.output, "nothing was changed: repair --yes does it")?;
            }
            return Ok(());
        }
        let Some(directory) = self.own(false, "") else { return Ok(()) };
        let Some(damaged) = self.plan()? else { return Ok(()) };
        // If the plan cannot be written, nothing is done.
        self.output.flush()?;
        match self.copy_directory() {
            Ok(copy) => {
                let copy = Escaped(copy.as_os_str().as_bytes());
                writeln!(self.output, "a copy of the directory is in {copy}")?;
                self.output.flush()?;
            }
            Err(error) => {
                self.fail(format_args!("{error}; nothing was changed"));
                return Ok(());
            }
        }
        let Some(logs) = self.recover(&directory) else { return Ok(()) };
        let (queues, messages) = (logs.len() as u64, logs.iter().map(Log::len).sum::<u64>());
        let (queues, messages) = (Count(queues, "queue"), Count(messages, "message"));
        writeln!(self.output, "recovered: {messages} in {queues}")?;
        self.renew(logs, &damaged);
        let after = self.look_through()?;
        self.has_failed |= !after.is_sound();
        writeln!(self.output, "{after}")
    }

    /// Writes what is wrong and what will become of it; the folders of damaged queues, or None if
    /// there is nothing that can be repaired.
    fn plan(&mut self) -> io::Result<Option<BTreeSet<String>>> {
        let tally = self.look_through()?;
        writeln!(self.output, "{tally}")?;
        if tally.refusals > 0 || tally.unread > 0 {
            self.fail(format_args!(
                "every start closes such a queue, and a repair stops: move what is a refusal, or \
                 cannot be read, out of the directory; nothing was changed"
            ));
            return Ok(None);
        }
        if tally.is_sound() {
            writeln!(self.output, "nothing to repair")?;
            return Ok(None);
        }
        let plan = "repair: copies the directory, does what recovery decides, and moves the \
                    messages of damaged queues to new files";
        writeln!(self.output, "{plan}")?;
        Ok(Some(tally.damaged_folders))
    }

    fn copy_directory(&mut self) -> io::Result<PathBuf> {
        let copying = Copying::of(&self.directory)?;
        let done = self.progress.count("copying", copying.bytes);
        let copy = copying.make(&done);
        self.progress.end();
        copy
    }

    /// Moves the messages of the logs in these folders to new files.
    fn renew(&mut self, logs: Vec<Log>, folders: &BTreeSet<String>) {
        for mut log in logs {
            let folder = log.directory().file_name().and_then(|name| name.to_str());
            if folder.is_some_and(|folder| folders.contains(folder)) {
                let renewed = log.renew();
                self.shown(renewed);
            }
        }
    }
}
