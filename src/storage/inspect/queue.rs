//! A queue that was opened to be looked at: its counts, its segments and its messages.

use super::super::error::StorageError;
use super::super::log::Log;
use super::super::message::Message;
use super::super::record::Kind;
use super::super::segment::Segment;
use super::super::walk::Step;
use std::fs;

/// A queue as it was found.
#[derive(Debug)]
pub struct InspectedQueue {
    log: Log,
}

/// What a segment is to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is full, or given up: nothing is appended any more.
    Sealed,
    /// Records are appended here.
    Tail,
    /// It has no records yet.
    Spare,
}

/// A segment of a queue as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentView {
    /// The position of its first byte.
    pub base: u64,
    /// What it is to the log.
    pub role: Role,
    /// The position behind its last record.
    pub records_end: u64,
    /// Live messages in it.
    pub live_count: u64,
    /// Bytes of their records.
    pub live_bytes: u64,
    /// Bytes of all other records in it.
    pub dead_bytes: u64,
}

impl InspectedQueue {
    pub(super) fn new(log: Log) -> InspectedQueue {
        InspectedQueue { log }
    }

    /// The queue's name.
    pub fn name(&self) -> &[u8] {
        self.log.name()
    }

    /// Messages.
    pub fn message_count(&self) -> u64 {
        self.log.len()
    }

    /// Bytes of the records of messages.
    pub fn live_bytes(&self) -> u64 {
        self.log.live_bytes()
    }

    /// All messages with lower numbers are gone.
    pub fn head(&self) -> u64 {
        self.log.head
    }

    /// The number of the next push.
    pub fn next_sequence(&self) -> u64 {
        self.log.next_sequence
    }

    /// Messages that were ever pushed.
    pub fn pushed_count(&self) -> u64 {
        self.log.next_sequence - self.log.numbers_above() - 1
    }

    /// The log was durable up to this position at the least.
    pub fn durable(&self) -> u64 {
        self.log.durable
    }

    /// The position of the next record.
    pub fn end(&self) -> u64 {
        self.log.end()
    }

    /// The segments that count, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = SegmentView> {
        let tail = self.log.tail;
        self.log.segments().enumerate().map(move |(index, segment)| SegmentView {
            base: segment.base,
            role: match index {
                _ if index < tail => Role::Sealed,
                _ if index == tail => Role::Tail,
                _ => Role::Spare,
            },
            records_end: segment.records_end,
            live_count: segment.live_count,
            live_bytes: segment.live_bytes,
            dead_bytes: segment.record_bytes().saturating_sub(segment.live_bytes),
        })
    }

    /// Bytes of the files of these segments, also of one that has gone since it was opened.
    pub fn disk_bytes(&self) -> u64 {
        let length = |segment: &Segment| {
            fs::metadata(&segment.path).map_or(segment.size, |metadata| metadata.len())
        };
        self.log.segments().map(length).sum()
    }

    /// The oldest message whose number is `from` or more.
    pub fn next(&mut self, from: u64) -> Result<Option<Message<'_>>, StorageError> {
        Ok(self.log.next(from)?.map(|(_, message)| message))
    }

    /// The message with the highest number.
    pub fn newest(&self) -> Result<Option<Message<'_>>, StorageError> {
        let mut newest: Option<Message<'_>> = None;
        for segment in self.log.segments.iter().rev().filter(|segment| segment.live_count > 0) {
            let mut has_pushed = false;
            for step in self.log.walk(segment.records_start())? {
                let Step::Whole(position, record) = step else { continue };
                if !self.log.is_live(position, record.kind, record.sequence) {
                    continue;
                }
                has_pushed |= record.kind == Kind::Message;
                if newest.is_none_or(|newest| newest.sequence < record.sequence) {
                    newest = Some(record.message());
                }
            }
            // Older segments hold lower numbers; only a copy's says nothing about the others.
            if has_pushed {
                break;
            }
        }
        Ok(newest)
    }
}
