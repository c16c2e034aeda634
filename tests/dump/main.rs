//! mq-dump as a process, over directories that the storage has made: what it prints, what it says
//! about damage, and that it changes nothing unless it is told to.

// A failed expectation is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bench;
mod command_line;
#[path = "../common/mod.rs"]
mod common;
mod daemon;
mod damage;
mod export;
mod import;
mod list;
mod messages;
#[path = "../common/opening.rs"]
mod opening;
#[path = "../common/random.rs"]
mod random;
mod repair;
mod segment;
mod show;
mod terminal;
mod verify;
