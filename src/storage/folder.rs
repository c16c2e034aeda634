//! Folders that are reached through their descriptors, and what is in them.
//!
//! 1. A name is looked up in a folder that is held open, so nobody moves it to another place
//!    meanwhile, and a symbolic link is never followed.
//! 2. Only a regular file is opened: a pipe would wait for a writer, and a device may do anything.
//! 3. A file is made under a name that is free. Nothing is overwritten.
//! 4. What is made is for the owner of the folder alone: folders have mode 0700 and files 0600, and
//!    both belong to whom the folder belongs to.

use super::error::StorageError;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Stat, fchown, fstat, mkdirat, openat,
    renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// That of an open file.
    pub fn of(file: &File) -> io::Result<FileId> {
        Ok(FileId::from(fstat(file)?))
    }

    /// That of the file at `path`; a symbolic link at its end is not followed.
    pub fn at(path: &Path) -> io::Result<FileId> {
        Ok(FileId::from(statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?))
    }
}

impl From<Stat> for FileId {
    fn from(stat: Stat) -> FileId {
        FileId { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// A regular file that is open, and what it was when it was opened.
#[derive(Debug)]
pub struct OpenFile {
    /// The file.
    pub file: File,
    /// Which one it is.
    pub id: FileId,
    /// Its length in bytes.
    pub length: u64,
}

/// Something in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// What it is.
    pub kind: EntryKind,
}

/// What is under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A pipe, a socket, a device.
    Other,
}

impl From<FileType> for EntryKind {
    fn from(file_type: FileType) -> EntryKind {
        match file_type {
            FileType::Directory => EntryKind::Folder,
            FileType::RegularFile => EntryKind::File,
            FileType::Symlink => EntryKind::Link,
            _ => EntryKind::Other,
        }
    }
}

#[cfg(test)]
thread_local! {
    static UNLINKING_FAILS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// For tests: this thread cannot unlink files any more, or can again.
#[cfg(test)]
pub fn set_unlinking_fails(fails: bool) {
    UNLINKING_FAILS.set(fails);
}

/// A folder that is open.
#[derive(Debug)]
pub struct Folder {
    descriptor: File,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder at `path`, which may lead through symbolic links.
    pub fn open(path: &Path) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = openat(CWD, path, flags, Mode::empty())?;
        Ok(Folder { descriptor: descriptor.into(), path: path.into() })
    }

    /// Opens the same folder once more: locks of the two are two.
    pub fn open_again(&self) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = openat(&self.descriptor, ".", flags, Mode::empty())?;
        Ok(Folder { descriptor: descriptor.into(), path: self.path.clone() })
    }

    /// Opens the folder `name` in this one.
    pub fn folder(&self, name: &OsStr) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(&self.descriptor, name, flags, Mode::empty());
        let descriptor = opened.map_err(|errno| match (errno, self.kind_of(name)) {
            (Errno::NOTDIR | Errno::LOOP, Ok(EntryKind::Link)) => is_a_link(),
            _ => errno.into(),
        })?;
        Ok(Folder { descriptor: descriptor.into(), path: self.path.join(name) })
    }

    /// Where it was when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor, for locks.
    pub fn descriptor(&self) -> &File {
        &self.descriptor
    }

    /// Which folder it is.
    pub fn id(&self) -> io::Result<FileId> {
        FileId::of(&self.descriptor)
    }

    /// An error unless its path leads to it still.
    pub fn check_place(&self) -> io::Result<()> {
        let there = statat(CWD, &self.path, AtFlags::empty());
        match there {
            Ok(there) if FileId::from(there) == self.id()? => Ok(()),
            Ok(_) => Err(io::Error::other("another directory is in its place")),
            Err(errno) => Err(io::Error::other(format!("it is not there any more: {errno}"))),
        }
    }

    /// What is under `name`.
    pub fn kind_of(&self, name: &OsStr) -> io::Result<EntryKind> {
        let stat = statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(FileType::from_raw_mode(stat.st_mode).into())
    }

    /// Opens the regular file `name`, to be written to as well where `is_written`.
    pub fn open_file(&self, name: &OsStr, is_written: bool) -> io::Result<OpenFile> {
        let access = if is_written { OFlags::RDWR } else { OFlags::RDONLY };
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = openat(&self.descriptor, name, flags, Mode::empty());
        let followed = |errno: Errno| if errno == Errno::LOOP { is_a_link() } else { errno.into() };
        regular(opened.map_err(followed)?.into())
    }

    /// Makes the file `name`, which is not there yet, and opens it for reading and writing.
    pub fn create_file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.descriptor, name, flags, Mode::from(0o600))?.into();
        self.hand_over(&file)?;
        Ok(file)
    }

    /// Makes the folder `name`, which is not there yet, and opens it.
    pub fn create_folder(&self, name: &OsStr) -> io::Result<Folder> {
        mkdirat(&self.descriptor, name, Mode::from(0o700))?;
        let opened = self.folder(name).and_then(|folder| {
            self.hand_over(&folder.descriptor)?;
            Ok(folder)
        });
        opened.inspect_err(|_| {
            // Most often there are no more descriptors.
            let _stays = self.remove_folder(name);
        })
    }

    /// Gives what was made here to the owner of this folder: root may have made it for a service.
    fn hand_over(&self, file: &File) -> io::Result<()> {
        if !geteuid().is_root() {
            return Ok(());
        }
        let (own, made) = (fstat(&self.descriptor)?, fstat(file)?);
        if (own.st_uid, own.st_gid) == (made.st_uid, made.st_gid) {
            return Ok(());
        }
        let (user, group) =
            (rustix::fs::Uid::from_raw(own.st_uid), rustix::fs::Gid::from_raw(own.st_gid));
        Ok(fchown(file, Some(user), Some(group))?)
    }

    /// Unlinks the file `name`; it is no error when there is none.
    pub fn remove_file(&self, name: &OsStr) -> io::Result<()> {
        #[cfg(test)]
        if UNLINKING_FAILS.get() {
            return Err(Errno::PERM.into());
        }
        match unlinkat(&self.descriptor, name, AtFlags::empty()) {
            Err(errno) if errno != Errno::NOENT => Err(errno.into()),
            _ => Ok(()),
        }
    }

    /// Removes the folder `name`, in which nothing may be.
    pub fn remove_folder(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.descriptor, name, AtFlags::REMOVEDIR)?)
    }

    /// Renames what is in this folder to a name that is free.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let folder = &self.descriptor;
        match renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
            // The file system does not know of that.
            Err(Errno::INVAL | Errno::NOSYS) => self.rename_after_a_look(from, to),
            renamed => Ok(renamed?),
        }
    }

    /// Renames as [`rename`](Folder::rename) does, but looks for `to` first: between the look and
    /// the rename another program may take the name.
    fn rename_after_a_look(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        match self.kind_of(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(renameat(&self.descriptor, from, &self.descriptor, to)?)
            }
            Err(error) => Err(error),
        }
    }

    /// What is in it, sorted by name.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.descriptor)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match self.kind_of(name) {
                    // It has gone since.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    kind => kind?,
                },
                known => known.into(),
            };
            entries.push(Entry { name: name.into(), kind });
        }
        entries.sort_unstable();
        Ok(entries)
    }

    /// Makes creations, renames and removals in it durable.
    pub fn sync(&self) -> Result<(), StorageError> {
        self.descriptor.sync_all().map_err(|error| StorageError::sync(&self.path, error))
    }
}

/// Opens the regular file at `path` for reading, also through symbolic links.
pub fn open_regular(path: &Path) -> io::Result<OpenFile> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    regular(openat(CWD, path, flags, Mode::empty())?.into())
}

/// `file`, if it is a regular one.
fn regular(file: File) -> io::Result<OpenFile> {
    let stat = fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            Ok(OpenFile { file, id: stat.into(), length: stat.st_size.unsigned_abs() })
        }
        _ => Err(io::Error::other("it is no regular file")),
    }
}

fn is_a_link() -> io::Error {
    io::Error::other("it is a symbolic link, and none is followed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    #[test]
    fn no_link_is_followed_and_no_pipe_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        fs::write(root.path().join("file"), "text").unwrap();
        fs::create_dir(root.path().join("folder")).unwrap();
        symlink("file", root.path().join("link")).unwrap();
        symlink("folder", root.path().join("way")).unwrap();
        let pipe = root.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        assert!(folder.open_file(name("file"), true).is_ok());
        assert!(folder.folder(name("folder")).is_ok());
        for is_written in [false, true] {
            for wrong in ["link", "pipe", "folder"] {
                assert!(folder.open_file(name(wrong), is_written).is_err(), "{wrong}");
            }
        }
        let error = folder.folder(name("way")).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        assert!(folder.create_file(name("link")).is_err());
        let kinds: Vec<_> = folder.entries().unwrap().into_iter().map(|entry| entry.kind).collect();
        use EntryKind::{File as Plain, Folder as Sub, Link, Other};
        assert_eq!(kinds, [Plain, Sub, Link, Other, Link]);
    }

    /// With what the system offers for that, and where the file system does not know of it.
    #[test]
    fn a_rename_takes_no_name_from_anything() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        type Rename = fn(&Folder, &OsStr, &OsStr) -> io::Result<()>;
        for rename in [Folder::rename as Rename, Folder::rename_after_a_look] {
            folder.create_folder(name("queue")).unwrap();
            fs::create_dir(root.path().join("empty")).unwrap();
            symlink("nowhere", root.path().join("link")).unwrap();
            for taken in ["empty", "link"] {
                let kind = rename(&folder, name("queue"), name(taken)).map_err(|it| it.kind());
                assert_eq!(kind, Err(io::ErrorKind::AlreadyExists), "{taken}");
            }
            let kind = rename(&folder, name("none"), name("free")).map_err(|it| it.kind());
            assert_eq!(kind, Err(io::ErrorKind::NotFound));
            rename(&folder, name("queue"), name("free")).unwrap();
            let names: Vec<_> = folder.entries().unwrap().into_iter().map(|it| it.name).collect();
            assert_eq!(names, ["empty", "free", "link"]);
            fs::remove_file(root.path().join("link")).unwrap();
            fs::remove_dir(root.path().join("empty")).unwrap();
            fs::remove_dir(root.path().join("free")).unwrap();
        }
    }

    #[test]
    fn what_is_made_is_for_its_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let file = folder.create_file(name("file")).unwrap();
        let made = folder.create_folder(name("folder")).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(made.descriptor.metadata().unwrap().mode() & 0o777, 0o700);
    }
}
