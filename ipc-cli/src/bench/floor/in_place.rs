//! A message that is written in place and read in place: bare code on a bare shared buffer, both sides polling.
//!
//! The producer writes every byte of a block and publishes it with one store; the consumer reads every byte where it
//! lies and gives the block back with one store. Nothing else is in shared memory, and nobody sleeps.

use std::ptr;
use std::sync::atomic::Ordering;

use super::super::process::{Duo, Fallible, SharedBuffer};
use super::copy::sum_words;
use super::{IndexLine, Private, one_way};

/// Where the bytes of a message come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Made where they lie: one memset with a byte that changes with every message, which takes lines over without
    /// reading them; a loop of stores, which reads them first, is half as fast.
    Made,
    /// Copied from a private buffer, as by a program that has them elsewhere.
    Copied,
}

/// How blocks are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// Blocks that take turns.
    pub(crate) blocks: u64,
    /// Blocks that may be written and not yet given back: 1 alternates, as a round trip does; more is a stream.
    pub(crate) ahead: u64,
    pub(crate) reader: Reader,
}

/// What the consumer may do with the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// It could write to them too, at any time.
    Writes,
    /// The system keeps it from that. Some processors read such pages more slowly.
    ReadsOnly,
}

/// Nanoseconds a message of `size` bytes: written, published, read, given back.
///
/// # Errors
///
/// `size` is no positive multiple of 64, `ahead` is not between 1 and `blocks`, or the pair of processes could not be run.
pub(crate) fn write_and_read(
    duo: &Duo,
    source: Source,
    rotation: Rotation,
    size: usize,
    messages: u64,
) -> Fallible<f64> {
    let Rotation { blocks, ahead, reader } = rotation;
    if size == 0 || !size.is_multiple_of(64) || ahead == 0 || ahead > blocks {
        return Err(format!("{size} bytes cannot be passed in place with {rotation:?}").into());
    }
    let counters = SharedBuffer::new(2 * size_of::<IndexLine>())?;
    let memory = SharedBuffer::new(blocks as usize * size)?;
    let lines: *const IndexLine = counters.as_ptr().cast();
    let pool = Pool {
        written: lines,
        // SAFETY: the counters hold two lines.
        read: unsafe { lines.add(1) },
        memory: memory.as_ptr(),
        rotation,
        size,
    };
    let warm_up = messages / 8 + blocks;
    let private = Private::new(size)?;
    // SAFETY: `one_way` runs one consumer and one producer, which count from 0 on; the mappings outlive the run.
    let consume = |first, count| unsafe {
        if reader == Reader::ReadsOnly && first == 0 {
            memory.write_protect();
        }
        pool.consume(first, count)
    };
    let produce = |first, count| match source {
        // SAFETY: as above; a block has `size` bytes.
        Source::Made => unsafe {
            pool.produce(first, count, |block, number| ptr::write_bytes(block, number as u8, size));
        },
        // SAFETY: as above; the private buffer has `size` bytes, and the block is no part of it.
        Source::Copied => unsafe {
            pool.produce(first, count, |block, _| ptr::copy_nonoverlapping(private.bytes().as_ptr(), block, size));
        },
    };
    one_way(duo, [&counters, &memory], warm_up, messages, consume, produce)
}

/// The blocks as each side sees them.
struct Pool {
    /// Messages written. Written by the producer, polled by the consumer.
    written: *const IndexLine,
    /// Messages read. Written by the consumer, polled by the producer.
    read: *const IndexLine,
    /// The blocks; message `n` lies in block `n % blocks`.
    memory: *mut u8,
    rotation: Rotation,
    size: usize,
}

impl Pool {
    /// The block of message `number`.
    fn block(&self, number: u64) -> *mut u8 {
        let index = (number % self.rotation.blocks) as usize;
        // SAFETY: the memory holds `blocks` blocks.
        unsafe { self.memory.add(index * self.size) }
    }

    /// Writes and publishes `count` messages, the first of them numbered `first`.
    ///
    /// # Safety
    ///
    /// The caller is the only producer, `first` messages were published, the blocks are mapped, and `write` writes nothing
    /// but the block it is given.
    #[inline(always)]
    unsafe fn produce(&self, first: u64, count: u64, write: impl Fn(*mut u8, u64)) {
        // SAFETY: both counters are mapped and atomic.
        let (written, read) = unsafe { (&(*self.written).0, &(*self.read).0) };
        let mut given_back = read.load(Ordering::Acquire);
        for number in first..first + count {
            // The peer's line is read only when the copy says full.
            while number - given_back >= self.rotation.ahead {
                std::hint::spin_loop();
                // [B3] takes the block back; pairs with [B4].
                given_back = read.load(Ordering::Acquire);
            }
            // The block's former message was read ([B3], as `ahead` is at most `blocks`).
            write(self.block(number), number);
            // [B1] publishes the block; pairs with [B2].
            written.store(number + 1, Ordering::Release);
        }
    }

    /// Reads and gives back `count` messages, the first of them numbered `first`, and adds up their words.
    ///
    /// # Safety
    ///
    /// The caller is the only consumer, `first` messages were given back, and the blocks are mapped.
    #[inline(always)]
    unsafe fn consume(&self, first: u64, count: u64) -> u64 {
        // SAFETY: both counters are mapped and atomic.
        let (written, read) = unsafe { (&(*self.written).0, &(*self.read).0) };
        let mut published = first;
        let mut sum = 0u64;
        for number in first..first + count {
            while published <= number {
                std::hint::spin_loop();
                // [B2] takes the block over; pairs with [B1].
                published = written.load(Ordering::Acquire);
            }
            // SAFETY: written before [B1], and not again before [B4].
            sum = sum.wrapping_add(unsafe { sum_words(self.block(number), self.size) });
            // [B4] gives the block back; pairs with [B3].
            read.store(number + 1, Ordering::Release);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sources_pass_in_turns_and_as_a_stream() {
        let Ok(duo) = Duo::new() else { return };
        for source in [Source::Made, Source::Copied] {
            for (blocks, ahead, reader) in
                [(1, 1, Reader::Writes), (4, 1, Reader::ReadsOnly), (4, 4, Reader::Writes), (4, 4, Reader::ReadsOnly)]
            {
                let rotation = Rotation { blocks, ahead, reader };
                assert!(write_and_read(&duo, source, rotation, 64 << 10, 50).unwrap() > 0.0);
            }
        }
    }

    #[test]
    fn more_ahead_than_blocks_is_refused() {
        let Ok(duo) = Duo::new() else { return };
        for (blocks, ahead) in [(1, 2), (1, 0), (0, 0)] {
            let rotation = Rotation { blocks, ahead, reader: Reader::Writes };
            assert!(write_and_read(&duo, Source::Made, rotation, 64, 1).is_err());
        }
        let rotation = Rotation { blocks: 1, ahead: 1, reader: Reader::Writes };
        assert!(write_and_read(&duo, Source::Made, rotation, 100, 1).is_err());
    }

    #[test]
    fn the_consumer_adds_up_every_byte_that_was_made() {
        let rotation = Rotation { blocks: 2, ahead: 2, reader: Reader::Writes };
        let counters = SharedBuffer::new(2 * size_of::<IndexLine>()).unwrap();
        let memory = SharedBuffer::new(2 * 4096).unwrap();
        let lines: *const IndexLine = counters.as_ptr().cast();
        // SAFETY: the counters hold two lines.
        let read = unsafe { lines.add(1) };
        let pool = Pool { written: lines, read, memory: memory.as_ptr(), rotation, size: 4096 };
        // SAFETY: one thread is both sides, and the buffers outlive the calls.
        let sum = unsafe {
            pool.produce(0, 2, |block, number| ptr::write_bytes(block, number as u8 + 5, 4096));
            pool.consume(0, 2)
        };
        assert_eq!(sum, 0x0b0b_0b0b_0b0b_0b0b_u64.wrapping_mul(4096 / 8));
    }
}
