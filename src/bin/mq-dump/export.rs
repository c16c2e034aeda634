//! `export`: every message, in a form that other programs read, so that nobody's data is trapped.

use crate::json::MessageLine;
use crate::text::Count;
use crate::{Dump, now_ms};
use mq::storage::{InspectedQueue, Message};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};

/// What the commands for Redis could not carry.
#[derive(Default)]
struct Shortened {
    /// Messages that were left out: they have expired, and would live again.
    expired: u64,
    /// Messages without the flags or the time of expiry that they have.
    bare: u64,
    /// Messages that are equal to one before them in their queue: SADD pushes one of them.
    equal: u64,
}

impl Dump {
    /// Writes the messages of the queues that the arguments name, or of all.
    pub fn export(&mut self, queues: &[String], is_protocol: bool) -> io::Result<()> {
        let mut shortened = Shortened::default();
        if queues.is_empty() {
            for folder in self.folders(None) {
                let queue = self.open(&folder);
                if let Some(queue) = self.shown(queue).flatten() {
                    self.export_queue(queue, is_protocol, &mut shortened)?;
                }
            }
        }
        for queue in queues {
            if let Some(queue) = self.open_named(queue) {
                self.export_queue(queue, is_protocol, &mut shortened)?;
            }
        }
        self.output.flush()?;
        self.progress.clear();
        let Shortened { expired, bare, equal } = shortened;
        if expired > 0 {
            log::warn!("{}: expired, and left out", Count(expired, "message"));
        }
        if bare > 0 {
            let bare = Count(bare, "message");
            log::warn!("{bare}: written without the flags or the time of expiry that they have");
        }
        if equal > 0 {
            let equal = Count(equal, "message");
            log::warn!("{equal}: equal to one before, of which SADD pushes only the first");
        }
        Ok(())
    }

    fn export_queue(
        &mut self,
        mut queue: InspectedQueue,
        is_protocol: bool,
        shortened: &mut Shortened,
    ) -> io::Result<()> {
        let (name, now_ms) = (queue.name().to_vec(), now_ms());
        let (hasher, mut seen) = (RandomState::new(), HashSet::new());
        self.each_message(&mut queue, 0, u64::MAX, |output, message| {
            if !is_protocol {
                return MessageLine::new(&name, message).write(output);
            }
            let Message { expires_ms, flags, body, .. } = *message;
            if (1..=now_ms).contains(&expires_ms) {
                shortened.expired += 1;
                return Ok(());
            }
            shortened.bare += u64::from(expires_ms > 0 || flags > 0);
            shortened.equal += u64::from(!seen.insert(hasher.hash_one(body)));
            write_request(output, &[b"SADD", &name, body])
        })
    }
}

/// A Redis request of these arguments.
fn write_request(output: &mut dyn Write, arguments: &[&[u8]]) -> io::Result<()> {
    write!(output, "*{}\r\n", arguments.len())?;
    for argument in arguments {
        write!(output, "${}\r\n", argument.len())?;
        output.write_all(argument)?;
        output.write_all(b"\r\n")?;
    }
    Ok(())
}
