//! Moving a message from one queue to another, durable in between.
//!
//! 1. The message is pushed to the target and hidden in the source, under the locks of both.
//! 2. The next commit syncs the target, and then removes the message from the source. Any number of
//!    moves share these syncs.
//! 3. The reply waits until the removal is as durable as the policy asks for.
//!
//! A crash leaves the message in the source, in both, or in the target, and never in neither.

use super::ledger::{Commit, Move};
use super::queues::Queues;
use super::single::Queue;
use super::slot::{Slot, State};
use super::{Message, NewMessage, QueueError, Ticket};
use std::sync::Arc;

/// `work`, with what it passes added to `passed`.
fn counting<R>(
    passed: &mut u64,
    work: impl FnOnce(&mut Queue) -> R,
) -> impl FnOnce(&mut Queue) -> R {
    move |queue| {
        let done = work(queue);
        *passed += queue.take_passed();
        done
    }
}

impl Queues {
    /// Moves one message with these bytes. Returns false if `from` has none. It is durable in `to`
    /// before it goes from `from`, whatever the policy: a crash in between leaves it in both, never
    /// in neither. The next commit does that; until then nobody sees it in `from`. What the looks
    /// for it [pass](Queue::take_passed) is added to `passed`.
    pub fn move_message(
        &self,
        from: &[u8],
        to: &[u8],
        body: &[u8],
        ticket: &mut Ticket,
        passed: &mut u64,
    ) -> Result<bool, QueueError> {
        let is_there = counting(passed, |queue| queue.contains(body));
        let is_there = self.find(from, ticket, is_there)? == Some(true);
        if from == to || !is_there {
            return Ok(is_there);
        }
        loop {
            let Some(source) = self.slot(from) else {
                return Ok(false);
            };
            let target = self.slot_or_new(to)?;
            // Two moves in opposite directions must not wait for each other.
            let (mut source_state, mut target_state) = if source.id < target.id {
                let first = self.enter(&source)?;
                (first, self.enter(&target)?)
            } else {
                let first = self.enter(&target)?;
                (self.enter(&source)?, first)
            };
            if source_state.retired || target_state.retired {
                continue;
            }
            let (source, target) = ((&source, &mut *source_state), (&target, &mut *target_state));
            return self.move_between(source, target, body, ticket, passed);
        }
    }

    fn move_between(
        &self,
        (source, source_state): (&Arc<Slot>, &mut State),
        (target, target_state): (&Arc<Slot>, &mut State),
        body: &[u8],
        ticket: &mut Ticket,
        passed: &mut u64,
    ) -> Result<bool, QueueError> {
        self.ledger.await_queue(ticket, source_state.awaited);
        if source_state.queue.is_none() {
            return Ok(false);
        }
        let now_ms = self.clock.now_ms();
        let keep = |message: Message<'_>| (message.flags, message.expires_ms);
        let hide = counting(passed, |queue| queue.hide(body, keep));
        let (hidden, _) = self.run(source, source_state, now_ms, ticket, hide)?;
        let Some((number, (flags, expires_ms))) = hidden else {
            return Ok(false);
        };
        let moved = NewMessage { body, flags, expires_ms };
        let pushed = self.make_store(target, target_state).and_then(|()| {
            let push = counting(passed, |queue| queue.push_unique(&moved));
            self.run(target, target_state, now_ms, ticket, push)
        });
        if let Err(error) = pushed {
            let unhide = |queue: &mut Queue| Ok(queue.unhide(number));
            self.run(source, source_state, now_ms, ticket, unhide)?;
            return Err(error);
        }
        // An equal one may have been there, and be on its way to the disk. What a transaction has
        // pushed counts for nothing before its step has ended, whatever has been synced.
        let wants_sync = target_state.in_transaction
            || target.is_syncing()
            || target_state.queue.as_mut().is_some_and(|queue| queue.store().is_dirty());
        let source_queue = source.queue_id();
        if wants_sync {
            let (source, target) =
                ((Arc::clone(source), source_queue), (Arc::clone(target), target.queue_id()));
            let epoch = self.ledger.add_move(Move { source, target, number }, ticket);
            source_state.awaited = (epoch, source_queue);
        } else {
            self.remove_moved(source, source_state, number)?;
            self.ledger.await_queue(ticket, source_state.awaited);
        }
        Ok(true)
    }

    /// Removes a message that has been moved: nobody has seen it since.
    fn remove_moved(
        &self,
        source: &Arc<Slot>,
        state: &mut State,
        number: u64,
    ) -> Result<(), QueueError> {
        let State { queue: Some(queue), epoch, awaited, .. } = state else { return Ok(()) };
        let removed = queue.remove_hidden(number)?;
        if removed && queue.store().is_dirty() {
            self.ledger.mark(source, queue.id(), epoch);
            *awaited = (awaited.0.max(*epoch), queue.id());
        }
        Ok(())
    }

    /// The last step of a move, after the syncs of a commit: its message goes from the source, or
    /// is shown there again if the target could not be synced.
    pub(super) fn finish_move(&self, commit: &Commit<'_>, it: &Move) {
        let (source, id) = &it.source;
        let finished = source.lock().and_then(|mut state| match &mut state.queue {
            Some(queue) if queue.id() == *id => {
                if commit.has_failed(it.target.1) {
                    queue.unhide(it.number);
                    source.note(queue);
                    return Ok(());
                }
                self.remove_moved(source, &mut state, it.number)
            }
            // It was dropped, and the message with it.
            _ => Ok(()),
        });
        if let Err(error) = finished {
            log::warn!("queue {}: a message moved and stays: {error}", source.name.escape_ascii());
            commit.fail(*id);
        }
    }
}
