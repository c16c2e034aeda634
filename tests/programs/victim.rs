//! A client of the durability tests: it counts what it was answered, and takes the daemon's end for
//! an answer too.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Producer and number.
pub type Message = (u64, u64);

/// The bytes of a message.
pub fn body((producer, number): Message) -> Vec<u8> {
    format!("{producer}:{number}").into_bytes()
}

fn message(body: &[u8]) -> Message {
    let text = std::str::from_utf8(body).expect("a message as it was pushed");
    let (producer, number) = text.split_once(':').expect("a message as it was pushed");
    (producer.parse().unwrap(), number.parse().unwrap())
}

/// A client that may lose its daemon at any moment.
pub struct Victim {
    stream: TcpStream,
    pending: Vec<u8>,
}

impl Victim {
    /// Connects to a daemon at `address`.
    pub fn connect(address: SocketAddr) -> Victim {
        let stream = TcpStream::connect(address).expect("the daemon listens");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(crate::common::GUARD)).unwrap();
        Victim { stream, pending: Vec::new() }
    }

    /// False: the daemon is gone.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next `count` bytes; None: the daemon is gone, and they never came.
    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = [0; 16 * 1024];
        while self.pending.len() < count {
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(more) => self.pending.extend_from_slice(&bytes[..more]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the daemon does not answer")
                }
                Err(_) => return None,
            }
        }
        let rest = self.pending.split_off(count);
        Some(std::mem::replace(&mut self.pending, rest))
    }

    /// The next line, without its end.
    pub fn line(&mut self) -> Option<String> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.pending[searched..].windows(2).position(|two| two == b"\r\n") {
                let line = self.take(searched + end + 2)?;
                return Some(String::from_utf8(line[..searched + end].to_vec()).unwrap());
            }
            searched = self.pending.len().saturating_sub(1);
            let more = self.take(self.pending.len() + 1)?;
            self.pending.splice(0..0, more);
        }
    }

    /// A message of `length` bytes and the end of its line.
    fn message(&mut self, length: &str) -> Option<Message> {
        let length: usize = length.parse().expect("a length");
        Some(message(&self.take(length + 2)?[..length]))
    }

    /// The answer to Redis's `SPOP q`; the inner None: the queue is empty.
    pub fn popped_over_redis(&mut self) -> Option<Option<Message>> {
        let line = self.line()?;
        let length = line.strip_prefix('$').unwrap_or_else(|| panic!("not a message: {line}"));
        if length == "-1" { Some(None) } else { self.message(length).map(Some) }
    }

    /// The answer to memcached's `get q`.
    pub fn popped_over_memcached(&mut self) -> Option<Option<Message>> {
        let line = self.line()?;
        if line == "END" {
            return Some(None);
        }
        let length = line.strip_prefix("VALUE q 0 ").unwrap_or_else(|| panic!("no value: {line}"));
        let message = self.message(length)?;
        (self.line()? == "END").then_some(Some(message))
    }
}
