//! Very large messages: offered to a receiver that has a buffer waiting, through a window that stays in the caches.
//!
//! Promise: a call that returns well has had its message received; any other outcome leaves it to be sent in another way. Refusal:
//! calls that must not wait for the receiver make no offers.

use super::blocks::TRIM_AFTER;
use super::content::Content;
use super::need::{Need, Sending};
use super::{Patience, Sender};
use crate::arena::lender::{Lent, Refused};
use crate::arena::offer::{self, CHUNK, CHUNKS, Order, Taken, Terms, WINDOW};
use crate::arena::progress;
use crate::error::SendError;
use crate::layout::Mark;
use crate::layout::descriptor::{Descriptor, Kind, OFFER_SIZE};
use crate::message::Trust;
use crate::os::bell::Deadline;
use crate::sync::Ordering;
use crate::wait::Waited;
use rustix::fd::BorrowedFd;
use std::time::Duration;

/// From this many bytes on a message is offered: it and the buffers around it leave the caches.
const OFFER_FROM: u64 = 3 << 20;
/// Below this many bytes the end of a message that is in a cache is worth beginning with. Longer ones are about as fast, or slower, so:
/// docs/PERFORMANCE.md, "Lanes".
const BACKWARD_BELOW: u64 = 8 << 20;
/// How long a receiver may let an offer lie: long enough for one that sleeps to be woken.
const PATIENCE: Duration = Duration::from_micros(500);
/// Large messages that are sent otherwise after an offer that was not taken: the first number, and the most.
const FIRST_PAUSE: u32 = 4;
const LONGEST_PAUSE: u32 = 256;

/// When an offer may be made again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offers {
    /// Number of the last offer.
    number: u32,
    /// Large messages until the next offer, and after the next refusal.
    pause: u32,
    next_pause: u32,
}

impl Offers {
    /// Says whether a large message may be offered, and counts it if not.
    fn may(&mut self) -> bool {
        if self.pause > 0 {
            self.pause -= 1;
        }
        self.pause == 0
    }

    fn was_taken(&mut self) {
        self.next_pause = FIRST_PAUSE;
    }

    fn was_declined(&mut self) {
        self.pause = self.next_pause.max(FIRST_PAUSE);
        self.next_pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

impl<T: Trust> Sender<T> {
    /// Says whether a message is to be offered first.
    pub(super) fn may_offer(&mut self, content: &Content<'_>, files: &[BorrowedFd<'_>], patience: Patience) -> bool {
        let waits = matches!(patience, Patience::Endless);
        let large = content.len() >= OFFER_FROM && self.lanes.max_block() >= WINDOW;
        large && waits && files.is_empty() && !self.link.mode.queues_in_socket() && self.lanes.offers.may()
    }

    /// Offers a message and hands it over, if the receiver takes it. False: it did not.
    pub(super) fn offer(&mut self, content: &Content<'_>) -> Result<bool, SendError> {
        let Some(lent) = self.lend_window()? else { return Ok(false) };
        if let Err(error) = self.claim(OFFER_SIZE as usize, Patience::Endless) {
            self.cancel(lent);
            return Err(error);
        }
        let terms = self.publish_offer(lent, content.len());
        let taken = self.hand_over(content, lent, terms);
        match taken {
            Ok(true) => {
                self.producer.count_message();
                self.lanes.offers.was_taken();
            }
            Ok(false) => self.lanes.offers.was_declined(),
            Err(_) => {}
        }
        taken
    }

    /// The window of the last offer if it is free: its receiver gives it back before it says the last word. `None` if there is room for no
    /// window now: the message can go without, and the receiver that holds the room may wait for it.
    fn lend_window(&mut self) -> Result<Option<Lent>, SendError> {
        // Now and then in the usual way, which looks for regions that lie idle.
        if self.lanes.lent < TRIM_AFTER
            && let Some(lender) = &mut self.lanes.lender
        {
            match lender.lend_again(WINDOW) {
                Ok(Some(lent)) => {
                    self.lanes.lent += 1;
                    return Ok(Some(lent));
                }
                Err(Refused::Violation(violation)) => return Err(self.link.condemn(violation).into()),
                Ok(None) | Err(_) => {}
            }
        }
        let readers = self.lanes.open_kind();
        match self.lend(WINDOW, readers, Patience::None, &mut None) {
            Ok(lent) => Ok(Some(lent)),
            Err(SendError::WouldBlock { .. } | SendError::Memory { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Which end of a message this process's caches hold more likely: the one that was written last, so the end, unless it is a message
    /// that came from its end on and is answered in its own memory.
    fn order(&self, len: u64) -> Order {
        // Relaxed: a hint of our own receiver, for one answer.
        let answers = self.link.received_backward.swap(false, Ordering::Relaxed);
        if len < BACKWARD_BELOW && !answers { Order::Backward } else { Order::Forward }
    }

    fn publish_offer(&mut self, lent: Lent, len: u64) -> Terms {
        let number = self.lanes.offers.number.wrapping_add(1);
        self.lanes.offers.number = number;
        let mut descriptor = Descriptor::new(Kind::Offer, len);
        descriptor.place = lent.place;
        if let Some(lender) = self.lanes.lender_mut() {
            // Ordered before the record that tells of it.
            lender.progress(lent.place).store(0, Ordering::Relaxed);
            lender.sent(lent.place);
        }
        let terms = Terms { number, order: self.order(len) };
        let mut record = self.producer.reservation(OFFER_SIZE as usize);
        let [first, second] = descriptor.encode();
        record.write_words([first, second, terms.encode()]);
        let wake = record.publish_as(Mark::Described, 0).1;
        self.wake(wake);
        terms
    }

    /// Writes the chunks, at most a window ahead of the receiver, and waits until it has read the last. From the record on the
    /// block is the receiver's to give back, whatever happens.
    fn hand_over(&mut self, content: &Content<'_>, lent: Lent, terms: Terms) -> Result<bool, SendError> {
        let Terms { number, order } = terms;
        let chunks = offer::chunks(content.len());
        let mut known = Taken::Nothing;
        for chunk in 0..=chunks {
            // Behind the last chunk: until everything is read.
            let needed = if chunk == chunks { chunks } else { (chunk + 1).saturating_sub(CHUNKS) };
            loop {
                let read = match known {
                    Taken::Chunks(read) => read,
                    Taken::Nothing if chunk < CHUNKS => 0,
                    Taken::Nothing | Taken::Declined => u64::MAX,
                };
                if known == Taken::Declined {
                    return Ok(false);
                }
                if read != u64::MAX && read >= needed {
                    break;
                }
                let before = known;
                let word;
                (word, known) = self.look_at_offer(lent, number, known, chunks)?;
                if known == before && !self.wait_for_taker(lent, word, known)? {
                    return Ok(false);
                }
            }
            if chunk < chunks {
                let bytes = order.bytes(chunk, content.len());
                // SAFETY: inside the window; the receiver has read what this chunk writes over.
                unsafe { content.copy_range(bytes, lent.start.as_ptr().add((chunk % CHUNKS * CHUNK) as usize)) };
                if let Some(lender) = self.lanes.lender() {
                    let written = ((chunk + 1) * CHUNK).min(content.len());
                    progress::publish(lender.progress(lent.place), written);
                }
                let wake = self.producer.call_consumer();
                self.wake(wake);
            }
        }
        Ok(true)
    }

    /// The receiver's word about an offer, and what it says.
    fn look_at_offer(&mut self, lent: Lent, number: u32, known: Taken, chunks: u64) -> Result<(u64, Taken), SendError> {
        let Some(lender) = self.lanes.lender() else { return Ok((0, Taken::Declined)) };
        let read = if let Taken::Chunks(read) = known { read } else { 0 };
        let word = offer::look(lender.taken(lent.place));
        match offer::taken(word, number, read, chunks) {
            Ok(taken) => Ok((word, taken)),
            Err(violation) => Err(self.link.condemn(violation).into()),
        }
    }

    /// Waits until the receiver says another word than this one, which says what is `known`. False: it has not looked at the offer for
    /// too long, and it is withdrawn.
    fn wait_for_taker(&mut self, lent: Lent, word: u64, known: Taken) -> Result<bool, SendError> {
        let deadline = match known {
            Taken::Nothing => Deadline::after(PATIENCE),
            _ => Deadline::never(),
        };
        let Self { producer, lanes, link, waiter, .. } = self;
        let mut half = Sending { producer, lanes, link, need: Need::Offer(lent.place, word) };
        match waiter.wait(&mut half, &link.space, || deadline)? {
            Waited::Ready => Ok(true),
            Waited::TimedOut => {
                if let Some(lender) = self.lanes.lender() {
                    offer::withdraw(lender.progress(lent.place));
                }
                let wake = self.producer.call_consumer();
                self.wake(wake);
                Ok(false)
            }
            Waited::PeerGone => {
                self.producer.mark_gone();
                Err(self.disconnected())
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::calibration::pair;
    use crate::terms::Mode;

    /// The sender read the word again before it waited: what the receiver had said in between was then what it waited to see change, and
    /// both sides slept. Here the receiver says so between look and wait each time.
    #[test]
    fn a_word_that_comes_between_look_and_wait_ends_the_wait() {
        let (mut near, _far) = pair(Mode::Auto).expect("a pair");
        let sender = near.sender();
        let (chunks, mut made) = (48, None);
        let readers = sender.lanes.open_kind();
        let lent = sender.lend(WINDOW, readers, Patience::Endless, &mut made).expect("a window");
        sender.claim(OFFER_SIZE as usize, Patience::Endless).expect("room");
        let Terms { number, .. } = sender.publish_offer(lent, chunks * CHUNK);
        let mut known = Taken::Nothing;
        for said in [Taken::Chunks(0), Taken::Chunks(1), Taken::Chunks(chunks)] {
            let (word, still) = sender.look_at_offer(lent, number, known, chunks).expect("honest words");
            assert_eq!(still, known);
            let Taken::Chunks(read) = said else { unreachable!("of these words") };
            offer::take(sender.lanes.lender().expect("an arena").taken(lent.place), number, read);
            assert!(sender.wait_for_taker(lent, word, known).expect("a peer"), "the word {said:?} is the news");
            known = sender.look_at_offer(lent, number, known, chunks).expect("honest words").1;
            assert_eq!(known, said);
        }
    }

    /// From the end on, unless it is long, or answers one that came so; what follows the answer does not.
    #[test]
    fn an_offer_begins_where_the_message_is_in_the_caches() {
        let (mut near, _far) = pair(Mode::Auto).expect("a pair");
        let sender = near.sender();
        let orders = |sender: &Sender| [BACKWARD_BELOW - 1, BACKWARD_BELOW, OFFER_FROM].map(|len| sender.order(len));
        assert_eq!(orders(sender), [Order::Backward, Order::Forward, Order::Backward]);
        sender.link.received_backward.store(true, Ordering::Relaxed);
        assert_eq!(orders(sender), [Order::Forward, Order::Forward, Order::Backward]);
    }

    /// Each offer went through another window, which was in no cache: the receiver gave it back only after the word on which the sender goes on.
    #[test]
    fn offers_go_through_one_window() {
        let (mut near, mut far) = pair(Mode::Auto).expect("a pair");
        let len = OFFER_FROM as usize;
        let receiving = std::thread::spawn(move || {
            let mut buffer = std::vec![0; len];
            while far.recv_into(&mut buffer).is_ok_and(|received| received == len) {}
        });
        let sender = near.sender();
        let message = std::vec![7; len];
        let mut windows = std::vec::Vec::new();
        while windows.len() < 4 {
            sender.send(&message).expect("sent");
            // A receiver that was not there in time got it otherwise.
            if sender.lanes.offers.pause == 0 {
                let lent = sender.lend_window().expect("an arena").expect("room");
                windows.push(lent.place.block());
                sender.cancel(lent);
            }
        }
        // A sender that makes nothing but offers looks for idle regions too.
        sender.lanes.lent = TRIM_AFTER;
        let lent = sender.lend_window().expect("an arena").expect("room");
        sender.cancel(lent);
        assert!(sender.lanes.lent < TRIM_AFTER);
        drop(near);
        receiving.join().expect("it ends");
        assert!(windows.iter().all(|window| *window == windows[0]), "{windows:?}");
    }
}
