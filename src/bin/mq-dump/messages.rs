//! `messages`: what is in a queue, oldest first.

use crate::arguments::Format;
use crate::json::MessageLine;
use crate::text::{Escaped, Time, hexdump};
use crate::{Dump, now_ms};
use mq::storage::format::Kind;
use mq::storage::{InspectedQueue, Message};
use std::io::{self, Write};
use std::sync::atomic::Ordering;

impl Dump {
    /// Writes `count` messages at most of the queue that the argument names, from number `from` on.
    pub fn messages(
        &mut self,
        queue: &str,
        from: u64,
        count: u64,
        format: Format,
    ) -> io::Result<()> {
        let Some(mut queue) = self.open_named(queue) else { return Ok(()) };
        if matches!(format, Format::Table | Format::Hex) {
            writeln!(
                self.output,
                "{:>19} {:<24} {:>10} {:>10} {:<7}  value",
                "number", "pushed", "flags", "bytes", "state"
            )?;
        }
        let name = queue.name().to_vec();
        let (mut is_first, now_ms) = (true, now_ms());
        self.each_message(&mut queue, from, count, |output, message| {
            let is_first = std::mem::replace(&mut is_first, false);
            match format {
                Format::Table => {
                    write_fields(output, message, now_ms)?;
                    writeln!(output, "  {}", Escaped(message.body))
                }
                Format::Hex => {
                    write_fields(output, message, now_ms)?;
                    writeln!(output)?;
                    hexdump(output, message.body)
                }
                Format::Raw => {
                    output.write_all(if is_first { b"" } else { b"\n" })?;
                    output.write_all(message.body)
                }
                Format::Json => MessageLine::new(&name, message)
                    .with_state(message.body.len(), state(message, now_ms))
                    .write(output),
            }
        })
    }

    /// Hands `count` messages at most, from number `from` on, to `write`.
    pub fn each_message(
        &mut self,
        queue: &mut InspectedQueue,
        from: u64,
        count: u64,
        mut write: impl FnMut(&mut dyn Write, &Message<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let doing = format!("writing {}", Escaped(queue.name()));
        let done = self.progress.count(doing, queue.live_bytes());
        let (mut next, mut left) = (Some(from), count);
        while let Some(from) = next.filter(|_| left > 0) {
            match queue.next(from) {
                Ok(Some(message)) => {
                    write(&mut self.output, &message)?;
                    let size = Kind::Message.record_size(message.body.len());
                    done.fetch_add(size as u64, Ordering::Relaxed);
                    next = message.sequence.checked_add(1);
                    left -= 1;
                }
                Ok(None) => next = None,
                Err(error) => {
                    self.fail(format_args!("{error}"));
                    next = None;
                }
            }
        }
        self.progress.end();
        self.say_findings();
        Ok(())
    }
}

/// What a message is waiting for: somebody, or its removal.
fn state(message: &Message<'_>, now_ms: u64) -> &'static str {
    match message.expires_ms {
        1.. if message.expires_ms <= now_ms => "expired",
        _ => "ready",
    }
}

fn write_fields(output: &mut dyn Write, message: &Message<'_>, now_ms: u64) -> io::Result<()> {
    let Message { sequence, pushed_ms, flags, body, .. } = message;
    let (pushed, bytes, state) = (Time(*pushed_ms), body.len(), state(message, now_ms));
    write!(output, "{sequence:>19} {pushed:<24} {flags:>10} {bytes:>10} {state:<7}")
}
