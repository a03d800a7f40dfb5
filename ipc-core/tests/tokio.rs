//! Connections in runtimes, inside one process: what needs no second one to be shown.

use ipc_core::tokio::{Connection, Listener, Receiver, Sender, connect_with};
use ipc_core::{AcceptError, ConnectError, ConnectOptions, Credit, ListenOptions, Mode, RecvError, SendError};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::cell::Cell;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(20);

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ipc-tokio-{}-{name}", std::process::id()))
}

/// Runs a test in a runtime; one that hangs fails.
fn run<R>(runtime: &Runtime, test: impl Future<Output = R>) -> R {
    const HANGS: Duration = Duration::from_secs(40);
    runtime.block_on(async {
        let start = Instant::now();
        let result = timeout(HANGS, test).await.expect("it hangs");
        // When the time is over the test is polled once more, which hides that nothing else would have woken it.
        assert!(start.elapsed() < HANGS, "a wake-up was lost");
        result
    })
}

/// The two ends of a connection with rings of 4 KiB, in no runtime.
fn sync_pair(name: &str) -> (ipc_core::Connection, ipc_core::Connection) {
    sync_pair_with(name, ListenOptions::new().capacity(4096))
}

fn sync_pair_with(name: &str, options: ListenOptions) -> (ipc_core::Connection, ipc_core::Connection) {
    let path = path(name);
    let mut listener = options.bind(&path).unwrap();
    let client = std::thread::spawn(move || ConnectOptions::new().connect(path).unwrap());
    (listener.accept_timeout(SOON).unwrap(), client.join().unwrap())
}

/// The two ends of a connection with rings of 4 KiB, in this runtime.
fn pair(name: &str) -> (Connection, Connection) {
    let (server, client) = sync_pair(name);
    (Connection::from_sync(server).unwrap(), Connection::from_sync(client).unwrap())
}

fn number_in(message: &[u8]) -> u64 {
    u64::from_ne_bytes(message[..8].try_into().unwrap())
}

/// A message whose bytes and length follow from its number.
fn numbered(number: u64) -> Vec<u8> {
    let mut message = number.to_ne_bytes().to_vec();
    message.resize(8 + (number % 200) as usize, number as u8);
    message
}

#[test]
fn messages_come_back_in_order_in_every_kind_of_runtime() {
    for runtime in [one_thread(), two_threads()] {
        run(&runtime, async {
            let (mut server, mut client) = pair("echo");
            let echo = tokio::spawn(async move {
                loop {
                    match server.recv().await.map(|message| message.to_vec()) {
                        Ok(message) => server.send(&message).await.unwrap(),
                        Err(end) => return end,
                    }
                }
            });
            for number in 0..5_000 {
                client.send(&numbered(number)).await.unwrap();
                assert_eq!(client.recv().await.unwrap().to_vec(), numbered(number));
            }
            drop(client);
            assert!(matches!(echo.await.unwrap(), RecvError::Disconnected { received: 5_000, closed: true }));
        });
    }
}

/// Fails if readiness is cleared after the ticket is raised (see `reactor.rs`).
#[test]
fn two_runtimes_wake_each_other_each_time() {
    let (server, client) = sync_pair("wake");
    let other = std::thread::spawn(move || {
        run(&two_threads(), async {
            let mut server = Connection::from_sync(server).unwrap();
            for number in 0..20_000 {
                assert_eq!(number_in(&server.recv().await.unwrap().to_vec()), number);
                server.send(&numbered(number)).await.unwrap();
            }
        });
    });
    run(&two_threads(), async {
        let mut client = Connection::from_sync(client).unwrap();
        for number in 0..20_000 {
            client.send(&numbered(number)).await.unwrap();
            assert_eq!(number_in(&client.recv().await.unwrap().to_vec()), number);
        }
        assert!(client.receiver().sleeps() > 100, "{} sleeps prove nothing", client.receiver().sleeps());
    });
    other.join().unwrap();
}

#[test]
fn one_thread_serves_many_connections() {
    const CLIENTS: u64 = 40;
    async fn client(path: PathBuf, number: u64) {
        let options = ConnectOptions::new().capacities(4096, 4096).wait_for_listener(true);
        let mut client = connect_with(&options, path).await.unwrap();
        for turn in 0..50 {
            client.send(&numbered(number * 1000 + turn)).await.unwrap();
            assert_eq!(client.recv().await.unwrap().to_vec(), numbered(number * 1000 + turn));
        }
    }
    async fn serve(mut connection: Connection) -> u64 {
        while let Ok(message) = connection.recv().await.map(|message| message.to_vec()) {
            connection.send(&message).await.unwrap();
        }
        connection.receiver().get_ref().received()
    }
    // Clients and server share the thread: if one call blocked it, nothing would go on.
    run(&one_thread(), async {
        let path = path("many");
        let clients: Vec<_> = (0..CLIENTS).map(|number| tokio::spawn(client(path.clone(), number))).collect();
        let mut listener = Listener::bind(&path).unwrap();
        let mut served = Vec::new();
        for _ in 0..CLIENTS {
            served.push(tokio::spawn(serve(listener.accept().await.unwrap())));
        }
        for client in clients {
            client.await.unwrap();
        }
        for connection in served {
            assert_eq!(connection.await.unwrap(), 50);
        }
        assert_eq!(listener.get_ref().connections(), 0);
    });
}

#[test]
fn a_sender_without_room_waits_for_it() {
    run(&one_thread(), async {
        let (mut server, mut client) = pair("room");
        let mut sent = 0;
        while timeout(Duration::from_millis(20), client.send(&[1; 500])).await.is_ok() {
            sent += 1;
        }
        assert!((4..=8).contains(&sent), "{sent} messages of 500 bytes in a ring of 4096");
        assert!((1..=2).contains(&client.sender().sleeps()));
        let (sending, receiving) = tokio::join!(client.send(&[2; 500]), async {
            sleep(Duration::from_millis(20)).await;
            for _ in 0..sent {
                assert_eq!(server.recv().await.unwrap().to_vec(), [1; 500]);
            }
            server.recv().await.unwrap().to_vec()
        });
        sending.unwrap();
        assert_eq!(receiving, [2; 500]);
        // The same for a message that is written in place.
        while client.sender().try_send(&[3; 500]).is_ok() {}
        let (reserving, ()) = tokio::join!(
            async {
                let mut message = client.reserve(900).await.unwrap();
                message.write_at(0, &[4; 900]);
                message.commit();
            },
            async { while server.recv().await.unwrap().to_vec() != [4; 900] {} }
        );
        reserving
    });
}

#[test]
fn batches_are_sent_as_far_as_there_is_room_and_received_together() {
    run(&one_thread(), async {
        let mut credit = Credit::default();
        credit.message = 4000;
        let (server, client) = sync_pair_with("batches", ListenOptions::new().capacity(4096).credit(credit));
        let mut sender = Sender::from_sync(client.split().0).unwrap();
        let mut receiver = Receiver::from_sync(server.split().1).unwrap();
        let messages: Vec<_> = (0..1000).map(numbered).collect();
        let sending = async {
            let mut rest = &messages[..];
            let mut calls = 0;
            while !rest.is_empty() {
                rest = &rest[sender.send_batch(rest).await.unwrap()..];
                calls += 1;
            }
            assert!((10..400).contains(&calls), "{calls} calls");
            assert_eq!(sender.send_batch(&[b""; 0]).await.unwrap(), 0);
            let too_large = [vec![1; 8], vec![0; 5000]];
            assert_eq!(sender.send_batch(&too_large).await.unwrap(), 1);
            assert!(matches!(sender.send_batch(&too_large[1..]).await, Err(SendError::TooLarge { len: 5000, .. })));
        };
        let receiving = async {
            let mut seen = Vec::new();
            while seen.len() < 1000 {
                let batch = receiver.recv_batch(7).await.unwrap();
                let count = batch.for_each(|message| seen.push(message.to_vec())).unwrap();
                assert!((1..=7).contains(&count));
            }
            // The last one may have come with the message after them.
            assert!(seen[..1000] == messages[..]);
        };
        tokio::join!(sending, receiving);
    });
}

#[test]
fn every_mode_carries_messages_of_every_size() {
    for mode in [Mode::Kernel, Mode::Hybrid, Mode::Shared, Mode::Auto] {
        let options = ListenOptions::new().mode(mode).capacity(64 << 10);
        let (server, client) = sync_pair_with(&format!("mode-{mode}"), options);
        let message = |number: u64| -> Vec<u8> {
            let len = [0, 1, 64, 1000, 5_000, 20_000, 70_000, 300_000, 1 << 20, 12 << 20][number as usize % 10];
            (0..len).map(|at| (at as u64 * 7 + number) as u8).collect()
        };
        const COUNT: u64 = 60;
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let sending = std::thread::spawn(move || {
            run(&one_thread(), async {
                let mut sender = Sender::from_sync(client.split().0).unwrap();
                for number in 0..COUNT {
                    match sender.send(&message(number)).await {
                        Ok(()) => tell.send(number).unwrap(),
                        Err(error) => assert!(
                            mode == Mode::Kernel && matches!(error, SendError::TooLarge { .. }),
                            "{mode}, message {number}: {error}"
                        ),
                    }
                }
            });
        });
        let seen = run(&two_threads(), async {
            let mut receiver = Receiver::from_sync(server.split().1).unwrap();
            let mut buffer = vec![0; 12 << 20];
            let mut seen = 0;
            while let Some(number) = told.recv().await {
                let expected = message(number);
                // Cancelled now and then, and asked with too little room, in the middle of it.
                let _ = timeout(Duration::from_micros(50), receiver.recv_into(&mut buffer[..0])).await;
                if expected.is_empty() {
                    // Was it received just now?
                    if receiver.get_ref().received() > seen {
                        seen += 1;
                        continue;
                    }
                }
                let equal = match number % 3 {
                    0 => receiver.recv().await.unwrap().to_vec() == expected,
                    1 => {
                        let len = receiver.recv_into(&mut buffer).await.unwrap();
                        buffer[..len] == expected
                    }
                    _ => receiver.recv_batch(1).await.unwrap().try_next().unwrap().unwrap().to_vec() == expected,
                };
                assert!(equal, "{mode}, message {number}");
                seen += 1;
            }
            seen
        });
        sending.join().unwrap();
        assert!(seen >= COUNT / 10 * 5, "{mode}: {seen} messages");
    }
}

#[test]
fn a_ring_that_is_put_off_wakes_at_its_time_or_its_number() {
    run(&one_thread(), async {
        let path = path("coalescing");
        let options = ListenOptions::new().coalesce(10, Duration::from_millis(200));
        let mut listener = Listener::from_sync(options.bind(&path).unwrap()).unwrap();
        let options = ConnectOptions::new();
        let (server, client) = tokio::join!(listener.accept(), connect_with(&options, &path));
        let (mut sender, mut receiver) = (server.unwrap().split().0, client.unwrap().split().1);
        for round in 0..8 {
            let count = if round % 2 == 0 { 1 } else { 10 };
            let receiving = tokio::spawn(async move {
                let first = receiver.recv().await.map(drop);
                (first, Instant::now(), receiver)
            });
            // It sleeps by then.
            sleep(Duration::from_millis(5)).await;
            let sent = Instant::now();
            for _ in 0..count {
                sender.send(b"put off").await.unwrap();
            }
            let (first, received, back) = receiving.await.unwrap();
            first.unwrap();
            receiver = back;
            let waited = received - sent;
            if count == 1 {
                assert!((190..3_000).contains(&waited.as_millis()), "round {round}: after {waited:?}");
            } else {
                assert!(waited < Duration::from_millis(190), "round {round}: after {waited:?}");
            }
            for _ in 1..count {
                drop(receiver.recv().await.unwrap());
            }
        }
    });
}

#[test]
fn a_message_too_long_for_the_buffer_is_received_next() {
    run(&one_thread(), async {
        let (mut server, mut client) = pair("short");
        client.send(b"eleven byte").await.unwrap();
        let mut buffer = [0; 11];
        assert!(matches!(server.recv_into(&mut buffer[..10]).await, Err(RecvError::TooShort(_))));
        assert_eq!(server.recv_into(&mut buffer).await.unwrap(), 11);
        assert_eq!(&buffer, b"eleven byte");
    });
}

/// Ready after a number of polls, each of which asks for the next one: cancels what it is selected against at once, or a little later.
async fn turns(number: u64) {
    for _ in 0..number {
        yield_now().await;
    }
}

#[test]
fn a_receive_that_is_cancelled_loses_nothing() {
    const COUNT: u64 = 30_000;
    for runtime in [one_thread(), two_threads()] {
        let (server, client) = sync_pair("cancel-recv");
        let sending = std::thread::spawn(move || {
            let mut sender = client.split().0;
            for number in 0..COUNT {
                sender.send_timeout(&numbered(number), SOON).unwrap();
                if number.is_multiple_of(16) {
                    std::thread::sleep(Duration::from_micros(number % 64));
                }
            }
        });
        let cancelled = run(&runtime, async {
            let mut receiver = Receiver::from_sync(server.split().1).unwrap();
            let (mut number, mut cancelled, mut buffer) = (0, 0, [0; 256]);
            while number < COUNT {
                let receiving = async {
                    match cancelled % 3 {
                        0 => receiver.recv().await.unwrap().to_vec(),
                        1 => receiver.recv_batch(1).await.unwrap().try_next().unwrap().unwrap().to_vec(),
                        _ => {
                            let len = receiver.recv_into(&mut buffer).await.unwrap();
                            buffer[..len].to_vec()
                        }
                    }
                };
                let got = tokio::select! {
                    biased;
                    message = receiving => Some(message),
                    () = turns(cancelled % 4) => None,
                };
                match got {
                    Some(message) => {
                        assert_eq!(message, numbered(number));
                        number += 1;
                    }
                    None => cancelled += 1,
                }
            }
            assert!(matches!(receiver.recv().await.map(drop), Err(RecvError::Disconnected { received: COUNT, .. })));
            cancelled
        });
        sending.join().unwrap();
        assert!(cancelled > 1000, "{cancelled} cancellations prove little");
    }
}

#[test]
fn a_send_that_is_cancelled_has_sent_all_of_it_or_nothing() {
    const COUNT: u64 = 30_000;
    for runtime in [one_thread(), two_threads()] {
        let (server, client) = sync_pair("cancel-send");
        let receiving = std::thread::spawn(move || {
            let mut receiver = server.split().1;
            for number in 0..COUNT {
                assert_eq!(receiver.recv_timeout(SOON).unwrap().to_vec(), numbered(number));
                if number.is_multiple_of(64) {
                    std::thread::sleep(Duration::from_micros(number % 200));
                }
            }
        });
        let cancelled = run(&runtime, async {
            let mut sender = Sender::from_sync(client.split().0).unwrap();
            let (mut number, mut cancelled) = (0, 0);
            while number < COUNT {
                let batch = [number, number + 1, number + 2].map(numbered);
                let batch = &batch[..batch.len().min((COUNT - number) as usize)];
                let before = sender.get_ref().sent();
                let sending = async {
                    match cancelled % 3 {
                        0 => sender.send(&batch[0]).await.map(|()| 1).unwrap(),
                        1 => sender.send_batch(batch).await.unwrap(),
                        _ => {
                            let mut message = sender.reserve(batch[0].len()).await.unwrap();
                            message.write_at(0, &batch[0]);
                            message.commit();
                            1
                        }
                    }
                };
                let sent = tokio::select! {
                    biased;
                    sent = sending => sent,
                    () = turns(cancelled % 4) => 0,
                };
                assert_eq!(sender.get_ref().sent() - before, sent as u64);
                number += sent as u64;
                cancelled += u64::from(sent == 0);
            }
            cancelled
        });
        receiving.join().unwrap();
        assert!(cancelled > 1000, "{cancelled} cancellations prove little");
    }
}

/// How many turns another task of the same thread gets while `busy` runs.
async fn turns_beside(busy: impl Future<Output = ()>) -> u64 {
    let turns = Rc::new(Cell::new(0));
    let counting = tokio::task::LocalSet::new();
    let counter = turns.clone();
    counting.spawn_local(async move {
        loop {
            yield_now().await;
            counter.set(counter.get() + 1);
        }
    });
    counting.run_until(busy).await;
    turns.get()
}

#[test]
fn a_flood_leaves_other_tasks_their_turns() {
    let path = path("flood");
    run(&one_thread(), async {
        let options = ListenOptions::new().capacity(1 << 20);
        let mut listener = Listener::from_sync(options.bind(&path).unwrap()).unwrap();
        let options = ConnectOptions::new();
        let (server, client) = tokio::join!(listener.accept(), connect_with(&options, &path));
        let (mut receiver, mut sender) = (server.unwrap().split().1, client.unwrap().split().0);
        // The ring holds them all: neither side ever waits.
        const COUNT: u64 = 50_000;
        let sending = turns_beside(async {
            for _ in 0..COUNT {
                sender.send(b"flood").await.unwrap();
            }
        });
        let turns = sending.await;
        assert!((10..COUNT / 100).contains(&turns), "{turns} turns beside the sender");
        let receiving = turns_beside(async {
            for _ in 0..COUNT {
                drop(receiver.recv().await.unwrap());
            }
        });
        let turns = receiving.await;
        assert!((10..COUNT / 100).contains(&turns), "{turns} turns beside the receiver");
        assert_eq!((sender.sleeps(), receiver.sleeps()), (0, 0));
    });
}

/// Polls one call as often as a runtime would that has nothing else to do, without one that could end it.
#[test]
fn a_call_that_always_finds_something_gives_up_its_turn_now_and_then() {
    run(&one_thread(), async {
        let (mut server, mut client) = pair("budget");
        let mut longest = 0;
        let mut polls = 0;
        for _ in 0..20 {
            let mut calls = 0;
            // Inside one poll of this task: at some point a call must be pending, though there is a message.
            std::future::poll_fn(|cx| {
                polls += 1;
                loop {
                    client.sender().try_send(b"x").unwrap();
                    match pin!(server.recv()).poll(cx) {
                        Poll::Ready(message) => drop(message.unwrap()),
                        Poll::Pending => return Poll::Ready(()),
                    };
                    calls += 1;
                    assert!(calls < 10_000, "it never gives up its turn");
                }
            })
            .await;
            // It had been asked to give up its turn, not to wait for a message: there is one.
            drop(server.recv().await.unwrap());
            longest = longest.max(calls);
        }
        assert!(longest > 100, "a turn of {longest} calls is too short to be fast");
        assert_eq!(polls, 20);
    });
}

#[test]
fn calls_can_have_a_deadline() {
    run(&one_thread(), async {
        let (mut server, mut client) = pair("deadline");
        let start = Instant::now();
        assert!(timeout(Duration::from_millis(50), server.recv()).await.is_err());
        while client.sender().try_send(&[0; 500]).is_ok() {}
        assert!(timeout(Duration::from_millis(50), client.send(&[0; 500])).await.is_err());
        let mut listener = Listener::bind(path("deadline-listener")).unwrap();
        assert!(timeout(Duration::from_millis(50), listener.accept()).await.is_err());
        assert!((150..3_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        // And everything works afterwards.
        drop(server.recv().await.unwrap());
    });
}

#[test]
fn a_peer_that_closes_ends_what_waits_for_it() {
    for runtime in [one_thread(), two_threads()] {
        run(&runtime, async {
            let (mut server, mut client) = pair("closed");
            client.send(b"last words").await.unwrap();
            let waiting = tokio::spawn(async move {
                assert_eq!(server.recv().await.unwrap().to_vec(), b"last words");
                for _ in 0..3 {
                    let end = server.recv().await.map(drop);
                    assert!(matches!(end, Err(RecvError::Disconnected { received: 1, closed: true })));
                }
            });
            sleep(Duration::from_millis(20)).await;
            drop(client);
            waiting.await.unwrap();

            let (server, mut client) = pair("closed-receiver");
            let waiting = tokio::spawn(async move {
                let mut sent = 0;
                let end = loop {
                    match client.send(&[0; 500]).await {
                        Ok(()) => sent += 1,
                        Err(end) => break end,
                    }
                };
                assert!(matches!(end, SendError::Disconnected { undelivered } if undelivered == sent), "{end}");
            });
            sleep(Duration::from_millis(20)).await;
            drop(server);
            waiting.await.unwrap();
        });
    }
}

/// Voluntary context switches and processor time (user and system, in ticks) of a thread of this process.
fn usage(thread: i32) -> (String, String) {
    let proc = format!("/proc/self/task/{thread}");
    let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
    let switches = status.lines().find(|line| line.starts_with("voluntary")).unwrap().to_owned();
    let stat = std::fs::read_to_string(format!("{proc}/stat")).unwrap();
    let ticks = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2).collect();
    (switches, ticks)
}

#[test]
fn tasks_that_wait_use_no_processor_time_and_are_not_woken() {
    let (server, client) = sync_pair("idle");
    let (tell, told) = std::sync::mpsc::channel();
    let idle = std::thread::spawn(move || {
        run(&one_thread(), async {
            let (mut sender, mut receiver) = Connection::from_sync(server).unwrap().split();
            let mut listener = Listener::bind(path("idle-listener")).unwrap();
            while sender.try_send(&[0; 500]).is_ok() {}
            let sending = tokio::spawn(async move { (sender.send(&[0; 500]).await, sender.sleeps()) });
            let accepting = tokio::spawn(async move { listener.accept().await.map(drop) });
            tell.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            let end = receiver.recv().await.map(drop);
            assert!(matches!(end, Err(RecvError::Disconnected { received: 0, .. })));
            assert_eq!(receiver.sleeps(), 1);
            let (end, sleeps) = sending.await.unwrap();
            assert!(matches!(end, Err(SendError::Disconnected { .. })));
            assert_eq!(sleeps, 1);
            accepting.abort();
        });
    });
    let thread = told.recv().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let before = usage(thread);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(usage(thread), before);
    drop(client);
    idle.join().unwrap();
}

#[test]
fn a_task_that_is_woken_for_something_else_does_not_arm_again() {
    run(&one_thread(), async {
        let (mut server, mut client) = pair("others");
        for round in 1..=10 {
            tokio::select! {
                biased;
                _ = server.recv() => panic!("nobody sends"),
                () = turns(100) => {}
            }
            tokio::select! {
                biased;
                _ = server.recv() => panic!("nobody sends"),
                () = turns(100) => {}
            }
            assert_eq!(server.receiver().sleeps(), round, "one ticket for each message that is waited for");
            // The ticket still stands after all that.
            client.send(b"wake").await.unwrap();
            drop(server.recv().await.unwrap());
        }
    });
}

/// One task for both directions: what its receiver has consumed and holds back must not be what its peer waits for.
#[test]
fn two_tasks_that_send_and_receive_at_once_do_not_wait_for_each_other() {
    const COUNT: u64 = 20_000;
    async fn both(connection: Connection) {
        let (mut sender, mut receiver) = connection.split();
        let (mut sent, mut received) = (0, 0);
        while sent < COUNT || received < COUNT {
            let message = numbered(sent);
            tokio::select! {
                sending = sender.send(&message), if sent < COUNT => {
                    sending.unwrap();
                    sent += 1;
                }
                message = receiver.recv(), if received < COUNT => {
                    assert_eq!(message.unwrap().to_vec(), numbered(received));
                    received += 1;
                }
            }
        }
    }
    for runtime in [one_thread(), two_threads()] {
        run(&runtime, async {
            let (server, client) = pair("duplex");
            let (server, client) = (tokio::spawn(both(server)), tokio::spawn(both(client)));
            server.await.unwrap();
            client.await.unwrap();
        });
    }
}

/// While it sends, its receiver consumes less than is given back by itself; the peer waits for exactly that.
#[test]
fn a_sender_that_goes_on_waiting_gives_back_what_its_receiver_has_consumed_since() {
    run(&one_thread(), async {
        let (server, client) = pair("held");
        let ((mut sender, mut receiver), (mut to_us, mut from_us)) = (server.split(), client.split());
        while sender.try_send(&[1; 400]).is_ok() {}
        let mut left = 0;
        for len in [400, 100] {
            while to_us.try_send(&[2; 400][..len]).is_ok() {
                left += 1;
            }
        }
        // It waits, and is polled again when its task is woken for a message.
        let mut sending = pin!(sender.send(&[1; 400]));
        assert!(timeout(Duration::from_millis(10), &mut sending).await.is_err());
        let mut theirs = pin!(to_us.send(&[2; 100]));
        assert!(timeout(Duration::from_millis(10), &mut theirs).await.is_err());
        drop(receiver.try_recv().unwrap().unwrap());
        assert!(timeout(Duration::from_millis(10), &mut sending).await.is_err());
        timeout(Duration::from_secs(5), theirs).await.expect("the room is given back").unwrap();
        // Nothing else was given back or lost.
        for _ in 0..left {
            drop(receiver.try_recv().unwrap().unwrap());
        }
        while from_us.try_recv().unwrap().is_some() {}
        sending.await.unwrap();
    });
}

/// A client that connects and says nothing.
fn silent_client(path: &PathBuf) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    socket
}

#[test]
fn silent_clients_are_forgotten_at_their_time_while_nobody_else_comes() {
    run(&one_thread(), async {
        let path = path("silent");
        let options = ListenOptions::new().handshake_timeout(Duration::from_millis(100));
        let mut listener = Listener::from_sync(options.bind(&path).unwrap()).unwrap();
        let accepting = tokio::spawn(async move { listener.accept().await.map(|_| listener.get_ref().refused()) });
        let clients = [silent_client(&path), silent_client(&path)];
        let hung_up = tokio::task::spawn_blocking(move || {
            let start = Instant::now();
            for client in &clients {
                assert_eq!(rustix::io::read(client, &mut [0; 8]).unwrap(), 0);
            }
            start.elapsed()
        });
        let after = hung_up.await.unwrap();
        assert!((90..2_000).contains(&after.as_millis()), "{after:?}");
        drop(connect_with(&ConnectOptions::new(), &path).await.unwrap());
        assert_eq!(accepting.await.unwrap().unwrap(), 2);
    });
}

#[test]
fn clients_that_have_hung_up_do_not_hide_the_one_behind_them() {
    run(&one_thread(), async {
        let path = path("hidden");
        let mut listener = Listener::bind(&path).unwrap();
        // More than a call that does not wait looks at, and all of them there before the first look: no event is to come.
        (0..20).for_each(|_| drop(silent_client(&path)));
        let options = ConnectOptions::new();
        let (client, server) = tokio::join!(biased; connect_with(&options, &path), listener.accept());
        client.unwrap();
        server.unwrap();
        assert_eq!(listener.get_ref().refused(), 20);
    });
}

#[test]
fn connecting_waits_in_the_runtime_and_ends_at_its_deadline() {
    run(&one_thread(), async {
        let path = path("connecting");
        let options = ConnectOptions::new().wait_for_listener(true).timeout(Duration::from_millis(80));
        let start = Instant::now();
        let (refused, turns) = tokio::join!(connect_with(&options, &path), async {
            let mut turns = 0;
            while start.elapsed() < Duration::from_millis(60) {
                sleep(Duration::from_millis(1)).await;
                turns += 1;
            }
            turns
        });
        assert!(turns > 5, "others had {turns} turns while it waited");
        assert!(matches!(refused.map(drop), Err(ConnectError::TimedOut { stage: "nobody listens", .. })));
        // Somebody listens and does not answer.
        let mut listener = Listener::bind(&path).unwrap();
        let start = Instant::now();
        let refused = connect_with(&options, &path).await.map(drop);
        assert!(matches!(refused, Err(ConnectError::TimedOut { stage: "the server does not answer", .. })));
        assert!((75..2_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        // A connect that is cancelled, like the one above, is nobody for the listener.
        assert!(timeout(Duration::from_millis(10), connect_with(&options, &path)).await.is_err());
        let (accepted, mut client) = tokio::join!(listener.accept(), async {
            sleep(Duration::from_millis(20)).await;
            connect_with(&ConnectOptions::new(), &path).await.unwrap()
        });
        let mut server = accepted.unwrap();
        client.send(b"hello").await.unwrap();
        assert_eq!(server.recv().await.unwrap().to_vec(), b"hello");
        assert_eq!(listener.get_ref().connections(), 1);
    });
}

#[test]
fn connections_move_into_a_runtime_and_out_of_it_with_all_that_is_in_them() {
    let (server, mut client) = sync_pair("moves");
    // Outside of a runtime: the connection comes back.
    let (mut server, reason) = Connection::from_sync(server).map(drop).unwrap_err().into_parts();
    assert!(reason.to_string().contains("runtime"), "{reason}");
    for round in 0..50 {
        client.send(&numbered(round)).unwrap();
        client.send(&numbered(round + 1)).unwrap();
        server = run(&one_thread(), async {
            let mut server = Connection::try_from(server).unwrap();
            assert_eq!(server.recv().await.unwrap().to_vec(), numbered(round));
            assert_eq!(server.recv().await.unwrap().to_vec(), numbered(round + 1));
            assert!(timeout(Duration::from_millis(1), server.recv()).await.is_err());
            server.into()
        });
        // The ticket that is left up does no harm.
        let (answer, start) = (numbered(round), Instant::now());
        client.send(&answer).unwrap();
        assert_eq!(server.recv_timeout(SOON).unwrap().to_vec(), answer);
        let nothing = server.recv_timeout(Duration::from_millis(2)).map(drop);
        assert!(matches!(nothing, Err(RecvError::TimedOut { .. })), "after {:?}", start.elapsed());
    }
}

#[test]
fn tasks_can_be_given_to_any_thread() {
    fn is_send<T: Send>(_: &T) {}
    async fn talk(mut connection: Connection, mut listener: Listener) -> Result<(), Box<dyn std::error::Error>> {
        connection.send(b"").await?;
        connection.send_batch(&[b""]).await?;
        connection.reserve(1).await?.commit();
        connection.recv_into(&mut []).await?;
        drop(connection.recv().await?);
        drop(connection.recv_batch(1).await?);
        drop(listener.accept().await?);
        drop(connect_with(&ConnectOptions::new(), "x").await?);
        Ok(())
    }
    let (server, _client) = sync_pair("send");
    run(&one_thread(), async {
        let connection = Connection::from_sync(server).unwrap();
        is_send(&talk(connection, Listener::bind(path("send-listener")).unwrap()));
    });
}

#[test]
fn a_forked_child_can_use_neither_connection_nor_listener() {
    run(&one_thread(), async {
        let (mut server, mut client) = pair("fork");
        let mut listener = Listener::bind(path("fork-listener")).unwrap();
        // SAFETY: the child calls nothing but the library, which is made for that, and leaves without running anybody's handlers.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let mut cx = Context::from_waker(Waker::noop());
            let recv = matches!(pin!(server.recv()).poll(&mut cx), Poll::Ready(Err(RecvError::Forked)));
            let send = matches!(pin!(server.send(b"x")).poll(&mut cx), Poll::Ready(Err(SendError::Forked)));
            let reserve = matches!(pin!(server.reserve(1)).poll(&mut cx), Poll::Ready(Err(SendError::Forked)));
            let accept = matches!(pin!(listener.accept()).poll(&mut cx), Poll::Ready(Err(AcceptError::Forked)));
            drop((server, listener));
            // SAFETY: ends this process.
            unsafe { libc::_exit(i32::from(!(recv && send && reserve && accept))) };
        }
        let mut status = 0;
        // SAFETY: the child is ours, and the status to be written.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child could use something");
        // What the child dropped was its own: ours is still registered and wakes.
        let (message, sent) = tokio::join!(async { server.recv().await.unwrap().to_vec() }, async {
            sleep(Duration::from_millis(10)).await;
            client.send(b"ours").await
        });
        sent.unwrap();
        assert_eq!(message, b"ours");
        let (accepted, _client) = tokio::join!(listener.accept(), async {
            connect_with(&ConnectOptions::new(), path("fork-listener")).await.unwrap()
        });
        drop(accepted.unwrap());
    });
}
