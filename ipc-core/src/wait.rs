//! Waiting: poll for a bounded, self-adjusting time, then sleep without using the processor.
//!
//! Promise: no wake-up is lost, a peer's death ends the wait, and an idle wait costs nothing after the first
//! microseconds. Refusal: nothing is read or reserved here; the caller looks again afterwards.

use crate::os::bell::{Bell, Deadline, Slept};
use crate::os::processor;
use crate::sync::spin_hint;
use std::io;
use std::time::{Duration, Instant};

/// How a blocking call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Poll for up to this long, less where polling has not paid off lately, then sleep. The default, with 50 µs: about
    /// what waking another core costs, so that waiting never costs more than twice the better choice.
    Adaptive(Duration),
    /// Sleep at once.
    Sleep,
    /// Poll without end: lowest latency, one core fully used.
    Busy,
}

impl Default for WaitStrategy {
    fn default() -> Self {
        Self::Adaptive(Duration::from_micros(50))
    }
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// There is something to do.
    Ready,
    /// The deadline has passed.
    TimedOut,
    /// The peer has gone, and left nothing to do.
    PeerGone,
}

/// Half of a ring, as seen by a wait.
pub(crate) trait Half {
    /// Says whether there is something to do.
    fn is_ready(&mut self) -> bool;
    fn is_peer_closed(&self) -> bool;
    /// Called once a wait, when the first look found nothing.
    fn on_empty(&mut self);
    /// Raises the ticket.
    fn raise(&mut self);
    fn lower(&mut self);
    /// Sleeps on `bell`, until there may be something to do, or the deadline passes.
    fn sleep(&self, bell: &Bell, deadline: Deadline) -> io::Result<Slept> {
        bell.sleep(deadline)
    }
    fn exchange_processor(&self, own: u32) -> Option<u32>;
}

/// Polls before the clock is read for the first time: about as long as reading it takes.
const FREE_POLLS: u32 = 64;
/// Polls between two looks at the clock.
const POLLS_A_LOOK: u32 = 32;
/// Time between two looks whether the peer still lives, while polling for long.
const LIVENESS: Duration = Duration::from_millis(2);
/// The budget never falls below this, so that a change for the better is noticed.
const LEAST_BUDGET: Duration = Duration::from_micros(1);

/// The waits of one half, and what it has learnt from them.
#[derive(Debug)]
pub(crate) struct Waiter {
    strategy: WaitStrategy,
    /// How long the next wait may poll.
    budget: Duration,
    sleeps: u64,
}

impl Waiter {
    pub(crate) fn new(strategy: WaitStrategy) -> Self {
        let budget = match strategy {
            WaitStrategy::Adaptive(most) => most,
            WaitStrategy::Sleep | WaitStrategy::Busy => Duration::ZERO,
        };
        Self { strategy, budget, sleeps: 0 }
    }

    /// Times that this half went to sleep.
    pub(crate) fn sleeps(&self) -> u64 {
        self.sleeps
    }

    /// Waits until `half` is ready. The deadline is made only when the wait outlasts the first polls.
    #[inline]
    pub(crate) fn wait(
        &mut self,
        half: &mut impl Half,
        bell: &Bell,
        deadline: impl FnOnce() -> Deadline,
    ) -> io::Result<Waited> {
        half.on_empty();
        if !matches!(self.strategy, WaitStrategy::Sleep) && !processor::is_single() {
            for _ in 0..FREE_POLLS {
                if half.is_ready() {
                    return Ok(Waited::Ready);
                }
                spin_hint();
            }
        }
        self.wait_long(half, bell, deadline())
    }

    #[cold]
    fn wait_long(&mut self, half: &mut impl Half, bell: &Bell, deadline: Deadline) -> io::Result<Waited> {
        let start = Instant::now();
        if let Some(waited) = self.poll(half, bell, start, deadline) {
            return Ok(waited);
        }
        let waited = self.sleep(half, bell, deadline)?;
        self.learn(start.elapsed());
        Ok(waited)
    }

    /// Polls as long as the strategy allows; `None` when it is time to sleep.
    fn poll(&self, half: &mut impl Half, bell: &Bell, start: Instant, deadline: Deadline) -> Option<Waited> {
        let busy = self.strategy == WaitStrategy::Busy;
        if processor::is_single() || (self.budget.is_zero() && !busy) {
            return None;
        }
        let own = processor::current();
        // While this thread polls on the processor that the peer waits for, the peer cannot answer.
        let shares_processor = half.exchange_processor(own) == Some(own);
        if shares_processor && !busy {
            return None;
        }
        let mut asked = start;
        loop {
            for _ in 0..POLLS_A_LOOK {
                if half.is_ready() {
                    return Some(Waited::Ready);
                }
                spin_hint();
            }
            let now = Instant::now();
            if !busy && now - start >= self.budget {
                return None;
            }
            if half.is_peer_closed() || now - asked >= LIVENESS {
                asked = now;
                if half.is_peer_closed() || bell.is_peer_gone() {
                    return Some(if half.is_ready() { Waited::Ready } else { Waited::PeerGone });
                }
            }
            if deadline.is_over() {
                return Some(Waited::TimedOut);
            }
        }
    }

    fn sleep(&mut self, half: &mut impl Half, bell: &Bell, deadline: Deadline) -> io::Result<Waited> {
        loop {
            half.raise();
            if half.is_ready() {
                half.lower();
                return Ok(Waited::Ready);
            }
            self.sleeps += 1;
            let slept = if half.is_peer_closed() { Ok(Slept::PeerGone) } else { half.sleep(bell, deadline) };
            half.lower();
            // What the peer published before it went, or the deadline passed, comes first.
            let waited = match slept? {
                _ if half.is_ready() => Waited::Ready,
                // Asked here too: a peer that rings without end must not keep us beyond the deadline.
                Slept::Woken if deadline.is_over() => Waited::TimedOut,
                Slept::Woken => continue,
                Slept::TimedOut => Waited::TimedOut,
                Slept::PeerGone => Waited::PeerGone,
            };
            return Ok(waited);
        }
    }

    /// Sleeping was right if the wait was long; if it was about as short as waking takes, polling would have been better.
    fn learn(&mut self, waited: Duration) {
        if let WaitStrategy::Adaptive(most) = self.strategy {
            self.budget =
                if waited <= most.saturating_mul(2) { most } else { (self.budget / 2).max(LEAST_BUDGET.min(most)) };
        }
    }
}
