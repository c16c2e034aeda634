//! The files of a queue: which there are, and what their headers and cursors say.

use super::super::codec::Codec;
use super::super::cursor::{Cursor, SlotFault, said_by_slots, slot_offset};
use super::super::error::StorageError;
use super::super::finding::{Finding, Label};
use super::super::folder::{Entry, Folder, OpenFile};
use super::super::header::{HeaderFault, SegmentHeader, settings_version};
use super::super::home::Home;
use super::super::index::{HashKey, random_hash_key};
use super::super::layout::{RECORDS, SECTOR, SEGMENT_NAME, SLOT_COUNT, SLOT_READER};
use super::super::mapping::queue_share;
use super::super::names::{SETTINGS, base_of, file_name, is_settings, may_hold};
use super::super::record::Verdict;
use super::super::segment::{FooterState, Segment};
use super::super::settings::LogSettings;
use super::super::version::Version;
use super::super::walk::{Step, Walk, is_zero};
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A segment as it was found.
pub struct Found {
    /// The file.
    pub segment: Segment,
    /// What its header says, or why that is not known.
    pub header: Result<SegmentHeader, HeaderFault>,
    /// The version and the key, where its header or a slot says them.
    said: Option<(Version, HashKey)>,
    /// The newest valid cursor and its slot.
    pub cursor: Option<(usize, Cursor)>,
    /// What is wrong with its slots.
    pub bad_slots: Vec<Finding>,
    /// Where the file should end.
    pub declared_end: u64,
    /// Bytes of the log before it that were there and are not.
    pub lost_before: u64,
}

/// What is known of the segments before the one that is looked at.
#[derive(Clone, Copy)]
struct Before {
    /// Where the last one of them ends.
    end: u64,
    /// Where it should end.
    declared_end: u64,
    /// The position that their newest cursor says the log has gone on to.
    gone_on_to: Option<u64>,
    /// No bad slot may have been a newer one.
    is_newest: bool,
}

impl Before {
    /// What is known when `found` is one of them too.
    fn behind(before: Option<Before>, found: &Found) -> Result<Before, StorageError> {
        let (gone_on_to, is_newest) = match (found.cursor, before) {
            (Some((_, cursor)), _) => (Some(cursor.durable), found.bad_slots.is_empty()),
            (None, Some(before)) if is_unused(found)? => (before.gone_on_to, before.is_newest),
            (None, _) => (None, false),
        };
        let (end, declared_end) = (found.segment.end(), found.declared_end);
        Ok(Before { end, declared_end, gone_on_to, is_newest })
    }
}

/// The files of a queue as they were found.
pub struct Files {
    /// The segments that count, oldest first.
    pub found: Vec<Found>,
    /// Bases of files that were never finished or are dead: to be removed.
    pub doomed: Vec<u64>,
    /// The queue's key: a new one where nothing says it.
    pub key: HashKey,
    /// Whether something says the key, so that hashes in footers are those of this key.
    pub has_key: bool,
    /// Whether the queue has settings.
    pub has_settings: bool,
}

/// Finds the files of a queue, and says what there is to say of each as a whole. Nothing is
/// changed.
pub fn find(
    home: &Arc<Home>,
    name: Option<&[u8]>,
    settings: &LogSettings,
) -> Result<Files, StorageError> {
    let (mut found, mut doomed) = (Vec::new(), Vec::new());
    let mut name = name.map(<[u8]>::to_vec);
    let (folder, entries) = list(home)?;
    let bases = bases_among(&entries);
    let has_settings = entries.iter().any(is_settings);
    if !bases.is_empty() && has_settings {
        check_settings(&folder, settings)?;
    }
    for base in bases {
        let mut segment = read_segment(home, base, settings)?;
        check_name(&segment, home, name.as_deref(), settings)?;
        if let (None, Ok(header)) = (&name, &segment.header) {
            // All of a queue's segments have the same name.
            name = Some(header.name.to_vec());
        }
        let is_unborn = is_unborn(&segment)?;
        bound_mappings(&mut segment, home)?;
        if is_unborn {
            settings.decide(unborn(&segment))?;
            doomed.push(segment.segment.base);
        } else {
            found.push(segment);
        }
    }
    let cursor = found.iter().filter_map(|found| found.cursor).max_by_key(|(_, c)| c.generation);
    let oldest = cursor.map(|(_, cursor)| cursor.oldest);
    if let Some(oldest) = oldest {
        let is_dead = |found: &mut Found| found.segment.base < oldest;
        for dead in found.extract_if(.., is_dead) {
            settings.decide(Finding {
                file: dead.segment.path.clone(),
                offset: 0,
                label: Label::DeadSegment,
                expected: format!("segments from {oldest} on"),
                found: format!("one at {}", dead.segment.base),
            })?;
            doomed.push(dead.segment.base);
        }
    }
    check_overlaps(&mut found, settings)?;
    let key = found.iter().rev().find_map(Found::said_key);
    let (key, has_key) = (key.unwrap_or_else(random_hash_key), key.is_some());
    give_codecs(&mut found, key, has_key, settings, home)?;
    let mut before = oldest.map(|oldest| Before {
        end: oldest,
        declared_end: oldest,
        gone_on_to: None,
        is_newest: true,
    });
    for found in &mut found {
        if is_foreign(found)? {
            settings.decide(foreign(found))?;
        }
        if let Some(before) = before {
            found.lost_before = lost_between(before, found, settings, home)?;
        }
        report(found, settings)?;
        before = Some(Before::behind(before, found)?);
        bound_mappings(found, home)?;
    }
    Ok(Files { found, doomed, key, has_key, has_settings })
}

/// A queue's folder, and what is in it.
fn list(home: &Home) -> Result<(Arc<Folder>, Vec<Entry>), StorageError> {
    let listed = home.open().and_then(|folder| folder.entries().map(|entries| (folder, entries)));
    listed.map_err(|error| StorageError::io("list", home.path(), error))
}

/// The bases of the segments in a queue's folder, sorted.
pub fn bases(home: &Home) -> Result<Vec<u64>, StorageError> {
    list(home).map(|(_, entries)| bases_among(&entries))
}

fn bases_among(entries: &[Entry]) -> Vec<u64> {
    // Names sort as bases do.
    entries.iter().filter_map(|entry| entry.name.to_str().and_then(base_of)).collect()
}

/// Settings that ask for a newer reader may say that nothing is to be delivered, or that the other
/// end is fed. All others can be passed over.
fn check_settings(folder: &Folder, settings: &LogSettings) -> Result<(), StorageError> {
    let (name, path) = (OsStr::new(SETTINGS), folder.path().join(SETTINGS));
    let mut sector = Vec::new();
    let file = folder.open_file(name, false);
    // A file that is longer shows it with one byte.
    file.and_then(|it| it.file.take(SECTOR as u64 + 1).read_to_end(&mut sector))
        .map_err(|error| StorageError::io("read", &path, error))?;
    match settings_version(&sector) {
        Err(fault @ HeaderFault::Version(_)) if sector.len() == SECTOR => {
            settings.decide(header_finding(&path, fault, Label::NewerFormat))
        }
        _ => Ok(()),
    }
}

/// Reads what comes before the records.
fn read_segment(
    home: &Arc<Home>,
    base: u64,
    settings: &LogSettings,
) -> Result<Found, StorageError> {
    let mut start = Vec::with_capacity(RECORDS);
    let segment = Segment::existing(home, base, 0);
    let read = segment.open(false).and_then(|OpenFile { file, length, id }| {
        file.take(RECORDS as u64).read_to_end(&mut start)?;
        Ok((length, id))
    });
    let path = segment.path.clone();
    let (length, id) = read.map_err(|error| StorageError::io("read", &path, error))?;
    let (header, size) = match SegmentHeader::decode(base, &start) {
        Err(fault @ HeaderFault::Version(_)) => {
            settings.decide(header_finding(&path, fault, Label::NewerFormat))?;
            (Err(fault), length)
        }
        Err(fault @ HeaderFault::Base { .. }) => {
            settings.decide(header_finding(&path, fault, Label::ForeignSegment))?;
            (Err(fault), length)
        }
        Err(fault) => (Err(fault), length),
        Ok((header, size)) => (Ok(header), size),
    };
    let said = match (&header, said_by_slots(base, &start)) {
        (Ok(header), _) => Some((header.version, header.hash_key)),
        (Err(_), Some((Ok(version), key))) => Some((version, key)),
        (Err(_), Some((Err(reader), _))) => {
            let fault = HeaderFault::Version(reader);
            let mut finding = header_finding(&path, fault, Label::NewerFormat);
            finding.offset = (slot_offset(0) + SLOT_READER) as u64;
            settings.decide(finding)?;
            None
        }
        (Err(_), None) => None,
    };
    let (version, key) = said.unwrap_or_default();
    let mut segment = segment.known_as(id).with_codec(Codec::new(version, key));
    segment.size = length.min(size);
    if header.is_err() {
        // Nothing else says for certain where a footer would begin.
        segment.footer = FooterState::GivenUp;
    }
    if settings.is_read_only() {
        segment = segment.read_only();
        if segment.size > 0 && home.mappings().load(Ordering::Relaxed) < queue_share() {
            // A daemon at work may unlink the file; the mapping keeps what was in it.
            segment.mapping()?;
        }
    }
    let cursor = Cursor::newest(base, version, &start);
    let bad_slots = bad_slots(&segment, &start);
    let declared_end = base.saturating_add(size);
    Ok(Found { segment, header, said, cursor, bad_slots, declared_end, lost_before: 0 })
}

/// Lets go of the mapping of a file that was looked at, where there are many.
fn bound_mappings(found: &mut Found, home: &Home) -> Result<(), StorageError> {
    match home.mappings().load(Ordering::Relaxed) > queue_share() {
        true => found.segment.let_go(),
        false => Ok(()),
    }
}

impl Found {
    /// The key, where a header says it, or a slot of version 2.
    fn said_key(&self) -> Option<HashKey> {
        let is_said = self.header.is_ok() || self.said.is_some_and(|(it, _)| it != Version::One);
        self.said.filter(|_| is_said).map(|(_, key)| key)
    }
}

/// Gives a codec to the segments that say none: the one that reads the first record there, or else
/// that of the segments beside it.
fn give_codecs(
    found: &mut [Found],
    key: HashKey,
    has_key: bool,
    settings: &LogSettings,
    home: &Home,
) -> Result<(), StorageError> {
    // Versions only rise from segment to segment.
    let mut version = Version::One;
    for found in found.iter_mut() {
        if let Some((said, _)) = found.said {
            version = said;
            continue;
        }
        let segment = &mut found.segment;
        let (start, is_empty) = (segment.records_start(), segment.size == 0);
        let mut reads = |version| -> Result<bool, StorageError> {
            segment.codec = Codec::new(version, key);
            Ok(matches!(segment.decode(start)?, Verdict::Whole(_)))
        };
        if is_empty || (version == Version::One && reads(Version::One)?) {
            continue;
        }
        reads(Version::Two)?;
        let segment = &found.segment;
        if !has_key && !is_zero(segment.bytes_from(start)?) {
            settings.decide(Finding {
                file: segment.path.clone(),
                offset: 0,
                label: Label::LostKey,
                expected: "a header or a cursor slot with the key of the records".into(),
                found: "neither".into(),
            })?;
        }
        bound_mappings(found, home)?;
    }
    Ok(())
}

/// What is wrong with the slots of `segment`, which begins with `start`.
fn bad_slots(segment: &Segment, start: &[u8]) -> Vec<Finding> {
    let version = segment.codec.version();
    let fault = |offset: usize| {
        let fault = SlotFault::of(segment.base, version, start.get(offset..offset + SECTOR)?)?;
        Some(Finding {
            file: segment.path.clone(),
            offset: offset as u64,
            label: Label::BadSlot,
            expected: fault.expected(segment.base),
            found: fault.found(),
        })
    };
    (0..SLOT_COUNT).map(slot_offset).filter_map(fault).collect()
}

fn header_finding(path: &Path, fault: HeaderFault, label: Label) -> Finding {
    Finding {
        file: path.into(),
        offset: fault.offset() as u64,
        label,
        expected: fault.expected(),
        found: fault.found(),
    }
}

/// A segment belongs to the queue `name`, or to one that the folder's name leaves open.
fn check_name(
    found: &Found,
    home: &Home,
    name: Option<&[u8]>,
    settings: &LogSettings,
) -> Result<(), StorageError> {
    let Ok(header) = &found.header else { return Ok(()) };
    let folder = home.name().to_string_lossy();
    let is_own = match name {
        Some(name) => *name == *header.name,
        // One whose headers were all damaged goes on under the folder's own name.
        None => may_hold(&folder, &header.name) || folder.as_bytes() == &*header.name,
    };
    if is_own {
        return Ok(());
    }
    let queue = |name: &[u8]| format!("queue {:?}", name.escape_ascii().to_string());
    settings.decide(Finding {
        file: found.segment.path.clone(),
        offset: SEGMENT_NAME as u64,
        label: Label::ForeignSegment,
        expected: name.map_or_else(|| format!("a queue of folder {folder}"), queue),
        found: queue(&header.name),
    })
}

/// Whether a file has the name of a segment and nothing else of one: no magic, no cursor and no
/// record. Somebody else has put it there, and nobody may write to it.
fn is_foreign(found: &Found) -> Result<bool, StorageError> {
    if !matches!(found.header, Err(HeaderFault::Magic)) || found.cursor.is_some() {
        return Ok(false);
    }
    let segment = &found.segment;
    let behind = segment.bytes()?.get(SECTOR..).unwrap_or_default();
    let start = segment.records_start();
    let mut walk = Walk::new(&segment.codec, segment.bytes_from(start)?, start);
    Ok(!is_zero(behind) && !walk.any(|step| matches!(step, Step::Whole(..))))
}

fn foreign(found: &Found) -> Finding {
    Finding {
        file: found.segment.path.clone(),
        offset: 0,
        label: Label::ForeignSegment,
        expected: "a segment".into(),
        found: "a file that has nothing of one".into(),
    }
}

/// Whether nothing was written to a segment but its header.
fn is_unused(found: &Found) -> Result<bool, StorageError> {
    let segment = &found.segment;
    let written = SECTOR..segment.data_end() as usize;
    Ok(found.header.is_ok() && is_zero(segment.bytes()?.get(written).unwrap_or_default()))
}

/// Whether the gap before a segment never held a record: a file was in the way. What the log has
/// not gone on to yet may be behind one, too.
fn is_stepped_over(before: Before, found: &Found) -> Result<bool, StorageError> {
    let Some(gone_on_to) = before.gone_on_to else { return Ok(false) };
    let segment = &found.segment;
    let is_behind = gone_on_to <= before.declared_end || gone_on_to > segment.end();
    Ok(gone_on_to == segment.records_start()
        || (before.is_newest && is_behind && is_unused(found)?))
}

/// Bytes of the log between a segment and the ones before it that were there and are not; says it
/// when a segment is missing.
fn lost_between(
    before: Before,
    found: &Found,
    settings: &LogSettings,
    home: &Home,
) -> Result<u64, StorageError> {
    let (base, expected) = (found.segment.base, before.declared_end);
    if expected >= base || is_stepped_over(before, found)? {
        return Ok(expected.min(base).saturating_sub(before.end));
    }
    settings.decide(Finding {
        file: home.path().join(file_name(expected)),
        offset: 0,
        label: Label::MissingSegment,
        expected: "a segment".into(),
        found: format!("none before {base}"),
    })?;
    Ok(base.saturating_sub(before.end))
}

fn is_unborn(found: &Found) -> Result<bool, StorageError> {
    Ok(found.header.is_err() && (found.segment.size == 0 || is_zero(found.segment.bytes()?)))
}

fn unborn(found: &Found) -> Finding {
    let what = if found.segment.size == 0 { "an empty file" } else { "zeros" };
    Finding {
        file: found.segment.path.clone(),
        offset: 0,
        label: Label::UnbornSegment,
        expected: "a segment header".into(),
        found: what.into(),
    }
}

/// No two segments hold the same positions; one without a header ends where the next one starts.
fn check_overlaps(found: &mut [Found], settings: &LogSettings) -> Result<(), StorageError> {
    for index in 1..found.len() {
        let (before, rest) = found.split_at_mut(index);
        let (Some(first), Some(second)) = (before.last_mut(), rest.first()) else { continue };
        let next_base = second.segment.base;
        if first.header.is_err() {
            // A footer may be behind it.
            first.declared_end = next_base;
            first.segment.size = first.segment.size.min(next_base - first.segment.base);
            first.segment.unmap();
        }
        if first.declared_end > next_base {
            settings.decide(Finding {
                file: first.segment.path.clone(),
                offset: next_base - first.segment.base,
                label: Label::OverlappingSegment,
                expected: format!("no other segment before {}", first.declared_end),
                found: format!("one at {next_base}"),
            })?;
        }
    }
    Ok(())
}

/// Says what is damaged about a file as a whole.
fn report(found: &Found, settings: &LogSettings) -> Result<(), StorageError> {
    let segment = &found.segment;
    if let Err(fault) = &found.header {
        settings.decide(header_finding(&segment.path, *fault, Label::RottenHeader))?;
    }
    // How long one without a header should be is not known.
    if found.header.is_ok() && segment.end() < found.declared_end {
        settings.decide(Finding {
            file: segment.path.clone(),
            offset: segment.size,
            label: Label::ShortSegment,
            expected: format!("{} bytes", found.declared_end - segment.base),
            found: segment.size.to_string(),
        })?;
    }
    Ok(())
}
