//! A runtime on this side, another process, which knows nothing of it, on the other.

use ipc_core::tokio::{Connection, Listener};
use ipc_core::{ListenOptions, RecvError, SendError};
use ipc_tests::raw::{self, Hello, control, header};
use ipc_tests::{HangGuard, Scratch, Stream, peer};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(20);

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn accept(listener: &mut Listener) -> Connection {
    timeout(SOON, listener.accept()).await.expect("a client in time").unwrap()
}

#[test]
fn an_exchange_with_another_process_keeps_every_byte() {
    const COUNT: u64 = 20_000;
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    one_thread().block_on(async {
        let mut listener = Listener::bind(scratch.socket()).unwrap();
        let mut sending = peer!("send", path = scratch.socket(), seed = 7, count = COUNT, pause = 20);
        let (_, mut from) = accept(&mut listener).await.split();
        let mut receiving = peer!("receive", path = scratch.socket(), seed = 7, count = COUNT, pause = 20);
        let (mut to, _stay) = accept(&mut listener).await.split();
        let stream = Stream::new(7, to.get_ref().max_reservation());
        // What one process sends, another one gets: through this task, which waits for both.
        for number in 0..COUNT {
            let message = from.recv().await.unwrap().to_vec();
            stream.check(number, &message).unwrap_or_else(|wrong| panic!("{wrong}"));
            to.send(&message).await.unwrap();
        }
        assert!(matches!(from.recv().await.map(drop), Err(RecvError::Disconnected { received: COUNT, closed: true })));
        sending.finish();
        receiving.finish();
    });
}

#[test]
fn a_cancelled_receive_loses_nothing_of_another_process() {
    const COUNT: u64 = 20_000;
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut listener = Listener::bind(scratch.socket()).unwrap();
        let mut peer = peer!("send", path = scratch.socket(), seed = 8, count = COUNT, pause = 60);
        let (sender, mut receiver) = accept(&mut listener).await.split();
        let stream = Stream::new(8, sender.get_ref().max_reservation());
        let (mut number, mut cancelled) = (0, 0_u64);
        while number < COUNT {
            tokio::select! {
                biased;
                message = receiver.recv() => {
                    stream.check(number, &message.unwrap().to_vec()).unwrap_or_else(|wrong| panic!("{wrong}"));
                    number += 1;
                }
                () = tokio::task::yield_now() => cancelled += 1,
            }
        }
        peer.finish();
        assert!(cancelled > 1000, "{cancelled} cancellations prove little");
    });
}

#[test]
fn a_peer_that_is_killed_ends_what_waits_for_it_at_once() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    one_thread().block_on(async {
        let options = ListenOptions::new().capacity(4096);
        let mut listener = Listener::from_sync(options.bind(scratch.socket()).unwrap()).unwrap();
        for _ in 0..20 {
            let mut peer = peer!("hold", path = scratch.socket());
            let (mut sender, mut receiver) = accept(&mut listener).await.split();
            peer.expect("connected");
            let mut sent = 0;
            while sender.try_send(&[0; 500]).is_ok() {
                sent += 1;
            }
            let sending = tokio::spawn(async move { (sender.send(&[0; 500]).await, Instant::now()) });
            let receiving = tokio::spawn(async move { (receiver.recv().await.map(drop), Instant::now()) });
            sleep(Duration::from_millis(20)).await;
            assert!(!sending.is_finished() && !receiving.is_finished());
            let killed = Instant::now();
            peer.kill();
            let ((sending, knew_first), (receiving, knew_second)) = (sending.await.unwrap(), receiving.await.unwrap());
            assert!(matches!(sending, Err(SendError::Disconnected { undelivered }) if undelivered == sent));
            assert!(matches!(receiving, Err(RecvError::Disconnected { received: 0, closed: false })));
            for knew in [knew_first, knew_second] {
                assert!(knew - killed < Duration::from_millis(500), "after {:?}", knew - killed);
            }
        }
    });
}

#[test]
fn a_violation_ends_both_directions_of_what_waits() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    one_thread().block_on(async {
        let mut listener = Listener::bind(scratch.socket()).unwrap();
        let hello = Hello { to_server: 4096, to_client: 4096, ..Hello::default() };
        let calling = tokio::task::spawn_blocking({
            let path = scratch.socket();
            move || raw::welcomed(raw::call(&path, &hello))
        });
        let (mut sender, mut receiver) = accept(&mut listener).await.split();
        let hostile = calling.await.unwrap();
        while sender.try_send(&[0; 500]).is_ok() {}
        let sending = tokio::spawn(async move { sender.send(&[0; 500]).await });
        let receiving = tokio::spawn(async move { receiver.recv().await.map(drop) });
        sleep(Duration::from_millis(20)).await;
        // An impossible record, and the ring that makes us look.
        hostile.write(hostile.to_server() + control::DATA, header(4096));
        raw::send(&hostile.messages, &[0], &[]).unwrap();
        let Err(RecvError::Violation(violation)) = timeout(SOON, receiving).await.unwrap().unwrap() else {
            panic!("an impossible record was received")
        };
        assert_eq!(violation.field, "record length");
        let sending = timeout(SOON, sending).await.expect("the other half is woken").unwrap();
        assert!(matches!(sending, Err(SendError::Violation(same)) if same == violation));
    });
}

/// A peer that rings without end and sends nothing takes our task's time, and no other's.
#[test]
fn a_peer_that_rings_for_nothing_keeps_nobody_from_running() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    one_thread().block_on(async {
        let mut listener = Listener::bind(scratch.socket()).unwrap();
        let hello = Hello::default();
        let calling = tokio::task::spawn_blocking({
            let path = scratch.socket();
            move || raw::welcomed(raw::call(&path, &hello))
        });
        let (_sender, mut receiver) = accept(&mut listener).await.split();
        let hostile = calling.await.unwrap();
        let waiting = tokio::spawn(async move { receiver.recv().await.map(drop) });
        let ringing = std::thread::spawn(move || {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(500) {
                let _ = raw::send(&hostile.messages, &[0], &[]);
            }
        });
        let mut turns = 0;
        while !ringing.is_finished() {
            sleep(Duration::from_millis(1)).await;
            turns += 1;
        }
        assert!(turns > 50, "others had {turns} turns in half a second");
        // The thread has dropped its end.
        let end = timeout(SOON, waiting).await.unwrap().unwrap();
        assert!(matches!(end, Err(RecvError::Disconnected { received: 0, closed: false })));
    });
}
