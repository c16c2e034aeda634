//! A Redis client's conversation: see `session`. Each request that is not empty gets one reply.

use super::session;
use super::session::{CLIENT, MAX_MESSAGE, Outcome};
use mq::protocol::Parsed;
use mq::protocol::resp::{Arguments, Limits, parse};
use mq::session::redis::RedisSession;
use mq::session::{Close, NewClient};

/// The largest reply to one request: 32 MiB, and one message.
const REPLY: usize = (32 << 20) + MAX_MESSAGE + 64;

/// What a session allows, with the same largest message.
const LIMITS: Limits = Limits {
    max_arguments: 1 << 20,
    max_bulk: MAX_MESSAGE,
    max_inline: 64 << 10,
    max_request: 64 << 20,
};

/// Holds for every input, or panics.
pub fn check(input: &[u8]) {
    let start = |shared| RedisSession::new(shared, NewClient::detached(CLIENT));
    session::check(input, REPLY, start, |outcome| {
        let (count, may_be_silent) = requests(&input[..outcome.consumed]);
        let expected = count + closing_replies(outcome);
        let found = replies(&outcome.output);
        let is_right = |found| found == expected || may_be_silent && found < expected;
        let output = outcome.output.escape_ascii();
        assert!(found.is_some_and(is_right), "{found:?} replies to {expected}: {output}");
    });
}

/// An error of framing has a reply; another protocol has none, and its request is not consumed.
fn closing_replies(outcome: &Outcome) -> i64 {
    match outcome.close {
        Some(Close::Framing | Close::TooLarge { .. } | Close::NoMemory) => 1,
        Some(Close::Foreign(_) | Close::Quit) | None => 0,
    }
}

/// How many requests of `input` are not empty, and whether one is CLIENT REPLY, which may turn
/// replies off. All of them are whole.
fn requests(mut input: &[u8]) -> (i64, bool) {
    let (mut count, mut arguments) = (0, Arguments::default());
    let mut may_be_silent = false;
    while !input.is_empty() {
        let Ok(Parsed::Complete { consumed }) = parse(input, &mut arguments, &LIMITS) else {
            panic!("consumed, and no request: {}", input.escape_ascii());
        };
        count += i64::from(!arguments.is_empty());
        may_be_silent |= arguments.get(input, 1).eq_ignore_ascii_case(b"reply");
        input = &input[consumed..];
    }
    (count, may_be_silent)
}

/// Returns how many whole replies `output` is, or `None` if it ends within one.
fn replies(mut output: &[u8]) -> Option<i64> {
    let mut count = 0;
    while !output.is_empty() {
        let mut missing = 1_u64;
        while missing > 0 {
            let children = reply(&mut output)?;
            missing = missing - 1 + children;
        }
        count += 1;
    }
    Some(count)
}

/// Takes one reply, or the head of one, off `output`; answers how many more belong to it.
fn reply(output: &mut &[u8]) -> Option<u64> {
    let end = output.iter().position(|byte| *byte == b'\n')?;
    let line = output[..end].strip_suffix(b"\r")?;
    *output = &output[end + 1..];
    let (kind, text) = line.split_first()?;
    let number = || std::str::from_utf8(text).ok()?.parse::<i64>().ok();
    match kind {
        b'+' | b'-' => (!text.contains(&b'\r')).then_some(0),
        b':' => number().map(|_| 0),
        b'_' => text.is_empty().then_some(0),
        b'*' | b'$' if text == b"-1" => Some(0),
        b'*' | b'~' => u64::try_from(number()?).ok(),
        b'%' => u64::try_from(number()?).ok().map(|pairs| 2 * pairs),
        b'$' | b'=' => {
            let length = usize::try_from(number()?).ok()?;
            *output = output.get(length..)?.strip_prefix(b"\r\n")?;
            Some(0)
        }
        _ => None,
    }
}
