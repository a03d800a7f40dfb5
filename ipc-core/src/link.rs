//! What the two halves of a connection share: segment, sockets, the peer's identity.

use crate::doorbell::Barrier;
use crate::os::admission::Peer;
use crate::os::bell::Bell;
use crate::os::fork::ForkToken;
use crate::os::membarrier;
use crate::os::segment::Segment;
use crate::ring::{RingMemory, Violation};
use crate::sync::{AtomicU64, Ordering};
use rustix::net::Shutdown;
use std::any::Any;
use std::boxed::Box;
use std::sync::OnceLock;

/// Which end of a connection this process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Client,
}

/// Lives as long as one of the halves does. The last one closes everything, and the kernel frees it.
pub(crate) struct Link {
    role: Role,
    segment: Segment,
    /// Carries the handshake, then the rings for messages: the receiver sleeps on it.
    pub(crate) messages: Bell,
    /// Carries the rings for space: the sender sleeps on it.
    pub(crate) space: Bell,
    pub(crate) peer: Peer,
    owner: ForkToken,
    /// The owner's generation, or all ones once the connection is condemned: one comparison with the current generation asks
    /// for both.
    usable: AtomicU64,
    pub(crate) barrier: Barrier,
    violation: OnceLock<Violation>,
    /// Returns this connection's share of its listener's limits when it is dropped.
    _lease: Option<Box<dyn Any + Send + Sync>>,
}

impl Link {
    #[expect(clippy::too_many_arguments, reason = "the one place where the parts of a connection come together")]
    pub(crate) fn new(
        role: Role,
        segment: Segment,
        messages: Bell,
        space: Bell,
        peer: Peer,
        owner: ForkToken,
        membarrier: bool,
        lease: Option<Box<dyn Any + Send + Sync>>,
    ) -> Self {
        let barrier =
            if membarrier { Barrier::Asymmetric { heavy: membarrier::global_expedited } } else { Barrier::Fence };
        Self {
            role,
            segment,
            messages,
            space,
            peer,
            usable: AtomicU64::new(owner.generation()),
            owner,
            barrier,
            violation: OnceLock::new(),
            _lease: lease,
        }
    }

    /// The ring that this side writes.
    pub(crate) fn outgoing(&self) -> RingMemory<'_> {
        match self.role {
            Role::Server => self.segment.to_client(),
            Role::Client => self.segment.to_server(),
        }
    }

    /// The ring that this side reads.
    pub(crate) fn incoming(&self) -> RingMemory<'_> {
        match self.role {
            Role::Server => self.segment.to_server(),
            Role::Client => self.segment.to_client(),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.segment.size()
    }

    /// Ends the connection because of what the peer did. The first violation is the one that is reported ever after.
    pub(crate) fn condemn(&self, violation: Violation) -> Violation {
        let first = *self.violation.get_or_init(|| violation);
        // Relaxed: a half that still sees the old value goes on a little longer, as it would had the peer been slower.
        // No generation is all ones, not even that of a forked child, which is zero.
        self.usable.store(u64::MAX, Ordering::Relaxed);
        self.messages.hang_up(Shutdown::Both);
        self.space.hang_up(Shutdown::Both);
        first
    }

    /// Says whether this process may use the connection, and the peer has kept to the protocol so far.
    #[inline(always)]
    pub(crate) fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Relaxed) == self.owner.current()
    }

    /// Why the connection is not usable: what the peer did, or, if nothing, that this process is a forked child.
    pub(crate) fn why_unusable(&self) -> Option<Violation> {
        self.violation().filter(|_| self.is_original())
    }

    pub(crate) fn is_original(&self) -> bool {
        self.owner.is_original()
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        self.violation.get().copied()
    }
}
