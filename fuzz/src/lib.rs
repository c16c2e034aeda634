//! Properties: what must hold for every input, one module for each fuzz target.
//!
//! Each module has a `check` that takes any bytes and panics where its property does not hold. The
//! fuzz targets call it with what the fuzzer makes up, and `tests/library/fuzz_seeds.rs` with the
//! seeds that are kept. Nothing in here knows a fuzzer, and nothing sleeps.

// A property that does not hold says so by panicking.
#![allow(clippy::expect_used)]

pub mod choices;
pub mod cuts;
pub mod device;
pub mod forgery;
pub mod memcached;
pub mod model;
pub mod recipe;
pub mod record;
pub mod recovery;
pub mod resp;
pub mod session;
pub mod session_memcached;
pub mod session_redis;
