//! Limits: each is an error with numbers that are right, nothing is lost by it, and what was refused goes once there is room.

use ipc_core::router::Override;
use ipc_core::{Connection, Credit, Lane, ListenOptions, Mode, Resource, SendError, Sender};
use ipc_tests::roles::{LIMITED, mode_named, shortage};
use ipc_tests::{HangGuard, Language, Mix, Peer, Scratch, in_each_language, peer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);
const FIVE_SECONDS: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
const MODES: [&str; 4] = ["kernel", "hybrid", "shared", "auto"];

/// A server here, and a client in another process that receives what it is told to, and accepts so much.
fn with_keeper(language: Language, mode: &str, credit: Credit) -> (Scratch, Peer, Connection) {
    let scratch = Scratch::new();
    let options = ListenOptions::new().mode(mode_named(mode).unwrap());
    let mut listener = options.bind(scratch.socket()).unwrap();
    let Credit { messages, arena, message, .. } = credit;
    let path = scratch.socket();
    let mut peer =
        peer!(in language, "keep", path = path, mode = mode, messages = messages, arena = arena, message = message);
    let server = listener.accept_timeout(SOON).unwrap();
    peer.expect("connected");
    (scratch, peer, server)
}

fn credit(change: impl FnOnce(&mut Credit)) -> Credit {
    let mut credit = Credit::default();
    change(&mut credit);
    credit
}

/// A refused message says what there is too little of, whichever call refuses it, and nothing was sent.
fn refuses(sender: &mut Sender, message: &[u8], due: (Resource, u64, u64)) {
    let before = (sender.sent(), sender.arena().blocks);
    let error = sender.try_send(message).unwrap_err();
    assert!(matches!(error, SendError::WouldBlock { .. }), "{error}");
    assert_eq!(shortage(&error), Some(due), "{error}");
    let start = Instant::now();
    let timeout = Duration::from_millis(20);
    let error = sender.send_timeout(message, timeout).unwrap_err();
    assert_eq!(shortage(&error), Some(due), "{error}");
    match error {
        SendError::TimedOut { waited, .. } => assert!(waited >= timeout && waited <= start.elapsed(), "{waited:?}"),
        error => panic!("{error}"),
    }
    assert_eq!((sender.sent(), sender.arena().blocks), before, "what is refused leaves nothing behind");
}

/// As an event loop does: there is no room now, and the descriptor tells when there is.
fn goes_once_there_is_room(sender: &mut Sender, message: &[u8], mut make_room: impl FnMut()) {
    while !sender.arm().unwrap() {
        assert!(matches!(sender.try_send(message), Err(SendError::WouldBlock { .. })), "nobody has made room");
    }
    let mut fds = [PollFd::new(&*sender, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&Timespec::default())).unwrap(), 0, "nobody has made room");
    make_room();
    let until = Instant::now() + SOON;
    loop {
        assert_eq!(poll(&mut [PollFd::new(&*sender, PollFlags::IN)], Some(&FIVE_SECONDS)).unwrap(), 1, "no wake-up");
        match sender.try_send(message) {
            Ok(()) => return,
            Err(SendError::WouldBlock { .. }) if Instant::now() < until => {}
            Err(error) => panic!("{error}"),
        }
        if !sender.arm().unwrap() && sender.try_send(message).is_ok() {
            return;
        }
    }
}

fn no_more_messages_are_on_their_way_than_the_receiver_gives_credit_for(language: Language) {
    let _guard = HangGuard::new(60);
    for mode in MODES {
        let (_scratch, mut peer, mut server) = with_keeper(language, mode, credit(|credit| credit.messages = 8));
        let sender = server.sender();
        assert_eq!(sender.credit().messages, 8);
        for round in 0..5 {
            for _ in 0..8 {
                sender.try_send(b"one").unwrap_or_else(|error| panic!("{mode}, round {round}: {error}"));
            }
            refuses(sender, b"one more", (Resource::Messages, 1, 0));
            let refused = sender.try_reserve(8).map(drop).unwrap_err();
            assert_eq!(shortage(&refused), Some((Resource::Messages, 1, 0)));
            if mode != "kernel" {
                let refused = sender.try_loan(8).map(drop).unwrap_err();
                assert_eq!(shortage(&refused), Some((Resource::Messages, 1, 0)));
            }
            // A held message is a consumed one: its receiver has said what becomes of it.
            let (word, answer) = if round % 2 == 0 { ("take 1", "took") } else { ("hold 1", "held") };
            goes_once_there_is_room(sender, b"one more", || {
                peer.say(word);
                peer.expect(answer);
            });
            refuses(sender, b"two more", (Resource::Messages, 1, 0));
            peer.say("take 8");
            peer.expect("took");
        }
        // A call that waits is woken.
        for _ in 0..8 {
            sender.send(b"one").unwrap();
        }
        peer.say("take 16");
        for _ in 0..8 {
            sender.send_timeout(b"one", SOON).unwrap();
        }
        peer.expect("took");
    }
}

fn a_batch_is_not_longer_than_the_receiver_gives_credit_for(language: Language) {
    let _guard = HangGuard::new(60);
    for mode in ["kernel", "shared", "auto"] {
        let (_scratch, mut peer, mut server) = with_keeper(language, mode, credit(|credit| credit.messages = 8));
        let mut batch = server.batch();
        let mut refused = None;
        for number in 0..9 {
            if let Err(error) = batch.try_push(b"one") {
                refused = Some((number, error));
                break;
            }
        }
        let (number, error) = refused.expect("credit for 8");
        assert_eq!((number, shortage(&error)), (8, Some((Resource::Messages, 1, 0))), "{mode}: {error}");
        batch.publish().unwrap();
        assert_eq!(server.sender().sent(), 8, "{mode}");
        peer.say("take 8");
        peer.expect("took 3 3 3 3 3 3 3 3");
    }
}

fn no_more_of_the_arena_is_used_than_the_receiver_accepts(language: Language) {
    let _guard = HangGuard::new(60);
    for mode in ["hybrid", "shared", "auto"] {
        let (_scratch, mut peer, mut server) = with_keeper(language, mode, credit(|credit| credit.arena = 1 << 20));
        let sender = server.sender();
        sender.set_route(Override::Lane(Lane::Arena)).unwrap();
        assert_eq!((sender.arena().limit, sender.arena().size), (1 << 20, 0));
        let quarter = vec![7; 256 << 10];
        for _ in 0..4 {
            sender.try_send(&quarter).unwrap();
        }
        assert_eq!((sender.arena().used, sender.arena().blocks, sender.arena().size), (1 << 20, 4, 1 << 20));
        refuses(sender, &quarter, (Resource::Arena, 256 << 10, 0));
        // What is held counts until it is dropped.
        peer.say("hold 4");
        peer.expect("held 4");
        refuses(sender, &quarter, (Resource::Arena, 256 << 10, 0));
        goes_once_there_is_room(sender, &quarter, || {
            peer.say("drop 2");
            peer.expect("dropped 3");
        });
        refuses(sender, &[1; 128], (Resource::Arena, 128, 0));
        // Other lanes have nothing to do with it.
        sender.set_route(Override::Lane(Lane::File)).unwrap();
        sender.try_send(&quarter).unwrap();
        peer.say("take 2");
        assert_eq!(peer.expect("took"), "262144 262144");
        peer.say("drop-all");
        peer.expect("dropped");
        sender.set_route(Override::Lane(Lane::Arena)).unwrap();
        sender.try_send(&vec![7; 1 << 20]).unwrap();
        assert_eq!(sender.arena().blocks, 1);
    }
}

fn no_more_blocks_are_lent_than_the_way_back_has_room_for(language: Language) {
    let _guard = HangGuard::new(60);
    for mode in ["hybrid", "auto"] {
        let (_scratch, mut peer, mut server) = with_keeper(language, mode, Credit::default());
        let sender = server.sender();
        sender.set_route(Override::Lane(Lane::Arena)).unwrap();
        for chunk in 0..8 {
            peer.say("hold 128");
            for _ in 0..128 {
                sender.send_timeout(&[chunk; 10], SOON).unwrap();
            }
            peer.expect("held");
        }
        assert_eq!((sender.arena().blocks, sender.arena().used), (1024, 1024 * 128));
        refuses(sender, &[9; 10], (Resource::Blocks, 1, 0));
        goes_once_there_is_room(sender, &[9; 10], || {
            peer.say("drop 500");
            peer.expect("dropped 1023");
        });
        refuses(sender, &[9; 10], (Resource::Blocks, 1, 0));
        peer.say("take 1");
        peer.expect("took 10");
        peer.say("drop-all");
        peer.expect("dropped");
        sender.trim(SOON).unwrap();
        assert_eq!((sender.arena().blocks, sender.arena().used), (0, 0), "{mode}");
    }
}

fn no_message_is_longer_than_the_receiver_accepts(language: Language) {
    let _guard = HangGuard::new(60);
    for mode in MODES {
        let (_scratch, mut peer, mut server) = with_keeper(language, mode, credit(|credit| credit.message = 10_000));
        let sender = server.sender();
        assert_eq!(sender.max_message(), 10_000, "{mode}");
        let routes = Lane::ALL.map(Override::Lane).into_iter().chain([Override::Auto, Override::Threshold(1)]);
        let mut sent = 0;
        for route in routes {
            if sender.set_route(route).is_err() {
                continue;
            }
            let long = [1; 10_001];
            let refused = [
                sender.send(&long).unwrap_err(),
                sender.try_send(&long).unwrap_err(),
                sender.send_vectored(&[&long[..1], &long[1..]]).unwrap_err(),
                sender.send_with_files(&long, &[std::io::stdin().as_fd()]).unwrap_err(),
                sender.loan(long.len()).map(drop).unwrap_err(),
                sender.reserve(long.len()).map(drop).unwrap_err(),
                sender.batch().push(&long).unwrap_err(),
            ];
            for error in refused {
                let right = matches!(error, SendError::TooLarge { len: 10_001, max: 10_000 });
                assert!(right, "{mode}, {route:?}: {error}");
            }
            sender.send(&long[..10_000]).unwrap();
            sent += 1;
        }
        assert_eq!(sender.sent(), sent);
        peer.say(&format!("take {sent}"));
        assert_eq!(peer.expect("took"), vec!["10000"; sent as usize].join(" "));
    }
}

fn more_files_than_fit_beside_a_message_are_refused(language: Language) {
    let _guard = HangGuard::new(60);
    for mode in MODES {
        let (_scratch, mut peer, mut server) = with_keeper(language, mode, Credit::default());
        let input = std::io::stdin();
        let files: Vec<BorrowedFd<'_>> = vec![input.as_fd(); 100];
        let sender = server.sender();
        for given in [64, 65, 100] {
            match sender.send_with_files(b"x", &files[..given]).unwrap_err() {
                SendError::TooManyFiles { given: said, max } => assert_eq!((said, max), (given, 63)),
                error => panic!("{error}"),
            }
        }
        sender.send_with_files(b"x", &files[..63]).unwrap();
        peer.say("take 1");
        peer.expect("took 1");
        assert_eq!(sender.sent(), 1, "{mode}");
    }
}

/// A sender in another process that meets a limit of its system, and what arrives here.
fn limited(limit: &str, lane: Lane) -> Vec<String> {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = ListenOptions::new().bind(scratch.socket()).unwrap();
    let mut peer = peer!("limited", path = scratch.socket(), limit = limit, lane = lane, seed = 3);
    let mut server = listener.accept_timeout(SOON).unwrap();
    let refused = (0..3).map(|_| peer.expect("refused")).collect();
    peer.expect("sent");
    let mix = Mix::new(3, 0, 0);
    for (number, len) in [(0, LIMITED.1), (1, LIMITED.0)] {
        let mut due = vec![0; len];
        mix.fill(number, &mut due);
        let message = server.recv_timeout(SOON).unwrap();
        assert!(message.to_vec() == due, "message {number}: {} bytes on the {} lane", message.len(), message.lane());
    }
    assert!(server.try_recv().unwrap().is_none());
    peer.say("go");
    peer.finish();
    refused
}

#[test]
fn a_sender_without_descriptors_says_so_and_goes_on_when_it_has_some() {
    for lane in [Lane::File, Lane::Arena] {
        for refused in limited("files", lane) {
            assert!(refused.contains("os error 24"), "{lane}: {refused}");
        }
    }
}

#[test]
fn a_sender_without_address_space_says_so_and_goes_on_when_it_has_some() {
    for lane in [Lane::File, Lane::Arena] {
        for refused in limited("space", lane) {
            assert!(refused.contains("os error 12"), "{lane}: {refused}");
        }
    }
}

fn a_receiver_without_descriptors_finds_the_message_later(language: Language) {
    let _guard = HangGuard::new(60);
    for lane in [Lane::File, Lane::Arena, Lane::Inline] {
        let (_scratch, mut peer, mut server) = with_keeper(language, "auto", Credit::default());
        let sender = server.sender();
        assert_eq!(sender.credit(), Credit::default());
        sender.set_route(Override::Lane(lane)).unwrap();
        peer.say("files 3");
        peer.expect("limited");
        sender.send_with_files(&[1; 1000], &[std::io::stdin().as_fd(), std::io::stdout().as_fd()]).unwrap();
        for _ in 0..3 {
            peer.say("fail");
            assert!(peer.expect("failed").contains("os error 24"));
        }
        peer.say("files");
        peer.expect("limited");
        sender.send(&[2; 2000]).unwrap();
        peer.say("take 2");
        assert_eq!(peer.expect("took"), "1000 2000", "{lane}");
    }
}

fn a_receiver_without_address_space_finds_the_message_later(language: Language) {
    let _guard = HangGuard::new(60);
    for lane in [Lane::File, Lane::Arena] {
        let (_scratch, mut peer, mut server) = with_keeper(language, "auto", Credit::default());
        let sender = server.sender();
        sender.set_route(Override::Lane(lane)).unwrap();
        peer.say("space 65536");
        peer.expect("limited");
        sender.send(&[1; 500_000]).unwrap();
        for _ in 0..3 {
            peer.say("fail");
            assert!(peer.expect("failed").contains("os error 12"));
        }
        peer.say("space");
        peer.expect("limited");
        sender.send(&[2; 2000]).unwrap();
        peer.say("take 2");
        assert_eq!(peer.expect("took"), "500000 2000", "{lane}");
    }
}

fn the_mode_is_the_one_that_shares_less(language: Language) {
    let _guard = HangGuard::new(60);
    for mode in MODES {
        let (_scratch, _peer, mut server) = with_keeper(language, mode, Credit::default());
        let has = Lane::ALL.map(|lane| server.sender().set_route(Override::Lane(lane)).is_ok());
        let due = match mode_named(mode).unwrap() {
            Mode::Kernel => [true, false, false, false],
            Mode::Hybrid => [true, false, true, true],
            Mode::Shared => [false, true, true, true],
            _ => [true; 4],
        };
        assert_eq!(has, due, "{mode}: {:?}", Lane::ALL);
        assert_eq!(server.segment_size() > 0, mode != "kernel", "{mode}");
    }
}

in_each_language!(
    no_more_messages_are_on_their_way_than_the_receiver_gives_credit_for,
    a_batch_is_not_longer_than_the_receiver_gives_credit_for,
    no_more_of_the_arena_is_used_than_the_receiver_accepts,
    no_more_blocks_are_lent_than_the_way_back_has_room_for,
    no_message_is_longer_than_the_receiver_accepts,
    more_files_than_fit_beside_a_message_are_refused,
    a_receiver_without_descriptors_finds_the_message_later,
    a_receiver_without_address_space_finds_the_message_later,
    the_mode_is_the_one_that_shares_less,
);
