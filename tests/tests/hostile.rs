//! A peer that breaks every rule: it can end its own connection, and nothing else.

use ipc_core::layout::{Geometry, LAYOUT_HASH, LAYOUT_VERSION, SegmentHeader};
use ipc_core::{
    AcceptError, ConnectError, ConnectOptions, Connection, ListenOptions, Listener, RecvError, Refusal, SegmentError,
    SendError,
};
use ipc_tests::flood::{share_a_processor, under_a_flood};
use ipc_tests::raw::{self, DESCRIBED, Hello, MORE, PAD, RawConnection, SEALS, Welcome, control, header};
use ipc_tests::{HangGuard, Language, Random, Scratch, in_each_language, peer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::SealFlags;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);
const SMALL: Geometry = Geometry { to_server_capacity: 4096, to_client_capacity: 4096 };

/// A server of ours with a hostile client.
fn server_and_raw(options: ListenOptions, scratch: &Scratch) -> (Connection, RawConnection) {
    let mut listener = options.bind(scratch.socket()).unwrap();
    let socket = raw::call(&scratch.socket(), &Hello { to_server: 4096, to_client: 4096, ..Hello::default() });
    let server = listener.accept_timeout(SOON).unwrap();
    (server, raw::welcomed(socket))
}

/// The field that a server complains of when it receives after `attack`.
fn complaint_of_receiver(attack: impl FnOnce(&RawConnection)) -> String {
    let scratch = Scratch::new();
    let (mut server, hostile) = server_and_raw(ListenOptions::new(), &scratch);
    server.send(b"the connection is in use").unwrap();
    attack(&hostile);
    loop {
        match server.recv_timeout(SOON).map(drop) {
            Ok(()) => {}
            Err(RecvError::Violation(violation)) => {
                let again = server.recv().map(drop).unwrap_err();
                assert!(matches!(again, RecvError::Violation(same) if same == violation), "{again}");
                for sending in [server.send(b"").unwrap_err(), server.batch().push(b"").unwrap_err()] {
                    assert!(matches!(sending, SendError::Violation(same) if same == violation), "{sending}");
                }
                return violation.to_string();
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// The field that a server complains of when it sends 100 messages and the ring's words are changed by `attack` meanwhile.
fn complaint_of_sender(attack: impl FnOnce(&RawConnection)) -> String {
    let scratch = Scratch::new();
    let (mut server, hostile) = server_and_raw(ListenOptions::new(), &scratch);
    for _ in 0..3 {
        server.send(&[1; 100]).unwrap();
    }
    attack(&hostile);
    for _ in 0..100 {
        match server.send_timeout(&[1; 100], SOON) {
            Ok(()) => {}
            Err(SendError::Violation(violation)) => {
                assert!(matches!(server.recv().map(drop), Err(RecvError::Violation(same)) if same == violation));
                return violation.to_string();
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("it did not notice");
}

#[test]
fn an_impossible_record_is_refused_by_the_name_of_its_field() {
    let _guard = HangGuard::new(100);
    let first = |hostile: &RawConnection| hostile.to_server() + control::DATA;
    for length in [1017, 4096, 0x3fff_ffff] {
        let complaint = complaint_of_receiver(|hostile| hostile.write(first(hostile), header(length)));
        assert!(complaint.contains("record length") && complaint.contains(&length.to_string()), "{complaint}");
    }
    // Padding where it would be no step, and padding with something in it.
    for bits in [PAD, PAD | 8, PAD | 1 << 31, PAD | 0x3fff_ffff, 1 << 31] {
        let complaint = complaint_of_receiver(|hostile| hostile.write(first(hostile), header(bits)));
        assert!(complaint.contains("padding") || complaint.contains("record length"), "{complaint}");
    }
    // A record that would end behind the end of the ring's data.
    let complaint = complaint_of_receiver(|hostile| {
        hostile.write(first(hostile) + 4096 - 64, header(64));
        for at in (0..4).rev() {
            hostile.write(first(hostile) + at * 1024, header(1016 - 64 * u64::from(at == 3)));
        }
    });
    assert!(complaint.contains("record length"), "{complaint}");
}

#[test]
fn an_impossible_credit_is_refused_by_the_name_of_its_field() {
    let _guard = HangGuard::new(100);
    for credit in [u64::MAX, 1 << 40, 4097, 1 << 63] {
        let complaint = complaint_of_sender(|hostile| hostile.write(hostile.to_client() + control::CREDIT, credit));
        assert!(complaint.contains("credit") && complaint.contains(&credit.to_string()), "{complaint}");
    }
}

#[test]
fn an_impossible_head_makes_what_was_not_delivered_a_violation() {
    let _guard = HangGuard::new(100);
    for head in [u64::MAX, 7, 4096, 1 << 40] {
        let scratch = Scratch::new();
        let (mut server, hostile) = server_and_raw(ListenOptions::new(), &scratch);
        for _ in 0..3 {
            server.send(&[1; 100]).unwrap();
        }
        hostile.write(hostile.to_client() + control::HEAD, head);
        match server.undelivered() {
            Err(SendError::Violation(violation)) => assert_eq!((violation.field, violation.value), ("head", head)),
            other => panic!("head {head}: {other:?}"),
        }
        drop(hostile);
        while server.try_send(&[1; 100]).is_ok() {}
        assert!(matches!(server.send(&[1; 100]), Err(SendError::Violation(_))));
    }
}

fn words_that_a_hostile_server_left_in_fresh_rings_are_not_believed(language: Language) {
    let _guard = HangGuard::new(100);
    let mut random = Random::new(1);
    for round in 0..language.share(60, 2) {
        let scratch = Scratch::new();
        let listener = raw::bind_to(&scratch.socket()).unwrap();
        let mut peer = peer!(in language, "victim", path = scratch.socket(), seed = round, millis = 100);
        let (memory, map) = raw::segment(SMALL, &SMALL.header());
        let values = [1, 4, 7, 8, 4092, 4095, 4096, 1 << 40, u64::MAX, u64::MAX - 7, u64::MAX - 63, random.next_u64()];
        let words =
            [control::HEAD, control::MESSAGES, control::CREDIT, control::PRODUCER_TICKET, control::CONSUMER_TICKET];
        for ring in [SMALL.to_server_offset(), SMALL.to_client_offset()] {
            let word = words[(round % 5) as usize];
            let value = values[(round / 5) as usize];
            map.word(ring as usize + word).store(value, Ordering::SeqCst);
            // Whatever position the client starts from, it finds records there.
            for at in (0..4096).step_by(8) {
                let length = 1 << 32 | random.below(1017);
                map.word(ring as usize + control::DATA + at).store(length, Ordering::SeqCst);
            }
        }
        let ((ours, theirs), (our_files, their_files)) = (raw::pair(), raw::pair());
        let fds = [&memory, &theirs, &their_files];
        let socket = raw::answer(&listener, &Welcome::to(SMALL).encode(), &fds);
        drop((theirs, their_files));
        peer.finish();
        drop((socket, ours, our_files));
    }
}

#[test]
fn a_client_that_writes_before_the_server_looks_is_not_believed() {
    let _guard = HangGuard::new(100);
    let scratch = Scratch::new();
    let mut listener = ListenOptions::new().bind(scratch.socket()).unwrap();
    let path = scratch.socket();
    let client = std::thread::spawn(move || {
        // The welcome wakes this thread in the middle of the server's `accept`, and the server has to wait.
        share_a_processor(true);
        for _ in 0..200 {
            let hello = Hello { to_server: 4096, to_client: 4096, ..Hello::default() };
            let hostile = raw::welcomed(raw::call(&path, &hello));
            for ring in [hostile.to_server(), hostile.to_client()] {
                hostile.write(ring + control::MESSAGES, 77);
                hostile.write(ring + control::HEAD, 4092);
            }
            let _ = raw::receive(&hostile.messages);
        }
    });
    share_a_processor(false);
    let mut believed = 0;
    for _ in 0..200 {
        let mut server = listener.accept_timeout(SOON).unwrap();
        // Its positions may be the hostile ones now, so no message is sent.
        believed += u64::from((server.sender().sent(), server.receiver().received()) != (0, 0));
    }
    client.join().unwrap();
    assert_eq!(believed, 0, "connections of 200 that began where their client said");
}

#[test]
fn a_look_at_a_ring_of_arbitrary_words_does_no_harm() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let (mut server, hostile) = server_and_raw(ListenOptions::new(), &scratch);
    for value in [1, 4, 4092, 4095, u64::MAX, u64::MAX - 7, u64::MAX - 4095, 1 << 63, 1 << 40] {
        for ring in [hostile.to_server(), hostile.to_client()] {
            for word in [control::HEAD, control::CREDIT, control::MESSAGES] {
                hostile.write(ring + word, value);
                for status in [server.sender().status(), server.receiver().status()] {
                    assert!(status.used <= status.capacity, "{status:?}");
                }
                hostile.write(ring + word, 0);
            }
        }
    }
}

/// Lets a victim process use a connection while `attack` is made over and over; how the victim says it ended.
fn under_attack(language: Language, round: u64, mut attack: impl FnMut(&RawConnection, &mut Random)) -> String {
    let (scratch, victim_listens) = (Scratch::new(), round.is_multiple_of(2));
    let (mut victim, hostile) = if victim_listens {
        let path = scratch.socket();
        let mut victim =
            peer!(in language, "victim", path = path, listen = true, capacity = 4096, seed = round, millis = 150);
        victim.expect("listening");
        (victim, raw::welcomed(raw::call(&scratch.socket(), &Hello::default())))
    } else {
        let listener = raw::bind_to(&scratch.socket()).unwrap();
        let victim = peer!(in language, "victim", path = scratch.socket(), seed = round, millis = 150);
        let (memory, map) = raw::segment(SMALL, &SMALL.header());
        let ((space, theirs), (files, their_files)) = (raw::pair(), raw::pair());
        let messages = raw::answer(&listener, &Welcome::to(SMALL).encode(), &[&memory, &theirs, &their_files]);
        (victim, RawConnection { messages, space, files, memory, map, geometry: SMALL })
    };
    victim.expect("connected");
    let (mut random, start) = (Random::new(round), Instant::now());
    while start.elapsed() < Duration::from_millis(200) {
        attack(&hostile, &mut random);
    }
    drop(hostile);
    let end = victim.expect("end");
    victim.finish();
    end
}

fn is_tolerable(end: &str) -> bool {
    end == "none" || ["broke the protocol", "is gone", "has closed", "died"].iter().any(|known| end.contains(known))
}

fn arbitrary_bytes_everywhere_end_the_connection_and_nothing_else(language: Language) {
    let _guard = HangGuard::new(100);
    for round in 0..language.share(24, 2) {
        let end = under_attack(language, round, |hostile, random| {
            let size = hostile.map.len();
            for _ in 0..64 {
                hostile
                    .map
                    .byte(4096 + random.below(size as u64 - 4096) as usize)
                    .store(random.next_u64() as u8, Ordering::Relaxed);
            }
        });
        assert!(is_tolerable(&end), "round {round}: {end}");
    }
}

fn arbitrary_control_words_end_the_connection_and_nothing_else(language: Language) {
    let _guard = HangGuard::new(100);
    for round in 0..language.share(24, 2) {
        let end = under_attack(language, round, |hostile, random| {
            let ring = if random.below(2) == 0 { hostile.to_server() } else { hostile.to_client() };
            let word = ring + 8 * random.below(48) as usize;
            let near = hostile.read(ring + control::CREDIT);
            let value = match random.below(6) {
                0 => random.next_u64(),
                1 => random.next_u64() >> random.below(64),
                2 => near.wrapping_add(random.below(64)),
                3 => near.wrapping_sub(random.below(5000)),
                4 => u64::from(u32::MAX) << random.below(33),
                _ => 0,
            };
            hostile.write(word, value);
        });
        assert!(is_tolerable(&end), "round {round}: {end}");
    }
}

fn arbitrary_records_with_plausible_headers_end_the_connection_and_nothing_else(language: Language) {
    let _guard = HangGuard::new(100);
    for round in 0..language.share(24, 2) {
        let mut lap = 1;
        let end = under_attack(language, round, |hostile, random| {
            for ring in [hostile.to_server(), hostile.to_client()] {
                lap += u64::from(random.below(40) == 0);
                let flags = [0, 0, 0, PAD, DESCRIBED, MORE][random.below(6) as usize];
                let length = if flags & PAD == 0 { random.below(1030) } else { 0 };
                let at = if random.below(2) == 0 { random.below(64) * 64 } else { random.below(512) * 8 };
                hostile.write(ring + control::DATA + at as usize, lap << 32 | flags | length);
                // The memory that a kernel may give back at any time is given back.
                if random.below(2000) == 0 {
                    let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
                    rustix::fs::fallocate(&hostile.memory, punch, 4096 * random.below(4), 4096).unwrap();
                }
            }
        });
        assert!(is_tolerable(&end), "round {round}: {end}");
    }
}

#[test]
fn the_segment_can_be_neither_cut_nor_grown_nor_sealed_against_its_user() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let (mut server, hostile) = server_and_raw(ListenOptions::new(), &scratch);
    let size = SMALL.segment_size();
    let refused = Err(rustix::io::Errno::PERM);
    assert_eq!(rustix::fs::ftruncate(&hostile.memory, 0), refused);
    assert_eq!(rustix::fs::ftruncate(&hostile.memory, size - 4096), refused);
    assert_eq!(rustix::fs::ftruncate(&hostile.memory, size + 4096), refused);
    assert_eq!(rustix::fs::fallocate(&hostile.memory, rustix::fs::FallocateFlags::empty(), size, 4096), refused);
    for seals in [SealFlags::WRITE, SealFlags::FUTURE_WRITE, SealFlags::SHRINK] {
        assert_eq!(rustix::fs::fcntl_add_seals(&hostile.memory, seals), refused);
    }
    server.send(b"still here").unwrap();
    assert_eq!(hostile.read(hostile.to_client() + control::DATA), header(10));
}

/// What a server says to a client with this first packet.
fn refusal(listener: &mut Listener, path: &str, hello: &[u8]) -> Option<Refusal> {
    let before = listener.refused();
    let socket = raw::dial(path).unwrap();
    raw::send(&socket, hello, &[]).unwrap();
    let until = Instant::now() + SOON;
    while listener.refused() == before {
        assert!(Instant::now() < until, "neither accepted nor refused");
        if listener.try_accept().unwrap().is_some() {
            return None;
        }
    }
    if hello.is_empty() {
        // As if it had hung up: there is nobody to tell.
        return Some(Refusal::Malformed);
    }
    let (bytes, fds) = raw::receive(&socket).unwrap();
    assert!(fds.is_empty());
    assert_ne!(Welcome::decode(&bytes).code, 0);
    listener.last_refusal()
}

#[test]
fn hellos_of_any_length_and_content_are_refused_unless_they_are_right() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = Listener::bind(scratch.socket()).unwrap();
    let path = scratch.socket();
    let mut random = Random::new(4);
    let honest = Hello::default().encode();
    for len in 0..256 {
        let noise: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
        assert_eq!(refusal(&mut listener, &path, &noise), Some(Refusal::Malformed), "{len} bytes of noise");
        let cut: Vec<u8> = honest.iter().copied().chain(std::iter::repeat(0xee)).take(len).collect();
        let expected = (len < honest.len()).then_some(Refusal::Malformed);
        assert_eq!(refusal(&mut listener, &path, &cut), expected, "{len} bytes of a hello; later versions are longer");
    }
    for at in 0..8 {
        let mut hello = honest.clone();
        hello[at] ^= 1 << random.below(8);
        assert_eq!(refusal(&mut listener, &path, &hello), Some(Refusal::Malformed), "magic byte {at}");
    }
    assert!(listener.connections() == 0);
}

#[test]
fn a_mismatch_is_refused_with_both_values() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = Listener::bind(scratch.socket()).unwrap();
    let mut say = |hello: Hello| refusal(&mut listener, &scratch.socket(), &hello.encode());
    let ours = u64::from(LAYOUT_VERSION);
    let next = LAYOUT_VERSION + 1;
    for (version_min, version_max) in [(0, 0), (1, 1), (next, next), (next, u16::MAX), (u16::MAX, u16::MAX)] {
        let answer = say(Hello { version_min, version_max, ..Hello::default() });
        assert!(
            matches!(answer, Some(Refusal::Version { server, client }) if (server, client) == (ours, version_max.into())),
            "{answer:?}"
        );
    }
    assert_eq!(say(Hello { version_min: 3, version_max: 2, ..Hello::default() }), Some(Refusal::Malformed));
    assert_eq!(say(Hello { version_min: 0, version_max: u16::MAX, ..Hello::default() }), None);
    for hash in [0, !LAYOUT_HASH] {
        let answer = say(Hello { hash, ..Hello::default() });
        assert_eq!(answer, Some(Refusal::LayoutHash { server: LAYOUT_HASH, client: hash }));
    }
    for capacity in [1, 4095, 4097, 6000, 1 << 31, u64::MAX] {
        assert_eq!(say(Hello { to_server: capacity, ..Hello::default() }), Some(Refusal::Malformed));
        assert_eq!(say(Hello { to_client: capacity, ..Hello::default() }), Some(Refusal::Malformed));
    }
}

/// What a client says of a server that answers so.
fn verdict(bytes: &[u8], fds: &[&OwnedFd]) -> ConnectError {
    let scratch = Scratch::new();
    let listener = raw::bind_to(&scratch.socket()).unwrap();
    let path = scratch.socket();
    let client = std::thread::spawn(move || ConnectOptions::new().timeout(SOON).connect(path).map(drop).unwrap_err());
    let socket = raw::answer(&listener, bytes, fds);
    let error = client.join().unwrap();
    drop(socket);
    error
}

fn welcome() -> Welcome {
    Welcome::to(SMALL)
}

#[test]
fn a_welcome_that_is_wrong_is_refused_by_the_name_of_its_field() {
    let _guard = HangGuard::new(100);
    let (memory, _map) = raw::segment(SMALL, &SMALL.header());
    let ((_ours, space), (_our_files, files)) = (raw::pair(), raw::pair());
    let honest = welcome().encode();
    let names = |error: &ConnectError, field: &str| assert!(error.to_string().contains(field), "{field}: {error}");
    let mut random = Random::new(9);
    for len in 1..honest.len() {
        names(&verdict(&honest[..len], &[&memory, &space, &files]), "length");
        let noise: Vec<u8> = (0..256).map(|_| random.next_u64() as u8).collect();
        names(&verdict(&noise[..len.max(honest.len())], &[&memory, &space, &files]), "magic");
    }
    let say = |welcome: Welcome| verdict(&welcome.encode(), &[&memory, &space, &files]);
    names(&say(Welcome { magic: *b"ipc-hell", ..welcome() }), "magic");
    names(&say(Welcome { version: LAYOUT_VERSION + 1, ..welcome() }), "version");
    names(&say(Welcome { hash: 1, ..welcome() }), "layout hash");
    names(&say(Welcome { code: 99, ..welcome() }), "refusal code");
    let [size, ring, _] = welcome().numbers;
    names(&say(Welcome { numbers: [size, 6000, ring], ..welcome() }), "capacity");
    names(&say(Welcome { numbers: [size, ring, 0], ..welcome() }), "capacity");
    names(&say(Welcome { numbers: [size - 4096, ring, ring], ..welcome() }), "size");
    names(&say(Welcome { numbers: [size + 4096, ring, ring], ..welcome() }), "size");
    names(&say(Welcome { numbers: [size, 2 * ring, ring], ..welcome() }), "size");
    assert!(matches!(say(Welcome { numbers: [u64::MAX, ring, ring], ..welcome() }), ConnectError::TooLarge { .. }));
    let refused = say(Welcome { code: 1, numbers: [3, 5, 0], ..welcome() });
    assert!(refused.to_string().contains("layout version 3, the client's newest is 5"), "{refused}");
    assert!(matches!(verdict(&[], &[]), ConnectError::HungUp { .. }));
}

#[test]
fn wrong_descriptors_beside_a_welcome_are_refused_by_name() {
    let _guard = HangGuard::new(100);
    let (memory, _map) = raw::segment(SMALL, &SMALL.header());
    let ((_ours, space), (_our_files, files)) = (raw::pair(), raw::pair());
    let honest = welcome().encode();
    let say = |fds: &[&OwnedFd]| verdict(&honest, fds);
    let names = |error: ConnectError, field: &str| assert!(error.to_string().contains(field), "{field}: {error}");
    names(say(&[]), "number of file descriptors");
    names(say(&[&memory]), "number of file descriptors");
    names(say(&[&memory, &space]), "number of file descriptors");
    names(say(&[&memory, &space, &files, &files]), "number of file descriptors");
    names(say(&[&memory, &space, &space, &space, &space, &space]), "number of file descriptors");

    let pipe: OwnedFd = std::io::pipe().unwrap().0.into();
    let scratch = Scratch::new();
    let file: OwnedFd = std::fs::File::create(scratch.file("file")).unwrap().into();
    let stream: OwnedFd = std::os::unix::net::UnixStream::pair().unwrap().0.into();
    let network: OwnedFd = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into();
    for wrong in [&pipe, &file, &stream, &network, &memory] {
        names(say(&[&memory, wrong, &files]), "file descriptors' kind");
        names(say(&[&memory, &space, wrong]), "file descriptors' kind");
    }
    for wrong in [&pipe, &file, &stream, &space] {
        names(say(&[wrong, &space, &files]), "seals");
    }
    let size = SMALL.segment_size();
    for seals in [SealFlags::empty(), SealFlags::SHRINK, SealFlags::SHRINK | SealFlags::GROW] {
        names(say(&[&raw::memory(size, seals), &space, &files]), "seals");
    }
    for other in [0, size - 4096, size + 4096] {
        names(say(&[&raw::memory(other, SEALS), &space, &files]), "size");
    }
    names(say(&[&raw::memory(size, SEALS), &space, &files]), "magic");
    assert!(matches!(
        say(&[&raw::memory(size, SEALS | SealFlags::WRITE), &space, &files]),
        ConnectError::Segment { .. }
    ));
    let right = SMALL.header();
    for (header, field) in [
        (SegmentHeader { magic: 1, ..right }, "magic"),
        (SegmentHeader { version: right.version + 1, ..right }, "version"),
        (SegmentHeader { hash: !right.hash, ..right }, "hash"),
        (SegmentHeader { size: right.size + 1, ..right }, "size"),
        (SegmentHeader { to_server_capacity: 8192, ..right }, "capacity to the server"),
        (SegmentHeader { to_client_capacity: 8192, ..right }, "capacity to the client"),
    ] {
        let error = say(&[&raw::segment(SMALL, &header).0, &space, &files]);
        let is_field = matches!(error, ConnectError::Segment { source: SegmentError::Field { .. }, .. });
        assert!(is_field, "{error}");
        names(error, field);
    }
}

#[test]
fn a_client_that_says_nothing_is_dropped_while_others_get_in_at_once() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let timeout = Duration::from_millis(300);
    let mut listener = ListenOptions::new().handshake_timeout(timeout).bind(scratch.socket()).unwrap();
    let silent = raw::dial(&scratch.socket()).unwrap();
    let mut peer = peer!("hold", path = scratch.socket());
    let server = listener.accept_timeout(SOON).unwrap();
    peer.expect("connected");
    assert_eq!(listener.refused(), 0, "the silent one has its time");
    let refused = listener.accept_timeout(timeout * 2).map(drop).unwrap_err();
    assert!(matches!(refused, AcceptError::TimedOut { waited } if waited >= timeout * 2), "{refused}");
    assert_eq!(listener.refused(), 1);
    assert!(raw::receive(&silent).unwrap().0.is_empty(), "it was hung up on");
    drop(server);
}

#[test]
fn a_newcomer_costs_the_oldest_silent_client_its_place_and_nobody_else() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = ListenOptions::new().handshake_timeout(SOON).bind(scratch.socket()).unwrap();
    let path = scratch.socket();
    let silent: Vec<_> = (0..62).map(|_| raw::dial(&path).unwrap()).collect();
    let quick = raw::dial(&path).unwrap();
    let slow = raw::dial(&path).unwrap();
    assert!(listener.try_accept().unwrap().is_none(), "64 clients wait, and none has spoken");
    // In the same instant one of them speaks and one more comes.
    raw::send(&quick, &Hello::default().encode(), &[]).unwrap();
    let _newcomer = raw::dial(&path).unwrap();
    let first = listener.accept_timeout(SOON).unwrap();
    // The one that took its time must still be known.
    raw::send(&slow, &Hello::default().encode(), &[]).expect("nobody hung up on it");
    let second = listener.accept_timeout(SOON).expect("the slow one");
    drop((raw::welcomed(quick), raw::welcomed(slow), first, second, silent));
}

#[test]
fn a_client_that_speaks_late_shows_on_the_listeners_descriptor() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = ListenOptions::new().handshake_timeout(SOON).bind(scratch.socket()).unwrap();
    let readable = |listener: &Listener, wait: Duration| {
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::try_from(wait).unwrap())).unwrap() == 1
    };
    assert!(!readable(&listener, Duration::ZERO));
    let client = raw::dial(&scratch.socket()).unwrap();
    assert!(readable(&listener, SOON));
    assert!(listener.try_accept().unwrap().is_none(), "it has not spoken");
    assert!(!readable(&listener, Duration::from_millis(50)));
    raw::send(&client, &Hello::default().encode(), &[]).unwrap();
    assert!(readable(&listener, SOON));
    assert!(listener.try_accept().unwrap().is_some());
    assert!(!readable(&listener, Duration::ZERO));
}

fn two_thousand_silent_clients_do_not_keep_an_honest_one_out(language: Language) {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = Listener::bind(scratch.socket()).unwrap();
    let path = scratch.socket();
    let flood = std::thread::spawn(move || {
        let mut open = std::collections::VecDeque::new();
        let mut made = 0;
        while made < 2000 {
            match raw::dial_at_once(&path) {
                Ok(socket) => {
                    made += 1;
                    open.push_back(socket);
                }
                Err(_) => std::thread::yield_now(),
            }
            if open.len() > 500 {
                open.pop_front();
            }
        }
        open
    });
    let mut peers = Vec::new();
    for _ in 0..3 {
        let mut peer = peer!(in language, "echo", path = scratch.socket());
        let mut server = listener.accept_timeout(SOON).expect("the honest client");
        server.send(b"hello").unwrap();
        assert_eq!(server.recv_timeout(SOON).unwrap().to_vec(), b"hello");
        peer.expect("connected");
        peers.push((peer, server));
    }
    while !flood.is_finished() {
        let _ = listener.try_accept().unwrap();
    }
    drop(flood.join().unwrap());
    assert!(listener.refused() >= 100, "{}", listener.refused());
}

#[test]
fn a_flood_of_clients_that_come_and_go_does_not_hold_up_a_deadline() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = Listener::bind(scratch.socket()).unwrap();
    let path = scratch.socket();
    let outcome = under_a_flood(
        move || raw::dial_at_once(&path).is_ok(),
        move || [listener.accept_timeout(Duration::from_millis(50)).map(drop), listener.try_accept().map(drop)],
    );
    let [timed, tried] = outcome.expect("a deadline of 50 ms, and one of none at all, end within 3 s");
    assert!(matches!(timed, Err(AcceptError::TimedOut { .. })), "{timed:?}");
    assert!(matches!(tried, Ok(())), "{tried:?}");
}

/// As [`under_a_flood`], of rings on one bell.
fn under_a_flood_of_doorbells(
    bell: fn(&RawConnection) -> &OwnedFd,
    wait: impl FnOnce(&mut Connection) -> String + Send + 'static,
) -> Option<String> {
    let scratch = Scratch::new();
    let (mut server, hostile) = server_and_raw(ListenOptions::new(), &scratch);
    let ring = move || rustix::net::send(bell(&hostile), &[0; 4], rustix::net::SendFlags::DONTWAIT).is_ok();
    under_a_flood(ring, move || wait(&mut server))
}

#[test]
fn a_flood_of_doorbells_does_not_hold_up_a_receivers_deadline() {
    let _guard = HangGuard::new(60);
    let outcome = under_a_flood_of_doorbells(
        |hostile| &hostile.messages,
        |server| server.recv_timeout(Duration::from_millis(50)).map(drop).unwrap_err().to_string(),
    );
    let text = outcome.expect("a deadline of 50 ms ends a wait within 3 s");
    assert!(text.contains("no message came for"), "{text}");
}

#[test]
fn a_flood_of_doorbells_does_not_hold_up_a_senders_deadline() {
    let _guard = HangGuard::new(60);
    let outcome = under_a_flood_of_doorbells(
        |hostile| &hostile.space,
        |server| {
            while server.try_send(&[0; 500]).is_ok() {}
            server.send_timeout(&[0; 500], Duration::from_millis(50)).unwrap_err().to_string()
        },
    );
    let text = outcome.expect("a deadline of 50 ms ends a wait within 3 s");
    assert!(text.contains("has made no room for"), "{text}");
}

#[test]
fn a_flood_of_doorbells_does_not_disturb_the_messages() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let (mut server, hostile) = server_and_raw(ListenOptions::new(), &scratch);
    for _ in 0..10_000 {
        let _ = rustix::net::send(&hostile.messages, &[0; 100], rustix::net::SendFlags::DONTWAIT);
        let _ = rustix::net::send(&hostile.space, &[0; 100], rustix::net::SendFlags::DONTWAIT);
    }
    hostile.write(hostile.to_server() + control::DATA + 8, 0x0101_0101_0101_0101);
    hostile.write(hostile.to_server() + control::DATA, header(8));
    assert_eq!(server.recv_timeout(SOON).unwrap().to_vec(), [1; 8]);
    server.send(b"answer").unwrap();
    assert_eq!(hostile.read(hostile.to_client() + control::DATA), header(6));
}

#[test]
fn limits_are_refused_with_their_numbers() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = ListenOptions::new().max_connections(2).bind(scratch.socket()).unwrap();
    let path = scratch.socket();
    let first = raw::call(&path, &Hello::default());
    let second = raw::call(&path, &Hello::default());
    let servers = [listener.accept_timeout(SOON).unwrap(), listener.accept_timeout(SOON).unwrap()];
    assert_eq!(listener.connections(), 2);
    let third = refusal(&mut listener, &path, &Hello::default().encode());
    assert_eq!(third, Some(Refusal::Connections { open: 2, limit: 2 }));
    drop(servers);
    assert_eq!(listener.connections(), 0);
    assert_eq!(refusal(&mut listener, &path, &Hello::default().encode()), None, "a place is free again");
    drop((first, second, listener));

    let needed = SMALL.segment_size();
    let mut listener = ListenOptions::new().capacity(4096).max_memory(2 * needed - 1).bind(&path).unwrap();
    let _first = raw::call(&path, &Hello::default());
    let server = listener.accept_timeout(SOON).unwrap();
    let second = refusal(&mut listener, &path, &Hello::default().encode());
    assert_eq!(second, Some(Refusal::Memory { needed, free: needed - 1 }));
    drop(server);
    assert_eq!(refusal(&mut listener, &path, &Hello::default().encode()), None);
    // What is wished for is cut to what the server gives at most.
    drop(listener);
    let mut listener = ListenOptions::new().max_capacity(512 << 10).bind(&path).unwrap();
    let socket = raw::call(&path, &Hello { to_server: 1 << 30, to_client: 4096, ..Hello::default() });
    let _server = listener.accept_timeout(SOON).unwrap();
    assert_eq!(raw::welcomed(socket).geometry, Geometry { to_server_capacity: 512 << 10, to_client_capacity: 4096 });
}

#[test]
fn a_client_is_told_the_numbers_of_its_refusal() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = ListenOptions::new().max_connections(0).bind(scratch.socket()).unwrap();
    let path = scratch.socket();
    let client = std::thread::spawn(move || ConnectOptions::new().connect(path).map(drop).unwrap_err());
    while listener.refused() == 0 {
        assert!(listener.try_accept().unwrap().is_none());
    }
    let error = client.join().unwrap();
    let expected = Refusal::Connections { open: 0, limit: 0 };
    assert!(matches!(error, ConnectError::Refused { refusal, .. } if refusal == expected), "{error}");
}

#[test]
fn a_socket_file_is_its_users_own_unless_told_otherwise() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let mode = |path: String| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let _private = Listener::bind(scratch.file("private")).unwrap();
    assert_eq!(mode(scratch.file("private")), 0o600);
    let _shared = ListenOptions::new().permissions(0o660).bind(scratch.file("shared")).unwrap();
    assert_eq!(mode(scratch.file("shared")), 0o660);
}

/// A process that has forked in the middle of a connection to us, and whose child has dropped what it inherited, or keeps it.
fn forked(language: Language, scratch: &Scratch, questions: bool, keep: bool) -> (ipc_tests::Peer, Connection, i32) {
    let mut peer = peer!(in language, "fork", path = scratch.socket(), questions = questions, keep = keep);
    let mut client = ConnectOptions::new().wait_for_listener(true).timeout(SOON).connect(scratch.socket()).unwrap();
    for _ in 0..2 {
        client.send(b"before").unwrap();
        assert_eq!(client.recv_timeout(SOON).unwrap().to_vec(), b"before");
    }
    let child = peer.expect("child ").parse().unwrap();
    assert_eq!(peer.expect("child-done"), "", "the child lives on");
    (peer, client, child)
}

/// Ends the forked child, which nobody else does.
fn end(child: i32) {
    // SAFETY: integers only; the child sleeps until it is killed.
    unsafe { libc::kill(child, libc::SIGKILL) };
}

fn a_forked_child_is_refused_and_disturbs_nothing(language: Language) {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let (peer, mut client, child) = forked(language, &scratch, false, false);
    for number in 0..100_u32 {
        client.send(&number.to_ne_bytes()).unwrap();
        assert_eq!(client.recv_timeout(SOON).unwrap().to_vec(), number.to_ne_bytes());
    }
    assert!(std::path::Path::new(&scratch.socket()).exists(), "the child did not take the name away");
    end(child);
    drop(peer);
}

fn the_death_of_a_parent_is_noticed_though_its_child_lives_on(language: Language) {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let (peer, mut client, child) = forked(language, &scratch, false, true);
    peer.kill();
    let error = client.recv_timeout(SOON).map(drop).unwrap_err();
    assert!(matches!(error, RecvError::Disconnected { .. }), "{error}");
    while client.try_send(&[0; 1000]).is_ok() {}
    let error = client.send_timeout(&[0; 1000], SOON).unwrap_err();
    assert!(matches!(error, SendError::Disconnected { .. }), "{error}");
    // SAFETY: integers only; signal 0 asks whether the process is there.
    assert_eq!(unsafe { libc::kill(child, 0) }, 0, "the child lives on");
    end(child);
}

fn questions_in_a_forked_child_do_not_crash(language: Language) {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let (_peer, client, child) = forked(language, &scratch, true, false);
    end(child);
    drop(client);
}

fn descriptors_beside_a_hello_or_a_doorbell_are_closed(language: Language) {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut peer = peer!(in language, "hold", path = scratch.socket(), listen = true);
    peer.expect("listening");
    let count = |id: u32| std::fs::read_dir(format!("/proc/{id}/fd")).unwrap().count();
    let before = count(peer.id());
    let socket = raw::dial(&scratch.socket()).unwrap();
    raw::send(&socket, &Hello::default().encode(), &[socket.as_fd(); 8]).unwrap();
    peer.expect("connected");
    let hostile = raw::welcomed(socket);
    let open = count(peer.id());
    // Two bells, the socket for files, the segment, and the peer's pidfd where there is one, instead of the listener.
    assert!(open <= before + 4, "{before} descriptors were open before, {open} afterwards");
    for _ in 0..50 {
        let _ = raw::send(&hostile.messages, &[0], &[hostile.memory.as_fd(); 8]);
    }
    assert_eq!(count(peer.id()), open);
    peer.say("go");
    peer.finish();
}

in_each_language!(
    words_that_a_hostile_server_left_in_fresh_rings_are_not_believed,
    arbitrary_bytes_everywhere_end_the_connection_and_nothing_else,
    arbitrary_control_words_end_the_connection_and_nothing_else,
    arbitrary_records_with_plausible_headers_end_the_connection_and_nothing_else,
    two_thousand_silent_clients_do_not_keep_an_honest_one_out,
    a_forked_child_is_refused_and_disturbs_nothing,
    the_death_of_a_parent_is_noticed_though_its_child_lives_on,
    questions_in_a_forked_child_do_not_crash,
    descriptors_beside_a_hello_or_a_doorbell_are_closed,
);
