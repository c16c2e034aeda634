#![no_main]
//! Checks one input against the property of this name; knows nothing itself.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| mq_fuzz::forgery::check(input));
