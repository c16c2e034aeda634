//! Looking into a data directory, also a damaged one, and also while a daemon uses it.
//!
//! Files are opened for reading only. Nothing is written, made, renamed, removed or synced.
//! Recovery decides what lives, as for the daemon, without its steps that write.
//!
//! Beside a daemon the files change while they are read. What is shown of a queue was so at some
//! time during its opening; when a file vanishes before it is mapped, the queue is opened anew.

use super::counters::Counters;
use super::directory::{LOCK, decode_folder, folders, may_hold};
use super::error::StorageError;
use super::log::{Log, LogSettings};
use super::message::Message;
use super::recovery;
use super::segment::Segment;
use fs2::FileExt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often a queue whose files vanish is tried.
const ATTEMPTS: usize = 100;

/// A look into a data directory.
#[derive(Debug)]
pub struct Inspection {
    path: PathBuf,
    settings: LogSettings,
}

/// A queue as it was found.
#[derive(Debug)]
pub struct InspectedQueue {
    log: Log,
}

impl Inspection {
    /// A look into the directory at `path`.
    pub fn new(path: &Path) -> Inspection {
        let settings = LogSettings {
            // No segment is made.
            segment_size: 0,
            strict: false,
            quarantine: None,
            counters: Arc::new(Counters::default()),
        };
        Inspection { path: path.into(), settings }
    }

    /// True when a daemon uses the directory. A lock cannot be asked, only tried: for that moment a
    /// daemon that starts finds it held.
    pub fn is_in_use(&self) -> bool {
        let contended = fs2::lock_contended_error().raw_os_error();
        File::open(self.path.join(LOCK))
            .and_then(|file| FileExt::try_lock_shared(&file))
            .is_err_and(|error| error.raw_os_error() == contended)
    }

    /// The folders of queues, sorted; with `name`, those that may be this queue's.
    pub fn folders(&self, name: Option<&[u8]>) -> Result<Vec<String>, StorageError> {
        let mut folders = folders(&self.path)?;
        folders.retain(|folder| match name {
            Some(name) => may_hold(folder, name),
            None => decode_folder(folder).is_some(),
        });
        Ok(folders)
    }

    /// Opens the queue in `folder`. None: there is none, or it has gone.
    pub fn open(&self, folder: &str) -> Result<Option<InspectedQueue>, StorageError> {
        let path = self.path.join(folder);
        let name = decode_folder(folder).flatten();
        let mut attempts = 1..ATTEMPTS;
        loop {
            match recovery::open(&path, name.as_deref(), &self.settings) {
                Err(error) if has_vanished(&error) && !path.exists() => return Ok(None),
                Err(error) if has_vanished(&error) && attempts.next().is_some() => {}
                other => return Ok(other?.map(|log| InspectedQueue { log })),
            }
        }
    }

    /// Places where damage was found so far; log lines have named them.
    pub fn damage_count(&self) -> u64 {
        self.settings.counters.damaged.load(Ordering::Relaxed)
    }
}

fn has_vanished(error: &StorageError) -> bool {
    matches!(error, StorageError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

impl InspectedQueue {
    /// The queue's name.
    pub fn name(&self) -> &[u8] {
        self.log.name()
    }

    /// Messages.
    pub fn message_count(&self) -> u64 {
        self.log.len()
    }

    /// Bytes of the records of messages.
    pub fn live_bytes(&self) -> u64 {
        self.log.live_bytes()
    }

    /// Segments that count.
    pub fn segment_count(&self) -> usize {
        self.log.segments().count()
    }

    /// Bytes of the files of these segments, also of one that has gone since it was opened.
    pub fn disk_bytes(&self) -> u64 {
        let length = |segment: &Segment| {
            fs::metadata(&segment.path).map_or(segment.size, |metadata| metadata.len())
        };
        self.log.segments().map(length).sum()
    }

    /// The oldest message whose number is `from` or more.
    pub fn next(&mut self, from: u64) -> Result<Option<Message<'_>>, StorageError> {
        Ok(self.log.next(from)?.map(|(_, message)| message))
    }
}
