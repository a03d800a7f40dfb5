//! What the two halves of a connection share: segment, sockets, the peer's identity.

use crate::doorbell::Barrier;
use crate::layout::exchange::Exchange;
use crate::layout::{Geometry, MAX_CAPACITY};
use crate::os::admission::Peer;
use crate::os::bell::Bell;
use crate::os::files::Files;
use crate::os::fork::{self, ForkToken, GuardedFd};
use crate::os::membarrier;
use crate::os::segment::Segment;
use crate::os::timer::Timer;
use crate::ring::{PrivateRing, RingMemory, Violation};
use crate::sender::Coalescing;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::terms::{Credit, Mode};
use core::ptr::NonNull;
use rustix::net::Shutdown;
use std::any::Any;
use std::boxed::Box;
use std::io;
use std::string::String;
use std::sync::OnceLock;

/// Which end of a connection this process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Client,
}

/// What a connection is put together from, once both sides have agreed.
pub(crate) struct Parts {
    pub(crate) role: Role,
    /// `None` if no memory is shared.
    pub(crate) segment: Option<Segment>,
    pub(crate) messages: GuardedFd,
    pub(crate) space: GuardedFd,
    pub(crate) files: GuardedFd,
    /// How our sender puts rings off, and the timer that it sets meanwhile. `None` if it does not.
    pub(crate) coalescing: Option<(Coalescing, Timer)>,
    /// The timer that the peer's sender sets.
    pub(crate) alarm: Option<Timer>,
    pub(crate) peer: Peer,
    pub(crate) membarrier: bool,
    pub(crate) mode: Mode,
    /// Capacities of the queues, shared or not.
    pub(crate) geometry: Geometry,
    /// What our receiver accepts, and what the peer's does.
    pub(crate) own_credit: Credit,
    pub(crate) peer_credit: Credit,
    /// What memory of the connection is called.
    pub(crate) label: String,
    pub(crate) lease: Option<Box<dyn Any + Send + Sync>>,
}

/// The queues of a connection that shares none: both ends carry packets between them.
struct PrivateQueues {
    outgoing: PrivateRing,
    incoming: PrivateRing,
}

/// Lives as long as one of the halves does. The last one closes everything, and the kernel frees it.
pub(crate) struct Link {
    role: Role,
    segment: Option<Segment>,
    private: Option<PrivateQueues>,
    /// Carries the handshake, then the rings for messages, or the messages themselves: the receiver sleeps on it.
    pub(crate) messages: Bell,
    /// Carries the rings for space, or credit itself: the sender sleeps on it.
    pub(crate) space: Bell,
    /// Carries what is beside messages: file descriptors, and bytes that go through the kernel.
    pub(crate) files: Files,
    /// How our sender puts rings off, and the timer that it sets meanwhile.
    pub(crate) coalescing: Option<(Coalescing, Timer)>,
    pub(crate) peer: Peer,
    pub(crate) mode: Mode,
    pub(crate) own_credit: Credit,
    pub(crate) peer_credit: Credit,
    pub(crate) label: String,
    owner: ForkToken,
    /// The owner's generation, or all ones once the connection is condemned: one comparison with the current generation asks
    /// for both.
    usable: AtomicU64,
    pub(crate) barrier: Barrier,
    /// The last offer that was received here came from its end on, and none was made since: a hint of the receiving half to the sending
    /// one, of what this process's caches hold.
    pub(crate) received_backward: AtomicBool,
    violation: OnceLock<Violation>,
    /// Returns this connection's share of its listener's limits when it is dropped.
    _lease: Option<Box<dyn Any + Send + Sync>>,
}

impl Link {
    /// # Errors
    /// There is no memory for private queues, or no descriptor for an epoll.
    pub(crate) fn new(parts: Parts) -> io::Result<Self> {
        let barrier =
            if parts.membarrier { Barrier::Asymmetric { heavy: membarrier::global_expedited } } else { Barrier::Fence };
        let owner = fork::token();
        let in_socket = parts.mode.queues_in_socket();
        let bell = |socket| if in_socket { Bell::with_data(socket) } else { Bell::new(socket) };
        Ok(Self {
            role: parts.role,
            segment: parts.segment,
            private: if in_socket { Some(PrivateQueues::new(parts.role, parts.geometry)?) } else { None },
            messages: match parts.alarm {
                None => bell(parts.messages),
                Some(timer) => Bell::with_timer(parts.messages, timer)?,
            },
            space: bell(parts.space),
            files: Files::new(parts.files),
            coalescing: parts.coalescing,
            peer: parts.peer,
            mode: parts.mode,
            own_credit: parts.own_credit,
            peer_credit: parts.peer_credit,
            label: parts.label,
            usable: AtomicU64::new(owner.generation()),
            owner,
            barrier,
            received_backward: AtomicBool::new(false),
            violation: OnceLock::new(),
            _lease: parts.lease,
        })
    }

    /// The ring that this side writes.
    pub(crate) fn outgoing(&self) -> RingMemory<'_> {
        match (&self.private, &self.segment, self.role) {
            (Some(private), ..) => private.outgoing.memory(),
            (None, Some(segment), Role::Server) => segment.to_client(),
            (None, Some(segment), Role::Client) => segment.to_server(),
            (None, None, _) => unreachable!("a connection has queues of one kind or the other"),
        }
    }

    /// The ring that this side reads.
    pub(crate) fn incoming(&self) -> RingMemory<'_> {
        match (&self.private, &self.segment, self.role) {
            (Some(private), ..) => private.incoming.memory(),
            (None, Some(segment), Role::Server) => segment.to_server(),
            (None, Some(segment), Role::Client) => segment.to_client(),
            (None, None, _) => unreachable!("a connection has queues of one kind or the other"),
        }
    }

    /// The exchange areas for blocks that this side sends, and that it receives; `None` if no memory is shared.
    pub(crate) fn exchanges(&self) -> Option<(NonNull<Exchange>, NonNull<Exchange>)> {
        let [to_server, to_client] = self.segment.as_ref()?.exchanges();
        Some(match self.role {
            Role::Server => (to_client, to_server),
            Role::Client => (to_server, to_client),
        })
    }

    pub(crate) fn size(&self) -> u64 {
        self.segment.as_ref().map_or(0, Segment::size)
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

    #[inline(always)]
    pub(crate) fn is_original(&self) -> bool {
        self.owner.is_original()
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        self.violation.get().copied()
    }
}

impl PrivateQueues {
    fn new(role: Role, geometry: Geometry) -> io::Result<Self> {
        let Geometry { to_server_capacity, to_client_capacity } = geometry;
        let (outgoing, incoming) = match role {
            Role::Server => (to_client_capacity, to_server_capacity),
            Role::Client => (to_server_capacity, to_client_capacity),
        };
        // Twice what was agreed: each credit is a packet, and there are half as many then.
        let ring = |capacity: u64| {
            PrivateRing::new((2 * capacity).min(MAX_CAPACITY)).ok_or(io::Error::from(io::ErrorKind::OutOfMemory))
        };
        Ok(Self { outgoing: ring(outgoing)?, incoming: ring(incoming)? })
    }
}
