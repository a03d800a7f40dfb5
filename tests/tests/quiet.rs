//! What costs nothing: waiting costs no processor time, and a steady exchange no system call, page fault or allocation.
//! What is exact: deadlines, calls that never wait, and descriptors that show each event.
//!
//! `IPC_LONG` makes the idle measurements last ten seconds instead of three.

use ipc_core::{ConnectOptions, ListenOptions, Listener, RecvError, Resource, SendError, WaitStrategy};
use ipc_tests::roles::{RESULTS, STOP, StrategyName, TURNS};
use ipc_tests::shared::Counters;
use ipc_tests::system::{self, Usage};
use ipc_tests::{HangGuard, Language, Pair, Peer, Random, Scratch, Stream, in_each_language, in_each_pair, peer};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);
const FIVE_SECONDS: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

fn idle_time() -> Duration {
    Duration::from_secs(if std::env::var_os("IPC_LONG").is_some() { 10 } else { 3 })
}

/// Waits until a peer that said that it blocks really sleeps.
fn settle(peer: &Peer) {
    let mut calm = 0;
    let until = Instant::now() + SOON;
    while calm < 20 {
        assert!(Instant::now() < until, "it does not fall asleep");
        calm = if system::sleeps(peer.id()) { calm + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn blocked_calls_use_no_processor_time_and_are_not_woken(language: Language) {
    let _others = among_others();
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut peers = Vec::new();
    let mut connections = Vec::new();
    let mut listener = ListenOptions::new().capacity(4096).bind(scratch.socket()).unwrap();
    for call in ["recv", "recv_batch", "recv_timeout", "send", "send_timeout"] {
        for strategy in [StrategyName::Adaptive, StrategyName::Sleep] {
            let mut peer = peer!(in language, "blocked", path = scratch.socket(), call = call, strategy = strategy);
            connections.push(listener.accept_timeout(SOON).unwrap());
            peer.expect("blocking");
            peers.push((format!("{call} {strategy}"), peer));
        }
    }
    let mut accepting = peer!(in language, "blocked", path = scratch.file("accept"), call = "accept");
    accepting.expect("blocking");
    peers.push(("accept".to_owned(), accepting));
    peers.iter().for_each(|(_, peer)| settle(peer));
    let before: Vec<_> = peers.iter().map(|(_, peer)| Usage::of(peer.id())).collect();
    std::thread::sleep(idle_time());
    for ((what, peer), before) in peers.iter().zip(before) {
        assert_eq!(Usage::of(peer.id()), before, "{what}: while it was blocked");
    }
    // And yet they wake at once.
    drop(connections);
    drop(ConnectOptions::new().connect(scratch.file("accept")).unwrap());
    for (_, peer) in &mut peers {
        peer.expect("released");
        peer.finish();
    }
}

/// Steady exchanges poll, so that other work on their processors stretches them: they wait until they are alone.
static ALONE: RwLock<()> = RwLock::new(());

fn among_others() -> RwLockReadGuard<'static, ()> {
    ALONE.read().unwrap_or_else(PoisonError::into_inner)
}

fn a_steady_exchange_makes_no_system_call_no_page_fault_and_no_allocation(pair: Pair) {
    let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
    let _guard = HangGuard::new(100);
    for any_length in [false, true] {
        steady_exchange(pair, any_length);
    }
}

fn steady_exchange(Pair(one, other): Pair, any_length: bool) {
    let scratch = Scratch::new();
    let (path, counters) = (scratch.socket(), Counters::new());
    let log = counters.path();
    let mut server = peer!(in one, "steady", path = path, listen = true, log = log, begins = true, any = any_length);
    server.expect("listening");
    let mut client = peer!(in other, "steady", path = path, log = log, any = any_length);
    let start = Instant::now();
    while counters.word(TURNS).load(Ordering::SeqCst) < 200_000 && start.elapsed() < SOON {
        // A killed side leaves the other one polling.
        for (peer, name) in [(&mut server, "server"), (&mut client, "client")] {
            let end = peer.ended();
            assert!(end.is_none(), "{name}: {end:?}; a system call ends a process with signal {}", libc::SIGSYS);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    counters.word(STOP).store(1, Ordering::SeqCst);
    server.finish();
    client.finish();
    let results = RESULTS.map(|at| [0, 8, 16].map(|word| counters.word(at + word).load(Ordering::SeqCst)));
    println!("turns, page faults, allocations: {results:?}");
    for [turns, page_faults, allocations] in results {
        assert!(turns > 1000, "{turns} turns are no steady state");
        assert_eq!((page_faults, allocations), (0, 0));
    }
}

#[test]
fn the_filter_of_system_calls_works() {
    use std::os::unix::process::ExitStatusExt;
    let _others = among_others();
    let _guard = HangGuard::new(100);
    let scratch = Scratch::new();
    let (path, counters) = (scratch.socket(), Counters::new());
    let log = counters.path();
    let mut cheat = peer!("steady", path = path, listen = true, log = log, begins = true, cheat = true);
    cheat.expect("listening");
    let _honest = peer!("steady", path = path, log = log, filter = false);
    assert_eq!(cheat.wait().signal(), Some(libc::SIGSYS));
}

/// A server here and a client in another process that does nothing.
fn with_holder(capacity: u64) -> (Scratch, Peer, ipc_core::Connection) {
    let scratch = Scratch::new();
    let mut listener = ListenOptions::new().capacity(capacity).bind(scratch.socket()).unwrap();
    let mut peer = peer!("hold", path = scratch.socket());
    let server = listener.accept_timeout(SOON).unwrap();
    peer.expect("connected");
    (scratch, peer, server)
}

#[test]
fn a_deadline_ends_each_wait_with_the_time_waited() {
    let _others = among_others();
    let _guard = HangGuard::new(60);
    let (_scratch, _peer, mut server) = with_holder(4096);
    let times = [Duration::ZERO, Duration::from_micros(30), Duration::from_millis(5), Duration::from_millis(120)];
    while server.try_send(&[0; 500]).is_ok() {}
    for strategy in [WaitStrategy::default(), WaitStrategy::Sleep, WaitStrategy::Busy] {
        server.set_wait_strategy(strategy);
        for timeout in times {
            let start = Instant::now();
            match server.recv_timeout(timeout).map(drop).unwrap_err() {
                RecvError::TimedOut { waited } => assert!(waited >= timeout && waited <= start.elapsed(), "{waited:?}"),
                error => panic!("{error}"),
            }
            let start = Instant::now();
            match server.send_timeout(&[0; 500], timeout).unwrap_err() {
                SendError::TimedOut { waited, resource: Resource::Ring, needed, free } => {
                    assert!(waited >= timeout && waited <= start.elapsed(), "{waited:?}");
                    assert!(needed > free, "{needed} and {free}");
                }
                error => panic!("{error}"),
            }
        }
        // Beyond what the clock can express is no end at all; what there is is found without waiting.
        assert!(server.undelivered().unwrap().len() >= 4);
    }
    let mut listener = Listener::bind(_scratch.file("other")).unwrap();
    for timeout in times {
        match listener.accept_timeout(timeout).map(drop).unwrap_err() {
            ipc_core::AcceptError::TimedOut { waited } => assert!(waited >= timeout, "{waited:?}"),
            error => panic!("{error}"),
        }
    }
}

#[test]
fn padding_that_arrives_in_a_wait_does_not_prolong_it() {
    let _others = among_others();
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = ListenOptions::new().capacity(4096).bind(scratch.socket()).unwrap();
    let path = scratch.socket();
    let client = std::thread::spawn(move || ConnectOptions::new().connect(path).unwrap());
    let mut server = listener.accept_timeout(SOON).unwrap();
    let mut client = client.join().unwrap();
    // Near the end of the lap, so that the next record does not fit and the lap is padded.
    for _ in 0..4 {
        client.send(&[0; 900]).unwrap();
        drop(server.recv().unwrap());
    }
    let timeout = Duration::from_millis(400);
    let padder = std::thread::spawn(move || {
        std::thread::sleep(timeout / 2);
        drop(client.reserve(900).unwrap());
        client
    });
    let start = Instant::now();
    let error = server.recv_timeout(timeout).map(drop).unwrap_err();
    let took = start.elapsed();
    assert!(matches!(error, RecvError::TimedOut { .. }), "{error}");
    padder.join().unwrap();
    assert!(took < timeout * 3 / 2, "a wait of {timeout:?} took {took:?}");
}

#[test]
fn calls_that_try_never_wait() {
    let _others = among_others();
    let _guard = HangGuard::new(60);
    let (_scratch, peer, mut server) = with_holder(4096);
    // A peer that is stopped can make nothing happen: whoever waited would wait for ever.
    peer.signal(libc::SIGSTOP);
    let mut sent = 0;
    loop {
        match server.try_send(&[0; 100]) {
            Ok(()) => sent += 1,
            Err(SendError::WouldBlock { resource: Resource::Ring, needed, free }) => break assert!(needed > free),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent >= 20, "{sent}");
    for _ in 0..5000 {
        assert!(server.try_recv().unwrap().is_none());
        assert!(matches!(server.try_send(&[0; 100]), Err(SendError::WouldBlock { .. })));
    }
    assert!(matches!(server.sender().try_reserve(1000).map(drop), Err(SendError::WouldBlock { .. })));
    let mut batch = server.batch();
    assert!(matches!(batch.try_push(&[0; 1000]), Err(SendError::WouldBlock { .. })));
    drop(batch);
    assert!(!server.sender().is_peer_gone());
    let mut listener = Listener::bind(_scratch.file("other")).unwrap();
    assert!(listener.try_accept().unwrap().is_none());
    peer.signal(libc::SIGCONT);
}

fn a_wait_on_the_receivers_descriptor_misses_no_message(language: Language) {
    let _others = among_others();
    let _guard = HangGuard::new(100);
    for (edge, membarrier) in [(false, true), (true, false)] {
        let count = language.share(10_000, 4);
        let scratch = Scratch::new();
        let mut listener = ListenOptions::new().membarrier(membarrier).bind(scratch.socket()).unwrap();
        let mut peer = peer!(in language, "send", path = scratch.socket(), seed = 3, count = count, pause = 90);
        let mut server = listener.accept_timeout(SOON).unwrap();
        let stream = Stream::new(3, server.sender().max_reservation());
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let mut flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        flags.set(epoll::EventFlags::ET, edge);
        epoll::add(&queue, &server, epoll::EventData::new_u64(5), flags).unwrap();
        let (mut number, mut waits) = (0, 0);
        while number < count {
            if let Some(message) = server.try_recv().unwrap() {
                stream.check(number, &message.to_vec()).unwrap_or_else(|wrong| panic!("{wrong}"));
                number += 1;
            } else if server.arm().unwrap() {
                waits += 1;
                let mut events = Vec::with_capacity(4);
                let woken =
                    epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), Some(&FIVE_SECONDS)).unwrap();
                assert_eq!(woken, 1, "the wake-up for message {number} is lost");
                assert_eq!(events[0].data.u64(), 5);
            }
        }
        peer.expect("sent");
        peer.finish();
        println!("{count} messages, {waits} waits");
        assert!(waits > count / 20, "{waits} waits put hardly anything to the test");
    }
}

fn a_wait_on_the_senders_descriptor_misses_no_space(language: Language) {
    let _others = among_others();
    let _guard = HangGuard::new(100);
    for membarrier in [true, false] {
        let count = language.share(10_000, 4);
        let scratch = Scratch::new();
        let mut listener = ListenOptions::new().capacity(4096).membarrier(membarrier).bind(scratch.socket()).unwrap();
        let mut peer = peer!(in language, "receive", path = scratch.socket(), seed = 4, count = count, pause = 90);
        let (mut sender, _receiver) = listener.accept_timeout(SOON).unwrap().split();
        let (stream, mut message, mut waits) = (Stream::new(4, sender.max_reservation()), Vec::new(), 0);
        for number in 0..count {
            stream.write(number, &mut message);
            loop {
                match sender.try_send(&message) {
                    Ok(()) => break,
                    Err(SendError::WouldBlock { .. }) if sender.arm().unwrap() => {
                        waits += 1;
                        let woken = poll(&mut [PollFd::new(&sender, PollFlags::IN)], Some(&FIVE_SECONDS)).unwrap();
                        assert_eq!(woken, 1, "the wake-up for the space of message {number} is lost");
                    }
                    Err(SendError::WouldBlock { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        peer.expect("received");
        peer.finish();
        println!("{count} messages, {waits} waits");
        assert!(waits > count / 20, "{waits} waits put hardly anything to the test");
    }
}

#[test]
fn a_death_shows_on_both_descriptors() {
    let _others = among_others();
    let _guard = HangGuard::new(60);
    let (_scratch, peer, mut server) = with_holder(4096);
    while server.try_send(&[0; 500]).is_ok() {}
    assert!(server.arm().unwrap(), "nothing has come");
    assert!(server.sender().arm().unwrap(), "there is no room");
    let fds = |server: &mut ipc_core::Connection, wait: &Timespec| {
        let messages = server.receiver().as_fd().try_clone_to_owned().unwrap();
        let space = server.sender().as_fd().try_clone_to_owned().unwrap();
        let mut fds = [&messages, &space].map(|fd| PollFd::new(fd, PollFlags::IN));
        poll(&mut fds, Some(wait)).unwrap();
        fds.map(|fd| !fd.revents().is_empty())
    };
    assert_eq!(fds(&mut server, &Timespec::default()), [false, false]);
    peer.kill();
    let until = Instant::now() + SOON;
    while fds(&mut server, &FIVE_SECONDS) != [true, true] {
        assert!(Instant::now() < until);
    }
    // An event loop receives until nothing is there, arms and waits again: it must get to know the end that way.
    let mut turns = 0;
    let end = loop {
        match server.try_recv() {
            Ok(None) => {}
            Ok(Some(message)) => panic!("{} bytes", message.len()),
            Err(error) => break error,
        }
        turns += 1;
        match server.arm() {
            Ok(armed) => assert!(!armed || fds(&mut server, &FIVE_SECONDS)[0]),
            Err(error) => break error,
        }
    };
    assert!(matches!(end, RecvError::Disconnected { received: 0, .. }), "{end}");
    println!("known after {turns} turns of the loop");
    assert!(matches!(server.try_send(&[0; 500]), Err(SendError::Disconnected { .. })));
}

#[test]
fn a_message_that_crosses_a_sleepers_last_look_wakes_it() {
    let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
    let _guard = HangGuard::new(100);
    for membarrier in [true, false] {
        let scratch = Scratch::new();
        let mut listener = ListenOptions::new().membarrier(membarrier).bind(scratch.socket()).unwrap();
        let mut peer = peer!("echo", path = scratch.socket(), strategy = StrategyName::Sleep);
        let mut server = listener.accept_timeout(SOON).unwrap();
        peer.expect("connected");
        let (mut random, start) = (Random::new(5), Instant::now());
        let mut number = 0_u64;
        // The answer comes just before the peer looks a last time and sleeps; the next message comes at about that look. Nothing
        // follows it that could wake the peer instead.
        while start.elapsed() < Duration::from_secs(3) {
            server.send(&number.to_ne_bytes()).unwrap();
            let sent = Instant::now();
            while !server.receiver().is_ready() {
                assert!(sent.elapsed() < SOON, "the peer sleeps through message {number}");
                std::hint::spin_loop();
            }
            assert_eq!(server.recv().unwrap().to_vec(), number.to_ne_bytes());
            number += 1;
            for _ in 0..random.below(60) {
                std::hint::spin_loop();
            }
        }
        println!("{number} turns");
        drop(server);
        peer.finish();
    }
}

#[test]
fn all_memory_of_a_connection_is_mapped_before_its_first_message() {
    let _others = among_others();
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    // A name that no other test has: they run in this process too.
    let mut listener = ListenOptions::new().capacity(1 << 20).bind(scratch.file("prefaulted")).unwrap();
    let path = scratch.file("prefaulted");
    let connecting = std::thread::spawn(move || ConnectOptions::new().connect(path).unwrap());
    let _server = listener.accept_timeout(SOON).unwrap();
    let _client = connecting.join().unwrap();
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let of = |field: &str, lines: &[&str]| {
        let line = lines.iter().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let lines: Vec<_> = maps.lines().collect();
    let mapped = lines.iter().enumerate().filter(|(_, line)| line.contains("memfd:ipc:prefaulted"));
    let sizes: Vec<_> = mapped.map(|(at, _)| (of("Size:", &lines[at..]), of("Rss:", &lines[at..]))).collect();
    assert_eq!(sizes.len(), 2, "one mapping for each side");
    for (size, resident) in sizes {
        assert!(size > 2048, "{size} KiB");
        assert_eq!(resident, size, "KiB");
    }
}

in_each_language!(
    blocked_calls_use_no_processor_time_and_are_not_woken,
    a_wait_on_the_receivers_descriptor_misses_no_message,
    a_wait_on_the_senders_descriptor_misses_no_space,
);

in_each_pair!(a_steady_exchange_makes_no_system_call_no_page_fault_and_no_allocation);
