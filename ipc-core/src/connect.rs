//! Connecting to a listener.

use crate::connection::Connection;
use crate::handshake::{Hello, MAX_PACKET, Malformed, Refusal, Welcome};
use crate::layout::{Geometry, MIN_CAPACITY, is_capacity};
use crate::link::{Link, Parts, Role};
use crate::os::address::{AddressError, SocketAddress};
use crate::os::admission::Peer;
use crate::os::admission::{PeerPolicy, own_user};
use crate::os::bell::Deadline;
use crate::os::fork::GuardedFd;
use crate::os::packet::{self, Packet};
use crate::os::rendezvous::{DialError, connect_stream};
use crate::os::segment::{Segment, SegmentError, SegmentOptions};
use crate::os::timer::{Timer, is_timer};
use crate::os::{membarrier, socket};
use crate::sender::Coalescing;
use crate::terms::{Credit, Mode, PayloadType, Terms};
use crate::wait::WaitStrategy;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::string::String;
use std::time::Duration;

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name cannot be one, or its directory cannot be trusted.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A ring capacity was asked for that no ring can have.
    #[error("a ring capacity of {capacity} bytes was asked for; it must be a power of two from 4 KiB to 1 GiB")]
    Capacity {
        /// What was asked for.
        capacity: u64,
    },
    /// There is no listener that could be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The server said no.
    #[error("the server of {name} refused the connection: {refusal}")]
    Refused {
        /// The name that was connected to.
        name: String,
        /// Why.
        refusal: Refusal,
    },
    /// The server's answer makes no sense.
    #[error("the server of {name} answered wrongly: {malformed}")]
    Malformed {
        /// The name that was connected to.
        name: String,
        /// What was wrong.
        malformed: Malformed,
    },
    /// The server hung up in the middle of the handshake.
    #[error("the server of {name} hung up before it answered")]
    HungUp {
        /// The name that was connected to.
        name: String,
    },
    /// The policy does not admit the server's user.
    #[error(
        "the server of {name} runs as user {uid}; the policy ({policy}) does not admit it, this process runs as {own_uid}"
    )]
    Policy {
        /// The name that was connected to.
        name: String,
        /// The server's user id.
        uid: u32,
        /// Our own.
        own_uid: u32,
        /// The policy.
        policy: String,
    },
    /// The server's memory is more than the client wants to map.
    #[error("the server of {name} offers a segment of {size} bytes, the limit is {limit}")]
    TooLarge {
        /// The name that was connected to.
        name: String,
        /// Bytes in the segment.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The server's segment cannot be used.
    #[error("the segment from the server of {name} is refused: {source}")]
    Segment {
        /// The name that was connected to.
        name: String,
        /// Why.
        source: SegmentError,
    },
    /// No connection was made before the deadline.
    #[error("no connection to {name} within {waited:?}: {stage}")]
    TimedOut {
        /// The name that was connected to.
        name: String,
        /// How long the call waited.
        waited: Duration,
        /// What it waited for.
        stage: &'static str,
    },
    /// The system failed.
    #[error("{action} failed: {source}")]
    Os {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// How to connect. [`connect`] is the short form.
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// let client = ipc_core::ConnectOptions::new()
///     .wait_for_listener(true)
///     .timeout(Duration::from_secs(10))
///     .connect("sensors")?;
/// # Ok::<(), ipc_core::ConnectError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ConnectOptions {
    timeout: Option<Duration>,
    wait_for_listener: bool,
    to_server_capacity: Option<u64>,
    to_client_capacity: Option<u64>,
    max_segment: u64,
    policy: PeerPolicy,
    segment: SegmentOptions,
    strategy: WaitStrategy,
    membarrier: bool,
    mode: Mode,
    credit: Credit,
    payload: Option<PayloadType>,
    coalescing: Option<Coalescing>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: Some(Duration::from_secs(5)),
            wait_for_listener: false,
            to_server_capacity: None,
            to_client_capacity: None,
            max_segment: 4 << 30,
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

impl ConnectOptions {
    /// The defaults of [`connect`].
    pub fn new() -> Self {
        Self::default()
    }

    /// How long to wait for the listener and its answer. Default: 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Wait as long as it takes.
    pub fn no_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// Whether to wait for a listener that is not there yet, until the timeout. Default: false.
    pub fn wait_for_listener(mut self, wait: bool) -> Self {
        self.wait_for_listener = wait;
        self
    }

    /// Ring capacities to ask for, in bytes: to the server and to the client, powers of two from 4 KiB to 1 GiB. The server
    /// may give others. Default: what the server thinks best.
    pub fn capacities(mut self, to_server: u64, to_client: u64) -> Self {
        self.to_server_capacity = Some(to_server);
        self.to_client_capacity = Some(to_client);
        self
    }

    /// The largest segment to map, in bytes. Default: 4 GiB.
    pub fn max_segment(mut self, bytes: u64) -> Self {
        self.max_segment = bytes;
        self
    }

    crate::options::common_options!();

    /// Connects to the listener of this name or absolute path.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(&self, name: impl AsRef<OsStr>) -> Result<Connection, ConnectError> {
        let mut attempt = self.attempt(name)?;
        let socket = loop {
            match attempt.dial()? {
                Ok(socket) => break socket,
                Err(pause) => std::thread::sleep(pause),
            }
        };
        let handshake = attempt.greet(socket)?;
        let (welcome, answer) = loop {
            socket::wait_readable(std::iter::once(handshake.as_fd()), handshake.left())
                .map_err(|source| ConnectError::Os { action: WAITING, source })?;
            if let Some(answer) = handshake.answer()? {
                break answer;
            }
        };
        handshake.finish(&welcome, answer)
    }

    /// Begins to connect, by steps that do not wait: `dial` until there is a socket, `greet`, `answer` until there is one, `finish`.
    /// In between, the blocking form above waits on its thread, the asynchronous one in its runtime.
    pub(crate) fn attempt(&self, name: impl AsRef<OsStr>) -> Result<Attempt<'_>, ConnectError> {
        for capacity in [self.to_server_capacity, self.to_client_capacity].into_iter().flatten() {
            if !is_capacity(capacity) {
                return Err(ConnectError::Capacity { capacity });
            }
        }
        let address = SocketAddress::resolve(name)?;
        let deadline = match self.timeout {
            Some(timeout) => Deadline::after(timeout),
            None => Deadline::never(),
        };
        Ok(Attempt { options: self, address, deadline, pause: Duration::from_millis(1) })
    }

    /// Takes the descriptors out of a welcome: memory if it is shared, the sockets for space and for files, and the timers of the
    /// client's and of the server's sender if they put rings off. Anything else beside it is refused, and so is a mode that shares
    /// more than was wished for.
    fn check_answer(&self, welcome: &Welcome, answer: Packet) -> Result<[Option<OwnedFd>; 5], AnswerError> {
        if welcome.size > self.max_segment {
            return Err(AnswerError::TooLarge { size: welcome.size, limit: self.max_segment });
        }
        let malformed =
            |field, value, min, max| AnswerError::Malformed(Malformed { packet: "welcome", field, value, min, max });
        if answer.too_long {
            return Err(malformed("length", answer.len as u64 + 1, 0, MAX_PACKET as u64));
        }
        let mode = welcome.terms.mode();
        if mode > self.mode {
            return Err(malformed("mode", welcome.terms.mode.into(), 1, self.mode.code().into()));
        }
        let timers =
            [self.coalescing.is_some(), welcome.terms.coalesces()].map(|wanted| wanted && !mode.queues_in_socket());
        let expected = [mode.has_arena(), true, true, timers[0], timers[1]].map(u64::from).iter().sum();
        if answer.too_many && (answer.fds.len() as u64) < expected {
            // The kernel had no numbers left for the rest.
            return Err(AnswerError::NoDescriptors);
        }
        let found = answer.fds.len() as u64 + u64::from(answer.too_many);
        if found != expected {
            return Err(malformed("number of file descriptors", found, expected, expected));
        }
        let mut fds = answer.fds.into_iter();
        let memory = if mode.has_arena() { fds.next() } else { None };
        let (space, files) = (fds.next(), fds.next());
        for socket in [&space, &files] {
            if !socket.as_ref().is_some_and(socket::is_unix_seqpacket) {
                return Err(malformed("file descriptors' kind (1: a Unix packet socket)", 0, 1, 1));
            }
        }
        let [own_timer, peer_timer] = timers.map(|wanted| if wanted { fds.next() } else { None });
        if ![&own_timer, &peer_timer].into_iter().flatten().all(is_timer) {
            return Err(malformed("file descriptors' kind (1: a timer)", 0, 1, 1));
        }
        Ok([memory, space, files, own_timer, peer_timer])
    }
}

/// A call that connects and has no socket yet.
pub(crate) struct Attempt<'o> {
    options: &'o ConnectOptions,
    address: SocketAddress,
    deadline: Deadline,
    /// Before the next dial, if one is needed.
    pause: Duration,
}

impl<'o> Attempt<'o> {
    /// Dials once: a socket, or the time to wait before the next call.
    pub(crate) fn dial(&mut self) -> Result<Result<GuardedFd, Duration>, ConnectError> {
        let refused = match connect_stream(&self.address) {
            Ok(socket) => return GuardedFd::new(socket).map(Ok).map_err(preparing),
            Err(refused) => refused,
        };
        let stage = match refused {
            ref dial if dial.nobody_listens() && self.options.wait_for_listener => "nobody listens",
            DialError::Busy { .. } => "the listener's queue is full",
            other => return Err(other.into()),
        };
        if self.deadline.is_over() {
            return Err(timed_out(&self.address, self.deadline, stage));
        }
        let pause = self.deadline.left().map_or(self.pause, |left| left.min(self.pause));
        self.pause = (self.pause * 2).min(Duration::from_millis(20));
        Ok(Err(pause))
    }

    /// Checks who the server is, and sends the hello.
    pub(crate) fn greet(self, socket: GuardedFd) -> Result<Handshake<'o>, ConnectError> {
        let Self { options, address, deadline, .. } = self;
        let peer =
            Peer::of(&socket).map_err(|source| ConnectError::Os { action: "asking who the server is", source })?;
        if !options.policy.admits(peer.credentials()) {
            return Err(ConnectError::Policy {
                name: address.name().into(),
                uid: peer.credentials().uid,
                own_uid: own_user(),
                policy: std::format!("{:?}", options.policy),
            });
        }
        let membarrier = options.membarrier && membarrier::register();
        let terms = Terms::new(options.mode, options.credit, options.payload, options.coalescing.is_some());
        let hello = Hello::new(membarrier, options.to_server_capacity, options.to_client_capacity, terms);
        // A server that has hung up already may have left its reasons in the socket.
        let _ = packet::send(&socket, &[IoSlice::new(&hello.encode())], &[]);
        Ok(Handshake { options, address, deadline, socket, peer, membarrier })
    }
}

/// A call that connects and has said hello. Its descriptor becomes readable when the server answers or hangs up.
pub(crate) struct Handshake<'o> {
    options: &'o ConnectOptions,
    address: SocketAddress,
    deadline: Deadline,
    socket: GuardedFd,
    peer: Peer,
    membarrier: bool,
}

impl Handshake<'_> {
    fn name(&self) -> String {
        self.address.name().into()
    }

    /// How long to wait for the socket before the next call of `answer`; none if there is no end.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.deadline.left()
    }

    /// The server's answer if it is there.
    pub(crate) fn answer(&self) -> Result<Option<(Welcome, Packet)>, ConnectError> {
        let mut buffer = [0; MAX_PACKET];
        let answer = match packet::receive(&self.socket, &mut buffer) {
            Ok(packet) if packet.len == 0 => return Err(ConnectError::HungUp { name: self.name() }),
            Ok(packet) => packet,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock if self.deadline.is_over() => {
                    return Err(timed_out(&self.address, self.deadline, "the server does not answer"));
                }
                io::ErrorKind::WouldBlock => return Ok(None),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                    return Err(ConnectError::HungUp { name: self.name() });
                }
                _ => return Err(ConnectError::Os { action: WAITING, source: error }),
            },
        };
        let welcome = Welcome::decode(&buffer[..answer.len])
            .map_err(|malformed| ConnectError::Malformed { name: self.name(), malformed })?
            .map_err(|refusal| ConnectError::Refused { name: self.name(), refusal })?;
        Ok(Some((welcome, answer)))
    }

    /// Makes the connection that a welcome offers.
    pub(crate) fn finish(self, welcome: &Welcome, answer: Packet) -> Result<Connection, ConnectError> {
        let options = self.options;
        let [memory, space, files, own_timer, peer_timer] =
            options.check_answer(welcome, answer).map_err(|error| error.named(self.name()))?;
        let guard = |fd: Option<OwnedFd>| match fd {
            Some(fd) => GuardedFd::new(fd).map_err(preparing),
            None => Err(preparing(io::ErrorKind::InvalidData.into())),
        };
        let (space, files) = (guard(space)?, guard(files)?);
        let timer = |fd: Option<OwnedFd>| fd.map(Timer::attach).transpose().map_err(preparing);
        let (own_timer, peer_timer) = (timer(own_timer)?, timer(peer_timer)?);
        let mode = welcome.terms.mode();
        let segment = match memory {
            None => None,
            Some(memory) => Some(
                Segment::attach(memory, welcome.size, shared_geometry(mode, welcome.geometry), options.segment)
                    .map_err(|source| ConnectError::Segment { name: self.name(), source })?,
            ),
        };
        socket::set_blocking(&self.socket).map_err(preparing)?;
        let link = Link::new(Parts {
            role: Role::Client,
            segment,
            messages: self.socket,
            space,
            files,
            coalescing: options.coalescing.zip(own_timer),
            alarm: peer_timer,
            peer: self.peer,
            membarrier: self.membarrier && welcome.membarrier,
            mode,
            geometry: welcome.geometry,
            own_credit: options.credit,
            peer_credit: welcome.terms.credit(),
            label: self.address.label(),
            lease: None,
        })
        .map_err(preparing)?;
        // SAFETY: the link is new; the server keeps the other halves.
        Ok(unsafe { Connection::new(link, options.strategy) })
    }
}

impl AsFd for Handshake<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What fails when the wait for the answer does.
const WAITING: &str = "waiting for the server's answer";

fn timed_out(address: &SocketAddress, deadline: Deadline, stage: &'static str) -> ConnectError {
    ConnectError::TimedOut { name: address.name().into(), waited: deadline.waited(), stage }
}

/// The rings that lie in shared memory: the smallest ones, which nobody uses, if the queues are in the socket.
pub(crate) fn shared_geometry(mode: Mode, geometry: Geometry) -> Geometry {
    if mode.queues_in_socket() {
        Geometry { to_server_capacity: MIN_CAPACITY, to_client_capacity: MIN_CAPACITY }
    } else {
        geometry
    }
}

fn preparing(source: io::Error) -> ConnectError {
    ConnectError::Os { action: "preparing the connection's sockets", source }
}

/// What can be wrong with an answer, before the server's name is added.
enum AnswerError {
    TooLarge {
        size: u64,
        limit: u64,
    },
    /// This process has no room for the descriptors.
    NoDescriptors,
    Malformed(Malformed),
}

impl AnswerError {
    fn named(self, name: String) -> ConnectError {
        match self {
            Self::TooLarge { size, limit } => ConnectError::TooLarge { name, size, limit },
            Self::NoDescriptors => preparing(Errno::MFILE.into()),
            Self::Malformed(malformed) => ConnectError::Malformed { name, malformed },
        }
    }
}

/// Connects to the listener of this name or absolute path.
///
/// A name stands for a socket in `$XDG_RUNTIME_DIR/ipc`, or in a directory of this user's own under `/tmp`.
///
/// # Errors
/// [`ConnectError`]; among them that nobody listens (see [`ConnectOptions::wait_for_listener`]).
///
/// # Examples
/// ```no_run
/// let mut client = ipc_core::connect("sensors")?;
/// client.send(b"hello")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn connect(name: impl AsRef<OsStr>) -> Result<Connection, ConnectError> {
    ConnectOptions::new().connect(name)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::DEFAULT_CAPACITY;

    /// What a client that coalesces (or not) says to a welcome that offers this mode, coalesces (or not) and has these descriptors
    /// beside it: `m` a file, `s` a socket, `t` a timer.
    fn answer_to(coalesces: bool, mode: Mode, server_coalesces: bool, fds: &str) -> Result<[bool; 5], String> {
        answer_with(coalesces, mode, server_coalesces, fds, false)
    }

    /// The same, for a packet of which the kernel says (or not) that it had more descriptors.
    fn answer_with(
        coalesces: bool,
        mode: Mode,
        server_coalesces: bool,
        fds: &str,
        too_many: bool,
    ) -> Result<[bool; 5], String> {
        let delay = Duration::from_secs(u64::from(coalesces));
        let options = ConnectOptions::new().coalesce(2, delay);
        let geometry = Geometry { to_server_capacity: DEFAULT_CAPACITY, to_client_capacity: DEFAULT_CAPACITY };
        let terms = Terms::new(mode, Credit::default(), None, server_coalesces);
        let welcome = Welcome { membarrier: false, size: 0, geometry, terms };
        let fds = fds.chars().map(|kind| match kind {
            'm' => rustix::fs::memfd_create("ipc", rustix::fs::MemfdFlags::CLOEXEC).unwrap(),
            's' => socket::pair().unwrap().0,
            _ => Timer::new().unwrap().as_fd().try_clone_to_owned().unwrap(),
        });
        let packet = Packet { len: 0, too_long: false, too_many, fds: fds.collect() };
        let taken = options.check_answer(&welcome, packet).map_err(|error| error.named("test".into()).to_string());
        taken.map(|fds| fds.map(|fd| fd.is_some()))
    }

    #[test]
    fn a_welcome_has_a_timer_for_each_sender_that_coalesces_over_a_shared_ring() {
        let taken = |own, peer| Ok([true, true, true, own, peer]);
        assert_eq!(answer_to(false, Mode::Auto, false, "mss"), taken(false, false));
        assert_eq!(answer_to(true, Mode::Auto, false, "msst"), taken(true, false));
        assert_eq!(answer_to(false, Mode::Shared, true, "msst"), taken(false, true));
        assert_eq!(answer_to(true, Mode::Shared, true, "msstt"), taken(true, true));
        assert_eq!(answer_to(true, Mode::Hybrid, true, "mss"), taken(false, false));
        assert_eq!(answer_to(true, Mode::Kernel, true, "ss"), Ok([false, true, true, false, false]));
    }

    #[test]
    fn a_welcome_with_a_timer_too_few_or_too_many_or_with_something_else_for_it_is_refused() {
        for (coalesces, mode, server_coalesces, fds, complaint) in [
            (true, Mode::Auto, false, "mss", "number of file descriptors is 0x3, allowed is 0x4 to"),
            (false, Mode::Auto, false, "msst", "number of file descriptors is 0x4, allowed is 0x3 to"),
            (true, Mode::Kernel, true, "sst", "number of file descriptors is 0x3, allowed is 0x2 to"),
            (true, Mode::Auto, false, "msss", "kind (1: a timer)"),
            (true, Mode::Auto, true, "msstm", "kind (1: a timer)"),
            (true, Mode::Auto, true, "mstst", "kind (1: a Unix packet socket)"),
        ] {
            let error = answer_to(coalesces, mode, server_coalesces, fds).unwrap_err();
            assert!(error.contains(complaint), "{fds}: {error}");
        }
    }

    #[test]
    fn a_client_without_room_for_the_descriptors_does_not_blame_the_server() {
        for fds in ["", "m", "ms"] {
            let error = answer_with(false, Mode::Auto, false, fds, true).unwrap_err();
            assert!(error.contains("Too many open files"), "{fds}: {error}");
        }
        let error = answer_with(false, Mode::Auto, false, "mss", true).unwrap_err();
        assert!(error.contains("number of file descriptors is 0x4, allowed is 0x3 to"), "{error}");
    }
}
