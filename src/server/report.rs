//! The log line of a connection that has ended.

use super::connection::Ending;
use super::output::Broken;
use crate::logging;
use crate::session::Close;
use log::{Level, debug, error};
use std::fmt::{Arguments, Display};
use std::net::SocketAddr;

const NO_MEMORY: &str = "the system has no memory for it";

/// Says why client `id` has gone.
pub(super) fn report(protocol: &str, id: u64, peer: SocketAddr, ending: &Ending) {
    let name = format_args!("{protocol} client {id} at {peer}");
    match ending {
        Ending::Closed => debug!("{name}: closed by the client"),
        Ending::Session(close) => report_close(name, *close),
        Ending::Idle => debug!("{name}: closed, idle"),
        Ending::Slow => debug!("{name}: closed, its request was not whole in time"),
        Ending::Stopping => debug!("{name}: closed, the daemon stops"),
        Ending::Killed => debug!("{name}: closed by another client"),
        Ending::TooLarge => {
            let why = "all clients take too much memory and it takes most of it";
            report_overload(name, why);
        }
        Ending::NoMemory => report_overload(name, NO_MEMORY),
        Ending::Broken(Broken::NotDurable) => {
            let line =
                format_args!("{name}: closed without a reply, what it would say is not on disk");
            logging::limited(Level::Error, "not on disk", line);
        }
        Ending::Broken(broken) => debug!("{name}: closed, replies cannot be sent: {broken:?}"),
        Ending::Failed(error) => debug!("{name}: closed: {error}"),
        Ending::Stuck => error!("{name}: closed, its session makes no progress"),
        Ending::Panicked => error!("{name}: closed after a panic"),
    }
}

fn report_overload(name: Arguments<'_>, why: &str) {
    let line = format_args!("{name}: closed, {why}");
    logging::limited(Level::Warn, "memory of clients", line);
}

/// Anybody who can connect can cause these lines, as often as they like.
fn report_close(name: Arguments<'_>, close: Close) {
    let warn = |kind, what: &dyn Display| {
        logging::limited(Level::Warn, kind, format_args!("{name}: closed, {what}"));
    };
    match close {
        Close::Quit => debug!("{name}: quit"),
        Close::Framing => warn("not the protocol", &"not the protocol"),
        Close::TooLarge { limit } => {
            let what = "a message or request is larger than --max-message allows";
            warn("too large", &format_args!("{what}, the limit is {limit} bytes"));
        }
        Close::NoMemory => report_overload(name, NO_MEMORY),
        Close::Foreign(protocol) => {
            warn("another protocol", &format_args!("it speaks {protocol}"));
        }
    }
}
