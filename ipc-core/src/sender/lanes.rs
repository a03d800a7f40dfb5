//! What a sender has beside the ring: the other lanes, the choice between them, and credit that the ring does not know of.
//!
//! Promise: a message that is refused leaves nothing behind, whatever lane it was on, and a peer that goes gives everything back.
//! Refusal: nothing here is on the way of a small message while there is room.

use super::coalesce::Deferred;
use super::offers::Offers;
use super::{Patience, Sender, Shortage};
use crate::arena::lender::{self, ArenaStatus, Lender, Lent, Refused};
use crate::arena::progress;
use crate::calibration;
use crate::error::{Resource, SendError};
use crate::layout::descriptor::{self, Descriptor, Kind, MAX_FILES, Place};
use crate::layout::exchange::BLOCKS;
use crate::layout::{HEADER, Mark};
use crate::link::Link;
use crate::message::Trust;
use crate::os::bell::Deadline;
use crate::os::carrier;
use crate::os::files;
use crate::os::payload::{Draft, Sealed};
use crate::os::segment::SegmentError;
use crate::ring::{Outlet, Producer, RingMemory, Violation};
use crate::router::{Lane, Override, Router, RouterError};
use crate::sync::Ordering;
use crate::wait::Half;
use rustix::fd::{AsFd, BorrowedFd};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;
use std::vec::Vec;

/// From this many bytes on a copy is published while it is made, so that the receiver's copy runs beside it.
const STREAM_FROM: u64 = 8 << 10;
/// Bytes between two words of progress: few enough that the receiver is close behind, many enough that the word is no burden.
const STREAM_STEP: usize = 16 << 10;
/// The most memory that is kept for the bytes of another message, in bytes.
const MAX_SPARE: usize = 8 << 20;
/// Blocks that are lent between two looks whether a region lies idle.
const TRIM_AFTER: u32 = 1024;
/// The most messages in files of their own, or in packets beside the ring, that are sent and not consumed.
const MAX_IN_FLIGHT: usize = 64;

/// Looks at credit that has come before a call waits for it: a peer that gives it without end, and none, must not keep us.
const MAX_LOOKS: u32 = 16;

/// The bytes of one message, in one piece or several.
pub(super) struct Content<'m> {
    one: [&'m [u8]; 1],
    several: Option<&'m [&'m [u8]]>,
    len: u64,
}

impl<'m> Content<'m> {
    pub(super) fn of(message: &'m [u8]) -> Self {
        Self { one: [message], several: None, len: message.len() as u64 }
    }

    pub(super) fn new(slices: &'m [&'m [u8]]) -> Self {
        let len = slices.iter().map(|slice| slice.len() as u64).sum();
        Self { one: [&[]], several: Some(slices), len }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// # Safety
    /// `target` has room for the bytes from `start` to `end`, and belongs to the caller.
    pub(super) unsafe fn copy_range(&self, start: u64, end: u64, target: *mut u8) {
        let mut at = 0;
        for piece in self.range(start, end) {
            // SAFETY: the pieces together are the range; the caller's promise.
            unsafe { core::ptr::copy_nonoverlapping(piece.as_ptr(), target.add(at), piece.len()) };
            at += piece.len();
        }
    }

    fn slices(&self) -> &[&'m [u8]] {
        self.several.unwrap_or(&self.one)
    }

    /// The pieces of the bytes from `start` to `end`.
    fn range(&self, start: u64, end: u64) -> impl Iterator<Item = &'m [u8]> {
        let mut at = 0;
        self.slices().iter().filter_map(move |slice| {
            let len = slice.len() as u64;
            let (from, to) = (start.clamp(at, at + len) - at, end.clamp(at, at + len) - at);
            at += len;
            (from < to).then(|| &slice[from as usize..to as usize])
        })
    }

    /// # Safety
    /// `target` has room for the message, and belongs to the caller.
    unsafe fn copy_to(&self, target: *mut u8) {
        let mut at = 0;
        for slice in self.slices() {
            // SAFETY: the pieces together are the message; the caller's promise.
            unsafe { core::ptr::copy_nonoverlapping(slice.as_ptr(), target.add(at), slice.len()) };
            at += slice.len();
        }
    }
}

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

/// A message whose bytes are not, or not all, in the ring or the arena: kept until it is consumed.
enum InFlight {
    File(Sealed),
    Bytes(Vec<u8>),
}

pub(crate) struct Lanes {
    lender: Option<Lender>,
    outlet: Option<Outlet<'static>>,
    router: Router,
    refresh: calibration::Refresh,
    /// The largest message there is a lane for, and that the receiver accepts, in bytes.
    max_message: u64,
    /// The largest message that fits a block, in bytes; 0 without an arena.
    max_block: u64,
    /// Messages of credit that the receiver gives.
    credit: u64,
    /// Beside each the number of the message, counted from 0.
    in_flight: VecDeque<(u64, InFlight)>,
    /// Memory of one that was consumed, to be used again.
    spare: Vec<u8>,
    /// Which message each block was last sent as. Only where the peer says in packets what it consumed: blocks come back before that, and
    /// are lent again.
    sent_as: Vec<u64>,
    /// The peer is gone, and what it did not consume was taken back.
    taken_back: bool,
    /// A part of a message was sent, and the rest will not be.
    in_pieces: bool,
    /// Bytes that the socket surely takes without waiting.
    surely: u64,
    last_need: Need,
    pub(super) offers: Offers,
    /// The ring that is put off.
    pub(super) deferred: Deferred,
    /// Blocks lent since it was last asked whether a region lies idle.
    lent: u32,
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
    fn set_fast(&self, producer: &mut Producer<'static>) {
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

    /// Takes back the blocks that the peer held when it went; those in `keep` hold messages that it did not consume.
    pub(super) fn reclaim(&mut self, keep: &[u16]) {
        self.collect_last();
        if let Some(lender) = &mut self.lender {
            lender.reclaim(keep);
        }
    }

    /// Takes in what came back before the peer went.
    pub(super) fn collect_last(&mut self) {
        if let Some(lender) = &mut self.lender {
            // What it made up does not matter any more.
            let _ = lender.collect();
        }
    }

    /// Takes everything back that the peer has. For a peer that is gone.
    pub(super) fn reclaim_all(&mut self) {
        self.reclaim(&[]);
        self.in_flight.clear();
        self.taken_back = true;
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

    /// Forgets the messages in flight that were consumed.
    fn prune(&mut self, consumed: u64) {
        while self.in_flight.front().is_some_and(|(number, _)| *number < consumed) {
            if let Some((_, InFlight::Bytes(bytes))) = self.in_flight.pop_front()
                && bytes.capacity() <= MAX_SPARE
            {
                self.spare = bytes;
            }
        }
    }

    /// Keeps the bytes of message `number` until it is consumed.
    fn keep(&mut self, number: u64, content: &Content<'_>) {
        let mut bytes = core::mem::take(&mut self.spare);
        bytes.clear();
        bytes.reserve_exact(content.len as usize);
        content.slices().iter().for_each(|slice| bytes.extend_from_slice(slice));
        self.in_flight.push_back((number, InFlight::Bytes(bytes)));
    }

    /// The number of the first message, from `number` on, that may not have been consumed: a block that has come back was read, and so was
    /// everything before it.
    fn first_undelivered(&self, producer: &Producer<'static>, number: u64) -> Result<u64, Violation> {
        let (mut first, mut number) = (number, number);
        let Some(lender) = self.lender.as_ref().filter(|_| !self.sent_as.is_empty()) else { return Ok(first) };
        let mut records = producer.undelivered()?;
        while let Some(record) = records.next_payload()? {
            if record.mark() == Mark::Described {
                let descriptor = record.descriptor()?;
                let block = descriptor.place.block();
                let sent_as = self.sent_as.get(usize::from(block)).copied();
                if matches!(descriptor.kind, Kind::Block | Kind::Stream)
                    && (sent_as != Some(number) || !lender.is_out(block))
                {
                    first = number + 1;
                }
            }
            number += u64::from(record.ends_message());
        }
        Ok(first)
    }

    /// How many messages were not consumed, and the blocks that they lie in.
    pub(super) fn count_undelivered(&self, producer: &Producer<'static>) -> Result<(u64, Vec<u16>), Violation> {
        if self.taken_back {
            return Ok((0, Vec::new()));
        }
        let count = producer.undelivered()?.count()?;
        let mut number = producer.messages().saturating_sub(count);
        let first = self.first_undelivered(producer, number)?;
        let consumed = first - number;
        let mut blocks = Vec::new();
        let mut records = producer.undelivered()?;
        while let Some(record) = records.next_payload()? {
            if record.mark() == Mark::Described {
                let descriptor = record.descriptor()?;
                if number >= first && matches!(descriptor.kind, Kind::Block | Kind::Stream) {
                    blocks.push(descriptor.place.block());
                }
            }
            number += u64::from(record.ends_message());
        }
        Ok((count.saturating_sub(consumed), blocks))
    }

    /// The messages that were not consumed.
    pub(super) fn undelivered(&self, producer: &Producer<'static>) -> Result<Vec<Vec<u8>>, SendError> {
        if self.taken_back {
            return Ok(Vec::new());
        }
        let count = producer.undelivered()?.count()?;
        let mut number = producer.messages().saturating_sub(count);
        let first = self.first_undelivered(producer, number)?;
        let mut messages = Vec::new();
        let mut records = producer.undelivered()?;
        let mut parts = Vec::new();
        while let Some(record) = records.next_payload()? {
            if number < first {
                number += u64::from(record.ends_message());
                continue;
            }
            match record.mark() {
                Mark::More => {
                    parts.extend(record.to_vec());
                    continue;
                }
                Mark::Plain => parts.extend(record.to_vec()),
                Mark::Described => {
                    let descriptor = record.descriptor()?;
                    match descriptor.kind {
                        Kind::Region | Kind::Retire | Kind::Offer => continue,
                        Kind::Abort => {
                            parts.clear();
                            continue;
                        }
                        Kind::Inline => match self.whole(number) {
                            Some(whole) => parts = whole,
                            None => parts.extend(record.behind_descriptor().to_vec()),
                        },
                        Kind::Block | Kind::Stream => parts.extend(self.block(&descriptor)?),
                        Kind::File | Kind::Packet => parts.extend(self.in_flight(number, &descriptor)?),
                    }
                }
            }
            number += 1;
            messages.push(core::mem::take(&mut parts));
        }
        Ok(messages)
    }

    /// A message that was sent in pieces.
    fn whole(&self, number: u64) -> Option<Vec<u8>> {
        self.in_flight.iter().find_map(|(at, kept)| match kept {
            InFlight::Bytes(bytes) if *at == number => Some(bytes.clone()),
            _ => None,
        })
    }

    fn block(&self, descriptor: &Descriptor) -> Result<Vec<u8>, SendError> {
        // The descriptors lie in memory that a hostile peer can write: what they say is checked like everything else.
        let found = self.lender.as_ref().and_then(|lender| lender.bytes(descriptor.place, descriptor.length));
        let Some(start) = found else {
            let value = descriptor.place.unit();
            return Err(Violation { field: "place of an undelivered message", value, min: 0, max: 0 }.into());
        };
        let len = descriptor.length as usize;
        let mut copy = Vec::with_capacity(len);
        // SAFETY: inside a mapped region, which only this process writes; the vector has room.
        unsafe {
            core::ptr::copy_nonoverlapping(start.as_ptr(), copy.as_mut_ptr(), len);
            copy.set_len(len);
        }
        Ok(copy)
    }

    fn in_flight(&self, number: u64, descriptor: &Descriptor) -> Result<Vec<u8>, SendError> {
        match self.in_flight.iter().find(|(at, _)| *at == number) {
            Some((_, InFlight::Bytes(bytes))) => Ok(bytes.clone()),
            Some((_, InFlight::File(file))) => {
                let memory = |error| no_memory(descriptor.length, error);
                let payload = file.open().map_err(memory)?;
                let len = file.len() as usize;
                // SAFETY: mapped with this length; nobody can write it any more.
                Ok(unsafe { core::slice::from_raw_parts(payload.pointer(), len) }.to_vec())
            }
            None => {
                let (value, max) = (number, self.in_flight.len() as u64);
                Err(Violation { field: "undelivered message in a file", value, min: 0, max }.into())
            }
        }
    }
}

pub(super) fn no_memory(len: u64, error: SegmentError) -> SendError {
    let source = match error {
        SegmentError::NoMemory { source, .. } | SegmentError::Os { source, .. } => source,
        other => io::Error::other(other),
    };
    SendError::Memory { len, source }
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

    /// The ring, or the socket that stands for it: whole if it fits a record, in pieces if not.
    fn send_in_queue(
        &mut self,
        content: &Content<'_>,
        files: &[BorrowedFd<'_>],
        patience: Patience,
    ) -> Result<(), SendError> {
        let mut made = None;
        let longest = self.producer.max_record();
        // The last piece of several says so.
        let described = !files.is_empty() || content.len > longest;
        let extra = if described { descriptor::SIZE } else { 0 };
        let mut at = 0;
        if content.len + extra > longest {
            self.check_pieces(content.len + extra, patience)?;
            self.await_in_flight(patience, &mut made)?;
        }
        while content.len + extra - at > longest {
            // The descriptor alone may be what does not fit behind the rest: then the last piece has no bytes.
            let end = content.len.min(at + longest);
            let len = (end - at) as usize;
            let claimed = self.claim_slow(len, patience, &mut made);
            self.note_pieces(at, claimed)?;
            let mut record = self.producer.reservation(len);
            let mut offset = 0;
            for piece in content.range(at, end) {
                record.write_at(offset, piece);
                offset += piece.len();
            }
            let wake = record.publish_as(Mark::More, 0).1;
            self.wake(wake);
            at = end;
        }
        let len = (content.len - at + extra) as usize;
        let claimed =
            self.claim_slow(len, patience, &mut made).and_then(|()| self.put_beside(files, patience, &mut made));
        self.note_pieces(at, claimed)?;
        let number = self.producer.messages();
        let mut record = self.producer.reservation(len);
        let mut offset = extra as usize;
        if described {
            let mut descriptor = Descriptor::new(Kind::Inline, content.len - at);
            descriptor.files = files.len() as u8;
            record.write_words(descriptor.encode());
        }
        for piece in content.range(at, content.len) {
            record.write_at(offset, piece);
            offset += piece.len();
        }
        if at > 0 {
            // Pieces that were consumed cannot be taken back from the ring.
            self.lanes.keep(number, content);
        }
        let mark = if described { Mark::Described } else { Mark::Plain };
        let wake = record.publish_as(mark, 1).1;
        self.wake(wake);
        Ok(())
    }

    /// A message that fails when `at` bytes of it were sent leaves pieces that the peer must forget.
    fn note_pieces<R>(&mut self, at: u64, result: Result<R, SendError>) -> Result<R, SendError> {
        if at > 0 && result.is_err() {
            self.lanes.in_pieces = true;
            self.lanes.set_fast(&mut self.producer);
        }
        result
    }

    /// A call that does not wait cannot send a message piece by piece: all pieces, of `len` bytes together, have to fit at once.
    fn check_pieces(&mut self, len: u64, patience: Patience) -> Result<(), SendError> {
        if !patience.is_none() {
            return Ok(());
        }
        self.lanes.hear(&self.link, &mut self.producer)?;
        let longest = self.producer.max_record();
        let needed = len + len.div_ceil(longest) * 2 * HEADER;
        let most = 2 * longest;
        if needed > most {
            return Err(SendError::TooLarge { len, max: most - 4 * HEADER });
        }
        // Behind a piece there may be padding, as long as the next piece.
        match self.producer.look_ahead(needed + longest) {
            Ok(()) => Ok(()),
            Err(refused) => {
                let (needed, free) = self.refusal(refused)?;
                self.wait(Need::Room, Shortage { resource: Resource::Ring, needed, free }, patience, &mut None)
            }
        }
    }

    /// A block of the arena: copied in, and while that goes on the receiver may copy out.
    fn send_block(
        &mut self,
        content: &Content<'_>,
        files: &[BorrowedFd<'_>],
        patience: Patience,
    ) -> Result<(), SendError> {
        let mut made = None;
        let lent = self.lend(content.len, patience, &mut made)?;
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

    fn progress(&self, lent: Lent, act: impl FnOnce(&crate::sync::AtomicU64)) {
        if let Some(lender) = &self.lanes.lender {
            act(lender.progress(lent.place));
        }
    }

    /// Copies into a block that the receiver knows already, and says how far it is.
    fn stream(&mut self, lent: Lent, content: &Content<'_>) {
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

    #[inline]
    pub(super) fn publish_block(&mut self, lent: Lent, kind: Kind, len: u64, files: usize) {
        let mut descriptor = Descriptor::new(kind, len);
        descriptor.place = lent.place;
        descriptor.files = files as u8;
        if let Some(lender) = &mut self.lanes.lender {
            lender.sent(lent.place);
        }
        if let Some(sent_as) = self.lanes.sent_as.get_mut(usize::from(lent.place.block())) {
            *sent_as = self.producer.messages();
        }
        self.publish_described(&descriptor, 1);
    }

    /// Publishes a descriptor in the room that was claimed for it.
    #[inline]
    fn publish_described(&mut self, descriptor: &Descriptor, messages: u64) {
        let mut record = self.producer.reservation(descriptor::SIZE as usize);
        record.write_words(descriptor.encode());
        let wake = record.publish_as(Mark::Described, messages).1;
        self.wake(wake);
    }

    /// Room for a descriptor, and what is beside it on its way.
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

    /// Sends files ahead of the record that they belong to.
    fn put_beside(
        &mut self,
        files: &[BorrowedFd<'_>],
        patience: Patience,
        made: &mut Option<Deadline>,
    ) -> Result<(), SendError> {
        if files.is_empty() {
            return Ok(());
        }
        self.beside(patience, made, |socket| socket.send(files))
    }

    fn beside(
        &mut self,
        patience: Patience,
        made: &mut Option<Deadline>,
        send: impl Fn(&files::Files) -> io::Result<()>,
    ) -> Result<(), SendError> {
        loop {
            match send(&self.link.files) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                    self.producer.mark_gone();
                    return Err(self.disconnected());
                }
                Err(error) => return Err(error.into()),
            }
            let (resource, needed, free) = (Resource::Packets, 1, 0);
            self.lanes.ring_deferred(&self.link, &mut self.producer);
            let Some(deadline) = patience.deadline(made) else {
                self.note_full_socket();
                return Err(SendError::WouldBlock { resource, needed, free });
            };
            if !self.link.files.wait_for_room(deadline)? {
                return Err(SendError::TimedOut { waited: deadline.waited(), resource, needed, free });
            }
        }
    }

    /// Lends a block; waits for one, or lets the arena grow.
    #[inline]
    pub(super) fn lend(
        &mut self,
        len: u64,
        patience: Patience,
        made: &mut Option<Deadline>,
    ) -> Result<Lent, SendError> {
        self.lanes.lent += 1;
        if self.lanes.lent < TRIM_AFTER
            && let Some(lender) = &mut self.lanes.lender
        {
            match lender.lend(len) {
                Ok(lent) => return Ok(lent),
                // What came back was taken: it would not be seen a second time.
                Err(Refused::Violation(violation)) => return Err(self.link.condemn(violation).into()),
                Err(_) => {}
            }
        }
        self.lend_slow(len, patience, made)
    }

    #[cold]
    fn lend_slow(&mut self, len: u64, patience: Patience, made: &mut Option<Deadline>) -> Result<Lent, SendError> {
        if self.lanes.lent >= TRIM_AFTER {
            self.lanes.lent = 0;
            self.trim_regions(None)?;
        }
        loop {
            let Some(lender) = &mut self.lanes.lender else { return Err(self.no_lane(Lane::Arena, len)) };
            let shortage = match lender.lend(len) {
                Ok(lent) => return Ok(lent),
                Err(Refused::Grow { bytes }) => {
                    self.grow(len, bytes, patience, made)?;
                    continue;
                }
                Err(Refused::Trim) => {
                    self.trim_regions(Some(Duration::ZERO))?;
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

    pub(super) fn no_lane(&self, lane: Lane, len: u64) -> SendError {
        SendError::Lane { lane, len, mode: self.link.mode }
    }

    pub(super) fn cancel(&mut self, lent: Lent) {
        if let Some(lender) = &mut self.lanes.lender {
            lender.cancel(lent.place);
        }
    }

    /// Adds a region to the arena. The peer is told before anything is lent from it.
    fn grow(&mut self, len: u64, bytes: u64, patience: Patience, made: &mut Option<Deadline>) -> Result<(), SendError> {
        let Some(lender) = &self.lanes.lender else { return Ok(()) };
        let (number, region) = lender.grow(bytes).map_err(|error| no_memory(len, error))?;
        self.prepare_record(&[region.as_fd()], patience, made)?;
        let mut descriptor = Descriptor::new(Kind::Region, region.size());
        descriptor.place = Place::of_region(number);
        descriptor.files = 1;
        self.publish_described(&descriptor, 0);
        if let Some(lender) = &mut self.lanes.lender {
            lender.add(number, region);
        }
        Ok(())
    }

    /// Gives regions up that lie idle, as far as there is room in the ring to say so. Returns their bytes.
    pub(super) fn trim_regions(&mut self, idle: Option<Duration>) -> Result<u64, SendError> {
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
            match self.claim_slow(descriptor::SIZE as usize, Patience::None, &mut None) {
                Ok(()) => {}
                // Later, then: nobody waits for it.
                Err(SendError::WouldBlock { .. }) if idle.is_none() => return Ok(bytes),
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

    /// A file of its own.
    fn send_file(
        &mut self,
        content: &Content<'_>,
        files: &[BorrowedFd<'_>],
        patience: Patience,
    ) -> Result<(), SendError> {
        let draft = self.draft(content.len)?;
        // SAFETY: the file has room for the message, and is ours.
        unsafe { content.copy_to(draft.pointer()) };
        self.send_draft(draft, files, patience)
    }

    pub(super) fn draft(&self, len: u64) -> Result<Draft, SendError> {
        if !self.link.mode.has_arena() {
            return Err(self.no_lane(Lane::File, len));
        }
        Draft::new(&self.link.label, len).map_err(|error| no_memory(len, error))
    }

    pub(super) fn send_draft(
        &mut self,
        draft: Draft,
        files: &[BorrowedFd<'_>],
        patience: Patience,
    ) -> Result<(), SendError> {
        let len = draft.len();
        let sealed = draft.seal().map_err(|error| no_memory(len, error))?;
        let mut made = None;
        self.await_in_flight(patience, &mut made)?;
        let all: Vec<_> = core::iter::once(sealed.as_fd()).chain(files.iter().copied()).collect();
        self.prepare_record(&all, patience, &mut made)?;
        let mut descriptor = Descriptor::new(Kind::File, len);
        descriptor.files = all.len() as u8;
        drop(all);
        self.lanes.in_flight.push_back((self.producer.messages(), InFlight::File(sealed)));
        self.publish_described(&descriptor, 1);
        Ok(())
    }

    /// A packet of the kernel, with its place in the ring.
    fn send_packet(
        &mut self,
        content: &Content<'_>,
        files: &[BorrowedFd<'_>],
        patience: Patience,
    ) -> Result<(), SendError> {
        if content.len > files::MAX_BYTES {
            return Err(self.no_lane(Lane::Kernel, content.len));
        }
        let mut made = None;
        self.await_in_flight(patience, &mut made)?;
        if !files.is_empty() {
            // Two packets: if the second did not fit, the files would be left to the next message.
            self.beside(patience, &mut made, |socket| socket.check_room())?;
        }
        self.prepare_record(files, patience, &mut made)?;
        let parts: Vec<_> = content.slices().iter().map(|slice| IoSlice::new(slice)).collect();
        self.beside(patience, &mut made, |socket| socket.send_bytes(&parts))?;
        let mut descriptor = Descriptor::new(Kind::Packet, content.len);
        descriptor.files = files.len() as u8;
        self.lanes.keep(self.producer.messages(), content);
        self.publish_described(&descriptor, 1);
        Ok(())
    }

    /// Bounds the messages whose bytes are kept beside ring and arena.
    fn await_in_flight(&mut self, patience: Patience, made: &mut Option<Deadline>) -> Result<(), SendError> {
        loop {
            self.lanes.hear(&self.link, &mut self.producer)?;
            self.lanes.prune(self.producer.consumed());
            if self.lanes.in_flight.len() < MAX_IN_FLIGHT {
                return Ok(());
            }
            let oldest = self.lanes.in_flight.front().map_or(0, |(number, _)| *number);
            let shortage = Shortage { resource: Resource::Files, needed: 1, free: 0 };
            self.wait(Need::Consumed(oldest + 1), shortage, patience, made)?;
        }
    }

    /// Says whether the receiver's credit, as far as it is known, covers one more message beside `open` ones that are not published.
    pub(super) fn has_credit(&self, open: u64) -> bool {
        let out = self.producer.messages().saturating_sub(self.producer.consumed());
        out.saturating_add(open) < self.lanes.credit
    }

    /// Waits for what the ring does not know of: credit in messages, and room in the socket.
    pub(super) fn await_credit(&mut self, patience: Patience, made: &mut Option<Deadline>) -> Result<(), SendError> {
        if self.lanes.in_pieces {
            self.abort_pieces(patience, made)?;
        }
        let credit = self.lanes.credit;
        let mut looks = 0;
        loop {
            let sent = self.producer.messages();
            if sent.saturating_sub(self.producer.consumed()) < credit {
                break;
            }
            looks += 1;
            if looks <= MAX_LOOKS && self.lanes.hear(&self.link, &mut self.producer)? {
                continue;
            }
            let free = credit.saturating_sub(sent.saturating_sub(self.producer.consumed()));
            let shortage = Shortage { resource: Resource::Messages, needed: 1, free };
            self.wait(Need::Consumed((sent + 1).saturating_sub(credit)), shortage, patience, made)?;
        }
        if self.lanes.outlet.is_some() && !matches!(patience, Patience::Endless) {
            self.note_full_socket();
            carrier::await_room(&self.link, &mut self.lanes.surely, patience.deadline(made))?.map_err(|waited| {
                let (resource, needed, free) = (Resource::Packets, 1, 0);
                match waited {
                    None => SendError::WouldBlock { resource, needed, free },
                    Some(waited) => SendError::TimedOut { waited, resource, needed, free },
                }
            })?;
        }
        Ok(())
    }

    /// A socket that is full has room again when the peer has consumed something, and the peer says so after a few messages.
    fn note_full_socket(&mut self) {
        self.lanes.last_need = Need::Consumed(self.producer.consumed() + 1);
    }

    /// A call gave up in the middle of a message: the peer forgets the pieces it has.
    fn abort_pieces(&mut self, patience: Patience, made: &mut Option<Deadline>) -> Result<(), SendError> {
        self.lanes.in_pieces = false;
        if let Err(error) = self.claim_slow(descriptor::SIZE as usize, patience, made) {
            self.lanes.in_pieces = true;
            return Err(error);
        }
        self.publish_described(&Descriptor::new(Kind::Abort, 0), 0);
        Ok(())
    }
}
