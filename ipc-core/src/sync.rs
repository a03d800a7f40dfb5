//! The one place that names atomics: core's in a build, loom's in a model.
//!
//! Everything that two sides can touch at once goes through this file: atomic words, fences, the spin
//! hint, and [`RingBytes`], the byte area of a ring. No other algorithm says `cfg(loom)`;
//! elsewhere it only chooses between tests and models.

#[cfg(all(feature = "std", not(loom)))]
pub(crate) use core::sync::atomic::AtomicBool;
#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(all(feature = "std", loom))]
pub(crate) use loom::sync::atomic::AtomicBool;
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

    /// The data area of a ring: a power of two of bytes, addressed by index.
    ///
    /// It checks nothing: callers keep `index + len <= capacity` and hold the right to touch those bytes.
    #[derive(Clone, Copy)]
    pub(crate) struct RingBytes {
        base: NonNull<u8>,
        capacity: u64,
    }

    impl RingBytes {
        /// # Safety
        /// `base` points to `capacity` bytes, aligned to 64, that stay valid while the value is used and are
        /// touched by others only under the ring's protocol. `capacity` is a power of two.
        pub(crate) const unsafe fn new(base: NonNull<u8>, capacity: u64) -> Self {
            Self { base, capacity }
        }

        #[inline(always)]
        pub(crate) fn capacity(&self) -> u64 {
            self.capacity
        }

        /// The byte at `index`, which is below the capacity.
        #[inline(always)]
        pub(crate) fn pointer(&self, index: u64) -> *mut u8 {
            self.base.as_ptr().wrapping_add(index as usize)
        }

        /// The header word at `index`, a multiple of 8 below the capacity.
        #[inline(always)]
        pub(crate) fn word(&self, index: u64) -> &AtomicU64 {
            debug_assert!(index.is_multiple_of(8) && index < self.capacity);
            // SAFETY: in bounds and aligned, as the caller keeps to; header words are only touched atomically while
            // both sides can reach them.
            unsafe { AtomicU64::from_ptr(self.pointer(index).cast()) }
        }

        /// # Safety
        /// `len` bytes from `index` lie inside the area and belong to the caller.
        #[inline(always)]
        pub(crate) unsafe fn copy_in(&self, index: u64, source: *const u8, len: usize) {
            // SAFETY: the caller's promise.
            unsafe { core::ptr::copy_nonoverlapping(source, self.pointer(index), len) }
        }

        /// # Safety
        /// `len` bytes from `index` lie inside the area and have been committed to the caller.
        #[inline(always)]
        pub(crate) unsafe fn copy_out(&self, index: u64, target: *mut u8, len: usize) {
            // SAFETY: the caller's promise. A hostile peer may write meanwhile; the bytes are then arbitrary,
            // which is all the caller is promised.
            unsafe { core::ptr::copy_nonoverlapping(self.pointer(index), target, len) }
        }

        /// Asks for ownership of the cache line at `index` ahead of a write to it. A hint only: an index beyond the capacity
        /// names a line that is not needed, and does no harm.
        #[inline(always)]
        pub(crate) fn prefetch_write(&self, index: u64) {
            super::prefetch_write(self.pointer(index));
        }

        /// Asks for a copy of the cache line at `index` ahead of a look at it. A hint only, as above.
        #[cfg(feature = "std")]
        #[inline(always)]
        pub(crate) fn prefetch_read(&self, index: u64) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a prefetch has no effect on memory and faults on no address; every x86-64 processor has it.
            unsafe {
                core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(self.pointer(index).cast());
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = index;
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
        capacity: u64,
    }

    impl RingBytes {
        /// # Safety
        /// `base` points to `capacity / 8` initialised words that outlive the value.
        pub(crate) const unsafe fn new(base: NonNull<u8>, capacity: u64) -> Self {
            Self { words: base.cast(), capacity }
        }

        pub(crate) fn capacity(&self) -> u64 {
            self.capacity
        }

        /// Never dereferenced in a model.
        pub(crate) fn pointer(&self, _index: u64) -> *mut u8 {
            NonNull::dangling().as_ptr()
        }

        pub(crate) fn word(&self, index: u64) -> &AtomicU64 {
            assert!(index < self.capacity);
            // SAFETY: the index is below the number of words.
            unsafe { self.words.add(index as usize / 8).as_ref() }
        }

        /// # Safety
        /// As in a build; `len` is a multiple of 8 in models.
        pub(crate) unsafe fn copy_in(&self, index: u64, source: *const u8, len: usize) {
            for at in (0..len).step_by(8) {
                // SAFETY: the caller promises `len` readable bytes.
                let value = unsafe { source.add(at).cast::<u64>().read_unaligned() };
                self.word(index + at as u64).store(value, Ordering::Relaxed);
            }
        }

        /// # Safety
        /// As in a build; `len` is a multiple of 8 in models.
        pub(crate) unsafe fn copy_out(&self, index: u64, target: *mut u8, len: usize) {
            for at in (0..len).step_by(8) {
                let value = self.word(index + at as u64).load(Ordering::Relaxed);
                // SAFETY: the caller promises `len` writable bytes.
                unsafe { target.add(at).cast::<u64>().write_unaligned(value) };
            }
        }

        pub(crate) fn prefetch_write(&self, _index: u64) {}

        #[cfg(feature = "std")]
        pub(crate) fn prefetch_read(&self, _index: u64) {}
    }
}

pub(crate) use bytes::RingBytes;

/// Asks for ownership of the cache line at `line` ahead of a write to it. A hint only: any address will do.
#[inline(always)]
pub(crate) fn prefetch_write<P>(line: *const P) {
    // By hand: the intrinsic becomes a prefetch for reading where the processor is not known to have this one. Those
    // without it execute it as a no-op.
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    // SAFETY: a prefetch has no effect on memory and faults on no address.
    unsafe {
        core::arch::asm!("prefetchw [{line}]", line = in(reg) line, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    let _ = line;
}

/// Declares a `const fn`; loom's atomics have no constant constructor, so models get a plain one.
macro_rules! const_fn {
    ($(#[$attribute:meta])* $visibility:vis fn $($rest:tt)*) => {
        #[cfg(not(loom))]
        $(#[$attribute])* $visibility const fn $($rest)*
        #[cfg(loom)]
        $(#[$attribute])* $visibility fn $($rest)*
    };
}
pub(crate) use const_fn;

#[cfg(not(loom))]
mod value {
    use super::{AtomicU64, Ordering};
    use core::cell::UnsafeCell;
    use core::mem::MaybeUninit;
    use core::sync::atomic::AtomicU8;
    use zerocopy::{FromBytes, Immutable, IntoBytes};

    /// A plain-data value that several sides store and load at once, in relaxed words.
    ///
    /// Whole words of 8 bytes go as `AtomicU64`, the 0 to 7 bytes after them as `AtomicU8`; a byte is always
    /// accessed with the same width. Nothing orders the words: a load during a store mixes both values.
    #[repr(C, align(8))]
    pub(crate) struct ValueWords<T>(UnsafeCell<MaybeUninit<T>>);

    impl<T> ValueWords<T> {
        /// Number of whole words; the tail starts behind them.
        const WORDS: usize = size_of::<T>() / 8;

        pub(crate) const fn new(value: T) -> Self {
            Self(UnsafeCell::new(MaybeUninit::new(value)))
        }

        #[inline(always)]
        fn word(&self, index: usize) -> &AtomicU64 {
            assert!(index < Self::WORDS);
            // SAFETY: in bounds, and aligned since the value starts on a multiple of 8. The bytes are
            // initialised (whoever stores or loads has a `T` without padding), and all sides touch them only
            // through `word` and `tail`.
            unsafe { AtomicU64::from_ptr(self.0.get().cast::<u64>().add(index)) }
        }

        #[inline(always)]
        fn tail(&self, index: usize) -> &AtomicU8 {
            let at = Self::WORDS * 8 + index;
            assert!(at < size_of::<T>());
            // SAFETY: as in `word`; a byte is always aligned.
            unsafe { AtomicU8::from_ptr(self.0.get().cast::<u8>().add(at)) }
        }
    }

    impl<T: FromBytes + IntoBytes + Immutable> ValueWords<T> {
        /// Writes the value, word by word.
        #[inline]
        pub(crate) fn store(&self, value: &T) {
            let (words, tail) = value.as_bytes().as_chunks::<8>();
            for (index, word) in words.iter().enumerate() {
                self.word(index).store(u64::from_ne_bytes(*word), Ordering::Relaxed);
            }
            for (index, byte) in tail.iter().enumerate() {
                self.tail(index).store(*byte, Ordering::Relaxed);
            }
        }

        /// Reads the value, word by word, and calls `between` after half of the words.
        #[inline]
        pub(crate) fn load(&self, value: &mut T, between: impl FnOnce()) {
            let (words, tail) = value.as_mut_bytes().as_chunks_mut::<8>();
            let half = words.len() / 2;
            let (first, second) = words.split_at_mut(half);
            self.load_words(first, 0);
            between();
            self.load_words(second, half);
            for (index, byte) in tail.iter_mut().enumerate() {
                *byte = self.tail(index).load(Ordering::Relaxed);
            }
        }

        #[inline(always)]
        fn load_words(&self, target: &mut [[u8; 8]], first: usize) {
            for (index, word) in target.iter_mut().enumerate() {
                *word = self.word(first + index).load(Ordering::Relaxed).to_ne_bytes();
            }
        }
    }
}

#[cfg(loom)]
mod value {
    use super::{AtomicU64, Ordering};
    use core::marker::PhantomData;
    use std::vec::Vec;
    use zerocopy::{FromBytes, Immutable, IntoBytes};

    /// The value in a model: one loom word for each 8 bytes begun.
    pub(crate) struct ValueWords<T> {
        words: Vec<AtomicU64>,
        value: PhantomData<T>,
    }

    impl<T: FromBytes + IntoBytes + Immutable> ValueWords<T> {
        pub(crate) fn new(value: T) -> Self {
            let words = (0..size_of::<T>().div_ceil(8)).map(|_| AtomicU64::new(0)).collect();
            let cell = Self { words, value: PhantomData };
            cell.store(&value);
            cell
        }

        pub(crate) fn store(&self, value: &T) {
            for (word, chunk) in self.words.iter().zip(value.as_bytes().chunks(8)) {
                let mut padded = [0; 8];
                padded[..chunk.len()].copy_from_slice(chunk);
                word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
            }
        }

        pub(crate) fn load(&self, value: &mut T, between: impl FnOnce()) {
            let mut between = Some(between);
            let half = self.words.len() / 2;
            for (index, (word, chunk)) in self.words.iter().zip(value.as_mut_bytes().chunks_mut(8)).enumerate() {
                if index == half {
                    between.take().into_iter().for_each(|between| between());
                }
                let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
                chunk.copy_from_slice(&bytes[..chunk.len()]);
            }
            between.into_iter().for_each(|between| between());
        }
    }
}

pub(crate) use value::ValueWords;

// SAFETY: the words are only touched atomically, and a shared value hands copies of the `T` to other threads,
// which is what `T: Send` allows.
unsafe impl<T: Send> Sync for ValueWords<T> {}
