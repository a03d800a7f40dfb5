//! An offer: a message that is too large for any cache, handed over through a small window while both sides are there.
//!
//! A copy through a block as large as the message pulls every byte through memory; a window that both caches hold does not. The
//! price is that the sender waits for the receiver, so it is only offered: a receiver that has a buffer waiting accepts, any other declines
//! and gets the message in a block of its own instead.
//!
//! | word | writer | says |
//! |---|---|---|
//! | progress | sender | bytes written so far, or that the offer is withdrawn |
//! | taken | receiver | number of the offer (bits 63..32), chunks read so far or that it is declined (bits 31..0) |
//!
//! Promise: a message is received whole or not at all; an offer that was withdrawn before anybody accepted it, or declined at any time,
//! is not received. Refusal: nothing here copies or waits.

use super::progress;
use crate::layout::exchange::OFFER_BACKWARD as BACKWARD;
use crate::ring::Violation;
use crate::sync::{AtomicU64, Ordering};
use core::ops::Range;

/// Bytes between two words of progress, and how many chunks the window holds.
pub(crate) use crate::layout::exchange::{OFFER_CHUNK as CHUNK, OFFER_CHUNKS as CHUNKS};
/// Bytes in the window.
pub(crate) const WINDOW: u64 = CHUNK * CHUNKS;

const WITHDRAWN: u64 = u64::MAX;
const DECLINED: u64 = u32::MAX as u64;

/// Chunks in a message of `length` bytes.
pub(crate) const fn chunks(length: u64) -> u64 {
    length.div_ceil(CHUNK)
}

/// Which end of a message is handed over first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Forward,
    Backward,
}

impl Order {
    /// The bytes of a message of `length` bytes that are chunk number `chunk` in this order.
    pub(crate) fn bytes(self, chunk: u64, length: u64) -> Range<u64> {
        let (start, end) = (chunk * CHUNK, ((chunk + 1) * CHUNK).min(length));
        match self {
            Self::Forward => start..end,
            Self::Backward => length - end..length - start,
        }
    }
}

/// What the record of an offer says of it beside its descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) number: u32,
    pub(crate) order: Order,
}

impl Terms {
    pub(crate) fn encode(self) -> u64 {
        u64::from(self.number) | if self.order == Order::Backward { BACKWARD } else { 0 }
    }

    pub(crate) fn decode(word: u64) -> Result<Self, Violation> {
        let max = BACKWARD | u64::from(u32::MAX);
        if word > max {
            return Err(Violation { field: "number of an offer", value: word, min: 0, max });
        }
        let order = if word & BACKWARD == 0 { Order::Forward } else { Order::Backward };
        Ok(Self { number: word as u32, order })
    }
}

/// What the receiver has made of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It has not looked at it yet.
    Nothing,
    /// It has accepted, and read so many chunks.
    Chunks(u64),
    /// It does not want it.
    Declined,
}

/// Withdraws an offer. The sender writes nothing to the window afterwards.
pub(crate) fn withdraw(word: &AtomicU64) {
    word.store(WITHDRAWN, Ordering::Release);
}

/// How many bytes are written of a message of `length` bytes, `known` or more; `None` if the offer is withdrawn.
pub(crate) fn written(word: &AtomicU64, known: u64, length: u64) -> Result<Option<u64>, Violation> {
    if word.load(Ordering::Relaxed) == WITHDRAWN {
        return Ok(None);
    }
    match progress::read(word, known, length) {
        // Withdrawn between the two looks.
        Err(violation) if violation.value == WITHDRAWN => Ok(None),
        result => result.map(Some),
    }
}

/// Says that `chunks` of the offer were read: 0 accepts it.
#[inline]
pub(crate) fn take(word: &AtomicU64, number: u32, chunks: u64) {
    // [O1] reading the chunks is finished; pairs with [O2].
    word.store(u64::from(number) << 32 | chunks, Ordering::Release);
}

/// Declines an offer. The receiver reads nothing of the window afterwards.
pub(crate) fn decline(word: &AtomicU64, number: u32) {
    take(word, number, DECLINED);
}

/// What the receiver says of an offer now: for [`taken`], and to be told apart from what it says later. Who waits for another word
/// waits for another than the one that was judged: one that was read again may be the news already.
#[inline]
pub(crate) fn look(word: &AtomicU64) -> u64 {
    // [O2] the receiver has finished with the chunks; pairs with [O1].
    word.load(Ordering::Acquire)
}

/// What the receiver has made, by such a `word`, of offer `number` with so many chunks, of which it had read `known`.
#[inline]
pub(crate) fn taken(word: u64, number: u32, known: u64, chunks: u64) -> Result<Taken, Violation> {
    if word >> 32 != u64::from(number) {
        return Ok(Taken::Nothing);
    }
    match word & DECLINED {
        DECLINED => Ok(Taken::Declined),
        read if (known..=chunks).contains(&read) => Ok(Taken::Chunks(read)),
        value => Err(Violation { field: "chunks read of an offer", value, min: known, max: chunks }),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn the_chunks_of_either_order_are_the_message() {
        for length in [1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 7] {
            let ranges = |order: Order| (0..chunks(length)).map(move |chunk| order.bytes(chunk, length));
            let forward: Vec<_> = ranges(Order::Forward).collect();
            assert_eq!((forward[0].start, forward[forward.len() - 1].end), (0, length));
            assert!(forward.windows(2).all(|two| two[0].end == two[1].start));
            // The same seen from the end: chunk by chunk as long, so that both count the same bytes.
            let mirrored = ranges(Order::Backward).map(|range| length - range.end..length - range.start);
            assert_eq!(forward, mirrored.collect::<Vec<_>>());
        }
    }

    #[test]
    fn terms_are_what_was_encoded_or_none() {
        for number in [0, 1, u32::MAX] {
            for order in [Order::Forward, Order::Backward] {
                let terms = Terms { number, order };
                assert_eq!(Terms::decode(terms.encode()), Ok(terms));
            }
        }
        for word in [1 << 33, u64::MAX] {
            assert_eq!(
                Terms::decode(word).map_err(|violation| (violation.value, violation.max)),
                Err((word, (2 << 32) - 1))
            );
        }
    }
}
