//! What a receiver has beside the ring: the peer's arena, files, and records that come in packets.
//!
//! Promise: a message that comes out of here lies where its bytes may be read, whatever its descriptor said; one that cannot be had now,
//! for want of descriptors in this process say, stays where it is. Refusal: nothing here is on the way of a plain message.

use crate::arena::borrower::{Borrower, WayBack};
use crate::arena::progress;
use crate::link::Link;
use crate::os::carrier::{self, Filled};
use crate::ring::{Consumer, Inlet, RingMemory, Violation};
use std::sync::Arc;
use std::vec::Vec;

/// Messages in packets after which the sender is told that they were consumed: fewer than its socket holds, however small they are.
const TELL_AFTER: u64 = 32;

/// Bytes of credit that are worth a packet before a receiver sleeps.
const WORTH_A_PACKET: u64 = 4 << 10;

/// The most memory that is kept for the pieces of another message, in bytes.
pub(super) const MAX_SPARE: usize = 8 << 20;

/// A message that the sender is still copying.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growing {
    pub(super) block: u16,
    /// Bytes of it that are known to be there.
    pub(super) known: u64,
}

pub(crate) struct Incoming {
    pub(super) borrower: Borrower,
    pub(super) way_back: Option<Arc<WayBack>>,
    /// A block was held: other threads may give blocks back.
    pub(super) has_held: bool,
    pub(super) inlet: Option<Inlet<'static>>,
    /// The pieces of a message that came so far.
    pub(super) pieces: Vec<u8>,
    /// What the pieces of an earlier message lay in, to be used again.
    pub(super) spare: Vec<u8>,
    /// The next message is one that grows; it is ready when it has grown.
    pub(super) growing: Option<Growing>,
    /// The peer's end is closed, and everything that came in packets is here.
    pub(super) ended: bool,
    /// Credit could not be given yet: the socket was full.
    pub(super) owes_credit: bool,
    pub(super) violation: Option<Violation>,
    pub(super) max_message: u64,
    /// Bytes of a message that comes in pieces: they lie in memory of this process.
    pub(super) max_pieces: u64,
}

impl Incoming {
    /// # Safety
    /// The link lives as long as this value; it is the only one on this side.
    pub(super) unsafe fn new(link: &Link, consumer: &mut Consumer<'static>) -> Self {
        let credit = link.own_credit;
        // SAFETY: the caller's promise. Held messages keep the link beside the way back.
        let way_back = link.exchanges().map(|(_, exchange)| Arc::new(unsafe { WayBack::new(exchange, link.barrier) }));
        let inlet = link.mode.queues_in_socket().then(|| {
            // SAFETY: only the lifetime changes; the caller's promise.
            let memory = unsafe { core::mem::transmute::<RingMemory<'_>, RingMemory<'static>>(link.incoming()) };
            Inlet::new(memory)
        });
        let counted = if credit.messages == u64::MAX { u64::MAX } else { credit.messages / 8 };
        let told = if inlet.is_some() { counted.min(TELL_AFTER) } else { counted };
        if told != u64::MAX {
            consumer.tell_after(told);
        }
        Self {
            borrower: Borrower::new(credit.arena),
            way_back,
            has_held: false,
            inlet,
            pieces: Vec::new(),
            spare: Vec::new(),
            growing: None,
            ended: false,
            owes_credit: false,
            violation: None,
            max_message: credit.message,
            max_pieces: credit.pieces(link.incoming().capacity()),
        }
    }

    /// Says whether the next message may be there, as far as the ring does not say.
    #[inline]
    pub(super) fn is_ready(&mut self, consumer: &Consumer<'static>, link: &Link) -> bool {
        if let Some(Growing { block, known }) = self.growing {
            return self.way_back.as_ref().is_some_and(|way| progress::is_beyond(way.progress(block), known));
        }
        consumer.is_ready() || self.inlet.is_some() && self.fill(link)
    }

    /// Takes in what came in packets. True: something did, or went wrong.
    pub(super) fn fill(&mut self, link: &Link) -> bool {
        let Some(inlet) = &mut self.inlet else { return false };
        if self.owes_credit {
            self.owes_credit = !carrier::give_credit(inlet, link, false);
        }
        match carrier::fill(inlet, link) {
            Ok(Filled::Nothing) => false,
            Ok(Filled::Some) => true,
            Ok(Filled::Ended) => {
                self.ended = true;
                false
            }
            Err(violation) => {
                self.violation = Some(violation);
                true
            }
        }
    }

    /// Says whether nothing more can come, as far as sockets say. Only if records come in packets.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn take_violation(&mut self) -> Option<Violation> {
        self.violation.take()
    }

    /// Says whether a receiver that is about to sleep gives all credit back. Where each time costs a packet, only what is worth one: the
    /// sender has been told of all but an eighth, but one whose socket was full waits for any news.
    pub(super) fn flushes_credit(&self, consumer: &Consumer<'static>) -> bool {
        self.inlet.is_none() || consumer.held_back() >= WORTH_A_PACKET
    }

    /// Says whether the next message was found to grow.
    pub(super) fn is_growing(&self) -> bool {
        self.growing.is_some()
    }

    /// The message that grew is left alone.
    pub(super) fn growing_is_over(&mut self) {
        self.growing = None;
    }

    /// Tells the sender that there is room.
    #[cold]
    pub(super) fn call(&mut self, link: &Link) {
        match &mut self.inlet {
            // A sender that has gone needs no waking; the next wait finds out.
            None => {
                link.space.ring();
            }
            Some(inlet) => self.owes_credit = !carrier::give_credit(inlet, link, false),
        }
    }

    /// Tells the sender that nothing more is received, where no shared word says so.
    pub(super) fn close(&mut self, consumer: &mut Consumer<'static>, link: &Link) {
        if let Some(inlet) = &mut self.inlet {
            // What it returns is who must be woken, and that follows anyway.
            let _ = consumer.flush_credit();
            carrier::give_credit(inlet, link, true);
        }
    }

    /// Bytes of the peer's arena that are mapped.
    pub(super) fn mapped(&self) -> u64 {
        self.borrower.size()
    }
}
