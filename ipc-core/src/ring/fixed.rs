//! A ring in a static: no allocator, no operating system.

use super::{Consumer, Producer, RingMemory};
use crate::doorbell::Barrier;
use crate::layout::{Control, is_capacity};
use crate::sync::{AtomicU32, Ordering};
use core::cell::UnsafeCell;
use core::ptr::NonNull;

/// A ring of `CAPACITY` bytes between two threads (or a thread and an interrupt handler), for a `static`.
///
/// # Examples
/// ```
/// use ipc_core::ring::StaticRing;
/// static RING: StaticRing<4096> = StaticRing::new();
///
/// let (mut producer, mut consumer) = RING.split().expect("first split");
/// producer.try_push(b"hello")?;
/// let mut buffer = [0; 5];
/// consumer.try_read().unwrap().unwrap().read_at(0, &mut buffer);
/// assert_eq!(&buffer, b"hello");
/// assert!(RING.split().is_none(), "the halves exist once");
/// # Ok::<(), ipc_core::ring::ReserveError>(())
/// ```
#[repr(C, align(128))]
pub struct StaticRing<const CAPACITY: usize> {
    control: UnsafeCell<[u64; size_of::<Control>() / 8]>,
    data: UnsafeCell<[u8; CAPACITY]>,
    split: AtomicU32,
}

// SAFETY: the memory is only touched through the two halves, which `split` hands out once.
unsafe impl<const CAPACITY: usize> Sync for StaticRing<CAPACITY> {}

impl<const CAPACITY: usize> StaticRing<CAPACITY> {
    /// An empty ring. `CAPACITY` that is not a power of two from 4 KiB to 1 GiB does not compile.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(is_capacity(CAPACITY as u64), "the capacity must be a power of two from 4 KiB to 1 GiB") };
        Self {
            control: UnsafeCell::new([0; size_of::<Control>() / 8]),
            data: UnsafeCell::new([0; CAPACITY]),
            split: AtomicU32::new(0),
        }
    }

    /// The two halves, to the first caller; `None` to every later one.
    #[must_use]
    pub fn split(&'static self) -> Option<(Producer<'static>, Consumer<'static>)> {
        // Relaxed: only the count matters; the ring's memory is in its initial state until a half exists.
        if self.split.swap(1, Ordering::Relaxed) != 0 {
            return None;
        }
        let control = NonNull::from(&self.control).cast::<Control>();
        let data = NonNull::from(&self.data).cast::<u8>();
        // SAFETY: static memory of the right size; `Control` is all atomics, zeroed, and aligned like the struct.
        let memory = unsafe { RingMemory::from_parts(control, data, CAPACITY as u64) };
        // SAFETY: the swap above lets one caller through, so there is one half of each kind.
        Some(unsafe { (memory.producer(Barrier::Polling), memory.consumer(Barrier::Polling)) })
    }
}

impl<const CAPACITY: usize> Default for StaticRing<CAPACITY> {
    fn default() -> Self {
        Self::new()
    }
}
