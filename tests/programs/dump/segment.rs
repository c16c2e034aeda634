//! `segment`: one file, wherever it lies and whatever it holds, record by record.

use super::bench::*;
use mq::storage::format::{
    Codec, Cursor, FIRST_SEQUENCE, FOOTER_ENTRIES, SECTOR, SEGMENT_CRC, SEGMENT_READER, SLOTS,
    Version, put_u16, put_u32, slot_offset,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;

/// Queue `jobs` with three messages, one of which was removed, and its file.
fn removed() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = fill(&data, b"jobs", 3);
    remove(&mut log, b"message 1");
    sync(&mut log);
    drop((log, data));
    let file = directory.path().join("q-jobs").join(FIRST);
    (directory, file)
}

/// The number of a queue's message, counted from 1.
fn number(count: u64) -> String {
    (FIRST_SEQUENCE - 1 + count).to_string()
}

fn look(file: &Path) -> Output {
    wait_until_free(file.ancestors().nth(2).unwrap());
    dump_beside(file.parent().unwrap(), &["segment", file.to_str().unwrap()])
}

/// What is printed of a file in which all is well.
fn sound(file: &Path) -> String {
    let output = look(file);
    let (printed, said) = texts(&output);
    assert_eq!((said.as_str(), output.status.code()), ("", Some(0)), "{printed}");
    printed
}

/// What is printed of a file that is damaged.
fn unsound(file: &Path) -> String {
    let output = look(file);
    let (printed, said) = texts(&output);
    assert_eq!((said.as_str(), output.status.code()), ("", Some(1)), "{printed}");
    printed
}

/// The words of the line that starts with these.
fn line<'a>(printed: &'a str, start: &str) -> &'a str {
    printed.lines().find(|line| line.trim_start().starts_with(start)).expect("such a line")
}

#[test]
fn every_record_is_shown_with_its_fields() {
    let (_directory, file) = removed();
    let printed = sound(&file);
    assert_eq!(line(&printed, "file"), format!("file    {}, 8192 bytes", file.display()));
    assert_eq!(line(&printed, "base"), "base    0, as its header says");
    let header = line(&printed, "header");
    assert!(header.starts_with("header  ok: version 2, size 8192, created 20"), "{header}");
    assert!(header.ends_with("Z, queue jobs"), "{header}");
    let heads = words(line(&printed, "offset"));
    let expected = [
        "offset", "is", "kind", "number", "checksum", "computed", "durable", "origin", "bytes",
        "body",
    ];
    assert_eq!(heads, expected);
    let second = words(line(&printed, "2624"));
    assert_eq!(second[..4], ["2624", "ok", "message", &number(2)]);
    assert_eq!(second[4], second[5], "the checksum fits");
    assert_eq!(second[6..], ["0", "-", "9", "message", "1"]);
    let removal = words(line(&printed, "2752"));
    assert_eq!(removal[..4], ["2752", "ok", "removal", &number(2)]);
    assert_eq!(removal[6..], ["2752", "2624", "0"], "durable, origin, bytes");
    let end = "records 4 whole, 0 bad places; from offset 2800 to 8192 zeros";
    assert_eq!(line(&printed, "records"), end);
    assert_eq!(line(&printed, "footer"), "footer  none");
    let slots: Vec<&str> = printed.lines().filter(|line| line.starts_with("slot ")).collect();
    assert_eq!(slots.len(), 4);
    let start = format!("slot 0  ok, the newest: generation 1, head {}, ", number(1));
    assert!(slots[0].starts_with(&start), "{printed}");
    assert_eq!(slots[3], "slot 3  never written");
}

#[test]
fn a_damaged_record_shows_both_checksums_and_where_records_go_on() {
    let (_directory, file) = removed();
    change(&file, |bytes| bytes[RECORDS + RECORD + BODY] ^= 0x20);
    let printed = unsound(&file);
    let bad = words(line(&printed, "2624"));
    assert_eq!(bad[..4], ["2624", "BAD", "message", &number(2)]);
    assert_ne!(bad[4], bad[5]);
    assert_eq!(bad[9..], ["Message", "1"], "what its body is now");
    let why = "expected a record with its checksum, found another checksum; passed over up to 2688";
    assert!(printed.contains(why), "{printed}");
    assert!(printed.contains("records 3 whole, 1 bad place; "), "{printed}");
}

#[test]
fn a_copy_and_a_footer_are_shown() {
    let directory = TempDir::new().unwrap();
    let data = open(directory.path());
    let mut log = fill(&data, b"jobs", 5000);
    for number in (1..5000).filter(|number| number % 100 != 0) {
        remove(&mut log, format!("message {number}").as_bytes());
    }
    while log.copy_forward().unwrap() {}
    // What was copied is durable, and then what it was copied from goes.
    sync(&mut log);
    sync(&mut log);
    while let Some(work) = log.write_footer() {
        work().unwrap();
    }
    drop((log, data));
    let files = segments(&directory.path().join("q-jobs"));
    let (sealed, tail) = (sound(&files[0]), sound(files.last().unwrap()));
    let footer = line(&sealed, "footer");
    let count = line(&sealed, "records").split(' ').nth(1).unwrap();
    assert!(
        footer.starts_with(&format!("footer  ok: {count} records up to position ")),
        "{footer}"
    );
    let copies = |printed: &str| printed.lines().filter(|line| line.contains(" copy ")).count();
    assert!(copies(&sealed) + copies(&tail) > 0, "no copies: {tail}");
    let size = fs::metadata(&files[0]).unwrap().len() as usize;
    change(&files[0], |bytes| bytes[size - FOOTER_ENTRIES] ^= 1);
    let printed = unsound(&files[0]);
    assert!(line(&printed, "footer").starts_with("footer  BAD: "), "{printed}");
}

#[test]
fn slots_are_shown_with_their_verdicts() {
    let (_directory, file) = removed();
    change(&file, |bytes| {
        let cursor = Cursor { generation: 9, head: 2, ..Cursor::default() };
        let codec = Codec::new(Version::Two, [7; 16]);
        cursor.encode(0, &codec, &mut bytes[slot_offset(1)..][..SECTOR]);
        cursor.encode(4096, &codec, &mut bytes[slot_offset(2)..][..SECTOR]);
        bytes[SLOTS] ^= 1;
    });
    let printed = sound(&file);
    assert!(
        line(&printed, "slot 0").starts_with("slot 0  BAD: expected a cursor with its checksum"),
        "{printed}"
    );
    let second = "slot 1  ok, the newest: generation 9, head 2, next number 0, durable 0, oldest 0";
    assert_eq!(line(&printed, "slot 1"), second);
    let third =
        "slot 2  BAD: expected a cursor of the segment at 0, found one of the segment at 4096";
    assert!(line(&printed, "slot 2").starts_with(third), "{printed}");
}

#[test]
fn a_file_alone_under_any_name_is_read() {
    let directory = directory_of(&[(b"jobs", 300)]);
    let alone = TempDir::new().unwrap();
    let second = &segments(&directory.path().join("q-jobs"))[1];
    let name = second.file_name().unwrap().to_str().unwrap();
    for (name, base) in [("anything", "as its header says"), (name, "as its header says")] {
        let file = alone.path().join(name);
        fs::copy(second, &file).unwrap();
        let printed = sound(&file);
        assert_eq!(line(&printed, "base"), format!("base    8192, {base}"));
        assert!(
            printed.ends_with("footer  none\n") && printed.contains(" 212 whole, "),
            "{printed}"
        );
    }
    let elsewhere = alone.path().join(FIRST);
    fs::copy(second, &elsewhere).unwrap();
    let printed = unsound(&elsewhere);
    assert!(printed.contains("\n        BAD: its name says 0\n"), "{printed}");
    assert!(printed.contains(" 212 whole, 0 bad places"), "{printed}");
}

#[test]
fn without_a_header_the_name_or_a_slot_says_the_base() {
    let directory = directory_of(&[(b"jobs", 300)]);
    let second = &segments(&directory.path().join("q-jobs"))[1];
    let name = second.file_name().unwrap().to_str().unwrap();
    let alone = TempDir::new().unwrap();
    for (name, source) in [
        (format!("q-jobs.{name}"), "8192, as its name says"),
        ("lost+found".into(), "8192, as a cursor slot says"),
    ] {
        let file = alone.path().join(name);
        fs::copy(second, &file).unwrap();
        change(&file, |bytes| bytes[SEGMENT_CRC] ^= 1);
        let printed = unsound(&file);
        assert_eq!(line(&printed, "base"), format!("base    {source}"));
        assert!(
            line(&printed, "header")
                .starts_with("header  BAD: expected a segment header with its checksum"),
            "{printed}"
        );
        assert!(printed.contains(" 212 whole, 0 bad places"), "{printed}");
    }
}

#[test]
fn a_header_of_another_version_is_named_and_the_records_are_read() {
    let (_directory, file) = removed();
    change(&file, |bytes| {
        put_u16(bytes, SEGMENT_READER, 3);
        put_u32(bytes, SEGMENT_CRC, 0);
        let crc = crc32fast::hash(&bytes[..SECTOR]);
        put_u32(bytes, SEGMENT_CRC, crc);
    });
    let printed = unsound(&file);
    let expected = "header  BAD: expected a format that version 2 reads, found one for version 3";
    assert_eq!(line(&printed, "header"), expected);
    assert!(printed.contains("records 4 whole, 0 bad places"), "{printed}");
}

#[test]
fn a_cut_file_is_read_as_far_as_it_goes() {
    let (_directory, file) = removed();
    let whole = fs::read(&file).unwrap();
    for length in [0, 1, 100, 511, 512, 600, 2000, 2559, 2560, 2561, 2600, 2624, 2700, 8191] {
        fs::write(&file, &whole[..length]).unwrap();
        let printed = unsound(&file);
        assert!(line(&printed, "file").ends_with(&format!(", {length} bytes")));
        let count = if length < 2800 { length.saturating_sub(2560) / 64 } else { 4 };
        assert!(printed.contains(&format!("records {count} whole, ")), "{length}: {printed}");
    }
}

/// Whatever is in a file: no panic, no control character, and an end.
#[test]
fn garbage_is_survived() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("garbage");
    let mut random = 0x1234_5678_9abc_def1_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    };
    let text = b"\x1b[31mred\n".repeat(2000);
    for bytes in [noise(1), noise(512), noise(3000), noise(100_000), text, vec![0xff; 50_000]] {
        fs::write(&file, &bytes).unwrap();
        let printed = unsound(&file);
        assert!(printed.is_ascii(), "{printed}");
        let is_control = |letter: char| letter.is_control() && letter != '\n';
        assert!(!printed.contains(is_control), "{printed}");
        assert!(printed.contains("base    0, a guess: nothing says it"), "{printed}");
    }
}

#[test]
fn what_is_no_file_is_one_line() {
    let directory = TempDir::new().unwrap();
    let pipe = directory.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    for path in [directory.path().to_path_buf(), directory.path().join("nowhere"), pipe] {
        let path = path.to_str().unwrap();
        let output = command(directory.path(), &["segment", path]).output().unwrap();
        let (printed, said) = texts(&output);
        assert_eq!((printed.as_str(), output.status.code()), ("", Some(1)));
        assert!(said.contains(path) && said.lines().count() == 1, "{said}");
    }
}
