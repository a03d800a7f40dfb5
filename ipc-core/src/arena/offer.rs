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
use crate::ring::Violation;
use crate::sync::{AtomicU64, Ordering};

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
