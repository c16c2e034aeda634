//! `segment`: one file, wherever it lies and whatever it holds, record by record.

use crate::Dump;
use crate::json::MessageLine;
use crate::text::{Count, Escaped, Excerpt, Time};
use mq::storage::format::{Cursor, Fault, Kind, Record, Sealed};
use mq::storage::{BaseSource, CursorSlot, Failures, Piece, SegmentFile, StorageError};
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::Ordering;

/// What stands where there is nothing to say.
const NOTHING: &str = "-";

/// The columns of a record before its body.
const COLUMNS: [&str; 9] =
    ["offset", "is", "kind", "number", "checksum", "computed", "durable", "origin", "bytes"];

fn write_row<T: Display>(
    output: &mut dyn Write,
    columns: [T; 9],
    body: &dyn Display,
) -> io::Result<()> {
    let [offset, verdict, kind, number, stored, computed, durable, origin, bytes] = columns;
    write!(output, "{offset:>10} {verdict:<3} {kind:<7} {number:>19} {stored:>8} {computed:>8} ")?;
    writeln!(output, "{durable:>10} {origin:>10} {bytes:>8}  {body}")
}

impl Dump {
    /// Writes everything about the file at `path` that can be decoded, or its messages as JSON.
    pub fn segment(&mut self, path: &Path, is_json: bool) -> io::Result<()> {
        let file = SegmentFile::open(path);
        let Some(file) = self.shown(file) else { return Ok(()) };
        if is_json {
            self.write_messages(&file)?;
            self.say_unreadable(&file);
            return Ok(());
        }
        self.write_start(&file)?;
        write_slots(&mut self.output, &file)?;
        match file.pieces() {
            Ok(pieces) => self.write_pieces(pieces, file.size())?,
            Err(error) => self.fail(format_args!("{error}")),
        }
        self.say_unreadable(&file);
        self.write_footer(file.footer())
    }

    fn say_unreadable(&mut self, file: &SegmentFile) {
        if let Some(offset) = file.unreadable() {
            let path = file.path().display();
            self.fail(format_args!("{path}: the bytes at offset {offset} cannot be read"));
        }
    }

    /// Every whole message of a file, dead or alive: which they are the file alone does not say.
    fn write_messages(&mut self, file: &SegmentFile) -> io::Result<()> {
        // Without a header nothing in the file says whose it is, but its folder may.
        let folder = file.path().parent().and_then(Path::file_name).unwrap_or_default();
        let name = match file.header() {
            Ok((header, _)) => &*header.name,
            Err(_) => folder.as_bytes(),
        };
        let pieces = file.pieces();
        for piece in self.shown(pieces).into_iter().flatten() {
            match piece {
                Piece::Whole { record, .. }
                    if matches!(record.kind, Kind::Message | Kind::Copy) =>
                {
                    MessageLine::new(name, &record.message()).write(&mut self.output)?;
                }
                Piece::Whole { .. } => {}
                Piece::Bad { offset, fault, .. } => {
                    let (expected, found) = (fault.expected(), fault.found());
                    self.fail(format_args!("offset {offset}: expected {expected}, found {found}"));
                }
            }
        }
        Ok(())
    }

    /// What the file is.
    fn write_start(&mut self, file: &SegmentFile) -> io::Result<()> {
        let path = Escaped(file.path().as_os_str().as_bytes());
        writeln!(self.output, "file    {path}, {} bytes", file.length())?;
        let source = match file.base_source() {
            BaseSource::Header => "as its header says",
            BaseSource::Name => "as its name says",
            BaseSource::CursorSlot => "as a cursor slot says",
            BaseSource::Nothing => "a guess: nothing says it",
        };
        writeln!(self.output, "base    {}, {source}", file.base())?;
        if let Some(base) = file.base_in_name().filter(|base| *base != file.base()) {
            self.has_failed = true;
            writeln!(self.output, "        BAD: its name says {base}")?;
        }
        match file.header() {
            Ok((header, size)) => {
                let (created, name) = (Time(header.created_ms), Escaped(&header.name));
                write!(self.output, "header  ok: version {}, ", header.version as u16)?;
                writeln!(self.output, "size {size}, created {created}, queue {name}")?;
                if file.length() < *size {
                    self.has_failed = true;
                    writeln!(self.output, "        BAD: the file is shorter than that")?;
                }
            }
            Err(fault) => {
                self.has_failed = true;
                let (expected, found) = (fault.expected(), fault.found());
                writeln!(self.output, "header  BAD: expected {expected}, found {found}")?;
            }
        }
        Ok(())
    }

    /// The records of a segment of `size` bytes, and where they end.
    fn write_pieces<'a>(
        &mut self,
        pieces: impl Iterator<Item = Piece<'a>>,
        size: u64,
    ) -> io::Result<()> {
        write_row(&mut self.output, COLUMNS, &"body")?;
        let end = self.progress.count("reading", size);
        let (mut whole_count, mut bad_count) = (0_u64, 0_u64);
        for piece in pieces {
            let behind = match piece {
                Piece::Whole { offset, crc, record } => {
                    whole_count += 1;
                    write_record(&mut self.output, offset, "ok", Some((crc, crc)), &record)?;
                    offset + record.size() as u64
                }
                Piece::Bad { offset, fault, seeming, bytes } => {
                    bad_count += 1;
                    write_bad(&mut self.output, offset, &fault, seeming.as_ref(), bytes)?;
                    offset + bytes.len() as u64
                }
            };
            end.store(behind, Ordering::Relaxed);
        }
        self.progress.end();
        self.has_failed |= bad_count > 0;
        let (end, bad) = (end.load(Ordering::Relaxed), Count(bad_count, "bad place"));
        write!(self.output, "records {whole_count} whole, {bad}; ")?;
        match end {
            0 => writeln!(self.output, "only zeros up to {size}"),
            _ if end == size => writeln!(self.output, "up to the end at {size}"),
            _ => writeln!(self.output, "from offset {end} to {size} zeros"),
        }
    }

    fn write_footer(&mut self, footer: Result<Sealed, StorageError>) -> io::Result<()> {
        match self.shown(footer) {
            Some(Sealed::Not) => writeln!(self.output, "footer  none"),
            Some(Sealed::With(footer)) => {
                let (end, (first, last)) = (footer.records_end, footer.durable);
                let [records, runs, origins, times] = footer.counts();
                write!(self.output, "footer  ok: {records} records up to position {end}, ")?;
                write!(self.output, "{runs} runs of numbers, {origins} origins, ")?;
                write!(self.output, "{times} times of expiry, ")?;
                writeln!(self.output, "durable {first} to {last}")
            }
            Some(Sealed::Badly { length }) => {
                self.has_failed = true;
                writeln!(self.output, "footer  BAD: {length} bytes that are no footer of this file")
            }
            None => Ok(()),
        }
    }
}

/// A record, or what would be one: `crc` is the checksum it says and the one its bytes give.
fn write_record(
    output: &mut dyn Write,
    offset: u64,
    verdict: &str,
    crc: Option<(u32, u32)>,
    record: &Record<'_>,
) -> io::Result<()> {
    let (kind, origin) = match record.kind {
        Kind::Message => ("message", NOTHING.into()),
        Kind::Removal => ("removal", record.origin.to_string()),
        Kind::Copy => ("copy", record.origin.to_string()),
        Kind::State => ("state", record.origin.to_string()),
        Kind::Other(_) => ("other", NOTHING.into()),
    };
    let hex = |crc: u32| format!("{crc:08x}");
    let (stored, computed) = crc.map_or((NOTHING.into(), NOTHING.into()), |(stored, computed)| {
        (hex(stored), hex(computed))
    });
    let columns = [
        offset.to_string(),
        verdict.into(),
        kind.into(),
        record.sequence.to_string(),
        stored,
        computed,
        record.durable.to_string(),
        origin,
        record.body.len().to_string(),
    ];
    match record.kind {
        Kind::State => write_row(output, columns, &Failed(&Failures::decode(record.more))),
        _ => write_row(output, columns, &Excerpt(record.body)),
    }
}

/// What has failed about a message.
struct Failed<'a>(&'a Failures);

impl Display for Failed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failures { attempts, nacks, expiries, last, .. } = self.0;
        write!(f, "attempts {attempts}, nacks {nacks}, expiries {expiries}, ")?;
        write!(f, "last {}: {}", Time(last.at_ms), Excerpt(&last.reason))
    }
}

/// Bytes that are no record, with what they would be, and what is wrong.
fn write_bad(
    output: &mut dyn Write,
    offset: u64,
    fault: &Fault,
    seeming: Option<&Record<'_>>,
    bytes: &[u8],
) -> io::Result<()> {
    let crc = match fault {
        Fault::Checksum { expected, found } => Some((*expected, *found)),
        _ => None,
    };
    match seeming {
        Some(record) => write_record(output, offset, "BAD", crc, record)?,
        None => {
            let mut columns = [NOTHING; 9].map(String::from);
            (columns[0], columns[1]) = (offset.to_string(), "BAD".into());
            write_row(output, columns, &Excerpt(bytes))?;
        }
    }
    let (expected, found, end) = (fault.expected(), fault.found(), offset + bytes.len() as u64);
    writeln!(output, "{:>14} expected {expected}, found {found}; passed over up to {end}", "")
}

/// One line for each cursor slot.
pub fn write_slots(output: &mut dyn Write, file: &SegmentFile) -> io::Result<()> {
    let newest = file.newest_generation();
    for (index, slot) in file.slots().into_iter().enumerate() {
        write!(output, "slot {index}  ")?;
        match slot {
            CursorSlot::Blank => writeln!(output, "never written")?,
            CursorSlot::Valid(cursor) => {
                let mark = if Some(cursor.generation) == newest { ", the newest" } else { "" };
                writeln!(output, "ok{mark}: {}", Says(&cursor))?;
            }
            CursorSlot::Bad { says, fault } => {
                let (expected, found) = (fault.expected(file.base()), fault.found());
                writeln!(output, "BAD: expected {expected}, found {found}; {}", Says(&says))?;
            }
        }
    }
    Ok(())
}

/// A cursor's fields.
struct Says<'a>(&'a Cursor);

impl Display for Says<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cursor { generation, head, next_sequence, durable, oldest } = self.0;
        write!(f, "generation {generation}, head {head}, next number {next_sequence}, ")?;
        write!(f, "durable {durable}, oldest {oldest}")
    }
}
