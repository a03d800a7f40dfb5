//! What was sent and not consumed: how much, in which blocks, and the messages themselves.
//!
//! Promise: a message that its receiver never had can be taken back whole, on whatever lane it went; what a hostile peer can write to, the
//! ring and copies in the arena, may not be what was sent. Refusal: nothing here is used while both sides are well, but for the bytes that
//! no shared memory keeps.

use super::beside::no_memory;
use super::content::Content;
use super::lanes::Lanes;
use crate::error::SendError;
use crate::layout::Mark;
use crate::layout::descriptor::{Descriptor, Kind};
use crate::layout::exchange::BLOCKS;
use crate::os::payload::Sealed;
use crate::ring::{Producer, Violation};
use std::vec::Vec;

/// The most memory that is kept for the bytes of another message, in bytes.
pub(super) const MAX_SPARE: usize = 8 << 20;

/// A message whose bytes are not, or not all, in the ring or the arena: kept until it is consumed.
pub(super) enum InFlight {
    File(Sealed),
    Bytes(Vec<u8>),
}

impl Lanes {
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

    /// Forgets the messages in flight that were consumed.
    pub(super) fn prune(&mut self, consumed: u64) {
        while self.in_flight.front().is_some_and(|(number, _)| *number < consumed) {
            if let Some((_, InFlight::Bytes(bytes))) = self.in_flight.pop_front()
                && bytes.capacity() <= MAX_SPARE
            {
                self.spare = bytes;
            }
        }
    }

    /// Keeps the bytes of message `number` until it is consumed.
    pub(super) fn keep(&mut self, number: u64, content: &Content<'_>) {
        let mut bytes = core::mem::take(&mut self.spare);
        bytes.clear();
        bytes.reserve_exact(content.len as usize);
        content.slices().iter().for_each(|slice| bytes.extend_from_slice(slice));
        self.in_flight.push_back((number, InFlight::Bytes(bytes)));
    }

    /// The number of the first message, from `number` on, that may not have been consumed: a block that has come back was read, and so was
    /// everything before it.
    pub(super) fn first_undelivered(&self, producer: &Producer<'static>, number: u64) -> Result<u64, Violation> {
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
        // A hostile peer can write the records: each block is copied once, so that they cannot name more bytes than were sent.
        let mut copied = std::vec![false; BLOCKS as usize];
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
                        Kind::Block | Kind::Stream => {
                            let block = descriptor.place.block();
                            match copied.get_mut(usize::from(block)) {
                                Some(copied) if !*copied => *copied = true,
                                _ => {
                                    let (value, max) = (block.into(), BLOCKS - 1);
                                    let field = "block of an undelivered message (one for each)";
                                    return Err(Violation { field, value, min: 0, max }.into());
                                }
                            }
                            parts.extend(self.block(&descriptor)?);
                        }
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
    pub(super) fn whole(&self, number: u64) -> Option<Vec<u8>> {
        self.in_flight.iter().find_map(|(at, kept)| match kept {
            InFlight::Bytes(bytes) if *at == number => Some(bytes.clone()),
            _ => None,
        })
    }

    pub(super) fn block(&self, descriptor: &Descriptor) -> Result<Vec<u8>, SendError> {
        // The descriptors lie in memory that a hostile peer can write: what they say is checked like everything else.
        let found = self.lender.as_ref().and_then(|lender| lender.bytes(descriptor.place, descriptor.length));
        let Some(start) = found else {
            let value = descriptor.place.unit();
            return Err(Violation { field: "place of an undelivered message", value, min: 0, max: 0 }.into());
        };
        let len = descriptor.length as usize;
        let mut copy = Vec::with_capacity(len);
        // SAFETY: inside a mapped region; the vector has room. A hostile peer may write to what was copied in: the bytes are then arbitrary.
        unsafe {
            core::ptr::copy_nonoverlapping(start.as_ptr(), copy.as_mut_ptr(), len);
            copy.set_len(len);
        }
        Ok(copy)
    }

    pub(super) fn in_flight(&self, number: u64, descriptor: &Descriptor) -> Result<Vec<u8>, SendError> {
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
