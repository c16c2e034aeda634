//! Transcripts: bytes in, bytes out, on the session itself.
//!
//! A reply is written with `|` for each line end: `*2|$1|a|$1|b|`.

mod clients;
mod config;
mod connection;
mod isolation;
mod jobs;
mod keyspace;
mod limits;
mod many_keys;
mod monitors;
mod pieces;
mod queues;
mod rows;
mod sight;
mod slices;
mod strings;
mod transaction;
mod values;
mod waiting;

use super::RedisSession;
use crate::clock::Clock;
use crate::kv::Kv;
use crate::queue::{Backing, MessageStore, NamedStore, QueueError};
use crate::queue::{Limits, MemoryBacking, Policy, Queues};
use crate::session::{Advance, ClientLimits, NewClient, Session, Settings, Shared, Store};
use std::sync::Arc;

fn queues_in_memory(max_memory: u64, max_queue_len: u64, max_queues: usize) -> Queues {
    let backing = Box::new(MemoryBacking::new(max_memory));
    let limits = Limits { max_queues, max_queue_len };
    Queues::open(backing, limits, Policy::Never).unwrap()
}

/// Says that what it keeps in memory outlives a crash, as the disk does.
struct Lasting(MemoryBacking);

impl Backing for Lasting {
    fn existing(&self) -> Result<Vec<NamedStore>, QueueError> {
        self.0.existing()
    }

    fn create(&self, name: &[u8]) -> Result<Box<dyn MessageStore>, QueueError> {
        self.0.create(name)
    }

    fn statistics(&self) -> Vec<(&'static str, u64)> {
        self.0.statistics()
    }
}

/// A daemon without sockets; its clients share the store.
pub struct Daemon {
    pub shared: Arc<Shared>,
}

impl Daemon {
    /// Queues in memory: `max_memory` bytes, `max_queue_len` messages in each.
    pub fn with_queues(max_memory: u64, max_queue_len: u64) -> Daemon {
        Daemon::with_limits(max_memory, max_queue_len, 100)
    }

    pub fn with_limits(max_memory: u64, max_queue_len: u64, max_queues: usize) -> Daemon {
        let queues = queues_in_memory(max_memory, max_queue_len, max_queues);
        Daemon::new(Store::Queues(Arc::new(queues)), "memory")
    }

    /// Queues that EXEC takes for lasting ones.
    pub fn with_lasting_queues() -> Daemon {
        let backing = Box::new(Lasting(MemoryBacking::new(1 << 30)));
        let limits = Limits { max_queues: 10_000, max_queue_len: u64::MAX };
        let queues = Queues::open(backing, limits, Policy::Never).unwrap();
        Daemon::new(Store::Queues(Arc::new(queues)), "lasting")
    }

    /// With the clock that is given, in place of the system's.
    pub fn with_queues_at(clock: Clock) -> Daemon {
        let queues = queues_in_memory(1 << 30, u64::MAX, 100).with_clock(clock);
        Daemon::new(Store::Queues(Arc::new(queues)), "memory")
    }

    pub fn with_kv(max_memory: u64) -> Daemon {
        Daemon::new(Store::Kv(Arc::new(Kv::new(max_memory))), "kv")
    }

    /// With the clock that is given, in place of the system's.
    pub fn with_kv_at(clock: Clock) -> Daemon {
        Daemon::new(Store::Kv(Arc::new(Kv::new(1 << 30).with_clock(clock))), "kv")
    }

    fn new(store: Store, name: &'static str) -> Daemon {
        let settings =
            Settings { store: name, fsync: "always", room_for_clients: 999, ..Settings::default() };
        let limits = ClientLimits { idle_timeout_s: 300.into(), ..ClientLimits::default() };
        Daemon { shared: Arc::new(Shared::new(store, settings, Arc::new(limits))) }
    }

    pub fn client(&self) -> Conversation {
        self.client_of(NewClient::detached(7))
    }

    pub fn client_of(&self, client: NewClient) -> Conversation {
        let session = RedisSession::new(Arc::clone(&self.shared), client);
        Conversation { session, rest: Vec::new(), last: Advance::default(), log: String::new() }
    }
}

/// A client of a daemon with queues.
pub fn queue_client() -> Conversation {
    Daemon::with_queues(1 << 30, u64::MAX).client()
}

/// A client of a daemon with the key/value store.
pub fn kv_client() -> Conversation {
    Daemon::with_kv(1 << 30).client()
}

/// One client and what has been said so far.
pub struct Conversation {
    pub session: RedisSession,
    /// What has been sent and is not done.
    rest: Vec<u8>,
    /// What the last call of `advance` answered.
    pub last: Advance,
    log: String,
}

impl Conversation {
    /// Sends bytes that are whole requests and answers the whole reply, or what there is of it when
    /// the client has to wait.
    pub fn raw(&mut self, request: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(request);
        self.advance()
    }

    fn advance(&mut self) -> Vec<u8> {
        let mut replies = Vec::new();
        loop {
            let mut output = Vec::new();
            self.last = self.session.advance(&self.rest, &mut output);
            self.rest.drain(..self.last.consumed);
            replies.extend(output);
            let Advance { need, close, wait, .. } = &self.last;
            if close.is_some() {
                self.rest.clear();
            }
            if *need > 0 || close.is_some() || wait.is_some() {
                return replies;
            }
        }
    }

    /// The client waits for a message, or has been woken: answers the reply, if there is one now.
    pub fn wake(&mut self) -> String {
        assert!(self.last.wait.is_some(), "the client does not wait:\n{}", self.log);
        String::from_utf8_lossy(&self.advance()).replace("\r\n", "|")
    }

    /// Sends the words of `line` as a request; the word `""` is empty.
    pub fn ask(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(unquote).collect();
        let reply = self.raw(&request(&words));
        let reply = String::from_utf8_lossy(&reply).replace("\r\n", "|");
        self.log += &format!("> {line}\n< {reply}\n");
        reply
    }

    /// Sends one line after the other and compares the replies.
    pub fn check(&mut self, transcript: &[(&str, &str)]) {
        for (line, expected) in transcript {
            let reply = self.ask(line);
            assert_eq!(reply, *expected, "the conversation:\n{}", self.log);
        }
    }
}

fn unquote(word: &str) -> &[u8] {
    if word == "\"\"" { b"" } else { word.as_bytes() }
}

/// A request as clients send it: an array of bulk strings.
pub fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Sends all lines at once.
pub fn pipeline(client: &mut Conversation, lines: &[&str]) -> String {
    let bytes: Vec<u8> = lines.iter().flat_map(|line| bytes_of(line)).collect();
    String::from_utf8_lossy(&client.raw(&bytes)).replace("\r\n", "|")
}

fn bytes_of(line: &str) -> Vec<u8> {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    request(&words)
}
