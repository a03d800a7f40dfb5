//! The one place that names atomics: core's in a build, loom's in a model.
//!
//! Everything that two sides can touch at once goes through this file: atomic words, fences, the spin
//! hint, and [`RingBytes`], the byte area of a ring. No other file says `cfg(loom)`.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Tells the processor (or the model checker) that this thread polls.
#[inline(always)]
pub(crate) fn spin_hint() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// Forbids the compiler, not the processor, to move memory accesses across it.
#[inline(always)]
pub(crate) fn compiler_fence() {
    #[cfg(not(loom))]
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
}

/// Checks a fact about a layout at compile time; loom's atomics have sizes of their own, so models skip it.
macro_rules! layout_assert {
    ($($condition:tt)*) => {
        #[cfg(not(loom))]
        const _: () = assert!($($condition)*);
    };
}
pub(crate) use layout_assert;

/// Keeps items out of models: what needs constant or foreign memory cannot hold loom's atomics.
macro_rules! outside_models {
    ($($item:item)*) => { $(#[cfg(not(loom))] $item)* };
}
pub(crate) use outside_models;

#[cfg(not(loom))]
mod bytes {
    use super::AtomicU64;
    use core::ptr::NonNull;

    /// The data area of a ring: a power of two of bytes, addressed by position (taken modulo the capacity).
    ///
    /// It checks nothing: callers keep `index + len <= capacity` and hold the right to touch those bytes.
    #[derive(Clone, Copy)]
    pub(crate) struct RingBytes {
        base: NonNull<u8>,
        mask: u64,
    }

    impl RingBytes {
        /// # Safety
        /// `base` points to `capacity` bytes, aligned to 64, that stay valid while the value is used and are
        /// touched by others only under the ring's protocol. `capacity` is a power of two.
        pub(crate) const unsafe fn new(base: NonNull<u8>, capacity: u64) -> Self {
            Self { base, mask: capacity - 1 }
        }

        #[inline(always)]
        pub(crate) fn capacity(&self) -> u64 {
            self.mask + 1
        }

        /// Distance in bytes from the start of the area.
        #[inline(always)]
        pub(crate) fn index(&self, position: u64) -> u64 {
            position & self.mask
        }

        /// First byte at `position`.
        #[inline(always)]
        pub(crate) fn pointer(&self, position: u64) -> *mut u8 {
            // SAFETY: the masked index is below the capacity.
            unsafe { self.base.as_ptr().add(self.index(position) as usize) }
        }

        /// The header word at `position`, a multiple of 8.
        #[inline(always)]
        pub(crate) fn word(&self, position: u64) -> &AtomicU64 {
            debug_assert!(position.is_multiple_of(8));
            // SAFETY: in bounds and aligned as above; header words are only touched atomically while both
            // sides can reach them.
            unsafe { AtomicU64::from_ptr(self.pointer(position).cast()) }
        }

        /// # Safety
        /// `len` bytes from `position` lie inside the area and belong to the caller.
        #[inline(always)]
        pub(crate) unsafe fn copy_in(&self, position: u64, source: *const u8, len: usize) {
            // SAFETY: the caller's promise.
            unsafe { core::ptr::copy_nonoverlapping(source, self.pointer(position), len) }
        }

        /// # Safety
        /// `len` bytes from `position` lie inside the area and have been committed to the caller.
        #[inline(always)]
        pub(crate) unsafe fn copy_out(&self, position: u64, target: *mut u8, len: usize) {
            // SAFETY: the caller's promise. A hostile peer may write meanwhile; the bytes are then arbitrary,
            // which is all the caller is promised.
            unsafe { core::ptr::copy_nonoverlapping(self.pointer(position), target, len) }
        }

        /// Asks for ownership of the cache line at `position` ahead of a write to it. A hint only.
        #[inline(always)]
        pub(crate) fn prefetch_write(&self, position: u64) {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            // SAFETY: a prefetch has no effect on memory and faults on no address.
            unsafe {
                use core::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_ET0>(self.pointer(position).cast());
            }
            #[cfg(not(all(target_arch = "x86_64", not(miri))))]
            let _ = position;
        }
    }
}

#[cfg(loom)]
mod bytes {
    use super::{AtomicU64, Ordering};
    use core::ptr::NonNull;

    /// The data area of a ring in a model: relaxed words, so that a payload read without the right
    /// acquire really returns stale bytes.
    #[derive(Clone, Copy)]
    pub(crate) struct RingBytes {
        words: NonNull<AtomicU64>,
        mask: u64,
    }

    impl RingBytes {
        /// # Safety
        /// `base` points to `capacity / 8` initialised words that outlive the value.
        pub(crate) const unsafe fn new(base: NonNull<u8>, capacity: u64) -> Self {
            Self { words: base.cast(), mask: capacity - 1 }
        }

        pub(crate) fn capacity(&self) -> u64 {
            self.mask + 1
        }

        pub(crate) fn index(&self, position: u64) -> u64 {
            position & self.mask
        }

        /// Never dereferenced in a model.
        pub(crate) fn pointer(&self, _position: u64) -> *mut u8 {
            NonNull::dangling().as_ptr()
        }

        pub(crate) fn word(&self, position: u64) -> &AtomicU64 {
            // SAFETY: the index is below the number of words.
            unsafe { self.words.add(self.index(position) as usize / 8).as_ref() }
        }

        /// # Safety
        /// As in a build; `len` is a multiple of 8 in models.
        pub(crate) unsafe fn copy_in(&self, position: u64, source: *const u8, len: usize) {
            for at in (0..len).step_by(8) {
                // SAFETY: the caller promises `len` readable bytes.
                let value = unsafe { source.add(at).cast::<u64>().read_unaligned() };
                self.word(position + at as u64).store(value, Ordering::Relaxed);
            }
        }

        /// # Safety
        /// As in a build; `len` is a multiple of 8 in models.
        pub(crate) unsafe fn copy_out(&self, position: u64, target: *mut u8, len: usize) {
            for at in (0..len).step_by(8) {
                let value = self.word(position + at as u64).load(Ordering::Relaxed);
                // SAFETY: the caller promises `len` writable bytes.
                unsafe { target.add(at).cast::<u64>().write_unaligned(value) };
            }
        }

        pub(crate) fn prefetch_write(&self, _position: u64) {}
    }
}

pub(crate) use bytes::RingBytes;
