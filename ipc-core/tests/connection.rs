//! A connection inside one process: what needs no second one to be shown.
use ipc_core::{ConnectOptions, Connection, Listener, RecvError, SendError};
use std::sync::mpsc::channel;
use std::time::Duration;

#[test]
fn a_batch_that_waited_over_the_end_of_a_lap_is_received_whole() {
    let path = std::env::temp_dir().join(format!("ipc-connection-{}", std::process::id()));
    let mut listener = Listener::bind(&path).unwrap();
    let other = path.clone();
    let client = std::thread::spawn(move || ConnectOptions::new().capacities(4096, 4096).connect(other).unwrap());
    let mut server = listener.accept().unwrap();
    let mut client = client.join().unwrap();
    // Four records of 1008 bytes leave 64 at the end of the lap.
    for _ in 0..4 {
        client.send(&[1; 1000]).unwrap();
        drop(server.recv().unwrap());
    }
    // Too long for them: the claim publishes padding, and the message waits for its commit.
    let mut reservation = client.reserve(100).unwrap();
    reservation.write_at(0, &[2; 100]);
    let (has_batch, batch_is_there) = channel();
    let (go_on, told) = channel();
    let receiver = std::thread::spawn(move || {
        let mut batch = server.recv_batch(10).unwrap();
        has_batch.send(()).unwrap();
        told.recv().unwrap();
        batch.try_next().unwrap().map(|message| message.len())
    });
    // It steps over the padding, finds nothing behind it, gives the space back and sleeps.
    std::thread::sleep(Duration::from_millis(200));
    reservation.commit();
    batch_is_there.recv().unwrap();
    // The space that was given back is written again, the padding with it.
    while client.sender().try_send(&[3; 56]).is_ok() {}
    go_on.send(()).unwrap();
    assert_eq!(receiver.join().unwrap(), Some(100));
}

/// The two ends of a connection of this process with itself.
fn pair(name: &str) -> (Connection, Connection) {
    let path = std::env::temp_dir().join(format!("ipc-connection-{}-{name}", std::process::id()));
    let mut listener = Listener::bind(&path).unwrap();
    let client = std::thread::spawn(move || ConnectOptions::new().capacities(4096, 4096).connect(path).unwrap());
    (listener.accept().unwrap(), client.join().unwrap())
}

#[test]
fn a_message_too_long_for_the_buffer_stays_where_it_is() {
    let (mut server, mut client) = pair("short");
    client.send(b"eleven byte").unwrap();
    let mut buffer = [0; 11];
    let error = server.recv_into(&mut buffer[..10]).unwrap_err();
    assert_eq!(error.to_string(), "a message of 11 bytes does not fit a buffer of 10 bytes");
    assert_eq!(server.recv_into(&mut buffer).unwrap(), 11);
    assert_eq!(&buffer, b"eleven byte");
}

#[test]
fn a_receiver_tells_a_peer_that_closed_and_drains_it_first() {
    let (mut server, mut client) = pair("closed");
    client.send(b"last words").unwrap();
    drop(client);
    assert_eq!(server.recv().unwrap().to_vec(), b"last words");
    assert!(matches!(server.recv(), Err(RecvError::Disconnected { received: 1, closed: true })));
    assert!(matches!(server.try_recv(), Err(RecvError::Disconnected { .. })));
}

#[test]
fn a_sender_takes_back_what_its_peer_did_not_consume() {
    let (mut server, mut client) = pair("undelivered");
    for message in [b"one", b"two"] {
        client.send(message).unwrap();
    }
    drop(server.recv().unwrap());
    drop(server);
    let error = client.send(b"three").and_then(|()| client.send(b"four")).unwrap_err();
    assert!(matches!(error, SendError::Disconnected { undelivered: 1 | 2 }), "{error}");
    assert_eq!(client.undelivered().unwrap()[0], b"two");
}

#[test]
fn messages_of_a_trusted_peer_are_slices() {
    let (server, client) = pair("trusted");
    // SAFETY: both ends are here, and neither writes to what it has sent.
    let (mut server, mut client) = unsafe { (server.trust_peer(), client.trust_peer()) };
    let mut message = client.reserve(5).unwrap();
    for (byte, value) in message.as_uninit_mut().iter_mut().zip(b"hello") {
        byte.write(*value);
    }
    message.commit();
    assert_eq!(*server.recv().unwrap(), *b"hello");
}

#[test]
fn a_batch_that_is_dropped_is_never_seen() {
    let (mut server, mut client) = pair("dropped");
    let mut batch = client.batch();
    batch.push(b"never").unwrap();
    drop(batch);
    let mut batch = client.batch();
    batch.push(b"first").unwrap();
    batch.push(b"second").unwrap();
    batch.publish().unwrap();
    let mut seen = Vec::new();
    assert_eq!(server.recv_batch(10).unwrap().for_each(|message| seen.push(message.to_vec())).unwrap(), 2);
    assert_eq!(seen, [b"first".to_vec(), b"second".to_vec()]);
}

/// Each side fills the other's ring while it waits for room: what its own receiver has consumed and holds back must not be what the
/// other waits for.
#[test]
fn two_sides_that_send_while_they_wait_do_not_wait_for_each_other() {
    const COUNT: u64 = 60_000;
    const PATIENCE: Duration = Duration::from_secs(10);
    let path = std::env::temp_dir().join(format!("ipc-connection-{}-duplex", std::process::id()));
    let mut listener = Listener::bind(&path).unwrap();
    let client = std::thread::spawn(move || {
        let mut client = ConnectOptions::new().capacities(1 << 20, 64 << 10).connect(path).unwrap();
        let mut answers = 0;
        for number in 0..COUNT {
            client.send_timeout(&[number as u8; 64], PATIENCE).unwrap();
            while let Some(message) = client.try_recv().unwrap() {
                drop(message);
                answers += 1;
            }
            if number.is_multiple_of(1000) {
                std::thread::yield_now();
            }
        }
        while answers < COUNT {
            drop(client.recv_timeout(PATIENCE).unwrap());
            answers += 1;
        }
    });
    let mut server = listener.accept().unwrap();
    for _ in 0..COUNT {
        let message = server.recv_timeout(PATIENCE).unwrap().to_vec();
        server.send_timeout(&message, PATIENCE).unwrap();
    }
    client.join().unwrap();
}

#[test]
fn an_aborted_batch_leaves_a_sender_that_can_be_armed() {
    let (_server, mut client) = pair("aborted");
    let mut batch = client.batch();
    while batch.try_push(&[1; 100]).is_ok() {}
    drop(batch);
    assert!(!client.sender().arm().unwrap(), "an empty ring has room");
}
