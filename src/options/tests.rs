//! The command line's tests: defaults, every option, every kind of mistake.

use super::*;

fn parsed(line: &str) -> Result<Invocation, String> {
    parse(line.split_whitespace().map(OsString::from))
}

fn run(line: &str) -> Options {
    match parsed(line) {
        Ok(Invocation::Run(options)) => *options,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn no_arguments_give_the_documented_defaults() {
    let expected = Options {
        store: StoreKind::Disk,
        directory: "./mq-data".into(),
        redis: Some("127.0.0.1:4000".into()),
        memcached: Some("127.0.0.1:4001".into()),
        fsync: Policy::Always,
        segment_size: 64 * 1024 * 1024,
        max_message: 16 * 1024 * 1024,
        workers: 1,
        max_clients: None,
        idle_timeout: None,
        max_output: 32 * 1024 * 1024,
        max_queues: 10_000,
        max_queue_len: None,
        max_memory: 1024 * 1024 * 1024,
        lease: Duration::from_secs(300),
        strict: false,
        log: None,
    };
    assert_eq!(run(""), expected);
}

#[test]
fn every_option_is_taken() {
    let line = "--store kv --dir /tmp/x --redis off --memcached localhost:0 --fsync everysec \
        --segment-size 64K --max-message 2M --workers 3 --max-clients 7 \
        --idle-timeout 30 --max-output 1m --max-queues 3 --max-queue-len 9 --max-memory 2g \
        --lease 45 --strict --log debug";
    let expected = Options {
        store: StoreKind::Kv,
        directory: "/tmp/x".into(),
        redis: None,
        memcached: Some("localhost:0".into()),
        fsync: Policy::EverySecond,
        segment_size: 64 << 10,
        max_message: 2 << 20,
        workers: 3,
        max_clients: Some(7),
        idle_timeout: Some(Duration::from_secs(30)),
        max_output: 1 << 20,
        max_queues: 3,
        max_queue_len: Some(9),
        max_memory: 2 << 30,
        lease: Duration::from_secs(45),
        strict: true,
        log: Some(LevelFilter::Debug),
    };
    assert_eq!(run(line), expected);
}

#[test]
fn sizes_are_powers_of_1024_in_either_case() {
    for (text, bytes) in [("65536", 65536), ("64k", 65536), ("1M", 1 << 20), ("1g", 1 << 30)] {
        assert_eq!(run(&format!("--segment-size {text}")).segment_size, bytes);
    }
}

#[test]
fn a_mistake_is_one_line_that_names_the_option() {
    let lines = [
        "--bogus",
        "extra",
        "--store tape",
        "--fsync sometimes",
        "--redis 4000",
        "--redis :4000",
        "--memcached 127.0.0.1:65536",
        "--segment-size 63k",
        "--segment-size 1025m",
        "--max-message 1023",
        "--max-message 513m",
        "--max-message 16mm",
        "--max-message m",
        "--max-message +1",
        "--max-message -1",
        "--max-message 99999999999999999g",
        "--workers 0",
        "--workers 1025",
        "--max-output 63k",
        "--max-clients 0",
        "--max-clients 100001",
        "--max-clients 1k",
        "--idle-timeout x",
        "--lease 0",
        "--max-queues 0",
        "--max-memory 1k",
        "--log loud",
        "--log",
        "--strict=yes",
        "--strict --strict",
        "--redis off --memcached off",
    ];
    for line in lines {
        let error = parsed(line).expect_err(line);
        assert!(!error.contains('\n'), "{line}: {error}");
        let word = line.trim_start_matches('-').split([' ', '=']).next().unwrap_or_default();
        assert!(error.contains(word), "{line}: {error}");
    }
}

#[test]
fn a_mistake_repeats_what_was_given_without_backslashes_and_on_one_line() {
    assert_eq!(parsed("--port 1").unwrap_err(), "Unrecognized option: 'port'");
    let forged = parse(["--a\nb\u{1b}[2J".into()]).unwrap_err();
    assert_eq!(forged, "Unrecognized option: 'a\\nb\\u{1b}[2J'");
    for (option, value) in [("--fsync", "a\"b"), ("--redis", "it's"), ("--max-clients", "9\\")] {
        let mistake = parse([option.into(), value.into()]).unwrap_err();
        assert!(mistake.ends_with(&format!(", not \"{value}\"")), "{mistake}");
    }
    let foreign = std::os::unix::ffi::OsStringExt::from_vec(b"/tmp/\xff".to_vec());
    assert_eq!(parse(["--dir".into(), foreign]).unwrap_err(), "not UTF-8: /tmp/\\u{fffd}");
}

#[test]
fn a_wrong_size_is_told_how_sizes_are_written() {
    let error = parsed("--max-message 16mb").unwrap_err();
    let text = "--max-message is a size from 1k to 512m, in bytes or as in 16m, not \"16mb\"";
    assert_eq!(error, text);
    assert_eq!(shown_size(1025), "1025");
    assert_eq!(shown_size(1 << 50), "1048576g");
}

#[test]
fn a_multibyte_character_after_a_number_is_a_mistake_and_no_panic() {
    let argument = |text: &str| parse(["--max-message".into(), OsString::from(text)]);
    assert!(argument("1\u{212a}").is_err());
    assert!(argument("").is_err());
}

#[test]
fn help_shows_every_option_and_fits_one_screen() {
    let Ok(Invocation::Help(text)) = parsed("-h") else { panic!("no help") };
    assert!(text.lines().count() <= 30 && text.lines().all(|line| line.len() <= 100), "{text}");
    let names = "store dir redis memcached fsync segment-size max-message workers \
        max-clients idle-timeout max-output max-queues max-queue-len max-memory lease strict log \
        help version";
    for name in names.split_whitespace() {
        assert!(text.contains(&format!("--{name}")), "{name}");
    }
    assert_eq!(parsed("--help"), Ok(Invocation::Help(text)));
    assert_eq!(parsed("-V"), Ok(Invocation::Version));
    assert_eq!(parsed("--version"), Ok(Invocation::Version));
}

#[test]
fn the_level_comes_from_the_option_then_the_environment_then_the_default() {
    assert_eq!(log_level(Some(LevelFilter::Warn), Some("debug")), Ok(LevelFilter::Warn));
    assert_eq!(log_level(None, Some("debug")), Ok(LevelFilter::Debug));
    assert_eq!(log_level(None, None), Ok(LevelFilter::Info));
    assert!(log_level(None, Some("loud")).unwrap_err().contains("MQ_LOG"));
}
