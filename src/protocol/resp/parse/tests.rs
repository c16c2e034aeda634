//! Tests of the request parser: every error, every cut. `tests/library/fuzz_seeds.rs` has random
//! input.

use super::*;

const LIMITS: Limits =
    Limits { max_arguments: 1000, max_bulk: 5000, max_inline: 64, max_request: 6000 };

/// What a stream of requests came to: the arguments of each, and the error that ended it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Conversation {
    requests: Vec<Vec<Vec<u8>>>,
    error: Option<FramingError>,
    /// Bytes that no request has used.
    left: usize,
}

/// Feeds `pieces` as a server would and checks the promises about `consumed` and `need`.
fn converse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> Conversation {
    let mut conversation = Conversation::default();
    let mut arguments = Arguments::default();
    let mut buffer = Vec::new();
    let mut need = 0;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while buffer.len() >= need {
            match parse(&buffer, &mut arguments, limits) {
                Ok(Parsed::Complete { consumed }) => {
                    assert!(consumed <= buffer.len() && consumed > 0);
                    let all = (0..arguments.len()).map(|i| arguments.get(&buffer, i).to_vec());
                    conversation.requests.push(all.collect());
                    buffer.drain(..consumed);
                    need = 0;
                }
                Ok(Parsed::Partial { need: wanted }) => {
                    assert!(wanted > buffer.len());
                    need = wanted;
                }
                Err(error) => {
                    conversation.error = Some(error);
                    return conversation;
                }
            }
        }
    }
    conversation.left = buffer.len();
    conversation
}

fn whole(bytes: &[u8]) -> Conversation {
    converse([bytes], &LIMITS)
}

/// Every way to cut `bytes` in two, and byte by byte, gives what the whole gives.
fn check_cuts(bytes: &[u8]) -> Conversation {
    let expected = whole(bytes);
    for cut in 1..bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        let context = || format!("{} cut at {cut}", bytes.escape_ascii());
        assert_eq!(converse([head, tail], &LIMITS), expected, "{}", context());
    }
    let single = converse(bytes.chunks(1), &LIMITS);
    assert_eq!(single, expected, "{} byte by byte", bytes.escape_ascii());
    expected
}

fn requests(bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let conversation = check_cuts(bytes);
    assert_eq!((conversation.error, conversation.left), (None, 0), "{}", bytes.escape_ascii());
    conversation.requests
}

fn error(bytes: &[u8]) -> String {
    check_cuts(bytes).error.map(|error| error.text).unwrap_or_default()
}

#[test]
fn arrays_of_bulk_strings_are_found_one_after_the_other() {
    let input = b"*1\r\n$4\r\nPING\r\n*3\r\n$4\r\nSADD\r\n$0\r\n\r\n$5\r\na\r\n\0b\r\n";
    let expected: [&[&[u8]]; 2] = [&[b"PING"], &[b"SADD", b"", b"a\r\n\0b"]];
    assert_eq!(requests(input), expected);
}

#[test]
fn empty_and_negative_arrays_and_empty_lines_are_requests_for_nothing() {
    for input in ["*0\r\n", "*-1\r\n", "*-9223372036854775808\r\n", "\r\n", "\n", "  \t \r\n"] {
        let expected: [&[&[u8]]; 2] = [&[], &[b"PING"]];
        assert_eq!(requests(format!("{input}PING\r\n").as_bytes()), expected, "{input:?}");
    }
}

#[test]
fn inline_commands_end_in_crlf_or_in_a_line_feed_alone() {
    let expected: [&[&[u8]]; 3] = [&[b"PING"], &[b"sadd", b"q", b"a b\n"], &[b"x"]];
    assert_eq!(requests(b"PING\r\nsadd  q \"a b\\n\"\n x\r\n"), expected);
    let mut arguments = Arguments::default();
    let inline = b"PING\n";
    assert_eq!(parse(inline, &mut arguments, &LIMITS), Ok(Parsed::Complete { consumed: 5 }));
    assert!(arguments.is_inline());
    let array = b"*1\r\n$1\r\nx\r\n";
    assert_eq!(parse(array, &mut arguments, &LIMITS), Ok(Parsed::Complete { consumed: 11 }));
    assert!(!arguments.is_inline());
    assert_eq!(arguments.get(array, 0), b"x");
    assert_eq!(arguments.get(array, 1), b"");
}

#[test]
fn a_bad_count_of_arguments_is_an_invalid_multibulk_length() {
    let counts = ["", "x", "+1", "01", "-0", "1 ", " 1", "1.0", "1001", "18446744073709551615"];
    for count in counts {
        let input = format!("*{count}\r\n");
        assert_eq!(error(input.as_bytes()), "invalid multibulk length", "{count}");
    }
    assert_eq!(error(b"*1\n$1\r\nx\r\n"), "invalid multibulk length");
    assert_eq!(error(b"*1\rx\n$1\r\nx\r\n"), "invalid multibulk length");
    assert_eq!(error(format!("*{}\r\n", "1".repeat(60)).as_bytes()), "invalid multibulk length");
    assert_eq!(whole(b"*1000\r\n").error, None);
}

#[test]
fn a_bad_length_of_an_argument_is_an_invalid_bulk_length() {
    let lengths =
        ["", "x", "-1", "+1", "01", "5001", "9223372036854775807", "18446744073709551615"];
    for length in lengths {
        let input = format!("*1\r\n${length}\r\n");
        assert_eq!(error(input.as_bytes()), "invalid bulk length", "{length}");
    }
    assert_eq!(error(b"*1\r\n$1\nx\r\n"), "invalid bulk length");
    assert_eq!(whole(b"*1\r\n$5000\r\n").error, None);
}

#[test]
fn something_else_than_a_bulk_string_is_named_in_one_printable_line() {
    assert_eq!(error(b"*1\r\n:1\r\n"), "expected '$', got ':'");
    assert_eq!(error(b"*2\r\n$1\r\na\r\n*1\r\n"), "expected '$', got '*'");
    assert_eq!(error(b"*1\r\n\r\n"), "expected '$', got '\\r'");
    assert_eq!(error(b"*1\r\n\n"), "expected '$', got '\\n'");
    assert_eq!(error(b"*1\r\n\xff"), "expected '$', got '\\xff'");
}

#[test]
fn a_bulk_string_must_be_followed_by_crlf() {
    for input in ["*1\r\n$1\r\nabc", "*1\r\n$1\r\na\n\n", "*1\r\n$1\r\na\rb"] {
        assert_eq!(error(input.as_bytes()), "expected CRLF after bulk string", "{input:?}");
    }
}

#[test]
fn a_request_that_is_there_as_a_whole_is_judged_as_one_that_comes_in_pieces() {
    let limits = Limits { max_arguments: 3, max_bulk: 5, max_request: 35, ..LIMITS };
    for (bytes, expected) in [
        ("*3\r\n$5\r\nabcde\r\n$5\r\nabcde\r\n$3\r\nabc\r\n", ""),
        ("*3\r\n$5\r\nabcde\r\n$5\r\nabcde\r\n$4\r\nabcd\r\n", "too big request"),
        ("*4\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n", "invalid multibulk length"),
        ("*1\r\n$6\r\nabcdef\r\n", "invalid bulk length"),
        ("*01\r\n$1\r\na\r\n", "invalid multibulk length"),
        ("*1\r\n$01\r\na\r\n", "invalid bulk length"),
        ("*\r\n*0\r\n", "invalid multibulk length"),
        ("*1\r\n$\r\n\r\n", "invalid bulk length"),
        ("*1\r\n$1\ra\r\n", "invalid bulk length"),
        ("*1\r\n*1\r\na\r\n", "expected '$', got '*'"),
        ("*1\r\n$1\r\nabc", "expected CRLF after bulk string"),
        ("$1\r\n$1\r\na\r\n", "expected '*' or a command, got '$'"),
    ] {
        let bytes = bytes.as_bytes();
        let whole = converse([bytes], &limits);
        assert_eq!(converse(bytes.chunks(1), &limits), whole, "{}", bytes.escape_ascii());
        let error = whole.error.map(|error| error.text).unwrap_or_default();
        assert_eq!(error, expected, "{}", bytes.escape_ascii());
    }
}

/// Redis runs the lines of such a value, one by one.
#[test]
fn a_request_is_no_other_value_than_an_array() {
    for first in b"$+-:_#,(!=%|~>;.\0\x7f\xff" {
        let input = [&[*first], &b"1\r\nFLUSHALL\r\n"[..]].concat();
        let found = converse([&input[..]], &LIMITS);
        assert_eq!(found.requests.len(), 0, "{}", first.escape_ascii());
        let text = found.error.map(|error| error.text).unwrap_or_default();
        assert!(text.starts_with("expected '*' or a command, got '"), "{text}");
    }
    for line in ["\tPING", " $1", "\"PING\"", "a$"] {
        assert_eq!(requests(format!("{line}\r\n").as_bytes()).len(), 1, "{line}");
    }
}

#[test]
fn as_many_arguments_as_an_ordinary_request_has_are_found_and_one_more() {
    for count in [KEPT_SPANS, KEPT_SPANS + 1] {
        let bytes = format!("*{count}\r\n{}", "$1\r\na\r\n".repeat(count));
        assert_eq!(requests(bytes.as_bytes()), [vec![b"a".to_vec(); count]]);
    }
}

#[test]
fn quotes_must_be_balanced() {
    assert_eq!(error(b"set \"a\r\n"), "unbalanced quotes in request");
    assert_eq!(error(b"set 'a'b\n"), "unbalanced quotes in request");
}

#[test]
fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
    let texts = [
        ("", "too big inline request"),
        ("*", "too big mbulk count string"),
        ("*1\r\n$", "too big bulk count string"),
    ];
    for (start, text) in texts {
        let line_start = start.rfind('\n').map_or(0, |at| at + 1);
        let fill = "1".repeat(LIMITS.max_inline - (start.len() - line_start));
        let fits = format!("{start}{fill}");
        assert_eq!(error(fits.as_bytes()), "", "{fits}");
        assert_ne!(error(format!("{fits}\n").as_bytes()), text);
        assert_eq!(error(format!("{fits}1").as_bytes()), text);
        assert_eq!(error(format!("{fits}1\n").as_bytes()), text);
    }
}

#[test]
fn a_request_over_its_limit_is_refused_before_its_bytes_arrive() {
    let first = format!("*2\r\n$3000\r\n{}\r\n", "x".repeat(3000));
    assert_eq!(whole(format!("{first}$2978\r\n").as_bytes()).error, None);
    let refused = whole(format!("{first}$2979\r\n").as_bytes()).error;
    assert_eq!(refused, Some(FramingError::too_large("too big request", LIMITS.max_request)));
    let lengths: usize = first.len() + "$2978\r\n".len() + 2978 + 2;
    assert_eq!(lengths, LIMITS.max_request);
}

#[test]
fn the_need_of_a_known_length_is_exact() {
    let mut arguments = Arguments::default();
    let head = b"*2\r\n$3000\r\nabc";
    let need = head.len() - 3 + 3002;
    assert_eq!(parse(head, &mut arguments, &LIMITS), Ok(Parsed::Partial { need }));
    let mut input = head.to_vec();
    input.resize(need - 2, b'x');
    input.extend_from_slice(b"\r\n");
    assert_eq!(parse(&input, &mut arguments, &LIMITS), Ok(Parsed::Partial { need: need + 1 }));
}

#[test]
fn a_declared_length_allocates_nothing() {
    let limits = Limits { max_arguments: usize::MAX, max_bulk: usize::MAX, ..LIMITS };
    let limits = Limits { max_request: usize::MAX, ..limits };
    let mut arguments = Arguments::default();
    let input = b"*9223372036854775807\r\n$9223372036854775807\r\nx";
    let need = input.len() - 1 + 9_223_372_036_854_775_807 + 2;
    assert_eq!(parse(input, &mut arguments, &limits), Ok(Parsed::Partial { need }));
    assert_eq!((arguments.spans.capacity(), arguments.words.capacity()), (0, 0));
}

/// Arrives in pieces of 4 KiB; what lies before the element that is being read is overwritten after
/// each, so a parser that looks back finds rubbish.
#[test]
fn a_million_arguments_are_never_looked_at_again() {
    const COUNT: usize = 1_000_000;
    let limits = Limits { max_arguments: COUNT, max_request: 1 << 30, ..LIMITS };
    let mut request = format!("*{COUNT}\r\n").into_bytes();
    (0..COUNT).for_each(|_| request.extend_from_slice(b"$1\r\nx\r\n"));
    let mut arguments = Arguments::default();
    let mut input = Vec::new();
    let mut last = Parsed::Partial { need: 1 };
    for piece in request.chunks(4096) {
        let before = arguments.position;
        input.extend_from_slice(piece);
        last = parse(&input, &mut arguments, &limits).unwrap();
        input[before..arguments.position].fill(b'!');
        assert!(input.len() - arguments.position < 8, "an element is at most 7 bytes");
    }
    assert_eq!(last, Parsed::Complete { consumed: request.len() });
    assert_eq!(arguments.len(), COUNT);
    assert_eq!(arguments.get(&request, COUNT - 1), b"x");
    arguments.clear();
    assert!(arguments.spans.capacity() <= KEPT_SPANS);
}
