//! Both halves of a connection in a runtime.

use super::reactor::RegisterError;
use super::receiver::Receiver;
use super::sender::Sender;
use crate::error::{RecvError, SendError};
use crate::message::{Message, RecvBatch, Trust, Untrusted};
use crate::os::admission::Peer;
use crate::sender::Reservation;

/// Both directions between two processes, for tasks. Messages keep their order and arrive whole.
///
/// Dropping it tells the peer; so does the death of the process.
pub struct Connection<T: Trust = Untrusted> {
    sender: Sender<T>,
    receiver: Receiver<T>,
}

impl<T: Trust> Connection<T> {
    /// Registers a connection with the runtime that the caller runs in.
    ///
    /// # Errors
    /// [`RegisterError`], which gives the connection back: there is no runtime here, or the system refuses (no memory, too many
    /// watched descriptors).
    ///
    /// # Panics
    /// If the runtime was built without `enable_io`.
    pub fn from_sync(connection: crate::Connection<T>) -> Result<Self, RegisterError<crate::Connection<T>>> {
        let (sender, receiver) = connection.split();
        let sender = match Sender::from_sync(sender) {
            Ok(sender) => sender,
            Err(refused) => return Err(refused.map(|sender| crate::Connection::from_halves(sender, receiver))),
        };
        match Receiver::from_sync(receiver) {
            Ok(receiver) => Ok(Self { sender, receiver }),
            Err(refused) => Err(refused.map(|receiver| crate::Connection::from_halves(sender.into_sync(), receiver))),
        }
    }

    /// Takes the connection out of the runtime. Nothing is lost.
    #[must_use]
    pub fn into_sync(self) -> crate::Connection<T> {
        crate::Connection::from_halves(self.sender.into_sync(), self.receiver.into_sync())
    }

    /// Takes the connection apart, one half a task.
    #[must_use]
    pub fn split(self) -> (Sender<T>, Receiver<T>) {
        (self.sender, self.receiver)
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
        &self.sender.get_ref().link().peer
    }

    /// As [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`].
    ///
    /// # Cancel safety
    /// As [`Sender::send`].
    #[inline]
    pub async fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.sender.send(message).await
    }

    /// As [`Sender::reserve`].
    ///
    /// # Errors
    /// As [`Sender::reserve`].
    ///
    /// # Cancel safety
    /// As [`Sender::reserve`].
    #[inline]
    pub async fn reserve(&mut self, len: usize) -> Result<Reservation<'_, T>, SendError> {
        self.sender.reserve(len).await
    }

    /// As [`Sender::send_batch`].
    ///
    /// # Errors
    /// As [`Sender::send_batch`].
    ///
    /// # Cancel safety
    /// As [`Sender::send_batch`].
    #[inline]
    pub async fn send_batch(&mut self, messages: &[impl AsRef<[u8]>]) -> Result<usize, SendError> {
        self.sender.send_batch(messages).await
    }

    /// As [`Receiver::recv`].
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    ///
    /// # Cancel safety
    /// As [`Receiver::recv`].
    #[inline]
    pub async fn recv(&mut self) -> Result<Message<'_, T>, RecvError> {
        self.receiver.recv().await
    }

    /// As [`Receiver::recv_batch`].
    ///
    /// # Errors
    /// As [`Receiver::recv_batch`].
    ///
    /// # Cancel safety
    /// As [`Receiver::recv_batch`].
    #[inline]
    pub async fn recv_batch(&mut self, limit: u64) -> Result<RecvBatch<'_, T>, RecvError> {
        self.receiver.recv_batch(limit).await
    }

    /// As [`Receiver::recv_into`].
    ///
    /// # Errors
    /// As [`Receiver::recv_into`].
    ///
    /// # Cancel safety
    /// As [`Receiver::recv_into`].
    #[inline]
    pub async fn recv_into(&mut self, target: &mut [u8]) -> Result<usize, RecvError> {
        self.receiver.recv_into(target).await
    }
}

impl<T: Trust> TryFrom<crate::Connection<T>> for Connection<T> {
    type Error = RegisterError<crate::Connection<T>>;

    fn try_from(connection: crate::Connection<T>) -> Result<Self, Self::Error> {
        Self::from_sync(connection)
    }
}

impl<T: Trust> From<Connection<T>> for crate::Connection<T> {
    fn from(connection: Connection<T>) -> Self {
        connection.into_sync()
    }
}
