//! Rules 7, 9, 13 and 17: what happens to queues while they are synced.

use super::bench::*;
use crate::common::GUARD;
use mq::queue::{
    Backing, Durability, Limits as QueueLimits, Message, MessageStore, NamedStore, NewMessage,
    Place, Policy, Queue, QueueError, Queues, ReplyVerdict, Ticket,
};
use mq::storage::{DataDirectory, SyncPoint, SyncWork};
use std::sync::{Arc, Condvar, Mutex};
use std::{io, thread};
use tempfile::TempDir;

/// Where syncs wait until so many are under way.
struct Meeting {
    wanted: usize,
    come: Mutex<usize>,
    changed: Condvar,
    /// How often a log was let go.
    rests: Mutex<usize>,
}

impl Meeting {
    fn attend(&self) -> io::Result<()> {
        let mut come = self.come.lock().unwrap();
        *come += 1;
        self.changed.notify_all();
        let (_come, waited) =
            self.changed.wait_timeout_while(come, GUARD, |come| *come < self.wanted).unwrap();
        if waited.timed_out() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Waits until so many syncs are under way.
    fn wait_for(&self, syncs: usize) {
        let come = self.come.lock().unwrap();
        let (come, _) = self.changed.wait_timeout_while(come, GUARD, |come| *come < syncs).unwrap();
        assert_eq!(*come, syncs, "the syncs are under way");
    }
}

/// A log whose syncs wait for each other: on a real device nobody sees how many are under way.
struct MeetingLog {
    log: mq::storage::Log,
    directory: Arc<DataDirectory>,
    meeting: Arc<Meeting>,
}

impl MessageStore for MeetingLog {
    fn len(&self) -> u64 {
        self.log.len()
    }

    fn bytes(&self) -> u64 {
        self.log.live_bytes()
    }

    fn identity(&self) -> u64 {
        self.log.next_sequence()
    }

    fn end(&self) -> u64 {
        self.log.next_sequence()
    }

    fn push(&mut self, message: &NewMessage<'_>, pushed_ms: u64) -> Result<Place, QueueError> {
        Ok(self.log.push(message, pushed_ms)?)
    }

    fn next(&mut self, from: u64) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        Ok(self.log.next(from)?)
    }

    fn promise_removal(&mut self, place: Place) -> Result<(), QueueError> {
        Ok(self.log.promise_removal(place)?)
    }

    fn withdraw_promise(&mut self, place: Place) {
        self.log.withdraw_promise(place);
    }

    fn remove(&mut self, place: Place) -> Result<(), QueueError> {
        Ok(self.log.remove(place)?)
    }

    fn at(&mut self, place: Place) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        Ok(self.log.at(place)?)
    }

    fn find(
        &mut self,
        body: &[u8],
        wanted: &dyn Fn(&Message<'_>) -> bool,
    ) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        Ok(self.log.find_if(body, wanted)?)
    }

    fn count_equal(
        &mut self,
        body: &[u8],
        from: &mut Option<u64>,
        most: u64,
    ) -> Result<u64, QueueError> {
        Ok(self.log.count_equal(body, from, most)?)
    }

    fn is_dirty(&self) -> bool {
        self.log.is_dirty()
    }

    fn begin_sync(&mut self) -> Option<(SyncWork, SyncPoint)> {
        let (work, point) = self.log.begin_sync()?;
        let meeting = Arc::clone(&self.meeting);
        Some((Box::new(move || meeting.attend().and_then(|()| work())), point))
    }

    fn end_sync(&mut self, point: SyncPoint, outcome: &io::Result<()>) {
        self.log.end_sync(point, outcome);
    }

    fn rest(&mut self) {
        self.log.rest();
        *self.meeting.rests.lock().unwrap() += 1;
    }

    fn discard(&mut self) -> Result<(), QueueError> {
        Ok(self.directory.begin_drop(&mut self.log)?)
    }
}

struct MeetingBacking {
    directory: Arc<DataDirectory>,
    meeting: Arc<Meeting>,
}

impl Backing for MeetingBacking {
    fn existing(&self) -> Result<Vec<NamedStore>, QueueError> {
        Ok(Vec::new())
    }

    fn create(&self, name: &[u8]) -> Result<Box<dyn MessageStore>, QueueError> {
        let (directory, meeting) = (Arc::clone(&self.directory), Arc::clone(&self.meeting));
        Ok(Box::new(MeetingLog { log: directory.create_log(name)?, directory, meeting }))
    }

    fn settle(&self) -> Result<(), QueueError> {
        Ok(self.directory.settle_drops()?)
    }

    fn statistics(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

fn meet(wanted: usize, policy: Policy) -> (TempDir, Arc<Meeting>, Queues) {
    let root = TempDir::new().unwrap();
    let directory = Arc::new(open_directory(root.path(), 1 << 20, true).unwrap());
    let meeting = Meeting {
        wanted,
        come: Mutex::default(),
        changed: Condvar::new(),
        rests: Mutex::default(),
    };
    let meeting = Arc::new(meeting);
    let backing = Box::new(MeetingBacking { directory, meeting: Arc::clone(&meeting) });
    let limits = QueueLimits { max_queues: 100, max_queue_len: u64::MAX };
    (root, meeting, Queues::open(backing, limits, policy).unwrap())
}

/// A queue that was let go while it was dirty needed a descriptor for its sync at the stop, and was
/// closed with an error where there was none.
#[test]
fn rule_07_an_idle_queue_is_synced_before_it_is_let_go() {
    let (_root, meeting, queues) = meet(1, Policy::Never);
    let push = |queue: &mut Queue| queue.push(&new_message(b"m"));
    queues.create(b"q", &mut Ticket::default(), push).unwrap();
    let syncs = || *meeting.come.lock().unwrap();
    queues.rest_idle();
    assert_eq!(syncs(), 0, "it was in use");
    queues.rest_idle();
    assert_eq!(syncs(), 1);
    queues.rest_idle();
    assert!(queues.close());
    assert_eq!(syncs(), 1, "nothing was left to sync");
}

/// It was unmapped, and the next sync of its file knew nothing of one before that failed.
#[test]
fn rule_09_a_queue_is_not_let_go_while_it_is_synced() {
    let (_root, meeting, queues) = meet(2, Policy::Always);
    let push = |queue: &mut Queue| queue.push(&new_message(b"m"));
    let mut ticket = Ticket::default();
    queues.create(b"q", &mut ticket, push).unwrap();
    queues.rest_idle();
    let rests = || *meeting.rests.lock().unwrap();
    thread::scope(|scope| {
        let commit = scope.spawn(|| queues.commit());
        meeting.wait_for(1);
        queues.rest_idle();
        assert_eq!(rests(), 0);
        meeting.attend().unwrap();
        commit.join().unwrap();
        assert_eq!(queues.verdict(&ticket), ReplyVerdict::Leave);
    });
    queues.rest_idle();
    assert_eq!(rests(), 1);
}

/// It was removed from its source at once, and lost if the sync of its target then failed.
#[test]
fn rule_13_a_message_that_is_moved_to_its_equal_waits_for_the_sync_of_that() {
    let (_root, meeting, queues) = meet(3, Policy::Always);
    let push = |queue: &mut Queue| queue.push(&new_message(b"m"));
    for name in [b"a", b"b"] {
        queues.create(name, &mut Ticket::default(), push).unwrap();
    }
    let mut ticket = Ticket::default();
    thread::scope(|scope| {
        let commit = scope.spawn(|| queues.commit());
        meeting.wait_for(2);
        assert_eq!(queues.move_message(b"a", b"b", b"m", &mut ticket, &mut 0), Ok(true));
        meeting.attend().unwrap();
        commit.join().unwrap();
    });
    // The next commit finds it durable and removes it, the one after that makes this durable.
    queues.commit();
    assert_eq!(queues.verdict(&ticket), ReplyVerdict::Wait);
    queues.commit();
    assert_eq!(queues.verdict(&ticket), ReplyVerdict::Leave);
}

/// The sync found its file gone and failed, and the client that had pushed got no answer.
#[test]
fn rule_17_a_queue_that_is_dropped_while_it_is_synced_costs_no_reply() {
    let (_root, meeting, queues) = meet(2, Policy::Always);
    let mut tickets = [Ticket::default(), Ticket::default()];
    let push = |queue: &mut Queue| queue.push(&new_message(b"m"));
    queues.create(b"q", &mut tickets[0], push).unwrap();
    thread::scope(|scope| {
        let commit = scope.spawn(|| queues.commit());
        meeting.wait_for(1);
        assert_eq!(queues.drop_queue(b"q", &mut tickets[1]), Ok(true));
        meeting.attend().unwrap();
        commit.join().unwrap();
    });
    assert_eq!(queues.verdict(&tickets[0]), ReplyVerdict::Leave);
    queues.commit();
    assert_eq!(queues.verdict(&tickets[1]), ReplyVerdict::Leave);
}

/// One after the other they would never meet.
#[test]
fn rule_13_queues_that_are_dirty_at_once_are_synced_side_by_side() {
    const QUEUES: usize = 3;
    let (_root, _meeting, queues) = meet(QUEUES, Policy::Always);
    let mut ticket = Ticket::default();
    for number in 0..QUEUES {
        let name = format!("q{number}");
        let message = new_message(b"m");
        queues.create(name.as_bytes(), &mut ticket, |queue| queue.push(&message)).unwrap();
    }
    assert_eq!(queues.verdict(&ticket), ReplyVerdict::Wait);
    queues.commit();
    assert_eq!(queues.verdict(&ticket), ReplyVerdict::Leave, "the syncs did not meet");
}
