//! Kestrel's options behind the name of a queue in `get`: `jobs/open` leases the oldest message,
//! `jobs/close` acknowledges it, `jobs/abort` gives it back, `jobs/peek` shows the oldest one;
//! `jobs/t=500` waits for a message, for 500 ms at most.
//!
//! A connection has one open item of each queue. What it has open when it ends is given back. The
//! time of the lease holds besides: an item that is closed later is acknowledged all the same.
//!
//! Source: the guide of Kestrel (twitter-archive/kestrel, docs/guide.md); errors do not end the
//! connection, as in Darner.

use super::line::{ReplyLine, server_error};
use super::queue_store::{Fetched, Write, write_message};
use crate::protocol::memcached::Retrieval;
use crate::protocol::number::parse_u64;
use crate::queue::{Cause, Delivery, Lease, Queue, QueueError, Queues, Ticket};
use crate::session::Membership;
use crate::session::blocked::{Blocked, Waited};
use crate::session::budget::Budget;
use std::collections::HashMap;
use std::sync::Arc;
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
    /// How long to wait for a message.
    timeout: Duration,
}

impl<'a> Fetch<'a> {
    fn parse(key: &'a [u8]) -> Fetch<'a> {
        let mut fetch = Fetch { queue: key, ..Fetch::default() };
        while let Some(slash) = fetch.queue.iter().rposition(|&byte| byte == b'/') {
            match &fetch.queue[slash + 1..] {
                b"open" => fetch.open = true,
                b"close" => fetch.close = true,
                b"abort" => fetch.abort = true,
                b"peek" => fetch.peek = true,
                word => match word.strip_prefix(b"t=").and_then(parse_u64) {
                    Some(milliseconds) => fetch.timeout = Duration::from_millis(milliseconds),
                    None => break,
                },
            }
            fetch.queue = &fetch.queue[..slash];
        }
        fetch
    }

    /// Refuses what cannot be combined, and what takes a message while one is open.
    fn check(&self, has_open: bool) -> Result<(), ReplyLine> {
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

/// The items that a connection has open, by the names of their queues.
#[derive(Default)]
pub(super) struct OpenItems {
    items: HashMap<Box<[u8]>, Delivery>,
    /// The next request waits for a message.
    blocked: Option<Blocked>,
}

impl OpenItems {
    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of memory that they take.
    pub fn memory(&self) -> usize {
        let blocked = self.blocked.as_ref().map_or(0, Blocked::memory);
        blocked
            + self.items.capacity() * size_of::<(Box<[u8]>, Delivery)>()
            + self.items.len() * LONGEST_NAME
    }

    /// Does what `key` asks for, and writes the message that comes of it.
    pub fn fetch(
        &mut self,
        queues: &Arc<Queues>,
        key: &[u8],
        (retrieval, lease): (Retrieval, Duration),
        output: &mut Vec<u8>,
        (client, ticket, budget): (&Membership, &mut Ticket, &mut Budget),
    ) -> Result<Fetched, ReplyLine> {
        let fetch = Fetch::parse(key);
        let open = self.items.get(fetch.queue).copied();
        fetch.check(open.is_some())?;
        if let Some(item) = open.filter(|_| fetch.close || fetch.abort) {
            match settle(queues, item, fetch.abort, ticket) {
                Err(QueueError::Busy) => return Ok(Fetched::Busy),
                settled => settled.map_err(server_error)?,
            }
            self.items.remove(fetch.queue);
        }
        if fetch.abort || (fetch.close && !fetch.open) {
            return Ok(Fetched::Settled);
        }
        let place = (fetch.queue, retrieval);
        if self.blocked.is_none() {
            let mut leased = None;
            let take = |queue: &mut Queue, write: &mut Write<'_>| {
                if fetch.peek {
                    return queue.peek(write);
                }
                if !fetch.open {
                    return queue.try_pop(write);
                }
                let (identity, attempt) = (queue.identity(), queues.next_attempt());
                let until = queues.clock().uptime() + lease;
                queue.lease(Lease { attempt, until }, |message| {
                    let number = message.sequence;
                    leased = Some(Delivery { queue: identity, number, attempt });
                    write(message)
                })
            };
            let fetched = write_message(queues, place, take, output, (ticket, budget))?;
            if let (Fetched::Message, Some(item)) = (&fetched, leased) {
                self.items.insert(fetch.queue.into(), item);
            }
            if !matches!(fetched, Fetched::Nothing) || fetch.timeout.is_zero() {
                return Ok(fetched);
            }
            let names = std::iter::once(fetch.queue);
            self.blocked = Some(Blocked::new(queues, names, Some(fetch.timeout), client));
        }
        self.wait(queues, &fetch, (retrieval, lease), output, (ticket, budget))
    }

    /// Takes what the client has been handed, if it has.
    fn wait(
        &mut self,
        queues: &Queues,
        fetch: &Fetch<'_>,
        (retrieval, lease): (Retrieval, Duration),
        output: &mut Vec<u8>,
        (ticket, budget): (&mut Ticket, &mut Budget),
    ) -> Result<Fetched, ReplyLine> {
        while let Some(blocked) = &self.blocked {
            let delivery = match blocked.look(queues.clock().uptime()) {
                Waited::Handed(handed) => handed.delivery,
                Waited::Longer(wait) => return Ok(Fetched::Waits(wait)),
                Waited::Over { with_error } => {
                    self.blocked = None;
                    return match with_error {
                        true => Err(server_error("client unblocked via CLIENT UNBLOCK")),
                        false => Ok(Fetched::Nothing),
                    };
                }
            };
            let Delivery { number, attempt, .. } = delivery;
            let until = queues.clock().uptime() + lease;
            let take = |queue: &mut Queue, write: &mut Write<'_>| {
                let shown = queue.show_leased(&delivery, write)?;
                match shown {
                    None => {}
                    Some(()) if fetch.open => drop(queue.extend(number, Lease { attempt, until })),
                    Some(()) if fetch.peek => drop(queue.give_back(number, Some(attempt))),
                    Some(()) => drop(queue.acknowledge(number)?),
                }
                Ok(shown)
            };
            let place = (fetch.queue, retrieval);
            match write_message(queues, place, take, output, (ticket, budget)) {
                Ok(Fetched::Message) => {
                    if let Some(blocked) = self.blocked.take() {
                        blocked.take();
                    }
                    if fetch.open {
                        self.items.insert(fetch.queue.into(), delivery);
                    }
                    return Ok(Fetched::Message);
                }
                // The message has gone, and its queue perhaps too.
                Ok(Fetched::Nothing) => blocked.wait_again(),
                Err(line) => {
                    self.blocked = None;
                    return Err(line);
                }
                busy => return busy,
            }
        }
        Ok(Fetched::Nothing)
    }

    /// The connection has ended: everything that is open comes back, and the wait is over. An item
    /// that was open counts as a failure of this cause, if there is one.
    pub fn give_back(&mut self, queues: &Queues, cause: Option<Cause>) {
        self.blocked = None;
        for (_, item) in self.items.drain() {
            queues.hand_on(&item, cause);
        }
    }
}

fn settle(
    queues: &Queues,
    item: Delivery,
    is_aborted: bool,
    ticket: &mut Ticket,
) -> Result<(), QueueError> {
    let Delivery { queue, number, attempt } = item;
    let work = |queue: &mut Queue| match is_aborted {
        true => queue.fail(number, Some(attempt), Cause::Nack, b""),
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
        let timeout = Duration::from_millis(250);
        let waiting = Fetch { open: true, timeout, ..plain(b"a") };
        assert_eq!(Fetch::parse(b"a/t=250/open"), waiting);
        for name in [&b"a/t="[..], b"a/t=x", b"a/t=-1", b"a/t", b"a/t=99999999999999999999"] {
            assert_eq!(Fetch::parse(name), plain(name));
        }
        assert_eq!(Fetch::parse(b"/peek"), Fetch { peek: true, ..plain(b"") });
        assert_eq!(Fetch::parse(b"a/abort/abort"), Fetch { abort: true, ..plain(b"a") });
    }
}
