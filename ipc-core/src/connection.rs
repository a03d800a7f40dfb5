//! A connection: a sender and a receiver to the same peer.

use crate::error::{RecvError, SendError};
use crate::link::Link;
use crate::message::{Message, RecvBatch, Trust, Trusted, Untrusted};
use crate::os::admission::Peer;
use crate::receiver::Receiver;
use crate::sender::{Batch, Loan, Reservation, Sender};
use crate::terms::Mode;
use crate::wait::WaitStrategy;
use rustix::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;
use std::vec::Vec;

/// Both directions between two processes. Messages keep their order and arrive whole.
///
/// Made by [`crate::connect`] and [`crate::Listener::accept`]. Dropping it tells the peer; so does the death of the process.
pub struct Connection<T: Trust = Untrusted> {
    sender: Sender<T>,
    receiver: Receiver<T>,
}

impl Connection {
    /// # Safety
    /// The link was just made, and this is the only connection over it on this side.
    pub(crate) unsafe fn new(link: Link, strategy: WaitStrategy) -> Self {
        let link = Arc::new(link);
        // SAFETY: one half of each kind, by the caller's promise. Both keep the link, and with it the mapping, alive as long as
        // they live, so `'static` never outlives the memory.
        let (producer, consumer) = unsafe {
            let producer = link.outgoing().producer(link.barrier);
            let consumer = link.incoming().consumer(link.barrier);
            (extend_producer(producer), extend_consumer(consumer))
        };
        Self {
            // SAFETY: as above.
            sender: unsafe { Sender::new(producer, strategy, link.clone()) },
            // SAFETY: as above.
            receiver: unsafe { Receiver::new(consumer, strategy, link) },
        }
    }

    /// Believes the peer: from here on messages deref to `[u8]`, and reservations to `[MaybeUninit<u8>]`.
    ///
    /// Headers and positions are checked as before; only the bytes of messages are believed to stay as they were sent. Regions
    /// for loans that our arena grows by from now on are not sealed against writing by the peer: some processors pass messages in such
    /// memory up to a quarter faster. (Most copies lie in such regions with any peer: nobody looks at them again on this side.)
    ///
    /// # Safety
    /// As long as the connection, a message held from it or a loan detached from it lives, the peer does not write to the bytes of a
    /// message that it has sent, in the ring or in its arena, nor to the ring or the arena that it reads. A peer that runs this
    /// library's safe interface keeps to that.
    #[must_use]
    pub unsafe fn trust_peer(self) -> Connection<Trusted> {
        Connection { sender: self.sender.into_trusted(), receiver: self.receiver.into_trusted() }
    }
}

/// # Safety
/// The ring's memory outlives the half.
unsafe fn extend_producer(producer: crate::ring::Producer<'_>) -> crate::ring::Producer<'static> {
    // SAFETY: only the lifetime changes; the caller answers for it.
    unsafe { core::mem::transmute(producer) }
}

/// # Safety
/// The ring's memory outlives the half.
unsafe fn extend_consumer(consumer: crate::ring::Consumer<'_>) -> crate::ring::Consumer<'static> {
    // SAFETY: only the lifetime changes; the caller answers for it.
    unsafe { core::mem::transmute(consumer) }
}

impl<T: Trust> Connection<T> {
    /// Takes the connection apart, one half a thread.
    #[must_use]
    pub fn split(self) -> (Sender<T>, Receiver<T>) {
        (self.sender, self.receiver)
    }

    /// Puts the halves that [`Connection::split`] gave together again.
    #[cfg(feature = "tokio")]
    pub(crate) fn from_halves(sender: Sender<T>, receiver: Receiver<T>) -> Self {
        Self { sender, receiver }
    }

    /// The sending half.
    #[inline]
    pub fn sender(&mut self) -> &mut Sender<T> {
        &mut self.sender
    }

    /// The receiving half.
    #[inline]
    pub fn receiver(&mut self) -> &mut Receiver<T> {
        &mut self.receiver
    }

    /// Who the peer is, as the kernel says.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.sender.link().peer
    }

    /// Bytes of the segment with rings and exchange areas that the connection shares with its peer; 0 with mode
    /// [`Kernel`](crate::Mode::Kernel). Arenas are not in it: see [`Sender::arena`] and [`Receiver::mapped`].
    #[must_use]
    pub fn segment_size(&self) -> u64 {
        self.sender.link().size()
    }

    /// Chooses how blocking calls of both halves wait.
    pub fn set_wait_strategy(&mut self, strategy: WaitStrategy) {
        self.sender.set_wait_strategy(strategy);
        self.receiver.set_wait_strategy(strategy);
    }

    /// As [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`].
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.sender.send(message)
    }

    /// As [`Sender::try_send`].
    ///
    /// # Errors
    /// As [`Sender::try_send`].
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.sender.try_send(message)
    }

    /// As [`Sender::send_timeout`].
    ///
    /// # Errors
    /// As [`Sender::send_timeout`].
    #[inline]
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.sender.send_timeout(message, timeout)
    }

    /// As [`Sender::reserve`].
    ///
    /// # Errors
    /// As [`Sender::reserve`].
    #[inline]
    pub fn reserve(&mut self, len: usize) -> Result<Reservation<'_, T>, SendError> {
        self.sender.reserve(len)
    }

    /// As [`Sender::loan`].
    ///
    /// # Errors
    /// As [`Sender::loan`].
    #[inline]
    pub fn loan(&mut self, len: usize) -> Result<Loan<'_, T>, SendError> {
        self.sender.loan(len)
    }

    /// As [`Sender::send_vectored`].
    ///
    /// # Errors
    /// As [`Sender::send_vectored`].
    pub fn send_vectored(&mut self, slices: &[&[u8]]) -> Result<(), SendError> {
        self.sender.send_vectored(slices)
    }

    /// As [`Sender::send_with_files`].
    ///
    /// # Errors
    /// As [`Sender::send_with_files`].
    pub fn send_with_files(&mut self, message: &[u8], files: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        self.sender.send_with_files(message, files)
    }

    /// The lanes that the connection has: what both sides agreed on.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.sender.link().mode
    }

    /// As [`Sender::batch`].
    #[inline]
    pub fn batch(&mut self) -> Batch<'_, T> {
        self.sender.batch()
    }

    /// As [`Sender::undelivered`].
    ///
    /// # Errors
    /// As [`Sender::undelivered`].
    pub fn undelivered(&self) -> Result<Vec<Vec<u8>>, SendError> {
        self.sender.undelivered()
    }

    /// As [`Receiver::recv`].
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    #[inline]
    pub fn recv(&mut self) -> Result<Message<'_, T>, RecvError> {
        self.receiver.recv()
    }

    /// As [`Receiver::try_recv`].
    ///
    /// # Errors
    /// As [`Receiver::try_recv`].
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Message<'_, T>>, RecvError> {
        self.receiver.try_recv()
    }

    /// As [`Receiver::recv_timeout`].
    ///
    /// # Errors
    /// As [`Receiver::recv_timeout`].
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message<'_, T>, RecvError> {
        self.receiver.recv_timeout(timeout)
    }

    /// As [`Receiver::recv_batch`].
    ///
    /// # Errors
    /// As [`Receiver::recv_batch`].
    #[inline]
    pub fn recv_batch(&mut self, limit: u64) -> Result<RecvBatch<'_, T>, RecvError> {
        self.receiver.recv_batch(limit)
    }

    /// As [`Receiver::recv_into`].
    ///
    /// # Errors
    /// As [`Receiver::recv_into`].
    #[inline]
    pub fn recv_into(&mut self, target: &mut [u8]) -> Result<usize, RecvError> {
        self.receiver.recv_into(target)
    }

    /// As [`Receiver::arm`].
    ///
    /// # Errors
    /// As [`Receiver::arm`].
    pub fn arm(&mut self) -> Result<bool, RecvError> {
        self.receiver.arm()
    }
}

/// The receiver's descriptor, for `poll`, `epoll` and event loops: see [`Receiver::arm`].
impl<T: Trust> AsFd for Connection<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}
