//! Messages in blocks of the arena: lent, copied into while the receiver reads, grown and given up by regions.
//!
//! Promise: a message that is refused gives its block back. Refusal: where blocks lie is decided in [`crate::arena`].

use super::beside::no_memory;
use super::content::Content;
use super::need::Need;
use super::{Patience, Sender, Shortage};
use crate::arena::lender::{Lent, Refused};
use crate::arena::progress;
use crate::error::{Resource, SendError};
use crate::layout::Mark;
use crate::layout::descriptor::{self, Descriptor, Kind, Place};
use crate::message::Trust;
use crate::os::bell::Deadline;
use crate::os::region::Readers;
use crate::router::Lane;
use crate::sync::Ordering;
use rustix::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// From this many bytes on a copy is published while it is made, so that the receiver's copy runs beside it.
const STREAM_FROM: u64 = 8 << 10;
/// Bytes between two words of progress: few enough that the receiver is close behind, many enough that the word is no burden.
const STREAM_STEP: usize = 16 << 10;
/// Bytes of a descriptor with a head, and words of the head.
const WITH_HEAD: usize = (descriptor::SIZE + descriptor::HEAD) as usize;
const HEAD_WORDS: usize = descriptor::HEAD as usize / 8;
/// Blocks that are lent between two looks whether a region lies idle.
pub(super) const TRIM_AFTER: u32 = 1024;

impl<T: Trust> Sender<T> {
    /// A block of the arena: copied in, and while that goes on the receiver may copy out.
    pub(super) fn send_block(
        &mut self,
        content: &Content<'_>,
        files: &[BorrowedFd<'_>],
        patience: Patience,
    ) -> Result<(), SendError> {
        let mut made = None;
        let readers = self.lanes.open_kind();
        let lent = self.lend(content.len, readers, patience, &mut made)?;
        if let Err(error) = self.prepare_record(files, patience, &mut made) {
            self.cancel(lent);
            return Err(error);
        }
        let stream = content.len >= STREAM_FROM && self.lanes.outlet.is_none();
        let kind = if stream { Kind::Stream } else { Kind::Block };
        if stream {
            // Ordered before the record that tells of it.
            self.progress(lent, |word| word.store(0, Ordering::Relaxed));
        } else {
            // SAFETY: the block has room for the message and is ours until it is sent.
            unsafe { content.copy_to(lent.start.as_ptr()) };
        }
        self.publish_block(lent, kind, content.len, files.len());
        if stream {
            self.stream(lent, content);
        }
        Ok(())
    }

    pub(super) fn progress(&self, lent: Lent, act: impl FnOnce(&crate::sync::AtomicU64)) {
        if let Some(lender) = &self.lanes.lender {
            act(lender.progress(lent.place));
        }
    }

    /// Copies into a block that the receiver knows already, and says how far it is.
    pub(super) fn stream(&mut self, lent: Lent, content: &Content<'_>) {
        let mut at = 0;
        for slice in content.slices() {
            for piece in slice.chunks(STREAM_STEP) {
                // SAFETY: inside the block; the receiver reads only what the progress covers.
                unsafe { core::ptr::copy_nonoverlapping(piece.as_ptr(), lent.start.as_ptr().add(at), piece.len()) };
                at += piece.len();
                self.progress(lent, |word| progress::publish(word, at as u64));
                if self.producer.call_consumer() {
                    self.wake(true);
                }
            }
        }
    }

    #[inline(always)]
    pub(super) fn publish_block(&mut self, lent: Lent, kind: Kind, len: u64, files: usize) {
        let mut descriptor = Descriptor::new(kind, len);
        descriptor.place = lent.place;
        descriptor.files = files as u8;
        self.note_sent(lent);
        self.publish_described(&descriptor, 1);
    }

    /// Publishes a block that was lent, in the room of [`Sender::prepare_loan`]. With its head, but where records travel in packets: there
    /// each byte of it would be copied by the kernel, twice.
    #[inline(always)]
    pub(super) fn publish_loan(&mut self, lent: Lent, len: u64) {
        let mut descriptor = Descriptor::new(Kind::Block, len);
        descriptor.place = lent.place;
        self.note_sent(lent);
        if self.lanes.outlet.is_some() {
            return self.publish_described(&descriptor, 1);
        }
        let [first, second] = descriptor.encode();
        // Words: a wider load would wait until the stores of a caller that just wrote less have left the processor.
        // SAFETY: a block has at least `UNIT` bytes, is aligned to as many, and is ours until it is published; any bytes are words.
        let [a, b, c, d, e] = unsafe { lent.start.as_ptr().cast::<[u64; HEAD_WORDS]>().read() };
        let mut record = self.producer.reservation(WITH_HEAD);
        record.write_words([first, second, a, b, c, d, e]);
        let wake = record.publish_as(Mark::Described, 1).1;
        self.wake(wake);
    }

    /// Room for the record of a loan.
    #[inline(always)]
    pub(super) fn prepare_loan(&mut self, patience: Patience, made: &mut Option<Deadline>) -> Result<(), SendError> {
        if self.producer.claim_fast(WITH_HEAD) {
            return Ok(());
        }
        // Where records travel in packets they go without, and are never claimed fast.
        let len = if self.lanes.outlet.is_some() { descriptor::SIZE as usize } else { WITH_HEAD };
        self.claim_slow(len, patience, made)
    }

    /// Keeps the books of a block that is about to be published.
    #[inline(always)]
    fn note_sent(&mut self, lent: Lent) {
        if let Some(lender) = &mut self.lanes.lender {
            lender.sent(lent.place);
        }
        if let Some(sent_as) = self.lanes.sent_as.get_mut(usize::from(lent.place.block())) {
            *sent_as = self.producer.messages();
        }
    }

    /// After a loan was sent: what the next one needs, while this one is on its way. A violation is told by the next call.
    #[inline(always)]
    pub(super) fn prepare_next_loan(&mut self, len: u64) {
        let readers = self.for_loans();
        if let Some(lender) = &mut self.lanes.lender
            && let Err(violation) = lender.prepare(len, readers)
        {
            self.link.condemn(violation);
        }
    }

    /// Publishes a descriptor in the room that was claimed for it.
    #[inline(always)]
    pub(super) fn publish_described(&mut self, descriptor: &Descriptor, messages: u64) {
        let mut record = self.producer.reservation(descriptor::SIZE as usize);
        record.write_words(descriptor.encode());
        let wake = record.publish_as(Mark::Described, messages).1;
        self.wake(wake);
    }

    /// Room for a descriptor, and what is beside it on its way.
    #[inline(always)]
    pub(super) fn prepare_record(
        &mut self,
        files: &[BorrowedFd<'_>],
        patience: Patience,
        made: &mut Option<Deadline>,
    ) -> Result<(), SendError> {
        if !self.producer.claim_fast(descriptor::SIZE as usize) {
            self.claim_slow(descriptor::SIZE as usize, patience, made)?;
        }
        if files.is_empty() { Ok(()) } else { self.put_beside(files, patience, made) }
    }

    /// What receivers may do with loans.
    #[inline(always)]
    pub(super) fn for_loans(&self) -> Readers {
        match T::READERS {
            Readers::ReadOnly => Readers::ReadOnly,
            Readers::MayWrite => self.lanes.open_kind(),
        }
    }

    /// Lends a block; waits for one, or lets the arena grow.
    #[inline(always)]
    pub(super) fn lend(
        &mut self,
        len: u64,
        readers: Readers,
        patience: Patience,
        made: &mut Option<Deadline>,
    ) -> Result<Lent, SendError> {
        self.lanes.lent += 1;
        if self.lanes.lent < TRIM_AFTER
            && let Some(lender) = &mut self.lanes.lender
            && let Some(lent) = lender.lend_warm(len, readers)
        {
            return Ok(lent);
        }
        self.lend_slow(len, readers, patience, made)
    }

    #[inline(never)]
    fn lend_slow(
        &mut self,
        len: u64,
        mut readers: Readers,
        patience: Patience,
        made: &mut Option<Deadline>,
    ) -> Result<Lent, SendError> {
        if self.lanes.lent >= TRIM_AFTER {
            self.lanes.lent = 0;
            self.trim_regions(None, Patience::None, &mut None)?;
        }
        loop {
            let Some(lender) = &mut self.lanes.lender else { return Err(self.no_lane(Lane::Arena, len)) };
            let shortage = match lender.lend(len, readers) {
                Ok(lent) => return Ok(lent),
                Err(Refused::Grow { bytes, readers: kind }) => {
                    // Nobody waits for faster memory while there is some.
                    let open = kind == Readers::MayWrite && lender.has_sealed();
                    match self.grow(len, bytes, kind, if open { Patience::None } else { patience }, made) {
                        Ok(()) => {}
                        // No descriptor for another region, say: there may be room in a sealed one.
                        Err(_) if kind == Readers::MayWrite => readers = Readers::ReadOnly,
                        Err(error) => return Err(error),
                    }
                    continue;
                }
                Err(Refused::Trim) => {
                    self.trim_regions(Some(Duration::ZERO), patience, made)?;
                    continue;
                }
                Err(Refused::Full { needed, free }) => Shortage { resource: Resource::Arena, needed, free },
                Err(Refused::Blocks) => Shortage { resource: Resource::Blocks, needed: 1, free: 0 },
                Err(Refused::TooLarge) => return Err(self.no_lane(Lane::Arena, len)),
                Err(Refused::Memory(source)) => return Err(SendError::Memory { len, source }),
                Err(Refused::Violation(violation)) => return Err(self.link.condemn(violation).into()),
            };
            self.wait(Need::Block, shortage, patience, made)?;
        }
    }

    pub(super) fn cancel(&mut self, lent: Lent) {
        if let Some(lender) = &mut self.lanes.lender {
            lender.cancel(lent.place);
        }
    }

    /// Adds a region to the arena. The peer is told before anything is lent from it.
    pub(super) fn grow(
        &mut self,
        len: u64,
        bytes: u64,
        readers: Readers,
        patience: Patience,
        made: &mut Option<Deadline>,
    ) -> Result<(), SendError> {
        let Some(lender) = &self.lanes.lender else { return Ok(()) };
        let (number, region) = lender.grow(bytes, readers).map_err(|error| no_memory(len, error))?;
        self.prepare_record(&[region.as_fd()], patience, made)?;
        let mut descriptor = Descriptor::new(Kind::Region, region.size());
        descriptor.place = Place::of_region(number);
        descriptor.files = 1;
        self.publish_described(&descriptor, 0);
        if let Some(lender) = &mut self.lanes.lender {
            lender.add(number, region, readers);
        }
        Ok(())
    }

    /// Gives regions up that lie idle, as far as there is room in the ring to say so, or comes to be while `patience` lasts. Returns
    /// their bytes.
    pub(super) fn trim_regions(
        &mut self,
        idle: Option<Duration>,
        patience: Patience,
        made: &mut Option<Deadline>,
    ) -> Result<u64, SendError> {
        let mut bytes = 0;
        loop {
            let Some(lender) = &mut self.lanes.lender else { return Ok(bytes) };
            if let Err(violation) = lender.collect() {
                return Err(self.link.condemn(violation).into());
            }
            let found = match idle {
                Some(idle) => lender.idle_region(idle),
                None => lender.long_idle_region(),
            };
            let Some(number) = found else { return Ok(bytes) };
            match self.claim_slow(descriptor::SIZE as usize, patience, made) {
                Ok(()) => {}
                // Later, then: nobody waits for it, or there is something already.
                Err(SendError::WouldBlock { .. }) if idle.is_none() || bytes > 0 => return Ok(bytes),
                Err(error) => return Err(error),
            }
            let mut descriptor = Descriptor::new(Kind::Retire, 0);
            descriptor.place = Place::of_region(number);
            self.publish_described(&descriptor, 0);
            if let Some(lender) = &mut self.lanes.lender {
                let before = lender.status().size;
                lender.remove(number);
                bytes += before - lender.status().size;
            }
        }
    }
}
