//! A client's whole conversation: bytes in, bytes out, over the stores in memory.
//!
//! 1. The same bytes get the same answer, however they are cut into reads. Where a second try gets
//!    another answer, the clock speaks (TIME, PTTL), and numbers are left out of the comparison.
//! 2. A session consumes no more than there is, asks for more than there is, and never stands
//!    still.
//! 3. A piece of output is bounded, whatever has been asked for.
//! 4. Each request gets one reply, whole and of the protocol's form: a client that counts them
//!    never loses step. Modules `session_redis` and `session_memcached` count.

use super::cuts::cuts;
use mq::kv::Kv;
use mq::queue::{Limits, MemoryBacking, Policy, Queues};
use mq::session::{Close, OUTPUT_PIECE, Session, Settings, Shared, Store};
use std::sync::{Arc, RwLock};

/// The longest message in bytes: small, so that short inputs reach it.
pub const MAX_MESSAGE: usize = 300;

/// Bytes for each store, for the same reason.
const MAX_MEMORY: u64 = 5000;

/// How often a conversation that the clock may have changed is tried.
const TRIES: usize = 20;

/// What a conversation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// All output.
    pub output: Vec<u8>,
    /// What ended it.
    pub close: Option<Close>,
    /// Bytes that were done with.
    pub consumed: usize,
}

/// Queues in memory, and keys and values.
fn stores() -> [Store; 2] {
    let limits = Limits { max_queues: 3, max_queue_len: 8 };
    let backing = Box::new(MemoryBacking::new(MAX_MEMORY));
    let queues = Queues::open(backing, limits, Policy::Always).expect("there is nothing to read");
    [Store::Queues(Arc::new(queues)), Store::Kv(Arc::new(Kv::new(MAX_MEMORY)))]
}

fn share(store: Store) -> Arc<Shared> {
    Arc::new(Shared {
        store,
        gate: RwLock::new(()),
        max_message: MAX_MESSAGE,
        settings: Settings { store: "memory", fsync: "always", ..Settings::default() },
        statistics: Arc::default(),
    })
}

/// Holds a conversation over each store, whole and cut into reads. `piece` bounds the bytes of one
/// reply; `check` looks at what each came to.
pub fn check<S: Session>(
    input: &[u8],
    piece: usize,
    start: impl Fn(Arc<Shared>) -> S,
    check: impl Fn(&Outcome),
) {
    for store in 0..stores().len() {
        let play = |pieces: &[&[u8]]| {
            let store = stores().into_iter().nth(store).expect("a store");
            let outcome = converse(&mut start(share(store)), pieces, piece);
            check(&outcome);
            outcome
        };
        let whole = play(&[input]);
        for pieces in cuts(input) {
            let is_same = play(&pieces) == whole
                || agree(|| play(&[input]), || play(&pieces))
                || counts_milliseconds(input);
            assert!(is_same, "cut into reads: {pieces:?}");
        }
    }
}

/// Whether both ways come to the same, the clock aside.
fn agree(whole: impl Fn() -> Outcome, cut: impl Fn() -> Outcome) -> bool {
    (0..TRIES).any(|_| {
        let (one, other) = (whole(), cut());
        one == other || (one != whole() && without_numbers(one) == without_numbers(other))
    })
}

/// Whether a value may be told to expire after milliseconds: on a busy machine it is there in every
/// short conversation and gone in every long one.
fn counts_milliseconds(input: &[u8]) -> bool {
    let has = |word: &[u8]| input.windows(word.len()).any(|here| here.eq_ignore_ascii_case(word));
    has(b"PX") || has(b"PEXPIRE")
}

fn without_numbers(mut outcome: Outcome) -> Outcome {
    outcome.output.retain(|byte| !byte.is_ascii_digit());
    outcome
}

/// Feeds the pieces as a server would.
fn converse(session: &mut impl Session, pieces: &[&[u8]], piece_limit: usize) -> Outcome {
    let mut outcome = Outcome { output: Vec::new(), close: None, consumed: 0 };
    let (mut buffer, mut need) = (Vec::new(), 0);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while buffer.len() >= need {
            let mut output = Vec::new();
            let advance = session.advance(&buffer, &mut output);
            assert!(advance.consumed <= buffer.len(), "{advance:?} of {}", buffer.len());
            buffer.drain(..advance.consumed);
            outcome.consumed += advance.consumed;
            outcome.close = advance.close;
            assert!(output.len() < OUTPUT_PIECE + piece_limit, "{} bytes at once", output.len());
            let is_full = output.len() >= OUTPUT_PIECE;
            outcome.output.extend(output);
            if advance.close.is_some() {
                return outcome;
            }
            need = advance.need;
            let goes_on = if need == 0 { is_full } else { need > buffer.len() };
            assert!(goes_on, "it stands still: {advance:?} with {} bytes left", buffer.len());
        }
    }
    outcome
}
