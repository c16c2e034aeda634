//! A client's whole conversation: bytes in, bytes out, over the stores in memory.
//!
//! 1. The same bytes get the same answer, however they are cut into reads. The clock stands still,
//!    so that nothing else can make a difference.
//! 2. A session consumes no more than there is, asks for more than there is, and never stands
//!    still.
//! 3. A piece of output is bounded, whatever has been asked for.
//! 4. Each request gets one reply, whole and of the protocol's form: a client that counts them
//!    never loses step. Modules `session_redis` and `session_memcached` count.

use super::cuts::cuts;
use mq::clock::Clock;
use mq::kv::Kv;
use mq::queue::{Limits, MemoryBacking, Policy, Queues};
use mq::session::{
    ClientLimits, ClientTable, Close, OUTPUT_PIECE, Session, Settings, Shared, Store,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// The longest message in bytes: small, so that short inputs reach it.
pub const MAX_MESSAGE: usize = 300;

/// Bytes for each store, for the same reason.
const MAX_MEMORY: u64 = 5000;

/// When all conversations take place, the time since 1970.
const NOW: Duration = Duration::from_micros(1_700_000_000_123_456);

/// The most turns in a row that come to nothing yet: a request has a bounded number of slices.
const IDLE_TURNS: usize = 1000;

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

/// The number of the client.
pub const CLIENT: u64 = 7;

/// Queues in memory, and keys and values.
fn stores() -> [Store; 2] {
    let limits = Limits { max_queues: 3, max_queue_len: 8 };
    // The ids of deliveries are the same each time: a seed can name them.
    let keys = AtomicU8::new(0);
    let key = move || [keys.fetch_add(1, Ordering::Relaxed); 16];
    let backing = Box::new(MemoryBacking::new(MAX_MEMORY).with_keys(key));
    let queues = Queues::open(backing, limits, Policy::Always).expect("there is nothing to read");
    let queues = queues.with_clock(standing()).with_attempts(1);
    let kv = Kv::new(MAX_MEMORY).with_clock(standing());
    [Store::Queues(Arc::new(queues)), Store::Kv(Arc::new(kv))]
}

fn standing() -> Clock {
    Clock::new(|| NOW)
}

fn share(store: Store) -> Arc<Shared> {
    let settings = Settings { store: "memory", fsync: "always", ..Settings::default() };
    let limits = ClientLimits { max_message: MAX_MESSAGE.into(), ..ClientLimits::default() };
    Arc::new(Shared::new(store, settings, Arc::new(limits)))
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
            let shared = share(stores().into_iter().nth(store).expect("a store"));
            let clients = Arc::clone(&shared.clients);
            let outcome = converse(&mut start(shared), pieces, piece, &clients);
            check(&outcome);
            outcome
        };
        let whole = play(&[input]);
        for pieces in cuts(input) {
            assert_eq!(play(&pieces), whole, "cut into reads: {pieces:?}");
        }
    }
}

/// Feeds the pieces as a server would. A wait for a message is ended as its timeout would end it.
fn converse(
    session: &mut impl Session,
    pieces: &[&[u8]],
    piece_limit: usize,
    clients: &ClientTable,
) -> Outcome {
    let mut outcome = Outcome { output: Vec::new(), close: None, consumed: 0 };
    let (mut buffer, mut need, mut idle_turns) = (Vec::new(), 0, 0);
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
            let is_idle = advance.again && advance.consumed == 0 && output.is_empty();
            idle_turns = if is_idle { idle_turns + 1 } else { 0 };
            assert!(idle_turns < IDLE_TURNS, "nobody else is there to wait for");
            outcome.output.extend(output);
            if advance.close.is_some() {
                return outcome;
            }
            need = advance.need;
            if advance.wait.is_some() {
                let waiting = clients.find(CLIENT).expect("it is connected");
                assert!(waiting.unblock(false), "it says that it waits");
                continue;
            }
            let goes_on = if need == 0 { is_full || advance.again } else { need > buffer.len() };
            assert!(goes_on, "it stands still: {advance:?} with {} bytes left", buffer.len());
        }
    }
    outcome
}
