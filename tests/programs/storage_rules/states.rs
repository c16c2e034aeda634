//! Rule 11: a failure is one small record, and what it says outlives restarts, copies and damage.

use super::bench::*;
use mq::storage::{Cause, Failures, Place};

const SEGMENT_SIZE: u64 = 16 * 1024;

/// Where the message with this number, counted from 1, lies.
fn place(bench: &mut Bench, number: u64) -> Place {
    let found = bench.log.next(BEFORE_FIRST + number).unwrap();
    let place = found.map(|(place, _)| place).expect("a message");
    assert_eq!(place.sequence, BEFORE_FIRST + number);
    place
}

fn failures(bench: &mut Bench, number: u64) -> Failures {
    let place = place(bench, number);
    bench.log.failures(place).unwrap()
}

/// Notes one more failure, and returns all.
fn fail(bench: &mut Bench, number: u64, reason: &[u8]) -> Failures {
    let mut failures = failures(bench, number);
    failures.add(Cause::Nack, 1000, reason).unwrap();
    let place = place(bench, number);
    bench.log.note_failures(place, &failures).unwrap();
    failures
}

fn record_bytes(bench: &Bench) -> u64 {
    bench.log.live_bytes() + bench.log.dead_bytes()
}

#[test]
fn rule_11_a_failure_is_one_small_record_that_outlives_restarts() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    (0..3).for_each(|number| bench.push(format!("message {number}")));
    let before = record_bytes(&bench);
    fail(&mut bench, 2, b"");
    assert_eq!(record_bytes(&bench) - before, 96);
    let second = fail(&mut bench, 2, &[b'r'; 300]);
    assert_eq!(second.last.reason.len(), 255);
    let third = fail(&mut bench, 3, b"other");
    for _ in 0..2 {
        bench = bench.reopen();
        assert_eq!(failures(&mut bench, 1), Failures::default());
        assert_eq!(failures(&mut bench, 2), second);
        assert_eq!(failures(&mut bench, 3), third);
        assert_eq!(verified(bench.root.path()), []);
    }
    assert_eq!(bench.bodies(), [b"message 0", b"message 1", b"message 2"]);
}

/// Where messages move on, their states do not move with them.
#[test]
fn rule_10_a_copy_says_what_the_states_of_its_message_said() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    bench.push(b"buried");
    let mut expected = fail(&mut bench, 1, b"first");
    for round in 0..3 {
        let before = bench.count("copied_messages");
        while bench.count("copied_messages") == before {
            bench.push([7; 1000]);
            assert!(bench.remove([7; 1000]));
            bench.sync();
            bench.log.copy_forward().unwrap();
            while let Some(footer) = bench.log.write_footer() {
                footer().unwrap();
            }
        }
        assert_eq!(failures(&mut bench, 1), expected, "round {round}");
        bench = bench.reopen();
        assert_eq!(failures(&mut bench, 1), expected, "round {round}");
        expected = fail(&mut bench, 1, b"next");
    }
    assert_eq!(bench.count("damaged_records"), 0);
}

/// Segments with footers are not read at a start, and these name states too.
#[test]
fn rule_14_a_footer_tells_of_states() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    (0..10).for_each(|number| bench.push(format!("message {number}")));
    let expected = fail(&mut bench, 5, b"reason");
    let state = bench.log.segments().next().unwrap().records_end - 104;
    while bench.log.segments().count() < 3 {
        bench.push([7; 1000]);
    }
    bench.sync();
    let footer = bench.log.write_footer().expect("a sealed segment");
    footer().unwrap();
    for is_rotten in [false, true] {
        let mut files = bench.files();
        if is_rotten {
            let (name, offset) = bench.file_of(state);
            files.get_mut(&name).unwrap()[offset + 60] ^= 1;
        }
        let mut bench = Bench::of(&files, SEGMENT_SIZE);
        let expected = if is_rotten { Failures::default() } else { expected.clone() };
        assert_eq!(failures(&mut bench, 5), expected);
        assert_eq!(bench.count("damaged_records"), u64::from(is_rotten));
        fail(&mut bench, 5, b"again");
    }
}

#[test]
fn rule_05_without_a_rotten_state_the_one_before_it_counts() {
    let mut bench = Bench::new(SEGMENT_SIZE);
    bench.push(b"message");
    let first = fail(&mut bench, 1, b"first");
    let state = bench.log.segments().next().unwrap().records_end;
    fail(&mut bench, 1, b"second");
    bench.push(b"behind it");
    bench.sync();
    bench.push(b"says that it was durable");
    bench.sync();
    let mut files = bench.files();
    let (name, offset) = bench.file_of(state);
    files.get_mut(&name).unwrap()[offset + 60] ^= 1;
    let mut bench = Bench::of(&files, SEGMENT_SIZE);
    assert_eq!(failures(&mut bench, 1), first);
    assert_eq!((bench.bodies().len(), bench.count("lost_messages")), (3, 0));
}
