//! Tests of `mqd` and `mq-dump` as people run them, and of the storage beside them.

// A test that cannot go on says so by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod command_line;
mod common;
mod damage;
mod descriptors;
mod dump;
mod durability;
mod logging;
mod memory;
#[path = "../common/random.rs"]
mod random;
mod readme;
mod server;
mod storage_rules;
mod transcripts;
mod victim;
