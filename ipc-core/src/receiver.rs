//! The receiving half of a connection.

use crate::error::RecvError;
use crate::link::Link;
use crate::message::{Message, RecvBatch, Trust, Untrusted};
use crate::os::bell::Deadline;
use crate::ring::{Consumer, Payload, Place, RingStatus, Violation};
use crate::wait::{Half, WaitStrategy, Waited, Waiter};
use core::marker::PhantomData;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

/// Polls that find nothing between two looks whether the peer still lives: some microseconds of polling without pause.
const POLLS_A_LOOK: u32 = 1024;

/// The receiving half of a connection. One thread at a time; messages arrive in the order in which they were sent.
///
/// Its descriptor ([`AsFd`]) becomes readable after [`Receiver::arm`] said that nothing is there yet.
pub struct Receiver<T: Trust = Untrusted> {
    consumer: Consumer<'static>,
    waiter: Waiter,
    empty_polls: u32,
    link: Arc<Link>,
    trust: PhantomData<fn() -> T>,
}

impl<T: Trust> Receiver<T> {
    pub(crate) fn new(consumer: Consumer<'static>, strategy: WaitStrategy, link: Arc<Link>) -> Self {
        Self { consumer, waiter: Waiter::new(strategy), empty_polls: 0, link, trust: PhantomData }
    }

    pub(crate) fn into_trusted<U: Trust>(self) -> Receiver<U> {
        let this = core::mem::ManuallyDrop::new(self);
        // SAFETY: each field is moved out once, and the source is not dropped.
        unsafe {
            Receiver {
                consumer: core::ptr::read(&this.consumer),
                waiter: core::ptr::read(&this.waiter),
                empty_polls: this.empty_polls,
                link: core::ptr::read(&this.link),
                trust: PhantomData,
            }
        }
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] once the peer is gone and everything it committed has been received;
    /// [`RecvError::Violation`] if it broke the protocol; [`RecvError::Forked`] in a forked child.
    #[inline]
    pub fn recv(&mut self) -> Result<Message<'_, T>, RecvError> {
        let payload = self.wait(Deadline::never)?;
        Ok(Message::new(self, payload))
    }

    /// Waits for the next message for at most `timeout`.
    ///
    /// # Errors
    /// As [`Receiver::recv`], and [`RecvError::TimedOut`].
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message<'_, T>, RecvError> {
        let payload = self.wait(|| Deadline::after(timeout))?;
        Ok(Message::new(self, payload))
    }

    /// The next message if there is one. It never waits.
    ///
    /// # Errors
    /// As [`Receiver::recv`]. A peer that died is noticed within 1024 calls.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Message<'_, T>>, RecvError> {
        let payload = match self.take()? {
            Some(payload) => payload,
            None => match self.look_for_peer()? {
                Some(payload) => payload,
                None => return Ok(None),
            },
        };
        Ok(Some(Message::new(self, payload)))
    }

    /// Waits for at least one message, then takes up to `limit` that are there; their space is given back once.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    #[inline]
    pub fn recv_batch(&mut self, limit: u64) -> Result<RecvBatch<'_, T>, RecvError> {
        // There is a message; the batch takes it again.
        let (place, _) = self.wait_in_place()?;
        self.consumer.go_to(place);
        Ok(RecvBatch::new(self, place, limit.max(1)))
    }

    /// Waits for the next message, copies it to the start of `target` and returns its length.
    ///
    /// # Errors
    /// As [`Receiver::recv`], and [`RecvError::TooShort`] if `target` is shorter than the message, which stays where it is and
    /// is received next.
    #[inline]
    pub fn recv_into(&mut self, target: &mut [u8]) -> Result<usize, RecvError> {
        let (place, payload) = self.wait_in_place()?;
        let message = Message::new(self, payload);
        match message.copy_to(target) {
            Ok(len) => Ok(len),
            Err(too_short) => {
                core::mem::forget(message);
                self.consumer.go_to(place);
                Err(too_short.into())
            }
        }
    }

    /// Prepares for sleeping on the descriptor: true if nothing is there and the descriptor becomes readable when something
    /// comes or the peer goes; false if there is something to receive, or to learn, now. To be called before each such sleep.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    pub fn arm(&mut self) -> Result<bool, RecvError> {
        self.check()?;
        let gone = self.link.messages.drain();
        if gone {
            // The next look that finds nothing asks for the peer.
            self.empty_polls = POLLS_A_LOOK;
        }
        let mut half = Receiving { consumer: &mut self.consumer, link: &self.link };
        half.raise();
        let ready = half.is_ready();
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

    /// A look at the ring that this half reads.
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
            ring(&self.link);
        }
    }

    /// Releases the records of a batch, which were taken from here up to `place`.
    #[inline(always)]
    pub(crate) fn release_to(&mut self, place: Place, records: u64) {
        self.consumer.go_to(place);
        self.release(records);
    }

    /// Waits for the next message.
    #[inline(always)]
    fn wait(&mut self, deadline: impl Fn() -> Deadline) -> Result<Payload, RecvError> {
        let mut made = None;
        loop {
            if let Some(payload) = self.take()? {
                return Ok(payload);
            }
            self.wait_ready(&deadline, &mut made)?;
        }
    }

    /// Waits for the next message and returns the place to come back to. It is taken after any wait: a wait gives space back, padding
    /// included, and what is given back must not be gone back to.
    #[inline(always)]
    fn wait_in_place(&mut self) -> Result<(Place, Payload), RecvError> {
        let mut made = None;
        loop {
            let place = self.consumer.place();
            if let Some(payload) = self.take()? {
                return Ok((place, payload));
            }
            self.wait_ready(Deadline::never, &mut made)?;
        }
    }

    /// Waits until something is published. `made` is the deadline, made when the first wait takes long.
    fn wait_ready(&mut self, deadline: impl Fn() -> Deadline, made: &mut Option<Deadline>) -> Result<(), RecvError> {
        let mut half = Receiving { consumer: &mut self.consumer, link: &self.link };
        let waited = self.waiter.wait(&mut half, &self.link.messages, || *made.get_or_insert_with(deadline))?;
        match waited {
            Waited::Ready => Ok(()),
            Waited::TimedOut => {
                Err(RecvError::TimedOut { waited: made.map(|deadline| deadline.waited()).unwrap_or_default() })
            }
            Waited::PeerGone => Err(self.disconnected()),
        }
    }

    /// Nothing is published: every so often, find out whether anything can still come.
    #[inline]
    fn look_for_peer(&mut self) -> Result<Option<Payload>, RecvError> {
        self.empty_polls += 1;
        if !self.consumer.is_peer_closed() && self.empty_polls < POLLS_A_LOOK {
            return Ok(None);
        }
        self.empty_polls = 0;
        if !self.consumer.is_peer_closed() && !self.link.messages.is_peer_gone() {
            return Ok(None);
        }
        // It may have published between the last look and its end.
        match self.take()? {
            Some(payload) => Ok(Some(payload)),
            None => Err(self.disconnected()),
        }
    }

    fn disconnected(&self) -> RecvError {
        match self.link.violation() {
            Some(violation) => violation.into(),
            None => {
                RecvError::Disconnected { received: self.consumer.messages(), closed: self.consumer.is_peer_closed() }
            }
        }
    }
}

#[cold]
fn ring(link: &Link) {
    // A sender that has gone needs no waking; the next wait finds out.
    link.space.ring();
}

/// A consumer that is about to wait, and what it needs for that.
struct Receiving<'w> {
    consumer: &'w mut Consumer<'static>,
    link: &'w Link,
}

impl Half for Receiving<'_> {
    #[inline(always)]
    fn is_ready(&self) -> bool {
        self.consumer.is_ready()
    }

    fn is_peer_closed(&self) -> bool {
        self.consumer.is_peer_closed()
    }

    fn on_empty(&mut self) {
        self.consumer.keep_distance();
    }

    fn raise(&mut self) {
        // Space that is held back while this side sleeps could keep the peer from ever sending what it waits for.
        if self.consumer.flush_credit() {
            ring(self.link);
        }
        self.consumer.raise();
    }

    fn lower(&mut self) {
        self.consumer.lower();
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
            self.link.space.hang_up(Shutdown::Write);
        }
    }
}
