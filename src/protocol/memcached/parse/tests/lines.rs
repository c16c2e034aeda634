//! Tests of what lines mean: every verb, every number of words, every refusal.

use super::{BadRequest, Fatal, check_cuts, event};

/// Why the connection ends at `line`; what follows is not looked at.
fn fatal(line: &str) -> Option<Fatal> {
    let found = check_cuts(format!("{line}\r\nflush_all\r\n").as_bytes());
    assert_eq!(found.events, [""; 0], "{line}");
    found.fatal
}

#[test]
fn commands_with_a_data_block_carry_key_flags_time_and_data() {
    let cases: [(&[u8], &str); 9] = [
        (b"set k 7 60 3\r\nabc\r\n", "set Set k 7 60 = abc"),
        (b"add k 0 -1 0\r\n\r\n", "add Add k 0 -1 = "),
        (
            b"replace k 4294967295 0 4 noreply\r\na\r\nb\r\n",
            r"replace Replace k 4294967295 0 = a\r\nb noreply",
        ),
        (b"append k 0 0 03\nab\n\r\n", r"append Append k 0 0 = ab\n"),
        (b"prepend  k  0 0 1 other\r\nx\r\n", "prepend Prepend k 0 0 = x"),
        (b"cas k 0 0 1 18446744073709551615\r\nx\r\n", "cas Cas(18446744073709551615) k 0 0 = x"),
        (b"cas k 0 0 1 5 noreply\r\nx\r\n", "cas Cas(5) k 0 0 = x noreply"),
        (b"sismember q 0 0 2\r\nxy\r\n", "sismember q = xy"),
        (
            b"set \xff 0 0 20\r\n12345678901234567890\r\n",
            r"set Set \xff 0 0 = 12345678901234567890",
        ),
    ];
    for (input, expected) in cases {
        assert_eq!(event(input), expected);
    }
}

#[test]
fn commands_without_a_data_block_are_one_line() {
    let cases: [(&[u8], &str); 24] = [
        (b"get a\r\n", "get a None"),
        (b" get  a b  c \n", "get a,b,c None"),
        (b"gets a noreply\r\n", "gets a,noreply None"),
        (b"gat 10 a b\r\n", "gat a,b Some(10)"),
        (b"gats -1 a\r\n", "gats a Some(-1)"),
        (b"delete k\r\n", "delete Delete { key: [107] }"),
        (b"delete k 0\r\n", "delete Delete { key: [107] }"),
        (b"delete k noreply\r\n", "delete Delete { key: [107] } noreply"),
        (b"delete k 0 noreply\r\n", "delete Delete { key: [107] } noreply"),
        (b"incr k 1\r\n", "incr Arithmetic { key: [107], delta: 1, decrement: false }"),
        (b"decr k 2 x\r\n", "decr Arithmetic { key: [107], delta: 2, decrement: true }"),
        (
            b"incr k 3 noreply\r\n",
            "incr Arithmetic { key: [107], delta: 3, decrement: false } noreply",
        ),
        (b"touch k 5\r\n", "touch Touch { key: [107], exptime: 5 }"),
        (b"flush_all\r\n", "flush_all FlushAll { delay: 0 }"),
        (b"flush_all noreply\r\n", "flush_all FlushAll { delay: 0 } noreply"),
        (b"flush_all 9\r\n", "flush_all FlushAll { delay: 9 }"),
        (b"flush_all -9 noreply\r\n", "flush_all FlushAll { delay: -9 } noreply"),
        (b"version \r\n", "version Version"),
        (b"verbosity 1 noreply\r\n", "verbosity Verbosity noreply"),
        (b"stats\r\n", "stats Stats { group: [], words: Keys { rest: [10] } }"),
        (b"stats k a\r\n", "stats Stats { group: [107], words: Keys { rest: [32, 97, 13, 10] } }"),
        (b" quit\n", "quit Quit"),
        (b"scard q\r\n", "scard Length { key: [113] }"),
        (b"scard q noreply\r\n", "scard Length { key: [113] } noreply"),
    ];
    for (input, expected) in cases {
        assert_eq!(event(input), expected);
    }
}

#[test]
fn a_key_may_be_called_noreply() {
    assert!(!event(b"delete noreply\r\n").ends_with(" noreply"));
    assert!(!event(b"scard noreply\r\n").ends_with(" noreply"));
}

#[test]
fn unknown_verbs_and_wrong_numbers_of_words_are_unknown() {
    for line in [
        "",
        "  ",
        "foo",
        "GET a",
        "get",
        "gets ",
        "gat",
        "gat 10",
        "delete",
        "delete k 0 noreply x",
        "incr k",
        "incr k 1 2 3",
        "touch k",
        "flush_all 0 0 0",
        "verbosity",
        "verbosity a b c",
        "quit x",
        "scard",
        "scard q x y",
    ] {
        assert_eq!(event(format!("{line}\r\n").as_bytes()), "Unknown", "{line}");
    }
}

/// What follows such a line may be data that holds any line.
#[test]
fn the_connection_ends_where_the_length_of_a_block_cannot_be_told() {
    let verbs = ["set", "add", "replace", "append", "prepend", "sismember"];
    let lines = verbs.map(|verb| format!("{verb} k 0 0 9x"));
    let others = ["cas k 0 0 9x 1", "set k 0 0 x noreply", "set k 0 0 0x9"].map(str::to_owned);
    for line in lines.iter().chain(&others) {
        let noreply = line.ends_with("noreply");
        let expected = Fatal::Unmeasured { refusal: BadRequest::BadFormat, noreply };
        assert_eq!(fatal(line), Some(expected), "{line}");
    }
    let lines = ["set k 0 0", "set", "ms k", "ms k 9x", "SET k 0 0", "set:k 0 0 9"];
    let glued = ["set\tk 0 0 9", "set\x0bk 0 0 9", "set\0k 0 0 9", "\tset 0 0 9", "\tget k"];
    for line in lines.iter().chain(&glued) {
        let fatal = fatal(line);
        assert!(matches!(fatal, Some(Fatal::Unmeasured { noreply: false, .. })), "{line}");
    }
}

#[test]
fn bad_keys_and_numbers_are_refused_each_with_its_text() {
    let long = "k".repeat(251);
    let cases = [
        (format!("get {long}"), "BadFormat"),
        (format!("get a {long} b"), "BadFormat"),
        (format!("delete {long} noreply"), "BadFormat (silent)"),
        (format!("incr {long} 1"), "BadFormat"),
        (format!("touch {long} 1"), "BadFormat"),
        (format!("scard {long}"), "BadFormat"),
        ("get a\0b".to_owned(), "BadFormat"),
        ("get a\tb".to_owned(), "BadFormat"),
        ("get a\r".to_owned(), "BadFormat"),
        ("get a\x7f".to_owned(), "BadFormat"),
        ("incr k x".to_owned(), "InvalidDelta"),
        ("incr k -1".to_owned(), "InvalidDelta"),
        ("incr k 18446744073709551616".to_owned(), "InvalidDelta"),
        ("incr k noreply".to_owned(), "InvalidDelta (silent)"),
        ("touch k x".to_owned(), "InvalidExptime"),
        ("gat x k".to_owned(), "InvalidExptime"),
        ("flush_all x".to_owned(), "InvalidExptime"),
        ("flush_all x noreply".to_owned(), "InvalidExptime (silent)"),
        ("delete k 1".to_owned(), "DeleteUsage"),
        ("delete k 0 x".to_owned(), "DeleteUsage"),
        ("verbosity x".to_owned(), "BadFormat"),
        ("verbosity noreply".to_owned(), "BadFormat (silent)"),
        ("set k 0 0 -1".to_owned(), "BadFormat"),
        ("set k 0 0 18446744073709551616".to_owned(), "BadFormat"),
    ];
    for (line, expected) in cases {
        assert_eq!(event(format!("{line}\r\n").as_bytes()), expected, "{line}");
    }
    assert_eq!(event(format!("get {}\r\n", "k".repeat(250)).as_bytes()).len(), 259);
}
