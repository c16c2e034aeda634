//! One client's connection: input, session, output, and how far it has come.
//!
//! The only I/O loop around the sessions. No call waits: a worker calls when the socket is ready
//! or when the client's turn has come, and sends the replies at the end of the turn. The socket is
//! a [`Wire`], so that tests drive this file with byte vectors; it knows no protocol.

use super::input::{Input, UNEARNED};
use super::interest::{Phase, State};
use super::output::{Broken, Flushed, Output};
use super::wire::Wire;
use crate::memory::NoMemory;
use crate::queue::{Durability, Ticket};
use crate::session::{Advance, Close, Session, Wait};
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::time::{Duration, Instant};

/// How long a client may take to see the last reply before its socket is closed: what it has sent
/// and nobody has read would make the kernel reset the connection, and the reply would be lost.
const LINGER: Duration = Duration::from_secs(1);

/// How long a client that sends nothing more may take no byte of its last replies. One that reads
/// takes them at once, and a minute is enough for a network that stalls. Nothing else would end it:
/// the kernel of a client that is alive answers keepalive, and by default there is no idle timeout.
const DRAIN: Duration = Duration::from_secs(60);

/// Empty buffers that a worker keeps for the next replies.
const SPARE_BUFFERS: usize = 64;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The client closed its side.
    Closed,
    /// The session ended it.
    Session(Close),
    /// No request for longer than the timeout.
    Idle,
    /// A request that was not whole within the timeout.
    Slow,
    /// The daemon stops.
    Stopping,
    /// Another client asked for it.
    Killed,
    /// All clients together take more memory than they may, and this one takes most of it.
    TooLarge,
    /// The system has no memory for what it has sent, or for its replies.
    NoMemory,
    /// No more replies leave.
    Broken(Broken),
    /// The socket failed.
    Failed(io::Error),
    /// The session took nothing, answered nothing and wanted nothing: a fault of ours.
    Stuck,
    /// The session panicked.
    Panicked,
}

impl From<NoMemory> for Ending {
    fn from(_: NoMemory) -> Ending {
        Ending::NoMemory
    }
}

/// What a worker lends to the client whose turn it is.
pub(super) struct Bench {
    /// The time of this turn.
    pub(super) now: Instant,
    /// Bytes that are kept of unread replies, and again as many of what is sent meanwhile.
    pub(super) max_output: usize,
    /// What is read is executed here, unless it belongs to a large request.
    scratch: Vec<u8>,
    /// Empty buffers for replies.
    spares: Vec<Vec<u8>>,
}

impl Bench {
    pub(super) fn new(now: Instant, max_output: usize) -> Bench {
        Bench { now, max_output, scratch: vec![0; UNEARNED], spares: Vec::new() }
    }

    /// A panic may have taken the scratch with it.
    pub(super) fn mend(&mut self) {
        self.scratch.resize(UNEARNED, 0);
    }

    fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= 2 * UNEARNED && self.spares.len() < SPARE_BUFFERS {
            buffer.clear();
            self.spares.push(buffer);
        }
    }
}

/// One client's connection.
pub(super) struct Connection {
    /// Replaced by `()` after the last request: what the client held or waited for is free then.
    session: Box<dyn Session>,
    /// The reply to a client for which there is no memory.
    overload: &'static [u8],
    input: Input,
    output: Output,
    phase: Phase,
    /// Why the phase is no longer `Open`.
    ending: Option<Ending>,
    /// The client has closed its sending side.
    is_half_closed: bool,
    /// Bytes of input that the session wants before it goes on; 0 if it has more to do.
    need: usize,
    /// The session waits for something else than input.
    wait: Option<Wait>,
    /// When the first bytes of an incomplete request were found.
    begun: Option<Instant>,
    /// The session passes over the rest of a request.
    midway: bool,
    /// The session is in the middle of a request.
    is_unfinished: bool,
    /// Bytes of that request if it has changed something and is to change more; else 0.
    half_done: usize,
    /// The daemon stops: nothing begins any more.
    is_stopping: bool,
    /// When the client last sent or took something.
    active: Instant,
    /// When lingering ends.
    linger_until: Option<Instant>,
}

impl Connection {
    pub(super) fn new(
        session: Box<dyn Session>,
        overload: &'static [u8],
        now: Instant,
    ) -> Connection {
        Connection {
            session,
            overload,
            input: Input::default(),
            output: Output::default(),
            phase: Phase::Open,
            ending: None,
            is_half_closed: false,
            need: 1,
            wait: None,
            begun: None,
            midway: false,
            is_unfinished: false,
            half_done: 0,
            is_stopping: false,
            active: now,
            linger_until: None,
        }
    }

    /// The client has sent something, or has closed its side: reads once and executes.
    pub(super) fn receive(&mut self, wire: &mut impl Wire, bench: &mut Bench) {
        let received = match self.phase {
            Phase::Open => self.receive_input(wire, bench),
            Phase::Lingering => return self.discard(wire, bench),
            Phase::Draining | Phase::Finishing | Phase::Over => return,
        };
        match received {
            Ok(count) => {
                self.active = bench.now;
                self.is_half_closed = count == 0;
                self.settle_half_closed();
            }
            Err(Ending::Failed(error)) if is_passing(&error) => {}
            Err(Ending::NoMemory) => self.refuse(Ending::NoMemory),
            Err(ending) => self.abort(ending),
        }
    }

    fn receive_input(&mut self, wire: &mut impl Wire, bench: &mut Bench) -> Result<usize, Ending> {
        let pending = self.input.len();
        let is_large = pending > UNEARNED / 2 || self.need > UNEARNED;
        if is_large || self.half_done > 0 || self.wait.is_some() || self.is_full(bench) {
            let receive = |room: &mut [u8]| wire.receive(room).map_err(Ending::Failed);
            let count = self.input.receive(self.need, receive)?;
            self.go_on(bench);
            return Ok(count);
        }
        let mut scratch = std::mem::take(&mut bench.scratch);
        scratch[..pending].copy_from_slice(self.input.pending());
        let received = wire.receive(&mut scratch[pending..]);
        let mut kept = Ok(());
        if let Ok(count) = received {
            let arrived = &scratch[..pending + count];
            let consumed = self.execute(arrived, bench);
            self.input.consume(pending);
            if self.phase == Phase::Open {
                kept = self.input.append(&arrived[consumed..]);
            }
            while kept.is_err() && self.half_done > 0 {
                // What cannot be kept is finished at once.
                self.finish_some(&arrived[consumed..], bench);
            }
        }
        bench.scratch = scratch;
        kept?;
        received.map_err(Ending::Failed)
    }

    /// Executes what has arrived before, if there is enough of it.
    pub(super) fn go_on(&mut self, bench: &mut Bench) {
        if self.phase == Phase::Finishing {
            let input = std::mem::take(&mut self.input);
            self.finish_some(input.pending(), bench);
            match self.half_done {
                0 => self.phase = Phase::Over,
                _ => self.input = input,
            }
        } else if self.is_runnable(bench) {
            let mut input = std::mem::take(&mut self.input);
            let consumed = self.execute(input.pending(), bench);
            if matches!(self.phase, Phase::Open | Phase::Finishing) {
                input.consume(consumed);
                self.input = input;
                self.settle_half_closed();
            }
        }
    }

    /// Goes on with the change that is half done, at the start of `input`; nobody is answered.
    fn finish_some(&mut self, input: &[u8], bench: &mut Bench) {
        let request = input.get(..self.half_done).unwrap_or(input);
        let mut reply = bench.spares.pop().unwrap_or_default();
        self.half_done = self.session.advance(request, &mut reply).half_done;
        bench.recycle(reply);
    }

    /// What the session waited for has come, or its time is up.
    pub(super) fn wake(&mut self, bench: &mut Bench) {
        if self.wait.take().is_some() {
            self.need = 0;
            self.go_on(bench);
        }
    }

    /// Lets the session execute `input`, and returns how many bytes of it are done.
    fn execute(&mut self, input: &[u8], bench: &mut Bench) -> usize {
        if self.need > input.len() || self.wait.is_some() {
            return 0;
        }
        if self.output.prepare().is_err() {
            self.abort(Ending::NoMemory);
            return 0;
        }
        let mut reply = bench.spares.pop().unwrap_or_default();
        let advance = self.session.advance(input, &mut reply);
        let consumed = advance.consumed.min(input.len());
        self.note(&advance, input.len() - consumed, reply.is_empty(), bench.now);
        match reply.is_empty() {
            true => bench.recycle(reply),
            false => self.output.push(&mut reply, advance.ticket),
        }
        consumed
    }

    fn note(&mut self, advance: &Advance, rest: usize, is_silent: bool, now: Instant) {
        // More of a request that is passed over is no new request.
        if advance.consumed > 0 && !(self.midway && advance.midway && is_silent) {
            self.begun = None;
        }
        self.midway = advance.midway;
        self.need = advance.need;
        self.wait = advance.wait;
        self.is_unfinished = advance.unfinished;
        self.half_done = advance.half_done;
        if let Some(close) = advance.close {
            return self.end(Ending::Session(close));
        }
        if self.is_stopping && !self.is_unfinished {
            return self.end(Ending::Stopping);
        }
        if advance.need > 0 {
            if self.midway || rest > 0 {
                self.begun.get_or_insert(now);
            }
            return;
        }
        let has_progress =
            advance.consumed > 0 || !is_silent || advance.again || advance.wait.is_some();
        if !has_progress {
            self.end(Ending::Stuck);
        }
    }

    /// Whether there is something to execute and room for the reply.
    pub(super) fn is_runnable(&self, bench: &Bench) -> bool {
        match self.phase {
            Phase::Open => {
                self.wait.is_none()
                    && self.input.len() >= self.need
                    && (self.is_unfinished || !self.is_full(bench))
            }
            Phase::Finishing => true,
            Phase::Draining | Phase::Lingering | Phase::Over => false,
        }
    }

    /// Whether the client is to take replies before there are more.
    fn is_full(&self, bench: &Bench) -> bool {
        self.output.memory() >= bench.max_output
    }

    pub(super) fn state(&self, bench: &Bench) -> State {
        State {
            phase: self.phase,
            is_half_closed: self.is_half_closed,
            is_runnable: self.is_runnable(bench),
            is_input_full: self.input.len() >= bench.max_output.max(self.need),
            is_blocked: self.output.is_blocked(),
        }
    }

    /// Whether the socket is waited for until something arrives.
    #[cfg(test)]
    pub(super) fn wants_input(&self, bench: &Bench) -> bool {
        super::interest::interest(self.state(bench)).read
    }

    /// A client that sends no more gets the replies to its whole requests. One that waits has gone.
    fn settle_half_closed(&mut self) {
        if self.is_half_closed && (self.wait.is_some() || self.input.len() < self.need) {
            self.end(Ending::Closed);
        }
    }

    /// Finishes the request that is being executed, and begins no other one.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        self.session.stop();
        if !self.is_unfinished {
            self.end(Ending::Stopping);
        }
    }

    /// Executes no further request; the replies that are left are sent.
    pub(super) fn end(&mut self, ending: Ending) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            self.ending = Some(ending);
            self.input = Input::default();
            (self.session, self.wait) = (Box::new(()), None);
        }
    }

    /// Ends the connection at once, with what has not been sent. A change that is half done is
    /// finished without the client: a command is one step. After a panic nothing more is executed.
    pub(super) fn abort(&mut self, ending: Ending) {
        self.ending = match self.ending.take() {
            Some(first) if !matches!(ending, Ending::Broken(_) | Ending::Panicked) => Some(first),
            _ => Some(ending),
        };
        self.phase = Phase::Over;
        self.output.clear();
        if self.half_done > 0 && !matches!(self.ending, Some(Ending::Panicked)) {
            self.phase = Phase::Finishing;
            self.input.truncate(self.half_done);
        }
    }

    /// Ends the connection at once, also in the middle of a change: the daemon stops, and what has
    /// been done of a step without its end is cut by the next start (rule 20).
    pub(super) fn cut(&mut self) {
        self.abort(Ending::Stopping);
        self.phase = Phase::Over;
    }

    /// Executes no further request; the replies that are left are sent if the client reads.
    pub(super) fn kill(&mut self) {
        match self.output.is_blocked() || self.is_unfinished {
            true => self.abort(Ending::Killed),
            false => self.end(Ending::Killed),
        }
    }

    /// Disconnects a client that takes too much memory.
    pub(super) fn shed(&mut self) {
        self.refuse(Ending::TooLarge);
    }

    /// Tells the client that there is no memory for it, if it reads, and disconnects it.
    fn refuse(&mut self, ending: Ending) {
        let is_sending = matches!(self.phase, Phase::Open | Phase::Draining);
        let listens = is_sending && !self.output.is_blocked() && !self.is_unfinished;
        if !listens || self.output.prepare().is_err() {
            return self.abort(ending);
        }
        self.end(ending);
        self.output.push(&mut self.overload.to_vec(), Ticket::default());
    }

    /// Sends what may leave. Returns whether a reply waits for a commit.
    pub(super) fn flush(
        &mut self,
        wire: &mut impl Wire,
        bench: &mut Bench,
        durability: &dyn Durability,
    ) -> bool {
        if self.phase == Phase::Finishing {
            wire.shutdown(Shutdown::Both);
            return false;
        }
        let taken = self.output.taken();
        let flushed = self.output.flush(wire, durability, |buffer| bench.recycle(buffer));
        if self.output.taken() > taken {
            self.active = bench.now;
        }
        match flushed {
            Ok(Flushed::Empty) => self.drained(wire, bench.now),
            Ok(Flushed::Waiting | Flushed::Blocked) => {}
            Err(broken) => self.abort(Ending::Broken(broken)),
        }
        flushed == Ok(Flushed::Waiting)
    }

    /// Everything has been sent.
    fn drained(&mut self, wire: &mut impl Wire, now: Instant) {
        if self.phase == Phase::Draining {
            let is_clean = matches!(self.ending, Some(Ending::Closed | Ending::Idle));
            if is_clean || self.is_half_closed {
                self.phase = Phase::Over;
            } else {
                wire.shutdown(Shutdown::Write);
                self.phase = Phase::Lingering;
                self.linger_until = Some(now + LINGER);
            }
        }
    }

    /// Throws away what a client still sends that has been sent its last reply.
    fn discard(&mut self, wire: &mut impl Wire, bench: &mut Bench) {
        match wire.receive(&mut bench.scratch) {
            Ok(count) if count > 0 => {}
            Err(error) if is_passing(&error) => {}
            _ => self.phase = Phase::Over,
        }
    }

    /// When the connection has to be looked at even if nothing happens: the end of a wait, of
    /// lingering, or of the time in which a client that leaves may take nothing.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let drained_by =
            (self.is_leaving() && self.output.is_blocked()).then(|| self.active + DRAIN);
        self.linger_until.or_else(|| self.wait.as_ref()?.until).or(drained_by)
    }

    /// Whether the client only waits for replies: it sends no further request.
    fn is_leaving(&self) -> bool {
        self.phase == Phase::Draining || self.is_half_closed
    }

    /// The deadline may have come.
    pub(super) fn look_at_deadline(&mut self, bench: &mut Bench) {
        if self.deadline().is_some_and(|deadline| deadline <= bench.now) {
            match self.phase {
                Phase::Lingering => self.phase = Phase::Over,
                _ if self.wait.is_some() => self.wake(bench),
                _ => self.abort(Ending::Broken(Broken::Wire(ErrorKind::TimedOut))),
            }
        }
    }

    /// Why the client is to be disconnected if it may do nothing for `timeout`: it sends no
    /// request, does not finish one, or does not take its replies.
    pub(super) fn overdue(&self, now: Instant, timeout: Duration) -> Option<Ending> {
        let is_over = |since: Instant| now.saturating_duration_since(since) > timeout;
        match (self.phase, self.begun) {
            _ if self.output.is_blocked() && is_over(self.active) => {
                Some(Ending::Broken(Broken::Wire(ErrorKind::TimedOut)))
            }
            (Phase::Open, Some(begun)) if self.wait.is_none() && is_over(begun) => {
                Some(Ending::Slow)
            }
            (Phase::Open, None) if self.is_idle() && is_over(self.active) => Some(Ending::Idle),
            _ => None,
        }
    }

    fn is_idle(&self) -> bool {
        let is_done = self.wait.is_none() && self.output.is_empty();
        is_done && self.need > self.input.len() && !self.session.is_at_work()
    }

    /// Bytes of memory that the client takes beside the connection itself.
    pub(super) fn memory(&self) -> usize {
        self.input.memory() + self.output.memory() + self.session.memory()
    }

    /// Whether the socket is to be closed, and why.
    pub(super) fn over(&self) -> Option<&Ending> {
        self.ending.as_ref().filter(|_| self.phase == Phase::Over)
    }
}

/// Nothing has arrived after all.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
