//! The handshake spoken by hand, with whatever mistakes a test wants, and segments made and mapped without the library.
//!
//! The packets and offsets here are written down a second time on purpose: a change of the library's layout that keeps the
//! version shows as a failing test.

use crate::shared::Mapping;
use ipc_core::layout::{Geometry, LAYOUT_HASH, LAYOUT_VERSION, SegmentHeader};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, recvmsg, sendmsg,
    socket_with, socketpair,
};
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;

/// Where the words of a ring's control block lie, in bytes from its start.
pub mod control {
    /// Whether the producer waits; the producer's.
    pub const PRODUCER_TICKET: usize = 0;
    /// Position of the first record that is not consumed; the consumer's.
    pub const HEAD: usize = 128;
    /// Position up to which bytes may be written again; the consumer's.
    pub const CREDIT: usize = 256;
    /// Messages consumed before that; the consumer's.
    pub const MESSAGES: usize = 264;
    /// Whether the consumer waits; the consumer's.
    pub const CONSUMER_TICKET: usize = 272;
    /// Start of the data.
    pub const DATA: usize = 384;
}

/// Where the parts of a ring's exchange area lie, in bytes from its start.
pub mod exchange {
    /// Whether the sender waits for a block; the sender's.
    pub const TICKET: usize = 0;
    /// Blocks that came back: 1024 words, the stamp of the lap above the number; the receiver's.
    pub const RETURNED: usize = 128;
    /// Bytes written to each block: 1024 words; the sender's.
    pub const PROGRESS: usize = 8320;
    /// What was taken of the offer in each block: 1024 words, its number above the chunks; the receiver's.
    pub const TAKEN: usize = 16512;
}

/// A record header with the stamp of the first lap.
#[must_use]
pub fn header(length: u64) -> u64 {
    1 << 32 | length
}

/// The flag of a header that says that the rest of the lap is empty.
pub const PAD: u64 = 1 << 30;

/// The flag of a header whose record begins with a descriptor.
pub const DESCRIBED: u64 = 1 << 29;
/// The flag of a header whose message goes on in the next record.
pub const MORE: u64 = 1 << 28;

/// Kinds of descriptors.
pub mod kind {
    /// The bytes follow the descriptor.
    pub const INLINE: u64 = 1;
    /// In a block of the arena.
    pub const BLOCK: u64 = 2;
    /// In a block that is still being written.
    pub const STREAM: u64 = 3;
    /// In a sealed file beside it.
    pub const FILE: u64 = 4;
    /// In a packet on the socket for files.
    pub const PACKET: u64 = 5;
    /// News of a region, which is beside it.
    pub const REGION: u64 = 6;
    /// News that a region is given up.
    pub const RETIRE: u64 = 7;
    /// The pieces so far are void.
    pub const ABORT: u64 = 8;
    /// A message through a window; its number is the third word.
    pub const OFFER: u64 = 9;
}

/// A descriptor of 16 bytes, any field with any value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Descriptor {
    /// One of [`kind`].
    pub kind: u64,
    /// Files beside it.
    pub files: u64,
    /// Bytes; 48 bits.
    pub length: u64,
    /// Number of a region.
    pub region: u64,
    /// Number of a block.
    pub block: u64,
    /// Offset in the region, in units of 128 bytes; 40 bits.
    pub unit: u64,
}

impl Descriptor {
    /// As it lies in memory.
    #[must_use]
    pub fn words(self) -> [u64; 2] {
        let Self { kind, files, length, region, block, unit } = self;
        [kind << 56 | files << 48 | length, region << 56 | block << 40 | unit]
    }
}

/// What a side says of itself in hello and welcome.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// 1 kernel, 2 hybrid, 3 shared, 4 auto.
    pub mode: u32,
    /// Bit 0: delays doorbells.
    pub flags: u32,
    /// Messages it takes before it has consumed one.
    pub messages: u64,
    /// Bytes of arena that it takes.
    pub arena: u64,
    /// Bytes of one message that it takes.
    pub message: u64,
    /// Size of a typed message in bytes.
    pub size: u64,
    /// Alignment of a typed message; 0 for messages of any type.
    pub align: u64,
    /// The type's name, zeroes behind it.
    pub name: [u8; 64],
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            mode: 4,
            flags: 0,
            messages: u64::MAX,
            arena: 256 << 20,
            message: 1 << 40,
            size: 0,
            align: 0,
            name: [0; 64],
        }
    }
}

impl Terms {
    /// As they travel.
    const SIZE: usize = 112;

    fn encode(&self) -> Vec<u8> {
        let mut bytes = [self.mode.to_ne_bytes(), self.flags.to_ne_bytes()].concat();
        [self.messages, self.arena, self.message, self.size, self.align]
            .iter()
            .for_each(|number| bytes.extend(number.to_ne_bytes()));
        bytes.extend(self.name);
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        Self {
            mode: half(bytes, 0),
            flags: half(bytes, 4),
            messages: word(bytes, 8),
            arena: word(bytes, 16),
            message: word(bytes, 24),
            size: word(bytes, 32),
            align: word(bytes, 40),
            name: bytes[48..112].try_into().expect("64 bytes"),
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// A client's first packet.
#[derive(Clone, Copy, Debug)]
pub struct Hello {
    /// Eight characters.
    pub magic: [u8; 8],
    /// Oldest layout version spoken.
    pub version_min: u16,
    /// Newest.
    pub version_max: u16,
    /// Bit 0: has registered for `membarrier(2)`.
    pub flags: u32,
    /// Hash of the layout.
    pub hash: u64,
    /// Wished for, in bytes; 0 for no wish.
    pub to_server: u64,
    /// As above.
    pub to_client: u64,
    /// What the client says of itself.
    pub terms: Terms,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            magic: *b"ipc-hell",
            version_min: LAYOUT_VERSION,
            version_max: LAYOUT_VERSION,
            flags: 0,
            hash: LAYOUT_HASH,
            to_server: 0,
            to_client: 0,
            terms: Terms::default(),
        }
    }
}

impl Hello {
    /// As it travels.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [
            &self.magic[..],
            &self.version_min.to_ne_bytes(),
            &self.version_max.to_ne_bytes(),
            &self.flags.to_ne_bytes(),
            &self.hash.to_ne_bytes(),
            &self.to_server.to_ne_bytes(),
            &self.to_client.to_ne_bytes(),
            &self.terms.encode(),
        ]
        .concat()
    }
}

/// A server's answer.
#[derive(Clone, Copy, Debug)]
pub struct Welcome {
    /// Eight characters.
    pub magic: [u8; 8],
    /// Layout version of the segment.
    pub version: u16,
    /// Bit 0: `membarrier(2)` is used.
    pub flags: u32,
    /// Hash of the layout.
    pub hash: u64,
    /// 0, or why the client is refused.
    pub code: u32,
    /// Size and capacities in bytes, or the numbers of the refusal.
    pub numbers: [u64; 3],
    /// What was settled.
    pub terms: Terms,
}

impl Welcome {
    /// An honest welcome to rings of this size.
    #[must_use]
    pub fn to(geometry: Geometry) -> Self {
        Self {
            magic: *b"ipc-welc",
            version: LAYOUT_VERSION,
            flags: 0,
            hash: LAYOUT_HASH,
            code: 0,
            numbers: [geometry.segment_size(), geometry.to_server_capacity, geometry.to_client_capacity],
            terms: Terms::default(),
        }
    }

    /// As it travels.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(self.hash.to_ne_bytes());
        bytes.extend(self.code.to_ne_bytes());
        bytes.extend([0; 4]);
        self.numbers.iter().for_each(|number| bytes.extend(number.to_ne_bytes()));
        bytes.extend(self.terms.encode());
        bytes
    }

    /// What a server answered.
    ///
    /// # Panics
    /// If the packet is no welcome.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        assert_eq!(bytes.len(), 56 + Terms::SIZE, "a welcome has 168 bytes");
        Self {
            magic: bytes[..8].try_into().expect("eight bytes"),
            version: u16::from_ne_bytes([bytes[8], bytes[9]]),
            flags: half(bytes, 12),
            hash: word(bytes, 16),
            code: half(bytes, 24),
            numbers: [word(bytes, 32), word(bytes, 40), word(bytes, 48)],
            terms: Terms::decode(&bytes[56..]),
        }
    }
}

fn seqpacket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Connects, and says nothing yet.
///
/// # Errors
/// What the system says.
pub fn dial(path: &str) -> io::Result<OwnedFd> {
    let socket = seqpacket()?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// As [`dial`], but a full queue is an error instead of a wait.
///
/// # Errors
/// What the system says.
pub fn dial_at_once(path: &str) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Listens.
///
/// # Errors
/// What the system says.
pub fn bind_to(path: &str) -> io::Result<OwnedFd> {
    let socket = seqpacket()?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, 16)?;
    Ok(socket)
}

/// Accepts one client and reads its first packet.
///
/// # Panics
/// If none comes.
#[must_use]
pub fn accept_hello(listener: &OwnedFd) -> (OwnedFd, Vec<u8>) {
    let socket = accept_with(listener, SocketFlags::CLOEXEC).expect("a client");
    let (hello, _) = receive(&socket).expect("a hello");
    (socket, hello)
}

/// Sends one packet.
///
/// # Errors
/// What the system says.
pub fn send(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits up to ten seconds for one packet. No bytes: the other side has gone.
///
/// # Errors
/// What the system says; `TimedOut`.
pub fn receive(socket: &OwnedFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    if poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&Timespec { tv_sec: 10, tv_nsec: 0 }))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut bytes = vec![0; 512];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let found = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    bytes.truncate(found.bytes);
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((bytes, fds))
}

/// A connection to the library on the other side, held by hand.
#[derive(Debug)]
pub struct RawConnection {
    /// Carries the handshake, then the rings for messages.
    pub messages: OwnedFd,
    /// Carries the rings for space.
    pub space: OwnedFd,
    /// Carries what is beside messages.
    pub files: OwnedFd,
    /// The segment's descriptor.
    pub memory: OwnedFd,
    /// The whole segment.
    pub map: Mapping,
    /// What is in it.
    pub geometry: Geometry,
}

impl RawConnection {
    /// Offset of the ring to the server in the mapping.
    #[must_use]
    pub fn to_server(&self) -> usize {
        self.geometry.to_server_offset() as usize
    }

    /// Offset of the ring to the client in the mapping.
    #[must_use]
    pub fn to_client(&self) -> usize {
        self.geometry.to_client_offset() as usize
    }

    /// Offset of the exchange area of the ring to the server.
    #[must_use]
    pub fn to_server_exchange(&self) -> usize {
        self.to_server() + pages(control::DATA + self.geometry.to_server_capacity as usize)
    }

    /// Offset of the exchange area of the ring to the client.
    #[must_use]
    pub fn to_client_exchange(&self) -> usize {
        self.to_client() + pages(control::DATA + self.geometry.to_client_capacity as usize)
    }

    /// Writes a word of the segment.
    pub fn write(&self, offset: usize, value: u64) {
        self.map.word(offset).store(value, Ordering::SeqCst);
    }

    /// Reads a word of the segment.
    #[must_use]
    pub fn read(&self, offset: usize) -> u64 {
        self.map.word(offset).load(Ordering::SeqCst)
    }
}

fn pages(bytes: usize) -> usize {
    bytes.next_multiple_of(4096)
}

/// A connection without shared memory to the library on the other side, held by hand.
#[derive(Debug)]
pub struct RawSockets {
    /// Carries the handshake, then the records.
    pub messages: OwnedFd,
    /// Carries credit.
    pub space: OwnedFd,
    /// Carries what is beside messages.
    pub files: OwnedFd,
}

/// Sends a hello; the connection is there once the server accepts.
///
/// # Panics
/// If nobody listens.
#[must_use]
pub fn call(path: &str, hello: &Hello) -> OwnedFd {
    let socket = dial(path).expect("a listener");
    send(&socket, &hello.encode(), &[]).expect("it listens");
    socket
}

/// Takes the server's welcome.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn welcomed(socket: OwnedFd) -> RawConnection {
    let (welcome, fds) = accepted(&socket);
    let [size, to_server_capacity, to_client_capacity] = welcome.numbers;
    let [memory, space, files] = <[OwnedFd; 3]>::try_from(fds).expect("three descriptors");
    let map = Mapping::of(&memory, size as usize).expect("a mapping");
    let geometry = Geometry { to_server_capacity, to_client_capacity };
    RawConnection { messages: socket, space, files, memory, map, geometry }
}

/// Takes the server's welcome to a connection that shares no memory.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn welcomed_without_memory(socket: OwnedFd) -> RawSockets {
    let (welcome, fds) = accepted(&socket);
    assert_eq!((welcome.terms.mode, welcome.numbers[0]), (1, 0), "kernel mode, no bytes");
    let [space, files] = <[OwnedFd; 2]>::try_from(fds).expect("two descriptors");
    RawSockets { messages: socket, space, files }
}

fn accepted(socket: &OwnedFd) -> (Welcome, Vec<OwnedFd>) {
    let (bytes, fds) = receive(socket).expect("an answer");
    let welcome = Welcome::decode(&bytes);
    assert_eq!(welcome.code, 0, "a welcome, and no refusal");
    (welcome, fds)
}

/// A memfd of `size` bytes with these seals.
///
/// # Panics
/// If the system has no room.
#[must_use]
pub fn memory(size: u64, seals: SealFlags) -> OwnedFd {
    let fd = memfd_create("ipc:raw", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a memfd");
    ftruncate(&fd, size).expect("room");
    fcntl_add_seals(&fd, seals).expect("it is not sealed yet");
    fd
}

/// The seals of an honest segment.
pub const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// A segment with this header, sealed as it should be, and its mapping.
///
/// # Panics
/// If the system has no room.
#[must_use]
pub fn segment(geometry: Geometry, header: &SegmentHeader) -> (OwnedFd, Mapping) {
    let fd = memory(geometry.segment_size(), SEALS);
    let map = Mapping::of(&fd, geometry.segment_size() as usize).expect("a mapping");
    for (at, byte) in bytes_of(header).into_iter().enumerate() {
        map.byte(at).store(byte, Ordering::SeqCst);
    }
    (fd, map)
}

/// The two ends of a socket as doorbells need it.
///
/// # Panics
/// If the system has no room.
#[must_use]
pub fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair")
}

/// Plays the server for one client: answers its hello with these bytes and descriptors.
///
/// # Panics
/// If none comes.
#[must_use]
pub fn answer(listener: &OwnedFd, bytes: &[u8], fds: &[&OwnedFd]) -> OwnedFd {
    let (socket, _) = accept_hello(listener);
    let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    // The client may have given up.
    let _ = send(&socket, bytes, &fds);
    socket
}

/// The header as it lies in memory.
fn bytes_of(header: &SegmentHeader) -> Vec<u8> {
    let [first, second, third] = header.reserved;
    let mut bytes = header.magic.to_ne_bytes().to_vec();
    [header.version, first, second, third].iter().for_each(|half| bytes.extend(half.to_ne_bytes()));
    [header.hash, header.size, header.to_server_capacity, header.to_client_capacity]
        .iter()
        .for_each(|word| bytes.extend(word.to_ne_bytes()));
    bytes
}
