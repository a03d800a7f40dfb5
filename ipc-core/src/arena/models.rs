//! The way back of blocks, a copy that is followed, and an offer, under every order that the memory model allows.
//!
//! A block's bytes are a loom cell, which panics when one side touches it while the other may.

use super::offer::{self, Taken};
use super::progress;
use super::returns::{Giver, Taker};
use crate::doorbell::{Barrier, Call, Sleeper, Waker};
use crate::sync::{AtomicU64, Ordering};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::vec::Vec;

/// Two slots, two blocks, and the word of a sender that waits.
struct Shared {
    slots: Vec<AtomicU64>,
    blocks: Vec<UnsafeCell<u64>>,
    /// What was published: the number of a block plus one.
    published: AtomicU64,
    ticket: AtomicU64,
    progress: AtomicU64,
    taken: AtomicU64,
}

// SAFETY: the cells are watched by loom, which fails where this would be wrong.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    fn new() -> Arc<Self> {
        let word = || AtomicU64::new(0);
        Arc::new(Self {
            slots: (0..2).map(|_| word()).collect(),
            blocks: (0..2).map(|_| UnsafeCell::new(0)).collect(),
            published: word(),
            ticket: word(),
            progress: word(),
            taken: word(),
        })
    }

    fn write(&self, block: usize, value: u64) {
        // SAFETY: loom fails if anybody else may touch the cell now.
        self.blocks[block].with_mut(|cell| unsafe { *cell = value });
    }

    fn read(&self, block: usize) -> u64 {
        // SAFETY: loom fails if anybody may write the cell now.
        self.blocks[block].with(|cell| unsafe { *cell })
    }
}

fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(model);
}

#[test]
fn a_block_that_came_back_is_written_only_after_the_receiver_has_read_it() {
    explore(|| {
        let shared = Shared::new();
        shared.write(0, 7);
        shared.write(1, 8);
        let receiver = shared.clone();
        let reading = thread::spawn(move || {
            let giver = Giver::default();
            // Out of order.
            for block in [1, 0] {
                assert_eq!(receiver.read(block), 7 + block as u64);
                giver.give(&receiver.slots, block as u32);
            }
        });
        let mut taker = Taker::default();
        for _ in 0..2 {
            if let Some(block) = taker.take(&shared.slots) {
                shared.write(block as usize, 9);
            }
        }
        reading.join().expect("the receiver ends");
        let back = core::iter::from_fn(|| taker.take(&shared.slots)).count();
        assert!(back <= 2);
    });
}

#[test]
fn a_block_goes_round_more_often_than_there_are_slots() {
    explore(|| {
        let shared = Shared::new();
        let receiver = shared.clone();
        let reading = thread::spawn(move || {
            let giver = Giver::default();
            for round in 1..=3 {
                while receiver.published.load(Ordering::Acquire) != round {
                    thread::yield_now();
                }
                assert_eq!(receiver.read(0), round);
                giver.give(&receiver.slots, 0);
            }
        });
        let mut taker = Taker::default();
        for round in 1..=3 {
            shared.write(0, round);
            shared.published.store(round, Ordering::Release);
            while taker.take(&shared.slots).is_none() {
                thread::yield_now();
            }
        }
        reading.join().expect("the receiver ends");
        assert!(!taker.is_ready(&shared.slots));
    });
}

#[test]
fn a_reader_that_follows_a_copy_reads_only_what_is_written() {
    explore(|| {
        let shared = Shared::new();
        let sender = shared.clone();
        let copying = thread::spawn(move || {
            for piece in 0..2 {
                sender.write(piece, 5);
                progress::publish(&sender.progress, piece as u64 + 1);
            }
        });
        let mut known = 0;
        while known < 2 {
            let grown = progress::read(&shared.progress, known, 2).expect("an honest sender");
            for piece in known..grown {
                assert_eq!(shared.read(piece as usize), 5);
            }
            if grown == known {
                thread::yield_now();
            }
            known = grown;
        }
        copying.join().expect("the sender ends");
    });
}

/// The sender sleeps until a block comes back; the same protocol as for messages, on a word of its own.
#[test]
fn a_sender_that_waits_for_a_block_is_woken_by_it() {
    explore(|| {
        let shared = Shared::new();
        let receiver = shared.clone();
        let giving = thread::spawn(move || {
            Giver::default().give(&receiver.slots, 0);
            Waker::default().call(&receiver.ticket, Barrier::Fence) == Call::Ring
        });
        let mut sleeper = Sleeper::default();
        sleeper.raise(&shared.ticket, Barrier::Fence);
        let seen = Taker::default().is_ready(&shared.slots);
        let rung = giving.join().expect("the receiver ends");
        assert!(seen || rung);
    });
}

#[test]
fn two_threads_of_a_receiver_give_back_at_once() {
    explore(|| {
        let shared = Shared::new();
        let giver = Arc::new(Giver::default());
        let other = (shared.clone(), giver.clone());
        let giving = thread::spawn(move || {
            let (shared, giver) = other;
            shared.read(1);
            giver.give(&shared.slots, 1);
        });
        let taking = {
            let shared = shared.clone();
            thread::spawn(move || {
                let mut taker = Taker::default();
                let mut taken = Vec::new();
                while taken.len() < 2 {
                    match taker.take(&shared.slots) {
                        Some(block) => {
                            shared.write(block as usize, 1);
                            taken.push(block);
                        }
                        None => thread::yield_now(),
                    }
                }
                taken.sort_unstable();
                taken
            })
        };
        shared.read(0);
        giver.give(&shared.slots, 0);
        giving.join().expect("the other thread ends");
        assert_eq!(taking.join().expect("the sender ends"), [0, 1]);
    });
}

/// A receiver that has handed nothing to other threads gives without their leave; what it hands over is given back after that.
#[test]
fn a_receiver_gives_back_alone_until_it_hands_a_block_to_another_thread() {
    explore(|| {
        let shared = Shared::new();
        let giver = Arc::new(Giver::default());
        let taking = {
            let shared = shared.clone();
            thread::spawn(move || {
                let mut taker = Taker::default();
                let mut taken = Vec::new();
                while taken.len() < 2 {
                    match taker.take(&shared.slots) {
                        Some(block) => {
                            shared.write(block as usize, 1);
                            taken.push(block);
                        }
                        None => thread::yield_now(),
                    }
                }
                taken
            })
        };
        shared.read(1);
        giver.give_alone(&shared.slots, 1);
        let other = (shared.clone(), giver.clone());
        let giving = thread::spawn(move || {
            let (shared, giver) = other;
            shared.read(0);
            giver.give(&shared.slots, 0);
        });
        giving.join().expect("the other thread ends");
        assert_eq!(taking.join().expect("the sender ends"), [1, 0]);
    });
}

/// A message of two chunks through a window of one, to a receiver that accepts at any time, or declines after the first chunk.
fn an_offer(declines: bool) -> (bool, bool) {
    let shared = Shared::new();
    let receiver = shared.clone();
    let taking = thread::spawn(move || {
        offer::take(&receiver.taken, 1, 0);
        let (mut done, mut known) = (0, 0);
        loop {
            let Some(written) = offer::written(&receiver.progress, known, 2).expect("an honest sender") else {
                return false;
            };
            while done < written {
                assert_eq!(receiver.read(0), 10 + done);
                done += 1;
                if declines {
                    offer::decline(&receiver.taken, 1);
                    return false;
                }
                offer::take(&receiver.taken, 1, done);
            }
            if done == 2 {
                return true;
            }
            known = written;
            thread::yield_now();
        }
    });
    let mut read = 0;
    let mut sent = true;
    'message: for chunk in 0..=2 {
        // The window holds one chunk; behind the last everything must be read.
        while read < chunk {
            match offer::taken(offer::look(&shared.taken), 1, read, 2).expect("an honest receiver") {
                Taken::Nothing => {
                    offer::withdraw(&shared.progress);
                    sent = false;
                    break 'message;
                }
                Taken::Declined => {
                    sent = false;
                    break 'message;
                }
                Taken::Chunks(chunks) => {
                    if chunks == read {
                        thread::yield_now();
                    }
                    read = chunks;
                }
            }
        }
        if chunk < 2 {
            shared.write(0, 10 + chunk);
            progress::publish(&shared.progress, chunk + 1);
        }
    }
    (sent, taking.join().expect("the receiver ends"))
}

#[test]
fn an_offer_is_received_if_and_only_if_its_sender_says_so() {
    explore(|| {
        let (sent, received) = an_offer(false);
        assert_eq!(sent, received);
    });
}

#[test]
fn an_offer_that_is_declined_is_not_received() {
    explore(|| assert_eq!(an_offer(true), (false, false)));
}
