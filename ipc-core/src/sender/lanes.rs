//! What a sender has beside the ring: the other lanes, the choice between them, and credit that the ring does not know of.
//!
//! Promise: a message that is refused leaves nothing behind, whatever lane it was on, and a peer that goes gives everything back.
//! Refusal: nothing here is on the way of a small message while there is room.

use super::coalesce::Deferred;
use super::content::Content;
use super::need::Need;
use super::offers::Offers;
use super::undelivered::InFlight;
use super::{Patience, Sender};
use crate::arena::lender::{self, ArenaStatus, Lender};
use crate::calibration;
use crate::error::SendError;
use crate::layout::HEADER;
use crate::layout::descriptor::{self, MAX_FILES};
use crate::layout::exchange::BLOCKS;
use crate::link::Link;
use crate::message::Trust;
use crate::os::carrier;
use crate::os::region::Readers;
use crate::ring::{Outlet, Producer, RingMemory, Violation};
use crate::router::{Lane, Override, Router, RouterError};
use rustix::fd::BorrowedFd;
use std::collections::VecDeque;
use std::vec::Vec;

pub(crate) struct Lanes {
    pub(super) lender: Option<Lender>,
    pub(super) outlet: Option<Outlet<'static>>,
    pub(super) router: Router,
    pub(super) refresh: calibration::Refresh,
    /// The largest message there is a lane for, and that the receiver accepts, in bytes.
    pub(super) max_message: u64,
    /// The largest message that fits a block, in bytes; 0 without an arena.
    pub(super) max_block: u64,
    /// Messages of credit that the receiver gives.
    pub(super) credit: u64,
    /// Beside each the number of the message, counted from 0.
    pub(super) in_flight: VecDeque<(u64, InFlight)>,
    /// Memory of one that was consumed, to be used again.
    pub(super) spare: Vec<u8>,
    /// Which message each block was last sent as. Only where the peer says in packets what it consumed: blocks come back before that, and
    /// are lent again.
    pub(super) sent_as: Vec<u64>,
    /// The peer is gone, and what it did not consume was taken back.
    pub(super) taken_back: bool,
    /// A part of a message was sent, and the rest will not be.
    pub(super) in_pieces: bool,
    /// Bytes that the socket surely takes without waiting.
    pub(super) surely: u64,
    pub(super) last_need: Need,
    pub(super) offers: Offers,
    /// The ring that is put off.
    pub(super) deferred: Deferred,
    /// Blocks lent since it was last asked whether a region lies idle.
    pub(super) lent: u32,
}

impl Lanes {
    /// # Safety
    /// The link lives as long as the lanes; they are the only ones on this side.
    pub(super) unsafe fn new(link: &Link, producer: &mut Producer<'static>) -> Self {
        let credit = link.peer_credit;
        // SAFETY: the caller's promise.
        let lender = link
            .exchanges()
            .map(|(exchange, _)| unsafe { Lender::new(exchange, link.barrier, credit.arena, link.label.clone()) });
        let outlet = link.mode.queues_in_socket().then(|| {
            // SAFETY: only the lifetime changes; the caller's promise.
            let memory = unsafe { core::mem::transmute::<RingMemory<'_>, RingMemory<'static>>(link.outgoing()) };
            Outlet::new(memory)
        });
        if outlet.is_some() {
            producer.set_longest(carrier::MAX_SPAN - HEADER);
        }
        let limits = calibration::Limits {
            ring: producer.max_record(),
            pieces: credit.pieces(link.outgoing().capacity()),
            arena: lender::max_block(credit.arena),
            message: credit.message.min(descriptor::MAX_LENGTH),
        };
        let (router, refresh) = calibration::router(link.mode, limits);
        let max_message = router.costs().largest().unwrap_or(limits.ring).min(limits.message);
        let lanes = Self {
            max_message,
            max_block: if lender.is_some() { limits.arena.min(max_message) } else { 0 },
            lender,
            outlet,
            router,
            refresh,
            credit: credit.messages,
            in_flight: VecDeque::new(),
            spare: Vec::new(),
            sent_as: if link.mode.queues_in_socket() && link.mode.has_arena() {
                std::vec![0; BLOCKS as usize]
            } else {
                Vec::new()
            },
            taken_back: false,
            in_pieces: false,
            surely: 0,
            last_need: Need::Room,
            offers: Offers::default(),
            deferred: Deferred::default(),
            lent: 0,
        };
        lanes.set_fast(producer);
        lanes
    }

    /// Says whether there is more to ask than the ring knows before a record is claimed.
    pub(super) fn is_guarded(&self) -> bool {
        self.outlet.is_some() || self.credit != u64::MAX || self.in_pieces
    }

    pub(super) fn router(&self) -> &Router {
        &self.router
    }

    pub(super) fn set_route(&mut self, route: Override, producer: &mut Producer<'static>) -> Result<(), RouterError> {
        self.router.set_override(route)?;
        self.set_fast(producer);
        Ok(())
    }

    /// Lets the ring take what the router would send there anyway, unasked.
    pub(super) fn set_fast(&self, producer: &mut Producer<'static>) {
        let upto = if self.router.first() == Lane::Inline { self.router.upto() } else { None };
        producer.set_fast_longest(upto.unwrap_or_default());
        producer.set_guarded(self.is_guarded() || upto.is_none());
    }

    pub(super) fn lender(&self) -> Option<&Lender> {
        self.lender.as_ref()
    }

    pub(super) fn lender_mut(&mut self) -> Option<&mut Lender> {
        self.lender.as_mut()
    }

    /// As [`Lender::open_kind`].
    #[inline]
    pub(super) fn open_kind(&self) -> Readers {
        self.lender.as_ref().map_or(Readers::ReadOnly, Lender::open_kind)
    }

    /// The largest block that the arena can have, in bytes.
    #[inline]
    pub(super) fn max_block(&self) -> u64 {
        self.max_block
    }

    /// Says whether messages on this lane lie in the queue itself.
    pub(super) fn is_queue(&self, lane: Lane) -> bool {
        lane == Lane::Inline || lane == Lane::Kernel && self.outlet.is_some()
    }

    pub(super) fn max_message(&self) -> u64 {
        self.max_message
    }

    pub(super) fn arena(&self) -> ArenaStatus {
        self.lender.as_ref().map(Lender::status).unwrap_or_default()
    }

    pub(super) fn note_need(&mut self, need: Need) {
        self.last_need = need;
    }

    pub(super) fn last_need(&self) -> Need {
        self.last_need
    }

    /// Tells the peer what was published: rings its doorbell, or carries the records to it.
    #[cold]
    pub(super) fn call(&mut self, link: &Link, producer: &mut Producer<'static>) {
        if self.deferred.defers(link, producer) {
            return;
        }
        let delivered = match &mut self.outlet {
            None => link.messages.ring(),
            Some(outlet) => carrier::carry(outlet, link, producer.position(), &mut self.surely),
        };
        if !delivered {
            producer.mark_gone();
        }
    }

    /// Takes in what the peer says of its progress, if that comes in packets. True: something came.
    pub(super) fn hear(&mut self, link: &Link, producer: &mut Producer<'static>) -> Result<bool, SendError> {
        let Some(outlet) = &self.outlet else { return Ok(false) };
        match carrier::hear(outlet, link) {
            Ok(carrier::Heard::Nothing) => Ok(false),
            Ok(carrier::Heard::Credit) => Ok(true),
            Ok(carrier::Heard::Gone) => {
                producer.mark_gone();
                Ok(true)
            }
            Err(violation) => Err(link.condemn(violation).into()),
        }
    }

    /// As [`Lanes::hear`], when only the credit matters.
    pub(super) fn hear_again(&self, link: &Link) -> Result<(), Violation> {
        self.outlet.as_ref().map_or(Ok(()), |outlet| carrier::hear(outlet, link).map(drop))
    }

    /// Tells the peer that nothing more comes, where no shared word says so.
    pub(super) fn close(&mut self, link: &Link) {
        if let Some(outlet) = &mut self.outlet {
            carrier::say_goodbye(outlet, link);
        }
    }
}

impl<T: Trust> Sender<T> {
    /// The lane for a message of `len` bytes.
    pub(super) fn route(&mut self, len: u64) -> Result<Lane, SendError> {
        let max = self.max_message();
        if len > max {
            return Err(SendError::TooLarge { len, max });
        }
        let lane = self.lanes.router.route(len);
        self.lanes.set_fast(&mut self.producer);
        lane.map_err(|_| SendError::TooLarge { len, max })
    }

    /// Sends a message on the lane that it is routed to.
    #[cold]
    pub(super) fn send_slow(
        &mut self,
        content: &Content<'_>,
        files: &[BorrowedFd<'_>],
        patience: Patience,
    ) -> Result<(), SendError> {
        self.check()?;
        // A file of its own takes one of the places.
        if files.len() >= MAX_FILES {
            return Err(SendError::TooManyFiles { given: files.len(), max: MAX_FILES - 1 });
        }
        self.lanes.refresh.before(&mut self.lanes.router, content.len, matches!(patience, Patience::Endless));
        match self.route(content.len)? {
            Lane::Inline => self.send_in_queue(content, files, patience),
            Lane::Kernel if self.lanes.outlet.is_some() => self.send_in_queue(content, files, patience),
            Lane::Kernel => self.send_packet(content, files, patience),
            Lane::Arena | Lane::File if self.may_offer(content, files, patience) => {
                if self.offer(content)? {
                    return Ok(());
                }
                self.send_large(content, files, patience)
            }
            Lane::Arena | Lane::File => self.send_large(content, files, patience),
        }
    }

    fn send_large(
        &mut self,
        content: &Content<'_>,
        files: &[BorrowedFd<'_>],
        patience: Patience,
    ) -> Result<(), SendError> {
        match self.route(content.len)? {
            Lane::Arena => self.send_block(content, files, patience),
            _ => self.send_file(content, files, patience),
        }
    }
}
