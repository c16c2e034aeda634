//! The signals that stop the daemon, SIGTERM and SIGINT, and those that must not.

use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;
use std::io;
use std::thread;

/// Signals that end a process which does not catch them, and mean nothing here: a terminal that was
/// closed, a habit from another daemon ("reopen the log"), a file that would grow over a limit,
/// which is an error of that write. What is kept in memory alone would be lost. The runtime of the
/// language has SIGPIPE ignored.
const PASSED_OVER: [i32; 4] = [SIGHUP, SIGUSR1, SIGUSR2, SIGXFSZ];

const STOP: [i32; 2] = [SIGTERM, SIGINT];

/// The wish of the outside world that the daemon stops.
pub struct StopSignals(Signals);

impl StopSignals {
    /// From now on none of these signals ends the process by itself.
    pub fn new() -> io::Result<StopSignals> {
        Signals::new(STOP.iter().chain(&PASSED_OVER)).map(StopSignals)
    }

    /// Waits for the first signal that stops the daemon and returns its name. A second one ends the
    /// process at once with status 1.
    pub fn wait(mut self) -> &'static str {
        let name = self.next_stop();
        let impatient = move || {
            self.next_stop();
            std::process::exit(1);
        };
        if let Err(error) = thread::Builder::new().name("signals".into()).spawn(impatient) {
            log::warn!("a second signal will not be heard: {error}");
        }
        name
    }

    fn next_stop(&mut self) -> &'static str {
        for signal in self.0.forever() {
            let name = signal_name(signal).unwrap_or("a signal");
            if STOP.contains(&signal) {
                return name;
            }
            log::debug!("{name} is passed over");
        }
        // The iterator ends when somebody closes it, and nobody does.
        "the end of all signals"
    }
}
