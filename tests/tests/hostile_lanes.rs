//! A peer that breaks the rules of what lies beside the ring: descriptors, regions, files, packets, blocks that come back, and the
//! sockets of connections that share no memory. It can end its own connection, with the name of the rule, and nothing else.

use ipc_core::ring::Violation;
use ipc_core::router::Override;
use ipc_core::{
    ConnectOptions, Connection, Credit, Lane, ListenOptions, Mode, RecvError, Refusal, SendError, TooShort,
};
use ipc_tests::flood::under_a_flood;
use ipc_tests::raw::{
    self, DESCRIBED, Descriptor, Hello, MORE, RawConnection, RawSockets, SEALS, Terms, control, exchange, header, kind,
};
use ipc_tests::{HangGuard, Language, Scratch, in_each_language, peer, system};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FallocateFlags, SealFlags, fallocate, fstat};
use rustix::io::{pread, pwrite};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);
/// Packets on the socket for files begin with what they carry.
const FILES: &[u8] = &[1];
const BYTES: u8 = 2;
/// A region's size in these tests.
const REGION: u64 = 1 << 20;
/// The largest message and arena that the servers of these tests take.
const MOST: u64 = 2 << 20;

fn options() -> ListenOptions {
    let mut credit = Credit::default();
    (credit.message, credit.arena) = (MOST, MOST);
    ListenOptions::new().capacity(4096).credit(credit)
}

fn hello(mode: u32) -> Hello {
    Hello { to_server: 4096, to_client: 4096, terms: Terms { mode, ..Terms::default() }, ..Hello::default() }
}

/// A server of ours with a hostile client that shares memory.
fn server_and_raw(scratch: &Scratch) -> (Connection, RawConnection) {
    let mut listener = options().bind(scratch.socket()).unwrap();
    let socket = raw::call(&scratch.socket(), &hello(4));
    let server = listener.accept_timeout(SOON).unwrap();
    (server, raw::welcomed(socket))
}

/// The same without shared memory.
fn server_and_sockets(scratch: &Scratch) -> (Connection, RawSockets) {
    let mut listener = options().bind(scratch.socket()).unwrap();
    let socket = raw::call(&scratch.socket(), &hello(1));
    let server = listener.accept_timeout(SOON).unwrap();
    (server, raw::welcomed_without_memory(socket))
}

/// Writes records in the first lap of the ring to the server, one behind the other.
struct Pen<'c> {
    hostile: &'c RawConnection,
    at: usize,
}

impl<'c> Pen<'c> {
    fn new(hostile: &'c RawConnection) -> Self {
        Self { hostile, at: hostile.to_server() + control::DATA }
    }

    /// A record of `length` bytes with these flags, that begins with these words.
    fn record(&mut self, flags: u64, length: u64, words: &[u64]) {
        for (at, word) in words.iter().enumerate() {
            self.hostile.write(self.at + 8 + 8 * at, *word);
        }
        self.hostile.write(self.at, header(flags | length));
        self.at += 8 + length.next_multiple_of(8) as usize;
    }

    fn described(&mut self, descriptor: Descriptor) {
        self.record(DESCRIBED, 16, &descriptor.words());
    }

    /// A packet on the socket for files.
    fn beside(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        raw::send(&self.hostile.files, bytes, fds).unwrap();
    }

    /// An honest region.
    fn region(&mut self, number: u64) {
        self.beside(FILES, &[raw::memory(REGION, SEALS).as_fd()]);
        self.described(Descriptor {
            kind: kind::REGION,
            files: 1,
            length: REGION,
            region: number,
            ..Descriptor::default()
        });
    }
}

/// A way to receive.
type Way = fn(&mut Connection) -> Result<(), RecvError>;

const WAYS: [Way; 4] = [
    |server| server.recv_timeout(SOON).map(drop),
    |server| server.receiver().recv_into_timeout(&mut vec![0; MOST as usize], SOON).map(drop),
    |server| {
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            if server.try_recv()?.is_some() {
                return Ok(());
            }
        }
        panic!("nothing came");
    },
    |server| {
        let mut batch = server.recv_batch(10)?;
        while batch.try_next()?.is_some() {}
        Ok(())
    },
];

/// Receives until the peer's fault is found; it is the same ever after, and the connection is closed.
fn fault(server: &mut Connection, way: usize, messages: &OwnedFd) -> (&'static str, u64) {
    for _ in 0..100 {
        match WAYS[way](server) {
            Ok(()) => {}
            Err(RecvError::Violation(violation)) => {
                let again = server.recv().map(drop).unwrap_err();
                assert!(matches!(again, RecvError::Violation(same) if same == violation), "{again}");
                let sending = server.send(&[0; 5000]).unwrap_err();
                assert!(matches!(sending, SendError::Violation(same) if same == violation), "{sending}");
                let hung_up = (0..1000).any(|_| raw::receive(messages).is_ok_and(|(bytes, _)| bytes.is_empty()));
                assert!(hung_up, "the connection is closed");
                return (violation.field, violation.value);
            }
            Err(other) => panic!("way {way}: {other}"),
        }
    }
    panic!("way {way}: not noticed");
}

/// What a server complains of, however it receives, after `attack`.
#[track_caller]
fn complains_of(field: &str, value: impl Into<Option<u64>>, attack: impl Fn(&mut Pen<'_>)) {
    let value = value.into();
    for way in 0..WAYS.len() {
        let scratch = Scratch::new();
        let (mut server, hostile) = server_and_raw(&scratch);
        server.send(b"the connection is in use").unwrap();
        attack(&mut Pen::new(&hostile));
        let found = fault(&mut server, way, &hostile.messages);
        assert!(found.0 == field && value.is_none_or(|value| value == found.1), "way {way}: {found:?}");
    }
}

#[test]
fn a_descriptor_that_cannot_be_one_is_refused() {
    let _guard = HangGuard::new(100);
    for code in [0, 10, 128, 255] {
        complains_of("kind of a descriptor", code, |pen| {
            pen.described(Descriptor { kind: code, ..Descriptor::default() })
        });
    }
    for files in [65, 255] {
        complains_of("file descriptors of a message", files, |pen| {
            pen.described(Descriptor { kind: kind::INLINE, files, ..Descriptor::default() });
        });
    }
    for length in [0, 8, 15] {
        complains_of("length of a described record", length, |pen| pen.record(DESCRIBED, length, &[0]));
    }
    complains_of("record length", None, |pen| pen.record(DESCRIBED | MORE, 16, &[0, 0]));
    complains_of("record length", 1017, |pen| pen.record(DESCRIBED, 1017, &[]));
    complains_of("record length", 1017, |pen| pen.record(MORE, 1017, &[]));
}

#[test]
fn a_length_beyond_its_bounds_is_refused() {
    let _guard = HangGuard::new(100);
    complains_of("length of a message behind its descriptor", 9, |pen| {
        pen.record(DESCRIBED, 24, &Descriptor { kind: kind::INLINE, length: 9, ..Descriptor::default() }.words());
    });
    for kind in [kind::INLINE, kind::BLOCK, kind::STREAM, kind::FILE, kind::PACKET] {
        for length in [MOST + 1, (1 << 48) - 1] {
            complains_of("length of a message", length, |pen| {
                pen.described(Descriptor { kind, length, ..Descriptor::default() });
            });
        }
    }
    complains_of("length of a message in a packet", 65537, |pen| {
        pen.described(Descriptor { kind: kind::PACKET, length: 65537, ..Descriptor::default() });
    });
}

#[test]
fn a_place_outside_of_the_arena_is_refused() {
    let _guard = HangGuard::new(100);
    for kind in [kind::BLOCK, kind::STREAM] {
        let message = Descriptor { kind, length: 100, ..Descriptor::default() };
        for block in [1024, 65535] {
            complains_of("number of a block", block, |pen| {
                pen.region(0);
                pen.described(Descriptor { block, ..message });
            });
        }
        complains_of("number of a region", 0, |pen| pen.described(message));
        for region in [1, 255] {
            complains_of("number of a region", region, |pen| {
                pen.region(0);
                pen.described(Descriptor { region, ..message });
            });
        }
        for (unit, length) in [(0, REGION + 1), (REGION / 128, 1), (REGION / 128 - 1, 129), ((1 << 40) - 1, 0)] {
            complains_of("end of a message in its region", unit * 128 + length, |pen| {
                pen.region(0);
                pen.described(Descriptor { unit, length, ..message });
            });
        }
        complains_of("number of a region", 3, |pen| {
            pen.region(3);
            pen.described(Descriptor { kind: kind::RETIRE, region: 3, ..Descriptor::default() });
            pen.described(Descriptor { region: 3, ..message });
        });
    }
    complains_of("number of a region", 7, |pen| {
        pen.described(Descriptor { kind: kind::RETIRE, region: 7, ..Descriptor::default() });
    });
}

#[test]
fn the_last_byte_of_a_region_can_be_reached() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let (mut server, hostile) = server_and_raw(&scratch);
    let mut pen = Pen::new(&hostile);
    pen.region(9);
    let end = Descriptor { kind: kind::BLOCK, length: 128, region: 9, block: 1023, unit: REGION / 128 - 1, files: 0 };
    pen.described(end);
    pen.described(Descriptor { length: REGION, unit: 0, ..end });
    pen.described(Descriptor { length: 0, unit: REGION / 128, ..end });
    for length in [128, REGION, 0] {
        assert_eq!(server.recv_timeout(SOON).unwrap().to_vec(), vec![0; length as usize]);
    }
    let back = hostile.to_server_exchange() + exchange::RETURNED;
    assert_eq!([0, 8, 16, 24].map(|at| hostile.read(back + at)), [1 << 32 | 1023, 1 << 32 | 1023, 1 << 32 | 1023, 0]);
}

/// What a message says of itself, read in every way: the copy of bytes up to `end`, and all of it in place.
fn parts(message: &ipc_core::Message<'_>, end: usize) -> (Vec<u8>, Vec<u8>) {
    let mut start = vec![0xee; end];
    message.read_at(0, &mut start).unwrap();
    (start, message.to_vec())
}

/// Head and block are two places that a hostile sender can fill differently: each is read as far as it goes, and no further.
#[test]
fn a_head_that_is_not_that_of_its_block_is_wrong_bytes_and_nothing_else() {
    let _guard = HangGuard::new(60);
    let head = 0x1111_1111_1111_1111;
    let scratch = Scratch::new();
    let (mut server, hostile) = server_and_raw(&scratch);
    let mut pen = Pen::new(&hostile);
    pen.region(0);
    let block = Descriptor { kind: kind::BLOCK, length: 100, ..Descriptor::default() };
    let with = |pen: &mut Pen<'_>, descriptor: Descriptor, length: u64| {
        let more = vec![head; length.saturating_sub(16).div_ceil(8) as usize];
        pen.record(DESCRIBED, length, &[&descriptor.words()[..], &more].concat());
    };
    // Behind a record of any other length is no head, and nothing of it is read.
    for length in [16, 17, 24, 48, 55, 56, 57, 64, 72, 200] {
        with(&mut pen, block, length);
        let message = server.recv_timeout(SOON).unwrap();
        let of_head = if length == 56 { 0x11 } else { 0 };
        assert_eq!(parts(&message, 40), (vec![of_head; 40], vec![0; 100]), "a record of {length}");
        assert_eq!(parts(&message, 41).0, vec![0; 41], "a record of {length}");
        let mut last = [0xee; 2];
        message.read_at(38, &mut last).unwrap();
        assert_eq!(last, [of_head; 2]);
        message.read_at(39, &mut last).unwrap();
        assert_eq!(last, [0; 2], "over the end of the head");
        assert_eq!(message.value::<u64>().unwrap(), u64::from_ne_bytes([of_head; 8]));
    }
    // A message that is shorter than its head has no more bytes than it says.
    with(&mut pen, Descriptor { length: 7, ..block }, 56);
    let message = server.try_recv().unwrap().unwrap();
    assert_eq!(parts(&message, 7), (vec![0x11; 7], vec![0; 7]));
    assert!(message.read_at(0, &mut [0; 8]).is_err() && message.read_at(8, &mut []).is_err());
    assert!(message.value::<u64>().is_err());
    let mut copy = [0xee; 8];
    assert_eq!((message.copy_to(&mut copy).unwrap(), copy), (7, [0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0xee]));
    drop(message);
    // With files beside it, and where the record is given back at once, there is the block alone.
    pen.beside(FILES, &[std::fs::File::open("/").unwrap().as_fd()]);
    with(&mut pen, Descriptor { files: 1, ..block }, 56);
    let message = server.recv_timeout(SOON).unwrap();
    assert_eq!((parts(&message, 8), message.file_count()), ((vec![0; 8], vec![0; 100]), 1));
    drop(message);
    with(&mut pen, block, 56);
    let held = server.recv_timeout(SOON).unwrap().hold();
    let mut start = [0xee; 40];
    held.read_at(0, &mut start).unwrap();
    assert_eq!(start, [0; 40]);
    // In a batch the head stays as long as the batch.
    for _ in 0..3 {
        with(&mut pen, block, 56);
    }
    let mut batch = server.recv_batch(8).unwrap();
    for _ in 0..3 {
        batch.try_next().unwrap().unwrap().read_at(0, &mut start).unwrap();
        assert_eq!(start, [0x11; 40]);
    }
    assert!(batch.try_next().unwrap().is_none());
}

/// What a loan looks like to whoever reads the ring: the drawing in docs/LAYOUT.md.
#[test]
fn a_loan_travels_with_its_head_and_a_copied_message_without() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let (mut server, hostile) = server_and_raw(&scratch);
    let bytes: Vec<u8> = (1..=100).collect();
    let mut loan = server.sender().loan(100).unwrap();
    loan.copy_from_slice(&bytes);
    loan.send().unwrap();
    let mut detached = server.sender().loan(100).unwrap().detach().map_err(drop).unwrap();
    detached.copy_from_slice(&bytes);
    server.sender().send_loan(detached).unwrap();
    server.sender().set_route(Override::Lane(Lane::Arena)).unwrap();
    server.send(&bytes).unwrap();
    let data = hostile.to_client() + control::DATA;
    // Behind the news of the region.
    for at in [data + 24, data + 88] {
        assert_eq!(hostile.read(at), header(DESCRIBED | 56));
        assert_eq!(hostile.read(at + 8), kind::BLOCK << 56 | 100);
        let head: Vec<u8> = (0..5).flat_map(|word| hostile.read(at + 24 + 8 * word).to_ne_bytes()).collect();
        assert_eq!(head, bytes[..40]);
    }
    assert_eq!(hostile.read(data + 152), header(DESCRIBED | 16));
}

#[test]
fn a_region_that_is_not_as_it_must_be_is_refused() {
    let _guard = HangGuard::new(100);
    let news = Descriptor { kind: kind::REGION, files: 1, length: REGION, ..Descriptor::default() };
    for files in [0, 2, 64] {
        complains_of("files of a region", files, |pen| pen.described(Descriptor { files, ..news }));
    }
    for length in [0, 127, 129, MOST + 128, (1 << 48) - 1] {
        complains_of("size of a new region", length, |pen| {
            pen.beside(FILES, &[raw::memory(REGION, SEALS).as_fd()]);
            pen.described(Descriptor { length, ..news });
        });
    }
    complains_of("size of a new region", REGION, |pen| (0..3).for_each(|number| pen.region(number)));
    complains_of("number of a new region", 5, |pen| (0..2).for_each(|_| pen.region(5)));
    for size in [0, REGION - 4096, REGION + 4096] {
        complains_of("size", size, |pen| {
            pen.beside(FILES, &[raw::memory(size, SEALS).as_fd()]);
            pen.described(news);
        });
    }
    for seals in [SealFlags::empty(), SealFlags::SHRINK, SealFlags::SHRINK | SealFlags::GROW] {
        complains_of("seals", u64::from(seals.bits()), |pen| {
            pen.beside(FILES, &[raw::memory(REGION, seals).as_fd()]);
            pen.described(news);
        });
    }
    for wrong in not_memory() {
        complains_of("seals", 0, |pen| {
            pen.beside(FILES, &[wrong.as_fd()]);
            pen.described(news);
        });
    }
}

/// Descriptors of other things.
fn not_memory() -> [OwnedFd; 4] {
    let pipe: OwnedFd = std::io::pipe().unwrap().0.into();
    let file: OwnedFd = std::fs::File::open("/proc/self/exe").unwrap().into();
    let directory: OwnedFd = std::fs::File::open("/").unwrap().into();
    [pipe, file, directory, raw::pair().0]
}

#[test]
fn what_is_not_beside_a_message_is_missed() {
    let _guard = HangGuard::new(100);
    let region = Descriptor { kind: kind::REGION, files: 1, length: REGION, ..Descriptor::default() };
    let inline = Descriptor { kind: kind::INLINE, files: 2, ..Descriptor::default() };
    let file = Descriptor { kind: kind::FILE, files: 1, length: 4096, ..Descriptor::default() };
    for descriptor in [region, inline, file] {
        complains_of("packets beside a message", 0, |pen| pen.described(descriptor));
        complains_of("packet with the files of a message", u64::from(BYTES), |pen| {
            pen.beside(&[BYTES], &[]);
            pen.described(descriptor);
        });
        complains_of("packet with the files of a message", None, |pen| {
            pen.beside(&[FILES[0], 0], &[]);
            pen.described(descriptor);
        });
        let memory = raw::memory(REGION, SEALS);
        for count in [0, 3, 8] {
            complains_of("files that came with a message", count, |pen| {
                pen.beside(FILES, &vec![memory.as_fd(); count as usize]);
                pen.described(descriptor);
            });
        }
    }
    complains_of("packets beside a message", 0, |pen| {
        pen.described(Descriptor { kind: kind::PACKET, length: 10, ..Descriptor::default() });
    });
    for bytes in [&[BYTES][..], &[BYTES; 10], &[BYTES; 12], &[9; 11], FILES] {
        complains_of("packet with the bytes of a message", None, |pen| {
            pen.beside(bytes, &[]);
            pen.described(Descriptor { kind: kind::PACKET, length: 10, ..Descriptor::default() });
        });
    }
}

#[test]
fn a_file_that_could_still_change_is_no_message() {
    let _guard = HangGuard::new(100);
    let message = Descriptor { kind: kind::FILE, files: 1, length: 8192, ..Descriptor::default() };
    let sealed = SEALS | SealFlags::WRITE;
    complains_of("files of a message in a file", 0, |pen| pen.described(Descriptor { files: 0, ..message }));
    for seals in [SEALS, sealed - SealFlags::GROW, sealed - SealFlags::SHRINK, SEALS | SealFlags::FUTURE_WRITE] {
        complains_of("seals", u64::from(seals.bits()), |pen| {
            pen.beside(FILES, &[raw::memory(8192, seals).as_fd()]);
            pen.described(message);
        });
    }
    for size in [0, 8191, 8193] {
        complains_of("size", size, |pen| {
            pen.beside(FILES, &[raw::memory(size, sealed).as_fd()]);
            pen.described(message);
        });
    }
    for wrong in not_memory() {
        complains_of("seals", 0, |pen| {
            pen.beside(FILES, &[wrong.as_fd()]);
            pen.described(message);
        });
    }
    // Memory that nobody has paid for: reading it would take it from the reader.
    complains_of("bytes of memory in a file", 0, |pen| {
        pen.beside(FILES, &[raw::memory(8192, sealed).as_fd()]);
        pen.described(message);
    });
}

#[test]
fn progress_that_is_none_is_refused() {
    let _guard = HangGuard::new(100);
    let message = Descriptor { kind: kind::STREAM, length: 5000, block: 77, ..Descriptor::default() };
    for progress in [5001, u64::MAX] {
        complains_of("progress of a message", progress, |pen| {
            pen.region(0);
            let word = pen.hostile.to_server_exchange() + exchange::PROGRESS + 77 * 8;
            pen.hostile.write(word, progress);
            pen.described(message);
        });
    }
    // Backwards, while the receiver follows.
    for way in 0..WAYS.len() {
        let scratch = Scratch::new();
        let (mut server, hostile) = server_and_raw(&scratch);
        let word = hostile.to_server_exchange() + exchange::PROGRESS + 77 * 8;
        hostile.write(word, 300);
        let mut pen = Pen::new(&hostile);
        pen.region(0);
        pen.described(message);
        let messages = hostile.messages.try_clone().unwrap();
        let receiving = std::thread::spawn(move || fault(&mut server, way, &messages));
        std::thread::sleep(Duration::from_millis(50));
        hostile.write(word, 299);
        // It may have hung up already.
        let _ = raw::send(&hostile.messages, &[0], &[]);
        assert_eq!(receiving.join().unwrap(), ("progress of a message", 299), "way {way}");
    }
}

#[test]
fn a_message_that_stops_growing_is_waited_for_and_ends_with_its_sender() {
    let _guard = HangGuard::new(60);
    for (way, receive) in WAYS.iter().enumerate() {
        let scratch = Scratch::new();
        let (mut server, hostile) = server_and_raw(&scratch);
        let mut pen = Pen::new(&hostile);
        pen.region(0);
        pen.described(Descriptor { kind: kind::STREAM, length: 5000, block: 77, ..Descriptor::default() });
        hostile.write(hostile.to_server_exchange() + exchange::PROGRESS + 77 * 8, 4999);
        let error = server.recv_timeout(Duration::from_millis(50)).map(drop).unwrap_err();
        assert!(matches!(error, RecvError::TimedOut { .. }), "{error}");
        let mut buffer = [0; 5000];
        let error = server.receiver().recv_into_timeout(&mut buffer, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, RecvError::TimedOut { .. }), "{error}");
        assert!(server.try_recv().unwrap().is_none());
        let error = server.receiver().recv_into(&mut buffer[..100]).unwrap_err();
        assert!(matches!(error, RecvError::TooShort(TooShort { message: 5000, buffer: 100 })), "{error}");
        drop(hostile);
        let error = receive(&mut server).unwrap_err();
        assert!(matches!(error, RecvError::Disconnected { received: 0, .. }), "way {way}: {error}");
        // No buffer is long enough for what will never be complete.
        for error in [server.receiver().recv_into(&mut []), server.receiver().try_recv_into(&mut []).map(|_| 0)] {
            assert!(matches!(error, Err(RecvError::Disconnected { received: 0, .. })), "way {way}: {error:?}");
        }
    }
}

#[test]
fn pieces_beyond_the_receivers_limit_are_refused() {
    let _guard = HangGuard::new(100);
    let mut credit = Credit::default();
    credit.message = 1000;
    for (last, field, value) in
        [(MORE, "length of a message in pieces", 1001), (DESCRIBED, "length of a message", 1001)]
    {
        for way in 0..WAYS.len() {
            let scratch = Scratch::new();
            let mut listener = options().credit(credit).bind(scratch.socket()).unwrap();
            let socket = raw::call(&scratch.socket(), &hello(4));
            let mut server = listener.accept_timeout(SOON).unwrap();
            let hostile = raw::welcomed(socket);
            let mut pen = Pen::new(&hostile);
            pen.record(MORE, 900, &[]);
            let end = Descriptor { kind: kind::INLINE, length: 101, ..Descriptor::default() };
            pen.record(last, if last == MORE { 101 } else { 16 + 101 }, &end.words());
            assert_eq!(fault(&mut server, way, &hostile.messages), (field, value), "way {way}");
        }
    }
}

#[test]
fn a_message_in_the_middle_of_another_is_refused() {
    let _guard = HangGuard::new(100);
    for kind in [kind::STREAM, kind::PACKET, kind::FILE] {
        complains_of("kind of a descriptor behind pieces", kind, |pen| {
            pen.region(0);
            pen.record(MORE, 10, &[]);
            pen.beside(&[BYTES; 101], &[]);
            pen.hostile.write(pen.hostile.to_server_exchange() + exchange::PROGRESS, 100);
            pen.described(Descriptor {
                kind,
                length: 100,
                files: u64::from(kind == kind::FILE),
                ..Descriptor::default()
            });
        });
    }
}

#[test]
fn an_offer_that_cannot_be_one_is_refused() {
    let _guard = HangGuard::new(100);
    let window = 1 << 20;
    let offer = Descriptor { kind: kind::OFFER, length: 1 << 20, ..Descriptor::default() };
    let with = |descriptor: Descriptor, number: u64| [&descriptor.words()[..], &[number]].concat();
    for number in [2 << 32, u64::MAX] {
        complains_of("number of an offer", number, |pen| {
            pen.region(0);
            pen.record(DESCRIBED, 24, &with(offer, number));
        });
    }
    complains_of("number of an offer", None, |pen| {
        pen.region(0);
        pen.described(offer);
    });
    complains_of("length of a message", MOST + 1, |pen| {
        pen.region(0);
        pen.record(DESCRIBED, 24, &with(Descriptor { length: MOST + 1, ..offer }, 1));
    });
    complains_of("number of a region", 0, |pen| pen.record(DESCRIBED, 24, &with(offer, 1)));
    complains_of("number of a block", 1024, |pen| {
        pen.region(0);
        pen.record(DESCRIBED, 24, &with(Descriptor { block: 1024, ..offer }, 1));
    });
    let unit = (REGION - window) / 128 + 1;
    complains_of("end of a message in its region", REGION + 128, |pen| {
        pen.region(0);
        pen.record(DESCRIBED, 24, &with(Descriptor { unit, ..offer }, 1));
    });
    complains_of("kind of a descriptor behind pieces", kind::OFFER, |pen| {
        pen.region(0);
        pen.record(MORE, 10, &[]);
        pen.record(DESCRIBED, 24, &with(offer, 1));
    });
}

#[test]
fn progress_of_an_offer_that_is_none_is_refused() {
    let _guard = HangGuard::new(60);
    // What is written first, and then; what the complaint is of.
    for (first, second) in [((2 << 20) + 1, 0), (300, 299), (300, (2 << 20) + 1)] {
        let scratch = Scratch::new();
        let (mut server, hostile) = server_and_raw(&scratch);
        let word = hostile.to_server_exchange() + exchange::PROGRESS;
        hostile.write(word, first);
        let mut pen = Pen::new(&hostile);
        pen.region(0);
        let offer = Descriptor { kind: kind::OFFER, length: 2 << 20, ..Descriptor::default() };
        pen.record(DESCRIBED, 24, &[&offer.words()[..], &[7]].concat());
        let receiving = std::thread::spawn(move || server.recv_into(&mut vec![0; 2 << 20]).unwrap_err());
        if second != 0 {
            let taken = hostile.to_server_exchange() + exchange::TAKEN;
            while hostile.read(taken) != 7 << 32 {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(20));
            hostile.write(word, second);
            raw::send(&hostile.messages, &[0], &[]).unwrap();
        }
        let error = receiving.join().unwrap();
        let RecvError::Violation(violation) = error else { panic!("{error}") };
        assert!(violation.field.contains("progress"), "{violation}");
    }
}

#[test]
fn an_offer_of_which_more_is_read_than_there_is_ends_the_connection() {
    let _guard = HangGuard::new(60);
    // 64 chunks. Backwards too.
    for (first, second) in [(0, 65), (0, u64::from(u32::MAX) - 1), (8, 7)] {
        // An offer is not open for long: if this thread comes too late, the message goes another way.
        let violation = (0..50).find_map(|_| accept_and_say(first, second)).expect("in time once in fifty");
        assert_eq!((violation.field, violation.value), ("chunks read of an offer", second));
    }
}

/// Accepts an offer of a server, and says that `first` and then `second` chunks of it were read: what it complains of.
fn accept_and_say(first: u64, second: u64) -> Option<Violation> {
    let scratch = Scratch::new();
    let (mut server, hostile) = server_and_raw(&scratch);
    let sending = std::thread::spawn(move || server.send(&vec![1; 4 << 20]));
    // The region's record is before it.
    let at = hostile.to_client() + control::DATA + 24;
    while hostile.read(at) != header(DESCRIBED | 24) {
        std::hint::spin_loop();
    }
    let (place, number) = (hostile.read(at + 16), hostile.read(at + 24));
    let taken = hostile.to_client_exchange() + exchange::TAKEN + 8 * (place >> 40 & 0x3ff) as usize;
    hostile.write(taken, number << 32 | first);
    assert_eq!(hostile.read(at + 8), kind::OFFER << 56 | 4 << 20);
    // It may have sent it in another way already, and be gone; or have seen what follows, and have hung up.
    let _ = raw::send(&hostile.space, &[0], &[]);
    std::thread::sleep(Duration::from_millis(20));
    hostile.write(taken, number << 32 | second);
    let _ = raw::send(&hostile.space, &[0], &[]);
    match sending.join().unwrap() {
        Ok(()) => None,
        Err(SendError::Violation(violation)) => Some(violation),
        Err(other) => panic!("{other}"),
    }
}

/// A batch looked twice at a descriptor: at a message first, and then at news that took the region of the others away.
#[test]
fn a_descriptor_that_changes_while_it_is_looked_at_takes_no_region_from_a_batch() {
    let _guard = HangGuard::new(100);
    for round in 0..100 {
        let scratch = Scratch::new();
        let (mut server, hostile) = server_and_raw(&scratch);
        let mut pen = Pen::new(&hostile);
        pen.region(0);
        let block = Descriptor { kind: kind::BLOCK, length: 100, ..Descriptor::default() };
        let retire = Descriptor { kind: kind::RETIRE, ..Descriptor::default() };
        let first = pen.at + 24;
        (0..100).for_each(|_| pen.described(block));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let changing = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for word in [block, retire].map(|descriptor| descriptor.words()[0]) {
                        (0..99).for_each(|record| hostile.write(first + 24 * record + 8, word));
                    }
                }
            });
            let mut batch = server.recv_batch(u64::MAX).unwrap();
            while let Ok(Some(_)) = batch.try_next() {}
            drop(batch);
            over.store(true, Ordering::Relaxed);
            changing.join().unwrap();
        });
        assert_eq!(server.receiver().mapped(), REGION, "round {round}");
    }
}

/// What a server that sends complains of when the peer gives back blocks that are none of those it has.
#[test]
fn blocks_that_the_peer_does_not_have_are_not_taken_back() {
    let _guard = HangGuard::new(100);
    // Which blocks the peer gives back of those that it got; then one more.
    for (returned, more) in [(0, 500), (0, 1023), (0, 1024), (0, u32::MAX), (1, 0), (3, 2)] {
        let scratch = Scratch::new();
        let (mut server, hostile) = server_and_raw(&scratch);
        server.sender().set_route(Override::Lane(Lane::Arena)).unwrap();
        let mut got = Vec::new();
        for number in 0..3 {
            server.send(&[number; 1000]).unwrap();
            // The region's record is before the first.
            let at = hostile.to_client() + control::DATA + 24 * (number as usize + 1);
            assert_eq!(hostile.read(at), header(DESCRIBED | 16));
            got.push(hostile.read(at + 16) >> 40 & 0xffff);
        }
        let more = if returned > 0 { got[more as usize] } else { more.into() };
        assert!(returned > 0 || !got.contains(&more));
        let back = hostile.to_client_exchange() + exchange::RETURNED;
        for (at, block) in got[..returned].iter().chain([&more]).enumerate() {
            hostile.write(back + 8 * at, 1 << 32 | block);
        }
        let violation = (0..100).find_map(|_| match server.send_timeout(&[9; 1000], SOON) {
            Ok(()) => None,
            Err(SendError::Violation(violation)) => Some(violation),
            Err(other) => panic!("{other}"),
        });
        let violation = violation.unwrap_or_else(|| panic!("{returned} {more} {got:?} {:?}", server.sender().arena()));
        assert_eq!((violation.field, violation.value), ("returned block (one that the receiver has)", more));
        let receiving = server.recv().map(drop);
        assert!(matches!(receiving, Err(RecvError::Violation(same)) if same == violation));
    }
}

/// The next region that a server tells of.
fn next_region(hostile: &RawConnection) -> OwnedFd {
    let (bytes, mut fds) = raw::receive(&hostile.files).unwrap();
    assert_eq!((bytes.as_slice(), fds.len()), (FILES, 1));
    fds.remove(0)
}

/// Copies lie where their receiver can write: nobody here looks at them again. Loans, which are slices, lie where it cannot.
#[test]
fn a_receiver_that_writes_to_copies_or_takes_their_pages_away_harms_itself_alone() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let (mut server, hostile) = server_and_raw(&scratch);
    server.sender().set_route(Override::Lane(Lane::Arena)).unwrap();
    server.send(&[1; 200_000]).unwrap();
    let copies = next_region(&hostile);
    // The region's record is before those of messages; block 0 is what the first lies in, block 1 the second.
    let second = hostile.to_client() + control::DATA + 48;
    let holes = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    pwrite(&copies, &[0xff; 1 << 20], 0).unwrap();
    fallocate(&copies, holes, 0, 1 << 20).unwrap();
    assert_eq!(fstat(&copies).unwrap().st_blocks, 0);
    server.send(&[2; 200_000]).unwrap();
    let place = hostile.read(second + 16);
    let mut found = vec![0; 200_000];
    pread(&copies, &mut found, (place & 0xff_ffff_ffff) * 128).unwrap();
    assert!(found.iter().all(|byte| *byte == 2), "what is sent later lies there whole");
    // What it writes to a message it can have back as well.
    pwrite(&copies, &[0xff; 1 << 20], 0).unwrap();
    assert_eq!(server.undelivered().unwrap(), [vec![0xff; 200_000], vec![0xff; 200_000]]);

    let mut loan = server.sender().loan(200_000).unwrap();
    let loans = next_region(&hostile);
    assert!(fallocate(&loans, holes, 0, 1 << 20).is_err());
    assert!(pwrite(&loans, &[0xff], 0).is_err());
    loan.fill(3);
    loan.send().unwrap();
    pread(&loans, &mut found, 0).unwrap();
    assert!(found.iter().all(|byte| *byte == 3));
}

#[test]
fn descriptors_that_the_peer_wrote_into_our_ring_are_not_believed_when_messages_are_taken_back() {
    let _guard = HangGuard::new(60);
    let places = [(0, 0, REGION), (0, 0, 1 << 40), (0, (1 << 40) - 1, 100), (200, 0, 100), (0, 0, (64 << 20) + 1)];
    for (region, unit, length) in places {
        for kind in [kind::BLOCK, kind::STREAM, kind::FILE, kind::PACKET] {
            let scratch = Scratch::new();
            let (mut server, hostile) = server_and_raw(&scratch);
            server.sender().set_route(Override::Lane(Lane::Arena)).unwrap();
            server.send(&[7; 1000]).unwrap();
            let at = hostile.to_client() + control::DATA + 24;
            let words = Descriptor { kind, length, region, unit, ..Descriptor::default() }.words();
            (0..2).for_each(|word| hostile.write(at + 8 + 8 * word, words[word]));
            match server.undelivered() {
                Err(SendError::Violation(_)) => {}
                Ok(messages) => {
                    assert!(messages.iter().all(|message| message.len() as u64 <= REGION), "{kind} {length}")
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

/// What a server without shared memory complains of, however it receives.
#[track_caller]
fn sockets_complain_of(field: &str, value: u64, packets: &[&[u8]]) {
    for way in 0..WAYS.len() {
        let scratch = Scratch::new();
        let (mut server, hostile) = server_and_sockets(&scratch);
        packets.iter().for_each(|packet| raw::send(&hostile.messages, packet, &[]).unwrap());
        assert_eq!(fault(&mut server, way, &hostile.messages), (field, value), "way {way}");
    }
}

/// A packet of records.
fn packet(position: u64, next: u64, words: &[u64]) -> Vec<u8> {
    [position, next].iter().chain(words).flat_map(|word| word.to_ne_bytes()).collect()
}

#[test]
fn packets_that_are_no_piece_of_a_ring_are_refused() {
    let _guard = HangGuard::new(100);
    let message = [header(8), 1];
    for len in [1, 8, 15] {
        sockets_complain_of("length of a packet", len, &[&packet(0, 16, &message)[..len as usize]]);
    }
    for more in [1, 7, 9] {
        sockets_complain_of(
            "length of a packet (a multiple of 8)",
            more,
            &[&packet(0, 16, &message)[..16 + more as usize]],
        );
    }
    // Twice the capacity that was agreed.
    sockets_complain_of("length of a packet", 16 + 8192 + 1, &[&packet(0, 8192, &[0; 1025])]);
    for position in [8, 4096, u64::MAX] {
        let next = position.wrapping_add(16);
        sockets_complain_of("position of a packet", position, &[&packet(position, next, &message)]);
    }
    for next in [0, 8, 24, 4096, 8184, 16_384, u64::MAX] {
        sockets_complain_of("position behind a packet", next, &[&packet(0, next, &message)]);
    }
    sockets_complain_of("position of a packet", 0, &[&packet(0, 16, &message), &packet(0, 16, &message)]);
    sockets_complain_of("record length", 2041, &[&packet(0, 16, &[header(2041), 1])]);
    sockets_complain_of("padding at the start of a lap", 1 << 32 | raw::PAD, &[&packet(0, 16, &[header(raw::PAD), 1])]);
}

/// What does not share memory cannot be made to by a record either.
#[test]
fn a_connection_without_shared_memory_takes_none() {
    let _guard = HangGuard::new(100);
    for kind in [kind::BLOCK, kind::STREAM, kind::FILE, kind::PACKET, kind::REGION, kind::RETIRE, kind::OFFER] {
        for way in 0..WAYS.len() {
            let scratch = Scratch::new();
            let (mut server, hostile) = server_and_sockets(&scratch);
            raw::send(&hostile.files, FILES, &[raw::memory(REGION, SEALS | SealFlags::WRITE).as_fd()]).unwrap();
            let descriptor = Descriptor { kind, files: 1, length: REGION, ..Descriptor::default() };
            let [first, second] = descriptor.words();
            raw::send(&hostile.messages, &packet(0, 24, &[header(DESCRIBED | 16), first, second]), &[]).unwrap();
            let found = fault(&mut server, way, &hostile.messages);
            assert_eq!(found, ("kind of a descriptor where no memory is shared", kind), "way {way}");
        }
    }
}

/// A receiver that follows a copy looks at memory alone.
#[test]
fn nothing_grows_where_records_travel_in_packets() {
    let _guard = HangGuard::new(100);
    for kind in [kind::STREAM, kind::OFFER] {
        for way in 0..WAYS.len() {
            let scratch = Scratch::new();
            let mut listener = options().bind(scratch.socket()).unwrap();
            let socket = raw::call(&scratch.socket(), &hello(2));
            let mut server = listener.accept_timeout(SOON).unwrap();
            let hostile = raw::welcomed(socket);
            raw::send(&hostile.files, FILES, &[raw::memory(REGION, SEALS).as_fd()]).unwrap();
            let region = Descriptor { kind: kind::REGION, files: 1, length: REGION, ..Descriptor::default() };
            let message = Descriptor { kind, length: 5000, ..Descriptor::default() };
            let [first, second] = region.words();
            raw::send(&hostile.messages, &packet(0, 24, &[header(DESCRIBED | 16), first, second]), &[]).unwrap();
            let [first, second] = message.words();
            raw::send(&hostile.messages, &packet(24, 56, &[header(DESCRIBED | 24), first, second, 1]), &[]).unwrap();
            let found = fault(&mut server, way, &hostile.messages);
            assert_eq!(found, ("kind of a descriptor in a packet", kind), "way {way}");
        }
    }
}

#[test]
fn credit_that_is_none_is_refused() {
    let _guard = HangGuard::new(100);
    let complaint = |packet: &[u8]| {
        let scratch = Scratch::new();
        let (mut server, hostile) = server_and_sockets(&scratch);
        raw::send(&hostile.space, packet, &[]).unwrap();
        for _ in 0..1000 {
            match server.send_timeout(&[1; 100], SOON) {
                Ok(()) => {}
                Err(SendError::Violation(violation)) => {
                    let receiving = server.recv().map(drop);
                    assert!(matches!(receiving, Err(RecvError::Violation(same)) if same == violation));
                    return (violation.field, violation.value);
                }
                Err(other) => panic!("{other}"),
            }
        }
        panic!("not noticed");
    };
    for len in [2, 8, 23, 25, 100] {
        assert_eq!(complaint(&vec![0; len]), ("length of a credit packet", len.min(25) as u64));
    }
    for head in [8 << 40, 8200, u64::MAX, 1 << 63] {
        let words = [head, 0, 0].map(u64::to_ne_bytes).concat();
        assert_eq!(complaint(&words), ("credit", head));
    }
}

#[test]
fn a_peer_that_says_that_it_has_gone_is_believed() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let (mut server, hostile) = server_and_sockets(&scratch);
    server.send(b"not consumed").unwrap();
    raw::send(&hostile.space, &[0, 0, 1].map(u64::to_ne_bytes).concat(), &[]).unwrap();
    let error = (0..1000).find_map(|_| server.send_timeout(&[1; 100], SOON).err()).expect("an end");
    assert!(matches!(error, SendError::Disconnected { .. }), "{error}");
    assert_eq!(server.undelivered().unwrap()[0], b"not consumed");
    raw::send(&hostile.messages, &packet(0, 0, &[]), &[]).unwrap();
    let error = server.recv_timeout(SOON).map(drop).unwrap_err();
    assert!(matches!(error, RecvError::Disconnected { received: 0, closed: true }), "{error}");
}

#[test]
fn a_server_gives_the_mode_that_asks_for_less() {
    let _guard = HangGuard::new(60);
    let modes = [Mode::Kernel, Mode::Hybrid, Mode::Shared, Mode::Auto];
    for (ours, mode) in (1..).zip(modes) {
        for wish in 1..5 {
            let scratch = Scratch::new();
            let mut listener = options().mode(mode).bind(scratch.socket()).unwrap();
            let socket = raw::call(&scratch.socket(), &hello(wish));
            let _server = listener.accept_timeout(SOON).unwrap();
            let (bytes, fds) = raw::receive(&socket).unwrap();
            let welcome = raw::Welcome::decode(&bytes);
            let settled = wish.min(ours);
            assert_eq!((welcome.code, welcome.terms.mode, fds.len()), (0, settled, if settled == 1 { 2 } else { 3 }));
            assert_eq!((welcome.terms.message, welcome.terms.arena), (MOST, MOST));
        }
    }
}

#[test]
fn terms_that_make_no_sense_are_refused() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = options().payload::<u64>().bind(scratch.socket()).unwrap();
    let mut refusal = |terms: Terms| {
        let socket = raw::call(&scratch.socket(), &Hello { terms, ..Hello::default() });
        let until = Instant::now() + SOON;
        let before = listener.refused();
        while listener.refused() == before {
            assert!(Instant::now() < until);
            if listener.try_accept().unwrap().is_some() {
                return None;
            }
        }
        drop(socket);
        listener.last_refusal()
    };
    for mode in [0, 5, u32::MAX] {
        assert_eq!(refusal(Terms { mode, ..Terms::default() }), Some(Refusal::Malformed));
    }
    for align in [3, 6, u64::MAX] {
        assert_eq!(refusal(Terms { align, size: 8, ..Terms::default() }), Some(Refusal::Malformed));
    }
    let mut name = [0; 64];
    name[..3].copy_from_slice(b"u64");
    let typed = Terms { size: 8, align: 8, name, ..Terms::default() };
    assert_eq!(refusal(typed), None);
    assert_eq!(refusal(Terms::default()), None, "a side without a type takes any");
    let layout =
        |size: u64, align: u64| Some(Refusal::PayloadLayout { server: 8 << 16 | 8, client: size << 16 | align });
    assert_eq!(refusal(Terms { size: 16, ..typed }), layout(16, 8));
    assert_eq!(refusal(Terms { align: 4, ..typed }), layout(8, 4));
    name[0] = b'i';
    assert!(matches!(refusal(Terms { name, ..typed }), Some(Refusal::PayloadName { .. })));
}

#[test]
fn a_server_cannot_make_a_client_share_more_than_it_wants() {
    let _guard = HangGuard::new(60);
    const SMALL: ipc_core::layout::Geometry =
        ipc_core::layout::Geometry { to_server_capacity: 4096, to_client_capacity: 4096 };
    for (wish, mode, fits) in [
        (Mode::Kernel, 2, false),
        (Mode::Hybrid, 3, false),
        (Mode::Shared, 4, false),
        (Mode::Auto, 5, false),
        (Mode::Auto, 0, false),
        (Mode::Shared, 3, true),
    ] {
        let scratch = Scratch::new();
        let listener = raw::bind_to(&scratch.socket()).unwrap();
        let path = scratch.socket();
        let client = std::thread::spawn(move || ConnectOptions::new().mode(wish).timeout(SOON).connect(path).map(drop));
        let (memory, _map) = raw::segment(SMALL, &SMALL.header());
        let ((_ours, space), (_our_files, files)) = (raw::pair(), raw::pair());
        let mut welcome = raw::Welcome::to(SMALL);
        welcome.terms.mode = mode;
        let _socket = raw::answer(&listener, &welcome.encode(), &[&memory, &space, &files]);
        match client.join().unwrap() {
            Ok(()) => assert!(fits, "{wish} and {mode}"),
            Err(error) => assert!(!fits && error.to_string().contains("mode"), "{wish} and {mode}: {error}"),
        }
    }
}

/// Both ends in this process; the name of memory, if there is any, is that of no other test.
fn pair(name: &str, scratch: &Scratch, mode: Mode) -> (Connection, Connection) {
    let mut listener = ListenOptions::new().bind(scratch.file(name)).unwrap();
    let path = scratch.file(name);
    let connecting = std::thread::spawn(move || ConnectOptions::new().mode(mode).connect(path).unwrap());
    (listener.accept_timeout(SOON).unwrap(), connecting.join().unwrap())
}

#[test]
fn a_kernel_connection_maps_nothing_and_works() {
    let _guard = HangGuard::new(60);
    for (mode, name, most) in [(Mode::Kernel, "maps-nothing", 0), (Mode::Hybrid, "maps-some", 99)] {
        let scratch = Scratch::new();
        let (mut server, mut client) = pair(name, &scratch, mode);
        let mapped = || system::segments().iter().filter(|line| line.contains(name)).count();
        let longest = vec![7; 1 << 20];
        for len in [0, 1, 1000, 100_000, 1 << 20] {
            std::thread::scope(|scope| {
                scope.spawn(|| client.send(&longest[..len]).unwrap());
                assert!(server.recv_timeout(SOON).unwrap().to_vec() == longest[..len]);
            });
            std::thread::scope(|scope| {
                scope.spawn(|| server.send(&longest[..len]).unwrap());
                assert!(client.recv_timeout(SOON).unwrap().to_vec() == longest[..len]);
            });
            let (file, _) = std::io::pipe().unwrap();
            client.sender().send_with_files(b"x", &[file.as_fd()]).unwrap();
            assert_eq!(server.recv_timeout(SOON).unwrap().take_files().len(), 1);
            assert!(mapped() <= most && (most == 0 || mapped() > 0), "{mode}: {:?}", system::segments());
        }
        assert_eq!((server.segment_size() == 0, client.segment_size() == 0), (most == 0, most == 0));
        assert_eq!(
            (server.receiver().mapped(), client.sender().arena().size == 0),
            (client.sender().arena().size, most == 0)
        );
    }
}

fn a_receiver_without_descriptors_left_loses_nothing(language: Language) {
    let _guard = HangGuard::new(60);
    for call in ["recv", "recv_timeout", "recv_into", "try_recv", "recv_batch"] {
        let scratch = Scratch::new();
        let mut peer = peer!(in language, "starve", path = scratch.socket(), call = call);
        let mut listener = ListenOptions::new().bind(scratch.socket()).unwrap();
        let mut server = listener.accept_timeout(SOON).unwrap();
        peer.expect("connected");
        let files: Vec<_> = (0..3).map(|_| std::io::pipe().unwrap().0).collect();
        let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
        // Files beside a message; a region; a file that is the message, with one beside it.
        server.sender().send_with_files(b"with files", &files).unwrap();
        server.sender().set_route(Override::Lane(Lane::Arena)).unwrap();
        server.send(&[1; 100_000]).unwrap();
        server.sender().set_route(Override::Lane(Lane::File)).unwrap();
        server.sender().send_with_files(&[2; 50_000], &files[..1]).unwrap();
        peer.say("go");
        for message in ["10 3", "100000 0", "50000 1"] {
            assert_eq!(peer.expect("starved"), "", "{call}");
            assert_eq!(peer.expect("received"), message, "{call}");
        }
        peer.finish();
    }
}

fn a_receiver_without_address_space_left_loses_nothing(language: Language) {
    let _guard = HangGuard::new(60);
    for call in ["recv", "recv_timeout", "try_recv", "recv_batch"] {
        let scratch = Scratch::new();
        let mut peer = peer!(in language, "starve", path = scratch.socket(), call = call, of = "memory");
        let mut listener = ListenOptions::new().bind(scratch.socket()).unwrap();
        let mut server = listener.accept_timeout(SOON).unwrap();
        peer.expect("connected");
        // A region, and a file that is the message.
        server.sender().set_route(Override::Lane(Lane::Arena)).unwrap();
        server.send(&[1; 100_000]).unwrap();
        server.sender().set_route(Override::Lane(Lane::File)).unwrap();
        server.send(&vec![2; 20 << 20]).unwrap();
        peer.say("go");
        for message in ["100000 0", "20971520 0"] {
            assert_eq!(peer.expect("starved"), "", "{call}");
            assert_eq!(peer.expect("received"), message, "{call}");
        }
        peer.finish();
    }
}

in_each_language!(
    a_receiver_without_descriptors_left_loses_nothing,
    a_receiver_without_address_space_left_loses_nothing,
);

#[test]
fn news_without_end_does_not_hold_up_a_deadline() {
    let _guard = HangGuard::new(100);
    const CAPACITY: u64 = 64 << 20;
    let scratch = Scratch::new();
    let mut listener = ListenOptions::new().capacity(CAPACITY).bind(scratch.socket()).unwrap();
    let socket = raw::call(&scratch.socket(), &Hello::default());
    let mut server = listener.accept_timeout(SOON).unwrap();
    let hostile = raw::welcomed(socket);
    // As many pieces without bytes as the ring holds: they are no message, however many come.
    for at in (0..CAPACITY as usize).step_by(8).rev() {
        hostile.write(hostile.to_server() + control::DATA + at, header(MORE));
    }
    let head = || hostile.read(hostile.to_server() + control::HEAD);
    let error = server.recv_timeout(Duration::from_millis(2)).map(drop).unwrap_err();
    assert!(matches!(error, RecvError::TimedOut { .. }), "{error}");
    let mut before = head();
    assert!(before < CAPACITY / 2, "{before} bytes of news were taken in within 2 ms");
    let error = server.receiver().recv_into_timeout(&mut [0; 100], Duration::from_millis(2)).unwrap_err();
    assert!(matches!(error, RecvError::TimedOut { .. }), "{error}");
    assert!(head() - before < CAPACITY / 2);
    before = head();
    assert!(server.try_recv().unwrap().is_none());
    assert!(head() - before < CAPACITY / 100, "a call that does not wait took {} bytes of news in", head() - before);
}

/// What a wait for 50 ms on a connection without memory comes to while the peer floods one of its sockets.
fn flooded(
    packets: impl Fn(&RawSockets) -> bool + Send + 'static,
    wait: impl FnOnce(&mut Connection) -> String + Send + 'static,
) -> Option<String> {
    let scratch = Scratch::new();
    let (mut server, hostile) = server_and_sockets(&scratch);
    under_a_flood(move || packets(&hostile), move || wait(&mut server))
}

fn send_now(socket: &OwnedFd, bytes: &[u8]) -> bool {
    rustix::net::send(socket, bytes, rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL).is_ok()
}

#[test]
fn a_flood_of_goodbyes_ends_a_receivers_wait() {
    let _guard = HangGuard::new(60);
    let outcome = flooded(
        |hostile| send_now(&hostile.messages, &packet(0, 0, &[])),
        |server| server.recv_timeout(Duration::from_millis(50)).map(drop).unwrap_err().to_string(),
    );
    let text = outcome.expect("a deadline of 50 ms ends a wait within 3 s");
    assert!(text.contains("no message came for") || text.contains("has closed"), "{text}");
}

#[test]
fn a_flood_of_credit_does_not_hold_up_a_senders_deadline() {
    let _guard = HangGuard::new(60);
    for wait in [Duration::ZERO, Duration::from_millis(50)] {
        let outcome = flooded(
            |hostile| send_now(&hostile.space, &[0; 24]),
            move |server| {
                let filled = (0..100).find_map(|_| server.try_send(&[0; 500]).err()).expect("a full ring");
                if wait.is_zero() { filled } else { server.send_timeout(&[0; 500], wait).unwrap_err() }.to_string()
            },
        );
        let text = outcome.expect("a deadline of 50 ms ends a wait within 3 s");
        assert!(text.contains("has made no room for") || text.contains("has not made room yet"), "{text}");
    }
}

#[test]
fn a_message_that_grows_by_single_bytes_does_not_hold_up_a_deadline() {
    const LONG: u64 = 1 << 32;
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut credit = Credit::default();
    (credit.message, credit.arena) = (LONG, LONG);
    let mut listener = options().credit(credit).bind(scratch.socket()).unwrap();
    let socket = raw::call(&scratch.socket(), &hello(4));
    let mut server = listener.accept_timeout(SOON).unwrap();
    let hostile = raw::welcomed(socket);
    let mut pen = Pen::new(&hostile);
    pen.beside(FILES, &[raw::memory(LONG, SEALS).as_fd()]);
    pen.described(Descriptor { kind: kind::REGION, files: 1, length: LONG, ..Descriptor::default() });
    pen.described(Descriptor { kind: kind::STREAM, length: LONG, ..Descriptor::default() });
    let word = hostile.to_server_exchange() + exchange::PROGRESS;
    let (done, stop) = std::sync::mpsc::channel::<()>();
    // A byte at a time, as fast as it goes, so that the receiver finds a new one at each look: seconds in all.
    let growing = std::thread::spawn(move || {
        for bytes in 1..LONG {
            hostile.write(word, bytes);
            if bytes % 4096 == 0 && stop.try_recv().is_ok() {
                break;
            }
        }
    });
    for _ in 0..3 {
        let start = Instant::now();
        let error = server.recv_timeout(Duration::from_millis(20)).map(drop).unwrap_err();
        assert!(matches!(error, RecvError::TimedOut { .. }), "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
    done.send(()).unwrap();
    growing.join().unwrap();
}
