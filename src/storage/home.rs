//! The folder of one queue, by its name in the data directory.
//!
//! There are more queues than descriptors, so it is opened for each use. What is there by then must
//! be the folder of before: in another one the same names mean other files. While a queue is put
//! together or made, one descriptor serves all uses.

use super::folder::{FileId, Folder};
use super::names::{SETTINGS, is_segment, is_settings};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

/// A file and where it must be.
#[derive(Debug)]
pub struct FilePlace {
    /// The path of before.
    pub path: PathBuf,
    /// The file; `None` if that is not known.
    pub id: Option<FileId>,
}

impl FilePlace {
    /// Returns an error unless the path leads to the file: the data directory, the queue's folder
    /// and the file are then all where they were.
    pub fn check(&self) -> io::Result<()> {
        let Some(id) = self.id else { return Ok(()) };
        let path = self.path.display();
        match FileId::at(&self.path) {
            Ok(there) if there == id => Ok(()),
            Ok(_) => Err(io::Error::other(format!("another file is in the place of {path}"))),
            Err(error) => Err(io::Error::other(format!("{path} is not there any more: {error}"))),
        }
    }
}

/// Where a queue's segments lie.
#[derive(Debug)]
pub struct Home {
    root: Arc<Folder>,
    name: OsString,
    path: PathBuf,
    id: FileId,
    /// The descriptor of the first opening, as long as its owner keeps it.
    first_opened: Weak<Folder>,
    /// Mappings of its segments.
    mappings: Arc<AtomicUsize>,
}

impl Home {
    /// That of the folder `name` in `root`, and the open folder: every use shares that descriptor
    /// until it is dropped.
    pub fn of(root: &Arc<Folder>, name: &OsStr) -> io::Result<(Home, Arc<Folder>)> {
        Home::over(root, root.folder(name)?, name)
    }

    /// As [`of`](Home::of), but makes the folder. An existing folder may be used if no segment is
    /// in it: another program may have left files in the folder of a queue that has gone. The
    /// settings of that queue are not those of the new one.
    pub fn create(root: &Arc<Folder>, name: &OsStr) -> io::Result<(Home, Arc<Folder>)> {
        let folder = match root.create_folder(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let folder = root.folder(name)?;
                let entries = folder.entries()?;
                if entries.iter().any(is_segment) {
                    return Err(error);
                }
                if entries.iter().any(is_settings) {
                    folder.remove_file(OsStr::new(SETTINGS))?;
                }
                folder
            }
            made => made?,
        };
        Home::over(root, folder, name)
    }

    fn over(root: &Arc<Folder>, folder: Folder, name: &OsStr) -> io::Result<(Home, Arc<Folder>)> {
        let (path, id, folder) = (root.path().join(name), folder.id()?, Arc::new(folder));
        let home = Home {
            root: Arc::clone(root),
            name: name.into(),
            path,
            id,
            first_opened: Arc::downgrade(&folder),
            mappings: Arc::default(),
        };
        Ok((home, folder))
    }

    /// Opens the folder, unless it is open still.
    pub fn open(&self) -> io::Result<Arc<Folder>> {
        if let Some(folder) = self.first_opened.upgrade() {
            return Ok(folder);
        }
        let folder = self.root.folder(&self.name)?;
        if folder.id()? != self.id {
            let what = "another folder is in its place";
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        Ok(Arc::new(folder))
    }

    /// The count of mappings of its segments.
    pub fn mappings(&self) -> &Arc<AtomicUsize> {
        &self.mappings
    }

    /// The data directory.
    pub fn root(&self) -> &Folder {
        &self.root
    }

    /// The folder's name in the data directory.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Where it was when the data directory was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_first_descriptor_serves_all_uses_and_no_other_folder_does() {
        let directory = tempfile::tempdir().unwrap();
        let root = Arc::new(Folder::open(directory.path()).unwrap());
        let (home, kept) = Home::create(&root, OsStr::new("q")).unwrap();
        assert!(Arc::ptr_eq(&home.open().unwrap(), &kept));
        fs::rename(home.path(), directory.path().join("moved")).unwrap();
        fs::create_dir(home.path()).unwrap();
        assert_eq!(home.open().unwrap().id().unwrap(), home.id);
        drop(kept);
        assert_eq!(home.open().unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::remove_dir(home.path()).unwrap();
        fs::rename(directory.path().join("moved"), home.path()).unwrap();
        assert_eq!(home.open().unwrap().id().unwrap(), home.id);
    }
}
