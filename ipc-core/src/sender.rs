//! The sending half of a connection.

use crate::error::SendError;
use crate::link::Link;
use crate::message::{Trust, Trusted, Untrusted};
use crate::os::bell::Deadline;
use crate::ring::{self, OpenBatch, Producer, ReserveError, RingStatus};
use crate::wait::{Half, WaitStrategy, Waited, Waiter};
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;
use std::vec::Vec;

/// The sending half of a connection. One thread at a time.
///
/// Its descriptor ([`AsFd`]) becomes readable after [`Sender::arm`] said that the peer has made no room yet.
pub struct Sender<T: Trust = Untrusted> {
    producer: Producer<'static>,
    waiter: Waiter,
    link: Arc<Link>,
    trust: PhantomData<fn() -> T>,
}

/// How long a call waits for room.
#[derive(Clone, Copy)]
enum Patience {
    None,
    Until(Duration),
    Endless,
}

impl<T: Trust> Sender<T> {
    pub(crate) fn new(producer: Producer<'static>, strategy: WaitStrategy, link: Arc<Link>) -> Self {
        Self { producer, waiter: Waiter::new(strategy), link, trust: PhantomData }
    }

    pub(crate) fn into_trusted<U: Trust>(self) -> Sender<U> {
        let this = core::mem::ManuallyDrop::new(self);
        // SAFETY: each field is moved out once, and the source is not dropped.
        unsafe {
            Sender {
                producer: core::ptr::read(&this.producer),
                waiter: core::ptr::read(&this.waiter),
                link: core::ptr::read(&this.link),
                trust: PhantomData,
            }
        }
    }

    /// Sends a copy of `message`; waits for room if there is none.
    ///
    /// # Errors
    /// [`SendError::TooLarge`] beyond [`Sender::max_message`]; [`SendError::Disconnected`] if the peer is gone;
    /// [`SendError::Violation`] if it broke the protocol; [`SendError::Forked`] in a forked child.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_with(message, Patience::Endless)
    }

    /// Sends a copy of `message` if there is room for it now.
    ///
    /// # Errors
    /// As [`Sender::send`], and [`SendError::WouldBlock`].
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_with(message, Patience::None)
    }

    /// Sends a copy of `message`; waits for room for at most `timeout`.
    ///
    /// # Errors
    /// As [`Sender::send`], and [`SendError::TimedOut`].
    #[inline]
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_with(message, Patience::Until(timeout))
    }

    #[inline(always)]
    fn send_with(&mut self, message: &[u8], patience: Patience) -> Result<(), SendError> {
        self.claim(message.len(), patience)?;
        let mut record = self.producer.reservation(message.len());
        record.write_at(0, message);
        let wake = record.publish().1;
        self.wake(wake);
        Ok(())
    }

    /// Reserves a message of `len` bytes, to be written in place; waits for room. The bytes are not zeroed.
    ///
    /// # Errors
    /// As [`Sender::send`].
    #[inline]
    pub fn reserve(&mut self, len: usize) -> Result<Reservation<'_, T>, SendError> {
        self.reserve_with(len, Patience::Endless)
    }

    /// Reserves a message of `len` bytes if there is room now.
    ///
    /// # Errors
    /// As [`Sender::try_send`].
    #[inline]
    pub fn try_reserve(&mut self, len: usize) -> Result<Reservation<'_, T>, SendError> {
        self.reserve_with(len, Patience::None)
    }

    /// Reserves a message of `len` bytes; waits for room for at most `timeout`.
    ///
    /// # Errors
    /// As [`Sender::send_timeout`].
    #[inline]
    pub fn reserve_timeout(&mut self, len: usize, timeout: Duration) -> Result<Reservation<'_, T>, SendError> {
        self.reserve_with(len, Patience::Until(timeout))
    }

    #[inline(always)]
    fn reserve_with(&mut self, len: usize, patience: Patience) -> Result<Reservation<'_, T>, SendError> {
        self.claim(len, patience)?;
        Ok(Reservation { record: self.producer.reservation(len), link: &self.link, trust: PhantomData })
    }

    /// Starts a batch: its messages are packed tight and published together.
    ///
    /// # Examples
    /// ```no_run
    /// # let mut client = ipc_core::connect("sensors")?;
    /// let mut batch = client.batch();
    /// for sample in [[1_u8; 8], [2; 8]] {
    ///     batch.push(&sample)?;
    /// }
    /// batch.publish()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn batch(&mut self) -> Batch<'_, T> {
        Batch { open: OpenBatch::default(), sender: self }
    }

    /// The largest message this connection takes, in bytes: a quarter of the ring, less 8.
    #[must_use]
    pub fn max_message(&self) -> u64 {
        self.producer.max_record()
    }

    /// Messages sent since the connection began.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.producer.messages()
    }

    /// Times that this half went to sleep.
    #[must_use]
    pub fn sleeps(&self) -> u64 {
        self.waiter.sleeps()
    }

    /// A look at the ring that this half writes.
    #[must_use]
    pub fn status(&self) -> RingStatus {
        self.link.outgoing().status()
    }

    /// Chooses how blocking calls wait.
    pub fn set_wait_strategy(&mut self, strategy: WaitStrategy) {
        self.waiter = Waiter::new(strategy);
    }

    /// Asks the kernel whether the peer is gone. A sender that sleeps or fills the ring learns it anyway; one that sends now
    /// and then can ask here.
    pub fn is_peer_gone(&mut self) -> bool {
        if !self.producer.is_peer_closed() && self.link.space.is_peer_gone() {
            self.producer.mark_gone();
        }
        self.producer.is_peer_closed()
    }

    /// After [`SendError::WouldBlock`]: true if there is still no room and the descriptor becomes readable when there is some or
    /// the peer goes; false if it is worth trying again now. To be called before each sleep on the descriptor.
    ///
    /// # Errors
    /// [`SendError::Violation`] and [`SendError::Forked`].
    pub fn arm(&mut self) -> Result<bool, SendError> {
        self.check()?;
        if self.link.space.drain() {
            self.producer.mark_gone();
            return Ok(false);
        }
        self.give_held_credit();
        self.producer.raise();
        let ready = self.producer.has_room();
        if ready {
            self.producer.lower();
        }
        Ok(!ready)
    }

    /// The messages that the peer has not consumed, oldest first. Once it is gone this is what it never got.
    ///
    /// A message counts as consumed when the peer dropped its guard of it.
    ///
    /// # Errors
    /// [`SendError::Violation`] if the peer destroyed them, [`SendError::Forked`] in a forked child.
    pub fn undelivered(&self) -> Result<Vec<Vec<u8>>, SendError> {
        if !self.link.is_original() {
            return Err(SendError::Forked);
        }
        let mut messages = Vec::new();
        let mut undelivered = self.producer.undelivered()?;
        while let Some(payload) = undelivered.next_payload()? {
            messages.push(payload.to_vec());
        }
        Ok(messages)
    }

    #[inline(always)]
    fn check(&self) -> Result<(), SendError> {
        if self.link.is_usable() { Ok(()) } else { Err(self.unusable()) }
    }

    #[cold]
    fn unusable(&self) -> SendError {
        self.link.why_unusable().map_or(SendError::Forked, SendError::Violation)
    }

    /// Finds room for a message of `len` bytes.
    #[inline(always)]
    fn claim(&mut self, len: usize, patience: Patience) -> Result<(), SendError> {
        self.check()?;
        if self.producer.claim_fast(len) { Ok(()) } else { self.claim_slow(len, patience) }
    }

    #[cold]
    fn claim_slow(&mut self, len: usize, patience: Patience) -> Result<(), SendError> {
        match self.producer.claim(len) {
            Ok(()) => self.check_stalled(),
            Err(refused) => self.claim_late(refused, patience, |producer| producer.claim(len)),
        }
    }

    /// If the peer has not moved for an eighth of the ring: is it still there?
    fn check_stalled(&mut self) -> Result<(), SendError> {
        if self.producer.take_stalled() && self.is_peer_gone() { Err(self.disconnected()) } else { Ok(()) }
    }

    /// Before this side waits for room: the peer may wait for room too, and the space that our receiver has consumed and holds back
    /// would be what it waits for.
    fn give_held_credit(&self) {
        if self.link.incoming().give_held_credit(self.link.barrier) {
            self.link.space.ring();
        }
    }

    /// Waits for the room that was refused, as long as `patience` allows, and claims again.
    #[cold]
    fn claim_late<R>(
        &mut self,
        mut refused: ReserveError,
        patience: Patience,
        mut claim: impl FnMut(&mut Producer<'static>) -> Result<R, ReserveError>,
    ) -> Result<R, SendError> {
        let mut made = None;
        loop {
            let (needed, free) = match refused {
                ReserveError::Full { needed, free } => (needed, free),
                ReserveError::TooLarge { len, max } => return Err(SendError::TooLarge { len, max }),
                ReserveError::Closed => return Err(self.disconnected()),
                ReserveError::Violation(violation) => return Err(self.link.condemn(violation).into()),
            };
            let deadline = match patience {
                Patience::None if self.is_peer_gone() => return Err(self.disconnected()),
                Patience::None => return Err(SendError::WouldBlock { needed, free }),
                Patience::Until(timeout) => *made.get_or_insert_with(|| Deadline::after(timeout)),
                Patience::Endless => *made.get_or_insert_with(Deadline::never),
            };
            self.give_held_credit();
            match self.waiter.wait(&mut self.producer, &self.link.space, || deadline)? {
                Waited::Ready => {}
                Waited::TimedOut => return Err(SendError::TimedOut { waited: deadline.waited(), needed, free }),
                Waited::PeerGone => {
                    self.producer.mark_gone();
                    return Err(self.disconnected());
                }
            }
            match claim(&mut self.producer) {
                Ok(claimed) => return Ok(claimed),
                Err(again) => refused = again,
            }
        }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Wakes the peer if it sleeps.
    #[inline(always)]
    fn wake(&mut self, wake: bool) {
        if wake {
            ring(&self.link, &mut self.producer);
        }
    }

    #[cold]
    fn disconnected(&self) -> SendError {
        match (self.link.violation(), self.producer.undelivered().and_then(ring::Undelivered::count)) {
            (Some(violation), _) => violation.into(),
            (None, Err(violation)) => violation.into(),
            (None, Ok(undelivered)) => SendError::Disconnected { undelivered },
        }
    }
}

#[cold]
fn ring(link: &Link, producer: &mut Producer<'static>) {
    if !link.messages.ring() {
        producer.mark_gone();
    }
}

impl Half for Producer<'static> {
    #[inline(always)]
    fn is_ready(&self) -> bool {
        self.has_room()
    }

    fn is_peer_closed(&self) -> bool {
        self.is_peer_closed()
    }

    fn on_empty(&mut self) {}

    fn raise(&mut self) {
        self.raise();
    }

    fn lower(&mut self) {
        self.lower();
    }

    fn exchange_processor(&self, own: u32) -> Option<u32> {
        self.exchange_processor(own)
    }
}

/// A message that is being written in place. Dropping it aborts: nothing was sent.
#[must_use = "a reservation that is not committed is dropped unsent"]
pub struct Reservation<'s, T: Trust = Untrusted> {
    record: ring::Reservation<'s, 'static>,
    link: &'s Link,
    trust: PhantomData<fn() -> T>,
}

impl<T: Trust> Reservation<'_, T> {
    /// Bytes in the message.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.record.len()
    }

    /// Says whether the message has no bytes.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record.is_empty()
    }

    /// Copies `bytes` to `offset` in the message.
    ///
    /// # Panics
    /// If they do not fit.
    #[inline]
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        self.record.write_at(offset, bytes);
    }

    /// First byte of the message, for writers that fill memory themselves: aligned to 8 bytes, not zeroed, valid for `len` bytes
    /// while the reservation lives. A hostile peer may write there too.
    #[inline]
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.record.as_mut_ptr()
    }

    /// Sends the message. Wakes the peer only if it sleeps.
    #[inline]
    pub fn commit(self) {
        let Self { record, link, .. } = self;
        let (producer, wake) = record.publish();
        if wake {
            ring(link, producer);
        }
    }
}

impl Reservation<'_, Trusted> {
    /// The bytes of the message. They hold whatever was there before until they are written.
    #[inline]
    pub fn as_uninit_mut(&mut self) -> &mut [MaybeUninit<u8>] {
        let len = self.len();
        // SAFETY: the claimed record is ours until the commit; the peer writes nowhere, as `trust_peer` was promised.
        unsafe { core::slice::from_raw_parts_mut(self.record.as_mut_ptr().cast(), len) }
    }
}

/// Messages that are sent together. Dropping it aborts those that were not published yet.
#[must_use = "a batch that is not published is dropped unsent"]
pub struct Batch<'s, T: Trust = Untrusted> {
    sender: &'s mut Sender<T>,
    open: OpenBatch,
}

impl<T: Trust> Batch<'_, T> {
    /// Appends a copy of `message`. If the ring has no room for it, what the batch holds so far is published, and the call
    /// waits for room.
    ///
    /// # Errors
    /// As [`Sender::send`].
    #[inline]
    pub fn push(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.push_with(message, Patience::Endless)
    }

    /// Appends a copy of `message` if there is room now. The batch stays as it is if not.
    ///
    /// # Errors
    /// As [`Sender::try_send`].
    #[inline]
    pub fn try_push(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.push_with(message, Patience::None)
    }

    /// Appends a copy of `message`; waits for room for at most `timeout`, as [`Batch::push`] does.
    ///
    /// # Errors
    /// As [`Sender::send_timeout`].
    #[inline]
    pub fn push_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.push_with(message, Patience::Until(timeout))
    }

    #[inline(always)]
    fn push_with(&mut self, message: &[u8], patience: Patience) -> Result<(), SendError> {
        let Self { sender, open } = self;
        if open.len() == 0 {
            sender.check()?;
        }
        let index = match sender.producer.claim_next_fast(open, message.len()) {
            Some(index) => index,
            None => self.claim_slow(message.len(), patience)?,
        };
        let Self { sender, open } = self;
        sender.producer.write_next(open, index, message);
        Ok(())
    }

    #[cold]
    fn claim_slow(&mut self, len: usize, patience: Patience) -> Result<u64, SendError> {
        let Self { sender, open } = self;
        sender.check()?;
        match sender.producer.claim_next(open, len) {
            Ok(index) => {
                sender.check_stalled()?;
                Ok(index)
            }
            Err(refused) => {
                if matches!(refused, ReserveError::Full { .. }) && !matches!(patience, Patience::None) {
                    let wake = sender.producer.commit_batch(*open);
                    sender.wake(wake);
                    *open = OpenBatch::default();
                }
                sender.claim_late(refused, patience, |producer| producer.claim_next(open, len))
            }
        }
    }

    /// Messages in the batch that are not published yet.
    #[inline]
    #[must_use]
    pub fn len(&self) -> u64 {
        self.open.len()
    }

    /// Says whether there is nothing to publish.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Publishes the messages with one store, and wakes the peer only if it sleeps.
    ///
    /// # Errors
    /// [`SendError::Violation`] and [`SendError::Forked`]; nothing was published then.
    #[inline]
    pub fn publish(self) -> Result<(), SendError> {
        let Self { sender, open } = self;
        sender.check()?;
        let wake = sender.producer.commit_batch(open);
        sender.wake(wake);
        Ok(())
    }
}

impl<T: Trust> AsFd for Sender<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.space.as_fd()
    }
}

impl<T: Trust> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.link.is_original() {
            self.producer.close();
            self.link.messages.hang_up(Shutdown::Write);
        }
    }
}
