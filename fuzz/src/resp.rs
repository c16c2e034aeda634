//! RESP requests: the same bytes give the same requests, however they are cut into reads.
//!
//! Beside that: `consumed` is at most what there is, `need` is more, and no more than the limits
//! allow; what the parser is done with is not looked at again; what it has found, written as an
//! array, is found again.

use super::cuts::cuts;
use mq::protocol::Parsed;
use mq::protocol::resp::{Arguments, FramingError, Limits, parse};

/// Small, so that short inputs reach them.
const SMALL: Limits =
    Limits { max_arguments: 100, max_bulk: 500, max_inline: 64, max_request: 600 };

/// None at all: no sum may overflow, and nothing be allocated before it arrives.
const NONE: Limits = Limits {
    max_arguments: usize::MAX,
    max_bulk: usize::MAX,
    max_inline: usize::MAX,
    max_request: usize::MAX,
};

/// What a stream of requests came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Conversation {
    /// The arguments of each request.
    requests: Vec<Vec<Vec<u8>>>,
    /// What ended it.
    error: Option<FramingError>,
    /// Bytes that no request has used.
    left: usize,
}

/// Holds for every input, or panics.
pub fn check(input: &[u8]) {
    for limits in [SMALL, NONE] {
        let whole = converse(&[input], &limits);
        for pieces in cuts(input) {
            assert_eq!(converse(&pieces, &limits), whole, "cut into reads under {limits:?}");
        }
        let written = whole.requests.iter().flat_map(|words| write(words)).collect::<Vec<u8>>();
        let again = converse(&[&written], &NONE);
        let found = (again.requests, again.error, again.left);
        assert_eq!(found, (whole.requests, None, 0), "what was found is found again");
    }
}

/// Feeds the pieces as a server would.
fn converse(pieces: &[&[u8]], limits: &Limits) -> Conversation {
    let mut conversation = Conversation::default();
    let mut arguments = Arguments::default();
    let (mut buffer, mut need) = (Vec::new(), 0);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while buffer.len() >= need {
            // What lies before the element that is being read is rubbish by now.
            let mut seen = buffer.clone();
            seen[..arguments.settled()].fill(b'!');
            match parse(&seen, &mut arguments, limits) {
                Ok(Parsed::Complete { consumed }) => {
                    assert!(consumed > 0 && consumed <= buffer.len(), "consumed {consumed}");
                    let words = (0..arguments.len()).map(|i| arguments.get(&buffer, i).to_vec());
                    conversation.requests.push(words.collect());
                    buffer.drain(..consumed);
                    arguments.clear();
                    need = 0;
                }
                Ok(Parsed::Partial { need: wanted }) => {
                    assert!(wanted > buffer.len(), "need {wanted} of {}", buffer.len());
                    let is_bounded = wanted <= limits.max_request || wanted == buffer.len() + 1;
                    assert!(is_bounded, "need {wanted} under {limits:?}");
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

/// A request as an array of bulk strings.
fn write(words: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
