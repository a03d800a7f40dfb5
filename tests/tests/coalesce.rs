//! A sleeping receiver is woken after so many messages or a delay, and the delay holds whatever becomes of the sender.

use ipc_core::{Connection, ListenOptions, Listener, Mode, Receiver, RecvError, WaitStrategy};
use ipc_tests::{HangGuard, Peer, Scratch, Stream, peer, system};
use rustix::event::{Timespec, epoll};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);
/// Far longer than a test may take: whoever waits for it hangs.
const NEVER: u64 = 1_000_000_000;
const FIVE_SECONDS: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

fn options() -> ListenOptions {
    ListenOptions::new().wait_strategy(WaitStrategy::Sleep)
}

/// A server here, and a client in another process that puts the doorbell off for `messages` or a `delay` in microseconds.
fn with_sender(options: ListenOptions, messages: u64, delay: u64) -> (Scratch, Peer, Connection) {
    let scratch = Scratch::new();
    let mut listener = options.bind(scratch.socket()).unwrap();
    let mut peer = peer!("coalesce", path = scratch.socket(), messages = messages, delay = delay);
    let server = accept(&mut listener);
    peer.expect("connected");
    (scratch, peer, server)
}

fn accept(listener: &mut Listener) -> Connection {
    listener.accept_timeout(SOON).unwrap()
}

/// The calling thread, for [`await_sleep`].
fn own_id() -> u32 {
    // SAFETY: the call has no arguments.
    unsafe { libc::gettid() }.unsigned_abs()
}

/// Waits until the thread that tells its id sleeps.
fn await_sleep(id: &mpsc::Receiver<u32>) {
    let id = id.recv().unwrap();
    let (mut calm, until) = (0, Instant::now() + SOON);
    while calm < 10 {
        assert!(Instant::now() < until, "it does not fall asleep");
        calm = if system::sleeps(id) { calm + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What one wake-up brought.
struct Woken {
    receiver: Receiver,
    /// Messages that were there when the first one was received.
    messages: u64,
    /// Times that the receiver slept for it.
    sleeps: u64,
    /// How long it took from the moment at which the receiver slept.
    took: Duration,
}

/// A receiver that sleeps in another thread until something wakes it.
struct Asleep {
    thread: JoinHandle<(Receiver, u64, u64, Instant)>,
    since: Instant,
}

impl Asleep {
    fn new(mut receiver: Receiver) -> Self {
        let (sender, id) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            sender.send(own_id()).unwrap();
            let before = receiver.sleeps();
            drop(receiver.recv().unwrap());
            let (sleeps, at, mut messages) = (receiver.sleeps() - before, Instant::now(), 1);
            while receiver.try_recv().unwrap().is_some() {
                messages += 1;
            }
            (receiver, messages, sleeps, at)
        });
        await_sleep(&id);
        Self { thread, since: Instant::now() }
    }

    fn still_sleeps_after(&self, time: Duration) -> bool {
        std::thread::sleep(time);
        !self.thread.is_finished()
    }

    fn woken(self) -> Woken {
        let (receiver, messages, sleeps, at) = self.thread.join().unwrap();
        Woken { receiver, messages, sleeps, took: at - self.since }
    }
}

#[test]
fn few_messages_wake_a_sleeper_together_once_after_the_delay() {
    let _guard = HangGuard::new(60);
    let delay = Duration::from_millis(300);
    let (_scratch, mut peer, server) = with_sender(options(), 100, 300_000);
    let (_sender, mut receiver) = server.split();
    for count in [1, 5, 99] {
        let asleep = Asleep::new(receiver);
        peer.say(&format!("send {count}"));
        peer.expect("done");
        let woken = asleep.woken();
        assert!(woken.took >= delay, "{:?}", woken.took);
        assert_eq!((woken.messages, woken.sleeps), (count, 1));
        receiver = woken.receiver;
    }
}

#[test]
fn enough_messages_wake_a_sleeper_at_once() {
    let _guard = HangGuard::new(60);
    let (_scratch, mut peer, server) = with_sender(options(), 5, NEVER);
    let (_sender, mut receiver) = server.split();
    for orders in [["send 4", "send 1"], ["batch 4", "send 1"], ["send 1", "batch 4"], ["batch 1", "batch 20"]] {
        let asleep = Asleep::new(receiver);
        peer.say(orders[0]);
        peer.expect("done");
        assert!(asleep.still_sleeps_after(Duration::from_millis(150)), "{orders:?}");
        peer.say(orders[1]);
        let woken = asleep.woken();
        peer.expect("done");
        assert_eq!(woken.sleeps, 1, "{orders:?}");
        receiver = woken.receiver;
        while receiver.try_recv().unwrap().is_some() {}
    }
    let asleep = Asleep::new(receiver);
    peer.say("batch 5");
    assert_eq!(asleep.woken().messages, 5);
}

#[test]
fn a_sender_that_flushes_wakes_a_sleeper_at_once() {
    let _guard = HangGuard::new(60);
    let (_scratch, mut peer, server) = with_sender(options(), 100, NEVER);
    let asleep = Asleep::new(server.split().1);
    peer.say("send 3");
    peer.expect("done");
    peer.say("flush");
    let woken = asleep.woken();
    assert_eq!((woken.messages, woken.sleeps), (3, 1));
    // Nothing is put off any more.
    let mut receiver = woken.receiver;
    peer.say("flush");
    assert!(matches!(receiver.recv_timeout(Duration::from_millis(50)), Err(RecvError::TimedOut { .. })));
}

#[test]
fn the_delay_holds_while_the_sender_is_stopped() {
    let _guard = HangGuard::new(60);
    let delay = Duration::from_millis(200);
    let (_scratch, mut peer, server) = with_sender(options(), 100, 200_000);
    let (_sender, mut receiver) = server.split();
    for _ in 0..3 {
        let asleep = Asleep::new(receiver);
        peer.say("stop 3");
        let woken = asleep.woken();
        assert!(system::is_stopped(peer.id()), "it went on");
        assert_eq!((woken.messages, woken.sleeps), (3, 1));
        assert!(woken.took >= delay && woken.took < SOON, "{:?}", woken.took);
        receiver = woken.receiver;
        peer.signal(libc::SIGCONT);
    }
    let asleep = Asleep::new(receiver);
    peer.say("batch 100");
    assert_eq!(asleep.woken().messages, 100, "the timer of an earlier ticket is void");
}

#[test]
fn messages_of_a_sender_that_was_killed_arrive_at_once() {
    let _guard = HangGuard::new(60);
    let (_scratch, mut peer, server) = with_sender(options(), 100, NEVER);
    let asleep = Asleep::new(server.split().1);
    peer.say("kill 3");
    let mut woken = asleep.woken();
    assert_eq!((woken.messages, woken.sleeps), (3, 1));
    let end = woken.receiver.recv().map(drop).unwrap_err();
    assert!(matches!(end, RecvError::Disconnected { received: 3, closed: false }), "{end}");
}

#[test]
fn a_receiver_that_wakes_by_itself_and_sleeps_again_is_woken_for_what_comes_then() {
    let _guard = HangGuard::new(60);
    let (_scratch, mut peer, mut server) = with_sender(options(), 3, NEVER);
    // A ticket with one message put off, which the receiver takes at its deadline; the next one starts anew.
    for _ in 0..20 {
        assert!(server.arm().unwrap());
        peer.say("send 2");
        peer.expect("done");
        assert_eq!(server.recv_timeout(Duration::from_millis(1)).unwrap().len(), 8);
        assert_eq!(server.recv_timeout(Duration::from_millis(1)).unwrap().len(), 8);
        assert!(matches!(server.recv_timeout(Duration::from_millis(1)), Err(RecvError::TimedOut { .. })));
    }
    let asleep = Asleep::new(server.split().1);
    peer.say("send 3");
    assert_eq!(asleep.woken().sleeps, 1);
}

#[test]
fn a_sender_without_room_wakes_the_sleeper_first() {
    let _guard = HangGuard::new(60);
    for order in ["send", "try"] {
        let (_scratch, mut peer, mut server) = with_sender(options().capacity(4096), u64::MAX, NEVER);
        let (sender, id) = mpsc::channel();
        let receiving = std::thread::spawn(move || {
            sender.send(own_id()).unwrap();
            for number in 0..5000_u64 {
                assert_eq!(server.recv().unwrap().to_vec(), number.to_ne_bytes());
            }
        });
        await_sleep(&id);
        peer.say(&format!("{order} 5000"));
        peer.expect("done");
        // The last ones had room.
        peer.say("flush");
        receiving.join().unwrap();
    }
}

#[test]
fn each_direction_is_put_off_by_its_sender_alone() {
    let _guard = HangGuard::new(60);
    let delay = Duration::from_millis(100);
    for (ours, theirs) in [(false, false), (true, false), (false, true), (true, true)] {
        for listens in [false, true] {
            let scratch = Scratch::new();
            let (path, off) = (scratch.socket(), |wanted: bool| if wanted { 1000 } else { 0 });
            let (mut peer, connection) = if listens {
                let mut listener = options().coalesce(off(ours), delay).bind(&path).unwrap();
                let peer = peer!("coalesce", path = path, messages = off(theirs), delay = delay.as_micros());
                (peer, accept(&mut listener))
            } else {
                let mut peer =
                    peer!("coalesce", path = path, listen = true, messages = off(theirs), delay = delay.as_micros());
                peer.expect("listening");
                let options = ipc_core::ConnectOptions::new().wait_strategy(WaitStrategy::Sleep);
                (peer, options.coalesce(off(ours), delay).connect(&path).unwrap())
            };
            peer.expect("connected");
            peer.say("echo");
            let (mut sender, receiver) = connection.split();
            let asleep = Asleep::new(receiver);
            while !sender.status().consumer_sleeps {
                std::thread::sleep(Duration::from_millis(1));
            }
            sender.send(b"question").unwrap();
            let woken = asleep.woken();
            let delays = u32::from(ours) + u32::from(theirs);
            assert!(woken.took >= delay * delays, "{ours} {theirs}: {:?}", woken.took);
            assert_eq!(woken.sleeps, 1);
        }
    }
}

#[test]
fn modes_without_a_shared_ring_put_nothing_off() {
    let _guard = HangGuard::new(60);
    for mode in [Mode::Kernel, Mode::Hybrid] {
        let (_scratch, mut peer, server) = with_sender(options().mode(mode).coalesce(100, SOON), 100, NEVER);
        let asleep = Asleep::new(server.split().1);
        peer.say("send 1");
        assert_eq!(asleep.woken().messages, 1, "{mode}");
    }
}

#[test]
fn the_receivers_descriptor_shows_a_ring_and_a_timer() {
    let _guard = HangGuard::new(60);
    for edge in [false, true] {
        let (_scratch, mut peer, mut server) = with_sender(options(), 10, 150_000);
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::ET, edge);
        epoll::add(&queue, &server, epoll::EventData::new_u64(5), flags).unwrap();
        let woken = |patience: &Timespec| {
            let mut events = Vec::with_capacity(4);
            epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), Some(patience)).unwrap()
        };
        // Whatever was there when it was added.
        woken(&Timespec::default());
        for (order, count) in [("send 3", 3), ("batch 10", 10), ("send 2", 2), ("batch 12", 12)] {
            assert!(server.arm().unwrap(), "nothing is there");
            let start = Instant::now();
            peer.say(order);
            assert_eq!(woken(&FIVE_SECONDS), 1, "{order}");
            let took = start.elapsed();
            assert!(count >= 10 || took >= Duration::from_millis(150), "{order}: {took:?}");
            peer.expect("done");
            let mut messages = 0;
            while server.try_recv().unwrap().is_some() {
                messages += 1;
            }
            assert_eq!(messages, count);
        }
        assert!(server.arm().unwrap(), "nothing is there");
        assert_eq!(woken(&Timespec { tv_sec: 0, tv_nsec: 300_000_000 }), 0, "a timer that is no longer needed");
        peer.say("kill 0");
        assert_eq!(woken(&FIVE_SECONDS), 1, "the end shows");
    }
}

/// How a stream is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Blocking,
    Deadlines,
    Level,
    Edge,
}

#[test]
fn no_message_of_a_stream_is_lost_or_late_however_it_is_waited_for() {
    let _guard = HangGuard::new(110);
    for (way, membarrier) in
        [(Way::Blocking, true), (Way::Deadlines, false), (Way::Level, true), (Way::Edge, false), (Way::Edge, true)]
    {
        let (count, scratch) = (5_000, Scratch::new());
        let mut listener = options().membarrier(membarrier).bind(scratch.socket()).unwrap();
        let mut peer = peer!("coalesce", path = scratch.socket(), messages = 4, delay = 200, seed = 9);
        let mut server = accept(&mut listener);
        let stream = Stream::new(9, server.sender().max_reservation());
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::ET, way == Way::Edge);
        epoll::add(&queue, &server, epoll::EventData::new_u64(5), flags).unwrap();
        peer.say(&format!("stream {count}"));
        let (mut number, mut waits) = (0, 0);
        while number < count {
            let message = match way {
                Way::Blocking => Some(server.recv_timeout(SOON).expect("a message is lost").to_vec()),
                Way::Deadlines => server.recv_timeout(Duration::from_micros(number % 150)).ok().map(|m| m.to_vec()),
                Way::Level | Way::Edge => server.try_recv().unwrap().map(|message| message.to_vec()),
            };
            if let Some(message) = message {
                stream.check(number, &message).unwrap_or_else(|wrong| panic!("{wrong}"));
                number += 1;
            } else if matches!(way, Way::Level | Way::Edge) && server.arm().unwrap() {
                waits += 1;
                let mut events = Vec::with_capacity(4);
                let woken =
                    epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), Some(&FIVE_SECONDS)).unwrap();
                assert_eq!(woken, 1, "{way:?}: the wake-up for message {number} is lost");
            }
        }
        peer.expect("done");
        let waits = waits + server.receiver().sleeps();
        println!("{way:?}: {count} messages, {waits} waits");
        assert!(waits > count / 50, "{waits} waits put hardly anything to the test");
    }
}
