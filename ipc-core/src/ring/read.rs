//! The consuming half: look at records in place, then give their space back.
//!
//! Promise: a record is read once; its bytes stay put until its guard is dropped. Refusal: no slice is
//! formed over bytes that an untrusted producer can still write; payloads are copied out, or read through a pointer.

use super::pace::Pace;
use super::walk::{Extent, Walk};
#[cfg(feature = "std")]
use super::window::ReadWindow;
use super::{RingMemory, Violation};
use crate::doorbell::{Barrier, Call, Sleeper, Waker, is_gone};
use crate::layout::descriptor::{self, Descriptor};
use crate::layout::{HEADER, Mark};
use crate::sync::{Ordering, RingBytes, spin_hint};

/// The consuming half of a ring.
pub struct Consumer<'a> {
    memory: RingMemory<'a>,
    barrier: Barrier,
    walk: Walk,
    /// Credit that the producer has been given.
    published: u64,
    /// The head at which it is given more: an eighth of the ring further on.
    next_gift: u64,
    /// Messages consumed since the ring began, and how many of them the producer knows of.
    messages: u64,
    told: u64,
    /// The producer is told after so many messages, if not before.
    tell_after: u64,
    pace: Pace,
    wake: bool,
    waker: Waker,
    sleeper: Sleeper,
}

// SAFETY: the half owns the consuming side of the ring; moving it to another thread moves that right.
unsafe impl Send for Consumer<'_> {}

impl<'a> Consumer<'a> {
    pub(super) fn new(memory: RingMemory<'a>, barrier: Barrier) -> Self {
        let control = memory.control();
        let walk = Walk::new(&memory, control.consumer.head.load(Ordering::Relaxed));
        let head = walk.position();
        Self {
            memory,
            barrier,
            walk,
            published: head,
            next_gift: head.saturating_add(memory.capacity() / 8),
            messages: 0,
            told: 0,
            tell_after: u64::MAX,
            pace: Pace::new(),
            wake: false,
            waker: Waker::default(),
            sleeper: Sleeper::default(),
        }
    }

    /// Messages consumed since the ring began.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Says whether something is published that [`Consumer::try_read`] should look at: a record, or padding before one that may
    /// not be there yet. Cheap enough to poll.
    #[inline(always)]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.walk.ready()
    }

    /// Asks for the line of the next record ahead of a look at it.
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        self.walk.prefetch();
    }

    /// The next record, or `None` when nothing more is published. Dropping the record consumes it.
    ///
    /// # Errors
    /// [`Violation`] if the producer wrote an impossible header. The ring cannot be read any further.
    #[inline]
    pub fn try_read(&mut self) -> Result<Option<Record<'_, 'a>>, Violation> {
        Ok(self.take()?.map(|payload| Record { consumer: self, payload }))
    }

    /// The records published so far, one after the other; their space is given back once, when the batch is dropped.
    #[inline]
    pub fn read_batch(&mut self) -> ReadBatch<'_, 'a> {
        ReadBatch { consumer: self, taken: 0 }
    }

    /// Says once, after records were consumed, whether a sleeping producer must be woken for the space.
    #[inline(always)]
    #[must_use = "a producer that sleeps stays asleep unless it is woken"]
    pub fn take_wake(&mut self) -> bool {
        core::mem::take(&mut self.wake)
    }

    /// Pauses for some tens to hundreds of nanoseconds if the producer streams, to stay out of its way.
    /// For polling loops: once, after a poll found nothing.
    #[inline]
    pub fn keep_distance(&mut self) {
        for _ in 0..self.pace.on_empty(self.messages) {
            spin_hint();
        }
    }

    /// Gives all consumed space back now rather than at the next eighth of the ring: before a long sleep. True: a sleeping
    /// producer must be woken.
    #[must_use = "a producer that sleeps stays asleep unless it is woken"]
    pub fn flush_credit(&mut self) -> bool {
        // Guards borrow the consumer, so everything up to the walk is released.
        let head = self.walk.position();
        if self.published == head {
            return false;
        }
        // [P3] as in `release`: the walk may have gone over padding since.
        self.memory.control().consumer.head.store(head, Ordering::Release);
        self.give(head)
    }

    /// Tells the producer of what was consumed after `messages` at the latest, for one that counts them.
    #[cfg(feature = "std")]
    pub(crate) fn tell_after(&mut self, messages: u64) {
        self.tell_after = messages.max(1);
        self.next_gift = 0;
    }

    /// Bytes that were consumed and not given back yet.
    #[cfg(feature = "std")]
    pub(crate) fn held_back(&self) -> u64 {
        self.walk.position() - self.published
    }

    /// Raises the ticket of a consumer that is about to sleep until there is a message. Look again before sleeping.
    pub fn raise(&mut self) {
        self.sleeper.raise(&self.memory.control().consumer_signals.ticket, self.barrier);
    }

    /// Withdraws the ticket.
    pub fn lower(&mut self) {
        self.sleeper.lower(&self.memory.control().consumer_signals.ticket);
    }

    /// Tells the producer that nothing more will be consumed.
    pub fn close(&mut self) {
        self.sleeper.close(&self.memory.control().consumer_signals.ticket);
    }

    /// Says whether the producer has gone politely. What it published before can still be read: look once more.
    #[must_use]
    pub fn is_peer_closed(&self) -> bool {
        is_gone(&self.memory.control().producer_signals.ticket)
    }

    /// Notes the processor this side waits on, and returns the one that the peer last waited on.
    pub fn exchange_processor(&self, own: u32) -> Option<u32> {
        let control = self.memory.control();
        control.consumer_signals.processor.store(own.wrapping_add(1), Ordering::Relaxed);
        control.producer_signals.processor.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Steps to the next record without consuming it.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Result<Option<Payload>, Violation> {
        Payload::next(&mut self.walk)
    }

    /// Where the next record is, for [`Consumer::go_to`].
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) fn place(&self) -> Place {
        Place(self.walk)
    }

    /// Goes to a place from which, or to which, records were taken that are not released yet.
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) fn go_to(&mut self, place: Place) {
        self.walk = place.0;
    }

    /// Goes back to a record that was taken last and not released.
    #[cfg(feature = "std")]
    pub(crate) fn go_back(&mut self, record: &Payload) {
        self.walk.go_back(&record.extent);
    }

    /// Consumes everything up to where the walk is: `records` of them. True: a sleeping producer must be woken.
    #[inline(always)]
    pub(crate) fn release(&mut self, records: u64) -> bool {
        let head = self.walk.position();
        self.messages += records;
        // [P3] reading is finished before the head says so; pairs with [A3] in undelivered.rs.
        self.memory.control().consumer.head.store(head, Ordering::Release);
        head >= self.next_gift && self.give_credit(head)
    }

    /// Gives credit in steps: the producer's copy of this line is lost once a step, not once a message.
    #[cold]
    fn give_credit(&mut self, head: u64) -> bool {
        let few_messages = self.messages - self.told < self.tell_after;
        if few_messages && head < self.published.saturating_add(self.memory.capacity() / 8) {
            return false;
        }
        self.give(head)
    }

    fn give(&mut self, head: u64) -> bool {
        self.published = head;
        self.told = self.messages;
        let counts = self.tell_after != u64::MAX;
        self.next_gift = if counts { 0 } else { head.saturating_add(self.memory.capacity() / 8) };
        let control = self.memory.control();
        control.consumer_signals.messages.store(self.messages, Ordering::Relaxed);
        // [P2] reading is finished before the space is given back; pairs with [A2] in reserve.rs.
        control.consumer_signals.credit.store(head, Ordering::Release);
        self.waker.call(&control.producer_signals.ticket, self.barrier) == Call::Ring
    }
}

/// A place among the records that are not consumed yet.
#[cfg(feature = "std")]
#[derive(Clone, Copy)]
pub(crate) struct Place(Walk);

#[cfg(feature = "std")]
impl Place {
    /// The record here, and a step to the next.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<Payload>, Violation> {
        Payload::next(&mut self.0)
    }

    /// Goes back to the record that was found here last.
    pub(crate) fn go_back(&mut self, record: &Payload) {
        self.0.go_back(&record.extent);
    }

    /// What is here and behind, for code that reads it itself.
    pub(crate) fn window(&self) -> ReadWindow {
        self.0.window()
    }

    /// Goes on to an index of the same lap, below its end.
    pub(crate) fn go_on(&mut self, index: u64) {
        self.0.go_on(index);
    }
}

/// The bytes of one message, in place. The producer may still write them if it is hostile, so they are copied
/// out or read through [`Payload::as_ptr`], never borrowed as a slice.
#[derive(Clone, Copy)]
pub(crate) struct Payload {
    bytes: RingBytes,
    extent: Extent,
}

/// A read that reaches over the end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes at offset {offset} were asked of a message of {message} bytes")]
pub struct OutOfBounds {
    /// Bytes asked for.
    pub len: usize,
    /// Where they begin in the message.
    pub offset: usize,
    /// Bytes in the message.
    pub message: usize,
}

impl Payload {
    /// That of the next record on a walk, if one is published.
    #[inline(always)]
    pub(super) fn next(walk: &mut Walk) -> Result<Option<Self>, Violation> {
        let bytes = walk.bytes();
        Ok(walk.step()?.map(|extent| Self { bytes, extent }))
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.extent.length as usize
    }

    #[cfg(feature = "std")]
    pub(crate) fn mark(&self) -> Mark {
        self.extent.mark
    }

    /// Says whether the record is a message, whole, and nothing else.
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        self.extent.mark == Mark::Plain
    }

    /// Says whether the record begins with a descriptor.
    #[cfg(feature = "std")]
    pub(crate) fn is_described(&self) -> bool {
        self.extent.mark == Mark::Described
    }

    /// The descriptor that a described record begins with, read once.
    pub(crate) fn descriptor(&self) -> Result<Descriptor, Violation> {
        let Extent { index, length, .. } = self.extent;
        if length < descriptor::SIZE {
            let (value, min) = (length, descriptor::SIZE);
            return Err(Violation { field: "length of a described record", value, min, max: u64::MAX });
        }
        Descriptor::decode([0, 8].map(|at| self.bytes.word(index + at).load(Ordering::Relaxed)))
    }

    /// As [`Descriptor::plain_block`], for the record.
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) fn plain_block(&self) -> Option<(u64, descriptor::Place)> {
        let Extent { index, length, mark } = self.extent;
        if mark != Mark::Described || length < descriptor::SIZE {
            return None;
        }
        Descriptor::plain_block([0, 8].map(|at| self.bytes.word(index + at).load(Ordering::Relaxed)))
    }

    /// Where the head of a message in a block stands, if its record is one of a descriptor and a head and nothing else.
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) fn head(&self) -> Option<*const u8> {
        // One length and no other, so that no number of the peer's says how much may be read there.
        let has_head = self.extent.length == descriptor::SIZE + descriptor::HEAD;
        has_head.then(|| self.bytes.pointer(self.extent.index + descriptor::SIZE).cast_const())
    }

    /// The word behind the descriptor, read once; `None` if the record ends before.
    #[cfg(feature = "std")]
    pub(crate) fn third_word(&self) -> Option<u64> {
        let Extent { index, length, .. } = self.extent;
        (length >= descriptor::SIZE + 8).then(|| self.bytes.word(index + descriptor::SIZE).load(Ordering::Relaxed))
    }

    /// The bytes that follow the descriptor.
    #[cfg(feature = "std")]
    pub(crate) fn behind_descriptor(mut self) -> Self {
        self.extent.index += descriptor::SIZE;
        self.extent.length -= descriptor::SIZE;
        self
    }

    /// Says whether a message ends with this record.
    pub(crate) fn ends_message(&self) -> bool {
        match self.extent.mark {
            Mark::Plain => true,
            Mark::More => false,
            Mark::Described => self.descriptor().is_ok_and(|descriptor| descriptor.kind.is_message()),
        }
    }

    /// Copies `target.len()` bytes from `offset`.
    #[inline(always)]
    pub(crate) fn read_at(&self, offset: usize, target: &mut [u8]) -> Result<(), OutOfBounds> {
        if offset > self.len() || target.len() > self.len() - offset {
            return Err(OutOfBounds { len: target.len(), offset, message: self.len() });
        }
        // SAFETY: inside an extent that the walk has checked, committed to us by [A1].
        unsafe { self.bytes.copy_out(self.extent.index + offset as u64, target.as_mut_ptr(), target.len()) };
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.bytes.pointer(self.extent.index)
    }

    /// Copies all of it.
    #[cfg(feature = "std")]
    pub(crate) fn to_vec(self) -> std::vec::Vec<u8> {
        let mut copy = std::vec::Vec::new();
        self.append_to(&mut copy);
        copy
    }

    /// Copies all of it behind what `copy` holds.
    #[cfg(feature = "std")]
    pub(crate) fn append_to(self, copy: &mut std::vec::Vec<u8>) {
        copy.reserve(self.len());
        let old = copy.len();
        // SAFETY: the vector has room for `len` more bytes; the extent is checked as in `read_at`.
        unsafe {
            self.bytes.copy_out(self.extent.index, copy.as_mut_ptr().add(old), self.len());
            copy.set_len(old + self.len());
        }
    }
}

/// A record that is being read. Dropping it consumes it.
pub struct Record<'c, 'a> {
    consumer: &'c mut Consumer<'a>,
    payload: Payload,
}

impl Record<'_, '_> {
    /// Payload bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.payload.len()
    }

    /// Says whether the record has no payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `target.len()` payload bytes from `offset` on.
    ///
    /// # Errors
    /// [`OutOfBounds`] if the payload ends before: `offset + target.len()` exceeds [`Record::len`].
    #[inline]
    pub fn read_at(&self, offset: usize, target: &mut [u8]) -> Result<(), OutOfBounds> {
        self.payload.read_at(offset, target)
    }

    /// First byte of the payload: aligned to 8 bytes, valid for [`Record::len`] bytes until the record is dropped. A hostile
    /// producer may write there meanwhile.
    #[inline]
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.payload.as_ptr()
    }
}

impl Drop for Record<'_, '_> {
    #[inline(always)]
    fn drop(&mut self) {
        let wake = self.consumer.release(1);
        self.consumer.wake |= wake;
    }
}

/// Several records read one after the other, consumed together when the batch is dropped.
pub struct ReadBatch<'c, 'a> {
    consumer: &'c mut Consumer<'a>,
    taken: u64,
}

impl ReadBatch<'_, '_> {
    /// The payload length and first byte of the next record, or `None` when nothing more is published.
    ///
    /// The bytes stay valid until the batch is dropped.
    ///
    /// # Errors
    /// As [`Consumer::try_read`].
    #[inline(always)]
    pub fn try_next(&mut self) -> Result<Option<(*const u8, usize)>, Violation> {
        let payload = self.consumer.take()?;
        self.taken += u64::from(payload.is_some());
        Ok(payload.map(|payload| (payload.as_ptr(), payload.len())))
    }

    /// Records taken so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.taken
    }

    /// Says whether no record was taken yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken == 0
    }
}

impl Drop for ReadBatch<'_, '_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.taken > 0 {
            let wake = self.consumer.release(self.taken);
            self.consumer.wake |= wake;
        }
    }
}

const _: () = assert!(HEADER == 8, "payloads are aligned to 8 bytes because headers are 8 bytes long");
