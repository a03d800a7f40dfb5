//! What a receiver has beside the ring: the peer's arena, files, and records that come in packets.
//!
//! Promise: a message that comes out of here lies where its bytes may be read, whatever its descriptor said; one that cannot be had now,
//! for want of descriptors in this process say, stays where it is. Refusal: nothing here is on the way of a plain message.

use super::Receiver;
use crate::arena::borrower::{Borrower, WayBack};
use crate::arena::offer::{self, CHUNK, CHUNKS, WINDOW};
use crate::arena::progress;
use crate::error::{RecvError, TooShort};
use crate::layout::Mark;
use crate::layout::descriptor::{Descriptor, Kind};
use crate::link::Link;
use crate::message::{Body, Borrowed, Held, Hold, Keep, Other, Trust};
use crate::os::bell::Deadline;
use crate::os::carrier::{self, Filled};
use crate::os::files::{MAX_BYTES, Untaken};
use crate::os::payload;
use crate::os::region::Region;
use crate::os::segment::SegmentError;
use crate::ring::{Consumer, Inlet, Payload, RingMemory, Violation};
use crate::router::Lane;
use core::ops::ControlFlow;
use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;

/// Messages in packets after which the sender is told that they were consumed: fewer than its socket holds, however small they are.
const TELL_AFTER: u64 = 32;

/// The most memory that is kept for the pieces of another message, in bytes.
const MAX_SPARE: usize = 8 << 20;

/// A message that the sender is still copying.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growing {
    block: u16,
    /// Bytes of it that are known to be there.
    known: u64,
}

pub(crate) struct Incoming {
    borrower: Borrower,
    way_back: Option<Arc<WayBack>>,
    inlet: Option<Inlet<'static>>,
    /// The pieces of a message that came so far.
    pieces: Vec<u8>,
    /// What the pieces of an earlier message lay in, to be used again.
    spare: Vec<u8>,
    /// The next message is one that grows; it is ready when it has grown.
    growing: Option<Growing>,
    /// The peer's end is closed, and everything that came in packets is here.
    ended: bool,
    /// Credit could not be given yet: the socket was full.
    owes_credit: bool,
    violation: Option<Violation>,
    max_message: u64,
    /// Bytes of a message that comes in pieces: they lie in memory of this process.
    max_pieces: u64,
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

    /// Says whether a receiver that is about to sleep gives all credit back: not if each time costs a packet, and the sender does not
    /// need it.
    pub(super) fn flushes_credit(&self, link: &Link) -> bool {
        self.inlet.is_none() || link.own_credit.messages != u64::MAX
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

/// Why a message was not opened.
pub(super) enum Unopened {
    /// It is not complete yet.
    Growing,
    /// It is complete, and something failed.
    Error(RecvError),
}

impl<E: Into<RecvError>> From<E> for Unopened {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl<T: Trust> Receiver<T> {
    /// The message of a record, if it lies in a block and is complete: the usual case of those that are not plain.
    #[inline(always)]
    pub(super) fn in_block(&self, record: &Payload) -> Option<Body> {
        let (length, place) = record.plain_block()?;
        if length > self.incoming.max_message {
            return None;
        }
        let start = self.incoming.borrower.find(place, length).ok()?;
        Some(Body::new(start, length as usize, Hold::Block(place)))
    }

    /// What a record that is not plain stands for: a message to go on with, or nothing, and it was dealt with.
    pub(super) fn interpret(&mut self, record: &Payload) -> Result<Option<Descriptor>, RecvError> {
        if record.mark() == Mark::More {
            let have = self.incoming.pieces.len() as u64 + record.len() as u64;
            if have > self.incoming.max_pieces {
                let (value, max) = (have, self.incoming.max_pieces);
                return Err(self.condemn(Violation { field: "length of a message in pieces", value, min: 0, max }));
            }
            if self.incoming.pieces.is_empty() {
                self.incoming.pieces = core::mem::take(&mut self.incoming.spare);
            }
            if self.incoming.pieces.try_reserve(record.len()).is_err() {
                self.consumer.go_back(record);
                return Err(std::io::Error::from(std::io::ErrorKind::OutOfMemory).into());
            }
            record.append_to(&mut self.incoming.pieces);
            // The rest may need the room.
            self.release(0);
            return Ok(None);
        }
        let descriptor = record.descriptor().map_err(|violation| self.condemn(violation))?;
        self.check_kind(descriptor.kind).map_err(|violation| self.condemn(violation))?;
        match descriptor.kind {
            Kind::Abort => self.incoming.pieces = Vec::new(),
            Kind::Region => match self.add_region(&descriptor) {
                Ok(()) => {}
                Err(error) => {
                    // Without descriptors or memory of this process: it is tried again.
                    self.consumer.go_back(record);
                    return Err(error);
                }
            },
            Kind::Offer => self.decline(record, &descriptor)?,
            Kind::Retire => {
                let retired = self.incoming.borrower.retire(descriptor.place.region());
                retired.map_err(|violation| self.condemn(violation))?;
            }
            _ => {
                self.check_message(record, &descriptor).map_err(|violation| self.condemn(violation))?;
                return Ok(Some(descriptor));
            }
        }
        Ok(None)
    }

    /// Says whether a record of this kind can come on this connection.
    fn check_kind(&self, kind: Kind) -> Result<(), Violation> {
        let value = kind as u64;
        if !self.link.mode.has_arena() && !matches!(kind, Kind::Inline | Kind::Abort) {
            // Whoever shares no memory is not made to map any.
            let field = "kind of a descriptor where no memory is shared";
            return Err(Violation { field, value, min: Kind::Inline as u64, max: Kind::Abort as u64 });
        }
        if !self.incoming.pieces.is_empty() && !matches!(kind, Kind::Inline | Kind::Abort) {
            // Whatever begins with pieces ends with one.
            let field = "kind of a descriptor behind pieces";
            return Err(Violation { field, value, min: Kind::Inline as u64, max: Kind::Abort as u64 });
        }
        Ok(())
    }

    fn check_message(&self, record: &Payload, descriptor: &Descriptor) -> Result<(), Violation> {
        let bounds =
            |field, value, max| if value <= max { Ok(()) } else { Err(Violation { field, value, min: 0, max }) };
        let length = descriptor.length + self.incoming.pieces.len() as u64;
        bounds("length of a message", length, self.incoming.max_message)?;
        match descriptor.kind {
            Kind::Inline => {
                let max = record.behind_descriptor().len() as u64;
                bounds("length of a message behind its descriptor", descriptor.length, max)
            }
            Kind::Block | Kind::Stream => self.incoming.borrower.find(descriptor.place, descriptor.length).map(drop),
            Kind::Offer => self.incoming.borrower.find(descriptor.place, WINDOW).map(drop),
            Kind::File if descriptor.files == 0 => {
                Err(Violation { field: "files of a message in a file", value: 0, min: 1, max: 64 })
            }
            Kind::Packet => bounds("length of a message in a packet", descriptor.length, MAX_BYTES),
            _ => Ok(()),
        }
    }

    fn add_region(&mut self, descriptor: &Descriptor) -> Result<(), RecvError> {
        if descriptor.files != 1 {
            let violation = Violation { field: "files of a region", value: descriptor.files.into(), min: 1, max: 1 };
            return Err(self.condemn(violation));
        }
        self.incoming.borrower.check(descriptor).map_err(|violation| self.condemn(violation))?;
        let Some(file) = self.get_beside(1)?.pop() else { return Ok(()) };
        let region = Region::attach(file, descriptor.length).map_err(|error| self.refused_memory(error))?;
        self.finish_beside()?;
        self.incoming.borrower.add(descriptor.place.region(), region);
        Ok(())
    }

    /// The files beside the message that is received. Until they are finished with, it can be received again.
    fn get_beside(&mut self, count: usize) -> Result<Vec<rustix::fd::OwnedFd>, RecvError> {
        self.link.files.get(count).map_err(|untaken| self.untaken(untaken))
    }

    fn finish_beside(&mut self) -> Result<(), RecvError> {
        self.link.files.finish().map_err(|untaken| self.untaken(untaken))
    }

    fn untaken(&self, untaken: Untaken) -> RecvError {
        match untaken {
            Untaken::Violation(violation) => self.condemn(violation),
            Untaken::Os(error) => error.into(),
        }
    }

    /// Memory that the peer sent and that is not what it must be is its fault; that there is too little, ours.
    fn refused_memory(&mut self, error: SegmentError) -> RecvError {
        match error {
            SegmentError::NoMemory { source, .. } | SegmentError::Os { source, .. } => source.into(),
            SegmentError::Field { field, value, expected } => {
                self.condemn(Violation { field, value, min: expected, max: expected })
            }
            SegmentError::Capacity { capacity } => {
                self.condemn(Violation { field: "capacity", value: capacity, min: 0, max: 0 })
            }
        }
    }

    /// Bytes in the message that a descriptor ends.
    pub(super) fn length(&self, descriptor: &Descriptor) -> usize {
        self.incoming.pieces.len() + descriptor.length as usize
    }

    /// Opens a message: its bytes are where they may be read afterwards.
    pub(super) fn open(&mut self, record: &Payload, descriptor: &Descriptor) -> Result<Body, Unopened> {
        let len = descriptor.length as usize;
        match descriptor.kind {
            Kind::Stream if self.grown(descriptor)? < descriptor.length => return Err(Unopened::Growing),
            _ => {}
        }
        let files = match descriptor.files {
            0 => Vec::new(),
            count => {
                let files = self.get_beside(count.into())?;
                // A message in a file may still find no address space.
                if descriptor.kind != Kind::File {
                    self.finish_beside()?;
                }
                files
            }
        };
        let mut other = Other { files, ..Other::default() };
        let start = match descriptor.kind {
            Kind::Block | Kind::Stream => {
                let found = self.incoming.borrower.find(descriptor.place, descriptor.length);
                let start = found.map_err(|violation| self.condemn(violation))?;
                if other.files.is_empty() {
                    return Ok(Body::new(start, len, Hold::Block(descriptor.place)));
                }
                (other.lane, other.block) = (Some(Lane::Arena), Some(descriptor.place));
                start
            }
            Kind::File => {
                let file = other.files.remove(0);
                let payload = payload::Payload::attach(file, descriptor.length);
                let payload = payload.map_err(|error| self.refused_memory(error))?;
                self.finish_beside()?;
                let start = payload.pointer();
                (other.lane, other.file) = (Some(Lane::File), Some(payload));
                start
            }
            Kind::Packet => {
                let mut bytes = core::mem::take(&mut self.incoming.spare);
                bytes.resize(len, 0);
                self.take_packet(&mut bytes)?;
                self.own(&mut other, Lane::Kernel, bytes)
            }
            _ => {
                let inline = record.behind_descriptor();
                if other.files.is_empty() && self.incoming.pieces.is_empty() {
                    return Ok(Body::new(inline.as_ptr(), len, Hold::Record));
                }
                let mut bytes = core::mem::take(&mut self.incoming.pieces);
                let before = bytes.len();
                inline.append_to(&mut bytes);
                // The record may have more bytes than its descriptor says.
                bytes.truncate(before + len);
                let lane = self.queue_lane();
                let len = bytes.len();
                let start = self.own(&mut other, lane, bytes);
                return Ok(Body::new(start, len, Hold::Other(Box::new(other))));
            }
        };
        Ok(Body::new(start, len, Hold::Other(Box::new(other))))
    }

    fn own(&self, other: &mut Other, lane: Lane, bytes: Vec<u8>) -> *const u8 {
        let start = bytes.as_ptr();
        (other.lane, other.bytes) = (Some(lane), Some(bytes));
        start
    }

    fn take_packet(&mut self, target: &mut [u8]) -> Result<(), RecvError> {
        self.link.files.take_bytes(target).map_err(|untaken| self.untaken(untaken))
    }

    /// The lane of messages whose bytes are in their records.
    fn queue_lane(&self) -> Lane {
        if self.incoming.inlet.is_some() { Lane::Kernel } else { Lane::Inline }
    }

    pub(crate) fn lane_of(&self, hold: &Hold) -> Lane {
        match hold {
            Hold::Record => self.queue_lane(),
            Hold::Block(_) => Lane::Arena,
            Hold::Other(other) => other.lane.unwrap_or(self.queue_lane()),
        }
    }

    /// Bytes that are written of a message that grows; at least `known` were, so far.
    fn grown(&mut self, descriptor: &Descriptor) -> Result<u64, RecvError> {
        let known = self.incoming.growing.map_or(0, |growing| growing.known);
        let block = descriptor.place.block();
        let Some(way_back) = &self.incoming.way_back else { return Ok(0) };
        let grown = progress::read(way_back.progress(block), known, descriptor.length);
        let grown = grown.map_err(|violation| self.condemn(violation))?;
        let growing = Growing { block, known: grown };
        self.incoming.growing = (grown < descriptor.length).then_some(growing);
        Ok(grown)
    }

    /// Says whether a message is still being written.
    pub(super) fn is_growing(&mut self, descriptor: &Descriptor) -> Result<bool, RecvError> {
        Ok(descriptor.kind == Kind::Stream && self.grown(descriptor)? < descriptor.length)
    }

    /// Copies a message that may still be written, close behind the sender.
    pub(super) fn follow(
        &mut self,
        descriptor: &Descriptor,
        target: &mut [u8],
        deadline: &impl Fn() -> Deadline,
        made: &mut Option<Deadline>,
    ) -> Result<(), RecvError> {
        let found = self.incoming.borrower.find(descriptor.place, descriptor.length);
        let start = found.map_err(|violation| self.condemn(violation))?;
        let mut done = 0;
        loop {
            let grown = self.grown(descriptor)? as usize;
            // SAFETY: inside the region, written as far as the progress says; the target is as long as the message.
            unsafe { core::ptr::copy_nonoverlapping(start.add(done), target.as_mut_ptr().add(done), grown - done) };
            done = grown;
            if done == target.len() {
                return Ok(());
            }
            self.wait_ready(deadline, made)?;
        }
    }

    /// The number of an offer, which is checked.
    fn offer_number(&mut self, record: &Payload, descriptor: &Descriptor) -> Result<u32, RecvError> {
        let number = record.third_word().unwrap_or(u64::MAX);
        let checked = u32::try_from(number).map_err(|_| Violation {
            field: "number of an offer",
            value: number,
            min: 0,
            max: u32::MAX.into(),
        });
        let checked = self.check_kind(descriptor.kind).and(checked);
        let checked = checked.and_then(|number| self.check_message(record, descriptor).map(|()| number));
        checked.map_err(|violation| self.condemn(violation))
    }

    /// An offer that nobody waits for with a buffer: the sender sends the message otherwise.
    fn decline(&mut self, record: &Payload, descriptor: &Descriptor) -> Result<(), RecvError> {
        let number = self.offer_number(record, descriptor)?;
        self.end_offer(descriptor, Some(number));
        Ok(())
    }

    /// Gives the window back; declines the offer if it is not over. The record stands for no message.
    fn end_offer(&mut self, descriptor: &Descriptor, decline: Option<u32>) {
        self.incoming.growing_is_over();
        self.release(0);
        if let (Some(way_back), Some(number)) = (&self.incoming.way_back, decline) {
            offer::decline(way_back.taken(descriptor.place.block()), number);
        }
        self.give_back_one(Hold::Block(descriptor.place));
    }

    /// Takes an offer into `target`, which has the length of the message. False: it was withdrawn.
    fn take_offer(
        &mut self,
        descriptor: &Descriptor,
        number: u32,
        target: &mut [u8],
        deadline: &impl Fn() -> Deadline,
        made: &mut Option<Deadline>,
    ) -> Result<bool, RecvError> {
        let found = self.incoming.borrower.find(descriptor.place, WINDOW);
        let window = found.map_err(|violation| self.condemn(violation))?;
        let Some(way_back) = self.incoming.way_back.clone() else { return Ok(false) };
        let block = descriptor.place.block();
        let (chunks, mut done, mut known) = (offer::chunks(descriptor.length), 0, 0);
        let say = |link: &Link, done| {
            offer::take(way_back.taken(block), number, done);
            if way_back.call() {
                link.space.ring();
            }
        };
        say(&self.link, 0);
        loop {
            let written = offer::written(way_back.progress(block), known, descriptor.length);
            let Some(written) = written.map_err(|violation| self.condemn(violation))? else {
                self.end_offer(descriptor, None);
                return Ok(false);
            };
            let ready = if written == descriptor.length { chunks } else { written / CHUNK };
            while done < ready {
                let (start, end) = (done * CHUNK, ((done + 1) * CHUNK).min(descriptor.length));
                let len = (end - start) as usize;
                // SAFETY: inside the window and the target; the sender has written the chunk and waits until it is read.
                unsafe {
                    let source = window.add((done % CHUNKS * CHUNK) as usize);
                    core::ptr::copy_nonoverlapping(source, target.as_mut_ptr().add(start as usize), len);
                }
                done += 1;
                if done < chunks {
                    say(&self.link, done);
                }
            }
            if done == chunks {
                // Consumed first, and said after it: a sender that knows may forget the message.
                self.incoming.growing_is_over();
                self.release(1);
                say(&self.link, done);
                self.give_back_one(Hold::Block(descriptor.place));
                return Ok(true);
            }
            known = written;
            self.incoming.growing = Some(Growing { block, known });
            if let Err(error) = self.wait_ready(deadline, made) {
                // What was read is lost to the buffer; the sender starts again, in another way.
                self.end_offer(descriptor, Some(number));
                return Err(error);
            }
        }
    }

    /// Says whether a record is an offer of a message that fits a buffer of `len` bytes.
    pub(super) fn is_offer_for(&self, record: &Payload, len: usize) -> bool {
        let offered = |descriptor: Descriptor| descriptor.kind == Kind::Offer && descriptor.length <= len as u64;
        record.is_described() && record.descriptor().is_ok_and(offered)
    }

    /// Takes an [offer](Self::is_offer_for); `None` if it was withdrawn.
    pub(super) fn receive_offer(
        &mut self,
        record: &Payload,
        target: &mut [u8],
        deadline: &impl Fn() -> Deadline,
        made: &mut Option<Deadline>,
    ) -> Result<Option<usize>, RecvError> {
        let descriptor = record.descriptor().map_err(|violation| self.condemn(violation))?;
        let number = self.offer_number(record, &descriptor)?;
        // Looked at a second time: the peer may have written meanwhile.
        let len = descriptor.length as usize;
        let Some(target) = target.get_mut(..len) else {
            self.end_offer(&descriptor, Some(number));
            return Ok(None);
        };
        let taken = self.take_offer(&descriptor, number, target, deadline, made)?;
        Ok(taken.then_some(len))
    }

    /// Receives a message into `target`; its record is consumed. `Continue`: its bytes are not for copying piece by piece.
    pub(super) fn receive_into(
        &mut self,
        record: &Payload,
        descriptor: &Descriptor,
        target: &mut [u8],
        deadline: &impl Fn() -> Deadline,
        made: &mut Option<Deadline>,
    ) -> Result<ControlFlow<usize>, RecvError> {
        let len = self.length(descriptor);
        let Some(target) = target.get_mut(..len) else {
            let (message, buffer) = (len, target.len());
            self.consumer.go_back(record);
            return Err(TooShort { message, buffer }.into());
        };
        match descriptor.kind {
            Kind::Stream if descriptor.files == 0 => {
                if let Err(error) = self.follow(descriptor, target, deadline, made) {
                    self.incoming.growing_is_over();
                    self.consumer.go_back(record);
                    return Err(error);
                }
                self.release_hold(Hold::Block(descriptor.place));
            }
            Kind::Packet if descriptor.files == 0 => {
                if let Err(error) = self.take_packet(target) {
                    self.consumer.go_back(record);
                    return Err(error);
                }
                self.release_hold(Hold::Other(Box::default()));
            }
            _ => return Ok(ControlFlow::Continue(())),
        }
        Ok(ControlFlow::Break(len))
    }

    /// Consumes the record of a message, and gives back what it holds.
    #[cold]
    pub(crate) fn release_hold(&mut self, hold: Hold) {
        // First the record: a sender whose peer dies between the two must not find a message undelivered whose block it lent again.
        self.release(1);
        self.give_back_one(hold);
    }

    #[cold]
    pub(crate) fn give_back(&mut self, holds: Vec<Hold>) {
        holds.into_iter().for_each(|hold| self.give_back_one(hold));
    }

    fn give_back_one(&mut self, hold: Hold) {
        let block = match hold {
            Hold::Record => return,
            Hold::Block(place) => Some(place),
            Hold::Other(other) => {
                let mut other = other;
                let block = other.block;
                // A large one would be kept for nothing.
                self.incoming.spare =
                    other.bytes.take().filter(|bytes| bytes.capacity() <= MAX_SPARE).unwrap_or_default();
                self.incoming.spare.clear();
                drop(other);
                // The sender keeps files and copies until it hears of this.
                if self.consumer.flush_credit() {
                    self.incoming.call(&self.link);
                }
                block
            }
        };
        if let (Some(place), Some(way_back)) = (block, &self.incoming.way_back)
            && self.link.is_original()
            && way_back.give(place.block())
        {
            self.link.space.ring();
        }
    }

    /// Keeps a message while others are received.
    pub(crate) fn hold(&mut self, body: Body, copied: Option<Vec<u8>>) -> Held<T> {
        let lane = self.lane_of(&body.hold);
        let (start, len) = body.parts();
        self.release(1);
        let (block, other) = match body.hold {
            Hold::Record => (None, Other { bytes: copied, ..Other::default() }),
            Hold::Block(place) => (Some(place), Other::default()),
            Hold::Other(other) => {
                if self.consumer.flush_credit() {
                    self.incoming.call(&self.link);
                }
                (other.block, *other)
            }
        };
        let Other { file, bytes, files, .. } = other;
        let borrowed = block.and_then(|place| {
            let region = self.incoming.borrower.region(place)?;
            let way_back = self.incoming.way_back.clone()?;
            Some(Borrowed { block: place.block(), way_back, _region: region, link: self.link.clone() })
        });
        let (start, keep) = match (borrowed, file) {
            (Some(borrowed), _) => (start, Keep::Block(borrowed)),
            (None, Some(file)) => (start, Keep::File(file)),
            (None, None) => {
                let bytes = bytes.unwrap_or_default();
                (bytes.as_ptr(), Keep::Bytes(bytes))
            }
        };
        Held::new(start, len, keep, files, lane)
    }
}
