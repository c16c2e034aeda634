//! A memcached client's conversation: see `session`. Each request gets one reply, unless it says
//! `noreply`.

use super::session;
use super::session::{CLIENT, MAX_MESSAGE};
use mq::protocol::memcached::{Fatal, Found, Progress, TextCommand, parse};
use mq::session::NewClient;
use mq::session::memcached::MemcachedSession;

/// The largest value with its line, and all lines of statistics.
const REPLY: usize = MAX_MESSAGE + 8192;

/// Holds for every input, or panics.
pub fn check(input: &[u8]) {
    let start = |shared| MemcachedSession::new(shared, NewClient::detached(CLIENT));
    session::check(input, REPLY, start, |outcome| {
        let found = replies(&outcome.output);
        assert_eq!(found, Some(requests(input)), "{}", outcome.output.escape_ascii());
    });
}

/// How many of the requests in `input` are answered, up to what ends the connection.
fn requests(mut input: &[u8]) -> usize {
    let (mut count, mut progress) = (0, Progress::default());
    loop {
        let (answers, done) = match parse(input, &mut progress, MAX_MESSAGE) {
            Ok(Found::Complete { request, .. }) if request.command == TextCommand::Quit => {
                break count;
            }
            Ok(Found::Complete { request, consumed }) => (!request.noreply, consumed),
            Ok(Found::Refused { noreply, consumed, .. }) => (!noreply, consumed),
            Ok(Found::Skipped { consumed }) => (false, consumed),
            Ok(Found::Partial { .. }) | Err(Fatal::Foreign(_)) => break count,
            Err(Fatal::LineTooLong) => break count + 1,
            Err(Fatal::Unmeasured { noreply, .. }) => break count + usize::from(!noreply),
        };
        count += usize::from(answers);
        input = &input[done..];
    }
}

/// Returns how many whole replies `output` is, or `None` if it ends within one.
fn replies(mut output: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !output.is_empty() {
        let end = output.iter().position(|byte| *byte == b'\n')?;
        let line = output[..end].strip_suffix(b"\r")?;
        output = &output[end + 1..];
        let mut words = line.split(|byte| *byte == b' ');
        match words.next()? {
            b"VALUE" => {
                let length = std::str::from_utf8(words.nth(2)?).ok()?.parse::<usize>().ok()?;
                output = output.get(length..)?.strip_prefix(b"\r\n")?;
            }
            b"STAT" => {}
            _ => count += 1,
        }
    }
    Some(count)
}
