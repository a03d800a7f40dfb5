//! The way back of blocks: the receiver writes their numbers into a ring of words, the sender takes them out.
//!
//! Promise: a number that was given is taken once, and everything the receiver did with the block before lies before it. Any thread of
//! the receiver gives, without a lock. Refusal: the numbers are not judged; only the lender knows which blocks are out.

use crate::sync::{AtomicU64, Ordering};

/// The stamp of the lap in which a position lies, where it stands in a word. A memory of zeroes holds no valid word.
#[inline(always)]
fn stamp(position: u64, slots: usize) -> u64 {
    (position / slots as u64).wrapping_add(1) << 32
}

/// The receiver's side, shared by its threads.
#[derive(Debug, Default)]
pub(crate) struct Giver {
    /// Blocks given so far: each thread takes the next slot. Not in shared memory.
    position: AtomicU64,
}

impl Giver {
    /// Gives block `number` back, from any thread. There are as many slots as blocks, so there is always room.
    #[inline]
    pub(crate) fn give(&self, slots: &[AtomicU64], number: u32) {
        // Relaxed: it only keeps threads apart. Slots may be filled out of turn; the taker waits for the first. A thread cannot die
        // between the two steps without its process, and then the taker gets everything back anyway.
        let position = self.position.fetch_add(1, Ordering::Relaxed);
        Self::fill(slots, position, number);
    }

    /// As [`Giver::give`], for a time in which no other thread gives.
    #[inline(always)]
    pub(crate) fn give_alone(&self, slots: &[AtomicU64], number: u32) {
        // Relaxed: a thread that gives later was handed what it gives by this one, after this.
        let position = self.position.load(Ordering::Relaxed);
        self.position.store(position.wrapping_add(1), Ordering::Relaxed);
        Self::fill(slots, position, number);
    }

    /// The slot that is filled next, if no other thread fills it.
    #[inline(always)]
    pub(crate) fn next_slot<'s>(&self, slots: &'s [AtomicU64]) -> &'s AtomicU64 {
        &slots[self.position.load(Ordering::Relaxed) as usize % slots.len()]
    }

    #[inline(always)]
    fn fill(slots: &[AtomicU64], position: u64, number: u32) {
        let slot = &slots[position as usize % slots.len()];
        // [B1] reading the block is finished; pairs with [B2].
        slot.store(stamp(position, slots.len()) | u64::from(number), Ordering::Release);
    }
}

/// The sender's side.
#[derive(Debug, Default)]
pub(crate) struct Taker {
    position: u64,
}

impl Taker {
    /// The next block that came back, if one did. A hostile receiver can make it any number.
    #[inline]
    pub(crate) fn take(&mut self, slots: &[AtomicU64]) -> Option<u32> {
        // [B2] the receiver has finished with the block; pairs with [B1].
        let word = slots[self.position as usize % slots.len()].load(Ordering::Acquire);
        if (word ^ stamp(self.position, slots.len())) >> 32 != 0 {
            return None;
        }
        self.position += 1;
        Some(word as u32)
    }

    /// Says whether a block has come back. Cheap enough to poll.
    #[inline]
    pub(crate) fn is_ready(&self, slots: &[AtomicU64]) -> bool {
        // A hint: what counts is the acquiring load in `take`.
        let word = slots[self.position as usize % slots.len()].load(Ordering::Relaxed);
        (word ^ stamp(self.position, slots.len())) >> 32 == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_once_and_in_the_order_in_which_they_were_given() {
        let slots: [AtomicU64; 4] = Default::default();
        let (giver, mut taker) = (Giver::default(), Taker::default());
        for round in 0..10_u32 {
            assert_eq!(taker.take(&slots), None);
            for number in 0..=round % 4 {
                giver.give(&slots, number * 7);
            }
            for number in 0..=round % 4 {
                assert!(taker.is_ready(&slots));
                assert_eq!(taker.take(&slots), Some(number * 7));
            }
        }
        assert!(!taker.is_ready(&slots));
    }

    #[test]
    fn numbers_given_alone_and_with_others_lie_behind_each_other() {
        let slots: [AtomicU64; 4] = Default::default();
        let (giver, mut taker) = (Giver::default(), Taker::default());
        for number in 0..16 {
            let next: *const AtomicU64 = giver.next_slot(&slots);
            let before = giver.next_slot(&slots).load(Ordering::Relaxed);
            if number % 3 == 0 {
                giver.give(&slots, number)
            } else {
                giver.give_alone(&slots, number)
            }
            assert!(core::ptr::eq(next, &slots[number as usize % 4]));
            assert_ne!(slots[number as usize % 4].load(Ordering::Relaxed), before);
            assert_eq!(taker.take(&slots), Some(number));
        }
    }

    #[test]
    fn the_end_of_all_stamps_is_survived() {
        let slots: [AtomicU64; 4] = Default::default();
        let late = (u64::from(u32::MAX) - 1) * 4;
        let (giver, mut taker) = (Giver { position: AtomicU64::new(late) }, Taker { position: late });
        for number in 0..16 {
            giver.give(&slots, number);
            assert_eq!(taker.take(&slots), Some(number));
            assert_eq!(taker.take(&slots), None);
        }
    }
}
