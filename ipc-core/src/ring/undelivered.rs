//! What a consumer that died left unread.

use super::read::Payload;
use super::walk::Walk;
use super::{RingMemory, Violation};
use crate::sync::Ordering;
use core::marker::PhantomData;

/// The committed messages that the consumer has not consumed, oldest first.
///
/// They can be counted and copied out of the ring as often as wanted; nothing is consumed by it. A message counts
/// as consumed when the consumer's guard of it was dropped, so one that was being read at the moment of death is
/// still here.
#[derive(Clone, Copy)]
pub struct Undelivered<'p> {
    walk: Walk,
    end: u64,
    producer: PhantomData<&'p ()>,
}

impl<'p> Undelivered<'p> {
    pub(super) fn new(memory: &RingMemory<'_>, credit: u64, tail: u64) -> Result<Self, Violation> {
        // [A3] what the consumer finished reading; pairs with [P3] in read.rs.
        let head = memory.control().consumer.head.load(Ordering::Acquire);
        if head < credit || head > tail || !head.is_multiple_of(crate::layout::HEADER) {
            return Err(Violation { field: "head", value: head, min: credit, max: tail });
        }
        Ok(Self { walk: Walk::new(memory, head), end: tail, producer: PhantomData })
    }

    /// Number of messages.
    ///
    /// # Errors
    /// [`Violation`] if the consumer destroyed the records.
    pub fn count(mut self) -> Result<u64, Violation> {
        let mut count = 0;
        while let Some(payload) = self.next_payload()? {
            count += u64::from(payload.ends_message());
        }
        Ok(count)
    }

    /// First byte and length of the next record, or `None` when there is no more. The bytes stay where they are while the
    /// producer publishes nothing.
    ///
    /// # Errors
    /// [`Violation`] if the consumer destroyed the records.
    pub fn try_next(&mut self) -> Result<Option<(*const u8, usize)>, Violation> {
        Ok(self.next_payload()?.map(|payload| (payload.as_ptr(), payload.len())))
    }

    pub(crate) fn next_payload(&mut self) -> Result<Option<Payload>, Violation> {
        if self.walk.position() >= self.end {
            return Ok(None);
        }
        match Payload::next(&mut self.walk)? {
            Some(payload) => Ok(Some(payload)),
            None if self.walk.position() >= self.end => Ok(None),
            None => Err(Violation {
                field: "undelivered record",
                value: self.walk.position(),
                min: self.end,
                max: self.end,
            }),
        }
    }
}
