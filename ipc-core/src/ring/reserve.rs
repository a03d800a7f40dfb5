//! The producing half: reserve space, write in place, commit with one store.
//!
//! Promise: nothing is visible before its commit, everything of it is afterwards. A dropped guard leaves
//! nothing behind. Refusal: it does not wait for space and it does not wake the consumer.

use super::cursor::Cursor;
#[cfg(feature = "std")]
use super::window::BatchWindow;
use super::{RingMemory, Undelivered, Violation};
use crate::doorbell::{Barrier, Call, Sleeper, Waker, is_gone};
use crate::layout::{HEADER, Header, Mark, max_record, round_up};
use crate::sync::{Ordering, RingBytes};

/// How far ahead of its writing the producer asks for ownership of the ring's lines, in bytes. Measured with 64-byte messages
/// published alone; see docs/PERFORMANCE.md.
const OWN_AHEAD: u64 = 512;

/// Why no space could be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReserveError {
    /// The record can never fit this ring.
    #[error("a message of {len} bytes was given; this ring takes 0 to {max} bytes")]
    TooLarge {
        /// Payload bytes asked for.
        len: u64,
        /// The most that this ring takes.
        max: u64,
    },
    /// The consumer has not made enough room yet.
    #[error("the ring is full: {needed} bytes are needed, {free} are free")]
    Full {
        /// Bytes that the record needs, header and padding included.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The consumer has gone.
    #[error("the consumer has gone")]
    Closed,
    /// The consumer wrote what it must not.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// The producing half of a ring.
///
/// Where it speaks of an *offset*, that is bytes from the start of the lap in which the next publication begins; a batch
/// that runs over the end of the area has offsets beyond the capacity.
pub struct Producer<'a> {
    memory: RingMemory<'a>,
    bytes: RingBytes,
    barrier: Barrier,
    /// The longest payload a record may have.
    longest: u64,
    /// The longest payload that is claimed without further questions: at most `longest`.
    fast_longest: u64,
    /// Every claim is to be asked for: there are limits that the ring does not know of.
    guarded: bool,
    /// Where the next publication begins; a multiple of [`HEADER`].
    cursor: Cursor,
    /// Offset up to which may be written without another look at the consumer's credit.
    limit: u64,
    /// The same, but not beyond the end of the area: a record that ends before it fits without further questions.
    fast_limit: u64,
    /// The consumer's credit when it was last looked at.
    credit: u64,
    /// The credit that the last refused reservation waits for.
    awaited: u64,
    messages: u64,
    /// The last look found the credit where the look before had found it.
    stalled: bool,
    /// The consumer has gone.
    gone: bool,
    wake: bool,
    waker: Waker,
    sleeper: Sleeper,
}

// SAFETY: the half owns the producing side of the ring; moving it to another thread moves that right.
unsafe impl Send for Producer<'_> {}

impl<'a> Producer<'a> {
    pub(super) fn new(memory: RingMemory<'a>, barrier: Barrier) -> Self {
        let control = memory.control();
        let cursor = Cursor::new(control.consumer.head.load(Ordering::Relaxed), memory.capacity());
        Self {
            memory,
            bytes: memory.bytes(),
            barrier,
            longest: max_record(memory.capacity()),
            fast_longest: max_record(memory.capacity()),
            guarded: false,
            cursor,
            limit: cursor.index,
            fast_limit: cursor.index,
            credit: cursor.position(),
            awaited: 0,
            messages: 0,
            stalled: false,
            gone: false,
            wake: false,
            waker: Waker::default(),
            sleeper: Sleeper::default(),
        }
    }

    /// The largest payload a record of this ring can have, in bytes: a quarter of the capacity, less a header.
    #[must_use]
    pub fn max_record(&self) -> u64 {
        self.longest
    }

    /// Messages published since the ring began.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Position of the next publication.
    #[cfg(feature = "std")]
    pub(crate) fn position(&self) -> u64 {
        self.cursor.position()
    }

    /// Reserves a record of `len` payload bytes, to be written in place. The bytes are not zeroed.
    ///
    /// # Errors
    /// [`ReserveError::TooLarge`] if `len` exceeds [`Producer::max_record`], [`ReserveError::Full`] until the
    /// consumer has made room, [`ReserveError::Closed`] once it has gone, [`ReserveError::Violation`] if it wrote an impossible credit.
    ///
    /// # Examples
    /// ```
    /// # use ipc_core::ring::StaticRing;
    /// static RING: StaticRing<4096> = StaticRing::new();
    /// let (mut producer, mut consumer) = RING.split().unwrap();
    /// let mut record = producer.try_reserve(5)?;
    /// record.write_at(0, b"hello");
    /// record.commit();
    /// assert_eq!(consumer.try_read().unwrap().unwrap().len(), 5);
    /// # Ok::<(), ipc_core::ring::ReserveError>(())
    /// ```
    #[inline]
    pub fn try_reserve(&mut self, len: usize) -> Result<Reservation<'_, 'a>, ReserveError> {
        if !self.claim_fast(len) {
            self.claim(len)?;
        }
        Ok(self.reservation(len))
    }

    /// The guard for room that was claimed just before.
    #[inline(always)]
    pub(crate) fn reservation(&mut self, len: usize) -> Reservation<'_, 'a> {
        Reservation { len, producer: self }
    }

    /// Copies `payload` into a record and publishes it.
    ///
    /// # Errors
    /// As [`Producer::try_reserve`].
    #[inline]
    pub fn try_push(&mut self, payload: &[u8]) -> Result<(), ReserveError> {
        let mut record = self.try_reserve(payload.len())?;
        record.write_at(0, payload);
        record.commit();
        Ok(())
    }

    /// Starts a batch: its records are packed tight and published together, by one store.
    #[inline]
    pub fn batch(&mut self) -> Batch<'_, 'a> {
        Batch { open: OpenBatch::default(), producer: self }
    }

    /// Says once, after commits, whether a sleeping consumer must be woken for them.
    #[inline(always)]
    #[must_use = "a consumer that sleeps stays asleep unless it is woken"]
    pub fn take_wake(&mut self) -> bool {
        core::mem::take(&mut self.wake)
    }

    /// Says once whether the consumer made no progress between the last two looks at its credit, an eighth of the ring
    /// apart: the time to ask whether it still lives.
    pub fn take_stalled(&mut self) -> bool {
        core::mem::take(&mut self.stalled)
    }

    /// Notes that the consumer has gone: every later claim is refused. The next one takes a look, whatever its length.
    pub fn mark_gone(&mut self) {
        self.gone = true;
        self.set_limit(0);
    }

    /// Says whether the last reservation that was refused as [`ReserveError::Full`] would find room now. Cheap enough to poll.
    #[inline(always)]
    #[must_use]
    pub fn has_room(&self) -> bool {
        // A hint: what counts is the acquiring load in `look`. A batch that was aborted since may have awaited more than there
        // will ever be: an empty ring has room.
        let enough = self.awaited.min(self.cursor.position());
        self.memory.control().consumer_signals.credit.load(Ordering::Relaxed) >= enough
    }

    /// Raises the ticket of a producer that is about to sleep until there is room. Look again before sleeping.
    pub fn raise(&mut self) {
        self.sleeper.raise(&self.memory.control().producer_signals.ticket, self.barrier);
    }

    /// Withdraws the ticket.
    pub fn lower(&mut self) {
        self.sleeper.lower(&self.memory.control().producer_signals.ticket);
    }

    /// Tells the consumer that nothing more will come.
    pub fn close(&mut self) {
        self.sleeper.close(&self.memory.control().producer_signals.ticket);
    }

    /// Says whether the consumer has gone politely.
    #[inline]
    #[must_use]
    pub fn is_peer_closed(&self) -> bool {
        self.gone || is_gone(&self.memory.control().consumer_signals.ticket)
    }

    /// Notes the processor this side waits on, and returns the one that the peer last waited on.
    pub fn exchange_processor(&self, own: u32) -> Option<u32> {
        let control = self.memory.control();
        control.producer_signals.processor.store(own.wrapping_add(1), Ordering::Relaxed);
        control.consumer_signals.processor.load(Ordering::Relaxed).checked_sub(1)
    }

    /// The messages that the consumer has not consumed. Meaningful once the consumer is gone.
    ///
    /// # Errors
    /// [`Violation`] if the head that the consumer left is impossible.
    pub fn undelivered(&self) -> Result<Undelivered<'_>, Violation> {
        Undelivered::new(&self.memory, self.credit, self.cursor.position())
    }

    /// Says whether a record of `len` bytes has room at the cursor, by one comparison. If it does not seem so, [`Producer::claim`]
    /// finds out.
    #[inline(always)]
    pub(crate) fn claim_fast(&self, len: usize) -> bool {
        self.fits(self.cursor.index, len)
    }

    #[inline(always)]
    fn fits(&self, offset: u64, len: usize) -> bool {
        let len = len as u64;
        // Not `&&`: one branch that is never taken is cheaper than two.
        (len <= self.fast_longest) & ((offset + HEADER).wrapping_add(len) <= self.fast_limit)
    }

    /// Finds room for a record of `len` bytes at the cursor, which moves to the next lap if the end of the area is too
    /// near. The room is there until the next claim or commit.
    #[inline(always)]
    pub(crate) fn claim(&mut self, len: usize) -> Result<(), ReserveError> {
        let len = len as u64;
        if len > self.longest {
            return Err(ReserveError::TooLarge { len, max: self.longest });
        }
        if self.cursor.index + HEADER + len > self.bytes.capacity() {
            self.pad()?;
        }
        self.ensure(self.cursor.index + HEADER + len)
    }

    /// Makes sure that a publication ending at offset `end` fits, and the header word behind it too: that word is the
    /// one the commit may have to clear, so it must not belong to a record that is still unread.
    #[inline(always)]
    fn ensure(&mut self, end: u64) -> Result<(), ReserveError> {
        let wanted = round_up(end, HEADER) + HEADER;
        if wanted > self.limit { self.look(wanted) } else { Ok(()) }
    }

    /// Publishes a padding record up to the end of the lap. It is no message: a reservation that is dropped afterwards leaves only
    /// empty space behind.
    #[cold]
    fn pad(&mut self) -> Result<(), ReserveError> {
        self.ensure(self.bytes.capacity())?;
        self.publish(Header::pad(self.cursor.stamp), self.bytes.capacity());
        Ok(())
    }

    /// Looks at the consumer's credit: its cache line is touched only here, at most once an eighth of the ring.
    #[cold]
    fn look(&mut self, wanted: u64) -> Result<(), ReserveError> {
        if self.is_peer_closed() {
            self.mark_gone();
            return Err(ReserveError::Closed);
        }
        // [A2] the consumer has finished with every byte before it; pairs with [P2] in read.rs.
        let credit = self.memory.control().consumer_signals.credit.load(Ordering::Acquire);
        let tail = self.cursor.position();
        if credit < self.credit || credit > tail || !credit.is_multiple_of(HEADER) {
            return Err(Violation { field: "credit", value: credit, min: self.credit, max: tail }.into());
        }
        self.stalled = credit == self.credit && credit != tail;
        self.credit = credit;
        let capacity = self.bytes.capacity();
        // The credit is at most a lap behind the tail, so this is at or beyond the start of the tail's lap.
        let end = credit.wrapping_add(capacity).wrapping_sub(self.cursor.start);
        self.set_limit(end.min(wanted + capacity / 8));
        if wanted > end {
            self.awaited = self.cursor.start.wrapping_add(wanted).wrapping_sub(capacity);
            return Err(ReserveError::Full { needed: wanted - self.cursor.index, free: end - self.cursor.index });
        }
        Ok(())
    }

    fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
        // The word behind a record is within the limit (see `ensure`), so a record ends a word before it.
        let fast = limit.saturating_sub(HEADER).min(self.bytes.capacity());
        self.fast_limit = if self.guarded { 0 } else { fast };
    }

    /// Lets no claim be fast that is longer than `len` bytes: the caller has other ways for such messages.
    #[cfg(feature = "std")]
    pub(crate) fn set_fast_longest(&mut self, len: u64) {
        self.fast_longest = len.min(self.longest);
    }

    /// Makes records of more than `len` bytes too large.
    #[cfg(feature = "std")]
    pub(crate) fn set_longest(&mut self, len: u64) {
        self.longest = len.min(self.longest);
        self.fast_longest = self.fast_longest.min(self.longest);
    }

    /// Makes every claim a slow one, so that the caller can ask for more than room first; or no longer.
    #[cfg(feature = "std")]
    pub(crate) fn set_guarded(&mut self, guarded: bool) {
        self.guarded = guarded;
        self.set_limit(self.limit);
    }

    /// Looks whether a consumer that sleeps must be woken for something that was not published here.
    #[cfg(feature = "std")]
    pub(crate) fn call_consumer(&mut self) -> bool {
        self.waker.call(&self.memory.control().consumer_signals.ticket, self.barrier) == Call::Ring
    }

    /// Counts a message that was handed over without a record of its own.
    #[cfg(feature = "std")]
    pub(crate) fn count_message(&mut self) {
        self.messages += 1;
    }

    /// The ticket of the consumer that is to be woken, after [`take_wake`](Self::take_wake) or its like said so.
    #[cfg(feature = "std")]
    pub(crate) fn ticket_to_wake(&self) -> u64 {
        self.waker.answered()
    }

    /// Says that the consumer was not woken: the next publication asks again, as long as it sleeps.
    #[cfg(feature = "std")]
    pub(crate) fn defer_wake(&mut self) {
        self.waker.defer();
    }

    /// Messages that the consumer has consumed, as far as it has said.
    #[cfg(feature = "std")]
    pub(crate) fn consumed(&self) -> u64 {
        self.memory.control().consumer_signals.messages.load(Ordering::Relaxed)
    }

    /// Looks whether `len` bytes behind the cursor are free, headers and padding included.
    #[cfg(feature = "std")]
    pub(crate) fn look_ahead(&mut self, len: u64) -> Result<(), ReserveError> {
        self.look(self.cursor.index + len)
    }

    /// Makes everything from the cursor up to offset `next`, a multiple of [`HEADER`], visible by storing its header, and moves
    /// the cursor there.
    #[inline(always)]
    fn publish(&mut self, header: Header, next: u64) {
        let bytes = self.bytes;
        let word = bytes.word(self.cursor.index);
        let capacity = bytes.capacity();
        if next >= capacity {
            self.cursor = self.cursor.next_lap(capacity);
            self.cursor.index = next - capacity;
            // Nothing was written beyond the limit, so it lies behind `next`.
            self.set_limit(self.limit.saturating_sub(capacity));
        } else {
            self.cursor.index = next;
        }
        // The consumer polls the word at `next` from now on. If payload of an earlier lap happens to look like the
        // header that is due there, it must go first. That line is written next anyway.
        let due = bytes.word(self.cursor.index);
        if Header::from_bits(due.load(Ordering::Relaxed)).has_stamp(self.cursor.stamp) {
            due.store(Header::none(self.cursor.stamp).bits(), Ordering::Relaxed);
        }
        // [P1] publishes payloads, inner headers and the cleared word; pairs with [A1] in walk.rs.
        word.store(header.bits(), Ordering::Release);
    }

    /// Publishes `records` records up to offset `end`. True: a sleeping consumer must be woken.
    #[inline(always)]
    fn commit(&mut self, header: Header, end: u64, records: u64) -> bool {
        self.publish(header, round_up(end, HEADER));
        self.messages += records;
        self.bytes.prefetch_write(self.cursor.index + OWN_AHEAD);
        match self.waker.call(&self.memory.control().consumer_signals.ticket, self.barrier) {
            Call::Nothing => false,
            Call::Ring => true,
            Call::Gone => {
                self.mark_gone();
                false
            }
        }
    }
}

/// Reserved space for one record. Dropping it aborts: nothing was published.
#[must_use = "a reservation that is not committed is dropped unseen"]
pub struct Reservation<'p, 'a> {
    producer: &'p mut Producer<'a>,
    len: usize,
}

impl<'p, 'a> Reservation<'p, 'a> {
    /// Payload bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Says whether the record has no payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `bytes` to `offset` in the payload.
    ///
    /// # Panics
    /// If they do not fit: `offset + bytes.len()` exceeds [`Reservation::len`].
    #[inline(always)]
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        assert!(
            offset <= self.len && bytes.len() <= self.len - offset,
            "{} bytes at {offset} do not fit a payload of {}",
            bytes.len(),
            self.len
        );
        let index = self.producer.cursor.index + HEADER + offset as u64;
        // SAFETY: inside the claimed record, which is ours until [P1].
        unsafe { self.producer.bytes.copy_in(index, bytes.as_ptr(), bytes.len()) };
    }

    /// Writes the first words of the payload.
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) fn write_words<const N: usize>(&mut self, words: [u64; N]) {
        debug_assert!(N * 8 <= self.len);
        let index = self.producer.cursor.index + HEADER;
        for (at, word) in words.into_iter().enumerate() {
            // Relaxed: published by [P1].
            self.producer.bytes.word(index + 8 * at as u64).store(word, Ordering::Relaxed);
        }
    }

    /// First byte of the payload, for writers that fill memory themselves. Aligned to 8 bytes; not zeroed; valid for
    /// [`Reservation::len`] bytes until the reservation ends. The peer may write there too if it is hostile.
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.producer.bytes.pointer(self.producer.cursor.index + HEADER)
    }

    /// Publishes the record.
    #[inline(always)]
    pub fn commit(self) {
        let (producer, wake) = self.publish();
        producer.wake |= wake;
    }

    /// Publishes the record, gives the producer back and says whether a sleeping consumer must be woken.
    #[inline(always)]
    pub(crate) fn publish(self) -> (&'p mut Producer<'a>, bool) {
        self.publish_as(Mark::Plain, 1)
    }

    /// Publishes a record with a mark that counts as so many messages: as none if it is not the end of one.
    #[inline(always)]
    pub(crate) fn publish_as(self, mark: Mark, messages: u64) -> (&'p mut Producer<'a>, bool) {
        let Self { producer, len } = self;
        let header = Header::record(producer.cursor.stamp, len as u64, mark);
        let wake = producer.commit(header, producer.cursor.index + HEADER + len as u64, messages);
        (producer, wake)
    }
}

/// Records that are published together. Dropping it aborts all of them.
#[must_use = "a batch that is not committed is dropped unseen"]
pub struct Batch<'p, 'a> {
    producer: &'p mut Producer<'a>,
    open: OpenBatch,
}

impl Batch<'_, '_> {
    /// Appends a copy of `payload`; nothing is visible yet.
    ///
    /// # Errors
    /// As [`Producer::try_reserve`]; the records before it stay in the batch. [`ReserveError::Full`] may mean
    /// that the batch itself fills the ring: commit it and go on with another.
    #[inline(always)]
    pub fn push(&mut self, payload: &[u8]) -> Result<(), ReserveError> {
        self.producer.append(&mut self.open, payload)
    }

    /// Records in the batch so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.open.len()
    }

    /// Says whether the batch holds no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Publishes all records with one store. An empty batch publishes nothing.
    #[inline(always)]
    pub fn commit(self) {
        let wake = self.producer.commit_batch(self.open);
        self.producer.wake |= wake;
    }
}

/// The books of a batch that is being filled. Forgetting them aborts it.
#[derive(Clone, Copy, Default)]
pub(crate) struct OpenBatch {
    /// The header that publishes the batch, stored last: that of the first record.
    header: Header,
    /// Offset at which the next record would begin.
    end: u64,
    records: u64,
}

impl OpenBatch {
    #[inline(always)]
    pub(crate) fn len(&self) -> u64 {
        self.records
    }
}

impl Producer<'_> {
    /// Appends a copy of `payload` to the batch.
    #[inline(always)]
    fn append(&mut self, batch: &mut OpenBatch, payload: &[u8]) -> Result<(), ReserveError> {
        let index = match self.claim_next_fast(batch, payload.len()) {
            Some(index) => index,
            None => self.claim_next(batch, payload.len())?,
        };
        self.write_next(batch, index, payload);
        Ok(())
    }

    /// The index of the header of a record of `len` bytes behind those of the batch, if there is room by one comparison. If there does
    /// not seem to be, [`Producer::claim_next`] finds out.
    #[inline(always)]
    pub(crate) fn claim_next_fast(&self, batch: &mut OpenBatch, len: usize) -> Option<u64> {
        if batch.records == 0 {
            batch.end = self.cursor.index;
        }
        self.fits(batch.end, len).then_some(batch.end)
    }

    /// Finds room for a record of `len` bytes behind those of the batch, and returns the index of its header.
    #[inline(always)]
    pub(crate) fn claim_next(&mut self, batch: &mut OpenBatch, len: usize) -> Result<u64, ReserveError> {
        if batch.records == 0 {
            self.claim(len)?;
            batch.end = self.cursor.index;
            return Ok(batch.end);
        }
        let len = len as u64;
        if len > self.longest {
            return Err(ReserveError::TooLarge { len, max: self.longest });
        }
        // The area ends once on the way of a batch, at offset `capacity`.
        let capacity = self.bytes.capacity();
        if batch.end < capacity && batch.end + HEADER + len > capacity {
            self.pad_batch(batch, len)?;
        }
        self.ensure(batch.end + HEADER + len)?;
        Ok(self.in_lap(batch.end).0)
    }

    /// Writes a record where [`Producer::claim_next`] just found room for it.
    #[inline(always)]
    pub(crate) fn write_next(&mut self, batch: &mut OpenBatch, index: u64, payload: &[u8]) {
        let len = payload.len() as u64;
        // SAFETY: inside the space just found, which is ours until [P1].
        unsafe { self.bytes.copy_in(index + HEADER, payload.as_ptr(), payload.len()) };
        let header = Header::record(self.in_lap(batch.end).1, len, Mark::Plain);
        if batch.records == 0 {
            batch.header = header;
        } else {
            self.bytes.word(index).store(header.bits(), Ordering::Relaxed);
        }
        batch.end = round_up(batch.end + HEADER + len, HEADER);
        batch.records += 1;
        self.bytes.prefetch_write(index + OWN_AHEAD);
    }

    /// Index and stamp of a header at `offset`: in this lap or in the next one.
    #[inline(always)]
    fn in_lap(&self, offset: u64) -> (u64, u64) {
        let capacity = self.bytes.capacity();
        let stamp = self.cursor.stamp;
        if offset < capacity { (offset, stamp) } else { (offset - capacity, Header::next_stamp(stamp)) }
    }

    /// Leads a batch over the end of the area, to where a record of `len` bytes fits.
    #[cold]
    fn pad_batch(&mut self, batch: &mut OpenBatch, len: u64) -> Result<(), ReserveError> {
        let capacity = self.bytes.capacity();
        self.ensure(capacity + HEADER + len)?;
        self.bytes.word(batch.end).store(Header::pad(self.cursor.stamp).bits(), Ordering::Relaxed);
        batch.end = capacity;
        Ok(())
    }

    /// Where the next record of a batch goes, for code that writes it itself: nothing while the batch is empty, since its first header is
    /// kept back.
    #[cfg(feature = "std")]
    pub(crate) fn batch_window(&self, batch: &OpenBatch) -> BatchWindow {
        let limit = if batch.records == 0 { 0 } else { self.fast_limit };
        BatchWindow {
            base: self.bytes.pointer(0),
            end: batch.end,
            limit,
            longest: self.fast_longest,
            stamp: self.cursor.stamp,
            records: batch.records,
        }
    }

    /// Takes over the records that were written through a window.
    #[cfg(feature = "std")]
    pub(crate) fn close_window(&self, batch: &mut OpenBatch, end: u64, records: u64) {
        if records > batch.records {
            (batch.end, batch.records) = (end, records);
        }
    }

    /// Publishes the records of a batch. True: a sleeping consumer must be woken.
    #[inline(always)]
    pub(crate) fn commit_batch(&mut self, batch: OpenBatch) -> bool {
        batch.records > 0 && self.commit(batch.header, batch.end, batch.records)
    }
}
