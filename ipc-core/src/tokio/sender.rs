//! The sending half in a runtime.

use super::reactor::{RegisterError, Registered};
use crate::error::SendError;
use crate::message::{Trust, Untrusted};
use crate::sender::Reservation;
use core::future::poll_fn;

/// The sending half of a connection, for one task at a time.
pub struct Sender<T: Trust = Untrusted> {
    inner: Registered<crate::Sender<T>>,
}

impl<T: Trust> Sender<T> {
    /// Registers a half with the runtime that the caller runs in.
    ///
    /// # Errors
    /// [`RegisterError`], which gives the half back: there is no runtime here, or the system refuses (no memory, too many
    /// watched descriptors).
    ///
    /// # Panics
    /// If the runtime was built without `enable_io`.
    pub fn from_sync(sender: crate::Sender<T>) -> Result<Self, RegisterError<crate::Sender<T>>> {
        Ok(Self { inner: Registered::new(sender)? })
    }

    /// Takes the half out of the runtime. Nothing is lost.
    #[must_use]
    pub fn into_sync(self) -> crate::Sender<T> {
        self.inner.into_inner()
    }

    /// The half itself: counts, status, what the peer has not consumed.
    #[must_use]
    pub fn get_ref(&self) -> &crate::Sender<T> {
        self.inner.get()
    }

    /// Sends a copy of `message`; waits for room if there is none.
    ///
    /// # Errors
    /// As [`crate::Sender::send`]; [`SendError::Os`] if the runtime is shutting down. [`SendError::TooLarge`] too, as for
    /// [`crate::Sender::try_send`], for a message that only a call that waits half-way could send: in pieces, in mode `Kernel`.
    ///
    /// # Cancel safety
    /// A future that is dropped before it is ready has sent nothing; one that is ready has sent the whole message.
    #[inline]
    pub async fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        match self.inner.at_once(|sender| or_none(sender.try_send(message)))? {
            Some(()) => Ok(()),
            None => self.until_room(|sender| sender.try_send(message)).await,
        }
    }

    /// Sends a copy of `message` if there is room for it now.
    ///
    /// # Errors
    /// As [`crate::Sender::try_send`].
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.inner.get_mut().try_send(message)
    }

    /// Reserves a message of `len` bytes, to be written in place; waits for room. The bytes are not zeroed.
    ///
    /// # Errors
    /// As [`Sender::send`].
    ///
    /// # Cancel safety
    /// A future that is dropped, like a reservation that is dropped, has sent nothing.
    #[inline]
    pub async fn reserve(&mut self, len: usize) -> Result<Reservation<'_, T>, SendError> {
        self.until_room(|sender| sender.try_reserve(len).map(drop)).await?;
        // The room that was found stays: the peer can only add to it, and a reservation that is dropped takes none.
        self.inner.get_mut().try_reserve(len)
    }

    /// Reserves a message of `len` bytes if there is room now.
    ///
    /// # Errors
    /// As [`crate::Sender::try_reserve`].
    #[inline]
    pub fn try_reserve(&mut self, len: usize) -> Result<Reservation<'_, T>, SendError> {
        self.inner.get_mut().try_reserve(len)
    }

    /// Waits for room for the first of `messages`, sends as many as there is room for, packed tight and published together, and
    /// returns how many those are: 0 only if none were given.
    ///
    /// # Errors
    /// As [`Sender::send`]; nothing was sent then. If a message after the first cannot be sent, those before it are, and the next
    /// call says why.
    ///
    /// # Cancel safety
    /// A future that is dropped before it is ready has sent nothing.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn all(sender: &mut ipc_core::tokio::Sender, messages: &[Vec<u8>]) -> Result<(), ipc_core::SendError> {
    /// let mut rest = messages;
    /// while !rest.is_empty() {
    ///     rest = &rest[sender.send_batch(rest).await?..];
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send_batch(&mut self, messages: &[impl AsRef<[u8]>]) -> Result<usize, SendError> {
        self.until_room(|sender| {
            let mut batch = sender.batch();
            let mut sent = 0;
            for message in messages {
                match batch.try_push(message.as_ref()) {
                    Ok(()) => sent += 1,
                    Err(refused) if sent == 0 => return Err(refused),
                    Err(_) => break,
                }
            }
            batch.publish().map(|()| sent)
        })
        .await
    }

    /// Asks the kernel whether the peer is gone. A sender that waits or fills the ring learns it anyway; one that sends now and then
    /// can ask here.
    pub fn is_peer_gone(&mut self) -> bool {
        self.inner.get_mut().is_peer_gone()
    }

    /// Times that a call went to sleep.
    #[must_use]
    pub fn sleeps(&self) -> u64 {
        self.inner.sleeps()
    }

    /// Calls `attempt`, which does the whole of its work or none, until it finds room.
    async fn until_room<R>(
        &mut self,
        mut attempt: impl FnMut(&mut crate::Sender<T>) -> Result<R, SendError>,
    ) -> Result<R, SendError> {
        poll_fn(|cx| {
            // Not [E4]: room in the ring and blocks of the arena have a ticket each, and our receiver may have consumed more, which is
            // to be given back before we wait.
            self.inner.disarm();
            let attempt = |sender: &mut crate::Sender<T>| or_none(attempt(sender));
            self.inner.poll_until(cx, attempt, crate::Sender::arm, SendError::Os)
        })
        .await
    }
}

/// `None` for want of room.
#[inline(always)]
fn or_none<R>(result: Result<R, SendError>) -> Result<Option<R>, SendError> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(SendError::WouldBlock { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl<T: Trust> TryFrom<crate::Sender<T>> for Sender<T> {
    type Error = RegisterError<crate::Sender<T>>;

    fn try_from(sender: crate::Sender<T>) -> Result<Self, Self::Error> {
        Self::from_sync(sender)
    }
}

impl<T: Trust> From<Sender<T>> for crate::Sender<T> {
    fn from(sender: Sender<T>) -> Self {
        sender.into_sync()
    }
}
