//! Whose a directory is: a marker says that it is for this program, and a lock that a process has
//! it.
//!
//! 1. Nothing is made in a directory that holds somebody else's files. One is taken if it has the
//!    marker, or if all that is in it has names of this program, as in one of a version without
//!    markers, or in an empty one.
//! 2. The lock is on the directory itself. So it holds wherever that is moved to, and whatever
//!    becomes of the files in it. `LOCK` is locked beside it, for programs that look there, and for
//!    file systems that cannot lock a directory.

use super::error::StorageError;
use super::folder::{EntryKind, Folder};
use super::names::{LOCK, MARKER, QUARANTINE, decode_folder, dropped_number, is_segment};
use fs2::FileExt;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

/// What the marker says to people; only its name counts.
const MARKER_TEXT: &str =
    "The messages of mqd. See storage-format.md before you change anything.\n";
/// What a new file system has.
const LOST_AND_FOUND: &str = "lost+found";

/// A directory that belongs to this process as long as this lives.
#[derive(Debug)]
pub struct Claim {
    /// The directory.
    pub root: Arc<Folder>,
    /// The directory once more, for its lock: others may keep `root` for a moment longer.
    _directory: Folder,
    /// The lock file; there is none where nothing can be made.
    _lock: Option<File>,
}

impl Claim {
    /// Opens the directory at `path`, or makes it, and takes it.
    pub fn take(path: &Path) -> Result<Claim, StorageError> {
        make(path)?;
        let failed = |error| StorageError::io("open", path, error);
        let directory = Folder::open(path).map_err(failed)?;
        lock(directory.descriptor(), path)?;
        check(&directory)?;
        let root = directory.open_again().map_err(failed)?;
        let lock_path = path.join(LOCK);
        let lock_file = match open_or_create(&root, LOCK) {
            // What is there can be read.
            Err(error) if is_read_only(&error) => {
                root.open_file(OsStr::new(LOCK), false).ok().map(|it| it.file)
            }
            opened => {
                let (file, _) =
                    opened.map_err(|error| StorageError::io("open", &lock_path, error))?;
                mark(&root)
                    .map_err(|error| StorageError::io("create", &path.join(MARKER), error))?;
                root.sync()?;
                Some(file)
            }
        };
        if let Some(file) = &lock_file {
            lock_exclusively(file, &lock_path)?;
        }
        warn_of_others(&root);
        Ok(Claim { root: Arc::new(root), _directory: directory, _lock: lock_file })
    }
}

/// Makes the directory at `path` and those above it that are missing, durable with their names.
fn make(path: &Path) -> Result<(), StorageError> {
    let missing: Vec<&Path> = path.ancestors().take_while(|level| !level.exists()).collect();
    let Some(above) = missing.last() else { return Ok(()) };
    let failed = |error| StorageError::io("create", path, error);
    if let (Some(parent), true) = (path.parent(), missing.len() > 1) {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        // Somebody else has been faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && above.is_dir() => {}
        made => made.map_err(failed)?,
    }
    for level in missing {
        let parent = level.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let folder = Folder::open(parent);
        folder.map_err(|error| StorageError::io("open", parent, error))?.sync()?;
    }
    Ok(())
}

/// Locks the directory at `path` itself, where its file system can do that.
fn lock(directory: &File, path: &Path) -> Result<(), StorageError> {
    match lock_exclusively(directory, path) {
        Err(StorageError::Io { source, .. }) => {
            // Over NFS a lock needs write access, and nobody can write to a directory.
            log::warn!("{}: only its {LOCK} is locked: {source}", path.display());
            Ok(())
        }
        outcome => outcome,
    }
}

fn lock_exclusively(file: &File, path: &Path) -> Result<(), StorageError> {
    file.try_lock_exclusive().map_err(|error| {
        match error.raw_os_error() == fs2::lock_contended_error().raw_os_error() {
            true => StorageError::Locked { path: path.into() },
            false => StorageError::io("lock", path, error),
        }
    })
}

/// An error unless the directory is this program's, or nobody's.
pub fn check(root: &Folder) -> Result<(), StorageError> {
    let path = root.path();
    let entries = root.entries().map_err(|error| StorageError::io("list", path, error))?;
    let kind = |name: &str| entries.iter().find(|entry| entry.name == name).map(|entry| entry.kind);
    if kind(MARKER) == Some(EntryKind::File) {
        return Ok(());
    }
    let foreign = entries.iter().find(|entry| !is_own(&entry.name));
    let Some(foreign) = foreign.filter(|_| !has_segments(root)) else { return Ok(()) };
    let found = foreign.name.to_string_lossy().into_owned();
    Err(StorageError::NoDataDirectory { path: path.into(), found })
}

/// Whether only this program gives such a name in its directory.
fn is_own(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    [LOCK, QUARANTINE, LOST_AND_FOUND].contains(&name)
        || dropped_number(name).is_some()
        || decode_folder(name).is_some()
}

/// Whether the folder of some queue has a segment: an older version was here, and somebody else has
/// put a file beside.
fn has_segments(root: &Folder) -> bool {
    let entries = root.entries().unwrap_or_default();
    entries.iter().any(|entry| {
        let is_queue = entry.name.to_str().is_some_and(|name| decode_folder(name).is_some());
        let folder = is_queue.then(|| root.folder(&entry.name).ok()).flatten();
        let files = folder.and_then(|folder| folder.entries().ok()).unwrap_or_default();
        files.iter().any(is_segment)
    })
}

/// Opens a file of this program, and makes it if it is not there. Returns whether it was made.
fn open_or_create(root: &Folder, name: &str) -> io::Result<(File, bool)> {
    let name = OsStr::new(name);
    match root.create_file(name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            root.open_file(name, true).map(|it| (it.file, false))
        }
        made => made.map(|file| (file, true)),
    }
}

fn is_read_only(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ReadOnlyFilesystem
}

fn mark(root: &Folder) -> io::Result<()> {
    let (mut file, is_new) = open_or_create(root, MARKER)?;
    if is_new {
        file.write_all(MARKER_TEXT.as_bytes())?;
        file.sync_all()?;
    }
    Ok(())
}

/// Says so if other users can rename and remove what is in the directory. Its mode is not changed:
/// somebody may have wanted it so.
fn warn_of_others(root: &Folder) {
    let mode = root.descriptor().metadata().map_or(0, |metadata| metadata.mode());
    if mode & 0o022 != 0 {
        let path = root.path().display();
        log::warn!("{path} can be written to by other users (mode {:03o})", mode & 0o777);
    }
}
