//! Which part of which region is lent: numbers of blocks, offsets, sizes. Kept in private memory; no peer can reach it.
//!
//! Promise: parts that are lent do not overlap, and what comes back is free again. Refusal: it knows nothing of mappings.

use super::lender::Lent;
use super::warm::{MAX_WARM, Ready, Warm};
use crate::layout::descriptor::{Place, UNIT};
use crate::layout::exchange::BLOCKS;
use crate::os::region::Readers;
use core::ptr::NonNull;
use offset_allocator::{Allocation, Allocator};
use std::boxed::Box;
use std::vec::Vec;

/// Whose a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Lent to this process, which fills it.
    Filling,
    /// Lent to the peer, which has not given it back.
    Out,
    /// Back, and kept for the next message of its size.
    Warm,
}

/// What is known of a block: where it lies, unless it is free.
#[derive(Clone, Copy)]
struct Block {
    ready: Option<Ready>,
    part: Option<Allocation>,
    units: u32,
    state: State,
    readers: Readers,
}

impl Block {
    const FREE: Self = Self { ready: None, part: None, units: 0, state: State::Free, readers: Readers::ReadOnly };
}

/// The books of one region.
struct Region {
    /// Where its bytes begin in this process.
    start: NonNull<u8>,
    readers: Readers,
    parts: Allocator,
    units: u32,
    /// Units that are lent, or warm.
    used: u32,
}

/// A block that was just lent, not having been lent before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cold {
    pub(super) lent: Lent,
    /// Where the block ends in its region, in bytes.
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
    blocks: Box<[Block; BLOCKS as usize]>,
    /// Numbers of free blocks; the last one is lent next.
    free: Vec<u16>,
    /// Those of each kind of region.
    warm: [Warm; Readers::ALL.len()],
    regions: Vec<Option<Region>>,
}

impl Books {
    pub(super) fn new() -> Self {
        let free = (0..BLOCKS as u16).rev().collect();
        let blocks = Box::new([Block::FREE; BLOCKS as usize]);
        Self { blocks, free, warm: Readers::ALL.map(|_| Warm::new()), regions: Vec::new() }
    }

    #[inline(always)]
    fn block(&mut self, number: u16) -> &mut Block {
        &mut self.blocks[usize::from(number) % BLOCKS as usize]
    }

    #[inline(always)]
    fn warm(&mut self, readers: Readers) -> &mut Warm {
        &mut self.warm[readers as usize]
    }

    /// Adds a region of `bytes`, a multiple of [`UNIT`] below 2^32 units, that begins at `start` in this process.
    pub(super) fn add(&mut self, region: usize, start: NonNull<u8>, bytes: u64, readers: Readers) {
        let units = (bytes / UNIT) as u32;
        // A block needs a node, and so does each gap between two blocks.
        let parts = Allocator::with_max_allocs(units, 2 * BLOCKS as u32 + 8);
        if self.regions.len() <= region {
            self.regions.resize_with(region + 1, || None);
        }
        self.regions[region] = Some(Region { start, readers, parts, units, used: 0 });
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
    #[cfg(all(test, not(loom)))]
    fn lend(&mut self, len: u64) -> Option<Lent> {
        self.lend_as(len, Readers::ReadOnly)
    }

    #[cfg(all(test, not(loom)))]
    fn lend_as(&mut self, len: u64, readers: Readers) -> Option<Lent> {
        let warm = self.lend_warm(len, readers);
        warm.or_else(|| Some(self.lend_cold(Self::units(len)?, readers)?.lent))
    }

    /// Lends a block that came back, if one is of about this many bytes. It lies where it lay.
    #[inline(always)]
    pub(super) fn lend_warm(&mut self, len: u64, readers: Readers) -> Option<Lent> {
        let lent = self.warm(readers).take(len)?;
        self.block(lent.place.block()).state = State::Filling;
        Some(lent)
    }

    /// As [`Books::lend_warm`], the block that came back last.
    pub(super) fn lend_last(&mut self, len: u64, readers: Readers) -> Option<Lent> {
        let lent = self.warm(readers).take_last(len)?;
        self.block(lent.place.block()).state = State::Filling;
        Some(lent)
    }

    /// The block that is lent next, if its size is asked for.
    #[inline(always)]
    pub(super) fn next_warm(&self, readers: Readers) -> Option<Lent> {
        self.warm[readers as usize].next()
    }

    /// Lends a new block, if there is room.
    pub(super) fn lend_cold(&mut self, units: u32, readers: Readers) -> Option<Cold> {
        if let Some(part) = self.allocate(units, readers) {
            return Some(part);
        }
        if self.free.is_empty() {
            self.cool();
        } else if self.warm(readers).len() > 0 {
            self.cool_all_of(readers);
        } else {
            return None;
        }
        self.allocate(units, readers)
    }

    /// Gives warm blocks back to the allocator.
    pub(super) fn cool(&mut self) {
        Readers::ALL.into_iter().for_each(|readers| self.cool_all_of(readers));
    }

    fn cool_all_of(&mut self, readers: Readers) {
        while let Some(lent) = self.warm(readers).pop() {
            self.cool_one(lent);
        }
    }

    fn cool_one(&mut self, lent: Lent) {
        let Lent { place, .. } = lent;
        let block = core::mem::replace(self.block(place.block()), Block::FREE);
        self.free.push(place.block());
        if let (Some(Some(region)), Some(part)) = (self.regions.get_mut(usize::from(place.region())), block.part) {
            region.used -= block.units;
            region.parts.free(part);
        }
    }

    fn allocate(&mut self, units: u32, readers: Readers) -> Option<Cold> {
        let number = *self.free.last()?;
        for (at, region) in self.regions.iter_mut().enumerate() {
            let Some(region) = region else { continue };
            if region.readers != readers || region.units - region.used < units {
                continue;
            }
            let Some(part) = region.parts.allocate(units) else { continue };
            self.free.pop();
            region.used += units;
            let end = u64::from(part.offset + units) * UNIT;
            let place = Place::new(at as u8, number, part.offset.into());
            let start = region.start.as_ptr().wrapping_add((place.unit() * UNIT) as usize);
            // SAFETY: inside the region, which does not reach around the end of all addresses: not null.
            let start = unsafe { NonNull::new_unchecked(start) };
            let lent = Lent { place, start };
            let (ready, state) = (Some(Ready::new(lent, units)), State::Filling);
            *self.block(number) = Block { ready, part: Some(part), units, state, readers };
            return Some(Cold { lent, end });
        }
        None
    }

    /// Notes that a block was sent.
    #[inline(always)]
    pub(super) fn send(&mut self, number: u16) {
        let block = self.block(number);
        if block.state == State::Filling {
            block.state = State::Out;
        }
    }

    /// Takes a block back that this process filled and did not send.
    pub(super) fn cancel(&mut self, number: u16) {
        if self.block(number).state == State::Filling {
            self.release(number);
        }
    }

    /// Takes a block back that was lent first just now, and whose pages have no memory: it is not kept.
    pub(super) fn abandon(&mut self, number: u16) {
        if let Block { ready: Some(ready), state: State::Filling, .. } = *self.block(number) {
            self.cool_one(ready.lent);
        }
    }

    /// Takes a block back that the peer returned. False: it has no such block.
    #[inline]
    pub(super) fn take_back(&mut self, number: u32) -> bool {
        match self.blocks.get(number as usize) {
            Some(Block { state: State::Out, .. }) => {
                self.release(number as u16);
                true
            }
            _ => false,
        }
    }

    #[inline]
    fn release(&mut self, number: u16) {
        let block = self.block(number);
        block.state = State::Warm;
        let (ready, readers) = (block.ready, block.readers);
        if self.warm(readers).len() == MAX_WARM {
            self.cool_first(readers);
        }
        if let Some(ready) = ready {
            self.warm(readers).push(ready);
        }
    }

    #[inline(never)]
    fn cool_first(&mut self, readers: Readers) {
        if let Some(oldest) = self.warm(readers).pop() {
            self.cool_one(oldest);
        }
    }

    /// Says whether the peer has a block.
    pub(super) fn is_out(&self, number: u16) -> bool {
        self.blocks.get(usize::from(number)).is_some_and(|block| block.state == State::Out)
    }

    /// Says whether `len` bytes at a place are those of a block that the peer has, or its first.
    pub(super) fn is_out_with(&self, place: Place, len: u64) -> bool {
        match self.blocks.get(usize::from(place.block())) {
            Some(&Block { ready: Some(ready), units, state: State::Out, .. }) => {
                ready.lent.place == place && len <= u64::from(units) * UNIT
            }
            _ => false,
        }
    }

    /// Numbers of the blocks that the peer has.
    pub(super) fn out(&self) -> impl Iterator<Item = u16> {
        self.blocks.iter().enumerate().filter(|(_, block)| block.state == State::Out).map(|(at, _)| at as u16)
    }

    /// Bytes in use, rounded up to units.
    pub(super) fn used(&self) -> u64 {
        let taken: u64 = self.regions.iter().flatten().map(|region| u64::from(region.used)).sum();
        let warm = self.blocks.iter().filter(|block| block.state == State::Warm);
        taken.saturating_sub(warm.map(|block| u64::from(block.units)).sum()) * UNIT
    }

    /// Blocks in use.
    #[inline]
    pub(super) fn lent(&self) -> u64 {
        let warm: usize = self.warm.iter().map(Warm::len).sum();
        BLOCKS - self.free.len() as u64 - warm as u64
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
            books.add(0, NonNull::dangling(), 1 << 20, Readers::ReadOnly);
            books.add(3, NonNull::dangling(), 512 << 10, Readers::MayWrite);
            let mut lent: BTreeMap<u16, (Place, u64)> = BTreeMap::new();
            for (step, len, pick) in steps {
                match step {
                    0 | 1 => {
                        let readers = Readers::ALL[usize::from(pick % 2)];
                        let Some(found) = books.lend_as(len, readers) else { continue };
                        prop_assert_eq!(found.place.region(), [0, 3][readers as usize]);
                        let size = [1 << 20, 0, 0, 512 << 10][usize::from(found.place.region())];
                        let start = found.place.unit() * UNIT;
                        prop_assert!(start + len <= size);
                        for (place, other) in lent.values() {
                            let (region, unit) = (place.region(), place.unit());
                            let other_start = unit * UNIT;
                            let apart = region != found.place.region() || start + len <= other_start || other_start + other <= start;
                            prop_assert!(apart);
                        }
                        prop_assert!(lent.insert(found.place.block(), (found.place, len)).is_none());
                        if step == 1 {
                            books.send(found.place.block());
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
            // Each region is one piece again.
            books.cool();
            prop_assert!(books.lend(1 << 20).is_some());
            prop_assert!(books.lend_as(512 << 10, Readers::MayWrite).is_some());
        }
    }

    #[test]
    fn a_region_of_a_class_lends_itself_whole_and_one_of_another_size_the_class_below() {
        for units in (1..5000).chain([7812, 100_000, (1 << 21) - 1, 1 << 21]) {
            for (region, request) in [(class_above(units), units), (units, class_below(units))] {
                let mut books = Books::new();
                books.add(0, NonNull::dangling(), region * UNIT, Readers::ReadOnly);
                assert!(books.lend(request * UNIT).is_some(), "{request} of {region} units");
            }
        }
    }

    #[test]
    fn only_the_bytes_of_a_block_that_is_out_are_found_in_it() {
        let mut books = Books::new();
        books.add(0, NonNull::dangling(), 1 << 20, Readers::ReadOnly);
        let place = books.lend(300).map(|lent| lent.place).unwrap();
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
    fn a_block_without_memory_is_not_kept_for_the_next_message() {
        let mut books = Books::new();
        books.add(0, NonNull::dangling(), 1 << 20, Readers::ReadOnly);
        let Cold { lent, end } = books.lend_cold(8, Readers::ReadOnly).unwrap();
        assert_eq!((lent.place, end), (Place::new(0, 0, 0), 8 * UNIT));
        books.abandon(lent.place.block());
        assert!(books.lend_warm(8 * UNIT, Readers::ReadOnly).is_none());
        assert_eq!((books.used(), books.lent(), books.is_unused(0)), (0, 0, true));
        // As opposed to one that was merely not sent.
        let lent = books.lend(8 * UNIT).unwrap();
        books.cancel(lent.place.block());
        books.abandon(lent.place.block());
        assert_eq!(books.lend_warm(8 * UNIT, Readers::ReadOnly).map(|lent| lent.place), Some(lent.place));
    }

    /// Blocks of one kind of region are lent, and kept warm, apart from those of the other; numbers are for both.
    #[test]
    fn what_a_receiver_may_write_to_is_lent_to_nobody_who_asks_for_what_it_may_not() {
        let mut books = Books::new();
        for (region, readers) in [(0, Readers::MayWrite), (1, Readers::ReadOnly)] {
            books.add(region, NonNull::dangling(), 64 << 20, readers);
        }
        let mut lent = Vec::new();
        for readers in Readers::ALL {
            let region = if readers == Readers::ReadOnly { 1 } else { 0 };
            for _ in 0..2 {
                let place = books.lend_cold(8, readers).unwrap().lent.place;
                assert_eq!(place.region(), region);
                lent.push(place.block());
            }
        }
        lent.into_iter().for_each(|block| books.cancel(block));
        for (readers, region) in [(Readers::ReadOnly, 1), (Readers::MayWrite, 0)] {
            assert_eq!(books.next_warm(readers).map(|lent| lent.place.region()), Some(region));
            assert_eq!(books.lend_last(8 * UNIT, readers).map(|lent| lent.place.region()), Some(region));
            assert_eq!(books.lend_warm(8 * UNIT, readers).map(|lent| lent.place.region()), Some(region));
            assert!(books.lend_warm(8 * UNIT, readers).is_none());
        }
        // Numbers that are kept warm by one kind are had by the other when there are no more.
        let mut books = Books::new();
        for (region, readers) in [(0, Readers::MayWrite), (1, Readers::ReadOnly)] {
            books.add(region, NonNull::dangling(), 64 << 20, readers);
        }
        for _ in 0..BLOCKS {
            assert!(books.lend_cold(1, Readers::MayWrite).is_some());
        }
        (0..3).for_each(|number| books.cancel(number));
        assert!(books.lend_cold(1, Readers::ReadOnly).is_some());
        assert_eq!(books.lent(), BLOCKS - 2);
    }

    #[test]
    fn no_more_blocks_are_lent_than_the_way_back_has_room_for() {
        let mut books = Books::new();
        books.add(0, NonNull::dangling(), 64 << 20, Readers::ReadOnly);
        for _ in 0..BLOCKS {
            assert!(books.lend(1).is_some());
        }
        assert!(books.lend(1).is_none());
        books.cancel(7);
        assert_eq!(books.lent(), BLOCKS - 1);
        assert_eq!(books.lend(1).map(|lent| lent.place.block()), Some(7));
    }
}
