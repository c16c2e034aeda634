//! What all logs of a data directory share, and what becomes of what is found in their files.

use super::counters::{Counters, add};
use super::error::StorageError;
use super::finding::{Finding, Label, Weight};
use super::folder::Folder;
use super::quarantine::set_aside;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The most log lines about damage that is found in one file at once.
const LINES_MAX: u64 = 5;

/// What all logs share.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// The largest segment in bytes, but for one whose only record is larger.
    pub segment_size: u64,
    /// Whose the files are.
    pub access: Access,
    /// Counters of what was found.
    pub counters: Arc<Counters>,
    /// The last try to write a footer has failed: that is said once.
    pub has_footer_failed: Arc<AtomicBool>,
    /// The data directory, and why it is closed for writing, once it is.
    pub closed: Arc<OnceLock<(PathBuf, Arc<str>)>>,
}

/// Whose the files are, which says what becomes of findings.
#[derive(Clone, Debug)]
pub enum Access {
    /// This process's: findings are logged and counted, and what is damaged is set aside.
    Own {
        /// Refuse to open a damaged log.
        strict: bool,
        /// The data directory, where copies of damaged segments go.
        root: Arc<Folder>,
    },
    /// Perhaps somebody else's: nothing is written, made or removed, and findings are kept.
    Look {
        /// Read every record, also where a footer names them.
        is_thorough: bool,
        /// What was found, in the order of finding.
        findings: Arc<Mutex<Vec<Finding>>>,
    },
}

impl LogSettings {
    /// True when nothing is written, made or removed.
    pub fn is_read_only(&self) -> bool {
        matches!(self.access, Access::Look { .. })
    }

    /// True when the start is to be refused where something is wrong.
    pub fn is_strict(&self) -> bool {
        matches!(self.access, Access::Own { strict: true, .. })
    }

    /// True when every record is read, and no footer in its place.
    pub fn reads_every_record(&self) -> bool {
        match self.access {
            Access::Own { strict, .. } => strict,
            Access::Look { is_thorough, .. } => is_thorough,
        }
    }

    /// Closes all queues of the data directory at `path` for writing; true for the first call.
    pub fn close(&self, path: &Path, why: &dyn fmt::Display) -> bool {
        self.closed.set((path.into(), why.to_string().into())).is_ok()
    }

    /// An error after a failed sync of the data directory: which queues there are, and which of
    /// them are gone, is not known to be durable any more (rule 9). Also when it is not where it
    /// was (rule 18).
    pub fn check_writable(&self) -> Result<(), StorageError> {
        let Some((path, why)) = self.closed.get() else { return Ok(()) };
        Err(StorageError::Closed { path: path.clone(), why: Arc::clone(why) })
    }

    /// Takes what was found at the opening; an error when the log is not to be opened with it.
    pub fn decide(&self, finding: Finding) -> Result<(), StorageError> {
        let is_refused = match (finding.label.weight(), &self.access) {
            (Weight::Refusal, _) => true,
            (Weight::Damage, Access::Own { strict, .. }) => *strict,
            _ => false,
        };
        if is_refused {
            return Err(StorageError::Refused(Box::new(finding)));
        }
        self.note(finding);
        Ok(())
    }

    /// Takes what was found where it is too late to refuse it.
    pub fn note(&self, finding: Finding) {
        self.count(&finding);
        match &self.access {
            Access::Look { .. } => self.keep(finding),
            Access::Own { .. } => {
                log::log!(finding.level(), "{finding}");
                if finding.is_damage() {
                    self.set_aside(&finding.file);
                }
            }
        }
    }

    /// The same of all damage in the file at `path`, which a command has met.
    pub fn note_all(&self, path: &Path, findings: impl Iterator<Item = Finding>) {
        let mut unsaid_count = 0_u64;
        for (finding, count) in findings.zip(1..) {
            self.count(&finding);
            match &self.access {
                Access::Look { .. } => self.keep(finding),
                Access::Own { .. } if count <= LINES_MAX => log::log!(finding.level(), "{finding}"),
                Access::Own { .. } => unsaid_count += 1,
            }
        }
        if unsaid_count > 0 {
            log::error!("{}: and {unsaid_count} more damaged records", path.display());
        }
        self.set_aside(path);
    }

    fn count(&self, finding: &Finding) {
        if finding.is_damage() {
            add(&self.counters.damaged, 1);
        }
        if finding.label == Label::TornTail {
            add(&self.counters.torn_tails, 1);
        }
    }

    fn keep(&self, finding: Finding) {
        if let Access::Look { findings, .. } = &self.access {
            // A push leaves nothing half done.
            findings.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
        }
    }

    /// Sets a copy of a damaged segment aside, if the files are this process's.
    fn set_aside(&self, path: &Path) {
        if let Access::Own { root, .. } = &self.access {
            set_aside(root, path);
        }
    }
}
