//! `verify`: reads everything, and names what is wrong and what recovery would decide.

use crate::text::{Count, Escaped, OneLine, Size};
use crate::{Dump, disk_bytes};
use mq::storage::{Finding, StorageError, Weight};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

/// What was looked through, and what was found.
#[derive(Debug, Default)]
pub struct Tally {
    /// Folders of queues.
    pub queues: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Places that recovery passes over or reads otherwise.
    pub damage: u64,
    /// Places for which every start closes the queue.
    pub refusals: u64,
    /// What a crash leaves, or somebody else; no message is lost.
    pub notes: u64,
    /// Folders that could not be read.
    pub unread: u64,
    /// Folders with damage.
    pub damaged_folders: BTreeSet<String>,
}

impl Tally {
    /// True when nothing is wrong.
    pub fn is_sound(&self) -> bool {
        (self.damage, self.refusals, self.unread) == (0, 0, 0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { queues, bytes, damage, refusals, unread, notes, .. } = self;
        write!(f, "{}, {}: ", Count(*queues, "queue"), Size(*bytes))?;
        match self.is_sound() {
            true => write!(f, "no damage")?,
            false => write!(f, "{}", Count(*damage, "damaged place"))?,
        }
        for (count, noun) in
            [(*refusals, "refusal"), (*unread, "unreadable folder"), (*notes, "note")]
        {
            if count > 0 {
                write!(f, ", {}", Count(count, noun))?;
            }
        }
        Ok(())
    }
}

impl Dump {
    /// Reads everything and writes each finding, then a summary.
    pub fn verify(&mut self) -> io::Result<()> {
        self.warn_of_daemon();
        let tally = self.look_through()?;
        self.has_failed |= !tally.is_sound();
        writeln!(self.output, "{tally}")
    }

    /// Reads everything and writes each finding.
    pub fn look_through(&mut self) -> io::Result<Tally> {
        let mut tally = Tally::default();
        let folders = self.inspection.folders(None);
        let Some(folders) = self.shown(folders) else {
            tally.unread = 1;
            return Ok(tally);
        };
        let whole = self.inspection.verify_directory();
        self.tell(&mut tally, None, whole)?;
        for folder in folders {
            tally.queues += 1;
            tally.bytes += disk_bytes(&self.directory.join(&folder));
            self.watch_reading(&folder);
            let findings = self.inspection.verify(&folder);
            self.progress.end();
            self.tell(&mut tally, Some(&folder), findings)?;
        }
        Ok(tally)
    }

    /// Writes what was found in a folder, and counts it.
    fn tell(
        &mut self,
        tally: &mut Tally,
        folder: Option<&str>,
        findings: Result<Vec<Finding>, StorageError>,
    ) -> io::Result<()> {
        let findings = match findings {
            Ok(findings) => findings,
            Err(error) => {
                tally.unread += 1;
                self.fail(format_args!("{error}"));
                return Ok(());
            }
        };
        for Finding { file, offset, label, expected, found } in &findings {
            let weight = match label.weight() {
                Weight::Damage => {
                    tally.damage += 1;
                    tally.damaged_folders.extend(folder.map(String::from));
                    "damage"
                }
                Weight::Refusal => {
                    tally.refusals += 1;
                    "refusal"
                }
                Weight::Note => {
                    tally.notes += 1;
                    "note"
                }
            };
            let (file, name) = (Escaped(file.as_os_str().as_bytes()), label.name());
            let (expected, found, done) = (OneLine(expected), OneLine(found), label.done());
            write!(self.output, "{file}: at offset {offset}: expected {expected}, ")?;
            writeln!(self.output, "found {found} [{name}]\n    {weight}: {done}")?;
        }
        Ok(())
    }
}
