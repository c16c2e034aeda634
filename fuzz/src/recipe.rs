//! Recipes: a queue's files, made by the choices of an input.
//!
//! Checksums are right where a choice does not make them wrong: a fuzzer would never guess one. So
//! whatever a segment can say is said: what this program may have written, with any damage to its
//! bytes, and what it never writes: the same number twice, a removal of what comes later, positions
//! beyond the end of the world. The recipe says which of both it is.

use super::choices::Choices;
use mq::storage::format::*;
use mq::storage::{Cause, Failures};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::{fs, io};

/// Files by name.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The key of all hashes.
const HASH_KEY: [u8; 16] = *b"0123456789abcdef";

/// How records are written in segments of each version.
pub static CODECS: LazyLock<[Codec; 2]> =
    LazyLock::new(|| [Version::One, Version::Two].map(|version| Codec::new(version, HASH_KEY)));

/// Bytes that a segment's size is a multiple of.
const BLOCK: u64 = 4096;

/// Reads the files of a folder; those of its folders are left out.
pub fn read_files(folder: &Path) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let read = entry.and_then(|entry| Ok((entry.file_name(), fs::read(entry.path())?)));
        match read {
            Ok((name, bytes)) => drop(files.insert(name.into(), bytes)),
            // A tombstone may go at any time, and a folder is no file.
            Err(error) => assert_ne!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
    files
}

/// Writes files into a folder, which is made if it is not there.
pub fn write_files(folder: &Path, files: &Files) {
    fs::create_dir_all(folder).expect("a folder");
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).expect("a file");
    }
}

/// A recipe's log, and what has been chosen so far.
struct Recipe<'a, 'b> {
    choices: &'a mut Choices<'b>,
    /// What this program never writes is written too.
    is_wild: bool,
    files: Files,
    /// Where the last segment ends.
    end: u64,
    /// The number of the next message.
    next_sequence: u64,
    /// Numbers, positions and bodies of the messages that live.
    live: Vec<(u64, u64, Vec<u8>)>,
    /// All lower numbers are gone.
    head: u64,
    /// The log was durable up to here.
    durable: u64,
    /// Of the last cursor.
    generation: u64,
    /// Segments of version 1 are still to come. A queue begins in one version and goes on in the
    /// next.
    old_count: usize,
}

/// A segment in the making.
struct Draft {
    codec: &'static Codec,
    base: u64,
    bytes: Vec<u8>,
    /// Where the next record goes.
    offset: usize,
    footer: Footer,
    /// Records that no footer has a place for are in it.
    has_others: bool,
}

/// Makes the files of queue `q`, by the choices. Returns true if all that is not damaged in them is
/// what this program may have written.
pub fn queue_files(choices: &mut Choices<'_>) -> (Files, bool) {
    let is_wild = choices.below(4) == 3;
    let (count, old_count) = (1 + choices.below(4), choices.below(4));
    let mut recipe = Recipe {
        choices,
        is_wild,
        files: Files::new(),
        end: 0,
        next_sequence: 1,
        live: Vec::new(),
        head: 1,
        durable: 0,
        generation: 0,
        old_count,
    };
    for _ in 0..count {
        recipe.segment();
    }
    (recipe.files, !is_wild)
}

impl Recipe<'_, '_> {
    /// One time in `often` in what is wild: any number.
    fn wild(&mut self, often: usize) -> Option<u64> {
        let is_wild = self.is_wild && self.choices.below(often) == often - 1;
        is_wild.then(|| match self.choices.byte() {
            255 => self.choices.wide(),
            254 => SEQUENCE_END - 1,
            253 => self.end,
            byte => byte.into(),
        })
    }

    fn segment(&mut self) {
        let base = match self.choices.below(16) {
            13 => self.end + BLOCK,
            14 => self.end + 100 * BLOCK,
            15 => self.end.saturating_sub(BLOCK),
            _ => self.wild(8).map_or(self.end, |any| any % POSITION_MAX / BLOCK * BLOCK),
        };
        let base = base.min(POSITION_MAX);
        let size = BLOCK * (1 + self.choices.below(3) as u64);
        self.durable = self.durable.max(self.end);
        self.end = base + size;
        let bytes = vec![0; size as usize];
        let footer = Footer::new(base + RECORDS as u64);
        let codec = &CODECS[usize::from(self.old_count == 0)];
        self.old_count = self.old_count.saturating_sub(1);
        let mut draft = Draft { codec, base, bytes, offset: RECORDS, footer, has_others: false };
        self.header(&mut draft);
        while self.choices.below(32) > 0 && !self.choices.is_empty() {
            self.content(&mut draft);
        }
        self.end_of_file(&mut draft);
        self.files.insert(file_name(base).into(), draft.bytes);
    }

    fn header(&mut self, draft: &mut Draft) {
        let kind = self.choices.below(32);
        let name: &[u8] = if kind == 1 { b"other" } else { b"q" };
        let (version, name) = (draft.codec.version(), name.into());
        let header = SegmentHeader { version, created_ms: 0, hash_key: HASH_KEY, name };
        let size = self.wild(8).unwrap_or(draft.bytes.len() as u64);
        match kind {
            // As if the file had never been finished.
            2 => return,
            3 => header.encode(draft.base ^ BLOCK, size, &mut draft.bytes),
            _ => header.encode(draft.base, size, &mut draft.bytes),
        }
        match kind {
            4 => draft.bytes[SEGMENT_HASH_KEY] ^= 1,
            5 => {
                put_u16(&mut draft.bytes, SEGMENT_READER, VERSION + 1);
                put_u32(&mut draft.bytes, SEGMENT_CRC, 0);
                let crc = crc32fast::hash(&draft.bytes[..SECTOR]);
                put_u32(&mut draft.bytes, SEGMENT_CRC, crc);
            }
            _ => {}
        }
    }

    fn content(&mut self, draft: &mut Draft) {
        let kind = match self.choices.below(64) {
            0..=24 => Kind::Message,
            25 if draft.codec.version() == Version::Two => {
                let kind = Kind::Other(OPTIONAL_KINDS + self.choices.byte() % 128);
                return self.record(draft, kind);
            }
            25 => Kind::Message,
            26..=35 => Kind::Removal,
            36..=45 => Kind::Copy,
            46..=53 => return self.cursor(draft),
            54 => return self.durable = draft.base + draft.offset as u64,
            55..=58 => return self.overwritten_record(draft),
            59 => return self.flip_sector(draft),
            63 if draft.codec.version() == Version::Two => Kind::State,
            _ => return self.damaged_record(draft),
        };
        self.record(draft, kind);
    }

    /// Damages the header or a cursor.
    fn flip_sector(&mut self, draft: &mut Draft) {
        let at = self.choices.below(RECORDS / SECTOR) * SECTOR + self.choices.below(64);
        draft.bytes[at] ^= 1 + self.choices.byte() % 255;
    }

    /// A record that is lost with its length: there are zeros, or something else.
    fn overwritten_record(&mut self, draft: &mut Draft) {
        let start = draft.offset;
        self.record(draft, Kind::Message);
        let byte = self.choices.byte().saturating_sub(128);
        draft.bytes[start..draft.offset].fill(byte);
    }

    fn damaged_record(&mut self, draft: &mut Draft) {
        let start = draft.offset;
        self.record(draft, Kind::Message);
        let at = start + self.choices.below(64);
        if at < draft.offset {
            draft.bytes[at] ^= 1 + self.choices.byte() % 255;
        }
    }

    fn record(&mut self, draft: &mut Draft, kind: Kind) {
        let position = draft.base + draft.offset as u64;
        let Some((sequence, origin, body)) = self.subject(kind, position) else { return };
        let kept = if kind.is_bare() { &[][..] } else { &body };
        let durable = self.wild(8).unwrap_or(self.durable);
        let version = draft.codec.version();
        let record = Record { version, durable, origin, ..plain_record(kind, sequence, kept) };
        let has_time = kind.holds_message() && sequence % 8 == 7;
        let expires_ms = if has_time { sequence } else { 0 };
        let mut failures = Failures::default();
        failures.add(Cause::Nack, 1, &body).expect("memory");
        let more = failures.encode().expect("memory");
        let more = if kind == Kind::State { &more[..] } else { &[] };
        let record = Record { expires_ms, more, ..record };
        if draft.offset + record.size() > draft.bytes.len() {
            return;
        }
        draft.codec.encode(&record, position, &mut draft.bytes[draft.offset..]);
        draft.offset += record.size();
        if matches!(kind, Kind::Other(_)) {
            draft.has_others = true;
            return;
        }
        draft.footer.add(&record, BodyHash::new(&HASH_KEY, kept)).expect("memory");
        if kind != Kind::State {
            self.live.retain(|(live, ..)| *live != sequence);
        }
        if kind.holds_message() {
            self.live.push((sequence, position, body));
        }
    }

    /// What the next record speaks of: a new message, or one that lives and where it lies.
    fn subject(&mut self, kind: Kind, position: u64) -> Option<(u64, u64, Vec<u8>)> {
        if let Some(sequence) = self.wild(8) {
            let origin = self.wild(2).unwrap_or(position);
            return Some((sequence % SEQUENCE_END, origin, self.body(sequence, position)));
        }
        if matches!(kind, Kind::Other(_)) {
            return Some((self.next_sequence, 0, self.body(self.next_sequence, position)));
        }
        if kind == Kind::Message {
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            return Some((sequence, 0, self.body(sequence, position)));
        }
        let chosen = self.choices.below(self.live.len().clamp(1, 256));
        self.live.get(chosen).cloned()
    }

    fn body(&mut self, sequence: u64, position: u64) -> Vec<u8> {
        if self.wild(16).is_some() {
            // What passes for a record where it lies may be taken for one when its own is damaged.
            let inner = plain_record(Kind::Message, sequence % SEQUENCE_END, b"inner");
            // Its sender does not know the key.
            let codec = Codec::new(Version::Two, [0; 16]);
            let mut bytes = vec![0; inner.size()];
            codec.encode(&inner, position + MESSAGE_HEAD as u64, &mut bytes);
            return bytes;
        }
        vec![sequence as u8; self.choices.below(100)]
    }

    /// Pops some messages, perhaps none, and writes a cursor that says so.
    fn cursor(&mut self, draft: &mut Draft) {
        self.live.sort_unstable();
        let popped = self.choices.below(4).min(self.live.len());
        if let Some((last, ..)) = self.live.drain(..popped).next_back() {
            self.head = last + 1;
        }
        self.generation += 1;
        let oldest = self.live.iter().map(|(_, position, _)| *position).min();
        let bases = self.files.keys().map(|name| base_in(name)).chain([draft.base]);
        let oldest = bases.filter(|base| oldest.is_none_or(|oldest| *base <= oldest)).max();
        let oldest = oldest.unwrap_or(draft.base);
        let slot = slot_offset(self.choices.below(SLOT_COUNT));
        let cursor = Cursor {
            generation: self.wild(8).unwrap_or(self.generation),
            head: self.wild(8).unwrap_or(self.head),
            next_sequence: self.wild(8).unwrap_or(self.next_sequence),
            durable: self.wild(8).unwrap_or(self.durable),
            oldest: self.wild(8).unwrap_or(oldest),
        };
        cursor.encode(draft.base, draft.codec, &mut draft.bytes[slot..slot + SECTOR]);
    }

    fn end_of_file(&mut self, draft: &mut Draft) {
        match self.choices.below(16) {
            8..=11 if draft.has_others => {}
            8 | 9 => {
                let footer = draft.footer.encode(draft.base).expect("memory");
                draft.bytes.extend(footer);
            }
            10 => {
                let footer = draft.footer.encode(draft.base).expect("memory");
                draft.bytes.extend(&footer[..self.choices.below(256).min(footer.len())]);
            }
            11 if self.is_wild => {
                let mut footer = draft.footer.encode(draft.base).expect("memory");
                let at = self.choices.below(256) % footer.len();
                footer[at] ^= 1 + self.choices.byte() % 255;
                let (rest, crc) = footer.split_last_chunk_mut::<8>().expect("a footer is longer");
                *crc = u64::from(crc32fast::hash(rest)).to_le_bytes();
                draft.bytes.extend(footer);
            }
            12 => draft.bytes.truncate(64 * self.choices.below(256)),
            13 => draft.bytes.truncate(draft.bytes.len() - self.choices.below(256)),
            14 => draft.bytes.extend(vec![self.choices.byte(); 300]),
            _ => {}
        }
    }
}

/// The base that a segment's file name says.
pub fn base_in(name: &Path) -> u64 {
    name.to_str().and_then(base_of).expect("the name of a segment")
}

/// A record whose other fields are 0, or follow from its number.
fn plain_record(kind: Kind, sequence: u64, body: &[u8]) -> Record<'_> {
    let flags = if kind.is_bare() { 0 } else { sequence as u32 };
    Record { kind, flags, sequence, body, ..Record::default() }
}
