//! Recovery: from the files of a queue to its log (rule 16).
//!
//! What is found, and what is decided about it, is the table in `finding`; `storage-format.md` has
//! the same one and gives the reasons.

pub mod files;
mod footers;
mod losses;
mod lost;
mod records;
mod rot;
mod steps;
mod tail;

use super::error::StorageError;
use super::finding::{Finding, Label};
use super::home::Home;
use super::log::Log;
use super::settings::LogSettings;
use std::sync::Arc;

/// Opens the log of queue `name` in `home`. Returns `None` if there is no queue in it
/// (`unborn-queue`). `name` is `None` if the folder's name does not say it.
pub fn open(
    home: &Arc<Home>,
    name: Option<&[u8]>,
    settings: &LogSettings,
) -> Result<Option<Log>, StorageError> {
    let files = files::find(home, name, settings)?;
    if files.found.is_empty() {
        settings.decide(Finding {
            file: home.path().into(),
            offset: 0,
            label: Label::UnbornQueue,
            expected: "a segment".into(),
            found: "none".into(),
        })?;
        return Ok(None);
    }
    records::recover(home, name, settings, files).map(Some)
}

#[cfg(test)]
mod tests;
