//! The command line: arguments in, what is asked for out, and the usage.

use crate::text::OneLine;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;

const DIRECTORY: &str = "./mq-data";
const FROM: u64 = 1;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Help,
    Version,
    List,
    Show {
        queue: String,
    },
    /// Of this queue, `count` messages from number `from` on.
    Messages {
        queue: String,
        from: u64,
        count: u64,
        format: Format,
    },
    Segment {
        file: PathBuf,
        is_json: bool,
    },
    Verify,
    /// All queues if none is named.
    Export {
        queues: Vec<String>,
        is_protocol: bool,
    },
    /// `None` reads standard input.
    Import {
        file: Option<PathBuf>,
    },
    Repair {
        is_sure: bool,
    },
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Table,
    Hex,
    Raw,
    Json,
}

/// A command's name, how many words follow it, and the options it takes.
type Row = (&'static str, RangeInclusive<usize>, &'static [&'static str]);

const COMMANDS: [Row; 8] = [
    ("list", 0..=0, &[]),
    ("show", 1..=1, &[]),
    ("messages", 1..=1, &["from", "count", "hex", "raw", "json"]),
    ("segment", 1..=1, &["json"]),
    ("verify", 0..=0, &[]),
    ("export", 0..=usize::MAX, &["redis"]),
    ("import", 0..=1, &[]),
    ("repair", 0..=0, &["yes"]),
];
const NUMBERS: [&str; 2] = ["from", "count"];
const FORMATS: [(&str, Format); 3] =
    [("hex", Format::Hex), ("raw", Format::Raw), ("json", Format::Json)];

/// The directory and the command. An error is one line for standard error.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<(PathBuf, Action), String> {
    let mut options = getopts::Options::new();
    for name in NUMBERS.iter().chain(&["dir"]) {
        options.optopt("", name, "", "");
    }
    for name in ["hex", "raw", "json", "redis", "yes"] {
        options.optflag("", name, "");
    }
    options.optflag("h", "help", "");
    options.optflag("V", "version", "");
    // The mistake may repeat what was given: it is made one line.
    let one_line = |mistake: getopts::Fail| OneLine(&mistake.to_string()).to_string();
    let given = options.parse(arguments).map_err(one_line)?;
    let command = if given.opt_present("help") {
        Action::Help
    } else if given.opt_present("version") {
        Action::Version
    } else {
        command(&given)?
    };
    Ok((given.opt_str("dir").unwrap_or(DIRECTORY.into()).into(), command))
}

fn command(given: &getopts::Matches) -> Result<Action, String> {
    let (name, words) = given.free.split_first().ok_or("a command is missing")?;
    let Some((name, count, allowed)) = COMMANDS.into_iter().find(|row| row.0 == name) else {
        return Err(format!("no such command: \"{}\"", OneLine(name)));
    };
    if let Some(extra) = words.get(*count.end()) {
        return Err(format!("unexpected argument \"{}\"", OneLine(extra)));
    }
    if words.len() < *count.start() {
        let what = if name == "segment" { "file" } else { "queue" };
        return Err(format!("{name} wants a {what}"));
    }
    let mut options = COMMANDS.iter().flat_map(|row| row.2);
    if let Some(other) = options.find(|it| given.opt_present(it) && !allowed.contains(it)) {
        return Err(format!("--{other} does not belong to {name}"));
    }
    let word = || words.first().cloned();
    let queue = word().unwrap_or_default();
    Ok(match name {
        "list" => Action::List,
        "show" => Action::Show { queue },
        "messages" => {
            let (from, count) = (number(given, "from", FROM)?, number(given, "count", u64::MAX)?);
            Action::Messages { queue, from, count, format: format(given)? }
        }
        "segment" => Action::Segment { file: queue.into(), is_json: given.opt_present("json") },
        "verify" => Action::Verify,
        "export" => {
            Action::Export { queues: words.to_vec(), is_protocol: given.opt_present("redis") }
        }
        "import" => Action::Import { file: word().map(PathBuf::from) },
        _ => Action::Repair { is_sure: given.opt_present("yes") },
    })
}

fn number(given: &getopts::Matches, name: &str, default: u64) -> Result<u64, String> {
    match given.opt_str(name) {
        Some(text) => {
            text.parse().map_err(|_| format!("--{name} is a number, not \"{}\"", OneLine(&text)))
        }
        None => Ok(default),
    }
}

fn format(given: &getopts::Matches) -> Result<Format, String> {
    let mut wanted = FORMATS.iter().filter(|(name, _)| given.opt_present(name));
    match (wanted.next(), wanted.next()) {
        (Some((one, _)), Some((other, _))) => Err(format!("--{one} or --{other}, not both")),
        (Some((_, format)), None) => Ok(*format),
        (None, _) => Ok(Format::Table),
    }
}

/// The usage: one screen.
pub fn usage() -> String {
    format!(
        "\
mq-dump: looks into the directory of a disk store, beside a running daemon too.

usage: mq-dump [--dir DIR] COMMAND

  list                one line for each queue: counts, bytes, segments, ages
  show QUEUE          its segments and cursor slots, and how far it is durable
  messages QUEUE      one line for each message, oldest first
    --from N --count N       from this number on ({FROM}); at most N messages (all)
    --hex | --raw | --json   hexdumps; bytes, a line feed between two; lines of JSON
  segment FILE        each record of a file, its header, cursor slots and footer
    --json                   its messages, those that are gone too, as lines of JSON
  verify              reads everything and names each fault
  export [QUEUE ...]  the messages of these queues, or of all, as lines of JSON
    --redis                  as SADD for redis-cli --pipe, which cannot carry flags,
                             times of expiry, and a message that is queued twice
  import [FILE]       pushes what export wrote (standard input), durably; no daemon may run
  repair [--yes]      what recovery would do; with --yes does it, after a copy of DIR

  --dir DIR           the directory ({DIRECTORY}); only import and repair --yes write there
  -h, --help          print this text; -V, --version: print the version

QUEUE may be written as list prints it, with \\x00 and the like. Exit codes: 1 for damage or
something that is not there, 2 for a wrong command line.
"
    )
}
