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
//!   header: bits 63..32 stamp   bit 31 zero   bit 30 PAD   bits 29..0 payload length in bytes
//! ```
//!
//! A position is a count of bytes since the ring began; it never wraps. The stamp is the low half of the
//! lap (position / capacity) plus one, so that memory which is zeroed when the ring begins holds no valid header. `PAD` says that nothing but the end of
//! the area follows: go on at the start of the next lap. A *publication* is one or more records whose first header is stored
//! last; the word behind it never looks like the header that is due there, so what follows is seen only when it is published.

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

    /// `length` is at most a quarter of [`MAX_CAPACITY`], so it stays clear of the flag.
    #[inline(always)]
    pub(crate) const fn record(stamp: u64, length: u64) -> Self {
        Self(stamp | length)
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

    /// The payload length of a record. A padding record shows as a length beyond every ring's, so that one comparison
    /// on the hot path catches both it and a length that is out of range.
    #[inline(always)]
    pub(crate) const fn length(self) -> u64 {
        self.0 & ((1 << Self::STAMP_SHIFT) - 1)
    }

    /// Says whether this is padding, with nothing else in it.
    #[inline(always)]
    pub(crate) const fn is_pad(self) -> bool {
        self.length() == Self::PAD
    }
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
pub const LAYOUT_VERSION: u16 = 1;

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

/// First eight bytes of a segment: `ipc\0seg1` read as a little-endian number.
pub const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"ipc\0seg1");
/// Bytes that the segment header takes: one page, so that ring control blocks start on a page of their own.
pub const SEGMENT_HEADER_SIZE: u64 = 4096;

/// The first bytes of a segment. Written once by the server before the segment is passed on; a client checks
/// it once against what the handshake said, an observer (`ipc ls`) reads it to find the rings.
///
/// ```text
/// 0 magic  8 version  10 zero  16 hash  24 size  32 to-server capacity  40 to-client capacity  4096 rings
/// ```
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
pub struct SegmentHeader {
    /// [`SEGMENT_MAGIC`].
    pub magic: u64,
    /// [`LAYOUT_VERSION`] of the creator.
    pub version: u16,
    /// Zero.
    pub reserved: [u16; 3],
    /// [`LAYOUT_HASH`] of the creator.
    pub hash: u64,
    /// Bytes in the whole segment.
    pub size: u64,
    /// Capacity in bytes of the ring from client to server.
    pub to_server_capacity: u64,
    /// Capacity in bytes of the ring from server to client.
    pub to_client_capacity: u64,
}

const _: () = assert!(size_of::<SegmentHeader>() == 48);

/// Where the rings of a connection lie in its segment: the ring to the server first, then the ring to the
/// client, each on a page boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Capacity in bytes of the ring from client to server.
    pub to_server_capacity: u64,
    /// Capacity in bytes of the ring from server to client.
    pub to_client_capacity: u64,
}

impl Geometry {
    /// Offset in bytes of the control block of the ring to the server.
    #[must_use]
    pub const fn to_server_offset(&self) -> u64 {
        SEGMENT_HEADER_SIZE
    }

    /// Offset in bytes of the control block of the ring to the client.
    #[must_use]
    pub const fn to_client_offset(&self) -> u64 {
        self.to_server_offset() + ring_size(self.to_server_capacity)
    }

    /// Size in bytes of the whole segment.
    #[must_use]
    pub const fn segment_size(&self) -> u64 {
        self.to_client_offset() + ring_size(self.to_client_capacity)
    }

    /// The header that a segment of this geometry carries.
    #[must_use]
    pub const fn header(&self) -> SegmentHeader {
        SegmentHeader {
            magic: SEGMENT_MAGIC,
            version: LAYOUT_VERSION,
            reserved: [0; 3],
            hash: LAYOUT_HASH,
            size: self.segment_size(),
            to_server_capacity: self.to_server_capacity,
            to_client_capacity: self.to_client_capacity,
        }
    }
}

/// Bytes that a ring takes in a segment: control block and data, padded to whole pages.
#[must_use]
pub const fn ring_size(capacity: u64) -> u64 {
    round_up(CONTROL_SIZE + capacity, 4096)
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
