//! What a client's socket is waited for, as a function of the client's state and nothing else.

use super::poller::Interest;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Requests are read and executed.
    Open,
    /// No further request is executed; the replies that are left are sent.
    Draining,
    /// Everything has been sent. What the client still sends is thrown away, so that closing the
    /// socket does not take the last reply from it.
    Lingering,
    /// The client has gone, and a change that it asked for is half done: that is finished.
    Finishing,
    /// The socket is to be closed.
    Over,
}

/// What there is to know of a client between two turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// The client has closed its sending side.
    pub(super) is_half_closed: bool,
    /// There is a request to execute, or to go on with, and room for its reply.
    pub(super) is_runnable: bool,
    /// As much input is kept as may be.
    pub(super) is_input_full: bool,
    /// A reply may leave, and the client has not taken all of it.
    pub(super) is_blocked: bool,
}

/// What the socket is waited for.
///
/// 1. A runnable client is not read from: what it has sent comes first, and TCP holds back the
///    rest. A client that cannot run because its replies are not taken is read from, so that it may
///    write a whole pipeline before it reads.
/// 2. The end of the stream is reported again and again, so a half-closed client is not read from.
/// 3. A socket is waited for until it can be written to only if it refused bytes before.
pub(super) fn interest(state: State) -> Interest {
    let wants_input = match state.phase {
        Phase::Open => !state.is_runnable && !state.is_input_full,
        Phase::Lingering => true,
        Phase::Draining | Phase::Finishing | Phase::Over => false,
    };
    Interest { read: wants_input && !state.is_half_closed, write: state.is_blocked }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_states() -> impl Iterator<Item = State> {
        use Phase::{Draining, Finishing, Lingering, Open, Over};
        let phases = [Open, Draining, Lingering, Finishing, Over];
        phases.into_iter().flat_map(|phase| {
            (0..16_u8).map(move |bits| State {
                phase,
                is_half_closed: bits & 1 != 0,
                is_runnable: bits & 2 != 0,
                is_input_full: bits & 4 != 0,
                is_blocked: bits & 8 != 0,
            })
        })
    }

    #[test]
    fn every_state_has_its_interest() {
        let mut reading = 0;
        for state in all_states() {
            let Interest { read, write } = interest(state);
            assert_eq!(write, state.is_blocked, "{state:?}");
            assert!(!(read && state.is_half_closed), "{state:?} would spin at the end of stream");
            let wanted = matches!(
                state,
                State { phase: Phase::Open, is_runnable: false, is_input_full: false, .. }
                    | State { phase: Phase::Lingering, .. }
            );
            assert_eq!(read, wanted && !state.is_half_closed, "{state:?}");
            reading += usize::from(read);
        }
        assert_eq!(reading, 2 + 8);
    }

    /// Nothing but its socket wakes a client that is open and has nothing to run.
    #[test]
    fn no_state_waits_for_nothing() {
        for state in all_states().filter(|state| state.phase == Phase::Open) {
            let Interest { read, write } = interest(state);
            let is_awaited = read || write || state.is_runnable;
            // Both need what `is_blocked` stands for, or end at once.
            let is_elsewhere = state.is_half_closed || state.is_input_full;
            assert!(is_awaited || is_elsewhere, "{state:?}");
        }
    }
}
