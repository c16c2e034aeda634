//! Ways in which the same bytes arrive in other reads.
//!
//! The cuts follow from the bytes alone, so an input that fails once fails always.

/// The input byte by byte, and twice in pieces of lengths that the input decides: a few long ones,
/// and many short ones.
pub fn cuts(input: &[u8]) -> [Vec<&[u8]>; 3] {
    let mut state = seed(input);
    let few = pieces(input, &mut state, input.len());
    let many = pieces(input, &mut state, 16);
    [input.chunks(1).collect(), few, many]
}

/// Cuts the input into pieces of 1 to `longest` bytes.
fn pieces<'a>(mut input: &'a [u8], state: &mut u64, longest: usize) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !input.is_empty() {
        let length = 1 + next(state) as usize % longest;
        let (piece, rest) = input.split_at(length.min(input.len()));
        pieces.push(piece);
        input = rest;
    }
    pieces
}

/// The FNV-1a hash of the input, made odd so that it can be the state of `next`.
fn seed(input: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    input.iter().fold(0xcbf2_9ce4_8422_2325, step) | 1
}

/// An xorshift generator.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 11
}
