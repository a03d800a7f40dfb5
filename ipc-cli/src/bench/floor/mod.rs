//! The floors: what bare shared memory, or the bare kernel, does on this machine between two pinned processes.
//!
//! Each file is one yardstick in plain code: raw pointers, atomics and nothing else. A floor offers no
//! framing, no variable size, no recovery and no check of the other side; it is what remains of a
//! transport when all of that is taken away, tuned until no change made it faster.

mod copier;
pub(crate) mod copy;
pub(crate) mod copy_through;
pub(crate) mod handover;
pub(crate) mod in_place;
pub(crate) mod index_ring;
pub(crate) mod ping_pong;
mod private;
pub(crate) mod socket;
pub(crate) mod stamped_ring;

pub(crate) use copier::Copier;
pub(crate) use private::Private;

use super::process::{Duo, Fallible, SharedBuffer, Side};
use std::cell::UnsafeCell;
use std::hint::black_box;
use std::mem::{offset_of, size_of};
use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// Payload words of a stamped line: 56 bytes beside the 8-byte stamp.
const PAYLOAD_WORDS: usize = 7;

/// One cache line that carries a message and the news of it together.
///
/// ```text
///   0  stamp    u64, the number of the message, 0 before the first
///   8  payload  56 bytes
/// ```
#[repr(C, align(64))]
struct StampedLine {
    /// Written by the line's producer after the payload, polled by its consumer.
    stamp: AtomicU64,
    /// Written by the producer before the stamp, read by the consumer after it.
    payload: UnsafeCell<[u64; PAYLOAD_WORDS]>,
}

/// An index with 128 bytes to itself, so that the neighbour-line prefetcher joins no two of them.
#[repr(C, align(128))]
struct IndexLine(AtomicU64);

const _: () = {
    assert!(size_of::<StampedLine>() == 64);
    assert!(offset_of!(StampedLine, payload) == 8);
    assert!(size_of::<IndexLine>() == 128);
};

/// Asks for the line at `line` in a writable state, long before the store that needs it.
///
/// Spelled in assembly because the compiler emits a plain read prefetch for processors as old as the
/// baseline, and a line fetched for reading costs the store a second transfer.
#[inline(always)]
fn prefetch_for_write<T>(line: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads and writes nothing the program can observe and faults on no address.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// Spins for `pauses` pause instructions without touching shared memory.
#[inline(always)]
fn back_off(pauses: u32) {
    for _ in 0..pauses {
        std::hint::spin_loop();
    }
}

/// Nanoseconds from `start` until now, shared out over `count` rounds or messages.
fn nanoseconds_each(start: Instant, count: u64) -> f64 {
    start.elapsed().as_nanos() as f64 / count.max(1) as f64
}

/// Nanoseconds a message of a one-way stream: `consume` and `produce` are given the number of the first message and how many,
/// once for a warm-up of `warm_up` and once for the `messages` that are timed, on the consumer's clock.
#[inline(always)]
fn one_way(
    duo: &Duo,
    memory: [&SharedBuffer; 2],
    warm_up: u64,
    messages: u64,
    consume: impl Fn(u64, u64) -> u64,
    produce: impl Fn(u64, u64),
) -> Fallible<f64> {
    let parent = |side: &Side<'_>| {
        memory.iter().for_each(|buffer| buffer.touch());
        side.meet()?;
        black_box(consume(0, warm_up));
        side.meet()?;
        let start = Instant::now();
        black_box(consume(warm_up, messages));
        Ok(nanoseconds_each(start, messages))
    };
    let child = |side: &Side<'_>| {
        memory.iter().for_each(|buffer| buffer.touch());
        side.meet()?;
        produce(0, warm_up);
        side.meet()?;
        produce(warm_up, messages);
        Ok(())
    };
    duo.run(parent, child)
}
