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

use crate::layout::{TICKET_GONE as GONE, TICKET_NEXT as NEXT, TICKET_WAITING as WAITING};
use crate::sync::{AtomicU64, Ordering, compiler_fence, fence};

/// How the two sides of a doorbell order their store before their load.
#[derive(Clone, Copy, Debug)]
pub enum Barrier {
    /// Nobody sleeps: both sides poll, and no ticket is ever raised.
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
            // [D2] the publication before it is ordered before the ticket load after it; pairs with [D1].
            Self::Fence => fence(Ordering::SeqCst),
            // [D2] the processor fence is executed by [D1] on our behalf; the compiler must not reorder either.
            Self::Asymmetric { .. } | Self::Polling => compiler_fence(),
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

/// The sleeping side's half: how many tickets it has raised.
#[derive(Debug, Default)]
pub(crate) struct Sleeper {
    raised: u64,
}

impl Sleeper {
    /// Raises a new ticket in `word`; the caller looks again before it sleeps.
    pub(crate) fn raise(&mut self, word: &AtomicU64, barrier: Barrier) {
        self.raised = self.raised.wrapping_add(NEXT);
        word.store(self.raised | WAITING, Ordering::Relaxed);
        barrier.heavy();
    }

    /// Withdraws the ticket: nobody sleeps any more.
    pub(crate) fn lower(&self, word: &AtomicU64) {
        word.store(self.raised, Ordering::Relaxed);
    }

    /// Says goodbye. Nothing is done by this side afterwards.
    pub(crate) fn close(&self, word: &AtomicU64) {
        // [D3] what this side did comes before it; pairs with [D4].
        word.store(self.raised | GONE, Ordering::Release);
    }
}

/// What the publishing side's look at a ticket found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// The peer neither sleeps nor has gone.
    Nothing,
    /// The peer must be woken.
    Ring,
    /// The peer has gone politely.
    Gone,
}

/// The publishing side's half: the last ticket it answered.
#[derive(Debug, Default)]
pub(crate) struct Waker {
    answered: u64,
}

impl Waker {
    /// Says what is to be done about what was published just before. A ticket is answered once.
    ///
    /// A hostile ticket costs one wake-up for each value, as an honest one does.
    #[inline(always)]
    pub(crate) fn call(&mut self, word: &AtomicU64, barrier: Barrier) -> Call {
        barrier.light();
        let ticket = word.load(Ordering::Relaxed);
        if ticket & (WAITING | GONE) == 0 { Call::Nothing } else { self.answer(ticket) }
    }

    /// The ticket that the last [`Call::Ring`] answered.
    #[cfg(feature = "std")]
    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }

    /// Takes the last answer back: the peer was not woken yet, and the same ticket asks again after the next publication.
    #[cfg(feature = "std")]
    pub(crate) fn defer(&mut self) {
        // No ticket is 0: one that is raised has a bit of its own.
        self.answered = 0;
    }

    #[cold]
    fn answer(&mut self, ticket: u64) -> Call {
        if ticket & GONE != 0 {
            // [D4] what the peer did before it went comes with the ticket just read; pairs with [D3].
            fence(Ordering::Acquire);
            return Call::Gone;
        }
        if ticket == self.answered {
            return Call::Nothing;
        }
        self.answered = ticket;
        Call::Ring
    }
}

/// Says whether the side that writes `word` has gone politely.
#[inline(always)]
pub(crate) fn is_gone(word: &AtomicU64) -> bool {
    // [D4] what the side did before it went comes with it; pairs with [D3].
    word.load(Ordering::Acquire) & GONE != 0
}

/// Says whether a ticket word shows a side that sleeps (or is about to).
pub(crate) fn is_waiting(ticket: u64) -> bool {
    ticket & WAITING != 0
}
