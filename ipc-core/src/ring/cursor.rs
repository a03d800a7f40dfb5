//! A position in a ring, kept as a lap and an index in it, so that the hot paths neither shift nor mask.

use crate::layout::{HEADER, Header};

/// A place in a ring: `start + index`, with the stamp that headers carry in this lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Bytes from the start of the data area; below the capacity.
    pub(super) index: u64,
    /// Position of the start of the lap.
    pub(super) start: u64,
    /// The lap's stamp, where it stands in a header: bits 63..32.
    pub(super) stamp: u64,
}

impl Cursor {
    /// The cursor at `position`, rounded down to a multiple of 8: whoever read it from shared memory need not have found one.
    pub(super) fn new(position: u64, capacity: u64) -> Self {
        let index = position & (capacity - 1) & !(HEADER - 1);
        let lap = position >> capacity.trailing_zeros();
        Self { index, start: position & !(capacity - 1), stamp: Header::stamp_of_lap(lap) }
    }

    #[inline(always)]
    pub(super) fn position(&self) -> u64 {
        // Wrapping here and below: an observer may begin at a position that a hostile peer made up.
        self.start.wrapping_add(self.index)
    }

    /// Goes on to `index`, at most the capacity; there it enters the next lap.
    #[inline(always)]
    pub(super) fn advance(&mut self, index: u64, capacity: u64) {
        self.index = index;
        if index == capacity {
            *self = self.next_lap(capacity);
        }
    }

    /// The start of the next lap.
    #[inline(always)]
    pub(super) fn next_lap(&self, capacity: u64) -> Self {
        Self { index: 0, start: self.start.wrapping_add(capacity), stamp: Header::next_stamp(self.stamp) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_that_advances_lap_by_lap_is_the_cursor_made_at_that_position() {
        for first in [0, 4096 * 7, (u64::from(u32::MAX) - 1) * 4096, (1 << 62) - 4096] {
            let mut cursor = Cursor::new(first, 4096);
            for position in (first..first + 3 * 4096).step_by(8) {
                assert_eq!(cursor, Cursor::new(position, 4096), "at {position}");
                cursor.advance(cursor.index + 8, 4096);
            }
        }
    }
}
