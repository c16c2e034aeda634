//! What is sent and what must come back: the few requests of three protocols that are measured.
//!
//! Both directions are written for speed, because the generator shares its CPUs with the
//! server. A reply is compared with what it must be to the last byte. This file knows bytes; it
//! knows no socket and no clock.

use std::str::FromStr;

/// Bytes of a message or value.
pub const MEMBER_SIZE: usize = 100;

/// Digits of a number in a message; the rest is padding. So redis-benchmark writes it too, for
/// `__rand_int__`.
const DIGITS: usize = 12;
const PADDING: usize = MEMBER_SIZE - DIGITS;

/// What one request of a run is. Its steps wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Redis: pushes one message.
    Sadd,
    /// Redis: pops one message.
    Spop,
    /// Redis: pushes one message, then pops one.
    SaddSpop,
    /// memcached: sets a key.
    Set,
    /// memcached: gets a key that has been set.
    Get,
    /// beanstalkd: a whole job.
    PutReserveDelete,
}

impl Workload {
    /// Every workload by its name on the command line.
    pub const ALL: [(&'static str, Workload); 6] = [
        ("sadd", Workload::Sadd),
        ("spop", Workload::Spop),
        ("sadd-spop", Workload::SaddSpop),
        ("set", Workload::Set),
        ("get", Workload::Get),
        ("put-reserve-delete", Workload::PutReserveDelete),
    ];

    /// The steps of one request, in order.
    pub fn steps(self) -> &'static [Step] {
        match self {
            Workload::Sadd => &[Step::Sadd],
            Workload::Spop => &[Step::Spop],
            Workload::SaddSpop => &[Step::Sadd, Step::Spop],
            Workload::Set => &[Step::Set],
            Workload::Get => &[Step::Get],
            Workload::PutReserveDelete => &[Step::Put, Step::Reserve, Step::Delete],
        }
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Workload, String> {
        let found = Workload::ALL.iter().find(|(name, _)| *name == text);
        found.map(|found| found.1).ok_or_else(|| format!("no such workload: {text}"))
    }
}

/// One command and its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `SADD`; its number is the message's.
    Sadd,
    /// `SPOP`.
    Spop,
    /// memcached's `set`; its number is that of key and value.
    Set,
    /// memcached's `get`.
    Get,
    /// beanstalkd's `put`; its number is the message's.
    Put,
    /// beanstalkd's `reserve`.
    Reserve,
    /// beanstalkd's `delete`; its number is the job's.
    Delete,
}

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is done.
    Done,
    /// The message was queued already, or there was none to pop.
    Miss,
    /// The message with this number, and beanstalkd's number of its job.
    Message {
        /// The number in the message.
        number: u64,
        /// The job's, 0 in other protocols.
        job: u64,
    },
}

/// What the first bytes of the input are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The beginning of a right reply.
    Partial,
    /// A right reply: its length in bytes, and what it says.
    Right(usize, Said),
    /// No right reply.
    Wrong,
}

impl Step {
    /// Appends the command to `out`.
    pub fn encode(self, number: u64, out: &mut Vec<u8>) {
        match self {
            Step::Sadd => {
                out.extend_from_slice(b"*3\r\n$4\r\nSADD\r\n$1\r\nq\r\n$100\r\n");
                append_member(number, out);
            }
            Step::Spop => out.extend_from_slice(b"*2\r\n$4\r\nSPOP\r\n$1\r\nq"),
            Step::Set => {
                out.extend_from_slice(b"set k");
                out.extend_from_slice(&digits(number));
                out.extend_from_slice(b" 0 0 100\r\n");
                append_member(number, out);
            }
            Step::Get => {
                out.extend_from_slice(b"get k");
                out.extend_from_slice(&digits(number));
            }
            Step::Put => {
                out.extend_from_slice(b"put 0 0 60 100\r\n");
                append_member(number, out);
            }
            Step::Reserve => out.extend_from_slice(b"reserve"),
            Step::Delete => {
                out.extend_from_slice(b"delete ");
                out.extend_from_slice(number.to_string().as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Reads the reply to the command with `number` at the start of `input`.
    pub fn reply(self, number: u64, input: &[u8]) -> Reply {
        match self {
            Step::Sadd => one_of(input, &[(b":1\r\n", Said::Done), (b":0\r\n", Said::Miss)]),
            Step::Spop => match one_of(input, &[(b"$-1\r\n", Said::Miss)]) {
                Reply::Wrong => message(input, b"$100\r\n", b"\r\n", 0),
                other => other,
            },
            Step::Set => one_of(input, &[(b"STORED\r\n", Said::Done)]),
            Step::Get => {
                let mut head = *b"VALUE k000000000000 0 100\r\n";
                head[7..7 + DIGITS].copy_from_slice(&digits(number));
                match message(input, &head, b"\r\nEND\r\n", 0) {
                    Reply::Right(_, Said::Message { number: other, .. }) if other != number => {
                        Reply::Wrong
                    }
                    reply => reply,
                }
            }
            Step::Put => match line_with_job(input, b"INSERTED ", b"\r\n") {
                Ok((length, _)) => Reply::Right(length, Said::Done),
                Err(reply) => reply,
            },
            Step::Reserve => match line_with_job(input, b"RESERVED ", b" 100\r\n") {
                Ok((length, job)) => message(input, &input[..length], b"\r\n", job),
                Err(reply) => reply,
            },
            Step::Delete => one_of(input, &[(b"DELETED\r\n", Said::Done)]),
        }
    }
}

/// The last `DIGITS` decimal digits of `number`.
fn digits(mut number: u64) -> [u8; DIGITS] {
    let mut text = [b'0'; DIGITS];
    for digit in text.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    text
}

fn append_member(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'x'; PADDING]);
    out.extend_from_slice(&digits(number));
}

fn number_of_member(member: &[u8]) -> Option<u64> {
    let (padding, digits) = member.split_at_checked(PADDING)?;
    (padding == [b'x'; PADDING]).then(|| number(digits)).flatten()
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// One of these texts, and what it says.
fn one_of(input: &[u8], texts: &[(&[u8], Said)]) -> Reply {
    if let Some((text, said)) = texts.iter().find(|(text, _)| input.starts_with(text)) {
        return Reply::Right(text.len(), *said);
    }
    let begins = texts.iter().any(|(text, _)| text.starts_with(input));
    if begins { Reply::Partial } else { Reply::Wrong }
}

/// A message between `head` and `tail`.
fn message(input: &[u8], head: &[u8], tail: &[u8], job: u64) -> Reply {
    let begun = input.len().min(head.len());
    if input[..begun] != head[..begun] {
        return Reply::Wrong;
    }
    let end = head.len() + MEMBER_SIZE;
    let Some(found) = input.get(end..end + tail.len()) else {
        return Reply::Partial;
    };
    match number_of_member(&input[head.len()..end]) {
        Some(number) if found == tail => {
            Reply::Right(end + tail.len(), Said::Message { number, job })
        }
        _ => Reply::Wrong,
    }
}

/// A line of `head`, a number and `tail`: its length and the number.
fn line_with_job(input: &[u8], head: &[u8], tail: &[u8]) -> Result<(usize, u64), Reply> {
    let begun = input.len().min(head.len());
    if input[..begun] != head[..begun] {
        return Err(Reply::Wrong);
    }
    let end = input.iter().position(|byte| *byte == b'\n').ok_or(Reply::Partial)? + 1;
    let job = input[head.len()..end].strip_suffix(tail).and_then(number).ok_or(Reply::Wrong)?;
    Ok((end, job))
}
