//! The one-way stream of 8-byte messages through a ring of shared indices, published once a batch.
//!
//! The classic queue of one producer and one consumer: a head and a tail on lines of their own, each side
//! keeping a copy of the other's. Eight messages share a line, so the cost of a transfer does too. Every message is
//! written and read by itself, as a program that sends one at a time does: volatile accesses keep the compiler from
//! moving a whole batch in a few vector instructions, which no interface of messages could follow.

use std::sync::atomic::Ordering;

use super::super::process::{Duo, Fallible, SharedBuffer};
use super::{IndexLine, back_off, one_way, prefetch_for_write};

/// Messages the ring holds, a power of two.
const SLOTS: u64 = 32 * 1024;

/// Pauses of a consumer that found the ring empty; it falls behind on purpose, as in the stamped ring.
const EMPTY_PAUSES: u32 = 16;

/// Messages ahead of the batch being written whose lines the producer asks for.
const PREFETCH_SLOTS: u64 = 64;

/// Head publications in one lap of the ring.
const HEADS_PER_LAP: u64 = 8;

/// Messages in one cache line.
const SLOTS_PER_LINE: u64 = 8;

/// Nanoseconds a message of a stream whose producer publishes every `batch` messages.
///
/// `messages` is rounded up to whole batches.
///
/// # Errors
///
/// `batch` is no power of two between 1 and 4096, or the pair of processes could not be run.
pub(crate) fn stream_batched(duo: &Duo, messages: u64, batch: u64) -> Fallible<f64> {
    if !batch.is_power_of_two() || batch > SLOTS / HEADS_PER_LAP {
        let most = SLOTS / HEADS_PER_LAP;
        return Err(format!("a batch of {batch} is no power of two between 1 and {most}").into());
    }
    let indices = SharedBuffer::new(2 * size_of::<IndexLine>())?;
    let memory = SharedBuffer::new(SLOTS as usize * size_of::<u64>())?;
    let head: *const IndexLine = indices.as_ptr().cast();
    let ring = Ring {
        head,
        // SAFETY: the buffer holds two index lines.
        tail: unsafe { head.add(1) },
        slots: memory.as_ptr().cast(),
        batch,
    };
    let messages = messages.next_multiple_of(batch);
    let warm_up = (messages / 8).max(4 * SLOTS).next_multiple_of(SLOTS);

    // SAFETY: `one_way` runs one consumer and one producer, which count from 0 on; the mappings outlive the run.
    let consume = |first, count| unsafe { ring.consume(first, count) };
    // SAFETY: as above.
    let produce = |first, count| unsafe { ring.produce(first, count) };
    one_way(duo, [&indices, &memory], warm_up, messages, consume, produce)
}

/// The ring as each side sees it.
struct Ring {
    /// Messages consumed. Written by the consumer, read by the producer.
    head: *const IndexLine,
    /// Messages published. Written by the producer, read by the consumer.
    tail: *const IndexLine,
    /// [`SLOTS`] words; message `n` lies in slot `n % SLOTS`.
    slots: *mut u64,
    /// Messages between two publications; divides [`SLOTS`], so a batch never wraps.
    batch: u64,
}

impl Ring {
    /// Sends `count` messages, the first of them numbered `first`.
    ///
    /// # Safety
    ///
    /// The caller is the only producer, `first` messages have been sent, `first` and `count` are whole
    /// batches, and the ring is mapped.
    #[inline(always)]
    unsafe fn produce(&self, first: u64, count: u64) {
        // SAFETY: both indices are mapped and atomic.
        let (head, tail) = unsafe { (&(*self.head).0, &(*self.tail).0) };
        let mut free_until = head.load(Ordering::Acquire) + SLOTS;
        let mut number = first;
        while number < first + count {
            // The peer's line is read only when the copy says full.
            while number + self.batch > free_until {
                std::hint::spin_loop();
                // [I3] takes the consumed slots back; pairs with [I4].
                free_until = head.load(Ordering::Acquire) + SLOTS;
            }
            for ahead in (0..self.batch).step_by(SLOTS_PER_LINE as usize) {
                let slot = (number + PREFETCH_SLOTS + ahead) % SLOTS;
                // SAFETY: reduced to the ring.
                prefetch_for_write(unsafe { self.slots.add(slot as usize) });
            }
            // SAFETY: reduced to the ring; the batch does not wrap.
            let slots = unsafe { self.slots.add((number % SLOTS) as usize) };
            for offset in 0..self.batch {
                // SAFETY: the slot's former message was consumed ([I3]), and the consumer reads this one
                // only after [I1].
                unsafe { slots.add(offset as usize).write_volatile(number + offset) };
            }
            number += self.batch;
            // [I1] publishes the batch; pairs with [I2].
            tail.store(number, Ordering::Release);
        }
    }

    /// Receives `count` messages, the first of them numbered `first`, and adds them up.
    ///
    /// # Safety
    ///
    /// The caller is the only consumer, `first` messages have been received, `first` and `count` are
    /// whole batches, and the ring is mapped.
    #[inline(always)]
    unsafe fn consume(&self, first: u64, count: u64) -> u64 {
        // SAFETY: both indices are mapped and atomic.
        let (head, tail) = unsafe { (&(*self.head).0, &(*self.tail).0) };
        let mut sum = 0u64;
        let mut sent = first;
        let mut number = first;
        while number < first + count {
            // The peer's line is read only when the copy says empty.
            while number == sent {
                // [I2] takes the published batches over; pairs with [I1].
                sent = tail.load(Ordering::Acquire);
                if number == sent {
                    back_off(EMPTY_PAUSES);
                }
            }
            // SAFETY: reduced to the ring; the batch does not wrap.
            let slots = unsafe { self.slots.add((number % SLOTS) as usize) };
            for offset in 0..self.batch {
                // SAFETY: written before [I1], and not again before [I4].
                sum = sum.wrapping_add(unsafe { slots.add(offset as usize).read_volatile() });
            }
            number += self.batch;
            if number.is_multiple_of(SLOTS / HEADS_PER_LAP) {
                // [I4] gives the consumed slots back; pairs with [I3].
                head.store(number, Ordering::Release);
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
        for batch in [1, 32, SLOTS / HEADS_PER_LAP] {
            assert!(stream_batched(&duo, 200_001, batch).unwrap() > 0.0);
        }
    }

    #[test]
    fn a_batch_that_would_wrap_is_refused() {
        let Ok(duo) = Duo::new() else { return };
        let error = stream_batched(&duo, 100, 24).unwrap_err();
        assert!(error.to_string().contains("a batch of 24"), "{error}");
    }
}
