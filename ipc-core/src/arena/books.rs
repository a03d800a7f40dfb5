//! Which part of which region is lent: numbers of blocks, offsets, sizes. Kept in private memory; no peer can reach it.
//!
//! Promise: parts that are lent do not overlap, and what comes back is free again. Refusal: it knows nothing of mappings.

use crate::layout::descriptor::{Place, UNIT};
use crate::layout::exchange::BLOCKS;
use offset_allocator::{Allocation, Allocator};
use std::vec::Vec;

/// What is known of a block.
#[derive(Clone, Copy)]
enum Block {
    Free,
    /// Lent to this process, which fills it.
    Filling(Lent),
    /// Lent to the peer, which has not given it back.
    Out(Lent),
    /// Back, and kept for the next message of its size.
    Warm(Lent),
}

/// The most blocks that are kept for the next message of their size: what comes back is lent again while it is in a cache, and without
/// asking the allocator.
const MAX_WARM: usize = 8;

#[derive(Clone, Copy)]
struct Lent {
    region: u8,
    part: Allocation,
    units: u32,
}

/// The books of one region.
struct Region {
    parts: Allocator,
    units: u32,
    /// Units in use.
    used: u32,
}

/// A part that was just lent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) place: Place,
    /// Where the part ends in its region, in bytes.
    pub(super) end: u64,
}

/// The allocator keeps free parts by classes of size, eight between two powers of two: a part is found for a request only if its class,
/// rounded down, is at least that of the request, rounded up. Both in units.
pub(super) const fn class_above(units: u64) -> u64 {
    let step = step(units);
    units.div_ceil(step) * step
}

/// As [`class_above`], rounded down.
pub(super) const fn class_below(units: u64) -> u64 {
    let step = step(units);
    units / step * step
}

/// From one class to the next, near a size.
const fn step(units: u64) -> u64 {
    if units < 8 { 1 } else { 1 << (units.ilog2() - 3) }
}

pub(super) struct Books {
    blocks: Vec<Block>,
    /// Numbers of free blocks; the last one is lent next.
    free: Vec<u16>,
    /// Numbers of warm blocks; the last one came back last.
    warm: Vec<u16>,
    regions: Vec<Option<Region>>,
    /// Bytes in use.
    used: u64,
}

impl Books {
    pub(super) fn new() -> Self {
        let free = (0..BLOCKS as u16).rev().collect();
        let blocks = std::vec![Block::Free; BLOCKS as usize];
        Self { blocks, free, warm: Vec::with_capacity(MAX_WARM), regions: Vec::new(), used: 0 }
    }

    /// Adds a region of `bytes`, a multiple of [`UNIT`] below 2^32 units.
    pub(super) fn add(&mut self, region: usize, bytes: u64) {
        let units = (bytes / UNIT) as u32;
        // A block needs a node, and so does each gap between two blocks.
        let parts = Allocator::with_max_allocs(units, 2 * BLOCKS as u32 + 8);
        if self.regions.len() <= region {
            self.regions.resize_with(region + 1, || None);
        }
        self.regions[region] = Some(Region { parts, units, used: 0 });
    }

    /// Forgets a region.
    pub(super) fn remove(&mut self, region: usize) {
        if let Some(slot) = self.regions.get_mut(region) {
            *slot = None;
        }
    }

    /// Units that hold `len` bytes; `None` if that is more than a region can have.
    #[inline]
    pub(super) fn units(len: u64) -> Option<u32> {
        u32::try_from(len.div_ceil(UNIT).max(1)).ok()
    }

    /// Lends a block of at least `len` bytes, if there is room.
    #[cfg(test)]
    fn lend(&mut self, len: u64) -> Option<Part> {
        let units = Self::units(len)?;
        self.lend_warm(units).or_else(|| self.lend_cold(units))
    }

    /// Lends a block that came back, if one is of about this size.
    #[inline]
    pub(super) fn lend_warm(&mut self, units: u32) -> Option<Part> {
        // Nearly always the last one or none.
        for at in (0..self.warm.len()).rev() {
            let number = self.warm[at];
            let Block::Warm(lent) = self.blocks[usize::from(number)] else { continue };
            if lent.units >= units && lent.units - units <= units / 8 {
                self.warm.remove(at);
                self.used += u64::from(lent.units) * UNIT;
                self.blocks[usize::from(number)] = Block::Filling(lent);
                let place = Place::new(lent.region, number, lent.part.offset.into());
                return Some(Part { place, end: u64::from(lent.part.offset + lent.units) * UNIT });
            }
        }
        None
    }

    /// Lends a new block, if there is room.
    pub(super) fn lend_cold(&mut self, units: u32) -> Option<Part> {
        if let Some(part) = self.allocate(units) {
            return Some(part);
        }
        if self.warm.is_empty() {
            return None;
        }
        self.cool();
        self.allocate(units)
    }

    /// Gives warm blocks back to the allocator.
    pub(super) fn cool(&mut self) {
        while let Some(number) = self.warm.pop() {
            self.cool_one(number);
        }
    }

    fn cool_one(&mut self, number: u16) {
        if let Block::Warm(lent) = self.blocks[usize::from(number)] {
            self.blocks[usize::from(number)] = Block::Free;
            self.free.push(number);
            if let Some(Some(region)) = self.regions.get_mut(usize::from(lent.region)) {
                region.used -= lent.units;
                region.parts.free(lent.part);
            }
        }
    }

    fn allocate(&mut self, units: u32) -> Option<Part> {
        let number = *self.free.last()?;
        for (at, region) in self.regions.iter_mut().enumerate() {
            let Some(region) = region else { continue };
            if region.units - region.used < units {
                continue;
            }
            let Some(part) = region.parts.allocate(units) else { continue };
            self.free.pop();
            region.used += units;
            let end = u64::from(part.offset + units) * UNIT;
            self.used += u64::from(units) * UNIT;
            self.blocks[usize::from(number)] = Block::Filling(Lent { region: at as u8, part, units });
            let place = Place::new(at as u8, number, part.offset.into());
            return Some(Part { place, end });
        }
        None
    }

    /// Notes that a block was sent.
    pub(super) fn send(&mut self, number: u16) {
        if let Some(block) = self.blocks.get_mut(usize::from(number))
            && let Block::Filling(lent) = *block
        {
            *block = Block::Out(lent);
        }
    }

    /// Takes a block back that this process filled and did not send.
    pub(super) fn cancel(&mut self, number: u16) {
        if let Some(Block::Filling(lent)) = self.blocks.get(usize::from(number)).copied() {
            self.release(number, lent);
        }
    }

    /// Takes a block back that the peer returned. False: it has no such block.
    pub(super) fn take_back(&mut self, number: u32) -> bool {
        match self.blocks.get(number as usize) {
            Some(&Block::Out(lent)) => {
                self.release(number as u16, lent);
                true
            }
            _ => false,
        }
    }

    fn release(&mut self, number: u16, lent: Lent) {
        self.used -= u64::from(lent.units) * UNIT;
        self.blocks[usize::from(number)] = Block::Warm(lent);
        if self.warm.len() == MAX_WARM {
            let oldest = self.warm.remove(0);
            self.cool_one(oldest);
        }
        self.warm.push(number);
    }

    /// Says whether the peer has a block.
    pub(super) fn is_out(&self, number: u16) -> bool {
        matches!(self.blocks.get(usize::from(number)), Some(Block::Out(_)))
    }

    /// Says whether `len` bytes at a place are those of a block that the peer has, or its first.
    pub(super) fn is_out_with(&self, place: Place, len: u64) -> bool {
        match self.blocks.get(usize::from(place.block())) {
            Some(Block::Out(lent)) => {
                let there = lent.region == place.region() && u64::from(lent.part.offset) == place.unit();
                there && len <= u64::from(lent.units) * UNIT
            }
            _ => false,
        }
    }

    /// Numbers of the blocks that the peer has.
    pub(super) fn out(&self) -> impl Iterator<Item = u16> {
        self.blocks.iter().enumerate().filter(|(_, block)| matches!(block, Block::Out(_))).map(|(at, _)| at as u16)
    }

    /// Bytes in use, rounded up to units.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Blocks in use.
    pub(super) fn lent(&self) -> u64 {
        BLOCKS - self.free.len() as u64 - self.warm.len() as u64
    }

    pub(super) fn is_unused(&self, region: usize) -> bool {
        self.regions.get(region).is_some_and(|region| region.as_ref().is_some_and(|region| region.used == 0))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn lent_parts_never_overlap_and_everything_comes_back(steps in prop::collection::vec((0_u8..4, 0_u64..300_000, any::<u16>()), 1..400)) {
            let mut books = Books::new();
            books.add(0, 1 << 20);
            books.add(3, 512 << 10);
            let mut lent: BTreeMap<u16, (Place, u64)> = BTreeMap::new();
            for (step, len, pick) in steps {
                match step {
                    0 | 1 => {
                        let Some(part) = books.lend(len) else { continue };
                        let size = [1 << 20, 0, 0, 512 << 10][usize::from(part.place.region())];
                        let start = part.place.unit() * UNIT;
                        prop_assert!(start + len <= size);
                        for (place, other) in lent.values() {
                            let (region, unit) = (place.region(), place.unit());
                            let other_start = unit * UNIT;
                            let apart = region != part.place.region() || start + len <= other_start || other_start + other <= start;
                            prop_assert!(apart);
                        }
                        prop_assert!(lent.insert(part.place.block(), (part.place, len)).is_none());
                        if step == 1 {
                            books.send(part.place.block());
                        }
                    }
                    2 => {
                        // What a hostile peer returns is taken only if it is out.
                        let out = books.out().any(|number| number == pick % 1200);
                        prop_assert_eq!(books.take_back(u32::from(pick % 1200)), out);
                        if out {
                            lent.remove(&(pick % 1200));
                        }
                    }
                    _ => {
                        let out: Vec<_> = books.out().collect();
                        let Some(number) = lent.keys().copied().find(|number| !out.contains(number)) else { continue };
                        books.cancel(number);
                        lent.remove(&number);
                    }
                }
            }
            for number in books.out().collect::<Vec<_>>() {
                prop_assert!(books.take_back(number.into()));
                lent.remove(&number);
            }
            for number in lent.keys() {
                books.cancel(*number);
            }
            prop_assert_eq!((books.used(), books.lent()), (0, 0));
            // The whole region is one piece again.
            books.cool();
            prop_assert!(books.lend(1 << 20).is_some());
        }
    }

    #[test]
    fn a_region_of_a_class_lends_itself_whole_and_one_of_another_size_the_class_below() {
        for units in (1..5000).chain([7812, 100_000, (1 << 21) - 1, 1 << 21]) {
            for (region, request) in [(class_above(units), units), (units, class_below(units))] {
                let mut books = Books::new();
                books.add(0, region * UNIT);
                assert!(books.lend(request * UNIT).is_some(), "{request} of {region} units");
            }
        }
    }

    #[test]
    fn only_the_bytes_of_a_block_that_is_out_are_found_in_it() {
        let mut books = Books::new();
        books.add(0, 1 << 20);
        let place = books.lend(300).map(|part| part.place).unwrap();
        assert!(!books.is_out_with(place, 300));
        books.send(place.block());
        assert!(books.is_out_with(place, 0) && books.is_out_with(place, 3 * UNIT));
        assert!(!books.is_out_with(place, 3 * UNIT + 1));
        let (block, unit) = (place.block(), place.unit());
        for other in [Place::new(1, block, unit), Place::new(0, block + 1, unit), Place::new(0, block, unit + 1)] {
            assert!(!books.is_out_with(other, 1));
        }
        assert!(books.take_back(block.into()));
        assert!(!books.is_out_with(place, 300));
    }

    #[test]
    fn no_more_blocks_are_lent_than_the_way_back_has_room_for() {
        let mut books = Books::new();
        books.add(0, 64 << 20);
        for _ in 0..BLOCKS {
            assert!(books.lend(1).is_some());
        }
        assert_eq!(books.lend(1), None);
        books.cancel(7);
        assert_eq!(books.lent(), BLOCKS - 1);
        assert_eq!(books.lend(1).map(|part| part.place.block()), Some(7));
    }
}
