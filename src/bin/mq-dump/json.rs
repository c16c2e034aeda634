//! A message as a line of JSON: what `export` and `messages --json` write and `import` reads.
//!
//! A name or a value that is not UTF-8 is written as base64, under a field of its own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mq::storage::{Message, NewMessage};
use serde::{Deserialize, Serialize};
use serde_json::ser::Formatter;
use std::borrow::Cow;
use std::io::{self, Write};

/// The fields of a line. Numbers are given anew by an import; `bytes` and `state` are for readers.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MessageLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pushed_ms: Option<u64>,
    #[serde(default)]
    expires_ms: u64,
    #[serde(default)]
    flags: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// A line that was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The queue's name.
    pub queue: Vec<u8>,
    /// Unix time in milliseconds, or `None` if it is pushed now.
    pub pushed_ms: Option<u64>,
    /// Unix time in milliseconds; 0 is never.
    pub expires_ms: u64,
    /// The client flags of memcached.
    pub flags: u32,
    /// The message.
    pub value: Vec<u8>,
}

impl Parsed {
    /// The message, to be pushed.
    pub fn message(&self) -> NewMessage<'_> {
        NewMessage { body: &self.value, flags: self.flags, expires_ms: self.expires_ms }
    }
}

impl<'a> MessageLine<'a> {
    /// The line for `message` of `queue`.
    pub fn new(queue: &'a [u8], message: &Message<'a>) -> MessageLine<'a> {
        let (queue, queue_base64) = encode(queue);
        let (value, value_base64) = encode(message.body);
        MessageLine {
            queue,
            queue_base64,
            number: Some(message.sequence),
            pushed_ms: Some(message.pushed_ms),
            expires_ms: message.expires_ms,
            flags: message.flags,
            value,
            value_base64,
            ..MessageLine::default()
        }
    }

    /// The same with the size of the message, and what it is waiting for.
    pub fn with_state(self, bytes: usize, state: &'a str) -> MessageLine<'a> {
        MessageLine { bytes: Some(bytes), state: Some(state.into()), ..self }
    }

    /// Writes it, with its end.
    pub fn write(&self, output: &mut dyn Write) -> io::Result<()> {
        let mut serializer = serde_json::Serializer::with_formatter(&mut *output, Plain);
        self.serialize(&mut serializer)?;
        output.write_all(b"\n")
    }
}

/// Reads a line; an error says what is wrong with it.
pub fn parse(line: &[u8]) -> Result<Parsed, String> {
    if !line.trim_ascii_start().starts_with(b"{") {
        // The fields in an array, without their names, would be taken too.
        return Err("expected an object".into());
    }
    let line: MessageLine<'_> = serde_json::from_slice(line).map_err(|error| {
        let text = error.to_string();
        // It counts lines too, and there is one.
        let what = text.split(" at line ").next().unwrap_or_default();
        format!("{what} at column {}", error.column())
    })?;
    Ok(Parsed {
        queue: decode("queue", line.queue, line.queue_base64)?,
        pushed_ms: line.pushed_ms,
        expires_ms: line.expires_ms,
        flags: line.flags,
        value: decode("value", line.value, line.value_base64)?,
    })
}

fn encode(bytes: &[u8]) -> (Option<Cow<'_, str>>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.into()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

fn decode(
    field: &str,
    text: Option<Cow<'_, str>>,
    base64: Option<String>,
) -> Result<Vec<u8>, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_owned().into_bytes()),
        (None, Some(base64)) => {
            STANDARD.decode(base64).map_err(|error| format!("{field}_base64: {error}"))
        }
        (None, None) => Err(format!("neither {field} nor {field}_base64")),
        (Some(_), Some(_)) => Err(format!("both {field} and {field}_base64")),
    }
}

/// Compact, and without the control characters that JSON would let through to a terminal.
struct Plain;

impl Formatter for Plain {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for part in fragment.split_inclusive(char::is_control) {
            match part.char_indices().next_back() {
                Some((end, last)) if last.is_control() => {
                    write!(writer, "{}\\u{:04x}", &part[..end], u32::from(last))?;
                }
                _ => writer.write_all(part.as_bytes())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(queue: &[u8], body: &[u8]) -> String {
        let message = Message { sequence: 3, pushed_ms: 9, expires_ms: 8, flags: 7, body };
        let mut text = Vec::new();
        MessageLine::new(queue, &message).write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_line_has_its_fields_in_order() {
        let expected = "{\"queue\":\"jobs\",\"number\":3,\"pushed_ms\":9,\"expires_ms\":8,\
                        \"flags\":7,\"value\":\"a \\\"b\\\"\"}\n";
        assert_eq!(written(b"jobs", b"a \"b\""), expected);
        let expected = "{\"queue_base64\":\"/w==\",\"number\":3,\"pushed_ms\":9,\
                        \"expires_ms\":8,\"flags\":7,\"value_base64\":\"AP8=\"}\n";
        assert_eq!(written(b"\xff", b"\0\xff"), expected);
    }

    #[test]
    fn what_is_written_is_read() {
        let controls: String = (0..0x100).filter_map(char::from_u32).collect();
        for bytes in [&b"text"[..], b"", b"\xff\0", controls.as_bytes(), &[0x80; 1000]] {
            let line = written(bytes, bytes);
            let parsed = parse(line.trim_end().as_bytes()).unwrap();
            let (queue, value) = (bytes.to_vec(), bytes.to_vec());
            let expected = Parsed { queue, pushed_ms: Some(9), expires_ms: 8, flags: 7, value };
            assert_eq!(parsed, expected);
            assert!(!line.trim_end().contains(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, reason) in [
            ("{", "EOF while parsing an object at column 1"),
            ("[null]", "expected an object"),
            (" {}", "neither queue nor queue_base64"),
            ("{\"queue\":\"a\"}", "neither value nor value_base64"),
            ("{\"queue\":\"a\",\"queue_base64\":\"\",\"value\":\"\"}", "both queue and queue_"),
            ("{\"queue\":\"a\",\"value_base64\":\"?\"}", "value_base64: Invalid symbol 63"),
            ("{\"queue\":\"a\",\"value\":\"\",\"flag\":1}", "unknown field `flag`"),
            ("{\"queue\":\"a\",\"value\":\"\",\"flags\":4294967296}", "invalid value: integer"),
            ("{\"queue\":\"a\",\"value\":\"\"} x", "trailing characters at column 26"),
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(error.starts_with(reason), "{line}: {error}");
        }
    }
}
