//! One connection of the generator: requests on their way and the replies to them.
//!
//! It promises that replies are taken in order, that each is right, and that no call waits. It
//! knows nothing of rates and of other connections.

use super::Outcome;
use super::step::{Reply, Said, Step};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

/// Bytes of the input buffer: more than the replies to a deep pipeline.
const INPUT_SIZE: usize = 64 * 1024;

/// A command that has been sent and not answered.
#[derive(Clone, Copy, Debug)]
struct Flight {
    /// When its request was meant to be sent.
    intended: Instant,
    /// What the command is about.
    number: u64,
    /// Which step of its request it is.
    step: usize,
}

/// One client of the server.
pub struct Connection {
    /// The socket, which does not block.
    pub stream: TcpStream,
    steps: &'static [Step],
    /// Misses are right replies.
    may_miss: bool,
    input: Vec<u8>,
    /// `..end` of the input has arrived and is not taken.
    end: usize,
    output: Vec<u8>,
    flights: VecDeque<Flight>,
}

impl Connection {
    /// Connects and waits for that.
    pub fn open(
        address: SocketAddr,
        steps: &'static [Step],
        may_miss: bool,
    ) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            steps,
            may_miss,
            input: vec![0; INPUT_SIZE],
            end: 0,
            output: Vec::new(),
            flights: VecDeque::new(),
        })
    }

    /// Requests that have not been answered whole.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Adds a request to what is sent next.
    pub fn add(&mut self, number: u64, intended: Instant) {
        self.steps[0].encode(number, &mut self.output);
        self.flights.push_back(Flight { intended, number, step: 0 });
    }

    /// Sends what the server takes now.
    pub fn send(&mut self) -> Result<(), String> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("sending: {error}")),
            }
        }
        Ok(())
    }

    /// Takes the replies that are there and sends what follows from them.
    pub fn receive(&mut self, outcome: &mut Outcome) -> Result<(), String> {
        loop {
            let room = INPUT_SIZE - self.end;
            let count = match self.stream.read(&mut self.input[self.end..]) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.send(),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("receiving: {error}")),
            };
            self.end += count;
            self.take(outcome)?;
            if count < room {
                return self.send();
            }
        }
    }

    /// Takes the whole replies of the input.
    fn take(&mut self, outcome: &mut Outcome) -> Result<(), String> {
        let now = Instant::now();
        let mut taken = 0;
        while taken < self.end {
            let rest = &self.input[taken..self.end];
            let Some(flight) = self.flights.front().copied() else {
                return Err(format!("a reply to nothing: {}", shown(rest)));
            };
            let step = self.steps[flight.step];
            match step.reply(flight.number, rest) {
                Reply::Partial => break,
                Reply::Right(length, said) if said != Said::Miss || self.may_miss => {
                    taken += length;
                    self.flights.pop_front();
                    outcome.tally(step, flight.number, said);
                    self.go_on(flight, said, now, outcome);
                }
                _ => return Err(format!("a wrong reply to {step:?}: {}", shown(rest))),
            }
        }
        self.input.copy_within(taken..self.end, 0);
        self.end -= taken;
        Ok(())
    }

    /// The next step of a request, or its end.
    fn go_on(&mut self, flight: Flight, said: Said, now: Instant, outcome: &mut Outcome) {
        let Some(step) = self.steps.get(flight.step + 1) else {
            return outcome.finished(now, now - flight.intended);
        };
        // Only beanstalkd's last step is about something that a reply has said.
        let number = match said {
            Said::Message { job, .. } => job,
            _ => flight.number,
        };
        step.encode(number, &mut self.output);
        self.flights.push_back(Flight { number, step: flight.step + 1, ..flight });
    }
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(80)].escape_ascii().to_string()
}
