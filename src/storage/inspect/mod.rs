//! Looking into a data directory, also a damaged one, and also while a daemon uses it.
//!
//! Files are opened for reading only. Nothing is written, made, renamed, removed or synced.
//! Recovery decides what lives, as for the daemon, without its steps that write.
//!
//! Beside a daemon the files change while they are read. What is shown of a queue was so at some
//! time during its opening; when a file vanishes before it is mapped, the queue is opened anew.
//! Of a queue with more segments than can be mapped the oldest stay so: a daemon lets go of these
//! first.

mod lock;
mod queue;
mod segment_file;
mod verify;

use super::claim;
use super::counters::Counters;
use super::directory::folders;
use super::error::StorageError;
use super::finding::Finding;
use super::folder::Folder;
use super::home::Home;
use super::log::Log;
use super::names::{LOCK, decode_folder, file_name, may_hold};
use super::recovery;
use super::settings::{Access, LogSettings};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use queue::{InspectedQueue, Role, SegmentView};
pub use segment_file::{BaseSource, CursorSlot, Piece, SegmentFile};

/// How often a queue whose files vanish is tried.
const ATTEMPTS: usize = 100;

/// A look into a data directory.
#[derive(Debug)]
pub struct Inspection {
    path: PathBuf,
    /// What was found so far and is not taken.
    findings: Findings,
    counters: Arc<Counters>,
}

/// What was found, in the order of finding.
type Findings = Arc<Mutex<Vec<Finding>>>;

fn take(findings: &Findings) -> Vec<Finding> {
    // A push leaves nothing half done.
    std::mem::take(&mut *findings.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Inspection {
    /// A look into the directory at `path`.
    pub fn new(path: &Path) -> Inspection {
        Inspection { path: path.into(), findings: Findings::default(), counters: Arc::default() }
    }

    /// True when a daemon is seen to use the directory. No lock is tried for that.
    pub fn is_in_use(&self) -> bool {
        lock::is_held(&self.path) || lock::is_held(&self.path.join(LOCK))
    }

    /// The data directory; an error if it is something else.
    fn root(&self) -> Result<Folder, StorageError> {
        let opened = Folder::open(&self.path);
        let root = opened.map_err(|error| StorageError::io("list", &self.path, error))?;
        claim::check(&root)?;
        Ok(root)
    }

    fn home(&self, folder: &str) -> Result<(Home, Arc<Folder>), StorageError> {
        let home = Home::of(&Arc::new(self.root()?), OsStr::new(folder));
        home.map_err(|error| StorageError::io("open", &self.path.join(folder), error))
    }

    /// The folders of queues, sorted; with `name`, those that may be this queue's.
    pub fn folders(&self, name: Option<&[u8]>) -> Result<Vec<String>, StorageError> {
        let mut folders = folders(&self.root()?)?;
        folders.retain(|folder| match name {
            Some(name) => may_hold(folder, name),
            None => decode_folder(folder).is_some(),
        });
        Ok(folders)
    }

    /// Opens the queue in `folder`. Returns `None` if there is none, or it has gone.
    pub fn open(&self, folder: &str) -> Result<Option<InspectedQueue>, StorageError> {
        let log = self.open_log(folder, false, &self.findings)?;
        Ok(log.map(InspectedQueue::new))
    }

    /// The segment files of the queue in `folder`, sorted, whatever they hold; an error is one of
    /// reading that file.
    pub fn segment_files(
        &self,
        folder: &str,
    ) -> Result<Vec<Result<SegmentFile, StorageError>>, StorageError> {
        let (home, _kept_open) = self.home(folder)?;
        let path = |base| home.path().join(file_name(base));
        let bases = recovery::files::bases(&home)?.into_iter();
        let files = bases.map(|base| SegmentFile::open(&path(base)));
        // One that a daemon at work has let go of meanwhile is not there.
        Ok(files.filter(|file| !file.as_ref().is_err_and(StorageError::is_not_found)).collect())
    }

    /// What the opening of queues counts, also while it goes on.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// What was found since the last call, by opening queues and by reading their messages.
    pub fn take_findings(&self) -> Vec<Finding> {
        take(&self.findings)
    }

    /// Opens a log, with `is_thorough` without a belief in footers. What is found goes to
    /// `findings`.
    fn open_log(
        &self,
        folder: &str,
        is_thorough: bool,
        findings: &Findings,
    ) -> Result<Option<Log>, StorageError> {
        let path = self.path.join(folder);
        let name = decode_folder(folder).flatten();
        let settings = LogSettings {
            // No segment is made.
            segment_size: 0,
            access: Access::Look { is_thorough, findings: Arc::clone(findings) },
            counters: Arc::clone(&self.counters),
            has_footer_failed: Arc::default(),
            closed: Arc::default(),
        };
        let known = findings.lock().unwrap_or_else(PoisonError::into_inner).len();
        let mut attempts = 1..ATTEMPTS;
        loop {
            let opened = self.home(folder).and_then(|(home, _kept_open)| {
                recovery::open(&Arc::new(home), name.as_deref(), &settings)
            });
            let has_vanished = opened.as_ref().is_err_and(StorageError::is_not_found);
            if has_vanished && path.exists() && attempts.next().is_some() {
                // What was found of files that are not there any more does not count.
                findings.lock().unwrap_or_else(PoisonError::into_inner).truncate(known);
                continue;
            }
            return if has_vanished && !path.exists() { Ok(None) } else { opened };
        }
    }
}
