//! Simple partners: they send, receive, answer, wait, or fork.

use super::{Settings, hear, say};
use crate::{Random, Stream};
use ipc_core::{AcceptError, RecvError, SendError};
use std::io::{Read, Write};
use std::time::Duration;

/// A pause of 0 to `most` microseconds, spun when short, slept when long.
fn pause(random: &mut Random, most: u64) {
    let micros = if most == 0 { 0 } else { random.below(most) };
    if micros >= 60 {
        std::thread::sleep(Duration::from_micros(micros));
    } else {
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_micros(micros) {
            std::hint::spin_loop();
        }
    }
}

/// Answers each message with a copy of it, until the other side goes.
pub(super) fn play(settings: &Settings) {
    let mut connection = settings.connection();
    say("connected");
    loop {
        let message = match connection.recv() {
            Ok(message) => message.to_vec(),
            Err(RecvError::Disconnected { received, .. }) => return say(format_args!("gone {received}")),
            Err(error) => panic!("{error}"),
        };
        connection.send(&message).expect("the other side waits for the answer");
    }
}

/// As [`play`], through one buffer of `size` bytes: what is sent while this side waits with it can be handed over through a window.
pub(super) fn play_into(settings: &Settings) {
    let mut connection = settings.connection();
    let mut buffer = vec![0; settings.number("size", 0)];
    say("connected");
    loop {
        match connection.recv_into(&mut buffer) {
            Ok(len) => connection.send(&buffer[..len]).expect("the other side waits for the answer"),
            Err(RecvError::Disconnected { received, .. }) => return say(format_args!("gone {received}")),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Sends `count` messages to one that echoes, now and then after a pause that is long enough to fall asleep in.
pub(super) fn ask(settings: &Settings) {
    let mut connection = settings.connection();
    let (stream, mut message) = (Stream::new(7, connection.sender().max_reservation()), Vec::new());
    for number in 0..settings.number("count", 500) {
        if number % 50 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        stream.write(number, &mut message);
        connection.send(&message).expect("the other side listens");
        let echo = connection.recv_timeout(Duration::from_secs(20)).expect("an answer").to_vec();
        assert!(echo == message, "message {number}");
    }
    say("asked");
}

/// Sends `count` messages at random moments, and leaves politely, or stays (`stay=true`) until it is told to go.
pub(super) fn send(settings: &Settings) {
    let mut connection = settings.connection();
    let (count, most) = (settings.number("count", 0), settings.number("pause", 0));
    let stream = Stream::new(settings.number("seed", 1), connection.sender().max_reservation());
    let (mut random, mut message) = (Random::new(3), Vec::new());
    say("connected");
    for number in 0..count {
        stream.write(number, &mut message);
        connection.send(&message).expect("the other side receives");
        pause(&mut random, most);
    }
    say("sent");
    if settings.number("stay", false) {
        hear();
    }
}

/// Receives `count` messages at random moments and checks them; then as [`send`].
pub(super) fn receive(settings: &Settings) {
    let mut connection = settings.connection();
    let (count, most) = (settings.number("count", u64::MAX), settings.number("pause", 0));
    let stream = Stream::new(settings.number("seed", 1), connection.sender().max_reservation());
    let mut random = Random::new(4);
    say("connected");
    for number in 0..count {
        match connection.recv() {
            Ok(message) => stream.check(number, &message.to_vec()).unwrap_or_else(|wrong| panic!("{wrong}")),
            Err(RecvError::Disconnected { received, .. }) => {
                assert_eq!(received, number);
                break;
            }
            Err(error) => panic!("message {number}: {error}"),
        }
        pause(&mut random, most);
    }
    say("received");
    if settings.number("stay", false) {
        hear();
    }
}

/// Connects, and does nothing until it is told to go.
pub(super) fn hold(settings: &Settings) {
    let connection = settings.connection();
    say(format_args!("connected {:?}", connection.peer().credentials().pid));
    hear();
}

/// Forks in the middle of a connection. The child finds everything closed to it and lives on; the parent goes on as before.
pub(super) fn fork(settings: &Settings) {
    let listener = ipc_core::ListenOptions::new().bind(settings.text("path")).expect("a free path");
    let mut listener = Some(listener);
    let accepted = listener.as_mut().expect("just bound").accept_timeout(Duration::from_secs(20));
    let mut connection = Some(accepted.expect("a client"));
    // The connection has been used: nothing in it is as it was at first.
    for _ in 0..2 {
        let inherited = connection.as_mut().expect("ours");
        let message = inherited.recv().expect("the test sends one").to_vec();
        inherited.send(&message).expect("the test receives it");
    }
    let (mut told, mut tell) = std::io::pipe().expect("a pipe");
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: integers only. The child must not stay for ever, and it does outlive its parent.
        unsafe { libc::alarm(60) };
        told.read_exact(&mut [0]).expect("the parent has spoken first");
        let mut own = connection.take().expect("inherited");
        assert!(matches!(own.send(b"x"), Err(SendError::Forked)));
        assert!(matches!(own.try_send(b"x"), Err(SendError::Forked)));
        assert!(matches!(own.send_timeout(b"x", Duration::from_secs(5)), Err(SendError::Forked)));
        assert!(matches!(own.reserve(1).map(drop), Err(SendError::Forked)));
        assert!(matches!(own.batch().push(b"x"), Err(SendError::Forked)));
        assert!(matches!(own.undelivered(), Err(SendError::Forked)));
        assert!(matches!(own.sender().arm(), Err(SendError::Forked)));
        assert!(matches!(own.recv().map(drop), Err(RecvError::Forked)));
        assert!(matches!(own.try_recv().map(drop), Err(RecvError::Forked)));
        assert!(matches!(own.recv_timeout(Duration::from_secs(5)).map(drop), Err(RecvError::Forked)));
        assert!(matches!(own.recv_batch(3).map(drop), Err(RecvError::Forked)));
        assert!(matches!(own.arm(), Err(RecvError::Forked)));
        assert!(!own.receiver().is_ready());
        let mut listener = listener.take().expect("inherited");
        assert!(matches!(listener.accept(), Err(AcceptError::Forked)));
        assert!(matches!(listener.try_accept(), Err(AcceptError::Forked)));
        if settings.number("questions", false) {
            // Questions have no error to give; they must not crash either.
            own.sender().is_peer_gone();
            let _ = own.sender().status();
            let _ = own.receiver().status();
        }
        if settings.number("keep", false) {
            std::mem::forget((own, listener));
        } else {
            drop((own, listener));
        }
        say("child-done");
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    say(format_args!("child {child}"));
    tell.write_all(&[1]).expect("the child listens");
    std::thread::spawn(move || {
        let mut status = 0;
        // SAFETY: the child is this process's own, and the status is ours to write.
        unsafe { libc::waitpid(child, &mut status, 0) };
        say(format_args!("child-done too early, with status {status:#x}"));
    });
    let mut connection = connection.take().expect("ours");
    loop {
        let message = connection.recv().expect("the test kills this process first").to_vec();
        connection.send(&message).expect("the test waits for the answer");
    }
}
