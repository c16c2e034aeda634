//! Memory whose size clients choose: to find none is the error of one request, and never the end
//! of the daemon.
//!
//! The standard library ends the process where an allocation fails. So whatever clients can make
//! larger than [`SMALL`] in one piece is reserved before it is filled: vectors with [`reserve`],
//! maps and the like with `try_reserve`, whose error becomes a [`NoMemory`]. Smaller pieces are
//! allocated as everywhere, and for these [`reserve`] leaves [`SPARE`] bytes to the system. To give
//! room back takes none: the allocator shrinks a piece in its place.

use crate::logging;
use std::collections::TryReserveError;
use std::fmt;
use std::hint::black_box;
use std::io;

/// Bytes of a piece that is allocated without a question.
const SMALL: usize = 64 * 1024;

/// Bytes that the system must have left after a large piece.
const SPARE: usize = 1 << 20;

/// The system has no memory for what a client has sent or asked for. The log says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory, the system has no more")
    }
}

impl std::error::Error for NoMemory {}

impl NoMemory {
    fn said() -> NoMemory {
        logging::refused("the system has no memory", "for what clients send and ask for");
        NoMemory
    }
}

impl From<NoMemory> for io::Error {
    fn from(_: NoMemory) -> io::Error {
        io::ErrorKind::OutOfMemory.into()
    }
}

impl From<TryReserveError> for NoMemory {
    fn from(_: TryReserveError) -> NoMemory {
        NoMemory::said()
    }
}

impl From<hashbrown::TryReserveError> for NoMemory {
    fn from(_: hashbrown::TryReserveError) -> NoMemory {
        NoMemory::said()
    }
}

/// Makes room for `count` more elements, as much again as there is at least: a vector that grows
/// bit by bit is copied a few times only.
///
/// # Errors
/// There is no memory; the vector is as it was.
pub fn reserve<T>(vector: &mut Vec<T>, count: usize) -> Result<(), NoMemory> {
    if vector.capacity() - vector.len() < count { grow(vector, count) } else { Ok(()) }
}

#[cold]
fn grow<T>(vector: &mut Vec<T>, count: usize) -> Result<(), NoMemory> {
    let before = vector.capacity();
    vector.try_reserve(count)?;
    leave_spare(vector, before)
}

/// Takes the room of a large vector back if there is too little left behind it. What it had before
/// stays: somebody may rely on it.
fn leave_spare<T>(vector: &mut Vec<T>, before: usize) -> Result<(), NoMemory> {
    let size = vector.capacity().saturating_mul(size_of::<T>());
    check_spare(size).inspect_err(|_| vector.shrink_to(before))
}

/// Looks whether there is enough left beside a piece of `size` bytes, which is no vector's.
///
/// # Errors
/// There is too little.
pub fn check_spare(size: usize) -> Result<(), NoMemory> {
    if size > SMALL {
        let mut spare = Vec::<u8>::new();
        spare.try_reserve_exact(SPARE)?;
        // Else the compiler would find that nobody needs it.
        black_box(&spare);
    }
    Ok(())
}

/// Makes room for `count` more elements and no more.
///
/// # Errors
/// There is no memory; the vector is as it was.
pub fn reserve_exact<T>(vector: &mut Vec<T>, count: usize) -> Result<(), NoMemory> {
    let before = vector.capacity();
    vector.try_reserve_exact(count)?;
    leave_spare(vector, before)
}

/// Appends `bytes`.
///
/// # Errors
/// There is no memory; nothing is appended.
pub fn append(vector: &mut Vec<u8>, bytes: &[u8]) -> Result<(), NoMemory> {
    reserve(vector, bytes.len())?;
    vector.extend_from_slice(bytes);
    Ok(())
}

/// Makes a vector of these parts, one behind the other, without room for more.
///
/// # Errors
/// There is no memory.
pub fn join(parts: &[&[u8]]) -> Result<Vec<u8>, NoMemory> {
    let mut joined = Vec::new();
    // What is in memory already is far from the end of a usize.
    reserve_exact(&mut joined, parts.iter().map(|part| part.len()).sum())?;
    parts.iter().for_each(|part| joined.extend_from_slice(part));
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than any address space has.
    const ENDLESS: usize = isize::MAX as usize;

    #[test]
    fn what_there_is_no_memory_for_is_an_error_and_changes_nothing() {
        let mut bytes = b"abc".to_vec();
        assert_eq!(reserve(&mut bytes, ENDLESS), Err(NoMemory));
        assert_eq!(reserve(&mut bytes, usize::MAX), Err(NoMemory));
        assert_eq!((bytes.as_slice(), bytes.capacity()), (&b"abc"[..], 3));
    }

    #[test]
    fn what_is_appended_and_joined_is_there() {
        let mut bytes = b"abc".to_vec();
        append(&mut bytes, &[7; 2 * SMALL]).unwrap();
        assert_eq!((&bytes[..4], bytes.len()), (&b"abc\x07"[..], 3 + 2 * SMALL));
        let joined = join(&[b"ab", b"", b"c"]).unwrap();
        assert_eq!((joined.as_slice(), joined.capacity()), (&b"abc"[..], 3));
    }
}
