//! The sender's side of an arena: regions, blocks that are lent, and credit.
//!
//! Promise: a block is the caller's alone until it is sent, and the peer's until that gives it back; what the peer says of a block that it
//! does not have is a violation. Refusal: it does not wait, and does not tell the peer of new regions; the sender does.

use super::books::{Books, Cold, class_above, class_below};
use super::returns::Taker;
use crate::doorbell::{Barrier, Sleeper};
use crate::layout::descriptor::{MAX_REGIONS, Place, UNIT};
use crate::layout::exchange::{BLOCKS, Exchange};
use crate::os::processor;
use crate::os::region::{Readers, Region};
use crate::os::segment::SegmentError;
use crate::ring::Violation;
use crate::sync::{AtomicU64, prefetch_write, spin_hint};
use core::ptr::NonNull;
use std::io;
use std::string::String;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::vec::Vec;

/// Address space that an arena begins with and grows by, in bytes. Takes memory only where it is used.
pub(crate) const REGION: u64 = 64 << 20;
/// Copies have at most so many bytes to themselves, and at most one part in so many of the arena: a few times what goes round. What they hold
/// there is not there for loans. An arena of fewer bytes is all for both.
const OPEN: u64 = 32 << 20;
const OPEN_PART: u64 = 8;
/// Blocks go round in this many bytes while the receiver keeps up, which a shared cache holds, ...
const ROUND: u64 = 4 << 20;
/// ... or in so many of them: as many words of returned blocks as a cache line has, so that it is fetched once for all.
const MAX_ROUND: u64 = 8;
/// Blocks from this many bytes on are worth a short wait for one that is in a cache.
const WAIT_FROM: u64 = 16 << 10;
/// Bytes of a message for each poll of such a wait: some times as long as its receiver needs for it. Given up too soon, the sender runs ahead
/// into memory that is in no cache, up to the last of its blocks, and stays there.
const BYTES_A_POLL: u64 = 128;
/// The most polls of such a wait, and the most blocks that are lent without one after it was in vain.
const MAX_POLLS: u64 = 1024;
const MAX_NO_WAITS: u32 = 256;
/// A region that was not used for so long is given up.
const IDLE: Duration = Duration::from_secs(10);

/// The largest message that an arena of `limit` bytes can lend a block for, in bytes.
pub(crate) fn max_block(limit: u64) -> u64 {
    class_below((limit / UNIT).min(u32::MAX.into())) * UNIT
}

/// What a sender's arena holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArenaStatus {
    /// Bytes of address space. Memory is taken only where it was used.
    pub size: u64,
    /// Bytes that the arena may grow to: what the peer accepts.
    pub limit: u64,
    /// Bytes in use: lent to this process, on the way, or held by the peer.
    pub used: u64,
    /// Blocks in use.
    pub blocks: u64,
}

/// A block that was lent to this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lent {
    pub(crate) place: Place,
    pub(crate) start: NonNull<u8>,
}

/// Why no block was lent.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no room now. All in bytes.
    Full { needed: u64, free: u64 },
    /// As many blocks are in use as there can be.
    Blocks,
    /// There is no room, but the arena may grow by so many bytes.
    Grow { bytes: u64, readers: Readers },
    /// There is no room, but there would be if regions that lie idle were given up.
    Trim,
    /// It can never fit.
    TooLarge,
    /// The peer returned what it does not have.
    Violation(Violation),
    /// The system has no memory.
    Memory(io::Error),
}

/// Blocks of detached loans that were dropped without being sent: any thread may add to them.
#[derive(Debug, Default)]
pub(crate) struct Dropped(Mutex<Vec<u16>>);

impl Dropped {
    pub(crate) fn add(&self, number: u16) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    }
}

struct Mapped {
    memory: Arc<Region>,
    readers: Readers,
    /// When it was last seen in use.
    used: Instant,
}

pub(crate) struct Lender {
    /// Valid as long as the sender, which keeps the link, lives.
    exchange: NonNull<Exchange>,
    barrier: Barrier,
    sleeper: Sleeper,
    taker: Taker,
    books: Books,
    regions: Vec<Option<Mapped>>,
    /// Bytes of all regions, and what they may grow to.
    size: u64,
    limit: u64,
    /// The same, of those that their receiver may write to.
    open: u64,
    open_limit: u64,
    /// Blocks to be lent without waiting for one, since that was in vain, and after the next time it is.
    no_waits: u32,
    next_no_waits: u32,
    dropped: Arc<Dropped>,
    /// There may be detached loans, or some were dropped since the last look.
    detached: bool,
    label: String,
}

// SAFETY: the exchange area is made of atomics; the rest is private.
unsafe impl Send for Lender {}

impl Lender {
    /// # Safety
    /// The exchange area stays valid while the lender lives, and has no other lender.
    pub(crate) unsafe fn new(exchange: NonNull<Exchange>, barrier: Barrier, limit: u64, label: String) -> Self {
        Self {
            exchange,
            barrier,
            sleeper: Sleeper::default(),
            taker: Taker::default(),
            books: Books::new(),
            regions: Vec::new(),
            size: 0,
            limit,
            open: 0,
            open_limit: if limit >= OPEN { OPEN.min(limit / OPEN_PART) / UNIT * UNIT } else { 0 },
            no_waits: 0,
            next_no_waits: 1,
            dropped: Arc::default(),
            detached: false,
            label,
        }
    }

    fn exchange(&self) -> &Exchange {
        // SAFETY: valid as long as the lender, by the promise of `new`; made of atomics.
        unsafe { self.exchange.as_ref() }
    }

    /// Lends a block of about `len` bytes that came back, if there is one.
    #[inline(always)]
    pub(crate) fn lend_warm(&mut self, len: u64, readers: Readers) -> Option<Lent> {
        // Its pages have memory since it was lent first.
        self.books.lend_warm(len, readers)
    }

    /// Lends the block of about `len` bytes that came back last, or else what is free in a region. For a window, through which a message of
    /// many times its size passes: always the same one, which the caches hold, and none for which the arena grows, as the message itself
    /// may need that room. Blocks that hold a message each are better lent in turns.
    pub(crate) fn lend_again(&mut self, len: u64) -> Result<Option<Lent>, Refused> {
        self.collect().map_err(Refused::Violation)?;
        let kinds = [Readers::MayWrite, Readers::ReadOnly];
        if let Some(lent) = kinds.into_iter().find_map(|readers| self.books.lend_last(len, readers)) {
            return Ok(Some(lent));
        }
        let Some(units) = Books::units(len) else { return Ok(None) };
        let cold = kinds.into_iter().find_map(|readers| self.books.lend_cold(units, readers));
        cold.map(|cold| self.lent(cold)).transpose()
    }

    /// What the receiver of a block may do with it that is only copied into, since this side never looks at its bytes again, or of any block
    /// if it is believed.
    #[inline]
    pub(crate) fn open_kind(&self) -> Readers {
        if self.open > 0 || self.left(Readers::MayWrite) > 0 { Readers::MayWrite } else { Readers::ReadOnly }
    }

    /// The peer is believed: whatever the arena grows by from now on may be open.
    pub(crate) fn open_all(&mut self) {
        self.open_limit = self.limit;
    }

    /// Says whether there is a region that is sealed.
    pub(crate) fn has_sealed(&self) -> bool {
        self.size > self.open
    }

    /// Says whether so many blocks are out that those which came back are lent again, before others are lent.
    #[inline]
    fn goes_round(&self, len: u64) -> bool {
        let lent = self.books.lent();
        // As `lent >= ROUND / len`, without a division.
        lent >= MAX_ROUND || (lent > 0 && (lent + 1).saturating_mul(len) > ROUND)
    }

    /// For the time after a block of `len` bytes was sent, in which this side would only wait: looks for the next one, and asks for
    /// its first line, which the receiver has read.
    ///
    /// # Errors
    /// As [`Lender::collect`].
    #[inline(always)]
    pub(crate) fn prepare(&mut self, len: u64, readers: Readers) -> Result<(), Violation> {
        match self.books.next_warm(readers) {
            Some(lent) => {
                prefetch_write(lent.start.as_ptr());
                Ok(())
            }
            None => self.collect_round(len),
        }
    }

    #[inline(never)]
    fn collect_round(&mut self, len: u64) -> Result<(), Violation> {
        if self.goes_round(len) { self.collect() } else { Ok(()) }
    }

    /// Lends a block of `len` bytes that its receiver may at most do this with: who does not mind that it writes does not mind that it
    /// cannot, either. The bytes hold whatever they held.
    pub(crate) fn lend(&mut self, len: u64, readers: Readers) -> Result<Lent, Refused> {
        let Some(units) = Books::units(len) else { return Err(Refused::TooLarge) };
        // What is longer than all open regions together need not disturb them.
        let readers = if len > self.open_limit { Readers::ReadOnly } else { readers };
        if let Some(lent) = self.lend_warm(len, readers) {
            return Ok(lent);
        }
        if self.goes_round(len) {
            self.collect().map_err(Refused::Violation)?;
            loop {
                // Sealed ones suit everybody.
                let kinds = [readers, Readers::ReadOnly];
                if let Some(lent) = kinds.into_iter().find_map(|readers| self.lend_warm(len, readers)) {
                    return Ok(lent);
                }
                if len < WAIT_FROM || !self.await_warm(len)? {
                    break;
                }
            }
        }
        if let Some(cold) = self.books.lend_cold(units, readers) {
            return self.lent(cold);
        }
        self.lend_late(len, readers)
    }

    /// Waits shortly for a block to come back: some times as long as the receiver reads one. A sender that runs far ahead instead writes to
    /// memory that is in no cache, and both sides lose more than the wait. Where the receiver does not keep up, that is left more and more.
    #[cold]
    fn await_warm(&mut self, len: u64) -> Result<bool, Refused> {
        if self.no_waits > 0 || processor::is_single() {
            self.no_waits = self.no_waits.saturating_sub(1);
            return Ok(false);
        }
        for _ in 0..(len / BYTES_A_POLL).min(MAX_POLLS) {
            if self.is_ready() {
                self.next_no_waits = 1;
                self.collect().map_err(Refused::Violation)?;
                return Ok(true);
            }
            spin_hint();
        }
        self.no_waits = self.next_no_waits;
        self.next_no_waits = (self.next_no_waits * 2).clamp(1, MAX_NO_WAITS);
        Ok(false)
    }

    #[cold]
    fn lend_late(&mut self, len: u64, readers: Readers) -> Result<Lent, Refused> {
        self.collect().map_err(Refused::Violation)?;
        if let Some(cold) = Books::units(len).and_then(|units| self.books.lend_cold(units, readers)) {
            return self.lent(cold);
        }
        if len > max_block(self.limit) {
            return Err(Refused::TooLarge);
        }
        if self.books.lent() == BLOCKS {
            return Err(Refused::Blocks);
        }
        if let Some(bytes) = self.growth(len, self.left(readers)) {
            return Err(Refused::Grow { bytes, readers });
        }
        if readers == Readers::MayWrite {
            // Sealed is as good, but for speed: its memory is for both.
            let warm = self.lend_warm(len, Readers::ReadOnly);
            return warm.map_or_else(|| self.lend_late(len, Readers::ReadOnly), Ok);
        }
        let idle = self.idle_bytes();
        if idle > 0 && self.growth(len, self.limit - self.size + idle).is_some() {
            return Err(Refused::Trim);
        }
        Err(Refused::Full { needed: len, free: self.limit.saturating_sub(self.books.used()) })
    }

    /// Bytes that the arena may grow by.
    fn left(&self, readers: Readers) -> u64 {
        let left = self.limit - self.size;
        match readers {
            Readers::ReadOnly => left,
            Readers::MayWrite => left.min(self.open_limit.saturating_sub(self.open)),
        }
    }

    /// Bytes of regions of which nothing is lent.
    fn idle_bytes(&mut self) -> u64 {
        self.books.cool();
        let regions = self.regions.iter().enumerate();
        let idle = regions.filter(|(at, _)| self.books.is_unused(*at));
        idle.filter_map(|(_, region)| Some(region.as_ref()?.memory.size())).sum()
    }

    fn lent(&mut self, cold: Cold) -> Result<Lent, Refused> {
        let Cold { lent, end } = cold;
        let Some(Some(region)) = self.regions.get(usize::from(lent.place.region())) else {
            // The books know no region that is not mapped.
            return Err(Refused::TooLarge);
        };
        if let Err(error) = region.memory.populate(end) {
            self.books.abandon(lent.place.block());
            return Err(Refused::Memory(error));
        }
        Ok(lent)
    }

    /// Bytes of a region that would make room for a message of `len` bytes, if there is so much left.
    fn growth(&self, len: u64, left: u64) -> Option<u64> {
        let least = class_above(len.div_ceil(UNIT).max(1)) * UNIT;
        let wanted = least.max(REGION.min(left / UNIT * UNIT));
        (wanted <= left && wanted / UNIT < u32::MAX.into() && self.free_region().is_some()).then_some(wanted)
    }

    fn free_region(&self) -> Option<usize> {
        let free = self.regions.iter().position(Option::is_none).unwrap_or(self.regions.len());
        (free < MAX_REGIONS).then_some(free)
    }

    /// Makes a region of `bytes`. It is lent from once it is [added](Self::add).
    pub(crate) fn grow(&self, bytes: u64, readers: Readers) -> Result<(u8, Region), SegmentError> {
        let number = self.free_region().unwrap_or_default();
        Ok((number as u8, Region::create(&self.label, bytes, readers)?))
    }

    /// Adds a region that the peer has been told of.
    pub(crate) fn add(&mut self, number: u8, region: Region, readers: Readers) {
        let at = usize::from(number);
        // SAFETY: the first byte of a mapping, so not null.
        let start = unsafe { NonNull::new_unchecked(region.pointer(0)) };
        let size = region.size();
        self.books.add(at, start, size, readers);
        self.size += size;
        self.open += if readers == Readers::MayWrite { size } else { 0 };
        if self.regions.len() <= at {
            self.regions.resize_with(at + 1, || None);
        }
        self.regions[at] = Some(Mapped { memory: Arc::new(region), readers, used: Instant::now() });
    }

    /// A region that nothing was lent from for so long that it should be given up.
    pub(crate) fn idle_region(&mut self, idle: Duration) -> Option<u8> {
        let now = Instant::now();
        self.books.cool();
        for (at, region) in self.regions.iter_mut().enumerate() {
            let Some(region) = region else { continue };
            if !self.books.is_unused(at) {
                region.used = now;
            } else if now.duration_since(region.used) >= idle {
                return Some(at as u8);
            }
        }
        None
    }

    /// As [`Lender::idle_region`], after the default time, and only now and then: off the way of messages.
    pub(crate) fn long_idle_region(&mut self) -> Option<u8> {
        self.idle_region(IDLE)
    }

    /// Unmaps a region that the peer has been told to forget.
    pub(crate) fn remove(&mut self, number: u8) {
        let at = usize::from(number);
        if let Some(slot) = self.regions.get_mut(at)
            && let Some(region) = slot.take()
        {
            let size = region.memory.size();
            self.size -= size;
            self.open -= if region.readers == Readers::MayWrite { size } else { 0 };
            self.books.remove(at);
        }
    }

    /// The region that a block lies in, to keep it mapped for longer than the sender lives.
    pub(crate) fn memory(&self, place: Place) -> Option<Arc<Region>> {
        let region = self.regions.get(usize::from(place.region()))?.as_ref()?;
        Some(region.memory.clone())
    }

    /// The bytes of a message that was sent and not taken, for a sender that takes it back. `None` if the peer has no such block.
    pub(crate) fn bytes(&self, place: Place, len: u64) -> Option<NonNull<u8>> {
        let region = self.regions.get(usize::from(place.region()))?.as_ref()?;
        if !self.books.is_out_with(place, len) {
            return None;
        }
        // What is lent lies inside its region.
        NonNull::new(region.memory.pointer(place.unit() * UNIT))
    }

    /// Notes that a block was sent.
    #[inline(always)]
    pub(crate) fn sent(&mut self, place: Place) {
        self.books.send(place.block());
    }

    /// Takes back a block that was lent and not sent.
    pub(crate) fn cancel(&mut self, place: Place) {
        self.books.cancel(place.block());
    }

    /// Takes what the peer gave back, and what loans that were dropped left.
    pub(crate) fn collect(&mut self) -> Result<(), Violation> {
        // SAFETY: as in `exchange`, but apart from `self`.
        let exchange = unsafe { self.exchange.as_ref() };
        // A hostile peer must not keep us: more blocks than there are cannot come back.
        for _ in 0..BLOCKS {
            let Some(number) = self.taker.take(&exchange.returned) else { break };
            if !self.books.take_back(number) {
                let (value, max) = (number.into(), BLOCKS - 1);
                return Err(Violation { field: "returned block (one that the receiver has)", value, min: 0, max });
            }
        }
        if self.detached {
            // Counted first: the last loan notes its block before it goes.
            self.detached = Arc::strong_count(&self.dropped) > 1;
            let mut dropped = self.dropped.0.lock().unwrap_or_else(PoisonError::into_inner);
            dropped.drain(..).for_each(|number| self.books.cancel(number));
        }
        Ok(())
    }

    /// The blocks of this lender that are dropped elsewhere.
    pub(crate) fn dropped(&self) -> &Arc<Dropped> {
        &self.dropped
    }

    /// The same, for a loan that is detached now.
    pub(crate) fn detach(&mut self) -> Arc<Dropped> {
        self.detached = true;
        self.dropped.clone()
    }

    /// Says whether the peer has a block, as far as is known.
    pub(crate) fn is_out(&self, block: u16) -> bool {
        self.books.is_out(block)
    }

    /// Takes back everything that the peer has, but for the blocks in `keep`. For a peer that is gone.
    pub(crate) fn reclaim(&mut self, keep: &[u16]) {
        let out: Vec<_> = self.books.out().filter(|number| !keep.contains(number)).collect();
        for number in out {
            self.books.take_back(number.into());
        }
    }

    pub(crate) fn status(&self) -> ArenaStatus {
        ArenaStatus { size: self.size, limit: self.limit, used: self.books.used(), blocks: self.books.lent() }
    }

    /// The word that says how much of a block is written.
    #[inline]
    pub(crate) fn progress(&self, place: Place) -> &AtomicU64 {
        &self.exchange().progress[usize::from(place.block()) % BLOCKS as usize]
    }

    /// The word that says how much of an offer was taken.
    pub(crate) fn taken(&self, place: Place) -> &AtomicU64 {
        &self.exchange().taken[usize::from(place.block()) % BLOCKS as usize]
    }

    /// Says whether a block has come back since the last look.
    pub(crate) fn is_ready(&self) -> bool {
        self.taker.is_ready(&self.exchange().returned)
    }

    /// Raises the ticket of a sender that is about to sleep until a block comes back.
    pub(crate) fn raise(&mut self) {
        // SAFETY: as in `exchange`, but apart from `self`.
        let exchange = unsafe { self.exchange.as_ref() };
        self.sleeper.raise(&exchange.ticket, self.barrier);
    }

    /// Withdraws the ticket.
    pub(crate) fn lower(&mut self) {
        self.sleeper.lower(&self.exchange().ticket);
    }
}
