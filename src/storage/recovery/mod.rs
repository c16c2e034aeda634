//! Recovery: from the files of a queue to its log (rule 16).
//!
//! What is found, and what is decided about it, is the table in `finding`; `storage-format.md` has
//! the same one and gives the reasons.

pub mod files;
mod footers;
mod records;
mod tail;

use super::error::StorageError;
use super::finding::{Finding, Label};
use super::log::Log;
use super::settings::LogSettings;
use std::path::Path;

/// Opens the log of queue `name` in `directory`; None: there is no queue in it (`unborn-queue`).
/// `name` is None where the directory's name does not tell it.
pub fn open(
    directory: &Path,
    name: Option<&[u8]>,
    settings: &LogSettings,
) -> Result<Option<Log>, StorageError> {
    let files = files::find(directory, name, settings)?;
    if files.found.is_empty() {
        settings.decide(Finding {
            file: directory.into(),
            offset: 0,
            label: Label::UnbornQueue,
            expected: "a segment".into(),
            found: "none".into(),
        })?;
        return Ok(None);
    }
    records::recover(directory, name, settings, files).map(Some)
}
