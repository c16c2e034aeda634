//! Power cuts: whatever part of what was not synced reaches the device, nothing that was answered
//! is lost.
//!
//! Random operations are played on a log and on the model of `fuzz/src/model.rs`, which says what
//! is checked after each power cut; the fuzz target `model` plays those that a fuzzer makes up.
//! `MQ_TEST_SEED` repeats a run.

use crate::properties::model;
use crate::random::Random;
use std::collections::BTreeMap;
use std::thread;

/// With `MQ_DAMAGE=all`, and without.
const POWER_CUTS: u64 = 10_000;
const FEW_POWER_CUTS: u64 = 3000;

/// Operations, and decisions about them, in bytes.
const BYTES: u64 = 4096;

/// What the images of one thread have met, by name.
type Seen = BTreeMap<&'static str, u64>;

fn cut_power(mut random: Random, power_cuts: u64) -> Seen {
    let mut seen = Seen::from([("power cuts", 0)]);
    while seen["power cuts"] < power_cuts {
        let operations: Vec<u8> = (0..BYTES).map(|_| random.below(256) as u8).collect();
        for (what, count) in model::play(&operations) {
            *seen.entry(what).or_default() += count;
        }
    }
    seen
}

#[test]
fn no_power_cut_loses_what_was_answered() {
    let tries_all = std::env::var("MQ_DAMAGE").is_ok_and(|what| what == "all");
    let power_cuts = if tries_all { POWER_CUTS } else { FEW_POWER_CUTS };
    let mut random = Random::seeded();
    let (first, second) = (random.fork(), random.fork());
    let mut seen = Seen::new();
    thread::scope(|scope| {
        let cut = |random| scope.spawn(move || cut_power(random, power_cuts / 2));
        for thread in [cut(first), cut(second)] {
            for (what, count) in thread.join().expect("all is there") {
                *seen.entry(what).or_default() += count;
            }
        }
    });
    println!("{seen:?}");
    for what in ["power cuts", "copies", "torn tails", "rotations", "drops", "failures"] {
        let is_met = seen.get(what).is_some_and(|count| *count > power_cuts / 100);
        assert!(is_met, "the run has left out {what}");
    }
}
