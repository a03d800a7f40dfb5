//! Two sides of a conversation over a ring in a static: no standard library, no allocator, no operating system.
//!
//! Promise: this crate and all it depends on build for a target that has 64-bit atomics and nothing else, such as
//! `x86_64-unknown-none`. Refusal: it never sleeps; both sides poll, as an interrupt handler and a main loop would.
#![no_std]

use ipc_core::ring::{Consumer, Producer, ReserveError, StaticRing, Violation};

/// Capacity of the ring, in bytes.
pub const CAPACITY: usize = 4096;
/// Longest message that [`produce`] sends, in bytes.
pub const LONGEST: usize = 200;

static RING: StaticRing<CAPACITY> = StaticRing::new();

/// The two halves of the ring, to the first caller; `None` to every later one.
#[must_use]
pub fn halves() -> Option<(Producer<'static>, Consumer<'static>)> {
    RING.split()
}

/// Sends messages number 0 to `count` - 1 and returns the checksum of all their bytes.
///
/// Their lengths run from 0 to [`LONGEST`] bytes. Polls while the ring is full.
///
/// # Errors
/// [`ReserveError`] if the ring takes no such messages, or if the consumer broke the protocol.
pub fn produce(producer: &mut Producer<'_>, count: u64) -> Result<u64, ReserveError> {
    let mut sum = Checksum::default();
    let mut buffer = [0; LONGEST];
    for number in 0..count {
        let payload = fill(&mut buffer, number);
        sum.add(payload);
        while let Err(refusal) = producer.try_push(payload) {
            match refusal {
                ReserveError::Full { .. } => core::hint::spin_loop(),
                other => return Err(other),
            }
        }
    }
    producer.close();
    Ok(sum.0)
}

/// Receives messages until `count` came or the producer closed, and returns the checksum of all their bytes.
///
/// # Errors
/// [`Violation`] if the producer broke the protocol.
pub fn consume(consumer: &mut Consumer<'_>, count: u64) -> Result<u64, Violation> {
    let mut sum = Checksum::default();
    let mut buffer = [0; LONGEST];
    let mut received = 0;
    while received < count {
        // Asked before looking: what was published before the close is seen by the look after it.
        let closed = consumer.is_peer_closed();
        match consumer.try_read()? {
            Some(record) => {
                let payload = &mut buffer[..record.len().min(LONGEST)];
                if record.read_at(0, payload).is_ok() {
                    sum.add(payload);
                }
                received += 1;
            }
            None if closed => break,
            None => core::hint::spin_loop(),
        }
    }
    Ok(sum.0)
}

fn fill(buffer: &mut [u8; LONGEST], number: u64) -> &[u8] {
    let payload = &mut buffer[..number as usize % (LONGEST + 1)];
    for (index, byte) in payload.iter_mut().enumerate() {
        *byte = (number as u8).wrapping_mul(31).wrapping_add(index as u8);
    }
    payload
}

/// FNV-1a over the lengths and bytes of messages, so that order and borders count.
struct Checksum(u64);

impl Default for Checksum {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Checksum {
    fn add(&mut self, payload: &[u8]) {
        for byte in (payload.len() as u64).to_le_bytes().iter().chain(payload) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
