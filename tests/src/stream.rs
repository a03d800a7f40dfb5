//! Streams of messages that both sides can make for themselves, so that every byte of every message is checked.
//!
//! Message number n of a stream has a length and contents that follow from the stream's seed and n alone: a message
//! that is lost, doubled, torn or out of order differs from the one that is due.

/// Random numbers, the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts a sequence.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `end - 1`; `end` is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }
}

/// An endless stream of messages of 0 to `max` bytes.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    seed: u64,
    max: u64,
}

impl Stream {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64, max: u64) -> Self {
        Self { seed, max }
    }

    /// Bytes in the longest message that there can be.
    #[must_use]
    pub fn longest(&self) -> u64 {
        self.max
    }

    fn random(&self, number: u64) -> Random {
        let mut mixer = Random::new(self.seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Random::new(mixer.next_u64())
    }

    /// Bytes in message `number`: mostly short ones, all lengths, and now and then the longest.
    fn len(&self, random: &mut Random) -> u64 {
        let max = self.max;
        match random.below(16) {
            0..8 => random.below(65).min(max),
            8..12 => random.below(1025).min(max),
            12..15 => random.below(max + 1),
            _ => max - random.below(9).min(max),
        }
    }

    /// Writes message `number` to `buffer`.
    pub fn write(&self, number: u64, buffer: &mut Vec<u8>) {
        let mut random = self.random(number);
        let len = self.len(&mut random) as usize;
        buffer.clear();
        while buffer.len() < len {
            buffer.extend_from_slice(&random.next_u64().to_le_bytes());
        }
        buffer.truncate(len);
    }

    /// Says what is wrong with `found` if it is not message `number`.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn check(&self, number: u64, found: &[u8]) -> Result<(), String> {
        let mut random = self.random(number);
        let len = self.len(&mut random) as usize;
        if found.len() != len {
            return Err(format!("message {number} has {} bytes instead of {len}", found.len()));
        }
        for (at, piece) in found.chunks(8).enumerate() {
            if piece != &random.next_u64().to_le_bytes()[..piece.len()] {
                return Err(format!("message {number} of {len} bytes differs in the 8 bytes from {}", at * 8));
            }
        }
        Ok(())
    }
}
