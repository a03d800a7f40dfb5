//! Messages on every lane, both ends in one process.

use ipc_core::router::Override;
use ipc_core::{ConnectOptions, Connection, Credit, Lane, ListenOptions, Mode, SendError};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Both ends of a connection of this mode: the server's and the client's.
fn pair(listen: ListenOptions, connect: ConnectOptions) -> (Connection, Connection) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("ipc-lanes-{}-{}.sock", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path: PathBuf = std::env::temp_dir().join(name);
    let mut listener = listen.bind(&path).unwrap();
    let connecting = std::thread::spawn(move || connect.connect(path).unwrap());
    let server = listener.accept_timeout(Duration::from_secs(10)).unwrap();
    (server, connecting.join().unwrap())
}

fn pair_of(mode: Mode) -> (Connection, Connection) {
    pair(ListenOptions::new(), ConnectOptions::new().mode(mode))
}

/// Bytes that do not repeat: a page or a chunk in the place of another is seen.
fn content(len: usize, seed: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ seed as u8).collect()
}

const SIZES: [usize; 12] = [0, 1, 64, 4096, 16_383, 65_520, 65_529, 100_000, 1 << 20, (1 << 20) + 1, 3 << 20, 16 << 20];

#[test]
fn every_size_arrives_in_every_mode() {
    for mode in [Mode::Kernel, Mode::Hybrid, Mode::Shared, Mode::Auto] {
        let (mut server, mut client) = pair_of(mode);
        let sending = std::thread::spawn(move || {
            for (seed, len) in SIZES.into_iter().enumerate() {
                client.send(&content(len, seed)).unwrap();
            }
            for (seed, len) in SIZES.into_iter().enumerate() {
                client.send(&content(len, seed)).unwrap();
            }
            client
        });
        for (seed, len) in SIZES.into_iter().enumerate() {
            let message = server.recv().unwrap();
            assert!(message.to_vec() == content(len, seed), "{mode}, {len} bytes, on the {} lane", message.lane());
        }
        let mut buffer = vec![0; 16 << 20];
        for (seed, len) in SIZES.into_iter().enumerate() {
            assert_eq!(server.recv_into(&mut buffer).unwrap(), len);
            assert!(buffer[..len] == content(len, seed), "{mode}, {len} bytes into a buffer");
        }
        let mut client = sending.join().unwrap();
        drop(server);
        assert!(client.sender().is_peer_gone());
        assert!(client.sender().take_undelivered().unwrap().is_empty());
        assert_eq!(client.sender().arena().used, 0, "{mode}");
    }
}

#[test]
fn each_lane_can_be_asked_for() {
    let (mut server, mut client) = pair_of(Mode::Auto);
    for lane in Lane::ALL {
        client.sender().set_route(Override::Lane(lane)).unwrap();
        for len in [0, 1, 1000, 40_000] {
            client.send(&content(len, 3)).unwrap();
            let message = server.recv().unwrap();
            assert_eq!((message.lane(), message.len()), (lane, len));
            assert!(message.to_vec() == content(len, 3));
        }
    }
}

/// Large messages to a receiver that waits with a buffer go through a window; to any other, in a block.
#[test]
fn an_offer_is_taken_declined_or_withdrawn_and_the_message_arrives_once() {
    let (mut server, mut client) = pair_of(Mode::Auto);
    let len = 9 << 20;
    let sending = std::thread::spawn(move || {
        for seed in 0..12 {
            client.send(&content(len, seed)).unwrap();
            client.send(&[seed as u8]).unwrap();
        }
        client
    });
    let mut buffer = vec![0; len];
    for seed in 0..12 {
        match seed % 4 {
            0 => assert!(server.recv().unwrap().to_vec() == content(len, seed)),
            1 => {
                // Later than the sender has patience.
                std::thread::sleep(Duration::from_millis(5));
                assert_eq!(server.recv_into(&mut buffer).unwrap(), len);
            }
            2 => {
                assert!(matches!(server.recv_into(&mut [0; 64]), Err(ipc_core::RecvError::TooShort(_))));
                assert_eq!(server.recv_into(&mut buffer).unwrap(), len);
            }
            _ => assert_eq!(server.recv_into(&mut buffer).unwrap(), len),
        }
        assert!(seed % 4 == 0 || buffer == content(len, seed), "message {seed}");
        assert_eq!(server.recv().unwrap().to_vec(), [seed as u8]);
    }
    let mut client = sending.join().unwrap();
    assert_eq!((client.sender().sent(), server.receiver().received()), (24, 24));
    drop(server);
    assert!(client.sender().is_peer_gone());
    assert!(client.sender().take_undelivered().unwrap().is_empty());
    assert_eq!(client.sender().arena().used, 0);
}

/// A message without files behind one with files does not show them a second time.
#[test]
fn files_of_a_batch_belong_to_the_message_that_was_asked_for_last() {
    use std::os::fd::AsFd;
    let (mut server, mut client) = pair_of(Mode::Auto);
    let file = std::fs::File::open("/dev/null").unwrap();
    client.send_with_files(b"with", &[file.as_fd()]).unwrap();
    client.send(b"without").unwrap();
    let mut batch = server.recv_batch(8).unwrap();
    assert_eq!(batch.try_next().unwrap().unwrap().to_vec(), b"with");
    assert_eq!(batch.try_next().unwrap().unwrap().to_vec(), b"without");
    assert!(batch.take_files().is_empty());
}

/// Credit that does not fit the socket is given while the receiver sleeps: the sender waits for it.
#[test]
fn credit_that_is_owed_reaches_a_sender_that_waits_while_its_receiver_sleeps() {
    let mut credit = ipc_core::Credit::default();
    credit.messages = 1 << 40;
    let (mut server, mut client) = pair(ListenOptions::new().credit(credit), ConnectOptions::new().mode(Mode::Kernel));
    server.set_wait_strategy(ipc_core::WaitStrategy::Sleep);
    const SMALL: u64 = 600;
    const LARGE: u64 = 200;
    let receiving = std::thread::spawn(move || {
        for _ in 0..SMALL + LARGE {
            drop(server.recv().unwrap());
        }
    });
    for _ in 0..SMALL {
        client.send(&[1; 8]).unwrap();
        // The receiver goes to sleep in between.
        std::thread::sleep(Duration::from_micros(400));
    }
    for _ in 0..LARGE {
        client.send_timeout(&[2; 60_000], Duration::from_secs(20)).unwrap();
    }
    receiving.join().unwrap();
}

/// What a trim cannot tell the peer of now waits for the next one: nothing has failed.
#[test]
fn a_trim_that_finds_no_room_in_the_ring_gives_nothing_back() {
    let (mut server, mut client) = pair_of(Mode::Shared);
    client.sender().set_route(Override::Lane(Lane::Arena)).unwrap();
    client.send(&content(1000, 1)).unwrap();
    assert_eq!(server.recv().unwrap().lane(), Lane::Arena);
    client.sender().set_route(Override::Lane(Lane::Inline)).unwrap();
    while client.try_send(&[0; 8]).is_ok() {}
    assert_eq!(client.sender().trim(Duration::ZERO).unwrap(), 0);
    while server.try_recv().unwrap().is_some() {}
    assert_eq!(client.sender().trim(Duration::ZERO).unwrap(), 32 << 20);
}

#[test]
fn who_asks_for_a_peer_that_is_gone_hears_how_much_it_did_not_get() {
    for mode in [Mode::Kernel, Mode::Hybrid, Mode::Shared] {
        let (mut server, mut client) = pair_of(mode);
        client.sender().check_peer().unwrap();
        client.send(&content(100_000, 1)).unwrap();
        drop(server.recv().unwrap());
        client.send(&content(100_000, 2)).unwrap();
        client.send(&content(8, 3)).unwrap();
        drop(server);
        let gone = client.sender().check_peer().unwrap_err();
        assert!(matches!(gone, SendError::Disconnected { undelivered: 2 }), "{mode}: {gone}");
        assert_eq!(client.sender().undelivered().unwrap(), [content(100_000, 2), content(8, 3)], "{mode}");
    }
}

/// The rights of the mapping of an arena's region that `bytes` lie in, as in `rw-s`.
fn rights_at(bytes: *const u8) -> String {
    let at = bytes as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let of = |line: &&str| {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let number = |hex: &str| usize::from_str_radix(hex, 16).unwrap();
        (number(start)..number(end)).contains(&at)
    };
    let line = maps.lines().find(of).expect("mapped");
    assert!(line.contains("memfd:ipc:"), "{line}");
    line.split(' ').nth(1).unwrap().into()
}

/// A loan's receiver can write to it if the sender believed it before, and not otherwise: the sender has a slice over it.
#[test]
fn loans_are_sealed_against_their_receiver_unless_that_is_believed() {
    let (mut near, mut far) = pair_of(Mode::Auto);
    let sent = |near: &mut Connection| near.sender().loan(1 << 20).unwrap().send().unwrap();
    sent(&mut near);
    assert_eq!(rights_at(far.recv().unwrap().as_ptr()), "r--s");
    // A copy, which nobody here looks at again, does not lie among loans, and no loan among copies.
    near.send(&content(1 << 20, 1)).unwrap();
    assert_eq!(rights_at(far.recv().unwrap().as_ptr()), "rw-s");
    sent(&mut near);
    assert_eq!(rights_at(far.recv().unwrap().as_ptr()), "r--s");
    // SAFETY: both sides are this test, which writes to loans alone.
    let mut near = unsafe { near.trust_peer() };
    let mut loan = near.sender().loan(1 << 20).unwrap();
    loan[..8].copy_from_slice(b"in place");
    loan.send().unwrap();
    let message = far.recv().unwrap();
    assert_eq!(rights_at(message.as_ptr()), "rw-s");
    assert_eq!(&message.to_vec()[..8], b"in place");
}

/// Fills an arena of `bytes` with copies of 3 MiB that are held: how many lie where their receiver could write, and how many elsewhere.
fn copies_in(bytes: u64, trusts: bool) -> (usize, usize) {
    let mut credit = Credit::default();
    credit.arena = bytes;
    let (near, mut far) = pair(ListenOptions::new(), ConnectOptions::new().credit(credit));
    let (message, mut rights) = (content(3 << 20, 1), Vec::new());
    fn fill<T: ipc_core::Trust>(
        near: &mut Connection<T>,
        far: &mut Connection,
        message: &[u8],
        rights: &mut Vec<String>,
    ) {
        let mut held = Vec::new();
        while near.sender().try_send(message).is_ok() {
            held.push(far.recv().unwrap().hold());
        }
        rights.extend(held.iter().map(|held| rights_at(held.as_ptr())));
    }
    if trusts {
        // SAFETY: both sides are this test, which writes nowhere.
        fill(&mut unsafe { near.trust_peer() }, &mut far, &message, &mut rights);
    } else {
        let mut near = near;
        fill(&mut near, &mut far, &message, &mut rights);
    }
    let open = rights.iter().position(|rights| rights == "r--s").unwrap_or(rights.len());
    assert!(rights[open..].iter().all(|rights| rights == "r--s"), "{rights:?}");
    (open, rights.len() - open)
}

/// Copies have an eighth of an arena to themselves, and share the rest of it with loans.
#[test]
fn copies_fill_their_share_of_an_arena_and_then_the_rest() {
    assert_eq!(copies_in(64 << 20, false), (2, 18));
    assert_eq!(copies_in(31 << 20, false), (0, 10));
    assert_eq!(copies_in(64 << 20, true), (21, 0));
}

/// A message of no bytes made a region of none, for which its receiver ended the connection, when there was no room left for it.
#[test]
fn an_empty_copy_finds_room_though_its_share_is_full() {
    let mut credit = Credit::default();
    credit.arena = 64 << 20;
    let (mut near, mut far) = pair(ListenOptions::new(), ConnectOptions::new().credit(credit));
    near.sender().set_route(Override::Lane(Lane::Arena)).unwrap();
    (0..8).for_each(|_| near.try_send(&content(1 << 20, 1)).unwrap());
    assert_eq!(near.sender().arena().size, 8 << 20);
    near.try_send(&[]).unwrap();
    near.sender().try_loan(0).unwrap().send().unwrap();
    (0..8).for_each(|_| assert_eq!(far.recv().unwrap().len(), 1 << 20));
    (0..2).for_each(|_| assert_eq!(far.recv().unwrap().len(), 0));
}

/// Copies took regions as large as those of loans: one small copy that was held kept a long loan out for good.
#[test]
fn a_copy_that_is_held_keeps_no_long_loan_out() {
    let (mut near, mut far) = pair_of(Mode::Auto);
    near.send(&content(100_000, 1)).unwrap();
    let copy = far.recv().unwrap().hold();
    near.sender().loan(100_000).unwrap().send().unwrap();
    let loan = far.recv().unwrap().hold();
    near.sender().try_loan(150 << 20).unwrap().send().unwrap();
    assert_eq!(far.recv().unwrap().len(), 150 << 20);
    assert_eq!((copy.len(), loan.len()), (100_000, 100_000));
}

/// A sender whose arena is sealed and full of room when it believes its peer goes on in that room.
#[test]
fn who_believes_late_uses_the_arena_that_is_there() {
    let mut credit = Credit::default();
    credit.arena = 64 << 20;
    let (mut near, mut far) = pair(ListenOptions::new(), ConnectOptions::new().credit(credit));
    near.send(&content(1 << 20, 1)).unwrap();
    near.sender().loan(1 << 20).unwrap().send().unwrap();
    for _ in 0..2 {
        assert_eq!(far.recv().unwrap().len(), 1 << 20);
    }
    assert_eq!(near.sender().arena().size, 64 << 20);
    // SAFETY: both sides are this test, which writes to loans alone.
    let mut near = unsafe { near.trust_peer() };
    for _ in 0..3 {
        near.sender().try_loan(20 << 20).unwrap().send().unwrap();
        assert_eq!(rights_at(far.recv().unwrap().as_ptr()), "r--s");
    }
}

/// Messages that go from their end on, or from their beginning on, are the same: of lengths around a chunk's and of such as are too long
/// to go backwards, answered and not.
#[test]
fn an_offered_message_arrives_whole_from_either_end() {
    const CHUNK: usize = 64 << 10;
    for len in [3 << 20, (3 << 20) + 1, (4 << 20) - 1, 50 * CHUNK + CHUNK / 2, (8 << 20) - 1, 8 << 20] {
        let (mut near, mut far) = pair_of(Mode::Auto);
        let answering = std::thread::spawn(move || {
            let mut buffer = vec![0; len];
            for number in 0..6 {
                assert_eq!(far.recv_into(&mut buffer).unwrap(), len);
                assert_eq!(buffer, content(len, number));
                // Answers come the other way round, those of one in three not at all.
                if number % 3 != 0 {
                    far.send(&content(len, number + 100)).unwrap();
                }
            }
        });
        let mut buffer = vec![0; len];
        for number in 0..6 {
            near.send(&content(len, number)).unwrap();
            if number % 3 != 0 {
                assert_eq!(near.recv_into(&mut buffer).unwrap(), len);
                assert_eq!(buffer, content(len, number + 100));
            }
        }
        answering.join().unwrap();
    }
}

/// A window is worth no wait: who holds the room for it may be waiting for the very message.
#[test]
fn a_large_message_is_sent_without_a_window_while_its_receiver_holds_the_arena() {
    let mut credit = Credit::default();
    credit.arena = 3 << 19;
    let (mut near, mut far) = pair(ListenOptions::new(), ConnectOptions::new().credit(credit));
    near.sender().loan(1 << 20).unwrap().send().unwrap();
    let held = far.recv().unwrap().hold();
    let (done, end) = std::sync::mpsc::channel();
    let sending = std::thread::spawn(move || {
        near.send(&content(4 << 20, 1)).unwrap();
        done.send(()).unwrap();
    });
    let mut buffer = vec![0; 4 << 20];
    assert_eq!(far.receiver().recv_into_timeout(&mut buffer, Duration::from_secs(20)).unwrap(), 4 << 20);
    assert_eq!(buffer, content(4 << 20, 1));
    end.recv_timeout(Duration::from_secs(20)).unwrap();
    sending.join().unwrap();
    drop(held);
}
