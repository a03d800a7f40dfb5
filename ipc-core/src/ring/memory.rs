//! The memory of one ring: control block and data, and the two halves that are made from it.

use super::cursor::Cursor;
use super::{Consumer, Producer};
use crate::doorbell::Barrier;
#[cfg(feature = "std")]
use crate::doorbell::{Call, Waker};
use crate::layout::{CONTROL_SIZE, Control, Header, MAX_CAPACITY, MIN_CAPACITY, is_capacity};
use crate::sync::{Ordering, RingBytes};
use core::marker::PhantomData;
use core::ptr::NonNull;

/// Why some memory cannot be a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The capacity is not one that a ring can have.
    #[error(
        "a ring of {capacity} bytes was asked for; the capacity must be a power of two from {MIN_CAPACITY} to {MAX_CAPACITY}"
    )]
    Capacity {
        /// What was asked for, in bytes.
        capacity: u64,
    },
    /// The memory does not start on a multiple of 128 bytes.
    #[error("the ring's memory starts at {address:#x}; it must start on a multiple of 128 bytes")]
    Alignment {
        /// Where it starts.
        address: usize,
    },
}

/// Memory that holds a ring: a control block of [`CONTROL_SIZE`] bytes, then `capacity` bytes of data.
///
/// A view: it owns nothing and is cheap to copy.
#[derive(Clone, Copy)]
pub struct RingMemory<'a> {
    control: NonNull<Control>,
    bytes: RingBytes,
    memory: PhantomData<&'a Control>,
}

// SAFETY: a view onto memory that is shared by design; all access to it goes through atomics or through
// the two halves, whose makers promise that there is one of each.
unsafe impl Send for RingMemory<'_> {}
// SAFETY: as above.
unsafe impl Sync for RingMemory<'_> {}

impl<'a> RingMemory<'a> {
    /// Views `CONTROL_SIZE + capacity` bytes from `base` as a ring.
    ///
    /// Zeroed memory is a ring that was never used; other memory needs [`RingMemory::reset`] first.
    ///
    /// # Errors
    /// [`RingError`] for a capacity that is not a power of two from 4 KiB to 1 GiB, or memory that is not aligned to 128 bytes.
    ///
    /// # Safety
    /// The bytes are valid for reads and writes during `'a`, and are touched by nothing but rings. Reads are enough for an observer, which
    /// calls nothing but [`RingMemory::status`].
    pub unsafe fn from_raw(base: NonNull<u8>, capacity: u64) -> Result<Self, RingError> {
        if !is_capacity(capacity) {
            return Err(RingError::Capacity { capacity });
        }
        if !base.as_ptr().addr().is_multiple_of(align_of::<Control>()) {
            return Err(RingError::Alignment { address: base.as_ptr().addr() });
        }
        // SAFETY: the data follows the control block inside the caller's bytes.
        let data = unsafe { base.add(CONTROL_SIZE as usize) };
        // SAFETY: the caller's promise, the capacity checked above.
        Ok(unsafe { Self::from_parts(base.cast(), data, capacity) })
    }

    /// # Safety
    /// As [`RingMemory::from_raw`], for a control block and data that lie apart.
    pub(crate) unsafe fn from_parts(control: NonNull<Control>, data: NonNull<u8>, capacity: u64) -> Self {
        // SAFETY: the caller's promise.
        let bytes = unsafe { RingBytes::new(data, capacity) };
        Self { control, bytes, memory: PhantomData }
    }

    /// Makes the ring empty and its first position `position`, whatever the memory held before.
    ///
    /// Rings start at 0; another start, a multiple of 8, serves tests of late positions.
    ///
    /// # Panics
    /// If `position` is not a multiple of 8.
    ///
    /// # Safety
    /// No half of this ring exists, in any process.
    pub unsafe fn reset(&self, position: u64) {
        assert!(position.is_multiple_of(crate::layout::HEADER), "position {position} is not a multiple of 8");
        let control = self.control();
        for (word, value) in [
            (&control.producer_signals.ticket, 0),
            (&control.consumer.head, position),
            (&control.consumer_signals.credit, position),
            (&control.consumer_signals.messages, 0),
            (&control.consumer_signals.ticket, 0),
        ] {
            word.store(value, Ordering::Relaxed);
        }
        control.producer_signals.processor.store(0, Ordering::Relaxed);
        control.consumer_signals.processor.store(0, Ordering::Relaxed);
        // The word that is polled first must not look like a header; later ones are cleared by the producer on its way.
        let first = Cursor::new(position, self.capacity());
        self.bytes.word(first.index).store(Header::none(first.stamp).bits(), Ordering::Relaxed);
    }

    /// The producing half of a ring that nothing was published in yet.
    ///
    /// # Safety
    /// There is no other producer for this ring, in any process, and there was none since it was zeroed or [reset](Self::reset): a second
    /// one would write over what is unread.
    #[must_use]
    pub unsafe fn producer(&self, barrier: Barrier) -> Producer<'a> {
        Producer::new(*self, barrier)
    }

    /// The consuming half of a ring that nothing was consumed from yet.
    ///
    /// # Safety
    /// There is no other consumer for this ring, in any process, and there was none since it was zeroed or [reset](Self::reset).
    #[must_use]
    pub unsafe fn consumer(&self, barrier: Barrier) -> Consumer<'a> {
        Consumer::new(*self, barrier)
    }

    /// Gives the producer the space that the consumer has consumed and held back, on behalf of a side that is about to wait for something
    /// else. True: a sleeping producer must be woken.
    ///
    /// The consumer may be at work on another thread: its own gifts and this one only ever raise the credit, since a head that is seen here
    /// was stored after every credit that came before it.
    #[cfg(feature = "std")]
    #[must_use = "a producer that sleeps stays asleep unless it is woken"]
    pub(crate) fn give_held_credit(&self, barrier: Barrier) -> bool {
        let control = self.control();
        // [P2] the consumer finished reading before it stored this head ([P3]); pairs with [A2] in reserve.rs.
        let head = control.consumer.head.load(Ordering::Acquire);
        if control.consumer_signals.credit.fetch_max(head, Ordering::Release) >= head {
            return false;
        }
        // A waker of its own has answered no ticket, so this may ring once more than needed, and never less.
        Waker::default().call(&control.producer_signals.ticket, barrier) == Call::Ring
    }

    /// Capacity in bytes.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.bytes.capacity()
    }

    #[inline(always)]
    pub(super) fn control(&self) -> &Control {
        // SAFETY: valid for `'a` by the promise of the constructor; made of atomics, so shared access is sound.
        unsafe { self.control.as_ref() }
    }

    #[inline(always)]
    pub(super) fn bytes(&self) -> RingBytes {
        self.bytes
    }
}
