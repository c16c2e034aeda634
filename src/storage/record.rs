//! Records: what they say, whatever the version that they are written in. This file knows no bytes,
//! no files and no queue; `codec` writes and reads them.

use super::layout::*;
use super::message::Message;
use super::version::Version;

/// What a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A message that was pushed.
    #[default]
    Message,
    /// The removal of a message that did not stand at the head.
    Removal,
    /// A message moved forward from a dying segment, with its number.
    Copy,
    /// What has failed about a message, which lies elsewhere.
    State,
    /// Something that a later version writes, and that an older one may pass over.
    Other(u8),
}

impl Kind {
    /// The kind that is written as `byte`, or `None` if only a newer format has it.
    pub fn from_byte(byte: u8) -> Option<Kind> {
        match byte {
            1 => Some(Kind::Message),
            2 => Some(Kind::Removal),
            3 => Some(Kind::Copy),
            4 => Some(Kind::State),
            OPTIONAL_KINDS.. => Some(Kind::Other(byte)),
            _ => None,
        }
    }

    /// As it is written.
    pub fn byte(self) -> u8 {
        match self {
            Kind::Message => 1,
            Kind::Removal => 2,
            Kind::Copy => 3,
            Kind::State => 4,
            Kind::Other(byte) => byte,
        }
    }

    /// Bytes of the shortest head.
    pub const fn shortest_head(self) -> usize {
        match self {
            Kind::Message => MESSAGE_HEAD,
            Kind::Removal => REMOVAL_HEAD,
            Kind::Copy => COPY_HEAD,
            Kind::State => STATE_MORE,
            Kind::Other(_) => RECORD_COMMON,
        }
    }

    /// Bytes of the head of a record of version 1.
    pub const fn version_one_head(self) -> usize {
        match self {
            Kind::Message => 56,
            Kind::Copy => 64,
            Kind::Removal | Kind::State | Kind::Other(_) => 40,
        }
    }

    /// Whether a record of this kind holds a message.
    pub const fn holds_message(self) -> bool {
        matches!(self, Kind::Message | Kind::Copy)
    }

    /// Whether it speaks of a message that lies elsewhere, and has no body.
    pub const fn is_bare(self) -> bool {
        matches!(self, Kind::Removal | Kind::State)
    }

    /// Bytes of a record with the shortest head and a body of `length` bytes, padding included.
    pub const fn record_size(self, length: usize) -> usize {
        (self.shortest_head() + length).next_multiple_of(ALIGNMENT)
    }
}

/// A record's fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// The version that it is written in.
    pub version: Version,
    /// What it is.
    pub kind: Kind,
    /// Bits: [`MARK_MORE`], and others that later versions may write.
    pub marks: u16,
    /// The message's client flags; 0 in a removal and a state.
    pub flags: u32,
    /// For later versions.
    pub room: u32,
    /// The message's number.
    pub sequence: u64,
    /// The log was durable up to this position when the record was written.
    pub durable: u64,
    /// The position of the record that this one copies, removes or describes; 0 in a message.
    pub origin: u64,
    /// Unix time of the push in milliseconds; 0 in a removal and a state.
    pub pushed_ms: u64,
    /// Unix time of expiry in milliseconds, 0 = never.
    pub expires_ms: u64,
    /// Unix time before which it is not delivered, 0 = at once. Nothing writes another value yet.
    pub deliver_ms: u64,
    /// The rest of the head: fields of different kinds, some of which a later version may have
    /// written.
    pub more: &'a [u8],
    /// The message; empty in a removal and a state.
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// Bytes of the head.
    pub fn head_size(&self) -> usize {
        if self.version == Version::One {
            return self.kind.version_one_head();
        }
        let shortest = self.kind.shortest_head();
        let known = match self.kind {
            Kind::Removal | Kind::State | Kind::Other(_) => shortest,
            // The head ends behind the last time that is not zero.
            _ if self.deliver_ms != 0 || !self.more.is_empty() => shortest + 16,
            _ if self.expires_ms != 0 => shortest + 8,
            _ => shortest,
        };
        known + self.more.len()
    }

    /// Bytes of the record, padding included.
    pub fn size(&self) -> usize {
        (self.head_size() + self.body.len()).next_multiple_of(ALIGNMENT)
    }

    /// Its fields without the bytes that it borrows.
    pub fn bare(&self) -> Record<'static> {
        let Record { version, kind, marks, flags, room, sequence, durable, origin, .. } = *self;
        let Record { pushed_ms, expires_ms, deliver_ms, .. } = *self;
        let times = Record { pushed_ms, expires_ms, deliver_ms, ..Record::default() };
        Record { version, kind, marks, flags, room, sequence, durable, origin, ..times }
    }

    /// Whether more records of its step follow.
    pub fn has_more(&self) -> bool {
        self.marks & MARK_MORE != 0
    }

    /// The message in it.
    pub fn message(&self) -> Message<'a> {
        Message {
            sequence: self.sequence,
            pushed_ms: self.pushed_ms,
            expires_ms: self.expires_ms,
            flags: self.flags,
            body: self.body,
        }
    }
}

/// What stands at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// A whole record.
    Whole(Record<'a>),
    /// Zeros: the log ends here, or a hole begins.
    Blank,
    /// Something that is no record.
    Bad(Fault),
}

/// What is wrong with bytes that should be a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A checksum does not fit the bytes.
    Checksum {
        /// What the record says.
        expected: u32,
        /// What its bytes and position give.
        found: u32,
    },
    /// No such kind of record.
    Kind(u8),
    /// A whole record of a kind that a reader has to know.
    Newer(u8),
    /// A head cannot be so short.
    Head(usize),
    /// The record would end behind its segment.
    Length(u32),
    /// No message has this number, or it is not that of the message that should be there.
    Sequence(u64),
    /// Zeros with something behind them.
    Hole,
}

impl Fault {
    /// What should be there, in words. No checksum is said: who sees one could forge another (rule
    /// 21).
    pub fn expected(&self) -> String {
        match self {
            Fault::Checksum { .. } => "a record with its checksum".into(),
            Fault::Kind(_) | Fault::Newer(_) => {
                format!("a kind of record from 1 to 4, or from {OPTIONAL_KINDS} on")
            }
            Fault::Head(_) => "the head of a record".into(),
            Fault::Length(_) => "a record inside the segment".into(),
            Fault::Sequence(_) => "the number of a message".into(),
            Fault::Hole => "a record".into(),
        }
    }

    /// What is there, in words.
    pub fn found(&self) -> String {
        match self {
            Fault::Checksum { .. } => "another checksum".into(),
            Fault::Kind(byte) => byte.to_string(),
            Fault::Newer(byte) => format!("a whole one of kind {byte}"),
            Fault::Head(head) => format!("a head of {head} bytes"),
            Fault::Length(length) => format!("a body of {length} bytes"),
            Fault::Sequence(number) => number.to_string(),
            Fault::Hole => "zeros".into(),
        }
    }
}
