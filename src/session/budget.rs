//! How much a client gets done before others have their turn.

use crate::queue::Queue;

/// Steps of a turn: about a millisecond.
const TURN: u64 = 4000;

/// What a message costs that is pushed, popped, removed, looked at or not found.
pub const LOOK: u64 = 3;

/// What a slice of preparing a queue for a command costs: of building its index, or of removing its
/// dead messages.
pub const PREPARATION: u64 = 2000;

/// What it costs to drop a queue, which renames its folder: some 20 us.
pub const DROP: u64 = 60;

/// What a transaction costs in each queue on disk that it changes: where its pages have been synced
/// since the last change, the file system has them to account for anew.
pub const QUEUE_IN_STEP: u64 = 50;

/// What it costs to make a queue, which waits for the disk.
pub const NEW_QUEUE: u64 = 2000;

/// What it costs to add up a slice of the queues.
pub const ADD_UP: u64 = 64;

/// Bytes of a body that cost a step beside the message that they are in.
const STEP_BYTES: usize = 512;

/// Steps that it costs to copy `length` bytes.
pub fn bytes(length: usize) -> u64 {
    (length / STEP_BYTES) as u64
}

/// Steps that are left. Work is counted and not timed, so that a session does the same whatever
/// the machine is busy with.
#[derive(Debug)]
pub struct Budget {
    left: u64,
    /// Steps for what is being done; what it does not take lapses.
    aside: u64,
    /// Steps that were taken when nothing was left.
    owed: u64,
    /// What does not fit into it goes on in the next turn.
    pauses: bool,
}

impl Budget {
    /// The steps of a turn.
    pub fn turn() -> Budget {
        Budget { left: TURN, aside: 0, owed: 0, pauses: true }
    }

    /// Steps for work that has to be done in one turn, or not at all.
    pub fn at_once(steps: u64) -> Budget {
        Budget { left: steps, aside: 0, owed: 0, pauses: false }
    }

    /// Takes steps; those that are not there are owed.
    pub fn spend(&mut self, steps: u64) {
        let of_aside = steps.min(self.aside);
        self.aside -= of_aside;
        let steps = steps - of_aside;
        self.owed = self.owed.saturating_add(steps.saturating_sub(self.left));
        self.left = self.left.saturating_sub(steps);
    }

    /// Takes what a message with so long a body costs.
    pub fn look(&mut self, length: usize) {
        self.spend(LOOK);
        self.copy(length);
    }

    /// Returns `work` on a queue that spends what its looks pass.
    pub fn passing<R>(
        &mut self,
        work: impl FnOnce(&mut Queue) -> R,
    ) -> impl FnOnce(&mut Queue) -> R {
        move |queue| {
            let done = work(queue);
            self.spend(queue.take_passed());
            done
        }
    }

    /// Spends what it costs to copy `length` bytes.
    pub fn copy(&mut self, length: usize) {
        self.spend(bytes(length));
    }

    /// Sets more steps aside for what comes next, in place of those for what came before. What is
    /// owed is paid first.
    pub fn set_aside(&mut self, steps: u64) {
        let paid = steps.min(self.owed);
        self.owed -= paid;
        self.aside = steps - paid;
    }

    /// Steps that are left.
    pub fn left(&self) -> u64 {
        self.left.saturating_add(self.aside)
    }

    /// Whether what does not fit goes on in the next turn.
    pub fn pauses(&self) -> bool {
        self.pauses
    }

    /// True when more has been taken than there was.
    pub fn is_overdrawn(&self) -> bool {
        self.owed > 0
    }

    /// True when nothing is left.
    pub fn is_used_up(&self) -> bool {
        self.left() == 0
    }

    /// True when it is the others' turn, and the work can go on in the next one.
    pub fn is_turn_over(&self) -> bool {
        self.pauses && self.is_used_up()
    }

    /// Whether work may begin that cannot stop in the middle where it has to be done at once.
    pub fn affords(&self, steps: u64) -> bool {
        self.pauses || steps <= self.left()
    }
}
