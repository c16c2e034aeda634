//! The data directory: one folder a queue, and what is dropped.
//!
//! - `MQD_DATA` says what the directory is, and `LOCK` is held while a daemon uses it.
//! - `q-NAME` is a queue; NAME is the queue's name with everything but letters, digits, `-` and `_`
//!   as `%XX`. A name too long for that is cut, and `~N` makes it unique: the segments' headers
//!   hold the whole name.
//! - `dropped-N` is a queue that was dropped (rule 15): it is unlinked in the background.
//! - `damaged` holds copies of damaged segments.

use super::claim::Claim;
use super::counters::{Counters, add};
use super::error::StorageError;
use super::finding::{Finding, Label};
use super::folder::{EntryKind, Folder};
use super::home::Home;
use super::log::Log;
use super::names::{CUT_MARK, decode_folder, dropped_number, folder_name};
use super::names::{may_hold, tombstone_name};
use super::reaper::{self, Reaper};
use super::recovery;
use super::settings::{Access, LogSettings};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What became of a queue's folder at the opening.
#[derive(Debug)]
pub struct OpenedQueue {
    /// The queue's name, or `None` if nothing says it.
    pub name: Option<Vec<u8>>,
    /// Its log, or why it is closed.
    pub log: Result<Log, StorageError>,
}

/// The folder of a daemon's queues.
#[derive(Debug)]
pub struct DataDirectory {
    claim: Claim,
    settings: LogSettings,
    /// Numbers of cut names and of dropped queues: unique while the daemon runs.
    last_number: AtomicU64,
    /// Tombstones of dropped queues whose names are not durably gone yet.
    dropped: Mutex<Vec<OsString>>,
    /// Folders of dropped queues, by the queues' names, that could be neither renamed nor emptied:
    /// an empty queue is in each.
    kept: Mutex<HashMap<Box<[u8]>, OsString>>,
    /// Folders whose queues have long names that nothing says; and why they are closed.
    unnamed: Mutex<Vec<(String, Arc<str>)>>,
    /// Locked for the whole of a sync of the directory: a client that finds `dropped` empty must
    /// not be answered before the sync is over that took the drops out of it. Taken before
    /// `dropped`.
    settling: Mutex<()>,
    /// Where dropped queues go to be unlinked.
    reaper: Reaper,
}

impl DataDirectory {
    /// Opens or makes the directory at `path` and locks it.
    pub fn open(
        path: &Path,
        segment_size: u64,
        strict: bool,
    ) -> Result<DataDirectory, StorageError> {
        let claim = Claim::take(path)?;
        let settings = LogSettings {
            segment_size,
            access: Access::Own { strict, root: Arc::clone(&claim.root) },
            counters: Arc::default(),
            has_footer_failed: Arc::default(),
            closed: Arc::default(),
        };
        let reaper = Reaper::start(&claim.root)
            .map_err(|error| StorageError::io("start a thread for", path, error))?;
        Ok(DataDirectory {
            claim,
            settings,
            last_number: AtomicU64::new(0),
            dropped: Mutex::default(),
            kept: Mutex::default(),
            unnamed: Mutex::default(),
            settling: Mutex::default(),
            reaper,
        })
    }

    fn root(&self) -> &Arc<Folder> {
        &self.claim.root
    }

    /// Recovers the logs of all queues; an error is that of the first one that cannot be.
    pub fn open_logs(&self) -> Result<Vec<Log>, StorageError> {
        let mut logs = Vec::new();
        self.each_queue(|_, _, log| {
            logs.extend(log?);
            Ok(())
        })?;
        let mut names = HashSet::new();
        match logs.iter().find(|log| !names.insert(log.name())) {
            Some(twice) => Err(twice.second_folder()),
            None => Ok(logs),
        }
    }

    /// Recovers the logs of all queues. One that cannot be opened is closed, and costs no other
    /// (rule 17); a strict start is refused.
    pub fn open_queues(&self) -> Result<Vec<OpenedQueue>, StorageError> {
        if self.settings.is_strict() {
            let opened = |log: Log| OpenedQueue { name: Some(log.name().into()), log: Ok(log) };
            return Ok(self.open_logs()?.into_iter().map(opened).collect());
        }
        let mut queues: Vec<OpenedQueue> = Vec::new();
        let mut places = HashMap::new();
        self.each_queue(|folder, name, log| {
            let log = log.transpose();
            let Some(log) = log else { return Ok(()) };
            let name = log.as_ref().map_or(name, |log| Some(log.name().to_vec()));
            let mut queue = OpenedQueue { name, log };
            if let Some(place) =
                queue.name.clone().and_then(|name| places.insert(name, queues.len()))
                && let Some(other) = queues.get_mut(place)
            {
                // Which of the two is the queue, nobody can tell.
                for twin in [other, &mut queue] {
                    if let Ok(log) = &twin.log {
                        twin.log = Err(log.second_folder());
                    }
                }
            }
            if let (Err(error), None) = (&queue.log, &queue.name) {
                let why = error.to_string().into();
                self.unnamed().push((folder.into(), why));
            }
            queues.push(queue);
            Ok(())
        })?;
        for queue in &queues {
            if let Err(error) = &queue.log {
                add(&self.settings.counters.closed_queues, 1);
                log::error!("a queue is closed until restart: {error}");
            }
        }
        Ok(queues)
    }

    /// Gives `take` the folder of each queue, its name as far as the folder says it, and its log.
    /// There is no log in a folder that held none.
    fn each_queue(
        &self,
        mut take: impl FnMut(
            &str,
            Option<Vec<u8>>,
            Result<Option<Log>, StorageError>,
        ) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        for folder in folders(self.root())? {
            self.keep_number(&folder);
            let name = OsStr::new(&folder);
            if dropped_number(&folder).is_some() {
                let path = self.root().path().join(name);
                self.settings.note(unexpected(path, Label::DroppedQueue, EntryKind::Folder));
                self.reaper.take(name.into());
            } else if let Some(queue) = decode_folder(&folder) {
                let log = self.open_log(name, queue.as_deref());
                take(&folder, queue, log)?;
            }
        }
        Ok(())
    }

    fn unnamed(&self) -> MutexGuard<'_, Vec<(String, Arc<str>)>> {
        self.unnamed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Recovers the log in the folder `name`. Returns `None` if there is no queue in it.
    fn open_log(&self, name: &OsStr, queue: Option<&[u8]>) -> Result<Option<Log>, StorageError> {
        let path = || self.root().path().join(name);
        let (home, _kept_open) = Home::of(self.root(), name)
            .map_err(|error| StorageError::io("open", &path(), error))?;
        let log = recovery::open(&Arc::new(home), queue, &self.settings)?;
        let Some(mut log) = log else {
            if let Err(error) = reaper::remove(self.root(), name) {
                log::warn!("remove {}: {error}", path().display());
            }
            return Ok(None);
        };
        log.rest();
        Ok(Some(log))
    }

    /// Numbers in use are not given again.
    fn keep_number(&self, folder: &str) {
        let cut = folder.rsplit_once(CUT_MARK).and_then(|(_, digits)| digits.parse().ok());
        if let Some(number) = dropped_number(folder).or(cut) {
            self.last_number.fetch_max(number, Ordering::Relaxed);
        }
    }

    fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Makes the log of a new queue.
    pub fn create_log(&self, name: &[u8]) -> Result<Log, StorageError> {
        self.settings.check_writable()?;
        if let Some(log) = self.reopen_kept(name)? {
            return Ok(log);
        }
        let mut folder = folder_name(name);
        if folder.ends_with(CUT_MARK) {
            if let Some((other, why)) =
                self.unnamed().iter().find(|(other, _)| may_hold(other, name))
            {
                // It may hold this very queue.
                let (path, why) = (self.root().path().join(other), Arc::clone(why));
                return Err(StorageError::Closed { path, why });
            }
            folder.push_str(&self.next_number().to_string());
        }
        let created = Log::create(self.root(), OsStr::new(&folder), name, &self.settings);
        created.inspect_err(|error| {
            if matches!(error, StorageError::Sync { path, .. } if path == self.root().path()) {
                self.poison(error);
            }
        })
    }

    /// Recovers the log that the drop of queue `name` has left. Returns `None` if there is none.
    fn reopen_kept(&self, name: &[u8]) -> Result<Option<Log>, StorageError> {
        let Some(folder) = self.kept().get(name).cloned() else { return Ok(None) };
        let queue = folder.to_str().and_then(decode_folder).flatten();
        let log = self.open_log(&folder, queue.as_deref())?;
        if log.as_ref().is_some_and(|log| !log.is_empty()) {
            let path = self.root().path().join(&folder);
            return Err(StorageError::io("create", &path, io::ErrorKind::AlreadyExists.into()));
        }
        self.kept().remove(name);
        Ok(log)
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, OsString>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sync of the directory has failed: the next one would say nothing of what this one was for.
    fn poison(&self, why: &dyn fmt::Display) {
        if self.settings.close(self.root().path(), why) {
            add(&self.settings.counters.failed_syncs, 1);
            log::error!("all queues are closed for writing until restart: {why}");
        }
    }

    /// Looks whether the directory is where a start would find it. When it has been moved, replaced
    /// or removed, all queues are closed for writing (rule 18).
    pub fn watch(&self) {
        if self.settings.check_writable().is_ok()
            && let Err(error) = self.root().check_place()
        {
            self.poison(&format_args!("{}: {error}", self.root().path().display()));
        }
    }

    /// Drops a queue with everything in it: durably gone when this answers, unlinked in the
    /// background.
    pub fn drop_log(&self, log: &mut Log) -> Result<(), StorageError> {
        self.begin_drop(log)?;
        self.settle_drops()
    }

    /// Takes a queue's name away; durably gone after [`settle_drops`](Self::settle_drops). A folder
    /// that cannot be renamed, on a mount of its own or in the lower layer of an overlay, stays and
    /// is emptied: its messages are durably gone when this answers. What cannot be unlinked there
    /// stays with a cursor that says so, and the next queue of the name goes on behind it.
    pub fn begin_drop(&self, log: &mut Log) -> Result<(), StorageError> {
        match self.drop_folder(log.folder()) {
            Err(StorageError::Io { source, .. }) if is_immovable(&source) => self.empty(log),
            dropped => dropped,
        }
    }

    /// Empties the folder of a queue that is dropped.
    pub(super) fn empty(&self, log: &mut Log) -> Result<(), StorageError> {
        if !log.clear()? {
            self.kept().insert(log.name().into(), log.folder().into());
        }
        Ok(())
    }

    /// Makes all drops so far durable: one sync for any number of them.
    pub fn settle_drops(&self) -> Result<(), StorageError> {
        let _one_at_a_time = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = || self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        let count = dropped().len();
        if count > 0 {
            self.settings.check_writable()?;
            self.root().sync().inspect_err(|error| self.poison(error))?;
        }
        // Those that came meanwhile are not durable: they stand behind the others.
        dropped().drain(..count).for_each(|tombstone| self.reaper.take(tombstone));
        Ok(())
    }

    /// An error after a failed sync of the directory (rule 9).
    pub fn check_writable(&self) -> Result<(), StorageError> {
        self.settings.check_writable()
    }

    /// Forgets the drops that a failed sync has left in doubt; their files stay until the next
    /// start.
    pub fn give_up_drops(&self) {
        let _one_at_a_time = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn drop_folder(&self, folder: &OsStr) -> Result<(), StorageError> {
        self.settings.check_writable()?;
        let tombstone = loop {
            let tombstone = OsString::from(tombstone_name(self.next_number()));
            match self.root().rename(folder, &tombstone) {
                Ok(()) => break tombstone,
                // Another program has made a file of that name.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let path = self.root().path().join(folder);
                    return Err(StorageError::io("drop", &path, error));
                }
            }
        };
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).push(tombstone);
        Ok(())
    }

    /// Counters of what was found and done.
    pub fn counters(&self) -> &Counters {
        &self.settings.counters
    }
}

/// Whether a rename has failed because of where the folder lies.
fn is_immovable(error: &io::Error) -> bool {
    [io::ErrorKind::CrossesDevices, io::ErrorKind::ResourceBusy].contains(&error.kind())
}

/// The folders in a data directory, sorted, and what else has the name of a queue's.
pub(super) fn folders(root: &Folder) -> Result<Vec<String>, StorageError> {
    let entries = root.entries().map_err(|error| StorageError::io("list", root.path(), error))?;
    let names = entries.into_iter().filter_map(|entry| {
        let is_way = matches!(entry.kind, EntryKind::Folder | EntryKind::Link);
        entry.name.into_string().ok().filter(|_| is_way)
    });
    Ok(names.collect())
}

/// There is something at `path` that is not expected there.
pub(super) fn unexpected(path: PathBuf, label: Label, kind: EntryKind) -> Finding {
    let found = match kind {
        EntryKind::Folder => "a folder",
        EntryKind::File => "a file",
        EntryKind::Link => "a symbolic link",
        EntryKind::Other => "a special file",
    };
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
