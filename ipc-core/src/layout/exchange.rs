//! What two sides exchange about the blocks of an arena: blocks that come back, and how far a copy has got.
//!
//! ```text
//! byte 0      128              8320              16512            24704  28672
//!      +------+----------------+-----------------+----------------+------+
//!      |lender|returned blocks |progress of      |taken of offers | zero |
//!      |ticket|1024 words      |copies 1024 words|1024 words      |      |
//!      +------+----------------+-----------------+----------------+------+
//!       sender  receiver        sender            receiver            who writes
//!
//! returned block: bits 63..32 stamp   bits 31..0 number of the block
//! progress:       bytes of the message that are written
//! taken:          bits 63..32 number of the offer   bits 31..0 chunks that are read
//! ```
//!
//! The words of returned blocks are a ring: the stamp is the lap plus one, as in a record header. There are as many words as blocks, so
//! the ring never overflows and needs no credit of its own.

use crate::sync::{AtomicU64, layout_assert};
use crossbeam_utils::CachePadded;

/// The most blocks of an arena that are in use at a time; a power of two.
pub(crate) const BLOCKS: u64 = 1024;

/// Size of an exchange area in bytes, a multiple of the page size.
pub(crate) const SIZE: u64 = 28 << 10;

/// Bytes of a message that is offered between two words about it, and how many times that its window holds.
pub(crate) const OFFER_CHUNK: u64 = 64 << 10;
pub(crate) const OFFER_CHUNKS: u64 = 16;
/// In the word behind the descriptor of an offer, beside its number: the message is handed over from its end on.
pub(crate) const OFFER_BACKWARD: u64 = 1 << 32;

/// The exchange area of one direction. All zeroes is the state of one that was never used.
#[repr(C)]
pub(crate) struct Exchange {
    /// Whether the sender waits for a block to come back ([`crate::doorbell`]). Written by the sender.
    pub(crate) ticket: CachePadded<AtomicU64>,
    /// Blocks that came back. Written by the receiver.
    pub(crate) returned: [AtomicU64; BLOCKS as usize],
    /// Bytes written to each block that is being filled while it is read. Written by the sender.
    pub(crate) progress: [AtomicU64; BLOCKS as usize],
    /// What was taken of the message that is offered in each block. Written by the receiver.
    pub(crate) taken: [AtomicU64; BLOCKS as usize],
}

layout_assert!(size_of::<Exchange>() as u64 <= SIZE && align_of::<Exchange>() == 128);
layout_assert!(core::mem::offset_of!(Exchange, returned) == 128);
layout_assert!(core::mem::offset_of!(Exchange, progress) == 8320);
layout_assert!(core::mem::offset_of!(Exchange, taken) == 16512);
