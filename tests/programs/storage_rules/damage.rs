//! Rule 5: torn is not rotten.

use super::bench::*;
use crate::random::Random;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// Ten messages, the first five of them known to be durable by the records after them.
fn half_durable() -> (Bench, Vec<(String, usize)>) {
    let mut bench = Bench::new(16 * 1024);
    for number in 0..10 {
        bench.push(format!("message {number}"));
        if number == 4 {
            bench.sync();
        }
    }
    let places = bench.places();
    let offsets = places.iter().map(|(_, position, _)| bench.file_of(*position)).collect();
    (bench, offsets)
}

fn flip(files: &mut Files, (name, offset): &(String, usize)) {
    files.get_mut(name).unwrap()[offset + 60] ^= 0x10;
}

fn numbers(bench: &mut Bench) -> Vec<usize> {
    let number = |body: Vec<u8>| String::from_utf8(body[8..].to_vec()).unwrap().parse().unwrap();
    bench.bodies().into_iter().map(number).collect()
}

#[test]
fn rule_05_a_bad_record_behind_what_was_durable_is_torn_and_cut() {
    let (bench, offsets) = half_durable();
    for (torn, place) in offsets.iter().enumerate().skip(5) {
        let mut files = bench.files();
        flip(&mut files, place);
        let mut bench = Bench::of(&files, 16 * 1024);
        assert_eq!(numbers(&mut bench), (0..torn).collect::<Vec<_>>());
        assert_eq!((bench.count("torn_tails"), bench.count("damaged_records")), (1, 0));
        assert!(!bench.root.path().join("damaged").exists());
        // Torn is no damage.
        let root = with_files(&files);
        assert!(open(root.path(), 16 * 1024, true).is_ok());
    }
}

/// The counter stayed at zero when the start had met the damage.
#[test]
fn rule_05_messages_that_a_start_finds_lost_are_counted() {
    let (mut bench, offsets) = half_durable();
    assert!(bench.remove("message 3"));
    bench.sync();
    let mut files = bench.files();
    for place in &offsets[1..4] {
        flip(&mut files, place);
    }
    let bench = Bench::of(&files, 16 * 1024);
    assert_eq!((bench.log.len(), bench.count("lost_messages")), (7, 2), "one had been removed");
    // With a whole segment.
    let mut bench = Bench::new(8 * 1024);
    (0..300).for_each(|number| bench.push(format!("{number:0100}")));
    bench.sync();
    let base = bench.log.segments().nth(1).unwrap().base;
    let mut files = bench.files();
    files.remove(&bench.file_of(base).0).unwrap();
    let bench = Bench::of(&files, 8 * 1024);
    let lost_count = bench.count("lost_messages");
    assert!(lost_count > 10, "{lost_count}");
    assert_eq!(bench.log.len() + lost_count, 300);
}

#[test]
fn rule_05_a_bad_record_before_what_was_durable_is_rotten_and_passed_over() {
    let (bench, offsets) = half_durable();
    for (rotten, place) in offsets.iter().enumerate().take(5) {
        let mut files = bench.files();
        flip(&mut files, place);
        let (mut bench, lines) = captured(|| Bench::of(&files, 16 * 1024));
        let rest: Vec<usize> = (0..10).filter(|number| *number != rotten).collect();
        assert_eq!(numbers(&mut bench), rest);
        assert_eq!(bench.log.len(), 9);
        assert_eq!((bench.count("damaged_records"), bench.count("torn_tails")), (1, 0));
        assert_eq!(bench.count("lost_messages"), 1);
        let (name, offset) = place;
        let line = lines.iter().find(|line| line.contains("[rotten-record]")).unwrap();
        for part in
            [name, &format!("offset {offset}:"), "expected a record with its checksum", "found"]
        {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        let copy = bench.root.path().join("damaged").join(format!("q-q.{name}"));
        assert_eq!(&fs::read(copy).unwrap(), &files[name], "not as it was found");
        // What comes later is appended, and the damage stays passed over.
        bench.push("message 10");
        let mut bench = bench.reopen();
        assert_eq!(numbers(&mut bench), rest.into_iter().chain([10]).collect::<Vec<_>>());
    }
}

#[test]
fn rule_05_strict_refuses_what_is_rotten_and_touches_nothing() {
    let (bench, offsets) = half_durable();
    let mut files = bench.files();
    flip(&mut files, &offsets[2]);
    let root = with_files(&files);
    let refused = open(root.path(), 16 * 1024, true).err().unwrap().to_string();
    let (name, offset) = &offsets[2];
    for part in [name, &format!("offset {offset}:"), "expected", "found", "--strict"] {
        assert!(refused.contains(part), "{part} is not in {refused}");
    }
    assert_eq!(read_files(&root.path().join("q-q")), files);
}

/// A record that rots while the daemon runs is met by whoever reads it next.
#[test]
fn rule_05_a_record_that_rots_under_a_running_daemon_is_passed_over() {
    let (mut bench, offsets) = half_durable();
    let (name, offset) = &offsets[1];
    let path = bench.folder().join(name);
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[0xff; 4], *offset as u64 + 60).unwrap();
    let mut popped = Vec::new();
    while let Some(body) = bench.pop() {
        popped.push(body[8] - b'0');
    }
    assert_eq!(popped, [0, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!((bench.count("damaged_records"), bench.count("lost_messages")), (1, 1));
    assert_eq!(bench.log.len(), 0);
}

/// Each place cost a look for a copy, a walk through the segment and a line of its own.
#[test]
fn rule_05_all_damage_of_a_segment_is_found_with_the_first_place_that_is_met() {
    let (mut bench, offsets) = sealed_segment();
    let name = &offsets[0].0;
    let file = fs::OpenOptions::new().write(true).open(bench.folder().join(name)).unwrap();
    let rotten: Vec<usize> = (1..offsets.len()).step_by(2).collect();
    for place in &rotten {
        file.write_all_at(&[0xff; 4], offsets[*place].1 as u64 + 60).unwrap();
    }
    let lost = rotten.len() as u64;
    assert!(lost > 20, "{lost}");
    assert_eq!(bench.pop().as_deref(), Some(&b"message 000"[..]));
    assert_eq!((bench.count("damaged_records"), bench.count("lost_messages")), (0, 0));
    let len = bench.log.len();
    let (popped, lines) = captured(|| bench.pop());
    assert_eq!(popped.as_deref(), Some(&b"message 002"[..]));
    assert_eq!((bench.count("damaged_records"), bench.count("lost_messages")), (lost, lost));
    assert_eq!(bench.log.len(), len - 1 - lost);
    let with = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    let more = format!("{name}: and {} more damaged records", lost - 5);
    assert_eq!([with("[rotten-record]"), with(&more), with("copy of")], [5, 1, 1], "{lines:?}");
    let (rest, lines) = captured(|| bench.bodies().len() as u64);
    assert_eq!((rest, lines), (bench.log.len(), vec![]));
}

/// A start that met the record of a removed message there dropped the others without a word.
#[test]
fn rule_05_what_a_start_meets_damaged_under_a_footer_is_said_and_counted() {
    let (mut bench, offsets) = sealed_segment();
    let write_footer = loop {
        match bench.log.write_footer() {
            Some(work) => break work,
            None => bench.push("behind"),
        }
    };
    write_footer().unwrap();
    assert!(bench.remove("message 010"));
    bench.sync();
    bench.log.rest();
    let (name, len) = (&offsets[0].0, bench.log.len());
    let whole = bench.files();
    for (rotten, lost) in [(&[10][..], 0), (&[10, 12, 14, 16], 3)] {
        let mut files = whole.clone();
        rotten.iter().for_each(|number| flip(&mut files, &offsets[*number]));
        let (mut bench, lines) = captured(|| Bench::of(&files, 8 * 1024));
        let with = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!(with("[rotten-record]"), rotten.len(), "{lines:?}");
        assert_eq!(with("copy of"), 1, "{lines:?}");
        let counts = |bench: &Bench| (bench.count("damaged_records"), bench.count("lost_messages"));
        assert_eq!((bench.log.len(), counts(&bench)), (len - lost, (rotten.len() as u64, lost)));
        let copy = bench.root.path().join("damaged").join(format!("q-q.{name}"));
        assert_eq!(&fs::read(copy).unwrap(), &files[name], "not as it was found");
        let (popped, lines) = captured(|| std::iter::from_fn(|| bench.pop()).count() as u64);
        assert_eq!((popped, lines), (len - lost, vec![]));
        assert_eq!((bench.log.len(), counts(&bench)), (0, (rotten.len() as u64, lost)));
    }
}

/// Messages up to the second segment, and where those of the first one lie.
fn sealed_segment() -> (Bench, Vec<(String, usize)>) {
    let mut bench = Bench::new(8 * 1024);
    let mut number = 0;
    while bench.log.segments().count() == 1 || number % 10 != 0 {
        bench.push(format!("message {number:03}"));
        number += 1;
    }
    bench.sync();
    let places = bench.places();
    let mut offsets: Vec<_> =
        places.iter().map(|(_, position, _)| bench.file_of(*position)).collect();
    let first = offsets[0].0.clone();
    offsets.retain(|(name, _)| *name == first);
    (bench, offsets)
}

/// What rots again and again does not fill the disk with copies.
#[test]
fn rule_05_copies_of_damaged_files_have_a_limit() {
    let (bench, offsets) = half_durable();
    let mut files = bench.files();
    flip(&mut files, &offsets[1]);
    for (count, bytes, is_copied) in
        [(255, 0, true), (256, 0, false), (1, (1 << 30) - 16384, true), (1, 1 << 30, false)]
    {
        let root = with_files(&files);
        let copies = root.path().join("damaged");
        fs::create_dir(&copies).unwrap();
        for number in 0..count {
            // Nothing is written to it: it takes no room.
            File::create(copies.join(number.to_string())).unwrap().set_len(bytes).unwrap();
        }
        let (opened, lines) = captured(|| open(root.path(), 16 * 1024, false).unwrap());
        assert_eq!(opened.1.unwrap().len(), 9, "it is not opened all the same");
        let says = |what: &str| lines.iter().any(|line| line.contains(what));
        assert!(says("[rotten-record]"), "{lines:?}");
        assert_eq!(copies.join(format!("q-q.{}", offsets[1].0)).exists(), is_copied);
        assert_eq!(says("no copy of"), !is_copied);
    }
}

/// What `mq-dump repair` does after recovery: all files are new, and nobody can tell otherwise.
#[test]
fn a_renewed_log_has_its_messages_and_none_of_its_files() {
    let mut random = Random::seeded();
    for count in [0, 1, 50, 2000] {
        let mut bench = Bench::new(16 * 1024);
        let mut bodies: Vec<String> = (0..count).map(|number| format!("{number:0100}")).collect();
        bodies.iter().for_each(|body| bench.push(body));
        for _ in 0..count / 3 {
            let body = bodies.remove(random.below(bodies.len() as u64) as usize);
            assert!(bench.remove(&body));
        }
        let (before, files) = (bench.places(), bench.files());
        bench.log.renew().unwrap();
        assert!(bench.files().keys().all(|name| !files.contains_key(name)), "an old file is left");
        let same = |(number, _, body): (u64, u64, Vec<u8>)| (number, body);
        let after = bench.places().into_iter();
        assert!(before.clone().into_iter().map(same).eq(after.map(same)), "{count} messages");
        bench = bench.reopen();
        let after = bench.places().into_iter();
        assert!(before.into_iter().map(same).eq(after.map(same)), "{count} messages, reopened");
        for body in &bodies {
            assert!(bench.remove(body), "{body}");
        }
        bench.push("behind");
        assert_eq!(bench.places()[0].0, count + 1, "numbers go on");
    }
}
