//! The ring: one producer, one consumer, records of any length, published with one store.
//!
//! Promise: what was committed is read once, whole and in order; what was not is never seen; each step
//! is wait-free and touches the peer's cache lines only where it must. It works on any memory that the
//! caller hands in. Refusal: it never blocks, never wakes anybody (it says when to, see [`crate::doorbell`]) and never
//! trusts a word that the other side can write.
//!
//! The way of a message: `reserve` → `commit` → `walk` (the consumer finds it) → `read` → release → credit.
//! [`crate::layout`] draws the bytes.

mod cursor;
mod memory;
#[cfg(feature = "std")]
mod mirror;
mod observe;
mod pace;
mod read;
mod reserve;
mod undelivered;
mod walk;
#[cfg(feature = "std")]
mod window;

crate::sync::outside_models! {
    mod fixed;
    pub use fixed::StaticRing;
}

pub use memory::{RingError, RingMemory};
pub use observe::RingStatus;
pub use read::{Consumer, OutOfBounds, ReadBatch, Record};
pub use reserve::{Batch, Producer, Reservation, ReserveError};
pub use undelivered::Undelivered;
pub use walk::Violation;
#[cfg(feature = "std")]
pub use window::{BatchWindow, ReadWindow};

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
#[cfg(feature = "std")]
pub(crate) use {
    mirror::{Inlet, Outlet, PrivateRing},
    read::{Payload, Place},
    reserve::OpenBatch,
};
