//! The sending half of a connection.
//!
//! The way of a message: `send` → the ring, if it is small and there is room, in a few instructions; otherwise `lanes`: route, credit,
//! and the lane that was chosen.

mod batch;
mod beside;
mod blocks;
mod coalesce;
mod content;
mod lanes;
mod loan;
mod need;
mod offers;
mod queue;
mod reservation;
mod undelivered;

pub use batch::Batch;
pub(crate) use coalesce::Coalescing;
pub use loan::{DetachedLoan, Loan, Unsent, ValueLoan};
pub use reservation::Reservation;

use crate::arena::lender::ArenaStatus;
use crate::error::Resource;
use crate::error::SendError;
use crate::link::Link;
use crate::message::{Trust, Untrusted};
use crate::os::bell::{Deadline, Drained};
use crate::ring::{OpenBatch, Producer, ReserveError, RingStatus};
use crate::router::{Override, Router, RouterError};
use crate::terms::Credit;
use crate::wait::{WaitStrategy, Waited, Waiter};
use content::Content;
use core::marker::PhantomData;
use lanes::Lanes;
use need::{Need, Sending};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::net::Shutdown;
use std::boxed::Box;
use std::sync::Arc;
use std::time::Duration;
use std::vec::Vec;

/// The sending half of a connection. One thread at a time.
///
/// Its descriptor ([`AsFd`]) becomes readable after [`Sender::arm`] said that the peer has made no room yet.
pub struct Sender<T: Trust = Untrusted> {
    producer: Producer<'static>,
    waiter: Waiter,
    lanes: Box<Lanes>,
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

impl Patience {
    fn is_none(self) -> bool {
        matches!(self, Self::None)
    }

    /// The deadline of a call, made when it first waits; `None` if it does not wait.
    fn deadline(self, made: &mut Option<Deadline>) -> Option<Deadline> {
        match self {
            Self::None => None,
            Self::Until(timeout) => Some(*made.get_or_insert_with(|| Deadline::after(timeout))),
            Self::Endless => Some(*made.get_or_insert_with(Deadline::never)),
        }
    }
}

impl<T: Trust> Sender<T> {
    /// # Safety
    /// The link lives as long as the producer's memory is used; this is its only sender on this side.
    pub(crate) unsafe fn new(mut producer: Producer<'static>, strategy: WaitStrategy, link: Arc<Link>) -> Self {
        // SAFETY: the caller's promise; the sender keeps the link.
        let lanes = Box::new(unsafe { Lanes::new(&link, &mut producer) });
        Self { producer, waiter: Waiter::new(strategy), lanes, link, trust: PhantomData }
    }

    pub(crate) fn into_trusted<U: Trust>(mut self) -> Sender<U> {
        if let Some(lender) = self.lanes.lender_mut() {
            lender.open_all();
        }
        let this = core::mem::ManuallyDrop::new(self);
        // SAFETY: each field is moved out once, and the source is not dropped.
        unsafe {
            Sender {
                producer: core::ptr::read(&this.producer),
                waiter: core::ptr::read(&this.waiter),
                lanes: core::ptr::read(&this.lanes),
                link: core::ptr::read(&this.link),
                trust: PhantomData,
            }
        }
    }

    /// Sends a copy of `message`, on the lane that costs least; waits for room if there is none.
    ///
    /// # Errors
    /// [`SendError::TooLarge`] beyond [`Sender::max_message`]; [`SendError::Disconnected`] if the peer is gone;
    /// [`SendError::Violation`] if it broke the protocol; [`SendError::Forked`] in a forked child; [`SendError::Memory`] if the system
    /// has none for a message beside the ring; [`SendError::Os`] if it fails otherwise.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_with(message, Patience::Endless)
    }

    /// Sends a copy of `message` if there is room for it now.
    ///
    /// # Errors
    /// As [`Sender::send`], and [`SendError::WouldBlock`]. [`SendError::TooLarge`] comes sooner where a message travels in pieces
    /// (mode [`Kernel`](crate::Mode::Kernel)): all of them have to fit the queue at once.
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
        self.check()?;
        if !self.producer.claim_fast(message.len()) {
            return self.send_slow(&Content::of(message), &[], patience);
        }
        let mut record = self.producer.reservation(message.len());
        record.write_at(0, message);
        let wake = record.publish().1;
        self.wake(wake);
        Ok(())
    }

    /// Sends the slices, one behind the other, as one message; waits for room.
    ///
    /// # Errors
    /// As [`Sender::send`].
    ///
    /// # Examples
    /// ```no_run
    /// # let mut client = ipc_core::connect("sensors")?;
    /// client.sender().send_vectored(&[&b"header"[..], b"body"])?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_vectored(&mut self, slices: &[&[u8]]) -> Result<(), SendError> {
        self.send_slow(&Content::new(slices), &[], Patience::Endless)
    }

    /// As [`Sender::send_vectored`], if there is room now.
    ///
    /// # Errors
    /// As [`Sender::try_send`].
    pub fn try_send_vectored(&mut self, slices: &[&[u8]]) -> Result<(), SendError> {
        self.send_slow(&Content::new(slices), &[], Patience::None)
    }

    /// As [`Sender::send_vectored`]; waits for room for at most `timeout`.
    ///
    /// # Errors
    /// As [`Sender::send_timeout`].
    pub fn send_vectored_timeout(&mut self, slices: &[&[u8]], timeout: Duration) -> Result<(), SendError> {
        self.send_slow(&Content::new(slices), &[], Patience::Until(timeout))
    }

    /// Sends a copy of `message` with files beside it: the receiver gets descriptors of its own for the same open files, sockets or
    /// buffers. At most 63; they stay open here. Waits for room.
    ///
    /// # Errors
    /// As [`Sender::send`], and [`SendError::TooManyFiles`].
    pub fn send_with_files(&mut self, message: &[u8], files: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        self.send_slow(&Content::of(message), files, Patience::Endless)
    }

    /// As [`Sender::send_with_files`], if there is room now.
    ///
    /// # Errors
    /// As [`Sender::send_with_files`], and [`SendError::WouldBlock`].
    pub fn try_send_with_files(&mut self, message: &[u8], files: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        self.send_slow(&Content::of(message), files, Patience::None)
    }

    /// As [`Sender::send_with_files`]; waits for room for at most `timeout`.
    ///
    /// # Errors
    /// As [`Sender::send_with_files`], and [`SendError::TimedOut`].
    pub fn send_with_files_timeout(
        &mut self,
        message: &[u8],
        files: &[BorrowedFd<'_>],
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.send_slow(&Content::of(message), files, Patience::Until(timeout))
    }

    /// Reserves a message of `len` bytes in the ring, to be written in place; waits for room. The bytes are not zeroed. For longer
    /// messages there are [loans](Sender::loan).
    ///
    /// # Errors
    /// As [`Sender::send`], but [`SendError::TooLarge`] beyond [`Sender::max_reservation`] and never [`SendError::Memory`].
    #[inline]
    pub fn reserve(&mut self, len: usize) -> Result<Reservation<'_, T>, SendError> {
        self.reserve_with(len, Patience::Endless)
    }

    /// As [`Sender::reserve`], if there is room now.
    ///
    /// # Errors
    /// As [`Sender::reserve`], and [`SendError::WouldBlock`].
    #[inline]
    pub fn try_reserve(&mut self, len: usize) -> Result<Reservation<'_, T>, SendError> {
        self.reserve_with(len, Patience::None)
    }

    /// As [`Sender::reserve`]; waits for room for at most `timeout`.
    ///
    /// # Errors
    /// As [`Sender::reserve`], and [`SendError::TimedOut`].
    #[inline]
    pub fn reserve_timeout(&mut self, len: usize, timeout: Duration) -> Result<Reservation<'_, T>, SendError> {
        self.reserve_with(len, Patience::Until(timeout))
    }

    #[inline(always)]
    fn reserve_with(&mut self, len: usize, patience: Patience) -> Result<Reservation<'_, T>, SendError> {
        self.claim(len, patience)?;
        let Self { producer, lanes, link, .. } = self;
        Ok(Reservation { record: producer.reservation(len), lanes, link, trust: PhantomData })
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

    /// The largest message this connection takes, in bytes: what the peer accepts.
    #[must_use]
    pub fn max_message(&self) -> u64 {
        self.lanes.max_message()
    }

    /// The largest message that can be [reserved](Self::reserve) in the ring, in bytes: a quarter of it, less 8; in the modes
    /// [`Kernel`](crate::Mode::Kernel) and [`Hybrid`](crate::Mode::Hybrid) at most what a packet takes, 65,528.
    #[must_use]
    pub fn max_reservation(&self) -> u64 {
        self.producer.max_record()
    }

    /// What the peer lets us have on the way to it.
    #[must_use]
    pub fn credit(&self) -> Credit {
        self.link.peer_credit
    }

    /// What this half's arena holds.
    #[must_use]
    pub fn arena(&self) -> ArenaStatus {
        self.lanes.arena()
    }

    /// How messages are routed.
    #[must_use]
    pub fn router(&self) -> &Router {
        self.lanes.router()
    }

    /// Fixes the lane of messages, or the size up to which they stay in the ring; or lets the costs decide again.
    ///
    /// # Errors
    /// [`RouterError`] if this connection has no such lane.
    pub fn set_route(&mut self, route: Override) -> Result<(), RouterError> {
        self.lanes.set_route(route, &mut self.producer)
    }

    /// Gives address space and memory of the arena back that were not used for at least `idle`, as far as that goes without waiting, and
    /// returns the bytes given back: none while the ring has no room to tell the peer. Senders that go on sending do so by themselves
    /// after 10 s.
    ///
    /// # Errors
    /// [`SendError::Disconnected`], [`SendError::Violation`] and [`SendError::Forked`].
    pub fn trim(&mut self, idle: Duration) -> Result<u64, SendError> {
        self.check()?;
        match self.trim_regions(Some(idle), Patience::None, &mut None) {
            Err(SendError::WouldBlock { .. }) => Ok(0),
            trimmed => trimmed,
        }
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

    /// A look at the ring that this half writes. In the modes [`Kernel`](crate::Mode::Kernel) and [`Hybrid`](crate::Mode::Hybrid) that is
    /// a queue of this process, and the peer's part of it is what came in packets.
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
        let gone = self.producer.is_peer_closed() || self.link.space.is_peer_gone();
        if gone {
            // From here on nothing is sent, not even what there is room for.
            self.producer.mark_gone();
        }
        gone
    }

    /// As [`Sender::is_peer_gone`], with what it did not get in the error.
    ///
    /// # Errors
    /// [`SendError::Disconnected`] if it is gone; [`SendError::Violation`] and [`SendError::Forked`].
    ///
    /// # Examples
    /// ```no_run
    /// let mut client = ipc_core::connect("sensors")?;
    /// if let Err(ipc_core::SendError::Disconnected { undelivered }) = client.sender().check_peer() {
    ///     println!("{undelivered} messages were not consumed");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn check_peer(&mut self) -> Result<(), SendError> {
        self.check()?;
        if self.is_peer_gone() { Err(self.disconnected()) } else { Ok(()) }
    }

    /// After [`SendError::WouldBlock`]: true if there is still no room and the descriptor becomes readable when there is some or
    /// the peer goes; false if it is worth trying again now. To be called before each sleep on the descriptor.
    ///
    /// # Errors
    /// [`SendError::Violation`] and [`SendError::Forked`].
    pub fn arm(&mut self) -> Result<bool, SendError> {
        self.check()?;
        match self.link.space.drain() {
            Drained::All => {}
            Drained::Some => return Ok(false),
            Drained::PeerGone => {
                self.producer.mark_gone();
                return Ok(false);
            }
        }
        self.give_held_credit();
        let Self { producer, lanes, link, .. } = self;
        let need = lanes.last_need();
        Ok(Sending { producer, lanes, link, need }.arm())
    }

    /// The messages that the peer has not consumed, oldest first. Once it is gone this is what it never got. Files beside them are
    /// not among it. A hostile peer may have changed those in the ring, and copies in the arena; loans and files are as they were sent.
    ///
    /// A message counts as consumed when the peer dropped its guard of it, or [held](crate::Message::hold) it. If messages travel in
    /// packets (modes `Kernel` and `Hybrid`) and the peer died, it may have consumed some of these without having said so: up to an
    /// eighth of the queue.
    ///
    /// # Errors
    /// [`SendError::Violation`] if the peer destroyed them, [`SendError::Forked`] in a forked child, [`SendError::Memory`] if one in a
    /// file cannot be mapped again.
    pub fn undelivered(&self) -> Result<Vec<Vec<u8>>, SendError> {
        if !self.link.is_original() {
            return Err(SendError::Forked);
        }
        self.lanes.hear_again(&self.link)?;
        self.lanes.undelivered(&self.producer)
    }

    /// The same, and gives up what the messages occupied: the arena is empty afterwards. For a peer that is gone.
    ///
    /// # Errors
    /// As [`Sender::undelivered`], and [`SendError::WouldBlock`] if the peer is still there.
    pub fn take_undelivered(&mut self) -> Result<Vec<Vec<u8>>, SendError> {
        let messages = self.undelivered()?;
        if !self.is_peer_gone() {
            let (needed, free) = (0, 0);
            return Err(SendError::WouldBlock { resource: Resource::Messages, needed, free });
        }
        self.lanes.reclaim_all();
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

    /// Finds room for a record of `len` bytes.
    #[inline(always)]
    fn claim(&mut self, len: usize, patience: Patience) -> Result<(), SendError> {
        self.check()?;
        if self.producer.claim_fast(len) { Ok(()) } else { self.claim_checked(len, patience) }
    }

    #[cold]
    fn claim_checked(&mut self, len: usize, patience: Patience) -> Result<(), SendError> {
        // The receiver may accept less than a record has room for.
        let (len, max) = (len as u64, self.max_message());
        if len > max {
            return Err(SendError::TooLarge { len, max });
        }
        self.claim_slow(len as usize, patience, &mut None)
    }

    #[cold]
    fn claim_slow(&mut self, len: usize, patience: Patience, made: &mut Option<Deadline>) -> Result<(), SendError> {
        if self.lanes.is_guarded() {
            self.await_credit(patience, made)?;
        }
        match self.producer.claim(len) {
            Ok(()) => self.check_stalled(),
            Err(refused) => self.claim_late(refused, patience, made, |producer| producer.claim(len)),
        }
    }

    /// If the peer has not moved for an eighth of the ring: is it still there?
    fn check_stalled(&mut self) -> Result<(), SendError> {
        // A socket says so by itself.
        let asks = self.producer.take_stalled() && !self.link.mode.queues_in_socket();
        if asks && self.is_peer_gone() { Err(self.disconnected()) } else { Ok(()) }
    }

    /// Before this side waits for room: the peer may wait for room too, and the space that our receiver has consumed and holds back
    /// would be what it waits for.
    fn give_held_credit(&self) {
        if !self.link.mode.queues_in_socket() && self.link.incoming().give_held_credit(self.link.barrier) {
            self.link.space.ring();
        }
    }

    /// Waits for the room that was refused, as long as `patience` allows, and claims again.
    #[cold]
    fn claim_late<R>(
        &mut self,
        mut refused: ReserveError,
        patience: Patience,
        made: &mut Option<Deadline>,
        mut claim: impl FnMut(&mut Producer<'static>) -> Result<R, ReserveError>,
    ) -> Result<R, SendError> {
        let mut heard = false;
        loop {
            let (needed, free) = self.refusal(refused)?;
            // Credit that comes in packets may be there already.
            if !heard && self.lanes.hear(&self.link, &mut self.producer)? {
                heard = true;
            } else {
                self.wait(Need::Room, Shortage { resource: Resource::Ring, needed, free }, patience, made)?;
            }
            match claim(&mut self.producer) {
                Ok(claimed) => return Ok(claimed),
                Err(again) => refused = again,
            }
        }
    }

    /// What the ring said, if it only lacks room: bytes needed and free.
    fn refusal(&mut self, refused: ReserveError) -> Result<(u64, u64), SendError> {
        match refused {
            ReserveError::Full { needed, free } => Ok((needed, free)),
            ReserveError::TooLarge { len, max } => Err(SendError::TooLarge { len, max }),
            ReserveError::Closed => Err(self.disconnected()),
            ReserveError::Violation(violation) => Err(self.link.condemn(violation).into()),
        }
    }

    /// Waits until there may be what was short, as long as `patience` allows.
    fn wait(
        &mut self,
        need: Need,
        shortage: Shortage,
        patience: Patience,
        made: &mut Option<Deadline>,
    ) -> Result<(), SendError> {
        let Shortage { resource, needed, free } = shortage;
        self.lanes.note_need(need);
        let Some(deadline) = patience.deadline(made) else {
            // As before a wait.
            self.lanes.ring_deferred(&self.link, &mut self.producer);
            return Err(if self.is_peer_gone() {
                self.disconnected()
            } else {
                SendError::WouldBlock { resource, needed, free }
            });
        };
        self.give_held_credit();
        let Self { producer, lanes, link, waiter, .. } = self;
        let mut half = Sending { producer, lanes, link, need };
        match waiter.wait(&mut half, &link.space, || deadline)? {
            // Credit that comes without end, and is none, must not keep us beyond the deadline.
            Waited::Ready if link.mode.queues_in_socket() && deadline.is_over() && !half.is_met() => {
                Err(SendError::TimedOut { waited: deadline.waited(), resource, needed, free })
            }
            Waited::Ready => Ok(()),
            Waited::TimedOut => Err(SendError::TimedOut { waited: deadline.waited(), resource, needed, free }),
            Waited::PeerGone => {
                self.producer.mark_gone();
                Err(self.disconnected())
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
            self.lanes.call(&self.link, &mut self.producer);
        }
    }

    #[cold]
    fn disconnected(&mut self) -> SendError {
        if let Some(violation) = self.link.violation() {
            return violation.into();
        }
        // Credit that came in packets before the peer went counts; what else is in them is heard, and reported, elsewhere.
        let _ = self.lanes.hear_again(&self.link);
        self.lanes.collect_last();
        match self.lanes.count_undelivered(&self.producer) {
            Ok((undelivered, blocks)) => {
                // What the peer held when it went comes back.
                self.lanes.reclaim(&blocks);
                SendError::Disconnected { undelivered }
            }
            Err(violation) => violation.into(),
        }
    }
}

/// What there was too little of.
struct Shortage {
    resource: Resource,
    needed: u64,
    free: u64,
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
            self.lanes.close(&self.link);
            self.link.messages.hang_up(Shutdown::Write);
        }
    }
}
