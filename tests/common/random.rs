//! A generator of numbers that is the same everywhere, so that a printed seed repeats a run.

use std::sync::OnceLock;

/// Where a seed is given, and passed on to a process that repeats what this one does.
pub const SEED: &str = "MQ_TEST_SEED";

/// This process's seed: from `MQ_TEST_SEED`, or else from the clock.
pub fn seed() -> u64 {
    static SEED_OF_PROCESS: OnceLock<u64> = OnceLock::new();
    *SEED_OF_PROCESS.get_or_init(|| {
        let given = std::env::var(SEED).ok().and_then(|text| text.parse().ok());
        given.unwrap_or_else(|| {
            let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            since.as_nanos() as u64 | 1
        })
    })
}

/// An xorshift generator; its seed is not zero.
pub struct Random(u64);

impl Random {
    /// From the process's seed, which it prints.
    pub fn seeded() -> Random {
        println!("{SEED}={}", seed());
        Random(seed())
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    /// Another generator, for a thread of its own.
    #[allow(dead_code)]
    pub fn fork(&mut self) -> Random {
        Random(self.below(u64::MAX >> 11) | 1)
    }
}
