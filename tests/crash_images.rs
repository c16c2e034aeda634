//! Power cuts: whatever part of what was not synced reaches the device, nothing that was answered
//! is lost.
//!
//! Random operations are played on a log and on the model of `fuzz/src/model.rs`, which says what
//! is checked after each power cut; the fuzz target `model` plays those that a fuzzer makes up.
//! `MQ_TEST_SEED` repeats a run.

#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code)]
mod properties;
#[path = "common/random.rs"]
mod random;

use properties::model;
use random::Random;
use std::collections::BTreeMap;

const POWER_CUTS: u64 = 10_000;

/// Operations, and decisions about them, in bytes.
const BYTES: u64 = 4096;

#[test]
fn no_power_cut_loses_what_was_answered() {
    let mut random = Random::seeded();
    let mut seen = BTreeMap::from([
        ("power cuts", 0),
        ("copies", 0),
        ("torn tails", 0),
        ("rotations", 0),
        ("drops", 0),
    ]);
    while seen["power cuts"] < POWER_CUTS {
        let operations: Vec<u8> = (0..BYTES).map(|_| random.below(256) as u8).collect();
        for (what, count) in model::play(&operations) {
            *seen.entry(what).or_default() += count;
        }
    }
    println!("{seen:?}");
    assert!(seen.values().all(|count| *count > 100), "the run has left something out");
}
