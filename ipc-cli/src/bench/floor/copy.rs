//! The one-way stream of large messages: filled by one copy, read in place, given back.
//!
//! The producer's source stays warm in its own cache and the consumer reads every byte, so what is timed
//! is one copy and one read across the cache hierarchy. Nothing is copied out.

use std::ptr;
use std::sync::atomic::Ordering;

use super::super::process::{Duo, Fallible, SharedBuffer};
use super::{IndexLine, back_off, one_way};

/// Bytes of all the shared buffers together.
pub(crate) const ROTATION: usize = 256 * 1024;

/// Pauses of a consumer that found no filled buffer.
const EMPTY_PAUSES: u32 = 64;

/// Gigabytes (1e9 bytes) a second of a stream of `messages` messages of `size` bytes through shared buffers of [`ROTATION`] bytes in all.
///
/// # Errors
///
/// `size` is no multiple of 64 of which two fit into [`ROTATION`], or the pair of processes could not be run.
pub(crate) fn fill_and_read(duo: &Duo, size: usize, messages: u64) -> Fallible<f64> {
    if size == 0 || !size.is_multiple_of(64) || size > ROTATION / 2 {
        let most = ROTATION / 2;
        return Err(format!("{size} bytes are no multiple of 64 between 64 and {most}").into());
    }
    let count = (ROTATION / size) as u64;
    let counters = SharedBuffer::new((count as usize + 1) * size_of::<IndexLine>())?;
    let memory = SharedBuffer::new(count as usize * size)?;
    let head: *const IndexLine = counters.as_ptr().cast();
    let pool = Pool {
        head,
        // SAFETY: the counters hold one line more than there are buffers.
        stamps: unsafe { head.add(1) },
        buffers: memory.as_ptr(),
        count,
        size,
    };
    let warm_up = (messages / 8).max(4 * count);

    let source = vec![1u8; size];
    // SAFETY: `one_way` runs one consumer and one producer, which count from 0 on; the mappings outlive the run.
    let consume = |first, count| unsafe { pool.consume(first, count) };
    // SAFETY: as above.
    let produce = |first, count| unsafe { pool.produce(&source, first, count) };
    Ok(size as f64 / one_way(duo, [&counters, &memory], warm_up, messages, consume, produce)?)
}

/// Adds up the little words of `len` bytes from `start`, reading each byte once; a rest below 8 bytes is
/// added bytewise.
///
/// Eight sums run side by side, so the loop is as wide as the processor's loads and waits for no addition.
///
/// # Safety
///
/// `len` bytes from `start` are mapped and nobody writes them during the call.
pub(crate) unsafe fn sum_words(start: *const u8, len: usize) -> u64 {
    const SUMS: usize = 8;
    let mut sums = [0u64; SUMS];
    let mut offset = 0;
    while offset + size_of_val(&sums) <= len {
        // SAFETY: the block ends within `len`; the read needs no alignment.
        let block = unsafe { start.add(offset).cast::<[u64; SUMS]>().read_unaligned() };
        for (sum, word) in sums.iter_mut().zip(block) {
            *sum = sum.wrapping_add(word);
        }
        offset += size_of_val(&sums);
    }
    let mut total = sums.iter().fold(0u64, |total, sum| total.wrapping_add(*sum));
    while offset + size_of::<u64>() <= len {
        // SAFETY: the word ends within `len`; the read needs no alignment.
        let word = unsafe { start.add(offset).cast::<u64>().read_unaligned() };
        total = total.wrapping_add(word);
        offset += size_of::<u64>();
    }
    while offset < len {
        // SAFETY: offset < len.
        total = total.wrapping_add(u64::from(unsafe { start.add(offset).read() }));
        offset += 1;
    }
    total
}

/// The shared buffers as each side sees them.
struct Pool {
    /// Buffers given back. Written by the consumer, read by the producer.
    head: *const IndexLine,
    /// One a buffer: the number, from 1, of the message in it. Written by the producer, polled by the consumer.
    stamps: *const IndexLine,
    /// `count` buffers of `size` bytes; message `n` lies in buffer `n % count`.
    buffers: *mut u8,
    count: u64,
    size: usize,
}

impl Pool {
    /// Sends `count` copies of `source`, the first of them numbered `first`.
    ///
    /// # Safety
    ///
    /// The caller is the only producer, `first` messages have been sent, `source` has `size` bytes, and the
    /// buffers are mapped.
    unsafe fn produce(&self, source: &[u8], first: u64, count: u64) {
        // SAFETY: the head is mapped and atomic.
        let head = unsafe { &(*self.head).0 };
        let mut free_until = head.load(Ordering::Acquire) + self.count;
        for number in first..first + count {
            // The peer's line is read only when the copy says full.
            while number == free_until {
                std::hint::spin_loop();
                // [C3] takes the read buffers back; pairs with [C4].
                free_until = head.load(Ordering::Acquire) + self.count;
            }
            let index = (number % self.count) as usize;
            // SAFETY: the buffer's former message was read ([C3]), the consumer reads this one only after
            // [C1], and source and buffer are `size` bytes of different mappings.
            unsafe {
                let buffer = self.buffers.add(index * self.size);
                ptr::copy_nonoverlapping(source.as_ptr(), buffer, self.size);
            }
            // [C1] publishes the buffer; pairs with [C2].
            // SAFETY: there is a stamp a buffer.
            unsafe { (*self.stamps.add(index)).0.store(number + 1, Ordering::Release) };
        }
    }

    /// Receives `count` messages, the first of them numbered `first`, and adds up their words.
    ///
    /// # Safety
    ///
    /// The caller is the only consumer, `first` messages have been received, and the buffers are mapped.
    unsafe fn consume(&self, first: u64, count: u64) -> u64 {
        // SAFETY: the head is mapped and atomic.
        let head = unsafe { &(*self.head).0 };
        let mut sum = 0u64;
        for number in first..first + count {
            let index = (number % self.count) as usize;
            // SAFETY: there is a stamp a buffer.
            let stamp = unsafe { &(*self.stamps.add(index)).0 };
            // [C2] takes the buffer over; pairs with [C1].
            while stamp.load(Ordering::Acquire) != number + 1 {
                back_off(EMPTY_PAUSES);
            }
            // SAFETY: filled before [C1], and not again before [C4].
            let words = unsafe { sum_words(self.buffers.add(index * self.size), self.size) };
            sum = sum.wrapping_add(words);
            // [C4] gives the buffer back; pairs with [C3].
            head.store(number + 1, Ordering::Release);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_large_messages_has_a_speed() {
        let Ok(duo) = Duo::new() else { return };
        assert!(fill_and_read(&duo, 16 * 1024, 200).unwrap() > 0.0);
    }

    #[test]
    fn a_size_that_does_not_fit_is_refused() {
        let Ok(duo) = Duo::new() else { return };
        for size in [0, 100, ROTATION] {
            assert!(fill_and_read(&duo, size, 1).is_err());
        }
    }

    #[test]
    fn a_sum_takes_every_byte_once_whatever_the_length() {
        let bytes: Vec<u8> = (0..200u8).collect();
        for len in 0..bytes.len() {
            let part = &bytes[..len];
            let (words, rest) = part.as_chunks::<8>();
            let expected = words
                .iter()
                .map(|word| u64::from_le_bytes(*word))
                .fold(0, u64::wrapping_add)
                .wrapping_add(rest.iter().map(|byte| u64::from(*byte)).sum());
            // SAFETY: the slice is live and unshared.
            assert_eq!(unsafe { sum_words(part.as_ptr(), len) }, expected, "length {len}");
        }
    }
}
