//! Accepting connections in a runtime.

use super::connection::Connection;
use super::reactor::{RegisterError, Registered, is_readable};
use crate::listener::{AcceptError, ListenError};
use ::tokio::time::{Instant, Sleep, sleep};
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::boxed::Box;
use std::ffi::OsStr;

/// Accepts connections under a name, for one task at a time. Dropping it takes the name away.
///
/// Clients that have connected and keep silent are forgotten at their time as long as a task waits in [`Listener::accept`].
pub struct Listener {
    inner: Registered<crate::Listener>,
    /// When the oldest silent client is to be forgotten, if there is one.
    timer: Pin<Box<Sleep>>,
}

impl Listener {
    /// Listens under this name or absolute path, with the defaults, in the runtime that the caller runs in. For other options make a
    /// [`crate::Listener`] and register it with [`Listener::from_sync`].
    ///
    /// It asks the file system, and waits for up to 2 s if another process holds the lock of the socket's directory.
    ///
    /// # Errors
    /// As [`crate::Listener::bind`]; [`ListenError::Events`] if the runtime does not take the descriptor.
    ///
    /// # Panics
    /// If the runtime was built without `enable_io` or without `enable_time`.
    pub fn bind(name: impl AsRef<OsStr>) -> Result<Self, ListenError> {
        Self::from_sync(crate::Listener::bind(name)?).map_err(|refused| ListenError::Events(refused.into_parts().1))
    }

    /// Registers a listener with the runtime that the caller runs in.
    ///
    /// # Errors
    /// [`RegisterError`], which gives the listener back: there is no runtime here, or the system refuses (no memory, too many
    /// watched descriptors).
    ///
    /// # Panics
    /// If the runtime was built without `enable_io` or without `enable_time`.
    pub fn from_sync(listener: crate::Listener) -> Result<Self, RegisterError<crate::Listener>> {
        let inner = Registered::new(listener)?;
        Ok(Self { inner, timer: Box::pin(sleep(Duration::ZERO)) })
    }

    /// Takes the listener out of the runtime. Clients that have connected stay with it.
    #[must_use]
    pub fn into_sync(self) -> crate::Listener {
        self.inner.into_inner()
    }

    /// The listener itself: path, counts, the last refusal.
    #[must_use]
    pub fn get_ref(&self) -> &crate::Listener {
        self.inner.get()
    }

    /// Waits for the next client that completes the handshake and is admitted.
    ///
    /// The answer to a client (its segment is made and mapped, without waiting) is given on the caller's thread.
    ///
    /// # Errors
    /// As [`crate::Listener::accept`]; [`AcceptError::Os`] too if the runtime does not take the connection, which ends it, or is
    /// shutting down.
    ///
    /// # Cancel safety
    /// A future that is dropped has accepted nobody: who has connected is accepted by the next call.
    pub async fn accept(&mut self) -> Result<Connection, AcceptError> {
        let accepted = poll_fn(|cx| self.poll_accept(cx)).await?;
        Connection::from_sync(accepted).map_err(|refused| AcceptError::Os {
            action: "registering a connection with the runtime",
            source: refused.into_parts().1,
        })
    }

    /// The next client if one is ready. It never waits.
    ///
    /// # Errors
    /// As [`Listener::accept`].
    pub fn try_accept(&mut self) -> Result<Option<crate::Connection>, AcceptError> {
        self.inner.get_mut().try_accept()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<crate::Connection, AcceptError>> {
        let failed = |source| AcceptError::Os { action: "waiting for clients", source };
        ready!(self.inner.poll_pay(cx));
        loop {
            // A flood of clients ends `try_accept` too; those it left make the descriptor readable, and it is called again.
            let arm = |listener: &mut crate::Listener| is_readable(listener).map(|readable| !readable).map_err(failed);
            let accepted = self.inner.poll_until(cx, crate::Listener::try_accept, arm, failed);
            if accepted.is_ready() {
                return accepted;
            }
            let Some(left) = self.inner.get().silence_left() else { return Poll::Pending };
            // It fires at that time or later, so that the look after it forgets the client.
            self.timer.as_mut().reset(Instant::now() + left);
            ready!(self.timer.as_mut().poll(cx));
        }
    }
}

impl TryFrom<crate::Listener> for Listener {
    type Error = RegisterError<crate::Listener>;

    fn try_from(listener: crate::Listener) -> Result<Self, Self::Error> {
        Self::from_sync(listener)
    }
}

impl From<Listener> for crate::Listener {
    fn from(listener: Listener) -> Self {
        listener.into_sync()
    }
}
