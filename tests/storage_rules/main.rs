//! One test or more for each storage rule, by number and name: what the rule promises, looked at
//! from outside, through the storage's public face, in its files, and in `/proc`.
//!
//! Two rules need more than this: a full file system and a device that fails are in `tests/faults`,
//! power cuts in `tests/crash_images.rs`.

// A failed expectation is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bench;
#[path = "../common/capture.rs"]
mod capture;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod cursor;
mod damage;
mod departures;
mod isolation;
mod losses;
mod membership;
mod newer;
#[path = "../common/opening.rs"]
mod opening;
mod order;
mod ownership;
#[path = "../common/program.rs"]
mod program;
#[path = "../common/random.rs"]
mod random;
mod resources;
mod silent;
mod space;
mod steps;
mod syncing;
mod table;
mod under_sync;
mod verdicts;
