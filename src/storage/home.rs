//! The folder of one queue, by its name in the data directory.
//!
//! There are more queues than descriptors, so it is opened for each use. What is there by then must
//! be the folder of before: in another one the same names mean other files.

use super::folder::{FileId, Folder};
use super::names::{SETTINGS, is_segment, is_settings};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// A file and where it must be.
#[derive(Debug)]
pub struct FilePlace {
    /// The path of before.
    pub path: PathBuf,
    /// The file; `None` if that is not known.
    pub id: Option<FileId>,
}

impl FilePlace {
    /// An error unless the path leads to the file, as whoever starts here would go: the data
    /// directory, the queue's folder and the file are then all where they were.
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
    /// Mappings of its segments.
    mappings: Arc<AtomicUsize>,
}

impl Home {
    /// That of the folder `name` in `root`.
    pub fn of(root: &Arc<Folder>, name: &OsStr) -> io::Result<Home> {
        Home::over(root, &root.folder(name)?, name)
    }

    /// Makes the folder `name` in `root`, and opens it. One that is there may be used if no segment
    /// is in it: somebody else may have left something in the folder of a queue that has gone. The
    /// settings of that queue are not those of the new one.
    pub fn create(root: &Arc<Folder>, name: &OsStr) -> io::Result<(Home, Folder)> {
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
        Ok((Home::over(root, &folder, name)?, folder))
    }

    fn over(root: &Arc<Folder>, folder: &Folder, name: &OsStr) -> io::Result<Home> {
        let (path, id) = (root.path().join(name), folder.id()?);
        Ok(Home { root: Arc::clone(root), name: name.into(), path, id, mappings: Arc::default() })
    }

    /// Opens the folder.
    pub fn open(&self) -> io::Result<Folder> {
        let folder = self.root.folder(&self.name)?;
        if folder.id()? != self.id {
            let what = "another folder is in its place";
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        Ok(folder)
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
