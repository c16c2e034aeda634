//! The data directory: one folder a queue, the lock, and what is dropped.
//!
//! - `LOCK` is held while a daemon uses the directory.
//! - `q-NAME` is a queue; NAME is the queue's name with everything but letters, digits, `-` and `_`
//!   as `%XX`. A name too long for that is cut, and `~N` makes it unique: the segments' headers
//!   hold the whole name.
//! - `dropped-N` is a queue that was dropped (rule 15): it is unlinked in the background.
//! - `damaged` holds copies of damaged segments.

use super::counters::{Counters, add};
use super::error::StorageError;
use super::finding::{Finding, Label};
use super::log::Log;
use super::recovery;
use super::segment::{create_durably, sync_open_directory};
use super::settings::{Access, LogSettings};
use fs2::FileExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The name of the lock file.
pub(super) const LOCK: &str = "LOCK";
/// The name of the folder of copies.
pub(super) const QUARANTINE: &str = "damaged";
const QUEUE_PREFIX: &str = "q-";
pub(super) const DROPPED_PREFIX: &str = "dropped-";
/// Separates a cut name from the number that makes it unique; no encoded name contains it.
const CUT_MARK: char = '~';
/// The longest encoded name that is not cut, in bytes; file systems allow 255 with the prefix.
const ENCODED_MAX: usize = 200;
/// How long the reaper waits before it tries again what it could not unlink.
const REAP_AGAIN: Duration = Duration::from_secs(5);
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The folder of a daemon's queues.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    settings: LogSettings,
    /// Numbers of cut names and of dropped queues: unique while the daemon runs.
    last_number: AtomicU64,
    /// Tombstones of dropped queues whose names are not durably gone yet.
    dropped: Mutex<Vec<PathBuf>>,
    /// Where dropped queues go to be unlinked.
    reaper: Mutex<mpsc::Sender<PathBuf>>,
    /// The directory itself, open for its syncs: that there is no descriptor is no failed sync.
    folder: File,
    /// Locked while it is open.
    _lock: File,
}

/// The encoding of a queue's name in its folder's name.
pub fn encode_name(name: &[u8]) -> String {
    percent_encode(name, PLAIN).to_string()
}

/// The name of a queue's folder; where it ends in [`CUT_MARK`], a number makes it unique.
fn folder_name(name: &[u8]) -> String {
    let mut folder = format!("{QUEUE_PREFIX}{}", encode_name(name));
    if folder.len() > ENCODED_MAX {
        folder.truncate(ENCODED_MAX);
        folder.push(CUT_MARK);
    }
    folder
}

/// Whether `folder` may be that of queue `name`; the headers in it tell it for certain.
pub(super) fn may_hold(folder: &str, name: &[u8]) -> bool {
    let stem = folder_name(name);
    folder == stem || (stem.ends_with(CUT_MARK) && folder.starts_with(&stem))
}

/// What is in a folder, sorted by name; true for a folder.
pub(super) fn entries(path: &Path) -> Result<Vec<(OsString, bool)>, StorageError> {
    let list = || -> io::Result<Vec<(OsString, bool)>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            entries.push((entry.file_name(), entry.file_type()?.is_dir()));
        }
        entries.sort_unstable();
        Ok(entries)
    };
    list().map_err(|error| StorageError::io("list", path, error))
}

/// The folders in a data directory, sorted.
pub(super) fn folders(path: &Path) -> Result<Vec<String>, StorageError> {
    let folders = entries(path)?.into_iter().filter(|(_, is_folder)| *is_folder);
    Ok(folders.filter_map(|(name, _)| name.into_string().ok()).collect())
}

/// The queue's name in its folder's name. None: this is no queue's folder. Some(None): the name was
/// cut.
pub fn decode_folder(folder: &str) -> Option<Option<Vec<u8>>> {
    let encoded = folder.strip_prefix(QUEUE_PREFIX)?;
    if encoded.contains(CUT_MARK) {
        return Some(None);
    }
    let name: Vec<u8> = percent_decode_str(encoded).collect();
    // Only what this program writes is a queue's folder.
    (encode_name(&name) == encoded).then_some(Some(name))
}

impl DataDirectory {
    /// Opens or makes the directory at `path` and locks it.
    pub fn open(
        path: &Path,
        segment_size: u64,
        strict: bool,
    ) -> Result<DataDirectory, StorageError> {
        create_durably(path)?;
        let lock_path = path.join(LOCK);
        let mut options = fs::OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).open(&lock_path);
        let lock = opened.map_err(|error| StorageError::io("open", &lock_path, error))?;
        lock.try_lock_exclusive().map_err(|error| {
            if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() {
                return StorageError::Locked { path: lock_path.clone() };
            }
            StorageError::io("lock", &lock_path, error)
        })?;
        let folder = File::open(path).map_err(|error| StorageError::io("open", path, error))?;
        sync_open_directory(&folder, path)?;
        let settings = LogSettings {
            segment_size,
            access: Access::Own { strict, quarantine: path.join(QUARANTINE) },
            counters: Arc::default(),
            poisoned: Arc::default(),
        };
        let (sender, dropped) = mpsc::channel();
        let reaper = thread::Builder::new().name("reaper".into()).stack_size(64 * 1024);
        let spawned = reaper.spawn(move || reap(&dropped));
        spawned.map_err(|error| StorageError::io("start a thread for", path, error))?;
        Ok(DataDirectory {
            path: path.into(),
            settings,
            last_number: AtomicU64::new(0),
            dropped: Mutex::default(),
            reaper: Mutex::new(sender),
            folder,
            _lock: lock,
        })
    }

    /// Recovers the logs of all queues.
    pub fn open_logs(&self) -> Result<Vec<Log>, StorageError> {
        let mut logs = Vec::new();
        for folder in folders(&self.path)? {
            let path = self.path.join(&folder);
            self.keep_number(&folder);
            if folder.starts_with(DROPPED_PREFIX) {
                self.settings.note(unexpected(path.clone(), Label::DroppedQueue, true));
                self.hand_to_reaper(path);
                continue;
            }
            let Some(name) = decode_folder(&folder) else {
                continue;
            };
            match recovery::open(&path, name.as_deref(), &self.settings)? {
                Some(mut log) => {
                    log.rest();
                    logs.push(log);
                }
                None => self.drop_folder(&path)?,
            }
        }
        self.settle_drops()?;
        let mut names = HashSet::new();
        if let Some(twice) = logs.iter().find(|log| !names.insert(log.name())) {
            self.settings.decide(second_folder(twice.directory(), twice.name()))?;
        }
        Ok(logs)
    }

    /// Numbers in use are not given again.
    fn keep_number(&self, folder: &str) {
        let cut = folder.rsplit_once(CUT_MARK).map(|(_, digits)| digits);
        let digits = folder.strip_prefix(DROPPED_PREFIX).or(cut);
        if let Some(Ok(number)) = digits.map(str::parse) {
            self.last_number.fetch_max(number, Ordering::Relaxed);
        }
    }

    fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Makes the log of a new queue.
    pub fn create_log(&self, name: &[u8]) -> Result<Log, StorageError> {
        self.settings.check_writable()?;
        let mut folder = folder_name(name);
        if folder.ends_with(CUT_MARK) {
            folder.push_str(&self.next_number().to_string());
        }
        Log::create(&self.path.join(folder), name, &self.settings).inspect_err(|error| {
            if matches!(error, StorageError::Sync { path, .. } if *path == self.path) {
                self.poison(error);
            }
        })
    }

    /// A sync of the directory has failed: the next one would say nothing of what this one was for.
    fn poison(&self, error: &StorageError) {
        log::error!("{error}; all queues are closed for writing until restart");
        add(&self.settings.counters.failed_syncs, 1);
        let _is_first = self.settings.poisoned.set(self.path.clone());
    }

    /// Drops a queue with everything in it: durably gone when this answers, unlinked in the
    /// background.
    pub fn drop_log(&self, log: &Log) -> Result<(), StorageError> {
        self.begin_drop(log)?;
        self.settle_drops()
    }

    /// Takes a queue's name away; durably gone after [`settle_drops`](Self::settle_drops).
    pub fn begin_drop(&self, log: &Log) -> Result<(), StorageError> {
        self.drop_folder(log.directory())
    }

    /// Makes all drops so far durable: one sync for any number of them.
    pub fn settle_drops(&self) -> Result<(), StorageError> {
        // Held over the sync: whoever finds the list empty must not answer before it is done.
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        if !dropped.is_empty() {
            self.settings.check_writable()?;
            sync_open_directory(&self.folder, &self.path)
                .inspect_err(|error| self.poison(error))?;
        }
        dropped.drain(..).for_each(|tombstone| self.hand_to_reaper(tombstone));
        Ok(())
    }

    /// An error after a failed sync of the directory (rule 9).
    pub fn check_writable(&self) -> Result<(), StorageError> {
        self.settings.check_writable()
    }

    /// Forgets the drops that a failed sync has left in doubt; their files stay until the next
    /// start.
    pub fn give_up_drops(&self) {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn drop_folder(&self, folder: &Path) -> Result<(), StorageError> {
        let tombstone = self.path.join(format!("{DROPPED_PREFIX}{}", self.next_number()));
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        self.settings.check_writable()?;
        let renamed = fs::rename(folder, &tombstone);
        renamed.map_err(|error| StorageError::io("drop", folder, error))?;
        dropped.push(tombstone);
        Ok(())
    }

    fn hand_to_reaper(&self, tombstone: PathBuf) {
        let reaper = self.reaper.lock().unwrap_or_else(PoisonError::into_inner);
        if reaper.send(tombstone).is_err() {
            log::warn!("dropped queues stay until the next start: the reaper has ended");
        }
    }

    /// Counters of what was found and done.
    pub fn counters(&self) -> &Counters {
        &self.settings.counters
    }
}

/// There is a file, or a folder, at `path`.
pub(super) fn unexpected(path: PathBuf, label: Label, is_folder: bool) -> Finding {
    let found = if is_folder { "a folder" } else { "a file" };
    Finding { file: path, offset: 0, label, expected: "nothing".into(), found: found.into() }
}

/// Queue `name` has a folder beside the one at `path`.
pub(super) fn second_folder(path: &Path, name: &[u8]) -> Finding {
    Finding {
        file: path.into(),
        offset: 0,
        label: Label::ForeignSegment,
        expected: format!("one folder of queue {:?}", name.escape_ascii().to_string()),
        found: "another".into(),
    }
}

/// Unlinks what was dropped. What cannot be unlinked now, most often because there are no more open
/// files, is tried again: its space belongs to others.
fn reap(dropped: &mpsc::Receiver<PathBuf>) {
    let mut left: Vec<PathBuf> = Vec::new();
    loop {
        let next = match left.is_empty() {
            true => dropped.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => dropped.recv_timeout(REAP_AGAIN),
        };
        match next {
            Ok(tombstone) => left.extend((!is_removed(&tombstone)).then_some(tombstone)),
            Err(RecvTimeoutError::Timeout) => left.retain(|tombstone| !is_removed(tombstone)),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Unlinks a folder with what is in it; false: not now.
fn is_removed(folder: &Path) -> bool {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!("remove {}: {error}", folder.display());
            false
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_and_none_leaves_the_directory() {
        let long = [0xff; 60];
        let names: [&[u8]; 8] =
            [b"jobs", b"", b"..", b"../x", b"a/b", b"%2e~", "\u{fc}\n\0".as_bytes(), &long];
        for name in names {
            let folder = format!("{QUEUE_PREFIX}{}", encode_name(name));
            assert!(!folder.contains(['/', '.', CUT_MARK, '\0']), "{folder}");
            assert_eq!(decode_folder(&folder), Some(Some(name.to_vec())));
        }
    }

    #[test]
    fn what_is_no_queue_is_not_taken_for_one() {
        for folder in ["LOCK", "damaged", "dropped-1", "q-%zz", "q-a.b", "q-%61"] {
            assert_eq!(decode_folder(folder), None, "{folder}");
        }
        assert_eq!(decode_folder("q-abc~7"), Some(None));
    }
}
