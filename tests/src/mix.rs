//! Messages of all sizes, some with files beside them, for every lane: which bytes and which files message number n has follows from
//! the seed and n alone, so both sides know.
//!
//! Promise: a message that is lost, doubled, torn, out of order or has another one's files differs from the one that is due.
//! Refusal: how a message is sent or received is not said here ([`crate::roles`]).

use crate::Random;
use rustix::fs::{MemfdFlags, memfd_create};
use std::io::{PipeWriter, Write};
use std::os::fd::OwnedFd;

/// An endless sequence of messages.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    seed: u64,
    /// The longest record of the ring: lengths around multiples of it are the ones that go wrong.
    record: u64,
    longest: u64,
}

/// Bytes that a sender copies between two words of how far it is.
const STEP: u64 = 16 << 10;

impl Mix {
    /// The sequence of this seed, for rings with records of up to `record` bytes; no message has more than `longest` bytes.
    #[must_use]
    pub fn new(seed: u64, record: u64, longest: u64) -> Self {
        Self { seed, record, longest }
    }

    fn random(&self, number: u64) -> Random {
        let mut mixer = Random::new(self.seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Random::new(mixer.next_u64())
    }

    fn plan(&self, number: u64) -> (u64, usize, Random) {
        let mut random = self.random(number);
        let around =
            |random: &mut Random, size: u64| (size * (1 + random.below(4)) + 24).saturating_sub(random.below(48));
        let len = match random.below(64) {
            0..24 => random.below(65),
            24..34 => around(&mut random, self.record),
            34..42 => random.below(1 << 10),
            42..52 => random.below(20 << 10),
            52..57 => around(&mut random, STEP),
            57..62 => random.below(256 << 10),
            62 => around(&mut random, 256 << 10),
            _ => random.below(5 << 20),
        };
        let files = match random.below(32) {
            0 => 1,
            1 => 1 + random.below(5),
            2 if number.is_multiple_of(16) => 63,
            _ => 0,
        };
        (len.min(self.longest), files as usize, random)
    }

    /// The most bytes that a message has.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.longest as usize
    }

    /// Bytes in message `number`.
    #[must_use]
    pub fn len(&self, number: u64) -> usize {
        self.plan(number).0 as usize
    }

    /// Files beside message `number`.
    #[must_use]
    pub fn files(&self, number: u64) -> usize {
        self.plan(number).1
    }

    /// Writes message `number` to `target`, which has its length.
    pub fn fill(&self, number: u64, target: &mut [u8]) {
        let mut random = self.plan(number).2;
        for piece in target.chunks_mut(8) {
            piece.copy_from_slice(&random.next_u64().to_le_bytes()[..piece.len()]);
        }
    }

    /// Makes `buffer` message `number`.
    pub fn write(&self, number: u64, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.resize(self.len(number), 0);
        self.fill(number, buffer);
    }

    /// Says what is wrong with `found` if it is not message `number`.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn check(&self, number: u64, found: &[u8]) -> Result<(), String> {
        let (len, _, mut random) = self.plan(number);
        if found.len() as u64 != len {
            return Err(format!("message {number} has {} bytes instead of {len}", found.len()));
        }
        for (at, piece) in found.chunks(8).enumerate() {
            if piece != &random.next_u64().to_le_bytes()[..piece.len()] {
                return Err(format!("message {number} of {len} bytes differs in the 8 bytes from {}", at * 8));
            }
        }
        Ok(())
    }

    /// What the file at place `at` beside message `number` holds.
    fn mark(&self, number: u64, at: usize) -> [u8; 24] {
        let mut mark = [0; 24];
        for (bytes, word) in mark.chunks_mut(8).zip([self.seed, number, at as u64]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        mark
    }

    /// The files beside message `number`: memory files and pipes in turn, each with something of its own in it.
    ///
    /// # Panics
    /// If the system has none.
    #[must_use]
    pub fn make_files(&self, number: u64) -> Vec<OwnedFd> {
        let make = |at: usize| {
            let mark = self.mark(number, at);
            if at.is_multiple_of(2) {
                let file = memfd_create("beside", MemfdFlags::CLOEXEC).expect("a memory file");
                rustix::io::pwrite(&file, &mark, 0).expect("room in it");
                return file;
            }
            let (reader, mut writer): (_, PipeWriter) = std::io::pipe().expect("a pipe");
            writer.write_all(&mark).expect("room in it");
            reader.into()
        };
        (0..self.files(number)).map(make).collect()
    }

    /// Says what is wrong with `found` if these are not the files beside message `number`. Pipes are empty afterwards.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn check_files(&self, number: u64, found: &[OwnedFd]) -> Result<(), String> {
        let due = self.files(number);
        if found.len() != due {
            return Err(format!("{} files came with message {number} instead of {due}", found.len()));
        }
        for (at, file) in found.iter().enumerate() {
            let mut mark = [0; 25];
            let read = if at.is_multiple_of(2) {
                rustix::io::pread(file, &mut mark[..], 0)
            } else {
                rustix::io::read(file, &mut mark[..])
            };
            if read != Ok(24) || mark[..24] != self.mark(number, at) {
                return Err(format!("file {at} beside message {number} is another one: {read:?}, {mark:?}"));
            }
        }
        Ok(())
    }
}
