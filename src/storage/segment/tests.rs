//! Tests of a segment: its file, and what the kernel has of it.

use super::*;
use crate::storage::folder::Folder;
use crate::storage::version::Version;
use crate::storage::walk::is_zero;
use crate::storage::waypoints::SPACING;
use rustix::io::{ReadWriteFlags, preadv2};
use rustix::param::page_size;
use std::fs::{self, OpenOptions};
use std::io::IoSliceMut;

/// The folder `q` in `root`, made if it is not there.
fn home(root: &Path) -> Arc<Home> {
    let root = Arc::new(Folder::open(root).unwrap());
    let name = OsStr::new("q");
    Arc::new(Home::of(&root, name).or_else(|_| Home::create(&root, name)).unwrap().0)
}

fn create(home: &Arc<Home>, size: u64) -> Segment {
    Segment::create(home, &home.open().unwrap(), 0, size, &header(b"q")).unwrap()
}

fn header(name: &[u8]) -> SegmentHeader {
    SegmentHeader { version: Version::Two, created_ms: 9, hash_key: [5; 16], name: name.into() }
}

#[test]
fn a_segment_is_made_of_real_blocks() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    let segment = create(&home(directory.path()), 1 << 20);
    let metadata = fs::metadata(&segment.path).unwrap();
    assert_eq!(metadata.len(), 1 << 20);
    assert!(metadata.blocks() * 512 >= 1 << 20, "{} blocks", metadata.blocks());
}

/// A segment of `8 * AHEAD` bytes with bytes up to `end`, which is not known to be written.
fn segment_up_to(end: usize, directory: &Path) -> Segment {
    let home = home(directory);
    let created = create(&home, 8 * AHEAD);
    let mut segment = Segment::existing(&home, 0, created.size);
    segment.bytes_mut().unwrap()[RECORDS..end].fill(7);
    segment.records_end = end as u64;
    segment
}

/// The first offset of an unwritten extent; None where the file system does not tell.
fn first_unwritten(segment: &Segment) -> Option<u64> {
    let hole = |file: &File| seek(file, SeekFrom::Hole(0)).unwrap();
    let probe = tempfile::tempfile_in(segment.path.parent().unwrap()).unwrap();
    allocate(&probe, 4 * PAGE as u64).unwrap();
    (hole(&probe) == 0).then(|| hole(&File::open(&segment.path).unwrap()))
}

#[test]
fn zeros_are_written_ahead_of_small_syncs_and_of_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let end = AHEAD as usize - 100;
    let mut segment = segment_up_to(end, directory.path());
    let written = |segment: &Segment| first_unwritten(segment).unwrap_or(0);
    let is_known = first_unwritten(&segment).is_some();
    assert_eq!(written(&segment), if is_known { AHEAD } else { 0 });
    for unsynced in [0, AHEAD_SYNC_MAX + 1] {
        assert_eq!(segment.prepare_syncs(unsynced), end as u64);
        assert_eq!(written(&segment), if is_known { AHEAD } else { 0 });
    }

    assert_eq!(segment.prepare_syncs(AHEAD_SYNC_MAX), 2 * AHEAD);
    assert_eq!(written(&segment), if is_known { 2 * AHEAD } else { 0 });
    let bytes = segment.bytes().unwrap();
    assert!(bytes[RECORDS..end].iter().all(|byte| *byte == 7));
    assert!(bytes[end..].iter().all(|byte| *byte == 0));

    segment.records_end = segment.size;
    assert_eq!(segment.prepare_syncs(1), segment.size);
    assert_eq!(fs::metadata(&segment.path).unwrap().len(), segment.size);
}

#[test]
fn a_sync_is_made_where_zeros_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut segment = segment_up_to(RECORDS + 5, directory.path());
    fs::remove_file(&segment.path).unwrap();
    let reach = segment.prepare_syncs(1);
    assert!(reach >= (RECORDS + 5) as u64, "{reach}");
    segment.mapping().unwrap().sync(reach as usize).unwrap();
}

/// What the kernel says of the segment's mapping behind `key`.
fn kernels_view(segment: &Segment, key: &str) -> String {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let own = maps.split_once(segment.path.to_str().unwrap()).unwrap().1;
    own.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().into()
}

#[test]
fn pages_are_released_for_a_sync_of_more_than_a_few() {
    let directory = tempfile::tempdir().unwrap();
    let mapped = |segment: &Segment| {
        let text = kernels_view(segment, "Rss:");
        text.strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    };
    for (unsynced, start, is_released) in [
        (AHEAD_SYNC_MAX, 2 * RECORDS, false),
        (AHEAD_SYNC_MAX + 1, 2 * RECORDS, true),
        (PAGED_SYNC_MAX, 2 * RECORDS, true),
        (PAGED_SYNC_MAX, 0, true),
        (PAGED_SYNC_MAX + 1, 2 * RECORDS, true),
    ] {
        let end = start + unsynced as usize;
        let mut segment = segment_up_to(end, directory.path());
        let before = mapped(&segment);
        segment.begin_sync(unsynced).unwrap()().unwrap();
        // Others may write to the first page and to the last one.
        let page = page_size();
        let whole = end / page * page - start.max(RECORDS).next_multiple_of(page);
        let released = if is_released { whole } else { 0 };
        assert_eq!(mapped(&segment), before - released, "{unsynced}");
        assert!(segment.bytes().unwrap()[RECORDS..end].iter().all(|byte| *byte == 7));
        fs::remove_file(&segment.path).unwrap();
    }
}

#[test]
fn pages_are_had_one_by_one_while_syncs_are_small() {
    let is_random = |segment: &Segment| {
        kernels_view(segment, "VmFlags:").split_whitespace().any(|flag| flag == "rr")
    };
    let directory = tempfile::tempdir().unwrap();
    let mut segment = segment_up_to(AHEAD as usize, directory.path());
    for (unsynced, expected) in
        [(0, false), (PAGED_SYNC_MAX, true), (0, true), (PAGED_SYNC_MAX + 1, false), (1, true)]
    {
        segment.prepare_syncs(unsynced);
        assert_eq!(is_random(&segment), expected, "{unsynced}");
    }
    segment.unmap();
    segment.prepare_syncs(1);
    assert!(is_random(&segment));
}

#[test]
fn free_pages_are_forgotten_and_those_with_records_are_not() {
    let directory = tempfile::tempdir().unwrap();
    // Of more than the largest folio.
    let size = 64 << 20;
    let home = home(directory.path());
    create(&home, size);
    let mut segment = Segment::existing(&home, 0, size);
    segment.bytes_mut().unwrap()[RECORDS..RECORDS + 9].fill(7);
    segment.records_end = RECORDS as u64 + 9;
    let file = OpenOptions::new().read(true).write(true).open(&segment.path).unwrap();
    // What is unwritten is never waited for.
    write_zeros(&file, size - AHEAD, size).unwrap();
    file.sync_all().unwrap();
    let is_dropped = |offset| {
        let byte = &mut [0];
        let read = preadv2(&file, &mut [IoSliceMut::new(byte)], offset, ReadWriteFlags::NOWAIT);
        read == Err(Errno::AGAIN)
    };
    segment.unmap();
    fadvise(&file, 0, None, FileAdvice::DontNeed).unwrap();
    if !is_dropped(0) {
        // A file system in memory: there is nothing to see.
        return;
    }
    // A system that is short of memory forgets pages by itself, so it may take more than one try.
    let is_forgotten = |_| {
        let is_empty = is_zero(&segment.bytes().unwrap()[RECORDS + 9..]);
        let before = [0, size - 1].map(is_dropped);
        segment.forget_free_pages();
        is_empty && (before, [0, size - 1].map(is_dropped)) == ([false; 2], [false, true])
    };
    assert!((0..100).any(is_forgotten));
    assert_eq!(segment.bytes().unwrap()[RECORDS..][..10], [7, 7, 7, 7, 7, 7, 7, 7, 7, 0]);
}

/// A look that began at a damaged message took a body that passes for a record for the next one.
#[test]
fn no_look_begins_inside_a_segment_of_version_1() {
    let directory = tempfile::tempdir().unwrap();
    for version in [Version::One, Version::Two] {
        let segment = Segment::existing(&home(directory.path()), 0, 8 * AHEAD);
        let mut segment = segment.with_codec(Codec::new(version, [5; 16]));
        let position = segment.records_start() + SPACING;
        segment.note_place(7, position);
        let expected = (version == Version::Two).then_some(position);
        assert_eq!(segment.waypoints.before(7), expected, "{version:?}");
    }
}

#[test]
fn what_was_never_written_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let end = RECORDS + 5;
    let mut segment = segment_up_to(end, directory.path());
    let is_known = first_unwritten(&segment).is_some();
    let expected = |data_end: u64| if is_known { data_end } else { segment.size };
    let (written, size) = (expected(AHEAD), segment.size);
    assert_eq!(segment.data_end(), written);
    for offset in [3 * AHEAD, 5 * AHEAD] {
        // Not synced: only the page cache has it.
        segment.bytes_mut().unwrap()[offset as usize] = 7;
        let data_end = segment.data_end();
        assert!((offset + 1..=size).contains(&data_end), "{data_end} with {offset}");
    }
    segment.bytes_mut().unwrap()[size as usize - 1] = 7;
    assert_eq!(segment.data_end(), size);
    fs::remove_file(&segment.path).unwrap();
    assert_eq!(segment.data_end(), size, "nobody can tell");
}
