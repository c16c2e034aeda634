//! A copy of a whole directory beside it, before something is changed in it.

use crate::text::Size;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a file system gives at least to each file and folder, in bytes.
const BLOCK: u64 = 4096;

/// What is to be copied: paths in the directory.
#[derive(Debug, Default)]
pub struct Copying {
    directory: PathBuf,
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
    /// Bytes that the copy takes.
    pub bytes: u64,
}

impl Copying {
    /// Looks what there is to copy in `directory`.
    pub fn of(directory: &Path) -> io::Result<Copying> {
        let mut copying = Copying { directory: directory.canonicalize()?, ..Copying::default() };
        let mut waiting = vec![PathBuf::new()];
        while let Some(folder) = waiting.pop() {
            for entry in fs::read_dir(copying.directory.join(&folder))? {
                let entry = entry?;
                let (path, metadata) = (folder.join(entry.file_name()), entry.metadata()?);
                copying.bytes += metadata.len().next_multiple_of(BLOCK);
                if metadata.is_dir() {
                    waiting.push(path);
                } else if metadata.is_file() {
                    copying.files.push(path);
                } else {
                    let what = format!("{} is no file", entry.path().display());
                    return Err(io::Error::other(what));
                }
            }
            copying.folders.push(folder);
        }
        Ok(copying)
    }

    /// Makes the copy, durable with its name; adds the bytes of each file to `done`. Answers where
    /// it is. Without room for all of it nothing is made.
    pub fn make(&self, done: &AtomicU64) -> io::Result<PathBuf> {
        let parent = self.directory.parent().unwrap_or(&self.directory);
        let free = fs2::available_space(parent)?;
        if free < self.bytes {
            let (wanted, free, parent) = (Size(self.bytes), Size(free), parent.display());
            let what = format!("no room for a copy: it takes {wanted}, {parent} has {free}");
            return Err(io::Error::other(what));
        }
        let copy = self.make_folder()?;
        let copied = self.fill(&copy, done).and_then(|()| File::open(parent)?.sync_all());
        if copied.is_err() {
            // Half a copy would only be taken for a whole one.
            let _stays = fs::remove_dir_all(&copy);
        }
        copied.map(|()| copy)
    }

    /// Makes `DIR.before-repair-N` with the first N that is free.
    fn make_folder(&self) -> io::Result<PathBuf> {
        let mut number = 1_u64;
        loop {
            let mut path = self.directory.clone().into_os_string();
            path.push(format!(".before-repair-{number}"));
            match create_private(Path::new(&path)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                made => return made.map(|()| path.into()),
            }
        }
    }

    fn fill(&self, copy: &Path, done: &AtomicU64) -> io::Result<()> {
        // A folder comes after the one that it is in.
        for folder in self.folders.iter().skip(1) {
            create_private(&copy.join(folder))?;
        }
        for file in &self.files {
            let to = copy.join(file);
            let length = fs::copy(self.directory.join(file), &to)?;
            hand_over(&self.directory.join(file), &to);
            File::open(to)?.sync_all()?;
            done.fetch_add(length, Ordering::Relaxed);
        }
        for folder in &self.folders {
            hand_over(&self.directory.join(folder), &copy.join(folder));
            File::open(copy.join(folder))?.sync_all()?;
        }
        Ok(())
    }
}

/// Makes a folder for its owner alone, as the data directory is.
fn create_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Gives a copy to the owner of the original: root may have made it for a service. Nobody else may
/// do that, and then it is the owner's already or stays as it is.
fn hand_over(original: &Path, copy: &Path) {
    if let Ok(owner) = fs::metadata(original) {
        let _stays = chown(copy, Some(owner.uid()), Some(owner.gid()));
    }
}
