//! The house rules as a test: who may use whom, line width, ASCII, headers, short functions, and
//! words that do not belong in a daemon.

// A failed expectation is how a test fails.
#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each part of `src`, and the parts of the crate that it may name.
const MAY_USE: [(&str, &[&str]); 12] = [
    ("main.rs", &["kv", "logging", "options", "queue", "server", "session", "storage"]),
    ("bin/mq-dump", &["clock", "logging", "storage"]),
    ("server", &["logging", "memory", "queue", "session"]),
    ("session", &["clock", "kv", "memory", "protocol", "queue"]),
    ("queue", &["clock", "logging", "memory", "storage"]),
    ("kv", &["clock", "logging", "memory"]),
    ("protocol", &["memory"]),
    ("storage", &["clock", "memory"]),
    ("options", &["queue", "session"]),
    ("memory", &["logging"]),
    ("logging", &["clock"]),
    ("clock", &[]),
];

const MODULES: [&str; 10] = [
    "clock", "kv", "logging", "memory", "options", "protocol", "queue", "server", "session",
    "storage",
];

/// Most columns of a line.
const WIDTH: usize = 100;

/// Most lines of a function, from its `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;

/// Most lines of a file.
const FILE_LINES: usize = 500;

struct Source {
    /// Path from the crate's directory.
    path: PathBuf,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["src", "tests", "benches", "examples", "fuzz/src", "fuzz/fuzz_targets"]
            .map(PathBuf::from)
            .into();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(root.join(&folder)) else {
            continue;
        };
        for entry in entries.map(|entry| entry.expect("a readable folder")) {
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(entry.path()).expect("text");
                sources.push(Source { path, text });
            }
        }
    }
    assert!(sources.len() > 20, "only {} source files were found", sources.len());
    sources
}

/// Runs `check` on every source; it answers its complaints.
fn complain(check: impl Fn(&Source) -> Vec<String>) {
    let complaints: Vec<String> = sources().iter().flat_map(check).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// One complaint for each line that is `wrong`.
fn lines(source: &Source, wrong: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let numbered = source.text.lines().zip(1..);
    let complaint = |(line, number): (&str, usize)| {
        wrong(line).map(|what| format!("{}:{number}: {what}", source.path.display()))
    };
    numbered.filter_map(complaint).collect()
}

/// The part of `MAY_USE` that a file in `src` belongs to; None: `lib.rs`, which names them all.
fn part_of(path: &Path) -> Option<&'static (&'static str, &'static [&'static str])> {
    let inside = path.strip_prefix("src").ok()?.to_str()?;
    let belongs = |part: &str| {
        inside == part
            || inside.strip_prefix(part).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    };
    let part = MAY_USE.iter().find(|(part, _)| belongs(part));
    assert!(part.is_some() || inside == "lib.rs", "{inside} has no place in the table");
    part
}

/// Modules of this crate that a line names: `crate::queue::Ticket`, `mq::{kv, options}`.
fn modules_named(line: &str) -> Vec<&'static str> {
    let code = line.split("//").next().unwrap_or_default();
    let mut named = Vec::new();
    for root in ["crate::", "mq::"] {
        for (position, _) in code.match_indices(root) {
            let before = code[..position].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || before == '_') {
                continue;
            }
            let path = &code[position + root.len()..];
            let names = path.strip_prefix('{').unwrap_or(path);
            let list = if path.starts_with('{') { names } else { first_name(names) };
            let words =
                list.split(|character: char| !character.is_alphanumeric() && character != '_');
            named.extend(
                words.filter_map(|word| MODULES.into_iter().find(|module| *module == word)),
            );
        }
    }
    named
}

fn first_name(path: &str) -> &str {
    path.split(|character: char| !character.is_alphanumeric() && character != '_')
        .next()
        .unwrap_or_default()
}

#[test]
fn a_module_uses_only_modules_below_it() {
    complain(|source| {
        let Some((part, allowed)) =
            part_of(&source.path).filter(|_| source.path.starts_with("src"))
        else {
            return Vec::new();
        };
        lines(source, |line| {
            let named = modules_named(line);
            let own = |module: &str| part.trim_end_matches(".rs") == module;
            let foreign =
                named.into_iter().find(|&module| !own(module) && !allowed.contains(&module))?;
            Some(format!("{part} may not use {foreign}"))
        })
    });
}

#[test]
fn imports_of_every_form_are_seen() {
    assert_eq!(modules_named("use crate::queue::Ticket;"), ["queue"]);
    assert_eq!(modules_named("use mq::{kv, options::Options};"), ["kv", "options"]);
    assert_eq!(modules_named("    let x = crate::kv::Kv::new(1); // crate::server"), ["kv"]);
    assert_eq!(modules_named("use crate::{"), [] as [&str; 0]);
    assert_eq!(modules_named("use some_crate::queue;"), [] as [&str; 0]);
}

#[test]
fn every_thread_stands_in_the_list_of_lib_rs() {
    let list = include_str!("../src/lib.rs");
    complain(|source| {
        lines(source, |line| {
            let is_program = source.path.starts_with("src");
            let (_, name) = line.split_once("name(\"").filter(|_| is_program)?;
            let (name, _) = name.split_once("\".into())")?;
            (!list.contains(&format!("`{name}`"))).then(|| format!("no thread {name} in lib.rs"))
        })
    });
}

/// A file is named by its path in `src` without `.rs`. The `mod.rs` of a folder is left out: it
/// names what is in the folder and passes on what others may use.
#[test]
fn no_two_files_use_each_other() {
    let files: BTreeMap<String, String> = sources().into_iter().filter_map(file_of_src).collect();
    let mut uses: BTreeMap<&str, BTreeSet<&str>> =
        files.iter().map(|(file, text)| (&**file, imports(file, text, &files))).collect();
    assert!(uses["server/worker"].contains("server/connection"), "imports are seen");
    loop {
        let used: BTreeSet<&str> = uses.values().flatten().copied().collect();
        let left: BTreeSet<&str> = uses.keys().copied().collect();
        let before = uses.len();
        uses.retain(|file, needs| used.contains(file) && !needs.is_disjoint(&left));
        if uses.len() == before {
            break;
        }
    }
    assert!(uses.is_empty(), "these import each other: {uses:?}");
}

/// The name of a file in `src` that is neither a test nor a `mod.rs`, and its text.
fn file_of_src(Source { path, text }: Source) -> Option<(String, String)> {
    let file = path.strip_prefix("src").ok()?.to_str()?.strip_suffix(".rs")?;
    let is_test = file.split('/').any(|part| part == "tests");
    (!is_test && !file.ends_with("mod") && file != "lib").then(|| (file.into(), text))
}

/// The files that `file` imports from at its top.
fn imports<'f>(file: &str, text: &str, files: &'f BTreeMap<String, String>) -> BTreeSet<&'f str> {
    let mut imported = BTreeSet::new();
    let lines = text.lines().filter(|line| line.starts_with("use ") || line.starts_with("pub"));
    for whole in lines.filter_map(|line| Some(line.split_once("use ")?.1)) {
        let (mut folder, mut path) = (file.split('/').collect::<Vec<_>>(), whole);
        if let Some(inside) = path.strip_prefix("crate::") {
            (folder, path) = (Vec::new(), inside);
        }
        while let Some(outside) = path.strip_prefix("super::") {
            path = outside;
            folder.pop();
        }
        if path == whole {
            continue;
        }
        let names = path.trim_start_matches('{').split([',', ' ', '{', '}', ';']);
        for name in names.take(if path.starts_with('{') { usize::MAX } else { 1 }) {
            let parts = folder.iter().copied().chain(name.split("::"));
            let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
            let known = |count| files.get_key_value(&parts[..count].join("/"));
            let found = (1..=parts.len()).rev().find_map(known).map(|(name, _)| &**name);
            imported.extend(found.filter(|name| *name != file));
        }
    }
    imported
}

/// A list that begins on one line and goes on below would escape `modules_named`.
#[test]
fn no_import_of_the_crate_is_a_list_over_several_lines() {
    complain(|source| {
        let root =
            |line: &str| line.trim_end().ends_with("crate::{") || line.contains("use mq::{\n");
        lines(source, |line| root(line).then(|| "one `use` for each module".into()))
    });
}

#[test]
fn every_file_begins_with_what_it_is() {
    complain(|source| {
        let headed =
            source.text.starts_with("//! ") || source.text.starts_with("#![no_main]\n//! ");
        let path = source.path.display();
        if headed { Vec::new() } else { vec![format!("{path}: no `//!` header")] }
    });
}

#[test]
fn lines_are_ascii_and_fit_the_width() {
    complain(|source| {
        lines(source, |line| match line.chars().count() {
            _ if !line.is_ascii() => Some("not ASCII".into()),
            columns if columns > WIDTH => Some(format!("{columns} columns")),
            _ if line.ends_with(' ') || line.contains('\t') => Some("stray white space".into()),
            _ => None,
        })
    });
}

/// What a target checks is a property in `fuzz/src`, which stable tests check as well.
#[test]
fn a_fuzz_target_is_a_few_lines() {
    complain(|source| {
        let is_target = source.path.starts_with("fuzz/fuzz_targets");
        let count = source.text.lines().count();
        let path = source.path.display();
        if is_target && count > 15 { vec![format!("{path}: {count} lines")] } else { Vec::new() }
    });
}

/// Each of them is a promise to users.
#[test]
fn every_storage_rule_has_a_test_by_its_number() {
    let sources = sources();
    for rule in (1..=16).chain([17, 18, 19]) {
        let name = format!("\nfn rule_{rule:02}_");
        assert!(sources.iter().any(|source| source.text.contains(&name)), "no test of rule {rule}");
    }
}

#[test]
fn files_are_short() {
    complain(|source| {
        let count = source.text.lines().count();
        let long = count > FILE_LINES;
        if long { vec![format!("{}: {count} lines", source.path.display())] } else { Vec::new() }
    });
}

/// Functions as rustfmt writes them: from the line with `fn` to the brace in the same column.
#[test]
fn functions_are_short() {
    complain(|source| {
        let lines: Vec<&str> = source.text.lines().collect();
        let mut complaints = Vec::new();
        for (start, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let is_function = code.split_whitespace().take(4).any(|word| word == "fn");
            if !is_function || code.starts_with("//") || code.ends_with(';') || code.ends_with('}')
            {
                continue;
            }
            let closing = format!("{}}}", &line[..line.len() - code.len()]);
            let length =
                lines[start..].iter().position(|line| *line == closing).map_or(0, |end| end + 1);
            if length > FUNCTION_LINES {
                let path = source.path.display();
                complaints.push(format!("{path}:{}: a function of {length} lines", start + 1));
            }
        }
        complaints
    });
}

#[test]
fn nothing_is_unfinished_and_only_programs_print() {
    complain(|source| {
        let is_this = source.path.ends_with("tidy.rs");
        let is_program = source.path.ends_with("main.rs") || source.path.starts_with("src/bin");
        let is_library = source.path.starts_with("src") && !is_program;
        lines(source, |line| {
            let unfinished = ["todo!", "unimplemented!", "dbg!", "TODO", "FIXME", "XXX"];
            let printing = ["print!(", "println!(", "eprint!(", "eprintln!("];
            let mut words = unfinished.to_vec();
            if is_library {
                words.extend(printing);
            }
            let word = words.into_iter().find(|word| !is_this && line.contains(word))?;
            // A random test prints its seed.
            let in_test = line.contains("seed") || source.path.to_string_lossy().contains("tests");
            let is_allowed = in_test && printing.contains(&word);
            (!is_allowed).then(|| format!("{word} does not belong here"))
        })
    });
}
