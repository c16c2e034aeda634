//! The same bytes in other pieces give the same replies.

use super::{Conversation, Daemon, request};
use crate::random::Random;
use crate::session::Session;

/// A conversation that touches every kind of request and reply, and ends with a framing error.
fn transcript() -> Vec<u8> {
    let lines = [
        "PING",
        "SADD q a bb ccc",
        "SADD q",
        "nosuch a b",
        "SMEMBERS q",
        "HELLO 3 SETNAME me",
        "SMEMBERS q",
        "SSCAN q 0 COUNT 2",
        "WATCH q",
        "MULTI",
        "SPOP q 2",
        "SISMEMBER q ccc",
        "EXEC",
        "MULTI",
        "GET",
        "EXEC",
        "CLIENT INFO x",
        "COMMAND INFO sadd",
        "CONFIG GET max*",
        "SPOP q",
        "SPOP q",
        "RESET",
        "SPOP q",
    ];
    let mut bytes = Vec::new();
    for line in lines {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        bytes.extend(request(&words));
    }
    bytes.extend_from_slice(b"\r\nsadd q \"x y\"\r\n*0\r\nSPOP q\n*1\r\n$x\r\nPING\r\n");
    bytes
}

/// Feeds the pieces as a connection does: what is not consumed comes again, with more behind it,
/// and the session is called when it has what it needs.
fn converse(client: &mut Conversation, pieces: &[&[u8]]) -> Vec<u8> {
    let (mut input, mut output, mut need) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        input.extend_from_slice(piece);
        if input.len() < need {
            continue;
        }
        loop {
            let advance = client.session.advance(&input, &mut output);
            if advance.close.is_some() {
                return output;
            }
            input.drain(..advance.consumed);
            need = advance.need;
            if !advance.again {
                break;
            }
        }
        assert!(need > input.len(), "it asks for more than there is");
    }
    output
}

fn fresh() -> Conversation {
    Daemon::with_queues(1 << 30, u64::MAX).client()
}

#[test]
fn every_cut_of_a_transcript_gives_the_same_replies() {
    let bytes = transcript();
    let whole = converse(&mut fresh(), &[&bytes]);
    assert!(whole.ends_with(b"$3\r\nx y\r\n-ERR Protocol error: invalid bulk length\r\n"));
    for cut in 0..bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        let replies = converse(&mut fresh(), &[head, tail]);
        assert_eq!(replies, whole, "cut at {cut}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(converse(&mut fresh(), &single), whole);
}

#[test]
fn random_bytes_and_damaged_transcripts_do_no_harm() {
    let mut generator = Random::seeded();
    let mut random = |below: usize| generator.below(below as u64) as usize;
    let good = transcript();
    for _ in 0..2000 {
        let mut bytes = good.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            bytes[at] = b"\r\n*$-0129 \"'\\x\0\xff"[random(16)];
        }
        let cut = random(bytes.len());
        let (head, tail) = bytes.split_at(cut);
        let whole = converse(&mut fresh(), &[&bytes]);
        assert_eq!(converse(&mut fresh(), &[head, tail]), whole, "{}", bytes.escape_ascii());
    }
}
