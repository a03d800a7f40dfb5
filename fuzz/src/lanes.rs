//! The target `lanes`: a whole connection of any mode, whose peer writes descriptors, packets, credit and returned blocks as it likes.
//!
//! Promise: after each call of the connection every byte of what came out can be read and is within the limits that were agreed on;
//! an error that blames the peer is the last one. Refusal: calls that may wait are not made; which error an attack leads to is not
//! judged here.

use crate::peer::{Aim, Blow, Shared};
use arbitrary::{Arbitrary, Unstructured};
use ipc_core::fuzzing::End;
use ipc_core::layout::{CONTROL_SIZE, Geometry, MIN_CAPACITY, ring_size};
use ipc_core::ring::OutOfBounds;
use ipc_core::router::Override;
use ipc_core::{Connection, DetachedLoan, Held, Lane, Mode, RecvError, SendError};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, memfd_create};
use rustix::io::IoSlice;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv,
    sendmsg, socketpair,
};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::{NonNull, null_mut};
use std::time::Duration;
use zerocopy::IntoBytes;

const CAPACITY: u64 = MIN_CAPACITY;
const GEOMETRY: Geometry = Geometry { to_server_capacity: CAPACITY, to_client_capacity: CAPACITY };
/// The longest message and the largest arena that the connection accepts.
const MOST: u64 = 2 << 20;
/// The longest message that it sends.
const SENT: u64 = 128 << 10;
/// No script has more steps.
const MAX_STEPS: usize = 96;
/// Sizes of the memory that the peer passes on.
const SIZES: [u64; 3] = [4096, 64 << 10, 1 << 20];
/// Bytes of a descriptor with the head of a message in a block.
const WITH_HEAD: u64 = 56;
/// Drawn in `ipc_core::layout`: the exchange area behind a ring, and what is in it.
const EXCHANGE: u64 = (CONTROL_SIZE + CAPACITY).next_multiple_of(4096);
const AREAS: [u64; 3] = [128, 8320, 16512];

/// A header's low half, as a peer may mark it.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Mark {
    Plain,
    Described,
    More,
    Padding,
    Any(u32),
}

impl Mark {
    fn bits(self) -> u64 {
        match self {
            Self::Plain => 0,
            Self::Described => 1 << 29,
            Self::More => 1 << 28,
            Self::Padding => 1 << 30,
            Self::Any(bits) => bits.into(),
        }
    }
}

/// A number in a descriptor: often one that passes.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Number {
    Small(u8),
    /// One of the sizes that there are, and so many more or less.
    Size(u8, i8),
    Any(u64),
}

impl Number {
    fn value(self) -> u64 {
        match self {
            Self::Small(value) => value.into(),
            Self::Size(size, more) => SIZES[usize::from(size) % 3].saturating_add_signed((more / 16).into()),
            Self::Any(value) => value,
        }
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Descriptor {
    kind: u8,
    files: u8,
    length: Number,
    region: u8,
    block: Number,
    unit: Number,
    third: Number,
}

impl Descriptor {
    fn words(self) -> [u64; 3] {
        // Mostly kinds, numbers of files and regions that there are.
        let kind = if self.kind < 240 { 1 + u64::from(self.kind % 9) } else { self.kind.into() };
        let files = match self.files {
            0..160 => 0,
            160..250 => u64::from(self.files % 3),
            files => files.into(),
        };
        let region = u64::from(if self.region < 200 { self.region % 2 } else { self.region });
        let first = kind << 56 | files << 48 | self.length.value() & 0xffff_ffff_ffff;
        let second = region << 56 | (self.block.value() & 0xffff) << 40 | (self.unit.value() / 128) & 0xff_ffff_ffff;
        [first, second, self.third.value()]
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Record {
    mark: Mark,
    descriptor: Descriptor,
    /// Payload bytes: those of the descriptor, or so many.
    length: Option<u16>,
    /// With what may pass for a head behind it.
    head: bool,
}

/// What lies beside a message.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Beside {
    /// Memory of one of the sizes, sealed for a region or for a message.
    Memory { size: u8, message: bool },
    /// As many descriptors of no memory.
    Null(u8),
    /// A packet of so many bytes with this tag.
    Bytes { tag: u8, len: u16 },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Deed {
    Record(Record),
    /// News of a region and its memory, as an honest peer would send it.
    Region {
        number: u8,
        size: u8,
    },
    Beside(Beside),
    /// A word of an exchange area: returned blocks, progress or offers.
    Exchange {
        incoming: bool,
        area: u8,
        index: u8,
        high: u8,
        low: Number,
    },
    Blow {
        incoming: bool,
        blow: Blow,
    },
    /// A packet where records travel: its position and the one behind it, off by so many bytes.
    Packet {
        off: [i8; 2],
        records: [Option<Record>; 3],
        cut: u8,
    },
    Credit {
        head: Number,
        messages: Number,
        gone: bool,
        cut: u8,
    },
    Ring {
        space: bool,
    },
    HangUp {
        socket: u8,
    },
}

/// What a peer that keeps to the rules does next.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Manner {
    /// A region more, or one less.
    Region {
        size: u8,
    },
    Plain {
        len: u8,
    },
    Inline {
        len: u8,
        files: u8,
    },
    Piece {
        len: u8,
    },
    Block {
        len: u16,
        unit: u8,
        files: bool,
        head: Option<u64>,
    },
    /// In a block, of which so much is written.
    Stream {
        len: u16,
        written: u16,
    },
    /// More is written of the last one that grows.
    Grow {
        written: u16,
    },
    File {
        size: u8,
        files: u8,
    },
    Packet {
        len: u16,
    },
    Offer {
        len: u16,
        written: u16,
    },
    /// What came is taken in, and so many blocks of it are given back.
    Consume {
        blocks: u8,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Call {
    TryRecv { hold: bool },
    RecvTimeout,
    RecvInto { len: Number },
    RecvBatch,
    Drop(u8),
    TrySend { len: Number, files: u8 },
    Reserve { len: u8, commit: bool },
    Batch { messages: u8, len: Number, publish: bool },
    Loan { len: Number, fate: u8 },
    Route(u8),
    Undelivered { take: bool },
    Look,
    Arm { sender: bool },
    Trim,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time")]
enum Step {
    /// Once in eight times: a connection does not outlive many.
    Wild {
        odds: u8,
        deed: Deed,
    },
    Well(Manner),
    Better(Manner),
    Call(Call),
    Answer(Call),
}

/// The peer's mapping of the segment.
struct View(NonNull<u8>);

impl View {
    fn of(memory: &File) -> Self {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let size = GEOMETRY.segment_size() as usize;
        // SAFETY: a new mapping, where the system likes it.
        let base = unsafe { mmap(null_mut(), size, protection, MapFlags::SHARED, memory, 0) }.expect("a small mapping");
        Self(NonNull::new(base.cast()).expect("no mapping is at 0"))
    }

    /// The ring to the client, or to the server.
    fn ring(&self, incoming: bool) -> Shared {
        self.part(incoming, 0, CAPACITY)
    }

    /// The exchange area behind it.
    fn exchange(&self, incoming: bool) -> Shared {
        self.part(incoming, EXCHANGE, ring_size(CAPACITY) - EXCHANGE - CONTROL_SIZE)
    }

    fn part(&self, incoming: bool, offset: u64, capacity: u64) -> Shared {
        let ring = if incoming { GEOMETRY.to_client_offset() } else { GEOMETRY.to_server_offset() };
        // SAFETY: a ring and its exchange area lie inside the mapping, on page boundaries; used on this thread.
        unsafe { Shared::new(self.0.add((ring + offset) as usize), capacity) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: mapped with this size.
        unsafe { munmap(self.0.as_ptr().cast(), GEOMETRY.segment_size() as usize) }.expect("a mapping can be removed");
    }
}

/// Memory that the peer passes on, made once: of each size a region, and a file that nobody can write.
struct Stock {
    regions: [File; 3],
    messages: [File; 3],
    null: File,
}

impl Stock {
    fn new() -> Self {
        let memory = |size: u64, seals: SealFlags| {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let memory = File::from(memfd_create("fuzz-stock", flags).expect("a memfd can be made"));
            fallocate(&memory, FallocateFlags::empty(), 0, size).expect("its size is small");
            fcntl_add_seals(&memory, seals).expect("it has none yet");
            memory
        };
        let honest = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        Self {
            regions: SIZES.map(|size| memory(size, honest)),
            messages: SIZES.map(|size| memory(size, honest | SealFlags::WRITE)),
            null: File::open("/dev/null").expect("it is always there"),
        }
    }
}

thread_local! {
    static STOCK: Stock = Stock::new();
}

/// A server that is played by hand.
struct Peer<'s> {
    stock: &'s Stock,
    view: Option<View>,
    /// Records travel in packets.
    in_socket: bool,
    sockets: [Option<OwnedFd>; 3],
    /// Where its next record belongs.
    tail: u64,
    /// Where the next record of the connection is, and how many messages were before it.
    head: u64,
    messages: u64,
    /// Bytes of the regions that it has told of.
    regions: [Option<u64>; 2],
    /// Blocks that it has of the connection, and how many it gave back.
    blocks: Vec<u64>,
    returned: u64,
    /// It sent pieces, and no end.
    in_pieces: bool,
    offers: u64,
}

impl Peer<'_> {
    /// Keeps to the rules, as far as what it did before lets it.
    fn behave(&mut self, manner: Manner) {
        let shares = self.view.is_some();
        let found = self.regions.iter().position(Option::is_some);
        let length = |len: u16| u64::from(len);
        if self.in_pieces && !matches!(manner, Manner::Piece { .. } | Manner::Consume { .. } | Manner::Grow { .. }) {
            self.in_pieces = false;
            return self.describe(1, 0, 11, 0, &[0, 0]);
        }
        match manner {
            Manner::Plain { len } => {
                let words = vec![3; usize::from(len).div_ceil(8)];
                self.publish(&[&[due(self.tail) | u64::from(len)], &words[..]].concat());
            }
            Manner::Inline { len, files } => {
                let files = u64::from(files % 4);
                self.files(files, None);
                self.describe(1, files, len.into(), 0, &vec![4; usize::from(len).div_ceil(8)]);
            }
            Manner::Piece { len } => {
                self.in_pieces = true;
                let words = vec![5; usize::from(len).div_ceil(8)];
                self.publish(&[&[due(self.tail) | 1 << 28 | u64::from(len)], &words[..]].concat());
            }
            Manner::Consume { blocks } => self.consume(blocks.into()),
            // The rest is for connections that share memory.
            _ if !shares => {}
            Manner::Region { size } => {
                let at = usize::from(size) % 3;
                let used: u64 = self.regions.iter().flatten().sum();
                match self.regions.iter().position(Option::is_none) {
                    Some(number) if used + SIZES[at] <= MOST => {
                        self.regions[number] = Some(SIZES[at]);
                        self.send(2, &[1], &[self.stock.regions[at].as_fd()]);
                        self.describe(6, 1, SIZES[at], (number as u64) << 56, &[]);
                    }
                    _ => {
                        let number = usize::from(size) % 2;
                        if self.regions[number].take().is_some() {
                            self.describe(7, 0, 0, (number as u64) << 56, &[]);
                        }
                    }
                }
            }
            Manner::Block { len, unit, files, head } => {
                let Some(region) = found else { return };
                let size = self.regions[region].unwrap_or_default();
                let unit = u64::from(unit) % (size / 128);
                self.files(files.into(), None);
                let place = (region as u64) << 56 | (u64::from(len) % 8) << 40 | unit;
                let head = head.map_or(vec![], |word| vec![word; (WITH_HEAD as usize - 16) / 8]);
                self.describe(2, files.into(), length(len) % (size - unit * 128 + 1), place, &head);
            }
            // Nothing grows where records travel in packets.
            Manner::Stream { .. } | Manner::Offer { .. } if self.in_socket => {}
            Manner::Stream { len, written } => {
                let Some(region) = found else { return };
                let len = length(len) % (self.regions[region].unwrap_or_default() + 1);
                self.progress(0, u64::from(written).min(len));
                self.describe(3, 0, len, (region as u64) << 56, &[]);
            }
            Manner::Grow { written } => {
                let Some(view) = &self.view else { return };
                let word = view.exchange(true).read(AREAS[1] / 8);
                self.progress(0, word.wrapping_add(written.into()));
            }
            Manner::File { size, files } => {
                let (at, files) = (usize::from(size) % 3, u64::from(files % 3));
                self.files(files, Some(at));
                self.describe(4, files + 1, SIZES[at], 0, &[]);
            }
            Manner::Packet { len } => {
                self.send(2, &vec![2; 1 + usize::from(len % 3000)], &[]);
                self.describe(5, 0, u64::from(len % 3000), 0, &[]);
            }
            Manner::Offer { len, written } => {
                let Some(region) = self.regions.iter().position(|size| *size == Some(SIZES[2])) else { return };
                self.offers += 1;
                self.progress(1, u64::from(written));
                let place = (region as u64) << 56 | 1 << 40;
                self.describe(9, 0, length(len) + u64::from(written), place, &[self.offers | (self.offers & 1) << 32]);
            }
        }
    }

    /// A described record, and words behind the descriptor of which inline messages are made.
    fn describe(&mut self, kind: u64, files: u64, length: u64, place: u64, more: &[u64]) {
        let payload = if kind == 1 { 16 + length.min(8 * more.len() as u64) } else { 16 + 8 * more.len() as u64 };
        let header = due(self.tail) | 1 << 29 | payload;
        let words = [&[header, kind << 56 | files << 48 | length, place], more].concat();
        self.publish(&words);
    }

    /// As many files beside a message, and before them the one that is the message.
    fn files(&self, count: u64, message: Option<usize>) {
        let message = message.map(|at| self.stock.messages[at].as_fd());
        let fds: Vec<_> = message.into_iter().chain((0..count).map(|_| self.stock.null.as_fd())).collect();
        if !fds.is_empty() {
            self.send(2, &[1], &fds);
        }
    }

    fn progress(&self, block: u64, bytes: u64) {
        if let Some(view) = &self.view {
            view.exchange(true).write(AREAS[1] / 8 + block, bytes);
        }
    }

    /// Takes in what the connection has sent, gives its room back, and some blocks.
    fn consume(&mut self, blocks: usize) {
        if self.in_socket {
            let mut packet = [0; 16 + CAPACITY as usize];
            while let Some(Ok((_, len @ 16..))) =
                self.sockets[0].as_ref().map(|socket| recv(socket, &mut packet[..], RecvFlags::DONTWAIT))
            {
                let words: Vec<_> =
                    packet[..len].chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_ne_bytes)).collect();
                self.head = words[1];
                self.take_in(&words[2..]);
            }
            let credit = [self.head, self.messages, 0];
            self.send(1, credit.as_bytes(), &[]);
        } else if let Some(view) = &self.view {
            let ring = view.ring(false);
            let read = |position: u64| ring.read((CONTROL_SIZE + position % CAPACITY) / 8);
            let mut words = Vec::new();
            // What nobody has written over, as blows do, ends where no header is due.
            while words.len() < CAPACITY as usize && read(self.head) >> 32 << 32 == due(self.head) & (0xffff_ffff << 32)
            {
                let header = read(self.head);
                if header & 1 << 30 != 0 {
                    self.head += CAPACITY - self.head % CAPACITY;
                    continue;
                }
                let len = (8 + (header & 0xfff)).next_multiple_of(8);
                if self.head % CAPACITY + len > CAPACITY {
                    break;
                }
                words.extend((0..len / 8).map(|word| read(self.head + 8 * word)));
                self.head += len;
            }
            let (head, ring) = (self.head, view.ring(false));
            self.take_in(&words);
            for (word, value) in [(16, head), (33, self.messages), (32, head)] {
                ring.write(word, value);
            }
            self.send(1, &[0], &[]);
        }
        let Some(view) = &self.view else { return };
        let back = view.exchange(false);
        for block in self.blocks.drain(..blocks.min(self.blocks.len())) {
            back.write(AREAS[0] / 8 + self.returned % 1024, (self.returned / 1024 + 1) << 32 | block);
            self.returned += 1;
        }
        self.send(1, &[0], &[]);
    }

    /// Counts messages and notes blocks.
    fn take_in(&mut self, mut words: &[u64]) {
        while let [header, rest @ ..] = words {
            let len = (header & 0xfff).div_ceil(8) as usize;
            let Some((payload, behind)) = rest.split_at_checked(len) else { return };
            let kind = payload.first().map_or(0, |word| word >> 56);
            let described = header & 1 << 29 != 0;
            self.messages += u64::from(header & 1 << 28 == 0 && !(described && (6..10).contains(&kind)));
            if described && matches!(kind, 2 | 3 | 9) {
                self.blocks.extend(payload.get(1).map(|place| place >> 40 & 0xffff));
            }
            words = behind;
        }
    }

    fn act(&mut self, deed: Deed) {
        match deed {
            Deed::Record(record) => {
                let words = self.record(record);
                self.publish(&words);
            }
            Deed::Region { number, size } => {
                let at = usize::from(size) % 3;
                self.send(2, &[1], &[self.stock.regions[at].as_fd()]);
                let number = u64::from(number % 2);
                let words = [due(self.tail) | 1 << 29 | 16, 6 << 56 | 1 << 48 | SIZES[at], number << 56];
                self.publish(&words);
            }
            Deed::Beside(Beside::Memory { size, message }) => {
                let stock = if message { &self.stock.messages } else { &self.stock.regions };
                self.send(2, &[1], &[stock[usize::from(size) % 3].as_fd()]);
            }
            Deed::Beside(Beside::Null(count)) => {
                self.send(2, &[1], &vec![self.stock.null.as_fd(); usize::from(count % 70)]);
            }
            Deed::Beside(Beside::Bytes { tag, len }) => {
                let tag = if tag < 200 { 2 } else { tag };
                self.send(2, &vec![tag; usize::from(len)], &[]);
            }
            Deed::Exchange { incoming, area, index, high, low } => {
                let Some(view) = &self.view else { return };
                // Blocks come back in the order of the words, so the first ones matter.
                let word = AREAS[usize::from(area) % 3] / 8 + u64::from(index % 8);
                let value = u64::from(high % 3) << 32 | low.value();
                view.exchange(incoming).write(word, value);
            }
            Deed::Blow { incoming, blow } => {
                let Some(view) = &self.view else { return };
                let ring = view.ring(incoming);
                ring.strike(blow, Aim { head: ring.head(), tail_index: self.tail % CAPACITY });
            }
            Deed::Packet { off, records, cut } => self.packet(off, records, cut),
            Deed::Credit { head, messages, gone, cut } => {
                let words = [head.value() & !7, messages.value(), gone.into()];
                let end = if cut < 200 { 24 } else { usize::from(cut % 25) };
                self.send(1, &words.as_bytes()[..end], &[]);
            }
            Deed::Ring { space } => self.send(usize::from(space), &[0], &[]),
            Deed::HangUp { socket } => self.sockets[usize::from(socket) % 3] = None,
        }
    }

    /// The words of a record with the stamp that is due.
    fn record(&self, record: Record) -> Vec<u64> {
        let words = record.descriptor.words();
        let usual = if record.head {
            WITH_HEAD
        } else if words[0] >> 56 == 9 {
            24
        } else {
            16
        };
        let length = record.length.map_or(usual, |length| u64::from(length) % 1020);
        let mut payload = vec![0x0101_0101_0101_0101; length.div_ceil(8) as usize];
        payload.iter_mut().zip(words).for_each(|(place, word)| *place = word);
        payload.insert(0, due(self.tail) | record.mark.bits() | length);
        payload
    }

    /// Writes a record where the consumer looks for the next, if memory is shared; else sends it in a packet.
    fn publish(&mut self, words: &[u64]) {
        let len = 8 * words.len() as u64;
        let Some(view) = self.view.as_ref().filter(|_| !self.in_socket) else {
            return self.packet_of(words, self.tail, self.tail + len);
        };
        let ring = view.ring(true);
        let left = CAPACITY - self.tail % CAPACITY;
        if len > left {
            ring.write((CONTROL_SIZE + self.tail % CAPACITY) / 8, due(self.tail) | 1 << 30);
            self.tail += left;
            return;
        }
        let first = (CONTROL_SIZE + self.tail % CAPACITY) / 8;
        for (at, word) in words.iter().enumerate().rev() {
            ring.write(first + at as u64, *word);
        }
        self.tail += len;
    }

    fn packet(&mut self, off: [i8; 2], records: [Option<Record>; 3], cut: u8) {
        let position = self.tail;
        let mut words = Vec::new();
        for record in records.into_iter().flatten() {
            let more = self.record(record);
            self.tail += 8 * more.len() as u64;
            words.extend(more);
        }
        let off = off.map(|off| if off.unsigned_abs() < 100 { 0 } else { i64::from(off) });
        let next = self.tail.wrapping_add_signed(off[1]);
        words.truncate(words.len() - usize::from(cut / 128).min(words.len()));
        self.packet_of(&words, position.wrapping_add_signed(off[0]), next);
    }

    fn packet_of(&mut self, words: &[u64], position: u64, next: u64) {
        // A position that nobody believes is none to go on from.
        self.tail = if next < 1 << 40 { next } else { self.tail };
        let bytes = [&[position, next][..], words].concat();
        self.send(0, bytes.as_bytes(), &[]);
    }

    fn send(&self, socket: usize, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let Some(socket) = &self.sockets[socket] else { return };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(70))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(fds)));
        // A full socket, and one that was hung up on, take nothing.
        let _ = sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

/// The stamp that is due at a position.
fn due(position: u64) -> u64 {
    (position / CAPACITY).wrapping_add(1) << 32
}

/// The connection under attack, and what it was given.
struct Victim {
    connection: Connection,
    mode: Mode,
    held: Vec<Held>,
    loans: Vec<DetachedLoan>,
    /// What the peer was first blamed for when something was to be received.
    violation: Option<String>,
}

impl Victim {
    fn call(&mut self, call: Call, null: &File) {
        match call {
            Call::TryRecv { hold } => {
                let received = self.connection.try_recv().map(|message| {
                    let message = message?;
                    check(message.to_vec(), message.as_sealed());
                    check_starts(message.len(), |target| message.read_at(0, target));
                    hold.then(|| message.hold())
                });
                match received {
                    Ok(Some(held)) if self.held.len() < 8 => self.held.push(held),
                    Ok(_) => {}
                    Err(error) => self.failed_to_receive(error),
                }
            }
            Call::RecvTimeout => {
                let received = self.connection.recv_timeout(Duration::ZERO).map(|mut message| {
                    check(message.to_vec(), message.as_sealed());
                    check_starts(message.len(), |target| message.read_at(0, target));
                    drop(message.take_files());
                });
                if let Err(error) = received {
                    self.failed_to_receive(error);
                }
            }
            Call::RecvInto { len } => {
                let mut target = vec![0; len.value().min(MOST) as usize];
                let received = self.connection.receiver().recv_into_timeout(&mut target, Duration::ZERO);
                match received {
                    Ok(len) => assert!(len <= target.len()),
                    Err(error) => self.failed_to_receive(error),
                }
            }
            Call::RecvBatch => self.recv_batch(),
            Call::Drop(at) => {
                if !self.held.is_empty() {
                    let held = self.held.swap_remove(usize::from(at) % self.held.len());
                    check(held.to_vec(), held.as_sealed());
                    check_starts(held.len(), |target| held.read_at(0, target));
                }
            }
            Call::TrySend { len, files } => {
                let bytes = vec![5; len.value().min(SENT) as usize];
                let sent = match files % 4 {
                    0 => self
                        .connection
                        .sender()
                        .try_send_with_files(&bytes, &vec![null.as_fd(); usize::from(files / 4)]),
                    _ => self.connection.try_send(&bytes),
                };
                self.sent(sent);
            }
            Call::Reserve { len, commit } => {
                let reserved = self.connection.sender().try_reserve(len.into()).map(|mut reservation| {
                    reservation.write_at(0, &vec![6; len.into()]);
                    if commit {
                        reservation.commit();
                    }
                });
                self.sent(reserved);
            }
            Call::Batch { messages, len, publish } => {
                let bytes = vec![7; (len.value() % 4096) as usize];
                let mut batch = self.connection.batch();
                let pushed = (0..messages % 16).try_for_each(|_| batch.try_push(&bytes));
                let published = if publish { batch.publish() } else { Ok(()) };
                self.sent(pushed);
                self.sent(published);
            }
            Call::Loan { len, fate } => self.loan(len.value().min(SENT) as usize, fate),
            Call::Route(lane) => {
                let route = match usize::from(lane) % 6 {
                    at @ 0..4 => Override::Lane(Lane::ALL[at]),
                    4 => Override::Threshold(100),
                    _ => Override::Auto,
                };
                // A lane that the mode does not have is refused.
                let _ = self.connection.sender().set_route(route);
            }
            Call::Undelivered { take } => {
                let left =
                    if take { self.connection.sender().take_undelivered() } else { self.connection.undelivered() };
                match left {
                    Ok(left) => assert!(left.len() as u64 <= CAPACITY / 8),
                    // A look back that finds what cannot be ends nothing by itself.
                    Err(SendError::Violation(violation)) => assert!(!violation.to_string().is_empty()),
                    Err(error) => self.sent(Err(error)),
                }
            }
            Call::Look => {
                let statuses = [self.connection.sender().status(), self.connection.receiver().status()];
                assert!(statuses.iter().all(|status| status.used <= status.capacity));
                let arena = self.connection.sender().arena();
                assert!(arena.used <= arena.size && arena.blocks <= 1024);
                assert!(self.connection.receiver().mapped() <= MOST);
                assert!(self.mode != Mode::Kernel || self.connection.receiver().mapped() + arena.size == 0);
                self.connection.sender().is_peer_gone();
            }
            Call::Arm { sender: true } => {
                let armed = self.connection.sender().arm().map(drop);
                self.sent(armed);
            }
            Call::Arm { sender: false } => {
                if let Err(error) = self.connection.arm() {
                    self.failed_to_receive(error);
                }
            }
            Call::Trim => {
                let trimmed = self.connection.sender().trim(Duration::ZERO).map(drop);
                self.sent(trimmed);
            }
        }
    }

    /// It waits for its first message: only once the peer has hung up, which ends any wait.
    fn recv_batch(&mut self) {
        let received = self.connection.recv_batch(8).and_then(|mut batch| {
            let mut taken = 0;
            while let Some(message) = batch.try_next()? {
                check(message.to_vec(), None);
                check_starts(message.len(), |target| message.read_at(0, target));
                drop(batch.take_files());
                taken += 1;
            }
            assert!(taken <= 8);
            Ok(())
        });
        if let Err(error) = received {
            self.failed_to_receive(error);
        }
    }

    fn loan(&mut self, len: usize, fate: u8) {
        if let Some(loan) = self.loans.pop() {
            // Sending it may wait for room in the ring: it is given back instead.
            drop(loan);
        }
        let in_block = self.connection.sender().arena().limit >= MOST;
        let lent = self.connection.sender().try_loan(len).map(|mut loan| {
            loan.fill(8);
            match fate % 3 {
                0 if in_block => loan.send().map(|()| None),
                1 => Ok(loan.detach().ok()),
                _ => Ok(None),
            }
        });
        match lent.and_then(|sent| sent) {
            Ok(loan) => self.loans.extend(loan),
            Err(error) => self.sent(Err(error)),
        }
    }

    fn failed_to_receive(&mut self, error: RecvError) {
        match error {
            RecvError::Violation(violation) => {
                let text = violation.to_string();
                let first = self.violation.get_or_insert_with(|| text.clone());
                assert_eq!(*first, text, "the first is the one that is told");
            }
            RecvError::TimedOut { .. } | RecvError::TooShort(_) => {
                assert!(self.violation.is_none(), "what is over is over: {error}");
            }
            RecvError::Disconnected { .. } => {}
            error => panic!("receiving: {error}"),
        }
    }

    fn sent(&mut self, sent: Result<(), SendError>) {
        match sent {
            Ok(()) | Err(SendError::Disconnected { .. }) => {}
            // Not the last word: it may come of a look back at what a peer that is gone did not consume.
            Err(SendError::Violation(violation)) => assert!(!violation.to_string().is_empty()),
            Err(
                SendError::WouldBlock { .. }
                | SendError::TooLarge { .. }
                | SendError::TooManyFiles { .. }
                | SendError::Lane { .. },
            ) => {}
            Err(error) => panic!("sending: {error}"),
        }
    }
}

/// Reads every byte of a message.
fn check(copy: Vec<u8>, sealed: Option<&[u8]>) {
    assert!(copy.len() as u64 <= MOST);
    // Nobody can have changed it meanwhile.
    assert!(sealed.is_none_or(|sealed| sealed == copy));
}

/// Copies the first bytes of a message, about as many as a head has: those that there are, and no more.
fn check_starts(len: usize, read: impl Fn(&mut [u8]) -> Result<(), OutOfBounds>) {
    let mut target = [0; 48];
    for end in [1, 39, 40, 41, 48] {
        assert_eq!(read(&mut target[..end]).is_ok(), end <= len, "{end} bytes of {len}");
    }
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut input = Unstructured::new(input);
    // An input that ends too early has told nothing.
    let _ = STOCK.with(|stock| try_run(&mut input, stock));
}

fn try_run(input: &mut Unstructured<'_>, stock: &Stock) -> arbitrary::Result<()> {
    let mode = [Mode::Kernel, Mode::Hybrid, Mode::Shared, Mode::Auto][usize::from(u8::arbitrary(input)?) % 4];
    let counted = bool::arbitrary(input)?;
    let pair = || {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .expect("descriptors are left")
    };
    let [(messages, theirs), (space, their_space), (files, their_files)] = [pair(), pair(), pair()];
    let (memory, view) = if mode == Mode::Kernel {
        (None, None)
    } else {
        let memory =
            File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a memfd"));
        memory.set_len(GEOMETRY.segment_size()).expect("its size is small");
        memory.write_all_at(GEOMETRY.header().as_bytes(), 0).expect("it can be written");
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).expect("it has none yet");
        let view = View::of(&memory);
        (Some(memory.into()), Some(view))
    };
    let credit = [if counted { 20 } else { u64::MAX }, MOST, MOST];
    let sockets = [messages, space, files];
    let connection = End { mode, memory, geometry: GEOMETRY, sockets, credits: [credit; 2] }.connect();
    let connection = connection.expect("an honest beginning");
    let in_socket = matches!(mode, Mode::Kernel | Mode::Hybrid);
    let mut peer = Peer {
        stock,
        view,
        in_socket,
        sockets: [theirs, their_space, their_files].map(Some),
        tail: 0,
        head: 0,
        messages: 0,
        regions: [None; 2],
        blocks: Vec::new(),
        returned: 0,
        in_pieces: false,
        offers: 0,
    };
    let mut victim = Victim { connection, mode, held: Vec::new(), loans: Vec::new(), violation: None };
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        let step = Step::arbitrary(input)?;
        if std::env::var_os("IPC_FUZZ_TELL").is_some() {
            eprintln!("{mode}: {step:?}");
        }
        match step {
            Step::Wild { odds, deed } if odds < 32 => peer.act(deed),
            Step::Wild { .. } => {}
            Step::Well(manner) | Step::Better(manner) => peer.behave(manner),
            Step::Call(Call::RecvBatch) | Step::Answer(Call::RecvBatch) if peer.sockets[0].is_some() => {}
            Step::Call(call) | Step::Answer(call) => victim.call(call, &stock.null),
        }
    }
    Ok(())
}
