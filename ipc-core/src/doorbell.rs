//! Who must be woken: a ticket that one side raises before it sleeps and the other side answers once.
//!
//! Promise: a side that raised its ticket, found nothing to do and went to sleep is told of everything that
//! is published afterwards, exactly once a ticket. Refusal: this file neither sleeps nor wakes; it only says when to.
//!
//! # Protocol
//!
//! | sleeping side | publishing side |
//! |---|---|
//! | raise the ticket | publish |
//! | **heavy barrier** \[D1\] | **light barrier** \[D2\] |
//! | look again; sleep if there is still nothing | read the ticket; ring if it is raised and unanswered |
//!
//! Both sides store, then load what the other stored (Dekker's pattern). Without a barrier between the two, each may read the old
//! value: the sleeper misses the message, the publisher misses the ticket, and the message waits forever. \[D1\]
//! and \[D2\] are either two full fences, or `membarrier(2)` at \[D1\], which makes every running thread of
//! registered processes execute a full fence, and then nothing but a compiler barrier at \[D2\].

use crate::sync::{AtomicU64, Ordering, compiler_fence, fence};

/// How the two sides of a doorbell order their store before their load.
#[derive(Clone, Copy, Debug)]
pub enum Barrier {
    /// Nobody sleeps, nobody is woken: both sides poll, and tickets are never looked at.
    Polling,
    /// A full fence on both sides.
    Fence,
    /// The sleeping side makes the other execute a full fence, so that publishing pays none.
    Asymmetric {
        /// Returns after every running thread of the peer has executed a full memory barrier
        /// (`membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED)` on Linux).
        heavy: fn(),
    },
}

impl Barrier {
    #[inline(always)]
    fn light(self) {
        match self {
            Self::Polling => {}
            // [D2] the publication before it is ordered before the ticket load after it; pairs with [D1].
            Self::Fence => fence(Ordering::SeqCst),
            // [D2] the processor fence is executed by [D1] on our behalf; the compiler must not reorder either.
            Self::Asymmetric { .. } => compiler_fence(),
        }
    }

    fn heavy(self) {
        match self {
            Self::Polling => {}
            // [D1] the raised ticket before it is ordered before the second look after it; pairs with [D2].
            Self::Fence => fence(Ordering::SeqCst),
            // [D1] as above, and a full fence inside the peer between its publication and its ticket load, if
            // it is between the two right now.
            Self::Asymmetric { heavy } => {
                fence(Ordering::SeqCst);
                heavy();
                fence(Ordering::SeqCst);
            }
        }
    }
}

const WAITING: u64 = 1;

/// The sleeping side's half: how many tickets it has raised.
#[derive(Debug, Default)]
pub(crate) struct Sleeper {
    raised: u64,
}

impl Sleeper {
    /// Raises a new ticket in `word`; the caller looks again before it sleeps.
    pub(crate) fn raise(&mut self, word: &AtomicU64, barrier: Barrier) {
        self.raised += 2;
        word.store(self.raised | WAITING, Ordering::Relaxed);
        barrier.heavy();
    }

    /// Withdraws the ticket: nobody sleeps any more.
    pub(crate) fn lower(&self, word: &AtomicU64) {
        word.store(self.raised, Ordering::Relaxed);
    }
}

/// The publishing side's half: the last ticket it answered.
#[derive(Debug, Default)]
pub(crate) struct Waker {
    answered: u64,
}

impl Waker {
    /// Says whether the peer must be woken for what was published just before; at most once a ticket.
    ///
    /// A hostile ticket costs one wake-up for each value, as an honest one does.
    #[inline(always)]
    pub(crate) fn due(&mut self, word: &AtomicU64, barrier: Barrier) -> bool {
        if matches!(barrier, Barrier::Polling) {
            return false;
        }
        barrier.light();
        let ticket = word.load(Ordering::Relaxed);
        if ticket & WAITING == 0 || ticket == self.answered {
            return false;
        }
        self.answered = ticket;
        true
    }
}

/// Says whether a ticket word shows a side that sleeps (or is about to).
pub(crate) fn is_waiting(ticket: u64) -> bool {
    ticket & WAITING != 0
}
