//! What was found by reading the code and by damaging files by hand.

use super::bench::*;
use mq::storage::format::{
    ALIGNMENT, Codec, FOOTER_ENTRIES, MESSAGE_HEAD, RECORDS, Record, SECTOR, SEGMENT_CREATED_MS,
    Version,
};
use mq::storage::{DataDirectory, NewMessage};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

#[test]
fn a_footer_of_a_segment_that_is_written_again_does_not_hide_what_follows() {
    // A segment was sealed and got its footer; a power cut then took all of its successor but the
    // header. The log went on in the sealed segment, the old footer stayed, and the next start
    // believed it: what had been answered since was gone.
    let mut bench = Bench::new(LARGE);
    (0..10).for_each(|_| bench.push(b"small"));
    bench.sync();
    bench.push([7; 6000]);
    bench.write_footers();
    let mut bench = bench.spoil(|files| {
        assert!(files.len() > 1);
        files[1..].iter().for_each(|path| change(path, |bytes| bytes[SECTOR..].fill(0)));
    });
    assert_eq!(bench.numbers(), numbers_to(10));
    (0..5).for_each(|_| bench.push(b"answered"));
    bench.sync();
    bench.log.rest();
    let mut bench = bench.spoil(|_| ());
    assert_eq!(bench.log.len(), 15);
    assert_eq!(bench.numbers(), numbers_to(15));
    assert_eq!(bench.counter("damaged_records"), 0);
}

#[test]
fn a_rotten_header_before_a_footer_loses_no_message() {
    // One bit of the header of a sealed segment was wrong. Without its header the file was as long
    // as it is, footer included, so it reached into its successor, whose first messages were
    // skipped. Also when the segment's last message had been removed.
    for is_last_removed in [false, true] {
        let mut bench = Bench::numbered(SMALL, 600);
        let mut expected = numbers_to(600);
        if is_last_removed {
            let end = bench.log.segments().nth(1).unwrap().end();
            let last = bench.numbers_before(end).pop().unwrap();
            bench.remove(last);
            expected.retain(|number| *number != last);
            bench.sync();
        }
        bench.write_footers();
        bench.log.rest();
        let mut bench = bench.spoil(|files| flip(&files[1], SEGMENT_CREATED_MS + 1));
        assert_eq!(bench.numbers(), expected);
        assert_eq!(bench.pop_all(), expected);
        assert_eq!(bench.log.len(), 0);
        assert_eq!(bench.counter("damaged_records"), 1);
    }
}

#[test]
fn a_footer_with_an_entry_of_no_bytes_is_none() {
    // The first segments were gone. To tell how many messages had been in them, the start divided
    // by the size of the first one behind, which a footer that was made up said to be 0.
    let mut bench = Bench::numbered(SMALL, 2000);
    for number in 1..=1200 {
        bench.remove(number);
    }
    bench.sync();
    bench.write_footers();
    bench.log.rest();
    let mut bench = bench.spoil(|files| {
        fs::remove_file(&files[0]).unwrap();
        change(&files[1], |bytes| empty_first_entry(&mut bytes[SMALL as usize..]));
    });
    let numbers = bench.numbers();
    assert_eq!(numbers.last(), Some(&2000));
    assert_eq!(bench.log.len(), numbers.len() as u64);
}

/// Makes the first entry of a footer one of no bytes, and the second as much larger.
fn empty_first_entry(footer: &mut [u8]) {
    let (rest, crc) = footer.split_last_chunk_mut::<8>().unwrap();
    // The size is in units of the alignment, above four bits of the kind.
    let size = (RECORD.div_ceil(ALIGNMENT) as u64) << 4;
    let (entries, _) = rest[FOOTER_ENTRIES..].as_chunks_mut::<8>();
    for (entry, by) in entries.iter_mut().zip([size.wrapping_neg(), size]) {
        *entry = u64::from_le_bytes(*entry).wrapping_add(by).to_le_bytes();
    }
    *crc = u64::from(crc32fast::hash(rest)).to_le_bytes();
}

#[test]
fn zeros_at_the_end_of_a_segment_with_a_footer_are_reported_and_counted() {
    // The last sector of a sealed segment was zero. It passed for the end of the records though
    // the footer told of more: nothing was reported, the messages were counted but never
    // delivered, and copying forward came to that place again and again.
    let mut bench = Bench::numbered(SMALL, 600);
    bench.write_footers();
    bench.log.rest();
    let end = SMALL as usize;
    let mut bench = bench.spoil(|files| fill(&files[0], end - SECTOR..end, 0));
    let numbers = bench.numbers();
    assert_eq!(numbers.len(), 600 - SECTOR / RECORD);
    assert_eq!(bench.log.len(), numbers.len() as u64);
    assert_eq!(bench.counter("damaged_records"), 1);
    assert_eq!(bench.counter("lost_messages"), (SECTOR / RECORD) as u64);
    numbers[1..401].iter().for_each(|number| bench.remove(*number));
    bench.copy_forward();
    assert_eq!(bench.log.len(), numbers.len() as u64 - 400);
    assert_eq!(bench.numbers(), [&numbers[..1], &numbers[401..]].concat());
}

#[test]
fn zeros_that_come_while_the_daemon_runs_do_not_stop_a_search() {
    // The end of a segment's records turned to zeros under a daemon at work. Building the index
    // stood still there for ever, with the queue locked.
    let mut bench = Bench::numbered(SMALL, 600);
    let oldest = OpenOptions::new().write(true).open(&files(bench.root.path())[0]).unwrap();
    oldest.write_all_at(&[0; SECTOR], SMALL - SECTOR as u64).unwrap();
    let is_whole = (0..MANY_SLICES).any(|_| bench.log.prepare_find().unwrap());
    assert!(is_whole, "the index is never whole");
    assert_eq!(
        bench.log.find(&600_u64.to_le_bytes()).unwrap().unwrap().0.sequence,
        BEFORE_FIRST + 600
    );
}

#[test]
fn the_number_of_a_removed_message_is_not_given_again_when_its_record_rots() {
    // The last message was removed from behind others and its record rotted; only the removal told
    // of its number. The next push got that number again, and the removal took it: it was answered
    // and never delivered.
    let mut bench = Bench::numbered(LARGE, 5);
    let last = bench.place(5);
    bench.log.remove(last).unwrap();
    bench.sync();
    let mut bench = bench.spoil(|files| flip(&files[0], last.position as usize + ROT));
    assert_eq!(bench.numbers(), numbers_to(4));
    bench.push(b"new");
    bench.sync();
    let mut bench = bench.spoil(|_| ());
    assert_eq!(bench.numbers(), [1, 2, 3, 4, 6]);
    assert_eq!(bench.bodies().pop().unwrap(), b"new");
}

#[test]
fn numbers_go_on_behind_copies_when_the_cursor_is_lost() {
    // Two old messages had been copied forward past many that were gone, and the cursor rotted.
    // Numbers went on from those of the copies instead of those of the removals, so new messages
    // were taken for removed ones.
    let mut bench = Bench::new(SMALL);
    bench.push(b"old");
    bench.push(b"older");
    (3..=602).for_each(|_| bench.push(b"12345678"));
    for number in 3..=602 {
        bench.remove(number);
        if number % 10 == 0 {
            bench.copy_forward();
        }
    }
    bench.sync();
    assert!(bench.counter("copied_messages") > 0);
    bench.log.rest();
    let mut bench = bench.spoil(|files| files.iter().for_each(|path| fill(path, CURSORS, 0xaa)));
    bench.push(b"new");
    bench.push(b"newer");
    bench.sync();
    assert_eq!(bench.bodies(), [&b"old"[..], b"older", b"new", b"newer"]);
    assert_eq!(bench.log.len(), 4);
}

#[test]
fn a_record_inside_a_rotten_message_is_not_delivered() {
    // A client sent a body that is itself a good record for the place where it came to lie, and
    // the record around it rotted. The search for the next good record found the client's, and
    // delivered it in place of a message that is behind it.
    let mut bench = Bench::new(LARGE);
    bench.push(b"first!!!");
    let second = RECORDS + RECORD;
    let sequence = BEFORE_FIRST + 3;
    let forged = Record { sequence, body: b"forged!!", ..Record::default() };
    let mut bytes = vec![0; forged.size()];
    // The client does not know the key.
    let codec = Codec::new(Version::Two, [0; 16]);
    codec.encode(&forged, (second + MESSAGE_HEAD) as u64, &mut bytes);
    bench.push(bytes);
    bench.push(b"third!!!");
    bench.sync();
    bench.log.rest();
    let mut bench = bench.spoil(|files| flip(&files[0], second + ROT));
    assert_eq!(bench.bodies(), [b"first!!!", b"third!!!"]);
    assert_eq!(bench.pop_all(), [1, 3]);
    assert_eq!(bench.log.len(), 0);
}

#[test]
fn a_strict_start_refuses_a_lost_cursor_when_an_older_one_is_left() {
    // The cursors of the newest segment rotted, and an older segment still had one. A strict
    // start took it without a word: messages came back whose pops had been answered.
    let mut bench = Bench::numbered(SMALL, 200);
    for number in 1..=40 {
        bench.remove(number);
        bench.sync();
    }
    bench.log.rest();
    let Bench { log, directory, root, .. } = bench;
    drop((log, directory));
    let files = files(root.path());
    fill(&files[newest_in_use(&files)], CURSORS, 0xaa);
    let directory = DataDirectory::open(root.path(), SMALL, true).unwrap();
    let refusal = directory.open_logs().err().unwrap().to_string();
    assert!(refusal.contains("[lost-cursor]"), "{refusal}");
}

#[test]
fn a_pop_that_fails_keeps_its_message() {
    // The newest segment could not be mapped for the cursor, here because its file is not there.
    // The pop failed after the head had moved in memory: its client had an error, and nobody the
    // message.
    let mut bench = Bench::numbered(SMALL, 200);
    bench.log.rest();
    let files = files(bench.root.path());
    let (newest, aside) = (&files[newest_in_use(&files)], bench.root.path().join("aside"));
    let place = bench.place(1);
    fs::rename(newest, &aside).unwrap();
    assert!(bench.log.remove(place).is_err());
    fs::rename(&aside, newest).unwrap();
    assert_eq!(bench.log.len(), 200);
    assert_eq!(bench.pop_all(), numbers_to(200));
}

#[test]
fn many_equal_messages_are_found_and_popped_in_the_time_of_different_ones() {
    // Equal bodies have equal hashes, and the index kept those in one run: each push and pop went
    // through all of it. With this many it took half a minute.
    const COUNT: u64 = 50_000;
    let mut bench = Bench::new(LARGE);
    (0..COUNT).for_each(|_| bench.push(b"tick"));
    assert!(bench.log.find(b"tock").unwrap().is_none());
    assert!(bench.log.find(b"tick").unwrap().is_some());
    assert_eq!(bench.pop_all().len() as u64, COUNT);
    assert!(bench.log.find(b"tick").unwrap().is_none());
}

#[test]
fn a_file_named_with_the_highest_position_is_not_used() {
    // A copy of a segment lay beside it, named as the segment at the end of all positions. The
    // sum of its position and its size overflowed, which was a panic at the start.
    for base in [u64::MAX, u64::MAX - 7, u64::MAX - 4095] {
        let bench = Bench::numbered(SMALL, 1);
        let mut bench = bench.spoil(|files| {
            fs::copy(&files[0], files[0].with_file_name(format!("{base}.seg"))).unwrap();
        });
        bench.push(b"two");
        bench.sync();
        assert_eq!(bench.numbers(), [1, 2], "{base}");
    }
}

#[test]
fn copying_forward_reports_rot_that_a_footer_has_hidden() {
    // A message of a sealed segment rotted; the start reads the footer and does not see it. The
    // segment's other messages were copied forward and the file went, with the damage in it.
    let mut bench = Bench::numbered(SMALL, 600);
    bench.write_footers();
    bench.log.rest();
    let mut bench = bench.spoil(|files| flip(&files[0], RECORDS + 5 * RECORD + ROT));
    assert_eq!(bench.counter("damaged_records"), 0);
    (200..600).for_each(|number| bench.remove(number));
    bench.copy_forward();
    assert_eq!(bench.counter("damaged_records"), 1);
    assert_eq!(bench.counter("lost_messages"), 1);
    assert!(bench.root.path().join("damaged").exists(), "no copy was set aside");
    assert_eq!(bench.log.len(), bench.numbers().len() as u64);
}

#[test]
fn a_queue_whose_name_ends_in_a_number_does_not_move_the_counter() {
    // Folders of long names are cut and numbered. The number in any folder's name was taken for
    // one of these, so a queue named with the highest number made the counter start over, at a
    // folder that was there.
    let root = tempfile::tempdir().unwrap();
    let open = || DataDirectory::open(root.path(), SMALL, false).unwrap();
    let long_name = |last: u8| [&[b'x'; 300][..], &[last]].concat();
    let names = [b"a-18446744073709551615".to_vec(), long_name(0), long_name(1), long_name(2)];
    let directory = open();
    for name in names {
        let mut log = directory.create_log(&name).unwrap();
        log.push(&NewMessage { body: b"message", flags: 0, expires_ms: 0 }, 1).unwrap();
        log.sync_now().unwrap();
    }
    drop(directory);
    let directory = open();
    assert_eq!(directory.open_logs().unwrap().len(), 4);
    (10..15).for_each(|last| drop(directory.create_log(&long_name(last)).unwrap()));
}

#[test]
fn a_rotten_last_record_leaves_no_message_that_is_counted_and_never_comes() {
    // The last record before a footer rotted. Popping past it left it in the count for ever: the
    // queue was never empty, and its segments stayed.
    let mut bench = Bench::numbered(SMALL, 300);
    bench.write_footers();
    bench.log.rest();
    let last = RECORDS + ((SMALL as usize - RECORDS) / RECORD - 1) * RECORD;
    let mut bench = bench.spoil(|files| flip(&files[0], last + ROT));
    assert_eq!(bench.pop_all().len(), 299);
    assert_eq!(bench.log.len(), 0);
    assert_eq!(bench.counter("lost_messages"), 1);
}

#[test]
fn a_newest_file_shorter_than_its_header_does_not_stop_a_queue() {
    // The newest file was cut within its header: one in use, or one made ahead of its use. The
    // log went on in it at the start or later, and the write of its cursor was a panic.
    for (length, is_in_use) in [(1, true), (1, false), (64, true), (511, true), (511, false)] {
        let mut bench = Bench::numbered(SMALL, 200);
        let in_use = bench.log.segments().filter(|segment| segment.record_bytes() > 0);
        let start = in_use.last().unwrap().base;
        let kept = if is_in_use { bench.numbers_before(start) } else { numbers_to(200) };
        bench.log.rest();
        let mut bench = bench.spoil(|files| {
            let newest = newest_in_use(files);
            let cut = if is_in_use { newest } else { files.len() - 1 };
            files[cut + 1..].iter().for_each(|path| fs::remove_file(path).unwrap());
            assert!(is_in_use || cut > newest, "no file was made ahead");
            change(&files[cut], |bytes| bytes.truncate(length));
        });
        assert_eq!(bench.numbers(), kept, "{length}");
        (0..200).for_each(|_| bench.push(b"after"));
        bench.sync();
        let mut bench = bench.spoil(|_| ());
        assert_eq!(bench.log.len(), kept.len() as u64 + 200);
        assert_eq!(bench.bodies()[kept.len()..], vec![b"after"; 200]);
    }
}
