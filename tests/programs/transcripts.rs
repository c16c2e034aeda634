//! Replays the conversations of `tests/transcripts` over real sockets, in several cuts.
//!
//! A file is read line by line:
//!
//! - `# a comment`;
//! - `@ redis memory disk --max-queues 1`: what follows starts as a Redis client, on a daemon for
//!   each of these stores, with these options;
//! - an empty line: a new conversation, with new connections and an empty store;
//! - `= memcached`, `= redis other`: go on as this client, which connects when it is first named;
//! - `> text`: send the text and CRLF; to Redis it is an inline command unless it starts with `*`;
//! - `< text`: the next bytes received are the text and CRLF; `< ...`: any lines up to the next;
//! - `! closed`: the daemon ends the connection and sends nothing before that.
//!
//! In a text `\r \n \0 \\ \xHH` are bytes, `\200{a\n}` is `a` and a line feed 200 times, and `\?`,
//! only in what is received, is any end or middle of a line. A conversation that is over must not
//! get another byte.

use crate::common::{Client, Daemon};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Conversations on the same daemons.
struct Section {
    protocol: String,
    /// Arguments of each daemon.
    daemons: Vec<String>,
    conversations: Vec<Vec<Step>>,
}

#[derive(Clone, Debug)]
enum Step {
    /// Go on as the client of this name.
    Switch(String),
    Send(Vec<u8>),
    /// Exactly these bytes.
    Receive(Vec<u8>),
    /// A line that begins and ends like this.
    Like(Vec<u8>, Vec<u8>),
    /// Any lines, and then one with these bytes.
    Until(Vec<u8>),
    Closed,
}

/// How what is sent is cut into pieces.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Lines,
    /// All that one client says before another speaks, at once.
    Whole,
    Bytes,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).expect("a transcript")
}

fn parse(name: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for (line, number) in read(name).lines().zip(1..) {
        let (mark, text) = line.split_at_checked(2).unwrap_or((line, ""));
        let step = match (mark.trim_end(), text) {
            ("#", _) => continue,
            ("@", _) => {
                sections.push(section(text));
                continue;
            }
            ("", _) => {
                if let Some(section) = sections.last_mut() {
                    section.conversations.push(Vec::new());
                }
                continue;
            }
            ("=", _) => Step::Switch(text.to_owned()),
            (">", _) => Step::Send([bytes(text), b"\r\n".to_vec()].concat()),
            ("<", "...") => Step::Until(Vec::new()),
            ("<", _) => received(text),
            ("!", "closed") => Step::Closed,
            _ => panic!("{name}:{number}: {line:?} is none of the format"),
        };
        let section = sections.last_mut().expect("a line with @ comes first");
        let conversation = section.conversations.last_mut().expect("there is always one");
        match (conversation.last_mut(), step) {
            (Some(Step::Until(line)), Step::Receive(bytes)) if line.is_empty() => *line = bytes,
            (_, step) => conversation.push(step),
        }
    }
    sections
}

/// `redis memory disk --max-queues 1`
fn section(text: &str) -> Section {
    let (who, options) = text.split_at(text.find("--").unwrap_or(text.len()));
    let mut words = who.split_whitespace();
    let protocol = words.next().expect("a protocol").to_owned();
    let daemons = words.map(|store| format!("--store {store} {options}")).collect();
    Section { protocol, daemons, conversations: vec![Vec::new()] }
}

fn received(text: &str) -> Step {
    match text.split_once("\\?") {
        Some((start, end)) => Step::Like(bytes(start), bytes(end)),
        None => Step::Receive([bytes(text), b"\r\n".to_vec()].concat()),
    }
}

/// The bytes that a text with escapes stands for.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        rest = match escaped.chars().next() {
            Some('r') => push(&mut bytes, b'\r', &escaped[1..]),
            Some('n') => push(&mut bytes, b'\n', &escaped[1..]),
            Some('x') => {
                let byte = u8::from_str_radix(&escaped[1..3], 16).expect("two hexadecimal digits");
                push(&mut bytes, byte, &escaped[3..])
            }
            Some('0') => push(&mut bytes, 0, &escaped[1..]),
            Some('1'..='9') => {
                let (count, behind) = escaped.split_once('{').expect("a count and {");
                let (repeated, behind) = behind.split_once('}').expect("a closing }");
                bytes.extend(self::bytes(repeated).repeat(count.parse().expect("a count")));
                behind
            }
            Some('\\') => push(&mut bytes, b'\\', &escaped[1..]),
            _ => panic!("an unknown escape: \\{escaped}"),
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

fn push<'a>(bytes: &mut Vec<u8>, byte: u8, rest: &'a str) -> &'a str {
    bytes.push(byte);
    rest
}

/// The same conversation, sent in other pieces.
fn cut(steps: &[Step], how: Cut) -> Vec<Step> {
    let is_switch = |step: &Step| matches!(step, Step::Switch(_));
    match how {
        Cut::Lines => steps.to_vec(),
        Cut::Bytes => steps.iter().flat_map(single_bytes).collect(),
        Cut::Whole => steps.chunk_by(|_, next| !is_switch(next)).flat_map(at_once).collect(),
    }
}

fn single_bytes(step: &Step) -> Vec<Step> {
    match step {
        Step::Send(bytes) => bytes.iter().map(|&byte| Step::Send(vec![byte])).collect(),
        step => vec![step.clone()],
    }
}

/// `turn`: what one client says and hears, behind the step that names it.
fn at_once(turn: &[Step]) -> Vec<Step> {
    let (mut first, mut said, mut heard) = (Vec::new(), Vec::new(), Vec::new());
    for step in turn {
        match step {
            Step::Switch(_) => first.push(step.clone()),
            Step::Send(bytes) => said.extend_from_slice(bytes),
            step => heard.push(step.clone()),
        }
    }
    first.push(Step::Send(said));
    [first, heard].concat()
}

/// Replays a file on each of its daemons in each of the cuts. What is printed is shown on failure.
fn replay(name: &str, cuts: &[Cut]) {
    for section in parse(name) {
        for arguments in &section.daemons {
            for &how in cuts {
                println!("\n# {name}: mqd {arguments}, cut: {how:?}");
                let daemon = Daemon::start(arguments);
                for conversation in &section.conversations {
                    converse(&daemon, &section.protocol, &cut(conversation, how));
                }
            }
        }
    }
}

fn converse(daemon: &Daemon, protocol: &str, steps: &[Step]) {
    if steps.is_empty() {
        return;
    }
    daemon.redis().ask("FLUSHALL\r\n", "+OK\r\n");
    let mut clients = BTreeMap::from([(protocol.to_owned(), connect(daemon, protocol))]);
    let mut name = protocol.to_owned();
    for step in steps {
        if let Step::Switch(next) = step {
            name.clone_from(next);
            clients.entry(name.clone()).or_insert_with(|| connect(daemon, next));
        } else if matches!(step, Step::Closed) {
            clients.remove(&name).expect("an open connection").expect_end();
        } else {
            play(clients.get_mut(&name).expect("an open connection"), step);
        }
    }
    for mut client in clients.into_values() {
        client.half_close();
        client.expect_end();
    }
}

fn connect(daemon: &Daemon, client: &str) -> Client {
    match client.split_whitespace().next() {
        Some("redis") => daemon.redis(),
        Some("memcached") => daemon.memcached(),
        _ => panic!("{client:?} is no client"),
    }
}

fn play(client: &mut Client, step: &Step) {
    match step {
        Step::Send(bytes) => client.send(bytes),
        Step::Receive(bytes) => client.expect(bytes),
        Step::Like(start, end) => {
            client.expect(start);
            let rest = client.read_line();
            let is_like = rest.as_bytes().ends_with(end);
            assert!(is_like, "{rest:?} does not end in \"{}\"", end.escape_ascii());
        }
        Step::Until(last) => while [client.read_line().as_bytes(), b"\r\n"].concat() != *last {},
        Step::Switch(_) | Step::Closed => {}
    }
}

#[test]
fn queues_over_redis() {
    replay("redis-queues.txt", &[Cut::Lines, Cut::Whole]);
}

#[test]
fn values_over_redis() {
    replay("redis-kv.txt", &[Cut::Lines, Cut::Whole]);
}

#[test]
fn connections_over_redis() {
    replay("redis-connection.txt", &[Cut::Lines, Cut::Whole, Cut::Bytes]);
}

#[test]
fn errors_over_redis() {
    replay("redis-errors.txt", &[Cut::Lines, Cut::Whole]);
}

#[test]
fn limits_over_both_protocols() {
    replay("limits.txt", &[Cut::Lines]);
}

#[test]
fn queues_over_memcached() {
    replay("memcached-queues.txt", &[Cut::Lines, Cut::Whole, Cut::Bytes]);
}

#[test]
fn values_over_memcached() {
    replay("memcached-kv.txt", &[Cut::Lines, Cut::Whole]);
}

#[test]
fn errors_over_memcached() {
    replay("memcached-errors.txt", &[Cut::Lines, Cut::Whole]);
}

#[test]
fn both_protocols_on_one_queue() {
    replay("both.txt", &[Cut::Lines, Cut::Whole]);
}

fn file_names() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("a folder");
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("ASCII");
    entries.map(|entry| name(entry.expect("an entry"))).collect()
}

/// What stands behind `mark` in the files that `is_wanted` wants by their names.
fn all_lines(mark: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let names = file_names();
    let texts = names.iter().filter(|name| is_wanted(name)).map(|name| read(name));
    let marked = |text: String| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(mark));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    texts.flat_map(marked).collect()
}

/// What stands between `start` and the next `"` in the sources of `part`, wherever it does.
fn quoted(part: &str, start: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(part);
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() || path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        let source = fs::read_to_string(path).expect("a source");
        let found = source.split(start).skip(1).filter_map(|rest| rest.split('"').next());
        texts.extend(found.map(str::to_owned));
    }
    assert!(!texts.is_empty(), "nothing begins with {start} in {part}");
    texts
}

#[test]
fn every_file_is_replayed_by_a_test() {
    for name in file_names() {
        assert!(include_str!("transcripts.rs").contains(&format!("replay(\"{name}\"")), "{name}");
    }
}

/// And not only to be refused.
#[test]
fn every_command_is_in_a_transcript() {
    for (protocol, part, start) in [
        ("redis", "session/redis", "    command(\""),
        ("memcached", "protocol/memcached", "        b\""),
    ] {
        let is_good = |name: &str| name.starts_with(protocol) && !name.contains("errors");
        let said = all_lines("> ", is_good);
        let is_said = |command: &String| {
            let mut words = said.iter().filter_map(|line| line.split(' ').next());
            words.any(|word| word.eq_ignore_ascii_case(command))
        };
        let mut missing = quoted(part, start);
        missing.retain(|command| !is_said(command));
        assert!(missing.is_empty(), "no transcript of {missing:?}");
    }
}

/// As far as a text is fixed: up to the first argument that is put into it.
#[test]
fn every_error_answer_is_in_a_transcript() {
    let heard = all_lines("< ", |_| true);
    let mut missing = Vec::new();
    for (part, mark, prefixes) in [
        ("session/redis", "-", &["ERR", "WRONGTYPE", "NOPROTO", "EXECABORT", "WRONGPASS"][..]),
        ("protocol/memcached", "", &["CLIENT_ERROR", "SERVER_ERROR"]),
        ("session/memcached", "", &["CLIENT_ERROR"]),
    ] {
        for prefix in prefixes {
            for text in quoted(part, &format!("\"{prefix} ")) {
                let fixed = text.split(['{', '\\']).next().unwrap_or_default();
                let answer = format!("{mark}{prefix} {fixed}");
                if !heard.iter().any(|line| line.starts_with(&answer)) {
                    missing.push(answer);
                }
            }
        }
    }
    assert!(missing.is_empty(), "no transcript of {missing:#?}");
}
