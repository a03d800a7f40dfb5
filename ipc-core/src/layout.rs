//! The byte layout of shared memory, drawn once: record headers, the control block of a ring, the segment header.
//!
//! Nothing else in the crate holds an offset or a bit number of its own. What this file does not do: it
//! never judges values; the readers of shared memory do, where they use them.
//!
//! # A ring
//!
//! ```text
//! byte 0       128      256      384                          384 + capacity
//!      +--------+--------+--------+-----------------------------+
//!      |producer|consumer|consumer| data: capacity bytes        |
//!      |signals |progress|signals | (a power of two)            |
//!      +--------+--------+--------+-----------------------------+
//! ```
//!
//! Each third of the control block has one writer. The consumer's *progress* is written for every message and read by nobody
//! in steady state; the *signals* are read for every publication and written rarely, so that they stay in the
//! cache of the side that reads them. They are 128 bytes apart because processors prefetch the neighbour of a
//! 64-byte line.
//!
//! # Records
//!
//! ```text
//! position p (multiple of 8)
//!   +---------+-----------+---------+-----------+ - - -
//!   | header  | payload   | header  | payload   |
//!   |         | to 8 B    |         | to 8 B    |
//!   +---------+-----------+---------+-----------+ - - -
//!   header: bits 63..32 stamp   bit 31 zero   bits 30..28 mark   bits 27..0 payload length in bytes
//! ```
//!
//! A position is a count of bytes since the ring began; it never wraps. The stamp is the low half of the
//! lap (position / capacity) plus one, so that memory which is zeroed when the ring begins holds no valid header. Three marks, at most one in a
//! header: `PAD` (bit 30) says that nothing but the end of the area follows: go on at the start of the next lap. `DESCRIBED` (bit 29) says
//! that the payload begins with a descriptor of where the message lies. `MORE` (bit 28) says that the message goes on in the next record. A *publication* is one or more records whose first header is stored
//! last; the word behind it never looks like the header that is due there, so what follows is seen only when it is published.

pub(crate) mod descriptor;
pub(crate) mod exchange;
mod segment;

#[cfg(feature = "std")]
pub(crate) use segment::exchange_offset;
pub use segment::{Geometry, SEGMENT_HEADER_SIZE, SEGMENT_MAGIC, SegmentHeader, ring_size};

use crate::sync::{AtomicU32, AtomicU64, layout_assert};
use crossbeam_utils::CachePadded;

/// Size of a record header, in bytes; payloads start on multiples of it.
pub const HEADER: u64 = 8;
/// Smallest capacity of a ring, in bytes.
pub const MIN_CAPACITY: u64 = 4 << 10;
/// Largest capacity of a ring, in bytes.
pub const MAX_CAPACITY: u64 = 1 << 30;
/// Capacity a direction of a connection has unless told otherwise, in bytes.
///
/// Below about 128 KiB the two sides collide in the same lines and throughput halves.
pub const DEFAULT_CAPACITY: u64 = 256 << 10;

/// The payload lengths that a ring of `capacity` bytes takes: 0 to this many bytes, so that record and
/// header together are a quarter of the ring.
#[must_use]
pub const fn max_record(capacity: u64) -> u64 {
    capacity / 4 - HEADER
}

/// Rounds up to the next multiple of `step`, a power of two.
#[inline(always)]
pub(crate) const fn round_up(value: u64, step: u64) -> u64 {
    (value + step - 1) & !(step - 1)
}

/// A record header: stamp, flags and payload length in one word, so that one store publishes all three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header(u64);

impl Header {
    const STAMP_SHIFT: u32 = 32;
    const PAD: u64 = 1 << 30;
    const DESCRIBED: u64 = 1 << 29;
    const MORE: u64 = 1 << 28;
    const LENGTH: u64 = Self::MORE - 1;

    /// The stamp of a lap, where it stands in a header.
    #[inline(always)]
    pub(crate) const fn stamp_of_lap(lap: u64) -> u64 {
        lap.wrapping_add(1) << Self::STAMP_SHIFT
    }

    /// The stamp of the lap after that of `stamp`.
    #[inline(always)]
    pub(crate) const fn next_stamp(stamp: u64) -> u64 {
        stamp.wrapping_add(1 << Self::STAMP_SHIFT)
    }

    /// A word that is no header in the lap of `stamp`. Not simply zero: once in 2^32 laps that is a valid one.
    #[inline(always)]
    pub(crate) const fn none(stamp: u64) -> Self {
        Self(stamp ^ 1 << Self::STAMP_SHIFT)
    }

    /// `length` is less than a quarter of [`MAX_CAPACITY`], so it stays clear of the marks.
    #[inline(always)]
    pub(crate) const fn record(stamp: u64, length: u64, mark: Mark) -> Self {
        Self(stamp | length | mark as u64)
    }

    #[inline(always)]
    pub(crate) const fn pad(stamp: u64) -> Self {
        Self(stamp | Self::PAD)
    }

    #[inline(always)]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline(always)]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// Says whether the header belongs to the lap of `stamp`.
    #[inline(always)]
    pub(crate) const fn has_stamp(self, stamp: u64) -> bool {
        (self.0 ^ stamp) >> Self::STAMP_SHIFT == 0
    }

    /// The payload length of a plain record. One with a mark shows as a length beyond every ring's, so that one comparison
    /// on the hot path catches both it and a length that is out of range.
    #[inline(always)]
    pub(crate) const fn length(self) -> u64 {
        self.0 & ((1 << Self::STAMP_SHIFT) - 1)
    }

    /// The mark and the payload length of a record that is not plain; `None` if it has no mark that a record can have.
    pub(crate) const fn marked_length(self) -> Option<(Mark, u64)> {
        let mark = match self.length() & !Self::LENGTH {
            Self::DESCRIBED => Mark::Described,
            Self::MORE => Mark::More,
            _ => return None,
        };
        Some((mark, self.0 & Self::LENGTH))
    }

    /// The payload length of a record that is a descriptor with at most a head behind it; `None` for any other.
    #[inline(always)]
    pub(crate) const fn short_described(self) -> Option<u64> {
        // One comparison: what is shorter wraps, and what has another mark is beyond.
        let behind = self.length().wrapping_sub(Self::DESCRIBED | descriptor::SIZE);
        if behind <= descriptor::HEAD { Some(descriptor::SIZE + behind) } else { None }
    }

    /// Says whether this is padding, with nothing else in it.
    #[inline(always)]
    pub(crate) const fn is_pad(self) -> bool {
        self.length() == Self::PAD
    }
}

/// What a record is beyond its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Mark {
    /// A message, whole.
    Plain = 0,
    /// The payload begins with a [`descriptor::Descriptor`].
    Described = Header::DESCRIBED as u32,
    /// A message that goes on in the next record.
    More = Header::MORE as u32,
}

/// Written by the producer rarely; read by the consumer when it gives credit back.
#[repr(C)]
pub(crate) struct ProducerSignals {
    /// Whether the producer waits for space, or has gone ([`crate::doorbell`]).
    pub(crate) ticket: AtomicU64,
    /// One more than the processor on which the producer last went to wait; 0 while unknown. A hint.
    pub(crate) processor: AtomicU32,
}

/// Written by the consumer for each message; read when the consumer has died, to find what it left.
#[repr(C)]
pub(crate) struct ConsumerProgress {
    /// Position of the first record that is not consumed.
    pub(crate) head: AtomicU64,
}

/// Written by the consumer in steps; read by the producer for each publication.
#[repr(C)]
pub(crate) struct ConsumerSignals {
    /// A head that lags by up to an eighth of the ring: bytes before it may be written again.
    pub(crate) credit: AtomicU64,
    /// Messages consumed before that position.
    pub(crate) messages: AtomicU64,
    /// Whether the consumer waits for a message, or has gone ([`crate::doorbell`]).
    pub(crate) ticket: AtomicU64,
    /// One more than the processor on which the consumer last went to wait; 0 while unknown. A hint.
    pub(crate) processor: AtomicU32,
}

/// The control block in front of a ring's data. All zeroes is the state of a ring that was never used.
#[repr(C)]
pub(crate) struct Control {
    pub(crate) producer_signals: CachePadded<ProducerSignals>,
    pub(crate) consumer: CachePadded<ConsumerProgress>,
    pub(crate) consumer_signals: CachePadded<ConsumerSignals>,
}

/// Size of the control block of a ring, in bytes.
pub const CONTROL_SIZE: u64 = 384;

layout_assert!(size_of::<Control>() as u64 == CONTROL_SIZE && align_of::<Control>() == 128);
layout_assert!(core::mem::offset_of!(Control, producer_signals) == 0);
layout_assert!(core::mem::offset_of!(Control, consumer) == 128);
layout_assert!(core::mem::offset_of!(Control, consumer_signals) == 256);
layout_assert!(core::mem::offset_of!(ProducerSignals, processor) == 8);
layout_assert!(core::mem::offset_of!(ConsumerSignals, messages) == 8);
layout_assert!(core::mem::offset_of!(ConsumerSignals, ticket) == 16);
layout_assert!(core::mem::offset_of!(ConsumerSignals, processor) == 24);

/// A ticket word: the side waits.
pub(crate) const TICKET_WAITING: u64 = 1;
/// A ticket word: the side has gone for good.
pub(crate) const TICKET_GONE: u64 = 2;
/// A ticket word: from one ticket to the next; the bits above count them.
pub(crate) const TICKET_NEXT: u64 = 4;

/// Version of everything in this file. A change of meaning or of an offset raises it.
pub const LAYOUT_VERSION: u16 = 2;

/// A hash of the layout as compiled (FNV-1a over sizes, offsets and bit numbers): two builds that agree on the
/// version but not on the bytes refuse each other.
pub const LAYOUT_HASH: u64 = fnv1a(&[
    LAYOUT_VERSION as u64,
    HEADER,
    CONTROL_SIZE,
    core::mem::offset_of!(Control, consumer) as u64,
    core::mem::offset_of!(Control, consumer_signals) as u64,
    core::mem::offset_of!(ProducerSignals, ticket) as u64,
    core::mem::offset_of!(ProducerSignals, processor) as u64,
    core::mem::offset_of!(ConsumerSignals, messages) as u64,
    core::mem::offset_of!(ConsumerSignals, ticket) as u64,
    core::mem::offset_of!(ConsumerSignals, processor) as u64,
    Header::stamp_of_lap(0),
    TICKET_WAITING,
    TICKET_GONE,
    TICKET_NEXT,
    Header::PAD,
    Header::DESCRIBED,
    Header::MORE,
    descriptor::SIZE,
    descriptor::HEAD,
    descriptor::Kind::LAST,
    exchange::BLOCKS,
    exchange::SIZE,
    core::mem::offset_of!(exchange::Exchange, returned) as u64,
    core::mem::offset_of!(exchange::Exchange, progress) as u64,
    core::mem::offset_of!(exchange::Exchange, taken) as u64,
    exchange::OFFER_CHUNK,
    exchange::OFFER_CHUNKS,
    exchange::OFFER_BACKWARD,
    SEGMENT_HEADER_SIZE,
    core::mem::offset_of!(SegmentHeader, to_server_capacity) as u64,
    cfg!(target_endian = "big") as u64,
]);

const fn fnv1a(words: &[u64]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut word = 0;
    while word < words.len() {
        let bytes = words[word].to_le_bytes();
        let mut at = 0;
        while at < bytes.len() {
            hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            at += 1;
        }
        word += 1;
    }
    hash
}

/// Says whether a ring can have this capacity: a power of two from [`MIN_CAPACITY`] to [`MAX_CAPACITY`].
#[must_use]
pub const fn is_capacity(capacity: u64) -> bool {
    capacity.is_power_of_two() && capacity >= MIN_CAPACITY && capacity <= MAX_CAPACITY
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Whoever writes another implementation reads the number there.
    #[test]
    #[cfg(target_endian = "little")]
    fn the_document_of_the_layout_states_its_hash() {
        let document = include_str!("../../docs/LAYOUT.md");
        assert!(document.contains(&std::format!("`{LAYOUT_HASH:#x}`")), "docs/LAYOUT.md must state {LAYOUT_HASH:#x}");
    }
}
