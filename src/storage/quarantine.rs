//! Copies of damaged segments, set aside before anything is written over them.
//!
//! They are for people, and a medium that goes on rotting must not fill itself with them: there is
//! a limit to their number and to their bytes.

use super::folder::{Entry, Folder};
use super::layout::SECTOR;
use super::names::QUARANTINE;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

/// The most copies.
const COPIES_MAX: usize = 256;
/// The most bytes of all of them: segments of the usual size leave room for a dozen.
const BYTES_MAX: u64 = 1 << 30;

/// Copies the segment file at `path`, of a queue in `root`, into the folder of copies, once, if it
/// is there. Where that fails, on a full disk for one, or there are too many, a log line says so
/// and the daemon goes on.
pub fn set_aside(root: &Folder, path: &Path) {
    let (Some(folder), Some(name)) = (path.parent().and_then(Path::file_name), path.file_name())
    else {
        return;
    };
    let Ok(mut from) = root.folder(folder).and_then(|folder| folder.open_file(name, false)) else {
        return;
    };
    match copy(root, folder, name, &mut from.file) {
        Ok(Some(copy)) => {
            let copy = root.path().join(QUARANTINE).join(copy);
            log::warn!("a copy of {} is in {}", path.display(), copy.display());
        }
        Ok(None) => log::debug!("there is a copy of {} already", path.display()),
        Err(error) => log::error!("no copy of {}: {error}", path.display()),
    }
}

/// Makes the copy and answers its name. Returns `None` if there is one already.
fn copy(
    root: &Folder,
    folder: &OsStr,
    name: &OsStr,
    from: &mut File,
) -> io::Result<Option<OsString>> {
    let quarantine = match root.create_folder(OsStr::new(QUARANTINE)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            root.folder(OsStr::new(QUARANTINE))?
        }
        made => made.inspect(|_| drop(root.sync()))?,
    };
    let entries = quarantine.entries()?;
    let Some(target) = free_name(&quarantine, &entries, folder, name, from)? else {
        return Ok(None);
    };
    let (count, bytes) = (entries.len(), taken(&quarantine, &entries));
    let wanted = from.metadata()?.len();
    if count >= COPIES_MAX || bytes.saturating_add(wanted) > BYTES_MAX {
        let (place, limit) = (quarantine.path().display(), BYTES_MAX);
        let what =
            format!("{place} holds {count} of {COPIES_MAX} copies, {bytes} of {limit} bytes");
        return Err(io::Error::other(what));
    }
    fill(&quarantine, &target, from)?;
    Ok(Some(target))
}

/// Makes the file `target` of what can be read from `from`, durable with its name.
fn fill(quarantine: &Folder, target: &OsStr, from: &mut File) -> io::Result<()> {
    let mut to = quarantine.create_file(target)?;
    let copied = io::copy(from, &mut to).and_then(|_| to.sync_all());
    copied.inspect_err(|_| {
        // A part of it would take room, on a disk that may have none left, and pass for all of it.
        let _stays = quarantine.remove_file(target);
    })?;
    quarantine.sync().map_err(io::Error::other)
}

/// A name for the copy that no other has. Returns `None` if there is a copy of this very segment: a
/// later queue of the same name has files of the same names, but other headers.
fn free_name(
    quarantine: &Folder,
    entries: &[Entry],
    folder: &OsStr,
    name: &OsStr,
    from: &mut File,
) -> io::Result<Option<OsString>> {
    let header = header_of(from)?;
    for number in 1..=COPIES_MAX + 1 {
        let mut target = folder.to_owned();
        if number > 1 {
            target.push(format!(".{number}"));
        }
        target.push(".");
        target.push(name);
        if !entries.iter().any(|entry| entry.name == target) {
            return Ok(Some(target));
        }
        let copy =
            quarantine.open_file(&target, false).and_then(|mut copy| header_of(&mut copy.file));
        if copy.is_ok_and(|copy| copy == header) {
            return Ok(None);
        }
    }
    Err(io::Error::other("there are too many copies of segments with its name"))
}

/// What a file begins with.
fn header_of(file: &mut File) -> io::Result<Vec<u8>> {
    let mut header = Vec::new();
    file.take(SECTOR as u64).read_to_end(&mut header)?;
    file.rewind()?;
    Ok(header)
}

/// The bytes of all copies.
fn taken(folder: &Folder, entries: &[Entry]) -> u64 {
    let length = |entry: &Entry| folder.open_file(&entry.name, false).map_or(0, |it| it.length);
    entries.iter().map(length).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root.join(QUARANTINE)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A second damaged segment of the same name got no copy, because there was one of the first.
    #[test]
    fn each_segment_is_copied_once_also_under_a_name_of_before() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        fs::create_dir(root.path().join("q-q")).unwrap();
        let segment = root.path().join("q-q/0.seg");
        for text in ["first", "first", "second", "first", "second"] {
            fs::write(&segment, text).unwrap();
            set_aside(&folder, &segment);
        }
        assert_eq!(names(root.path()), ["q-q.0.seg", "q-q.2.0.seg"]);
        let second = fs::read(root.path().join(QUARANTINE).join("q-q.2.0.seg")).unwrap();
        assert_eq!(second, b"second");
    }

    /// A copy that was cut short by a full disk kept its room, and no other was ever made.
    #[test]
    fn a_copy_that_fails_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        // It opens, and its first byte cannot be read.
        let mut from = File::open("/proc/self/mem").unwrap();
        assert!(fill(&folder, OsStr::new("copy"), &mut from).is_err());
        assert_eq!(folder.entries().unwrap(), []);
    }
}
