//! memcached requests: the same bytes give the same requests, however they are cut into reads.
//!
//! Beside that: `consumed` is at most what there is, and something unless there is an error; `need`
//! is more, and no more than a line and a block of the largest size; the keys of a `get` go on
//! where they were left.

use super::cuts::cuts;
use mq::protocol::memcached::{Found, Keys, Progress, TextCommand, parse};

/// Small, so that short inputs reach it.
const MAX_DATA: usize = 100;

/// A line of up to 2048 bytes, its line feed, a block and its CRLF.
const MOST: usize = 2048 + 1 + MAX_DATA + 2;

/// Holds for every input, or panics.
pub fn check(input: &[u8]) {
    let whole = converse(&[input]);
    for pieces in cuts(input) {
        assert_eq!(converse(&pieces), whole, "cut into reads");
    }
}

/// Feeds the pieces as a server would; answers what was found, and the number of bytes that are
/// left.
fn converse(pieces: &[&[u8]]) -> (Vec<String>, usize) {
    let (mut found, mut progress) = (Vec::new(), Progress::default());
    let (mut buffer, mut need) = (Vec::new(), 0);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while buffer.len() >= need {
            let done = match parse(&buffer, &mut progress, MAX_DATA) {
                Ok(Found::Complete { request, consumed }) => {
                    if let TextCommand::Get { keys, .. } = &request.command {
                        check_keys(*keys, &buffer[..consumed]);
                    }
                    assert!(request.data.len() <= MAX_DATA, "{request:?}");
                    found.push(format!("{request:?}"));
                    consumed
                }
                Ok(Found::Refused { refusal, noreply, consumed }) => {
                    found.push(format!("{refusal:?}, noreply: {noreply}"));
                    consumed
                }
                Ok(Found::Skipped { consumed }) => consumed,
                Ok(Found::Partial { need: wanted }) => {
                    let is_bounded = wanted == buffer.len() + 1 || wanted <= MOST;
                    assert!(wanted > buffer.len() && is_bounded, "need {wanted}");
                    need = wanted;
                    continue;
                }
                Err(fatal) => {
                    found.push(format!("{fatal:?}"));
                    return (found, 0);
                }
            };
            assert!(done > 0 && done <= buffer.len(), "consumed {done} of {}", buffer.len());
            buffer.drain(..done);
            need = 0;
        }
    }
    (found, buffer.len())
}

/// `line` is a `get`; behind each of its keys it can be cut and gone on with.
fn check_keys(mut keys: Keys<'_>, line: &[u8]) {
    let mut all = keys.collect::<Vec<_>>().into_iter();
    assert!(all.len() > 0, "a get has a key");
    while keys.next().is_some() {
        all.next();
        let rest = Keys::resume(&line[line.len() - keys.unread()..]);
        assert!(rest.eq(all.clone()), "the keys behind a cut");
    }
}
