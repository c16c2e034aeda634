//! A generator of numbers that is the same everywhere, so that a printed seed repeats a run.

/// An xorshift generator; its seed is not zero.
pub struct Random(u64);

impl Random {
    /// From `MQ_TEST_SEED`, or else from the clock; prints the seed.
    pub fn seeded() -> Random {
        let given = std::env::var("MQ_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            since.as_nanos() as u64 | 1
        });
        println!("MQ_TEST_SEED={seed}");
        Random(seed)
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
