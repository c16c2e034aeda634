//! The queues that a monitor asks for, with their figures.

use crate::queue::{Figures, QueueError, Queues};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// The most queues that are listed where none are named: each is locked for a moment, and the first
/// message of one at rest is read from its file.
const MOST_UNNAMED: usize = 256;

/// What a name in a list has as it is. All else is written `%41`: names are any bytes, and a list
/// has lines, words and signs of its own.
const UNCHANGED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/');

/// A queue in a list: its name as it is written there, and what is known of it.
pub(super) type Listed = (String, Result<Figures, QueueError>);

/// The queues of these names, empty ones too until they are forgotten; without names, those that
/// are closed, and then the oldest ones with messages.
pub(super) fn list<'a>(queues: &Queues, names: impl Iterator<Item = &'a [u8]>) -> Vec<Listed> {
    let mut names = names.peekable();
    if names.peek().is_none() {
        let (end, mut next) = (queues.end(), Some(0));
        let mut all = queues.closed(MOST_UNNAMED);
        let closed_count = all.len();
        while let Some(from) = next
            && all.len() < MOST_UNNAMED
        {
            next = queues.scan(from, end, |name| {
                if !all[..closed_count].iter().any(|closed| **closed == *name) {
                    all.push(name.into());
                }
            });
        }
        let listed = all.iter().filter_map(|name| figures(queues, name));
        return listed.filter(|(_, figures)| is_listed(figures)).collect();
    }
    names.filter_map(|name| figures(queues, name)).collect()
}

fn figures(queues: &Queues, name: &[u8]) -> Option<Listed> {
    let figures = queues.figures(name).transpose()?;
    Some((percent_encode(name, UNCHANGED).to_string(), figures))
}

/// The most bytes that are shown of the names of several queues, but for the last one, and of one
/// name before it is encoded: a client may wait for many, and for some that cannot exist.
const SHOWN_BYTES: usize = 128;

/// Names in one word, with commas between them; what would make it long is left out.
pub(super) fn written<'a>(names: impl Iterator<Item = &'a [u8]>) -> String {
    let mut word = String::new();
    for name in names {
        if word.len() >= SHOWN_BYTES {
            return word + ",...";
        }
        let separator = if word.is_empty() { "" } else { "," };
        word.push_str(separator);
        word.extend(percent_encode(name.get(..SHOWN_BYTES).unwrap_or(name), UNCHANGED));
    }
    word
}

/// Whether to list a queue that the request does not name. The messages of a queue that is closed
/// as a whole cannot be counted, so it is listed.
fn is_listed(figures: &Result<Figures, QueueError>) -> bool {
    figures.as_ref().map_or(true, |figures| figures.length > 0 || figures.is_closed)
}
