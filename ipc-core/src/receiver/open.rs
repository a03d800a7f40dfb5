//! From a record to the bytes of its message: descriptors, files, packets, pieces.
//!
//! Promise: what comes out lies where it may be read, whatever the descriptor said; a message that cannot be had now, for want of
//! descriptors in this process say, stays where it is. Refusal: nothing here is on the way of a plain message.

use super::Receiver;
use crate::arena::offer::WINDOW;
use crate::error::RecvError;
use crate::layout::Mark;
use crate::layout::descriptor::{Descriptor, Kind};
use crate::message::{Body, Hold, Other, Trust};
use crate::os::files::{MAX_BYTES, Untaken};
use crate::os::payload;
use crate::os::region::Region;
use crate::os::segment::SegmentError;
use crate::ring::{Payload, Violation};
use crate::router::Lane;
use std::boxed::Box;
use std::vec::Vec;

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
    pub(crate) fn in_block(&self, record: &Payload) -> Option<Body> {
        let (length, place) = record.plain_block()?;
        if length > self.incoming.max_message {
            return None;
        }
        let start = self.incoming.borrower.find(place, length).ok()?;
        if let Some(way_back) = &self.incoming.way_back {
            way_back.prepare();
        }
        Some(Body::in_block(start, record.head(), length as usize, place))
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
    pub(super) fn check_kind(&self, kind: Kind) -> Result<(), Violation> {
        let value = kind as u64;
        if !self.link.mode.has_arena() && !matches!(kind, Kind::Inline | Kind::Abort) {
            // Whoever shares no memory is not made to map any.
            let field = "kind of a descriptor where no memory is shared";
            return Err(Violation { field, value, min: Kind::Inline as u64, max: Kind::Abort as u64 });
        }
        if self.link.mode.queues_in_socket() && matches!(kind, Kind::Stream | Kind::Offer) {
            // Whoever follows a copy looks at memory alone; what comes in packets meanwhile, the peer's end too, would not be seen.
            let field = "kind of a descriptor in a packet";
            return Err(Violation { field, value, min: Kind::Inline as u64, max: Kind::Abort as u64 });
        }
        if !self.incoming.pieces.is_empty() && !matches!(kind, Kind::Inline | Kind::Abort) {
            // Whatever begins with pieces ends with one.
            let field = "kind of a descriptor behind pieces";
            return Err(Violation { field, value, min: Kind::Inline as u64, max: Kind::Abort as u64 });
        }
        Ok(())
    }

    pub(super) fn check_message(&self, record: &Payload, descriptor: &Descriptor) -> Result<(), Violation> {
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

    pub(super) fn add_region(&mut self, descriptor: &Descriptor) -> Result<(), RecvError> {
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
    pub(super) fn get_beside(&mut self, count: usize) -> Result<Vec<rustix::fd::OwnedFd>, RecvError> {
        self.link.files.get(count).map_err(|untaken| self.untaken(untaken))
    }

    pub(super) fn finish_beside(&mut self) -> Result<(), RecvError> {
        self.link.files.finish().map_err(|untaken| self.untaken(untaken))
    }

    pub(super) fn untaken(&self, untaken: Untaken) -> RecvError {
        match untaken {
            Untaken::Violation(violation) => self.condemn(violation),
            Untaken::Os(error) => error.into(),
        }
    }

    /// Memory that the peer sent and that is not what it must be is its fault; that there is too little, ours.
    pub(super) fn refused_memory(&mut self, error: SegmentError) -> RecvError {
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

    pub(super) fn own(&self, other: &mut Other, lane: Lane, bytes: Vec<u8>) -> *const u8 {
        let start = bytes.as_ptr();
        (other.lane, other.bytes) = (Some(lane), Some(bytes));
        start
    }

    pub(super) fn take_packet(&mut self, target: &mut [u8]) -> Result<(), RecvError> {
        self.link.files.take_bytes(target).map_err(|untaken| self.untaken(untaken))
    }

    /// The lane of messages whose bytes are in their records.
    pub(crate) fn queue_lane(&self) -> Lane {
        if self.incoming.inlet.is_some() { Lane::Kernel } else { Lane::Inline }
    }

    pub(crate) fn lane_of(&self, hold: &Hold) -> Lane {
        match hold {
            Hold::Record => self.queue_lane(),
            Hold::Block(_) => Lane::Arena,
            Hold::Other(other) => other.lane.unwrap_or(self.queue_lane()),
        }
    }
}
