//! The device under a log: what of a queue's files survives a power cut.
//!
//! All that the last sync covered does, and of what was written after it any subset of the sectors,
//! each as it was synced, as it was some time in between, or as it is.

use super::choices::Choices;
use super::recipe::{Files, read_files};
use std::path::{Path, PathBuf};

/// What a device writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// A queue's folder and what the device holds of it.
pub struct Device {
    folder: PathBuf,
    /// What is there for certain.
    durable: Files,
    /// Contents some time after the last sync.
    earlier: Files,
    /// Files of a queue that was dropped: they may be there after a power cut, as a tombstone.
    pub dropped: Files,
}

impl Device {
    /// A device whose files are durable as they are.
    pub fn new(folder: &Path) -> Device {
        let durable = read_files(folder);
        let (folder, earlier) = (folder.into(), durable.clone());
        Device { folder, durable, earlier, dropped: Files::new() }
    }

    /// Everything has been synced.
    pub fn sync(&mut self) {
        self.durable = read_files(&self.folder);
        self.earlier = self.durable.clone();
    }

    /// What is there now, for `end_sync`.
    pub fn contents(&self) -> Files {
        read_files(&self.folder)
    }

    /// A sync has succeeded that began when these were the contents.
    pub fn end_sync(&mut self, contents: Files) {
        self.durable = contents;
        self.earlier = self.durable.clone();
        self.note_rotations();
    }

    /// Keeps what is there now as what a sector may be.
    pub fn note_contents(&mut self) {
        self.earlier = read_files(&self.folder);
    }

    /// The queue is about to be dropped.
    pub fn note_drop(&mut self) {
        self.dropped = read_files(&self.folder);
    }

    /// Files that are durable.
    pub fn file_count(&self) -> usize {
        self.durable.len()
    }

    /// A new segment is durable with its header; one that has a successor with anything in it was
    /// synced before, and has not changed since. Called after whatever may have written.
    pub fn note_rotations(&mut self) {
        let current = read_files(&self.folder);
        let names: Vec<&PathBuf> = current.keys().collect();
        for (index, name) in names.iter().enumerate() {
            let bytes = &current[*name];
            if !self.durable.contains_key(*name) {
                let mut created = vec![0; bytes.len()];
                created[..SECTOR].copy_from_slice(&bytes[..SECTOR]);
                self.durable.insert((*name).clone(), created);
            }
            // A footer may come in pieces: whatever is not its bytes is zero.
            for files in [&mut self.durable, &mut self.earlier] {
                if let Some(known) = files.get_mut(*name) {
                    known.resize(bytes.len(), 0);
                }
            }
            let used = |name: &PathBuf| current[name][SECTOR..].iter().any(|byte| *byte != 0);
            if names[index + 1..].iter().any(|name| used(name)) {
                self.durable.insert((*name).clone(), bytes.clone());
                self.earlier.insert((*name).clone(), bytes.clone());
            }
        }
        self.durable.retain(|name, _| current.contains_key(name));
    }

    /// What a power cut may leave. A choice is asked for only where sectors differ.
    pub fn image(&self, choices: &mut Choices<'_>) -> Files {
        let current = read_files(&self.folder);
        let likely = choices.below(4);
        let mut image = self.durable.clone();
        for (name, bytes) in &mut image {
            let current = &current[name];
            let earlier = self.earlier.get(name).unwrap_or(current);
            for start in (0..bytes.len()).step_by(SECTOR) {
                let sector = start..bytes.len().min(start + SECTOR);
                let sources = [&current[sector.clone()], &earlier[sector.clone()]];
                let known = &mut bytes[sector];
                if sources.iter().all(|source| *source == known) {
                    continue;
                }
                match choices.below(4) {
                    choice if choice > likely => {}
                    0 => known.copy_from_slice(sources[1]),
                    _ => known.copy_from_slice(sources[0]),
                }
            }
        }
        image
    }
}
