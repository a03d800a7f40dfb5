//! Small questions to sockets.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};
use std::io;

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
