//! Small questions to sockets.

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, socketpair, sockopt};
use std::io;
use std::time::Duration;
use std::vec::Vec;

/// Waits until one of the sockets can be read or has hung up, a signal comes, or the time is over; says which can.
pub(crate) fn wait_readable<'a>(
    sockets: impl Iterator<Item = BorrowedFd<'a>>,
    left: Option<Duration>,
) -> io::Result<Vec<bool>> {
    let mut fds: Vec<_> = sockets.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)).collect();
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect()),
        Err(errno) => Err(errno.into()),
    }
}

/// A descriptor that is readable while one of the sockets it watches is: this one, and those added later.
pub(crate) fn watch(socket: impl AsFd) -> io::Result<OwnedFd> {
    let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    watch_too(&events, socket)?;
    Ok(events)
}

/// Watches one more socket, until it is closed.
pub(crate) fn watch_too(events: impl AsFd, socket: impl AsFd) -> io::Result<()> {
    Ok(epoll::add(events, socket, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?)
}

/// Takes the next client of a listening socket, without waiting.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    Ok(accept_with(listener, SocketFlags::CLOEXEC)?)
}

/// Makes calls that may wait wait.
pub(crate) fn set_blocking(socket: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&socket)?;
    Ok(fcntl_setfl(socket, flags.difference(OFlags::NONBLOCK))?)
}

/// Says whether a descriptor that a peer sent is a socket of the kind that doorbells need.
pub(crate) fn is_unix_seqpacket(fd: impl AsFd) -> bool {
    matches!(sockopt::socket_domain(&fd), Ok(AddressFamily::UNIX))
        && matches!(sockopt::socket_type(&fd), Ok(SocketType::SEQPACKET))
}

/// The two ends of the space doorbell.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}
