//! The seeds of the fuzz targets, replayed without a fuzzer: what was once found stays mended.
//!
//! A seed is a file in `fuzz/seeds/TARGET`, named after what it is. The properties are those that
//! the targets check; `fuzz/README.md` says how a finding becomes a seed.

use crate::properties;
use crate::random::Random;
use std::fs;
use std::path::{Path, PathBuf};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// `MQ_FUZZ_INPUT=TARGET=FILE`: one more input, such as one that a fuzzer has found.
fn given_input(target: &str) -> Option<PathBuf> {
    let given = std::env::var("MQ_FUZZ_INPUT").ok()?;
    Some(given.strip_prefix(target)?.strip_prefix('=')?.into())
}

/// The seed that does not hold is the last one that is named.
fn replay(target: &str, check: fn(&[u8])) {
    let seeds = files(&fuzz().join("seeds").join(target));
    assert!(seeds.len() >= 10, "{target} has {} seeds", seeds.len());
    for seed in seeds.into_iter().chain(given_input(target)) {
        println!("{}", seed.display());
        check(&fs::read(&seed).expect("a seed"));
    }
}

#[test]
fn the_seeds_of_resp_hold() {
    replay("resp", properties::resp::check);
}

#[test]
fn the_seeds_of_memcached_hold() {
    replay("memcached", properties::memcached::check);
}

#[test]
fn the_seeds_of_session_redis_hold() {
    replay("session_redis", properties::session_redis::check);
}

#[test]
fn the_seeds_of_session_memcached_hold() {
    replay("session_memcached", properties::session_memcached::check);
}

#[test]
fn the_seeds_of_record_hold() {
    replay("record", properties::record::check);
}

#[test]
fn the_seeds_of_recovery_hold() {
    replay("recovery", properties::recovery::check);
}

#[test]
fn the_seeds_of_model_hold() {
    replay("model", properties::model::check);
}

#[test]
fn the_seeds_of_forgery_hold() {
    replay("forgery", properties::forgery::check);
}

/// Random rows of words that mean something to a parser get further than random bytes.
fn play_words(count: usize, words: &[&[u8]], check: fn(&[u8])) {
    let mut random = Random::seeded();
    for _ in 0..count {
        let mut word = |_| words[random.below(words.len() as u64) as usize];
        let input = (0..24).map(&mut word).collect::<Vec<_>>().concat();
        let input = &input[..random.below(input.len() as u64 + 1) as usize];
        let held = std::panic::catch_unwind(|| check(input));
        assert!(held.is_ok(), "{}", input.escape_ascii());
    }
}

#[test]
#[rustfmt::skip]
fn random_requests_of_resp_hold() {
    let words: [&[u8]; 18] = [
        b"*", b"$", b"\r\n", b"\n", b"\r", b"0", b"1", b"2", b"3", b"-", b"\"", b"'", b"\\", b" ",
        b"PING", b"*1\r\n$4\r\nPING\r\n", b"*2\r\n$1\r\na\r\n", b"\xff",
    ];
    play_words(2000, &words, properties::resp::check);
}

#[test]
#[rustfmt::skip]
fn random_requests_of_memcached_hold() {
    let words: [&[u8]; 16] = [
        b"set", b"get", b"cas", b"delete", b" ", b" ", b"\r\n", b"\r\n", b"\n", b"\r", b"k", b"0",
        b"3", b"21", b"set k 0 0 3\r\n", b"set k 0 0 25\r\n",
    ];
    play_words(2000, &words, properties::memcached::check);
}

/// Inputs that are recipes are good inputs even when they are random.
fn play_random(count: usize, longest: u64, check: fn(&[u8])) {
    let mut random = Random::seeded();
    for _ in 0..count {
        let length = random.below(longest);
        let input: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
        let held = std::panic::catch_unwind(|| check(&input));
        assert!(held.is_ok(), "{}", input.escape_ascii());
    }
}

#[test]
fn random_recoveries_hold() {
    play_random(1000, 300, properties::recovery::check);
}

#[test]
fn random_forgeries_hold() {
    play_random(1000, 300, properties::forgery::check);
}

#[test]
fn every_target_is_replayed_here() {
    for file in files(&fuzz().join("fuzz_targets")) {
        let target = file.file_stem().expect("a name").to_str().expect("ASCII");
        let call = format!("replay(\"{target}\", properties::{target}::check)");
        assert!(include_str!("fuzz_seeds.rs").contains(&call), "{call}");
        let source = fs::read_to_string(&file).expect("a source");
        assert!(source.contains(&format!("mq_fuzz::{target}::check")), "{}", file.display());
    }
}

/// The words between `before` and the next quotation mark in a source.
fn words(source: &str, before: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(source);
    let text = fs::read_to_string(path).expect("a source");
    let words = text.split(before).skip(1).filter_map(|rest| rest.split_once('"'));
    words.map(|(word, _)| word.to_owned()).collect()
}

/// A fuzzer hardly makes up a whole word. The dictionary lacked sixteen commands.
#[test]
fn the_dictionaries_know_every_command() {
    let sources = ["table.rs", "client.rs", "config.rs", "docs.rs", "measures.rs"];
    let redis: Vec<_> = sources
        .iter()
        .flat_map(|name| words(&format!("session/redis/{name}"), "command(\""))
        .collect();
    let verbs = words("protocol/memcached/line.rs", "        b\"");
    assert!(redis.len() > 80 && verbs.len() > 15, "{redis:?} {verbs:?}");
    for (name, words) in
        [("session_redis", redis), ("session_memcached", verbs.clone()), ("memcached", verbs)]
    {
        let path = fuzz().join("dictionaries").join(name).with_extension("dict");
        let known = fs::read_to_string(path).expect("a dictionary");
        let known: Vec<_> = known.lines().map(|line| line.trim_matches(['"', ' '])).collect();
        let is_known = |word: &&String| known.iter().any(|entry| entry.eq_ignore_ascii_case(word));
        let missing: Vec<_> = words.iter().filter(|word| !is_known(word)).collect();
        assert!(missing.is_empty(), "{name} lacks {missing:?}");
    }
}
