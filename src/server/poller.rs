//! Readiness: which sockets of a worker can be read from or written to.
//!
//! The only file that knows the kernel's interface for it (epoll, level-triggered, and an eventfd
//! that ends the wait from another thread). It knows descriptors and keys, and nothing of clients.

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::{Errno, read, write};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Sockets that one call reports at most; the others come with the next call.
const EVENTS: usize = 512;

/// The key of the eventfd.
const WAKE: u64 = u64::MAX;

/// What a socket is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interest {
    /// Bytes to read, or the end of the stream.
    pub(super) read: bool,
    /// Room for bytes to send.
    pub(super) write: bool,
}

/// What has become of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ready {
    /// What the socket was registered under.
    pub(super) key: u64,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// An error, or both directions are closed: nothing can be sent any more. It is reported
    /// whatever the socket is waited for.
    pub(super) broken: bool,
}

/// The sockets of one worker.
pub(super) struct Poller {
    epoll: OwnedFd,
    wake: OwnedFd,
}

/// Ends the wait of a [`Poller`] from another thread.
pub(super) struct Waker(OwnedFd);

impl Poller {
    pub(super) fn new() -> io::Result<Poller> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Poller { epoll, wake })
    }

    /// Makes every wait fail.
    #[cfg(test)]
    pub(super) fn spoil(&mut self) {
        self.epoll = self.wake.try_clone().unwrap();
    }

    pub(super) fn wake(&self) -> io::Result<Waker> {
        Ok(Waker(self.wake.try_clone()?))
    }

    /// Waits for `socket` under `key` until it is closed.
    pub(super) fn add(&self, socket: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(key), flags(interest))?)
    }

    /// Changes what a registered socket is waited for.
    pub(super) fn modify(&self, socket: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, socket, EventData::new_u64(key), flags(interest))?)
    }

    /// Waits until a socket is ready, [`Waker`] is used or `timeout` has passed (`None`: for ever),
    /// and replaces `ready` by what was found.
    pub(super) fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        // A timeout beyond what the system can express is as good as none.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut events = [MaybeUninit::<Event>::uninit(); EVENTS];
        let events = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in events {
            let (key, flags) = (event.data.u64(), event.flags);
            if key == WAKE {
                // It is not read to its end only if somebody wakes again meanwhile.
                let _ = read(&self.wake, &mut [0; 8]);
                continue;
            }
            ready.push(Ready {
                key,
                readable: flags.contains(EventFlags::IN),
                writable: flags.contains(EventFlags::OUT),
                broken: flags.intersects(EventFlags::ERR | EventFlags::HUP),
            });
        }
        Ok(())
    }
}

impl Waker {
    pub(super) fn wake(&self) {
        // Any number but 0 will do. It fails only if the sum is too large, and then the poller is
        // awake.
        let _ = write(&self.0, &[1, 0, 0, 0, 0, 0, 0, 0]);
    }
}

fn flags(interest: Interest) -> EventFlags {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN, interest.read);
    flags.set(EventFlags::OUT, interest.write);
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::thread;

    const READ: Interest = Interest { read: true, write: false };
    const NOTHING: Interest = Interest { read: false, write: false };

    fn wait(poller: &Poller, timeout: Option<Duration>) -> Vec<Ready> {
        let mut ready = Vec::new();
        poller.wait(timeout, &mut ready).unwrap();
        ready
    }

    #[test]
    fn a_socket_is_reported_for_what_it_is_waited_for() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&ours, 7, READ).unwrap();
        assert_eq!(wait(&poller, Some(Duration::ZERO)), []);
        theirs.write_all(b"x").unwrap();
        let readable = Ready { key: 7, readable: true, ..Ready::default() };
        assert_eq!(wait(&poller, None), [readable]);
        assert_eq!(wait(&poller, None), [readable], "it is still readable");
        poller.modify(&ours, 7, Interest { read: false, write: true }).unwrap();
        let writable = Ready { key: 7, writable: true, ..Ready::default() };
        assert_eq!(wait(&poller, None), [writable]);
        poller.modify(&ours, 7, NOTHING).unwrap();
        assert_eq!(wait(&poller, Some(Duration::ZERO)), []);
        drop(theirs);
        assert_eq!(wait(&poller, None), [Ready { key: 7, broken: true, ..Ready::default() }]);
        drop(ours);
        assert_eq!(wait(&poller, Some(Duration::ZERO)), [], "a closed socket is gone");
    }

    #[test]
    fn a_wait_ends_when_another_thread_wakes_it() {
        let poller = Poller::new().unwrap();
        let wake = poller.wake().unwrap();
        let waking = thread::spawn(move || {
            wake.wake();
            wake
        });
        assert_eq!(wait(&poller, None), []);
        let wake = waking.join().unwrap();
        wake.wake();
        wake.wake();
        assert_eq!(wait(&poller, None), []);
        assert_eq!(wait(&poller, Some(Duration::ZERO)), []);
    }
}
