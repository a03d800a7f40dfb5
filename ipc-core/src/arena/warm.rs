//! Blocks that came back and are kept for the next messages of their size: they are lent again while they are in a cache, and without
//! asking the allocator.
//!
//! Promise: a block that is taken has room for the message, and is hardly larger. Refusal: whose a block is stands in the books.

use super::lender::Lent;
use crate::layout::descriptor::{Place, UNIT};
use core::ptr::NonNull;

/// The most blocks that are kept. A power of two.
pub(super) const MAX_WARM: usize = 8;

/// A block, and the messages that it is lent for.
#[derive(Clone, Copy)]
pub(super) struct Ready {
    pub(super) lent: Lent,
    /// The shortest message, and by how much the longest is longer, in bytes.
    least: u64,
    span: u64,
}

impl Ready {
    /// A block of `units` is lent for what takes so many or up to an eighth less: w units with `w + w / 8 >= units`, rounded down, which
    /// is `w >= units * 8 / 9`, rounded up. At least one.
    pub(super) const fn new(lent: Lent, units: u32) -> Self {
        let units = units as u64;
        let fewest = (units * 8).div_ceil(9);
        let least = if fewest > 1 { (fewest - 1) * UNIT + 1 } else { 0 };
        Self { lent, least, span: units * UNIT - least }
    }

    #[inline(always)]
    const fn suits(&self, len: u64) -> bool {
        // One comparison: what is too short wraps.
        len.wrapping_sub(self.least) <= self.span
    }
}

/// Warm blocks in the order in which they came back; the first one is lent next. So a few blocks go round, always in the same order.
pub(super) struct Warm {
    ready: [Ready; MAX_WARM],
    /// Blocks that were taken out and put in so far.
    taken: usize,
    put: usize,
}

impl Warm {
    pub(super) const fn new() -> Self {
        let none = Lent { place: Place::of_region(0), start: NonNull::dangling() };
        Self { ready: [Ready::new(none, 1); MAX_WARM], taken: 0, put: 0 }
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.put.wrapping_sub(self.taken)
    }

    #[inline(always)]
    fn first(&self) -> Option<&Ready> {
        if self.taken == self.put { None } else { Some(&self.ready[self.taken % MAX_WARM]) }
    }

    /// The block that is lent next, if its size is asked for.
    #[inline(always)]
    pub(super) fn next(&self) -> Option<Lent> {
        self.first().map(|ready| ready.lent)
    }

    /// Takes out a block for a message of `len` bytes, if there is one.
    #[inline(always)]
    pub(super) fn take(&mut self, len: u64) -> Option<Lent> {
        let first = self.first()?;
        if !first.suits(len) {
            return self.find(len);
        }
        let lent = first.lent;
        self.taken = self.taken.wrapping_add(1);
        Some(lent)
    }

    #[cold]
    fn find(&mut self, len: u64) -> Option<Lent> {
        let place = (0..self.len()).find(|place| self.ready[self.slot(*place)].suits(len))?;
        Some(self.remove(place))
    }

    /// Takes out the block that came back last and has room for a message of `len` bytes, if there is one.
    pub(super) fn take_last(&mut self, len: u64) -> Option<Lent> {
        let place = (0..self.len()).rev().find(|place| self.ready[self.slot(*place)].suits(len))?;
        Some(self.remove(place))
    }

    /// Where the block lies that `place` others came back before.
    fn slot(&self, place: usize) -> usize {
        self.taken.wrapping_add(place) % MAX_WARM
    }

    /// Takes out the block that `place` others came back before; the order of the rest stays.
    fn remove(&mut self, place: usize) -> Lent {
        let lent = self.ready[self.slot(place)].lent;
        for later in place + 1..self.len() {
            self.ready[self.slot(later - 1)] = self.ready[self.slot(later)];
        }
        self.put = self.put.wrapping_sub(1);
        lent
    }

    /// Takes out the block that came back first.
    pub(super) fn pop(&mut self) -> Option<Lent> {
        let first = self.next()?;
        self.taken = self.taken.wrapping_add(1);
        Some(first)
    }

    /// Puts a block in; the caller sees to it that there is room.
    #[inline(always)]
    pub(super) fn push(&mut self, ready: Ready) {
        self.ready[self.put % MAX_WARM] = ready;
        self.put = self.put.wrapping_add(1);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn lent(block: u16) -> Lent {
        Lent { place: Place::new(0, block, 0), start: NonNull::dangling() }
    }

    #[test]
    fn a_block_is_lent_for_messages_that_fill_it_up_to_an_eighth() {
        for units in (1..3000).chain([1 << 20, u32::MAX]) {
            let ready = Ready::new(lent(0), units);
            let around = |wanted: u64| [wanted.saturating_sub(1), wanted, wanted + 1];
            let edges = [u64::from(units), u64::from(units) * 8 / 9, u64::from(units) * 7 / 8];
            for wanted in edges.into_iter().flat_map(around) {
                for len in around(wanted * UNIT) {
                    let wanted = len.div_ceil(UNIT).max(1);
                    let fits = wanted <= units.into() && u64::from(units) - wanted <= wanted / 8;
                    assert_eq!(ready.suits(len), fits, "{len} bytes in {units} units");
                }
            }
        }
    }

    #[test]
    fn blocks_are_taken_in_the_order_in_which_they_came_and_by_size() {
        let mut warm = Warm::new();
        let taken = |warm: &mut Warm, units| warm.take(units * UNIT).map(|lent| lent.place.block());
        for round in 0..3 {
            for (block, units) in [(1, 8), (2, 100), (3, 8), (4, 100)] {
                warm.push(Ready::new(lent(block), units));
            }
            assert_eq!(warm.next().map(|lent| lent.place.block()), Some(1), "round {round}");
            assert_eq!((taken(&mut warm, 100), taken(&mut warm, 50)), (Some(2), None));
            assert_eq!((taken(&mut warm, 8), taken(&mut warm, 8)), (Some(1), Some(3)));
            assert_eq!((warm.len(), warm.pop().map(|lent| lent.place.block())), (1, Some(4)));
            assert_eq!((warm.pop().is_none(), taken(&mut warm, 8)), (true, None));
        }
    }

    #[test]
    fn the_last_block_of_a_size_is_taken_from_among_others() {
        let mut warm = Warm::new();
        let last = |warm: &mut Warm, units| warm.take_last(units * UNIT).map(|lent| lent.place.block());
        for round in 0..3 {
            for (block, units) in [(1, 8), (2, 100), (3, 8), (4, 100), (5, 100)] {
                warm.push(Ready::new(lent(block), units));
            }
            assert_eq!((last(&mut warm, 8), last(&mut warm, 50)), (Some(3), None), "round {round}");
            assert_eq!((last(&mut warm, 100), last(&mut warm, 8), last(&mut warm, 8)), (Some(5), Some(1), None));
            let left: Vec<_> = core::iter::from_fn(|| warm.pop()).map(|lent| lent.place.block()).collect();
            assert_eq!(left, [2, 4]);
        }
    }
}
