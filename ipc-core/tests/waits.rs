//! Waits that end: whoever waits for what the peer has long made room for is told of it.

use ipc_core::router::Override;
use ipc_core::{ConnectOptions, Connection, Credit, Lane, ListenOptions, Mode, SendError, WaitStrategy};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Both ends of a connection of this mode: the server's and the client's.
fn pair(listen: ListenOptions, mode: Mode) -> (Connection, Connection) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("ipc-waits-{}-{}.sock", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path: PathBuf = std::env::temp_dir().join(name);
    let mut listener = listen.bind(&path).unwrap();
    let connecting = std::thread::spawn(move || ConnectOptions::new().mode(mode).connect(path).unwrap());
    let server = listener.accept_timeout(Duration::from_secs(10)).unwrap();
    (server, connecting.join().unwrap())
}

/// Sends until there is no room; says how many were sent.
fn fill(client: &mut Connection, message: &[u8]) -> u32 {
    let mut sent = 0;
    loop {
        match client.sender().try_send(message) {
            Ok(()) => sent += 1,
            Err(SendError::WouldBlock { .. }) => return sent,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_loan_that_needs_an_idle_region_given_up_waits_for_room_to_say_so() {
    let mut credit = Credit::default();
    credit.arena = 128 << 20;
    let (mut server, mut client) = pair(ListenOptions::new().credit(credit), Mode::Shared);
    // A region, which lies idle afterwards, and a ring that is full.
    client.send(&vec![1; 1 << 20]).unwrap();
    drop(server.recv().unwrap());
    assert_eq!(client.sender().arena().size, 16 << 20);
    let sent = fill(&mut client, &[7; 8]);
    let reading = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        (0..sent).for_each(|_| drop(server.recv().unwrap()));
        server.recv().unwrap().len()
    });
    // Too large for what is left beside the idle region, not for the arena.
    let mut loan = client.sender().loan(120 << 20).unwrap();
    loan.set_len(1000);
    loan.send().unwrap();
    assert!(client.sender().arena().size >= 120 << 20);
    assert_eq!(reading.join().unwrap(), 1000);
}

#[test]
fn a_sender_armed_for_a_full_socket_is_woken_by_a_receiver_that_sleeps() {
    for mode in [Mode::Kernel, Mode::Hybrid] {
        for len in [65_000, 16_000, 4000, 100, 8] {
            let (mut server, mut client) = pair(ListenOptions::new().capacity(4 << 20), mode);
            client.sender().set_route(Override::Lane(Lane::Kernel)).unwrap();
            let message = vec![3; len];
            let mut sent = fill(&mut client, &message);
            while !client.sender().arm().unwrap() {
                sent += fill(&mut client, &message);
            }
            (0..sent).for_each(|_| drop(server.recv().unwrap()));
            assert!(server.recv_timeout(Duration::from_millis(50)).is_err());
            let timeout = Timespec { tv_sec: 2, tv_nsec: 0 };
            let woken = poll(&mut [PollFd::new(&client.sender().as_fd(), PollFlags::IN)], Some(&timeout)).unwrap();
            assert_eq!(woken, 1, "{mode}, {len} bytes");
            client.sender().try_send(&message).unwrap();
        }
    }
}

#[test]
fn a_receiver_that_sleeps_after_each_message_does_not_fill_the_socket_for_credit() {
    let mut credit = Credit::default();
    credit.messages = 1 << 20;
    let (mut server, mut client) = pair(ListenOptions::new().credit(credit), Mode::Kernel);
    let reading = std::thread::spawn(move || {
        server.receiver().set_wait_strategy(WaitStrategy::Sleep);
        while server.recv().is_ok() {}
    });
    // More sleeps than the socket holds packets, while the sender hears nothing.
    for _ in 0..400 {
        client.send(&[1; 8]).unwrap();
        std::thread::sleep(Duration::from_micros(400));
    }
    for _ in 0..100 {
        client.sender().send_timeout(&[5; 60_000], Duration::from_secs(5)).unwrap();
    }
    drop(client);
    reading.join().unwrap();
}
