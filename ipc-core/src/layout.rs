//! The byte layout of shared memory, drawn once: record headers, the control block of a ring, the segment header.
//!
//! Nothing else in the crate holds an offset or a bit number of its own. What this file does not do: it
//! never judges values; the readers of shared memory do, where they use them.
//!
//! # A ring
//!
//! ```text
//! byte 0     128      256      384      512                         512 + capacity
//!      +--------+--------+--------+--------+---------------------------+
//!      |producer|producer|consumer|consumer| data: capacity bytes      |
//!      |progress|signals |progress|signals | (a power of two)          |
//!      +--------+--------+--------+--------+---------------------------+
//! ```
//!
//! Each quarter of the control block has one writer. The *progress* lines are written for every
//! publication and read by nobody in steady state; the *signals* lines are read for every publication and
//! written rarely, so that both stay in the cache of the side that uses them. They are 128 bytes apart
//! because processors prefetch the neighbour of a 64-byte line.
//!
//! # A publication
//!
//! ```text
//! position p (multiple of 64)                       next multiple of 64: the next publication
//!   +---------+-----------+---------+-----------+- - - - - -+
//!   | header  | payload   | header  | payload   |  unused   |
//!   | MORE    | to 8 B    |         | to 8 B    |           |
//!   +---------+-----------+---------+-----------+- - - - - -+
//!   header: bits 63..32 stamp   bit 31 MORE   bit 30 PAD   bits 29..0 payload length in bytes
//! ```
//!
//! A position is a count of bytes since the ring began; it never wraps. The stamp is the low half of the
//! lap (position / capacity) plus one, so that zeroed memory holds no valid header. `MORE` says that another record of the
//! same publication follows at the next multiple of 8. `PAD` says that nothing but the end of the area follows: go on
//! at the start of the next lap.

use crate::sync::{AtomicU32, AtomicU64, layout_assert};
use crossbeam_utils::CachePadded;

/// Size of a cache line, in bytes: publications start on multiples of it.
pub const LINE: u64 = 64;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header(u64);

impl Header {
    const MORE: u64 = 1 << 31;
    const PAD: u64 = 1 << 30;
    const LENGTH: u64 = Self::PAD - 1;

    #[inline(always)]
    pub(crate) const fn record(stamp: u32, length: u64) -> Self {
        Self((stamp as u64) << 32 | length)
    }

    #[inline(always)]
    pub(crate) const fn pad(stamp: u32) -> Self {
        Self((stamp as u64) << 32 | Self::PAD)
    }

    #[inline(always)]
    pub(crate) const fn with_more(self) -> Self {
        Self(self.0 | Self::MORE)
    }

    #[inline(always)]
    pub(crate) const fn without_more(self) -> Self {
        Self(self.0 & !Self::MORE)
    }

    #[inline(always)]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline(always)]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(crate) const fn stamp(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    pub(crate) const fn more(self) -> bool {
        self.0 & Self::MORE != 0
    }

    #[inline(always)]
    pub(crate) const fn is_pad(self) -> bool {
        self.0 & Self::PAD != 0
    }

    #[inline(always)]
    pub(crate) const fn length(self) -> u64 {
        self.0 & Self::LENGTH
    }
}

/// The stamp that a header at `position` carries in a ring of `1 << shift` bytes.
#[inline(always)]
pub(crate) const fn stamp(position: u64, shift: u32) -> u32 {
    (position >> shift) as u32 + 1
}

/// Written by the producer for each publication; read by observers, and by nobody in steady state.
#[repr(C)]
pub(crate) struct ProducerProgress {
    /// Position behind the last publication.
    pub(crate) tail: AtomicU64,
    /// Messages published since the ring began.
    pub(crate) messages: AtomicU64,
}

/// Written by the producer rarely; read by the consumer when it gives credit back.
#[repr(C)]
pub(crate) struct ProducerSignals {
    /// The ticket of a producer that waits for space ([`crate::doorbell`]).
    pub(crate) ticket: AtomicU64,
    /// Not zero once the producer has gone politely.
    pub(crate) closed: AtomicU32,
    /// One more than the processor on which the producer last went to wait; 0 while unknown. A hint.
    pub(crate) processor: AtomicU32,
}

/// Written by the consumer for each message; read when the consumer has died, to find what it left.
#[repr(C)]
pub(crate) struct ConsumerProgress {
    /// Position of the first record that is not consumed.
    pub(crate) head: AtomicU64,
    /// Messages consumed since the ring began.
    pub(crate) messages: AtomicU64,
}

/// Written by the consumer in steps; read by the producer for each publication.
#[repr(C)]
pub(crate) struct ConsumerSignals {
    /// A head that lags by up to an eighth of the ring: bytes before it may be written again.
    pub(crate) credit: AtomicU64,
    /// The ticket of a consumer that waits for a message ([`crate::doorbell`]).
    pub(crate) ticket: AtomicU64,
    /// Not zero once the consumer has gone politely.
    pub(crate) closed: AtomicU32,
    /// One more than the processor on which the consumer last went to wait; 0 while unknown. A hint.
    pub(crate) processor: AtomicU32,
}

/// The control block in front of a ring's data. All zeroes is the state of a ring that was never used.
#[repr(C)]
pub(crate) struct Control {
    pub(crate) producer: CachePadded<ProducerProgress>,
    pub(crate) producer_signals: CachePadded<ProducerSignals>,
    pub(crate) consumer: CachePadded<ConsumerProgress>,
    pub(crate) consumer_signals: CachePadded<ConsumerSignals>,
}

/// Size of the control block of a ring, in bytes.
pub const CONTROL_SIZE: u64 = 512;

layout_assert!(size_of::<Control>() as u64 == CONTROL_SIZE && align_of::<Control>() == 128);
layout_assert!(core::mem::offset_of!(Control, producer_signals) == 128);
layout_assert!(core::mem::offset_of!(Control, consumer) == 256);
layout_assert!(core::mem::offset_of!(Control, consumer_signals) == 384);
layout_assert!(core::mem::offset_of!(ProducerProgress, messages) == 8);
layout_assert!(core::mem::offset_of!(ProducerSignals, closed) == 8);
layout_assert!(core::mem::offset_of!(ProducerSignals, processor) == 12);
layout_assert!(core::mem::offset_of!(ConsumerProgress, messages) == 8);
layout_assert!(core::mem::offset_of!(ConsumerSignals, ticket) == 8);
layout_assert!(core::mem::offset_of!(ConsumerSignals, closed) == 16);
layout_assert!(core::mem::offset_of!(ConsumerSignals, processor) == 20);

/// Version of everything in this file. A change of meaning or of an offset raises it.
pub const LAYOUT_VERSION: u16 = 1;

/// A hash of the layout as compiled (FNV-1a over sizes, offsets and bit numbers): two builds that agree on the
/// version but not on the bytes refuse each other.
pub const LAYOUT_HASH: u64 = fnv1a(&[
    LAYOUT_VERSION as u64,
    LINE,
    HEADER,
    CONTROL_SIZE,
    core::mem::offset_of!(Control, producer_signals) as u64,
    core::mem::offset_of!(Control, consumer) as u64,
    core::mem::offset_of!(Control, consumer_signals) as u64,
    core::mem::offset_of!(ConsumerSignals, ticket) as u64,
    core::mem::offset_of!(ConsumerSignals, closed) as u64,
    core::mem::offset_of!(ProducerSignals, closed) as u64,
    Header::MORE,
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
