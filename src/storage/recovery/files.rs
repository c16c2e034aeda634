//! The files of a queue: which there are, and what their headers and cursors say.

use super::super::counters::add;
use super::super::cursor::Cursor;
use super::super::error::StorageError;
use super::super::layout::RECORDS;
use super::super::log::LogSettings;
use super::super::quarantine::set_aside;
use super::super::segment::{HeaderFault, Segment, SegmentHeader, base_of, sync_directory};
use super::super::walk::is_zero;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A segment as it was found.
pub struct Found {
    /// The file.
    pub segment: Segment,
    /// None: damaged.
    pub header: Option<SegmentHeader>,
    /// The newest valid cursor and its slot.
    pub cursor: Option<(usize, Cursor)>,
    /// Where the file should end.
    pub declared_end: u64,
}

/// Finds the segments that count, oldest first. Files that were never finished or are dead are
/// removed, unless files are only read.
pub fn find(
    directory: &Path,
    name: Option<&[u8]>,
    settings: &LogSettings,
) -> Result<Vec<Found>, StorageError> {
    let mut found = Vec::new();
    for (base, path) in segment_files(directory)? {
        found.extend(read_segment(base, path, name, settings.is_read_only())?);
    }
    let cursor = found.iter().filter_map(|found| found.cursor).max_by_key(|(_, c)| c.generation);
    let oldest = cursor.map(|(_, cursor)| cursor.oldest);
    if let Some(oldest) = oldest {
        if !settings.is_read_only() {
            remove_dead(directory, &found, oldest)?;
        }
        found.retain(|found| found.segment.base >= oldest);
    }
    check_overlaps(&mut found)?;
    let mut expected = oldest;
    for found in &found {
        report(found, expected, settings, directory)?;
        expected = Some(found.declared_end);
    }
    Ok(found)
}

fn segment_files(directory: &Path) -> Result<Vec<(u64, PathBuf)>, StorageError> {
    let list = || -> io::Result<Vec<(u64, PathBuf)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if let Some(base) = entry.file_name().to_str().and_then(base_of) {
                files.push((base, entry.path()));
            }
        }
        files.sort_unstable();
        Ok(files)
    };
    list().map_err(|error| StorageError::io("list", directory, error))
}

/// Reads what comes before the records. None: the file was never finished, and does not count.
fn read_segment(
    base: u64,
    path: PathBuf,
    name: Option<&[u8]>,
    is_read_only: bool,
) -> Result<Option<Found>, StorageError> {
    let mut start = Vec::new();
    let read = File::open(&path).and_then(|file| {
        let length = file.metadata()?.len();
        file.take(RECORDS as u64).read_to_end(&mut start)?;
        Ok(length)
    });
    let length = read.map_err(|error| StorageError::io("read", &path, error))?;
    let (header, size) = match SegmentHeader::decode(base, &start) {
        Err(HeaderFault::Version(found)) => return Err(StorageError::Version { path, found }),
        Err(HeaderFault::Damaged) => (None, length),
        Ok((header, size)) => (Some(header), size),
    };
    if let (Some(name), Some(header)) = (name, &header)
        && *name != *header.name
    {
        let other = header.name.escape_ascii();
        let what = format!("{}: is of queue {other} [foreign-segment]", path.display());
        return Err(StorageError::Damaged(what));
    }
    let mut segment = Segment::existing(base, length.min(size), path);
    if is_read_only {
        segment = segment.read_only();
    }
    let is_unborn = header.is_none() && (length == 0 || is_zero(segment.bytes()?));
    if is_unborn {
        if !is_read_only {
            remove(&segment.path, "unborn-segment")?;
        }
        return Ok(None);
    }
    if is_read_only {
        // A daemon at work may unlink the file; the mapping keeps what was in it.
        segment.mapping()?;
    }
    let cursor = Cursor::newest(base, &start);
    Ok(Some(Found { segment, header, cursor, declared_end: base.saturating_add(size) }))
}

/// No two segments hold the same positions; one without a header ends where the next one starts.
fn check_overlaps(found: &mut [Found]) -> Result<(), StorageError> {
    for index in 1..found.len() {
        let (before, rest) = found.split_at_mut(index);
        let (Some(first), Some(second)) = (before.last_mut(), rest.first()) else { continue };
        let next_base = second.segment.base;
        if first.header.is_none() {
            // A footer may be behind it, and nothing says where it starts.
            first.declared_end = first.declared_end.min(next_base);
            first.segment.size = first.segment.size.min(next_base - first.segment.base);
            first.segment.unmap();
        }
        if first.declared_end > next_base {
            let (path, end) = (first.segment.path.display(), first.declared_end);
            let what = format!("{path}: ends at {end}, and another segment starts at {next_base}");
            return Err(StorageError::Damaged(format!("{what} [overlapping-segment]")));
        }
    }
    Ok(())
}

fn remove_dead(directory: &Path, found: &[Found], oldest: u64) -> Result<(), StorageError> {
    let mut dead = found.iter().filter(|found| found.segment.base < oldest).peekable();
    if dead.peek().is_none() {
        return Ok(());
    }
    dead.try_for_each(|dead| remove(&dead.segment.path, "dead-segment"))?;
    sync_directory(directory)
}

fn remove(path: &Path, label: &str) -> Result<(), StorageError> {
    log::info!("{}: removed [{label}]", path.display());
    fs::remove_file(path).map_err(|error| StorageError::io("remove", path, error))
}

/// Says what is damaged about a file as a whole. `expected`: where a segment should start.
fn report(
    found: &Found,
    expected: Option<u64>,
    settings: &LogSettings,
    directory: &Path,
) -> Result<(), StorageError> {
    let segment = &found.segment;
    let mut faults = Vec::new();
    if found.header.is_none() {
        faults.push("expected a segment header, found none [rotten-header]".to_string());
    }
    if segment.end() < found.declared_end {
        let (size, length) = (found.declared_end - segment.base, segment.size);
        faults.push(format!("expected {size} bytes, found {length} [short-segment]"));
    }
    if let Some(expected) = expected.filter(|expected| *expected < segment.base) {
        let base = segment.base;
        faults.push(format!("expected one at {expected}, found {base} next [missing-segment]"));
    }
    for fault in faults {
        damage(settings, directory, segment, &fault)?;
    }
    Ok(())
}

/// Says what is damaged, sets a copy aside and counts; an error under `--strict`.
pub fn damage(
    settings: &LogSettings,
    directory: &Path,
    segment: &Segment,
    what: &str,
) -> Result<(), StorageError> {
    let text = format!("{}: {what}", segment.path.display());
    if settings.strict {
        return Err(StorageError::Damaged(format!("{text} (--strict)")));
    }
    log::error!("{text}");
    add(&settings.counters.damaged, 1);
    set_aside(settings.quarantine.as_deref(), directory, segment);
    Ok(())
}
