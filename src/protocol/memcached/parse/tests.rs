//! Tests of the framing: data blocks, blocks to skip, every cut. `tests/library/fuzz_seeds.rs` has
//! random input.

use super::*;
use crate::protocol::memcached::{Keys, Retrieval, StoreMode, TextCommand};

mod lines;

const MAX_DATA: usize = 20;

/// What a stream of requests came to, one line each.
#[derive(Debug, Default, PartialEq, Eq)]
struct Conversation {
    events: Vec<String>,
    fatal: Option<Fatal>,
}

/// Feeds `pieces` as a server would and checks the promises about `consumed` and `need`.
fn converse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Conversation {
    let mut conversation = Conversation::default();
    let mut progress = Progress::default();
    let mut buffer = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let mut done = 0;
        loop {
            let input = &buffer[done..];
            done += match parse(input, &mut progress, MAX_DATA) {
                Ok(Found::Partial { need }) => {
                    assert!(need > input.len());
                    break;
                }
                Ok(Found::Complete { request, consumed }) => {
                    assert!(0 < consumed && consumed <= input.len());
                    conversation.events.push(describe(&request));
                    consumed
                }
                Ok(Found::Refused { refusal, noreply, consumed }) => {
                    assert!(0 < consumed && consumed <= input.len());
                    let silent = if noreply { " (silent)" } else { "" };
                    conversation.events.push(format!("{refusal:?}{silent}"));
                    consumed
                }
                Ok(Found::Skipped { consumed }) => {
                    assert!(0 < consumed && consumed <= input.len());
                    consumed
                }
                Err(fatal) => {
                    conversation.fatal = Some(fatal);
                    return conversation;
                }
            };
        }
        buffer.drain(..done);
    }
    conversation
}

fn describe(request: &Request<'_>) -> String {
    let Request { command, data, noreply } = request;
    let silent = if *noreply { " noreply" } else { "" };
    let arguments = match command {
        TextCommand::Get { keys, retrieval } => {
            let keys: Vec<_> = keys.map(|key| key.escape_ascii().to_string()).collect();
            format!("{} {:?}", keys.join(","), retrieval.exptime)
        }
        TextCommand::Store { mode, key, flags, exptime } => {
            format!("{mode:?} {} {flags} {exptime} = {}", key.escape_ascii(), data.escape_ascii())
        }
        TextCommand::Contains { key } => {
            format!("{} = {}", key.escape_ascii(), data.escape_ascii())
        }
        other => format!("{other:?}"),
    };
    format!("{} {arguments}{silent}", command.verb())
}

/// Every way to cut `bytes` in two, and byte by byte, gives what the whole gives.
fn check_cuts(bytes: &[u8]) -> Conversation {
    let expected = converse([bytes]);
    for cut in 1..bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        let context = || format!("{} cut at {cut}", bytes.escape_ascii());
        assert_eq!(converse([head, tail]), expected, "{}", context());
    }
    assert_eq!(converse(bytes.chunks(1)), expected, "{} byte by byte", bytes.escape_ascii());
    expected
}

/// The events of `bytes`; each must find the `version` that is put behind it.
fn events(bytes: &[u8]) -> Vec<String> {
    let mut conversation = check_cuts(&[bytes, b"version\r\n"].concat());
    assert_eq!(conversation.fatal, None);
    let version = conversation.events.pop();
    assert_eq!(version.as_deref(), Some("version Version"), "{}", bytes.escape_ascii());
    conversation.events
}

fn event(bytes: &[u8]) -> String {
    let events = events(bytes);
    assert_eq!(events.len(), 1, "{}: {events:?}", bytes.escape_ascii());
    events.into_iter().next().unwrap_or_default()
}

/// What a bad line announced must not be executed: here it is `flush_all`.
#[test]
fn the_data_block_of_a_bad_line_is_skipped() {
    let long = "k".repeat(251);
    for line in [
        format!("set {long} 0 0 9"),
        "set k x 0 9".to_owned(),
        "set k -1 0 9".to_owned(),
        "set k 4294967296 0 9".to_owned(),
        "set k 0 x 9".to_owned(),
        "cas k 0 0 9 x".to_owned(),
        "sismember k 0 x 9".to_owned(),
    ] {
        let input = format!("{line}\r\nflush_all\r\n");
        assert_eq!(event(input.as_bytes()), "BadFormat", "{line}");
    }
    assert_eq!(event(b"set k x 0 9 noreply\r\nflush_all\r\n"), "BadFormat (silent)");
}

/// A client that sends a command which is not known sends its data all the same.
#[test]
fn the_data_block_of_an_unknown_storage_command_is_skipped() {
    for line in [
        "ms k 9",
        "ms k 9 T0 I q",
        "Set k 0 0 9",
        "swap k 0 0 9 noreply",
        "set k 0 0 9 noreply x",
        "set a key 0 0 9",
        "cas k 0 0 9",
        "cas a key 0 0 9 5",
        "set 1 2 3 4 5 6 7 8 9",
    ] {
        let input = format!("{line}\r\nflush_all\r\n");
        assert_eq!(event(input.as_bytes()), "Unknown", "{line}");
    }
    assert_eq!(event(b"set a key 0 0 9 noreply\r\nflush_all\r\n"), "Unknown (silent)");
}

/// The line is refused, and what follows it is a command, as in memcached.
#[test]
fn a_length_that_memcached_does_not_take_announces_no_block() {
    for length in ["2147483648", "4294967295", "18446744073709551615", "18446744073709551616", "-1"]
    {
        assert_eq!(event(format!("set k 0 0 {length}\r\n").as_bytes()), "BadFormat", "{length}");
    }
}

#[test]
fn a_data_block_that_is_too_large_is_skipped_without_being_kept() {
    let block = "version\r\n".repeat(4);
    let input = format!("set k 0 0 36\r\n{block}\r\n");
    assert_eq!(event(input.as_bytes()), "TooLarge");
    let input = format!("set k 0 0 36 noreply\r\n{block}\r\n");
    assert_eq!(event(input.as_bytes()), "TooLarge (silent)");
    let mut progress = Progress::default();
    let line = b"set k 0 0 2147483647\r\n";
    assert!(matches!(
        parse(line, &mut progress, MAX_DATA),
        Ok(Found::Refused { consumed: 22, .. })
    ));
    let skipped = parse(&[b'x'; 100], &mut progress, MAX_DATA);
    assert_eq!(skipped, Ok(Found::Skipped { consumed: 100 }));
    assert_eq!(progress.skip, Some(2_147_483_547));
}

#[test]
fn a_data_block_must_be_followed_by_crlf_and_the_rest_of_its_line_is_skipped() {
    let inputs = ["3\r\nabcd\r\n", "3\r\nabcdefgh\r\n", "3\r\nabcX\n", "3\nabc\n ", "3\r\nab\r\n"];
    for input in inputs {
        let input = format!("set k 0 0 {input}");
        let input = input.strip_suffix(' ').unwrap_or(&input);
        if input.ends_with("abc\n") {
            // One byte of the terminator is missing: what follows shows it.
            let found = converse([input.as_bytes(), b"version\r\nversion\r\n"]);
            assert_eq!(found.events, ["BadDataChunk", "version Version", "version Version"]);
        } else {
            assert_eq!(event(input.as_bytes()), "BadDataChunk", "{input:?}");
        }
    }
    assert_eq!(event(b"set k 0 0 3 noreply\r\nabcd\r\n"), "BadDataChunk (silent)");
}

#[test]
fn the_need_of_a_known_data_block_is_exact() {
    let mut progress = Progress::default();
    let found = parse(b"set k 0 0 20\r\nabc", &mut progress, MAX_DATA);
    assert_eq!(found, Ok(Found::Partial { need: 36 }));
}

#[test]
fn a_line_is_too_long_at_2048_bytes_but_for_get() {
    let fits = format!("version{}\r\n", " ".repeat(MAX_LINE - 8));
    assert_eq!(event(fits.as_bytes()), "version Version");
    for line in ["version ", "x", " ", "getx ", "GET "] {
        let input = format!("{line}{}", " ".repeat(MAX_LINE + 1 - line.len()));
        assert_eq!(check_cuts(input.as_bytes()).fatal, Some(Fatal::LineTooLong), "{line}");
        let ended = format!("{input}\n");
        assert_eq!(converse([ended.as_bytes()]).fatal, Some(Fatal::LineTooLong), "{line}");
    }
    for verb in ["get", "gets", "gat 1", " gats 1"] {
        let line = format!("{verb} {}", "k ".repeat((MAX_GET_LINE - 10) / 2));
        let found = converse([line.as_bytes(), b"\n"]);
        assert_eq!((found.events.len(), found.fatal), (1, None), "{verb}");
        let found = converse([line.as_bytes(), b"1234567890\n"]);
        assert_eq!(found.fatal, Some(Fatal::LineTooLong), "{verb}");
    }
}

#[test]
fn another_protocol_is_told_by_its_first_bytes() {
    let cases: [(&[u8], Foreign); 14] = [
        (b"\x81\x01\0\0\0\0\0\0\r\nflush_all\r\n", Foreign::MemcachedBinary),
        (b"\x15\x03\x01\0\x02\x01\0\r\nflush_all\r\n", Foreign::Tls),
        (b"*-1\r\nflush_all\r\n", Foreign::Redis),
        (b"*0\r\nflush_all\r\n", Foreign::Redis),
        (b"%1\r\n+a\r\nflush_all\r\n", Foreign::Redis),
        (b"~1\r\nflush_all\r\n", Foreign::Redis),
        (b">1\r\nflush_all\r\n", Foreign::Redis),
        (b"\0\0\0\x08\x04\xd2\x16\x2f\nflush_all\r\n", Foreign::Binary),
        (b"\xff\xfe\r\nflush_all\r\n", Foreign::Binary),
        (b"\x80\x01\0\x01\x08\0\0\0\r\nflush_all\r\n", Foreign::MemcachedBinary),
        (b"\x16\x03\x01\x02\0\x01", Foreign::Tls),
        (b"*3\r\n$4\r\nSADD\r\n$4\r\njobs\r\n$9\r\nflush_all\r\n", Foreign::Redis),
        (b"*", Foreign::Redis),
        (b"\x80", Foreign::MemcachedBinary),
    ];
    for (input, foreign) in cases {
        let found = check_cuts(input);
        assert_eq!((found.events.len(), found.fatal), (0, Some(Fatal::Foreign(foreign))));
        let found = converse([b"version\r\n", input]);
        assert_eq!(found.fatal, Some(Fatal::Foreign(foreign)), "behind another request");
    }
    for input in [&b"x\x80\r\n"[..], b" *1\r\n"] {
        assert_eq!(event(input), "Unknown");
    }
    let data = b"set k 0 0 2\r\n\x80\x16\r\n";
    assert_eq!(event(data), r"set Set k 0 0 = \x80\x16", "data may be anything");
}

#[test]
fn browsers_are_recognised() {
    let methods =
        ["GET /", "OPTIONS *", "CONNECT a:443", "PROPFIND /", "VERSION-CONTROL /", "PRI *"];
    let requests = methods.map(|method| format!("{method} HTTP/1.1"));
    let others = ["POST x", "Host: a", "HTTP/1.1 200 OK"].map(str::to_owned);
    for line in requests.iter().chain(&others) {
        let found = check_cuts(format!("{line}\r\nflush_all\r\n\r\n").as_bytes());
        let expected = (0, Some(Fatal::Foreign(Foreign::Http)));
        assert_eq!((found.events.len(), found.fatal), expected, "{line}");
    }
    assert_eq!(event(b"get / HTTP/1.1\r\n"), "get /,HTTP/1.1 None");
}

#[test]
fn mail_is_recognised() {
    for line in ["EHLO a", "helo a", "LHLO a"] {
        let found = check_cuts(format!("{line}\r\nDATA\r\nflush_all\r\n").as_bytes());
        let expected = (0, Some(Fatal::Foreign(Foreign::Smtp)));
        assert_eq!((found.events.len(), found.fatal), expected, "{line}");
    }
}

#[test]
fn keys_can_be_taken_up_again_in_the_middle_of_a_line() {
    let line = b"gets a  bb c \r\nversion\r\n";
    let mut progress = Progress::default();
    let Ok(Found::Complete { request, consumed }) = parse(line, &mut progress, MAX_DATA) else {
        panic!("a whole line is a request");
    };
    let retrieval = Retrieval { with_cas: true, exptime: None };
    let TextCommand::Get { mut keys, .. } = request.command else { panic!("gets is a get") };
    assert_eq!(request.command, TextCommand::Get { keys, retrieval });
    assert_eq!(keys.next(), Some(&b"a"[..]));
    let mut resumed = Keys::resume(&line[consumed - keys.unread()..]);
    assert_eq!(resumed, keys);
    assert_eq!(resumed.by_ref().collect::<Vec<_>>(), [b"bb", &b"c"[..]]);
    assert_eq!(&line[consumed - resumed.unread()..consumed], b" \r\n");
    assert_eq!(Keys::resume(b"\r\n").next(), None);
    assert_eq!(Keys::resume(b"").next(), None);
    assert_eq!(StoreMode::Cas(1).verb(), "cas");
}
