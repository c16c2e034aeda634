//! Recovery: from the files of a queue to its log (rule 16).
//!
//! What is found at each place has a label, which log lines and test names carry;
//! `storage-format.md` gives the reasons. "Durable" is what a cursor or a later record says was
//! durable.
//!
//! | label | what is found | what is done |
//! | --- | --- | --- |
//! | `unborn-queue` | a directory without a segment | it is removed |
//! | `unborn-segment` | a damaged header, and zeros or nothing behind it | it is removed |
//! | `dead-segment` | a segment from before the cursor's oldest one | it is removed |
//! | `foreign-segment` | an intact header of another queue | refused, nothing is touched |
//! | `overlapping-segment` | two segments with the same positions | refused, nothing is touched |
//! | `newer-format` | an intact header of another version | refused, nothing is touched |
//! | `rotten-header` | a damaged header with something behind it | read by the file's name |
//! | `short-segment` | a file shorter than its header says | what is there is read |
//! | `missing-segment` | a gap between segments | the others are read |
//! | `no-cursor` | no valid slot, and nothing durable | everything is delivered |
//! | `lost-cursor` | no valid slot where one was durable | an older one counts, or none |
//! | `torn-tail` | a bad record or a hole, not durable | cut: zeros from there on |
//! | `rotten-record` | a bad record or a hole, durable | passed over |
//! | `lost-end` | the records end before what was durable | what is there is read |
//! | `clean-end` | zeros behind the last record | the log goes on there |

mod files;
mod records;
mod tail;

use super::error::StorageError;
use super::log::{Log, LogSettings};
use std::path::Path;

/// Opens the log of queue `name` in `directory`; None: there is no queue in it (`unborn-queue`).
/// `name` is None where the directory's name does not tell it.
pub fn open(
    directory: &Path,
    name: Option<&[u8]>,
    settings: &LogSettings,
) -> Result<Option<Log>, StorageError> {
    let found = files::find(directory, name, settings)?;
    if found.is_empty() {
        return Ok(None);
    }
    records::recover(directory, name, settings, found).map(Some)
}
