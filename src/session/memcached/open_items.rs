//! Kestrel's options behind the name of a queue in `get`: `jobs/open` leases the oldest message,
//! `jobs/close` acknowledges it, `jobs/abort` gives it back, `jobs/peek` shows the oldest one.
//!
//! A connection has one open item of each queue. What it has open when it ends is given back. The
//! time of the lease holds besides: an item that is closed later is acknowledged all the same.
//!
//! Source: the guide of Kestrel (twitter-archive/kestrel, docs/guide.md); errors do not end the
//! connection, as in Darner.

use super::line::{Line, server_error};
use super::queue_store::{Fetched, write_message};
use crate::protocol::memcached::Retrieval;
use crate::queue::{Lease, Queue, QueueError, Queues, Ticket};
use crate::session::budget::Budget;
use std::collections::HashMap;
use std::time::Duration;

/// A `get` of one queue: options are taken from the right of the key while they are known, and the
/// rest is the queue's name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fetch<'a> {
    queue: &'a [u8],
    open: bool,
    close: bool,
    abort: bool,
    peek: bool,
}

impl<'a> Fetch<'a> {
    fn parse(key: &'a [u8]) -> Fetch<'a> {
        let mut fetch = Fetch { queue: key, ..Fetch::default() };
        while let Some(slash) = fetch.queue.iter().rposition(|&byte| byte == b'/') {
            let option = match &fetch.queue[slash + 1..] {
                b"open" => &mut fetch.open,
                b"close" => &mut fetch.close,
                b"abort" => &mut fetch.abort,
                b"peek" => &mut fetch.peek,
                _ => break,
            };
            *option = true;
            fetch.queue = &fetch.queue[..slash];
        }
        fetch
    }

    /// Refuses what cannot be combined, and what takes a message while one is open.
    fn check(&self, has_open: bool) -> Result<(), Line> {
        let Fetch { open, close, abort, peek, .. } = *self;
        if abort && (open || close || peek) {
            return Err("CLIENT_ERROR abort must be by itself".into());
        }
        if peek && (open || close) {
            return Err("CLIENT_ERROR cannot open and peek".into());
        }
        if has_open && !(close || abort || peek) {
            return Err("CLIENT_ERROR close current item first".into());
        }
        Ok(())
    }
}

/// The longest key of the protocol, in bytes: what each name is charged.
const LONGEST_NAME: usize = 250;

/// One delivery of a message.
#[derive(Clone, Copy)]
struct Item {
    queue: u64,
    number: u64,
    attempt: u64,
}

/// The items that a connection has open, by the names of their queues.
#[derive(Default)]
pub(super) struct OpenItems {
    items: HashMap<Box<[u8]>, Item>,
}

impl OpenItems {
    /// True where nothing is open.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of memory that they take.
    pub fn memory(&self) -> usize {
        self.items.capacity() * size_of::<(Box<[u8]>, Item)>() + self.items.len() * LONGEST_NAME
    }

    /// Does what `key` asks for, and writes the message that comes of it.
    pub fn fetch(
        &mut self,
        queues: &Queues,
        key: &[u8],
        (retrieval, lease): (Retrieval, Duration),
        output: &mut Vec<u8>,
        turn: (&mut Ticket, &mut Budget),
    ) -> Result<Fetched, Line> {
        let fetch = Fetch::parse(key);
        let open = self.items.get(fetch.queue).copied();
        fetch.check(open.is_some())?;
        if let Some(item) = open.filter(|_| fetch.close || fetch.abort) {
            match settle(queues, item, fetch.abort, turn.0) {
                Err(QueueError::Busy) => return Ok(Fetched::Busy),
                settled => settled.map_err(server_error)?,
            }
            self.items.remove(fetch.queue);
        }
        if fetch.abort || (fetch.close && !fetch.open) {
            return Ok(Fetched::Settled);
        }
        let mut leased = None;
        let fetched = write_message(
            queues,
            (fetch.queue, retrieval),
            |queue, write| {
                if fetch.peek {
                    return queue.peek(write);
                }
                if !fetch.open {
                    return queue.try_pop(write);
                }
                let (attempt, until) = (queues.next_attempt(), queues.clock().uptime() + lease);
                let item = Item { queue: queue.identity(), number: 0, attempt };
                queue.lease(Lease { attempt, until }, |message| {
                    leased = Some(Item { number: message.sequence, ..item });
                    write(message)
                })
            },
            output,
            turn,
        )?;
        if let (Fetched::Message, Some(item)) = (&fetched, leased) {
            self.items.insert(fetch.queue.into(), item);
        }
        Ok(fetched)
    }

    /// The connection has ended: everything that is open comes back.
    pub fn give_back(&mut self, queues: &Queues) {
        for (_, Item { queue, number, attempt }) in self.items.drain() {
            queues.lapse(queue, number, attempt);
        }
    }
}

fn settle(
    queues: &Queues,
    item: Item,
    is_aborted: bool,
    ticket: &mut Ticket,
) -> Result<(), QueueError> {
    let Item { queue, number, attempt } = item;
    let work = |queue: &mut Queue| match is_aborted {
        true => Ok(queue.give_back(number, Some(attempt))),
        false => queue.acknowledge(number),
    };
    queues.find_identity(queue, ticket, work).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_from_the_right_while_they_are_known() {
        let plain = |queue| Fetch { queue, ..Fetch::default() };
        for name in [&b"a"[..], b"a/b", b"a/open/b", b"a/", b"/", b"a/OPEN", b"a/opened", b"open"] {
            assert_eq!(Fetch::parse(name), plain(name));
        }
        assert_eq!(Fetch::parse(b"a/b/open"), Fetch { open: true, ..plain(b"a/b") });
        let both = Fetch { close: true, open: true, ..plain(b"a") };
        assert_eq!(Fetch::parse(b"a/close/open"), both);
        assert_eq!(Fetch::parse(b"a/open/close"), both);
        assert_eq!(Fetch::parse(b"/peek"), Fetch { peek: true, ..plain(b"") });
        assert_eq!(Fetch::parse(b"a/abort/abort"), Fetch { abort: true, ..plain(b"a") });
    }
}
