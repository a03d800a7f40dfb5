//! Large messages whose sender is stopped in the middle, a steady exchange through the arena, and a fork with loans and held messages.

use super::quiet::{LAST_TURN, RESULTS, STOP, TURNS};
use super::{Settings, hear, say};
use crate::shared::Mapping;
use crate::system::{self, Usage};
use crate::{Mix, Random};
use ipc_core::router::Override;
use ipc_core::{Connection, Held, Lane, Receiver, RecvError, SendError};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Bytes in each message of [`large`]: copying it takes long enough to be stopped in it.
const LARGE: usize = 48 << 20;

/// Sends large messages, and a small one after each, until the other side goes.
pub(super) fn large(settings: &Settings) {
    let mut connection = settings.connection();
    let mix = Mix::new(settings.number("seed", 1), 0, 0);
    connection.sender().set_route(Override::Threshold(1024)).expect("always there");
    let mut message = vec![0; LARGE];
    for number in 0.. {
        mix.fill(number, &mut message);
        let sent = connection.send(&message).and_then(|()| connection.send(&number.to_le_bytes()));
        match sent {
            Ok(()) => {}
            Err(SendError::Disconnected { .. }) => return,
            Err(error) => panic!("message {number}: {error}"),
        }
    }
}

/// A sender in another process that is stopped and continued from here.
struct Arrested(libc::pid_t);

impl Arrested {
    fn stop(&self) {
        // SAFETY: integers only; the process is the peer, which lives as long as this connection.
        unsafe { libc::kill(self.0, libc::SIGSTOP) };
        while !self.is_stopped() {
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn is_stopped(&self) -> bool {
        system::is_stopped(self.0 as u32)
    }

    fn go_on(&self) {
        // SAFETY: as in `stop`.
        unsafe { libc::kill(self.0, libc::SIGCONT) };
    }
}

/// Takes the message that is due, and the small one behind it, whole.
fn receive_both(receiver: &mut Receiver, mix: &Mix, number: u64, buffer: &mut [u8], due: &mut [u8]) {
    assert_eq!(receiver.recv_into_timeout(buffer, Duration::from_secs(20)).expect("it goes on"), LARGE);
    mix.fill(number, due);
    assert!(buffer[..LARGE] == *due, "message {number} is not whole");
    assert_eq!(receiver.recv().expect("a small one").to_vec(), number.to_le_bytes());
}

/// Receives from [`large`], which it stops in the middle of copies; waits in every way meanwhile, and says what that cost.
pub(super) fn arrest(settings: &Settings) {
    let mut connection = settings.connection();
    let sender = Arrested(connection.peer().credentials().pid.expect("the kernel says it") as libc::pid_t);
    let mix = Mix::new(settings.number("seed", 1), 0, 0);
    let rounds: u64 = settings.number("rounds", 0);
    let (mut buffer, mut due) = (vec![0; LARGE], vec![0; LARGE]);
    let (mut stopped, mut number) = (0, 0);
    let until = Instant::now() + Duration::from_secs(60);
    while stopped < rounds {
        assert!(Instant::now() < until, "it cannot be stopped in the middle of a copy: {stopped} of {number}");
        let receiver = connection.receiver();
        while !receiver.is_ready() {
            std::hint::spin_loop();
        }
        // The record is there: either its message is complete, or it grows.
        sender.stop();
        let complete = match receiver.try_recv().expect("the sender lives") {
            Some(message) => {
                mix.fill(number, &mut due);
                assert!(message.to_vec() == due, "message {number} is not whole");
                true
            }
            None => false,
        };
        if complete || !receiver.is_ready() {
            sender.go_on();
            if complete {
                assert_eq!(receiver.recv().expect("a small one").to_vec(), number.to_le_bytes());
                number += 1;
            }
            continue;
        }
        let waited = wait_in_vain(&mut connection, &sender, &mut buffer);
        sender.go_on();
        let receiver = connection.receiver();
        match waited {
            Waited::InVain => {
                stopped += 1;
                receive_both(receiver, &mix, number, &mut buffer, &mut due);
            }
            // Somebody else continued the sender: what came must be whole all the same.
            Waited::Disturbed(None) => receive_both(receiver, &mix, number, &mut buffer, &mut due),
            Waited::Disturbed(Some(message)) => {
                mix.fill(number, &mut due);
                assert!(message == due, "message {number} is not whole");
                assert_eq!(receiver.recv().expect("a small one").to_vec(), number.to_le_bytes());
            }
        }
        number += 1;
    }
    say(format_args!("stopped {stopped} of {number}"));
}

/// How waiting for a message whose sender is stopped went.
enum Waited {
    InVain,
    /// The sender was not stopped any more, and the message came, or not yet.
    Disturbed(Option<Vec<u8>>),
}

/// Waits for a message whose sender is stopped, in each of the ways, and checks that this costs nothing.
fn wait_in_vain(connection: &mut Connection, sender: &Arrested, buffer: &mut [u8]) -> Waited {
    let timeout = Duration::from_millis(500);
    let (own, receiver) = (std::process::id(), connection.receiver());
    let timed_out = |waited: Duration| assert!(waited >= timeout, "{waited:?}");
    for what in ["recv_timeout", "recv_into_timeout", "arm and epoll"] {
        let (before, start) = (Usage::of(own), Instant::now());
        let came = match what {
            "recv_timeout" => match receiver.recv_timeout(timeout) {
                Err(RecvError::TimedOut { waited }) => {
                    timed_out(waited);
                    None
                }
                other => Some(other.expect("the sender lives").to_vec()),
            },
            "recv_into_timeout" => match receiver.recv_into_timeout(buffer, timeout) {
                Err(RecvError::TimedOut { waited }) => {
                    timed_out(waited);
                    None
                }
                other => Some(buffer[..other.expect("the sender lives")].to_vec()),
            },
            _ => wait_for_events(receiver, timeout),
        };
        let (after, took) = (Usage::of(own), start.elapsed());
        if !sender.is_stopped() {
            return Waited::Disturbed(came);
        }
        assert!(came.is_none(), "{what}: a message came, though its sender is stopped");
        assert!(took >= timeout, "{what}: over after {took:?}");
        // Of the 50 ticks that the wait lasts; copying what there is takes some.
        assert!(after.ticks - before.ticks <= 10, "{what}: {} ticks", after.ticks - before.ticks);
        assert!(after.switches - before.switches <= 10, "{what}: woken {} times", after.switches - before.switches);
    }
    Waited::InVain
}

/// As an event loop waits.
fn wait_for_events(receiver: &mut Receiver, timeout: Duration) -> Option<Vec<u8>> {
    let queue = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a queue");
    epoll::add(&queue, &*receiver, epoll::EventData::new_u64(1), epoll::EventFlags::IN).expect("room in it");
    let until = Instant::now() + timeout;
    for _ in 0..20 {
        if let Some(message) = receiver.try_recv().expect("the sender lives") {
            return Some(message.to_vec());
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        if receiver.arm().expect("the sender lives") {
            let mut events = Vec::with_capacity(4);
            // Up to a whole millisecond, so that it is over then.
            let left = Timespec::try_from(left + Duration::from_millis(1)).expect("not that long");
            epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), Some(&left)).expect("a wait");
        }
    }
    panic!("20 turns for nothing");
}

/// Receives from [`large`] while a thread stops it at random moments, mostly in the middle of a copy, and keeps it for a while.
pub(super) fn interrupt(settings: &Settings) {
    let mut connection = settings.connection();
    let sender = Arrested(connection.peer().credentials().pid.expect("the kernel says it") as libc::pid_t);
    let mix = Mix::new(settings.number("seed", 1), 0, 0);
    let (mut buffer, mut due) = (vec![0; LARGE], vec![0; LARGE]);
    let mut timeouts = 0;
    let mut random = Random::new(settings.number("seed", 1));
    for number in 0..settings.number("rounds", 0) {
        let (before, kept) = (random.below(15_000), 30_000 + random.below(30_000));
        let pid = sender.0;
        let stopping = std::thread::spawn(move || {
            let sender = Arrested(pid);
            std::thread::sleep(Duration::from_micros(before));
            sender.stop();
            std::thread::sleep(Duration::from_micros(kept));
            sender.go_on();
        });
        loop {
            match connection.receiver().recv_into_timeout(&mut buffer, Duration::from_millis(5)) {
                Ok(len) => break assert_eq!(len, LARGE),
                Err(RecvError::TimedOut { .. }) => timeouts += 1,
                Err(error) => panic!("message {number}: {error}"),
            }
        }
        mix.fill(number, &mut due);
        assert!(buffer == due, "message {number} is not whole");
        assert_eq!(connection.recv().expect("a small one").to_vec(), number.to_le_bytes());
        stopping.join().expect("it cannot fail");
    }
    say(format_args!("timeouts {timeouts}"));
}

/// How many messages each side of a steady exchange holds.
const HELD: usize = 3;
/// Turns of a steady exchange that are not counted.
const WARM_UP: u64 = 44_000;

/// Exchanges messages through the arena, sent and received in each way in turn, and counts page faults and changes of the address
/// space. The side that begins goes on until the test says so through the log.
pub(super) fn steady(settings: &Settings) {
    let mut connection = settings.connection();
    connection.sender().set_route(Override::Lane(Lane::Arena)).expect("there is an arena");
    let log = Mapping::counters(settings.text("log").as_ref());
    let begins = settings.number("begins", false);
    let results = if begins { RESULTS[0] } else { RESULTS[1] };
    let (message, mut buffer) = (vec![5; 200_000], vec![0; 200_000]);
    let mut held: Vec<Held> = Vec::with_capacity(HELD + 1);
    let len = |turn: u64| 4_000 + (turn % 7) as usize * 30_000;
    let mut exchange = |turn: u64| {
        for sends in [begins, !begins] {
            if sends {
                match turn % 3 {
                    0 => connection.send(&message[..len(turn)]).expect("room comes"),
                    1 => {
                        let mut loan = connection.sender().loan(len(turn)).expect("room comes");
                        loan.fill(6);
                        loan.send().expect("a usable connection");
                    }
                    _ => {
                        let (one, other) = message[..len(turn)].split_at(1000);
                        connection.sender().send_vectored(&[one, other]).expect("room comes");
                    }
                }
            } else if turn.is_multiple_of(2) {
                assert_eq!(connection.recv_into(&mut buffer).expect("the other side lives"), len(turn));
            } else {
                let message = connection.recv().expect("the other side lives");
                assert_eq!(message.copy_to(&mut buffer).expect("room"), len(turn));
                held.push(message.hold());
                if held.len() > HELD {
                    drop(held.remove(0));
                }
            }
        }
    };
    // Blocks move a little whenever the sender looks for idle regions, every 1024 messages: all of it repeats after 1024 times 21, the
    // turns in which lengths and ways repeat. The second time they begin where the first left them, and stay there.
    for turn in 0..WARM_UP {
        exchange(turn);
    }
    // What the maps are read into is there before they are read: otherwise the heap may grow for the second reading.
    let (mut before, mut after) = (Vec::with_capacity(1 << 20), Vec::with_capacity(1 << 20));
    let maps = |into: &mut Vec<u8>| {
        into.clear();
        let mut file = std::fs::File::open("/proc/self/maps").expect("proc is mounted");
        std::io::Read::read_to_end(&mut file, into).expect("proc is mounted");
    };
    [&mut after, &mut before].into_iter().for_each(maps);
    let faults = system::page_faults();
    let mut turn = WARM_UP;
    while log.word(LAST_TURN).load(Ordering::SeqCst) != turn {
        // As in the steady exchange of small messages.
        if begins && log.word(STOP).load(Ordering::SeqCst) != 0 && log.word(LAST_TURN).load(Ordering::SeqCst) == 0 {
            log.word(LAST_TURN).store(turn + 1, Ordering::SeqCst);
        }
        if begins {
            log.word(TURNS).store(turn - WARM_UP, Ordering::SeqCst);
        }
        exchange(turn);
        turn += 1;
    }
    let faults = system::page_faults() - faults;
    maps(&mut after);
    let changed = u64::from(after != before);
    for (at, value) in [turn - WARM_UP, faults, changed].into_iter().enumerate() {
        log.word(results + at * 8).store(value, Ordering::SeqCst);
    }
    // Both are done before one goes.
    say("done");
    hear();
}

/// Holds three messages and has lent two, forks, and lets the child drop its copies of all of it, and more.
pub(super) fn fork(settings: &Settings) {
    let mut connection = settings.connection();
    let (mut held, mut loans) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        held.push(connection.recv().expect("the test sends three").hold());
    }
    for fill in 0..2 {
        let mut loan = connection.sender().loan(100_000).expect("room");
        loan.fill(fill);
        loans.push(loan.detach().unwrap_or_else(|_| panic!("it is in the arena")));
    }
    let mut lent = connection.sender().loan(50_000).expect("room");
    lent.fill(9);
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: integers only. The child must not stay for ever.
        unsafe { libc::alarm(60) };
        let refused = match settings.text("child") {
            "drops" => {
                drop(lent);
                true
            }
            "sends" => matches!(lent.send(), Err(SendError::Forked)),
            other => panic!("a child that {other}"),
        };
        if !refused {
            // SAFETY: ends at once.
            unsafe { libc::_exit(1) };
        }
        for loan in loans {
            if settings.text("child") == "sends" {
                assert!(matches!(
                    connection.sender().send_loan(loan).map_err(|unsent| unsent.error),
                    Err(SendError::Forked)
                ));
            } else {
                drop(loan);
            }
        }
        drop(held);
        drop(connection);
        // SAFETY: ends at once.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: the child is this process's own, and the status is ours to write.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0, "the child's end");
    // All of it is as it was.
    for (number, held) in held.iter().enumerate() {
        assert!(held.to_vec() == vec![number as u8; 100_000], "held message {number}");
    }
    assert!(lent.iter().all(|byte| *byte == 9));
    lent.send().expect("the parent's");
    for loan in loans {
        connection.sender().send_loan(loan).map_err(|unsent| unsent.error).expect("the parent's");
    }
    say("forked");
    hear();
    drop(held);
    say("dropped");
    let until = Instant::now() + Duration::from_secs(20);
    while !matches!(connection.try_recv(), Err(RecvError::Disconnected { .. })) {
        assert!(Instant::now() < until);
        let _ = poll(&mut [PollFd::new(&connection, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
    }
}
