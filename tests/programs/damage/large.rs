//! A queue of many segments, each of whose cursor slots was written many times, with footers, and
//! killed while messages were copied forward: what they were copied from is there still.

use super::drill::tries_all;
use super::image::{self, COPY, MESSAGE, Segment};
use super::world::{Bench, Queue, SEGMENT_SIZE, fast_directory};
use crate::random::Random;
use mq::storage::DataDirectory;
use std::collections::BTreeSet;

/// Segments of the queue when its work has come to the copying.
const SEGMENTS: usize = 20;

/// The queue, another one for each seed, and what is in its files.
pub fn large_queue(random: &mut Random) -> (Queue, Vec<Segment>) {
    let root = fast_directory();
    let directory = DataDirectory::open(root.path(), SEGMENT_SIZE, false).unwrap();
    let queue = work(Bench::new(&directory, b"large"), random);
    let segments = image::read(&queue.files);
    let generations = segments.iter().flat_map(|segment| &segment.slots).map(|it| it.generation);
    let generation = generations.max().unwrap();
    assert!(generation > 4 * segments.last().unwrap().base / SEGMENT_SIZE, "{generation}");
    let numbers = |kind| {
        let records = segments.iter().flat_map(|segment| &segment.records);
        records.filter(move |record| record.kind == kind).map(|record| record.number)
    };
    let pushed: BTreeSet<u64> = numbers(MESSAGE).collect();
    assert!(numbers(COPY).any(|number| pushed.contains(&number)), "none is there twice");
    assert!(numbers(COPY).any(|number| !pushed.contains(&number)), "none is there as a copy alone");
    let footers = segments.iter().filter(|segment| segment.has_footer()).count();
    assert!(segments.len() > SEGMENTS / 2 && footers > 1, "{footers} footers");
    (queue, segments)
}

fn work(mut bench: Bench, random: &mut Random) -> Queue {
    while bench.segments() < SEGMENTS {
        bench.push(1 + random.below(4) as usize, 13 + random.below(300) as usize);
        bench.pop(1);
        if random.below(2) == 0 {
            bench.sync();
        }
        if random.below(2) == 0 {
            remove_one(&mut bench, random);
        }
        // The newest segments have none.
        if bench.segments() <= SEGMENTS * 3 / 4 && random.below(4) == 0 {
            bench.write_footers();
        }
    }
    // Most of it is dead then, and some messages of the oldest segments are not.
    for _ in 0..4 {
        while {
            // What was copied before is durable, and the segment that it was copied from goes.
            (0..2).for_each(|_| bench.sync());
            let is_dead = bench.log.segments().next().unwrap().live_count == 0;
            is_dead || !bench.log.wants_copying()
        } {
            remove_one(&mut bench, random);
        }
        bench.log.copy_forward().unwrap();
    }
    bench.push(random.below(6) as usize, 100);
    remove_one(&mut bench, random);
    bench.killed()
}

/// Removes a message, but for the oldest ones: their segments are to live.
fn remove_one(bench: &mut Bench, random: &mut Random) {
    let kept: usize = 4;
    bench.push(kept.saturating_sub(bench.live.len()) + 1, 100);
    let index = kept + random.below((bench.live.len() - kept) as u64) as usize;
    bench.take(bench.live[index]);
}

/// About `few` of `all`, or about `many` where everything is tried.
pub fn some_of<T>(mut all: Vec<T>, few: u64, many: u64, random: &mut Random) -> Vec<T> {
    let (count, wanted) = (all.len() as u64, if tries_all() { many } else { few });
    all.retain(|_| random.below(count) < wanted);
    all
}
