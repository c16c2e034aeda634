//! Faults that the storage once had: each test makes what was found on the device and looks at
//! what was wrong then.
//!
//! What a test does to files it does while no log is open, unless it says otherwise. The rules
//! behind the expectations are those of `storage-format.md`; tests for each rule by its number are
//! in `storage_rules`.

mod bench;
mod drills;
mod faults;
mod races;
