//! The arena: blocks of shared memory for messages that are too large, or too long-lived, for the ring.
//!
//! The sender lends blocks and keeps all books about them in memory of its own; shared memory holds bytes of messages, the ring of
//! returned blocks and the progress of copies. The receiver reads the arena, can write only where copies lie, and gives blocks back in any order.
//!
//! Promise: whatever a peer writes, a block is never lent twice and no byte outside of the arena is read. Refusal: nothing here sends,
//! waits or wakes.
//!
//! | file | what |
//! |---|---|
//! | `returns` | the way back of blocks: a ring of words |
//! | `progress` | how far a copy into a block has got, for a reader that follows it |
//! | `offer` | very large messages, through a small window |
//! | `books` | which part of which region is lent |
//! | `warm` | blocks that came back, for the next messages of their size |
//! | `lender` | the sender's side: regions, blocks, credit |
//! | `borrower` | the receiver's side: regions of the peer, blocks to give back |

pub(crate) mod offer;
pub(crate) mod progress;
pub(crate) mod returns;

mod books;
pub(crate) mod borrower;
pub(crate) mod lender;
#[cfg(all(test, loom))]
mod models;
mod warm;
