//! README.md against the program: its sessions are run, its tables and its map are compared.
//!
//! The sessions run in the order of the page, against one daemon with default options but for ports
//! and directory. The Python session is run by `tests/clients/readme.py`, which has the client, and
//! the workers by `tests/clients/workers.py`.

use crate::common::{Client, Daemon, request, run};
use mq::options::{self, Invocation};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn text_of(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fenced blocks of the page, with the language after the fence.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut rest = page;
    while let Some((_, fence)) = rest.split_once("\n```") {
        let (language, fence) = fence.split_once('\n').expect("the line of a fence");
        let (block, after) = fence.split_once("```").expect("the end of a fence");
        blocks.push((language.to_string(), block.to_string()));
        rest = after;
    }
    blocks
}

/// The text of the section under `heading`, up to the next heading.
fn section(page: &str, heading: &str) -> String {
    let start = format!("\n## {heading}\n");
    let (_, section) = page.split_once(&start).unwrap_or_else(|| panic!("no section {heading}"));
    section.split("\n## ").next().unwrap_or_default().to_string()
}

/// A session's steps: what is typed behind `mark`, and the lines that follow.
fn steps<'a>(block: &'a str, mark: &str) -> Vec<(&'a str, String)> {
    let mut steps: Vec<(&str, String)> = Vec::new();
    for line in block.lines() {
        if let Some(typed) = line.strip_prefix(mark) {
            steps.push((typed, String::new()));
        } else if let Some((_, expected)) = steps.last_mut() {
            expected.push_str(line);
            expected.push('\n');
        }
    }
    steps
}

/// A reply as redis-cli shows it on a terminal, with its line end.
fn show_reply(client: &mut Client) -> String {
    let line = client.read_line();
    let (kind, rest) = line.split_at(1);
    match kind {
        "+" => format!("{rest}\n"),
        "-" => format!("(error) {rest}\n"),
        ":" => format!("(integer) {rest}\n"),
        "$" => match rest.parse::<usize>() {
            Ok(length) => {
                let bytes = client.read(length + 2);
                format!("\"{}\"\n", bytes[..length].escape_ascii())
            }
            Err(_) => "(nil)\n".into(),
        },
        "*" => match rest.parse::<usize>() {
            Ok(0) => "(empty array)\n".into(),
            Ok(count) => (1..=count).map(|n| format!("{n}) {}", show_reply(client))).collect(),
            Err(_) => "(nil)\n".into(),
        },
        _ => panic!("no reply of RESP2: {line}"),
    }
}

/// Runs what stands behind `$` and compares what follows it.
fn run_console(mut daemon: Daemon, block: &str) -> Daemon {
    for (typed, expected) in steps(block, "$ ") {
        let words: Vec<&str> = typed.split(' ').collect();
        let got = match words[..] {
            ["redis-cli", "-p", "4000", ..] => {
                let arguments: Vec<&[u8]> = words[3..].iter().map(|word| word.as_bytes()).collect();
                let mut client = daemon.redis();
                client.send(request(&arguments));
                show_reply(&mut client)
            }
            ["kill", "-9", "$(pidof", "mqd)"] => {
                daemon.kill();
                String::new()
            }
            ["target/release/mqd", "2>>mqd.log", "&"] => {
                daemon = daemon.restart();
                "redis listening on 127.0.0.1:4000\nmemcached listening on 127.0.0.1:4001\n".into()
            }
            _ => panic!("the page types something new: {typed}"),
        };
        assert_eq!(got, expected, "$ {typed}");
    }
    daemon
}

/// Types what stands behind `>` and compares what the daemon answers.
fn run_telnet(daemon: &Daemon, block: &str) {
    let block = block.strip_prefix("$ telnet 127.0.0.1 4001\n").expect("the start of telnet");
    let mut client = daemon.memcached();
    for (typed, expected) in steps(block, "> ") {
        client.ask(format!("{typed}\r\n"), expected.replace('\n', "\r\n"));
    }
    client.expect_end();
}

#[test]
fn the_sessions_of_the_page_run_as_they_are_shown() {
    let page = text_of("README.md");
    let mut daemon = Daemon::start("");
    let mut kinds = BTreeSet::new();
    for (language, block) in blocks(&page) {
        match language.as_str() {
            "console" => daemon = run_console(daemon, &block),
            "telnet" => run_telnet(&daemon, &block),
            "js" | "php" | "python" | "sh" | "text" => {}
            _ => panic!("nobody runs a block of {language:?}"),
        }
        kinds.insert(language);
    }
    let wanted = ["console", "js", "php", "python", "sh", "telnet", "text"].map(String::from);
    assert_eq!(kinds, BTreeSet::from(wanted));
}

/// A line without what differs from run to run: times, ages, and the blanks around them.
fn timeless(line: &str) -> String {
    let is_time = |word: &str| word.len() == 24 && word.ends_with('Z');
    let is_age = |word: &str| {
        word.strip_suffix('s')
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let word = |word: &str| match word {
        _ if is_time(word) => "TIME".into(),
        _ if is_age(word) => "AGE".into(),
        _ => match word.split_once("\"pushed_ms\":") {
            Some((start, rest)) => format!("{start}{}", rest.trim_start_matches(char::is_numeric)),
            None => word.to_string(),
        },
    };
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

fn dump(arguments: &[&str]) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mq-dump"));
    let output = command.args(arguments).output().expect("mq-dump starts");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_session_and_the_usage_of_mq_dump_are_as_they_are_shown() {
    let blocks = blocks(&section(&text_of("README.md"), "Look inside"));
    let daemon = Daemon::start("");
    let mut client = daemon.redis();
    for (queue, message) in [
        ("jobs", "resize 1.jpg"),
        ("jobs", "resize 2.jpg"),
        ("jobs", "resize 3.jpg"),
        ("mail", "welcome"),
    ] {
        client.ask(request(&[b"SADD", queue.as_bytes(), message.as_bytes()]), ":1\r\n");
    }
    client.ask(request(&[b"SPOP", b"jobs"]), "$12\r\nresize 1.jpg\r\n");
    let directory = daemon.directory().to_str().expect("UTF-8");
    let lines = |text: &str| text.lines().map(timeless).collect::<Vec<_>>();
    for (typed, expected) in steps(&blocks[0].1, "$ target/release/mq-dump ") {
        let arguments: Vec<&str> =
            ["--dir", directory].into_iter().chain(typed.split(' ')).collect();
        assert_eq!(lines(&dump(&arguments)), lines(&expected), "$ mq-dump {typed}");
    }
    assert_eq!(blocks[1].1, dump(&["--help"]));
}

#[test]
fn the_options_of_the_page_are_those_of_the_program() {
    let options = blocks(&section(&text_of("README.md"), "Options"));
    let help = String::from_utf8(run("--help").stdout).expect("text");
    assert_eq!(options, [("text".to_string(), help)]);
}

#[test]
fn the_commands_that_replace_the_start_files_are_understood() {
    let page = section(&text_of("README.md"), "How it differs from the ancestor");
    let quoted = page.split('`').skip(1).step_by(2);
    let lines: Vec<&str> = quoted.filter_map(|words| words.strip_prefix("mqd ")).collect();
    assert_eq!(lines.len(), 3);
    for line in lines {
        let parsed = options::parse(line.split(' ').map(Into::into));
        assert!(matches!(parsed, Ok(Invocation::Run(_))), "{line}: {parsed:?}");
    }
}

/// Words in backquotes; of `SET k v` only the first.
fn commands_named(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|words| words.split(' ').next()).map(String::from).collect()
}

/// The string literals of `path` in lines where one stands between `start` and `end`.
fn literals(path: &str, start: &str, end: &str) -> BTreeSet<String> {
    let text = text_of(path);
    let literal = |line: &str| {
        let (literal, _) = line.trim().strip_prefix(start)?.split_once(end)?;
        Some(literal.to_string())
    };
    text.lines().filter_map(literal).collect()
}

#[test]
fn the_commands_of_the_page_are_those_of_the_code() {
    let commands = section(&text_of("README.md"), "Commands");
    let (redis, memcached) = commands.split_once("\nmemcached, text protocol").expect("two parts");
    let named = |text: &str, is_command: fn(&u8) -> bool| -> BTreeSet<String> {
        let is_one = |word: &String| word.bytes().all(|byte| is_command(&byte));
        commands_named(text).into_iter().filter(is_one).collect()
    };
    let in_table = literals("src/session/redis/table.rs", "command(\"", "\",");
    assert!(in_table.len() > 50, "only {in_table:?} were found");
    let in_table: BTreeSet<String> =
        in_table.into_iter().map(|name| name.to_ascii_uppercase()).collect();
    assert_eq!(named(redis, u8::is_ascii_uppercase), in_table);
    let mut verbs = literals("src/protocol/memcached/line.rs", "b\"", "\" =>");
    assert!(verbs.len() > 15, "only {verbs:?} were found");
    verbs.insert("noreply".into());
    let is_verb = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'_';
    assert_eq!(named(memcached, is_verb), verbs);
}

/// Paths in `src` that the map names, folders with a slash at their end.
fn mapped(map: &str) -> BTreeSet<String> {
    let mut folders: Vec<&str> = Vec::new();
    let mut paths = BTreeSet::new();
    for line in map.lines() {
        let depth = line.len() - line.trim_start().len();
        let name = line.split_whitespace().next().expect("a name");
        folders.truncate(depth / 4);
        paths.insert(folders.concat() + name);
        folders.push(name);
    }
    paths
}

/// Paths below `folder`, but for unit tests in files of their own.
fn existing(folder: &Path, prefix: &str, paths: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let name = entry.file_name().into_string().expect("ASCII");
        let is_folder = entry.path().is_dir();
        // `kv/tests.rs` is beside `kv.rs`: a folder of tests alone.
        let has_module = entry.path().with_extension("rs").is_file();
        if name == "tests.rs" || name == "tests" || (is_folder && has_module) {
            continue;
        }
        let path = format!("{prefix}{name}{}", if is_folder { "/" } else { "" });
        if is_folder {
            existing(&entry.path(), &path, paths);
        }
        paths.insert(path);
    }
}

#[test]
fn the_map_of_the_page_is_what_is_there() {
    let map = blocks(&section(&text_of("README.md"), "The map of `src`"));
    let mut there = BTreeSet::new();
    existing(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut there);
    let map = mapped(&map.first().expect("the map").1);
    let missing: Vec<&String> = there.difference(&map).collect();
    let gone: Vec<&String> = map.difference(&there).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not in the map: {missing:?}, gone: {gone:?}");
}

#[test]
fn the_files_that_the_page_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = text_of("README.md");
    let linked = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let named = page.split('`').skip(1).step_by(2);
    let named = named.filter(|name| name.starts_with("src/") || name.starts_with("tests/"));
    for name in linked.chain(named) {
        assert!(root.join(name).exists(), "{name} is not there");
    }
}
