//! What a sender waits for, and how it is noticed.
//!
//! Promise: what is waited for is looked at after the ticket was raised, whatever it is. Refusal: the waiting itself is in [`crate::wait`].

use super::lanes::Lanes;
use crate::arena::lender::Lender;
use crate::layout::descriptor::Place;
use crate::link::Link;
use crate::ring::Producer;
use crate::sync::Ordering;
use crate::wait::Half;

/// What a sender waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Room in the ring, for the claim that was refused.
    Room,
    /// So many messages consumed.
    Consumed(u64),
    /// A block that comes back.
    Block,
    /// Another word about the offer in a block than this one.
    Offer(Place, u64),
}

/// A sender that is about to wait, and what it needs for that.
pub(super) struct Sending<'w> {
    pub(super) producer: &'w mut Producer<'static>,
    pub(super) lanes: &'w mut Lanes,
    pub(super) link: &'w Link,
    pub(super) need: Need,
}

impl Sending<'_> {
    /// Raises the ticket: true if there is still nothing, and the descriptor tells when there is.
    pub(super) fn arm(&mut self) -> bool {
        self.raise();
        let ready = self.is_ready();
        if ready {
            self.lower();
        }
        !ready
    }

    /// Says whether there is what is waited for, as far as the peer has said.
    #[inline(always)]
    pub(super) fn is_met(&self) -> bool {
        match self.need {
            Need::Room => self.producer.has_room(),
            Need::Consumed(messages) => self.producer.consumed() >= messages,
            Need::Block => self.lanes.lender.as_ref().is_some_and(Lender::is_ready),
            Need::Offer(place, known) => {
                let word = self.lanes.lender.as_ref().map(|lender| lender.taken(place).load(Ordering::Relaxed));
                word != Some(known)
            }
        }
    }
}

impl Half for Sending<'_> {
    #[inline(always)]
    fn is_ready(&mut self) -> bool {
        // A violation shows again, and is reported, when the caller looks.
        let heard = self.lanes.outlet.is_some() && self.lanes.hear(self.link, self.producer).unwrap_or(true);
        heard && self.need == Need::Room || self.is_met()
    }

    fn is_peer_closed(&self) -> bool {
        self.producer.is_peer_closed()
    }

    fn on_empty(&mut self) {
        // What is waited for may be up to a receiver that sleeps and was not told of its messages yet.
        self.lanes.ring_deferred(self.link, self.producer);
    }

    fn raise(&mut self) {
        match (&mut self.lanes.lender, self.need) {
            (Some(lender), Need::Block | Need::Offer(..)) => lender.raise(),
            _ => self.producer.raise(),
        }
    }

    fn lower(&mut self) {
        match (&mut self.lanes.lender, self.need) {
            (Some(lender), Need::Block | Need::Offer(..)) => lender.lower(),
            _ => self.producer.lower(),
        }
    }

    fn exchange_processor(&self, own: u32) -> Option<u32> {
        self.producer.exchange_processor(own)
    }
}
