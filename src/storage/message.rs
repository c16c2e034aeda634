//! Messages as they go in and come out. This file knows no bytes of the log.

/// A message on its way in.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// The message itself: any bytes, also none.
    pub body: &'a [u8],
    /// The client flags of memcached, kept and given back; 0 over Redis.
    pub flags: u32,
    /// Unix time in milliseconds after which nobody wants it any more; 0 = never.
    pub expires_ms: u64,
}

/// A message in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Unique and growing in its queue, from 1.
    pub sequence: u64,
    /// Unix time of the push in milliseconds.
    pub pushed_ms: u64,
    /// As in [`NewMessage`].
    pub expires_ms: u64,
    /// As in [`NewMessage`].
    pub flags: u32,
    /// As in [`NewMessage`].
    pub body: &'a [u8],
}

/// Where a message lies. Good until the store changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The message's number.
    pub sequence: u64,
    /// Where the store finds it: the offset in the log, or nothing in memory.
    pub position: u64,
}
