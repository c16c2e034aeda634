//! Rule 14: whose hash says nothing of what a message is, who can guess it, and who waits while an
//! index is built. What it takes of memory is in `resources.rs`.

use super::bench::*;
use crate::random::Random;
use mq::queue::{DiskBacking, Limits, Policy, Queues, Ticket};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// What the index keeps of a hash: the upper 24 bits, and the lower 4 choose a table.
const KEPT: u32 = 0xffff_ff0f;

/// Two bodies that the index of this log cannot tell apart. Of twenty thousand there are such ones
/// more often than not.
fn colliding(bench: &Bench) -> (Vec<u8>, Vec<u8>) {
    let mut seen = HashMap::new();
    for number in 0_u64.. {
        let body = number.to_le_bytes().to_vec();
        let kept = bench.log.hash(&body).bits() & KEPT;
        if let Some(other) = seen.insert(kept, body.clone()) {
            return (other, body);
        }
    }
    unreachable!("there are more bodies than hashes");
}

fn is_member(bench: &mut Bench, body: &[u8]) -> bool {
    let found = bench.log.find(body).unwrap();
    assert!(found.as_ref().is_none_or(|(_, message)| message.body == body), "another message");
    found.is_some()
}

#[test]
fn rule_14_messages_with_the_same_hash_are_told_apart_by_their_bytes() {
    let mut bench = Bench::new(64 * 1024);
    let (one, other) = colliding(&bench);
    bench.push(&one);
    assert!(is_member(&mut bench, &one) && !is_member(&mut bench, &other), "a false duplicate");
    bench.push(&other);
    assert!(is_member(&mut bench, &one) && is_member(&mut bench, &other));
    // Also where the index is built from what is there.
    bench.sync();
    let mut bench = bench.reopen();
    assert!(is_member(&mut bench, &other) && is_member(&mut bench, &one));
    assert!(bench.remove(&one));
    assert!(!is_member(&mut bench, &one) && is_member(&mut bench, &other));
    assert!(bench.remove(&other));
    assert!(!is_member(&mut bench, &other));
}

/// With a hash that is known, or the same for all queues, somebody outside could make messages that
/// all have the same place.
#[test]
fn rule_14_each_queue_has_a_seed_of_its_own_and_keeps_it() {
    let (bench, other) = (Bench::new(64 * 1024), Bench::new(64 * 1024));
    let hash = |bench: &Bench| [b"1", b"2"].map(|body| bench.log.hash(body));
    let before = hash(&bench);
    assert_ne!(before, hash(&other), "of the same name, in another directory");
    let second = bench.directory.create_log(b"second").unwrap();
    assert_ne!(before, [b"1", b"2"].map(|body| second.hash(body)));
    drop(second);
    let Bench { log, directory, root, .. } = bench;
    drop((log, directory));
    let directory = open_directory(root.path(), 64 * 1024, false).unwrap();
    let logs = directory.open_logs().unwrap();
    let log = logs.iter().find(|log| log.name() == b"q").unwrap();
    assert_eq!(before, [b"1", b"2"].map(|body| log.hash(body)), "after a restart");
}

/// How many pushes another queue takes while the index of a large one is built.
fn pushes_beside_building() -> usize {
    let root = tempfile::tempdir().unwrap();
    let backing = Box::new(DiskBacking::new(open_directory(root.path(), 1 << 20, false).unwrap()));
    let limits = Limits { max_queues: 10, max_queue_len: u64::MAX };
    let queues = Arc::new(Queues::open(backing, limits, Policy::Never).unwrap());
    let push = |name: &[u8], body: &[u8]| {
        let message = new_message(body);
        queues.create(name, &mut Ticket::default(), |queue| queue.push(&message)).unwrap();
    };
    for number in 0..100_000_u64 {
        push(b"large", &number.to_le_bytes());
    }
    push(b"small", b"it is there");
    let [is_begun, is_built] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let builder = {
        let queues = Arc::clone(&queues);
        let (is_begun, is_built) = (Arc::clone(&is_begun), Arc::clone(&is_built));
        thread::spawn(move || {
            is_begun.store(true, Ordering::SeqCst);
            while !queues.prepare_membership(b"large").unwrap() {}
            is_built.store(true, Ordering::SeqCst);
        })
    };
    let mut pushed = 0;
    loop {
        push(b"small", b"another");
        if is_built.load(Ordering::SeqCst) {
            break;
        }
        pushed += usize::from(is_begun.load(Ordering::SeqCst));
    }
    builder.join().unwrap();
    pushed
}

/// If others waited, they would get a few pushes done before the building begins, and never many.
#[test]
fn rule_14_an_index_is_built_without_stopping_other_queues() {
    let enough = |pushed: usize| pushed > 500;
    assert!((0..100).map(|_| pushes_beside_building()).any(enough), "other queues stand still");
}

/// Messages of which no two are equal, in several segments, each with a footer where it is sealed.
fn with_footers(count: u64) -> Bench {
    let mut bench = Bench::new(4 << 20);
    for number in 0..count {
        bench.push(number.to_le_bytes());
    }
    bench.sync();
    while let Some(work) = bench.log.write_footer() {
        work().unwrap();
    }
    assert!(bench.log.segments().count() > 4);
    bench.reopen()
}

/// The slices are counted, and nothing is timed. Between two of them messages come, go from the
/// middle, and go from the head until segments do.
#[test]
fn rule_14_an_index_is_built_from_footers_in_slices_and_sees_what_happens_in_between() {
    const COUNT: u64 = 60_000;
    let (mut bench, mut random) = (with_footers(COUNT), Random::seeded());
    let mut live: BTreeMap<u64, u64> = (0..COUNT).map(|body| (body + 1, body)).collect();
    let (mut slices, mut new) = (1, COUNT);
    while !bench.log.prepare_find().unwrap() {
        slices += 1;
        for _ in 0..100 {
            bench.push(new.to_le_bytes());
            live.insert(new + 1, new);
            new += 1;
            let wanted = random.below(new) + 1;
            if live.remove(&wanted).is_some() {
                let place = bench.log.next(BEFORE_FIRST + wanted).unwrap().unwrap().0;
                bench.log.remove(place).unwrap();
            }
        }
        for _ in 0..if slices == 4 { 30_000 } else { 300 } {
            let oldest = live.pop_first().map(|(_, body)| body.to_le_bytes().to_vec());
            assert_eq!(bench.pop(), oldest);
        }
        bench.sync();
    }
    assert!(slices > COUNT / 4096, "{slices} slices");
    let bodies: Vec<u64> = live.into_values().collect();
    assert!(bodies.len() > 10_000);
    for body in 0..new {
        let is_there = bodies.binary_search(&body).is_ok();
        assert_eq!(is_member(&mut bench, &body.to_le_bytes()), is_there, "message {body}");
    }
}

/// Without a footer it is built from the records, and answers the same.
#[test]
fn rule_14_an_index_says_the_same_from_footers_and_from_records() {
    const COUNT: u64 = 60_000;
    let mut bench = with_footers(COUNT);
    let mut slices = 1;
    while !bench.log.prepare_find().unwrap() {
        slices += 1;
    }
    assert!(slices > COUNT / 4096, "{slices} slices");
    let mut other = Bench::new(1 << 20);
    for number in 0..COUNT {
        other.push(number.to_le_bytes());
    }
    for number in 0..COUNT + 10 {
        let body = number.to_le_bytes();
        let from_records = is_member(&mut other, &body);
        assert_eq!(is_member(&mut bench, &body), from_records, "message {number}");
    }
}

/// What a move has hidden is in the way of no look by content, whether its removal was promised
/// before the index was there, while it was built or after.
#[test]
fn rule_14_the_index_is_without_messages_whose_removal_is_promised() {
    const COUNT: u64 = 60_000;
    let mut bench = with_footers(COUNT);
    let mut promised = Vec::new();
    let mut is_built = false;
    for body in (0..COUNT).step_by(1000) {
        let (place, _) = bench.log.next(BEFORE_FIRST + body + 1).unwrap().unwrap();
        bench.log.promise_removal(place).unwrap();
        promised.push((place, body.to_le_bytes()));
        is_built = bench.log.prepare_find().unwrap();
    }
    assert!(is_built);
    for (place, body) in &promised {
        assert!(!is_member(&mut bench, body));
        assert_eq!(bench.log.count_equal(body, &mut None, 9).unwrap(), 0);
        bench.log.withdraw_promise(*place);
        assert!(is_member(&mut bench, body));
    }
    for (place, body) in &promised {
        bench.log.promise_removal(*place).unwrap();
        bench.log.remove(*place).unwrap();
        assert!(!is_member(&mut bench, body));
    }
    assert!(is_member(&mut bench, &1_u64.to_le_bytes()));
}
