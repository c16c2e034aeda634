//! mq-dump: looks into a data directory and writes nothing there.
//!
//! It may look beside a running daemon, and into a damaged directory: what is damaged is named on
//! standard error, and everything else is shown. Exit codes: 0 for all well, also when nobody reads
//! the output to its end; 1 for damage or something that is not there; 2 for a wrong command line.

use log::LevelFilter;
use mq::logging;
use mq::storage::{InspectedQueue, Inspection, Message, StorageError};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

const DIRECTORY: &str = "./mq-data";
const FROM: u64 = 1;
const MISTAKE: u8 = 2;

/// What is asked for.
enum Command {
    Help,
    Version,
    List,
    /// Of this queue, `count` messages from number `from` on.
    Messages {
        queue: String,
        from: u64,
        count: u64,
    },
}

fn main() -> ExitCode {
    let (directory, command) = match parse(std::env::args_os().skip(1)) {
        Ok(parsed) => parsed,
        Err(mistake) => {
            complain(&format!("{mistake} (mq-dump --help shows the usage)"));
            return ExitCode::from(MISTAKE);
        }
    };
    logging::start(LevelFilter::Warn);
    let mut dump = Dump {
        inspection: Inspection::new(&directory),
        output: BufWriter::new(io::stdout().lock()),
        has_failed: false,
    };
    let outcome = dump.run(command).and_then(|()| dump.output.flush());
    dump.say_findings();
    match outcome {
        Ok(()) if dump.has_failed => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        // As with `| head`: the reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("cannot write the output: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn complain(reason: &str) {
    let _ = writeln!(io::stderr(), "mq-dump: {reason}");
}

/// The directory and the command. An error is one line for standard error.
fn parse(arguments: impl Iterator<Item = OsString>) -> Result<(PathBuf, Command), String> {
    let mut options = getopts::Options::new();
    for name in ["dir", "from", "count"] {
        options.optopt("", name, "", "");
    }
    options.optflag("h", "help", "");
    options.optflag("V", "version", "");
    let given = options.parse(arguments).map_err(|error| error.to_string())?;
    let number = |name: &str, default: u64| match given.opt_str(name) {
        Some(text) => text.parse().map_err(|_| format!("--{name} is a number, not {text:?}")),
        None => Ok(default),
    };
    let (from, count) = (number("from", FROM)?, number("count", u64::MAX)?);
    let words: Vec<&str> = given.free.iter().map(String::as_str).collect();
    let command = match words[..] {
        _ if given.opt_present("help") => Command::Help,
        _ if given.opt_present("version") => Command::Version,
        ["messages", queue] => Command::Messages { queue: queue.into(), from, count },
        ["messages"] => return Err("messages wants a queue".into()),
        ["list"] if given.opt_present("from") || given.opt_present("count") => {
            return Err("--from and --count belong to messages".into());
        }
        ["list"] => Command::List,
        [] => return Err("a command is missing".into()),
        ["list", extra, ..] | ["messages", _, extra, ..] => {
            return Err(format!("unexpected argument {extra:?}"));
        }
        [other, ..] => return Err(format!("no such command: {other:?}")),
    };
    let directory = given.opt_str("dir").unwrap_or(DIRECTORY.into());
    Ok((directory.into(), command))
}

struct Dump<W> {
    inspection: Inspection,
    output: W,
    /// Something asked for could not be shown, or is damaged.
    has_failed: bool,
}

impl<W: Write> Dump<W> {
    /// Does what is asked. An error is one of the output; all others are logged.
    fn run(&mut self, command: Command) -> io::Result<()> {
        match command {
            Command::Help => self.output.write_all(usage().as_bytes()),
            Command::Version => writeln!(self.output, "mq-dump {}", env!("CARGO_PKG_VERSION")),
            Command::List => self.list(),
            Command::Messages { queue, from, count } => self.messages(&queue, from, count),
        }
    }

    fn list(&mut self) -> io::Result<()> {
        writeln!(
            self.output,
            "{:>10} {:>14} {:>8} {:>14}  queue",
            "messages", "live bytes", "segments", "disk bytes"
        )?;
        self.warn_of_daemon();
        for folder in self.folders(None) {
            if let Some(queue) = self.open(&folder) {
                writeln!(
                    self.output,
                    "{:>10} {:>14} {:>8} {:>14}  {}",
                    queue.message_count(),
                    queue.live_bytes(),
                    queue.segment_count(),
                    queue.disk_bytes(),
                    Escaped(queue.name())
                )?;
            }
        }
        Ok(())
    }

    fn messages(&mut self, queue: &str, from: u64, count: u64) -> io::Result<()> {
        self.warn_of_daemon();
        for name in names(queue) {
            for folder in self.folders(Some(&name)) {
                if let Some(queue) = self.open(&folder).filter(|queue| queue.name() == name) {
                    return self.print_messages(queue, from, count);
                }
            }
        }
        if !self.has_failed {
            self.fail(format_args!("no queue {queue:?}"));
        }
        Ok(())
    }

    fn print_messages(
        &mut self,
        mut queue: InspectedQueue,
        from: u64,
        count: u64,
    ) -> io::Result<()> {
        writeln!(
            self.output,
            "{:>10} {:<24} {:>10} {:>10}  value",
            "number", "pushed", "flags", "bytes"
        )?;
        let (mut next, mut left) = (Some(from), count);
        while let Some(from) = next.filter(|_| left > 0) {
            match queue.next(from) {
                Ok(Some(message)) => {
                    print_message(&mut self.output, &message)?;
                    next = message.sequence.checked_add(1);
                    left -= 1;
                }
                Ok(None) => next = None,
                Err(error) => {
                    self.fail(format_args!("{error}"));
                    next = None;
                }
            }
        }
        Ok(())
    }

    fn warn_of_daemon(&self) {
        if self.inspection.is_in_use() {
            log::warn!("a daemon uses this directory: what is shown may have changed already");
        }
    }

    /// Folders of queues; with a name, of those that may have it.
    fn folders(&mut self, name: Option<&[u8]>) -> Vec<String> {
        let folders = self.inspection.folders(name);
        self.shown(folders).unwrap_or_default()
    }

    fn open(&mut self, folder: &str) -> Option<InspectedQueue> {
        let queue = self.inspection.open(folder);
        self.say_findings();
        self.shown(queue).flatten()
    }

    /// Names what was found in the files.
    fn say_findings(&mut self) {
        for finding in self.inspection.take_findings() {
            log::log!(finding.level(), "{finding}");
            self.has_failed |= finding.is_damage();
        }
    }

    /// Logs what cannot be shown.
    fn shown<T>(&mut self, outcome: Result<T, StorageError>) -> Option<T> {
        outcome.map_err(|error| self.fail(format_args!("{error}"))).ok()
    }

    fn fail(&mut self, reason: fmt::Arguments<'_>) {
        log::error!("{reason}");
        self.has_failed = true;
    }
}

fn print_message(output: &mut impl Write, message: &Message<'_>) -> io::Result<()> {
    let (seconds, ms) = (message.pushed_ms / 1000, message.pushed_ms % 1000);
    writeln!(
        output,
        "{:>10} {}.{ms:03}Z {:>10} {:>10}  {}",
        message.sequence,
        logging::date_and_time(seconds),
        message.flags,
        message.body.len(),
        Escaped(message.body)
    )
}

/// Bytes as one line of ASCII: `\n`, `\x00` and their like, and `\\`. Quotes are as they are.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for quoted in self.0.split_inclusive(|byte| matches!(byte, b'"' | b'\'')) {
            match quoted {
                [plain @ .., quote @ (b'"' | b'\'')] => {
                    write!(f, "{}{}", plain.escape_ascii(), char::from(*quote))?;
                }
                plain => write!(f, "{}", plain.escape_ascii())?,
            }
        }
        Ok(())
    }
}

/// The names that an argument may mean: its bytes, and what it says with escapes as printed.
fn names(argument: &str) -> Vec<Vec<u8>> {
    let mut names = vec![argument.into()];
    names.extend(unescape(argument.as_bytes()).filter(|name| name != argument.as_bytes()));
    names
}

/// The bytes that [`Escaped`] prints so; None: it never does.
fn unescape(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some((&first, rest)) = text.split_first() {
        text = rest;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let (&letter, rest) = text.split_first()?;
        text = rest;
        bytes.push(match letter {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'\\' => b'\\',
            b'x' => {
                let (digits, rest) = text.split_at_checked(2)?;
                text = rest;
                let digit = |digit: u8| char::from(digit).to_digit(16);
                (digit(digits[0])? * 16 + digit(digits[1])?) as u8
            }
            _ => return None,
        });
    }
    Some(bytes)
}

fn usage() -> String {
    format!(
        "\
mq-dump: looks into the directory of a disk store, and writes nothing there.

usage: mq-dump [--dir DIR] list
       mq-dump [--dir DIR] messages QUEUE [--from N] [--count N]

  list              one line for each queue
  messages QUEUE    one line for each message of a queue, oldest first; QUEUE may be written
                    as list prints it, with \\x00 and the like

  --dir DIR         directory of the disk store ({DIRECTORY})
  --from N          number of the first message ({FROM})
  --count N         most messages (all)
  -h, --help        print this text
  -V, --version     print the version

A running daemon is not disturbed; its queues change while they are read. What is damaged is
named on standard error, and the exit code is 1 then; 2 for a wrong command line.
"
    )
}
