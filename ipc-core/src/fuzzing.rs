//! Doors for the fuzz targets in `fuzz/`: the places where a connection reads its peer's bytes, which are private otherwise.
//!
//! Promise: behind each door is the code that a connection runs, not a copy of it. Refusal: this is no interface; it exists
//! under `--cfg fuzzing` alone, which `cargo fuzz` and `ci/fuzz.sh` set.

use crate::connection::Connection;
use crate::handshake::{self, Malformed, Refusal};
use crate::layout::Geometry;
use crate::link::{Link, Parts, Role};
use crate::os::admission::Peer;
use crate::os::fork::GuardedFd;
use crate::os::segment::{Segment, SegmentError, SegmentOptions};
use crate::ring::RingMemory;
use crate::terms::{Credit, Mode, PayloadType, Terms};
use crate::wait::WaitStrategy;
use rustix::fd::OwnedFd;
use std::io;
use std::vec::Vec;

/// The longest handshake packet that either side receives, in bytes.
pub const MAX_PACKET: usize = handshake::MAX_PACKET;

/// The terms of one side, of any mode; typed messages are those of 8 bytes.
fn terms(mode: Mode, credit: [u64; 3], typed: bool) -> Terms {
    let [messages, arena, message] = credit;
    let payload = typed.then(PayloadType::of::<u64>);
    Terms::new(mode, Credit { messages, arena, message }, payload, typed)
}

/// What a client says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello(handshake::Hello);

impl Hello {
    /// The hello of this build, but of any versions and hash, with this mode and credit (messages, arena, message), typed or not.
    #[must_use]
    pub fn new(
        versions: [u16; 2],
        hash: u64,
        membarrier: bool,
        capacities: [Option<u64>; 2],
        (mode, credit, typed): (Mode, [u64; 3], bool),
    ) -> Self {
        let [version_min, version_max] = versions;
        let [to_server, to_client] = capacities;
        Self(handshake::Hello {
            version_min,
            version_max,
            hash,
            ..handshake::Hello::new(membarrier, to_server, to_client, terms(mode, credit, typed))
        })
    }

    /// What the server makes of a packet.
    ///
    /// # Errors
    /// [`Malformed`] names the field that is wrong.
    pub fn decode(packet: &[u8]) -> Result<Self, Malformed> {
        handshake::Hello::decode(packet).map(Self)
    }

    /// The packet that the client sends.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.0.encode().to_vec()
    }

    /// Whether client and server agree on the bytes in shared memory.
    ///
    /// # Errors
    /// The [`Refusal`] that the server answers with.
    pub fn check_layout(&self) -> Result<(), Refusal> {
        self.0.check_layout()
    }

    /// The layout versions that the client speaks, from the first to the last, and its layout hash.
    #[must_use]
    pub fn layout(&self) -> ([u16; 2], u64) {
        ([self.0.version_min, self.0.version_max], self.0.hash)
    }

    /// What both sides make of the type of their messages, if the server has this one.
    ///
    /// # Errors
    /// The [`Refusal`] that the server answers with.
    pub fn check_payload(&self, ours: Option<PayloadType>) -> Result<(), Refusal> {
        self.0.check_payload(ours)
    }

    /// The type of the client's messages, if it has one.
    #[must_use]
    pub fn payload(&self) -> Option<PayloadType> {
        self.0.terms.payload()
    }

    /// The mode that the client would like.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.0.terms.mode()
    }

    /// The capacities that the client would like, to the server and to itself.
    #[must_use]
    pub fn capacities(&self) -> [Option<u64>; 2] {
        [self.0.to_server_capacity, self.0.to_client_capacity]
    }
}

/// A server's acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome(handshake::Welcome);

impl Welcome {
    /// An acceptance with a segment of this size and geometry; terms as in [`Hello::new`].
    #[must_use]
    pub fn new(membarrier: bool, size: u64, geometry: Geometry, (mode, credit, typed): (Mode, [u64; 3], bool)) -> Self {
        Self(handshake::Welcome { membarrier, size, geometry, terms: terms(mode, credit, typed) })
    }

    /// The mode of the connection.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.0.terms.mode()
    }

    /// What the client makes of a packet: acceptance or refusal.
    ///
    /// # Errors
    /// [`Malformed`] names the field that is wrong.
    pub fn decode(packet: &[u8]) -> Result<Result<Self, Refusal>, Malformed> {
        handshake::Welcome::decode(packet).map(|answer| answer.map(Self))
    }

    /// The packet that the server sends.
    #[must_use]
    pub fn encode(answer: Result<Self, Refusal>) -> Vec<u8> {
        handshake::Welcome::encode(&answer.map(|welcome| welcome.0)).to_vec()
    }

    /// The rings of the connection.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.0.geometry
    }
}

/// A segment that a peer made and this process mapped.
pub struct Attached(Segment);

impl Attached {
    /// Maps what a server sent: a descriptor, and the size and geometry that it announced.
    ///
    /// # Errors
    /// [`SegmentError`] for everything but a sealed segment that is what the server said.
    pub fn new(fd: OwnedFd, size: u64, geometry: Geometry, options: SegmentOptions) -> Result<Self, SegmentError> {
        Segment::attach(fd, size, geometry, options).map(Self)
    }

    /// The rings to the server and to the client.
    #[must_use]
    pub fn rings(&self) -> [RingMemory<'_>; 2] {
        [self.0.to_server(), self.0.to_client()]
    }

    /// Bytes in the mapping.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.size()
    }
}

/// A client's end of a connection to a server that is played by hand.
pub struct End {
    /// The mode.
    pub mode: Mode,
    /// The segment, if memory is shared; of this geometry, in every mode.
    pub memory: Option<OwnedFd>,
    /// The capacities.
    pub geometry: Geometry,
    /// The sockets for messages, space and files.
    pub sockets: [OwnedFd; 3],
    /// What this end accepts, and what the other does: messages, bytes of arena, bytes in a message.
    pub credits: [[u64; 3]; 2],
}

impl End {
    /// The connection, as the handshake would have made it.
    ///
    /// # Errors
    /// What is wrong with the segment, or what the system says.
    pub fn connect(self) -> io::Result<Connection> {
        let Self { mode, memory, geometry, sockets, credits } = self;
        let attach = |fd| Segment::attach(fd, geometry.segment_size(), geometry, SegmentOptions::default());
        let segment = memory.map(attach).transpose().map_err(io::Error::other)?;
        let [messages, space, files] = sockets;
        let [own_credit, peer_credit] = credits.map(|credit| terms(mode, credit, false).credit());
        let link = Link::new(Parts {
            role: Role::Client,
            segment,
            peer: Peer::of(&messages)?,
            messages: GuardedFd::new(messages)?,
            space: GuardedFd::new(space)?,
            files: GuardedFd::new(files)?,
            coalescing: None,
            alarm: None,
            membarrier: false,
            mode,
            geometry,
            own_credit,
            peer_credit,
            label: "fuzz".into(),
            lease: None,
        })?;
        // SAFETY: the link is new; nobody has the other halves but the one who plays the peer.
        Ok(unsafe { Connection::new(link, WaitStrategy::Sleep) })
    }
}
