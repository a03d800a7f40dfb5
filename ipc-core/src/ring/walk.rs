//! The way from record to record, with everything a peer may have written checked on it.
//!
//! Promise: an extent that comes out of here lies inside the ring's data, whatever the memory holds, and every
//! step moves forward. Refusal: it does not know who walks; the consumer and the recovery of undelivered
//! messages both do.

use super::RingMemory;
use super::cursor::Cursor;
#[cfg(feature = "std")]
use super::window::ReadWindow;
use crate::layout::{HEADER, Header, Mark, max_record, round_up};
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
    /// Index of the first payload byte.
    pub(super) index: u64,
    /// Payload bytes.
    pub(super) length: u64,
    pub(super) mark: Mark,
}

/// A place in the sequence of records.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    bytes: RingBytes,
    /// The longest payload a record may have.
    longest: u64,
    /// Where the next header is.
    cursor: Cursor,
    /// Payload length of the last record, and the bytes from its header to the next one.
    last: u64,
    stride: u64,
}

impl Walk {
    #[cfg(feature = "std")]
    pub(super) fn window(&self) -> ReadWindow {
        let (index, stamp) = (self.cursor.index, self.cursor.stamp);
        ReadWindow { base: self.bytes.pointer(0), capacity: self.bytes.capacity(), index, stamp, longest: self.longest }
    }

    /// Goes on to an index of this lap.
    #[cfg(feature = "std")]
    pub(super) fn go_on(&mut self, index: u64) {
        debug_assert!(self.cursor.index <= index && index < self.bytes.capacity());
        self.cursor.index = index;
    }

    pub(super) fn new(memory: &RingMemory<'_>, position: u64) -> Self {
        let capacity = memory.capacity();
        Self {
            bytes: memory.bytes(),
            longest: max_record(capacity),
            cursor: Cursor::new(position, capacity),
            last: 0,
            stride: HEADER,
        }
    }

    /// Position of the next header.
    #[inline(always)]
    pub(super) fn position(&self) -> u64 {
        self.cursor.position()
    }

    /// Goes back to the record that the last step found.
    #[cfg(feature = "std")]
    pub(super) fn go_back(&mut self, extent: &Extent) {
        let capacity = self.bytes.capacity();
        let index = extent.index - HEADER;
        // The step behind the end of a lap began in the lap before.
        let in_lap = index < self.cursor.index;
        let start = if in_lap { self.cursor.start } else { self.cursor.start.wrapping_sub(capacity) };
        self.cursor = Cursor::new(start.wrapping_add(index), capacity);
    }

    #[inline(always)]
    pub(super) fn bytes(&self) -> RingBytes {
        self.bytes
    }

    /// Says whether the next step finds a record (or a violation).
    #[inline(always)]
    pub(super) fn ready(&self) -> bool {
        // A hint: what counts is the acquiring load in `step`.
        let header = Header::from_bits(self.bytes.word(self.cursor.index).load(Ordering::Relaxed));
        header.has_stamp(self.cursor.stamp)
    }

    /// Asks for the line of the next header ahead of a look at it.
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(super) fn prefetch(&self) {
        self.bytes.prefetch_read(self.cursor.index);
    }

    /// The next record, or `None` when nothing more is published.
    #[inline(always)]
    pub(super) fn step(&mut self) -> Result<Option<Extent>, Violation> {
        loop {
            // [A1] takes over the payloads of the publication; pairs with [P1] in reserve.rs.
            let header = Header::from_bits(self.bytes.word(self.cursor.index).load(Ordering::Acquire));
            if !header.has_stamp(self.cursor.stamp) {
                return Ok(None);
            }
            let index = self.cursor.index + HEADER;
            let length = header.length();
            let end = index + length;
            // Not `||`: one branch, never taken, is cheaper than two.
            if (length > self.longest) | (end > self.bytes.capacity()) {
                if let Some(extent) = self.described(header) {
                    return Ok(Some(extent));
                }
                match self.uncommon(header)? {
                    Some(extent) => return Ok(Some(extent)),
                    None => continue,
                }
            }
            // Streams of equal messages: taking the stride from the last record instead of this header lets the processor
            // fetch the next header before this one has arrived. A branch, which is predicted, and not a computation.
            if length != self.last {
                self.change_stride(length);
            }
            self.cursor.advance(self.cursor.index + self.stride, self.bytes.capacity());
            return Ok(Some(Extent { index, length, mark: Mark::Plain }));
        }
    }

    /// A record that is a descriptor, with or without a head: the usual one of those with a mark.
    #[inline(always)]
    fn described(&mut self, header: Header) -> Option<Extent> {
        let length = header.short_described()?;
        let index = self.cursor.index + HEADER;
        let next = round_up(index + length, HEADER);
        // A record of this length fits every ring, if not in what is left of the lap.
        if next > self.bytes.capacity() {
            return None;
        }
        self.cursor.advance(next, self.bytes.capacity());
        Some(Extent { index, length, mark: Mark::Described })
    }

    #[inline(never)]
    fn change_stride(&mut self, length: u64) {
        self.last = length;
        self.stride = round_up(HEADER + length, HEADER);
    }

    /// A record with a mark; or `None`, and the walk goes over padding to the start of the next lap. Anything else that brings us here
    /// is a violation, and so is padding where it would be no step at all: no peer can make us turn for ever.
    #[inline(never)]
    fn uncommon(&mut self, header: Header) -> Result<Option<Extent>, Violation> {
        let capacity = self.bytes.capacity();
        if let Some((mark, length)) = header.marked_length() {
            let index = self.cursor.index + HEADER;
            if (length <= self.longest) & (index + length <= capacity) {
                self.cursor.advance(round_up(index + length, HEADER), capacity);
                return Ok(Some(Extent { index, length, mark }));
            }
        }
        if !header.is_pad() {
            let max = self.longest.min(capacity - self.cursor.index - HEADER);
            let value = header.marked_length().map_or(header.length(), |(_, length)| length);
            return Err(Violation { field: "record length", value, min: 0, max });
        }
        if self.cursor.index == 0 {
            return Err(Violation { field: "padding at the start of a lap", value: header.bits(), min: 0, max: 0 });
        }
        self.cursor = self.cursor.next_lap(capacity);
        Ok(None)
    }
}
