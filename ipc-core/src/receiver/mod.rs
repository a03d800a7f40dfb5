//! The receiving half of a connection.
//!
//! The way of a message: out of the ring, if its bytes are in its record, in a few instructions; otherwise through `incoming`, which
//! knows the other lanes.

mod follow;
mod hold;
mod incoming;
mod offers;
mod open;

use crate::error::RecvError;
use crate::link::Link;
use crate::message::{Body, Hold, Message, RecvBatch, Trust, Untrusted};
use crate::os::bell::{Bell, Deadline, Drained, Slept};
use crate::ring::{Consumer, Payload, Place, RingStatus, Violation};
use crate::wait::{Half, WaitStrategy, Waited, Waiter};
use core::marker::PhantomData;
use core::ops::ControlFlow;
use incoming::Incoming;
use open::Unopened;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::net::Shutdown;
use std::boxed::Box;
use std::sync::Arc;
use std::time::Duration;

/// Polls that find nothing between two looks whether the peer still lives: some microseconds of polling without pause.
const POLLS_A_LOOK: u32 = 1024;
/// Records that are no message, and steps of one that grows, between two looks at the clock: a peer that sends them without end must
/// not keep a caller.
const NEWS_A_LOOK: u32 = 256;

/// The receiving half of a connection. One thread at a time; messages arrive in the order in which they were sent.
///
/// Its descriptor ([`AsFd`]) becomes readable after [`Receiver::arm`] said that nothing is there yet.
pub struct Receiver<T: Trust = Untrusted> {
    consumer: Consumer<'static>,
    waiter: Waiter,
    empty_polls: u32,
    /// News since the last look at the clock.
    news: u32,
    incoming: Box<Incoming>,
    link: Arc<Link>,
    trust: PhantomData<fn() -> T>,
}

impl<T: Trust> Receiver<T> {
    /// # Safety
    /// The link lives as long as the consumer's memory is used; this is its only receiver on this side.
    pub(crate) unsafe fn new(mut consumer: Consumer<'static>, strategy: WaitStrategy, link: Arc<Link>) -> Self {
        // SAFETY: the caller's promise; the receiver keeps the link.
        let incoming = Box::new(unsafe { Incoming::new(&link, &mut consumer) });
        Self { consumer, waiter: Waiter::new(strategy), empty_polls: 0, news: 0, incoming, link, trust: PhantomData }
    }

    pub(crate) fn into_trusted<U: Trust>(self) -> Receiver<U> {
        let this = core::mem::ManuallyDrop::new(self);
        // SAFETY: each field is moved out once, and the source is not dropped.
        unsafe {
            Receiver {
                consumer: core::ptr::read(&this.consumer),
                waiter: core::ptr::read(&this.waiter),
                empty_polls: this.empty_polls,
                news: this.news,
                incoming: core::ptr::read(&this.incoming),
                link: core::ptr::read(&this.link),
                trust: PhantomData,
            }
        }
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] once the peer is gone and everything it committed has been received;
    /// [`RecvError::Violation`] if it broke the protocol; [`RecvError::Forked`] in a forked child; [`RecvError::Os`] if the system fails,
    /// or this process has no descriptor or address space left for the next message, which stays where it is.
    // Always: a message that is returned through memory is stored in words and loaded in pairs, which stalls.
    #[inline(always)]
    pub fn recv(&mut self) -> Result<Message<'_, T>, RecvError> {
        let body = self.wait(Deadline::never)?;
        Ok(Message::new(self, body))
    }

    /// Waits for the next message for at most `timeout`.
    ///
    /// # Errors
    /// As [`Receiver::recv`], and [`RecvError::TimedOut`].
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message<'_, T>, RecvError> {
        let body = self.wait(|| Deadline::after(timeout))?;
        Ok(Message::new(self, body))
    }

    /// The next message if there is one. It never waits, not even for a message that is still being copied: that one is there when it is
    /// complete.
    ///
    /// # Errors
    /// As [`Receiver::recv`]. A peer that died is noticed within 1024 calls.
    // Always: a message that is returned through memory is stored in words and loaded in pairs, which stalls.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Option<Message<'_, T>>, RecvError> {
        let body = self.try_take(usize::MAX)?;
        Ok(body.map(|body| Message::new(self, body)))
    }

    /// Makes the guard of a message again that was [left](Message::leave), where it said that its bytes are.
    ///
    /// # Safety
    /// It is the message that this receiver gave last, it was left, and its guard was not made again since. Between the two nothing was
    /// received.
    #[inline(always)]
    pub unsafe fn retake(&mut self, start: *const u8, len: usize) -> Message<'_, T> {
        Message::new(self, Body::new(start, len, Hold::Record))
    }

    /// Takes the next message if there is one, complete and of at most `limit` bytes. It never waits. Whoever gets it makes a
    /// [`Message`] of it.
    #[inline(always)]
    pub(crate) fn try_take(&mut self, limit: usize) -> Result<Option<Body>, RecvError> {
        let record = match self.take()? {
            Some(record) => record,
            None => match self.look_for_more()? {
                Some(record) => record,
                None => return Ok(None),
            },
        };
        if record.is_plain() && record.len() <= limit {
            return Ok(Some(Body::in_record(&record)));
        }
        let body = self.open_or_next(record, limit)?;
        if body.is_none() {
            self.look_for_end()?;
        }
        Ok(body)
    }

    /// The place of the next message if there is one that is complete. It never waits; whoever gets it goes back there.
    pub(crate) fn try_find(&mut self) -> Result<Option<Place>, RecvError> {
        loop {
            let place = self.consumer.place();
            let record = match self.take()? {
                None => self.look_for_more()?,
                taken => taken,
            };
            let Some(record) = record else { return Ok(None) };
            if record.is_plain() {
                return Ok(Some(place));
            }
            if let Some(descriptor) = self.interpret(&record)? {
                let growing = self.is_growing(&descriptor);
                self.consumer.go_back(&record);
                if growing? {
                    self.look_for_end()?;
                    return Ok(None);
                }
                return Ok(Some(self.consumer.place()));
            }
        }
    }

    /// Waits for at least one message, then takes up to `limit` messages that are there; their space is given back once.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    #[inline]
    pub fn recv_batch(&mut self, limit: u64) -> Result<RecvBatch<'_, T>, RecvError> {
        self.recv_batch_with(limit, Deadline::never)
    }

    /// As [`Receiver::recv_batch`]; waits for the first message for at most `timeout`.
    ///
    /// # Errors
    /// As [`Receiver::recv_timeout`].
    #[inline]
    pub fn recv_batch_timeout(&mut self, limit: u64, timeout: Duration) -> Result<RecvBatch<'_, T>, RecvError> {
        self.recv_batch_with(limit, || Deadline::after(timeout))
    }

    /// Up to `limit` messages that are there, if there is one. It never waits.
    ///
    /// # Errors
    /// As [`Receiver::try_recv`].
    #[inline]
    pub fn try_recv_batch(&mut self, limit: u64) -> Result<Option<RecvBatch<'_, T>>, RecvError> {
        match self.try_find()? {
            Some(place) => {
                self.consumer.go_to(place);
                Ok(Some(RecvBatch::new(self, place, limit.max(1))))
            }
            None => Ok(None),
        }
    }

    #[inline(always)]
    fn recv_batch_with(&mut self, limit: u64, deadline: impl Fn() -> Deadline) -> Result<RecvBatch<'_, T>, RecvError> {
        // There is a message, or news of one; the batch takes it again.
        let mut made = None;
        let (place, record) = self.wait_in_place(&deadline, &mut made)?;
        self.consumer.go_to(place);
        if !record.is_plain() {
            // Messages that grow, and news that are none, are waited for here: a batch does not wait.
            let place = self.wait_for_message(&deadline, &mut made)?;
            return Ok(RecvBatch::new(self, place, limit.max(1)));
        }
        Ok(RecvBatch::new(self, place, limit.max(1)))
    }

    /// Waits for the next message, copies it to the start of `target` and returns its length. A large message is copied out while its
    /// sender still copies it in.
    ///
    /// # Errors
    /// As [`Receiver::recv`], and [`RecvError::TooShort`] if `target` is shorter than the message, which stays where it is and
    /// is received next.
    #[inline]
    pub fn recv_into(&mut self, target: &mut [u8]) -> Result<usize, RecvError> {
        self.recv_into_with(target, Deadline::never)
    }

    /// As [`Receiver::recv_into`], if a message is there. It never waits, not even for one that is still being copied.
    ///
    /// # Errors
    /// As [`Receiver::recv_into`].
    pub fn try_recv_into(&mut self, target: &mut [u8]) -> Result<Option<usize>, RecvError> {
        let body = self.try_take(target.len())?;
        body.map(|body| Ok(Message::new(self, body).copy_to(target)?)).transpose()
    }

    /// As [`Receiver::recv_into`], for at most `timeout`.
    ///
    /// # Errors
    /// As [`Receiver::recv_into`], and [`RecvError::TimedOut`]; a message that was being copied then stays where it is.
    pub fn recv_into_timeout(&mut self, target: &mut [u8], timeout: Duration) -> Result<usize, RecvError> {
        self.recv_into_with(target, || Deadline::after(timeout))
    }

    #[inline(always)]
    fn recv_into_with(&mut self, target: &mut [u8], deadline: impl Fn() -> Deadline) -> Result<usize, RecvError> {
        let mut made = None;
        let (place, record) = self.wait_in_place(&deadline, &mut made)?;
        if !record.is_plain() {
            return self.recv_other_into(record, target, &deadline, &mut made);
        }
        let message = Message::new(self, Body::in_record(&record));
        match message.copy_to(target) {
            Ok(len) => Ok(len),
            Err(too_short) => {
                core::mem::forget(message);
                self.consumer.go_to(place);
                Err(too_short.into())
            }
        }
    }

    #[cold]
    fn recv_other_into(
        &mut self,
        mut record: Payload,
        target: &mut [u8],
        deadline: &impl Fn() -> Deadline,
        made: &mut Option<Deadline>,
    ) -> Result<usize, RecvError> {
        loop {
            if record.is_plain() {
                let len = record.len();
                if target.len() < len {
                    self.consumer.go_back(&record);
                    return Err(crate::TooShort { message: len, buffer: target.len() }.into());
                }
                return Ok(Message::new(self, Body::in_record(&record)).copy_to(target)?);
            }
            if self.is_offer_for(&record, target.len()) {
                if let Some(len) = self.receive_offer(&record, target, deadline, made)? {
                    return Ok(len);
                }
            } else if let Some(descriptor) = self.interpret(&record)? {
                match self.receive_into(&record, &descriptor, target, deadline, made)? {
                    ControlFlow::Break(len) => return Ok(len),
                    ControlFlow::Continue(()) => {}
                }
                match self.open(&record, &descriptor) {
                    Ok(body) => return Ok(Message::new(self, body).copy_to(target)?),
                    Err(unopened) => {
                        self.consumer.go_back(&record);
                        match unopened {
                            Unopened::Error(error) => return Err(error),
                            Unopened::Growing => self.wait_ready(deadline, made)?,
                        }
                    }
                }
            }
            self.look_at_clock(deadline, made)?;
            record = self.wait_in_place(deadline, made)?.1;
        }
    }

    /// Prepares for sleeping on the descriptor: true if nothing is there and the descriptor becomes readable when something
    /// comes or the peer goes; false if it is worth trying to receive, and calling this, again now. To be called before each such sleep.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    pub fn arm(&mut self) -> Result<bool, RecvError> {
        self.check()?;
        let gone = match self.link.messages.drain() {
            Drained::All => false,
            Drained::Some => return Ok(false),
            Drained::PeerGone => {
                // The next look that finds nothing asks for the peer.
                self.empty_polls = POLLS_A_LOOK;
                true
            }
        };
        let mut half = Receiving { consumer: &mut self.consumer, incoming: &mut self.incoming, link: &self.link };
        half.raise();
        // Credit that is owed is given as soon as its socket has room, which the descriptor does not tell: not to be slept on.
        let ready = half.is_ready() || half.is_peer_closed() || half.incoming.owes_credit;
        if ready {
            half.lower();
        }
        Ok(!ready && !gone)
    }

    /// Says whether a message is there.
    #[inline]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.link.is_original() && self.consumer.is_ready()
    }

    /// Messages received since the connection began.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.consumer.messages()
    }

    /// Times that this half went to sleep.
    #[must_use]
    pub fn sleeps(&self) -> u64 {
        self.waiter.sleeps()
    }

    /// Bytes of the peer's arena that this process maps.
    #[must_use]
    pub fn mapped(&self) -> u64 {
        self.incoming.mapped()
    }

    /// A look at the ring that this half reads. In the modes [`Kernel`](crate::Mode::Kernel) and [`Hybrid`](crate::Mode::Hybrid) that is
    /// a queue of this process.
    #[must_use]
    pub fn status(&self) -> RingStatus {
        self.link.incoming().status()
    }

    /// Chooses how blocking calls wait.
    pub fn set_wait_strategy(&mut self, strategy: WaitStrategy) {
        self.waiter = Waiter::new(strategy);
    }

    #[inline(always)]
    fn check(&self) -> Result<(), RecvError> {
        if self.link.is_usable() { Ok(()) } else { Err(self.unusable()) }
    }

    #[cold]
    fn unusable(&self) -> RecvError {
        self.link.why_unusable().map_or(RecvError::Forked, RecvError::Violation)
    }

    /// Takes the next message from the ring; the caller releases it.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Result<Option<Payload>, RecvError> {
        self.check()?;
        self.consumer.take().map_err(|violation| self.condemn(violation))
    }

    #[cold]
    pub(crate) fn condemn(&self, violation: Violation) -> RecvError {
        self.link.condemn(violation).into()
    }

    #[inline(always)]
    pub(crate) fn release(&mut self, records: u64) {
        // In a forked child, a guard that it inherited writes to memory of the child's own (`GuardedFd::cover`).
        if self.consumer.release(records) {
            self.incoming.call(&self.link);
        }
    }

    /// Releases the records of a batch, which were taken from here up to `place`.
    #[inline(always)]
    pub(crate) fn release_to(&mut self, place: Place, records: u64) {
        self.consumer.go_to(place);
        self.release(records);
    }

    pub(crate) fn place(&self) -> Place {
        self.consumer.place()
    }

    pub(crate) fn go_to(&mut self, place: Place) {
        self.consumer.go_to(place);
    }

    /// Waits for the next message.
    #[inline(always)]
    fn wait(&mut self, deadline: impl Fn() -> Deadline) -> Result<Body, RecvError> {
        let (mut made, mut waited) = (None, false);
        loop {
            if let Some(record) = self.take()? {
                if record.is_plain() {
                    return Ok(Body::in_record(&record));
                }
                if let Some(body) = self.in_block(&record) {
                    if !waited {
                        // The sender is ahead: its next record comes while this message is read. One that is not there yet is left to
                        // the sender, who would have to fetch the line back.
                        self.consumer.prefetch();
                    }
                    return Ok(body);
                }
                if let Some(body) = self.wait_open(record, &deadline, &mut made)? {
                    return Ok(body);
                }
                self.look_at_clock(&deadline, &mut made)?;
                continue;
            }
            waited = true;
            self.wait_ready(&deadline, &mut made)?;
        }
    }

    /// The message of a record that is not plain, complete; `None` if it is none.
    #[cold]
    fn wait_open(
        &mut self,
        record: Payload,
        deadline: &impl Fn() -> Deadline,
        made: &mut Option<Deadline>,
    ) -> Result<Option<Body>, RecvError> {
        let Some(descriptor) = self.interpret(&record)? else { return Ok(None) };
        loop {
            let failed = match self.open(&record, &descriptor) {
                Ok(body) => return Ok(Some(body)),
                Err(Unopened::Error(error)) => Err(error),
                Err(Unopened::Growing) => self.wait_ready(deadline, made),
            };
            if let Err(error) = failed {
                self.incoming.growing_is_over();
                self.consumer.go_back(&record);
                return Err(error);
            }
        }
    }

    /// The message of a record that is not plain, or of a later one if it is none; `None` if none is complete, or there is much
    /// that is none.
    #[cold]
    pub(crate) fn open_or_next(&mut self, mut record: Payload, limit: usize) -> Result<Option<Body>, RecvError> {
        for _ in 0..NEWS_A_LOOK {
            let found = if record.is_plain() { Some(Body::in_record(&record)) } else { self.in_block(&record) };
            if let Some(body) = found {
                self.check_fits(&record, body.parts().1, limit)?;
                return Ok(Some(body));
            }
            if let Some(descriptor) = self.interpret(&record)? {
                if self.length(&descriptor) > limit {
                    return Err(self.too_short(&record, &descriptor, limit));
                }
                return match self.open(&record, &descriptor) {
                    Ok(body) => Ok(Some(body)),
                    Err(unopened) => {
                        self.consumer.go_back(&record);
                        match unopened {
                            Unopened::Growing => Ok(None),
                            Unopened::Error(error) => Err(error),
                        }
                    }
                };
            }
            match self.take()? {
                Some(next) => record = next,
                None => return Ok(None),
            }
        }
        self.consumer.go_back(&record);
        Ok(None)
    }

    /// Goes back to a message that is longer than the caller has room for.
    fn check_fits(&mut self, record: &Payload, message: usize, buffer: usize) -> Result<(), RecvError> {
        if message <= buffer {
            return Ok(());
        }
        self.consumer.go_back(record);
        Err(crate::TooShort { message, buffer }.into())
    }

    /// Waits until the next record is a message that is complete, and says where it is.
    #[cold]
    fn wait_for_message(
        &mut self,
        deadline: &impl Fn() -> Deadline,
        made: &mut Option<Deadline>,
    ) -> Result<Place, RecvError> {
        loop {
            let (place, record) = self.wait_in_place(deadline, made)?;
            if record.is_plain() {
                self.consumer.go_to(place);
                return Ok(place);
            }
            if let Some(descriptor) = self.interpret(&record)? {
                while self.is_growing(&descriptor)? {
                    let waited = self.wait_ready(deadline, made);
                    if waited.is_err() {
                        self.incoming.growing_is_over();
                        self.consumer.go_back(&record);
                        waited?;
                    }
                }
                self.consumer.go_back(&record);
                return Ok(self.consumer.place());
            }
            self.look_at_clock(deadline, made)?;
        }
    }

    /// Waits for the next record and returns the place to come back to. It is taken after any wait: a wait gives space back, padding
    /// included, and what is given back must not be gone back to.
    #[inline(always)]
    fn wait_in_place(
        &mut self,
        deadline: impl Fn() -> Deadline,
        made: &mut Option<Deadline>,
    ) -> Result<(Place, Payload), RecvError> {
        loop {
            let place = self.consumer.place();
            if let Some(payload) = self.take()? {
                return Ok((place, payload));
            }
            self.wait_ready(&deadline, made)?;
        }
    }

    /// Waits until something is published, or the message that grows has grown. `made` is the deadline, made when the first wait takes
    /// long.
    fn wait_ready(&mut self, deadline: impl Fn() -> Deadline, made: &mut Option<Deadline>) -> Result<(), RecvError> {
        let mut half = Receiving { consumer: &mut self.consumer, incoming: &mut self.incoming, link: &self.link };
        let waited = self.waiter.wait(&mut half, &self.link.messages, || *made.get_or_insert_with(&deadline))?;
        if let Some(violation) = self.incoming.take_violation() {
            return Err(self.condemn(violation));
        }
        match waited {
            Waited::Ready if self.consumer.is_ready() && !self.incoming.is_growing() => Ok(()),
            Waited::Ready => self.look_at_clock(deadline, made),
            Waited::TimedOut => {
                Err(RecvError::TimedOut { waited: made.map(|deadline| deadline.waited()).unwrap_or_default() })
            }
            Waited::PeerGone => Err(self.disconnected()),
        }
    }

    /// Something came that is no message, or no whole one: every so often, ask whether the deadline has passed.
    fn look_at_clock(&mut self, deadline: impl Fn() -> Deadline, made: &mut Option<Deadline>) -> Result<(), RecvError> {
        self.news += 1;
        if self.news < NEWS_A_LOOK {
            return Ok(());
        }
        self.news = 0;
        let deadline = *made.get_or_insert_with(deadline);
        if deadline.is_over() { Err(RecvError::TimedOut { waited: deadline.waited() }) } else { Ok(()) }
    }

    /// Nothing is published: take in what comes in packets; and every so often, find out whether anything can still come.
    #[inline]
    fn look_for_more(&mut self) -> Result<Option<Payload>, RecvError> {
        if self.incoming.fill(&self.link) {
            if let Some(violation) = self.incoming.take_violation() {
                return Err(self.condemn(violation));
            }
            return self.take();
        }
        self.empty_polls += 1;
        let closed = self.consumer.is_peer_closed() || self.incoming.has_ended();
        if !closed && self.empty_polls < POLLS_A_LOOK {
            return Ok(None);
        }
        self.empty_polls = 0;
        // A receiver that never sleeps tells now what it would have told before sleeping.
        if self.incoming.flushes_credit(&self.consumer) && self.consumer.flush_credit() {
            self.incoming.call(&self.link);
        }
        if !closed && !self.link.messages.is_peer_gone() {
            return Ok(None);
        }
        // It may have published between the last look and its end.
        self.incoming.fill(&self.link);
        match self.take()? {
            Some(payload) => Ok(Some(payload)),
            None => Err(self.disconnected()),
        }
    }

    /// No message is complete, though there may be a record of one that grows: every so often, find out whether its sender lives.
    fn look_for_end(&mut self) -> Result<(), RecvError> {
        self.empty_polls += 1;
        if self.empty_polls < POLLS_A_LOOK {
            return Ok(());
        }
        self.empty_polls = 0;
        // What it wrote between the last look and its end is for the next call.
        if self.link.messages.is_peer_gone() && !self.incoming.is_ready(&self.consumer, &self.link) {
            return Err(self.disconnected());
        }
        Ok(())
    }

    pub(super) fn disconnected(&self) -> RecvError {
        match self.link.violation() {
            Some(violation) => violation.into(),
            None => {
                RecvError::Disconnected { received: self.consumer.messages(), closed: self.consumer.is_peer_closed() }
            }
        }
    }
}

/// A consumer that is about to wait, and what it needs for that.
struct Receiving<'w> {
    consumer: &'w mut Consumer<'static>,
    incoming: &'w mut Incoming,
    link: &'w Link,
}

impl Half for Receiving<'_> {
    #[inline(always)]
    fn is_ready(&mut self) -> bool {
        self.incoming.is_ready(self.consumer, self.link)
    }

    fn is_peer_closed(&self) -> bool {
        self.consumer.is_peer_closed() || self.incoming.has_ended()
    }

    fn on_empty(&mut self) {
        self.consumer.keep_distance();
    }

    fn raise(&mut self) {
        // Space that is held back while this side sleeps could keep the peer from ever sending what it waits for. Not while a message
        // grows: its record was taken and is not consumed, and its sender waits for nothing.
        if !self.incoming.is_growing() && self.incoming.flushes_credit(self.consumer) && self.consumer.flush_credit() {
            self.incoming.call(self.link);
        }
        self.consumer.raise();
    }

    fn lower(&mut self) {
        self.consumer.lower();
    }

    fn sleep(&self, bell: &Bell, deadline: Deadline) -> std::io::Result<Slept> {
        // A sender that waits for credit which is owed to it sends nothing that would wake us.
        if self.incoming.owes_credit { bell.sleep_or_room(&self.link.space, deadline) } else { bell.sleep(deadline) }
    }

    fn exchange_processor(&self, own: u32) -> Option<u32> {
        self.consumer.exchange_processor(own)
    }
}

impl<T: Trust> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.messages.as_fd()
    }
}

impl<T: Trust> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.link.is_original() {
            self.consumer.close();
            self.incoming.close(&mut self.consumer, &self.link);
            self.link.space.hang_up(Shutdown::Write);
        }
    }
}
