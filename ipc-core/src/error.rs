//! The errors of sending and receiving. Each names what was asked for, what there is and what is allowed.

use crate::ring::{OutOfBounds, Violation};
use std::io;
use std::time::Duration;

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message can never fit this connection's ring.
    #[error("a message of {len} bytes was given; this connection takes 0 to {max} bytes")]
    TooLarge {
        /// Bytes in the message.
        len: u64,
        /// The most this connection takes.
        max: u64,
    },
    /// There is no room now, and the call was one that does not wait.
    #[error("the peer has not made room yet: {needed} bytes are needed, {free} are free")]
    WouldBlock {
        /// Bytes needed, header and padding included.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// There was no room before the deadline.
    #[error("the peer has made no room for {waited:?}: {needed} bytes are needed, {free} are free")]
    TimedOut {
        /// How long the call waited.
        waited: Duration,
        /// Bytes needed, header and padding included.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The peer has closed its receiver, or died. What it has not consumed can be taken back
    /// ([`crate::Sender::undelivered`]).
    #[error("the peer is gone; {undelivered} messages sent to it were not consumed")]
    Disconnected {
        /// Messages committed and not consumed.
        undelivered: u64,
    },
    /// The peer wrote what it must not; the connection is closed.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// This process is a forked child of the one that the connection belongs to.
    #[error("the connection belongs to the parent process; a forked child needs one of its own")]
    Forked,
    /// The system failed in a way that has nothing to do with the peer.
    #[error("waiting for room failed: {0}")]
    Os(#[from] io::Error),
}

/// A buffer that is shorter than the message it should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {message} bytes does not fit a buffer of {buffer} bytes")]
pub struct TooShort {
    /// Bytes in the message.
    pub message: usize,
    /// Bytes in the buffer.
    pub buffer: usize,
}

/// Why no message was received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// No message came before the deadline.
    #[error("no message came for {waited:?}")]
    TimedOut {
        /// How long the call waited.
        waited: Duration,
    },
    /// The peer has closed its sender, or died, and everything it committed has been received.
    #[error("the peer {how}; {received} messages were received from it", how = if *.closed { "has closed" } else { "died" })]
    Disconnected {
        /// Messages received over the whole life of the connection.
        received: u64,
        /// The peer dropped its sender. If not, it died, or it is hostile.
        closed: bool,
    },
    /// The buffer that was given is shorter than the message.
    #[error(transparent)]
    TooShort(#[from] TooShort),
    /// More bytes were asked of a message than it has.
    #[error(transparent)]
    OutOfBounds(#[from] OutOfBounds),
    /// The peer wrote what it must not; the connection is closed.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// This process is a forked child of the one that the connection belongs to.
    #[error("the connection belongs to the parent process; a forked child needs one of its own")]
    Forked,
    /// The system failed in a way that has nothing to do with the peer.
    #[error("waiting for a message failed: {0}")]
    Os(#[from] io::Error),
}
