//! Hostile bytes for everything in ipc-core that reads what a peer wrote.
//!
//! Promise: a target turns any input into a state and a bounded script of operations, the same on every run, and fails
//! by panicking. Refusal: nothing is made up here; `cargo fuzz` or the `states` binary brings the input.

#[cfg(not(fuzzing))]
compile_error!("the targets reach private parts of ipc-core: build with RUSTFLAGS='--cfg fuzzing', as ci/fuzz.sh does");

pub mod attach;
pub mod handshake;
pub mod lanes;
mod peer;
mod script;
pub mod segment;

/// A small generator (splitmix64), the same on every run.
pub struct Random(u64);

impl Random {
    /// A generator whose numbers follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so there is no `Option` to return")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
