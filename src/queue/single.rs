//! One queue, under its lock: limits, uniqueness, expiry. Where the messages are is the store's
//! affair.

use super::{BodyHash, Message, MessageStore, NewMessage, Place, QueueError};

/// Expired messages that go at once.
const EXPIRED_AT_ONCE: usize = 1000;

/// The bytes of a message that is looked for.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// All of them.
    pub body: &'a [u8],
    /// Their hash, where the queue has been asked for it.
    pub hash: Option<BodyHash>,
}

impl<'a, B: AsRef<[u8]> + ?Sized> From<&'a B> for Wanted<'a> {
    fn from(body: &'a B) -> Wanted<'a> {
        Wanted { body: body.as_ref(), hash: None }
    }
}

/// One queue.
pub struct Queue {
    store: Box<dyn MessageStore>,
    max_len: u64,
    /// The time of what is being done, Unix time in milliseconds: one for all of a command, or of
    /// those in a row.
    pub(super) now_ms: u64,
    /// Whether messages came or went since the last look.
    pub(super) changed: bool,
    /// When the message at the head expires, 0 = never; None: not looked at yet.
    head_expires_ms: Option<u64>,
}

fn has_passed(expires_ms: u64, now_ms: u64) -> bool {
    expires_ms != 0 && expires_ms <= now_ms
}

impl Queue {
    pub(super) fn new(store: Box<dyn MessageStore>, max_len: u64) -> Queue {
        Queue { store, max_len, now_ms: 0, changed: false, head_expires_ms: None }
    }

    pub(super) fn store(&mut self) -> &mut dyn MessageStore {
        &mut *self.store
    }

    /// Messages in the queue. One that has expired counts until it is asked for, or for a moment
    /// after it has come to the head.
    pub fn len(&self) -> u64 {
        self.store.len()
    }

    /// True without messages.
    pub fn is_empty(&self) -> bool {
        self.store.is_empty()
    }

    /// Bytes of the bodies of all messages.
    pub fn bytes(&self) -> u64 {
        self.store.bytes()
    }

    /// Appends a message.
    pub fn push(&mut self, message: &NewMessage<'_>) -> Result<(), QueueError> {
        self.push_hashed(message, None)
    }

    fn push_hashed(
        &mut self,
        message: &NewMessage<'_>,
        hash: Option<BodyHash>,
    ) -> Result<(), QueueError> {
        if self.store.len() >= self.max_len {
            self.drop_expired_head()?;
        }
        if self.store.len() >= self.max_len {
            return Err(QueueError::QueueFull { limit: self.max_len });
        }
        if self.store.is_empty() {
            self.head_expires_ms = None;
        }
        self.store.push(message, hash, self.now_ms)?;
        self.changed = true;
        Ok(())
    }

    /// Whether the message at the head may have expired at `now_ms`.
    pub(super) fn may_have_expired_head(&self, now_ms: u64) -> bool {
        let is_due = |expires_ms: u64| has_passed(expires_ms, now_ms);
        !self.store.is_empty() && self.head_expires_ms.is_none_or(is_due)
    }

    /// Removes expired messages from the head, a bounded number of them.
    pub(super) fn drop_expired_head(&mut self) -> Result<(), QueueError> {
        for _ in 0..EXPIRED_AT_ONCE {
            let Some((place, message)) = self.store.next(0)? else { break };
            if !has_passed(message.expires_ms, self.now_ms) {
                self.head_expires_ms = Some(message.expires_ms);
                break;
            }
            self.take_out(place)?;
        }
        Ok(())
    }

    fn take_out(&mut self, place: Place) -> Result<(), QueueError> {
        self.store.remove(place)?;
        self.changed = true;
        self.head_expires_ms = None;
        Ok(())
    }

    /// Appends a message unless one with the same bytes is in the queue; false: one is. `hash` is
    /// that of its body, where it is known.
    pub fn push_unique(
        &mut self,
        message: &NewMessage<'_>,
        hash: Option<BodyHash>,
    ) -> Result<bool, QueueError> {
        // "It is in the queue" is a promise too, and may be one about a message that never reached
        // the disk.
        self.store.check_writable()?;
        let wanted = self.hashed(Wanted { body: message.body, hash });
        if self.contains(wanted)? {
            return Ok(false);
        }
        self.push_hashed(message, wanted.hash)?;
        Ok(true)
    }

    /// Shows the oldest message to `take`, then removes it. When this answers an error after `take`
    /// ran, the message has stayed, and what `take` made of it is to be thrown away.
    pub fn pop<R>(&mut self, take: impl FnOnce(Message<'_>) -> R) -> Result<Option<R>, QueueError> {
        while let Some((place, message)) = self.store.next(0)? {
            let wanted = !has_passed(message.expires_ms, self.now_ms);
            if !wanted {
                self.take_out(place)?;
                continue;
            }
            let taken = take(message);
            self.take_out(place)?;
            return Ok(Some(taken));
        }
        Ok(None)
    }

    /// Shows messages with numbers from `from` on, oldest first, until `show` answers false.
    pub fn visit(
        &mut self,
        from: u64,
        mut show: impl FnMut(Message<'_>) -> bool,
    ) -> Result<(), QueueError> {
        let mut from = from;
        while let Some((place, message)) = self.store.next(from)? {
            if !has_passed(message.expires_ms, self.now_ms) && !show(message) {
                break;
            }
            from = place.sequence + 1;
        }
        Ok(())
    }

    /// A message with these bytes, or [`NotIndexed`](QueueError::NotIndexed), which says that
    /// nothing has been done: a command that has done something, and met damage with it, waits here
    /// for the index.
    fn look_up(&mut self, wanted: Wanted<'_>) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        while self.changed && !self.store.prepare_find()? {}
        let hash = self.hash(wanted);
        self.store.find(wanted.body, hash)
    }

    /// The same, with its hash.
    fn hashed<'a>(&self, wanted: Wanted<'a>) -> Wanted<'a> {
        Wanted { body: wanted.body, hash: Some(self.hash(wanted)) }
    }

    fn hash(&self, wanted: Wanted<'_>) -> BodyHash {
        let Wanted { body, hash } = wanted;
        debug_assert!(hash.is_none_or(|hash| hash == self.store.hash(body)), "another's hash");
        hash.unwrap_or_else(|| self.store.hash(body))
    }

    /// Whether such a message is in the queue.
    pub fn contains<'a>(&mut self, wanted: impl Into<Wanted<'a>>) -> Result<bool, QueueError> {
        Ok(self.find(wanted.into(), |_| ())?.is_some())
    }

    /// Shows such a message to `look`.
    pub(super) fn find<R>(
        &mut self,
        wanted: Wanted<'_>,
        look: impl FnOnce(Message<'_>) -> R,
    ) -> Result<Option<R>, QueueError> {
        let now_ms = self.now_ms;
        let wanted = self.hashed(wanted);
        while let Some((place, message)) = self.look_up(wanted)? {
            if !has_passed(message.expires_ms, now_ms) {
                return Ok(Some(look(message)));
            }
            self.take_out(place)?;
        }
        Ok(None)
    }

    /// Removes every such message, wherever it stands; answers how many there were.
    pub fn remove<'a>(&mut self, wanted: impl Into<Wanted<'a>>) -> Result<u64, QueueError> {
        let wanted = self.hashed(wanted.into());
        let mut count = 0;
        while self.remove_one(wanted)? {
            count += 1;
        }
        Ok(count)
    }

    /// Removes one such message; false: there is none.
    pub(super) fn remove_one(&mut self, wanted: Wanted<'_>) -> Result<bool, QueueError> {
        let now_ms = self.now_ms;
        while let Some((place, message)) = self.look_up(wanted)? {
            let lives = !has_passed(message.expires_ms, now_ms);
            self.take_out(place)?;
            if lives {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
