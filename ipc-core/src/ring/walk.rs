//! The way from record to record, with everything a peer may have written checked on it.
//!
//! Promise: an extent that comes out of here lies inside the ring's data, whatever the memory holds, and every
//! step moves forward. Refusal: it does not know who walks; the consumer and the recovery of undelivered
//! messages both do.

use super::RingMemory;
use crate::layout::{HEADER, Header, LINE, max_record, round_up, stamp};
use crate::sync::{Ordering, RingBytes};

/// A word in shared memory that no honest peer writes. The connection it came from cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer broke the protocol: {field} is {value}, allowed is {min} to {max}")]
pub struct Violation {
    /// Which word.
    pub field: &'static str,
    /// What it held.
    pub value: u64,
    /// The smallest value allowed.
    pub min: u64,
    /// The largest value allowed.
    pub max: u64,
}

/// Where the payload of one record lies; checked to be inside the data area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Position of the first payload byte.
    pub(super) position: u64,
    /// Payload bytes.
    pub(super) length: u64,
}

/// A place in the sequence of records.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    bytes: RingBytes,
    shift: u32,
    /// Position of the next header.
    pub(super) cursor: u64,
    /// The next record belongs to the publication of the last one, so it must be there.
    chained: bool,
}

impl Walk {
    pub(super) fn new(memory: &RingMemory<'_>, cursor: u64) -> Self {
        Self { bytes: memory.bytes(), shift: memory.shift(), cursor, chained: false }
    }

    /// Says whether the next step finds a record (or a violation).
    #[inline(always)]
    pub(super) fn ready(&self) -> bool {
        // A hint: what counts is the acquiring load in `step`.
        self.chained
            || Header::from_bits(self.bytes.word(self.cursor).load(Ordering::Relaxed)).stamp()
                == stamp(self.cursor, self.shift)
    }

    /// The next record, or `None` when nothing more is published.
    #[inline(always)]
    pub(super) fn step(&mut self) -> Result<Option<Extent>, Violation> {
        loop {
            // [A1] takes over the payloads of the publication; pairs with [P1] in reserve.rs.
            let header = Header::from_bits(self.bytes.word(self.cursor).load(Ordering::Acquire));
            if header.stamp() != stamp(self.cursor, self.shift) {
                return if self.chained { Err(self.missing(header)) } else { Ok(None) };
            }
            let index = self.bytes.index(self.cursor);
            let capacity = self.bytes.capacity();
            if header.is_pad() {
                self.skip(header, index)?;
                continue;
            }
            let length = header.length();
            let max = max_record(capacity).min(capacity - index - HEADER);
            if length > max {
                return Err(Violation { field: "record length", value: length, min: 0, max });
            }
            let position = self.cursor + HEADER;
            self.chained = header.more();
            self.cursor = round_up(position + length, if self.chained { HEADER } else { LINE });
            return Ok(Some(Extent { position, length }));
        }
    }

    /// Goes on at the start of the next lap. Refused where it would be no step at all, so that no peer can make us turn
    /// for ever.
    #[cold]
    fn skip(&mut self, header: Header, index: u64) -> Result<(), Violation> {
        // A walk that begins inside a publication is not chained yet, so MORE may come as news, but never go.
        if index == 0 || header.length() != 0 || (self.chained && !header.more()) {
            let pad = Header::pad(header.stamp());
            let (min, max) = (pad.bits(), pad.with_more().bits());
            return Err(Violation { field: "padding record", value: header.bits(), min, max });
        }
        self.chained = header.more();
        self.cursor += self.bytes.capacity() - index;
        Ok(())
    }

    #[cold]
    fn missing(&self, header: Header) -> Violation {
        let expected = u64::from(stamp(self.cursor, self.shift));
        let value = u64::from(header.stamp());
        Violation { field: "stamp of a record inside a publication", value, min: expected, max: expected }
    }
}
