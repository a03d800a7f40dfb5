//! Death: `kill -9` at any moment, on either side, loses no committed message, invents none, blocks nobody and leaves
//! nothing behind.
//!
//! `IPC_KILL_ROUNDS` sets the number of rounds for each of the four ways to die; see `ci/kill.sh`.

use ipc_core::{ConnectOptions, Connection, Listener, RecvError};
use ipc_tests::shared::Counters;
use ipc_tests::{
    HangGuard, Language, Pair, Random, Scratch, Stream, in_each_language, in_each_pair, peer, raw, small_pair,
};
use rustix::event::{PollFd, PollFlags, poll};
use std::time::Duration;

fn rounds() -> u64 {
    std::env::var("IPC_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

/// Lets a process of its own survive many victims, so that its descriptors and mappings are its own.
fn survive(pair: Pair, role: &str, listen: bool) {
    let rounds = pair.share(rounds(), 4);
    let patience = 100 + rounds / 5;
    let _guard = HangGuard::new(patience);
    let scratch = Scratch::new();
    let (path, counters) = (scratch.socket(), Counters::new());
    let log = counters.path();
    let victim = pair.1.program(env!("CARGO_BIN_EXE_peer").as_ref());
    let mut peer = peer!(
        in pair.0,
        role,
        victim = victim.display(),
        path = path,
        log = log,
        rounds = rounds,
        listen = listen,
        seed = rounds,
        alarm = patience,
    );
    let start = std::time::Instant::now();
    let status = loop {
        match peer.next_line(Duration::from_secs(patience)) {
            Some(line) => {
                println!("{role} ({pair:?}, listens: {listen}), {:.0} s: {line}", start.elapsed().as_secs_f64())
            }
            None => break peer.wait(),
        }
    };
    assert!(status.success(), "{role}: {status}");
}

fn what_a_killed_client_had_sent_arrives_once_whole_and_in_order(pair: Pair) {
    survive(pair, "survive-sender", true);
}

fn what_a_killed_server_had_sent_arrives_once_whole_and_in_order(pair: Pair) {
    survive(pair, "survive-sender", false);
}

fn what_a_killed_client_had_not_consumed_can_be_taken_back(pair: Pair) {
    survive(pair, "survive-receiver", true);
}

fn what_a_killed_server_had_not_consumed_can_be_taken_back(pair: Pair) {
    survive(pair, "survive-receiver", false);
}

in_each_pair!(
    what_a_killed_client_had_sent_arrives_once_whole_and_in_order,
    what_a_killed_server_had_sent_arrives_once_whole_and_in_order,
    what_a_killed_client_had_not_consumed_can_be_taken_back,
    what_a_killed_server_had_not_consumed_can_be_taken_back,
);

/// Stops and continues `peer` in mid-stream, many times.
fn stop_and_go(peer: &ipc_tests::Peer, random: &mut Random) {
    for _ in 0..40 {
        std::thread::sleep(Duration::from_micros(random.below(3_000)));
        peer.signal(libc::SIGSTOP);
        std::thread::sleep(Duration::from_micros(random.below(10_000)));
        peer.signal(libc::SIGCONT);
    }
}

fn a_sender_that_is_stopped_and_continued_loses_nothing(language: Language) {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = Listener::bind(scratch.socket()).unwrap();
    let mut peer = peer!(in language, "send", path = scratch.socket(), seed = 5, count = 20_000, pause = 30);
    let mut server = listener.accept_timeout(Duration::from_secs(20)).unwrap();
    let stream = Stream::new(5, server.sender().max_reservation());
    std::thread::scope(|scope| {
        let receiving = scope.spawn(move || {
            for number in 0..20_000 {
                let message = server.recv().unwrap().to_vec();
                stream.check(number, &message).unwrap_or_else(|wrong| panic!("{wrong}"));
            }
            assert!(matches!(server.recv().map(drop), Err(RecvError::Disconnected { received: 20_000, .. })));
        });
        stop_and_go(&peer, &mut Random::new(7));
        receiving.join().unwrap();
    });
    peer.finish();
}

fn a_receiver_that_is_stopped_and_continued_loses_nothing(language: Language) {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = Listener::bind(scratch.socket()).unwrap();
    let mut peer = peer!(in language, "receive", path = scratch.socket(), seed = 6, pause = 20);
    let mut server = listener.accept_timeout(Duration::from_secs(20)).unwrap();
    let stream = Stream::new(6, server.sender().max_reservation());
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let mut message = Vec::new();
            for number in 0..20_000 {
                stream.write(number, &mut message);
                server.send(&message).unwrap();
            }
        });
        stop_and_go(&peer, &mut Random::new(8));
        sending.join().unwrap();
    });
    peer.expect("received");
    peer.finish();
}

fn a_peer_that_leaves_politely_is_missed_only_after_its_last_message(language: Language) {
    let _guard = HangGuard::new(60);
    for count in [0, 1, 7, 500] {
        let scratch = Scratch::new();
        let path = scratch.socket();
        let capacity = 1 << 20;
        let mut peer =
            peer!(in language, "send", path = path, listen = true, seed = count, count = count, capacity = capacity);
        let mut client = ConnectOptions::new().wait_for_listener(true).connect(scratch.socket()).unwrap();
        // It has gone for good before the first message is looked at, unless the ring is too small for all of them.
        if count < 100 {
            peer.finish();
        }
        let stream = Stream::new(count, client.sender().max_reservation());
        for number in 0..count {
            let message = client.recv().unwrap().to_vec();
            stream.check(number, &message).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
        for _ in 0..3 {
            let end = client.recv().map(drop).unwrap_err();
            assert!(matches!(end, RecvError::Disconnected { received, .. } if received == count), "{end}");
        }
        peer.finish();
        assert!(!std::path::Path::new(&scratch.socket()).exists(), "a polite server takes its name away");
    }
}

fn one_half_that_leaves_ends_one_direction_only(language: Language) {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = Listener::bind(scratch.socket()).unwrap();
    let mut peer = peer!(in language, "receive", path = scratch.socket(), seed = 9, count = 100, stay = true);
    let (mut sender, receiver) = listener.accept_timeout(Duration::from_secs(20)).unwrap().split();
    drop(receiver);
    let (stream, mut message) = (Stream::new(9, sender.max_reservation()), Vec::new());
    for number in 0..100 {
        stream.write(number, &mut message);
        sender.send(&message).unwrap();
    }
    peer.expect("received");
    peer.say("go");
    peer.finish();
}

in_each_language!(
    a_sender_that_is_stopped_and_continued_loses_nothing,
    a_receiver_that_is_stopped_and_continued_loses_nothing,
    a_peer_that_leaves_politely_is_missed_only_after_its_last_message,
    one_half_that_leaves_ends_one_direction_only,
);

#[test]
fn what_was_sent_after_padding_can_be_taken_back() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let (mut server, mut client) = small_pair(&scratch);
    for _ in 0..4 {
        server.send(&[0; 900]).unwrap();
        drop(client.recv().unwrap());
    }
    // It does not fit in this lap, so the lap is padded; then it is given up.
    drop(server.reserve(900).unwrap());
    // The receiver goes over the padding, finds nothing behind it, and gives the room back before it sleeps.
    assert!(client.recv_timeout(Duration::from_millis(50)).is_err());
    for number in 0..4 {
        server.send(&[number; 900]).unwrap();
    }
    drop(client);
    let left = server.undelivered().expect("the receiver was honest");
    assert_eq!(left, (0..4).map(|number| vec![number; 900]).collect::<Vec<_>>());
}

/// What a server that sleeps in a receiving call gets to know when its peer commits a message and dies before it can wake
/// anybody.
fn last_words(receive: impl FnMut(&mut Connection) -> Result<Option<Vec<u8>>, RecvError> + Send + 'static) {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = Listener::bind(scratch.socket()).unwrap();
    let socket = raw::call(&scratch.socket(), &raw::Hello::default());
    let mut server = listener.accept_timeout(Duration::from_secs(20)).unwrap();
    let victim = raw::welcomed(socket);
    let mut receive = receive;
    let surviving = std::thread::spawn(move || {
        let mut found = Vec::new();
        loop {
            match receive(&mut server) {
                Ok(message) => found.extend(message),
                Err(error) => return (found, error),
            }
        }
    });
    let ring = victim.to_server();
    while victim.read(ring + raw::control::CONSUMER_TICKET) & 1 == 0 {
        std::thread::yield_now();
    }
    // Long enough to be asleep, and not about to fall asleep.
    std::thread::sleep(Duration::from_millis(20));
    victim.write(ring + raw::control::DATA + 8, u64::from_ne_bytes(*b"the last"));
    victim.write(ring + raw::control::DATA, raw::header(8));
    drop(victim);
    let (found, end) = surviving.join().unwrap();
    assert_eq!(found, [b"the last"]);
    assert!(matches!(end, RecvError::Disconnected { received: 1, .. }), "{end}");
}

#[test]
fn a_message_committed_by_the_last_instruction_of_a_life_is_received() {
    last_words(|server| server.recv().map(|message| Some(message.to_vec())));
    last_words(|server| server.recv_timeout(Duration::from_secs(20)).map(|message| Some(message.to_vec())));
    last_words(|server| {
        let mut batch = server.recv_batch(2)?;
        Ok(batch.try_next()?.map(|message| message.to_vec()))
    });
    last_words(|server| {
        if server.arm()? {
            poll(&mut [PollFd::new(&*server, PollFlags::IN)], None).unwrap();
        }
        Ok(server.try_recv()?.map(|message| message.to_vec()))
    });
}
