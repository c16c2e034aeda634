//! Queues that are closed until the next start: as a whole, because they could not be opened or a
//! panic has left them half-changed, or for writing, because a sync has failed.

use super::queues::Queues;
use super::single::Queue;
use super::slot::Slot;

impl Queues {
    /// The names of `most` queues that are closed until the next start, and that others are not: a
    /// failure of the data directory, which closes all, names none.
    pub fn closed(&self, most: usize) -> Vec<Box<[u8]>> {
        self.slots().census.closed().values().take(most).cloned().collect()
    }

    /// Names the queue in `slot` from now on if it is closed; housekeeping does that.
    pub(super) fn note_closed(&self, slot: &Slot) {
        if self.backing.is_closed() {
            return;
        }
        match slot.lock() {
            Err(why) => {
                if slot.name_closed() {
                    log::error!("{why}");
                    self.backing.count_closed();
                }
            }
            Ok(mut state) => {
                let closes = |queue: &mut Queue| queue.store().check_writable().is_err();
                if state.queue.as_mut().is_some_and(closes) {
                    // The store has said why. Under the lock, or it may have gone meanwhile.
                    slot.name_closed();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::queue::{
        Changes, DiskBacking, Durability, Limits, NewMessage, Policy, Queue, QueueError, Queues,
        ReplyVerdict, Slice, StepSize, Target, Ticket,
    };
    use crate::storage::DataDirectory;
    use std::fs;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;

    fn queues(path: &Path) -> Queues {
        let directory = DataDirectory::open(path, 16 * 1024, true).unwrap();
        let limits = Limits { max_queues: 10, max_queue_len: u64::MAX };
        Queues::open(Box::new(DiskBacking::new(directory)), limits, Policy::Always).unwrap()
    }

    fn push(queue: &mut Queue, body: &[u8]) -> Result<(), QueueError> {
        queue.push(&NewMessage { body, flags: 0, expires_ms: 0 })
    }

    fn push_to(queues: &Queues, name: &[u8], body: &[u8]) -> Result<Ticket, QueueError> {
        let mut ticket = Ticket::default();
        queues.create(name, &mut ticket, |queue| push(queue, body))?;
        Ok(ticket)
    }

    fn len(queues: &Queues, name: &[u8]) -> Result<Option<u64>, QueueError> {
        queues.find(name, &mut Ticket::default(), |queue| Ok(queue.len()))
    }

    /// Queue `q` is closed as a whole, and what was done to it before is durable; the other one
    /// works, and after a start both do.
    fn expect_broken(queues: Queues, path: &Path, before: &Ticket) {
        queues.commit();
        assert_eq!(queues.verdict(before), ReplyVerdict::Leave);
        for _ in 0..2 {
            assert!(push_to(&queues, b"q", b"later").is_err() && len(&queues, b"q").is_err());
            assert!(queues.figures(b"q").is_err());
            push_to(&queues, b"other", b"m").unwrap();
            while queues.tidy() {}
            queues.rest_idle();
            assert_eq!(queues.closed(9), [(*b"q").into()]);
        }
        assert!(queues.statistics(&queues.sums()).contains(&("closed_queues", 1)));
        drop(queues);
        let queues = self::queues(path);
        assert_eq!((len(&queues, b"q"), len(&queues, b"other")), (Ok(Some(1)), Ok(Some(2))));
        assert!(queues.closed(9).is_empty());
        push_to(&queues, b"q", b"later").unwrap();
    }

    /// The half that had been done was ended like a step, and was there after a start.
    #[test]
    fn rule_20_a_panic_between_two_slices_of_a_command_leaves_nothing_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let queues = queues(folder.path());
        let before = push_to(&queues, b"q", b"before").unwrap();
        let mut claim = None;
        let target = Target { queues: &queues, name: b"q", lent: None, in_transaction: false };
        let slice = target.create_sliced(&mut claim, &mut Ticket::default(), |queue| {
            queue.begin_pushing([&b"first"[..], b"second"].into_iter())?;
            push(queue, b"first")?;
            Ok(Slice::<()>::More)
        });
        assert!(matches!(slice, Ok(Slice::More)));
        // With the session of the client whose command panics.
        drop(claim);
        expect_broken(queues, folder.path(), &before);
    }

    /// The same in a transaction.
    #[test]
    fn rule_20_a_panic_in_a_transaction_leaves_nothing_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let queues = queues(folder.path());
        let before = push_to(&queues, b"q", b"before").unwrap();
        let size = StepSize { pushes: 2, pushed_bytes: 9, ..StepSize::default() };
        let changes = [(&b"q"[..], Changes { size, drops: false })];
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut ticket = Ticket::default();
            let _steps = queues.begin_transaction(changes.into_iter(), &mut ticket).unwrap();
            push_to(&queues, b"q", b"first").unwrap();
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        expect_broken(queues, folder.path(), &before);
    }

    /// A queue that a failure has closed for writing was in no list.
    #[test]
    fn rule_17_a_queue_that_closes_while_running_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let queues = queues(folder.path());
        push_to(&queues, b"other", b"m").unwrap();
        push_to(&queues, b"q", b"m").unwrap();
        assert!(!queues.figures(b"q").unwrap().unwrap().is_closed);
        fs::remove_dir_all(folder.path().join("q-q")).unwrap();
        for _ in 0..2 {
            while queues.tidy() {}
            assert_eq!(queues.closed(9), [(*b"q").into()]);
        }
        let figures = queues.figures(b"q").unwrap().unwrap();
        assert!(figures.is_closed && figures.length == 1);
        assert!(!queues.figures(b"other").unwrap().unwrap().is_closed);
    }

    /// Its name stood in the list for ever, and twice after a second failure.
    #[test]
    fn rule_17_a_closed_queue_that_is_dropped_is_not_named_any_more() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        let (home, aside) = (path.join("q-q"), root.path().join("aside"));
        let queues = queues(&path);
        for _ in 0..2 {
            push_to(&queues, b"q", b"m").unwrap();
            fs::rename(&home, &aside).unwrap();
            while queues.tidy() {}
            assert_eq!(queues.closed(9), [(*b"q").into()]);
            fs::rename(&aside, &home).unwrap();
            assert!(push_to(&queues, b"q", b"n").is_err());
            assert_eq!(queues.drop_queue(b"q", &mut Ticket::default()), Ok(true));
            assert!(queues.closed(9).is_empty());
        }
        push_to(&queues, b"q", b"m").unwrap();
        while queues.tidy() {}
        assert!(queues.closed(9).is_empty());
    }
}
