//! One queue, under its lock: limits, uniqueness, expiry. Where the messages are is the store's
//! affair.

use super::hidden::Hidden;
use super::{BodyHash, Message, MessageStore, NewMessage, Place, QueueError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    hidden: Hidden,
    /// The limit of all queues (`--max-queue-len`).
    max_len: Arc<AtomicU64>,
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
    pub(super) fn new(store: Box<dyn MessageStore>, max_len: Arc<AtomicU64>) -> Queue {
        Queue {
            store,
            hidden: Hidden::default(),
            max_len,
            now_ms: 0,
            changed: false,
            head_expires_ms: None,
        }
    }

    pub(super) fn store(&mut self) -> &mut dyn MessageStore {
        &mut *self.store
    }

    /// Messages in the queue. One that has expired counts until it is asked for, or for a moment
    /// after it has come to the head.
    pub fn len(&self) -> u64 {
        // A store that lost messages to damage may have fewer than were hidden.
        self.store.len().saturating_sub(self.hidden.len())
    }

    /// True without messages.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True when the store has no message either, hidden ones among them: nothing would be lost
    /// with it.
    pub(super) fn is_vacant(&self) -> bool {
        self.store.is_empty()
    }

    /// Bytes of the bodies of all messages.
    pub fn bytes(&self) -> u64 {
        self.store.bytes().saturating_sub(self.hidden.bytes())
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
        let limit = self.max_len.load(Ordering::Relaxed);
        if self.len() >= limit {
            self.drop_expired_head()?;
        }
        if self.len() >= limit {
            return Err(QueueError::QueueFull { limit });
        }
        if self.is_empty() {
            self.head_expires_ms = None;
        }
        self.store.push(message, hash, self.now_ms)?;
        self.changed = true;
        Ok(())
    }

    /// Whether the message at the head may have expired at `now_ms`.
    pub(super) fn may_have_expired_head(&self, now_ms: u64) -> bool {
        let is_due = |expires_ms: u64| has_passed(expires_ms, now_ms);
        !self.is_empty() && self.head_expires_ms.is_none_or(is_due)
    }

    /// Removes expired messages from the head, a bounded number of them.
    pub(super) fn drop_expired_head(&mut self) -> Result<(), QueueError> {
        for _ in 0..EXPIRED_AT_ONCE {
            let now_ms = self.now_ms;
            let Some((place, message)) = self.next(0)? else { break };
            if !has_passed(message.expires_ms, now_ms) {
                self.head_expires_ms = Some(message.expires_ms);
                break;
            }
            self.take_out(place)?;
        }
        Ok(())
    }

    /// The oldest message whose number is `from` or more and that is not hidden.
    fn next(&mut self, from: u64) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        if self.hidden.is_empty() {
            return self.store.next(from);
        }
        let mut from = self.hidden.skip(from);
        while let Some((place, _)) = self.store.next(from)? {
            if !self.hidden.contains(place.sequence) {
                return self.store.next(place.sequence);
            }
            from = self.hidden.skip(place.sequence);
        }
        Ok(None)
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
        let now_ms = self.now_ms;
        while let Some((place, message)) = self.next(0)? {
            let wanted = !has_passed(message.expires_ms, now_ms);
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
        let (mut from, now_ms) = (from, self.now_ms);
        while let Some((place, message)) = self.next(from)? {
            if !has_passed(message.expires_ms, now_ms) && !show(message) {
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
        let Queue { store, hidden, .. } = self;
        store.find(wanted.body, hash, &|number| !hidden.contains(number))
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

    /// Hides one such message and shows it to `look`: it is in the store still, and nobody sees it.
    /// Answers its number too.
    pub fn hide<R>(
        &mut self,
        wanted: Wanted<'_>,
        look: impl FnOnce(Message<'_>) -> R,
    ) -> Result<Option<(u64, R)>, QueueError> {
        let now_ms = self.now_ms;
        let wanted = self.hashed(wanted);
        while let Some((place, message)) = self.look_up(wanted)? {
            if has_passed(message.expires_ms, now_ms) {
                self.take_out(place)?;
                continue;
            }
            let shown = look(message);
            self.hidden.insert(place, wanted.body.len());
            self.changed = true;
            self.head_expires_ms = None;
            return Ok(Some((place.sequence, shown)));
        }
        Ok(None)
    }

    /// Shows a hidden message again, at its place in the order; false: there is none.
    pub fn unhide(&mut self, number: u64) -> bool {
        let was_hidden = self.hidden.remove(number).is_some();
        if was_hidden {
            self.changed = true;
            self.head_expires_ms = None;
        }
        was_hidden
    }

    /// Removes a hidden message from the store; false: there is none. Nobody sees a difference, so
    /// this is no change of the queue. After an error the message is hidden still.
    pub fn remove_hidden(&mut self, number: u64) -> Result<bool, QueueError> {
        let Some(place) = self.hidden.place(number) else { return Ok(false) };
        let place = self.store.current(place);
        self.store.remove(place)?;
        self.hidden.remove(number);
        Ok(true)
    }
}
