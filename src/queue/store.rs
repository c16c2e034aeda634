//! The seam between a queue and where its messages are.
//!
//! A store keeps messages under growing numbers and gives them back in that order. It knows nothing
//! of limits, of expiry or of who asks.

use super::QueueError;
use crate::storage::{Failures, Message, NewMessage, Place, StepSize, SyncPoint, SyncWork};
use std::io;

/// What a slice of housekeeping came to.
#[derive(Default)]
pub struct Tidied {
    /// There is more to do.
    pub more: bool,
    /// A sync should follow: space comes back with it, or somebody would have to wait for it later.
    pub wants_sync: bool,
    /// Work on files that needs no lock. When it fails, nothing is lost but what it was for.
    pub work: Option<SyncWork>,
}

/// One queue's messages.
pub trait MessageStore: Send {
    /// Messages in the store.
    fn len(&self) -> u64;

    /// True without messages.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all bodies.
    fn bytes(&self) -> u64;

    /// Bytes of its files.
    fn disk_bytes(&self) -> u64 {
        0
    }

    /// Takes the list of the messages that were there when the store was opened and expire, with
    /// their times, which damage may have made wrong ones.
    fn take_expiring(&mut self) -> Vec<(Place, u64)> {
        Vec::new()
    }

    /// What no other store has had or will have, also none of the same name.
    fn identity(&self) -> u64;

    /// The number that the next message gets.
    fn end(&self) -> u64;

    /// An error when the store cannot promise anything new any more.
    fn check_writable(&self) -> Result<(), QueueError> {
        Ok(())
    }

    /// Appends a message, which gets the next number; answers where it lies.
    fn push(&mut self, message: &NewMessage<'_>, pushed_ms: u64) -> Result<Place, QueueError>;

    /// Begins a step: what is done until `end_step` is done as a whole or not at all, whatever
    /// happens to the process or the power. After an error nothing has begun; after none, what
    /// the size says finds room.
    fn begin_step(&mut self, _size: &StepSize) -> Result<(), QueueError> {
        Ok(())
    }

    /// Whether a step has begun that a crash would undo.
    fn is_in_step(&self) -> bool {
        false
    }

    /// Ends the step.
    fn end_step(&mut self) -> Result<(), QueueError> {
        Ok(())
    }

    /// The oldest message whose number is `from` or more.
    fn next(&mut self, from: u64) -> Result<Option<(Place, Message<'_>)>, QueueError>;

    /// What looks by number have passed on their way since the last call.
    fn take_passed(&mut self) -> u64 {
        0
    }

    /// How many messages are gone between those that are left: looks by number may pass them.
    fn gaps(&self) -> u64 {
        0
    }

    /// All numbers are above this one, and the first ones little.
    fn numbers_above(&self) -> u64 {
        0
    }

    /// Promises that the message at `place`, which `next` or `find` has just answered, can be
    /// removed later, whatever the system has no more of by then. Until it is, or the promise is
    /// taken back, looks by content pass over it.
    fn promise_removal(&mut self, place: Place) -> Result<(), QueueError>;

    /// Takes the promise for the message that lay at `place` back.
    fn withdraw_promise(&mut self, place: Place);

    /// Lets looks by content pass over the message at `place`, which `next` or `find` has just
    /// answered, until it is removed or put back. Its removal is as certain as that of others.
    fn withhold(&mut self, place: Place) -> Result<(), QueueError> {
        self.promise_removal(place)
    }

    /// Takes that back for the message that lay at `place`.
    fn put_back(&mut self, place: Place) {
        self.withdraw_promise(place);
    }

    /// Removes the message at `place`, which `next` or `find` has just answered.
    fn remove(&mut self, place: Place) -> Result<(), QueueError>;

    /// What has failed so far about the live message that lay at `place`.
    fn failures(&mut self, _place: Place) -> Result<Failures, QueueError> {
        Ok(Failures::default())
    }

    /// Says what has failed so far about the live message that lay at `place`. It takes the place
    /// of what was said before, and outlives a restart as the message does.
    fn note_failures(&mut self, _place: Place, _failures: &Failures) -> Result<(), QueueError> {
        Ok(())
    }

    /// Where a live message lies now that lay at `place`.
    fn current(&self, place: Place) -> Place {
        place
    }

    /// The message that lay at `place`, with where it lies now; `None` if it is gone.
    fn at(&mut self, place: Place) -> Result<Option<(Place, Message<'_>)>, QueueError>;

    /// A message with these bytes, whichever of them there are that is `wanted`;
    /// [`QueueError::NotIndexed`] while `prepare_find` is not done.
    fn find(
        &mut self,
        body: &[u8],
        wanted: &dyn Fn(&Message<'_>) -> bool,
    ) -> Result<Option<(Place, Message<'_>)>, QueueError>;

    /// Counts messages that may have these bytes, `most` of them at most: fewer if there are no
    /// more. `from` is `None` at first, and the next call goes on with what this one leaves there;
    /// [`QueueError::NotIndexed`] as `find`.
    fn count_equal(
        &mut self,
        body: &[u8],
        from: &mut Option<u64>,
        most: u64,
    ) -> Result<u64, QueueError>;

    /// Does a slice of the work that `find` needs done once; true when nothing is left of it.
    fn prepare_find(&mut self) -> Result<bool, QueueError> {
        Ok(true)
    }

    /// True when there are changes that no sync has covered.
    fn is_dirty(&self) -> bool {
        false
    }

    /// The work that makes everything up to now durable, to be run without the queue's lock; None
    /// when nothing is dirty. The next one begins only after `end_sync`.
    fn begin_sync(&mut self) -> Option<(SyncWork, SyncPoint)> {
        None
    }

    /// Takes the outcome of what `begin_sync` gave.
    fn end_sync(&mut self, _point: SyncPoint, _outcome: &io::Result<()>) {}

    /// True when housekeeping should come soon; asked after every change.
    fn wants_tidying(&self) -> bool {
        false
    }

    /// Does a slice of housekeeping.
    fn tidy(&mut self) -> Tidied {
        Tidied::default()
    }

    /// True when the store has no messages, and takes more room than a new one would.
    fn is_oversized(&self) -> bool {
        false
    }

    /// Whether the store stays where its last message has gone: it has more than messages.
    fn outlives_messages(&self) -> bool {
        false
    }

    /// Lets go of what an idle queue does not need.
    fn rest(&mut self) {}

    /// Deletes the store and what is in it, durably once the backing has settled; after an error it
    /// may still be there.
    fn discard(&mut self) -> Result<(), QueueError>;
}

/// A queue's name and its store, or why the queue is closed.
pub type NamedStore = (Box<[u8]>, Result<Box<dyn MessageStore>, QueueError>);

/// Where stores come from.
pub trait Backing: Send + Sync {
    /// The stores that are there at start, with their names.
    fn existing(&self) -> Result<Vec<NamedStore>, QueueError>;

    /// A new store for a queue of this name.
    fn create(&self, name: &[u8]) -> Result<Box<dyn MessageStore>, QueueError>;

    /// Looks whether the stores are where they were; a round of housekeeping does that.
    fn watch(&self) {}

    /// Makes durable that stores have been discarded.
    fn settle(&self) -> Result<(), QueueError> {
        Ok(())
    }

    /// Whether what is stored is there after a crash.
    fn outlives_crashes(&self) -> bool {
        true
    }

    /// True after a failure to do that: nothing is discarded or made any more.
    fn is_closed(&self) -> bool {
        false
    }

    /// Counts a queue that a fault of this program has closed.
    fn count_closed(&self) {}

    /// Forgets stores that have been discarded, and not durably: the replies have said so.
    fn give_up(&self) {}

    /// Bytes that the messages of all queues take, and may take; `None` where they take no memory.
    fn memory(&self) -> Option<(u64, u64)> {
        None
    }

    /// Another such limit from now on, where there is one.
    fn set_memory_limit(&self, _bytes: u64) {}

    /// True when a sync has failed since the start.
    fn has_failed(&self) -> bool {
        false
    }

    /// Name and value of each of the backing's own counters.
    fn statistics(&self) -> Vec<(&'static str, u64)>;
}
