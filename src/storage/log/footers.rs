//! Writing footers behind sealed segments (rule 14), off the request path.
//!
//! A segment that is dead, or damaged, or whose footer finds no room, goes without: what a footer
//! is for can always be read from the records.

use super::super::footer::Footer;
use super::super::segment::FooterState;
use super::Log;
use super::sync::SyncWork;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Log {
    /// The work that reads the oldest segment without a footer and writes one; runs without the
    /// log's lock. A reader that finds no footer yet reads the records. Returns `None` if there is
    /// nothing to do.
    pub fn write_footer(&mut self) -> Option<SyncWork> {
        self.check_writable().ok()?;
        let hash_key = self.hash_key;
        let segment = self
            .segments
            .iter_mut()
            .take(self.tail)
            .find(|segment| segment.footer == FooterState::Absent && segment.live_count > 0)?;
        segment.footer = FooterState::Written;
        // Opened here: by the time of writing the path may lead to another queue's file.
        let file = segment.open(true);
        let (apart, path) = (segment.apart(), segment.path.clone());
        let has_failed = Arc::clone(&self.settings.has_footer_failed);
        let write = move || -> io::Result<()> {
            let (file, segment) = (file?.file, apart.map_err(io::Error::other)?);
            match Footer::of(&segment, &hash_key).map_err(io::Error::other)? {
                Some(footer) => footer.write(&file, segment.base, segment.size),
                None => Ok(()),
            }
        };
        Some(Box::new(move || {
            let written = write();
            let had_failed = has_failed.swap(written.is_err(), Ordering::Relaxed);
            if let Err(error) = written {
                // A full disk fails for all of them.
                let level = if had_failed { log::Level::Debug } else { log::Level::Warn };
                log::log!(level, "{}: no footer is written: {error}", path.display());
            }
            Ok(())
        }))
    }
}
