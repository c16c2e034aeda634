//! Copies of damaged segments, set aside before anything is written over them.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Copies the segment file at `path`, of the queue whose folder it lies in, into `quarantine`,
/// once, if it is there. Where that fails, on a full disk for one, a log line says so and the
/// daemon goes on.
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
    fs::create_dir_all(quarantine)?;
    fs::copy(from, to)?;
    File::open(to)?.sync_all()?;
    File::open(quarantine)?.sync_all()
}
