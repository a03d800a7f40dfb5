//! The one-way stream of 64-byte messages through a ring of stamped lines.
//!
//! A message and the news of it travel in one line, so the only other traffic is the consumer's head,
//! once every eighth of the ring. Messages have one size, and neither side sleeps.

use std::sync::atomic::Ordering;

use super::super::process::{Duo, Fallible, SharedBuffer};
use super::{IndexLine, PAYLOAD_WORDS, StampedLine, back_off, one_way, prefetch_for_write};

/// Bytes of the ring that serves as the yardstick.
pub(crate) const CAPACITY: usize = 256 * 1024;

/// Pauses of a consumer that found the ring empty. It falls behind on purpose: a consumer at the
/// producer's heels takes each line away while the producer still works next to it.
const EMPTY_PAUSES: u32 = 64;

/// Lines ahead of the one being written that the producer asks for.
const PREFETCH_LINES: u64 = 12;

/// Head publications in one lap of the ring.
const HEADS_PER_LAP: u64 = 8;

/// Nanoseconds a message of a stream through a ring of `capacity` bytes, 56 bytes of payload in each.
///
/// # Errors
///
/// `capacity` is no power of two of at least 1 KiB, or the pair of processes could not be run.
pub(crate) fn stream(duo: &Duo, messages: u64, capacity: usize) -> Fallible<f64> {
    if !capacity.is_power_of_two() || capacity < 1024 {
        return Err(format!("a ring of {capacity} bytes is no power of two of at least 1024").into());
    }
    let head_memory = SharedBuffer::new(size_of::<IndexLine>())?;
    let memory = SharedBuffer::new(capacity)?;
    let ring = Ring {
        head: head_memory.as_ptr().cast(),
        lines: memory.as_ptr().cast(),
        count: (capacity / size_of::<StampedLine>()) as u64,
    };
    let warm_up = (messages / 8).max(4 * ring.count);

    // SAFETY: `one_way` runs one consumer and one producer, which count from 0 on; the mappings outlive the run.
    let consume = |first, count| unsafe { ring.consume(first, count) };
    // SAFETY: as above.
    let produce = |first, count| unsafe { ring.produce(first, count) };
    one_way(duo, [&head_memory, &memory], warm_up, messages, consume, produce)
}

/// The ring as each side sees it.
struct Ring {
    /// Messages consumed, always a multiple of an eighth lap. Written by the consumer, read by the producer.
    head: *const IndexLine,
    /// `count` lines; message `n` lies in line `n % count` under the stamp `n + 1`.
    lines: *const StampedLine,
    /// Lines in the ring, a power of two.
    count: u64,
}

impl Ring {
    /// Sends `count` messages, the first of them numbered `first`.
    ///
    /// # Safety
    ///
    /// The caller is the only producer, `first` messages have been sent, and the ring is mapped.
    #[inline(always)]
    unsafe fn produce(&self, first: u64, count: u64) {
        let mask = self.count - 1;
        // SAFETY: the head is mapped and atomic.
        let head = unsafe { &(*self.head).0 };
        let mut free_until = head.load(Ordering::Acquire) + self.count;
        for number in first..first + count {
            // The peer's line is read only when the copy says full.
            while number == free_until {
                std::hint::spin_loop();
                // [S3] takes the consumed lines back; pairs with [S4].
                free_until = head.load(Ordering::Acquire) + self.count;
            }
            // SAFETY: masked, so inside the ring.
            prefetch_for_write(unsafe { self.lines.add(((number + PREFETCH_LINES) & mask) as usize) });
            // SAFETY: masked, so inside the ring.
            let line = unsafe { &*self.lines.add((number & mask) as usize) };
            // SAFETY: the line's former message was consumed ([S3]), and the consumer reads this one
            // only after [S1].
            unsafe { line.payload.get().write([number; PAYLOAD_WORDS]) };
            // [S1] publishes the payload; pairs with [S2].
            line.stamp.store(number + 1, Ordering::Release);
        }
    }

    /// Receives `count` messages, the first of them numbered `first`, and folds their payload together.
    ///
    /// # Safety
    ///
    /// The caller is the only consumer, `first` messages have been received, and the ring is mapped.
    #[inline(always)]
    unsafe fn consume(&self, first: u64, count: u64) -> u64 {
        let mask = self.count - 1;
        let head_mask = self.count / HEADS_PER_LAP - 1;
        // SAFETY: the head is mapped and atomic.
        let head = unsafe { &(*self.head).0 };
        let mut sum = 0u64;
        for number in first..first + count {
            // SAFETY: masked, so inside the ring.
            let line = unsafe { &*self.lines.add((number & mask) as usize) };
            // [S2] takes the payload over; pairs with [S1].
            while line.stamp.load(Ordering::Acquire) != number + 1 {
                back_off(EMPTY_PAUSES);
            }
            // SAFETY: written before [S1], and not again before [S4].
            let payload = unsafe { line.payload.get().read() };
            sum = payload.iter().fold(sum, |sum, word| sum ^ word);
            if (number + 1) & head_mask == 0 {
                // [S4] gives the consumed lines back; pairs with [S3].
                head.store(number + 1, Ordering::Release);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_many_laps_ends() {
        let Ok(duo) = Duo::new() else { return };
        assert!(stream(&duo, 50_000, 4096).unwrap() > 0.0);
    }

    #[test]
    fn a_capacity_that_is_no_power_of_two_is_refused() {
        let Ok(duo) = Duo::new() else { return };
        let error = stream(&duo, 1, 3000).unwrap_err();
        assert!(error.to_string().contains("3000"), "{error}");
    }
}
