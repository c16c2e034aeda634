//! Copying live messages forward, so that one old message does not pin the log (rules 1 and 10).
//!
//! When dead bytes outweigh live ones, and there is more than a segment of them, the live messages
//! of the oldest segment are appended again with their numbers, a slice at a time. The segment is
//! dead then, and goes once a sync has covered the copies. Work is proportional to the
//! garbage: a copied byte is paid for by a dead one.

use super::super::counters::add;
use super::super::error::StorageError;
use super::super::layout::MARK_MORE;
use super::super::record::{Kind, Record};
use super::super::version::Version;
use super::super::walk::Step;
use super::Log;
use crate::memory;
use std::io;

/// Records that one slice looks at, and bytes that it copies, at most; one record more than that.
const SLICE_RECORDS: usize = 4096;
const SLICE_BYTES: usize = 1 << 20;

impl Log {
    /// Whether copying is worth it.
    fn is_mostly_dead(&self) -> bool {
        let dead = self.dead_bytes();
        self.tail > 0 && dead > self.live_bytes && dead > self.settings.segment_size
    }

    /// True when copying would give space back and can go on.
    pub fn wants_copying(&self) -> bool {
        let is_free = !self.copying_blocked && self.closed.is_none() && self.step.is_none();
        is_free && self.is_mostly_dead()
    }

    /// Copies a slice of the oldest segment forward if that is worth it; true when there is more to
    /// do. A full disk is no error: there is another time, as after every error.
    pub fn copy_forward(&mut self) -> Result<bool, StorageError> {
        if self.check_writable().is_err()
            || self.step.is_some()
            || !self.is_mostly_dead()
            || self.segments[0].live_count == 0
        {
            return Ok(false);
        }
        let copied = self.copy_slice();
        self.copying_blocked = copied.is_err();
        match copied {
            Err(StorageError::Full { .. }) => Ok(false),
            copied => copied.map(|()| self.is_mostly_dead()),
        }
    }

    /// Moves every live message to new segments and lets the old ones go, durably, with whatever is
    /// damaged in them. Numbers and their order stay. It takes the room of all live messages.
    pub fn renew(&mut self) -> Result<(), StorageError> {
        self.check_writable()?;
        self.begin_behind(self.segments[self.segments.len() - 1].end())?;
        let first_new = self.segments[self.tail].base;
        while self.segments[0].base < first_new {
            while self.segments[0].live_count > 0 {
                self.copy_slice()?;
            }
            let Some((work, point)) = self.begin_sync() else {
                let why = io::Error::other("what was copied is there still");
                return Err(StorageError::io("let go of segments of", self.directory(), why));
            };
            let synced = work();
            self.end_sync(point, &synced);
            synced.map_err(|error| StorageError::sync(self.directory(), error))?;
        }
        self.rest();
        Ok(())
    }

    fn copy_slice(&mut self) -> Result<(), StorageError> {
        self.bound_mappings();
        let start = self.copied_to.max(self.segments[0].records_start());
        let end = self.segments[0].records_end;
        let (mut live, mut bytes) = (Vec::new(), 0);
        let mut damage = Vec::new();
        let mut walk = self.walk(start)?;
        for step in walk.by_ref().take(SLICE_RECORDS) {
            match step {
                Step::Whole(position, record) => {
                    if self.is_live(position, record.kind, record.sequence) {
                        live.push(position);
                        bytes += record.size();
                    }
                }
                Step::Damage { position, fault, .. } => damage.push((position, fault)),
            }
            if bytes > SLICE_BYTES {
                break;
            }
        }
        let reached = walk.position();
        for (position, fault) in damage {
            self.report_damage(position, fault)?;
        }
        for position in live {
            self.copy_message(position)?;
        }
        self.copied_to = reached;
        if reached >= end && self.segments[0].live_count > 0 {
            // Damage has eaten what was counted here; nothing that can be read is left.
            let lost = std::mem::take(&mut self.segments[0].live_count);
            self.live_bytes -= std::mem::take(&mut self.segments[0].live_bytes);
            self.live_count -= lost;
            add(&self.settings.counters.lost_messages, lost);
        }
        Ok(())
    }

    fn copy_message(&mut self, position: u64) -> Result<(), StorageError> {
        // What is copied leaves the mapping before the log may go on to another segment.
        let original = self.reread(position)?;
        let (body, fields) = (memory::join(&[original.body])?, memory::join(&[original.more])?);
        let bare = original.bare();
        let (old_size, sequence) = (original.size() as u64, original.sequence);
        let more = self.fields_of_copy(sequence, &fields)?;
        let copy = Record {
            version: Version::Two,
            kind: Kind::Copy,
            // It is a step of its own.
            marks: bare.marks & !MARK_MORE,
            durable: self.durable,
            origin: position,
            body: &body,
            more: &more,
            ..bare
        };
        let size = copy.size() as u64;
        self.relocated.prepare()?;
        self.make_room(size, self.live_count, Version::Two)?;
        let new = self.append(&Record { durable: self.durable, ..copy })?;
        self.copies_end = self.end();
        self.relocated.set(sequence, new);
        self.states.forget(sequence);
        self.count_dead(position, old_size);
        self.count_live(new, size);
        match self.promised.get_mut(&sequence) {
            Some(promise) => promise.size = size,
            None if self.withheld.contains(&sequence) => {}
            None => {
                let hash = self.hash(&body);
                self.index_remove(hash, position);
                self.index_insert(new, |_| hash);
            }
        }
        add(&self.settings.counters.copied_messages, 1);
        Ok(())
    }
}
