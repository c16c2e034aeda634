//! Reading by content: the index of the log, which is built in slices when it is first asked for
//! (rule 14), and what it finds.
//!
//! A sealed segment is read by its footer, all others by their records. The index answers where a
//! message may lie; the bytes that lie there decide.

use super::super::error::StorageError;
use super::super::footer::{Bookmark, Footer, Sealed};
use super::super::index::{BodyHash, HashKey, Index};
use super::super::layout::ALIGNMENT;
use super::super::message::{Message, Place};
use super::super::record::{Kind, Verdict};
use super::super::segment::{FooterState, Segment};
use super::super::walk::Step;
use super::Log;

/// Records that one slice of building the index looks at.
const INDEX_SLICE: usize = 4096;

/// The index and how far it has been built.
#[derive(Debug, Default)]
pub(super) struct Membership {
    index: Index,
    /// Messages before this position are in the index; `u64::MAX`: all are, and new ones are added.
    built_to: u64,
    /// The footer that is being read, and how far.
    footer: Option<(Footer, Bookmark)>,
}

impl Log {
    /// The hash of a body in this log's index.
    pub fn hash(&self, body: &[u8]) -> BodyHash {
        BodyHash::new(&self.hash_key, body)
    }

    /// A live message with these bytes. Builds the rest of the index first.
    pub fn find(&mut self, body: &[u8]) -> Result<Option<(Place, Message<'_>)>, StorageError> {
        self.find_if(body, &|_| true)
    }

    /// As `find`, among the messages that are `wanted` and whose removal is not promised.
    pub fn find_if(
        &mut self,
        body: &[u8],
        wanted: &dyn Fn(&Message<'_>) -> bool,
    ) -> Result<Option<(Place, Message<'_>)>, StorageError> {
        while !self.prepare_find()? {}
        self.bound_mappings();
        let mut found = None;
        if let Some(membership) = &self.membership {
            for ordinal in membership.index.candidates(self.hash(body), ordinal_of(self.end())) {
                let position = ordinal * ALIGNMENT as u64;
                let verdict = self.decode(position)?;
                if !matches!(verdict, Verdict::Whole(_)) {
                    // "It is not there" would be a promise.
                    self.check_read_at(position)?;
                }
                if let Verdict::Whole(record) = verdict
                    && record.body == body
                    && self.is_live(position, record.kind, record.sequence)
                    && wanted(&record.message())
                {
                    found = Some((Place { sequence: record.sequence, position }, record.message()));
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Counts such messages that may have these bytes, as [`Index::count`]. Builds the rest of the
    /// index first.
    pub fn count_equal(
        &mut self,
        body: &[u8],
        from: &mut Option<u64>,
        most: u64,
    ) -> Result<u64, StorageError> {
        while !self.prepare_find()? {}
        let hash = self.hash(body);
        Ok(self.membership.as_ref().map_or(0, |it| it.index.count(hash, from, most)))
    }

    /// Builds a slice of the index (rule 14: it is made when it is first asked for); true when it
    /// is whole.
    pub fn prepare_find(&mut self) -> Result<bool, StorageError> {
        if self.membership.as_ref().is_some_and(|membership| membership.built_to == u64::MAX) {
            return Ok(true);
        }
        self.bound_mappings();
        let mut membership = self.membership.take().unwrap_or_default();
        let outcome = self.build_index(&mut membership);
        // What a lack of memory has left of it is half a slice.
        let is_good = !matches!(outcome, Err(StorageError::NoMemory(_)));
        self.membership = is_good.then_some(membership);
        outcome
    }

    fn build_index(&self, membership: &mut Membership) -> Result<bool, StorageError> {
        let position = membership.built_to.max(self.segments[0].records_start());
        let index = self.segment_index(position);
        let segment = &self.segments[index];
        let reached = match self.index_by_footer(membership, segment, position)? {
            Some(reached) => reached,
            None => self.index_by_records(membership, position)?,
        };
        membership.built_to = reached;
        if reached >= segment.records_end {
            let next = self.segments.get(index + 1).filter(|_| index < self.tail);
            membership.built_to = next.map_or(u64::MAX, Segment::records_start);
        }
        Ok(membership.built_to == u64::MAX)
    }

    /// Adds a slice of a segment's live messages by its footer, and returns where the next slice
    /// starts, or `None` if there is no footer that can be read.
    fn index_by_footer(
        &self,
        membership: &mut Membership,
        segment: &Segment,
        position: u64,
    ) -> Result<Option<u64>, StorageError> {
        let open = membership.footer.take();
        if segment.footer != FooterState::Written {
            return Ok(None);
        }
        // The segment of the one that is being read may be gone.
        let open = open.filter(|(_, bookmark)| bookmark.position == position);
        let Some((footer, mut bookmark)) = open.or_else(|| open_footer(segment, position)) else {
            return Ok(None);
        };
        for _ in 0..INDEX_SLICE {
            let Some(summary) = footer.next(&mut bookmark) else {
                return Ok(Some(segment.records_end));
            };
            if self.is_indexed(summary.position, summary.kind, summary.sequence) {
                membership.index.insert(summary.hash, ordinal_of(summary.position))?;
            }
        }
        membership.footer = Some((footer, bookmark));
        Ok(Some(bookmark.position))
    }

    /// Adds a slice of a segment's live messages by its records; returns where the next slice
    /// starts.
    fn index_by_records(
        &self,
        membership: &mut Membership,
        position: u64,
    ) -> Result<u64, StorageError> {
        let mut walk = self.walk(position)?;
        for step in walk.by_ref().take(INDEX_SLICE) {
            if let Step::Whole(position, record) = step
                && self.is_indexed(position, record.kind, record.sequence)
            {
                membership.index.insert(self.hash(record.body), ordinal_of(position))?;
            }
        }
        self.check_read_at(position)?;
        Ok(walk.position())
    }

    /// Whether the record at `position` is a live message that belongs into the index.
    fn is_indexed(&self, position: u64, kind: Kind, sequence: u64) -> bool {
        let is_kept_out =
            self.promised.contains_key(&sequence) || self.withheld.contains(&sequence);
        self.is_live(position, kind, sequence) && !is_kept_out
    }

    /// A live message lies at `position` now; `hash` answers that of its body. Where there is no
    /// memory for a larger index it is given up, and built again when it is asked for.
    pub(super) fn index_insert(&mut self, position: u64, hash: impl FnOnce(&HashKey) -> BodyHash) {
        if let Some(membership) = &mut self.membership
            && membership.built_to > position
            && membership.index.insert(hash(&self.hash_key), ordinal_of(position)).is_err()
        {
            self.membership = None;
        }
    }

    /// No live message with this hash lies at `position` any more.
    pub(super) fn index_remove(&mut self, hash: BodyHash, position: u64) {
        if let Some(membership) = &mut self.membership
            && membership.built_to > position
        {
            membership.index.remove(hash, ordinal_of(position));
        }
    }
}

/// The footer of a segment, to be read from its first record on, which is to lie at `position`.
/// It is read from the file and checked as a whole: that is the longest slice of an index, 10 ms
/// for a full segment of 64 MiB with the smallest messages.
fn open_footer(segment: &Segment, position: u64) -> Option<(Footer, Bookmark)> {
    if position != segment.records_start() {
        return None;
    }
    match Footer::read(segment) {
        Ok(Sealed::With(footer)) => Some((footer, Bookmark::at(position))),
        _ => None,
    }
}

/// A position as the index counts: 40 bits of it are 8 TiB of log.
fn ordinal_of(position: u64) -> u64 {
    position / ALIGNMENT as u64
}
