//! Sends and receives streams in every way that the interface has.

use super::{Settings, say};
use crate::{Random, Stream, system};
use ipc_core::router::Override;
use ipc_core::{Connection, Lane, Mode, Receiver, RecvError, SendError, Sender, WaitStrategy};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A wait strategy by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrategyName {
    /// Polls for up to 50 µs, then sleeps.
    Adaptive,
    /// Sleeps at once.
    Sleep,
    /// Polls without end.
    Busy,
}

impl StrategyName {
    /// The strategy.
    #[must_use]
    pub fn strategy(self) -> WaitStrategy {
        match self {
            Self::Adaptive => WaitStrategy::default(),
            Self::Sleep => WaitStrategy::Sleep,
            Self::Busy => WaitStrategy::Busy,
        }
    }
}

impl fmt::Display for StrategyName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}

impl FromStr for StrategyName {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        [Self::Adaptive, Self::Sleep, Self::Busy].into_iter().find(|known| known.to_string() == name).ok_or(())
    }
}

/// The mode of this name: as it prints.
#[must_use]
pub fn mode_named(name: &str) -> Option<Mode> {
    [Mode::Kernel, Mode::Hybrid, Mode::Shared, Mode::Auto].into_iter().find(|mode| mode.to_string() == name)
}

/// The waiting of a call that must not last for ever.
const LONG: Duration = Duration::from_secs(20);

/// Sends messages 0 to `count - 1` of `stream`, in all ways in turn. Now and then a message, a batch or a loan is begun and given
/// up.
///
/// # Panics
/// If anything but success comes back.
pub fn pump_out(sender: &mut Sender, stream: &Stream, count: u64, random: &mut Random) {
    let mut message = Vec::new();
    let mut number = 0;
    let in_place = sender.max_reservation() as usize;
    while number < count {
        stream.write(number, &mut message);
        match random.below(12) {
            0..3 => sender.send(&message).expect("room comes"),
            3 => sender.send_timeout(&message, LONG).expect("room comes in time"),
            4..6 => loop {
                match sender.try_send(&message) {
                    Ok(()) => break,
                    Err(SendError::WouldBlock { resource, needed, free }) => {
                        assert!(
                            needed > free,
                            "{needed} {resource} are needed, {free} are free, and yet there is no room"
                        );
                        std::thread::yield_now();
                    }
                    // Of what takes several records, a call that does not wait takes only as much as the ring has room for.
                    Err(SendError::TooLarge { max, .. }) if message.len() > in_place => {
                        assert!(message.len() as u64 > max);
                        sender.send(&message).expect("room comes");
                        break;
                    }
                    Err(error) => panic!("message {number}: {error}"),
                }
            },
            6..8 if message.len() > in_place => {
                let mut loan = sender.loan(message.len()).expect("room comes");
                loan.copy_from_slice(&message);
                loan.send().expect("the peer lives");
            }
            6..8 => {
                let mut reservation = sender.reserve(message.len()).expect("room comes");
                let middle = random.below(message.len() as u64 + 1) as usize;
                reservation.write_at(middle, &message[middle..]);
                reservation.write_at(0, &message[..middle]);
                reservation.commit();
            }
            8 if message.len() > in_place => {
                if let Ok(mut loan) = sender.try_loan(message.len()) {
                    loan.copy_from_slice(&message);
                }
                continue;
            }
            8 => {
                // Given up: it must leave nothing behind, whatever it wrote.
                if let Ok(mut reservation) = sender.try_reserve(message.len()) {
                    reservation.write_at(0, &message);
                }
                continue;
            }
            9 => {
                // What travels beside the queue is no part of a batch.
                let lane = sender.router().clone().route(message.len() as u64);
                let in_queue = lane == Ok(Lane::Inline) || sender.arena().limit == 0 && message.len() <= in_place;
                if !in_queue {
                    continue;
                }
                let mut batch = sender.batch();
                while batch.len() < 4 && batch.try_push(&message).is_ok() {}
                continue;
            }
            _ => {
                let end = count.min(number + 1 + random.below(40));
                let mut batch = sender.batch();
                batch.push(&message).expect("room comes");
                while number + 1 < end {
                    number += 1;
                    stream.write(number, &mut message);
                    batch.push_timeout(&message, LONG).expect("room comes in time");
                }
                batch.publish().expect("a usable connection");
            }
        }
        number += 1;
    }
}

/// Receives messages 0 to `count - 1` of `stream`, in all ways in turn, and checks each.
///
/// # Panics
/// If anything else comes.
pub fn pump_in(receiver: &mut Receiver, stream: &Stream, count: u64, random: &mut Random) {
    let mut buffer = vec![0; (64 << 10).max(stream.longest() as usize)];
    let mut number = 0;
    let mut held = Vec::new();
    let expect = |number: u64, found: &[u8]| stream.check(number, found).unwrap_or_else(|wrong| panic!("{wrong}"));
    while number < count {
        match random.below(9) {
            8 => {
                // Kept while others come, and given back in another order.
                let message = receiver.recv().expect("a message comes").hold();
                if held.len() < 5 {
                    held.push((number, message));
                } else {
                    let slot = &mut held[random.below(5) as usize];
                    let (number, message) = std::mem::replace(slot, (number, message));
                    expect(number, &message.to_vec());
                }
            }
            0..2 => {
                let len = receiver.recv_into(&mut buffer).expect("a message comes");
                expect(number, &buffer[..len]);
            }
            2 => {
                let message = receiver.recv().expect("a message comes");
                let middle = random.below(message.len() as u64 + 1) as usize;
                message.read_at(middle, &mut buffer[middle..message.len()]).expect("inside");
                message.read_at(0, &mut buffer[..middle]).expect("inside");
                expect(number, &buffer[..message.len()]);
            }
            3 => expect(number, &receiver.recv_timeout(LONG).expect("a message comes in time").to_vec()),
            4 => loop {
                if let Some(message) = receiver.try_recv().expect("the peer lives") {
                    expect(number, &message.to_vec());
                    break;
                }
                std::thread::yield_now();
            },
            5 => {
                // A few of those that are there; the rest stays for later.
                let some = 1 + random.below(8);
                let mut batch = receiver.recv_batch(some + random.below(8)).expect("a message comes");
                let mut taken = 0;
                while taken < some
                    && let Some(message) = batch.try_next().expect("the peer is honest")
                {
                    expect(number + taken, &message.to_vec());
                    taken += 1;
                }
                drop(batch);
                number += taken;
                continue;
            }
            _ => {
                let batch = receiver.recv_batch(1 + random.below(64)).expect("a message comes");
                let start = number;
                let taken = batch.for_each(|message| {
                    expect(number, &message.to_vec());
                    number += 1;
                });
                assert_eq!(taken.expect("the peer is honest"), number - start);
                continue;
            }
        }
        number += 1;
    }
    held.into_iter().for_each(|(number, message)| expect(number, &message.to_vec()));
}

/// Both directions at once over one connection: what `seed` says goes out, what `seed + 1` says comes in. Messages have up to
/// `longest` bytes, or, if that is 0, as many as the ring takes, and then all of them travel in it.
///
/// # Panics
/// If a message is lost, doubled, torn or out of order.
pub fn both_ways(connection: Connection, seed: u64, incoming_seed: u64, count: u64, longest: u64) {
    let (mut sender, mut receiver) = connection.split();
    let max = if longest == 0 { sender.max_reservation() } else { longest };
    if longest == 0 {
        sender.set_route(Override::Lane(Lane::Inline)).expect("the ring is there");
    }
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pump_out(&mut sender, &Stream::new(seed, max), count, &mut Random::new(!seed));
            assert_eq!(sender.sent(), count);
        });
        scope.spawn(move || {
            pump_in(&mut receiver, &Stream::new(incoming_seed, max), count, &mut Random::new(seed ^ 0x5555));
            assert_eq!(receiver.received(), count);
            match receiver.recv_timeout(LONG) {
                Err(RecvError::Disconnected { received, .. }) => assert_eq!(received, count),
                Err(error) => panic!("after the last message: {error}"),
                Ok(message) => panic!("{} bytes after the last message", message.len()),
            };
        });
    });
}

/// The other end of [`both_ways`]: says where it mapped the segment, then streams.
pub(super) fn play(settings: &Settings) {
    // Without this, two processes of the same shape may well get the same address from the kernel.
    let size = (8 << 20) + 4096 * (usize::from(std::process::id() as u8) + 1);
    // SAFETY: a new mapping at an address that the kernel chooses touches nothing that exists.
    let dummy = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ, flags, -1, 0)
    };
    assert_ne!(dummy, libc::MAP_FAILED);
    let connection = settings.connection();
    say(format_args!("mapped {}", system::segments().join(";")));
    let seed = settings.number("seed", 1);
    let (count, longest) = (settings.number("count", 0), settings.number("longest", 0));
    both_ways(connection, seed, settings.number("incoming", 0), count, longest);
    say("done");
}
