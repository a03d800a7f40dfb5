//! The producing half: reserve space, write in place, commit with one store.
//!
//! Promise: nothing is visible before its commit, everything of it is afterwards. A dropped guard leaves
//! nothing behind. Refusal: it does not wait for space and it does not wake the consumer.

use super::{RingMemory, Undelivered, Violation};
use crate::doorbell::{Barrier, Sleeper, Waker};
use crate::layout::{HEADER, Header, LINE, max_record, round_up, stamp};
use crate::sync::{Ordering, RingBytes};

/// Lines of the ring that the producer asks to own ahead of writing them. Measured with 64-byte messages published
/// alone: without it the stream pays the transfer of each line in full (18 ns a message instead of 8).
const OWN_AHEAD: u64 = 4 * LINE;

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
    /// The consumer wrote what it must not.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// The producing half of a ring.
pub struct Producer<'a> {
    memory: RingMemory<'a>,
    bytes: RingBytes,
    shift: u32,
    barrier: Barrier,
    /// Where the next publication begins; a multiple of [`LINE`].
    tail: u64,
    /// The next publication may end here without another look at the consumer's credit.
    limit: u64,
    /// The consumer's credit when it was last looked at.
    credit: u64,
    /// The credit that the last refused reservation waits for.
    awaited: u64,
    messages: u64,
    /// The last look found the credit where the look before had found it.
    stalled: bool,
    wake: bool,
    waker: Waker,
    sleeper: Sleeper,
}

// SAFETY: the half owns the producing side of the ring; moving it to another thread moves that right.
unsafe impl Send for Producer<'_> {}

impl<'a> Producer<'a> {
    pub(super) fn new(memory: RingMemory<'a>, barrier: Barrier) -> Self {
        let tail = memory.control().producer.tail.load(Ordering::Relaxed);
        Self {
            memory,
            bytes: memory.bytes(),
            shift: memory.shift(),
            barrier,
            tail,
            limit: tail,
            credit: memory.control().consumer_signals.credit.load(Ordering::Relaxed),
            awaited: 0,
            messages: memory.control().producer.messages.load(Ordering::Relaxed),
            stalled: false,
            wake: false,
            waker: Waker::default(),
            sleeper: Sleeper::default(),
        }
    }

    /// The largest payload a record of this ring can have, in bytes: a quarter of the capacity, less a header.
    #[must_use]
    pub fn max_record(&self) -> u64 {
        max_record(self.bytes.capacity())
    }

    /// Messages published since the ring began.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Reserves a record of `len` payload bytes, to be written in place. The bytes are not zeroed.
    ///
    /// # Errors
    /// [`ReserveError::TooLarge`] if `len` exceeds [`Producer::max_record`], [`ReserveError::Full`] until the
    /// consumer has made room, [`ReserveError::Violation`] if it wrote an impossible credit.
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
        let at = self.claim_record(len)?;
        Ok(self.reservation(at, len))
    }

    /// Finds room for a record of `len` bytes; the answer holds until the next claim or commit.
    #[inline(always)]
    pub(crate) fn claim_record(&mut self, len: usize) -> Result<u64, ReserveError> {
        self.claim(self.tail, len as u64)
    }

    /// The guard for room that was claimed just before.
    #[inline(always)]
    pub(crate) fn reservation(&mut self, at: u64, len: usize) -> Reservation<'_, 'a> {
        Reservation { at, len, producer: self }
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
        Batch { open: self.open_batch(), producer: self }
    }

    /// Says once, after commits, whether a sleeping consumer must be woken for them.
    #[inline(always)]
    #[must_use = "a consumer that sleeps stays asleep unless it is woken"]
    pub fn take_wake(&mut self) -> bool {
        core::mem::take(&mut self.wake)
    }

    /// Says once whether the consumer made no progress between the last two looks at its credit, an eighth of
    /// the ring apart: the time to ask whether it still lives.
    #[inline(always)]
    pub fn take_stalled(&mut self) -> bool {
        core::mem::take(&mut self.stalled)
    }

    /// Says whether the last reservation that was refused as [`ReserveError::Full`] would find room now. Cheap enough to poll.
    #[inline(always)]
    #[must_use]
    pub fn has_room(&self) -> bool {
        // A hint: what counts is the acquiring load in `look`.
        self.memory.control().consumer_signals.credit.load(Ordering::Relaxed) >= self.awaited
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
        // [P4] everything published comes before it; pairs with [A4] in read.rs.
        self.memory.control().producer_signals.closed.store(1, Ordering::Release);
    }

    /// Says whether the consumer has gone politely.
    #[must_use]
    pub fn is_peer_closed(&self) -> bool {
        // [A5] everything it consumed comes before it; pairs with [P5] in read.rs.
        self.memory.control().consumer_signals.closed.load(Ordering::Acquire) != 0
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
        Undelivered::new(&self.memory, self.credit, self.tail)
    }

    /// Finds room for a record of `len` bytes whose header comes at `at` or, if the end of the area is too near,
    /// at the start of the next lap. Returns the header's position.
    #[inline(always)]
    fn claim(&mut self, at: u64, len: u64) -> Result<u64, ReserveError> {
        if len > self.max_record() {
            return Err(ReserveError::TooLarge { len, max: self.max_record() });
        }
        let at = if self.bytes.index(at) + HEADER + len > self.bytes.capacity() { self.pad(at)? } else { at };
        self.ensure(at + HEADER + len)?;
        Ok(at)
    }

    /// Makes sure that a publication ending at `end` fits, and the header word behind it too: that word is the
    /// one the commit may have to clear, so it must not belong to a record that is still unread.
    #[inline(always)]
    fn ensure(&mut self, end: u64) -> Result<(), ReserveError> {
        let wanted = round_up(end, LINE) + HEADER;
        if wanted > self.limit { self.look(wanted) } else { Ok(()) }
    }

    /// Publishes a padding record from `at` to the end of the lap. It is no message: a reservation that is
    /// dropped afterwards leaves only empty space behind.
    #[cold]
    fn pad(&mut self, at: u64) -> Result<u64, ReserveError> {
        let next = at + self.bytes.capacity() - self.bytes.index(at);
        self.ensure(next)?;
        self.publish(at, Header::pad(stamp(at, self.shift)), next);
        Ok(next)
    }

    /// Looks at the consumer's credit: its cache line is touched only here, at most once an eighth of the ring.
    #[cold]
    fn look(&mut self, wanted: u64) -> Result<(), ReserveError> {
        // [A2] the consumer has finished with every byte before it; pairs with [P2] in read.rs.
        let credit = self.memory.control().consumer_signals.credit.load(Ordering::Acquire);
        if credit < self.credit || credit > self.tail {
            return Err(Violation { field: "credit", value: credit, min: self.credit, max: self.tail }.into());
        }
        self.stalled = credit == self.credit && credit != self.tail;
        self.credit = credit;
        let capacity = self.bytes.capacity();
        let end = credit + capacity;
        if wanted > end {
            self.limit = end;
            self.awaited = wanted - capacity;
            return Err(ReserveError::Full { needed: wanted - self.tail, free: end - self.tail });
        }
        self.limit = end.min(wanted + capacity / 8);
        Ok(())
    }

    /// Makes everything between `at` and `next` visible by storing its header.
    #[inline(always)]
    fn publish(&mut self, at: u64, header: Header, next: u64) {
        // The consumer polls the word at `next` from now on. If payload of an earlier lap happens to look like the
        // header that is due there, it must go first. The line is written next anyway.
        let word = self.bytes.word(next);
        if Header::from_bits(word.load(Ordering::Relaxed)).stamp() == stamp(next, self.shift) {
            word.store(0, Ordering::Relaxed);
        }
        // [P1] publishes payloads, inner headers and the cleared word; pairs with [A1] in walk.rs.
        self.bytes.word(at).store(header.bits(), Ordering::Release);
        self.tail = next;
        self.memory.control().producer.tail.store(next, Ordering::Relaxed);
    }

    #[inline(always)]
    fn commit(&mut self, at: u64, header: Header, end: u64, records: u64) {
        let next = round_up(end, LINE);
        self.publish(at, header, next);
        self.messages += records;
        self.memory.control().producer.messages.store(self.messages, Ordering::Relaxed);
        self.wake |= self.waker.due(&self.memory.control().consumer_signals.ticket, self.barrier);
        self.bytes.prefetch_write(next + OWN_AHEAD);
    }
}

/// Reserved space for one record. Dropping it aborts: nothing was published.
#[must_use = "a reservation that is not committed is dropped unseen"]
pub struct Reservation<'p, 'a> {
    producer: &'p mut Producer<'a>,
    /// Position of the header.
    at: u64,
    len: usize,
}

impl<'p, 'a> Reservation<'p, 'a> {
    #[inline(always)]
    fn publish(self) -> &'p mut Producer<'a> {
        let Self { producer, at, len } = self;
        let header = Header::record(stamp(at, producer.shift), len as u64);
        producer.commit(at, header, at + HEADER + len as u64, 1);
        producer
    }

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
        // SAFETY: inside the claimed record, which is ours until [P1].
        unsafe { self.producer.bytes.copy_in(self.at + HEADER + offset as u64, bytes.as_ptr(), bytes.len()) };
    }

    /// First byte of the payload, for writers that fill memory themselves. Aligned to 8 bytes; not zeroed; valid for
    /// [`Reservation::len`] bytes until the reservation ends. The peer may write there too if it is hostile.
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.producer.bytes.pointer(self.at + HEADER)
    }

    /// Publishes the record.
    #[inline(always)]
    pub fn commit(self) {
        self.publish();
    }

    /// Publishes the record and takes the answer of [`Producer::take_wake`].
    #[inline(always)]
    pub(crate) fn commit_and_take_wake(self) -> bool {
        self.publish().take_wake()
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
        self.open.records
    }

    /// Says whether the batch holds no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.records == 0
    }

    /// Publishes all records with one store. An empty batch publishes nothing.
    #[inline(always)]
    pub fn commit(self) {
        self.producer.commit_batch(self.open);
    }
}

/// The books of a batch that is being filled. Forgetting them aborts it.
#[derive(Clone, Copy)]
pub(crate) struct OpenBatch {
    /// Position and value of the header that publishes the batch: stored last.
    first: u64,
    first_header: Header,
    /// Position of the header of the last record.
    last: u64,
    /// Where the next record would begin.
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
    #[inline(always)]
    pub(crate) fn open_batch(&self) -> OpenBatch {
        let tail = self.tail;
        OpenBatch { first: tail, first_header: Header::from_bits(0), last: tail, end: tail, records: 0 }
    }

    #[inline(always)]
    pub(crate) fn append(&mut self, batch: &mut OpenBatch, payload: &[u8]) -> Result<(), ReserveError> {
        let len = payload.len() as u64;
        let at = if batch.records == 0 { self.claim(self.tail, len)? } else { self.follow(batch.end, len)? };
        // SAFETY: inside the space just found, which is ours until [P1].
        unsafe { self.bytes.copy_in(at + HEADER, payload.as_ptr(), payload.len()) };
        let header = Header::record(stamp(at, self.shift), len);
        if batch.records == 0 {
            batch.first = at;
            batch.first_header = header;
        } else {
            // MORE is taken back from the last record at the commit.
            self.bytes.word(at).store(header.with_more().bits(), Ordering::Relaxed);
        }
        batch.last = at;
        batch.end = round_up(at + HEADER + len, HEADER);
        batch.records += 1;
        Ok(())
    }

    /// Finds room right behind a record of the same batch, over the end of the area if need be.
    #[inline(always)]
    fn follow(&mut self, end: u64, len: u64) -> Result<u64, ReserveError> {
        if len > self.max_record() {
            return Err(ReserveError::TooLarge { len, max: self.max_record() });
        }
        let index = self.bytes.index(end);
        if index + HEADER + len <= self.bytes.capacity() {
            self.ensure(end + HEADER + len)?;
            return Ok(end);
        }
        let next = end + self.bytes.capacity() - index;
        self.ensure(next + HEADER + len)?;
        let pad = Header::pad(stamp(end, self.shift)).with_more();
        self.bytes.word(end).store(pad.bits(), Ordering::Relaxed);
        Ok(next)
    }

    #[inline(always)]
    pub(crate) fn commit_batch(&mut self, batch: OpenBatch) {
        let OpenBatch { first, first_header, last, end, records } = batch;
        if records == 0 {
            return;
        }
        let mut header = first_header;
        if records > 1 {
            header = header.with_more();
            let word = self.bytes.word(last);
            let last_header = Header::from_bits(word.load(Ordering::Relaxed)).without_more();
            word.store(last_header.bits(), Ordering::Relaxed);
        }
        self.commit(first, header, end, records);
    }
}
