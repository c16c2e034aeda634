//! `storage-format.md` against the code: hexdumps, offsets, labels.
//!
//! The document promises that a reader can be written from it alone. Here its hexdumps are decoded
//! by the real code and encoded again, its tables are compared with the constants, and its
//! recovery table with the one of the code. What it says in words, `tests/clients/read_log.py`
//! tries.

use mq::storage::format::*;
use mq::storage::{Failures, Label, Weight};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn text_of(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn document() -> String {
    text_of("storage-format.md")
}

/// One hexdump of the document.
struct Dump {
    /// What the fence says that it shows.
    title: String,
    bytes: Vec<u8>,
}

impl Dump {
    /// The number at the end of the title: where the bytes lie, or the base of their segment.
    fn position(&self) -> u64 {
        let last = self.title.rsplit(' ').next().and_then(|word| word.parse().ok());
        last.unwrap_or_else(|| panic!("no position: {}", self.title))
    }
}

/// The hexdumps whose titles start with `what`.
fn dumps(what: &str) -> Vec<Dump> {
    let document = document();
    let fences = document.split("```hexdump ").skip(1).map(|rest| {
        let (title, rest) = rest.split_once('\n').expect("a title");
        let (lines, _) = rest.split_once("```").expect("the end of a hexdump");
        let mut bytes = Vec::new();
        lines.lines().for_each(|line| read_line(line, &mut bytes));
        Dump { title: title.into(), bytes }
    });
    let found: Vec<Dump> = fences.filter(|dump| dump.title.starts_with(what)).collect();
    assert!(!found.is_empty(), "no hexdump of a {what}");
    found
}

/// Reads `00000010  6d 71 ...  |mq...|`, which continues `bytes`.
fn read_line(line: &str, bytes: &mut Vec<u8>) {
    let (columns, letters) = line.split_once('|').expect("the bytes as letters");
    let (offset, columns) = columns.split_at(8);
    assert_eq!(usize::from_str_radix(offset, 16), Ok(bytes.len()), "the offset of {line}");
    let start = bytes.len();
    let byte = |column| u8::from_str_radix(column, 16).expect("a byte in hexadecimal");
    bytes.extend(columns.split_whitespace().map(byte));
    let shown = |byte: &u8| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '.' };
    let expected: String = bytes[start..].iter().map(shown).collect();
    assert_eq!(letters.trim_end_matches('|'), expected, "the letters of {line}");
}

/// The key in the document's examples.
const KEY: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// The codecs of both versions, and what the titles of their hexdumps start with.
fn codecs() -> [(&'static str, Codec); 2] {
    let codec = |version| Codec::new(version, KEY);
    [("", codec(Version::Two)), ("version 1 ", codec(Version::One))]
}

#[test]
fn the_segment_headers_of_the_document_are_decoded_and_encoded_again() {
    for (prefix, codec) in codecs() {
        for dump in dumps(&format!("{prefix}segment header")) {
            let base = dump.position();
            let mut sector = dump.bytes.clone();
            sector.resize(SECTOR, 0);
            let (header, size) = SegmentHeader::decode(base, &sector).expect("an intact header");
            assert_eq!((&*header.name, header.hash_key), (&b"jobs"[..], KEY));
            assert_eq!(header.version, codec.version());
            let mut again = vec![0; SECTOR];
            header.encode(base, size, &mut again);
            assert_eq!(again, sector);
        }
    }
}

#[test]
fn the_cursor_slots_of_the_document_are_decoded_and_encoded_again() {
    for (prefix, codec) in codecs() {
        for dump in dumps(&format!("{prefix}cursor slot")) {
            let (base, version) = (dump.position(), codec.version());
            let cursor = Cursor::decode(base, version, &dump.bytes).expect("a valid slot");
            let mut again = vec![0; slot_size(version)];
            cursor.encode(base, &codec, &mut again);
            assert_eq!(again, dump.bytes);
        }
    }
}

/// The record in a hexdump.
fn record<'a>(dump: &'a Dump, codec: &Codec) -> Record<'a> {
    match codec.decode(&dump.bytes, dump.position()) {
        Verdict::Whole(record) => record,
        other => panic!("{}: {other:?}", dump.title),
    }
}

#[test]
fn the_records_of_the_document_are_decoded_and_encoded_again() {
    let kinds = [
        ("message", Kind::Message),
        ("removal", Kind::Removal),
        ("copy", Kind::Copy),
        ("state", Kind::State),
    ];
    for (prefix, codec) in codecs() {
        // No version 1 wrote a state.
        let kinds = kinds.iter().filter(|(what, _)| prefix.is_empty() || *what != "state");
        for (what, kind) in kinds {
            for dump in dumps(&format!("{prefix}{what}")) {
                let (position, record) = (dump.position(), record(&dump, &codec));
                assert_eq!(record.kind, *kind);
                assert!(record.durable <= position, "{}", dump.title);
                let mut again = vec![0; record.size()];
                codec.encode(&record, position, &mut again);
                assert_eq!(again, dump.bytes, "{}", dump.title);
            }
        }
    }
}

#[test]
fn the_footer_of_the_document_is_decoded_and_encoded_again() {
    for dump in dumps("footer") {
        let base = dump.position();
        let footer = Footer::decode(base, &dump.bytes).expect("memory").expect("a footer");
        assert_eq!(footer.encode(base).as_ref(), Ok(&dump.bytes));
        // It is of the segment that the removal and the copy of the document lie in.
        let first = base + RECORDS as u64;
        let kinds: Vec<_> = footer.summaries(first).map(|summary| summary.kind).collect();
        assert_eq!(kinds, [Kind::Removal, Kind::Copy]);
        let (_, codec) = &codecs()[0];
        for (summary, what) in footer.summaries(first).zip(["removal", "copy"]) {
            let dump = &dumps(what)[0];
            let record = record(dump, codec);
            assert_eq!(summary.position, dump.position());
            assert_eq!(summary.size, dump.bytes.len() as u64);
            assert_eq!((summary.sequence, summary.origin), (record.sequence, record.origin));
            let hash = BodyHash::new(&KEY, record.body);
            assert!(summary.hash == hash || summary.kind == Kind::Removal, "{}", dump.title);
            assert_eq!(summary.expires_ms, Some(record.expires_ms));
        }
    }
}

/// It names the message that was copied.
#[test]
fn the_state_of_the_document_says_what_has_failed() {
    let (_, codec) = &codecs()[0];
    let (copy, state) = (dumps("copy").remove(0), dumps("state").remove(0));
    let (copied, state) = (record(&copy, codec), record(&state, codec));
    assert_eq!((state.sequence, state.origin), (copied.sequence, copy.position()));
    assert_eq!(state.deliver_ms, 1_700_003_660_000);
    let failures = Failures::decode(state.more);
    assert_eq!(failures.encode().as_deref(), Ok(state.more));
    assert_eq!((failures.attempts, failures.nacks, failures.expiries), (2, 1, 1));
    assert_eq!((failures.first.at_ms, &*failures.first.reason), (1_700_000_060_000, &b""[..]));
    assert_eq!((failures.last.at_ms, &*failures.last.reason), (1_700_003_600_000, &b"timeout"[..]));
}

#[test]
fn the_settings_of_the_document_are_of_a_newer_format() {
    for dump in dumps("settings") {
        let mut sector = dump.bytes;
        sector.resize(SECTOR, 0);
        assert_eq!(settings_version(&sector), Err(HeaderFault::Version(3)));
        assert_eq!(sector[SETTINGS_PAUSED..SETTINGS_ROOM], [2, 2]);
        assert_eq!(get_u64(&sector, SETTINGS_LENGTH_MAX), 1000);
        let name_length = get_u32(&sector, SETTINGS_NAME_LENGTH) as usize;
        assert_eq!(&sector[SETTINGS_NAME..][..name_length], b"jobs");
    }
}

/// The document's example is one queue: its copy says what its message said.
#[test]
fn the_copies_of_the_document_are_those_of_its_messages() {
    for (prefix, codec) in codecs() {
        let (messages, copies) =
            (dumps(&format!("{prefix}message")), dumps(&format!("{prefix}copy")));
        let (message, copy) = (record(&messages[0], &codec), record(&copies[0], &codec));
        assert_eq!(copy.origin, messages[0].position());
        assert_eq!(copy.message(), message.message());
    }
}

/// Names and values of constants.
macro_rules! constants {
    ($($name:ident)*) => {
        [$((stringify!($name), u64::try_from($name).expect("a small number"))),*]
    };
}

/// The rows of the document's tables whose first cell is in backquotes: that name, the other cells.
fn rows(document: &str) -> Vec<(String, Vec<String>)> {
    let row = |line: &str| {
        let cells = line.strip_prefix("| `")?.strip_suffix('|')?;
        let (name, rest) = cells.split_once("` |")?;
        let rest = rest.split('|').map(|cell| cell.trim().to_string()).collect();
        Some((name.to_string(), rest))
    };
    document.lines().filter_map(row).collect()
}

#[test]
fn the_offsets_of_the_document_are_those_of_the_code() {
    let in_code = constants! {
        VERSION SECTOR ALIGNMENT SLOTS SLOT_COUNT RECORDS
        SEGMENT_MAGIC SEGMENT_READER SEGMENT_WRITER SEGMENT_CRC SEGMENT_BASE SEGMENT_SIZE
        SEGMENT_CREATED_MS SEGMENT_HASH_KEY SEGMENT_NAME_LENGTH SEGMENT_NAME
        SLOT_GENERATION SLOT_HEAD SLOT_NEXT_SEQUENCE SLOT_DURABLE SLOT_OLDEST SLOT_BASE
        SLOT_HASH_KEY SLOT_READER SLOT_WRITER SLOT_CRC SLOT_SIZE
        RECORD_HEAD_CRC RECORD_CRC RECORD_LENGTH RECORD_KIND RECORD_HEAD RECORD_MARKS RECORD_FLAGS
        RECORD_ROOM RECORD_SEQUENCE RECORD_DURABLE RECORD_COMMON
        MESSAGE_PUSHED_MS MESSAGE_EXPIRES_MS MESSAGE_DELIVER_MS MESSAGE_MORE
        RECORD_ORIGIN COPY_PUSHED_MS COPY_EXPIRES_MS COPY_DELIVER_MS COPY_MORE
        FOOTER_MAGIC FOOTER_BASE FOOTER_RECORDS_END FOOTER_FIRST_DURABLE FOOTER_LAST_DURABLE
        FOOTER_ENTRY_COUNT FOOTER_RUN_COUNT FOOTER_ORIGIN_COUNT FOOTER_ENTRIES
        STATE_ORIGIN STATE_DELIVER_MS STATE_MORE
        FIELD_KIND FIELD_SIZE FAILURES_ATTEMPTS FAILURES_NACKS FAILURES_EXPIRIES FAILURES_FIRST_MS
        FAILURES_LAST_MS FAILURES_FIRST_LENGTH FAILURES_LAST_LENGTH FAILURES_REASONS
        SETTINGS_MAGIC SETTINGS_READER SETTINGS_WRITER SETTINGS_CRC SETTINGS_PAUSED
        SETTINGS_DIRECTION SETTINGS_ROOM SETTINGS_LENGTH_MAX SETTINGS_MORE SETTINGS_NAME_LENGTH
        SETTINGS_NAME
    };
    let is_upper = |byte: u8| byte == b'_' || byte.is_ascii_uppercase();
    let in_document: BTreeMap<String, u64> = rows(&document())
        .into_iter()
        .filter(|(name, _)| name.bytes().all(is_upper))
        .map(|(name, cells)| (name, cells[0].parse().expect("a number")))
        .collect();
    let in_code = in_code.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    assert_eq!(in_document, in_code);
    let document = document();
    for said in [
        format!("| {NAME_MAX} (`NAME_MAX`) |"),
        format!("{MESSAGE_HEAD} (`MESSAGE_HEAD`)"),
        format!("{REMOVAL_HEAD} (`REMOVAL_HEAD`)"),
        format!("{COPY_HEAD} (`COPY_HEAD`)"),
        format!("{HEAD_MAX} at most (`HEAD_MAX`)"),
        format!("{OPTIONAL_KINDS} on (`OPTIONAL_KINDS`)"),
        format!("(`MARK_MORE`, {MARK_MORE})"),
        format!("{FAILURES_FIELD} (`FAILURES_FIELD`)"),
    ] {
        assert!(document.replace('\n', " ").contains(&said), "{said} is missing");
    }
}

/// A constant that is new in the code has a place in the document.
#[test]
fn every_constant_of_the_layout_is_in_the_document() {
    let (layout, document) = (text_of("src/storage/layout.rs"), document());
    let constants = layout.lines().filter_map(|line| line.strip_prefix("pub const "));
    let mut count = 0;
    for constant in constants {
        let (name, value) = constant.split_once(':').expect("a type");
        // A magic is shown as what it is.
        let magic = value.split_once("*b\"").and_then(|(_, magic)| magic.split('"').next());
        let shown = magic.unwrap_or(name);
        assert!(document.contains(&format!("`{shown}`")), "{name} is missing");
        count += 1;
    }
    assert!(count > 30, "only {count} were found");
}

/// Fields follow each other: a width is the distance to the next offset.
#[test]
fn the_widths_of_the_document_close_the_chain_of_offsets() {
    let document = document();
    let mut expected: Option<u64> = None;
    let mut seen = 0;
    for line in document.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", _, offset, width, .., ""] = cells[..] else {
            expected = None;
            continue;
        };
        let Ok(offset) = offset.parse::<u64>() else {
            continue;
        };
        if let Some(expected) = expected {
            assert_eq!(offset, expected, "{line}");
            seen += 1;
        }
        let width = width.split(' ').next().and_then(|width| width.parse::<u64>().ok());
        expected = width.map(|width| offset + width);
    }
    assert!(seen > 25, "only {seen} fields were compared");
}

#[test]
fn the_labels_of_the_document_are_those_of_the_code() {
    let document = document();
    let (_, recovery) = document.split_once("\n## Recovery\n").expect("a section on recovery");
    let (recovery, _) = recovery.split_once("\n## ").expect("a section after it");
    let weight = |label: Label| match label.weight() {
        Weight::Note => "no",
        Weight::Damage => "yes",
        Weight::Refusal => "-",
    };
    let mut labels = Label::all();
    for (name, cells) in rows(recovery) {
        let label = labels.next().expect("a label for each row");
        let in_code = [label.found(), label.done(), weight(label)];
        assert_eq!((name.as_str(), &cells[..3]), (label.name(), &in_code.map(String::from)[..]));
        assert!(cells.len() == 4 && !cells[3].is_empty(), "{name} has no reason");
    }
    assert_eq!(labels.next(), None, "a label without a row");
}

#[test]
fn file_and_folder_names_of_the_document_are_those_of_the_code() {
    let document = document();
    let (_, picture) = document.split_once("mq-data/\n").expect("the picture of a directory");
    let (picture, _) = picture.split_once("```").expect("its end");
    let names = || picture.lines().filter_map(|line| line.split_whitespace().next());
    let bases: Vec<u64> = names().filter_map(base_of).collect();
    assert_eq!(bases, [0, 8192]);
    assert!(names().any(|name| name == file_name(8192)));
    assert!(names().any(|name| name == SETTINGS));
    let queues: Vec<Option<Vec<u8>>> =
        names().filter_map(|name| decode_folder(name.strip_suffix('/')?)).collect();
    assert_eq!(queues, [Some(b"jobs".to_vec()), Some(b"\na/b".to_vec()), None]);
}
