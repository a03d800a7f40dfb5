//! The receiving half in a runtime.

use super::reactor::{RegisterError, Registered};
use crate::error::RecvError;
use crate::message::{Message, RecvBatch, Trust, Untrusted};
use crate::os::processor;
use crate::sync::spin_hint;
use core::future::poll_fn;
use core::task::{Context, Poll};

/// Looks at the ring before the task goes to sleep. While a stream flows the next message is some tens of nanoseconds away, and
/// sleeping costs both sides microseconds; these cost at most about one.
const LOOKS: u32 = 32;

/// The receiving half of a connection, for one task at a time. Messages arrive in the order in which they were sent.
pub struct Receiver<T: Trust = Untrusted> {
    inner: Registered<crate::Receiver<T>>,
}

impl<T: Trust> Receiver<T> {
    /// Registers a half with the runtime that the caller runs in.
    ///
    /// # Errors
    /// [`RegisterError`], which gives the half back: there is no runtime here, or the system refuses (no memory, too many
    /// watched descriptors).
    ///
    /// # Panics
    /// If the runtime was built without `enable_io`.
    pub fn from_sync(receiver: crate::Receiver<T>) -> Result<Self, RegisterError<crate::Receiver<T>>> {
        Ok(Self { inner: Registered::new(receiver)? })
    }

    /// Takes the half out of the runtime. Nothing is lost.
    #[must_use]
    pub fn into_sync(self) -> crate::Receiver<T> {
        self.inner.into_inner()
    }

    /// The half itself: counts, status, a look whether a message is there.
    #[must_use]
    pub fn get_ref(&self) -> &crate::Receiver<T> {
        self.inner.get()
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// As [`crate::Receiver::recv`]; [`RecvError::Os`] if the runtime is shutting down.
    ///
    /// # Cancel safety
    /// A future that is dropped has taken nothing: what comes is received by the next call.
    #[inline]
    pub async fn recv(&mut self) -> Result<Message<'_, T>, RecvError> {
        let take = |receiver: &mut crate::Receiver<T>| receiver.try_take(usize::MAX);
        if let Some(body) = self.inner.at_once(take)? {
            return Ok(Message::new(self.inner.get_mut(), body));
        }
        let body = poll_fn(|cx| self.poll_taken(cx, take)).await?;
        Ok(Message::new(self.inner.get_mut(), body))
    }

    /// The next message if there is one. It never waits.
    ///
    /// # Errors
    /// As [`crate::Receiver::try_recv`].
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Message<'_, T>>, RecvError> {
        self.inner.get_mut().try_recv()
    }

    /// Waits for at least one message, then takes up to `limit` that are there; their space is given back once.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    ///
    /// # Cancel safety
    /// As [`Receiver::recv`]. The batch itself does not wait.
    #[inline]
    pub async fn recv_batch(&mut self, limit: u64) -> Result<RecvBatch<'_, T>, RecvError> {
        let place = poll_fn(|cx| self.poll_taken(cx, crate::Receiver::try_find)).await?;
        let receiver = self.inner.get_mut();
        receiver.go_to(place);
        Ok(RecvBatch::new(receiver, place, limit.max(1)))
    }

    /// Waits for the next message, copies it to the start of `target` and returns its length.
    ///
    /// # Errors
    /// As [`Receiver::recv`], and [`RecvError::TooShort`] if `target` is shorter than the message, which stays where it is and
    /// is received next.
    ///
    /// # Cancel safety
    /// As [`Receiver::recv`]; `target` is as it was.
    #[inline]
    pub async fn recv_into(&mut self, target: &mut [u8]) -> Result<usize, RecvError> {
        if let Some(len) = self.inner.at_once(|receiver| copy(receiver, target))? {
            return Ok(len);
        }
        poll_fn(|cx| self.poll_taken(cx, |receiver| copy(receiver, target))).await
    }

    /// Times that a call went to sleep.
    #[must_use]
    pub fn sleeps(&self) -> u64 {
        self.inner.sleeps()
    }

    /// Takes the next message, in some way. Whoever gets it must release it, or go back, before anything can be cancelled: without an
    /// `await` in between.
    #[inline]
    fn poll_taken<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&mut crate::Receiver<T>) -> Result<Option<R>, RecvError>,
    ) -> Poll<Result<R, RecvError>> {
        let take_soon = |receiver: &mut crate::Receiver<T>| match take(receiver)? {
            None if is_ready_soon(receiver) => take(receiver),
            taken => Ok(taken),
        };
        self.inner.poll_until(cx, take_soon, crate::Receiver::arm, RecvError::Os)
    }
}

/// Copies the next message if there is one.
#[inline(always)]
fn copy<T: Trust>(receiver: &mut crate::Receiver<T>, target: &mut [u8]) -> Result<Option<usize>, RecvError> {
    match receiver.try_take(target.len())? {
        Some(body) => Ok(Some(Message::new(receiver, body).copy_to(target)?)),
        None => Ok(None),
    }
}

#[cold]
fn is_ready_soon<T: Trust>(receiver: &crate::Receiver<T>) -> bool {
    let looks = if processor::is_single() { 0 } else { LOOKS };
    (0..looks).any(|_| {
        spin_hint();
        receiver.is_ready()
    })
}

impl<T: Trust> TryFrom<crate::Receiver<T>> for Receiver<T> {
    type Error = RegisterError<crate::Receiver<T>>;

    fn try_from(receiver: crate::Receiver<T>) -> Result<Self, Self::Error> {
        Self::from_sync(receiver)
    }
}

impl<T: Trust> From<Receiver<T>> for crate::Receiver<T> {
    fn from(receiver: Receiver<T>) -> Self {
        receiver.into_sync()
    }
}
