//! Dropped queues, unlinked in the background (rule 15).
//!
//! Only segments and settings are unlinked. Where somebody else has put something beside them, the
//! folder stays with that.

use super::folder::{EntryKind, Folder};
use super::names::{is_segment, is_settings};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How long the reaper waits before it tries again what it could not unlink.
const REAP_AGAIN: Duration = Duration::from_secs(5);

/// A thread that unlinks the folders it is given.
#[derive(Debug)]
pub struct Reaper {
    sender: Mutex<mpsc::Sender<OsString>>,
}

impl Reaper {
    /// Starts it for folders in `root`.
    pub fn start(root: &Arc<Folder>) -> io::Result<Reaper> {
        let (sender, dropped) = mpsc::channel();
        let root = Arc::clone(root);
        let thread = thread::Builder::new().name("reaper".into()).stack_size(64 * 1024);
        thread.spawn(move || reap(&root, &dropped))?;
        Ok(Reaper { sender: Mutex::new(sender) })
    }

    /// Gives it the folder `tombstone`.
    pub fn take(&self, tombstone: OsString) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.send(tombstone).is_err() {
            log::warn!("dropped queues stay until the next start: the reaper has ended");
        }
    }
}

/// Unlinks what was dropped. What cannot be unlinked now, usually because there are no more open
/// files, is tried again: its space belongs to others.
fn reap(root: &Folder, dropped: &mpsc::Receiver<OsString>) {
    let mut left: HashSet<OsString> = HashSet::new();
    loop {
        let next = match left.is_empty() {
            true => dropped.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => dropped.recv_timeout(REAP_AGAIN),
        };
        match next {
            Ok(tombstone) => {
                if let Err(error) = remove(root, &tombstone) {
                    // Said once, however often it is tried.
                    log::warn!("remove {}: {error}", root.path().join(&tombstone).display());
                    left.insert(tombstone);
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                left.retain(|tombstone| remove(root, tombstone).is_err());
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Unlinks what belongs to a queue in the folder `name` of `root`, and the folder if nothing else
/// is in it.
pub fn remove(root: &Folder, name: &OsStr) -> io::Result<()> {
    let folder = match root.folder(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        folder => folder?,
    };
    let others = remove_files(&folder)?;
    if others > 0 {
        let path = folder.path().display();
        log::warn!("{path} stays: {others} of the files and folders in it are not the daemon's");
        return Ok(());
    }
    root.remove_folder(name)
}

/// Unlinks the segments and the settings in `folder`, and returns how much else is there.
fn remove_files(folder: &Folder) -> io::Result<usize> {
    let mut others = 0;
    for entry in folder.entries()? {
        let is_segment = is_segment(&entry) && entry.kind == EntryKind::File;
        match is_segment || is_settings(&entry) {
            true => folder.remove_file(&entry.name)?,
            false => others += 1,
        }
    }
    Ok(others)
}

/// Unlinks `name` in the `folder` of a queue if it is a file. Returns false, and logs that, if it
/// stays.
pub fn remove_file(folder: &Folder, name: &str) -> bool {
    let removed = try_remove_file(folder, name);
    if let Err(error) = &removed {
        let path = folder.path().join(name);
        log::warn!("{} is not needed any more and stays: {error}", path.display());
    }
    removed.is_ok()
}

/// The same without a line.
pub fn try_remove_file(folder: &Folder, name: &str) -> io::Result<()> {
    let name = OsStr::new(name);
    match folder.kind_of(name) {
        Ok(EntryKind::File) => folder.remove_file(name),
        Ok(_) => Err(io::Error::other("it is no regular file")),
        // It has gone.
        Err(_) => Ok(()),
    }
}
