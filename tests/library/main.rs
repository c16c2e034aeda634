//! Tests of the library, in this process alone.
//!
//! They start no program: a child holds the lock of each directory that is open here until it has
//! become a program, and these tests open theirs again and again. Those that need one are in
//! `tests/programs`.

// A test that cannot go on says so by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod contract;
mod conversion;
mod crash_images;
mod expiry;
mod fixtures;
mod fuzz_findings;
mod fuzz_seeds;
mod leases;
#[path = "../../fuzz/src/lib.rs"]
mod properties;
#[path = "../common/random.rs"]
mod random;
mod storage_format;
mod storage_regressions;
mod unfinished;
mod waiting;
