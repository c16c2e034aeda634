//! How far long work has come: one line on standard error, which is rewritten, and only on a
//! terminal. It appears when nothing else has been written for a while.

use crate::text::Size;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often the line is rewritten.
const INTERVAL: Duration = Duration::from_millis(200);

/// How long nothing else must have been written.
const SILENCE: Duration = Duration::from_millis(500);

/// Columns that are written over.
const WIDTH: usize = 72;

/// Bytes that are done so far.
pub type Done = Box<dyn Fn() -> u64 + Send>;

struct Work {
    doing: String,
    done: Done,
    total: u64,
}

struct State {
    work: Option<Work>,
    is_drawn: bool,
    last_written: Instant,
}

/// The line, or nothing where there is no terminal.
#[derive(Clone)]
pub struct Progress(Option<Arc<Mutex<State>>>);

impl Progress {
    /// Starts to look whether there is something to show.
    pub fn start() -> Progress {
        if !io::stderr().is_terminal() {
            return Progress(None);
        }
        let state = State { work: None, is_drawn: false, last_written: Instant::now() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        // It ends with the process.
        let spawned = thread::Builder::new().name("progress".into()).spawn(move || {
            loop {
                thread::sleep(INTERVAL);
                lock(&shared).draw();
            }
        });
        Progress(spawned.is_ok().then_some(state))
    }

    /// Work on `total` bytes begins; 0 if the number is unknown.
    pub fn begin(&self, doing: impl fmt::Display, total: u64, done: Done) {
        if let Some(state) = &self.0 {
            lock(state).work = Some(Work { doing: doing.to_string(), done, total });
        }
    }

    /// Work on `total` bytes begins, which are counted in what this answers.
    pub fn count(&self, doing: impl fmt::Display, total: u64) -> Arc<AtomicU64> {
        let done = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&done);
        self.begin(doing, total, Box::new(move || shown.load(Ordering::Relaxed)));
        done
    }

    /// The work is done, or something is to be written: the line goes.
    pub fn clear(&self) {
        if let Some(state) = &self.0 {
            lock(state).clear();
        }
    }

    /// The work is done.
    pub fn end(&self) {
        if let Some(state) = &self.0 {
            let mut state = lock(state);
            state.work = None;
            state.clear();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn draw(&mut self) {
        let Some(work) = self.work.as_ref().filter(|_| self.last_written.elapsed() >= SILENCE)
        else {
            return;
        };
        let Work { doing, done, total } = work;
        let done = done();
        let percent = (u128::from(done.min(*total)) * 100).checked_div(u128::from(*total));
        let line = match percent {
            Some(percent) => format!("{doing}: {percent}% of {}", Size(*total)),
            None => format!("{doing}: {}", Size(done)),
        };
        // Whatever is written next begins where this began.
        let _ = write!(io::stderr(), "{line:<WIDTH$.WIDTH$}\r");
        self.is_drawn = true;
    }

    fn clear(&mut self) {
        self.last_written = Instant::now();
        if std::mem::take(&mut self.is_drawn) {
            let _ = write!(io::stderr(), "{:WIDTH$}\r", "");
        }
    }
}

/// Standard output, which takes the line away before it writes.
pub struct Output {
    progress: Progress,
}

impl Output {
    /// Buffered: by lines on a terminal, where somebody waits for them.
    pub fn buffered(progress: Progress) -> Box<dyn Write> {
        let output = Output { progress };
        match io::stdout().is_terminal() {
            true => Box::new(io::LineWriter::new(output)),
            false => Box::new(io::BufWriter::new(output)),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.progress.clear();
        io::stdout().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}
