//! The descriptor of a message whose bytes do not simply follow the record header.
//!
//! ```text
//! word 0: bits 63..56 kind   bits 55..48 file descriptors beside it   bits 47..0 length in bytes
//! word 1: bits 63..56 region   bits 55..40 block   bits 39..0 offset in the region, in units of 128 bytes
//! ```
//!
//! Word 1 is zero for kinds that have no place. Behind the descriptor of a message in a block may stand its *head*: what the
//! first 40 bytes of the block were when it was sent, so that whoever reads no more needs no line of the block. What this file does not
//! do: it judges the form of a descriptor, not whether there is such a region, block or file.

// Rings alone need little of it.
#![cfg_attr(not(feature = "std"), expect(dead_code))]

use crate::ring::Violation;

/// Bytes in a descriptor.
pub(crate) const SIZE: u64 = 16;
/// Bytes of a head: with the descriptor and the record's header a cache line.
pub(crate) const HEAD: u64 = 40;
/// Bytes in the descriptor of an offer.
#[cfg(feature = "std")]
pub(crate) const OFFER_SIZE: u64 = 24;
/// The unit of offsets, and the alignment of blocks, in bytes: two cache lines, as processors prefetch the neighbour of a line.
#[cfg(feature = "std")]
pub(crate) const UNIT: u64 = 128;
/// The longest message that a descriptor can tell of, in bytes.
pub(crate) const MAX_LENGTH: u64 = (1 << 48) - 1;
/// The most regions of an arena.
#[cfg(feature = "std")]
pub(crate) const MAX_REGIONS: usize = 256;
/// The most file descriptors beside a message.
pub(crate) const MAX_FILES: usize = 64;

/// Where the bytes are, or what else the record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A message: its bytes follow the descriptor.
    Inline = 1,
    /// A message in a block of the arena.
    Block = 2,
    /// A message in a block that is still being written: the exchange area says how far.
    Stream = 3,
    /// A message in a sealed file of its own, the first file descriptor beside it.
    File = 4,
    /// A message in a packet on the socket for files.
    Packet = 5,
    /// The arena has grown by a region; its file descriptor is beside it.
    Region = 6,
    /// The arena gives a region up.
    Retire = 7,
    /// The parts of a message that came so far are void.
    Abort = 8,
    /// A message that the receiver may take through a window as it is written. A third word has the number of the offer.
    Offer = 9,
}

impl Kind {
    /// The highest kind there is.
    pub(crate) const LAST: u64 = Self::Offer as u64;

    /// Says whether such a record is a message that was sent when the record was published.
    pub(crate) const fn is_message(self) -> bool {
        !matches!(self, Self::Region | Self::Retire | Self::Abort | Self::Offer)
    }

    const ALL: [Self; 9] = [
        Self::Inline,
        Self::Block,
        Self::Stream,
        Self::File,
        Self::Packet,
        Self::Region,
        Self::Retire,
        Self::Abort,
        Self::Offer,
    ];
}

/// A place in an arena, as word 1 holds it: passed on as one word, since three parts that are stored one by one and loaded together stall
/// the processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place(u64);

impl Place {
    /// `unit` counts [`UNIT`]s and is below 2^40.
    #[inline(always)]
    pub(crate) const fn new(region: u8, block: u16, unit: u64) -> Self {
        Self((region as u64) << 56 | (block as u64) << 40 | unit)
    }

    /// A region, and nothing in it.
    pub(crate) const fn of_region(region: u8) -> Self {
        Self::new(region, 0, 0)
    }

    #[inline(always)]
    pub(crate) const fn region(self) -> u8 {
        (self.0 >> 56) as u8
    }

    #[inline(always)]
    pub(crate) const fn block(self) -> u16 {
        (self.0 >> 40) as u16
    }

    /// Where it begins, in units of [`UNIT`] bytes.
    #[inline(always)]
    pub(crate) const fn unit(self) -> u64 {
        self.0 & ((1 << 40) - 1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) kind: Kind,
    /// File descriptors beside it.
    pub(crate) files: u8,
    /// Bytes in the message or the region.
    pub(crate) length: u64,
    pub(crate) place: Place,
}

impl Descriptor {
    /// One without files and place. `length` is at most [`MAX_LENGTH`].
    #[cfg(feature = "std")]
    pub(crate) const fn new(kind: Kind, length: u64) -> Self {
        Self { kind, files: 0, length, place: Place(0) }
    }

    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) const fn encode(&self) -> [u64; 2] {
        [(self.kind as u64) << 56 | (self.files as u64) << 48 | self.length, self.place.0]
    }

    /// The length and place of a message in a block that has no files beside it; `None` for any other descriptor.
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) fn plain_block(words: [u64; 2]) -> Option<(u64, Place)> {
        let [first, second] = words;
        (first >> 48 == (Kind::Block as u64) << 8).then_some((first & MAX_LENGTH, Place(second)))
    }

    /// Reads what a peer wrote.
    #[inline(always)]
    pub(crate) fn decode(words: [u64; 2]) -> Result<Self, Violation> {
        let [first, second] = words;
        let code = first >> 56;
        let Some(kind) = Kind::ALL.get((code as usize).wrapping_sub(1)) else {
            return Err(Violation { field: "kind of a descriptor", value: code, min: 1, max: Kind::LAST });
        };
        let files = (first >> 48) as u8;
        if usize::from(files) > MAX_FILES {
            let (value, max) = (files.into(), MAX_FILES as u64);
            return Err(Violation { field: "file descriptors of a message", value, min: 0, max });
        }
        Ok(Self { kind: *kind, files, length: first & MAX_LENGTH, place: Place(second) })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_comes_back_as_it_was() {
        for (kind, files, length, place) in [
            (Kind::Block, 0, MAX_LENGTH, Place::new(255, u16::MAX, (1 << 40) - 1)),
            (Kind::Inline, 64, 0, Place::default()),
            (Kind::Abort, 1, 1, Place::new(1, 2, 3)),
        ] {
            let descriptor = Descriptor { kind, files, length, place };
            assert_eq!(Descriptor::decode(descriptor.encode()), Ok(descriptor));
        }
    }

    #[test]
    fn kinds_and_numbers_of_files_that_do_not_exist_are_named() {
        let broken = |word: u64| Descriptor::decode([word, 0]).unwrap_err();
        assert_eq!(broken(0).field, "kind of a descriptor");
        assert_eq!(broken(10 << 56).value, 10);
        assert_eq!(broken(1 << 56 | 65 << 48).max, 64);
    }
}
