//! Putting rings off, under every order that the memory model allows, found by loom.
//!
//! One word stands for what is published, and a flag behind a lock for the kernel's timer, whose calls exclude each other. A timer that is
//! set is taken to fire some time later; so a sleeper is lost if it sleeps with a message unseen, no ring and no timer set.

use super::{Deferred, Step};
use crate::doorbell::{Barrier, Call, Sleeper, Waker};
use crate::sync::{AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

const MESSAGES: u64 = 2;

struct Shared {
    published: AtomicU64,
    consumed: AtomicU64,
    ticket: AtomicU64,
    rings: AtomicU64,
    timer: Mutex<bool>,
}

impl Shared {
    /// What wakes a sleeper takes note of: one ring, and the timer.
    fn hear(&self) {
        self.rings.store(0, Ordering::Relaxed);
    }

    fn set_timer(&self, set: bool) {
        *self.timer.lock().expect("no panic") = set;
    }
}

fn publish(shared: &Shared, limit: u64) {
    let (mut waker, mut deferred) = (Waker::default(), Deferred::default());
    for number in 1..=MESSAGES {
        shared.published.store(number, Ordering::Release);
        if waker.call(&shared.ticket, Barrier::Fence) != Call::Ring {
            continue;
        }
        let waiting = number.saturating_sub(shared.consumed.load(Ordering::Relaxed));
        match deferred.step(limit, waker.answered(), waiting) {
            Step::Ring => {
                shared.rings.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Step::Set => shared.set_timer(true),
            Step::Wait => {}
        }
        waker.defer();
    }
}

/// A receiver sleeps, wakes by itself at a deadline, takes what is there and sleeps again. Says whether it wakes then, or has seen
/// everything. `clears_late`: it clears the timer after it has raised the next ticket.
fn wakes(limit: u64, clears_late: bool) -> bool {
    let shared = Arc::new(Shared {
        published: AtomicU64::new(0),
        consumed: AtomicU64::new(0),
        ticket: AtomicU64::new(0),
        rings: AtomicU64::new(0),
        timer: Mutex::new(false),
    });
    let publisher = shared.clone();
    let publishing = thread::spawn(move || publish(&publisher, limit));
    let mut sleeper = Sleeper::default();
    sleeper.raise(&shared.ticket, Barrier::Fence);
    shared.hear();
    if !clears_late {
        shared.set_timer(false);
    }
    sleeper.lower(&shared.ticket);
    let seen = shared.published.load(Ordering::Acquire);
    shared.consumed.store(seen, Ordering::Relaxed);
    sleeper.raise(&shared.ticket, Barrier::Fence);
    let seen = shared.published.load(Ordering::Acquire).max(seen);
    if clears_late {
        shared.set_timer(false);
    }
    publishing.join().expect("the publisher ends");
    let timer = *shared.timer.lock().expect("no panic");
    seen == MESSAGES || shared.rings.load(Ordering::Relaxed) > 0 || timer
}

fn explore(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(body);
}

#[test]
fn a_ring_that_is_put_off_is_not_lost_when_the_sleeper_wakes_by_itself() {
    explore(|| assert!(wakes(3, false)));
}

#[test]
fn a_ring_after_some_messages_is_not_lost_when_the_sleeper_wakes_by_itself() {
    explore(|| assert!(wakes(2, false)));
}

/// Keeps the models above honest: the order of clearing and raising is what they depend on.
#[test]
#[should_panic(expected = "lost")]
fn a_timer_that_is_cleared_after_the_next_ticket_is_raised_loses_a_wake_up() {
    explore(|| assert!(wakes(3, true), "lost"));
}
