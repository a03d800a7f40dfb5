//! The errors of sending and receiving. Each names what was asked for, what there is and what is allowed.

use crate::ring::{OutOfBounds, Violation};
use crate::router::Lane;
use crate::terms::Mode;
use std::io;
use std::time::Duration;

/// What a message needs on its way, and its receiver gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resource {
    /// Bytes of the ring, headers and padding included.
    Ring,
    /// Bytes of the arena.
    Arena,
    /// Blocks of the arena, however small.
    Blocks,
    /// Messages that are sent and not consumed: the receiver's credit.
    Messages,
    /// Messages in files of their own that are sent and not consumed.
    Files,
    /// Packets in the socket. The kernel tells neither how many fit nor how many are there.
    Packets,
}

impl core::fmt::Display for Resource {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Ring => "bytes of the ring",
            Self::Arena => "bytes of the arena",
            Self::Blocks => "blocks of the arena",
            Self::Messages => "messages of credit",
            Self::Files => "messages in files",
            Self::Packets => "packets in the socket",
        })
    }
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message is larger than the peer accepts, or, for a call that does not wait, than can be on its way at once.
    #[error("a message of {len} bytes was given; this connection takes 0 to {max} bytes")]
    TooLarge {
        /// Bytes in the message.
        len: u64,
        /// The most this connection takes.
        max: u64,
    },
    /// There is no room now, and the call was one that does not wait.
    #[error("the peer has not made room yet: {needed} {resource} are needed, {free} are free")]
    WouldBlock {
        /// What there is too little of.
        resource: Resource,
        /// How much is needed.
        needed: u64,
        /// How much is free.
        free: u64,
    },
    /// There was no room before the deadline.
    #[error("the peer has made no room for {waited:?}: {needed} {resource} are needed, {free} are free")]
    TimedOut {
        /// How long the call waited.
        waited: Duration,
        /// What there is too little of.
        resource: Resource,
        /// How much is needed.
        needed: u64,
        /// How much is free.
        free: u64,
    },
    /// The system has no memory for the message. Nothing of it was sent.
    #[error("no memory for a message of {len} bytes: {source}")]
    Memory {
        /// Bytes in the message.
        len: u64,
        /// What the system said.
        source: io::Error,
    },
    /// More files were given than can be beside one message.
    #[error("{given} files were given; beside a message there can be {max}")]
    TooManyFiles {
        /// Files given.
        given: usize,
        /// The most there can be.
        max: usize,
    },
    /// The lane that was asked for is not one of this connection's, or does not take such a message.
    #[error("the {lane} lane does not take a message of {len} bytes on a connection of mode {mode}")]
    Lane {
        /// The lane.
        lane: Lane,
        /// Bytes in the message.
        len: u64,
        /// The connection's mode.
        mode: Mode,
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
