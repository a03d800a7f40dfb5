//! Listening for connections: admission, limits, and handshakes that nobody can hold up.

use crate::connect::shared_geometry;
use crate::connection::Connection;
use crate::handshake::{Hello, MAX_PACKET, Malformed, Refusal, Welcome};
use crate::layout::{DEFAULT_CAPACITY, Geometry, is_capacity};
use crate::link::{Link, Parts, Role};
use crate::os::address::{AddressError, SocketAddress};
use crate::os::admission::Peer;
use crate::os::admission::{PeerPolicy, own_user};
use crate::os::bell::Deadline;
use crate::os::fork::{self, GuardedFd};
use crate::os::rendezvous::{BindError, BoundSocket, DEFAULT_MODE};
use crate::os::segment::{Segment, SegmentError, SegmentOptions};
use crate::os::timer::Timer;
use crate::os::{membarrier, packet, socket};
use crate::sender::Coalescing;
use crate::sync::{AtomicU64, Ordering};
use crate::terms::{Credit, Mode, PayloadType, Terms};
use crate::wait::WaitStrategy;
use rustix::fd::{AsFd, BorrowedFd};
use std::boxed::Box;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::vec::Vec;

/// Why no listener was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The name cannot be one, or its directory cannot be trusted.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The socket could not be put there.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system gave no descriptor to watch clients with.
    #[error("watching for clients failed: {0}")]
    Events(#[source] io::Error),
    /// A ring capacity that no ring can have.
    #[error("a ring capacity of {capacity} bytes was given; it must be a power of two from 4 KiB to 1 GiB")]
    Capacity {
        /// What was given.
        capacity: u64,
    },
}

/// Why no connection was accepted. Clients that are turned away are no error: see [`Listener::refused`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// No client came before the deadline.
    #[error("no client connected for {waited:?}")]
    TimedOut {
        /// How long the call waited.
        waited: Duration,
    },
    /// This process is a forked child of the one that listens.
    #[error("the listener belongs to the parent process; a forked child needs one of its own")]
    Forked,
    /// The system failed.
    #[error("{action} failed: {source}")]
    Os {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Clients that have connected and not said hello yet; the oldest makes room for a newer one.
const MAX_PENDING: usize = 64;

/// How to listen. [`Listener::bind`] is the short form.
///
/// # Examples
/// ```no_run
/// let listener = ipc_core::ListenOptions::new().max_connections(8).capacity(1 << 20).bind("sensors")?;
/// # Ok::<(), ipc_core::ListenError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ListenOptions {
    permissions: u32,
    backlog: i32,
    capacity: u64,
    max_capacity: u64,
    max_connections: u64,
    max_memory: u64,
    handshake_timeout: Duration,
    policy: PeerPolicy,
    segment: SegmentOptions,
    strategy: WaitStrategy,
    membarrier: bool,
    mode: Mode,
    credit: Credit,
    payload: Option<PayloadType>,
    coalescing: Option<Coalescing>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            permissions: DEFAULT_MODE,
            backlog: 128,
            capacity: DEFAULT_CAPACITY,
            max_capacity: 64 << 20,
            max_connections: 1024,
            max_memory: 4 << 30,
            handshake_timeout: Duration::from_secs(1),
            policy: PeerPolicy::default(),
            segment: SegmentOptions::default(),
            strategy: WaitStrategy::default(),
            membarrier: true,
            mode: Mode::default(),
            credit: Credit::default(),
            payload: None,
            coalescing: None,
        }
    }
}

impl ListenOptions {
    /// The defaults of [`Listener::bind`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Permission bits of the socket file. Default: 0600.
    pub fn permissions(mut self, bits: u32) -> Self {
        self.permissions = bits;
        self
    }

    /// Ring capacity in bytes of each direction, for clients that ask for none: a power of two from 4 KiB to 1 GiB.
    /// Default: 256 KiB.
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = bytes;
        self.max_capacity = self.max_capacity.max(bytes);
        self
    }

    /// The largest ring that a client gets, whatever it asks for, in bytes. Default: 64 MiB.
    pub fn max_capacity(mut self, bytes: u64) -> Self {
        self.max_capacity = bytes;
        self
    }

    /// Connections at a time. Default: 1024.
    pub fn max_connections(mut self, connections: u64) -> Self {
        self.max_connections = connections;
        self
    }

    /// Segments of all connections together, in bytes. Default: 4 GiB. Arenas are beside it, and bounded by the
    /// [credit](Self::credit) of each connection; so are the private queues of the modes [`Kernel`](crate::Mode::Kernel) and
    /// [`Hybrid`](crate::Mode::Hybrid), bounded by [`max_capacity`](Self::max_capacity).
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = bytes;
        self
    }

    /// How long a client may be silent after it has connected. Default: 1 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    crate::options::common_options!();

    /// Listens under this name or absolute path.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn bind(self, name: impl AsRef<OsStr>) -> Result<Listener, ListenError> {
        for capacity in [self.capacity, self.max_capacity] {
            if !is_capacity(capacity) {
                return Err(ListenError::Capacity { capacity });
            }
        }
        let address = SocketAddress::resolve(name)?;
        let socket = BoundSocket::bind(&address, self.permissions, self.backlog)?;
        let events = GuardedFd::open(|| socket::watch(&socket)).map_err(ListenError::Events)?;
        Ok(Listener {
            socket,
            events,
            label: address.label(),
            options: self,
            pending: VecDeque::new(),
            used: Arc::default(),
            refused: 0,
            last_refusal: None,
            owner: fork::token(),
        })
    }
}

/// Accepts connections under a name. Dropping it takes the name away; a killed process leaves a file that the next one to use the
/// name replaces.
pub struct Listener {
    socket: BoundSocket,
    /// An epoll of the socket and of every pending client, for the event loops of others. A client leaves it when it is closed.
    events: GuardedFd,
    label: std::string::String,
    options: ListenOptions,
    /// Connected clients that have not said hello, oldest first.
    pending: VecDeque<Pending>,
    used: Arc<Used>,
    refused: u64,
    last_refusal: Option<Refusal>,
    owner: fork::ForkToken,
}

struct Pending {
    socket: GuardedFd,
    deadline: Deadline,
}

/// What the living connections of a listener use.
#[derive(Default)]
struct Used {
    connections: AtomicU64,
    bytes: AtomicU64,
}

/// One connection's share of it.
struct Lease {
    used: Arc<Used>,
    bytes: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Relaxed: counters only, nothing is published through them.
        self.used.connections.fetch_sub(1, Ordering::Relaxed);
        self.used.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Listener {
    /// Listens under this name or absolute path, with the defaults.
    ///
    /// # Errors
    /// [`ListenError`], among them that somebody listens there already.
    ///
    /// # Examples
    /// ```no_run
    /// let mut server = ipc_core::Listener::bind("sensors")?.accept()?;
    /// let message = server.recv()?.to_vec();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind(name: impl AsRef<OsStr>) -> Result<Self, ListenError> {
        ListenOptions::new().bind(name)
    }

    /// Waits for the next client that completes the handshake and is admitted.
    ///
    /// # Errors
    /// [`AcceptError::Os`] if the system fails (no descriptors left, say), [`AcceptError::Forked`] in a forked child.
    pub fn accept(&mut self) -> Result<Connection, AcceptError> {
        self.accept_until(Deadline::never())
    }

    /// Waits for the next client for at most `timeout`.
    ///
    /// # Errors
    /// As [`Listener::accept`], and [`AcceptError::TimedOut`].
    pub fn accept_timeout(&mut self, timeout: Duration) -> Result<Connection, AcceptError> {
        self.accept_until(Deadline::after(timeout))
    }

    /// The next client if one is ready. It never waits.
    ///
    /// # Errors
    /// As [`Listener::accept`].
    pub fn try_accept(&mut self) -> Result<Option<Connection>, AcceptError> {
        match self.accept_until(Deadline::after(Duration::ZERO)) {
            Ok(connection) => Ok(Some(connection)),
            Err(AcceptError::TimedOut { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where the socket file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.socket.address().path()
    }

    /// Clients turned away so far: refused, malformed, silent for too long, or gone.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Why the last client was refused, if one was.
    #[must_use]
    pub fn last_refusal(&self) -> Option<Refusal> {
        self.last_refusal
    }

    /// Connections that live at the moment.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.used.connections.load(Ordering::Relaxed)
    }

    /// Time until the oldest client that has not spoken is to be forgotten by the next call that accepts.
    #[cfg(feature = "tokio")]
    pub(crate) fn silence_left(&self) -> Option<Duration> {
        self.pending.front().and_then(|pending| pending.deadline.left())
    }

    fn accept_until(&mut self, deadline: Deadline) -> Result<Connection, AcceptError> {
        if !self.owner.is_original() {
            return Err(AcceptError::Forked);
        }
        let mut overtime = 0;
        loop {
            let ready = self.poll(deadline)?;
            // First come, first served; and before a newcomer can push out the oldest.
            if let Some(pending) = ready.pending.and_then(|at| self.pending.remove(at)) {
                if let Some(connection) = self.answer(pending) {
                    return Ok(connection);
                }
                // What was made for a client that left was made in vain, and it may have been much.
                overtime += if deadline.is_over() { MAX_PENDING } else { 0 };
            }
            if ready.listener {
                self.take_in()?;
            }
            self.forget_silent();
            // What is there already is still looked at, but not without end: a flood of clients must not hold the caller.
            if deadline.is_over() {
                overtime += 1;
                if overtime > 2 * MAX_PENDING || !self.has_work() {
                    return Err(AcceptError::TimedOut { waited: deadline.waited() });
                }
            }
        }
    }

    /// Waits until a client connects, a connected one speaks, or a deadline passes.
    fn poll(&self, deadline: Deadline) -> Result<Ready, AcceptError> {
        let fds = std::iter::once(self.socket.as_fd()).chain(self.pending.iter().map(|pending| pending.socket.as_fd()));
        let oldest = self.pending.front().and_then(|pending| pending.deadline.left());
        let left = [deadline.left(), oldest].into_iter().flatten().min();
        let ready = socket::wait_readable(fds, left)
            .map_err(|source| AcceptError::Os { action: "waiting for clients", source })?;
        let mut ready = ready.into_iter();
        let listener = ready.next().unwrap_or(false);
        Ok(Ready { listener, pending: ready.position(|ready| ready) })
    }

    /// Says whether another round would find something without waiting.
    fn has_work(&self) -> bool {
        self.poll(Deadline::after(Duration::ZERO)).is_ok_and(|ready| ready.listener || ready.pending.is_some())
    }

    /// Accepts one connected client; it has until the handshake timeout to say hello.
    fn take_in(&mut self) -> Result<(), AcceptError> {
        match GuardedFd::open(|| socket::accept(&self.socket)) {
            Ok(socket) => {
                socket::watch_too(&self.events, &socket)
                    .map_err(|source| AcceptError::Os { action: "watching a client", source })?;
                if self.pending.len() >= MAX_PENDING {
                    self.pending.pop_front();
                    self.refused += 1;
                }
                let deadline = Deadline::after(self.options.handshake_timeout);
                self.pending.push_back(Pending { socket, deadline });
                Ok(())
            }
            Err(error) if is_transient(&error) => Ok(()),
            Err(source) => Err(AcceptError::Os { action: "accepting a client", source }),
        }
    }

    fn forget_silent(&mut self) {
        while self.pending.front().is_some_and(|pending| pending.deadline.is_over()) {
            self.pending.pop_front();
            self.refused += 1;
        }
    }

    /// Reads a client's hello and answers it. `None` if there is no connection after that.
    fn answer(&mut self, pending: Pending) -> Option<Connection> {
        let refusal = match self.prepare(&pending.socket) {
            Ok((offer, theirs)) => match self.welcome(pending.socket, offer, theirs) {
                // SAFETY: the link is new; the client gets the other halves.
                Ok(link) => return Some(unsafe { Connection::new(link, self.options.strategy) }),
                // The client was promised a connection, or has gone; hanging up is all that is left to say.
                Err(_) => None,
            },
            Err(refusal) => {
                if let Some(refusal) = refusal {
                    // The client may have gone; it is turned away either way.
                    let _ = packet::send(&pending.socket, &[IoSlice::new(&Welcome::encode(&Err(refusal)))], &[]);
                }
                refusal
            }
        };
        self.refused += 1;
        self.last_refusal = refusal.or(self.last_refusal);
        None
    }

    /// Makes what a client asks for. An error without a refusal: the client has gone.
    fn prepare(&self, client: &GuardedFd) -> Result<(Offer, Theirs), Option<Refusal>> {
        let mut buffer = [0; MAX_PACKET];
        let packet = packet::receive(client, &mut buffer).map_err(|_| None)?;
        if packet.len == 0 {
            return Err(None);
        }
        let hello = Hello::decode(&buffer[..packet.len]).map_err(|_: Malformed| Refusal::Malformed)?;
        let peer = Peer::of(client).map_err(resources)?;
        if !self.options.policy.admits(peer.credentials()) {
            let (uid, server_uid) = (peer.credentials().uid.into(), own_user().into());
            return Err(Some(Refusal::Credentials { uid, server_uid }));
        }
        hello.check_layout()?;
        hello.check_payload(self.options.payload)?;
        let mode = self.options.mode.min(hello.terms.mode());
        let geometry = self.geometry(&hello);
        let shared = shared_geometry(mode, geometry);
        let lease = self.lease(if mode.has_arena() { self.options.segment.size_of(shared) } else { 0 })?;
        let segment = if mode.has_arena() {
            Some(Segment::create(&self.label, shared, self.options.segment).map_err(|error| match error {
                SegmentError::NoMemory { source, .. } | SegmentError::Os { source, .. } => resources(source),
                _ => Refusal::Malformed,
            })?)
        } else {
            None
        };
        let pair = || -> Result<_, Refusal> {
            let (ours, theirs) = socket::pair().map_err(resources)?;
            Ok((GuardedFd::new(ours).map_err(resources)?, GuardedFd::new(theirs).map_err(resources)?))
        };
        let ((space, their_space), (files, their_files)) = (pair()?, pair()?);
        let membarrier =
            self.options.membarrier && hello.terms.mode().has_arena() && hello.membarrier && membarrier::register();
        let timer = |wanted: bool| (wanted && !mode.queues_in_socket()).then(Timer::new).transpose().map_err(resources);
        let (client_timer, own_timer) = (timer(hello.terms.coalesces())?, timer(self.options.coalescing.is_some())?);
        let peer_credit = hello.terms.credit();
        let timers = Timers { client: client_timer, own: own_timer };
        let offer = Offer { segment, space, files, timers, peer, membarrier, mode, geometry, peer_credit, lease };
        Ok((offer, Theirs { space: their_space, files: their_files }))
    }

    /// Tells a client what was made for it, and puts our end together.
    fn welcome(&self, client: GuardedFd, offer: Offer, theirs: Theirs) -> io::Result<Link> {
        let Offer { segment, space, files, timers, peer, membarrier, mode, geometry, peer_credit, lease } = offer;
        let terms = Terms::new(mode, self.options.credit, self.options.payload, timers.own.is_some());
        let size = segment.as_ref().map_or(0, Segment::size);
        let welcome = Welcome { membarrier, size, geometry, terms };
        let memory = segment.as_ref().map(AsFd::as_fd);
        let sockets = [theirs.space.as_fd(), theirs.files.as_fd()];
        let timer_fds = [&timers.client, &timers.own].into_iter().flatten().map(AsFd::as_fd);
        let fds: Vec<_> = memory.into_iter().chain(sockets).chain(timer_fds).collect();
        packet::send(&client, &[IoSlice::new(&Welcome::encode(&Ok(welcome)))], &fds)?;
        Link::new(Parts {
            role: Role::Server,
            segment,
            messages: client,
            space,
            files,
            coalescing: self.options.coalescing.zip(timers.own),
            alarm: timers.client,
            peer,
            membarrier,
            mode,
            geometry,
            own_credit: self.options.credit,
            peer_credit,
            label: self.label.clone(),
            lease: Some(Box::new(lease)),
        })
    }

    fn geometry(&self, hello: &Hello) -> Geometry {
        let give = |wish: Option<u64>| wish.unwrap_or(self.options.capacity).min(self.options.max_capacity);
        Geometry {
            to_server_capacity: give(hello.to_server_capacity),
            to_client_capacity: give(hello.to_client_capacity),
        }
    }

    /// Takes a share of the limits, or says which one is reached. Only this listener adds, so check and addition need not be one step.
    fn lease(&self, bytes: u64) -> Result<Lease, Refusal> {
        let open = self.used.connections.load(Ordering::Relaxed);
        if open >= self.options.max_connections {
            return Err(Refusal::Connections { open, limit: self.options.max_connections });
        }
        let free = self.options.max_memory.saturating_sub(self.used.bytes.load(Ordering::Relaxed));
        if bytes > free {
            return Err(Refusal::Memory { needed: bytes, free });
        }
        self.used.connections.fetch_add(1, Ordering::Relaxed);
        self.used.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Lease { used: self.used.clone(), bytes })
    }
}

/// What was made for a client, before it is told.
struct Offer {
    segment: Option<Segment>,
    space: GuardedFd,
    files: GuardedFd,
    timers: Timers,
    peer: Peer,
    membarrier: bool,
    mode: Mode,
    geometry: Geometry,
    peer_credit: Credit,
    lease: Lease,
}

/// The timers of the client's sender and of our own, of those that put rings off. Both sides hold them.
struct Timers {
    client: Option<Timer>,
    own: Option<Timer>,
}

/// The ends of its sockets that go to the client.
struct Theirs {
    space: GuardedFd,
    files: GuardedFd,
}

struct Ready {
    listener: bool,
    /// The first connected client that has spoken or gone: an index into `pending`.
    pending: Option<usize>,
}

fn resources(error: io::Error) -> Refusal {
    Refusal::Resources { errno: error.raw_os_error().unwrap_or_default().unsigned_abs().into() }
}

/// Errors of `accept` that concern one client, not the listener.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted)
}

/// Readable when a client connects or one that has connected speaks: call [`Listener::try_accept`] then.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}
