//! Steps of one queue: a command that names several messages does all or nothing, also over a
//! crash, on a full disk and at a limit (rule 20).
//!
//! A step begins before a command's first change and ends with the command, which is executed to
//! its end also if its client goes meanwhile. It begins only if there is room for all that it may
//! do, so nothing in it fails for want of room. The log keeps room for the removal of each message.
//! Where a full disk has no segment with room for those of one command, the command is refused, and
//! one that pops takes a single message.
//! There is no room for messages that are dead: those leave before, and while there are too many of
//! them the answer is [`Busy`](QueueError::Busy).

use super::figures::Totals;
use super::single::Queue;
use super::{Place, QueueError, StepSize};
use std::collections::HashSet;

/// Messages of one command that are counted one by one where there may not be room for all: looking
/// for more would take long.
const COUNTED: u64 = 1000;

impl Queue {
    /// Begins a step that pushes those of these messages that are not in the queue, if none has
    /// begun. A command of more than [`COUNTED`] needs room for all that it names.
    pub fn begin_pushing<'a>(
        &mut self,
        bodies: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<(), QueueError> {
        if self.step.is_some() {
            return Ok(());
        }
        self.store.check_writable()?;
        let all = pushing(bodies.clone());
        match self.begin_if_it_fits(&all) {
            Err(error) if error.is_want_of_room() && all.pushes <= COUNTED => {}
            begun => return begun,
        }
        let (mut new, mut seen) = (Vec::new(), HashSet::new());
        for body in bodies {
            if seen.insert(body) && !self.contains(body)? {
                new.push(body);
            }
        }
        self.begin_if_it_fits(&pushing(new.into_iter()))
    }

    /// Begins a step that removes at most `count` messages, if none has begun. One message is a
    /// step of its own.
    pub fn begin_removing(&mut self, count: u64) -> Result<(), QueueError> {
        let removals = count.min(self.held());
        if removals < 2 {
            return Ok(());
        }
        self.begin_step(&StepSize { removals, ..StepSize::default() })
    }

    /// Begins a step that pops at most `count` messages, if none has begun. Returns how many may be
    /// popped: `count`, or 1 if a full disk has no room for the step.
    pub fn begin_popping(&mut self, count: u64) -> Result<u64, QueueError> {
        // Dead ones that could not leave are in their way.
        let pops = count.min(self.len()).saturating_add(self.expiring.dead());
        or_one(self.begin_step(&self.popping(pops.min(self.store.len()))), count)
    }

    /// The same for `count` messages of which one is hidden: it has been handed to the client.
    pub fn begin_popping_handed(&mut self, count: u64) -> Result<u64, QueueError> {
        or_one(self.begin_removing(count), count)
    }

    /// The size of a step that takes the oldest messages that clients see: where some before them
    /// are hidden, they go by their places.
    pub(super) fn popping(&self, count: u64) -> StepSize {
        match self.hidden.is_empty() {
            true => StepSize { pops: count, ..StepSize::default() },
            false => StepSize { removals: count, ..StepSize::default() },
        }
    }

    fn begin_if_it_fits(&mut self, size: &StepSize) -> Result<(), QueueError> {
        if size.pushes > 0 {
            self.check_places(size.pushes)?;
        }
        self.begin_step(size)
    }

    fn begin_step(&mut self, size: &StepSize) -> Result<(), QueueError> {
        if self.step.is_some() {
            return Ok(());
        }
        // That of a transaction has room for those of its commands.
        if self.transaction.is_none() {
            self.bury_before_step()?;
            self.store.begin_step(size)?;
        }
        self.step = Some(self.totals());
        Ok(())
    }

    /// Takes back what the step has pushed, as there is no memory for the rest of it. A store that
    /// is not in memory has no such step.
    pub(super) fn take_back(&mut self) -> Result<(), QueueError> {
        let Some(before) = self.step else { return Ok(()) };
        for sequence in self.store.end() - (self.totals.came - before.came)..self.store.end() {
            self.store.remove(Place { sequence, position: 0 })?;
            self.totals.came -= 1;
        }
        Ok(())
    }

    /// Whether what is done is part of a step.
    pub(super) fn is_in_step(&self) -> bool {
        self.step.is_some() || self.transaction.is_some()
    }

    /// Whether a crash would undo what a command has changed, and no transaction is to end it.
    pub(super) fn is_half_done(&self) -> bool {
        // What died of age on the way is gone in any case.
        let live = |totals: Totals| (totals.came, totals.went);
        let has_changed = self.step.is_some_and(|before| live(before) != live(self.totals()));
        has_changed && self.transaction.is_none() && self.store.is_in_step()
    }

    /// Ends the step, if one has begun.
    pub fn end_step(&mut self) -> Result<(), QueueError> {
        let Some(before) = self.step.take() else { return Ok(()) };
        // The next client waits until it is durable.
        self.changed |= self.totals() != before;
        if self.transaction.is_some() { Ok(()) } else { self.store.end_step() }
    }
}

/// How many of `count` messages may be popped. A single pop is a step of its own, which a full disk
/// does not refuse.
fn or_one(begun: Result<(), QueueError>, count: u64) -> Result<u64, QueueError> {
    match begun {
        Ok(()) => Ok(count),
        Err(QueueError::DiskFull(_)) => Ok(count.min(1)),
        Err(error) => Err(error),
    }
}

fn pushing<'a>(bodies: impl Iterator<Item = &'a [u8]>) -> StepSize {
    bodies.fold(StepSize::default(), |size, body| StepSize {
        pushes: size.pushes + 1,
        pushed_bytes: size.pushed_bytes + body.len() as u64,
        ..size
    })
}

#[cfg(test)]
mod tests {
    use crate::queue::{
        Backing, Changes, DiskBacking, Lease, Limits, NewMessage, Policy, Queue, QueueError,
        Queues, StepSize, Ticket,
    };
    use crate::storage::{DataDirectory, set_disk_full};
    use std::fs::{self, File};
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    fn backing(path: &Path) -> Box<DiskBacking> {
        Box::new(DiskBacking::new(DataDirectory::open(path, 16 * 1024, true).unwrap()))
    }

    fn queues(path: &Path) -> Queues {
        let limits = Limits { max_queues: 10, max_queue_len: u64::MAX };
        Queues::open(backing(path), limits, Policy::Never).unwrap()
    }

    fn push(queues: &Queues, name: &[u8], body: &[u8]) {
        let message = NewMessage { body, flags: 0, expires_ms: 0 };
        queues.create(name, &mut Ticket::default(), |queue| queue.push(&message)).unwrap();
    }

    fn on<R>(queues: &Queues, work: impl FnOnce(&mut Queue) -> Result<R, QueueError>) -> R {
        queues.find(b"q", &mut Ticket::default(), work).unwrap().unwrap()
    }

    /// They all want their records in one segment. They were removed one by one where no segment
    /// had so much room, and a crash left some of them.
    #[test]
    fn on_a_full_disk_removals_are_one_step_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = backing(folder.path()).create(b"q").unwrap();
        let mut queue = Queue::new(1, store, Arc::new(u64::MAX.into()));
        for number in 0..3000 {
            let body = if number % 3 == 0 { "other" } else { "same" };
            let message = NewMessage { body: body.as_bytes(), flags: 0, expires_ms: 0 };
            queue.push(&message).unwrap();
        }
        while !queue.store().prepare_find().unwrap() {}
        set_disk_full(true);
        let refused = queue.begin_removing(2000);
        assert!(matches!(refused, Err(QueueError::DiskFull(_))), "{refused:?}");
        let lease = Lease { attempt: 1, until: Duration::MAX };
        queue.lease(lease, |_| Ok(())).unwrap().unwrap();
        assert_eq!(queue.begin_popping(2000), Ok(1));
        assert_eq!(queue.begin_popping_handed(2000), Ok(1));
        assert!(!queue.is_in_step());
        assert!(queue.pop(|_| ()).unwrap().is_some());
        assert_eq!(queue.remove(b"same"), Ok(1999), "one by one there is room for all");
        set_disk_full(false);
        queue.begin_removing(999).unwrap();
        assert!(queue.is_in_step());
        assert_eq!(queue.remove(b"other"), Ok(999));
        queue.end_step().unwrap();
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn what_was_there_at_the_start_counts_as_what_came() {
        let folder = tempfile::tempdir().unwrap();
        let before = queues(folder.path());
        (0..3).for_each(|_| push(&before, b"q", b"m"));
        drop(before);
        let queues = queues(folder.path());
        assert_eq!(queues.came(), 3);
        push(&queues, b"r", b"m");
        on(&queues, |queue| queue.pop(|_| ()));
        assert_eq!(queues.came(), 4);
    }

    /// The other queues that a transaction dropped were gone, although it was answered with an
    /// error.
    #[test]
    fn a_drop_of_several_that_fails_for_one_in_a_transaction_dooms_none() {
        let folder = tempfile::tempdir().unwrap();
        let queues = queues(folder.path());
        push(&queues, b"other", b"m");
        (0..30).for_each(|_| push(&queues, b"q", &[7; 1000]));
        let size = StepSize { pushes: 1, pushed_bytes: 1, ..StepSize::default() };
        let changes = [(&b"q"[..], Changes { size, drops: true })];
        let mut ticket = Ticket::default();
        let steps = queues.begin_transaction(changes.into_iter(), &mut ticket).unwrap();
        let first = fs::read_dir(folder.path().join("q-q")).unwrap().map(|it| it.unwrap().path());
        File::options().write(true).open(first.min().unwrap()).unwrap().set_len(0).unwrap();
        let names = [&b"other"[..], b"q"].into_iter();
        let doomed = queues.doom(names, &mut ticket, &mut Default::default());
        assert!(doomed.is_err(), "its first messages cannot be read");
        let other = queues.find(b"other", &mut ticket, |queue| Ok(queue.len()));
        assert_eq!(other, Ok(Some(1)));
        drop(steps);
    }
}
