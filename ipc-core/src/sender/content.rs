//! The bytes of one message, in one piece or several.
//!
//! Promise: pieces come out in order and together are the message. Refusal: it owns nothing.

use core::ops::Range;

/// One message, to be sent.
pub(super) struct Content<'m> {
    one: [&'m [u8]; 1],
    several: Option<&'m [&'m [u8]]>,
    pub(super) len: u64,
}

impl<'m> Content<'m> {
    pub(super) fn of(message: &'m [u8]) -> Self {
        Self { one: [message], several: None, len: message.len() as u64 }
    }

    pub(super) fn new(slices: &'m [&'m [u8]]) -> Self {
        Self { one: [&[]], several: Some(slices), len: total(slices.iter().map(|slice| slice.len())) }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// # Safety
    /// `target` has room for the bytes of the range, and belongs to the caller.
    pub(super) unsafe fn copy_range(&self, range: Range<u64>, target: *mut u8) {
        let mut at = 0;
        for piece in self.range(range.start, range.end) {
            // SAFETY: the pieces together are the range; the caller's promise.
            unsafe { core::ptr::copy_nonoverlapping(piece.as_ptr(), target.add(at), piece.len()) };
            at += piece.len();
        }
    }

    pub(super) fn slices(&self) -> &[&'m [u8]] {
        self.several.unwrap_or(&self.one)
    }

    /// The pieces of the bytes from `start` to `end`.
    pub(super) fn range(&self, start: u64, end: u64) -> impl Iterator<Item = &'m [u8]> {
        let mut at = 0;
        self.slices().iter().filter_map(move |slice| {
            let len = slice.len() as u64;
            let (from, to) = (start.clamp(at, at + len) - at, end.clamp(at, at + len) - at);
            at += len;
            (from < to).then(|| &slice[from as usize..to as usize])
        })
    }

    /// # Safety
    /// `target` has room for the message, and belongs to the caller.
    pub(super) unsafe fn copy_to(&self, target: *mut u8) {
        let mut at = 0;
        for slice in self.slices() {
            // SAFETY: the pieces together are the message; the caller's promise.
            unsafe { core::ptr::copy_nonoverlapping(slice.as_ptr(), target.add(at), slice.len()) };
            at += slice.len();
        }
    }
}

/// Bytes of all slices together. The same memory may be given many times: more than a number can say is more than any lane takes.
fn total(lengths: impl Iterator<Item = usize>) -> u64 {
    lengths.fold(0, |sum: u64, length| sum.saturating_add(length as u64))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The sum began at zero again, and a block of that length was written over its end.
    #[test]
    fn slices_that_are_more_than_a_number_can_say_are_too_many() {
        assert_eq!(total([usize::MAX / 2, usize::MAX / 2, 2 + 100].into_iter()), u64::MAX);
        assert_eq!(total([3, 0, 4].into_iter()), 7);
    }
}
