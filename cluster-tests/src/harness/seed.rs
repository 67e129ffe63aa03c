//! The one source of chance in a test: printed, and replayed with `CAIRN_SEED`.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// A seed, from `CAIRN_SEED` or by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// Takes the seed for the test and prints how to use it again.
    pub fn new(test: &str) -> Self {
        let seed = match std::env::var("CAIRN_SEED") {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("CAIRN_SEED is a number, not {text:?}")),
            Err(_) => rand::random(),
        };
        eprintln!("{test}: CAIRN_SEED={seed} repeats the choices of this run");
        Self(seed)
    }

    /// A generator of its own for one use; the same for the same seed and use.
    pub fn rng(self, usage: u64) -> StdRng {
        StdRng::seed_from_u64(self.0 ^ usage.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}
