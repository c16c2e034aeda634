//! One test or more for each storage rule, by number and name: what the rule promises, looked at
//! from outside, through the storage's public face, in its files, and in `/proc`.
//!
//! Two rules need more than this: a full file system and a device that fails are in `tests/faults`,
//! power cuts in `tests/library/crash_images.rs`.

mod bench;
mod commands;
mod cursor;
mod damage;
mod departures;
mod isolation;
mod losses;
mod membership;
mod newer;
mod order;
mod ownership;
mod resources;
mod silent;
mod space;
mod states;
mod steps;
mod syncing;
mod table;
mod under_sync;
mod verdicts;
