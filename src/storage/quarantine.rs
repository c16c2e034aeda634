//! Copies of damaged segments, set aside before anything is written over them.

use super::segment::Segment;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Copies the file of `segment`, of the queue in `directory`, into `quarantine`, once, if there is
/// one. Where that fails, on a full disk for one, a log line says so and the daemon goes on.
pub fn set_aside(quarantine: Option<&Path>, directory: &Path, segment: &Segment) {
    let Some(quarantine) = quarantine else {
        return;
    };
    let queue = directory.file_name().unwrap_or_default().to_string_lossy();
    let file = segment.path.file_name().unwrap_or_default().to_string_lossy();
    let target = quarantine.join(format!("{queue}.{file}"));
    if target.exists() {
        return;
    }
    let copied = copy(&segment.path, quarantine, &target);
    match copied {
        Ok(()) => log::warn!("a copy of {} is in {}", segment.path.display(), target.display()),
        Err(error) => log::error!("no copy of {}: {error}", segment.path.display()),
    }
}

fn copy(from: &Path, quarantine: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(quarantine)?;
    fs::copy(from, to)?;
    File::open(to)?.sync_all()?;
    File::open(quarantine)?.sync_all()
}
