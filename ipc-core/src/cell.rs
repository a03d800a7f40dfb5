//! A value with a version: the latest state, for any number of readers.
//!
//! Promise: a reader gets a whole value, never a mixture of two, together with its version; one version never
//! stands for two values. The writer waits for nobody. All of it holds inside one process and between
//! processes that map the same memory, and a hostile peer can only give a reader wrong values.
//! Refusal: it is no queue. Values between two loads are lost, readers are not told that a value came, and
//! a reader is not promised progress against a writer that never stops.
//!
//! ```text
//!  byte 0            8 (T's alignment, if larger)                      next multiple of 128
//!       +------------+--------------------------------------+----------+
//!       | version    | value: T, 8 bytes at a time          | unused   |
//!       +------------+--------------------------------------+----------+
//!         even: value is whole; odd: a write is in progress; +2 for each write
//! ```
//!
//! The algorithm is the seqlock, with orderings after H.-J. Boehm, "Can seqlocks get along with programming
//! language memory models?", MSPC 2012. The pairs:
//!
//! | release | acquire | carries |
//! |---|---|---|
//! | `[V1]` writer publishes the even version | `[W1]` reader's first look at the version | the value's words |
//! | `[V2]` writer's fence after the odd version | `[W2]` reader's fence before its second look | "these words are being overwritten" |

use crate::sync::{AtomicU64, Ordering, ValueWords, const_fn, fence, layout_assert, spin_hint};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The mask of a version that uses all of its 64 bits.
const FULL_VERSION: u64 = u64::MAX;

/// A value of plain data in shared memory, with a 64-bit version: one writer, many readers.
///
/// `T` is plain data of any size, 0 included; types whose layout differs between builds, such as `usize`, make
/// a cell that only equal builds can share. The cell holds no addresses, and zero bytes are a valid cell: version
/// 0 with a value of zeros. It starts on a multiple of 128 bytes, so that neither its neighbours nor the
/// adjacent-line prefetcher disturb it; version and value share a line because every reader wants both.
///
/// The version rises by 2 with each write. Of its 64 bits 63 count writes, which at a billion writes a second
/// last for 292 years, so a reader may pause for as long as it likes between its two looks at the version
/// (see [`min_bits`](crate::version::min_bits)).
///
/// Readers only ever read. On 64-bit targets they may map the memory read-only; 32-bit targets may need a
/// writable mapping, as some of them load 64 bits with a compare-and-swap.
///
/// # Examples
///
/// In one process:
///
/// ```
/// use ipc_core::cell::VersionedCell;
///
/// let mut cell = VersionedCell::new([0u32; 3]);
/// let (mut writer, reader) = cell.split();
/// std::thread::scope(|scope| {
///     scope.spawn(move || writer.store(&[1, 2, 3]));
///     scope.spawn(move || match reader.load() {
///         Ok((value, version)) => assert_eq!(value, if version == 0 { [0; 3] } else { [1, 2, 3] }),
///         Err(busy) => println!("{busy}"),
///     });
/// });
/// ```
///
/// In memory that came from elsewhere, found through an [`Offset`](crate::offset::Offset):
///
/// ```
/// use core::ptr::NonNull;
/// use ipc_core::{cell::VersionedCell, offset::Offset};
///
/// #[repr(align(4096))]
/// struct Page([u8; 4096]);
///
/// let mut page = Box::new(Page([0; 4096]));
/// let base = NonNull::from(&mut *page).cast::<u8>();
/// let place = Offset::<VersionedCell<[u8; 100]>>::new(1024).resolve(base, 4096)?;
/// // SAFETY: zero bytes are a cell, and the page is used as nothing else while `cell` lives.
/// let cell = unsafe { place.as_ref() };
/// // SAFETY: this is the only writer of the page.
/// let mut writer = unsafe { cell.writer() };
/// writer.store(&[7; 100]);
/// assert_eq!(cell.reader().try_load(), Some(([7; 100], 2)));
/// # Ok::<(), ipc_core::offset::OffsetError>(())
/// ```
#[repr(C, align(128))]
pub struct VersionedCell<T> {
    /// Written by the writer alone, read by every reader and by a writer that takes over. Even: the value is
    /// whole. Odd: a write is in progress, or its writer died in it.
    version: AtomicU64,
    /// Written by the writer while `version` is odd; read by readers at any time and believed only if the
    /// version was even before and the same after.
    value: ValueWords<T>,
}

layout_assert!(align_of::<VersionedCell<u8>>() == 128);
layout_assert!(size_of::<VersionedCell<[u8; 120]>>() == 128);
layout_assert!(size_of::<VersionedCell<[u8; 121]>>() == 256);
layout_assert!(core::mem::offset_of!(VersionedCell<u8>, version) == 0);
layout_assert!(core::mem::offset_of!(VersionedCell<u8>, value) == 8);

impl<T: FromBytes + IntoBytes + Immutable> VersionedCell<T> {
    const_fn! {
        /// A cell at version 0 that holds `value`; fit for a `static`.
        ///
        /// # Examples
        ///
        /// ```
        /// use ipc_core::cell::VersionedCell;
        ///
        /// static LIMITS: VersionedCell<[u64; 2]> = VersionedCell::new([10, 20]);
        /// assert_eq!(LIMITS.reader().try_load(), Some(([10, 20], 0)));
        /// ```
        #[must_use]
        pub fn new(value: T) -> Self {
            Self { version: AtomicU64::new(0), value: ValueWords::new(value) }
        }
    }

    /// The writer and a reader of an owned cell.
    ///
    /// The exclusive borrow is the proof that there is no other writer. Clone the reader for more of them.
    ///
    /// # Examples
    ///
    /// See [`VersionedCell`].
    pub fn split(&mut self) -> (CellWriter<'_, T>, CellReader<'_, T>) {
        let cell = &*self;
        (CellWriter::take_over(cell), cell.reader())
    }

    /// A reader, of which there may be any number.
    #[must_use]
    pub const fn reader(&self) -> CellReader<'_, T> {
        CellReader { cell: self }
    }

    /// The writer of a cell that others may see at the same time.
    ///
    /// It goes on from the version it finds. If an earlier writer died in the middle of a write, that version
    /// is odd and no whole value exists, so readers are refused until the first store. The store then skips
    /// the number of the unfinished write, which is thus never published.
    ///
    /// # Safety
    ///
    /// The caller is the cell's only writer, in all processes, for as long as the returned value is used, and
    /// the end of any earlier writer happened before this call (its thread was joined, its process was seen to
    /// have ended, or a lock was handed over).
    ///
    /// # Examples
    ///
    /// See [`VersionedCell`].
    #[must_use]
    pub unsafe fn writer(&self) -> CellWriter<'_, T> {
        CellWriter::take_over(self)
    }
}

/// The one side that changes a [`VersionedCell`].
pub struct CellWriter<'a, T> {
    cell: &'a VersionedCell<T>,
    /// The cell's version as this writer left or found it. Read from the cell once, at the start: nobody else
    /// may write it, so what a hostile reader puts there does not matter.
    version: u64,
}

impl<'a, T: FromBytes + IntoBytes + Immutable> CellWriter<'a, T> {
    fn take_over(cell: &'a VersionedCell<T>) -> Self {
        // Relaxed: the caller's proof that the earlier writer is gone orders its stores before ours.
        Self { cell, version: cell.version.load(Ordering::Relaxed) }
    }

    /// Replaces the value, in time that depends on its size alone.
    ///
    /// # Examples
    ///
    /// ```
    /// use ipc_core::cell::VersionedCell;
    ///
    /// let mut cell = VersionedCell::new(0.0f64);
    /// let (mut writer, reader) = cell.split();
    /// writer.store(&20.5);
    /// writer.store(&21.0);
    /// assert_eq!(reader.try_load(), Some((21.0, writer.version())));
    /// ```
    #[inline]
    pub fn store(&mut self, value: &T) {
        self.begin();
        self.cell.value.store(value);
        self.publish();
    }

    /// Version of the last value published, a multiple of 2.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version & !1
    }

    /// Makes the version odd: the next odd number, past that of a write that an earlier writer left open.
    #[inline]
    fn begin(&mut self) {
        self.version = self.version.wrapping_add(1) | 1;
        // Relaxed: [V2] is what keeps the value's words behind it. A release store would keep earlier
        // accesses before it, which nobody needs, and let the words pass it.
        self.cell.version.store(self.version, Ordering::Relaxed);
        // [V2] a reader that saw any of the words to come also sees the odd version; pairs with [W2].
        fence(Ordering::Release);
    }

    /// Makes the version even: the value is whole.
    #[inline]
    fn publish(&mut self) {
        self.version = self.version.wrapping_add(1);
        // [V1] publishes the words of the value; pairs with [W1].
        self.cell.version.store(self.version, Ordering::Release);
    }
}

/// A side that loads from a [`VersionedCell`]; clones read independently.
pub struct CellReader<'a, T> {
    cell: &'a VersionedCell<T>,
}

impl<T> Clone for CellReader<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for CellReader<'_, T> {}

impl<T: FromBytes + IntoBytes + Immutable> CellReader<'_, T> {
    /// Attempts that [`load`](Self::load) makes before it gives up.
    ///
    /// Far more than a running writer's longest write needs, and short, of the order of milliseconds for a
    /// small value, against a writer that was stopped.
    pub const LOAD_ATTEMPTS: u32 = 1 << 16;

    /// The value and its version, after up to [`LOAD_ATTEMPTS`](Self::LOAD_ATTEMPTS) attempts.
    ///
    /// # Errors
    ///
    /// As [`load_within`](Self::load_within).
    ///
    /// # Examples
    ///
    /// See [`VersionedCell`].
    pub fn load(&self) -> Result<(T, u64), LoadError> {
        self.load_within(Self::LOAD_ATTEMPTS)
    }

    /// The value and its version, after up to `attempts` attempts (0 counts as 1).
    ///
    /// The number bounds the time, so that a writer that died in the middle of a write cannot hold readers
    /// for ever. Between two attempts the processor is told that it polls.
    ///
    /// # Errors
    ///
    /// * [`LoadError::Stalled`]: every attempt met one and the same unfinished write.
    /// * [`LoadError::Overrun`]: writes kept coming, and each attempt met one.
    ///
    /// # Examples
    ///
    /// ```
    /// use ipc_core::cell::VersionedCell;
    ///
    /// let cell = VersionedCell::new(5u16);
    /// assert_eq!(cell.reader().load_within(3), Ok((5, 0)));
    /// ```
    pub fn load_within(&self, attempts: u32) -> Result<(T, u64), LoadError> {
        let mut value = T::new_zeroed();
        let attempts = attempts.max(1);
        let mut made = 0;
        // The odd version that every attempt so far has met.
        let mut unfinished = None;
        loop {
            let seen = match self.read_with(&mut value, FULL_VERSION, || ()) {
                Ok(version) => return Ok((value, version)),
                Err(seen) => seen,
            };
            let same = made == 0 || unfinished == Some(seen);
            unfinished = (same && seen & 1 == 1).then_some(seen);
            made += 1;
            if made == attempts {
                return Err(match unfinished {
                    Some(version) => LoadError::Stalled { attempts, version },
                    None => LoadError::Overrun { attempts, version: seen },
                });
            }
            spin_hint();
        }
    }

    /// The value and its version, or `None` if a write was in progress or came in between.
    ///
    /// A single attempt, without a loop. It keeps answering `None` if the writer died in the middle of a
    /// write, until a new writer stores.
    ///
    /// # Examples
    ///
    /// ```
    /// use ipc_core::cell::VersionedCell;
    ///
    /// let cell = VersionedCell::new(*b"idle");
    /// assert_eq!(cell.reader().try_load(), Some((*b"idle", 0)));
    /// ```
    #[inline]
    #[must_use]
    pub fn try_load(&self) -> Option<(T, u64)> {
        let mut value = T::new_zeroed();
        let version = self.read_with(&mut value, FULL_VERSION, || ()).ok()?;
        Some((value, version))
    }

    /// Version of the last value published, a multiple of 2; it can be out of date when the call returns.
    ///
    /// Cheaper than a load for the question whether there is something new: a version seen twice means that
    /// nothing was published in between.
    #[inline]
    #[must_use]
    pub fn version(&self) -> u64 {
        // [W1] so that what the writer did before the publication is visible too; pairs with [V1].
        self.cell.version.load(Ordering::Acquire) & !1
    }

    /// One attempt: the version if `value` is whole, else the version that spoiled it.
    ///
    /// `mask` keeps the bits of the version that are compared, and `between` runs after half of the words;
    /// outside tests they are [`FULL_VERSION`] and nothing.
    #[inline(always)]
    fn read_with(&self, value: &mut T, mask: u64, between: impl FnOnce()) -> Result<u64, u64> {
        // [W1] the words below are at least as new as this version; pairs with [V1].
        let before = self.cell.version.load(Ordering::Acquire) & mask;
        if before & 1 == 1 {
            return Err(before);
        }
        self.cell.value.load(value, between);
        // [W2] if any word came from a later write, the load below sees at least that write's odd version;
        // pairs with [V2]. An acquire load alone would not do: it keeps later accesses behind it, while the
        // words are earlier ones.
        fence(Ordering::Acquire);
        // Relaxed: [W2] orders it behind the words, and nothing after it depends on what it sees.
        let after = self.cell.version.load(Ordering::Relaxed) & mask;
        if before == after { Ok(before) } else { Err(after) }
    }
}

/// Why a load ended without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Every attempt met the same unfinished write: its writer is paused or has died.
    #[error("{attempts} attempt(s) met one unfinished write (version {version}): its writer is paused or gone")]
    Stalled {
        /// Attempts made.
        attempts: u32,
        /// The odd version of the unfinished write.
        version: u64,
    },
    /// Each attempt met a write, and not the same one throughout: the writer publishes faster than this
    /// reader copies.
    #[error("{attempts} attempt(s) were each overtaken by a write, the last at version {version}")]
    Overrun {
        /// Attempts made.
        attempts: u32,
        /// The version last seen, even or odd.
        version: u64,
    },
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::ptr::NonNull;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::thread;
    use std::vec::Vec;

    const WORDS: usize = 16;

    fn is_torn(value: &[u64; WORDS]) -> bool {
        value.iter().any(|word| *word != value[0])
    }

    fn round_trip<const N: usize>(values: &[Vec<u8>]) -> Result<(), TestCaseError> {
        let mut cell = VersionedCell::new([0u8; N]);
        let (mut writer, reader) = cell.split();
        prop_assert_eq!(reader.load(), Ok(([0; N], 0)));
        for (index, bytes) in values.iter().enumerate() {
            let value: [u8; N] = bytes[..N].try_into().unwrap();
            writer.store(&value);
            let version = (index as u64 + 1) * 2;
            prop_assert_eq!(reader.load(), Ok((value, version)));
            prop_assert_eq!(reader.try_load(), Some((value, version)));
            prop_assert_eq!((writer.version(), reader.version()), (version, version));
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

        #[test]
        fn a_value_of_any_size_comes_back_with_its_version(
            values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 128), 1..5),
        ) {
            round_trip::<0>(&values)?;
            round_trip::<1>(&values)?;
            round_trip::<7>(&values)?;
            round_trip::<8>(&values)?;
            round_trip::<9>(&values)?;
            round_trip::<64>(&values)?;
            round_trip::<100>(&values)?;
            round_trip::<128>(&values)?;
        }
    }

    #[test]
    fn a_value_aligned_to_more_than_a_word_comes_back() {
        let mut cell = VersionedCell::new([1u128, 2]);
        let (mut writer, reader) = cell.split();
        writer.store(&[u128::MAX, 3 << 64]);
        assert_eq!(reader.load(), Ok(([u128::MAX, 3 << 64], 2)));
    }

    #[test]
    fn a_moved_cell_keeps_its_value() {
        let mut cell = VersionedCell::new([0u8; 9]);
        cell.split().0.store(&[9; 9]);
        let moved = std::boxed::Box::new(cell);
        assert_eq!(moved.reader().load(), Ok(([9; 9], 2)));
    }

    #[test]
    fn zero_bytes_are_a_cell_at_version_0_and_a_store_stays_inside_the_value() {
        #[repr(align(128))]
        struct Memory([u8; 128]);

        let mut memory = Memory([0; 128]);
        let base = NonNull::from(&mut memory);
        // SAFETY: zero bytes are a cell, and the memory is used as nothing else while `cell` lives.
        let cell = unsafe { base.cast::<VersionedCell<[u8; 9]>>().as_ref() };
        assert_eq!(cell.reader().load(), Ok(([0; 9], 0)));
        // SAFETY: the only writer.
        unsafe { cell.writer() }.store(&[0xff; 9]);
        assert_eq!(cell.reader().load(), Ok(([0xff; 9], 2)));
        assert!(memory.0[8..17].iter().all(|byte| *byte == 0xff));
        assert!(memory.0[17..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_version_seen_twice_means_that_nothing_was_published() {
        let mut cell = VersionedCell::new(1u64);
        let (mut writer, reader) = cell.split();
        let before = reader.version();
        assert_eq!(reader.version(), before);
        // The same value again is still a publication.
        writer.store(&1);
        assert_ne!(reader.version(), before);
    }

    #[test]
    fn a_reader_beside_a_busy_writer_never_sees_a_torn_value_or_an_older_version() {
        const WRITES: u64 = if cfg!(miri) { 200 } else { 300_000 };
        let mut cell = VersionedCell::new([0u64; WORDS]);
        let (mut writer, reader) = cell.split();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(move || {
                    let mut last = 0;
                    while last < WRITES * 2 {
                        let Some((value, version)) = reader.try_load() else {
                            thread::yield_now();
                            continue;
                        };
                        assert!(!is_torn(&value), "{value:?} at version {version}");
                        assert_eq!(value[0] * 2, version);
                        assert!(last <= version, "version {version} after {last}");
                        last = version;
                    }
                });
            }
            scope.spawn(move || {
                for number in 1..=WRITES {
                    writer.store(&[number; WORDS]);
                }
            });
        });
    }

    #[test]
    fn readers_are_refused_in_bounded_time_after_a_writer_died_in_a_write() {
        let mut cell = VersionedCell::new([4u64; 2]);
        let (mut writer, reader) = cell.split();
        writer.begin();
        assert_eq!(reader.try_load(), None);
        assert_eq!(reader.version(), 0);
        assert_eq!(reader.load_within(0), Err(LoadError::Stalled { attempts: 1, version: 1 }));
        let attempts = CellReader::<[u64; 2]>::LOAD_ATTEMPTS;
        let error = reader.load().unwrap_err();
        assert_eq!(error, LoadError::Stalled { attempts, version: 1 });
        assert_eq!(
            error.to_string(),
            "65536 attempt(s) met one unfinished write (version 1): its writer is paused or gone"
        );
    }

    #[test]
    fn a_new_writer_repairs_an_unfinished_write_with_its_first_store() {
        let mut cell = VersionedCell::new([4u64; 2]);
        cell.split().0.begin();
        let (mut writer, reader) = cell.split();
        assert_eq!(writer.version(), 0);
        assert_eq!(reader.try_load(), None);
        writer.store(&[5; 2]);
        // Version 2 was the unfinished write's and is never seen.
        assert_eq!(reader.load(), Ok(([5; 2], 4)));
        assert_eq!(writer.version(), 4);
    }

    #[test]
    fn a_reader_that_is_overtaken_in_the_copy_discards_it() {
        let mut cell = VersionedCell::new([0u64; WORDS]);
        let (mut writer, reader) = cell.split();
        let mut value = [0; WORDS];
        let seen = reader.read_with(&mut value, FULL_VERSION, || writer.store(&[1; WORDS]));
        assert_eq!(seen, Err(2));
        assert!(is_torn(&value), "the schedule must tear the copy: {value:?}");
    }

    #[test]
    fn the_largest_version_wraps_to_an_even_one() {
        let mut cell = VersionedCell::new(3u8);
        for (found, next) in [(u64::MAX - 1, 0), (u64::MAX, 2)] {
            cell.version = AtomicU64::new(found);
            let (mut writer, reader) = cell.split();
            writer.store(&8);
            assert_eq!(reader.load(), Ok((8, next)));
        }
    }

    /// A reader that compares the version bits in `mask` is paused halfway through its copy for `writes`
    /// writes; what it answers, and what it copied.
    fn read_paused_for(writes: u64, mask: u64) -> (Result<u64, u64>, [u64; WORDS]) {
        let mut cell = VersionedCell::new([0u64; WORDS]);
        let (mut writer, reader) = cell.split();
        let mut value = [0; WORDS];
        let answer = reader.read_with(&mut value, mask, || {
            for number in 1..=writes {
                writer.store(&[number; WORDS]);
            }
        });
        (answer, value)
    }

    #[test]
    fn an_8_bit_version_accepts_a_torn_value_after_exactly_128_writes() {
        let (answer, value) = read_paused_for(128, 0xff);
        assert_eq!(answer, Ok(0), "256 changes bring an 8-bit version round");
        assert!(is_torn(&value));
        assert_eq!(crate::version::min_bits(256.0, 1.0), 9);

        assert!(read_paused_for(127, 0xff).0.is_err());
        assert!(read_paused_for(129, 0xff).0.is_err());
    }

    #[test]
    fn the_64_bit_version_detects_the_schedule_that_fools_8_bits() {
        let (answer, value) = read_paused_for(128, FULL_VERSION);
        assert_eq!(answer, Err(256));
        assert!(is_torn(&value));
    }

    #[test]
    fn readers_and_the_writer_can_move_to_other_threads() {
        fn assert_send<T: Send>() {}
        fn assert_sync<T: Sync>() {}
        assert_send::<CellWriter<'_, u64>>();
        assert_send::<CellReader<'_, u64>>();
        assert_sync::<VersionedCell<u64>>();
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Two stores beside `attempts` attempts to load; every load is whole and belongs to its version.
    fn loads_are_whole(attempts: u32) {
        loom::model(move || {
            let cell = Arc::new(VersionedCell::new([0u64; 2]));
            let shared = Arc::clone(&cell);
            let writing = thread::spawn(move || {
                // SAFETY: the only writer.
                let mut writer = unsafe { shared.writer() };
                writer.store(&[1; 2]);
                writer.store(&[2; 2]);
            });
            let mut last = 0;
            for _ in 0..attempts {
                if let Some((value, version)) = cell.reader().try_load() {
                    assert_eq!(value, [version / 2; 2], "torn, or of another version");
                    assert!(last <= version);
                    last = version;
                }
            }
            writing.join().unwrap();
            assert_eq!(cell.reader().load_within(1), Ok(([2; 2], 4)));
        });
    }

    #[test]
    fn a_load_beside_two_stores_is_whole_and_matches_its_version() {
        loads_are_whole(1);
    }

    #[test]
    fn versions_do_not_go_back_from_load_to_load() {
        loads_are_whole(2);
    }

    #[test]
    fn a_repaired_cell_is_whole_for_a_reader_that_was_there_all_along() {
        loom::model(|| {
            let cell = Arc::new(VersionedCell::new([0u64; 2]));
            let shared = Arc::clone(&cell);
            let writing = thread::spawn(move || {
                // SAFETY: the only writer, and the first one is gone before the second starts.
                let mut first = unsafe { shared.writer() };
                first.begin();
                shared.value.store(&[7, 0]);
                // SAFETY: as above.
                unsafe { shared.writer() }.store(&[2; 2]);
            });
            if let Some((value, version)) = cell.reader().try_load() {
                assert_eq!(value, [version / 2; 2]);
            }
            writing.join().unwrap();
            assert_eq!(cell.reader().load_within(1), Ok(([2; 2], 4)));
        });
    }
}
