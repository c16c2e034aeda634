//! Verifying: reads everything, and says what is wrong and what recovery would decide.
//!
//! 1. Recovery reads every record and compares footers with them, as for a strict start, without
//!    its steps that write.
//! 2. What no start looks at is looked at too: files with names that mean nothing.
//!
//! Beside a daemon the files change while they are read. Then everything is read twice, and what is
//! found once only was a change in the making.

use super::super::directory::{second_folder, unexpected};
use super::super::error::StorageError;
use super::super::finding::{Finding, Label};
use super::super::folder::{Entry, EntryKind, Folder};
use super::super::names::{
    LOCK, MARKER, QUARANTINE, SETTINGS, base_of, decode_folder, dropped_number,
};
use super::{Findings, Inspection, take};
use std::collections::HashSet;
use std::ffi::OsStr;

impl Inspection {
    /// Everything that is wrong with the queue in `folder`, and what recovery would decide, in the
    /// order of files and offsets. An error is one of reading.
    pub fn verify(&self, folder: &str) -> Result<Vec<Finding>, StorageError> {
        self.twice(|| self.verify_once(folder))
    }

    /// What is wrong with the data directory as a whole, not with the queues in it: folders and
    /// files that mean nothing or are no queue, and queues with two folders. An error is one of
    /// reading.
    pub fn verify_directory(&self) -> Result<Vec<Finding>, StorageError> {
        self.twice(|| self.verify_directory_once())
    }

    /// Beside a daemon, what `look` finds each time.
    fn twice(
        &self,
        look: impl Fn() -> Result<Vec<Finding>, StorageError>,
    ) -> Result<Vec<Finding>, StorageError> {
        let mut found = look()?;
        if !found.is_empty() && self.is_in_use() {
            let again = look()?;
            found.retain(|finding| again.contains(finding));
        }
        Ok(found)
    }

    fn verify_once(&self, folder: &str) -> Result<Vec<Finding>, StorageError> {
        let findings = Findings::default();
        let opened = self.open_log(folder, true, &findings);
        let mut found = take(&findings);
        match opened {
            Err(StorageError::Refused(finding)) => found.push(*finding),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        if let Ok((_, folder)) = self.home(folder) {
            found.extend(others(&folder, |name, kind| {
                let is_own = base_of(name).is_some() || name == SETTINGS;
                let is_known = is_own && kind == EntryKind::File;
                (!is_known).then_some(Label::UnknownFile)
            })?);
        }
        found.sort();
        Ok(found)
    }

    fn verify_directory_once(&self) -> Result<Vec<Finding>, StorageError> {
        let root = self.root()?;
        let mut found = others(&root, |name, kind| match (name, kind) {
            (LOCK | MARKER, EntryKind::File) | (QUARANTINE, EntryKind::Folder) => None,
            // The opening of the queue says that a link is not followed.
            (_, EntryKind::Folder | EntryKind::Link) if decode_folder(name).is_some() => None,
            (_, EntryKind::Folder) if dropped_number(name).is_some() => Some(Label::DroppedQueue),
            _ => Some(Label::UnknownFile),
        })?;
        if let Ok(copies) = root.folder(OsStr::new(QUARANTINE)) {
            found.extend(others(&copies, |_, _| Some(Label::SetAside))?);
        }
        let mut names = HashSet::new();
        for folder in self.folders(None)? {
            let name = match decode_folder(&folder).flatten() {
                Some(name) => Some(name),
                // What cannot be opened is for `verify` to say.
                None => self.open(&folder).ok().flatten().map(|queue| queue.name().to_vec()),
            };
            if let Some(name) = name.filter(|name| !names.insert(name.clone())) {
                found.push(second_folder(&self.path.join(folder), &name));
            }
        }
        Ok(found)
    }
}

/// What is in `folder`, sorted, that `label_of` has a label for.
fn others(
    folder: &Folder,
    label_of: impl Fn(&str, EntryKind) -> Option<Label>,
) -> Result<Vec<Finding>, StorageError> {
    let finding = |Entry { name, kind }: Entry| {
        let label = name.to_str().map_or(Some(Label::UnknownFile), |name| label_of(name, kind));
        Some(unexpected(folder.path().join(name), label?, kind))
    };
    let entries = folder.entries();
    let entries = entries.map_err(|error| StorageError::io("list", folder.path(), error))?;
    Ok(entries.into_iter().filter_map(finding).collect())
}
