//! The two packets that make a connection: the client's hello and the server's welcome.
//!
//! Promise: what comes out of here has been checked field by field. Refusal: nothing is sent or received here, so that every
//! byte sequence can be tried on it.
//!
//! ```text
//! client                                server
//!   | -- Hello: versions, hash, wishes --> |  checks credentials, versions, hash, limits; makes the segment
//!   | <-- Welcome: geometry + fds -------- |  sockets for space and files, memfd if memory is shared, timers if doorbells are delayed
//!   |     or Welcome: a refusal            |
//! ```

use crate::layout::{Geometry, LAYOUT_HASH, LAYOUT_VERSION, is_capacity};
use crate::terms::{Credit, Mode, PayloadType, Terms};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const HELLO_MAGIC: u64 = u64::from_le_bytes(*b"ipc-hell");
const WELCOME_MAGIC: u64 = u64::from_le_bytes(*b"ipc-welc");
/// Room for the packets of later versions, which may be longer.
pub(crate) const MAX_PACKET: usize = 512;

const FLAG_MEMBARRIER: u32 = 1;

/// A field of a handshake packet that is not what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {packet}'s {field} is {value:#x}, allowed is {min:#x} to {max:#x}")]
pub struct Malformed {
    /// Which packet.
    pub packet: &'static str,
    /// Which field.
    pub field: &'static str,
    /// What it holds.
    pub value: u64,
    /// The smallest value allowed.
    pub min: u64,
    /// The largest value allowed.
    pub max: u64,
}

/// Why a server refuses a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No layout version is spoken by both.
    #[error("the server speaks layout version {server}, the client's newest is {client}")]
    Version {
        /// The server's.
        server: u64,
        /// The client's newest.
        client: u64,
    },
    /// Same version, other bytes.
    #[error("the server's layout hash is {server:#x}, the client's is {client:#x}")]
    LayoutHash {
        /// The server's.
        server: u64,
        /// The client's.
        client: u64,
    },
    /// The server has as many connections as it takes.
    #[error("the server has {open} connections, its limit is {limit}")]
    Connections {
        /// Open connections.
        open: u64,
        /// The limit.
        limit: u64,
    },
    /// The connection's memory would exceed the server's limit.
    #[error("the connection needs {needed} bytes, {free} are left below the server's limit")]
    Memory {
        /// Bytes needed.
        needed: u64,
        /// Bytes left.
        free: u64,
    },
    /// The server's policy does not admit this user.
    #[error("the server does not admit user {uid} (its own is {server_uid})")]
    Credentials {
        /// The client's user id, as the server sees it.
        uid: u64,
        /// The server's user id.
        server_uid: u64,
    },
    /// The hello was malformed.
    #[error("the server could not read the hello")]
    Malformed,
    /// Both sides have typed messages, of different sizes or alignments.
    #[error(
        "the server's messages have {server_size} bytes, aligned to {server_align}; the client's have {client_size}, aligned to {client_align}",
        server_size = .server >> 16, server_align = .server & 0xffff, client_size = .client >> 16, client_align = .client & 0xffff
    )]
    PayloadLayout {
        /// The server's size in bytes, times 65536, plus its alignment.
        server: u64,
        /// The client's.
        client: u64,
    },
    /// Both sides have typed messages, of different types.
    #[error(
        "the server's messages have another type than the client's (hash of the name {server:#x}, the client's is {client:#x})"
    )]
    PayloadName {
        /// Hash of the server's name.
        server: u64,
        /// Hash of the client's name.
        client: u64,
    },
    /// The server could not make the segment, the sockets or the timers.
    #[error("the server could not provide the connection (system error {errno})")]
    Resources {
        /// The system's error number.
        errno: u64,
    },
}

impl Refusal {
    const LAST_CODE: u64 = 9;

    /// Code and two numbers, as they travel. Codes are append-only; 0 is acceptance.
    fn encode(self) -> (u32, u64, u64) {
        match self {
            Self::Version { server, client } => (1, server, client),
            Self::LayoutHash { server, client } => (2, server, client),
            Self::Connections { open, limit } => (3, open, limit),
            Self::Memory { needed, free } => (4, needed, free),
            Self::Credentials { uid, server_uid } => (5, uid, server_uid),
            Self::Malformed => (6, 0, 0),
            Self::Resources { errno } => (7, errno, 0),
            Self::PayloadLayout { server, client } => (8, server, client),
            Self::PayloadName { server, client } => (9, server, client),
        }
    }

    fn decode(code: u32, first: u64, second: u64) -> Option<Self> {
        Some(match code {
            1 => Self::Version { server: first, client: second },
            2 => Self::LayoutHash { server: first, client: second },
            3 => Self::Connections { open: first, limit: second },
            4 => Self::Memory { needed: first, free: second },
            5 => Self::Credentials { uid: first, server_uid: second },
            6 => Self::Malformed,
            7 => Self::Resources { errno: first },
            8 => Self::PayloadLayout { server: first, client: second },
            9 => Self::PayloadName { server: first, client: second },
            _ => return None,
        })
    }
}

/// What a client says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version_min: u16,
    pub(crate) version_max: u16,
    pub(crate) hash: u64,
    pub(crate) membarrier: bool,
    /// The capacities that the client would like, if it cares.
    pub(crate) to_server_capacity: Option<u64>,
    pub(crate) to_client_capacity: Option<u64>,
    pub(crate) terms: Terms,
}

#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
struct HelloPacket {
    magic: u64,
    version_min: u16,
    version_max: u16,
    flags: u32,
    hash: u64,
    to_server_capacity: u64,
    to_client_capacity: u64,
    terms: Terms,
}

impl Hello {
    /// The hello of this build.
    pub(crate) fn new(
        membarrier: bool,
        to_server_capacity: Option<u64>,
        to_client_capacity: Option<u64>,
        terms: Terms,
    ) -> Self {
        Self {
            version_min: LAYOUT_VERSION,
            version_max: LAYOUT_VERSION,
            hash: LAYOUT_HASH,
            membarrier,
            to_server_capacity,
            to_client_capacity,
            terms,
        }
    }

    pub(crate) fn encode(&self) -> [u8; size_of::<HelloPacket>()] {
        let packet = HelloPacket {
            magic: HELLO_MAGIC,
            version_min: self.version_min,
            version_max: self.version_max,
            flags: if self.membarrier { FLAG_MEMBARRIER } else { 0 },
            hash: self.hash,
            to_server_capacity: self.to_server_capacity.unwrap_or(0),
            to_client_capacity: self.to_client_capacity.unwrap_or(0),
            terms: self.terms,
        };
        zerocopy::transmute!(packet)
    }

    /// Reads a packet; bytes behind the known fields belong to later versions and are skipped.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let packet: HelloPacket = read("hello", bytes)?;
        check("hello", "magic", packet.magic, HELLO_MAGIC, HELLO_MAGIC)?;
        let version_max = u64::from(packet.version_max);
        check("hello", "oldest version", packet.version_min.into(), 0, version_max)?;
        check_terms("hello", &packet.terms)?;
        Ok(Self {
            version_min: packet.version_min,
            version_max: packet.version_max,
            hash: packet.hash,
            membarrier: packet.flags & FLAG_MEMBARRIER != 0,
            to_server_capacity: wish(packet.to_server_capacity)?,
            to_client_capacity: wish(packet.to_client_capacity)?,
            terms: packet.terms,
        })
    }

    /// Checks that this build and the client's agree on the bytes in shared memory.
    pub(crate) fn check_layout(&self) -> Result<(), Refusal> {
        let ours = LAYOUT_VERSION;
        if self.version_min > ours || self.version_max < ours {
            return Err(Refusal::Version { server: ours.into(), client: self.version_max.into() });
        }
        if self.hash != LAYOUT_HASH {
            return Err(Refusal::LayoutHash { server: LAYOUT_HASH, client: self.hash });
        }
        Ok(())
    }

    /// Checks that typed messages have the same type on both sides. A side without a type takes any.
    pub(crate) fn check_payload(&self, ours: Option<PayloadType>) -> Result<(), Refusal> {
        let (Some(ours), Some(theirs)) = (ours, self.terms.payload()) else { return Ok(()) };
        let layout = |payload: PayloadType| payload.size() << 16 | payload.align() & 0xffff;
        if layout(ours) != layout(theirs) {
            return Err(Refusal::PayloadLayout { server: layout(ours), client: layout(theirs) });
        }
        if ours != theirs {
            return Err(Refusal::PayloadName { server: ours.name_hash(), client: theirs.name_hash() });
        }
        Ok(())
    }
}

fn wish(capacity: u64) -> Result<Option<u64>, Malformed> {
    if capacity == 0 {
        return Ok(None);
    }
    if !is_capacity(capacity) {
        use crate::layout::{MAX_CAPACITY, MIN_CAPACITY};
        return Err(malformed("hello", "capacity (a power of two)", capacity, MIN_CAPACITY, MAX_CAPACITY));
    }
    Ok(Some(capacity))
}

/// A server's acceptance: what the segment beside it looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) membarrier: bool,
    /// Bytes in the segment; 0 if no memory is shared.
    pub(crate) size: u64,
    pub(crate) geometry: Geometry,
    pub(crate) terms: Terms,
}

#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
struct WelcomePacket {
    magic: u64,
    version: u16,
    reserved: u16,
    flags: u32,
    hash: u64,
    code: u32,
    reserved_too: u32,
    /// Size and capacities, or the numbers of a refusal.
    numbers: [u64; 3],
    terms: Terms,
}

impl Welcome {
    pub(crate) fn encode(answer: &Result<Self, Refusal>) -> [u8; size_of::<WelcomePacket>()] {
        let (membarrier, code, numbers, terms) = match answer {
            Ok(welcome) => {
                let Geometry { to_server_capacity, to_client_capacity } = welcome.geometry;
                (welcome.membarrier, 0, [welcome.size, to_server_capacity, to_client_capacity], welcome.terms)
            }
            Err(refusal) => {
                let (code, first, second) = refusal.encode();
                (false, code, [first, second, 0], Terms::new(Mode::Kernel, Credit::default(), None, false))
            }
        };
        let packet = WelcomePacket {
            magic: WELCOME_MAGIC,
            version: LAYOUT_VERSION,
            reserved: 0,
            flags: if membarrier { FLAG_MEMBARRIER } else { 0 },
            hash: LAYOUT_HASH,
            code,
            reserved_too: 0,
            numbers,
            terms,
        };
        zerocopy::transmute!(packet)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Result<Self, Refusal>, Malformed> {
        let packet: WelcomePacket = read("welcome", bytes)?;
        check("welcome", "magic", packet.magic, WELCOME_MAGIC, WELCOME_MAGIC)?;
        let [first, second, third] = packet.numbers;
        if packet.code != 0 {
            let refusal = Refusal::decode(packet.code, first, second);
            return refusal.map(Err).ok_or(malformed(
                "welcome",
                "refusal code",
                packet.code.into(),
                1,
                Refusal::LAST_CODE,
            ));
        }
        check("welcome", "version", packet.version.into(), LAYOUT_VERSION.into(), LAYOUT_VERSION.into())?;
        check("welcome", "layout hash", packet.hash, LAYOUT_HASH, LAYOUT_HASH)?;
        check_terms("welcome", &packet.terms)?;
        let geometry = Geometry { to_server_capacity: second, to_client_capacity: third };
        for capacity in [second, third] {
            if !is_capacity(capacity) {
                use crate::layout::{MAX_CAPACITY, MIN_CAPACITY};
                return Err(malformed("welcome", "capacity (a power of two)", capacity, MIN_CAPACITY, MAX_CAPACITY));
            }
        }
        Ok(Ok(Self { membarrier: packet.flags & FLAG_MEMBARRIER != 0, size: first, geometry, terms: packet.terms }))
    }
}

fn read<T: FromBytes>(packet: &'static str, bytes: &[u8]) -> Result<T, Malformed> {
    let value = T::read_from_prefix(bytes).ok().map(|(value, _)| value);
    value.ok_or(malformed(packet, "length", bytes.len() as u64, size_of::<T>() as u64, MAX_PACKET as u64))
}

fn check(packet: &'static str, field: &'static str, value: u64, min: u64, max: u64) -> Result<(), Malformed> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(malformed(packet, field, value, min, max)) }
}

fn check_terms(packet: &'static str, terms: &Terms) -> Result<(), Malformed> {
    terms.check().map_err(|(field, value, min, max)| malformed(packet, field, value, min, max))
}

fn malformed(packet: &'static str, field: &'static str, value: u64, min: u64, max: u64) -> Malformed {
    Malformed { packet, field, value, min, max }
}
