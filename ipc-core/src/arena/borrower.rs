//! The receiver's side of an arena: the peer's regions, mapped for reading, and blocks to give back.
//!
//! Promise: a place that comes out of here lies inside a mapped region, whatever the peer wrote. Blocks are given back from any
//! thread, in any order. Refusal: nothing here trusts that the bytes stay as they are: a hostile sender can write them.

use super::returns::Giver;
use crate::doorbell::{Barrier, Call, Waker};
use crate::layout::descriptor::{Descriptor, MAX_REGIONS, Place, UNIT};
use crate::layout::exchange::{BLOCKS, Exchange};
use crate::os::region::Region;
use crate::ring::Violation;
use crate::sync::{AtomicU64, prefetch_write};
use core::ptr::NonNull;
use std::sync::Arc;
use std::vec::Vec;

/// The way back of blocks, shared by the receiver and the messages that it holds.
pub(crate) struct WayBack {
    /// Valid as long as the owner of the mapping, which keeps this value beside it, lives.
    exchange: NonNull<Exchange>,
    barrier: Barrier,
    giver: Giver,
}

// SAFETY: the exchange area is made of atomics; giving is for any thread.
unsafe impl Send for WayBack {}
// SAFETY: as above.
unsafe impl Sync for WayBack {}

impl WayBack {
    /// # Safety
    /// The exchange area stays valid while the value is used, and has no other receiver.
    pub(crate) unsafe fn new(exchange: NonNull<Exchange>, barrier: Barrier) -> Self {
        Self { exchange, barrier, giver: Giver::default() }
    }

    #[inline(always)]
    fn exchange(&self) -> &Exchange {
        // SAFETY: the promise of `new`; made of atomics.
        unsafe { self.exchange.as_ref() }
    }

    /// Gives a block back, from any thread. True: a sender that sleeps must be woken.
    #[inline]
    pub(crate) fn give(&self, block: u16) -> bool {
        self.giver.give(&self.exchange().returned, block.into());
        self.call()
    }

    /// As [`WayBack::give`], for a time in which no other thread gives.
    #[inline(always)]
    pub(crate) fn give_alone(&self, block: u16) -> bool {
        self.giver.give_alone(&self.exchange().returned, block.into());
        self.call()
    }

    /// Asks for the line that is written when the next block is given back: the sender may have read it since the last one.
    #[inline(always)]
    pub(crate) fn prepare(&self) {
        prefetch_write(self.giver.next_slot(&self.exchange().returned));
    }

    /// Says whether a sender that sleeps must be woken for something that was said to it.
    #[inline(always)]
    pub(crate) fn call(&self) -> bool {
        // A waker that remembers no answers: a sender that sleeps may be rung more than once before it has woken, and never less.
        Waker::default().call(&self.exchange().ticket, self.barrier) == Call::Ring
    }

    /// The word that says how much of an offer was taken.
    pub(crate) fn taken(&self, block: u16) -> &AtomicU64 {
        &self.exchange().taken[usize::from(block) % BLOCKS as usize]
    }

    /// The word that says how much of a block is written.
    #[inline]
    pub(crate) fn progress(&self, block: u16) -> &AtomicU64 {
        &self.exchange().progress[usize::from(block) % BLOCKS as usize]
    }
}

/// The regions of a peer.
#[derive(Default)]
pub(crate) struct Borrower {
    regions: Vec<Option<Arc<Region>>>,
    /// Bytes of all of them, and the most there may be.
    size: u64,
    limit: u64,
}

impl Borrower {
    pub(crate) fn new(limit: u64) -> Self {
        Self { regions: Vec::new(), size: 0, limit }
    }

    /// Checks what the peer says of a region that it adds, before it is mapped.
    pub(crate) fn check(&self, descriptor: &Descriptor) -> Result<(), Violation> {
        let (at, size) = (usize::from(descriptor.place.region()), descriptor.length);
        if self.regions.get(at).is_some_and(Option::is_some) {
            let value = at as u64;
            return Err(Violation { field: "number of a new region", value, min: 0, max: MAX_REGIONS as u64 - 1 });
        }
        let max = self.limit.saturating_sub(self.size);
        if size == 0 || size > max || !size.is_multiple_of(UNIT) {
            return Err(Violation { field: "size of a new region", value: size, min: UNIT, max });
        }
        Ok(())
    }

    /// Adds a region that was checked.
    pub(crate) fn add(&mut self, number: u8, region: Region) {
        let at = usize::from(number);
        self.size += region.size();
        if self.regions.len() <= at {
            self.regions.resize(at + 1, None);
        }
        self.regions[at] = Some(Arc::new(region));
    }

    /// Forgets a region. It stays mapped as long as messages in it are held.
    pub(crate) fn retire(&mut self, number: u8) -> Result<(), Violation> {
        let slot = self.regions.get_mut(usize::from(number));
        let Some(region) = slot.and_then(Option::take) else { return Err(self.no_region(number)) };
        self.size -= region.size();
        Ok(())
    }

    fn no_region(&self, number: u8) -> Violation {
        let max = self.regions.len().saturating_sub(1) as u64;
        Violation { field: "number of a region", value: number.into(), min: 0, max }
    }

    /// The first byte of a message in the arena, checked to lie inside with all its bytes.
    #[inline]
    pub(crate) fn find(&self, place: Place, len: u64) -> Result<*const u8, Violation> {
        if u64::from(place.block()) >= BLOCKS {
            return Err(Violation { field: "number of a block", value: place.block().into(), min: 0, max: BLOCKS - 1 });
        }
        let Some(Some(region)) = self.regions.get(usize::from(place.region())) else {
            return Err(self.no_region(place.region()));
        };
        // Neither overflows: 47 and 48 bits.
        let (start, size) = (place.unit() * UNIT, region.size());
        if start + len > size {
            return Err(Violation { field: "end of a message in its region", value: start + len, min: 0, max: size });
        }
        Ok(region.pointer(start))
    }

    /// The region that a place lies in, for a message that is held.
    pub(crate) fn region(&self, place: Place) -> Option<Arc<Region>> {
        self.regions.get(usize::from(place.region())).cloned().flatten()
    }

    /// Bytes mapped.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}
