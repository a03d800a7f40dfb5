//! Where things lie in a segment: the header in front, then for each direction a ring and its exchange area.

use super::{CONTROL_SIZE, LAYOUT_HASH, LAYOUT_VERSION, exchange, round_up};

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
/// client, each on a page boundary and followed by its exchange area.
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

/// Bytes that a ring takes in a segment: control block and data, padded to whole pages, and the exchange area behind them.
#[must_use]
pub const fn ring_size(capacity: u64) -> u64 {
    exchange_offset(capacity) + exchange::SIZE
}

/// Where the exchange area of a ring lies, in bytes from the ring's control block.
pub(crate) const fn exchange_offset(capacity: u64) -> u64 {
    round_up(CONTROL_SIZE + capacity, 4096)
}
