//! Copies of damaged segments, set aside before anything is written over them.
//!
//! They are for people, and a medium that goes on rotting must not fill itself with them: there is
//! a limit to their number and to their bytes.

use super::segment::create_durably;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// The most copies.
const COPIES_MAX: usize = 256;
/// The most bytes of all of them: segments of the usual size leave room for a dozen.
const BYTES_MAX: u64 = 1 << 30;

/// Copies the segment file at `path`, of the queue whose folder it lies in, into `quarantine`,
/// once, if it is there. Where that fails, on a full disk for one, or there are too many, a log
/// line says so and the daemon goes on.
pub fn set_aside(quarantine: &Path, path: &Path) {
    let name = |path: Option<&Path>| {
        let name = path.and_then(Path::file_name).unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let target = quarantine.join(format!("{}.{}", name(path.parent()), name(Some(path))));
    if target.exists() || !path.exists() {
        return;
    }
    match copy(path, quarantine, &target) {
        Ok(()) => log::warn!("a copy of {} is in {}", path.display(), target.display()),
        Err(error) => log::error!("no copy of {}: {error}", path.display()),
    }
}

fn copy(from: &Path, quarantine: &Path, to: &Path) -> io::Result<()> {
    create_durably(quarantine).map_err(|error| io::Error::other(error.to_string()))?;
    let (count, bytes) = taken(quarantine)?;
    let wanted = fs::metadata(from)?.len();
    if count >= COPIES_MAX || bytes.saturating_add(wanted) > BYTES_MAX {
        let (place, limit) = (quarantine.display(), BYTES_MAX);
        let what =
            format!("{place} holds {count} of {COPIES_MAX} copies, {bytes} of {limit} bytes");
        return Err(io::Error::other(what));
    }
    let copied = fs::copy(from, to).and_then(|_| File::open(to)?.sync_all());
    copied.inspect_err(|_| {
        // A part of it would take room, on a disk that may have none left, and pass for all of it.
        let _stays = fs::remove_file(to);
    })?;
    File::open(quarantine)?.sync_all()
}

/// How many files there are, and their bytes.
fn taken(folder: &Path) -> io::Result<(usize, u64)> {
    let (mut count, mut bytes) = (0, 0_u64);
    for entry in fs::read_dir(folder)? {
        count += 1;
        bytes = bytes.saturating_add(entry?.metadata()?.len());
    }
    Ok((count, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy that was cut short by a full disk kept its room, and no other was ever made.
    #[test]
    fn a_copy_that_fails_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let quarantine = directory.path().join("damaged");
        // It opens, and its first byte cannot be read.
        set_aside(&quarantine, Path::new("/proc/self/mem"));
        assert!(quarantine.is_dir());
        assert!(!quarantine.join("self.mem").exists());
    }
}
