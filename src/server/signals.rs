//! The signals that stop the daemon: SIGTERM and SIGINT.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::thread;

/// The wish of the outside world that the daemon stops.
pub struct StopSignals(Signals);

impl StopSignals {
    /// From now on the two signals do not end the process by themselves.
    pub fn new() -> io::Result<StopSignals> {
        Signals::new([SIGTERM, SIGINT]).map(StopSignals)
    }

    /// Waits for the first signal. A second one ends the process at once with status 1.
    pub fn wait(mut self) {
        self.0.forever().next();
        let impatient = move || {
            if self.0.forever().next().is_some() {
                std::process::exit(1);
            }
        };
        if let Err(error) = thread::Builder::new().name("signals".into()).spawn(impatient) {
            log::warn!("a second signal will not be heard: {error}");
        }
    }
}
