//! An endpoint in tokio's reactor: waiting for its descriptor without losing a wake-up.
//!
//! Promise: a task that goes to sleep here is woken when there is something to do or the peer goes, and gives other tasks
//! their turn however much there is to do. Refusal: no descriptor is duplicated and no thread is blocked; what there is to
//! do, the endpoint knows.
//!
//! # Why no wake-up is lost
//!
//! The reactor is edge-triggered: it reports each ring once, as *readiness*, which stays until it is cleared. The ticket
//! protocol of [`crate::doorbell`] rings once for each raised ticket. A task that finds nothing to do goes through
//!
//! | step | |
//! |---|---|
//! | \[E1\] | clear the readiness, until the reactor has none and holds the task's waker |
//! | \[E2\] | arm: take old rings off the socket, raise the ticket, look again |
//! | \[E3\] | if there was still nothing, return `Pending` |
//!
//! What is published before the look of \[E2\] is found by it. What is published after it finds the ticket raised, so the peer
//! rings. That ring comes after the drain of \[E2\], so it is a new edge; and after \[E1\], so nothing clears its readiness before
//! the waker is called. In the other order, \[E2\] before \[E1\], it could be the readiness of this very ring that is cleared; its
//! ticket is answered, so no second ring follows, and the task sleeps for ever. An edge of an older ring that the reactor
//! reports late costs one look in vain. A drain that could not take all rings counts as something to do: a socket that stays
//! full would take no new one, and give no edge.
//!
//! \[E4\] A task that is polled again for another reason need not arm again while its ticket stands: `armed` says that it was
//! raised, and that no readiness was seen since. Either nobody has answered it, then the next publication rings; or its ring
//! is on its way through the reactor, then that wakes the task. What was found meanwhile, by a poll that came before the
//! ring, changes nothing about that. It holds across futures too, so one may be dropped at any point and the next one goes on
//! where it was.

use crate::os::socket;
use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use ::tokio::runtime::Handle;
use ::tokio::task::coop::poll_proceed;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::boxed::Box;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// Calls that find something to do at once for each unit of a task's budget. A task has 128 units, each meant for one
/// operation of a socket, which takes about as long as so many of ours.
const CALLS_A_UNIT: u32 = 16;

/// An endpoint, registered by its own descriptor.
///
/// Drop order: `AsyncFd` takes its registration out of the reactor first and drops the endpoint, which closes the descriptor, after
/// that; `into_inner` does the first and leaves out the second.
pub(super) struct Registered<S: AsFd> {
    fd: AsyncFd<Owner<S>>,
    /// The ticket stands: it was raised, and no readiness was seen since. See [E4].
    armed: bool,
    /// Calls that were served since the last unit of budget was paid.
    served: u32,
    sleeps: u64,
}

/// What `AsyncFd` asks for: an owner that tells its descriptor as a number.
struct Owner<S>(S);

impl<S: AsFd> AsRawFd for Owner<S> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl<S: AsFd> Registered<S> {
    /// # Panics
    /// If the runtime was built without `enable_io`.
    pub(super) fn new(endpoint: S) -> Result<Self, RegisterError<S>> {
        if let Err(outside) = Handle::try_current() {
            return Err(RegisterError::new(endpoint, io::Error::other(outside)));
        }
        // SAFETY: the endpoint owns its descriptor, never changes it, and lives in the `AsyncFd`, so it stays open as long as that
        // does. The methods of this crate that get it as `&mut` change its state and never put another one in its place. In a
        // forked child the number is kept taken until the endpoint is dropped (`GuardedFd`).
        match unsafe { AsyncFd::register_with_interest(Owner(endpoint), Interest::READABLE) } {
            Ok(fd) => Ok(Self { fd, armed: false, served: 0, sleeps: 0 }),
            Err(error) => {
                let (Owner(endpoint), source) = error.into_parts();
                Err(RegisterError::new(endpoint, source))
            }
        }
    }

    pub(super) fn into_inner(self) -> S {
        self.fd.into_inner().0
    }

    pub(super) fn get(&self) -> &S {
        &self.fd.get_ref().0
    }

    /// For calls that never wait. The endpoint must not be replaced.
    #[inline]
    pub(super) fn get_mut(&mut self) -> &mut S {
        &mut self.fd.get_mut().0
    }

    /// The ticket does not stand any more: what is waited for from now on may have another one.
    pub(super) fn disarm(&mut self) {
        self.armed = false;
    }

    /// The short way for calls that find something at once; `None` too when a unit of budget is due.
    #[inline(always)]
    pub(super) fn at_once<R, E>(
        &mut self,
        attempt: impl FnOnce(&mut S) -> Result<Option<R>, E>,
    ) -> Result<Option<R>, E> {
        if self.served >= CALLS_A_UNIT {
            return Ok(None);
        }
        self.served += 1;
        attempt(self.get_mut())
    }

    /// Times that a task went to sleep here.
    pub(super) fn sleeps(&self) -> u64 {
        self.sleeps
    }

    /// Calls `attempt` until it finds something, and lets the task sleep in between. `arm` prepares the endpoint for that and says
    /// whether there was nothing to do afterwards; `failed` makes an error of what the reactor says.
    #[inline]
    pub(super) fn poll_until<R, E>(
        &mut self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&mut S) -> Result<Option<R>, E>,
        arm: impl FnMut(&mut S) -> Result<bool, E>,
        failed: impl Fn(io::Error) -> E,
    ) -> Poll<Result<R, E>> {
        if self.served >= CALLS_A_UNIT {
            ready!(self.poll_pay(cx));
        }
        if let Some(found) = self.at_once(&mut attempt)? {
            return Poll::Ready(Ok(found));
        }
        self.poll_late(cx, attempt, arm, failed)
    }

    #[cold]
    fn poll_late<R, E>(
        &mut self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&mut S) -> Result<Option<R>, E>,
        mut arm: impl FnMut(&mut S) -> Result<bool, E>,
        failed: impl Fn(io::Error) -> E,
    ) -> Poll<Result<R, E>> {
        loop {
            let quiet = self.poll_quiet(cx).map_err(&failed)?;
            // [E4] the ticket stands.
            if quiet && self.armed {
                return Poll::Pending;
            }
            // [E2] after [E1], which `poll_quiet` is. If it failed, because the descriptor is at its end or readiness keeps coming,
            // arming finds out whether the peer has gone.
            let nothing = arm(self.get_mut())?;
            if quiet && nothing {
                // [E3]
                self.armed = true;
                self.sleeps += 1;
                return Poll::Pending;
            }
            // A peer that feigns something to do, again and again, takes our task's time and nobody else's.
            ready!(self.poll_pay(cx));
            if let Some(found) = attempt(self.get_mut())? {
                return Poll::Ready(Ok(found));
            }
        }
    }

    /// [E1] True: there is no readiness, and the task will be woken by the next. (Or it has used up its budget, and will be woken
    /// for that.) False: the descriptor is at its end, which cannot be cleared, or was ready again at once.
    fn poll_quiet(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        for _ in 0..2 {
            match self.fd.poll_read_ready(cx)? {
                Poll::Pending => return Ok(true),
                Poll::Ready(mut guard) => guard.clear_ready(),
            }
            self.armed = false;
        }
        Ok(false)
    }

    /// Pays one unit of the task's budget. `Pending`: it is used up; the task is woken when the others had their turn.
    pub(super) fn poll_pay(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(poll_proceed(cx)).made_progress();
        self.served = 0;
        Poll::Ready(())
    }
}

/// Says whether a descriptor is readable now: the look of [E2] for endpoints without a ticket, whose kernel objects tell it.
pub(super) fn is_readable(endpoint: &impl AsFd) -> io::Result<bool> {
    Ok(socket::wait_readable(std::iter::once(endpoint.as_fd()), Some(Duration::ZERO))?.contains(&true))
}

/// An endpoint that could not be registered with the runtime; it is as it was before.
pub struct RegisterError<S> {
    endpoint: Box<S>,
    source: io::Error,
}

impl<S> RegisterError<S> {
    fn new(endpoint: S, source: io::Error) -> Self {
        Self { endpoint: Box::new(endpoint), source }
    }

    /// Gives the endpoint back, to be used without the runtime, and the reason.
    #[must_use]
    pub fn into_parts(self) -> (S, io::Error) {
        (*self.endpoint, self.source)
    }

    pub(super) fn map<R>(self, change: impl FnOnce(S) -> R) -> RegisterError<R> {
        RegisterError::new(change(*self.endpoint), self.source)
    }
}

impl<S> fmt::Debug for RegisterError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterError").field("source", &self.source).finish_non_exhaustive()
    }
}

impl<S> fmt::Display for RegisterError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the tokio runtime did not take the descriptor: {}", self.source)
    }
}

impl<S> std::error::Error for RegisterError<S> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::future::poll_fn;
    use rustix::io::{read, write};
    use std::os::fd::OwnedFd;

    /// Long enough for the runtime's other thread to have reported what became readable.
    const REPORTED: Duration = Duration::from_millis(50);

    /// Waits for a byte from a socket, as a client waits for an answer. `attempted` and `armed` happen on the other side before each
    /// attempt and after each look returns.
    fn wait(attempted: impl Fn(&OwnedFd), armed: impl Fn(&OwnedFd)) {
        let runtime = ::tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let (here, there) = socket::pair().unwrap();
            rustix::io::ioctl_fionbio(&here, true).unwrap();
            let mut here = Registered::new(here).unwrap();
            let attempt = |here: &mut OwnedFd| match read(here, &mut [0]) {
                Ok(_) => Ok(Some(())),
                Err(rustix::io::Errno::AGAIN) => {
                    attempted(&there);
                    Ok(None)
                }
                Err(errno) => Err(errno.into()),
            };
            let arm = |here: &mut OwnedFd| {
                let readable = is_readable(here)?;
                armed(&there);
                Ok(!readable)
            };
            let waiting = poll_fn(|cx| here.poll_until(cx, attempt, arm, |error| error));
            let start = std::time::Instant::now();
            let patience = Duration::from_secs(5);
            ::tokio::time::timeout(patience, waiting).await.expect("it is found at last").unwrap();
            // By then, or by the poll at the end of the patience.
            assert!(start.elapsed() < patience, "the wake-up was lost");
        });
    }

    fn ring(there: &OwnedFd) {
        write(there, &[1]).unwrap();
        std::thread::sleep(REPORTED);
    }

    #[test]
    fn what_came_before_the_readiness_was_cleared_is_found_by_the_look() {
        wait(ring, |_| {});
    }

    #[test]
    fn what_comes_after_the_look_wakes() {
        wait(|_| {}, ring);
    }
}
