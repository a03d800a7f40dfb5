//! Very large messages that the sender offers through a window: taken into a buffer that waits, declined otherwise.
//!
//! Promise: a message is received here, or sent again in another way, and never both. Refusal: the words are read in
//! [`crate::arena::offer`].

use super::Receiver;
use super::incoming::Growing;
use crate::arena::offer::{self, CHUNK, CHUNKS, Order, Terms, WINDOW};
use crate::error::RecvError;
use crate::layout::descriptor::{Descriptor, Kind};
use crate::link::Link;
use crate::message::{Hold, Trust};
use crate::os::bell::Deadline;
use crate::ring::Payload;
use crate::sync::Ordering;

impl<T: Trust> Receiver<T> {
    /// What an offer says of itself, which is checked.
    fn terms(&mut self, record: &Payload, descriptor: &Descriptor) -> Result<Terms, RecvError> {
        let terms = Terms::decode(record.third_word().unwrap_or(u64::MAX));
        let checked = self.check_kind(descriptor.kind).and(terms);
        let checked = checked.and_then(|terms| self.check_message(record, descriptor).map(|()| terms));
        checked.map_err(|violation| self.condemn(violation))
    }

    /// An offer that nobody waits for with a buffer: the sender sends the message otherwise.
    pub(super) fn decline(&mut self, record: &Payload, descriptor: &Descriptor) -> Result<(), RecvError> {
        let terms = self.terms(record, descriptor)?;
        self.end_offer(descriptor, Some(terms.number));
        Ok(())
    }

    /// Gives the window back; declines the offer if it is not over. The record stands for no message.
    pub(super) fn end_offer(&mut self, descriptor: &Descriptor, decline: Option<u32>) {
        self.incoming.growing_is_over();
        self.release(0);
        if let (Some(way_back), Some(number)) = (&self.incoming.way_back, decline) {
            offer::decline(way_back.taken(descriptor.place.block()), number);
        }
        self.give_back_one(Hold::Block(descriptor.place));
    }

    /// Takes an offer into `target`, which has the length of the message. False: it was withdrawn.
    pub(super) fn take_offer(
        &mut self,
        descriptor: &Descriptor,
        terms: Terms,
        target: &mut [u8],
        deadline: &impl Fn() -> Deadline,
        made: &mut Option<Deadline>,
    ) -> Result<bool, RecvError> {
        let found = self.incoming.borrower.find(descriptor.place, WINDOW);
        let window = found.map_err(|violation| self.condemn(violation))?;
        let Some(way_back) = self.incoming.way_back.clone() else { return Ok(false) };
        let (block, Terms { number, order }) = (descriptor.place.block(), terms);
        let (chunks, mut done, mut known) = (offer::chunks(descriptor.length), 0, 0);
        let say = |link: &Link, done| {
            offer::take(way_back.taken(block), number, done);
            if way_back.call() {
                link.space.ring();
            }
        };
        say(&self.link, 0);
        loop {
            let written = offer::written(way_back.progress(block), known, descriptor.length);
            let Some(written) = written.map_err(|violation| self.condemn(violation))? else {
                self.end_offer(descriptor, None);
                return Ok(false);
            };
            let ready = if written == descriptor.length { chunks } else { written / CHUNK };
            while done < ready {
                let bytes = order.bytes(done, descriptor.length);
                // SAFETY: inside the window and the target; the sender has written the chunk and waits until it is read.
                unsafe {
                    let source = window.add((done % CHUNKS * CHUNK) as usize);
                    let part = target.as_mut_ptr().add(bytes.start as usize);
                    core::ptr::copy_nonoverlapping(source, part, (bytes.end - bytes.start) as usize);
                }
                done += 1;
                if done < chunks {
                    say(&self.link, done);
                }
            }
            if done == chunks {
                // Said last: a sender that knows may forget the message, and lends the same window again.
                self.incoming.growing_is_over();
                self.release(1);
                self.give_back_one(Hold::Block(descriptor.place));
                // Relaxed: a hint, in which order our own sender finds its next message in the caches.
                self.link.received_backward.store(order == Order::Backward, Ordering::Relaxed);
                say(&self.link, done);
                return Ok(true);
            }
            known = written;
            self.incoming.growing = Some(Growing { block, known });
            if let Err(error) = self.wait_ready(deadline, made) {
                // What was read is lost to the buffer; the sender starts again, in another way.
                self.end_offer(descriptor, Some(number));
                return Err(error);
            }
        }
    }

    /// Says whether a record is an offer of a message that fits a buffer of `len` bytes.
    pub(super) fn is_offer_for(&self, record: &Payload, len: usize) -> bool {
        let offered = |descriptor: Descriptor| descriptor.kind == Kind::Offer && descriptor.length <= len as u64;
        record.is_described() && record.descriptor().is_ok_and(offered)
    }

    /// Takes an [offer](Self::is_offer_for); `None` if it was withdrawn.
    pub(super) fn receive_offer(
        &mut self,
        record: &Payload,
        target: &mut [u8],
        deadline: &impl Fn() -> Deadline,
        made: &mut Option<Deadline>,
    ) -> Result<Option<usize>, RecvError> {
        let descriptor = record.descriptor().map_err(|violation| self.condemn(violation))?;
        let terms = self.terms(record, &descriptor)?;
        // Looked at a second time: the peer may have written meanwhile.
        let len = descriptor.length as usize;
        let Some(target) = target.get_mut(..len) else {
            self.end_offer(&descriptor, Some(terms.number));
            return Ok(None);
        };
        let taken = self.take_offer(&descriptor, terms, target, deadline, made)?;
        Ok(taken.then_some(len))
    }
}
