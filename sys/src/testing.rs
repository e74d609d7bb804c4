//! What the tests of this crate share.

use std::io::{self, Write};

/// Is this test run by root? If not, says that it is skipped; where nothing may be, it fails.
pub fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        let _ = writeln!(io::stderr(), "skipped {test}: needs root");
        assert!(std::env::var_os("KRG_REQUIRE_ALL").is_none(), "must run as root in CI");
    }
    root
}

/// Bytes that look random and are the same in every run.
pub struct Noise(u64);

impl Noise {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        // xorshift64: good enough to reach every branch of a parser.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    /// Up to `most` bytes; every second one is small, as the length fields of the kernel are.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        let len = self.below(most + 1);
        let byte = |noise: &mut Noise| {
            let limit = if noise.below(2) == 0 { 4 } else { 256 };
            u8::try_from(noise.below(limit)).unwrap()
        };
        (0..len).map(|_| byte(self)).collect()
    }
}
