//! Address-free pointers for memory that every process maps somewhere else.
//!
//! Promise: an [`Offset`] means the same in every process and build, and [`Offset::resolve`] checks range and
//! alignment on every use, so an offset that a hostile peer wrote gives an error, never a wild pointer.
//! Refusal: it owns nothing and keeps nothing alive. Whether the bytes it leads to hold a valid `T`, and who
//! may touch them, is for the caller to know when dereferencing.

use crate::sync::layout_assert;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use core::ptr::NonNull;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Distance in bytes from the start of a mapping to a `T`.
///
/// ```text
///  byte 0                      8
///       +----------------------+
///       | distance, u64 native |
///       +----------------------+
/// ```
///
/// Zero is a valid offset: the first byte of the mapping. There is no null; where "nothing" must be said, use
/// a value that cannot resolve, such as `u64::MAX`, or a flag beside it.
///
/// It is plain data: any 8 bytes are an offset, whatever `T` is, and it can be part of a value in shared
/// memory. Its size is 8 bytes in every build. Its alignment is that of `u64`, which is 4 on 32-bit x86:
/// structures shared with such a build place it on a multiple of 8.
///
/// # Examples
///
/// ```
/// use core::ptr::NonNull;
/// use ipc_core::offset::Offset;
///
/// let mut mapping = [0u64; 4];
/// mapping[2] = 42;
/// let base = NonNull::from(&mut mapping).cast::<u8>();
///
/// let third = Offset::<u64>::new(16).resolve(base, 32)?;
/// // SAFETY: resolved inside `mapping`, which holds `u64`s and is borrowed by nobody else.
/// assert_eq!(unsafe { third.read() }, 42);
///
/// let error = Offset::<u64>::new(32).resolve(base, 32).unwrap_err();
/// assert_eq!(error.to_string(), "1 item(s) of 8 bytes at offset 32 do not end within the mapping of 32 bytes");
/// # Ok::<(), ipc_core::offset::OffsetError>(())
/// ```
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Offset<T> {
    /// Written by whoever placed the `T`; read by anyone, and believed by nobody before `resolve`.
    bytes: u64,
    target: PhantomData<fn() -> T>,
}

layout_assert!(size_of::<Offset<u128>>() == 8);
layout_assert!(align_of::<Offset<u128>>() == align_of::<u64>());

/// Why an [`Offset`] leads to no usable place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OffsetError {
    /// The target does not lie inside the mapping.
    #[error(
        "{count} item(s) of {item_size} bytes at offset {offset} do not end within the mapping of {mapping_len} bytes"
    )]
    OutOfRange {
        /// Distance from the start of the mapping, in bytes.
        offset: u64,
        /// Number of items asked for.
        count: u64,
        /// Size of one item, in bytes.
        item_size: u64,
        /// Length of the mapping, in bytes: the largest end allowed.
        mapping_len: u64,
    },
    /// The target's address is not a multiple of its alignment.
    #[error("offset {offset} leads to an address {excess} byte(s) past a multiple of the alignment {align}")]
    Misaligned {
        /// Distance from the start of the mapping, in bytes.
        offset: u64,
        /// Alignment of the target, in bytes.
        align: u64,
        /// Address modulo `align`, in bytes; only 0 is allowed.
        excess: u64,
    },
    /// The target's end is not an address in this process, so the mapping's stated length cannot be true.
    #[error("a target that ends {end} bytes after address {base:#x} is outside this process's address space")]
    Unaddressable {
        /// Address of the mapping.
        base: u64,
        /// Distance from the start of the mapping to the end of the target, in bytes.
        end: u64,
    },
}

impl<T> Offset<T> {
    /// An offset of `bytes` from the start of a mapping.
    ///
    /// Nothing is checked until it is resolved.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self { bytes, target: PhantomData }
    }

    /// Distance from the start of the mapping, in bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.bytes
    }

    /// Pointer to the target in the mapping of `mapping_len` bytes at `base`.
    ///
    /// Safe to call with any numbers: the pointer is as good as the mapping that the caller describes, and
    /// only dereferencing it is unsafe. `base` and `mapping_len` must come from this process's own
    /// bookkeeping, not from the shared memory, or the check checks nothing.
    ///
    /// # Errors
    ///
    /// * [`OffsetError::OutOfRange`]: the target does not end within `mapping_len` bytes.
    /// * [`OffsetError::Unaddressable`]: the end of the target is not an address in this process.
    /// * [`OffsetError::Misaligned`]: the target's address is not a multiple of `T`'s alignment.
    ///
    /// # Examples
    ///
    /// See [`Offset`].
    pub fn resolve(self, base: NonNull<u8>, mapping_len: u64) -> Result<NonNull<T>, OffsetError> {
        self.place(base, mapping_len, 1)
    }

    /// Pointer to `count` items in a row in the mapping of `mapping_len` bytes at `base`.
    ///
    /// As [`resolve`](Self::resolve), with `count` items of `size_of::<T>()` bytes each. `count` may be
    /// zero; the offset must then still lie within the mapping or at its end, and be aligned.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve); the items together are the target.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::ptr::NonNull;
    /// use ipc_core::offset::Offset;
    ///
    /// let mut mapping = [0u8, 1, 2, 3, 4, 5, 6, 7];
    /// let base = NonNull::from(&mut mapping).cast::<u8>();
    ///
    /// let tail = Offset::<u8>::new(5).resolve_slice(base, 8, 3)?;
    /// // SAFETY: resolved inside `mapping`, which nobody writes to meanwhile.
    /// assert_eq!(unsafe { tail.as_ref() }, [5, 6, 7]);
    ///
    /// assert!(Offset::<u8>::new(5).resolve_slice(base, 8, 4).is_err());
    /// # Ok::<(), ipc_core::offset::OffsetError>(())
    /// ```
    pub fn resolve_slice(self, base: NonNull<u8>, mapping_len: u64, count: u64) -> Result<NonNull<[T]>, OffsetError> {
        let first = self.place(base, mapping_len, count)?;
        // Only items of size 0 can outnumber the address space here; `place` has refused all others.
        let items = usize::try_from(count)
            .map_err(|_| OffsetError::Unaddressable { base: base.addr().get() as u64, end: count })?;
        Ok(NonNull::slice_from_raw_parts(first, items))
    }

    fn place(self, base: NonNull<u8>, mapping_len: u64, count: u64) -> Result<NonNull<T>, OffsetError> {
        let offset = self.bytes;
        let item_size = size_of::<T>() as u64;
        let end = count
            .checked_mul(item_size)
            .and_then(|size| offset.checked_add(size))
            .filter(|&end| end <= mapping_len)
            .ok_or(OffsetError::OutOfRange { offset, count, item_size, mapping_len })?;

        let start = base.addr().get();
        let unaddressable = OffsetError::Unaddressable { base: start as u64, end };
        usize::try_from(end).ok().and_then(|end| start.checked_add(end)).ok_or(unaddressable)?;
        // `offset <= end`, so neither the conversion nor the addition loses anything.
        let pointer = base.as_ptr().wrapping_add(offset as usize).cast::<T>();

        let excess = pointer.addr() & (align_of::<T>() - 1);
        if excess != 0 {
            let align = align_of::<T>() as u64;
            return Err(OffsetError::Misaligned { offset, align, excess: excess as u64 });
        }
        NonNull::new(pointer).ok_or(unaddressable)
    }
}

// Written out because derives would ask the same of `T`, which is only pointed to.

impl<T> Clone for Offset<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Offset<T> {}

impl<T> PartialEq for Offset<T> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl<T> Eq for Offset<T> {}

impl<T> Hash for Offset<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl<T> fmt::Debug for Offset<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Offset({})", self.bytes)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[repr(align(64))]
    struct Mapping([u8; 256]);

    impl Mapping {
        fn base(&mut self) -> NonNull<u8> {
            NonNull::from(&mut self.0).cast()
        }
    }

    fn mapping() -> Mapping {
        let mut bytes = [0; 256];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = at as u8;
        }
        Mapping(bytes)
    }

    /// The same question in arithmetic that cannot overflow.
    fn fits<T>(address: u128, offset: u64, count: u64, len: u64) -> bool {
        let end = u128::from(offset) + u128::from(count) * size_of::<T>() as u128;
        let aligned = (address + u128::from(offset)).is_multiple_of(align_of::<T>() as u128);
        end <= u128::from(len) && address + end <= usize::MAX as u128 && aligned
    }

    fn agrees_with_u128<T>(offset: u64, count: u64, len: u64, shift: usize) -> Result<(), TestCaseError> {
        let mut mapping = mapping();
        let base = mapping.base().map_addr(|address| address.checked_add(shift).unwrap());
        let address = base.addr().get() as u128;
        let one = Offset::<T>::new(offset).resolve(base, len);
        prop_assert_eq!(one.is_ok(), fits::<T>(address, offset, 1, len));
        if let Ok(pointer) = one {
            prop_assert_eq!(pointer.addr().get() as u128, address + u128::from(offset));
        }
        let many = Offset::<T>::new(offset).resolve_slice(base, len, count);
        prop_assert_eq!(many.is_ok(), fits::<T>(address, offset, count, len));
        if let Ok(slice) = many {
            prop_assert_eq!(slice.cast::<T>().addr().get() as u128, address + u128::from(offset));
            prop_assert_eq!(slice.len() as u64, count);
        }
        Ok(())
    }

    fn near_the_edges() -> impl Strategy<Value = u64> {
        prop_oneof![0..300u64, any::<u64>(), (u64::MAX - 300)..=u64::MAX, (1u64 << 60)..(1u64 << 61)]
    }

    proptest! {
        #[test]
        fn resolving_agrees_with_arithmetic_that_cannot_overflow(
            offset in near_the_edges(),
            count in near_the_edges(),
            len in near_the_edges(),
            shift in 0..16usize,
        ) {
            agrees_with_u128::<u8>(offset, count, len, shift)?;
            agrees_with_u128::<u32>(offset, count, len, shift)?;
            agrees_with_u128::<u64>(offset, count, len, shift)?;
            agrees_with_u128::<[u64; 3]>(offset, count, len, shift)?;
            agrees_with_u128::<()>(offset, count, len, shift)?;
        }

        #[test]
        fn a_resolved_pointer_reads_the_bytes_it_names(offset in 0..=248u64) {
            let mut mapping = mapping();
            let place = Offset::<[u8; 8]>::new(offset).resolve(mapping.base(), 256).unwrap();
            // SAFETY: inside `mapping`, which this test owns.
            let bytes = unsafe { place.read() };
            prop_assert_eq!(bytes[0], offset as u8);
            prop_assert_eq!(bytes[7], offset as u8 + 7);
        }
    }

    #[test]
    fn zero_is_the_first_byte_of_the_mapping() {
        let mut mapping = mapping();
        let base = mapping.base();
        assert_eq!(Offset::<u8>::new(0).resolve(base, 1), Ok(base));
    }

    #[test]
    fn a_target_may_end_exactly_at_the_end_of_the_mapping() {
        let mut mapping = mapping();
        assert!(Offset::<u64>::new(248).resolve(mapping.base(), 256).is_ok());
        assert!(Offset::<u64>::new(256).resolve_slice(mapping.base(), 256, 0).is_ok());
        assert!(Offset::<u64>::new(264).resolve_slice(mapping.base(), 256, 0).is_err());
    }

    #[test]
    fn an_offset_that_would_overflow_is_out_of_range() {
        let mut mapping = mapping();
        assert_eq!(
            Offset::<u64>::new(u64::MAX - 3).resolve(mapping.base(), 256),
            Err(OffsetError::OutOfRange { offset: u64::MAX - 3, count: 1, item_size: 8, mapping_len: 256 })
        );
        assert!(Offset::<u64>::new(8).resolve_slice(mapping.base(), 256, u64::MAX / 4).is_err());
    }

    #[test]
    fn a_misaligned_offset_is_named_with_its_excess() {
        let mut mapping = mapping();
        let error = Offset::<u64>::new(12).resolve(mapping.base(), 256).unwrap_err();
        assert_eq!(error, OffsetError::Misaligned { offset: 12, align: 8, excess: 4 });
        assert_eq!(error.to_string(), "offset 12 leads to an address 4 byte(s) past a multiple of the alignment 8");
    }

    #[test]
    fn a_mapping_longer_than_the_address_space_is_not_believed() {
        let mut mapping = mapping();
        let error = Offset::<u8>::new(u64::MAX - 1).resolve(mapping.base(), u64::MAX).unwrap_err();
        assert!(matches!(error, OffsetError::Unaddressable { end: u64::MAX, .. }), "{error}");
    }

    #[test]
    fn an_offset_to_anything_is_plain_data() {
        struct NotPlain(#[allow(dead_code)] std::string::String);
        let offset = Offset::<NotPlain>::read_from_bytes(&7u64.to_ne_bytes()).unwrap();
        assert_eq!(offset.get(), 7);
        assert_eq!(offset, Offset::new(7));
        assert_eq!(offset.as_bytes(), 7u64.to_ne_bytes());
    }
}
