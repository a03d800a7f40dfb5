//! A ring that is not shared: each side has one of its own, and what one publishes is carried over to the other.
//!
//! The sender's producer writes into a private ring; an [`Outlet`] stands in for the consumer: it hands out what is to be carried and
//! takes credit in. The receiver's consumer reads a private ring of the same size; an [`Inlet`] stands in for the producer. Positions
//! are the same in both, so what is carried is simply bytes of the ring. Both stand-ins keep a ticket raised, so that
//! the half they serve calls for them whenever it published, or gave credit.
//!
//! Promise: what comes out of the inlet's ring is what went into the outlet's, checked as if the memory were shared. Refusal: how the
//! bytes are carried is somebody else's.

use super::cursor::Cursor;
use super::walk::Walk;
use super::{RingMemory, Violation};
use crate::doorbell::{Barrier, Sleeper};
use crate::layout::{CONTROL_SIZE, HEADER, Header};
use crate::sync::Ordering;
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, dealloc};

/// Memory of this process for one ring.
pub(crate) struct PrivateRing {
    base: NonNull<u8>,
    layout: Layout,
    capacity: u64,
}

// SAFETY: the memory belongs to the value; who may touch it is decided as for every ring.
unsafe impl Send for PrivateRing {}
// SAFETY: as above.
unsafe impl Sync for PrivateRing {}

impl PrivateRing {
    /// A ring of `capacity` bytes, checked by the caller; `None` if there is no memory.
    pub(crate) fn new(capacity: u64) -> Option<Self> {
        let layout = Layout::from_size_align((CONTROL_SIZE + capacity) as usize, 128).ok()?;
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { base, layout, capacity })
    }

    pub(crate) fn memory(&self) -> RingMemory<'_> {
        // SAFETY: as many bytes as a ring of this capacity needs, aligned, zeroed when they were made.
        unsafe { RingMemory::from_parts(self.base.cast(), self.base.add(CONTROL_SIZE as usize), self.capacity) }
    }
}

impl Drop for PrivateRing {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// Bytes of a ring that are carried over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Where the bytes begin, and where what follows them begins: beyond their end if there is padding between.
    pub(crate) position: u64,
    pub(crate) next: u64,
    pub(crate) start: *mut u8,
    pub(crate) len: usize,
}

/// Stands in for the consumer of a ring whose real consumer is elsewhere.
pub(crate) struct Outlet<'a> {
    memory: RingMemory<'a>,
    /// Where the next byte to carry is.
    position: u64,
    sleeper: Sleeper,
}

impl<'a> Outlet<'a> {
    pub(crate) fn new(memory: RingMemory<'a>) -> Self {
        let mut outlet = Self { memory, position: 0, sleeper: Sleeper::default() };
        outlet.arm();
        outlet
    }

    /// Asks the producer to call at its next publication.
    pub(crate) fn arm(&mut self) {
        self.sleeper.raise(&self.memory.control().consumer_signals.ticket, Barrier::Polling);
    }

    /// The next records to carry, whole ones, of at most `max` bytes together unless the first alone has more.
    pub(crate) fn next(&self, tail: u64, max: u64) -> Option<Span> {
        let mut walk = Walk::new(&self.memory, self.position);
        let capacity = self.memory.capacity();
        let start = self.position & (capacity - 1);
        let mut end = self.position;
        while end < tail && (end == self.position || end & (capacity - 1) != 0) {
            // The producer is ours: its records need no suspicion, but padding shows as a step into the next lap.
            let Ok(Some(_)) = walk.step() else { break };
            let lap = |position: u64| position / capacity;
            let next = walk.position();
            if lap(next) != lap(self.position) && next & (capacity - 1) != 0 {
                // Padding, and a record behind it.
                let padding = end & (capacity - 1);
                let len = padding - start + HEADER;
                return Some(self.span(len, (lap(self.position) + 1) * capacity));
            }
            if next - self.position > max && end != self.position {
                break;
            }
            end = next;
        }
        (end != self.position).then(|| self.span(end - self.position, end))
    }

    fn span(&self, len: u64, next: u64) -> Span {
        let start = self.memory.bytes().pointer(self.position & (self.memory.capacity() - 1));
        Span { position: self.position, next, start, len: len as usize }
    }

    /// Where the next byte to carry is.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Notes that a span was carried.
    pub(crate) fn carried(&mut self, span: &Span) {
        self.position = span.next;
    }

    /// Takes credit in. The producer checks it when it looks.
    pub(crate) fn credit(&self, head: u64, messages: u64) {
        let control = self.memory.control();
        control.consumer.head.store(head, Ordering::Relaxed);
        control.consumer_signals.messages.store(messages, Ordering::Relaxed);
        control.consumer_signals.credit.store(head, Ordering::Relaxed);
    }

    /// Tells the producer that the consumer has gone politely.
    pub(crate) fn close(&self) {
        self.sleeper.close(&self.memory.control().consumer_signals.ticket);
    }
}

/// Stands in for the producer of a ring whose real producer is elsewhere.
pub(crate) struct Inlet<'a> {
    memory: RingMemory<'a>,
    /// Where the next byte that arrives belongs.
    position: u64,
    sleeper: Sleeper,
}

impl<'a> Inlet<'a> {
    pub(crate) fn new(memory: RingMemory<'a>) -> Self {
        let mut inlet = Self { memory, position: 0, sleeper: Sleeper::default() };
        inlet.arm();
        inlet
    }

    /// Asks the consumer to call when it gives credit.
    pub(crate) fn arm(&mut self) {
        self.sleeper.raise(&self.memory.control().producer_signals.ticket, Barrier::Polling);
    }

    /// Where the next bytes go: up to the end of the lap, and not over what is unread.
    pub(crate) fn space(&self) -> Span {
        let capacity = self.memory.capacity();
        let head = self.memory.control().consumer.head.load(Ordering::Relaxed);
        let index = self.position & (capacity - 1);
        let free = (head + capacity).saturating_sub(self.position);
        let len = free.min(capacity - index);
        let start = self.memory.bytes().pointer(index);
        Span { position: self.position, next: self.position, start, len: len as usize }
    }

    /// Takes bytes over that were put into the [space](Self::space): `len` of them, said to belong to `position` and to be
    /// followed by `next`.
    pub(crate) fn accept(&mut self, len: u64, position: u64, next: u64) -> Result<(), Violation> {
        let capacity = self.memory.capacity();
        let wrong = |field, value, min, max| Err(Violation { field, value, min, max });
        if position != self.position {
            return wrong("position of a packet", position, self.position, self.position);
        }
        if len == 0 || !len.is_multiple_of(HEADER) {
            return wrong("length of a packet (a multiple of 8)", len, HEADER, capacity);
        }
        let end = position + len;
        let lap_end = (position / capacity + 1) * capacity;
        if next != end && next != lap_end {
            return wrong("position behind a packet", next, end, lap_end);
        }
        self.position = next;
        // The consumer looks there next; what an earlier lap left must not look like a header.
        let cursor = Cursor::new(next, capacity);
        let head = self.memory.control().consumer.head.load(Ordering::Relaxed);
        if next < head + capacity {
            self.memory.bytes().word(cursor.index).store(Header::none(cursor.stamp).bits(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Says how far the consumer is: its head, and the messages before it, as they were last given as credit.
    pub(crate) fn credit(&self) -> (u64, u64) {
        let control = self.memory.control();
        let messages = control.consumer_signals.messages.load(Ordering::Relaxed);
        (control.consumer_signals.credit.load(Ordering::Relaxed), messages)
    }

    /// Tells the consumer that nothing more comes.
    pub(crate) fn close(&self) {
        self.sleeper.close(&self.memory.control().producer_signals.ticket);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        /// Any lengths, carried in spans of any size, with credit given at any time.
        #[test]
        fn what_goes_in_on_one_side_comes_out_on_the_other(
            steps in prop::collection::vec((0_usize..1016, 0_u64..3000, any::<bool>()), 1..300)
        ) {
            let (here, there) = (PrivateRing::new(4096).unwrap(), PrivateRing::new(4096).unwrap());
            // SAFETY: one half of each kind for each ring.
            let (mut producer, mut consumer) = unsafe {
                (here.memory().producer(Barrier::Polling), there.memory().consumer(Barrier::Polling))
            };
            let (mut outlet, mut inlet) = (Outlet::new(here.memory()), Inlet::new(there.memory()));
            let mut sent = Vec::new();
            let mut received = Vec::new();
            for (round, (len, max, give)) in steps.into_iter().enumerate() {
                let message: Vec<_> = (0..len).map(|at| (at * 7 + round) as u8).collect();
                if producer.try_push(&message).is_ok() {
                    prop_assert!(producer.take_wake(), "the outlet is called");
                    outlet.arm();
                    sent.push(message);
                }
                while let Some(span) = outlet.next(producer.position(), max.max(8)) {
                    let space = inlet.space();
                    prop_assert!(span.len <= space.len, "credit covers what is sent");
                    // SAFETY: both spans are in their rings.
                    unsafe { space.start.copy_from_nonoverlapping(span.start, span.len) };
                    inlet.accept(span.len as u64, span.position, span.next).unwrap();
                    outlet.carried(&span);
                }
                if give {
                    while let Some(record) = consumer.try_read().unwrap() {
                        let mut copy = std::vec![0; record.len()];
                        record.read_at(0, &mut copy).unwrap();
                        received.push(copy);
                    }
                    if consumer.flush_credit() {
                        inlet.arm();
                    }
                    let (head, messages) = inlet.credit();
                    outlet.credit(head, messages);
                }
            }
            while let Some(record) = consumer.try_read().unwrap() {
                let mut copy = std::vec![0; record.len()];
                record.read_at(0, &mut copy).unwrap();
                received.push(copy);
            }
            prop_assert_eq!(sent, received);
        }
    }

    #[test]
    fn packets_that_do_not_follow_each_other_are_refused() {
        let ring = PrivateRing::new(4096).unwrap();
        let mut inlet = Inlet::new(ring.memory());
        assert_eq!(inlet.accept(16, 8, 24).unwrap_err().field, "position of a packet");
        assert_eq!(inlet.accept(12, 0, 12).unwrap_err().field, "length of a packet (a multiple of 8)");
        assert_eq!(inlet.accept(16, 0, 32).unwrap_err().field, "position behind a packet");
        assert!(inlet.accept(16, 0, 4096).is_ok());
    }
}
