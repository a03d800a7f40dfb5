//! How far a copy into a block has got, for a reader that follows it.
//!
//! Promise: bytes that the progress covers are written, and stay. Refusal: who waits for more, and how, is not decided here.

use crate::ring::Violation;
use crate::sync::{AtomicU64, Ordering};

/// Says that the first `bytes` of the block are written.
#[inline]
pub(crate) fn publish(word: &AtomicU64, bytes: u64) {
    // [S1] the bytes are written before the word says so; pairs with [S2].
    word.store(bytes, Ordering::Release);
}

/// How many bytes of a message of `length` bytes are written: at least the `known` ones.
#[inline]
pub(crate) fn read(word: &AtomicU64, known: u64, length: u64) -> Result<u64, Violation> {
    // [S2] takes over the bytes that are covered; pairs with [S1].
    let bytes = word.load(Ordering::Acquire);
    if (known..=length).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(Violation { field: "progress of a message", value: bytes, min: known, max: length })
    }
}

/// Says whether more than `known` bytes may be written. Cheap enough to poll; a hint.
#[inline]
pub(crate) fn is_beyond(word: &AtomicU64, known: u64) -> bool {
    word.load(Ordering::Relaxed) != known
}
